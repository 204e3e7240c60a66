"""Promises of the statistics: each against an independent oracle or a property."""

import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd

from clarity.statistics.comparisons import COLUMNS, Settings, compare, loss_pairs, mark_correct
from clarity.statistics.resampling import hierarchical_bootstrap, percentile_interval
from clarity.statistics.significance import EXACT_RUNS, hedges_g, holm, sign_flip_p, smallest_p


class Metric:
    """Category and direction of a metric."""

    def __init__(self, direction: str = "higher", category: str = "faithfulness") -> None:
        self.direction = direction
        self.category = category


def scores_frame(values: dict[tuple, np.ndarray], losses=("ce", "triplet")) -> pd.DataFrame:
    """Make scores from {(dataset, loss, seed, method, metric): values by image}."""
    parts = []
    for (dataset, loss, seed, method, metric), numbers in values.items():
        part = pd.DataFrame({"value": np.asarray(numbers, dtype=float)})
        part["image"] = np.arange(len(part), dtype=np.int32)
        part["status"] = np.where(part["value"].isna(), "nan", "ok")
        axes = {"dataset": dataset, "loss": loss, "seed": seed, "method": method, "metric": metric}
        parts.append(part.assign(**axes, correct=True))
    frame = pd.concat(parts, ignore_index=True)
    for axis in ("dataset", "method", "metric"):
        frame[axis] = pd.Categorical(frame[axis], sorted(set(frame[axis])))
    frame["loss"] = pd.Categorical(frame["loss"], list(losses))
    return frame


def planted(rng, effects: dict[str, float], seeds: int, images: int = 20, metric="m"):
    """Scores of each loss: its effect + an effect of the image + noise of run and image."""
    of_image = rng.normal(size=images)
    return {
        ("d", loss, seed, "saliency", metric): effect
        + of_image
        + rng.normal(0, 0.1)
        + rng.normal(0, 0.2, images)
        for loss, effect in effects.items()
        for seed in range(seeds)
    }


# --- hierarchical bootstrap


def test_bootstrap_mean_and_spread_are_those_of_the_two_level_plug_in_distribution():
    rng = np.random.default_rng(0)
    runs = [rng.normal(loc, 1, size) for loc, size in ((0, 7), (1, 30), (2, 12), (0.5, 4))]
    drawn = hierarchical_bootstrap(runs, 40_000, np.random.default_rng(1))
    means = np.array([run.mean() for run in runs])
    within = np.mean([run.var() / len(run) for run in runs])
    expected_sd = math.sqrt((means.var() + within) / len(runs))
    assert drawn.mean() == pytest.approx(means.mean(), abs=5 * expected_sd / 200)
    assert drawn.std() == pytest.approx(expected_sd, rel=0.02)


def test_bootstrap_has_the_distribution_of_a_naive_loop():
    rng = np.random.default_rng(2)
    runs = [rng.exponential(size=size) for size in (3, 8, 5)]
    loop = np.random.default_rng(3)
    naive = [
        np.mean(
            [
                loop.choice(run, len(run)).mean()
                for run in (runs[i] for i in loop.integers(3, size=3))
            ]
        )
        for _ in range(4000)
    ]
    drawn = hierarchical_bootstrap(runs, 4000, np.random.default_rng(4))
    assert stats.ks_2samp(drawn, naive).pvalue > 0.001


def test_bootstrap_interval_of_runs_without_image_noise_with_three_runs_is_their_range():
    runs = [np.full(10, value) for value in (0.1, 0.7, 0.4)]
    drawn = hierarchical_bootstrap(runs, 2000, np.random.default_rng(0))
    assert np.allclose(percentile_interval(drawn, 0.95), (0.1, 0.7))


def test_bootstrap_interval_keeps_the_width_of_the_runs_however_many_images_they_have():
    rng = np.random.default_rng(5)
    effects = rng.normal(size=4)
    runs = [effect + rng.normal(0, 1, 5000) for effect in effects]
    low, high = percentile_interval(hierarchical_bootstrap(runs, 2000, rng), 0.95)
    resampled_runs = rng.choice(effects, size=(2000, 4)).mean(axis=1)
    floor = np.diff(np.quantile(resampled_runs, [0.025, 0.975]))[0]
    pooled = 2 * 1.96 * np.concatenate(runs).std() / math.sqrt(4 * 5000)
    assert high - low == pytest.approx(floor, rel=0.1)
    assert high - low > 20 * pooled


def test_bootstrap_of_columns_equals_that_of_each_column_and_of_chunks(monkeypatch):
    rng = np.random.default_rng(6)
    runs = [rng.normal(size=(size, 3)) for size in (6, 9)]
    together = hierarchical_bootstrap(runs, 300, np.random.default_rng(7))
    for column in range(3):
        alone = hierarchical_bootstrap(
            [run[:, column] for run in runs], 300, np.random.default_rng(7)
        )
        assert np.allclose(together[:, column], alone, rtol=0, atol=1e-12)
    monkeypatch.setattr("clarity.statistics.resampling.CHUNK", 50)
    in_chunks = hierarchical_bootstrap(runs, 300, np.random.default_rng(7))
    assert np.allclose(in_chunks, together, rtol=0, atol=1e-12)


@pytest.mark.parametrize("runs", [[], [np.ones(3), np.ones(0)], [np.ones((3, 2)), np.ones((3, 1))]])
def test_bootstrap_refuses_what_has_no_two_levels(runs):
    with pytest.raises(ValueError, match="run"):
        hierarchical_bootstrap(runs, 10, np.random.default_rng(0))


# --- sign-flip test


@pytest.mark.parametrize("runs", [1, 2, 3, 5, 8, 11])
def test_sign_flip_p_is_the_share_of_all_sign_patterns_that_are_as_extreme(runs):
    rng = np.random.default_rng(runs)
    differences = rng.normal(0.7, 1, size=(20, runs))
    expected = []
    for row in differences:
        sums = [abs(np.dot(row, signs)) for signs in itertools.product((1, -1), repeat=runs)]
        expected.append(np.mean([value >= abs(row.sum()) - 1e-9 for value in sums]))
    found = sign_flip_p(differences, np.random.default_rng(0))
    assert np.allclose(found, expected, rtol=0, atol=1e-12)


def test_sign_flip_p_is_that_of_scipy_alone_on_each_row():
    rows = np.random.default_rng(1).normal(0.5, 1, size=(10, 7))
    for row, p in zip(rows, sign_flip_p(rows, np.random.default_rng(0)), strict=True):
        alone = stats.permutation_test((row,), np.mean, permutation_type="samples")
        assert p == alone.pvalue


@pytest.mark.parametrize("runs", [2, 3, 6, 12])
def test_smallest_p_is_reached_by_runs_that_all_agree_and_never_undercut(runs):
    agreeing = np.full((1, runs), 1e6) + np.arange(runs)
    assert sign_flip_p(agreeing, np.random.default_rng(0))[0] == smallest_p(runs) == 2 / 2**runs


def test_with_many_runs_p_is_drawn_near_the_normal_limit_and_never_zero():
    rng = np.random.default_rng(2)
    rows = rng.normal(0.3, 1, size=(3, 60))
    z = rows.sum(axis=1) / np.sqrt((rows**2).sum(axis=1))
    found = sign_flip_p(rows, np.random.default_rng(3))
    assert np.allclose(found, 2 * stats.norm.sf(np.abs(z)), atol=0.01)
    extreme = sign_flip_p(np.ones((1, 60)), np.random.default_rng(3))[0]
    assert extreme == smallest_p(60) == 2 / 2**EXACT_RUNS


def test_no_difference_at_all_has_p_one():
    assert sign_flip_p(np.zeros((2, 5)), np.random.default_rng(0)).tolist() == [1.0, 1.0]


def test_sign_flip_p_refuses_nan():
    with pytest.raises(ValueError, match="finite"):
        sign_flip_p(np.array([[1.0, np.nan]]), np.random.default_rng(0))


# --- effect size and Holm


def test_hedges_g_is_that_of_statsmodels():
    rng = np.random.default_rng(3)
    for runs in (2, 3, 10):
        a, b = rng.normal(1, 2, size=(2, 5, runs))
        expected, _ = effectsize_smd(
            a.mean(axis=1), a.std(axis=1, ddof=1), runs, b.mean(axis=1), b.std(axis=1, ddof=1), runs
        )
        assert np.allclose(hedges_g(a, b), expected, rtol=1e-12)


def test_hedges_g_is_unbiased_where_the_uncorrected_effect_is_not():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.8, 1, (20_000, 4)), rng.normal(0, 1, (20_000, 4))
    g = hedges_g(a, b)
    assert g.mean() == pytest.approx(0.8, abs=0.02)
    assert (g / (1 - 3 / 23)).mean() > 0.88


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([[1.0]], [[2.0]]),
        ([[1.0, 1.0, 1.0]], [[2.0, 2.0, 2.0]]),
        ([[0.1 + 0.2, 0.3, 0.3]], [[0.7, 0.7, 0.1 + 0.6]]),
        ([[0.0, 0.0]], [[0.0, 0.0]]),
    ],
)
def test_hedges_g_without_spread_between_runs_is_nan_and_never_infinite(a, b):
    assert np.isnan(hedges_g(np.array(a), np.array(b))).all()


def test_holm_steps_down_and_leaves_nan_out_of_the_family():
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    ordered = np.sort(p[~np.isnan(p)])
    steps = np.minimum(1, np.maximum.accumulate(ordered * (4 - np.arange(4))))
    expected = dict(zip(ordered, steps, strict=True))
    found = holm(p)
    assert np.isnan(found[1])
    assert [expected[value] for value in p[[0, 2, 3, 4]]] == pytest.approx(found[[0, 2, 3, 4]])
    assert np.isnan(holm(np.array([np.nan]))).all()


# --- comparisons


def test_every_pair_of_losses_is_compared_once_with_the_baseline_first():
    pairs = loss_pairs(["a", "base", "b", "c"], "base")
    assert pairs[:3] == [("a", "base"), ("b", "base"), ("c", "base")]
    assert pairs[3:] == [("b", "a"), ("c", "a"), ("c", "b")]
    with pytest.raises(ValueError, match="'none'"):
        loss_pairs(["a", "b"], "none")


@pytest.mark.parametrize(
    ("direction", "effect", "verdict"),
    [
        ("higher", 0.8, "better"),
        ("higher", -0.8, "worse"),
        ("lower", 0.8, "worse"),
        ("lower", -0.8, "better"),
        ("none", 0.8, "different"),
        ("higher", 0.0, "inconclusive"),
    ],
)
def test_verdict_follows_the_direction_of_the_metric(direction, effect, verdict):
    values = planted(np.random.default_rng(5), {"ce": 0, "triplet": effect}, seeds=8)
    found = compare(scores_frame(values), "ce", {"m": Metric(direction)}, Settings())
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 1
    assert found["verdict"][0] == verdict
    assert (found["loss"][0], found["baseline"][0]) == ("triplet", "ce")
    if effect:
        assert found["difference"][0] == pytest.approx(effect, abs=0.2)
        assert found["ci_low"][0] < found["difference"][0] < found["ci_high"][0]
        assert np.sign(found["effect_size"][0]) == np.sign(effect)


def test_three_seeds_are_always_inconclusive_however_large_the_difference():
    effects = {"ce": 0, "triplet": 1000, "supcon": -1000}
    values = planted(np.random.default_rng(6), effects, seeds=3)
    frame = scores_frame(values, list(effects))
    found = compare(frame, "ce", {"m": Metric()}, Settings())
    assert len(found) == 3
    assert (found["p"] >= 0.25).all()
    assert set(found["verdict"]) == {"inconclusive"}


def test_swapping_loss_and_baseline_flips_every_sign_and_nothing_else():
    values = planted(np.random.default_rng(7), {"ce": 0, "triplet": 0.3}, seeds=7)
    frame = scores_frame(values)
    one = compare(frame, "ce", {"m": Metric()}, Settings()).iloc[0]
    other = compare(frame, "triplet", {"m": Metric()}, Settings()).iloc[0]
    assert (other["loss"], other["baseline"]) == (one["baseline"], one["loss"])
    assert other["difference"] == -one["difference"]
    assert other["effect_size"] == pytest.approx(-one["effect_size"])
    assert [other["ci_low"], other["ci_high"]] == pytest.approx([-one["ci_high"], -one["ci_low"]])
    assert (other["mean"], other["mean_baseline"]) == (one["mean_baseline"], one["mean"])
    assert (other["p"], other["n_images"]) == (one["p"], one["n_images"])
    assert {one["verdict"], other["verdict"]} == {"better", "worse"}


def test_a_comparison_is_the_paired_mean_over_runs_of_means_over_images():
    values = {
        ("d", "ce", 0, "s", "m"): [1.0, 2.0, np.nan, 4.0],
        ("d", "triplet", 0, "s", "m"): [2.0, np.nan, 30.0, 8.0],
        ("d", "ce", 1, "s", "m"): [1.0, 1.0, 1.0, 1.0],
        ("d", "triplet", 1, "s", "m"): [1.0, 2.0, 3.0, 4.0],
        ("d", "triplet", 2, "s", "m"): [9.0, 9.0, 9.0, 9.0],
    }
    found = compare(scores_frame(values), "ce", {"m": Metric()}, Settings()).iloc[0]
    assert (found["n_runs"], found["n_images"]) == (2, 6)
    assert found["mean"] == pytest.approx(np.mean([(2 + 8) / 2, 2.5]))
    assert found["mean_baseline"] == pytest.approx(np.mean([(1 + 4) / 2, 1.0]))
    assert found["difference"] == pytest.approx(found["mean"] - found["mean_baseline"])
    assert found["p"] == smallest_p(2)


def test_no_paired_image_is_a_row_without_data_and_outside_the_family():
    values = planted(np.random.default_rng(8), {"ce": 0, "triplet": 5}, seeds=8)
    values |= {
        ("d", "ce", 0, "gradcam", "m"): [1.0, np.nan],
        ("d", "triplet", 0, "gradcam", "m"): [np.nan, 1.0],
    }
    found = compare(scores_frame(values), "ce", {"m": Metric()}, Settings()).set_index("method")
    empty = found.loc["gradcam"]
    assert (empty["n_runs"], empty["n_images"], empty["verdict"]) == (0, 0, "no data")
    numbers = ["mean", "mean_baseline", "difference", "ci_low", "ci_high", "effect_size", "p"]
    assert empty[[*numbers, "p_holm"]].isna().all()
    assert found.loc["saliency", "p_holm"] == found.loc["saliency", "p"] == smallest_p(8)


def test_one_run_has_a_difference_but_no_interval_and_no_effect_size():
    values = planted(np.random.default_rng(9), {"ce": 0, "triplet": 5}, seeds=1)
    found = compare(scores_frame(values), "ce", {"m": Metric()}, Settings()).iloc[0]
    assert found["difference"] == pytest.approx(5, abs=1)
    assert found[["ci_low", "ci_high", "effect_size"]].isna().all()
    assert (found["p"], found["verdict"]) == (1.0, "inconclusive")


def test_a_family_is_one_metric_and_controls_are_their_own():
    rng = np.random.default_rng(10)
    values = {}
    for dataset, method, metric in itertools.product("de", ("gradcam", "random", "s"), ("m", "n")):
        for loss, seed in itertools.product(("ce", "triplet", "supcon"), range(8)):
            values[dataset, loss, seed, method, metric] = rng.normal(size=6) + (loss != "ce")
    frame = scores_frame(values, ["ce", "triplet", "supcon"])
    found = compare(frame, "ce", {"m": Metric(), "n": Metric()}, Settings(), controls=["random"])
    sizes = Counter()
    for metric, controls in itertools.product(("m", "n"), (True, False)):
        family = found[(found["metric"] == metric) & ((found["method"] == "random") == controls)]
        sizes[controls, len(family)] += 1
        ordered = family.sort_values("p")
        factor = len(family) - np.arange(len(family))
        expected = np.minimum(1, np.maximum.accumulate(ordered["p"] * factor))
        assert np.allclose(ordered["p_holm"], expected)
    assert sizes == {(True, 6): 2, (False, 12): 2}


def test_order_of_rows_does_not_matter():
    values = planted(np.random.default_rng(11), {"ce": 0, "triplet": 0.3, "supcon": 0.1}, seeds=5)
    frame = scores_frame(values, ["ce", "triplet", "supcon"])
    shuffled = frame.sample(frac=1, random_state=0)
    one, other = (compare(f, "ce", {"m": Metric()}, Settings()) for f in (frame, shuffled))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_an_interval_does_not_depend_on_which_other_losses_are_there():
    rng = np.random.default_rng(12)
    values = planted(rng, {"ce": 0, "triplet": 0.3, "supcon": 0.1}, seeds=4)
    values["d", "supcon", 1, "saliency", "m"][3] = np.nan
    three = compare(
        scores_frame(values, ["ce", "supcon", "triplet"]), "ce", {"m": Metric()}, Settings()
    )
    pair = {key: numbers for key, numbers in values.items() if key[1] != "supcon"}
    two = compare(scores_frame(pair), "ce", {"m": Metric()}, Settings()).iloc[0]
    row = three[(three["loss"] == "triplet") & (three["baseline"] == "ce")].iloc[0]
    columns = ["difference", "ci_low", "ci_high", "effect_size", "p"]
    assert row[columns].to_list() == pytest.approx(two[columns].to_list(), rel=1e-12)


def test_a_metric_without_direction_or_a_doubled_score_is_an_error_with_a_name():
    frame = scores_frame(planted(np.random.default_rng(13), {"ce": 0, "triplet": 1}, seeds=2))
    with pytest.raises(ValueError, match="for m"):
        compare(frame, "ce", {}, Settings())
    doubled = pd.concat([frame, frame.iloc[[0]]], ignore_index=True)
    with pytest.raises(ValueError, match="d/saliency/m"):
        compare(doubled, "ce", {"m": Metric()}, Settings())


def test_level_of_the_verdicts_is_one_minus_confidence_without_rounding():
    assert Settings(confidence=0.95).alpha == 0.05
    assert Settings(confidence=0.9).alpha == 0.1


# --- correct-only


def test_correct_is_what_all_losses_of_the_dataset_and_seed_classify_right():
    rng = np.random.default_rng(14)
    runs = list(itertools.product(("d", "e"), ("ce", "triplet", "supcon"), (0, 1)))
    right = {run: rng.random(12) < 0.7 for run in runs}
    predictions = pd.concat(
        [
            pd.DataFrame({"image": np.arange(12), "correct": right[dataset, loss, seed]}).assign(
                dataset=dataset, loss=loss, seed=seed
            )
            for dataset, loss, seed in runs
            if (dataset, loss, seed) != ("e", "supcon", 1)
        ]
    ).sample(frac=1, random_state=0)
    scores = pd.DataFrame(
        [(*run, image) for run in runs for image in (*range(12), 99, -1)],
        columns=["dataset", "loss", "seed", "image"],
    ).sample(frac=1, random_state=1)
    found = mark_correct(scores, predictions)
    for marked, row in zip(found, scores.itertuples(index=False), strict=True):
        if row.image in (99, -1) or (row.dataset, row.loss, row.seed) == ("e", "supcon", 1):
            assert not marked
            continue
        others = ["ce", "triplet", "supcon"][: 2 if (row.dataset, row.seed) == ("e", 1) else 3]
        assert marked == all(right[row.dataset, loss, row.seed][row.image] for loss in others)


def test_settings_decide_whether_incorrect_images_count():
    frame = scores_frame(planted(np.random.default_rng(15), {"ce": 0, "triplet": 1}, seeds=3))
    frame["correct"] = frame["image"] >= 5
    counts = [
        compare(frame, "ce", {"m": Metric()}, Settings(correct_only=flag))["n_images"][0]
        for flag in (True, False)
    ]
    assert counts == [3 * 15, 3 * 20]
