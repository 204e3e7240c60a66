"""Promises of the tables: files whose curves are odd, and failures in other processes."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from test_tables import METRICS, Results

from clarity import storage
from clarity.storage import CorruptArtifact

AXIS = {"flip": {"axis": "share removed", "at": [0.0, 0.5, 1.0]}}


def write_curved(results, cell, metrics, about, unusable=()):
    """Write scores with a curve of three points each; those of some images are not ok."""
    rng = np.random.default_rng(1)
    frames = []
    for metric in metrics:
        bad = np.isin(np.arange(20), unusable)
        frames.append(
            pd.DataFrame(
                {
                    "image": np.arange(20, dtype=np.int32),
                    "metric": metric,
                    "value": np.where(bad, np.nan, rng.random(20)),
                    "status": np.where(bad, "nan", "ok"),
                    "reason": np.where(bad, "why", ""),
                    "curve": list(np.where(bad[:, None], 1e9, rng.random((20, 3)))),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    storage.write_table(results.path(cell), frame, {"curves": about}, lists=["curve"])


@pytest.fixture
def curved(tmp_path):
    """Three losses and seeds whose scores of one metric have curves."""
    made = Results(tmp_path)
    made.write_runs(np.random.default_rng(0))
    for cell in made.grid.cells():
        write_curved(made, cell, METRICS, json.dumps(AXIS))
    return made


def test_strict_reading_in_other_processes_names_the_file_too(curved, monkeypatch):
    monkeypatch.setattr("clarity.tables.build.FEW_CELLS", 0)
    path = curved.path(curved.grid.cells()[4])
    path.unlink()
    with pytest.raises(CorruptArtifact, match=re.escape(str(path))):
        curved.tables(METRICS, strict=True, workers=2)


@pytest.mark.parametrize("about", ["{", '{"flip": {"axis": "share removed"}}', "[1]"])
def test_a_file_that_tells_no_axes_of_its_curves_is_listed_and_stops_nothing(curved, about):
    cell = curved.grid.cells()[2]
    write_curved(curved, cell, METRICS, about)
    tables = curved.tables(METRICS)
    assert len(tables["missing"]) == 1
    assert "axes of its curves" in tables["missing"]["reason"][0]
    assert set(tables["curves"]["n_runs"]) == {2, 3}


def test_curves_with_other_points_are_left_out_and_listed(curved):
    cell = curved.grid.cells()[2]
    other = {"flip": {"axis": "share removed", "at": [0.0, 0.4, 1.0]}}
    write_curved(curved, cell, METRICS, json.dumps(other))
    tables = curved.tables(METRICS)
    assert "curves of 'flip'" in tables["missing"]["reason"][0]
    assert (tables["missing"]["loss"][0], tables["missing"]["seed"][0]) == (cell.run.loss, 2)
    assert set(tables["comparisons"]["n_runs"]) == {3}


def test_curves_of_another_length_are_counted_and_listed(curved):
    path = curved.path(curved.grid.cells()[2])
    frame = storage.read_table(path)
    whole = curved.tables(METRICS)["curves"]
    flip = frame.index[frame["metric"] == "flip"]
    for row in flip[:2]:
        frame.at[row, "curve"] = np.array([9.0, 9.0])
    notes = storage.read_table_metadata(path)
    storage.write_table(path, frame, notes, lists=["curve"])
    tables = curved.tables(METRICS)
    assert tables["missing"]["reason"].tolist() == [
        "curves of 'flip' of 2 images left out: not 3 points"
    ]
    assert tables["curves"]["mean"].max() < 1
    assert len(tables["curves"]) == len(whole)


def test_a_file_without_rows_of_a_metric_has_no_curves_of_it(curved):
    write_curved(curved, curved.grid.cells()[2], ["mass"], json.dumps(AXIS))
    tables = curved.tables(METRICS)
    assert set(tables["curves"].groupby("loss")["n_runs"].first()) == {2, 3}
    assert len(tables["missing"]) == 0


def test_curves_of_scores_that_are_none_do_not_count(curved):
    write_curved(curved, curved.grid.cells()[2], METRICS, json.dumps(AXIS), unusable=range(5))
    assert curved.tables(METRICS)["curves"]["mean"].max() < 1


@pytest.mark.parametrize(("metric", "sign"), [("mass", 1), ("flip", -1)])
def test_losses_are_ranked_by_the_images_that_they_share(tmp_path, metric, sign):
    results = Results(tmp_path, seeds=2)
    results.write_runs(np.random.default_rng(0))
    # Triplet lacks the images that are hard, which makes its own mean the best of all.
    hard = np.arange(20) < 10
    level = {"cross-entropy": 0.2, "triplet": 0.0, "supcon": 0.1}
    for cell in results.grid.cells():
        scores = sign * (level[cell.run.loss] - 5.0 * hard)
        if cell.run.loss == "triplet":
            scores[hard] = np.nan
        results.write_scores(cell, {metric: scores})
    summary = results.tables({metric: METRICS[metric]})["summary"].set_index("loss")
    assert (sign * summary["mean"]).idxmax() == "triplet"
    assert summary["rank"].to_dict() == {"cross-entropy": 1, "supcon": 2, "triplet": 3}


def test_a_metric_that_one_method_has_no_score_of_keeps_its_rows_there(tmp_path):
    results = Results(tmp_path, methods=("gradcam", "random"))
    rng = np.random.default_rng(0)
    results.write_runs(rng)
    for cell in results.grid.cells():
        named = METRICS if cell.method == "gradcam" else ["flip"]
        results.write_scores(cell, {name: rng.random(20) for name in named})
    tables = results.tables(METRICS)
    for name in ("comparisons", "summary", "coverage", "runs"):
        pairs = set(zip(tables[name]["method"], tables[name]["metric"], strict=True))
        assert pairs == {(m, n) for m in ("gradcam", "random") for n in METRICS}
    lacking = tables["comparisons"].query("method == 'random' and metric == 'mass'")
    assert lacking["verdict"].tolist() == ["no data"] * 3
