"""Promises of the statistics: each against an independent oracle or a property."""

import itertools
import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from clarity.statistics.blocks import ABSENT, NAN, OK, Block, complete
from clarity.statistics.comparisons import COLUMNS, compare, judge, loss_pairs, run_means
from clarity.statistics.resampling import (
    crossed_bootstrap,
    jackknife_interval,
    percentile_interval,
    without_each,
)
from clarity.statistics.settings import Family, Settings
from clarity.statistics.significance import (
    EXACT_RUNS,
    adjusted,
    fewest_runs,
    sign_flip_p,
    smallest_p,
)
from clarity.statistics.units import on_one_scale, units


class Metric:
    """Category and direction of a metric."""

    def __init__(self, direction: str = "higher", category: str = "faithfulness") -> None:
        self.direction = direction
        self.category = category
        self.verdict = False


def blocks_of(values: dict[tuple, np.ndarray], losses=("ce", "triplet"), wrong=()) -> list[Block]:
    """Make blocks from {(dataset, loss, seed, method, metric): values by image}."""
    blocks = []
    seeds = sorted({key[2] for key in values})
    for dataset, method in sorted({(key[0], key[3]) for key in values}):
        mine = {
            k: np.asarray(v, float) for k, v in values.items() if (k[0], k[3]) == (dataset, method)
        }
        metrics = sorted({key[4] for key in mine})
        images = np.arange(max(map(len, mine.values())))
        shape = len(metrics), len(losses), len(seeds), len(images)
        scores, status = np.full(shape, np.nan), np.full(shape, ABSENT, np.uint8)
        for (_, loss, seed, _, metric), numbers in mine.items():
            at = metrics.index(metric), losses.index(loss), seeds.index(seed)
            scores[*at, : len(numbers)] = numbers
            status[*at, : len(numbers)] = np.where(np.isnan(numbers), NAN, OK)
        right = np.broadcast_to(~np.isin(images, wrong), shape[1:])
        found = (status != ABSENT).any(axis=(0, 3))
        blocks.append(
            Block(
                dataset, method, metrics, list(losses), seeds, images, scores, status, right, found
            )
        )
    return blocks


def compared(
    values,
    losses=("ce", "triplet"),
    baseline="ce",
    metrics=None,
    settings=None,
    controls=(),
    wrong=(),
) -> pd.DataFrame:
    """Compare losses through the same steps as the tables do."""
    metrics = metrics or {"m": Metric()}
    settings = settings or Settings()
    rows = []
    for block in blocks_of(values, losses, wrong):
        runs = run_means(block, metrics, settings)
        rows.append(compare(block, runs, baseline, metrics, settings))
    return judge(pd.concat(rows, ignore_index=True), baseline, settings, controls)


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


# --- crossed bootstrap


def test_bootstrap_mean_and_spread_are_those_of_the_pigeonhole_variance():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 6, 1)) + rng.normal(size=(1, 1, 25)) + rng.normal(size=(1, 6, 25))
    drawn = crossed_bootstrap(values, 40_000, np.random.default_rng(1))[:, 0]
    (table,) = values
    runs, images = table.shape
    of_run = table.mean(axis=1) - table.mean()
    of_image = table.mean(axis=0) - table.mean()
    rest = table - table.mean() - of_run[:, None] - of_image
    # Owen (2007), equation 4, of a full table: each level by itself, and the rest at both.
    expected = (
        (of_run**2).mean() / runs
        + (of_image**2).mean() / images
        + (rest**2).mean() / (runs * images)
    )
    assert drawn.mean() == pytest.approx(table.mean(), abs=5 * math.sqrt(expected / 40_000))
    assert drawn.std() == pytest.approx(math.sqrt(expected), rel=0.02)


def test_bootstrap_has_the_distribution_of_a_naive_loop_with_values_missing():
    rng = np.random.default_rng(2)
    table = rng.exponential(size=(4, 9))
    table[rng.random(table.shape) < 0.3] = np.nan
    loop = np.random.default_rng(3)
    naive = []
    for _ in range(4000):
        images = loop.integers(9, size=9)
        picked = table[loop.integers(4, size=4)][:, images]
        has = ~np.isnan(picked).all(axis=1)
        if has.any():
            naive.append(np.nanmean(picked[has], axis=1).mean())
    drawn = crossed_bootstrap(table[None], 4000, np.random.default_rng(4))[:, 0]
    assert stats.ks_2samp(drawn, naive).pvalue > 0.001


def test_bootstrap_interval_of_runs_without_image_noise_with_three_runs_is_their_range():
    runs = np.repeat([[[0.1], [0.7], [0.4]]], 10, axis=2)
    drawn = crossed_bootstrap(runs, 2000, np.random.default_rng(0))
    low, high = percentile_interval(drawn, 0.95)
    assert np.allclose((low[0], high[0]), (0.1, 0.7))


def test_bootstrap_interval_keeps_the_width_of_the_runs_however_many_images_they_have():
    rng = np.random.default_rng(5)
    effects = rng.normal(size=4)
    runs = effects[None, :, None] + rng.normal(0, 1, (1, 4, 5000))
    low, high = percentile_interval(crossed_bootstrap(runs, 2000, rng), 0.95)
    resampled_runs = rng.choice(effects, size=(2000, 4)).mean(axis=1)
    floor = np.diff(np.quantile(resampled_runs, [0.025, 0.975]))[0]
    pooled = 2 * 1.96 * runs.std() / math.sqrt(4 * 5000)
    assert high[0] - low[0] == pytest.approx(floor, rel=0.1)
    assert high[0] - low[0] > 20 * pooled


def test_bootstrap_of_comparisons_equals_that_of_each_and_of_chunks(monkeypatch):
    rng = np.random.default_rng(6)
    values = rng.normal(size=(3, 5, 8))
    values[:, 1, 2:6] = np.nan
    together = crossed_bootstrap(values, 300, np.random.default_rng(7))
    for row in range(3):
        alone = crossed_bootstrap(values[[row]], 300, np.random.default_rng(7))
        assert np.allclose(together[:, row], alone[:, 0], rtol=0, atol=1e-12)
    monkeypatch.setattr("clarity.statistics.resampling.CHUNK", 50)
    in_chunks = crossed_bootstrap(values, 300, np.random.default_rng(7))
    assert np.allclose(in_chunks, together, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "values",
    [np.empty((1, 0, 3)), np.full((1, 2, 3), np.nan), np.array([[[1.0, 2.0]], [[1.0, np.nan]]])],
)
def test_bootstrap_refuses_what_has_no_runs_no_images_or_unlike_gaps(values):
    with pytest.raises(ValueError, match="crossed_bootstrap"):
        crossed_bootstrap(values, 10, np.random.default_rng(0))


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


# --- adjustment


@pytest.mark.parametrize(
    ("adjustment", "name"), [("holm", "holm"), ("benjamini-hochberg", "fdr_bh")]
)
def test_adjustment_is_that_of_statsmodels_and_leaves_nan_out_of_the_family(adjustment, name):
    rng = np.random.default_rng(3)
    for size in (1, 2, 7, 60):
        p = rng.random(size).round(2)
        mixed = np.insert(p, size // 2, np.nan)
        found = adjusted(mixed, adjustment)
        assert np.isnan(found[size // 2])
        expected = multipletests(p, method=name)[1]
        assert np.allclose(np.delete(found, size // 2), expected, rtol=1e-12)
    assert np.isnan(adjusted(np.array([np.nan]), adjustment)).all()
    assert adjusted(np.empty(0), adjustment).shape == (0,)


def test_fewest_runs_are_those_from_which_the_exact_test_can_be_below_the_level():
    assert [fewest_runs(alpha) for alpha in (0.3, 0.05, 0.01, 0.001)] == [3, 6, 8, 11]
    with pytest.raises(ValueError, match="alpha"):
        fewest_runs(1e-9)


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
        ("higher", 0.0, "equivalent"),
        ("none", 0.0, "equivalent"),
    ],
)
def test_verdict_follows_the_direction_of_the_metric(direction, effect, verdict):
    values = planted(np.random.default_rng(5), {"ce": 0, "triplet": effect}, seeds=8)
    found = compared(values, metrics={"m": Metric(direction)})
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 1
    assert found["verdict"][0] == verdict
    assert (found["loss"][0], found["baseline"][0]) == ("triplet", "ce")
    if effect:
        assert found["difference"][0] == pytest.approx(effect, abs=0.2)
        assert found["ci_low"][0] < found["difference"][0] < found["ci_high"][0]
        assert np.sign(found["hedges_g"][0]) == np.sign(effect)


def test_three_seeds_are_always_inconclusive_however_large_the_difference():
    effects = {"ce": 0, "triplet": 1000, "supcon": -1000}
    values = planted(np.random.default_rng(6), effects, seeds=3)
    found = compared(values, tuple(effects))
    assert len(found) == 3
    assert (found["p"] >= 0.25).all()
    assert set(found["verdict"]) == {"inconclusive"}


def test_swapping_loss_and_baseline_flips_every_sign_and_nothing_else():
    values = planted(np.random.default_rng(7), {"ce": 0, "triplet": 0.3}, seeds=7)
    one = compared(values).iloc[0]
    other = compared(values, baseline="triplet").iloc[0]
    assert (other["loss"], other["baseline"]) == (one["baseline"], one["loss"])
    assert other["difference"] == -one["difference"]
    assert other["hedges_g"] == pytest.approx(-one["hedges_g"])
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
    found = compared(values).iloc[0]
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
    found = compared(values).set_index("method")
    empty = found.loc["gradcam"]
    assert (empty["n_runs"], empty["n_images"], empty["verdict"]) == (0, 0, "no data")
    numbers = ["mean", "mean_baseline", "difference", "ci_low", "ci_high", "hedges_g", "p"]
    assert empty[[*numbers, "p_adjusted"]].isna().all()
    assert found.loc["saliency", "p_adjusted"] == found.loc["saliency", "p"] == smallest_p(8)


def test_one_run_has_a_difference_but_no_interval_and_no_hedges_g():
    values = planted(np.random.default_rng(9), {"ce": 0, "triplet": 5}, seeds=1)
    found = compared(values).iloc[0]
    assert found["difference"] == pytest.approx(5, abs=1)
    assert found[["ci_low", "ci_high", "hedges_g"]].isna().all()
    assert (found["p"], found["verdict"]) == (1.0, "inconclusive")


def test_a_family_is_one_metric_and_controls_are_their_own():
    rng = np.random.default_rng(10)
    values = {}
    for dataset, method, metric in itertools.product("de", ("gradcam", "random", "s"), ("m", "n")):
        for loss, seed in itertools.product(("ce", "triplet", "supcon"), range(8)):
            values[dataset, loss, seed, method, metric] = rng.normal(size=6) + (loss != "ce")
    metrics = {"m": Metric(), "n": Metric()}
    found = compared(values, ("ce", "triplet", "supcon"), metrics=metrics, controls=["random"])
    sizes = Counter()
    for metric, controls in itertools.product(("m", "n"), (True, False)):
        family = found[(found["metric"] == metric) & ((found["method"] == "random") == controls)]
        sizes[controls, len(family)] += 1
        ordered = family.sort_values("p")
        factor = len(family) - np.arange(len(family))
        expected = np.minimum(1, np.maximum.accumulate(ordered["p"] * factor))
        assert np.allclose(ordered["p_adjusted"], expected)
    assert sizes == {(True, 6): 2, (False, 12): 2}


def test_an_interval_does_not_depend_on_which_other_losses_are_there():
    rng = np.random.default_rng(12)
    values = planted(rng, {"ce": 0, "triplet": 0.3, "supcon": 0.1}, seeds=4)
    values["d", "supcon", 1, "saliency", "m"][3] = np.nan
    three = compared(values, ("ce", "supcon", "triplet"))
    pair = {key: numbers for key, numbers in values.items() if key[1] != "supcon"}
    two = compared(pair).iloc[0]
    row = three[(three["loss"] == "triplet") & (three["baseline"] == "ce")].iloc[0]
    columns = ["difference", "ci_low", "ci_high", "bootstrap_low", "hedges_g", "p", "d", "mde"]
    assert row[columns].to_list() == pytest.approx(two[columns].to_list(), rel=1e-12)


def test_level_of_the_verdicts_is_one_minus_confidence_without_rounding():
    assert Settings(confidence=0.95).alpha == 0.05
    assert Settings(confidence=0.9).alpha == 0.1


# --- correct-only


def test_settings_decide_whether_incorrect_images_count():
    values = planted(np.random.default_rng(15), {"ce": 0, "triplet": 1}, seeds=3)
    counts = [
        compared(values, settings=Settings(correct_only=flag), wrong=range(5))["n_images"][0]
        for flag in (True, False)
    ]
    assert counts == [3 * 15, 3 * 20]


def test_losses_are_ranked_on_the_images_that_count_for_all_that_have_any():
    counted = np.ones((3, 2, 4), dtype=bool)
    counted[0, 0, 1] = counted[1, 0, 2] = False
    counted[2, 1] = False
    assert complete(counted).tolist() == [[True, False, False, True], [True] * 4]
    assert not complete(np.zeros((2, 1, 3), dtype=bool)).any()


# --- one scale


def test_the_unit_is_the_deviation_between_images_of_the_baseline():
    rng = np.random.default_rng(16)
    values = {
        ("d", loss, seed, "s", metric): shift + rng.normal(0, spread, 4000)
        for loss, shift, spread in (("ce", 0.0, 2.0), ("triplet", 1.0, 5.0))
        for seed in range(3)
        for metric in ("m", "n")
    }
    metrics = {"m": Metric(), "n": Metric("lower")}
    settings = Settings(smallest_effect=0.2, smallest_effects={"n": 0.5})
    (block,) = blocks_of(values)
    runs = run_means(block, metrics, settings)
    unit = units(runs, "ce", settings)
    assert unit["d", "s", "m"] == pytest.approx(2, rel=0.03)
    assert unit["d", "s", "n"] == pytest.approx(2.5)
    z = on_one_scale(runs, "ce", settings).groupby(["metric", "loss"])["z"].mean()
    assert z["m", "triplet"] == pytest.approx(0.25, abs=0.05)
    assert z["n", "triplet"] == pytest.approx(-0.2, abs=0.05)
    assert z["m", "ce"] == pytest.approx(-z["m", "triplet"])
    found = compared(values, metrics=metrics, settings=settings).set_index("metric")
    assert found.loc["m", "d"] == pytest.approx(0.5, abs=0.1)
    assert found.loc["m", "margin"] == pytest.approx(0.2 * unit["d", "s", "m"])
    assert found.loc["n", "margin"] == pytest.approx(0.5)


def test_a_named_family_takes_its_comparisons_with_the_baseline_and_no_controls():
    rng = np.random.default_rng(17)
    losses = ("ce", "triplet", "supcon")
    values = {
        (dataset, loss, seed, method, metric): rng.normal(size=6) + (loss != "ce")
        for dataset, method, metric in itertools.product("de", ("cam", "random", "s"), ("m", "n"))
        for loss, seed in itertools.product(losses, range(8))
    }
    families = {
        "first": Family(metrics=["m"], methods=["cam", "random"]),
        "second": Family(losses=["supcon"], adjustment="benjamini-hochberg"),
    }
    found = compared(
        values,
        losses,
        metrics={"m": Metric(), "n": Metric()},
        settings=Settings(families=families),
        controls=["random"],
    )
    sizes = found.groupby("family").size().to_dict()
    assert sizes == {
        "first": 4,  # two datasets, two losses
        "second": 2 + 4,  # supcon of m by s, and of n by cam and s
        "m": 6 * 2 - 4 - 2,
        "n": 6 * 2 - 4,
        "m (controls)": 6,
        "n (controls)": 6,
    }
    for family, name in (("first", "holm"), ("second", "fdr_bh")):
        rows = found[found["family"] == family]
        assert np.allclose(rows["p_adjusted"], multipletests(rows["p"], method=name)[1])
        assert set(rows["baseline"]) == {"ce"}


def test_losses_that_do_not_differ_are_equivalent_and_not_merely_inconclusive():
    rng = np.random.default_rng(18)
    of_image = rng.normal(size=200)
    values = {
        ("d", loss, seed, "s", metric): of_image + rng.normal(0, 0.05) + shift
        for loss, shift in (("ce", 0.0), ("triplet", 0.01))
        for seed in range(6)
        for metric in ("m", "n")
    }
    found = compared(values, metrics={"m": Metric(), "n": Metric("none")})
    assert set(found["verdict"]) == {"equivalent"}
    assert (found["prob_within"] > 0.95).all()
    same = {key: np.zeros(5) for key in values}
    assert set(compared(same, metrics={"m": Metric(), "n": Metric()})["verdict"]) == {"equivalent"}


def test_what_is_missing_is_counted_in_the_row():
    values = planted(np.random.default_rng(19), {"ce": 0, "triplet": 1}, seeds=4)
    values["d", "ce", 0, "saliency", "m"][:3] = np.nan
    values["d", "triplet", 0, "saliency", "m"][2:5] = np.nan
    del values["d", "triplet", 1, "saliency", "m"]
    row = compared(values).iloc[0]
    assert (row["n_runs"], row["n_missing"]) == (3, 1)
    assert (row["n_images"], row["n_unpaired"]) == (15 + 40, 5 + 20)


# The jackknife


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_jackknife_of_a_mean_is_its_classical_interval(confidence):
    values = np.random.default_rng(0).normal(size=(7, 2))
    left_out = values[without_each(7)].mean(axis=1)
    low, high = jackknife_interval(values.mean(axis=0), left_out, confidence)
    for column in range(2):
        mean, error = values[:, column].mean(), stats.sem(values[:, column])
        expected = stats.t.interval(confidence, 6, mean, error)
        assert (low[column], high[column]) == pytest.approx(expected)


def test_the_jackknife_says_nothing_where_one_block_carries_the_estimate():
    low, high = jackknife_interval(np.array(0.3), np.array([0.1, np.nan, 0.2]), 0.95)
    assert np.isnan([low, high]).all()
    low, high = jackknife_interval(np.array([0.3]), np.array([[0.1]]), 0.95)
    assert np.isnan([low, high]).all()


def test_each_block_is_left_out_once():
    kept = without_each(4)
    assert [set(range(4)) - set(row) for row in kept.tolist()] == [{0}, {1}, {2}, {3}]
