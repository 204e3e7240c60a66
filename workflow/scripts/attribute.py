"""Run the stage `attribute` for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

log = Path(snakemake.log[0])
begun = open_log(log)

from clarity.stages.pipeline import attribute, each

params = snakemake.params
root = Path(params.root)
work = partial(attribute, root, params.runtime, params.maps)
each(root, f"attribute-{log.stem}", begun, params.runs, work)
