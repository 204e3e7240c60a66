"""Stability: owns how far a comparison of losses holds for other seeds, methods and settings.

A difference that changes its sign from seed to seed, from one attribution method to the next, or
with a setting of the metric, is a property of that choice and not of the loss.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from clarity.statistics.agreement import kendall_w
from clarity.statistics.responses import NO_FAMILIES
from clarity.statistics.units import oriented

#: What is changed while all else stays.
SEEDS, METHODS, SETTINGS = "seeds", "methods", "settings"
COLUMNS = (
    "over",
    "dataset",
    "method",
    "name",
    "category",
    "n",
    "kendall_w",
    "n_pairs",
    "flips",
    "n_verdicts",
    "flips_verdicts",
)


def stability_table(
    runs: pd.DataFrame,
    comparisons: pd.DataFrame,
    baseline: str,
    controls: Collection[str] = (),
    families: Mapping[str, str] = NO_FAMILIES,
) -> pd.DataFrame:
    """Say how far rankings and signs hold when seeds, methods or settings change.

    Args:
        runs: the table of that name.
        comparisons: the table of that name.
        baseline: the loss that differences are taken from.
        controls: methods that do not count.
        families: of the metrics that are a setting of something, what they are a setting of.

    Returns:
        `COLUMNS`: for each dataset, method and metric over its seeds; for each dataset and metric
        over the methods (method is empty); for each dataset, method and family over the settings
        (name is that of the family). `kendall_w` is the concordance of the rankings of the losses.
        `flips` is the share of pairs of seeds (methods, settings) between which the difference of a
        loss to the baseline has the opposite sign, over all losses; 0 has no sign, and such pairs
        do not count. `flips_verdicts` is the share of the pairs with two verdicts, better or worse,
        in which they are opposite.
    """
    own = oriented(runs, controls)
    axes_of = ["dataset", "method", "metric", "category", "loss"]
    over_seeds = own.groupby(axes_of, sort=False)["score"].mean().reset_index()
    told = comparisons[comparisons["baseline"] == baseline]
    verdicts = told.set_index(["dataset", "method", "metric", "loss"])["verdict"].map(
        {"better": 1.0, "worse": -1.0}
    )
    losses = list(dict.fromkeys(runs["loss"]))
    rows: list[dict[str, Any]] = []
    for (dataset, method, name, category), group in own.groupby(
        ["dataset", "method", "metric", "category"], sort=False
    ):
        wide = group.pivot(index="seed", columns="loss", values="score")
        axes = {"dataset": dataset, "method": method, "name": name, "category": category}
        rows.append({"over": SEEDS, **axes} | _hold(wide, losses, baseline))
    for (dataset, name, category), group in over_seeds.groupby(
        ["dataset", "metric", "category"], sort=False
    ):
        wide = group.pivot(index="method", columns="loss", values="score")
        axes = {"dataset": dataset, "method": "", "name": name, "category": category}
        cells = [[(dataset, m, name, loss) for m in wide.index] for loss in losses]
        rows.append(
            {"over": METHODS, **axes} | _hold(wide, losses, baseline) | _verdicts(verdicts, cells)
        )
    of_family = over_seeds[over_seeds["metric"].isin(list(families))]
    of_family = of_family.assign(family=of_family["metric"].map(families))
    for (dataset, method, name, category), group in of_family.groupby(
        ["dataset", "method", "family", "category"], sort=False
    ):
        wide = group.pivot(index="metric", columns="loss", values="score")
        axes = {"dataset": dataset, "method": method, "name": name, "category": category}
        cells = [[(dataset, method, m, loss) for m in wide.index] for loss in losses]
        rows.append(
            {"over": SETTINGS, **axes} | _hold(wide, losses, baseline) | _verdicts(verdicts, cells)
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _hold(wide: pd.DataFrame, losses: Sequence[str], baseline: str) -> dict[str, Any]:
    """Return concordance and flips of rows of scores, higher being better, a column a loss."""
    wide = wide.reindex(columns=list(losses))
    whole = wide.dropna().to_numpy(dtype=np.float64)
    row: dict[str, Any] = {"n": len(whole)}
    if len(whole) > 1 and len(losses) > 1:
        row["kendall_w"] = kendall_w(stats.rankdata(whole, axis=1))
    signs = np.sign(wide.drop(columns=baseline).sub(wide[baseline], axis=0).to_numpy())
    opposite, pairs = _opposite(signs)
    row["n_pairs"] = pairs
    if pairs:
        row["flips"] = opposite / pairs
    return row


def _verdicts(
    verdicts: "pd.Series[float]", cells: Sequence[Sequence[tuple[Any, ...]]]
) -> dict[str, Any]:
    """Return how many pairs have two verdicts, and the share of those that are opposite."""
    signs = np.array(
        [verdicts.reindex(pd.MultiIndex.from_tuples(keys)).to_numpy() for keys in cells]
    ).T
    opposite, pairs = _opposite(signs)
    found: dict[str, Any] = {"n_verdicts": pairs}
    if pairs:
        found["flips_verdicts"] = opposite / pairs
    return found


def _opposite(signs: np.ndarray) -> tuple[int, int]:
    """Count pairs of rows with opposite signs in a column, and those with a sign in both."""
    opposite = pairs = 0
    known = np.isfinite(signs) & (signs != 0)
    for a, b in combinations(range(len(signs)), 2):
        both = known[a] & known[b]
        pairs += int(both.sum())
        opposite += int((signs[a] != signs[b])[both].sum())
    return opposite, pairs
