"""Benchmark of a whole grid: `make run`'s command against one script that does the same in turn.

    python bench/grid.py sequential CONFIG RESULTS

The script is what one writes without a workflow: the same stage functions with the same arguments,
called one after the other in one process, which loads the libraries once. It writes the same files,
but for logs.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from clarity.config import Config, load_config
from clarity.data.recipe import dataset_recipe
from clarity.grid import MAPS, SCORES, TRUST, Run
from clarity.provenance import own_code, stage_hash
from clarity.stages.attribute import attribute_run
from clarity.stages.compare import compare_grid
from clarity.stages.evaluate import evaluate_run
from clarity.stages.figures import draw_grid
from clarity.stages.prepare import prepare
from clarity.stages.report import report_grid
from clarity.stages.train import train_run
from clarity.stages.trust import trust_run
from clarity.tables.run_times import COSTS, TRAIN_COST, TRUST_COST
from clarity.trust.recipe import Trust

ROOT = Path(__file__).parents[1]
#: Lines of a log that an error repeats.
LINES = 20

#: What the report tells of a metric; TOLD in workflow/rules/common.smk.
TOLD = ("metric", "category", "direction", "images", "sign", "scale", "softmax", "paper")


def read_config(config: Path, results: Path) -> Config:
    """Check a config file as the Snakefile does, with its results elsewhere."""
    values = yaml.safe_load(config.read_text(encoding="utf-8"))
    return load_config({**values, "results": str(results)}, [config])


def sequential(config: Config) -> None:
    """Make every file of a grid in this process, stage by stage as `workflow/rules` has it."""
    root = Path(config.results)
    # Before any model, since models are also shown the images of another dataset.
    for name, dataset in config.datasets.items():
        prepare(
            root / f"dataset={name}" / "data.safetensors",
            root / f"dataset={name}" / "evaluation.safetensors",
            dataset=name,
            recipe=dataset_recipe(dataset.source_part()),
            data=config.data if dataset.reads_folders else None,
            images=config.evaluation.images,
            scene_images=config.evaluation.scenes,
        )
    for run in config.grid.runs():
        one_run(config, run)
        print(run.folder, flush=True)
    after_runs(config)


def one_run(config: Config, run: Run) -> None:
    """Train, try, explain and evaluate one model."""
    root, asked = Path(config.results), config.evaluation
    folder, data, explained = (
        root / part
        for part in (
            run.folder,
            f"dataset={run.dataset}/data.safetensors",
            f"dataset={run.dataset}/evaluation.safetensors",
        )
    )
    model, costs = folder / "model.safetensors", root / COSTS / run.folder
    device, threads = config.device, config.threads
    methods = {name: recipe.plain() for name, recipe in config.methods.items()}
    metrics = [recipe.plain() for recipe in config.metrics.values()]

    training, loss = config.datasets[run.dataset].for_loss(run.loss), config.losses[run.loss]
    train_run(
        data,
        explained,
        folder,
        run,
        training=training,
        loss=loss,
        code=code_of("train", training.plain(), loss.plain()),
        costs=costs / TRAIN_COST,
        device=device,
        threads=threads,
    )

    tried = Trust(**config.trust.part(run.dataset))
    other = tried.out_of_distribution.get(run.dataset)
    trust_run(
        model,
        data,
        None if other is None else root / f"dataset={other}" / "data.safetensors",
        folder / TRUST,
        run,
        recipe=tried,
        code=code_of("trust"),
        costs=costs / TRUST_COST,
        device=device,
        threads=threads,
    )

    cells = {name: folder / f"method={name}" for name in methods}
    maps = {name: cell / MAPS for name, cell in cells.items()}
    attribute_run(
        model,
        explained,
        folder / "predictions.parquet",
        maps,
        methods=config.methods,
        seed=run.seed,
        classes=asked.classes,
        memory=asked.memory,
        compress=asked.compress,
        code={name: code_of("attribute", plain) for name, plain in methods.items()},
        costs=costs,
        device=device,
        threads=threads,
    )

    evaluate_run(
        model,
        explained,
        maps,
        {name: cell / SCORES for name, cell in cells.items()},
        run,
        methods=config.methods,
        metrics=config.metrics,
        code={name: code_of("evaluate", plain, *metrics) for name, plain in methods.items()},
        costs=costs,
        batch_size=asked.batch_size,
        memory=asked.memory,
        device=device,
        threads=threads,
    )


def code_of(stage: str, *recipes: dict[str, Any]) -> str:
    """Return the hash of a stage's source that the rules give it, which files carry."""
    return stage_hash(f"clarity.stages.{stage}") + own_code(recipes)


def after_runs(config: Config) -> None:
    """Compare all cells, draw the figures and write the report."""
    root, grid, infos = Path(config.results), config.grid, config.metric_infos()
    compared: dict[str, Any] = {
        "metrics": {
            name: {
                "category": known.category,
                "direction": known.direction,
                "verdict": known.verdict,
                "family": config.metrics[name].family,
            }
            for name, known in infos.items()
        },
        "controls": config.controls,
        "statistics": config.statistics.plain(),
        "correct_only": config.evaluation.correct_only,
    }
    compare_grid(root, root / "tables", grid=grid, strict=True, workers=1, **compared)
    draw_grid(root, root / "figures", grid=grid, workers=1, **compared)
    report_grid(
        root,
        root / "report.html",
        grid=grid,
        config=config.plain(),
        metrics={name: {key: getattr(known, key) for key in TOLD} for name, known in infos.items()},
        baseline=config.statistics.baseline,
        families=config.families,
        controls=config.controls,
    )


def timed(command: Sequence[str], log: Path) -> dict[str, float]:
    """Run a command to its end; return its wall seconds and the CPU seconds of all its processes.

    Raises:
        RuntimeError: if it fails, with the last lines of what it printed.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("w") as out:
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        end = "\n".join(log.read_text().splitlines()[-LINES:])
        raise RuntimeError(f"{' '.join(command)}: found exit {done.returncode}, see {log}:\n{end}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(spent, 2)}


def grid(scratch: Path, config: Path = ROOT / "config.yaml", cores: int = 2) -> dict[str, Any]:
    """Measure both ways to make a grid, one after the other, on a machine that does nothing else.

    Args:
        scratch: where both write, each into a folder of its own that is not there yet.
        config: the grid's file.
        cores: cores of Snakemake; the script has one process with the config's threads.

    Returns:
        For both ways the wall and CPU seconds, how many times faster Snakemake is (its cores
        included), the cells and the cores.

    Raises:
        FileExistsError: if there are results already, of which stages would keep what is current.
        RuntimeError: if a way fails, or both do not come to the same scores, byte for byte; so
            do not edit the code meanwhile.
    """
    config = config.resolve()
    roots = {name: scratch.resolve() / name for name in ("sequential", "snakemake")}
    for root in roots.values():
        root.mkdir(parents=True)
    commands = {
        "sequential": [__file__, "sequential", str(config), str(roots["sequential"])],
        "snakemake": [
            *("-m", "snakemake", "--cores", str(cores)),
            *("--configfile", str(config), "--config", f"results={roots['snakemake']}"),
        ],
    }
    # Without it the first way alone would read the libraries from the disk.
    subprocess.run([sys.executable, __file__], cwd=ROOT, check=True)
    found: dict[str, Any] = {
        name: timed([sys.executable, *command], scratch / f"{name}.txt")
        for name, command in commands.items()
    }
    cells = read_config(config, roots["snakemake"]).grid.cells()
    for cell in cells:
        file = f"{cell.folder}/{SCORES}"
        one, other = ((root / file).read_bytes() for root in roots.values())
        if one != other:
            raise RuntimeError(
                f"{file}: found other bytes from Snakemake than from the script. Each file carries "
                f"a hash of the code that made it: was something under src edited meanwhile?"
            )
    return {
        **found,
        "ratio": found["sequential"]["seconds"] / found["snakemake"]["seconds"],
        "cells": len(cells),
        "cores": cores,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["sequential"]:
        sequential(read_config(Path(sys.argv[2]), Path(sys.argv[3])))
