"""Promises of the status: each file counts once, as what it is, and the time left follows."""

import contextlib
import fcntl
import json
import os
from pathlib import Path

import pytest

from clarity import locks, storage
from clarity.grid import Cell, Grid, Run
from clarity.stages.status import status, told
from clarity.tables.run_times import TRAIN_COST

GRID = Grid(["d"], ["ce", "triplet"], [0, 1], ["cam", "ig"])
NOW = 1_000_000.0


def touch(path: Path, text: str = "", age: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW - age, NOW - age))


@pytest.fixture
def root(tmp_path):
    """All of cross-entropy, and of triplet one run that is half way."""
    results = tmp_path / "results"
    storage.write_json(results / "dataset=d/data.safetensors", {})
    for seed in (0, 1):
        finish(results, Run("d", "ce", seed), age=600)
    finish(results, Run("d", "triplet", 0), methods=("cam",), stages=("attributions.safetensors",))
    return results


def finish(
    root: Path,
    run: Run,
    *,
    methods=("cam", "ig"),
    stages=("attributions.safetensors", "scores.parquet"),
    age: float = 0.0,
) -> None:
    # Files' own times are renewed by jobs that only take them up.
    touch(root / run.folder / "manifest.json")
    touch(root / run.folder / "trust.parquet")
    costs = root / "logs/costs" / run.folder
    records = {TRAIN_COST: {"seconds": 100.0}}
    for method in methods:
        for name in stages:
            touch(root / Cell(run, method).folder / name)
        records[f"{method}.json"] = {"seconds": 10.0, "status": "ok"}
        if "scores.parquet" in stages:
            records[f"{method}-metrics.json"] = {"a": {"seconds": 15.0}, "b": {"seconds": 5.0}}
    for name, cost in records.items():
        touch(costs / name, json.dumps(cost), age)


def look(root: Path, jobs: str = "cell"):
    return status(root, GRID, jobs=jobs, now=NOW)


def counts(found) -> dict:
    table = found.counts.set_index(["loss", "stage"])
    return {
        key: tuple(row) for key, row in table[["done", "running", "failed", "missing"]].iterrows()
    }


def test_what_is_there_is_done_and_the_rest_is_missing(root):
    found = look(root)
    assert counts(found) == {
        ("ce", "train"): (2, 0, 0, 0),
        ("ce", "trust"): (2, 0, 0, 0),
        ("ce", "attribute"): (4, 0, 0, 0),
        ("ce", "evaluate"): (4, 0, 0, 0),
        ("triplet", "train"): (1, 0, 0, 1),
        ("triplet", "trust"): (1, 0, 0, 1),
        ("triplet", "attribute"): (1, 0, 0, 3),
        ("triplet", "evaluate"): (0, 0, 0, 4),
    }
    assert found.failures == []
    assert "17 done, 9 missing" not in told(found)
    assert "15 done, 9 missing of 24 files" in told(found)


def test_a_traceback_is_a_failure_and_its_last_line_is_told(root):
    log = root / "logs/attribute/d,triplet,0,ig.log"
    group = "  + Exception Group Traceback (most recent call last):\n  | ValueError: no\n  +---\n"
    touch(log, f"working\n{group}")
    found = look(root)
    assert counts(found)["triplet", "attribute"] == (1, 0, 1, 2)
    (failure,) = found.failures
    assert (failure.stage, failure.log, failure.words) == ("attribute", log, "ValueError: no")
    assert f"{log}: ValueError: no" in told(found)
    # A log of what is there says nothing.
    touch(root / "logs/train/d,ce,0.log", "Traceback (most recent call last):\nOld: error")
    assert len(look(root).failures) == 1


def test_a_job_of_all_methods_fails_once_for_all_its_files(root):
    touch(root / "logs/attribute/d,triplet,1.log", "Traceback (most recent call last):\nE: x\n")
    found = look(root, jobs="model")
    assert counts(found)["triplet", "attribute"] == (1, 0, 2, 1)
    assert len(found.failures) == 1


@pytest.mark.parametrize(("driven", "state"), [(True, 1), (False, 2)])
def test_a_log_without_an_error_is_a_job_at_work_only_while_a_driver_is(root, driven, state):
    touch(root / "logs/train/d,triplet,1.log", "epoch 3\n")
    with contextlib.ExitStack() as held:
        if driven:
            file = held.enter_context(open(root / locks.RESULTS, "w+"))
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write('{"process": 7, "host": "h", "since": "noon"}')
            file.flush()
        found = look(root)
    assert counts(found)["triplet", "train"][state] == 1
    assert ("Snakemake is at work: process 7 on h, since noon." in told(found)) == driven


def test_a_job_of_all_stages_has_one_log_for_the_runs_of_its_shard(root):
    touch(
        root / "logs/run/d,triplet,0-1.log", "Traceback (most recent call last):\nKeyError: 'x'\n"
    )
    found = status(root, GRID, jobs="run", shards=2, now=NOW)
    assert counts(found)["triplet", "train"] == (1, 0, 1, 0)
    assert counts(found)["triplet", "evaluate"] == (0, 0, 4, 0)
    assert [(one.log.name, one.words) for one in found.failures] == [
        ("d,triplet,0-1.log", "KeyError: 'x'")
    ]


def test_data_that_could_not_be_prepared_are_a_failure(root):
    (root / "dataset=d/data.safetensors").unlink()
    touch(root / "logs/prepare/d.log", "Traceback (most recent call last):\nOSError: no disk\n")
    assert [failure.words for failure in look(root).failures] == ["OSError: no disk"]


def test_the_time_left_is_that_of_what_is_missing(root):
    found = look(root)
    # 1 training of 100 s, 3 methods of 10 s, 4 evaluations of 20 s.
    assert found.seconds == {"train": 100.0, "attribute": 30.0, "evaluate": 80.0}
    assert "4 min of one job at a time" in told(found)
    # In the last 600 s: 3 trainings, 5 methods, 4 evaluations.
    assert found.pace == pytest.approx((300 + 50 + 80) / 600)
    assert "at the pace of the last hour" in told(found)


def test_a_finished_grid_and_an_empty_one_say_so(root):
    for seed in (0, 1):
        finish(root, Run("d", "triplet", seed))
    assert "Nothing is left" in told(look(root))
    empty = look(root / "nothing")
    assert empty.counts["missing"].sum() == 24
    assert "none was recorded yet: train, trust, attribute, evaluate" in told(empty)


def test_a_stage_without_a_record_is_named_and_not_counted(root):
    assert "none was recorded yet: trust" in told(look(root))
