"""Figures: owns the stage that draws every figure of a grid from its tables and samples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity.figures.render import render_all
from clarity.grid import Grid


def draw_grid(
    root: Path,
    folder: Path,
    *,
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    baseline: str,
    controls: Sequence[str],
) -> None:
    """Draw all figures of a grid into ``folder``.

    Args:
        root: the results root, with its tables.
        folder: where the figures go.
        grid: the axes.
        metrics: category and direction of each metric.
        baseline: the loss that all others are compared with.
        controls: the methods that look at neither model nor class.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
    """
    render_all(
        root,
        folder,
        datasets=grid.datasets,
        losses=grid.losses,
        seeds=grid.seeds,
        methods=grid.methods,
        metrics=list(metrics),
        baseline=baseline,
        controls=controls,
    )
