"""Load: owns how the files of a grid are read and held to their formats; knows no statistics.

Score files are read block by block (a dataset and a method) into arrays, so that memory does not
grow with the grid; the files of training runs are read all at once. A file that is missing or
cannot be read stops nothing, unless asked to; it becomes a row of `missing`.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from clarity import storage
from clarity.grid import SCORES, TRUST, Cell, Grid, Run
from clarity.statistics.blocks import ABSENT, NAN, OK, STATUSES, Block
from clarity.storage import CorruptArtifact, StrPath
from clarity.tables.measures import GROUPS, place

T = TypeVar("T")

PREDICTIONS = "predictions.parquet"
GEOMETRY = "geometry.parquet"
HISTORY = "history.parquet"

#: What became of a training run whose predictions are not there; else they say it themselves.
TRAINED, NOT_THERE = "ok", "missing"
#: The reason given to a value that is marked ok and is none.
NOT_FINITE = "marked ok, but the value is not finite"

MISSING_COLUMNS = ("dataset", "loss", "seed", "method", "artifact", "reason")
_RUN_COLUMNS = ("dataset", "loss", "seed")
_SCORE_COLUMNS = ("image", "metric", "value", "status", "reason")
_PREDICTION_COLUMNS = ("split", "image", "second_label", "correct", "correct_prototype")
_MEASURE_COLUMNS = ("measure", "group", "value", "direction", "reason")


@dataclass(frozen=True)
class Models:
    """What the training runs of a grid tell of themselves, and which of their files are missing.

    Attributes:
        predictions: dataset, loss (categorical), seed, split, image, second_label, correct (by the
            linear head) and one column correct_HEAD for each other head; a run that failed has no
            rows.
        measures: dataset, loss (categorical), seed, measure, group, value, direction, reason: the
            geometry of the embeddings (group "geometry"), then what the stage `trust` measured.
        runs: dataset, loss (as strings), seed, status ("ok", what the training says, or "missing"),
            status_epoch, status_reason, images_seen: one row a run, in the order of the grid.
        missing: rows of `MISSING_COLUMNS`.
    """

    predictions: pd.DataFrame
    measures: pd.DataFrame
    runs: pd.DataFrame
    missing: list[dict[str, str | int]]

    def right(self, dataset: str) -> "Right":
        """Return which evaluation images of a dataset all losses classify right."""
        frame = self.predictions
        mine = frame[(frame["split"] == "evaluation") & (frame["dataset"] == dataset)]
        by_all = mine.groupby(["seed", "image"], observed=True)["correct"].all()
        kept = by_all[by_all].reset_index()
        runs = mine[["loss", "seed"]].drop_duplicates().astype({"loss": "str"})
        return Right(
            {seed: part["image"].to_numpy() for seed, part in kept.groupby("seed")},
            set(zip(runs["loss"], runs["seed"].tolist(), strict=True)),
        )


@dataclass(frozen=True)
class Right:
    """Which evaluation images of a dataset every loss classifies right.

    Attributes:
        images: by seed, those that all losses with predictions at the seed classify right.
        runs: (loss, seed) with predictions; of others nobody knows.
    """

    images: Mapping[Any, np.ndarray]
    runs: set[tuple[str, int]]

    def of(self, losses: Sequence[str], seeds: Sequence[int], images: np.ndarray) -> np.ndarray:
        """Return it as `Block.correct`, bool [L, S, I]."""
        nothing = np.empty(0, dtype=np.int64)
        by_seed = np.array([np.isin(images, self.images.get(seed, nothing)) for seed in seeds])
        known = np.array([[(loss, seed) in self.runs for seed in seeds] for loss in losses])
        correct: np.ndarray = known[:, :, None] & by_seed[None]
        return correct


@dataclass
class LoadedBlock:
    """The scores of a dataset and a method, and what came with them.

    Attributes:
        block: the scores of the grid's metrics.
        reasons: by (place of metric, loss, seed, reason), how many scores are none for it.
        curves: by (place of metric, loss, seed), a curve of each image that has one: image ids [N]
            and values [N, points].
        axes: by place of metric, what the points of its curves are: keys axis and at.
        missing: rows of `MISSING_COLUMNS`: files that are not there, and metrics that the grid does
            not name.
    """

    block: Block
    reasons: Counter[tuple[int, str, int, str]] = field(default_factory=Counter)
    curves: dict[tuple[int, str, int], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    axes: dict[int, dict[str, Any]] = field(default_factory=dict)
    missing: list[dict[str, str | int]] = field(default_factory=list)


def load_block(
    root: StrPath,
    grid: Grid,
    dataset: str,
    method: str,
    metrics: Sequence[str],
    right: Right,
    *,
    strict: bool = False,
) -> LoadedBlock:
    """Read the scores of one dataset and method.

    Args:
        root: the results root, with hive folders.
        grid: for losses and seeds.
        dataset: its name.
        method: its name.
        metrics: of the grid, in order; those without a score here are not in the block. Scores of
            others are left out and stand in ``missing``.
        right: which images all losses classify right.
        strict: raise at the first file that is missing or cannot be read.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
    """
    missing: list[dict[str, str | int]] = []
    files: dict[tuple[int, int], _Scores] = {}
    for i, loss in enumerate(grid.losses):
        for k, seed in enumerate(grid.seeds):
            cell = Cell(Run(dataset, loss, seed), method)
            read = _attempt(root, _read_scores, cell.folder, SCORES, cell.axes, missing, strict)
            if read is not None:
                files[i, k] = read
                missing += [
                    {**cell.axes, "artifact": SCORES, "reason": f"left out: {reason}"}
                    for reason in (
                        f"the grid has no metric '{name}'"
                        for name in read.metrics
                        if name not in metrics
                    )
                ]
    there = {name for read in files.values() for name in read.metrics}
    kept = [name for name in metrics if name in there]
    ids = [read.image for read in files.values()]
    images = np.unique(np.concatenate(ids)) if ids else np.empty(0, np.int64)
    shape = len(kept), len(grid.losses), len(grid.seeds), len(images)
    values, status = np.full(shape, np.nan), np.full(shape, ABSENT, np.uint8)
    found = np.zeros(shape[1:3], dtype=bool)
    loaded = LoadedBlock(
        Block(
            dataset,
            method,
            kept,
            list(grid.losses),
            list(grid.seeds),
            images,
            values,
            status,
            right.of(grid.losses, grid.seeds, images),
            found,
        ),
        missing=missing,
    )
    for (i, k), read in files.items():
        found[i, k] = True
        loss, seed = grid.losses[i], grid.seeds[k]
        known = np.array([kept.index(name) if name in kept else -1 for name in read.metrics])
        rows = known[read.metric] if len(known) else np.empty(0, np.int64)
        mine = rows >= 0
        columns = np.searchsorted(images, read.image[mine])
        values[rows[mine], i, k, columns] = read.value[mine]
        status[rows[mine], i, k, columns] = read.status[mine]
        for row in np.flatnonzero(mine & (read.status != OK)):
            loaded.reasons[int(rows[row]), loss, seed, read.reasons[read.reason[row]]] += 1
        for name, axis in read.axes.items():
            if name in kept and name in read.metrics:
                at = kept.index(name)
                if loaded.axes.setdefault(at, axis) != axis:
                    cell = Cell(Run(dataset, loss, seed), method)
                    reason = f"curves of '{name}' left out: their points are not those of others"
                    missing.append({**cell.axes, "artifact": SCORES, "reason": reason})
                    continue
                points = len(axis["at"])
                loaded.curves[at, loss, seed] = read.curves_of(name, points)
                if odd := read.odd_curves(name, points):
                    cell = Cell(Run(dataset, loss, seed), method)
                    reason = f"curves of '{name}' of {odd} images left out: not {points} points"
                    missing.append({**cell.axes, "artifact": SCORES, "reason": reason})
    return loaded


def load_models(root: StrPath, grid: Grid, *, strict: bool = False) -> Models:
    """Read all that the training runs of a grid tell of themselves.

    Args:
        root: the results root, with hive folders.
        grid: the axes.
        strict: raise at the first file that is missing or cannot be read.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
    """
    missing: list[dict[str, str | int]] = []
    predictions: list[pd.DataFrame] = []
    measures: list[pd.DataFrame] = []
    runs: list[dict[str, str | float]] = []
    for run in grid.runs():
        axes: dict[str, str | int] = {"dataset": run.dataset, "loss": run.loss, "seed": run.seed}
        place_of = (run.folder, axes, missing, strict)

        def attempt(read: Callable[[Path], T], name: str, place_of: Any = place_of) -> T | None:
            folder, axes, missing, strict = place_of
            return _attempt(root, read, folder, name, axes, missing, strict)

        predicted = attempt(_read_predictions, PREDICTIONS)
        status = Status(NOT_THERE)
        if predicted is not None:
            frame, status = predicted
            predictions.append(frame.assign(**axes))
        for read, name in ((_read_geometry, GEOMETRY), (_read_trust, TRUST)):
            measured = attempt(read, name)
            if measured is not None:
                measures.append(measured.assign(**axes))
        seen = attempt(_images_seen, HISTORY)
        runs.append({**axes, **status.columns(), "images_seen": math.nan if seen is None else seen})
    names = list(grid.datasets), list(grid.losses)
    return Models(
        predictions=_join(predictions, _PREDICTION_COLUMNS, *names),
        measures=_join(measures, _MEASURE_COLUMNS, *names),
        runs=pd.DataFrame(runs),
        missing=missing,
    )


def together(found: Sequence[Models], grid: Grid) -> Models:
    """Return what the runs of all datasets tell, from what `load_models` told of each."""
    names = list(grid.datasets), list(grid.losses)
    return Models(
        predictions=_join([models.predictions for models in found], _PREDICTION_COLUMNS, *names),
        measures=_join([models.measures for models in found], _MEASURE_COLUMNS, *names),
        runs=pd.concat([models.runs for models in found], ignore_index=True),
        missing=[row for models in found for row in models.missing],
    )


def _attempt(
    root: StrPath,
    read: Callable[[Path], T],
    folder: str,
    name: str,
    axes: Mapping[str, str | int],
    missing: list[dict[str, str | int]],
    strict: bool,
) -> T | None:
    """Read a file, or put a row into ``missing`` that says why it cannot be read."""
    path = Path(root) / folder / name
    try:
        return read(path)
    except CorruptArtifact as error:
        if strict:
            raise
        # The root is left out, so that the same grid in another folder has the same tables.
        reason = str(error).replace(f"{Path(root)}/", "") if path.exists() else "no such file"
        missing.append({"method": "", **axes, "artifact": name, "reason": reason})
        return None


@dataclass(frozen=True)
class _Scores:
    """A score file as columns of numbers: `metric` and `reason` are places in their lists."""

    metrics: list[str]
    metric: np.ndarray
    image: np.ndarray
    value: np.ndarray
    status: np.ndarray
    reasons: list[str]
    reason: np.ndarray
    axes: dict[str, dict[str, Any]]
    curves: pa.Array | None

    def curves_of(self, metric: str, points: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids [N] and curves [N, points] of the images that have one of that length."""
        rows, lengths = self._lengths(metric)
        rows = rows[lengths == points]
        if self.curves is None or points == 0 or len(rows) == 0:
            return np.empty(0, np.int64), np.empty((0, points))
        starts = self.curves.offsets.to_numpy()[rows]
        flat = self.curves.values.to_numpy(zero_copy_only=False)
        return self.image[rows], flat[starts[:, None] + np.arange(points)]

    def odd_curves(self, metric: str, points: int) -> int:
        """Return how many images have a curve of another length."""
        _, lengths = self._lengths(metric)
        return int(((lengths > 0) & (lengths != points)).sum())

    def _lengths(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a metric that are ok, and the length of the curve of each."""
        rows = np.flatnonzero((self.metric == self.metrics.index(metric)) & (self.status == OK))
        if self.curves is None:
            return rows, np.zeros(len(rows), np.int64)
        return rows, np.diff(self.curves.offsets.to_numpy())[rows]


def _join(
    parts: list[pd.DataFrame], columns: Sequence[str], datasets: list[str], losses: list[str]
) -> pd.DataFrame:
    """Put the frames of all runs together, with the grid as categories."""
    names = [*_RUN_COLUMNS, *columns]
    # Beside these, only what every run has: a column of some would be half empty.
    more = [str(c) for c in parts[0] if all(c in part for part in parts)] if parts else []
    names += [c for c in more if c not in names]
    # A run that failed has no rows, and pandas would let their types decide over those of others.
    full = [part for part in parts if len(part)] or parts
    frame = pd.concat(full, ignore_index=True)[names] if full else pd.DataFrame(columns=names)
    return frame.assign(
        dataset=pd.Categorical(frame["dataset"], datasets),
        loss=pd.Categorical(frame["loss"], losses),
    )


def _read_scores(path: Path) -> _Scores:
    """Read a score file and hold it to its format."""
    table = storage.read_columns(path)
    if absent := [name for name in _SCORE_COLUMNS if name not in table.column_names]:
        raise CorruptArtifact(path, f"no column {absent}")
    for name in ("image", "value"):
        kind = table.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise CorruptArtifact(path, f"column '{name}' holds no numbers")
    if table["image"].null_count or table["metric"].null_count:
        raise CorruptArtifact(path, "an image or a metric is empty")
    metric, metrics = _encoded(table["metric"])
    status, words = _encoded(table["status"])
    if unknown := sorted(set(words) - set(STATUSES)):
        raise CorruptArtifact(path, f"status {unknown[0]!r} is none of {', '.join(STATUSES)}")
    codes = np.array([STATUSES.index(word) for word in words], np.uint8)
    status = codes[status] if len(words) else status.astype(np.uint8)
    reason, reasons = _encoded(table["reason"])
    image = table["image"].to_numpy().astype(np.int64)
    value = table["value"].to_numpy().astype(np.float64)
    if len(np.unique(np.stack([metric, image]), axis=1).T) < len(image):
        raise CorruptArtifact(path, "an image has two rows for one metric")
    lying = (status == OK) & ~np.isfinite(value)
    if lying.any():
        reasons = [*reasons, NOT_FINITE]
        status, reason = np.where(lying, NAN, status), np.where(lying, len(reasons) - 1, reason)
    curves = table["curve"].combine_chunks() if "curve" in table.column_names else None
    metadata = table.schema.metadata or {}
    return _Scores(
        metrics,
        metric,
        image,
        np.where(status == OK, value, np.nan),
        status,
        reasons,
        reason,
        {} if curves is None else _curve_axes(path, metadata.get(b"curves", b"{}")),
        curves,
    )


def _curve_axes(path: Path, told: bytes) -> dict[str, dict[str, Any]]:
    """Read what the points of the curves of each metric are, and hold it to its format."""
    try:
        axes: dict[str, dict[str, Any]] = json.loads(told)
        for axis in axes.values():
            str(axis["axis"]), list(axis["at"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifact(path, f"its metadata tell no axes of its curves: {error}") from error
    return axes


def _encoded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return places and names of a column of words; an empty one is ''."""
    encoded = column.fill_null("").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False), [
        str(word) for word in encoded.dictionary.to_pylist()
    ]


def _read_predictions(path: Path) -> tuple[pd.DataFrame, "Status"]:
    """Read a file of predictions, hold it to its format, and read the status of its run."""
    frame = storage.read_table(path)
    heads = [str(c) for c in frame if str(c).startswith("correct_")]
    names = dict.fromkeys([*_PREDICTION_COLUMNS, *heads])
    if absent := [name for name in names if name not in frame]:
        raise CorruptArtifact(path, f"no column {absent}")
    frame = frame[list(names)]
    _numeric(path, frame, "image", "second_label", "correct", *heads)
    if frame.isna().any(axis=None):
        raise CorruptArtifact(path, "a value is empty")
    if frame.duplicated(["split", "image"]).any():
        raise CorruptArtifact(path, "an image has two rows in one split")
    return frame.sort_values(["split", "image"], ignore_index=True), read_status(path)


def _read_geometry(path: Path) -> pd.DataFrame:
    """Read a file of embedding geometry and hold it to its format."""
    return _read_measures(path, "geometry")


def _read_trust(path: Path) -> pd.DataFrame:
    """Read a file of the stage `trust` and hold it to its format."""
    return _read_measures(path)


def _read_measures(path: Path, group: str | None = None) -> pd.DataFrame:
    columns = [name for name in _MEASURE_COLUMNS if name != "group" or group is None]
    frame = storage.read_table(path, columns)
    _numeric(path, frame, "value")
    if frame.duplicated("measure").any():
        raise CorruptArtifact(path, "a measure has two rows")
    if group is not None:
        frame["group"] = group
    if unknown := sorted(set(frame["group"]) - set(GROUPS)):
        raise CorruptArtifact(path, f"group {unknown[0]!r} is none of {', '.join(GROUPS)}")
    frame["reason"] = frame["reason"].fillna("")
    finite = np.isfinite(frame["value"])
    frame.loc[~finite & (frame["reason"] == ""), "reason"] = NOT_FINITE
    frame["value"] = frame["value"].where(finite)
    order = sorted(range(len(frame)), key=lambda row: place(frame["measure"].iloc[row]))
    return frame[list(_MEASURE_COLUMNS)].iloc[order]


def _images_seen(path: Path) -> float:
    """Return how many images a run was trained on: the most in its history."""
    frame = storage.read_table(path, ["images_seen"])
    _numeric(path, frame, "images_seen")
    return float(frame["images_seen"].max()) if len(frame) else 0.0


@dataclass(frozen=True)
class Status:
    """What became of a training run.

    Attributes:
        name: "ok", why it failed ("diverged", "collapsed"), or "missing".
        reason: in words; "" if it did not fail.
        epoch: the epoch in which it failed; NaN if it did not.
    """

    name: str
    reason: str = ""
    epoch: float = math.nan

    @property
    def failed(self) -> bool:
        """Whether the training was tried and yielded no model to judge."""
        return self.name not in (TRAINED, NOT_THERE)

    def columns(self) -> dict[str, str | float]:
        """Return it as the columns of `Loaded.runs`."""
        return {"status": self.name, "status_epoch": self.epoch, "status_reason": self.reason}

    def __str__(self) -> str:
        epoch = "" if math.isnan(self.epoch) else f" in epoch {self.epoch:g}"
        return f"{self.name}{epoch}" + (f" ({self.reason})" if self.reason else "")


def read_status(path: StrPath) -> Status:
    """Read what became of a training run from the metadata of its predictions.

    Raises:
        clarity.storage.CorruptArtifact: if the file is not whole, or says nothing of it.
    """
    metadata = storage.read_table_metadata(path)
    try:
        name, reason, epoch = (metadata[key] for key in ("status", "reason", "epoch"))
        return Status(name) if name == TRAINED else Status(name, reason, float(epoch))
    except (KeyError, ValueError) as error:
        raise CorruptArtifact(path, f"its metadata tell no status of the run: {error}") from error


def _numeric(path: Path, frame: pd.DataFrame, *columns: str) -> None:
    for column in columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise CorruptArtifact(path, f"column '{column}' holds no numbers")
