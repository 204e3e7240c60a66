"""Promises of checkpoints: what a job had finished is taken up again, and nothing else is."""

import os

import numpy as np
import pandas as pd
import pytest

from clarity import checkpoints, storage
from clarity.grid import Run
from clarity.stages.pipeline import each
from clarity.tables.run_times import JOBS

FRAME = pd.DataFrame({"image": [0, 1]})


def write(path, mark: str) -> None:
    if path.suffix == ".parquet":
        storage.write_table(path, FRAME, {"fingerprint": mark})
    else:
        storage.write_tensors(path, {"x": np.arange(3.0)}, {"fingerprint": mark})


@pytest.mark.parametrize("name", ["t.safetensors", "t.parquet"])
def test_only_the_fingerprint_that_made_a_whole_file_makes_it_current(tmp_path, name):
    path = tmp_path / name
    assert not checkpoints.is_current(path, "f")
    write(path, "f")
    assert checkpoints.is_current(path, "f")
    assert not checkpoints.is_current(path, "g")
    content = path.read_bytes()
    for damaged in (content[:20], b"", content[:-9] + b"X" + content[-8:]):
        path.write_bytes(damaged)
        assert not checkpoints.is_current(path, "f")


def test_a_run_is_current_only_with_the_very_files_that_its_record_names(tmp_path):
    model, record = tmp_path / "model.safetensors", tmp_path / "manifest.json"
    write(model, "")
    told = {"fingerprint": "f", "files": {model.name: storage.digest(model)}}
    storage.write_record(record, told)
    assert checkpoints.is_current(record, "f")
    assert not checkpoints.is_current(record, "g")
    write(model, "another, whole but not the one")
    assert not checkpoints.is_current(record, "f")
    model.unlink()
    assert not checkpoints.is_current(record, "f")


@pytest.mark.parametrize("links", [True, False])
def test_what_was_kept_comes_back_however_often_it_is_deleted(tmp_path, links, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "t.parquet"
    write(path, "f")
    written = path.read_bytes()
    checkpoints.keep([path])
    checkpoints.keep([path])
    for _ in range(2):
        path.unlink()
        assert checkpoints.take_up([path], "f")
        assert path.read_bytes() == written
    assert {file.name for file in tmp_path.iterdir()} == {"t.parquet", ".t.parquet.kept"}


def test_what_was_made_otherwise_is_not_left_where_something_else_is_to_be(tmp_path):
    path = tmp_path / "t.parquet"
    write(path, "old")
    checkpoints.keep([path])
    assert not checkpoints.take_up([path], "new")
    assert not path.exists(), "a stage that fails now leaves nothing there"
    assert checkpoints.take_up([path], "old"), "for whoever wants it so again"
    write(path, "new")
    assert checkpoints.take_up([path], "new")
    checkpoints.keep([path])
    path.unlink()
    assert checkpoints.take_up([path], "new")


def test_a_file_that_was_damaged_in_place_is_not_taken_for_what_it_was(tmp_path):
    """A second name is of the same bytes."""
    path = tmp_path / "t.parquet"
    write(path, "f")
    checkpoints.keep([path])
    path.write_bytes(b"damaged in place")
    assert not checkpoints.take_up([path], "f")
    assert not path.exists()


def test_a_run_comes_back_whole_or_not_at_all(tmp_path):
    model, record = tmp_path / "model.safetensors", tmp_path / "manifest.json"
    write(model, "")
    told = {"fingerprint": "f", "files": {model.name: storage.digest(model)}}
    storage.write_record(record, told)
    checkpoints.keep([model, record])
    model.unlink()
    record.unlink()
    assert checkpoints.take_up([model, record], "f")
    assert storage.digest(model) == told["files"][model.name]
    checkpoints.kept(model).unlink()
    model.unlink()
    assert not checkpoints.take_up([model, record], "f")
    assert not record.exists()


RUNS = [{"dataset": "d", "loss": "l", "seed": seed, "factor": 10} for seed in range(3)]


def test_a_job_makes_the_other_runs_when_one_fails_and_the_next_try_makes_that_one_alone(tmp_path):
    made: list[int] = []
    broken = {1}

    def work(run: Run, *, factor: int) -> None:
        path = tmp_path / run.folder / "t.parquet"
        if not checkpoints.take_up([path], "f"):
            if run.seed in broken:
                raise RuntimeError(f"seed {run.seed * factor}")
            write(path, "f")
            checkpoints.keep([path])
            made.append(run.seed)

    with pytest.raises(ExceptionGroup, match="1 of 3 runs failed") as failure:
        each(tmp_path, "job", 0.0, RUNS, work)
    (error,) = failure.value.exceptions
    assert str(error) == "seed 10"
    assert error.__notes__ == ["in dataset=d/loss=l/seed=1"]
    assert made == [0, 2]
    # What Snakemake does with the outputs of a failed job.
    for path in tmp_path.rglob("t.parquet"):
        path.unlink()
    broken.clear()
    each(tmp_path, "job", 0.0, RUNS, work)
    assert made == [0, 2, 1]
    assert len(list(tmp_path.rglob("t.parquet"))) == 3
    taken = storage.read_json(tmp_path / JOBS / "job.json")
    assert taken["runs"] == 3
    assert taken["seconds"] > 0


def test_a_single_run_that_fails_says_what_it_said_itself(tmp_path):
    def work(run: Run, *, factor: int) -> None:
        raise KeyError(run.folder)

    with pytest.raises(KeyError, match="seed=0"):
        each(tmp_path, "job", 0.0, RUNS[:1], work)
