"""Pipeline: owns what a job does for its runs, one stage of them or all, from plain values.

The stages themselves know paths and recipes; here both come from the results root, the run's place
in the grid and what the workflow says of it in plain values.
"""

import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity import storage
from clarity.attribution.recipe import MethodRecipe
from clarity.data.protocol import Training
from clarity.grid import MAPS, SCORES, TRUST, Cell, Run
from clarity.losses.recipe import LossRecipe
from clarity.metrics.recipe import MetricRecipe
from clarity.storage import CorruptArtifact
from clarity.tables.run_times import COSTS, JOBS, TRAIN_COST, TRUST_COST
from clarity.trust.recipe import Trust

Plain = Mapping[str, Any]


def each(
    root: Path, name: str, begun: float, runs: Sequence[Plain], work: Callable[..., object]
) -> None:
    """Work through the runs of a job; one that fails keeps none of the others from being made.

    What the whole process took is left beside what its parts cost.

    Args:
        root: the results root.
        name: of the job.
        begun: when the job began, by `time.perf_counter`.
        runs: of each run ``dataset``, ``loss`` and ``seed``, and what else ``work`` takes by name.
        work: makes the artifacts of a run, and takes those up that an earlier try had finished.

    Raises:
        ExceptionGroup: what ``work`` raised, each with the run's folder; of a single run what it
            raised itself.
    """
    start = time.perf_counter() - begun
    failures: list[Exception] = []
    for asked in runs:
        own = dict(asked)
        run = Run(own.pop("dataset"), own.pop("loss"), own.pop("seed"))
        try:
            work(run, **own)
        except Exception as error:
            if len(runs) == 1:
                raise
            error.add_note(f"in {run.folder}")
            # The frames hold tensors of the GPU.
            traceback.clear_frames(error.__traceback__)
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(runs)} runs failed", failures)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = {
        "seconds": time.perf_counter() - begun,
        # Until its work began: libraries.
        "start": start,
        "runs": len(runs),
        # Linux counts it in KiB, macOS in bytes.
        "peak_mib": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }
    storage.write_json(root / JOBS / f"{name}.json", spent)


def train(
    root: Path, runtime: Plain, run: Run, *, training: Plain, recipe: Plain, code: str
) -> None:
    """Train a run; see `clarity.stages.train.train_run`."""
    from clarity.stages.train import train_run

    train_run(
        root / run.data / "data.safetensors",
        root / run.data / "evaluation.safetensors",
        root / run.folder,
        run,
        training=Training(**training),
        loss=LossRecipe(**recipe),
        code=code,
        costs=root / COSTS / run.folder / TRAIN_COST,
        **runtime,
    )


def trust(root: Path, runtime: Plain, run: Run, *, recipe: Plain, code: str) -> None:
    """Measure what a run's model is worth beside its accuracy; see `clarity.stages.trust`."""
    from clarity.stages.trust import trust_run

    other = next(iter(recipe["out-of-distribution"].values()), None)
    trust_run(
        root / run.folder / "model.safetensors",
        root / run.data / "data.safetensors",
        None if other is None else root / f"dataset={other}" / "data.safetensors",
        root / run.folder / TRUST,
        run,
        recipe=Trust(**recipe),
        code=code,
        costs=root / COSTS / run.folder / TRUST_COST,
        **runtime,
    )


def attribute(
    root: Path, runtime: Plain, maps: Plain, run: Run, *, methods: Mapping[str, Plain], code: Plain
) -> None:
    """Explain a run's model by some methods; see `clarity.stages.attribute`."""
    from clarity.stages.attribute import attribute_run

    attribute_run(
        root / run.folder / "model.safetensors",
        root / run.data / "evaluation.safetensors",
        root / run.folder / "predictions.parquet",
        {name: root / Cell(run, name).folder / MAPS for name in methods},
        methods={name: MethodRecipe(**recipe) for name, recipe in methods.items()},
        seed=run.seed,
        code=code,
        costs=root / COSTS / run.folder,
        **maps,
        **runtime,
    )


def evaluate(
    root: Path,
    runtime: Plain,
    passes: Plain,
    metrics: Mapping[str, Plain],
    run: Run,
    *,
    methods: Mapping[str, Plain],
    code: Plain,
) -> None:
    """Score the maps of a run's model by all metrics; see `clarity.stages.evaluate`."""
    from clarity.stages.evaluate import evaluate_run

    cells = {name: root / Cell(run, name).folder for name in methods}
    evaluate_run(
        root / run.folder / "model.safetensors",
        root / run.data / "evaluation.safetensors",
        {name: cell / MAPS for name, cell in cells.items()},
        {name: cell / SCORES for name, cell in cells.items()},
        run,
        methods={name: MethodRecipe(**recipe) for name, recipe in methods.items()},
        metrics={name: MetricRecipe(**recipe) for name, recipe in metrics.items()},
        code=code,
        costs=root / COSTS / run.folder,
        **passes,
        **runtime,
    )


def whole(*args: Any, **stages: Any) -> None:
    """Do all stages of a run, as `_stages` has it; once more if a file is gone meanwhile.

    Snakemake deletes the outputs of a job before it starts it: also of one that then waits for this
    one, its twin, since a killed driver left both. What was finished is then taken up.
    """
    try:
        _stages(*args, **stages)
    except CorruptArtifact as error:
        print(f"{error}\nAll stages are gone through once more.", flush=True)
        _stages(*args, **stages)


def _stages(
    root: Path,
    runtime: Plain,
    maps: Plain,
    passes: Plain,
    metrics: Mapping[str, Plain],
    run: Run,
    **stages: Plain,
) -> None:
    """Do all stages of a run, each of which takes up what is up to date.

    A method that fails keeps none of the others from being evaluated: all they lack then is made.

    Args:
        root: the results root.
        runtime: device and threads.
        maps: whose maps are made, and how they are stored.
        passes: how many images go through the network at once.
        metrics: the recipe of each metric.
        run: the run's place in the grid.
        stages: what the functions above take by name, by their names.
    """
    train(root, runtime, run, **stages["train"])
    trust(root, runtime, run, **stages["trust"])
    try:
        attribute(root, runtime, maps, run, **stages["attribute"])
    except ExceptionGroup:
        asked = stages["evaluate"]
        explained = {
            name: recipe
            for name, recipe in asked["methods"].items()
            if (root / Cell(run, name).folder / MAPS).exists()
        }
        evaluate(root, runtime, passes, metrics, run, **{**asked, "methods": explained})
        raise
    evaluate(root, runtime, passes, metrics, run, **stages["evaluate"])
