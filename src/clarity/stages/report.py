"""Report: owns the stage that writes the page of a grid from its tables, figures and manifests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity import storage
from clarity.grid import Grid
from clarity.report.build import build_report


def report_grid(
    root: Path,
    out: Path,
    *,
    grid: Grid,
    config: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
    baseline: str,
    families: Sequence[str],
    controls: Sequence[str],
) -> None:
    """Write the report of a grid to ``out``; the arguments are those of `build_report`.

    Raises:
        clarity.storage.CorruptArtifact: if an input cannot be read.
    """
    # What is shown beside the tables' own numbers carries no digest of its own.
    for folder in ("tables", "figures"):
        storage.check_files(root / folder)
    build_report(
        root,
        out,
        config=config,
        grid=grid,
        metrics=metrics,
        baseline=baseline,
        families=families,
        controls=controls,
    )
