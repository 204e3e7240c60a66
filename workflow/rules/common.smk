# Owns what all rules share: the checked config, the grid, paths and parameters; no rules.
from clarity.config import load_config
from clarity.figures.names import figure_names
from clarity.provenance import stage_hash
from clarity.tables.names import TABLES

CONFIG = load_config(
    config, files=[*workflow.configfiles, *(workflow.config_settings.configfiles or [])]
)
GRID = CONFIG.grid
RESULTS = CONFIG.results.rstrip("/")
DATASET = f"{RESULTS}/dataset={{dataset}}"
RUN = f"{DATASET}/loss={{loss}}/seed={{seed}}"
CELL = f"{RUN}/method={{method}}"


wildcard_constraints:
    dataset="|".join(map(re.escape, CONFIG.datasets)),
    loss="|".join(map(re.escape, CONFIG.losses)),
    method="|".join(map(re.escape, CONFIG.methods)),
    seed=r"\d+",


def cells(name):
    """Return the file `name` of every cell of the grid."""
    return [f"{RESULTS}/{cell.folder}/{name}" for cell in GRID.cells()]


def runs(name):
    """Return the file `name` of every training run of the grid."""
    return [f"{RESULTS}/{run.folder}/{name}" for run in GRID.runs()]


def tables(*names):
    """Return the named tables, or all, as CSV files."""
    return [f"{RESULTS}/tables/{name}.csv" for name in names or TABLES]


def figures():
    """Return every figure, as SVG and as PNG."""
    names = figure_names(list(CONFIG.datasets), list(CONFIG.metrics))
    return [f"{RESULTS}/figures/{name}" for name in names]
