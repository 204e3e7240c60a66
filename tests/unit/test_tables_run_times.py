"""Promises of the table of run times: means over runs of what jobs left, and nothing made up."""

import pytest

from clarity import storage
from clarity.grid import Grid
from clarity.tables.run_times import COLUMNS, run_times

GRID = Grid(["d", "e"], ["ce", "triplet"], [0, 1], ["cam", "noise"])


@pytest.fixture
def root(tmp_path):
    for seed in (0, 1):
        for place, loss in enumerate(GRID.losses):
            run = f"dataset=d/loss={loss}/seed={seed}"
            manifest = {"seconds": 10.0 + seed + 5 * place, "images_seen": 1000}
            storage.write_record(tmp_path / run / "manifest.json", manifest)
            costs = tmp_path / "logs/costs" / run
            maps = {"seconds": 2.0 + seed, "images": 50, "bytes": 5000, "classes": 2}
            storage.write_json(costs / "cam.json", maps | {"status": "ok", "reason": ""})
            failed = {"status": "unavailable", "reason": "no", "seconds": 0.1, "images": 50}
            storage.write_json(costs / "noise.json", failed | {"bytes": 10, "classes": 2})
            flip = {"seconds": 4.0, "images": 20, "forward": 400, "explained": 0}
            storage.write_json(costs / "cam-metrics.json", {"flip": flip})
    return tmp_path


def test_costs_are_means_over_runs_by_stage(root):
    table = run_times(root, GRID)
    assert tuple(table) == COLUMNS
    assert list(table["stage"]) == ["training", "training", "attribution", "evaluation"]
    rows = table.set_index(["stage", "loss", "method", "metric"])
    ce = rows.loc["training", "ce", "", ""]
    assert (ce["n_runs"], ce["seconds"]) == (2, 10.5)
    assert ce["sd"] == pytest.approx(0.5**0.5)
    assert ce["ms_per_image"] == pytest.approx(10.5)
    assert rows.loc["training", "triplet", "", ""]["seconds"] == 15.5
    maps = rows.loc["attribution", "", "cam", ""]
    assert (maps["n_runs"], maps["seconds"], maps["bytes_per_image"]) == (4, 2.5, 100)
    flip = rows.loc["evaluation", "", "cam", "flip"]
    assert (flip["n_runs"], flip["forward_per_image"], flip["ms_per_image"]) == (4, 20, 200)


def test_what_left_no_record_and_what_was_not_explained_has_no_row(root, tmp_path):
    table = run_times(root, GRID)
    assert set(table["dataset"]) == {"d"}
    assert "noise" not in set(table["method"])
    nothing = run_times(tmp_path / "elsewhere", GRID)
    assert (len(nothing), tuple(nothing)) == (0, COLUMNS)


def test_a_damaged_record_is_named(root):
    (root / "logs/costs/dataset=d/loss=ce/seed=1/cam.json").write_text("{")
    with pytest.raises(storage.CorruptArtifact, match=r"seed=1/cam\.json"):
        run_times(root, GRID)
