"""Promises of a run on one machine whatever happens to it: signals, disks, clocks, altered files.

After each fault the same command goes on to the bytes of an undisturbed run, and nothing that was
finished is computed again: what a cell cost is written when it is computed, and by nobody else.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import Project

from clarity import checkpoints, storage

RUN = "dataset=scenes/loss=supcon/seed=0"


def same(project: Project, results: str, finished: Project) -> None:
    expected, found = finished.artifacts("results/tiny"), project.artifacts(results)
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    left = [file.name for file in (project.folder / results).rglob(".*")]
    odd = [name for name in left if not name.endswith((".lock", checkpoints.SUFFIX))]
    assert odd == [], "nothing half-written stays"


def costs(project: Project, results: str) -> dict[str, int]:
    """Return a mark of each computation of a cell: it changes when the cell is computed again."""
    folder = project.folder / results / "logs/costs/dataset=scenes"
    files = folder.rglob("*.json")
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


def wait_for(process: subprocess.Popen, condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGKILL, "run"), (signal.SIGTERM, "run"), (signal.SIGINT, "model")]
)
def test_a_driver_that_is_stopped_goes_on_by_the_same_command(finished, number, jobs):
    results = f"results/{number.name}-{jobs}"
    arguments = ("--config", f"results={results}", f"jobs={jobs}")
    process = finished.start(*arguments)
    wait_for(process, lambda: costs(finished, results), 240)
    # The driver alone: what a user kills, and what a scheduler kills on a login node.
    process.send_signal(number)
    process.wait(120)
    assert process.returncode != 0
    before = costs(finished, results)
    finished.run(*arguments)
    same(finished, results, finished)
    after = costs(finished, results)
    assert [name for name, mark in before.items() if after[name] != mark] == []


def test_of_two_drivers_the_second_is_told_of_the_first_and_harms_nothing(finished):
    arguments = ("--config", "results=results/two")
    first = finished.start(*arguments)
    wait_for(first, lambda: (finished.folder / "results/two/logs").is_dir(), 120)
    said = finished.run(*arguments, check=False)
    assert f"another Snakemake works on these results (process {first.pid} on " in said
    assert first.wait(300) == 0, (finished.folder / "driver.log").read_text()
    same(finished, "results/two", finished)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Return a function that makes a disk of its own, of some size or read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no disk of its own without the right to mount one: {done.stderr}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@pytest.mark.parametrize("size", ["1200k", "2500k"])
def test_a_full_disk_fails_loudly_and_with_room_the_run_goes_on(finished, small_disk, size):
    disk = small_disk(f"size={size}")
    arguments = ("--config", f"results={disk}/results", "jobs=run")
    said = finished.run(*arguments, check=False)
    logs = "".join(log.read_text() for log in disk.rglob("*.log"))
    assert "No space left on device" in said + logs
    assert not (disk / "results/report.html").exists()
    for file in [*disk.rglob("*.safetensors"), *disk.rglob("*.parquet")]:
        storage.check(file)  # none is cut short
    subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
    finished.run(*arguments)
    same(finished, f"{disk}/results", finished)


def test_read_only_results_are_told_before_any_job_starts(finished, small_disk):
    disk = small_disk("ro,size=1m")
    said = finished.run("--config", f"results={disk}/results", check=False)
    assert f"results: found {disk}/results, which cannot be written" in said
    assert "rule prepare" not in said.partition("Error")[2]


def test_results_lie_on_a_path_with_blanks_umlauts_and_brackets(finished):
    results = "results/Größe [neu] & 'alt'/zwei  Wörter"
    finished.run("--config", f"results={results}", "jobs=run")
    same(finished, results, finished)
    assert "Nothing is left" in finished.run("status", "--config", f"results={results}")


def cut_short(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(_: bytes) -> bytes:
    return b""


def altered(content: bytes) -> bytes:
    return content[:-600] + bytes([content[-600] ^ 1]) + content[-599:]


#: A file, what is done to it, and what is then made from it by another stage.
BETWEEN = [
    ("figures/forest.svg", altered, "report.html"),
    (
        f"{RUN}/method=gradcam/attributions.safetensors",
        cut_short,
        f"{RUN}/method=gradcam/scores.parquet",
    ),
    (f"{RUN}/model.safetensors", altered, f"{RUN}/trust.parquet"),
    (f"{RUN}/method=random/scores.parquet", emptied, "tables/comparisons.csv"),
]


def test_a_file_altered_between_two_stages_is_named_and_never_used(make_project, finished):
    project = make_project()
    shutil.copytree(finished.folder / "results/tiny", project.folder / "results/tiny")
    project.run("--touch")
    root = project.folder / "results/tiny"
    for file, damage, made in BETWEEN:
        path = root / file
        about = path.stat()
        (root / made).unlink()
        path.write_bytes(damage(path.read_bytes()))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # as disks do, not as editors
        assert f"WRONG {path.relative_to(project.folder)}" in project.run("verify", check=False)
        said = project.run(f"results/tiny/{made}", check=False)
        logs = "".join(log.read_text() for log in (root / "logs").rglob("*.log"))
        assert f"{file}: cannot be read" in said + logs, said
        assert "Delete this file" in said + logs
        assert not (root / made).exists(), "made from what is wrong"
        # What the message says; by its path, since nothing that is there wants it any more.
        path.unlink()
        project.run(f"results/tiny/{file}", f"results/tiny/{made}")
    project.run()
    same(project, "results/tiny", finished)
    assert "are as they were written" in project.run("verify")


def test_a_clock_that_was_ahead_is_told_and_equal_times_mend_it(make_project, finished):
    project = make_project()
    root = project.folder / "results/tiny"
    shutil.copytree(finished.folder / "results/tiny", root)
    project.run("--touch")
    cell = f"{RUN}/method=gradcam"

    def set_times(when: float) -> None:
        for file in root.rglob("*"):
            os.utime(file, (when, when))

    # As if the clock had been a day ahead while all was made, and a cell is lost since.
    set_times(time.time() + 86_400)
    shutil.rmtree(root / cell)
    said = project.run(f"results/tiny/{cell}/scores.parquet", check=False)
    assert "clock skew" in said
    # What docs/cluster.md says: touch -d NOW on all of them.
    set_times(time.time())
    project.run(f"results/tiny/{cell}/scores.parquet")
    project.run()
    same(project, "results/tiny", finished)
    # And a clock that was behind: all is older than the scripts, is looked at and left as it is.
    set_times(time.time() - 86_400)
    before = costs(project, "results/tiny")
    project.run()
    assert [
        name for name, mark in costs(project, "results/tiny").items() if mark != before[name]
    ] == []
    same(project, "results/tiny", finished)


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "$(touch pwned)",
    "a'; touch pwned; '",
    "`touch pwned`",
    "{wildcards} {0.__class__} %s",
]


def test_hostile_class_names_reach_no_shell(make_project):
    """Nor a page: tests/unit/test_report_browser.py."""
    project = make_project()
    rng = np.random.default_rng(0)
    for place, name in enumerate(HOSTILE):
        for split, count in (("train", 24), ("test", 6)):
            folder = project.folder / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 99, (32, 32, 3), np.uint8)
                pixels[6 * place : 6 * place + 6] += 120
                Image.fromarray(pixels).save(folder / f"{number}.png")
    mine = {
        "source": "image-folder",
        "train": "pictures/train",
        "test": "pictures/test",
        "size": 32,
        "epochs": 1,
        "batch-size": 60,
    }
    metrics = {"sparseness": {"metric": "Sparseness"}}
    project.configure(datasets={"mine": mine}, metrics=metrics, jobs="run")
    project.run()
    assert not list(project.folder.rglob("pwned"))
    data = project.folder / "results/tiny/dataset=mine/data.safetensors"
    assert set(json.loads(storage.read_tensor_metadata(data)["classes"])) == set(HOSTILE)
    assert (project.folder / "results/tiny/report.html").exists()
