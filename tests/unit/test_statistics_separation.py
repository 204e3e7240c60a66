"""Promises of separation and mediation: known answers, and planted truth through real tables."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from across import Metric, make_models, make_runs, turned
from scipy import stats

from clarity.statistics.separation import (
    MEDIATION,
    SEPARATION,
    mediation,
    rank_correlations,
    separation_tables,
)
from clarity.statistics.settings import Settings

FEW = Settings(resamples=400)


def world(rng, *, metrics, slope=0.0, of_accuracy=0.0, direct=0.0, datasets="de", seeds=6):
    """Runs whose score depends on separation, on accuracy, or on the loss itself."""
    known = {
        key: {
            "accuracy": 0.9 + 0.05 * rng.normal(),
            "silhouette": 0.3 * (key[1] == "triplet") + 0.1 * rng.normal(),
        }
        for key in itertools.product(datasets, ("ce", "triplet", "supcon"), range(seeds))
    }
    if of_accuracy:
        for value in known.values():
            value["silhouette"] = 4 * (value["accuracy"] - 0.9) + 0.02 * rng.normal()

    def score(d, loss, s, m, metric):
        about = known[d, loss, s]
        return (
            slope * about["silhouette"]
            + of_accuracy * about["accuracy"]
            + direct * (loss == "triplet")
            + 0.3 * rng.normal()
        )

    runs = make_runs(score, metrics=metrics, datasets=datasets, seeds=seeds)
    return runs, make_models(runs, lambda *key: known[key])


def many(count):
    return {f"m{i}": Metric(category=f"c{i}") for i in range(count)}


def test_partial_rank_correlation_is_that_of_the_residuals():
    ranks = np.stack([stats.rankdata(row) for row in np.random.default_rng(0).normal(size=(3, 20))])
    ranks[1] += 2 * ranks[2]
    plain, partial = rank_correlations(*(row[None] for row in ranks))
    assert plain[0] == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1])
    given = sm.add_constant(ranks[2])
    first, second = (sm.OLS(row, given).fit().resid for row in ranks[:2])
    assert partial[0] == pytest.approx(np.corrcoef(first, second)[0, 1])
    constant = rank_correlations(ranks[:1], ranks[1:2], np.ones((1, 20)))
    assert constant[1] == constant[0]
    assert np.isnan(rank_correlations(np.ones((1, 20)), ranks[1:2], ranks[2:])[0][0])


def test_a_correlation_is_spearmans_and_within_datasets():
    rng = np.random.default_rng(1)
    runs, models = world(rng, metrics=many(1), slope=3.0)
    separation, _ = separation_tables(runs, models, many(1), "ce", FEW)
    assert tuple(separation) == SEPARATION
    rows = separation.query("scope == 'metric'").set_index("dataset")
    joined = runs.merge(models, on=["dataset", "loss", "seed"])
    for dataset, part in joined.groupby("dataset"):
        expected = stats.spearmanr(part["silhouette"], part["paired_mean"]).statistic
        assert rows.loc[dataset, "spearman"] == pytest.approx(expected)
    assert rows.loc["all", "n_runs"] == 36
    assert rows.loc["all", "ci_low"] < rows.loc["all", "spearman"] < rows.loc["all", "ci_high"]
    # Another level of a dataset is no evidence.
    moved = runs.assign(paired_mean=runs["paired_mean"] + 100 * (runs["dataset"] == "e"))
    again, _ = separation_tables(moved, models, many(1), "ce", FEW)
    assert again["spearman"].to_list() == pytest.approx(separation["spearman"].to_list())


def test_planted_dependence_is_found_and_none_is_not():
    rng = np.random.default_rng(2)
    metrics = many(120)
    runs, models = world(rng, metrics=metrics)
    null, _ = separation_tables(runs, models, metrics, "ce", FEW)
    mine = null.query("scope == 'metric' and dataset == 'all'")
    assert (mine["p"] < 0.05).sum() <= stats.binom.ppf(0.999, 120, 0.05)
    runs, models = world(rng, metrics=many(20), slope=5.0)
    found, _ = separation_tables(runs, models, many(20), "ce", FEW)
    mine = found.query("scope == 'metric' and dataset == 'all'")
    assert (mine["p_holm"] < 0.05).mean() > 0.9
    assert (mine["partial_low"] > 0).mean() > 0.9


def test_what_accuracy_alone_does_is_no_partial_correlation():
    metrics = many(40)
    runs, models = world(np.random.default_rng(3), metrics=metrics, of_accuracy=20.0, seeds=8)
    found, _ = separation_tables(runs, models, metrics, "ce", FEW)
    mine = found.query("scope == 'metric' and dataset == 'all'")
    assert (mine["ci_low"] > 0).mean() > 0.9
    covered = (mine["partial_low"] <= 0) & (mine["partial_high"] >= 0)
    assert covered.sum() >= stats.binom.ppf(0.001, 40, 0.93)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_intervals_of_correlations_cover_with_few_blocks(seeds):
    metrics = many(300)
    rng = np.random.default_rng(seeds)
    runs, models = world(rng, metrics=metrics, seeds=seeds)
    # Each metric gets a world of its own: those that share models share their luck.
    found = []
    for name, part in runs.groupby("metric"):
        drawn = models.assign(silhouette=rng.random(len(models)), accuracy=rng.random(len(models)))
        table, _ = separation_tables(part, drawn, {name: metrics[name]}, "ce", FEW)
        found.append(table.query("scope == 'metric' and dataset == 'all'").iloc[0])
    table = pd.DataFrame(found)
    for low, high in (("ci_low", "ci_high"), ("partial_low", "partial_high")):
        covered = int(((table[low] <= 0) & (table[high] >= 0)).sum())
        bounds = stats.binom.ppf([0.001, 0.999], 300, [0.93, 0.97])
        assert bounds[0] <= covered <= bounds[1] + 3


def test_the_interval_of_a_correlation_is_the_jackknife_of_fishers_z_over_blocks():
    rng = np.random.default_rng(11)
    runs, models = world(rng, metrics=many(1), slope=2.0, datasets="d", seeds=4)
    table, _ = separation_tables(runs, models, many(1), "ce", FEW)
    row = table.query("scope == 'metric' and measure == 'silhouette'").iloc[0]
    joined = runs.merge(models, on=["dataset", "loss", "seed"])
    ranks = joined[["silhouette", "paired_mean"]].rank()
    z = np.arctanh(ranks.corr().iloc[0, 1])
    each = [np.arctanh(ranks[joined["seed"] != s].corr().iloc[0, 1]) for s in range(4)]
    se = np.sqrt(3 / 4 * np.sum((np.array(each) - np.mean(each)) ** 2))
    half = stats.t.ppf(0.975, 3) * se
    assert row[["ci_low", "ci_high"]].to_list() == pytest.approx(
        [np.tanh(z - half), np.tanh(z + half)]
    )


def test_more_separated_is_positive_whatever_the_measure():
    rng = np.random.default_rng(4)
    runs, models = world(rng, metrics=many(1), slope=5.0)
    models["distance-ratio"] = -models["silhouette"]
    found, _ = separation_tables(runs, models, many(1), "ce", FEW)
    by_measure = found.query("dataset == 'all' and scope == 'metric'").set_index("measure")
    assert (
        by_measure.loc["distance-ratio", "spearman"] == by_measure.loc["silhouette", "spearman"] > 0
    )


def test_mediation_is_the_product_of_coefficients_of_two_regressions():
    rng = np.random.default_rng(5)
    dataset = np.array([0, 0, 0, 0, 1, 1, 1])
    mediator = rng.normal(size=(7, 2)) + [0, 1] + dataset[:, None]
    score = 2 * mediator + rng.normal(size=(7, 2)) + 5 * dataset[:, None]
    total, direct, indirect = mediation(score[None], mediator[None], dataset[None])
    loss = np.tile([0.0, 1.0], 7)
    place = np.repeat(dataset, 2)
    design = np.column_stack([np.ones(14), place, loss])
    a = sm.OLS(mediator.ravel(), design).fit().params[2]
    whole = sm.OLS(score.ravel(), np.column_stack([design, mediator.ravel()])).fit()
    assert total[0] == pytest.approx(sm.OLS(score.ravel(), design).fit().params[2])
    assert direct[0] == pytest.approx(whole.params[2])
    assert indirect[0] == pytest.approx(a * whole.params[3])


def test_a_mediated_effect_is_found_and_a_direct_one_is_not_taken_for_it():
    rng = np.random.default_rng(6)
    metrics = many(40)
    runs, models = world(rng, metrics=metrics, slope=5.0, seeds=10)
    _, mediated = separation_tables(runs, models, metrics, "ce", FEW)
    assert tuple(mediated) == MEDIATION
    mine = mediated.query("scope == 'metric' and loss == 'triplet'")
    assert (mine["indirect_low"] > 0).mean() > 0.9
    assert mine["share"].mean() == pytest.approx(1, abs=0.15)
    runs, models = world(rng, metrics=metrics, direct=1.5, seeds=10)
    _, none = separation_tables(runs, models, metrics, "ce", FEW)
    mine = none.query("scope == 'metric' and loss == 'triplet'")
    excludes = (mine["indirect_low"] > 0) | (mine["indirect_high"] < 0)
    assert excludes.sum() <= stats.binom.ppf(0.999, 40, 0.05)
    assert mine["total"].mean() == pytest.approx(1.5, abs=0.1)


def test_too_little_to_say_is_said_by_counts_and_empty_tables():
    runs, models = world(np.random.default_rng(7), metrics=many(1), datasets="d", seeds=1)
    separation, mediated = separation_tables(runs, models, many(1), "ce", FEW)
    assert set(separation["n_runs"]) == {3}
    assert separation["spearman"].isna().all()
    assert mediated["indirect"].isna().all()
    nothing = runs.assign(paired_mean=np.nan)
    for table, columns in zip(
        separation_tables(nothing, models, many(1), "ce", FEW), (SEPARATION, MEDIATION), strict=True
    ):
        assert (len(table), tuple(table)) == (0, columns)


def test_order_of_rows_does_not_matter():
    runs, models = world(np.random.default_rng(8), metrics=many(2), slope=2.0)
    one = separation_tables(runs, models, many(2), "ce", FEW)
    other = separation_tables(turned(runs), turned(models), many(2), "ce", FEW)
    for first, second in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(first, second, rtol=1e-9)
