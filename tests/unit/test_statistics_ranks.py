"""Promises of ranks across a grid: the tests of the field, on training runs, of planted truth."""

import autorank
import baycomp
import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from across import LOSSES, Metric, make_runs, noise, turned
from scipy import stats

from clarity.statistics.equivalence import signed_rank_probabilities
from clarity.statistics.ranks import (
    POSTHOC,
    RANKS,
    critical_difference,
    friedman,
    nemenyi_p,
    rank_tables,
    wilcoxon_p,
)
from clarity.statistics.responses import VERDICT, responses
from clarity.statistics.settings import Settings

ONE = {"m": Metric()}


def tables(runs, metrics=None, **arguments):
    return rank_tables(runs, metrics or ONE, "ce", Settings(), **arguments)


def values(blocks=9, losses=4, seed=0, digits=None):
    drawn = np.random.default_rng(seed).normal(size=(blocks, losses)) + np.arange(losses) * 0.4
    return drawn if digits is None else drawn.round(digits)


@pytest.mark.parametrize("digits", [None, 0])
def test_friedman_is_that_of_scipy_with_and_without_ties(digits):
    scores = values(digits=digits)
    ranks = stats.rankdata(-scores, axis=1)
    chi, p, f, f_p = friedman(ranks)
    expected = stats.friedmanchisquare(*scores.T)
    assert (chi, p) == pytest.approx((expected.statistic, expected.pvalue))
    # Demšar (2006), page 11.
    assert f == pytest.approx(8 * chi / (9 * 3 - chi))
    assert f_p == pytest.approx(stats.f.sf(f, 3, 3 * 8))


def test_nemenyi_is_that_of_scikit_posthocs_and_autorank():
    scores = values()
    means = stats.rankdata(-scores, axis=1).mean(axis=0)
    expected = scikit_posthocs.posthoc_nemenyi_friedman(scores).to_numpy()
    for a in range(4):
        for b in range(a):
            assert nemenyi_p(means[a] - means[b], 4, 9) == pytest.approx(expected[a, b], abs=1e-3)
    frame = pd.DataFrame(scores, columns=list("abcd"))
    ranked = autorank.autorank(
        frame, alpha=0.05, force_mode="nonparametric", approach="frequentist"
    )
    assert critical_difference(4, 9, 0.05) == pytest.approx(ranked.cd, rel=1e-3)


@pytest.mark.parametrize("blocks", [5, 9, 14])
def test_wilcoxon_is_the_exact_one_of_scipy(blocks):
    differences = np.random.default_rng(blocks).normal(0.4, 1, blocks)
    (found,) = wilcoxon_p(differences[None], np.random.default_rng(0))
    assert found == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)
    tied = np.array([1.0, 1.0, -1.0, 2.0, 2.0, 0.0, 3.0])
    permuted = stats.wilcoxon(tied, method=stats.PermutationMethod(n_resamples=10**6)).pvalue
    assert wilcoxon_p(tied[None], np.random.default_rng(0))[0] == pytest.approx(permuted)


def test_the_bayesian_signed_rank_test_is_that_of_baycomp():
    for seed, shift in enumerate((-0.3, 0.0, 0.4)):
        differences = np.random.default_rng(seed).normal(shift, 0.3, 12)
        (found,) = signed_rank_probabilities(differences[None], 0.2, np.random.default_rng(1))
        expected = baycomp.multiple.SignedRankTest.probs(
            np.zeros(12), differences, rope=0.2, nsamples=20_000, random_state=1
        )
        assert found == pytest.approx(expected, abs=0.03)
        assert sum(found) == pytest.approx(1)


def test_a_planted_ordering_is_found_and_names_its_unit():
    rng = np.random.default_rng(1)
    effects = {"ce": 0.0, "triplet": 3.0, "supcon": -3.0}
    runs = make_runs(noise(rng, effects), seeds=8, methods=("cam", "saliency"))
    ranks, posthoc = tables(runs)
    assert (tuple(ranks), tuple(posthoc)) == (RANKS, POSTHOC)
    mine = ranks[(ranks["scope"] == "metric") & (ranks["method"] == "all")].set_index("loss")
    assert mine["mean_rank"].rank().to_dict() == {"triplet": 1, "ce": 2, "supcon": 3}
    assert set(mine["n_blocks"]) == {8}, "methods of one model are no blocks of their own"
    assert (mine["friedman_p"] < 0.01).all()
    pairs = posthoc[(posthoc["scope"] == "metric") & (posthoc["method"] == "all")]
    pair = pairs.set_index(["loss", "baseline"]).loc[("triplet", "ce")]
    assert pair["p_wilcoxon"] == pair["p_wilcoxon_smallest"] == 2 / 2**8
    assert pair["difference"] == pytest.approx(3, abs=0.8)
    assert pair["prob_higher"] > 0.95


def test_lower_is_better_where_the_metric_says_so():
    rng = np.random.default_rng(2)
    metrics = {"m": Metric(direction="lower"), "n": Metric(direction="none")}
    runs = make_runs(noise(rng, {"triplet": 3.0}), metrics=metrics)
    ranks, _ = tables(runs, metrics)
    assert set(ranks["name"]) == {"m", "faithfulness"}
    best = ranks.loc[ranks["method"] == "all"].groupby("loss")["mean_rank"].mean().idxmax()
    assert best == "triplet"


def test_under_the_null_p_is_below_the_level_no_more_often_than_it_says():
    rng = np.random.default_rng(3)
    metrics = {f"m{i}": Metric(category=f"c{i}") for i in range(300)}
    runs = make_runs(noise(rng, {}), metrics=metrics, seeds=7)
    ranks, posthoc = tables(runs, metrics)
    bound = stats.binom.ppf(0.999, 300, 0.05)
    mine = ranks[(ranks["scope"] == "metric") & (ranks["method"] == "all")]
    assert (mine.groupby("name")["iman_davenport_p"].first() < 0.05).sum() <= bound
    pairs = posthoc[(posthoc["scope"] == "metric") & (posthoc["method"] == "all")]
    assert (pairs.groupby("name")["p_wilcoxon_holm"].min() < 0.05).sum() <= bound
    assert (pairs["p_wilcoxon"] < 0.05).mean() > 0.02


def test_a_category_is_ranked_by_mean_ranks_and_settings_count_once():
    levels = {"a-1": (3, 2, 1), "a-2": (3, 2, 1), "b": (1, 2, 3), "c": (1, 3, 2)}
    metrics = dict.fromkeys(levels, Metric())
    runs = make_runs(
        lambda d, loss, s, m, metric: levels[metric][LOSSES.index(loss)], metrics=metrics
    )
    ranks, _ = tables(runs, metrics, families={"a-1": "a", "a-2": "a"})
    mine = ranks[(ranks["scope"] == "category") & (ranks["method"] == "all")].set_index("loss")
    # Ranks by a, b, c: ce 1 3 3, triplet 2 2 1, supcon 3 1 2. Were settings metrics, ce would gain.
    assert mine["mean_rank"].to_dict() == {"ce": 3, "triplet": 1, "supcon": 2}


def test_the_verdict_is_that_of_its_metrics_alone_and_controls_do_not_count():
    rng = np.random.default_rng(4)
    metrics = {
        "index": Metric("contrastivity", verdict=True),
        "similarity": Metric("contrastivity"),
    }

    def score(dataset, loss, seed, method, metric):
        if method == "random":
            return 100.0 * (loss == "supcon")
        effect = {"index": {"triplet": 5}, "similarity": {"supcon": 50}}[metric].get(loss, 0)
        return effect + rng.normal()

    runs = make_runs(score, metrics=metrics, methods=("cam", "random"))
    (verdict,) = [
        r for r in responses(runs, metrics, "ce", Settings(), ["random"]) if r.scope == "verdict"
    ]
    assert (verdict.name, verdict.category) == (VERDICT, "contrastivity")
    assert verdict.ranks.mean().idxmin() == "triplet"


def test_a_block_without_every_loss_is_left_out_and_counted():
    runs = make_runs(noise(np.random.default_rng(5), {}), seeds=5)
    runs.loc[(runs["loss"] == "triplet") & (runs["seed"] == 2), "paired_mean"] = np.nan
    ranks, _ = tables(runs)
    assert set(ranks["n_blocks"]) == {4}
    assert set(ranks["n_incomplete"]) == {1}
    runs.loc[runs["loss"] == "supcon", "paired_mean"] = np.nan
    ranks, posthoc = tables(runs)
    assert set(ranks["loss"]) == {"ce", "triplet"}
    assert ranks["friedman"].isna().all()
    assert posthoc["p_wilcoxon"].notna().all()


def test_nothing_to_rank_gives_whole_empty_tables():
    runs = make_runs(lambda *_: np.nan)
    ranks, posthoc = tables(runs)
    assert (tuple(ranks), tuple(posthoc)) == (RANKS, POSTHOC)
    assert len(ranks) == len(posthoc) == 0


def test_order_of_rows_does_not_matter():
    runs = make_runs(noise(np.random.default_rng(6), {"triplet": 0.5}), datasets="de")
    for one, other in zip(tables(runs), tables(turned(runs)), strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-9)
