"""Pipeline: owns what a job does for its runs, one stage of them or all, from plain values.

The stages themselves know paths and recipes; here both come from the results root, the run's place
in the grid and what the workflow says of it in plain values.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity import checkpoints, storage
from clarity.attribution.recipe import MethodRecipe
from clarity.data.protocol import Training
from clarity.grid import Cell, Run
from clarity.losses.recipe import LossRecipe
from clarity.metrics.recipe import MetricRecipe
from clarity.tables.run_times import COSTS, JOBS, TRUST_COST
from clarity.trust.recipe import Trust

Plain = Mapping[str, Any]


def each(
    root: Path, name: str, begun: float, runs: Sequence[Plain], work: Callable[..., Iterable[Path]]
) -> None:
    """Work through the runs of a job; one that fails keeps none of the others from being made.

    What the whole process took is left beside what its parts cost.

    Args:
        root: the results root.
        name: of the job.
        begun: when the job began, by `time.perf_counter`.
        runs: of each run ``dataset``, ``loss`` and ``seed``, and what else ``work`` takes by name.
        work: makes the artifacts of a run, takes those up that an earlier try had finished, and
            returns their files.

    Raises:
        ExceptionGroup: what ``work`` raised, each with the run's folder; of a single run what it
            raised itself.
    """
    made: list[Path] = []
    failures: list[Exception] = []
    for asked in runs:
        own = dict(asked)
        run = Run(own.pop("dataset"), own.pop("loss"), own.pop("seed"))
        try:
            made += work(run, **own)
        except Exception as error:
            if len(runs) == 1:
                raise
            error.add_note(f"in {run.folder}")
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(runs)} runs failed", failures)
    checkpoints.drop(made)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = {
        "seconds": time.perf_counter() - begun,
        "runs": len(runs),
        # Linux counts it in KiB, macOS in bytes.
        "peak_mib": peak / (2**20 if sys.platform == "darwin" else 2**10),
    }
    storage.write_json(root / JOBS / f"{name}.json", spent)


def train(
    root: Path, runtime: Plain, run: Run, *, training: Plain, recipe: Plain, code: str
) -> list[Path]:
    """Train a run; see `clarity.stages.train.train_run`."""
    from clarity.stages.train import train_run

    return train_run(
        root / run.data / "data.safetensors",
        root / run.data / "evaluation.safetensors",
        root / run.folder,
        run,
        training=Training(**training),
        loss=LossRecipe(**recipe),
        code=code,
        **runtime,
    )


def trust(root: Path, runtime: Plain, run: Run, *, recipe: Plain, code: str) -> list[Path]:
    """Measure what a run's model is worth beside its accuracy; see `clarity.stages.trust`."""
    from clarity.stages.trust import trust_run

    other = next(iter(recipe["out-of-distribution"].values()), None)
    return trust_run(
        root / run.folder / "model.safetensors",
        root / run.data / "data.safetensors",
        None if other is None else root / f"dataset={other}" / "data.safetensors",
        root / run.folder / "trust.parquet",
        run,
        recipe=Trust(**recipe),
        code=code,
        costs=root / COSTS / run.folder / TRUST_COST,
        **runtime,
    )


def attribute(
    root: Path, runtime: Plain, maps: Plain, run: Run, *, methods: Mapping[str, Plain], code: Plain
) -> list[Path]:
    """Explain a run's model by some methods; see `clarity.stages.attribute`."""
    from clarity.stages.attribute import attribute_run

    return attribute_run(
        root / run.folder / "model.safetensors",
        root / run.data / "evaluation.safetensors",
        root / run.folder / "predictions.parquet",
        {name: root / Cell(run, name).folder / "attributions.safetensors" for name in methods},
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
) -> list[Path]:
    """Score the maps of a run's model by all metrics; see `clarity.stages.evaluate`."""
    from clarity.stages.evaluate import evaluate_run

    cells = {name: root / Cell(run, name).folder for name in methods}
    return evaluate_run(
        root / run.folder / "model.safetensors",
        root / run.data / "evaluation.safetensors",
        {name: cell / "attributions.safetensors" for name, cell in cells.items()},
        {name: cell / "scores.parquet" for name, cell in cells.items()},
        run,
        methods={name: MethodRecipe(**recipe) for name, recipe in methods.items()},
        metrics={name: MetricRecipe(**recipe) for name, recipe in metrics.items()},
        code=code,
        costs=root / COSTS / run.folder,
        **passes,
        **runtime,
    )


def whole(
    root: Path,
    runtime: Plain,
    maps: Plain,
    passes: Plain,
    metrics: Mapping[str, Plain],
    run: Run,
    **stages: Plain,
) -> list[Path]:
    """Do all stages of a run, each of which leaves as it is what is up to date.

    Args:
        root: the results root.
        runtime: device and threads.
        maps: whose maps are made, and how they are stored.
        passes: how many images go through the network at once.
        metrics: the recipe of each metric.
        run: the run's place in the grid.
        stages: what the functions above take by name, by their names.
    """
    return [
        *train(root, runtime, run, **stages["train"]),
        *trust(root, runtime, run, **stages["trust"]),
        *attribute(root, runtime, maps, run, **stages["attribute"]),
        *evaluate(root, runtime, passes, metrics, run, **stages["evaluate"]),
    ]
