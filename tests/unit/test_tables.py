"""Promises of the tables: planted truth in files of the real layout, through the real code."""

import itertools
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from clarity import storage
from clarity.grid import Cell, Grid, Run
from clarity.statistics.comparisons import COLUMNS as COMPARISON_COLUMNS
from clarity.statistics.comparisons import judge
from clarity.statistics.power import detectable
from clarity.statistics.settings import Settings
from clarity.storage import CorruptArtifact
from clarity.tables.build import block_tables, build_tables, settings_table
from clarity.tables.columns import COLUMNS
from clarity.tables.load import NOT_FINITE, load_models
from clarity.tables.names import LATEX, TABLES, table_files
from clarity.tables.write import (
    SHOWN,
    latex,
    number,
    p_value,
    readme,
    with_sd,
    write_tables,
)

TEST_IMAGES = 40
LOSSES = ("cross-entropy", "triplet", "supcon")
FEW = Settings(resamples=200)
#: What the metadata of the predictions of a run tell that did not fail.
OK = {"status": "ok", "epoch": "3", "reason": ""}


@dataclass(frozen=True)
class Metric:
    """What a comparison must know of a metric."""

    category: str = "faithfulness"
    direction: str = "higher"
    verdict: bool = False


class Results:
    """A results folder in the layout of real ones."""

    def __init__(self, root, *, datasets=("digits",), losses=LOSSES, seeds=3, methods=("gradcam",)):
        self.root = Path(root)
        self.grid = Grid(datasets, losses, range(seeds), methods)

    def write_runs(self, rng, images=20, scenes=0, share_correct=1.0):
        """Write predictions and geometry of every run; return who is right on what."""
        right = {}
        for run in self.grid.runs():
            second = np.where(np.arange(images) < images - scenes, -1, 1)
            frame = pd.DataFrame(
                {
                    "split": ["test"] * TEST_IMAGES + ["evaluation"] * images,
                    "image": np.r_[:TEST_IMAGES, :images].astype(np.int32),
                    "second_label": np.r_[np.full(TEST_IMAGES, -1), second],
                    "correct": rng.random(TEST_IMAGES + images) < share_correct,
                    "correct_prototype": rng.random(TEST_IMAGES + images) < share_correct,
                }
            )
            right[run.dataset, run.loss, run.seed] = frame
            storage.write_table(self.root / run.folder / "predictions.parquet", frame, OK)
            storage.write_table(
                self.root / run.folder / "geometry.parquet",
                pd.DataFrame(
                    {
                        "measure": ["silhouette", "distance-ratio"],
                        "value": rng.random(2),
                        "direction": ["higher", "lower"],
                        "reason": "",
                    }
                ),
            )
            trusted = {
                "accuracy": ("accuracy", "higher"),
                "ece": ("calibration", "lower"),
                "pgd-accuracy:0.1": ("adversarial", "higher"),
                "corruption-jpeg:1": ("corruption", "higher"),
                "corruption-mean": ("corruption", "higher"),
            }
            groups, directions = zip(*trusted.values(), strict=True)
            storage.write_table(
                self.root / run.folder / "trust.parquet",
                pd.DataFrame(
                    {
                        "measure": list(trusted),
                        "group": groups,
                        "value": rng.random(len(trusted)),
                        "direction": directions,
                        "reason": "",
                    }
                ),
            )
            storage.write_table(
                self.root / run.folder / "history.parquet",
                pd.DataFrame({"images_seen": [100, 200, 300 + run.seed]}),
            )
        return right

    def fail(self, run: Run, status="diverged", epoch=2, reason="the loss is not finite"):
        """Leave of a run what is left of one that failed: files without rows that say why."""
        told = {"status": status, "epoch": str(epoch), "reason": reason}
        for name in ("predictions", "geometry", "trust"):
            path = self.root / run.folder / f"{name}.parquet"
            storage.write_table(path, storage.read_table(path).iloc[:0], told)
        for cell in (cell for cell in self.grid.cells() if cell.run == run):
            scores = self.read(cell)
            words = f"training {status} in epoch {epoch}: {reason}"
            self.store(cell, scores.assign(value=np.nan, status="unavailable", reason=words))

    def write_scores(self, cell: Cell, values: dict[str, np.ndarray], reason="not a number"):
        """Write the scores of a cell: values by image for each metric, NaN with a reason."""
        frames = []
        for metric, numbers in values.items():
            known = ~np.isnan(numbers)
            frames.append(
                pd.DataFrame(
                    {
                        "image": np.arange(len(numbers), dtype=np.int32),
                        "metric": metric,
                        "value": np.asarray(numbers, dtype=np.float64),
                        "status": np.where(known, "ok", "nan"),
                        "reason": np.where(known, "", reason),
                    }
                )
            )
        self.store(cell, pd.concat(frames, ignore_index=True))

    def store(self, cell: Cell, frame: pd.DataFrame):
        storage.write_table(self.path(cell), frame)

    def path(self, cell: Cell) -> Path:
        return self.root / cell.folder / "scores.parquet"

    def read(self, cell: Cell) -> pd.DataFrame:
        return storage.read_table(self.path(cell))

    def tables(self, metrics=None, settings=FEW, **arguments):
        metrics = metrics or {"flip": Metric()}
        return build_tables(
            self.root, self.grid, metrics, self.grid.losses[0], settings=settings, **arguments
        )


@pytest.fixture
def results(tmp_path):
    """Two datasets, three losses and seeds, two methods and metrics: all there, all numbers."""
    made = Results(tmp_path, datasets=("digits", "scenes"), methods=("gradcam", "random"))
    rng = np.random.default_rng(0)
    made.write_runs(rng, scenes=5, share_correct=0.9)
    for cell in made.grid.cells():
        made.write_scores(cell, {"mass": rng.random(20), "flip": rng.random(20)})
    return made


METRICS = {"flip": Metric("faithfulness", "lower"), "mass": Metric("localisation", "higher")}


# --- planted truth


def test_planted_differences_come_back_with_size_sign_and_direction(tmp_path):
    seeds, images = 10, 30
    results = Results(tmp_path, seeds=seeds)
    rng = np.random.default_rng(1)
    results.write_runs(rng, images)
    effects = {"cross-entropy": 0.0, "triplet": 0.5, "supcon": -0.5}
    for cell in results.grid.cells():
        of_run = rng.normal(0, 0.05, 3)
        values = effects[cell.run.loss] + of_run[:, None] + rng.normal(0, 0.2, (3, images))
        values[2] -= effects[cell.run.loss]
        results.write_scores(cell, dict(zip(("up", "down", "null"), values, strict=True)))
    metrics = {"up": Metric(direction="higher"), "down": Metric(direction="lower")}
    tables = results.tables({**metrics, "null": Metric()}, Settings(resamples=1000))
    found = tables["comparisons"].set_index(["metric", "loss", "baseline"])
    assert list(tables["comparisons"].columns) == list(COMPARISON_COLUMNS)
    for (metric, loss, baseline), row in found.iterrows():
        truth = 0 if metric == "null" else effects[loss] - effects[baseline]
        assert row["difference"] == pytest.approx(truth, abs=0.1)
        assert (row["n_runs"], row["n_images"]) == (seeds, seeds * images)
        higher = {True: "better", False: "worse"}[(truth > 0) == (metric == "up")]
        nothing = {"inconclusive", "equivalent"}
        assert row["verdict"] in (nothing if metric == "null" else {higher})
        assert row["ci_low"] < row["difference"] < row["ci_high"]
        # 1.96 standard errors of the difference of two means of 10 runs, each of 30 images.
        half = 1.96 * np.sqrt(2 * (0.05**2 + 0.2**2 / images) / seeds)
        assert 0.5 * half < (row["ci_high"] - row["ci_low"]) / 2 < 2.5 * half
    ranks = tables["summary"].set_index(["metric", "loss"])["rank"]
    assert ranks["up"].to_dict() == {"triplet": 1, "cross-entropy": 2, "supcon": 3}
    assert ranks["down"].to_dict() == {"triplet": 3, "cross-entropy": 2, "supcon": 1}


def simulated(tmp_path, grids, seeds, images, effect):
    """Compare in so many grids, from files: every metric is a family, and so a grid, of its own."""
    results = Results(tmp_path, seeds=seeds)
    rng = np.random.default_rng(2)
    results.write_runs(rng, images)
    of_image = rng.normal(0, 0.5, (grids, images))
    values = {}
    for cell in results.grid.cells():
        of_run = rng.normal(0, 0.5, (grids, 1))
        scores = of_image + of_run + rng.normal(0, 1, (grids, images))
        scores += effect * (cell.run.loss == "triplet")
        values[cell.run.loss, cell.run.seed] = scores
        results.write_scores(cell, {f"grid-{i}": row for i, row in enumerate(scores)})
    infos = {f"grid-{i}": Metric() for i in range(grids)}
    right = load_models(tmp_path, results.grid).right("digits")
    part = block_tables(
        tmp_path, results.grid, "digits", "gradcam", infos, right, LOSSES[0], FEW, strict=True
    )
    return judge(part.comparisons, LOSSES[0], FEW), values


def test_under_the_null_verdicts_keep_their_level_where_pooled_images_do_not(tmp_path):
    grids, seeds = 1000, 8
    found, values = simulated(tmp_path, grids, seeds, images=20, effect=0.0)
    false = found["verdict"].isin(["better", "worse"]).groupby(found["metric"]).any()
    # What an honest 5 % level stays below 999 times in 1000.
    bound = stats.binom.ppf(0.999, grids, 0.05)
    assert false.sum() <= bound
    # The level is used, so that the bound is not kept by never saying anything.
    assert (found["p"] < 0.05).mean() > 0.02
    covered = (found["ci_low"] <= 0) & (found["ci_high"] >= 0)
    assert 0.93 < covered.mean() < 0.97
    by_loss = {
        loss: np.concatenate([values[loss, seed] for seed in range(seeds)], axis=1)
        for loss in LOSSES
    }
    pairs = itertools.combinations(by_loss.values(), 2)
    p = np.min([stats.ttest_rel(*pair, axis=1).pvalue for pair in pairs], axis=0)
    pooled = (3 * p < 0.05).sum()
    assert pooled > 4 * bound


def test_a_planted_effect_is_found_about_as_often_as_its_power_says(tmp_path):
    seeds, images = 10, 20
    # The deviation of a run's difference: of two run effects, and of noise over the images.
    sd = math.sqrt(2 * (0.5**2 + 1 / images))
    effect = detectable(0.05)[seeds] * sd
    found, _ = simulated(tmp_path, 300, seeds, images, effect)
    mine = found[(found["loss"] == "triplet") & (found["baseline"] == LOSSES[0])]
    assert (mine["p"] < 0.05).mean() == pytest.approx(0.8, abs=0.08)
    assert (mine["difference"] - effect).abs().mean() < sd
    others = found[(found["loss"] == "supcon") & (found["baseline"] == LOSSES[0])]
    assert (others["verdict"].isin(["better", "worse"])).mean() < 0.05


def test_three_seeds_are_inconclusive_whatever_the_difference(tmp_path):
    results = Results(tmp_path, seeds=3)
    rng = np.random.default_rng(3)
    results.write_runs(rng)
    for cell in results.grid.cells():
        level = 100 * LOSSES.index(cell.run.loss)
        results.write_scores(cell, {"flip": level + rng.random(20)})
    found = results.tables()["comparisons"]
    assert (found["difference"].abs() > 90).all()
    assert set(found["verdict"]) == {"inconclusive"}


# --- correct-only


def test_correct_only_leaves_out_exactly_the_images_that_a_loss_misclassifies(tmp_path):
    results = Results(tmp_path, seeds=2)
    right = results.write_runs(np.random.default_rng(4), share_correct=0.85)
    rng = np.random.default_rng(5)
    values = {}
    for cell in results.grid.cells():
        values[cell.run.loss, cell.run.seed] = rng.random(20)
        results.write_scores(cell, {"flip": values[cell.run.loss, cell.run.seed]})
    kept = {
        seed: np.all(
            [
                frame.loc[frame["split"] == "evaluation", "correct"].to_numpy()
                for (_, _, other), frame in right.items()
                if other == seed
            ],
            axis=0,
        )
        for seed in (0, 1)
    }
    assert 0 < sum(map(sum, kept.values())) < 40
    tables = results.tables()
    for row in tables["comparisons"].itertuples():
        assert row.n_images == sum(map(sum, kept.values()))
        means = [values[row.loss, seed][kept[seed]].mean() for seed in (0, 1)]
        assert row.mean == pytest.approx(np.mean(means))
    for row in tables["models"].itertuples():
        assert (row.n_evaluation, row.n_kept) == (20, kept[row.seed].sum())
        assert row.share_kept == pytest.approx(kept[row.seed].mean())
    assert set(tables["summary"]["n_incorrect"]) == {40 - sum(map(sum, kept.values()))}
    everything = results.tables(settings=Settings(resamples=200, correct_only=False))
    assert set(everything["comparisons"]["n_images"]) == {40}
    assert set(everything["summary"]["n_incorrect"]) == {0}


# --- what is no number is counted


def test_every_score_is_counted_once_and_reasons_are_kept(results):
    rng = np.random.default_rng(6)
    statuses = {}
    for cell in results.grid.cells():
        frame = results.read(cell)
        status = rng.choice(["ok", "nan", "unavailable"], len(frame), p=[0.7, 0.2, 0.1])
        frame["status"] = status
        frame["reason"] = np.select(
            [status == "ok", status == "nan"], ["", "constant map"], "no such layer"
        )
        frame.loc[status != "ok", "value"] = np.nan
        results.store(cell, frame)
        statuses[cell] = frame
    tables = results.tables(METRICS)
    for row in tables["summary"].itertuples():
        rows = pd.concat(
            frame[frame["metric"] == row.metric]
            for cell, frame in statuses.items()
            if (cell.run.dataset, cell.run.loss, cell.method) == (row.dataset, row.loss, row.method)
        )
        assert row.n_nan == (rows["status"] == "nan").sum()
        assert row.n_unavailable == (rows["status"] == "unavailable").sum()
        assert row.n_images + row.n_nan + row.n_unavailable + row.n_incorrect == len(rows) == 60
        assert row.constant_maps == pytest.approx((rows["reason"] == "constant map").mean())
    for row in tables["coverage"].itertuples():
        rows = pd.concat(
            frame[frame["metric"] == row.metric]
            for cell, frame in statuses.items()
            if (cell.run.dataset, cell.method) == (row.dataset, row.method)
        )
        shares = rows["status"].value_counts(normalize=True)
        assert (row.ok, row.nan, row.unavailable) == pytest.approx(
            tuple(shares[["ok", "nan", "unavailable"]])
        )
        commonest = rows.loc[rows["status"] != "ok", "reason"].value_counts()
        assert (row.reason, row.n_reason) == (commonest.index[0], commonest.iloc[0])


def test_a_method_that_no_model_allows_is_a_row_without_data(results):
    for cell in results.grid.cells():
        if cell.method == "gradcam" and cell.run.dataset == "digits":
            frame = results.read(cell)
            results.store(
                cell,
                frame.assign(value=np.nan, status="unavailable", reason="no convolution"),
            )
    tables = results.tables(METRICS)
    found = tables["comparisons"]
    gone = (found["dataset"] == "digits") & (found["method"] == "gradcam")
    assert gone.sum() == 2 * 3
    assert set(found.loc[gone, "verdict"]) == {"no data"}
    assert set(found.loc[gone, "n_images"]) == {0}
    assert "no data" not in set(found.loc[~gone, "verdict"])
    row = tables["coverage"].iloc[0]
    assert (row["unavailable"], row["reason"], row["n_reason"]) == (1.0, "no convolution", 180)


def test_a_value_that_is_marked_ok_and_is_not_finite_counts_as_nan(results):
    cell = results.grid.cells()[0]
    frame = results.read(cell)
    frame.loc[[0, 1], "value"] = [np.inf, np.nan]
    results.store(cell, frame)
    tables = results.tables(METRICS)
    assert tables["summary"]["n_nan"].sum() == 2
    assert NOT_FINITE in set(tables["coverage"]["reason"])


def test_a_metric_of_one_dataset_has_no_rows_in_others(results):
    for cell in results.grid.cells():
        if cell.run.dataset == "digits":
            frame = results.read(cell)
            results.store(cell, frame[frame["metric"] == "flip"])
    tables = results.tables(METRICS)
    for name in ("comparisons", "summary", "coverage"):
        pairs = set(zip(tables[name]["dataset"], tables[name]["metric"], strict=True))
        assert pairs == {("digits", "flip"), ("scenes", "flip"), ("scenes", "mass")}


# --- what is missing


def test_missing_and_corrupt_files_are_listed_and_the_rest_is_built(results):
    cells = results.grid.cells()
    gone, cut, odd = cells[0], cells[3], cells[8]
    whole = results.tables(METRICS)
    results.path(gone).unlink()
    results.path(cut).write_bytes(results.path(cut).read_bytes()[:100])
    results.store(odd, results.read(odd).assign(status="fine"))
    (results.root / cells[-1].run.folder / "geometry.parquet").unlink()
    tables = results.tables(METRICS)
    missing = tables["missing"]
    listed = missing[["dataset", "loss", "seed", "method", "artifact"]].apply(tuple, axis=1)
    assert set(listed) == {
        ("scenes", "supcon", 2, "", "geometry.parquet"),
        *((*cell.axes.values(), "scores.parquet") for cell in (gone, cut, odd)),
    }
    assert missing["reason"].str.contains("no such file").sum() == 2
    assert missing["reason"].str.contains("status 'fine'").sum() == 1
    assert not missing["reason"].str.contains(str(results.root), regex=False).any()
    axes = list(COMPARISON_COLUMNS[:7])
    pd.testing.assert_frame_equal(tables["comparisons"][axes], whole["comparisons"][axes])
    runs = tables["comparisons"].groupby(["dataset", "method", "loss", "baseline"])["n_runs"]
    # Of gradcam on digits, cross-entropy lacks seed 0 and triplet lacks seed 1.
    assert set(runs.unique()["digits", "gradcam", "triplet", "cross-entropy"]) == {1}
    assert set(runs.unique()["digits", "gradcam", "supcon", "cross-entropy"]) == {2}
    assert set(runs.unique()["digits", "random", "supcon", "triplet"]) == {3}
    assert set(tables["comparisons"].query("dataset == 'scenes'")["n_runs"]) == {3}
    found = tables["coverage"].set_index(["dataset", "method"])
    assert set(found.loc[("digits", "gradcam"), "n_cells_found"]) == {7}
    assert set(found["n_cells"]) == {9}
    last = tables["models"].iloc[-1]
    assert np.isnan(last["silhouette"])
    assert last["accuracy"] > 0


def test_a_loss_without_any_scores_keeps_its_rows(results):
    for cell in results.grid.cells():
        if cell.run.loss == "supcon":
            results.path(cell).unlink()
    tables = results.tables(METRICS)
    found = tables["comparisons"]
    without = (found["loss"] == "supcon") | (found["baseline"] == "supcon")
    assert len(found) == 2 * 2 * 2 * 3
    assert set(found.loc[without, "verdict"]) == {"no data"}
    summary = tables["summary"].set_index("loss").loc["supcon"]
    assert set(summary["n_runs"]) == {0}
    assert summary[["mean", "sd", "rank", "constant_maps"]].isna().all(axis=None)


def test_scores_of_a_run_without_predictions_do_not_count_with_correct_only(results):
    run = results.grid.runs()[0]
    (results.root / run.folder / "predictions.parquet").unlink()
    found = results.tables(METRICS)["comparisons"]
    touched = (found["dataset"] == run.dataset) & (found["baseline"] == run.loss)
    assert set(found.loc[touched, "n_runs"]) == {2}
    assert set(found.loc[~touched, "n_runs"]) == {3}


@pytest.mark.parametrize("artifact", ["scores", "predictions", "geometry", "trust", "history"])
def test_strict_reading_raises_with_the_name_of_the_file(results, artifact):
    cell = results.grid.cells()[5]
    folder = cell.folder if artifact == "scores" else cell.run.folder
    path = results.root / folder / f"{artifact}.parquet"
    path.unlink()
    with pytest.raises(CorruptArtifact, match=re.escape(str(path))):
        results.tables(METRICS, strict=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: pd.concat([frame, frame.iloc[[3]]]), "two rows"),
        (lambda frame: frame.drop(columns="reason"), "no column"),
        (lambda frame: frame.assign(value="1.0"), "holds no numbers"),
        (lambda frame: frame.assign(metric=None), "is empty"),
    ],
)
def test_a_score_file_of_another_format_is_named_with_what_is_wrong(results, change, said):
    cell = results.grid.cells()[1]
    results.store(cell, change(results.read(cell)))
    missing = results.tables(METRICS)["missing"]
    assert len(missing) == 1
    assert cell.folder in missing["reason"][0]
    assert said in missing["reason"][0]


def test_scores_of_a_metric_that_the_grid_does_not_name_are_left_out_and_listed(results):
    tables = results.tables({"flip": METRICS["flip"]})
    assert set(tables["comparisons"]["metric"]) == {"flip"}
    missing = tables["missing"]
    assert len(missing) == len(results.grid.cells())
    assert missing["reason"].str.contains("'mass'").all()


def test_nothing_there_at_all_gives_whole_empty_tables(tmp_path):
    results = Results(tmp_path)
    tables = results.tables()
    assert list(tables) == list(TABLES)
    assert len(tables["missing"]) == 9 + 4 * 9
    assert list(tables["comparisons"].columns) == list(COMPARISON_COLUMNS)
    assert len(tables["comparisons"]) == 0
    assert len(tables["models"]) == 9
    write_tables(tables, tmp_path / "tables")


def test_a_baseline_that_is_no_loss_is_an_error(tmp_path):
    results = Results(tmp_path)
    with pytest.raises(ValueError, match="'sgd'"):
        build_tables(tmp_path, results.grid, {"flip": Metric()}, "sgd")


def test_runs_hold_the_means_over_the_images_that_count_for_all_losses(results):
    cell = next(c for c in results.grid.cells() if c.run == Run("digits", "triplet", 1))
    frame = results.read(cell)
    frame.loc[(frame["metric"] == "flip") & (frame["image"] < 4), ["value", "status"]] = [
        np.nan,
        "nan",
    ]
    results.store(cell, frame)
    runs = results.tables(METRICS, Settings(resamples=200, correct_only=False))["runs"]
    here = runs.query("dataset == 'digits' and method == @cell.method and metric == 'flip'")
    for row in here.itertuples():
        read = results.read(Cell(Run("digits", row.loss, row.seed), cell.method))
        values = read[read["metric"] == "flip"].set_index("image")["value"]
        assert row.mean == pytest.approx(values.mean())
        assert row.sd == pytest.approx(values.std(ddof=1))
        first = 4 if row.seed == 1 else 0
        assert (row.n_paired, row.paired_mean) == (20 - first, pytest.approx(values[first:].mean()))
        assert row.n_nan == (4 if (row.loss, row.seed) == ("triplet", 1) else 0)
    ranks = results.tables(METRICS)["summary"].query("metric == 'flip'")
    for _, group in ranks.groupby(["dataset", "method"]):
        assert (group["paired_mean"].rank() == group["rank"]).all()


def test_curves_are_means_over_runs_of_means_over_the_images_that_count(tmp_path):
    results = Results(tmp_path, seeds=2)
    right = results.write_runs(np.random.default_rng(9), share_correct=0.8)
    rng = np.random.default_rng(10)
    made = {}
    for cell in results.grid.cells():
        curves = rng.random((20, 3))
        status = np.where(rng.random(20) < 0.8, "ok", "nan")
        frame = pd.DataFrame(
            {
                "image": np.arange(20, dtype=np.int32),
                "metric": "flip",
                "value": np.where(status == "ok", curves.mean(axis=1), np.nan),
                "status": status,
                "reason": np.where(status == "ok", "", "why"),
                "curve": list(curves),
            }
        )
        about = json.dumps({"flip": {"axis": "share removed", "at": [0.0, 0.5, 1.0]}})
        storage.write_table(results.path(cell), frame, {"curves": about}, lists=["curve"])
        made[cell.run.loss, cell.run.seed] = curves, status == "ok"
    found = results.tables()["curves"]
    assert set(found["axis"]) == {"share removed"}
    for loss in LOSSES:
        means = []
        for seed in (0, 1):
            kept = np.all(
                [
                    right["digits", other, seed].query("split == 'evaluation'")["correct"]
                    for other in LOSSES
                ],
                axis=0,
            )
            curves, ok = made[loss, seed]
            means.append(curves[ok & kept].mean(axis=0))
        rows = found[found["loss"] == loss]
        assert rows["at"].tolist() == [0.0, 0.5, 1.0]
        assert np.allclose(rows["mean"], np.mean(means, axis=0))
        assert np.allclose(rows["sd"], np.std(means, axis=0, ddof=1))
        assert set(rows["n_runs"]) == {2}


# --- models


def test_models_hold_accuracies_of_the_right_images_and_every_measure(tmp_path):
    results = Results(tmp_path, datasets=("digits", "scenes"))
    right = results.write_runs(np.random.default_rng(7), scenes=6, share_correct=0.8)
    tables = results.tables()
    models = tables["models"]
    for row in models.to_dict("records"):
        frame = right[row["dataset"], row["loss"], row["seed"]]
        test, scenes = frame["split"] == "test", frame["second_label"] >= 0
        assert (test.sum(), scenes.sum()) == (TEST_IMAGES, 6)
        for suffix, rows in (("", test), ("_scenes", scenes)):
            assert row[f"accuracy{suffix}"] == pytest.approx(frame.loc[rows, "correct"].mean())
        assert row["accuracy_prototype"] == pytest.approx(
            frame.loc[test, "correct_prototype"].mean()
        )
    summary = tables["models-summary"].set_index(["dataset", "loss", "measure"])
    for (dataset, loss), group in models.groupby(["dataset", "loss"]):
        for measure in ("accuracy", "silhouette", "distance-ratio", "ece", "pgd-accuracy:0.1"):
            row = summary.loc[dataset, loss, measure]
            assert row["mean"] == pytest.approx(group[measure].mean())
            assert row["sd"] == pytest.approx(group[measure].std(ddof=1))
            assert row["n_runs"] == 3
    directions = tables["models-summary"].set_index("measure")["direction"]
    assert set(directions["distance-ratio"]) == {"lower"}
    assert set(directions["accuracy"]) == {"higher"}


def test_there_is_no_accuracy_on_scenes_where_there_are_none(tmp_path):
    results = Results(tmp_path)
    results.write_runs(np.random.default_rng(8), scenes=0)
    models = results.tables()["models"]
    assert "accuracy_scenes" not in models
    assert models["accuracy"].notna().all()


@pytest.fixture
def failed(results):
    """The results, of which one run diverged."""
    run = Run("digits", "triplet", 1)
    results.fail(run)
    return results, run


def test_a_failed_run_is_shown_with_status_epoch_and_reason_and_has_no_numbers(failed):
    results, run = failed
    models = results.tables(METRICS)["models"].set_index(["dataset", "loss", "seed"])
    row = models.loc[(run.dataset, run.loss, run.seed)]
    assert (row["status"], row["status_epoch"]) == ("diverged", 2)
    assert row["status_reason"] == "the loss is not finite"
    assert row["images_seen"] == 301
    assert row[["accuracy", "silhouette", "ece"]].isna().all()
    others = models.drop(index=[(run.dataset, run.loss, run.seed)])
    assert set(others["status"]) == {"ok"}
    assert others["status_epoch"].isna().all()
    assert others["accuracy"].notna().all()


def test_a_failed_run_takes_no_image_from_the_other_losses(failed):
    results, _ = failed
    models = results.tables(METRICS)["models"]
    evaluated = {
        loss: frame.query("split == 'evaluation'")["correct"].to_numpy()
        for loss in ("cross-entropy", "supcon")
        for frame in [
            storage.read_table(results.root / Run("digits", loss, 1).folder / "predictions.parquet")
        ]
    }
    kept = (evaluated["cross-entropy"] & evaluated["supcon"]).sum()
    here = models.query("dataset == 'digits' and seed == 1 and loss != 'triplet'")
    assert set(here["n_kept"]) == {kept}
    assert kept > 0


def test_a_failed_run_is_counted_and_compared_with_nothing(failed):
    results, _ = failed
    tables = results.tables(METRICS)
    summary = tables["models-summary"].set_index(["dataset", "loss", "measure"])
    row = summary.loc["digits", "triplet", "ece"]
    assert (row["n_runs"], row["n_failed"], row["n_nan"]) == (2, 1, 0)
    assert set(summary.query("dataset != 'digits' or loss != 'triplet'")["n_failed"]) == {0}
    for name, axis in (("comparisons", "method"), ("models-comparisons", "measure")):
        frame = tables[name]
        touched = (frame["dataset"] == "digits") & (
            (frame["loss"] == "triplet") | (frame["baseline"] == "triplet")
        )
        assert frame[axis].nunique() > 1
        assert set(frame.loc[touched, "n_runs"]) == {2}
        assert set(frame.loc[~touched, "n_runs"]) == {3}
    scores = tables["summary"].query("dataset == 'digits' and loss == 'triplet'")
    assert set(scores["n_runs"]) == {2}
    assert set(scores["n_unavailable"]) == {20}


def test_a_measure_without_a_value_is_counted_with_its_reason(results):
    path = results.root / Run("digits", "triplet", 0).folder / "geometry.parquet"
    frame = storage.read_table(path)
    frame.loc[0, ["value", "reason"]] = [np.nan, "collapsed: all embeddings are equal"]
    storage.write_table(path, frame)
    summary = results.tables(METRICS)["models-summary"]
    row = summary.query("dataset == 'digits' and loss == 'triplet' and measure == 'silhouette'")
    assert row[["n_runs", "n_nan", "n_failed"]].to_numpy().tolist() == [[2, 1, 0]]
    assert row["reason"].tolist() == ["collapsed: all embeddings are equal"]
    assert set(summary.drop(index=row.index)["reason"]) == {""}


def test_every_head_that_predictions_have_gets_its_accuracy(tmp_path):
    results = Results(tmp_path)
    rng = np.random.default_rng(3)
    results.write_runs(rng)
    expected = {}
    for run in results.grid.runs():
        path = tmp_path / run.folder / "predictions.parquet"
        frame = storage.read_table(path)
        frame["correct_knn"] = rng.random(len(frame)) < 0.5
        storage.write_table(path, frame, OK)
        expected[run.loss, run.seed] = frame.loc[frame["split"] == "test", "correct_knn"].mean()
    models = results.tables()["models"]
    for row in models.to_dict("records"):
        assert row["accuracy_knn"] == pytest.approx(expected[row["loss"], row["seed"]])


def test_models_are_compared_by_the_differences_of_their_runs(tmp_path):
    results = Results(tmp_path, seeds=8)
    results.write_runs(np.random.default_rng(4))
    shift = {"cross-entropy": 0.0, "triplet": 0.2, "supcon": 0.0}
    values = {}
    for run in results.grid.runs():
        path = tmp_path / run.folder / "trust.parquet"
        frame = storage.read_table(path)
        noise = np.random.default_rng([run.seed, len(run.loss)]).normal(0, 0.01)
        frame.loc[frame["measure"] == "ece", "value"] = 0.3 + shift[run.loss] + noise
        storage.write_table(path, frame)
        values[run.loss, run.seed] = 0.3 + shift[run.loss] + noise
    found = results.tables()["models-comparisons"].query("measure == 'ece'")
    row = found.query("loss == 'triplet' and baseline == 'cross-entropy'").iloc[0]
    differences = [values["triplet", s] - values["cross-entropy", s] for s in range(8)]
    assert row["difference"] == pytest.approx(np.mean(differences))
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(interval))
    assert min(differences) <= row["bootstrap_low"] < np.mean(differences) < row["bootstrap_high"]
    assert row["p"] == pytest.approx(2 / 2**8)
    # Of three comparisons of this measure, one has the third of the level to itself.
    assert row["p_adjusted"] <= 3 * row["p"] + 1e-12
    assert row["verdict"] == "worse"
    assert (row["group"], row["direction"]) == ("calibration", "lower")


def test_each_seed_is_compared_with_itself_only(tmp_path):
    results = Results(tmp_path, seeds=4)
    results.write_runs(np.random.default_rng(5))
    gone = results.root / Run("digits", "triplet", 2).folder / "trust.parquet"
    gone.unlink()
    found = results.tables()["models-comparisons"].query("measure == 'ece' and loss == 'triplet'")
    values = {
        (loss, seed): storage.read_table(path).set_index("measure")["value"]["ece"]
        for loss in ("cross-entropy", "triplet")
        for seed in range(4)
        if (path := results.root / Run("digits", loss, seed).folder / "trust.parquet").exists()
    }
    assert found["n_runs"].tolist() == [3]
    kept = [values["cross-entropy", seed] for seed in (0, 1, 3)]
    assert found["mean_baseline"].iloc[0] == pytest.approx(np.mean(kept))


@pytest.mark.parametrize(
    ("artifact", "change", "metadata", "said"),
    [
        ("trust", lambda f: f.assign(group="luck"), {}, "group 'luck'"),
        ("trust", lambda f: pd.concat([f, f]), {}, "two rows"),
        ("geometry", lambda f: f.drop(columns="reason"), {}, "no column"),
        ("predictions", lambda f: f, {}, "no status"),
        ("predictions", lambda f: f.drop(columns="correct"), OK, "no column"),
    ],
)
def test_a_file_of_a_run_of_another_format_is_named(results, artifact, change, metadata, said):
    path = results.root / Run("digits", "supcon", 0).folder / f"{artifact}.parquet"
    storage.write_table(path, change(storage.read_table(path)), metadata)
    missing = results.tables(METRICS)["missing"]
    assert missing[["loss", "seed", "artifact"]].to_numpy().tolist() == [
        ["supcon", 0, f"{artifact}.parquet"]
    ]
    assert said in missing["reason"][0]


def test_a_value_that_is_not_finite_never_passes_for_a_number(results):
    path = results.root / Run("digits", "supcon", 0).folder / "trust.parquet"
    storage.write_table(path, storage.read_table(path).assign(value=np.inf))
    row = results.tables(METRICS)["models"].query("loss == 'supcon' and seed == 0").iloc[0]
    assert np.isnan(row["ece"])


# --- formats


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_scores_give_the_same_bytes_whatever_the_order_of_rows(results, tmp_path):
    write_tables(results.tables(METRICS), tmp_path / "one")
    write_tables(results.tables(METRICS), tmp_path / "two")
    for path in results.root.rglob("*.parquet"):
        if "seed=" in str(path):
            shuffled = storage.read_table(path).sample(frac=1, random_state=0)
            storage.write_table(path, shuffled, storage.read_table_metadata(path))
    write_tables(results.tables(METRICS), tmp_path / "three")
    files = written(tmp_path / "one")
    assert files == written(tmp_path / "two") == written(tmp_path / "three")
    assert set(files) == set(table_files())


def test_the_same_scores_give_the_same_bytes_with_any_number_of_processes(
    results, tmp_path, monkeypatch
):
    monkeypatch.setattr("clarity.tables.build.FEW_CELLS", 0)
    for workers in (1, 2):
        tables = results.tables(METRICS, workers=workers)
        write_tables(tables, tmp_path / f"{workers}")
    assert written(tmp_path / "1") == written(tmp_path / "2")


def test_csv_and_parquet_hold_the_same_numbers(results, tmp_path):
    tables = results.tables(METRICS)
    write_tables(tables, tmp_path / "tables")
    for name, table in tables.items():
        path = tmp_path / "tables" / f"{name}.csv"
        assert b"\r" not in path.read_bytes()
        csv = pd.read_csv(path, dtype={"method": str}, keep_default_na=False, na_values={})
        assert list(csv) == list(table)
        assert len(csv) == len(table)
        stored = storage.read_table(path.with_suffix(".parquet"))
        pd.testing.assert_frame_equal(stored, table, check_dtype=False, check_exact=True)
        for column in table.select_dtypes("number"):
            numbers = pd.to_numeric(csv[column])
            np.testing.assert_allclose(numbers, table[column], rtol=1e-5)


def test_every_column_of_every_table_is_described(results):
    tables = results.tables(METRICS)
    text = readme(tables)
    sections = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    assert list(sections) == list(tables) == list(TABLES)
    assert set(COLUMNS) == set(TABLES)
    for name, table in tables.items():
        described = dict(re.findall(r"^\| `(\S+)` \| (.+) \|$", sections[name], flags=re.M))
        assert list(described) == list(table)
        assert all(len(meaning) > 8 for meaning in described.values())
        dynamic = set(tables["models-summary"]["measure"]) - {"corruption-jpeg:1"}
        measures = dynamic if name == "models" else set()
        assert set(COLUMNS[name]) == set(table) - measures
    with pytest.raises(ValueError, match="'more'"):
        readme({"summary": tables["summary"].assign(more=1)})


def test_latex_is_balanced_rows_of_equal_length_with_names_escaped(results):
    tables = results.tables({"flip_50%": METRICS["flip"], **METRICS})
    frame = tables["comparisons"].replace({"triplet": "tri_plet & 5%"})
    text = latex("comparisons", frame)
    assert r"tri\_plet \& 5\%" in text
    assert "tri_plet" not in text
    assert set(LATEX) == set(SHOWN)
    for name in LATEX:
        text = latex(name, tables[name])
        assert text.count("{") == text.count("}")
        assert text.count("$") % 2 == 0
        for environment in re.findall(r"\\begin\{(\w+)\}", text):
            assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}")
        columns = len(re.search(r"\\begin\{longtable\}\{([lr]+)\}", text)[1])
        body = text[text.index(r"\endlastfoot") :].splitlines()
        rows = [line for line in body if line.endswith(r"\\")]
        table = tables[name]
        # Of ranks, all methods together are what a paper has room for.
        printed = table[table["method"] == "all"] if name in ("ranks", "posthoc") else table
        assert len(rows) == len(printed) > 0
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (number(0.123456), "$0.123$"),
        (number(-1.5e-7), r"$-1.5 \times 10^{-7}$"),
        (number(float("nan")), "--"),
        (p_value(0.25), "$0.250$"),
        (p_value(0.0004), "$<0.001$"),
        (with_sd(0.34567, 0.0234), r"$0.346 \pm 0.023$"),
        (with_sd(12.3, 4.56), r"$12.3 \pm 4.6$"),
        (with_sd(0.5, float("nan")), "$0.5$"),
        (with_sd(0.5, 0.0), "$0.5$"),
    ],
)
def test_numbers_in_latex_have_sensible_digits(made, expected):
    assert made == expected


def _summary_of(ranks: dict[str, dict[str, float]]) -> pd.DataFrame:
    rows = [
        {
            "dataset": "d",
            "method": "m",
            "metric": metric,
            "category": "faithfulness",
            "direction": "lower",
            "loss": loss,
            "mean": rank / 10,
            "sd": 0.0,
            "rank": rank,
        }
        for metric, of_losses in ranks.items()
        for loss, rank in of_losses.items()
    ]
    return pd.DataFrame(rows)


def test_settings_shows_how_the_ranking_of_the_losses_changes_with_them():
    summary = _summary_of(
        {
            "flip-black": {"a": 1, "b": 2, "c": 3},
            "flip-mean": {"a": 1, "b": 3, "c": 2},
            "flip-blur": {"a": 3, "b": 2, "c": 1},
            "other": {"a": 1, "b": 2, "c": 3},
        }
    )
    families = dict.fromkeys(("flip-black", "flip-mean", "flip-blur"), "flip")
    found = settings_table(summary, families)
    assert found["setting"].tolist() == [n for n in families for _ in range(3)]
    assert set(found["family"]) == {"flip"}
    assert found.groupby("loss")["n_first"].first().to_dict() == {"a": 2, "b": 0, "c": 1}
    assert set(found["n_settings"]) == {3}
    # tau of (1, 2, 3) with (1, 3, 2) is 1/3, with (3, 2, 1) -1; of (1, 3, 2) with (3, 2, 1) -1/3.
    np.testing.assert_allclose(found["agreement"], (1 / 3 - 1 - 1 / 3) / 3)


def test_settings_is_empty_and_whole_where_no_metric_has_any():
    found = settings_table(_summary_of({"flip": {"a": 1, "b": 2}}), {})
    assert len(found) == 0
    assert list(found) == list(COLUMNS["settings"])


def test_settings_without_a_ranking_have_no_agreement():
    nothing = {"a": np.nan, "b": np.nan}
    families = {"x": "f", "y": "f"}
    found = settings_table(_summary_of({"x": nothing, "y": nothing}), families)
    assert found["agreement"].isna().all()
    assert (found["n_first"] == 0).all()
