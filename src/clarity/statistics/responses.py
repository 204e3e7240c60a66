"""Responses: own the one number that a training run has for a question about the whole grid.

Questions are asked of a metric, of a category of metrics, and of the metrics that may carry the
verdict on contrastivity. The methods of one model are no independent samples of its loss, so a
training run has one number: the mean over methods of its score on one scale (`units`), the control
methods left out. Runs of one dataset and seed share their data and initial weights: they are a
block.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clarity.statistics.settings import MetricInfo, Settings, categories_of
from clarity.statistics.units import on_one_scale

#: All methods that are no controls, averaged.
ALL = "all"
#: The question of the metrics that noise cannot win.
VERDICT = "contrastivity verdict"

KEYS = ("scope", "name", "category", "method")
#: No metric is a setting of something.
NO_FAMILIES: Mapping[str, str] = {}

_BLOCK = ["dataset", "seed"]


@dataclass(frozen=True)
class Response:
    """The runs of a grid, by a metric, a category of metrics or those of the verdict.

    Attributes:
        scope: "metric", "category" or "verdict".
        name: of the metric or category, or `VERDICT`.
        category: of the metric; otherwise the name of the category.
        method: a method, or `ALL`.
        scores: a row a block (dataset, seed) with all losses that have any score in the grid, a
            column a loss: the mean over methods and metrics, on the scale of
            `clarity.statistics.units`; higher is better.
        ranks: likewise, the rank of the loss in the block, 1 being best; of several metrics the
            rank of the mean of the ranks by each.
        incomplete: number of blocks that have some loss and not all.
    """

    scope: str
    name: str
    category: str
    method: str
    scores: pd.DataFrame
    ranks: pd.DataFrame
    incomplete: int

    @property
    def keys(self) -> dict[str, str]:
        """The names of `KEYS`."""
        return {key: getattr(self, key) for key in KEYS}


def responses(
    runs: pd.DataFrame,
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    settings: Settings,
    controls: Collection[str] = (),
    families: Mapping[str, str] = NO_FAMILIES,
    *,
    each_method: bool = False,
) -> Iterator[Response]:
    """Yield what the training runs score, by each metric with a direction, category, and verdict.

    Args:
        runs: the table of that name.
        metrics: what must be known of each metric, in order.
        baseline: the loss that gives the unit.
        settings: for the unit.
        controls: methods that do not count.
        families: of the metrics that are a setting of something, what they are a setting of: in a
            category, a metric counts once, whatever the number of its settings.
        each_method: whether each method alone is yielded too.
    """
    rows = on_one_scale(runs, baseline, settings)
    rows = rows[~rows["method"].isin(list(controls))]
    # A loss without any score would leave no block whole.
    scored = set(rows.loc[rows["z"].notna(), "loss"])
    losses = [loss for loss in dict.fromkeys(runs["loss"]) if loss in scored]
    directed = [m for m, info in metrics.items() if info.direction != "none"]
    if not losses:
        return
    wide = rows.pivot(index=["metric", "method", *_BLOCK], columns="loss", values="z")[losses]
    seen = wide.notna().any(axis=1)
    whole = wide[wide.notna().all(axis=1)]
    scopes = [("metric", m, metrics[m].category, [m]) for m in directed]
    scopes += [
        ("category", c, c, [m for m in directed if metrics[m].category == c])
        for c in categories_of(metrics)
    ]
    verdict = [m for m in directed if metrics[m].verdict]
    if verdict:
        scopes.append(("verdict", VERDICT, metrics[verdict[0]].category, verdict))
    methods = list(dict.fromkeys(rows["method"])) if each_method else []
    # By metric, averaged over methods once: a method counts in a block if all losses have it.
    averaged = whole.groupby(["metric", *_BLOCK], sort=False).mean()
    blocks_seen = seen.groupby(["metric", *_BLOCK], sort=False).any()
    for scope, name, category, members in scopes:
        for method in [ALL, *methods]:
            table, known = (averaged, blocks_seen) if method == ALL else _of(whole, seen, method)
            table = table[table.index.get_level_values("metric").isin(members)]
            known = known[known.index.get_level_values("metric").isin(members)]
            scores, ranks = (
                _over_metrics(part, families)
                for part in (table, table.rank(axis=1, ascending=False))
            )
            of_blocks = known.groupby(_BLOCK).any()
            yield Response(
                scope,
                name,
                category,
                method,
                scores,
                ranks if scope == "metric" else ranks.rank(axis=1),
                int(of_blocks.sum()) - len(scores),
            )


def _over_metrics(table: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Average over the settings of each metric, then over metrics: a row a block."""
    names = table.index.get_level_values("metric")
    entries = pd.Index([families.get(name, name) for name in names], name="entry")
    blocks = [table.index.get_level_values(level) for level in _BLOCK]
    return table.groupby([entries, *blocks]).mean().groupby(_BLOCK, sort=True).mean()


def _of(
    whole: pd.DataFrame, seen: "pd.Series[bool]", method: str
) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """Return the rows of one method, without its name in the index."""
    mine = whole[whole.index.get_level_values("method") == method]
    known = seen[seen.index.get_level_values("method") == method]
    return mine.droplevel("method"), known.droplevel("method")


def pairs_of(losses: list[str], baseline: str) -> list[tuple[int, int]]:
    """Return places of both losses of each pair, in the order of `comparisons.loss_pairs`."""
    others = [i for i, loss in enumerate(losses) if loss != baseline]
    first = [(i, losses.index(baseline)) for i in others if baseline in losses]
    return first + [(b, a) for k, a in enumerate(others) for b in others[k + 1 :]]


def differences(response: Response, baseline: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield each pair of losses and the differences of their scores, one a block."""
    losses = list(response.scores.columns)
    values = response.scores.to_numpy()
    for a, b in pairs_of(losses, baseline):
        yield losses[a], losses[b], values[:, a] - values[:, b]
