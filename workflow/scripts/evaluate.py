"""Run the stage `evaluate` for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.stages.pipeline import each, evaluate

params = snakemake.params
each(
    params.runs, partial(evaluate, Path(params.root), params.runtime, params.passes, params.metrics)
)
