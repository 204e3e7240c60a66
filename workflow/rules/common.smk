# Owns what all rules share: the checked config, the grid, paths and parameters; no rules.
import functools
import gc
import os
import shutil
import time
from itertools import product
from pathlib import Path

from snakemake.exceptions import WorkflowError

from clarity import locks
from clarity.config import ConfigError, load_config
from clarity.figures.names import figure_names
from clarity.grid import MAPS, RECORD, SCORES, TRAINED, TRUST, Grid, Run
from clarity.provenance import own_code, stage_hash
from clarity.tables.names import parts_files, table_files

try:
    CONFIG = load_config(config, workflow.configfiles)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Jobs in an environment of their own (--sdm conda) have the libraries, but not CLarity.
os.environ.setdefault("PYTHONPATH", str(Path(workflow.basedir) / "src"))

# The objects of a large grid's jobs live as long as the driver: looking through them for garbage again
# and again takes a fifth of the time of a dry run.
gc.set_threshold(1_000_000)

RESULTS = CONFIG.results.rstrip("/")
DATASET = f"{RESULTS}/dataset={{dataset}}"
RUN = f"{DATASET}/loss={{loss}}/seed={{seed}}"

# A job of attribution or evaluation takes all methods of a model, or the one in its wildcards.
METHODS_OF_A_JOB = list(CONFIG.methods) if CONFIG.jobs == "model" else ["{method}"]
# Names of the axes hold no comma, so no two jobs have one log.
LOG_OF_A_RUN = "{dataset},{loss},{seed}.log"
LOG_OF_A_JOB = LOG_OF_A_RUN if CONFIG.jobs == "model" else "{dataset},{loss},{seed},{method}.log"

# Beyond so many cells the tables are made in two levels.
LARGE = 4000
TWO_LEVELS = len(CONFIG.grid.cells()) > LARGE

# How many jobs the rules have that follow the runs.
FIRST_LEVEL = {
    "gather_models": len(CONFIG.datasets),
    "gather_block": len(CONFIG.datasets) * len(CONFIG.methods),
}
JOBS_AFTER_RUNS = {**(FIRST_LEVEL if TWO_LEVELS else {}), "compare": 1, "figures": 1, "report": 1}

# Locally, GPU jobs share the GPUs; without one the same jobs share the cores. A cluster's profile
# asks for GPUs itself (set-resources).
GPU = int(CONFIG.device != "cpu" and shutil.which("nvidia-smi") is not None)

METRICS = {name: recipe.plain() for name, recipe in CONFIG.metrics.items()}
STORED = {
    "classes": CONFIG.evaluation.classes,
    "memory": CONFIG.evaluation.memory,
    "compress": CONFIG.evaluation.compress,
}
PASSES = {"batch_size": CONFIG.evaluation.batch_size, "memory": CONFIG.evaluation.memory}
RUNTIME = {"device": CONFIG.device, "threads": CONFIG.threads}

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


# The functions below are called for each job: what they return is the same object to all.


@functools.cache
def recipe_of(section, name):
    """Return a recipe of a section of the config, plain; of a dataset, where images come from."""
    recipe = getattr(CONFIG, section)[name]
    return recipe.source_part() if section == "datasets" else recipe.plain()


@functools.cache
def training_of(dataset, loss):
    """Return how a loss is trained on a dataset, plain."""
    return CONFIG.datasets[dataset].training_part(loss)


@functools.cache
def trust_of(dataset):
    """Return what is measured of the models of a dataset, plain."""
    return CONFIG.trust.part(dataset)


def code_of(stage, *recipes):
    """Return a hash of the source of a stage and of the user's own classes that recipes name."""
    return stage_hash(stage) + own_code(recipes)


@functools.cache
def to_train(dataset, loss):
    """Return what training must know of a run, whatever its seed."""
    training, recipe = training_of(dataset, loss), recipe_of("losses", loss)
    return {
        "training": training,
        "recipe": recipe,
        "code": code_of("clarity.stages.train", training, recipe),
    }


@functools.cache
def to_trust(dataset):
    """Return what the stage `trust` must know of the runs of a dataset."""
    return {"recipe": trust_of(dataset), "code": code_of("clarity.stages.trust")}


@functools.cache
def to_attribute(*methods):
    """Return what attribution by some methods must know, whatever the run."""
    recipes = {name: recipe_of("methods", name) for name in methods}
    stage = "clarity.stages.attribute"
    return {
        "methods": recipes,
        "code": {name: code_of(stage, recipe) for name, recipe in recipes.items()},
    }


@functools.cache
def to_evaluate(*methods):
    """Return what the evaluation of some methods must know, whatever the run."""
    recipes = {name: recipe_of("methods", name) for name in methods}
    stage, metrics = "clarity.stages.evaluate", METRICS.values()
    return {
        "methods": recipes,
        "code": {name: code_of(stage, recipe, *metrics) for name, recipe in recipes.items()},
    }


def run_of(wildcards):
    """Return the training run of a job's wildcards."""
    return Run(wildcards.dataset, wildcards.loss, int(wildcards.seed))


@functools.cache
def weights_of(dataset, loss):
    """Return the file of pretrained weights that an encoder begins with, if any."""
    return CONFIG.datasets[dataset].for_loss(loss).encoder.weights or []


@functools.cache
def foreign_to(dataset):
    """Return the images of another dataset that models of this one are tried on, if any."""
    others = trust_of(dataset)["out-of-distribution"].values()
    return [f"{RESULTS}/dataset={other}/data.safetensors" for other in others]


def cells(name, **only):
    """Return the file `name` of every cell of the grid, or of those of one dataset, method or seed."""
    return [f"{RESULTS}/{cell.folder}/{name}" for cell in part_of_grid(only).cells()]


def runs(name, **only):
    """Return the file `name` of every training run of the grid, or of those of one dataset or seed."""
    return [f"{RESULTS}/{run.folder}/{name}" for run in part_of_grid(only).runs()]


def part_of_grid(only):
    """Return the grid with one value only on some of its axes."""
    return Grid(**{**AXES, **{f"{axis}s": [value] for axis, value in only.items()}})


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
    """Return every figure, as SVG and as PNG, and the record of their digests."""
    names = figure_names(CONFIG.datasets, CONFIG.metrics, CONFIG.categories, CONFIG.families)
    return [f"{RESULTS}/figures/{name}" for name in (*names, "manifest.json")]


def compared_files():
    """Return the files that the tables are made from."""
    if TWO_LEVELS:
        blocks = product(CONFIG.datasets, [None, *CONFIG.methods])
        return [f"{RESULTS}/{file}" for block in blocks for file in parts_files(*block)]
    of_runs = ("predictions.parquet", "geometry.parquet", "history.parquet", TRUST)
    return cells(SCORES) + [file for name in of_runs for file in runs(name)]


def whole_runs(dataset, loss, seeds):
    """Return what a job of all stages must know of its runs."""
    methods = tuple(CONFIG.methods)
    return [
        {
            **vars(run),
            "train": to_train(dataset, loss),
            "trust": to_trust(dataset),
            "attribute": to_attribute(*methods),
            "evaluate": to_evaluate(*methods),
        }
        for run in (Run(dataset, loss, seed) for seed in seeds)
    ]


def seeds_of(wildcards, shard):
    """Return the seeds of a job: those of its shard or, if that is one run, the one it is asked for."""
    return shard or [int(wildcards.seed)]


def methods_of(wildcards):
    """Return the names of a job's methods."""
    return [name.format(**wildcards) for name in METHODS_OF_A_JOB]


def hold_results():
    """Keep other drivers from these results while this one makes something there."""
    if not workflow.is_main_process or not any(job.output for job in workflow.dag.needrun_jobs()):
        return
    try:
        if not locks.hold_results(Path(RESULTS)):
            logger.warning(
                f"results: found no locks on the file system of {RESULTS}, so nothing keeps a second "
                f"Snakemake from working there at once: start one only"
            )
    except locks.Busy as error:
        raise WorkflowError(str(error)) from None
    except OSError as error:
        raise WorkflowError(
            f"results: found {RESULTS}, which cannot be written ({error})"
        ) from None
    wait_for_jobs()


def wait_for_jobs():
    """Wait until the jobs have ended that a killed driver left at work; what they make is taken up.

    Not later, since Snakemake deletes the outputs of a job before it starts it.
    """
    told = False
    while left := locks.left_at_work(Path(RESULTS) / "logs"):
        if not told:
            logger.warning(
                f"{len(left)} jobs that an earlier Snakemake left are at work, such as that of "
                f"{left[0]}: they are waited for. Cancel them if you would rather not."
            )
        told = True
        time.sleep(2)
