"""Batches: own which training images a step sees, and which are kept back."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clarity.data.protocol import Training
from clarity.seeds import derive_seed


@dataclass(frozen=True)
class Subset:
    """Some training images: uint8 [N, C, H, W] with labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Parts:
    """The training images, parted by what they are for; the same for all seeds and losses.

    Attributes:
        fit: those to learn from.
        calibration: those that set temperatures and show progress, and decide nothing else.
        selection: those that early stopping looks at; None without it.
    """

    fit: Subset
    calibration: Subset
    selection: Subset | None


def part(images: np.ndarray, labels: np.ndarray, training: Training, dataset: str) -> Parts:
    """Part the training images [N, C, H, W] with labels [N], stratified by class.

    Raises:
        ValueError: if a class has too few images to be in each part.
    """
    rows = np.arange(len(labels))
    rows, calibration = _split(rows, labels, training.validation, "validation", dataset)
    selection = None
    if training.early_stopping is not None:
        share = training.early_stopping.share
        rows, chosen = _split(rows, labels, share, "selection", dataset)
        selection = Subset(images[chosen], labels[chosen])
    return Parts(
        Subset(images[rows], labels[rows]),
        Subset(images[calibration], labels[calibration]),
        selection,
    )


def _split(
    rows: np.ndarray, labels: np.ndarray, share: float, name: str, dataset: str
) -> tuple[np.ndarray, np.ndarray]:
    """Keep back a share of all images, out of ``rows``."""
    # Here, since it takes half a second, and a run that is up to date does not need it.
    from sklearn.model_selection import StratifiedShuffleSplit

    count = round(share * len(labels))
    splitter = StratifiedShuffleSplit(1, test_size=count, random_state=derive_seed(name, dataset))
    try:
        kept, held_out = next(splitter.split(rows, labels[rows]))
    except ValueError as error:
        error.add_note(f"datasets.{dataset}: while keeping back a share of {share:.2f} ({name})")
        raise
    return rows[np.sort(kept)], rows[np.sort(held_out)]


@dataclass(frozen=True)
class Plan:
    """All steps of a training run.

    Attributes:
        batches: the images of each step, int64 indices.
        steps_per_epoch: the steps after which progress is looked at.
    """

    batches: list[Tensor]
    steps_per_epoch: int

    def epochs(self) -> Iterator[list[Tensor]]:
        """Yield the steps of each epoch."""
        for start in range(0, len(self.batches), self.steps_per_epoch):
            yield self.batches[start : start + self.steps_per_epoch]


def plan(labels: Tensor, training: Training, views: int, generator: torch.Generator) -> Plan:
    """Plan a training run on images with ``labels`` [N].

    By default (`budget: images`) all losses take the same number of steps over the same number of
    images, so that a loss with v views passes through the data in the same order at 1/v of the
    speed. With `budget: epochs` it sees every image as often as others do, in v views each time.

    Raises:
        ValueError: if a batch cannot hold two different images, or no class has enough of them.
    """
    size = min(training.batch_size, len(labels))
    steps = max(1, _usable(labels, training.samples_per_class) // size)
    if training.budget == "images":
        size //= views
    if size < 2:
        raise ValueError(
            f"batch-size: found {training.batch_size}, wanted at least {2 * views}, "
            f"two images in {views} views"
        )

    def passes() -> Iterator[Tensor]:
        while True:
            yield from epoch_batches(labels, size, training.samples_per_class, generator)

    if training.budget == "images":
        return Plan(list(itertools.islice(passes(), steps * training.epochs)), steps)
    epochs = [
        list(epoch_batches(labels, size, training.samples_per_class, generator))
        for _ in range(training.epochs)
    ]
    return Plan([batch for batches in epochs for batch in batches], len(epochs[0]))


def without_positives(batches: list[Tensor], labels: Tensor) -> int:
    """Count the batches in which no two images are of one class."""
    return sum(int(labels[batch].bincount().max()) == 1 for batch in batches)


def epoch_batches(
    labels: Tensor, size: int, samples_per_class: int | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the batches of one epoch as indices, each image at most once.

    With ``samples_per_class`` m, images come in groups of m of one class, and a batch is made of
    whole groups, so that a metric loss finds m - 1 positives for each image. An incomplete last
    batch is left out, unless it is the only one: batch normalisation would weigh its images more.

    Raises:
        ValueError: if no class has ``samples_per_class`` images.
    """
    if samples_per_class is None:
        order = torch.randperm(len(labels), generator=generator)
    else:
        m = min(samples_per_class, size)
        groups: list[Tensor] = []
        for label in range(int(labels.max()) + 1):
            members = torch.nonzero(labels == label)[:, 0]
            members = members[torch.randperm(len(members), generator=generator)]
            groups += [members[i : i + m] for i in range(0, len(members) - m + 1, m)]
        if not groups:
            raise ValueError(f"samples-per-class: found {m}, but no class has so many images")
        order = torch.cat([groups[i] for i in torch.randperm(len(groups), generator=generator)])
        size = size // m * m
    if len(order) < size:
        yield order
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def _usable(labels: Tensor, samples_per_class: int | None) -> int:
    """Count the images that whole groups of a class leave in an epoch."""
    if samples_per_class is None:
        return len(labels)
    counts = labels.bincount()
    return int((counts // samples_per_class * samples_per_class).sum())
