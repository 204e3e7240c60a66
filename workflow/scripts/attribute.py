"""Run the stage `attribute` for the training runs of one job."""

from functools import partial
from pathlib import Path

from clarity.locks import open_log

open_log(Path(snakemake.log[0]))

from clarity.stages.pipeline import attribute, each

params = snakemake.params
each(params.runs, partial(attribute, Path(params.root), params.runtime, params.maps))
