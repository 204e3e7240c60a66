"""Parts: own the files between both levels of aggregation, for grids too large for one job.

First, what the training runs of a dataset tell (`write_models`) and what can be said of a dataset
and a method alone (`write_block`); then the tables of the whole grid from these, the very same as
from all files at once (`clarity.tables.build.build_tables`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clarity import storage
from clarity.grid import Grid
from clarity.tables.build import Part
from clarity.tables.load import MISSING_COLUMNS, Models, together
from clarity.tables.names import BLOCK_PARTS, MODELS_PARTS, parts_folder


def write_models(models: Models, folder: Path) -> None:
    """Write what the training runs of a dataset tell."""
    for name in MODELS_PARTS:
        _write(folder / f"{name}.parquet", getattr(models, name))


def read_models(root: Path, grid: Grid) -> Models:
    """Read what `write_models` wrote of every dataset of a grid, and put it together.

    Raises:
        clarity.storage.CorruptArtifact: if a file is missing or not as it was written.
    """
    found = (_read(root / parts_folder(dataset), MODELS_PARTS) for dataset in grid.datasets)
    return together([Models(**parts) for parts in found], grid)


def write_block(part: Part, folder: Path) -> None:
    """Write what can be said of a dataset and a method alone."""
    for name in BLOCK_PARTS:
        _write(folder / f"{name}.parquet", getattr(part, name))


def read_block(root: Path, dataset: str, method: str) -> Part:
    """Read what `write_block` wrote.

    Raises:
        clarity.storage.CorruptArtifact: if a file is missing or not as it was written.
    """
    return Part(**_read(root / parts_folder(dataset, method), BLOCK_PARTS))


def _write(path: Path, value: pd.DataFrame | list[dict[str, str | int]]) -> None:
    frame = pd.DataFrame(value, columns=list(MISSING_COLUMNS)) if isinstance(value, list) else value
    storage.write_table(path, frame)


def _read(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        frame = storage.read_table(folder / f"{name}.parquet")
        found[name] = frame.to_dict("records") if name == "missing" else frame
    return found
