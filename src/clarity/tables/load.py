"""Load: owns how the score files of a grid become one frame; knows no statistics.

Each file is read once and kept as numbers: names become codes, so that a row takes about 20 bytes
and a grid of 50 million rows fits into the memory of a laptop. A file that is missing or cannot be
read stops nothing, unless asked to; it becomes a row of `Loaded.missing`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from clarity import storage
from clarity.grid import Cell, Run
from clarity.storage import CorruptArtifact, StrPath

SCORES = "scores.parquet"
PREDICTIONS = "predictions.parquet"
GEOMETRY = "geometry.parquet"

#: What a score can be: a number, a number that the metric could not give, a map that is not there.
STATUSES = ("ok", "nan", "unavailable")
#: The reason given to a value that is marked ok and is none.
NOT_FINITE = "marked ok, but the value is not finite"

MISSING_COLUMNS = ("dataset", "loss", "seed", "method", "artifact", "reason")
_RUN_COLUMNS = ("dataset", "loss", "seed")
_SCORE_COLUMNS = ("image", "metric", "value", "status", "reason")
_PREDICTION_COLUMNS = ("split", "image", "second_label", "correct", "correct_prototype")
_GEOMETRY_COLUMNS = ("measure", "value", "direction")


@dataclass(frozen=True)
class Loaded:
    """All that a grid has, and what it lacks.

    Attributes:
        scores: dataset, loss, method, metric, status, reason (categorical; the categories of the
            axes are the grid in the order of the cells), seed and image (int32), value (float64,
            NaN unless status is ok).
        predictions: dataset, loss (categorical), seed, split, image, second_label, correct,
            correct_prototype.
        geometry: dataset, loss (categorical), seed, measure, value, direction.
        missing: dataset, loss, seed, method ('' for a file of the whole run), artifact, reason.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    geometry: pd.DataFrame
    missing: pd.DataFrame


class _Codes(dict[str, int]):
    """Numbers for words, in the order in which they come."""

    def of(self, words: pd.Series) -> np.ndarray:
        local, unique = pd.factorize(words)
        return np.array([self.setdefault(str(word), len(self)) for word in unique], np.int32)[local]

    def categorical(self, parts: Sequence[np.ndarray]) -> pd.Categorical:
        """Return codes as a categorical with sorted categories: the order of files is no matter."""
        codes = np.concatenate([np.empty(0, np.int32), *parts])
        return pd.Categorical.from_codes(codes, categories=list(self)).reorder_categories(
            sorted(self)
        )


def load_scores(
    root: StrPath, cells: Sequence[Mapping[str, str | int]], *, strict: bool = False
) -> Loaded:
    """Read the scores of the cells, and the predictions and geometry of their runs.

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
    orders = {
        axis: list(dict.fromkeys(cell.axes[axis] for cell in grid))
        for axis in ("dataset", "loss", "method")
    }
    grid.sort(
        key=lambda cell: (
            orders["dataset"].index(cell.run.dataset),
            orders["loss"].index(cell.run.loss),
            cell.run.seed,
            orders["method"].index(cell.method),
        )
    )
    missing: list[dict[str, str | int]] = []

    def attempt(
        read: Callable[[Path], pd.DataFrame], folder: str, name: str, axes: Mapping[str, str | int]
    ) -> pd.DataFrame | None:
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
    geometry: list[pd.DataFrame] = []
    for run in dict.fromkeys(cell.run for cell in grid):
        axes = {"dataset": run.dataset, "loss": run.loss, "seed": run.seed}
        for read, name, parts in (
            (_read_predictions, PREDICTIONS, predictions),
            (_read_geometry, GEOMETRY, geometry),
        ):
            frame = attempt(read, run.folder, name, axes)
            if frame is not None:
                parts.append(frame.assign(**axes))
    scores = _gather(
        [(cell, attempt(_read_scores, cell.folder, SCORES, cell.axes)) for cell in grid], orders
    )
    return Loaded(
        scores=scores,
        predictions=_join(predictions, _PREDICTION_COLUMNS, orders),
        geometry=_join(geometry, _GEOMETRY_COLUMNS, orders),
        missing=pd.DataFrame(missing, columns=list(MISSING_COLUMNS)),
    )
