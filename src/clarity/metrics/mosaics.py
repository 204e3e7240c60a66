"""Mosaics: own the games on mosaics of whole images, where the class of every cell is known.

A mosaic has n x n images side by side, each at its full size, so that the network sees an input n
times as wide and as high. Where the map of a class lies is then judged without a mask: what speaks
for the class is in its own cell, be it the object or its context. Noise and maps that ignore the
class get chance exactly, since every cell has its turn.

Each evaluation image owns one mosaic: itself, in a cell drawn from its seed, among partners drawn
from its seed out of all single images. Neither the model nor the method takes part in the draw, so
that all losses are judged on the same mosaics, and the other images of a batch do not matter.

Mosaics are not what a model was trained on. `MosaicAccuracy` says how well it still sees the parts,
and a mosaic counts only if the model is confident of each part alone. A network or a method that
works at one size of image only has no value here.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from clarity.attribution.targets import Score
from clarity.metrics.batch import Batch, MetricUnavailable, Scores, is_constant
from clarity.models.encoders import Encoder
from clarity.models.maps import Tap
from clarity.models.networks import Trunk

#: From an image's row in the pool and its generator to the rows of its mosaic.
Draw = Callable[[int, np.random.RandomState], np.ndarray]

NOT_CONFIDENT = "the model is not confident of a part of the mosaic"


class GridPointingGame:
    """Share of a class's positive mass that lies in the cell of that class, in a mosaic of many.

    Böhle et al., 2021, "Convolutional Dynamic Alignment Networks for Interpretable
    Classifications"; Rao et al., 2022, "Towards Better Understanding Attribution Methods" (GridPG).
    In a mosaic of n x n images of distinct classes, with A_c the map of class c for the whole
    mosaic, the mean over its cells of A+_c(cell of c) / A+_c(mosaic). In [0, 1], higher is better:
    1 if every map keeps to its own cell, exactly 1 / n^2 for a method that ignores the class, and
    1 / n^2 on average for noise.

    The papers compose mosaics of the images that the model classifies best, another set for each
    model. Here they are the same for all models, and one counts for a model if each part alone has
    a probability of at least ``confidence``, which from 1/2 on means that it is classified right.
    Comparisons pair by image, so that only mosaics remain that all of their models see right.
    """

    category = "contrastivity"
    direction = "higher"
    sign = "positive"
    scale = "none"
    constant_maps = True
    whole_set = True
    verdict = True
    forward = "1 if confidence else 0"
    explained = "n ** 2"
    nulls: ClassVar = {"random": 0.25, "agnostic": 0.25}
    paper = "Böhle et al., 2021; Rao et al., 2022"

    def __init__(self, n: int = 2, confidence: float = 0.5) -> None:
        """Play on mosaics of ``n`` x ``n`` images, each of at least that probability alone.

        Args:
            n: cells on a side.
            confidence: the softmax probability that the model must give each part's class when it
                sees the part alone; 0 lets every mosaic count.

        Raises:
            ValueError: if an argument is out of its range.
        """
        self.n = _cells(n)
        self.confidence = _probability(confidence)

    def __call__(self, batch: Batch) -> Scores:
        """Explain every image's mosaic for the class of each of its cells."""
        rows = _distinct(batch, self.n)
        known = _confident(batch, rows, self.confidence)
        return _played(batch, rows, batch.pool.labels[rows], np.eye(self.n**2, dtype=bool), known)


class MosaicAccuracy:
    """Share of a mosaic's parts whose class is among the model's first n^2 on the mosaic.

    What `GridPointingGame` is to be read with, on the same mosaics: where a model does not see the
    parts in place, its maps have nothing to show. In [0, 1], higher is better; n^2 / classes for a
    model that guesses. It judges the model alone, whatever the method.
    """

    category = "contrastivity"
    direction = "higher"
    constant_maps = True
    whole_set = True
    forward = "2 if confidence else 1"
    paper = "new here; to be read with Böhle et al., 2021"

    def __init__(self, n: int = 2, confidence: float = 0.5) -> None:
        """Score mosaics of ``n`` x ``n`` images: see `GridPointingGame`.

        Raises:
            ValueError: if an argument is out of its range.
        """
        self.n = _cells(n)
        self.confidence = _probability(confidence)

    def __call__(self, batch: Batch) -> Scores:
        """Score every image's mosaic.

        Raises:
            MetricUnavailable: if there are no more classes than cells, so that all would be hits.
        """
        rows = _distinct(batch, self.n)
        labels = batch.pool.labels[rows]
        if batch.class_count <= rows.shape[1]:
            raise MetricUnavailable(f"the model scores no more classes than {rows.shape[1]}")
        known = _confident(batch, rows, self.confidence)
        values = np.full(len(batch), np.nan)
        smaller = _smaller(batch, self.n)
        for part in _parts(np.flatnonzero(known), batch.batch_size):
            scores = _scores(smaller, _mosaics(batch, rows[part]))
            first = np.argsort(-scores, axis=1, kind="stable")[:, : rows.shape[1]]
            values[part] = (labels[part][:, :, None] == first[:, None]).any(axis=2).mean(axis=1)
        return Scores(values).leave_out(~known, NOT_CONFIDENT, unavailable=True)


class Focus:
    """Share of a class's positive mass that lies in its own cells, in a mosaic of two classes.

    Arias-Duart et al., 2022, "Focus! Rating XAI Methods and Finding Biases". A mosaic of 2x2 has
    two images of the image's class and two of another class, in random places; the mean over both
    classes of A+_c(cells of c) / A+_c(mosaic). In [0, 1], higher is better: exactly 0.5 for a
    method that ignores the class, and 0.5 on average for noise.

    In the paper and in Quantus the other two images are of any classes, and only the first class is
    explained, so that a method that ignores the class gets 0.5 on average only. Quantus leaves the
    mosaics to its caller, and gives a map without positive values 0, below chance. For a mosaic
    and a class this is its formula.
    """

    category = "localisation"
    direction = "higher"
    constant_maps = True
    whole_set = True
    verdict = True
    forward = "1 if confidence else 0"
    explained = "2"
    nulls: ClassVar = {"random": 0.5, "agnostic": 0.5}
    paper = "Arias-Duart et al., 2022"

    def __init__(self, confidence: float = 0.5) -> None:
        """Let mosaics count of whose parts the model is that sure: see `GridPointingGame`.

        Raises:
            ValueError: if ``confidence`` is no probability.
        """
        self.confidence = _probability(confidence)

    def __call__(self, batch: Batch) -> Scores:
        """Explain every image's mosaic for both of its classes."""
        rows, classes = _twice(batch)
        inside = batch.pool.labels[rows][:, None] == classes[:, :, None]
        known = _confident(batch, rows, self.confidence)
        return _played(batch, rows, classes, inside, known)


class DiFull:
    """The grid pointing game for a network whose cells are wholly apart: a control of the method.

    Rao et al., 2022, "Towards Better Understanding Attribution Methods" (DiFull). The encoder runs
    on each cell alone, and the score of a class in a cell depends on that cell and on nothing else,
    so that all positive mass elsewhere is an error of the method, whatever the model has learnt. In
    [0, 1], higher is better: 1 for an exact method, such as the gradient times the image; exactly
    1 / n^2 for a method that ignores the class, and 1 / n^2 on average for noise.

    Class activation methods see the cells' last maps side by side. Their maps, upsampled, run over
    the borders of cells by a fraction of a place, which counts as an error too.
    """

    category = "contrastivity"
    direction = "higher"
    sign = "positive"
    scale = "none"
    constant_maps = True
    whole_set = True
    explained = "n ** 2"
    nulls: ClassVar = {"random": 0.25, "agnostic": 0.25}
    paper = "Rao et al., 2022"
    _apart: ClassVar = True

    def __init__(self, n: int = 2) -> None:
        """Play on mosaics of ``n`` x ``n`` images.

        Raises:
            ValueError: if ``n`` is out of its range.
        """
        self.n = _cells(n)

    def __call__(self, batch: Batch) -> Scores:
        """Explain every image's mosaic for the class of each of its cells, in that cell.

        Raises:
            MetricUnavailable: if the model has no encoder, or cannot be cut into cells.
        """
        if not isinstance(batch.model, Score):
            raise MetricUnavailable("the model has no encoder that could be run cell by cell")
        rows = _distinct(batch, self.n)
        targets = np.arange(self.n**2) * batch.class_count + batch.pool.labels[rows]
        device = next(batch.model.parameters()).device
        wired = _Cells(batch.model, self.n, apart=self._apart).to(device).eval()
        known = np.ones(len(batch), dtype=bool)
        return _played(batch.of(wired), rows, targets, np.eye(self.n**2, dtype=bool), known)


class DiPart(DiFull):
    """The grid pointing game for a network whose heads see one cell each: a control of the method.

    Rao et al., 2022, "Towards Better Understanding Attribution Methods" (DiPart). The encoder runs
    on the whole mosaic, and the score of a class in a cell depends on that cell's part of the last
    maps alone. In [0, 1], higher is better, with the chance of `DiFull`. 1 is attainable for maps
    of the last layer; of the pixels beyond the cell, those that its receptive fields reach do
    matter a little.
    """

    paper = "Rao et al., 2022"
    _apart: ClassVar = False


class _Cells(Score):
    """The scores of every class in every cell of a mosaic: [B, n^2 * classes], cell by cell."""

    def __init__(self, score: Score, n: int, *, apart: bool) -> None:
        """Wire the heads of ``score`` to cells; the weights are shared.

        Args:
            score: of single images.
            n: cells on a side.
            apart: whether the encoder runs on each cell alone, too.
        """
        super().__init__()
        self.score = score
        self.n = n
        self.apart = apart
        self.encoder = _CellsEncoder(score.encoder, n, apart=apart)

    def extra_repr(self) -> str:
        """Name what no weight tells, for `clarity.metrics.memory`."""
        return f"n={self.n}, apart={self.apart}"

    def normalised(self, images: Tensor) -> Tensor:
        """Map mosaics [B, C, n * H, n * W] in [0, 1] to the encoder's input."""
        return self.score.normalised(images)

    def of_embeddings(self, embeddings: Tensor, *, fixed_length: bool = False) -> Tensor:
        """Map the embeddings of all cells [B, n^2 * D] to scores [B, n^2 * classes]."""
        count, length = embeddings.shape
        each = embeddings.reshape(count * self.n**2, length // self.n**2)
        scores = self.score.of_embeddings(each, fixed_length=fixed_length)
        return scores.reshape(count, -1)


class _CellsEncoder(Encoder):
    """An encoder whose embedding of a mosaic is that of its cells, one after the other.

    Class activation methods see a module of its own behind the last maps, not `maps`: what they
    know of an encoder whose embedding is one mean over all places does not hold here.
    """

    def __init__(self, encoder: Encoder, n: int, *, apart: bool) -> None:
        nn.Module.__init__(self)
        # A copy: what runs cell by cell is another class, and the model stays as it is.
        self.inner = copy.deepcopy(encoder) if apart else encoder
        self.seen = nn.Identity()
        self.trunk = self.inner.trunk
        self.maps = self.inner.maps
        self.tap = self.inner.tap
        self.dimension = n * n * encoder.dimension
        self._n = n
        self._apart = apart
        if apart:
            _run_apart(self.trunk, n, self.tap, self.seen)

    @property
    def cam_layer(self) -> nn.Module:
        return self.seen if self.tap is None or self._apart else self.tap

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maps(self.trunk(images))
        return self.pooled(self.seen(maps) if self.tap is None else maps)

    def pooled(self, maps: Tensor) -> Tensor:
        each = self.inner.pooled(_cut(maps, self._n))
        return each.reshape(len(maps), self.dimension)


class _TrunkOfCells(Trunk):
    """A trunk that runs on each cell of a mosaic alone; its maps are the cells' side by side."""

    cells: int
    tap: Tap | None
    seen: nn.Module

    def forward(self, images: Tensor) -> Tensor:
        each = _cut(images, self.cells)
        if self.tap is None:
            return _joined(super().forward(each), self.cells)
        # The layer that was chosen for class activation methods runs cell by cell as well.
        handle = self.tap.register_forward_hook(self._through)
        try:
            return _joined(super().forward(each), self.cells)
        finally:
            handle.remove()

    def _through(self, layer: nn.Module, inputs: object, maps: Tensor) -> Tensor:
        return _cut(self.seen(_joined(maps, self.cells)), self.cells)


def _run_apart(trunk: Trunk, n: int, tap: Tap | None, seen: nn.Module) -> None:
    """Make a trunk one of cells, in place: its hooks are bound to it, and tracing asks for that."""
    trunk.__class__ = _TrunkOfCells
    assert isinstance(trunk, _TrunkOfCells)
    trunk.cells, trunk.tap, trunk.seen = n, tap, seen


def _cut(maps: Tensor, n: int) -> Tensor:
    """Cut [B, K, n * h, n * w] into cells [B * n^2, K, h, w], row by row of cells."""
    # Not unpacked: where a network is traced, sizes are no numbers.
    size = maps.shape
    grid = maps.reshape(size[0], size[1], n, size[2] // n, n, size[3] // n)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _joined(cells: Tensor, n: int) -> Tensor:
    """Put cells [B * n^2, K, h, w] side by side: [B, K, n * h, n * w]."""
    size = cells.shape
    grid = cells.reshape(-1, n, n, size[1], size[2], size[3]).permute(0, 3, 1, 4, 2, 5)
    return grid.flatten(4, 5).flatten(2, 3)


def _cells(n: int) -> int:
    if n < 2:
        raise ValueError(f"n: found {n}, wanted at least 2 cells on a side")
    return n


def _probability(confidence: float) -> float:
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence: found {confidence}, wanted a probability")
    return confidence


def _distinct(batch: Batch, n: int) -> np.ndarray:
    """Draw for each image the pool rows of a mosaic of distinct classes: int64 [N, n^2].

    Raises:
        MetricUnavailable: if there are fewer classes than cells.
    """
    members = _members(batch, n**2)

    def draw(own: int, generator: np.random.RandomState) -> np.ndarray:
        others = [label for label in members if label != batch.pool.labels[own]]
        classes = generator.choice(others, n**2 - 1, replace=False)
        partners = [generator.choice(members[label]) for label in classes]
        return np.insert(np.array(partners, dtype=np.int64), generator.randint(n**2), own)

    return _each(batch, draw)


def _twice(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Draw mosaics of two classes, two images each, in random places.

    Returns:
        Rows of the pool int64 [N, 4]; and both classes int64 [N, 2], the image's own first. An
        image stands twice where its class has no other.

    Raises:
        MetricUnavailable: if there is one class only.
    """
    members = _members(batch, 2)
    labels = batch.pool.labels

    def draw(own: int, generator: np.random.RandomState) -> np.ndarray:
        same = members[labels[own]]
        others = members[generator.choice([label for label in members if label != labels[own]])]
        second = generator.choice(same[same != own]) if len(same) > 1 else own
        foreign = generator.choice(others, 2, replace=len(others) < 2)
        return generator.permutation(np.array([own, second, *foreign], dtype=np.int64))

    rows = _each(batch, draw)
    own = labels[_own(batch)]
    foreign = labels[rows][labels[rows] != own[:, None]].reshape(-1, 2)[:, 0]
    return rows, np.stack([own, foreign], axis=1)


def _members(batch: Batch, least: int) -> dict[int, np.ndarray]:
    """Return the pool's rows of each class, if there are enough classes."""
    labels = batch.pool.labels
    found = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
    if len(found) < least:
        raise MetricUnavailable(
            f"a mosaic needs images of {least} classes, the evaluation set has {len(found)}"
        )
    return found


def _each(batch: Batch, draw: Draw) -> np.ndarray:
    """Draw for each image from its own row of the pool and its own generator."""
    pairs = zip(_own(batch).tolist(), batch.generators(), strict=True)
    return np.stack([draw(row, generator) for row, generator in pairs])


def _own(batch: Batch) -> np.ndarray:
    """Return each image's row in the pool, whose ids ascend: int64 [N].

    Raises:
        MetricUnavailable: if the images are scenes, which are no part of a mosaic.
    """
    if not np.isin(batch.ids, batch.pool.ids).all():
        raise MetricUnavailable("a mosaic is made of single images, not of two-class scenes")
    return np.searchsorted(batch.pool.ids, batch.ids)


def _confident(batch: Batch, rows: np.ndarray, confidence: float) -> np.ndarray:
    """Whether the model is confident of all parts of each mosaic, each seen alone: bool [N]."""
    if confidence == 0:
        return np.ones(len(rows), dtype=bool)
    pool = batch.pool
    found = replace(batch, softmax=True).scores(pool.images, remember=True)
    sure = found[np.arange(len(pool.labels)), pool.labels] >= confidence
    return np.asarray(sure[rows].all(axis=1))


def _played(
    batch: Batch, rows: np.ndarray, targets: np.ndarray, inside: np.ndarray, known: np.ndarray
) -> Scores:
    """Return the mean share of the positive mass of the maps that lies where it should.

    Args:
        batch: the images, with the model whose mosaics are explained.
        rows: pool rows of each mosaic's cells, int64 [N, P].
        targets: what each mosaic is explained for, int64 [N, T].
        inside: the cells of each target, bool [T, P] or [N, T, P].
        known: whether a mosaic counts, bool [N]; others are not explained.
    """
    n = math.isqrt(rows.shape[1])
    values = np.full(len(rows), np.nan)
    broken, flat, empty = (np.zeros(len(rows), dtype=bool) for _ in range(3))
    inside = np.broadcast_to(inside, (*targets.shape, rows.shape[1]))
    smaller = _smaller(batch, n)
    counted = np.flatnonzero(known)
    if len(counted):
        _scores(smaller, _mosaics(batch, rows[counted[:1]]))
    for part in _parts(counted, batch.batch_size):
        mosaics = _mosaics(batch, rows[part])
        shares = []
        for slot in range(targets.shape[1]):
            maps = smaller.explain_all(mosaics, targets[part, slot])
            broken[part] |= ~np.isfinite(maps).all(axis=(1, 2))
            maps = np.nan_to_num(maps, nan=0, posinf=0, neginf=0)
            flat[part] |= is_constant(maps)
            positive = np.maximum(maps, 0).astype(np.float64)
            side = (n, maps.shape[1] // n, n, maps.shape[2] // n)
            mass = positive.reshape(len(maps), *side).sum(axis=(2, 4)).reshape(len(maps), -1)
            whole = mass.sum(axis=1)
            empty[part] |= whole == 0
            own = (mass * inside[part, slot]).sum(axis=1)
            shares.append(np.divide(own, whole, out=np.zeros(len(maps)), where=whole > 0))
        values[part] = np.mean(shares, axis=0)
    return (
        Scores(values)
        .leave_out(flat, "constant map of the mosaic")
        .leave_out(empty, "no positive mass in a map of the mosaic")
        .leave_out(broken, "a map of the mosaic has values that are not finite")
        .leave_out(~known, NOT_CONFIDENT, unavailable=True)
    )


def _smaller(batch: Batch, n: int) -> Batch:
    """Return the batch with calls of as many pixels for mosaics as it has for images."""
    return replace(batch, batch_size=max(1, batch.batch_size // n**2))


def _parts(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut rows into parts whose mosaics fit into memory."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _mosaics(batch: Batch, rows: np.ndarray) -> np.ndarray:
    """Put the pool's images of rows [N, n^2] side by side: float32 [N, C, n * H, n * W]."""
    n = math.isqrt(rows.shape[1])
    images = batch.pool.images[rows]
    count, _, channels, height, width = images.shape
    grid = images.reshape(count, n, n, channels, height, width).transpose(0, 3, 1, 4, 2, 5)
    return np.ascontiguousarray(grid).reshape(count, channels, n * height, n * width)


def _scores(batch: Batch, mosaics: np.ndarray) -> np.ndarray:
    """Score mosaics, or tell that the network works at one size of image only."""
    shape = "x".join(map(str, mosaics.shape[2:]))
    try:
        found = batch.scores(mosaics, remember=True)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise  # they are RuntimeErrors, and no shape's fault
    except (AssertionError, RuntimeError) as error:  # torch's and timm's ways to refuse a shape
        raise MetricUnavailable(
            f"the network takes no mosaics of {shape} pixels: {_line(error)}"
        ) from error
    if len(found) != len(mosaics):
        # Tokens of a larger image taken for those of several.
        raise MetricUnavailable(f"the network takes no mosaics of {shape} pixels")
    return found


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
