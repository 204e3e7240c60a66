"""A Slurm cluster for the whole session, and projects whose grid runs on it."""

import fcntl
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from project import Project

from slurm import Cluster, unavailable

#: A grid of short jobs: four models, so that both nodes have work.
SHORT = {
    "jobs": "run",
    "seeds": [0, 1],
    "trust": {"images": 40, "radii": [0.1], "steps": 1, "severities": [1]},
    "metrics": {
        "sparseness": {"metric": "Sparseness"},
        "discriminative-mass": {"metric": "DiscriminativeMass"},
    },
    "methods": {"gradcam": {"method": "LayerGradCam"}, "random": {"method": "RandomMap"}},
}
#: The same with so many epochs that a training can be disturbed.
EPOCHS = 40


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a cluster of two nodes."""
    reason = unavailable()
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    # One at a time on a machine: another worker of pytest waits until this one's session ends.
    with open(Path(tempfile.gettempdir()) / "clarity-slurm.lock", "w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        with Cluster(tmp_path_factory.mktemp("slurm")) as started:
            yield started


@pytest.fixture(scope="session")
def make_short(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Return a function that makes a fresh copy of the project with the short grid."""

    def make() -> Project:
        project = Project(tmp_path_factory.mktemp("project") / "clarity")
        scenes = project.grid["datasets"]["scenes"] | {"epochs": EPOCHS}
        project.configure(**SHORT, datasets={"scenes": scenes})
        return project

    return make


@pytest.fixture(scope="session")
def undisturbed(make_short: Callable[[], Project]) -> dict[str, bytes]:
    """Return the files of the short grid after a run on this machine that nothing disturbed."""
    project = make_short()
    project.run("evaluate-all", "train-all")
    return project.artifacts("results/tiny")
