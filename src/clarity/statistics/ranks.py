"""Ranks: own how losses rank across a grid, and which ranks can be told apart.

Blocks are (dataset, seed), not images and not methods (`clarity.statistics.responses`). The tests
are those of Demšar, 2006, "Statistical comparisons of classifiers over multiple data sets".
"""

import functools
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clarity.seeds import derive_seed
from clarity.statistics.equivalence import signed_rank_probabilities
from clarity.statistics.responses import KEYS, NO_FAMILIES, Response, differences, responses
from clarity.statistics.settings import MetricInfo, Settings
from clarity.statistics.significance import adjusted, sign_flip_p, smallest_p

RANKS = (
    *KEYS,
    "loss",
    "mean_rank",
    "n_blocks",
    "n_incomplete",
    "friedman",
    "friedman_p",
    "iman_davenport",
    "iman_davenport_p",
    "critical_difference",
)
POSTHOC = (
    *KEYS,
    "loss",
    "baseline",
    "n_blocks",
    "rank_difference",
    "p_nemenyi",
    "p_wilcoxon",
    "p_wilcoxon_smallest",
    "p_wilcoxon_holm",
    "difference",
    "prob_lower",
    "prob_within",
    "prob_higher",
)


def rank_tables(
    runs: pd.DataFrame,
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    settings: Settings,
    controls: Collection[str] = (),
    families: Mapping[str, str] = NO_FAMILIES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank the losses across the grid.

    Args:
        runs: the table of that name.
        metrics: what must be known of each metric, in order.
        baseline: the loss that comes second in its pairs.
        settings: for the scale, the level and the smallest effect.
        controls: methods that do not count.
        families: of the metrics that are a setting of something, what they are a setting of.

    Returns:
        `RANKS`, one row a loss, and `POSTHOC`, one row a pair of losses, of each metric with a
        direction, category and the verdict, for all methods together and for each.
    """
    ranks: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for response in responses(
        runs, metrics, baseline, settings, controls, families, each_method=True
    ):
        ranks += _rank_rows(response, settings)
        pairs += _pair_rows(response, baseline, settings)
    return (
        pd.DataFrame(ranks, columns=list(RANKS)),
        pd.DataFrame(pairs, columns=list(POSTHOC)),
    )


def friedman(ranks: np.ndarray) -> tuple[float, float, float, float]:
    """Return Friedman's chi-squared and p, and Iman and Davenport's F and p (1980).

    Args:
        ranks: mid-ranks within blocks, [blocks, losses].

    Returns:
        NaN with fewer than three losses or two blocks, and where all losses tie in every block.
        With two losses the Wilcoxon test of the pair says all.
    """
    blocks, losses = ranks.shape
    nothing = (math.nan,) * 4
    if losses < 3 or blocks < 2:
        return nothing
    spread = ((ranks - (losses + 1) / 2) ** 2).sum()
    if spread == 0:
        return nothing
    sums = ranks.sum(axis=0) - blocks * (losses + 1) / 2
    # With mid-ranks, dividing by the ranks' own spread is Friedman's correction for ties.
    chi = (losses - 1) * (sums**2).sum() / spread
    rest = blocks * (losses - 1) - chi
    f = (blocks - 1) * chi / rest if rest > 1e-9 else math.inf
    return (
        float(chi),
        float(stats.chi2.sf(chi, losses - 1)),
        float(f),
        float(stats.f.sf(f, losses - 1, (losses - 1) * (blocks - 1))),
    )


@functools.lru_cache
def critical_difference(losses: int, blocks: int, alpha: float) -> float:
    """Return the difference of mean ranks from which Nemenyi's test tells two losses apart.

    q_alpha sqrt(k (k + 1) / (6 N)), q being the Studentised range over sqrt(2) (Demšar, 2006).
    """
    if losses < 2 or blocks < 1:
        return math.nan
    quantile = stats.studentized_range.ppf(1 - alpha, losses, np.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(losses * (losses + 1) / (6 * blocks)))


def nemenyi_p(rank_difference: float, losses: int, blocks: int) -> float:
    """Return p of Nemenyi's test of a difference of mean ranks."""
    scale = math.sqrt(losses * (losses + 1) / (6 * blocks))
    statistic = abs(rank_difference) / scale * math.sqrt(2)
    return float(stats.studentized_range.sf(statistic, losses, np.inf))


def wilcoxon_p(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return p of two-sided Wilcoxon signed-rank tests, one a row.

    The permutation test of the signed mid-ranks, zeros left out: exact with and without ties up to
    `clarity.statistics.significance.EXACT_RUNS` blocks.

    Args:
        values: differences, [rows, blocks].
        generator: source of the patterns where not all are tried.
    """
    size = np.abs(values)
    ranks = stats.rankdata(size, axis=1) - (size == 0).sum(axis=1, keepdims=True)
    return sign_flip_p(np.where(size > 0, np.sign(values) * ranks, 0.0), generator)


def _rank_rows(response: Response, settings: Settings) -> list[dict[str, Any]]:
    ranks = response.ranks.to_numpy()
    blocks, losses = ranks.shape
    chi, p, f, f_p = friedman(ranks)
    means = ranks.mean(axis=0) if blocks else np.full(losses, np.nan)
    return [
        {
            **response.keys,
            "loss": loss,
            "mean_rank": float(mean),
            "n_blocks": blocks,
            "n_incomplete": response.incomplete,
            "friedman": chi,
            "friedman_p": p,
            "iman_davenport": f,
            "iman_davenport_p": f_p,
            "critical_difference": critical_difference(losses, blocks, settings.alpha),
        }
        for loss, mean in zip(response.ranks.columns, means, strict=True)
    ]


def _pair_rows(response: Response, baseline: str, settings: Settings) -> list[dict[str, Any]]:
    blocks = len(response.ranks)
    means = response.ranks.mean()
    pairs = list(differences(response, baseline))
    rows: list[dict[str, Any]] = [
        {**response.keys, "loss": loss, "baseline": other, "n_blocks": blocks}
        for loss, other, _ in pairs
    ]
    if not blocks or not pairs:
        return rows
    values = np.stack([apart for _, _, apart in pairs])
    draws = [
        np.random.default_rng(derive_seed(*settings.seed, name, blocks))
        for name in ("wilcoxon", "signed-rank")
    ]
    p = wilcoxon_p(values, draws[0])
    holm = adjusted(p)
    probabilities = signed_rank_probabilities(values, settings.smallest_effect, draws[1])
    for place, row in enumerate(rows):
        apart = float(means[row["loss"]] - means[row["baseline"]])
        lower, within, higher = map(float, probabilities[place])
        row |= {
            "rank_difference": apart,
            "p_nemenyi": nemenyi_p(apart, len(means), blocks),
            "p_wilcoxon": float(p[place]),
            "p_wilcoxon_smallest": smallest_p(blocks),
            "p_wilcoxon_holm": float(holm[place]),
            "difference": float(values[place].mean()),
            "prob_lower": lower,
            "prob_within": within,
            "prob_higher": higher,
        }
    return rows
