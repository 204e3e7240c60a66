"""Load: owns how the score files of a grid become one frame; knows no statistics.

Each file is read once and kept as numbers: names become codes, so that a row takes about 20 bytes
and a grid of 50 million rows fits into the memory of a laptop. A file that is missing or cannot be
read stops nothing, unless asked to; it becomes a row of `Loaded.missing`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from clarity import storage
from clarity.grid import Cell, Run
from clarity.storage import CorruptArtifact, StrPath
from clarity.tables.measures import GROUPS, place

T = TypeVar("T")

SCORES = "scores.parquet"
PREDICTIONS = "predictions.parquet"
GEOMETRY = "geometry.parquet"
TRUST = "trust.parquet"
HISTORY = "history.parquet"

#: What a score can be: a number, a number that the metric could not give, a map that is not there.
STATUSES = ("ok", "nan", "unavailable")
#: What became of a training run whose predictions are not there; else they say it themselves.
OK, NOT_THERE = "ok", "missing"
#: The reason given to a value that is marked ok and is none.
NOT_FINITE = "marked ok, but the value is not finite"

MISSING_COLUMNS = ("dataset", "loss", "seed", "method", "artifact", "reason")
_RUN_COLUMNS = ("dataset", "loss", "seed")
_SCORE_COLUMNS = ("image", "metric", "value", "status", "reason")
_PREDICTION_COLUMNS = ("split", "image", "second_label", "correct", "correct_prototype")
_MEASURE_COLUMNS = ("measure", "group", "value", "direction", "reason")


@dataclass(frozen=True)
class Loaded:
    """All that a grid has, and what it lacks.

    Attributes:
        cells: every cell that was asked for, ordered by dataset, loss, seed and method.
        scores: dataset, loss, method, metric, status, reason (categorical; the categories of the
            axes are the grid in the order of the cells), seed and image (int32), value (float64,
            NaN unless status is ok).
        predictions: dataset, loss (categorical), seed, split, image, second_label, correct (by the
            linear head) and one column correct_HEAD for each other head; a run that failed has no
            rows.
        measures: dataset, loss (categorical), seed, measure, group, value, direction, reason: the
            geometry of the embeddings (group "geometry"), then what the stage `trust` measured.
        runs: dataset, loss (as strings), seed, status ("ok", what the training says, or "missing"),
            status_epoch, status_reason, images_seen: one row a run, in the order of the cells.
        missing: dataset, loss, seed, method ('' for a file of the whole run), artifact, reason.
    """

    cells: list[Cell]
    scores: pd.DataFrame
    predictions: pd.DataFrame
    measures: pd.DataFrame
    runs: pd.DataFrame
    missing: pd.DataFrame


def load_scores(
    root: StrPath, cells: Sequence[Mapping[str, str | int]], *, strict: bool = False
) -> Loaded:
    """Read the scores of the cells, and all that their runs tell of themselves.

    Args:
        root: the results root, with hive folders.
        cells: each with keys dataset, loss, seed and method. The order in which a name first
            comes is the order of its axis in all that is made of this.
        strict: raise at the first file that is missing or cannot be read.

    Returns:
        What is there and what is missing. Rows are ordered by cell, metric and image, whatever
        their order in the files.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
        ValueError: if there is no cell, or one twice.
    """
    if not cells:
        raise ValueError("cells: found none, wanted at least one")
    grid = [
        Cell(Run(str(c["dataset"]), str(c["loss"]), int(c["seed"])), str(c["method"]))
        for c in cells
    ]
    if len(set(grid)) < len(grid):
        raise ValueError("cells: found one twice")
    datasets = _positions(cell.run.dataset for cell in grid)
    losses = _positions(cell.run.loss for cell in grid)
    methods = _positions(cell.method for cell in grid)
    grid.sort(
        key=lambda cell: (
            datasets[cell.run.dataset],
            losses[cell.run.loss],
            cell.run.seed,
            methods[cell.method],
        )
    )
    missing: list[dict[str, str | int]] = []

    def attempt(
        read: Callable[[Path], T], folder: str, name: str, axes: Mapping[str, str | int]
    ) -> T | None:
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

    predictions: list[pd.DataFrame] = []
    measures: list[pd.DataFrame] = []
    runs: list[dict[str, str | float]] = []
    for run in dict.fromkeys(cell.run for cell in grid):
        axes: dict[str, str | int] = {"dataset": run.dataset, "loss": run.loss, "seed": run.seed}
        predicted = attempt(_read_predictions, run.folder, PREDICTIONS, axes)
        status = Status(NOT_THERE)
        if predicted is not None:
            frame, status = predicted
            predictions.append(frame.assign(**axes))
        for read, name in ((_read_geometry, GEOMETRY), (_read_trust, TRUST)):
            measured = attempt(read, run.folder, name, axes)
            if measured is not None:
                measures.append(measured.assign(**axes))
        seen = attempt(_images_seen, run.folder, HISTORY, axes)
        runs.append({**axes, **status.columns(), "images_seen": math.nan if seen is None else seen})
    scores = _ScoreColumns()
    for cell in grid:
        scored = attempt(_read_scores, cell.folder, SCORES, cell.axes)
        if scored is not None:
            scores.add(cell, scored)
    return Loaded(
        cells=grid,
        scores=scores.frame(list(datasets), list(losses), list(methods)),
        predictions=_join(predictions, _PREDICTION_COLUMNS, list(datasets), list(losses)),
        measures=_join(measures, _MEASURE_COLUMNS, list(datasets), list(losses)),
        runs=pd.DataFrame(runs),
        missing=pd.DataFrame(missing, columns=list(MISSING_COLUMNS)),
    )


def _categorical(codes: np.ndarray, names: list[str]) -> "pd.Categorical[Any]":
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(names))


def _positions(names: Iterable[str]) -> dict[str, int]:
    """Number names in the order in which they first come."""
    return {name: position for position, name in enumerate(dict.fromkeys(names))}


class _ScoreColumns:
    """The scores of many cells as columns of numbers; the strings of a file are let go at once."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self.rows: list[int] = []
        self.numbers: dict[str, list[np.ndarray]] = {name: [] for name in _SCORE_COLUMNS}
        self.words: dict[str, dict[str, int]] = {"metric": {}, "reason": {}}
        self.words["status"] = _positions(STATUSES)

    def add(self, cell: Cell, frame: pd.DataFrame) -> None:
        """Take over the rows of a cell, ordered by metric and image."""
        frame = frame.sort_values(["metric", "image"], kind="stable")
        self.cells.append(cell)
        self.rows.append(len(frame))
        self.numbers["image"].append(frame["image"].to_numpy(dtype=np.int32))
        self.numbers["value"].append(frame["value"].to_numpy(dtype=np.float64))
        for column, known in self.words.items():
            local, unique = pd.factorize(frame[column])
            codes = [known.setdefault(str(word), len(known)) for word in unique]
            self.numbers[column].append(np.array(codes, dtype=np.int32)[local])

    def frame(self, datasets: list[str], losses: list[str], methods: list[str]) -> pd.DataFrame:
        """Put all cells together; the columns are those of `Loaded.scores`."""
        columns: dict[str, pd.Categorical[Any] | np.ndarray] = {}
        for axis, names in (("dataset", datasets), ("loss", losses), ("method", methods)):
            position = _positions(names)
            codes = np.array([position[str(cell.axes[axis])] for cell in self.cells], np.int32)
            columns[axis] = _categorical(np.repeat(codes, self.rows), names)
        seeds = np.array([cell.run.seed for cell in self.cells], dtype=np.int64)
        columns["seed"] = np.repeat(seeds, self.rows)
        for column, known in self.words.items():
            # Sorted, since the order in which words came depends on which files are there.
            names = list(known) if column == "status" else sorted(known)
            words = _categorical(self._column(column, np.int32), list(known))
            columns[column] = words.reorder_categories(names)
        columns["image"] = self._column("image", np.int32)
        columns["value"] = self._column("value", np.float64)
        return pd.DataFrame(columns)

    def _column(self, name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.empty(0, dtype), *self.numbers.pop(name)])


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


def _read_scores(path: Path) -> pd.DataFrame:
    """Read a score file and hold it to its format."""
    frame = storage.read_table(path, _SCORE_COLUMNS)
    unknown = sorted(set(frame["status"].unique()) - set(STATUSES), key=str)
    if unknown:
        raise CorruptArtifact(path, f"status {unknown[0]!r} is none of {', '.join(STATUSES)}")
    _numeric(path, frame, "image", "value")
    if frame[["image", "metric"]].isna().any(axis=None):
        raise CorruptArtifact(path, "an image or a metric is empty")
    if frame.duplicated(["image", "metric"]).any():
        raise CorruptArtifact(path, "an image has two rows for one metric")
    frame["reason"] = frame["reason"].fillna("")
    lying = (frame["status"] == "ok") & ~np.isfinite(frame["value"])
    frame.loc[lying, ["status", "reason"]] = ["nan", NOT_FINITE]
    frame["value"] = frame["value"].where(frame["status"] == "ok")
    return frame


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
        return self.name not in (OK, NOT_THERE)

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
        return Status(name) if name == OK else Status(name, reason, float(epoch))
    except (KeyError, ValueError) as error:
        raise CorruptArtifact(path, f"its metadata tell no status of the run: {error}") from error


def _numeric(path: Path, frame: pd.DataFrame, *columns: str) -> None:
    for column in columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise CorruptArtifact(path, f"column '{column}' holds no numbers")
