"""Batches: own what a metric is given and what it gives back; the protocol of every metric.

A metric is a class. It is built with the recipe's arguments and called with a `Batch` of images
that it is about: some of a cell's at a time, or all, if it says ``whole_set = True``. It returns
`Scores`, one value an image. The value of an image must not
depend on the other images of the batch, unless it is about the set, and never on their order; a
metric must leave the arrays that it is given as they are, and draw random numbers from
`Batch.generators` alone. What is known of a metric stands in its class attributes, which
`clarity.metrics.registry` describes.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn

from clarity.metrics.memory import Memory

Sign = Literal["signed", "positive", "absolute"]
Explain = Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray]

#: Relative differences below this are rounding of 32-bit floats, not a pattern.
ROUNDING = 1e-6


class MetricUnavailable(Exception):
    """The metric has no meaning for this model or dataset, for a reason of its own: a result."""


@dataclass
class Passes:
    """What was asked of a model, counted in images.

    Attributes:
        forward: images that the model scored or embedded.
        explained: maps that the method made, one for each pair of image and class.
    """

    forward: int = 0
    explained: int = 0


@dataclass(frozen=True)
class Pool:
    """All single images of the evaluation set, whether or not their maps can be judged.

    Attributes:
        images: float32 [M, C, H, W] in [0, 1].
        labels: int64 [M].
        ids: int64 [M], the rows in the evaluation set.
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Batch:
    """The images that a metric is about, with the maps to be judged.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1].
        ids: int64 [N], the rows in the evaluation set.
        maps: float32 [N, H, W], the maps of ``classes``, with the sign and scale that the metric's
            recipe asks for.
        foil_maps: float32 [N, H, W], likewise of ``foils``.
        classes: int64 [N], the explained classes: labels, or the first class of a scene.
        foils: int64 [N], the runner-up classes, or the second class of a scene.
        masks: bool [N, H, W], where the object of ``classes`` is; None if there are no masks.
        foil_masks: bool [N, H, W], where the object of ``foils`` is; None if there are no masks.
        without: float32 [N, 2, C, H, W], the scenes without the object of ``classes`` and without
            that of ``foils``, all else the same; None where it is not known.
        stored: float32 [N, K, H, W], the maps of all classes that are stored, as they are stored.
        stored_classes: int64 [N, K], their classes, the first two ``classes`` and ``foils``.
        pool: all single images of the evaluation set.
        seeds: one seed an image for all random draws, the same for every loss, method and metric,
            so that metrics that draw alike meet the same noise.
        model: from images to the scores of all classes: the function that the maps explain.
        softmax: whether `scores` are probabilities: the softmax of the model's scores, without
            their foil if they have one, since a difference of scores is not calibrated.
        explain: from a model, images [B, C, H, W] and classes [B] to signed maps [B, H, W]; the
            model is ``model`` or a changed copy of it.
        prepared: gives maps [B, H, W] the sign and scale that the metric's recipe asks for.
        batch_size: images a call of ``model`` or ``explain``.
        passes: counts what was asked of the model, whatever came from memory.
        maps_memory: remembers calls of ``explain``.
        scores_memory: remembers calls of ``model`` that are asked to be remembered.
    """

    images: np.ndarray
    ids: np.ndarray
    maps: np.ndarray
    foil_maps: np.ndarray
    classes: np.ndarray
    foils: np.ndarray
    masks: np.ndarray | None
    foil_masks: np.ndarray | None
    without: np.ndarray | None
    stored: np.ndarray
    stored_classes: np.ndarray
    pool: Pool
    seeds: list[int]
    model: nn.Module
    softmax: bool
    explain: Explain
    prepared: Callable[[np.ndarray], np.ndarray]
    batch_size: int
    passes: Passes = field(default_factory=Passes)
    maps_memory: Memory = field(default_factory=Memory)
    scores_memory: Memory = field(default_factory=Memory)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def class_count(self) -> int:
        """The number of classes that the model scores."""
        return int(self.scores(self.images[:1], remember=True).shape[1])

    def rows(self, rows: np.ndarray) -> Self:
        """Return the batch of some images only."""
        picked: dict[str, Any] = {
            name: None if array is None else array[rows]
            for name, array in vars(self).items()
            if array is None or isinstance(array, np.ndarray)
        }
        return replace(self, **picked, seeds=[self.seeds[row] for row in rows])

    def of(self, model: nn.Module) -> Self:
        """Return the batch with a changed model, whose maps only `explain_all` can tell."""
        return replace(self, model=model)

    def model_copy(self) -> nn.Module:
        """Return a copy of the model that may be changed."""
        return copy.deepcopy(self.model)

    def generators(self) -> Iterator[np.random.RandomState]:
        """Yield a generator for each image, the one that `numpy.random.seed` would set up."""
        return map(np.random.RandomState, self.seeds)

    def scores(self, images: np.ndarray, *, remember: bool = False) -> np.ndarray:
        """Return the model's scores, or probabilities, of all classes: float32 [B, classes].

        Args:
            images: float32 [B, C, H, W], any number.
            remember: keep the answer for other metrics, and other methods that explain the same
                score: for images that do not depend on the maps.
        """
        parts = []
        asked = np.array(self._foil_left_out)
        for part in self._parts(images):
            self.passes.forward += len(part)
            parts.append(
                self.scores_memory.get(self.model, (part, asked), partial(self._run, part))
                if remember
                else self._run(part)
            )
        found = np.concatenate(parts)
        if not self.softmax:
            return found
        return torch.from_numpy(np.array(found)).softmax(dim=1).numpy()

    def class_scores(self, images: np.ndarray, *, remember: bool = False) -> np.ndarray:
        """Return the score, or probability, of each image's explained class: float64 [N]."""
        scores = self.scores(images, remember=remember)
        return np.asarray(scores[np.arange(len(self)), self.classes], dtype=np.float64)

    def margins(self, images: np.ndarray, foils: np.ndarray, *, remember: bool) -> np.ndarray:
        """Return each image's score of the explained class minus that of its foil: float64 [N]."""
        scores = self.scores(images, remember=remember).astype(np.float64)
        rows = np.arange(len(self))
        return np.asarray(scores[rows, self.classes] - scores[rows, foils])

    @torch.no_grad()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """Return the encoder's embeddings, not normalised: float32 [B, D].

        Raises:
            MetricUnavailable: if the model has no encoder.
        """
        encoder, normalised = (getattr(self.model, a, None) for a in ("encoder", "normalised"))
        if encoder is None or normalised is None:
            raise MetricUnavailable("the model has no encoder whose embeddings could be compared")
        parts = []
        for part in self._parts(images):
            self.passes.forward += len(part)
            tensor = torch.from_numpy(np.array(part)).to(self._device())
            parts.append(encoder(normalised(tensor)).cpu().numpy())
        return np.concatenate(parts)

    def explain_all(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Explain any number of images, each for a class [B]: float32 [B, H, W], prepared."""
        classes = np.asarray(classes, dtype=np.int64)
        parts = []
        for start, part in zip(
            range(0, len(images), self.batch_size), self._parts(images), strict=True
        ):
            wanted = classes[start : start + self.batch_size]
            self.passes.explained += len(part)
            parts.append(
                self.maps_memory.get(
                    self.model,
                    (part, wanted),
                    partial(self.explain, self.model, part, wanted),
                )
            )
        maps = np.concatenate(parts)
        if maps.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                f"explain: found maps {maps.shape} for images {images.shape}, wanted "
                f"{(len(images), *images.shape[2:])}"
            )
        return self.prepared(maps)

    def maps_of(self, classes: np.ndarray) -> np.ndarray:
        """Return the maps of other classes of the images, explaining only what is not stored.

        Args:
            classes: int64 [N] or [N, K].

        Returns:
            float32 [N, H, W] or [N, K, H, W], prepared.
        """
        wanted = classes if classes.ndim == 2 else classes[:, None]
        found = np.empty((*wanted.shape, *self.stored.shape[2:]), dtype=np.float32)
        same = wanted[:, :, None] == self.stored_classes[:, None]
        known = same.any(axis=2)
        row, place = np.nonzero(known)
        found[row, place] = self.prepared(self.stored[row, same.argmax(axis=2)[row, place]])
        # A class at a time: a call of one size whatever the others lack.
        for slot in np.flatnonzero(~known.all(axis=0)):
            rows = np.flatnonzero(~known[:, slot])
            found[rows, slot] = self.explain_all(self.images[rows], wanted[rows, slot])
        return found if classes.ndim == 2 else found[:, 0]

    def _parts(self, images: np.ndarray) -> list[np.ndarray]:
        """Cut images into calls of the model."""
        return [images[i : i + self.batch_size] for i in range(0, len(images), self.batch_size)]

    @torch.no_grad()
    def _run(self, images: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.array(images, dtype=np.float32)).to(self._device())
        score: Any = self.model.without_foil if self._foil_left_out else self.model
        found: np.ndarray = score(tensor).cpu().numpy()
        return found

    @property
    def _foil_left_out(self) -> bool:
        return self.softmax and getattr(self.model, "foil", None) is not None

    def _device(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Curves:
    """What a value was made of: a curve an image, kept beside the value.

    Attributes:
        axis: what the points are, such as "share of pixels removed" or "layer".
        at: the points, the same for all images: numbers, or names of layers; empty if they are
            evenly spread over [0, 1], as many as an image's curve has.
        values: float64 [T] of each image; empty where an image has no curve.
    """

    axis: str
    at: Sequence[float | str]
    values: list[np.ndarray]


@dataclass
class Scores:
    """What a metric says of a batch.

    Attributes:
        values: float64 [N]; NaN where there is no value.
        curves: what the values were made of, if that is more than a number.
        reasons: row to why it has no value, for rows where the metric knows.
        unavailable: the rows where the metric does not apply, rather than fails.
    """

    values: np.ndarray
    curves: Curves | None = None
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
