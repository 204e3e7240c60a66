"""Benchmark of the tables: score files of the real layout, seconds and memory to compare them."""

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clarity import storage
from clarity.grid import Grid
from clarity.statistics.settings import Metric, Settings
from clarity.tables.build import build_tables
from clarity.tables.write import write_tables

IMAGES, METRICS = 50, 20
#: Rows, and the seeds of 4 datasets x 5 losses x 10 methods that make them.
SIZES = {10**5: (1, 1), 10**6: (2, 25), 10**7: (4, 50)}


def write_grid(root: Path, grid: Grid, images: int, metrics: int) -> None:
    """Write random results: scores, predictions, geometry, trust and history of every run."""
    rng = np.random.default_rng(0)
    image = np.tile(np.arange(images, dtype=np.int32), metrics)
    names = np.repeat([f"metric-{place}" for place in range(metrics)], images)
    predictions = pd.DataFrame(
        {
            "split": np.repeat(["test", "evaluation"], images),
            "image": np.tile(np.arange(images, dtype=np.int32), 2),
            "second_label": -1,
            "correct": True,
            "correct_prototype": True,
        }
    )
    measured = pd.DataFrame(
        {"measure": ["silhouette"], "value": [0.5], "direction": ["higher"], "reason": [""]}
    )
    for run in grid.runs():
        folder = root / run.folder
        predictions["correct"] = rng.random(2 * images) < 0.95
        told = {"status": "ok", "epoch": "1", "reason": ""}
        storage.write_table(folder / "predictions.parquet", predictions, told)
        measured["value"] = rng.random()
        storage.write_table(folder / "geometry.parquet", measured)
        storage.write_table(
            folder / "trust.parquet", measured.assign(measure="ece", group="calibration")
        )
        storage.write_table(folder / "history.parquet", pd.DataFrame({"images_seen": [100]}))
        for method in grid.methods:
            value = rng.normal(size=images * metrics)
            frame = pd.DataFrame(
                {"image": image, "metric": names, "value": value, "status": "ok", "reason": ""}
            )
            storage.write_table(folder / f"method={method}" / "scores.parquet", frame)


def measure(root: Path, rows: int, workers: int) -> dict[str, Any]:
    """Build and write all tables of a random grid of so many scores; return seconds and memory."""
    datasets, seeds = SIZES[rows]
    cells = rows // (IMAGES * METRICS)
    methods = cells // (datasets * 5 * seeds)
    grid = Grid(
        [f"d{i}" for i in range(datasets)],
        [f"loss-{i}" for i in range(5)],
        range(seeds),
        [f"method-{i}" for i in range(methods)],
    )
    write_grid(root, grid, IMAGES, METRICS)
    infos = {
        f"metric-{i}": Metric("contrastivity" if i < 5 else f"category-{i % 5}", "higher", i < 3)
        for i in range(METRICS)
    }
    start = time.perf_counter()
    tables = build_tables(root, grid, infos, "loss-0", settings=Settings(), workers=workers)
    built = time.perf_counter() - start
    write_tables(tables, root / "tables")
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return {
        "rows": rows,
        "cells": len(grid.cells()),
        "comparisons": len(tables["comparisons"]),
        "seconds_built": round(built, 2),
        "seconds": round(time.perf_counter() - start, 2),
        "gib": round(sum(resource.getrusage(kind).ru_maxrss for kind in kinds) / 2**20, 2),
        "workers": workers,
    }


def aggregation(scratch: Path, sizes: list[int], workers: int = 2) -> list[dict[str, Any]]:
    """Measure each size in a process of its own, so that memory is that of the size alone."""
    found = []
    for rows in sizes:
        root = scratch / f"rows-{rows}"
        done = subprocess.run(
            [sys.executable, __file__, str(root), str(rows), str(workers)],
            check=True,
            capture_output=True,
            text=True,
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
        shutil.rmtree(root)
    return found


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
