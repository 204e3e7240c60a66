"""Run the stage `train` for one run."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.data.protocol import Training
from clarity.grid import Run
from clarity.losses.recipe import LossRecipe
from clarity.stages.train import train_run

axes = snakemake.wildcards
train_run(
    Path(snakemake.input.data),
    Path(snakemake.input.evaluation),
    Path(snakemake.output.model).parent,
    Run(axes.dataset, axes.loss, int(axes.seed)),
    training=Training(**snakemake.params.training),
    loss=LossRecipe(**snakemake.params.loss),
    **snakemake.params.runtime,
)
