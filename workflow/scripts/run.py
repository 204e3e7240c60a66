"""Run all stages for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

log = Path(snakemake.log[0])
begun = open_log(log)

from clarity.stages.pipeline import each, whole

params = snakemake.params
root = Path(params.root)
work = partial(whole, root, params.runtime, params.maps, params.passes, params.metrics)
each(root, f"run-{log.stem}", begun, params.runs, work)
