"""Compare: owns the stage that makes the tables of a grid from its scores."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from clarity.grid import Grid
from clarity.statistics.recipe import Statistics
from clarity.statistics.settings import Metric, families_of
from clarity.tables.build import Gathered, build_tables
from clarity.tables.parts import read_block, read_models
from clarity.tables.write import write_tables


def compare_grid(
    root: Path,
    folder: Path,
    *,
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    controls: Sequence[str],
    statistics: Mapping[str, Any],
    correct_only: bool,
    strict: bool,
    workers: int,
    gathered: bool = False,
) -> None:
    """Build all tables of a grid and write them into ``folder``.

    Args:
        root: the results root.
        folder: where the tables go.
        grid: the axes.
        metrics: of each metric category, direction, whether it may carry the verdict on
            contrastivity, and what it is a setting of, if anything.
        controls: the methods that look at neither model nor class.
        statistics: the config's section of that name, plain.
        correct_only: count only images that all losses of a (dataset, seed) classify right.
        strict: raise at a missing file; otherwise it stands in the table `missing`.
        workers: processes that read and compare.
        gathered: whether what the files say was gathered before (`clarity.stages.gather`).

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
    """
    recipe = Statistics.model_validate(statistics)
    infos = {name: Metric(**known) for name, known in metrics.items()}
    families = families_of(infos)
    known = None
    if gathered:
        blocks = product(grid.datasets, grid.methods)
        parts = {names: read_block(root, *names) for names in blocks}
        known = Gathered(read_models(root, grid), parts)
    tables = build_tables(
        root,
        grid,
        infos,
        recipe.baseline,
        controls,
        recipe.settings(families, correct_only=correct_only),
        families=families,
        strict=strict,
        workers=workers,
        gathered=known,
    )
    write_tables(tables, folder)
