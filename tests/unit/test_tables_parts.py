"""Promises of the two levels of aggregation: the tables are those of one level, byte for byte."""

from dataclasses import replace
from typing import Any

import pytest
from synthetic import Synthetic

from clarity.stages.compare import compare_grid
from clarity.stages.gather import gather_block, gather_models
from clarity.statistics.recipe import Statistics
from clarity.storage import CorruptArtifact
from clarity.tables.names import BLOCK_PARTS, MODELS_PARTS, parts_files


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two datasets with all that may be odd, gathered: a cell without maps, a run that failed."""
    made = Synthetic(
        tmp_path_factory.mktemp("results"),
        unavailable=[("triplet", "gradcam")],
        failed=[("scenes", "supcon", 1)],
    ).write()
    gather(made)
    return made


def compared(results: Synthetic) -> dict[str, Any]:
    told = ("category", "direction", "verdict")
    metrics = {
        name: {key: getattr(metric, key) for key in told if hasattr(metric, key)}
        for name, metric in results.metrics.items()
    }
    for name in results.settings:
        metrics[name]["family"] = "flipping"
    return {
        "metrics": metrics,
        "controls": results.controls,
        "statistics": Statistics(resamples=200, baseline=results.baseline).plain(),
        "correct_only": True,
    }


def gather(results: Synthetic) -> None:
    for dataset in results.datasets:
        grid = replace(results.grid, datasets=[dataset])
        gather_models(results.root, grid=grid)
        for method in results.methods:
            gather_block(results.root, grid=replace(grid, methods=[method]), **compared(results))


def test_two_levels_make_the_very_tables_of_one(results):
    folders = {gathered: results.root / f"tables-{gathered}" for gathered in (False, True)}
    for gathered, folder in folders.items():
        compare_grid(
            results.root,
            folder,
            grid=results.grid,
            strict=True,
            workers=1,
            gathered=gathered,
            **compared(results),
        )
    names = {file.name for file in folders[False].iterdir()}
    assert names == {file.name for file in folders[True].iterdir()}
    differ = [
        name
        for name in sorted(names)
        if (folders[False] / name).read_bytes() != (folders[True] / name).read_bytes()
    ]
    assert differ == []


def test_a_part_is_the_files_that_the_workflow_expects(results):
    root = results.root
    there = {str(file.relative_to(root)) for file in (root / "parts").rglob("*.parquet")}
    expected = [
        file
        for dataset in results.datasets
        for method in (None, *results.methods)
        for file in parts_files(dataset, method)
    ]
    assert there == set(expected)
    assert len(expected) == 2 * (len(MODELS_PARTS) + len(results.methods) * len(BLOCK_PARTS))


def test_an_altered_part_is_named(results):
    path = results.root / parts_files("digits", "gradcam")[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match=str(path)):
        compare_grid(
            results.root,
            results.root / "tables",
            grid=results.grid,
            strict=True,
            workers=1,
            gathered=True,
            **compared(results),
        )
