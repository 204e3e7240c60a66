"""Run all stages for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.stages.pipeline import each, whole

params = snakemake.params
work = partial(whole, Path(params.root), params.runtime, params.maps, params.passes, params.metrics)
each(params.runs, work)
