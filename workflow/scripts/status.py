"""Say what a grid has and lacks; to the terminal, since it is no result."""

from pathlib import Path

from clarity.grid import Grid
from clarity.stages.status import status, told

found = status(
    Path(snakemake.params.root),
    Grid(**snakemake.params.axes),
    jobs=snakemake.params.jobs,
    shards=snakemake.params.shards,
)
print(told(found), flush=True)
