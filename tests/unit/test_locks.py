"""Promises of locks: one works at a time, and whoever ends, however, leaves nothing to unlock."""

import errno
import fcntl
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest

from clarity import locks, runtime

#: A process that holds something until its input ends.
HOLDER = """
import sys
from pathlib import Path
from clarity import locks
{work}
print(found, file=sys.__stdout__, flush=True)
sys.stdin.read()
"""


class Holders:
    """Processes that hold locks, ended with the test."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen] = []

    def __call__(self, work: str) -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(work=textwrap.dedent(work))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.all.append(process)
        return process, process.stdout.readline().strip()


@pytest.fixture
def hold():
    holders = Holders()
    yield holders
    for process in holders.all:
        process.kill()
        process.wait()


def test_results_have_one_driver_until_it_ends_by_whatever(tmp_path, hold):
    root = tmp_path / "results"
    assert locks.holder(root) == ""
    process, _ = hold(f"found = locks.hold_results(Path({str(root)!r}))")
    with pytest.raises(locks.Busy, match=rf"process {process.pid} on .*, since 20") as busy:
        locks.hold_results(root)
    assert str(root) in str(busy.value)
    assert f"process {process.pid}" in locks.holder(root)
    process.kill()
    process.wait()
    assert locks.holder(root) == ""
    process, _ = hold(f"found = locks.hold_results(Path({str(root)!r}))")
    assert f"process {process.pid}" in locks.holder(root)


def test_a_job_waits_for_its_twin_and_then_has_the_log_alone(tmp_path, hold):
    log = tmp_path / "logs" / "job.log"
    work = f"""
    locks.open_log(Path({str(log)!r}))
    print("line of", {{}})
    found = "there"
    """
    first, said = hold(work.format("'the first'"))
    assert said == "there"
    assert log.read_text() == "line of the first\n"
    assert locks.left_at_work(tmp_path) == [log]
    log.unlink()  # as Snakemake does before it starts a job
    second = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(work=textwrap.dedent(work.format("'the second'")))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    hold.all.append(second)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(2)
    assert not log.exists()
    first.kill()
    assert second.stdout.readline().strip() == "there"
    assert log.read_text() == "line of the second\n"
    second.kill()
    second.wait()
    assert locks.left_at_work(tmp_path) == []


def test_processes_spread_over_gpus_and_a_freed_one_is_taken_next(tmp_path, hold):
    names = ["0", "1", "2"]
    work = f"found = locks.hold_least_used({names}, Path({str(tmp_path)!r}))"
    taken = [hold(work) for _ in range(7)]
    assert [int(place) for _, place in taken] == [0, 1, 2, 0, 1, 2, 0]
    process, _ = taken[4]
    process.kill()
    process.wait()
    assert hold(work)[1] == "1"
    counts = Counter(place for process, place in taken if process.poll() is None)
    assert max(counts.values()) - min(counts.values()) <= 2


def test_a_file_system_without_locks_is_worked_on_without(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(locks.WITHOUT[0], "no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "_held", [])
    assert not locks.hold_results(tmp_path)
    assert (tmp_path / locks.RESULTS).exists()
    assert locks.holder(tmp_path) == ""


def test_whoever_asks_for_the_driver_wants_no_right_to_write_and_keeps_nobody_out(
    tmp_path, monkeypatch
):
    """Network file systems give an exclusive lock on files alone that are open for writing."""
    (tmp_path / locks.RESULTS).write_text("")
    given = locks.fcntl.flock

    def flock(file, kind: int) -> None:
        if kind & fcntl.LOCK_EX and not file.writable():
            raise OSError(errno.EBADF, "bad file descriptor")
        given(file, kind)

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_held", [])
    assert locks.holder(tmp_path) == ""
    with open(tmp_path / locks.RESULTS) as looking:
        flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, looking.close).start()
        assert locks.hold_results(tmp_path)


@pytest.mark.parametrize(
    ("visible", "seen", "wanted"),
    [
        (None, 4, ["0", "1", "2", "3"]),
        ("", 1, ["0"]),
        ("2, 3", 2, ["2", "3"]),
        ("GPU-5f0c,GPU-77aa", 2, ["GPU-5f0c", "GPU-77aa"]),
        ("1,-1,2", 1, ["1"]),  # CUDA stops at the first that is none
    ],
)
def test_a_gpu_has_one_name_in_all_processes_whatever_they_see_of_it(
    monkeypatch, visible, seen, wanted
):
    found = {}
    monkeypatch.setattr(
        runtime,
        "hold_least_used",
        lambda names, folder: found.update(names=names) or len(names) - 1,
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert runtime.own_gpu.__wrapped__(seen) == seen - 1
    assert found["names"] == wanted


def test_results_that_cannot_be_written_are_told_at_once():
    with pytest.raises(OSError, match="proc"):
        locks.hold_results(Path("/proc/clarity"))
