"""Benchmark of the size of grids: what Snakemake needs for many cells, without their work.

A dry run of a grid that has nothing yet, the look at a finished one in which nothing is to be done,
and the dry run of one cell by its path. Each is a process of its own, with its seconds and memory.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from clarity.config import load_config

ROOT = Path(__file__).parents[1]

#: Datasets, losses, seeds and methods: 100,000 cells, and the 5,000 that are finished.
LARGE, FINISHED = (4, 25, 100, 10), (4, 25, 5, 10)


#: Runs a command and says how much memory it held. In a small process of its own: the memory of the
#: process that starts another counts as the other's.
WATCH = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def config_of(
    datasets: int, losses: int, seeds: int, methods: int, results: Path
) -> dict[str, Any]:
    """Return a grid with so many entries on each axis, all of them alike."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    scenes = default["datasets"]["scenes"]
    triplets = {
        f"triplet-{n}": {"loss": "TripletMarginLoss", "margin": 0.01 * n} for n in range(1, losses)
    }
    cams = {f"gradcam-{n}": {"method": "LayerGradCam"} for n in range(1, methods)}
    return {
        "results": str(results),
        "seeds": list(range(seeds)),
        "datasets": {f"scenes-{n}": scenes for n in range(datasets)},
        "losses": {"cross-entropy": {}, **triplets},
        "methods": {"random": {"method": "RandomMap"}, **cams},
        "metrics": {
            name: recipe for name, recipe in default["metrics"].items() if "datasets" not in recipe
        },
    }


def measured(config: Path, *arguments: str) -> dict[str, float]:
    """Run Snakemake; return its wall seconds and the most memory that it held, in GiB."""
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
    command = [*snakemake, "--configfile", str(config), *arguments]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        end = done.stderr[-2000:]
        raise RuntimeError(f"snakemake {' '.join(arguments)}: found exit {done.returncode}\n{end}")
    return {"seconds": round(seconds, 2), "gib": round(int(done.stdout) / 2**20, 3)}


def outputs_of(config: Path) -> list[Path]:
    """Return every file that a dry run of a grid would make."""
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--nocolor"]
    done = subprocess.run(
        [*command, "--configfile", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    text = done.stdout + done.stderr
    lines = re.findall(r"^    output: (.*)$", text, re.MULTILINE)
    return [Path(file) for line in lines for file in line.split(", ")]


def scale(scratch: Path) -> dict[str, Any]:
    """Measure all three, and the finished grid by both of Snakemake's records of what it did."""
    files = {}
    for name, axes in (("large", LARGE), ("finished", FINISHED)):
        files[name] = scratch / f"{name}.yaml"
        files[name].write_text(yaml.safe_dump(config_of(*axes, scratch / name), sort_keys=False))
    cell = "dataset=scenes-1/loss=triplet-3/seed=7/method=gradcam-2/scores.parquet"
    found: dict[str, Any] = {
        "dry run of 100,000 cells": measured(files["large"], "-n"),
        "one cell of 100,000 by its path": measured(
            files["large"], "-n", "--", f"{scratch}/large/{cell}"
        ),
    }
    # A finished grid: its files are there, and Snakemake has it on record that it made them.
    for path in outputs_of(files["finished"]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    measured(files["finished"], "--touch")
    found["finished grid of 5,000 cells"] = measured(files["finished"])
    cells = len(load_config(config_of(*FINISHED, scratch)).grid.cells())
    assert cells == 5000, cells
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(scale(Path(folder)))
