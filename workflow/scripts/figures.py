"""Run the stage `figures` for the whole grid."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.grid import Grid
from clarity.stages.figures import draw_grid

draw_grid(
    Path(snakemake.params.root),
    Path(snakemake.params.folder),
    grid=Grid(**snakemake.params.axes),
    workers=snakemake.threads,
    **snakemake.params.compared,
)
