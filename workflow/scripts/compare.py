"""Run the stage `compare` for the whole grid, or for what there is of it."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.grid import Grid
from clarity.stages.compare import compare_grid

compare_grid(
    Path(snakemake.params.root),
    Path(snakemake.params.folder),
    grid=Grid(**snakemake.params.axes),
    strict=bool(snakemake.output),
    workers=snakemake.threads,
    **snakemake.params.compared,
)
