"""Run the stage `gather` for the runs of a dataset, or for a dataset and a method."""

from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.grid import Grid
from clarity.stages.gather import gather_block, gather_models

root, grid = Path(snakemake.params.root), Grid(**snakemake.params.axes)
if "compared" in dict(snakemake.params.items()):
    gather_block(root, grid=grid, **snakemake.params.compared)
else:
    gather_models(root, grid=grid)
