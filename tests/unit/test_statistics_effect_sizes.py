"""Promises of effect sizes, intervals, equivalence and power: each against an oracle."""

import itertools
import math
from dataclasses import replace

import baycomp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from clarity.statistics.effect_sizes import (
    hedges_g,
    hedges_g_interval,
    rank_biserial,
    superiority,
)
from clarity.statistics.equivalence import equivalence_p, practical_probabilities
from clarity.statistics.intervals import estimate
from clarity.statistics.power import detectable, minimum_detectable_effect, runs_needed


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


def test_the_interval_of_g_covers_where_pairs_are_correlated():
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 0.8, (6000, 8))
    a, b = (shared + rng.normal(mean, 0.6, shared.shape) for mean in (0.5, 0.0))
    low, high = hedges_g_interval(a, b, 0.95)
    covered = ((low <= 0.5) & (high >= 0.5)).mean()
    assert 0.93 < covered < 0.98
    g = hedges_g(a, b)
    assert np.allclose(g, (low + high) / 2)


def test_rank_biserial_is_that_of_the_signed_rank_statistic():
    rng = np.random.default_rng(6)
    rows = rng.normal(0.3, 1, (20, 9)).round(1)
    for row, found in zip(rows, rank_biserial(rows), strict=True):
        ranks = stats.rankdata(np.abs(row[row != 0]))
        signs = np.sign(row[row != 0])
        assert found == pytest.approx((ranks * signs).sum() / ranks.sum())
    assert rank_biserial(np.array([[1.0, 2.0], [-1.0, -3.0], [0.0, 0.0]])).tolist() == [1, -1, 0]


def test_superiority_is_the_u_statistic_over_all_pairs():
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(2, 10, 6)).round(1)
    for first, second, found in zip(a, b, superiority(a, b), strict=True):
        assert found == pytest.approx(stats.mannwhitneyu(first, second).statistic / 36)


# --- interval


def test_without_image_effects_the_interval_is_that_of_the_paired_t_test():
    means = np.random.default_rng(8).normal(0.2, 1, (5, 7))
    for values in (means[:, :, None], np.repeat(means[:, :, None], 9, axis=2)):
        low, high = estimate(values).interval(0.95)
        for row in range(5):
            expected = stats.ttest_1samp(means[row], 0).confidence_interval(0.95)
            assert (low[row], high[row]) == pytest.approx(tuple(expected))


def test_the_variance_of_a_full_table_is_that_of_the_mean_squares():
    rng = np.random.default_rng(9)
    table = rng.normal(size=(4, 1)) + rng.normal(size=(1, 11)) + rng.normal(0, 0.5, (4, 11))
    long = pd.DataFrame(
        [(r, i, table[r, i]) for r, i in itertools.product(range(4), range(11))],
        columns=["run", "image", "y"],
    )
    squares = sm.stats.anova_lm(ols("y ~ C(run) + C(image)", long).fit())
    of_run, of_image, rest = squares["sum_sq"] / squares["df"]
    found = estimate(table[None])
    expected = (of_run + max(of_image - rest, 0)) / 44
    assert found.variance[0] == pytest.approx(expected)
    runs, images = of_run / 44, max(of_image - rest, 0) / 44
    assert found.df[0] == pytest.approx(expected**2 / (runs**2 / 3 + images**2 / 10))
    assert found.sd_runs[0] == pytest.approx(table.mean(axis=1).std(ddof=1))


@pytest.mark.parametrize("runs", [3, 6, 12, 30])
@pytest.mark.parametrize(
    ("of_run", "of_image", "missing"), [(1, 0, 0), (0.3, 1, 0), (0, 1, 0), (0.3, 0.5, 0.2)]
)
def test_intervals_cover_at_their_rate_with_few_runs_and_with_many(runs, of_run, of_image, missing):
    rng = np.random.default_rng([runs, int(10 * of_run), int(10 * of_image)])
    count, images = 4000, 30
    values = (
        rng.normal(0, of_run, (count, runs, 1))
        + rng.normal(0, of_image, (count, 1, images))
        + rng.normal(0, 1, (count, runs, images))
    )
    values[rng.random(values.shape) < missing] = np.nan
    low, high = estimate(values).interval(0.95)
    covered = ((low <= 0) & (high >= 0)).mean()
    # 93 to 97 %, and three standard errors of the simulation.
    slack = 3 * math.sqrt(0.95 * 0.05 / count)
    assert 0.93 - slack < covered < 0.97 + slack


def test_images_of_one_run_alone_never_make_an_interval():
    found = estimate(np.random.default_rng(10).normal(size=(1, 1, 500)))
    assert np.isnan(found.interval(0.95)).all()
    assert np.isfinite(found.difference[0])


def test_a_run_without_images_is_no_run_and_order_does_not_matter():
    values = np.random.default_rng(11).normal(size=(1, 5, 8))
    values[0, 2] = np.nan
    values[0, 0, :4] = np.nan
    found = estimate(values)
    assert found.runs[0] == 4
    assert found.difference[0] == pytest.approx(np.nanmean(values[0, [0, 1, 3, 4]], axis=1).mean())
    turned = estimate(values[:, ::-1, ::-1])
    assert turned.variance[0] == pytest.approx(found.variance[0])
    without = estimate(values[:, [0, 1, 3, 4]])
    assert without.variance[0] == pytest.approx(found.variance[0])
    assert np.isnan(estimate(np.full((1, 3, 4), np.nan)).difference[0])


def test_no_spread_at_all_is_an_interval_of_no_width():
    found = estimate(np.full((1, 3, 4), 0.1 + 0.2))
    low, high = found.interval(0.95)
    assert low[0] == high[0] == found.difference[0]


# --- equivalence


def test_equivalence_is_the_larger_p_of_two_one_sided_tests():
    rows = np.random.default_rng(12).normal(0.1, 0.5, (6, 9))
    margin = np.linspace(0.1, 0.8, 6)
    found = equivalence_p(estimate(rows[:, :, None]), margin)
    for row, bound, p in zip(rows, margin, found, strict=True):
        described = DescrStatsW(row)
        upper = described.ttest_mean(bound, alternative="smaller")[1]
        lower = described.ttest_mean(-bound, alternative="larger")[1]
        assert p == pytest.approx(max(upper, lower))


def test_practical_probabilities_are_those_of_baycomp():
    rows = np.random.default_rng(13).normal(0.1, 0.5, (6, 9))
    # baycomp takes the rows for folds of a cross-validation and corrects their variance.
    correction = (1 / 9 + 1 / 8) / (1 / 9)
    made = estimate(rows[:, :, None])
    found = practical_probabilities(
        replace(made, variance=made.variance * correction), np.full(6, 0.2)
    )
    for row, *probabilities in zip(rows, *found, strict=True):
        expected = baycomp.two_on_single(np.zeros(9), row, rope=0.2, runs=1)
        assert probabilities == pytest.approx(expected, abs=1e-9)


def test_a_difference_without_variance_is_certain():
    found = estimate(np.array([[[0.1], [0.1]], [[0.5], [0.5]], [[0.0], [0.0]]]))
    margin = np.array([0.2, 0.2, np.nan])
    assert equivalence_p(found, margin).tolist() == [0.0, 1.0, 0.0]
    lower, within, higher = practical_probabilities(found, margin)
    assert (lower[:2].tolist(), within[:2].tolist(), higher[:2].tolist()) == (
        [0, 0],
        [1, 0],
        [0, 1],
    )
    assert np.isnan(lower[2])


def test_equivalence_keeps_its_level_at_the_margin():
    rng = np.random.default_rng(14)
    rows = rng.normal(0.5, 1, (6000, 6, 1))
    share = (equivalence_p(estimate(rows), np.full(6000, 0.5)) < 0.05).mean()
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 6000)


# --- power


def test_the_detectable_effect_is_that_of_statsmodels():
    for runs in (3, 6, 20, 300):
        expected = TTestPower().solve_power(nobs=runs, alpha=0.05, power=0.8)
        assert detectable(0.05)[runs] == pytest.approx(expected, rel=1e-4)
    found = minimum_detectable_effect(np.array([2.0, 2.0, np.nan]), np.array([6, 1, 1]), 0.05)
    assert found[0] == pytest.approx(2 * detectable(0.05)[6])
    assert np.isnan(found[1:]).all()


def test_so_many_runs_detect_the_effect_and_one_fewer_does_not():
    effects = np.array([0.5, 0.8, 1.0, 0.05])
    for effect, runs in zip(effects, runs_needed(effects, np.ones(4), 0.05), strict=True):
        power = [TTestPower().power(effect, n, 0.05) for n in (runs - 1, runs)]
        assert power[0] < 0.8 <= power[1] + 1e-6
    found = runs_needed(np.array([9.0, 0.0, 1e-6, 1.0, 1.0]), np.array([1, 1, 1, 0, np.nan]), 0.05)
    # The exact test needs six, whatever the effect.
    assert found[0] == found[3] == 6
    assert np.isnan(found[[1, 2, 4]]).all()


def test_planted_effects_are_found_with_the_power_that_is_told():
    rng = np.random.default_rng(15)
    runs = 8
    effect = detectable(0.05)[runs]
    rows = rng.normal(effect, 1, (4000, runs))
    found = (stats.ttest_1samp(rows, 0, axis=1).pvalue < 0.05).mean()
    assert found == pytest.approx(0.8, abs=0.025)
