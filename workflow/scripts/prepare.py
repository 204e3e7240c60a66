"""Run the stage `prepare` for one dataset."""

from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

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
