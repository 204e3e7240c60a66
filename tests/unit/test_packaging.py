"""Promises of packaging: one set of versions, wherever they are written down."""

import re
import tomllib
from pathlib import Path

import yaml

from clarity import __version__

ROOT = Path(__file__).parents[2]


def locked() -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.M)
    return {name.lower(): version for name, version in pins}


def direct() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = (re.match(r"[\w.-]+", dependency) for dependency in project["dependencies"])
    return [name.group().lower() for name in names]


def test_every_direct_dependency_is_locked():
    assert set(direct()) <= set(locked())


def test_the_conda_environment_has_the_locked_versions_of_the_direct_dependencies():
    environment = yaml.safe_load((ROOT / "workflow/envs/clarity.yaml").read_text())
    pins = dict(pin.split("==") for pin in environment["dependencies"][-1]["pip"])
    lock = locked()
    expected = {name: lock[name] for name in direct() if not name.startswith("snakemake")}
    assert pins == expected


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == __version__
