"""Write the outputs, the table and the number of defects of docs/quantus.md.

    python docs/quantus_page.py

Every block of Python in the page is run after the first, which sets up what they share; what it
prints is written into the block of text that follows. The table and the number stand between marks.
"""

import importlib
import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import quantus

from clarity import catalogue
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import info

PAGE = Path(__file__).with_name("quantus.md")
EXAMPLE = re.compile(r"```python\n((?:(?!```).)*)```\n\n```text\n.*?```", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
COUNT = re.compile(r"(?<=<!-- count -->\n).*?(?=<!-- end of count -->)", re.DOTALL)
DEFECT = re.compile(r"^#### ([^:\n]+): ", re.MULTILINE)

#: Reads the setup and the examples, and writes what each example prints.
RUN = """
import contextlib, io, json, sys, warnings
setup, *examples = json.load(sys.stdin)
printed = []
for source in examples:
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(setup + source, names)
    printed.append(said.getvalue())
json.dump(printed, sys.stdout)
"""


def outputs(setup: str, examples: list[str]) -> list[str]:
    """Return what each example prints, in an interpreter without CLarity, which mends Quantus."""
    found = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([setup, *examples]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    printed: list[str] = json.loads(found.stdout)
    return printed


def table() -> str:
    """Return a row for each metric that Quantus has too: what it is, its direction and its cost."""
    rows = [
        "| metric | value of an image | better | images scored | maps made |",
        "|---|---|---|---|---|",
    ]
    for name in catalogue.names("metrics"):
        found = catalogue.find("metrics", name)
        if not hasattr(quantus, name) or not found.module.startswith("clarity."):
            continue
        kind = getattr(importlib.import_module(found.module), name)
        first = re.split(r"\n\n", inspect.getdoc(kind) or "")[0]
        # Without the rest of the line: the direction has a column of its own.
        value = re.split(r"[;.:] ", " ".join(first.split()))[0].rstrip(".").replace("|", "\\|")
        known = info(MetricRecipe(metric=name))
        costs = [f"`{cost}`" for cost in (known.forward, known.explained)]
        rows.append(f"| `{name}` | {value} | {known.direction} | {' | '.join(costs)} |")
    return "\n".join(rows) + "\n"


def count(page: str) -> str:
    """Return the sentence that says how many defects the page has, and what they were seen in."""
    numpy = ".".join(version("numpy").split(".")[:2])
    return (
        f"{len(DEFECT.findall(page))} defects were found, in Quantus {version('quantus')} with "
        f"numpy {numpy}.\n"
    )


def written(page: str) -> str:
    """Return the page with what its examples print, its table and its count as they are now."""
    setup = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert setup is not None
    printed = iter(outputs(setup[1], [example[1] for example in EXAMPLE.finditer(page)]))

    def filled(example: re.Match[str]) -> str:
        return f"```python\n{example[1]}```\n\n```text\n{next(printed)}```"

    return COUNT.sub(lambda _: count(page), TABLE.sub(lambda _: table(), EXAMPLE.sub(filled, page)))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
