"""Projects to run: fresh ones, and one that is finished."""

from collections.abc import Callable

import pytest
from project import Project


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Return a function that makes a fresh copy of the project."""
    return lambda: Project(tmp_path_factory.mktemp("project") / "clarity")


@pytest.fixture(scope="session")
def finished(make_project) -> Project:
    """Return a project whose tiny grid was run from start to end on one core; leave it as it is."""
    project = make_project()
    project.run(cores=1)
    return project
