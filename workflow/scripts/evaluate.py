"""Run the stage `evaluate` for the methods of one job."""

import sys
from pathlib import Path

sys.stderr = sys.stdout = open(snakemake.log[0], "w", buffering=1)

from clarity.attribution.recipe import MethodRecipe
from clarity.grid import Run
from clarity.metrics.recipe import MetricRecipe
from clarity.stages.evaluate import evaluate_run

axes, recipes = snakemake.wildcards, snakemake.params.methods
evaluate_run(
    Path(snakemake.input.model),
    Path(snakemake.input.evaluation),
    dict(zip(recipes, map(Path, snakemake.input.attributions), strict=True)),
    dict(zip(recipes, map(Path, snakemake.output), strict=True)),
    Run(axes.dataset, axes.loss, int(axes.seed)),
    methods={name: MethodRecipe(**recipe) for name, recipe in recipes.items()},
    metrics={name: MetricRecipe(**r) for name, r in snakemake.params.metrics.items()},
    code=snakemake.params.code,
    costs=Path(snakemake.params.costs),
    **snakemake.params.passes,
    **snakemake.params.runtime,
)
