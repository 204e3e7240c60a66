"""Run the stage `report` for the whole grid."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.grid import Grid
from clarity.stages.report import report_grid

report_grid(
    Path(snakemake.params.root),
    Path(snakemake.output[0]),
    grid=Grid(**snakemake.params.axes),
    config=snakemake.params.config,
    **snakemake.params.shown,
)
