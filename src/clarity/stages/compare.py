"""Compare: owns the stage that makes the tables of a grid from its scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clarity.grid import Grid
from clarity.statistics.comparisons import Settings
from clarity.tables.build import build_tables
from clarity.tables.write import write_tables


@dataclass(frozen=True)
class Metric:
    """What a comparison must know of a metric."""

    category: str
    direction: str
    family: str | None = None


def compare_grid(
    root: Path,
    folder: Path,
    *,
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    baseline: str,
    controls: Sequence[str],
    confidence: float,
    resamples: int,
    correct_only: bool,
    strict: bool,
) -> None:
    """Build all tables of a grid and write them into ``folder``.

    Args:
        root: the results root.
        folder: where the tables go.
        grid: the axes.
        metrics: category and direction of each metric, and what it is a setting of, if anything.
        baseline: the loss that all others are compared with.
        controls: the methods that look at neither model nor class.
        confidence: of every interval.
        resamples: bootstrap resamples.
        correct_only: count only images that all losses of a (dataset, seed) classify right.
        strict: raise at a missing file; otherwise it stands in the table `missing`.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
    """
    infos = {name: Metric(**known) for name, known in metrics.items()}
    tables = build_tables(
        root,
        [cell.axes for cell in grid.cells()],
        infos,
        baseline,
        controls,
        Settings(confidence=confidence, resamples=resamples, correct_only=correct_only),
        families={name: info.family for name, info in infos.items() if info.family is not None},
        strict=strict,
    )
    write_tables(tables, folder)
