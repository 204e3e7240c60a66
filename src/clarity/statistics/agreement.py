"""Agreement: owns how far the metrics of a category say the same of losses and of methods.

Metrics of one category are meant to measure one thing. Where they rank the same losses, or the same
methods, differently, the category has no answer, whatever each of its metrics says (Krishna et al.,
2022, "The disagreement problem in explainable machine learning", of methods).
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
from scipy import stats

from clarity.statistics.resampling import jackknife_interval, without_each
from clarity.statistics.responses import NO_FAMILIES
from clarity.statistics.settings import MetricInfo, Settings
from clarity.statistics.units import oriented

LOSSES, METHODS = "losses", "methods"
#: What every dataset counts for, together.
ALL = "all"

AGREEMENT = (
    "over",
    "category",
    "metric",
    "other",
    "n",
    "correlation",
    "ci_low",
    "ci_high",
)
CONCORDANCE = (
    "dataset",
    "category",
    "over",
    "n_metrics",
    "n_items",
    "n_rankings",
    "kendall_w",
    "krippendorff_alpha",
)


def agreement_tables(
    runs: pd.DataFrame,
    metrics: Mapping[str, MetricInfo],
    settings: Settings,
    controls: Collection[str] = (),
    families: Mapping[str, str] = NO_FAMILIES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say how far the metrics of each category agree.

    Args:
        runs: the table of that name.
        metrics: what must be known of each metric, in order.
        settings: for the level.
        controls: methods that do not count.
        families: of the metrics that are a setting of something, what they are a setting of: the
            settings of one metric are averaged, since they agree as a matter of course.

    Returns:
        `AGREEMENT`, by pairs of metrics: the mean over rankings of Spearman's correlation between
        two metrics' rankings of the losses (within dataset, seed and method), or of the methods
        (within dataset, seed and loss), with the jackknife's interval over (dataset, seed); and
        `CONCORDANCE`: the mean of Kendall's W over all metrics as raters, and Krippendorff's alpha.
    """
    # Only ranks matter, so scores need no unit; the settings of a metric share theirs.
    rows = oriented(runs, controls).dropna(subset="score")
    rows = rows.assign(entry=[families.get(name, name) for name in rows["metric"]])
    keys = ["category", "entry", "dataset", "seed", "method", "loss"]
    entries = rows.groupby(keys, sort=False)["score"].mean().reset_index()
    categories = dict.fromkeys(info.category for info in metrics.values())
    pairs: list[dict[str, Any]] = []
    whole: list[dict[str, Any]] = []
    for category in categories:
        mine = entries[entries["category"] == category]
        names = list(dict.fromkeys(mine["entry"]))
        for over, items, fixed in ((LOSSES, "loss", "method"), (METHODS, "method", "loss")):
            wide = mine.pivot(
                index=["dataset", "seed", fixed, items], columns="entry", values="score"
            )
            rankings = _rankings(wide, ["dataset", "seed", fixed], names)
            for a, b in combinations(names, 2):
                shared = {"over": over, "category": category, "metric": a, "other": b}
                pairs.append(
                    shared | _pair(rankings, names.index(a), names.index(b), settings.confidence)
                )
            datasets = list(dict.fromkeys(runs["dataset"]))
            for dataset in [ALL, *datasets] if len(datasets) > 1 else datasets:
                part = [r for r in rankings if dataset in (ALL, r.dataset)]
                shared = {"dataset": dataset, "category": category, "over": over}
                if len(names) > 1 and part:
                    whole.append(shared | _concordance(part))
    return (
        pd.DataFrame(pairs, columns=list(AGREEMENT)),
        pd.DataFrame(whole, columns=list(CONCORDANCE)),
    )


class _Ranking:
    """What all metrics say of the same items: dataset, block and ranks [metrics, items], or NaN."""

    def __init__(self, dataset: str, seed: Hashable, ranks: np.ndarray) -> None:
        self.dataset = dataset
        self.block = (dataset, seed)
        self.ranks = ranks


def _rankings(wide: pd.DataFrame, within: list[str], names: Sequence[str]) -> list[_Ranking]:
    """Rank the items of each group by each metric; NaN for a metric that lacks one of them."""
    found = []
    for (dataset, seed, _), group in wide.groupby(level=within, sort=True):
        values = group[list(names)].to_numpy(dtype=np.float64).T
        lacking = np.isnan(values).any(axis=1)
        if values.shape[1] > 1:
            ranks = stats.rankdata(np.nan_to_num(values), axis=1)
            ranks[lacking] = np.nan
            found.append(_Ranking(str(dataset), seed, ranks))
    return found


def _pair(rankings: Sequence[_Ranking], a: int, b: int, confidence: float) -> dict[str, Any]:
    """Return the mean correlation of two metrics' rankings; its interval is that of blocks."""
    by_block: dict[Any, list[float]] = {}
    for ranking in rankings:
        first, second = ranking.ranks[a], ranking.ranks[b]
        # A metric that ranks all items alike says nothing that another could agree with.
        if np.ptp(first) > 0 and np.ptp(second) > 0:
            value = float(np.corrcoef(first, second)[0, 1])
            by_block.setdefault(ranking.block, []).append(value)
    values = [np.array(by_block[block]) for block in sorted(by_block)]
    row: dict[str, Any] = {"n": sum(map(len, values))}
    if not values:
        return row
    sums = np.array([part.sum() for part in values])
    sizes = np.array([len(part) for part in values])
    row["correlation"] = float(sums.sum() / sizes.sum())
    if len(values) > 1:
        kept = without_each(len(values))
        left_out = sums[kept].sum(axis=1) / sizes[kept].sum(axis=1)
        ends = jackknife_interval(np.array(row["correlation"]), left_out, confidence)
        row["ci_low"], row["ci_high"] = (float(np.clip(end, -1, 1)) for end in ends)
    return row


def _concordance(rankings: Sequence[_Ranking]) -> dict[str, Any]:
    """Return the mean concordance of the metrics over rankings of the same items."""
    items = {ranking.ranks.shape[1] for ranking in rankings}
    coefficients, alphas, metrics = [], [], 0
    for ranking in rankings:
        ranks = ranking.ranks[~np.isnan(ranking.ranks).any(axis=1)]
        metrics = max(metrics, len(ranks))
        if len(ranks) > 1:
            coefficients.append(kendall_w(ranks))
            if len(np.unique(ranks)) > 1:
                alphas.append(
                    krippendorff.alpha(reliability_data=ranks, level_of_measurement="ordinal")
                )
    return {
        "n_metrics": metrics,
        "n_items": max(items),
        "n_rankings": len(coefficients),
        "kendall_w": _mean(coefficients),
        "krippendorff_alpha": _mean(alphas),
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def kendall_w(ranks: np.ndarray) -> float:
    """Return Kendall's coefficient of concordance, corrected for ties.

    W = (12 sum_i R_i^2 - 3 m^2 n (n + 1)^2) / (m^2 n (n^2 - 1) - m sum_j T_j), T_j being the sum of
    t^3 - t over the ties of rater j (Kendall, 1948, "Rank correlation methods", chapter 6).

    Args:
        ranks: mid-ranks, [raters m, items n].

    Returns:
        0 for no agreement to 1; NaN where every rater ranks all items alike.
    """
    raters, items = ranks.shape
    ties = 0
    for row in ranks:
        _, counts = np.unique(row, return_counts=True)
        ties += int((counts**3 - counts).sum())
    rest = raters**2 * items * (items**2 - 1) - raters * ties
    if rest == 0:
        return float("nan")
    sums = ranks.sum(axis=0)
    return float((12 * (sums**2).sum() - 3 * raters**2 * items * (items + 1) ** 2) / rest)
