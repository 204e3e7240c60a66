"""Run the stage `figures` for the whole grid."""

from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.grid import Grid
from clarity.stages.figures import draw_grid

draw_grid(
    Path(snakemake.params.root),
    Path(snakemake.params.folder),
    grid=Grid(**snakemake.params.axes),
    workers=snakemake.threads,
    **snakemake.params.compared,
)
