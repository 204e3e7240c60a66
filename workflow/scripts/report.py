"""Run the stage `report` for the whole grid."""

from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.grid import Grid
from clarity.stages.report import report_grid

report_grid(
    Path(snakemake.params.root),
    Path(snakemake.output[0]),
    grid=Grid(**snakemake.params.axes),
    config=snakemake.params.config,
    **snakemake.params.shown,
)
