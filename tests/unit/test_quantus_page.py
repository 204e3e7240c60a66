"""Promises of docs/quantus.md: it is what its examples print now, and names what there is."""

import importlib.util
import re
from pathlib import Path

import pytest
import quantus

from clarity import catalogue

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("quantus_page", DOCS / "quantus_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(script):
    return script.PAGE.read_text()


def test_the_page_is_what_its_script_writes(script, page):
    assert script.written(page).splitlines() == page.splitlines()


def test_every_defect_is_of_metrics_that_exist_and_is_shown(script, page):
    *_, found = page.split("## What was found wrong", 1)
    sections = re.split(r"^####? ", found, flags=re.MULTILINE)[1:]
    defects = [section for section in sections if ": " in section.splitlines()[0]]
    assert len(defects) == len(script.DEFECT.findall(page)) > 0
    for section in defects:
        subject = section.split(": ", 1)[0]
        for name in [] if subject == "All metrics" else subject.split(", "):
            assert name in catalogue.names("metrics")
            assert hasattr(quantus, name)
        shown = script.EXAMPLE.search(section)
        assert shown, f"no example: {subject}"
        assert not shown[0].endswith("```text\n```"), f"nothing printed: {subject}"
        assert "CLarity" in section, f"no remedy: {subject}"
