"""Run the stage `prepare` for one dataset."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.data.recipe import dataset_recipe
from clarity.stages.prepare import prepare

prepare(
    Path(snakemake.output.data),
    Path(snakemake.output.evaluation),
    dataset=snakemake.wildcards.dataset,
    recipe=dataset_recipe(snakemake.params.recipe),
    data=snakemake.params.data,
    **snakemake.params.evaluation,
)
