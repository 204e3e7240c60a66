"""Batches: own what a metric is given and what it gives back; the protocol of every metric.

A metric is a class. It is built with the recipe's arguments and called with a `Batch`; it returns
`Scores`, one value an image. The value of an image must not depend on the other images of the
batch, and a metric must leave the arrays that it is given as they are.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn

Sign = Literal["signed", "positive", "absolute"]

#: Relative differences below this are rounding of 32-bit floats, not a pattern.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Batch:
    """Some images with the maps to be judged.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1].
        maps: float32 [N, H, W], the maps of ``classes``, with the sign and scale that the metric's
            recipe asks for.
        foil_maps: float32 [N, H, W], likewise of ``foils``.
        classes: int64 [N], the explained classes: labels, or the first class of a scene.
        foils: int64 [N], the runner-up classes, or the second class of a scene.
        masks: bool [N, H, W], where the object of ``classes`` is; None if there are no masks.
        foil_masks: bool [N, H, W], where the object of ``foils`` is; None if there are no masks.
        seeds: one seed an image for all random draws, the same for every loss and method.
        model: from images to the scores of all classes: the function that the maps explain.
        softmax: whether `scores` are probabilities.
        explain: from images [B, C, H, W] and classes [B] to maps [B, H, W] of the same sign and
            scale as ``maps``.
        batch_size: images a call of ``model`` or ``explain``.
    """

    images: np.ndarray
    maps: np.ndarray
    foil_maps: np.ndarray
    classes: np.ndarray
    foils: np.ndarray
    masks: np.ndarray | None
    foil_masks: np.ndarray | None
    seeds: list[int]
    model: nn.Module
    softmax: bool
    explain: Callable[[np.ndarray, np.ndarray], np.ndarray]
    batch_size: int

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def rows(self, rows: np.ndarray) -> Self:
        """Return the batch of some images only."""
        picked: dict[str, Any] = {
            name: None if array is None else array[rows]
            for name, array in vars(self).items()
            if array is None or isinstance(array, np.ndarray)
        }
        return replace(self, **picked, seeds=[self.seeds[row] for row in rows])

    def generators(self) -> Iterator[np.random.RandomState]:
        """Yield a generator for each image, the one that `numpy.random.seed` would set up."""
        return map(np.random.RandomState, self.seeds)

    @torch.no_grad()
    def scores(self, images: np.ndarray) -> np.ndarray:
        """Return the model's scores, or probabilities, of all classes: float32 [B, classes]."""
        parts = []
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        for start in range(0, len(images), self.batch_size):
            part = torch.from_numpy(images[start : start + self.batch_size]).to(device)
            found = self.model(part)
            parts.append((found.softmax(dim=1) if self.softmax else found).cpu().numpy())
        return np.concatenate(parts)

    def class_scores(self, images: np.ndarray) -> np.ndarray:
        """Return the score, or probability, of each image's explained class: float64 [N]."""
        scores = self.scores(images)
        return np.asarray(scores[np.arange(len(self)), self.classes], dtype=np.float64)

    def explain_all(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Explain any number of images, ``batch_size`` at a time: float32 [B, H, W]."""
        parts = [
            self.explain(
                images[start : start + self.batch_size], classes[start : start + self.batch_size]
            )
            for start in range(0, len(images), self.batch_size)
        ]
        maps = np.concatenate(parts)
        if maps.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"explain: found maps {maps.shape} for images {images.shape}, wanted "
                f"{(len(images), *images.shape[2:])}"
            )
        return maps


@dataclass
class Scores:
    """What a metric says of a batch.

    Attributes:
        values: float64 [N]; NaN where there is no value.
        reasons: row to why it has no value, for rows where the metric knows.
        unavailable: the rows where the metric does not apply, rather than fails.
    """

    values: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    unavailable: set[int] = field(default_factory=set)

    def leave_out(self, rows: np.ndarray, reason: str, *, unavailable: bool = False) -> Self:
        """Take the value of the rows where ``rows`` [N] is true away, for a reason."""
        for row in np.flatnonzero(rows).tolist():
            self.values[row] = np.nan
            self.reasons[row] = reason
            if unavailable:
                self.unavailable.add(row)
        return self


def with_sign(maps: np.ndarray, sign: Sign) -> np.ndarray:
    """Return maps [..., H, W] with what ``sign`` keeps of their signs."""
    if sign == "positive":
        return np.asarray(np.maximum(maps, 0))
    return np.abs(maps) if sign == "absolute" else maps


def scaled(maps: np.ndarray) -> np.ndarray:
    """Divide each map of [N, H, W] by its own largest absolute value; zero maps stay zero.

    Quantus' `normalise_by_max` divides by the largest value of the whole batch, which makes an
    image's score depend on its neighbours.
    """
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    # Not `largest > 0`: a map with a NaN has to stay one, not become a zero map.
    return np.asarray(np.divide(maps, largest, out=np.zeros_like(maps), where=largest != 0))


def is_constant(maps: np.ndarray) -> np.ndarray:
    """Whether each map of [N, H, W] is the same everywhere, but for rounding: bool [N].

    Exact equality would let a flat map through that was upsampled, whose pixels differ by rounding.
    """
    spread = maps.max(axis=(1, 2)) - maps.min(axis=(1, 2))
    return np.asarray(spread <= ROUNDING * np.abs(maps).max(axis=(1, 2)))
