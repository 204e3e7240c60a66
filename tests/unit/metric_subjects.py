"""Small cells with known properties, for the tests of the metrics."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from clarity.metrics.batch import Batch, scaled, with_sign
from clarity.metrics.evaluate import Subject, evaluate
from clarity.metrics.recipe import MetricRecipe

CLASSES = 5
DATASET, SEED = "d", 0


class Linear(nn.Module):
    """Scores linear in the pixels, so that gradient times input is the exact attribution."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weights.flatten(1).T


def convnet(channels: int, size: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * (size // 2) ** 2, CLASSES),
    ).eval()


def gradient_times_input(model: nn.Module) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def explain(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(np.array(images)).requires_grad_(True)
        chosen = model(inputs).gather(1, torch.from_numpy(np.array(classes))[:, None])
        (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
        return (gradient * inputs).sum(1).detach().numpy()

    return explain


def frozen(array: np.ndarray | None) -> np.ndarray | None:
    """Make an array that raises when it is written to."""
    if array is not None:
        array = np.array(array)
        array.flags.writeable = False
    return array


def subject(
    n: int = 6,
    channels: int = 3,
    size: int = 16,
    scenes: bool = False,
    model: nn.Module | None = None,
    explain: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    maps: np.ndarray | None = None,
    images: np.ndarray | None = None,
) -> Subject:
    """Return a cell of gradient times input on a small convnet, or with what is given instead."""
    generator = np.random.default_rng(1)
    if images is None:
        images = generator.uniform(0.1, 0.9, (n, channels, size, size)).astype(np.float32)
    n, channels, size = images.shape[:3]
    model = convnet(channels, size) if model is None else model
    explain = gradient_times_input(model) if explain is None else explain
    classes = np.stack([np.arange(n) % CLASSES, (np.arange(n) + 1 + np.arange(n) % 3) % CLASSES], 1)
    if maps is None:
        maps = np.stack([explain(images, classes[:, 0]), explain(images, classes[:, 1])], axis=1)
    masks = np.zeros((n, 2, size, size), dtype=bool)
    for row in range(n):
        masks[row, 0, : 4 + row % 3, 2 : size // 2] = True
        masks[row, 1, size // 2 :, size // 2 + row % 2 :] = True
    return Subject(
        images=frozen(images),
        maps=frozen(maps),
        classes=frozen(classes),
        single=np.full(n, not scenes),
        masks=frozen(masks),
        model=model,
        explain=explain,
    )


def with_maps(cell: Subject, maps: np.ndarray) -> Subject:
    """Return the cell with other maps [N, 2, H, W], or the same maps [N, H, W] for both classes."""
    both = np.stack([maps, maps], axis=1) if maps.ndim == 3 else maps
    return replace(cell, maps=frozen(both.astype(np.float32)))


def only(cell: Subject, rows: Iterable[int]) -> Subject:
    """Return the cell with all other rows of the other kind: their ids and seeds stay the same."""
    kept = np.isin(np.arange(len(cell.single)), list(rows))
    return replace(cell, single=kept if cell.single.all() else ~kept)


def score(cell: Subject, batch_size: int = 64, name: str = "m", **recipe):
    """Score a cell by one metric."""
    return evaluate(
        cell, {name: MetricRecipe(**recipe)}, dataset=DATASET, seed=SEED, batch_size=batch_size
    )


def values(cell: Subject, batch_size: int = 64, **recipe) -> np.ndarray:
    return score(cell, batch_size, **recipe)["value"].to_numpy()


def batch(cell: Subject, sign: str = "signed", scale: str = "max", softmax: bool = False) -> Batch:
    """Return the cell as a metric sees it."""

    def prepared(maps: np.ndarray) -> np.ndarray:
        signed = with_sign(maps, sign)
        return scaled(signed) if scale == "max" else signed

    return Batch(
        images=np.array(cell.images),
        maps=prepared(cell.maps[:, 0]),
        foil_maps=prepared(cell.maps[:, 1]),
        classes=np.array(cell.classes[:, 0]),
        foils=np.array(cell.classes[:, 1]),
        masks=np.array(cell.masks[:, 0]),
        foil_masks=np.array(cell.masks[:, 1]),
        seeds=[1000 + row for row in range(len(cell.images))],
        model=cell.model,
        softmax=softmax,
        explain=lambda images, classes: prepared(cell.explain(images, classes)),
        batch_size=64,
    )
