"""Promises of the comparisons: gaps, chunks, every column, and how verdicts are given."""

import itertools
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests
from test_statistics import Metric, blocks_of, compared, planted

from clarity.statistics.comparisons import COLUMNS, judge, run_means
from clarity.statistics.effect_sizes import hedges_g_interval, rank_biserial, superiority
from clarity.statistics.intervals import estimate
from clarity.statistics.power import minimum_detectable_effect, runs_needed
from clarity.statistics.settings import Settings
from clarity.statistics.significance import sign_flip_p, smallest_p
from clarity.statistics.units import units
from clarity.storage import CorruptArtifact

# --- intervals


@pytest.mark.parametrize(("runs", "share"), [(3, 0.2), (3, 0.5), (6, 0.3), (12, 0.5)])
def test_the_variance_with_gaps_is_that_of_the_additive_least_squares_fit(runs, share):
    rng = np.random.default_rng([runs, int(10 * share)])
    table = rng.normal(size=(runs, 1)) + 2 * rng.normal(size=(1, 15)) + rng.normal(size=(runs, 15))
    table[rng.random(table.shape) < share] = np.nan
    table[:, 0] = rng.normal(size=runs)  # an image that all runs have: the layout is connected
    long = pd.DataFrame(
        [(r, i, table[r, i]) for r, i in itertools.product(range(runs), range(15))],
        columns=["run", "image", "y"],
    ).dropna()
    residual = sm.stats.anova_lm(ols("y ~ C(run) + C(image)", long).fit()).loc["Residual"]
    means = long.groupby("run")["y"].mean()
    share_of = 1 / (runs * long.groupby("run")["y"].transform("size"))
    apart = (long["y"] - long["run"].map(means)) * share_of
    influence = apart.groupby(long["image"]).sum()
    images = len(influence)
    of_image = images / (images - 1) * (influence**2).sum()
    noise = residual["sum_sq"] / residual["df"] * (share_of**2).sum()
    expected = means.var(ddof=1) / runs + max(of_image - noise, 0)
    assert of_image > noise
    assert estimate(table[None]).variance[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -2.7, 1e6 / 7])
@pytest.mark.parametrize("images", [1, 7, 50])
def test_equal_differences_have_no_width_but_rounding(value, images):
    found = estimate(np.full((1, 6, images), value))
    low, high = found.interval(0.95)
    assert high[0] - low[0] <= 1e-14 * abs(value)
    assert found.sd_runs[0] <= 1e-14 * abs(value)


# --- effect sizes


@pytest.mark.parametrize("delta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("shared", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("runs", [3, 6, 12, 30])
def test_the_interval_of_g_covers_whatever_the_correlation_of_the_pairs(delta, shared, runs):
    rng = np.random.default_rng([int(10 * delta), int(100 * shared), runs])
    count = 4000
    common = rng.normal(0, math.sqrt(shared), (count, runs))
    a, b = (
        common + rng.normal(mean, math.sqrt(1 - shared), (count, runs)) for mean in (delta, 0.0)
    )
    low, high = hedges_g_interval(a, b, 0.95)
    covered = ((low <= delta) & (high >= delta)).mean()
    assert covered > 0.95 - 3 * math.sqrt(0.95 * 0.05 / count) - 0.01


# --- significance


@pytest.mark.parametrize("runs", [6, 20])
def test_sign_flip_p_does_not_depend_on_the_chunks(runs, monkeypatch):
    rows = np.random.default_rng(20).normal(0.3, 1, (7, runs))
    whole = sign_flip_p(rows, np.random.default_rng(21))
    assert len(set(whole)) > 3
    monkeypatch.setattr("clarity.statistics.significance.CHUNK", 2 ** (min(runs, 16) - 1) * 2)
    assert sign_flip_p(rows, np.random.default_rng(21)).tolist() == whole.tolist()


# --- comparisons


def test_every_column_of_a_comparison_is_that_of_its_run_means():
    rng = np.random.default_rng(22)
    values = planted(rng, {"ce": 0, "triplet": 0.12}, seeds=7)
    settings = Settings()
    row = compared(values, settings=settings).iloc[0]
    a, b = (
        np.array([np.mean(values["d", loss, seed, "saliency", "m"]) for seed in range(7)])
        for loss in ("triplet", "ce")
    )
    apart = a - b
    assert row["rank_biserial"] == rank_biserial(apart[None])[0] != 0
    assert row["superiority"] == superiority(a[None], b[None])[0] != 0.5
    assert row["p"] == stats.permutation_test((apart,), np.mean, permutation_type="samples").pvalue
    assert row["p_smallest"] == smallest_p(7)
    sd = apart.std(ddof=1)
    assert row["sd_runs"] == pytest.approx(sd)
    assert row["mde"] == pytest.approx(
        minimum_detectable_effect(np.array([sd]), np.array([7]), 0.05)[0]
    )
    assert row["runs_needed"] == runs_needed(np.array([apart.mean()]), np.array([sd]), 0.05)[0]
    low, high = hedges_g_interval(a[None], b[None], 0.95)
    assert (row["g_low"], row["g_high"]) == pytest.approx((low[0], high[0]))
    (block,) = blocks_of(values)
    unit = units(run_means(block, {"m": Metric()}, settings), "ce", settings)["d", "saliency", "m"]
    assert row["d"] == pytest.approx(apart.mean() / unit)
    assert row["prob_higher"] > row["prob_lower"]
    assert row[["prob_lower", "prob_within", "prob_higher"]].sum() == pytest.approx(1)


def test_the_bootstrap_interval_has_the_confidence_that_was_asked_for():
    values = planted(np.random.default_rng(23), {"ce": 0, "triplet": 0.3}, seeds=6)
    widths = [
        row["bootstrap_high"] - row["bootstrap_low"]
        for confidence in (0.6, 0.9, 0.99)
        for row in [compared(values, settings=Settings(confidence=confidence)).iloc[0]]
    ]
    assert widths == sorted(widths)
    assert widths[2] / widths[0] > 2


def judged(**changes) -> pd.DataFrame:
    """Judge one comparison, made by hand."""
    row = dict.fromkeys(COLUMNS, 0.0) | {
        "dataset": "d",
        "method": "s",
        "metric": "m",
        "category": "faithfulness",
        "direction": "higher",
        "loss": "triplet",
        "baseline": "ce",
        "n_images": 10,
        "difference": 1.0,
        "ci_low": 0.5,
        "ci_high": 1.5,
        "p": 0.001,
        "p_equivalence": 1.0,
    }
    count = changes.pop("count", 1)
    frame = pd.DataFrame([row | changes] + [row | {"p": 1.0, "p_equivalence": 1.0}] * (count - 1))
    return judge(frame, "ce", Settings())


def test_a_verdict_needs_an_interval_without_zero_and_a_small_adjusted_p():
    assert judged()["verdict"][0] == "better"
    assert judged(ci_low=-0.1)["verdict"][0] == "inconclusive"
    assert judged(difference=-1.0, ci_low=-1.5, ci_high=-0.5)["verdict"][0] == "worse"
    assert judged(p=0.04)["verdict"][0] == "better"
    assert judged(p=0.04, count=2)["verdict"][0] == "inconclusive"


def test_equivalence_is_judged_after_its_adjustment_and_after_a_difference():
    assert judged(p=1.0, p_equivalence=0.04)["verdict"][0] == "equivalent"
    found = judged(p=1.0, p_equivalence=0.04, count=2)
    assert found["verdict"][0] == "inconclusive"
    assert found["p_equivalence_adjusted"][0] == pytest.approx(
        multipletests([0.04, 1.0], method="holm")[1][0]
    )
    # Significant and yet negligible: both can hold, and the difference is what is said.
    assert judged(p_equivalence=0.0)["verdict"][0] == "better"


def test_images_that_a_loss_misclassifies_are_not_unpaired():
    values = planted(np.random.default_rng(24), {"ce": 0, "triplet": 1}, seeds=3)
    values["d", "ce", 0, "saliency", "m"][[0, 10]] = np.nan
    row = compared(values, wrong=range(5)).iloc[0]
    assert (row["n_images"], row["n_unpaired"]) == (3 * 15 - 1, 1)


# --- failures in other processes


def test_a_corrupt_artifact_crosses_processes_with_its_message():
    error = CorruptArtifact("a/scores.parquet", "cut short")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
