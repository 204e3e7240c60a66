"""Say what a grid will need; to the terminal, since it is no result."""

from pathlib import Path

from clarity.grid import Grid
from clarity.stages.plan import plan

params = snakemake.params
found = plan(
    Path(params.root),
    Grid(**params.axes),
    params.metrics,
    jobs=params.jobs,
    shards=params.shards,
    rules=params.rules,
)
print(found.told(params.threads), flush=True)
