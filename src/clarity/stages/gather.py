"""Gather: owns the stages of the first level of aggregation, one dataset, or dataset and method."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity.grid import Grid
from clarity.statistics.recipe import Statistics
from clarity.statistics.settings import Metric, families_of
from clarity.tables.build import block_tables
from clarity.tables.load import load_models
from clarity.tables.names import parts_folder
from clarity.tables.parts import read_models, write_block, write_models


def gather_models(root: Path, *, grid: Grid) -> None:
    """Read what all training runs of a dataset tell, and write it in few files.

    Args:
        root: the results root.
        grid: the axes, with one dataset.

    Raises:
        clarity.storage.CorruptArtifact: if a file is missing or cannot be read.
    """
    write_models(load_models(root, grid, strict=True), root / parts_folder(*grid.datasets))


def gather_block(
    root: Path,
    *,
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    controls: Sequence[str],
    statistics: Mapping[str, Any],
    correct_only: bool,
) -> None:
    """Compare the scores of a dataset and a method, and write what can be said of them alone.

    Args:
        root: the results root, where `gather_models` has written what the dataset's runs tell.
        grid: the axes, with one dataset and one method.
        metrics: as for `clarity.stages.compare.compare_grid`, like all that follow.
        controls: the methods that look at neither model nor class.
        statistics: the config's section of that name, plain.
        correct_only: count only images that all losses of a (dataset, seed) classify right.

    Raises:
        clarity.storage.CorruptArtifact: if a file is missing or cannot be read.
    """
    (dataset,), (method,) = grid.datasets, grid.methods
    recipe = Statistics.model_validate(statistics)
    infos = {name: Metric(**known) for name, known in metrics.items()}
    part = block_tables(
        root,
        grid,
        dataset,
        method,
        infos,
        read_models(root, grid).right(dataset),
        recipe.baseline,
        recipe.settings(families_of(infos), correct_only=correct_only),
        strict=True,
    )
    write_block(part, root / parts_folder(dataset, method))
