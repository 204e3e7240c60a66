"""Run the stage `compare` for the whole grid, or for what there is of it."""

from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.grid import Grid
from clarity.stages.compare import compare_grid

compare_grid(
    Path(snakemake.params.root),
    Path(snakemake.params.folder),
    grid=Grid(**snakemake.params.axes),
    strict=bool(snakemake.output),
    workers=snakemake.threads,
    gathered=snakemake.params.gathered,
    **snakemake.params.compared,
)
