"""Promises on a real Slurm: the profile works as it is, and what clusters do to a run is survived.

After each fault the run goes on to the bytes of an undisturbed one, and no finished cell is
computed twice: what a cell cost is written when it is computed, and by nobody else.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import ROOT, Project

from clarity import checkpoints

GRID = ["evaluate-all", "train-all"]
FASTPOLL = Path(__file__).with_name("fastpoll.py")

pytestmark = pytest.mark.slow


class Driver:
    """A Snakemake that runs a project's grid on the cluster."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.project = project
        self.begun = time.monotonic()
        with open(project.folder / "driver.log", "w") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, str(FASTPOLL), *GRID, "--profile", "slurm"),
                    *("--configfile", "tiny.yaml", "--nocolor", *arguments),
                ],
                cwd=project.folder,
                env=project.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return (self.project.folder / "driver.log").read_text()

    def end(self, seconds: float = 240) -> int:
        """Wait until it has ended; return its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"it waits for ever:\n{self.said}") from None

    def stop(self, number: signal.Signals) -> None:
        """Send it a signal and wait until it has ended."""
        self.process.send_signal(number)
        self.end(90)


@pytest.fixture
def project(make_short, cluster) -> Project:
    return make_short()


def in_training(project: Project) -> list[Path]:
    """Return the logs of jobs that have begun and not yet finished a cell."""
    return [
        log
        for log in (project.folder / "results/tiny/logs/run").glob("*.log")
        if not re.search("^(gradcam|random): ok", log.read_text(), re.MULTILINE)
    ]


def costs(project: Project) -> dict[str, int]:
    """Return a mark of each computation of a cell: it changes when the cell is computed again."""
    folder = project.folder / "results/tiny/logs/costs/dataset=scenes"
    return {
        str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*.json")
    }


def hold(project: Project, undisturbed: dict[str, bytes], before: dict[str, int]) -> None:
    """Check that a run came to the right bytes, and computed nothing twice.

    Args:
        project: where it ran.
        undisturbed: the files of a run that nothing disturbed.
        before: the `costs` of what was finished when it was disturbed.
    """
    found = project.artifacts("results/tiny")
    assert set(found) == set(undisturbed)
    assert [name for name in undisturbed if found[name] != undisturbed[name]] == []
    left = [file.name for file in (project.folder / "results").rglob(".*")]
    odd = [name for name in left if not name.endswith((".lock", checkpoints.SUFFIX))]
    assert odd == [], "nothing half-written stays"
    after = costs(project)
    assert [name for name, mark in before.items() if after[name] != mark] == []


def tries(cluster, key: str) -> list[list[str]]:
    """Return what each job of all stages asked for in its tries, in their order."""
    found: dict[str, list[str]] = {}
    jobs = cluster.jobs()
    for job in jobs:
        # Those of one driver have one name.
        if job["name"] == jobs[-1]["name"] and "rule_run" in job["comment"]:
            found.setdefault(job["comment"], []).append(job[key])
    return list(found.values())


def wait_for_training(cluster, project: Project, jobs: int = 1) -> None:
    cluster.wait_for(
        lambda: len(cluster.running("rule_run")) >= jobs and len(in_training(project)) >= jobs,
        120,
        f"{jobs} jobs in training",
    )


def test_the_smoke_grid_by_the_profile_as_it_is_has_the_bytes_of_a_local_run(cluster, make_short):
    project = make_short()
    smoke = ROOT / "config/smoke.yaml"
    local = os.environ.get("CLARITY_SMOKE")  # made by CI's step before
    command = [sys.executable, "-m", "snakemake", "--configfile", str(smoke), "--nocolor"]
    if local is None:
        local = str(project.folder / "local")
        here = [*command, "--cores", "2", "--config", f"results={local}"]
        subprocess.run(here, cwd=project.folder, env=project.environment, check=True)
    done = subprocess.run(
        # Only how often it looks is another thing here than on a cluster that others use too.
        [sys.executable, str(FASTPOLL), *command[3:], "--profile", "slurm"],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = project.artifacts("results/smoke")
    expected = project.artifacts(local)
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    where = {job["comment"].partition("_wildcards")[0]: job["partition"] for job in cluster.jobs()}
    assert where["rule_run"] == "gpu"
    assert where["rule_compare"] == where["rule_report"] == "main"
    assert not list((project.folder / "logs/slurm").rglob("*.log")), "logs of jobs that ended well"


def test_a_node_that_crashes_in_training_costs_that_nodes_jobs_alone(cluster, project, undisturbed):
    driver = Driver(project)
    wait_for_training(cluster, project, jobs=2)
    node = cluster.running("rule_run")[0]["node"]
    cluster.crash(node)
    cluster.wait_for(
        lambda: any(job["state"] == "NODE_FAIL" for job in cluster.jobs()), 90, "failed node"
    )
    before = costs(project)
    try:
        assert driver.end() == 0, driver.said
    finally:
        cluster.restart(node)
    assert "NODE_FAIL" in driver.said
    hold(project, undisturbed, before)


def test_a_drained_node_ends_its_jobs_and_gets_no_others(cluster, project, undisturbed):
    driver = Driver(project, "--jobs", "2")
    wait_for_training(cluster, project, jobs=2)
    node = cluster.running("rule_run")[0]["node"]
    known = {job["id"] for job in cluster.jobs()}
    cluster.drain(node)
    before = costs(project)
    try:
        assert driver.end() == 0, driver.said
        later = [job["node"] for job in cluster.jobs() if job["id"] not in known]
        assert len(later) == 2
        assert node not in later
    finally:
        cluster.resume(node)
    assert "failed" not in driver.said
    hold(project, undisturbed, before)


def test_a_job_out_of_memory_gets_more_the_next_time(cluster, project, undisturbed):
    driver = Driver(project, "--set-resources", "run:mem_mb=400*attempt*attempt")
    assert driver.end() == 0, driver.said
    asked = tries(cluster, "memory")
    assert len(asked) == 4
    assert all(len(memory) > 1 and memory[:2] == ["400M", "1600M"] for memory in asked)
    assert re.search("status is: '(FAILED|OUT_OF_MEMORY)'", driver.said)
    hold(project, undisturbed, {})


def test_a_job_that_never_has_enough_is_given_up_clearly_and_can_be_given_more(
    cluster, project, undisturbed
):
    driver = Driver(project, "--set-resources", "run:mem_mb=100", "--retries", "1")
    assert driver.end() == 1
    assert driver.said.count("Trying to restart job") == 4
    assert re.search(r"Error in rule run.*status is: '(FAILED|OUT_OF_MEMORY)'", driver.said, re.S)
    results = project.folder / "results/tiny"
    assert not list(results.rglob("scores.parquet"))
    assert (results / "dataset=scenes/evaluation.safetensors").exists()
    assert "0 done, " in project.run("status")
    again = Driver(project)
    assert again.end() == 0, again.said
    hold(project, undisturbed, {})


def test_a_job_out_of_time_gets_more_is_given_up_clearly_and_goes_on_where_it_was(
    cluster, project, undisturbed
):
    # Both seeds of a loss in one job: of some, one is done when the time is over.
    project.configure(**{**project.grid, "shards": 2})
    driver = Driver(project, "--set-resources", "run:runtime=10*attempt", "--retries", "1")
    before: dict[str, int] = {}
    ended: set[str] = set()

    def finished_more() -> bool:
        at_work = {job["id"] for job in cluster.running("rule_run")} - ended
        return len(at_work) == 2 and costs(project).keys() > before.keys()

    for _ in range(2):
        cluster.wait_for(finished_more, 180, "finished cell of this try")
        cluster.freeze()
        before.update(costs(project))
        stopped = {job["id"] for job in cluster.running("rule_run")}
        ended.update(stopped)
        for job in stopped:
            cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=0:00:01")
        cluster.wait_for(lambda: not cluster.running("rule_run"), 120, "end of the time")
    assert driver.end() == 1, driver.said
    assert driver.said.count("status is: 'TIMEOUT'") == 4
    assert re.search(r"Error in rule run", driver.said)
    again = Driver(project)
    assert again.end() == 0, again.said
    hold(project, undisturbed, before)


def test_a_cancelled_job_is_done_again(cluster, project, undisturbed):
    driver = Driver(project)
    wait_for_training(cluster, project)
    job = cluster.running("rule_run")[0]["id"]
    cluster.run("scancel", job)
    before = costs(project)
    assert driver.end() == 0, driver.said
    assert f"'{job}' failed, SLURM status is: 'CANCELLED'" in driver.said
    hold(project, undisturbed, before)


def test_jobs_of_a_killed_driver_go_on_and_the_same_command_takes_up_what_they_make(
    cluster, project, undisturbed
):
    driver = Driver(project)
    wait_for_training(cluster, project, jobs=2)
    driver.stop(signal.SIGKILL)
    left = {job["id"] for job in cluster.running("rule_run")}
    assert len(left) >= 2
    # The hard case: what the jobs have finished is there to be deleted.
    cluster.wait_for(lambda: costs(project), 120, "finished training")
    again = Driver(project)
    cluster.wait_for(
        lambda: not left & {job["id"] for job in cluster.running()}, 120, "end of these jobs"
    )
    before = costs(project)
    states = {job["id"]: job["state"] for job in cluster.jobs()}
    assert {states[job] for job in left} == {"COMPLETED"}
    assert len(before) >= 6 * len(left), "training, trust, maps and scores by both methods"
    assert again.end() == 0, again.said
    assert re.search(r"\d jobs that an earlier Snakemake left are at work", again.said)
    hold(project, undisturbed, before)


def test_a_driver_that_is_interrupted_cancels_its_jobs_and_goes_on_by_the_same_command(
    cluster, project, undisturbed
):
    # As a job of its own, which Slurm sends this signal before its time is over.
    snakemake = project.folder / ".venv/bin/snakemake"
    snakemake.parent.mkdir(parents=True)
    snakemake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FASTPOLL}" "$@"\n')
    snakemake.chmod(0o755)
    source = f"--export=ALL,PYTHONPATH={project.folder / 'src'}"
    sbatch = ("sbatch", "--parsable", "--mem=1500", f"--chdir={project.folder}", source)
    driver = str(project.folder / "slurm/driver.sh")
    command = (*sbatch, driver, "--configfile", "tiny.yaml", "--", *GRID)

    def end(jobs: set[str], seconds: float) -> set[str]:
        """Wait until jobs have ended; return their states."""

        def states() -> set[str]:
            return {each["state"] for each in cluster.jobs() if each["id"] in jobs}

        going = {"PENDING", "RUNNING", "COMPLETING"}
        cluster.wait_for(lambda: not states() & going, seconds, "end of jobs")
        return states()

    job = cluster.run(*command)
    wait_for_training(cluster, project, jobs=2)
    at_work = {each["id"] for each in cluster.running("rule_run")}
    cluster.run("scancel", "--signal=INT", "--batch", job)
    end({job}, 90)
    said = (project.folder / f"clarity-driver-{job}.log").read_text()
    assert end(at_work, 15) == {"CANCELLED"}, said
    before = costs(project)
    job = cluster.run(*command)
    state = end({job}, 240)
    said = (project.folder / f"clarity-driver-{job}.log").read_text()
    assert state == {"COMPLETED"}, said
    hold(project, undisturbed, before)


def test_the_controller_may_be_away_for_half_a_minute(cluster, project, undisturbed):
    driver = Driver(project)
    wait_for_training(cluster, project, jobs=2)
    before = costs(project)
    cluster.controller_down()
    time.sleep(30)
    cluster.controller_up()
    assert driver.end() == 0, driver.said
    assert "Slurm has not answered" in driver.said
    hold(project, undisturbed, before)


def test_results_on_a_path_with_blanks_and_umlauts(cluster, project, undisturbed):
    results = "results/Größe (neu)/zwei Wörter"
    driver = Driver(project, "--config", f"results={results}")
    assert driver.end() == 0, driver.said
    found = project.artifacts(results)
    assert [name for name in undisturbed if found.get(name) != undisturbed[name]] == []
