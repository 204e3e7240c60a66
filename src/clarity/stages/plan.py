"""Plan: owns what a grid will need before it starts: jobs, hours, files and bytes.

From records of what jobs cost that ran already: of these results (one seed of each dataset and loss
is enough) or of others. What no record tells is named, not guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean

import pandas as pd

from clarity.figures.words import count
from clarity.grid import RECORD, TRAINED, Grid
from clarity.stages.status import duration
from clarity.tables.run_times import COSTS, JOBS, STAGES, record, run_times

#: Files whose size is looked at, of each kind.
SAMPLE = 50


@dataclass
class Plan:
    """What a grid needs.

    Attributes:
        cells: of the grid.
        jobs: of each rule.
        hours: of jobs by stage, as far as records tell.
        unknown: what no record tells the cost of, by stage.
        files: that the grid will have.
        size: bytes of these, as far as files that are there tell.
        device: what the records are of, such as the name of a GPU.
    """

    cells: int
    jobs: dict[str, int]
    hours: dict[str, float] = field(default_factory=dict)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    files: int = 0
    size: float = 0.0
    device: str = ""

    def told(self, threads: int) -> str:
        """Return it as text.

        Args:
            threads: of each job.
        """
        jobs = ", ".join(f"{number:,} {rule}" for rule, number in self.jobs.items())
        lines = [f"{self.cells:,} cells in {count(sum(self.jobs.values()), 'job')}: {jobs}."]
        if self.hours:
            total = sum(self.hours.values())
            on = "GPU" if self.device.startswith("cuda") else "core"
            each = 1 if on == "GPU" else threads
            parts = ", ".join(f"{stage} {_hours(each * h)}" for stage, h in self.hours.items())
            lines.append(
                f"{_hours(each * total)} of one {on} ({parts}), by what jobs took on "
                f"{self.device or 'an unknown device'}."
            )
            for workers in (w for w in (8, 100, 1000) if w < sum(self.jobs.values())):
                wall = duration(3600 * total / workers)
                lines.append(f"  with {workers:,} jobs at a time: {wall} or more")
        unit, name = (1e9, "GB") if self.size >= 1e9 else (1e6, "MB")
        size = f"{self.size / unit:,.1f} {name}" if self.size else "nobody knows how large yet"
        lines.append(f"{self.files:,} files, {size}.")
        for stage, names in self.unknown.items():
            lines.append(f"Not counted, since no record tells it: {stage} of {', '.join(names)}.")
        if self.unknown:
            lines.append(
                "Run one seed of each first (the same config with `seeds: [0]`), or name other "
                "results with such records: --config costs=FOLDER."
            )
        return "\n".join(lines)


def plan(
    root: Path,
    grid: Grid,
    metrics: Sequence[str],
    *,
    jobs: str,
    shards: int,
    rules: Mapping[str, int],
) -> Plan:
    """Work out what a grid needs.

    Args:
        root: the results root whose records tell what things cost.
        grid: the axes.
        metrics: their names.
        jobs: as in the config.
        shards: as in the config.
        rules: of the rules that follow how many jobs each has.
    """
    runs, cells = len(grid.runs()), len(grid.cells())
    found = Plan(cells, {"prepare": len(grid.datasets), **_jobs(grid, jobs, shards)})
    found.jobs |= rules
    found.files = 2 * len(grid.datasets) + (len(TRAINED) + 2) * runs + 2 * cells
    times = run_times(root, grid)
    gone = _unavailable(root, grid)
    for stage, asked in _asked(grid, metrics).items():
        wanted = [one for one in asked if (one["dataset"], one.get("method")) not in gone]
        _add(found, stage, wanted, times[times["stage"] == stage], len(grid.seeds))
    if start := _start(root):
        started = sum(found.jobs[rule] for rule in _jobs(grid, jobs, shards))
        found.hours["start of jobs"] = start * started / 3600
    found.size = _size(root, grid)
    manifests = (record(root / run.folder / RECORD) for run in grid.runs())
    found.device = next((told["device"] for told in manifests if told.get("device")), "")
    return found


def _jobs(grid: Grid, jobs: str, shards: int) -> dict[str, int]:
    runs = len(grid.runs())
    if jobs == "run":
        return {"run": len(grid.datasets) * len(grid.losses) * len(grid.shards(shards))}
    parts = runs if jobs == "model" else len(grid.cells())
    return {"train": runs, "trust": runs, "attribute": parts, "evaluate": parts}


def _asked(grid: Grid, metrics: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Return what each seed needs once, by stage, as the keys of its row among the run times."""
    of_runs = [{"dataset": d, "loss": loss} for d in grid.datasets for loss in grid.losses]
    of_cells = [{**run, "method": method} for run in of_runs for method in grid.methods]
    of_scores = [{**cell, "metric": metric} for cell in of_cells for metric in metrics]
    return dict(zip(STAGES, (of_runs, of_runs, of_cells, of_scores), strict=True))


def _unavailable(root: Path, grid: Grid) -> set[tuple[str, str | None]]:
    """Return the datasets and methods whose maps could not be made, by records of one seed."""
    told: dict[tuple[str, str | None], set[str]] = {}
    for run in replace(grid, seeds=grid.seeds[:1]).runs():
        for method in grid.methods:
            known = record(root / COSTS / run.folder / f"{method}.json")
            if known:
                told.setdefault((run.dataset, method), set()).add(known["status"])
    # Of a loss that failed to train no method has maps.
    return {place for place, found in told.items() if found == {"unavailable"}}


def _add(
    found: Plan, stage: str, asked: Sequence[Mapping[str, str]], times: pd.DataFrame, seeds: int
) -> None:
    """Add what a stage needs: what the same thing took, or the same on other datasets.

    A metric with a record of other datasets, but none of one that has records, is none of this
    dataset, such as one that needs masks.
    """
    keys = [key for key in ("loss", "method", "metric") if times[key].ne("").any()]
    exact = times.set_index(["dataset", *keys])["seconds"].to_dict() if keys else {}
    known_datasets = set(times["dataset"])
    general = times.groupby(keys)["seconds"].mean().to_dict() if keys else {}
    total = 0.0
    for one in asked:
        own = tuple(one[key] for key in keys)
        place = own if len(own) != 1 else own[0]
        if (one["dataset"], *own) in exact:
            total += exact[one["dataset"], *own]
        elif keys and one["dataset"] not in known_datasets and place in general:
            total += general[place]
        elif stage in STAGES[:3] or place not in general:
            name = " ".join(str(one[key]) for key in ("dataset", *(keys or ["loss"])) if key in one)
            names = found.unknown.setdefault(stage, [])
            if name not in names:
                names.append(name)
    if total:
        found.hours[stage] = total * seeds / 3600


def _start(root: Path) -> float:
    """Return the mean seconds until a job's work begins."""
    files = islice((root / JOBS).glob("*.json"), SAMPLE)
    starts = [float(told["start"]) for told in map(record, files) if "start" in told]
    return fmean(starts) if starts else 0.0


def _size(root: Path, grid: Grid) -> float:
    """Return the bytes of all files by the mean size of those that are there."""
    total = 0.0
    for dataset in grid.datasets:
        total += _bytes(root / f"dataset={dataset}")
        own = replace(grid, datasets=[dataset])
        for folders in (
            [root / run.folder for run in own.runs()],
            [root / cell.folder for cell in own.cells()],
        ):
            there = islice((folder for folder in folders if folder.is_dir()), SAMPLE)
            sizes = [_bytes(folder) for folder in there]
            total += fmean(sizes) * len(folders) if sizes else 0.0
    return total


def _bytes(folder: Path) -> int:
    # Second names (`clarity.checkpoints`) begin with a dot and take no room of their own.
    files = (file for file in folder.glob("*.*") if not file.name.startswith("."))
    return sum(file.stat().st_size for file in files)


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
