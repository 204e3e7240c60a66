"""Run the stage `evaluate` for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

log = Path(snakemake.log[0])
begun = open_log(log)

from clarity.stages.pipeline import each, evaluate

params = snakemake.params
root = Path(params.root)
work = partial(evaluate, root, params.runtime, params.passes, params.metrics)
each(root, f"evaluate-{log.stem}", begun, params.runs, work)
