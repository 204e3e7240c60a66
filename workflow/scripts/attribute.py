"""Run the stage `attribute` for the methods of one job."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.attribution.recipe import MethodRecipe
from clarity.stages.attribute import attribute_run

recipes = snakemake.params.methods
attribute_run(
    Path(snakemake.input.model),
    Path(snakemake.input.evaluation),
    Path(snakemake.input.predictions),
    dict(zip(recipes, map(Path, snakemake.output), strict=True)),
    methods={name: MethodRecipe(**recipe) for name, recipe in recipes.items()},
    seed=int(snakemake.wildcards.seed),
    code=snakemake.params.code,
    costs=Path(snakemake.params.costs),
    **snakemake.params.maps,
    **snakemake.params.runtime,
)
