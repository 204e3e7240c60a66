"""Promises of agreement and stability: known answers, chance, and what counts as a flip."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from across import LOSSES, Metric, make_runs, noise, turned
from scipy import stats

from clarity.statistics.agreement import AGREEMENT, CONCORDANCE, agreement_tables, kendall_w
from clarity.statistics.settings import Settings
from clarity.statistics.stability import COLUMNS, stability_table

FEW = Settings(resamples=200)
TWO = {"a": Metric(), "b": Metric()}


def agreed(runs, metrics=None, **arguments):
    return agreement_tables(runs, metrics or TWO, FEW, **arguments)


def test_kendalls_w_is_one_for_the_same_zero_for_opposite_and_that_of_friedman():
    same = np.tile([1.0, 2.0, 3.0, 4.0], (3, 1))
    assert kendall_w(same) == 1
    assert kendall_w(np.array([[1.0, 2, 3], [3.0, 2, 1]])) == 0
    rng = np.random.default_rng(0)
    for digits in (3, 0):
        scores = rng.normal(size=(5, 6)).round(digits)
        ranks = stats.rankdata(scores, axis=1)
        chi = stats.friedmanchisquare(*scores.T).statistic
        assert kendall_w(ranks) == pytest.approx(chi / (5 * 5))
    assert np.isnan(kendall_w(np.full((2, 3), 2.0)))


def test_metrics_that_say_the_same_agree_whatever_their_unit_and_direction():
    metrics = {"a": Metric(), "b": Metric(direction="lower"), "c": Metric()}
    rng = np.random.default_rng(1)
    drawn = noise(rng, {})

    def score(d, loss, s, m, metric):
        value = drawn(d, loss, s, m, "same")
        return {"a": value, "b": -1000 * value, "c": np.exp(value)}[metric]

    runs = make_runs(score, metrics=metrics, methods=("cam", "ig", "lime"), datasets="de")
    pairs, whole = agreed(runs, metrics)
    assert (tuple(pairs), tuple(whole)) == (AGREEMENT, CONCORDANCE)
    assert pairs["correlation"].to_numpy() == pytest.approx(1)
    assert set(zip(pairs["metric"], pairs["other"], strict=True)) == {
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    }
    assert whole["kendall_w"].to_numpy() == pytest.approx(1)
    assert whole["krippendorff_alpha"].to_numpy() == pytest.approx(1)
    assert set(pairs.query("over == 'losses'")["n"]) == {2 * 6 * 3}
    assert set(pairs.query("over == 'methods'")["n"]) == {2 * 6 * 3}


def test_unrelated_metrics_agree_by_chance_only():
    metrics = dict.fromkeys("abcd", Metric())
    runs = make_runs(
        noise(np.random.default_rng(2), {}), metrics=metrics, seeds=40, methods=("cam", "ig")
    )
    pairs, whole = agreed(runs, metrics)
    of_losses = pairs.query("over == 'losses'")
    assert of_losses["correlation"].abs().max() < 0.35
    covered = (of_losses["ci_low"] < 0) & (of_losses["ci_high"] > 0)
    assert covered.sum() >= 4
    row = whole.query("over == 'losses'").iloc[0]
    assert row["kendall_w"] == pytest.approx(1 / 4, abs=0.05)
    assert row["krippendorff_alpha"] == pytest.approx(0, abs=0.08)


def test_alpha_is_that_of_the_library_on_the_ranks():
    levels = {"a": (1, 2, 3), "b": (1, 3, 2)}
    runs = make_runs(lambda d, loss, s, m, metric: levels[metric][LOSSES.index(loss)], metrics=TWO)
    _, whole = agreed(runs)
    expected = krippendorff.alpha(
        reliability_data=np.array([[1, 2, 3], [1, 3, 2]]), level_of_measurement="ordinal"
    )
    assert whole["krippendorff_alpha"].iloc[0] == pytest.approx(expected)
    assert whole["kendall_w"].iloc[0] == pytest.approx(0.75)


def test_settings_of_a_metric_are_averaged_and_controls_and_other_categories_left_out():
    metrics = {"a-1": Metric(), "a-2": Metric(), "b": Metric(), "c": Metric("complexity")}
    runs = make_runs(
        noise(np.random.default_rng(3), {}), metrics=metrics, methods=("cam", "ig", "random")
    )
    pairs, whole = agreed(runs, metrics, controls=["random"], families={"a-1": "a", "a-2": "a"})
    assert set(zip(pairs["metric"], pairs["other"], strict=True)) == {("a", "b")}
    assert set(whole["n_metrics"]) == {2}
    assert whole.set_index("over").loc["methods", "n_items"] == 2


def test_a_metric_that_ranks_nothing_has_no_correlation():
    metrics = TWO
    runs = make_runs(
        lambda d, loss, s, m, metric: 1.0 if metric == "a" else LOSSES.index(loss), metrics=metrics
    )
    pairs, _ = agreed(runs)
    assert pairs["n"].iloc[0] == 0
    assert np.isnan(pairs["correlation"].iloc[0])


def verdicts(runs, words):
    """Return comparisons with the baseline; ``words`` gives a verdict by method, metric, loss."""
    rows = runs[runs["loss"] != "ce"].drop_duplicates(["dataset", "method", "metric", "loss"])
    told = [words(r.method, r.metric, r.loss) for r in rows.itertuples()]
    return rows[["dataset", "method", "metric", "loss"]].assign(baseline="ce", verdict=told)


def held(runs, words=lambda *_: "inconclusive", **arguments):
    return stability_table(runs, verdicts(runs, words), "ce", **arguments)


def test_a_ranking_that_all_seeds_share_never_flips():
    runs = make_runs(
        lambda d, loss, s, m, metric: LOSSES.index(loss) + 0.01 * s, methods=("cam", "ig")
    )
    found = held(runs)
    assert tuple(found) == COLUMNS
    assert set(found["flips"]) == {0.0}
    assert found["kendall_w"].to_numpy() == pytest.approx(1)
    assert found.query("over == 'seeds'")["n_pairs"].tolist() == [2 * 15] * 2
    assert found.query("over == 'methods'")["n_pairs"].tolist() == [2]


def test_flips_are_counted_over_pairs_with_a_sign():
    # Triplet minus baseline over six seeds: + + + - - 0.
    sign = {0: 1, 1: 1, 2: 1, 3: -1, 4: -1, 5: 0}
    runs = make_runs(
        lambda d, loss, s, m, metric: sign[s] if loss == "triplet" else 0.0,
        losses=("ce", "triplet"),
    )
    row = held(runs).iloc[0]
    assert (row["n_pairs"], row["flips"]) == (10, pytest.approx(6 / 10))


def test_methods_and_settings_that_turn_the_comparison_round_are_found_with_their_verdicts():
    metrics = {"f-black": Metric(direction="lower"), "f-mean": Metric(direction="lower")}

    def score(d, loss, s, m, metric):
        turned_round = (m == "ig") != (metric == "f-mean")
        return (1.0 if turned_round else -1.0) * (loss == "triplet")

    runs = make_runs(
        score, metrics=metrics, methods=("cam", "ig", "random"), losses=("ce", "triplet")
    )
    words = lambda m, metric, loss: "worse" if (m == "ig") != (metric == "f-mean") else "better"  # noqa: E731
    found = held(runs, words, controls=["random"], families=dict.fromkeys(metrics, "f"))
    changed = found[found["over"] != "seeds"]
    assert set(changed["flips"]) == {1.0}
    assert set(changed["flips_verdicts"]) == {1.0}
    assert set(changed["n_verdicts"]) == {1}
    assert found.query("over == 'settings'")[["method", "name"]].to_numpy().tolist() == [
        ["cam", "f"],
        ["ig", "f"],
    ]
    assert "random" not in set(found["method"])
    silent = held(runs, controls=["random"], families=dict.fromkeys(metrics, "f"))
    changed = silent[silent["over"] != "seeds"]
    assert set(changed["n_verdicts"]) == {0}
    assert changed["flips_verdicts"].isna().all()


def test_nothing_to_compare_gives_counts_and_no_numbers():
    found = held(make_runs(lambda *_: np.nan))
    assert set(found["n"]) == {0}
    assert found[["kendall_w", "flips"]].isna().all(axis=None)
    pairs, whole = agreed(make_runs(lambda *_: np.nan, metrics=TWO))
    assert len(pairs) == len(whole) == 0


def test_order_of_rows_does_not_matter():
    runs = make_runs(
        noise(np.random.default_rng(4), {}), metrics=TWO, methods=("cam", "ig"), datasets="de"
    )
    for one, other in zip(agreed(runs), agreed(turned(runs)), strict=True):
        pd.testing.assert_frame_equal(one, other)
    pd.testing.assert_frame_equal(held(runs), held(turned(runs)))
