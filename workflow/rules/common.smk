# Owns what all rules share: the checked config, the grid, paths and parameters; no rules.
import os
import shutil
from pathlib import Path

from snakemake.exceptions import WorkflowError

from clarity.config import ConfigError, load_config
from clarity.figures.names import figure_names
from clarity.provenance import own_code, stage_hash
from clarity.tables.names import table_files

try:
    CONFIG = load_config(config, workflow.configfiles)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Jobs in an environment of their own (--sdm conda) have the libraries, but not CLarity.
os.environ.setdefault("PYTHONPATH", str(Path(workflow.basedir) / "src"))

RESULTS = CONFIG.results.rstrip("/")
DATASET = f"{RESULTS}/dataset={{dataset}}"
RUN = f"{DATASET}/loss={{loss}}/seed={{seed}}"

# A job takes all methods of a model or, in a job for each cell, the one in its wildcards.
METHODS_OF_A_JOB = list(CONFIG.methods) if CONFIG.jobs == "model" else ["{method}"]
LOG_OF_A_JOB = "" if CONFIG.jobs == "model" else "-{method}"

# Locally, GPU jobs share the GPUs; without one the same jobs share the cores. A cluster's profile
# asks for GPUs itself (set-resources).
GPU = int(CONFIG.device != "cpu" and shutil.which("nvidia-smi") is not None)

# What the stages after evaluation must know of the grid.
AXES = {
    "datasets": list(CONFIG.datasets),
    "losses": list(CONFIG.losses),
    "seeds": CONFIG.seeds,
    "methods": list(CONFIG.methods),
}
COMPARED = {
    "metrics": {
        name: {
            "category": known.category,
            "direction": known.direction,
            "verdict": known.verdict,
            "family": CONFIG.metrics[name].family,
        }
        for name, known in CONFIG.metric_infos().items()
    },
    "controls": CONFIG.controls,
    "statistics": CONFIG.statistics.plain(),
    "correct_only": CONFIG.evaluation.correct_only,
}
# What the report tells of a metric.
TOLD = ("metric", "category", "direction", "images", "sign", "scale", "softmax", "paper")
SHOWN = {
    "metrics": {
        name: {key: getattr(known, key) for key in TOLD}
        for name, known in CONFIG.metric_infos().items()
    },
    "baseline": CONFIG.statistics.baseline,
    "families": CONFIG.families,
    "controls": CONFIG.controls,
}


wildcard_constraints:
    dataset="|".join(map(re.escape, CONFIG.datasets)),
    loss="|".join(map(re.escape, CONFIG.losses)),
    method="|".join(map(re.escape, CONFIG.methods)),
    seed="|".join(map(str, CONFIG.seeds)),


def code_of(stage, *recipes):
    """Return a hash of the source of a stage and of the user's own classes that recipes name."""
    return stage_hash(stage) + own_code(recipes)


def methods_of(wildcards):
    """Return the recipes of a job's methods, by name."""
    names = [name.format(**wildcards) for name in METHODS_OF_A_JOB]
    return {name: CONFIG.methods[name].plain() for name in names}


def cells(name):
    """Return the file `name` of every cell of the grid."""
    return [f"{RESULTS}/{cell.folder}/{name}" for cell in CONFIG.grid.cells()]


def runs(name):
    """Return the file `name` of every training run of the grid."""
    return [f"{RESULTS}/{run.folder}/{name}" for run in CONFIG.grid.runs()]


def shown_cells(name):
    """Return the file `name` of every cell of the first seed, which the report lets one look at."""
    grid = CONFIG.grid
    shown = [cell for cell in grid.cells() if cell.run.seed == grid.seeds[0]]
    return [f"{RESULTS}/{cell.folder}/{name}" for cell in shown]


def evaluation_sets():
    """Return the evaluation set of every dataset."""
    return [f"{RESULTS}/dataset={name}/evaluation.safetensors" for name in CONFIG.datasets]


def tables():
    """Return every file of the tables: parquet, CSV, some as LaTeX, and their README."""
    return [f"{RESULTS}/tables/{name}" for name in table_files()]


def in_report(files, kind, category):
    """Mark the files of a kind for Snakemake's own report, captioned by the first part of the name."""
    marked = []
    for file in files:
        name = Path(file).stem
        shown = name.partition("-")[0] if category == "Figures" else name
        caption = f"../report/{category.lower()}/{shown}.rst"
        places = {"category": category, "subcategory": shown, "labels": {"name": name}}
        chosen = report(file, caption=caption, **places) if file.endswith(kind) else file
        marked.append(chosen)
    return marked


def figures():
    """Return every figure, as SVG and as PNG."""
    names = figure_names(CONFIG.datasets, CONFIG.metrics, CONFIG.categories, CONFIG.families)
    return [f"{RESULTS}/figures/{name}" for name in names]
