"""Check a results folder against its digests; to the terminal, since it is no result."""

import sys
from pathlib import Path

from clarity.grid import Grid
from clarity.stages.verify import verify

found = verify(Path(snakemake.params.root), Grid(**snakemake.params.axes))
print(found.told(), flush=True)
if found.wrong:
    sys.exit(1)
