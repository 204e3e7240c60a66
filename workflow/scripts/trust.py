"""Run the stage `trust` for one run."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.grid import Run
from clarity.stages.trust import trust_run
from clarity.trust.recipe import Trust

axes = snakemake.wildcards
trust_run(
    Path(snakemake.input.model),
    Path(snakemake.input.data),
    next(map(Path, snakemake.input.ood), None),
    Path(snakemake.output[0]),
    Run(axes.dataset, axes.loss, int(axes.seed)),
    recipe=Trust(**snakemake.params.recipe),
    **snakemake.params.runtime,
)
