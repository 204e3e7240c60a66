"""Run the stage `trust` for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

log = Path(snakemake.log[0])
begun = open_log(log)

from clarity.stages.pipeline import each, trust

params = snakemake.params
root = Path(params.root)
work = partial(trust, root, params.runtime)
each(root, f"trust-{log.stem}", begun, params.runs, work)
