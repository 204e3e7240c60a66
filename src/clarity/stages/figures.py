"""Figures: owns the stage that draws every figure of a grid from its tables and samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity.figures.render import Shown, render_all
from clarity.grid import Grid
from clarity.statistics.recipe import Statistics
from clarity.statistics.settings import Metric, families_of


def draw_grid(
    root: Path,
    folder: Path,
    *,
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    controls: Sequence[str],
    statistics: Mapping[str, Any],
    correct_only: bool,
    workers: int,
) -> None:
    """Draw all figures of a grid into ``folder``.

    Args:
        root: the results root, with its tables.
        folder: where the figures go.
        grid: the axes.
        metrics: as for `clarity.stages.compare.compare_grid`.
        controls: the methods that look at neither model nor class.
        statistics: the config's section of that name, plain.
        correct_only: whether only images count that all losses of a (dataset, seed) classify right.
        workers: processes that draw.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
    """
    recipe = Statistics.model_validate(statistics)
    infos = {name: Metric(**known) for name, known in metrics.items()}
    families = families_of(infos)
    shown = Shown(
        root,
        root / "tables",
        grid,
        infos,
        recipe.baseline,
        controls,
        recipe.settings(families, correct_only=correct_only),
        families,
    )
    render_all(shown, folder, workers=workers)
