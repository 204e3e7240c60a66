"""Status: owns what a grid has and lacks now, read from its files while it may be running.

A file that is there counts as done; whether it is up to date is Snakemake's to say. It takes a look
into each folder, and opens only the logs of what is not there: cheap for a hundred thousand cells.
"""

import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from clarity import locks
from clarity.figures.words import count
from clarity.grid import MAPS, RECORD, SCORES, TRUST, Cell, Grid, Run
from clarity.tables.run_times import COSTS, TRAIN_COST, TRUST_COST, record

#: The stages of a run and those of a cell, with the file that each ends with.
RUN_STAGES = {"train": RECORD, "trust": TRUST}
CELL_STAGES = {"attribute": MAPS, "evaluate": SCORES}
STAGES = (*RUN_STAGES, *CELL_STAGES)
STATES = ("done", "running", "failed", "missing")
COLUMNS = ("dataset", "loss", "stage", *STATES, "total")

#: What a log holds if its job ended by an error.
TRACEBACK = b"Traceback (most recent call last)"
#: Bytes at the end of a log that are looked at.
TAIL = 20_000
#: Records that a mean is taken of: it is an estimate.
RECORDS = 100
#: Seconds over which the pace is measured.
RECENT = 3600.0


@dataclass(frozen=True)
class Failure:
    """A job that ended by an error: its stage, its log and the last line there."""

    stage: str
    log: Path
    words: str


@dataclass(frozen=True)
class Status:
    """What a grid has and lacks.

    Attributes:
        counts: `COLUMNS`: of each dataset, loss and stage, how many runs or cells are what.
        failures: jobs that ended by an error and whose files are not there.
        driver: the Snakemake that works on these results, in words; "" if none does.
        seconds: what is left by stage, in seconds of jobs, where a record tells what one takes.
        pace: jobs at work at once, on average of the last hour; missing if nothing was finished.
    """

    counts: pd.DataFrame
    failures: list[Failure]
    driver: str
    seconds: Mapping[str, float]
    pace: float


def status(
    root: Path,
    grid: Grid,
    *,
    jobs: str,
    shards: int = 1,
    now: float | None = None,
) -> Status:
    """Look at what is there of a grid.

    Args:
        root: the results root.
        grid: the axes.
        jobs: "run" if a job takes all stages of a run, "model" if it takes one stage and all
            methods, "cell" if one method.
        shards: the runs of a job of all stages.
        now: seconds since the epoch; the clock's if not given.
    """
    now = time.time() if now is None else now
    driver = locks.holder(root)
    labels = {seed: label for label, part in grid.shards(shards) for seed in part}
    # A job of all methods has one log for the files of all.
    state_of = functools.cache(functools.partial(_state_of, at_work=bool(driver)))
    states: dict[tuple[str, str, str], dict[str, int]] = {
        (dataset, loss, stage): dict.fromkeys(STATES, 0)
        for dataset in grid.datasets
        for loss in grid.losses
        for stage in STAGES
    }
    finished: dict[str, list[float]] = {stage: [] for stage in STAGES}
    failures: dict[Path, Failure] = {}
    for dataset in grid.datasets:
        log = root / "logs" / "prepare" / f"{dataset}.log"
        if "data.safetensors" not in _listed(root / f"dataset={dataset}"):
            state, words = state_of(log)
            if state == "failed":
                failures[log] = Failure("prepare", log, words)
    for run in grid.runs():
        for stage, method, there, worked in _files(root, run, grid.methods):
            counts = states[run.dataset, run.loss, stage]
            if there:
                counts["done"] += 1
                finished[stage] += [] if worked is None else [worked]
                continue
            log = _log(root, stage, run, method, jobs, labels)
            state, words = state_of(log)
            counts[state] += 1
            if state == "failed":
                failures.setdefault(log, Failure(stage, log, words))
    table = pd.DataFrame(
        [
            {"dataset": d, "loss": loss, "stage": stage, **found, "total": sum(found.values())}
            for (d, loss, stage), found in states.items()
        ],
        columns=list(COLUMNS),
    )
    costs = _costs(root, grid)
    left = table.groupby("stage", sort=False)[["total", "done"]].sum()
    return Status(
        table,
        list(failures.values()),
        driver,
        {stage: (left["total"] - left["done"])[stage] * cost for stage, cost in costs.items()},
        _pace(finished, costs, now),
    )


def told(found: Status) -> str:
    """Write a status as text: a line a dataset and loss, failures, and the time left."""
    rows = [
        {"dataset": dataset, "loss": loss}
        | {row["stage"]: _written(row) for row in block.to_dict("records")}
        for (dataset, loss), block in found.counts.groupby(["dataset", "loss"], sort=False)
    ]
    cells = [["dataset", "loss", *STAGES], *([str(row[c]) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    sums = found.counts[[*STATES, "total"]].sum()
    parts = [f"{sums[state]:,} {state}" for state in STATES if sums[state] or state == "done"]
    lines += ["", f"{', '.join(parts)} of {sums['total']:,} files that stages end with."]
    if found.failures:
        lines += ["", f"{count(len(found.failures), 'job')} failed:"]
        shown = found.failures[:20]
        lines += [f"  {one.log}: {one.words}" for one in shown]
        if len(shown) < len(found.failures):
            lines.append(f"  ... and {len(found.failures) - len(shown):,} more")
    lines += ["", _time_left(found)]
    if found.driver:
        lines.append(f"Snakemake is at work: {found.driver}.")
    return "\n".join(lines)


def _written(row: Mapping[Any, Any]) -> str:
    text = f"{row['done']}/{row['total']}"
    rest = [f"{row[state]} {state}" for state in ("running", "failed") if row[state]]
    return f"{text} ({', '.join(rest)})" if rest else text


def _time_left(found: Status) -> str:
    sums = found.counts.groupby("stage", sort=False)[["done", "total"]].sum()
    unknown = [
        str(stage)
        for stage, row in sums.iterrows()
        if row["done"] < row["total"] and stage not in found.seconds
    ]
    seconds = sum(found.seconds.values())
    if not seconds and not unknown:
        return "Nothing is left to train, explain or evaluate."
    text = f"Left, by what jobs took so far: {duration(seconds)} of one job at a time"
    if found.pace > 0 and seconds:
        text += f", {duration(seconds / found.pace)} at the pace of the last hour"
    if unknown:
        text += f"; not counted, since none was recorded yet: {', '.join(unknown)}"
    return f"{text}."


def duration(seconds: float) -> str:
    """Write a time in hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"


def _files(
    root: Path, run: Run, methods: Iterable[str]
) -> Iterator[tuple[str, str, bool, float | None]]:
    """Yield each stage and method of a run, whether its file is there, and when it was computed.

    That is told by the record of its cost: a file's own time is renewed when it is taken up.
    """
    there, costs = _listed(root / run.folder), _listed(root / COSTS / run.folder)
    for stage, cost in (("train", TRAIN_COST), ("trust", TRUST_COST)):
        yield stage, "", RUN_STAGES[stage] in there, costs.get(cost)
    for method in methods:
        cell = _listed(root / Cell(run, method).folder) if f"method={method}" in there else {}
        for stage, name in CELL_STAGES.items():
            cost = f"{method}.json" if stage == "attribute" else f"{method}-metrics.json"
            yield stage, method, name in cell, costs.get(cost)


def _listed(folder: Path) -> dict[str, float]:
    """Return the names in a folder and when each was changed; nothing if there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_mtime for entry in entries}
    except FileNotFoundError:
        return {}


def _log(
    root: Path, stage: str, run: Run, method: str, jobs: str, labels: Mapping[int, str]
) -> Path:
    """Return the log of a job; the rules name them so."""
    if jobs == "run":
        return root / "logs" / "run" / f"{run.dataset},{run.loss},{labels[run.seed]}.log"
    own = f",{method}" if jobs == "cell" and stage in CELL_STAGES else ""
    return root / "logs" / stage / f"{run.dataset},{run.loss},{run.seed}{own}.log"


def _state_of(log: Path, at_work: bool) -> tuple[str, str]:
    """Return what a log says of a job whose file is not there, and its last line."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            tail = file.read()
    except FileNotFoundError:
        return "missing", ""
    if TRACEBACK in tail:
        # The frames that Python draws around the exceptions of a group say nothing.
        lines = [line.strip(" |+-") for line in tail.decode(errors="replace").splitlines()]
        return "failed", [line for line in lines if line][-1]
    # Killed from outside, a job leaves no word; while a run goes on it may also be at work.
    return ("running", "") if at_work else ("failed", "ended without a word: killed from outside")


def _costs(root: Path, grid: Grid) -> dict[str, float]:
    """Return the mean seconds of a run or cell by stage, of some records."""
    trained: list[float] = []
    trusted: list[float] = []
    explained: list[float] = []
    evaluated: list[float] = []
    for run in grid.runs():
        costs = root / COSTS / run.folder
        _add(trained, costs / TRAIN_COST, lambda cost: cost["seconds"])
        _add(trusted, costs / TRUST_COST, lambda cost: cost["seconds"])
        for method in grid.methods:
            _add(explained, costs / f"{method}.json", lambda cost: cost["seconds"])
            _add(
                evaluated,
                costs / f"{method}-metrics.json",
                lambda cost: sum(one["seconds"] for one in cost.values()),
            )
        if min(map(len, (trained, trusted, explained, evaluated))) >= RECORDS:
            break
    known = {"train": trained, "trust": trusted, "attribute": explained, "evaluate": evaluated}
    return {stage: sum(all_of) / len(all_of) for stage, all_of in known.items() if all_of}


def _add(found: list[float], path: Path, seconds: Any) -> None:
    if len(found) < RECORDS and (cost := record(path)):
        found.append(float(seconds(cost)))


def _pace(finished: Mapping[str, list[float]], costs: Mapping[str, float], now: float) -> float:
    """Return how many seconds of jobs were finished in each second of the last hour."""
    recent = {
        stage: [at for at in times if 0 <= now - at <= RECENT] for stage, times in finished.items()
    }
    done = sum(len(recent[stage]) * cost for stage, cost in costs.items())
    times = [at for stage in costs for at in recent[stage]]
    if len(times) < 2:
        return float("nan")
    span = now - min(times)
    return done / span if span > 0 else float("nan")
