"""Separation: owns the picture of embeddings against explanations, a dot a training run."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.figures.standardised import UNIT
from clarity.statistics.responses import NO_FAMILIES, responses
from clarity.statistics.settings import MetricInfo, Settings

MEASURE = "silhouette"
COLUMNS = 3
PANEL = 1.75


@style.styled
def separation(
    table: pd.DataFrame,
    runs: pd.DataFrame,
    models: pd.DataFrame,
    *,
    metrics: Mapping[str, MetricInfo],
    datasets: Sequence[str],
    losses: Sequence[str],
    controls: Collection[str],
    baseline: str,
    settings: Settings,
    families: Mapping[str, str] = NO_FAMILIES,
) -> Figure:
    """Draw how far classes lie apart in the embeddings against each metric of the verdict.

    Args:
        table: the table `separation`.
        runs: the table of that name.
        models: the table of that name.
        metrics: what must be known of each metric, in order.
        datasets: in order.
        losses: in order.
        controls: methods that do not count.
        baseline: the loss that looks neutral.
        settings: for the scale.
        families: of the metrics that are a setting of something, what they are a setting of.
    """
    wanted = {name: info for name, info in metrics.items() if info.verdict}
    chosen = runs[runs["metric"].isin(list(wanted))]
    asked = [
        r
        for r in responses(chosen, wanted, baseline, settings, controls, families)
        if r.scope != "category" and len(r.scores)
    ]
    if MEASURE not in models or not asked:
        reason = f"no {MEASURE}" if MEASURE not in models else "no metric that carries the verdict"
        return style.only_reason(reason)
    asked.sort(key=lambda response: response.scope != "verdict")
    looks = style.loss_styles(losses, baseline)
    measure = models.set_index(["dataset", "loss", "seed"])[MEASURE]
    lines = -(-len(asked) // COLUMNS)
    figure = Figure(figsize=(style.PAGE_WIDTH, lines * (PANEL + 0.45) + 0.5), layout="constrained")
    grid = figure.add_gridspec(lines, COLUMNS)
    for place, response in enumerate(asked):
        axes = figure.add_subplot(grid[divmod(place, COLUMNS)])
        _draw(axes, response.scores, measure, datasets, looks)
        told = _told(table, response.scope, response.name)
        name = style.shortened(response.name, 30)
        style.above(axes, name, 19, fontsize=style.SMALL_SIZE, fontweight="bold")
        style.above(axes, told, 3, fontsize=style.TINY_SIZE, color=style.MUTED)
        if place % COLUMNS == 0:
            axes.set_ylabel(UNIT, fontsize=style.SMALL_SIZE)
        if place >= len(asked) - COLUMNS:
            axes.set_xlabel(MEASURE, fontsize=style.SMALL_SIZE)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    handles = [
        Line2D([], [], label=loss, linestyle="", marker="o", markersize=4, color=looks[loss].colour)
        for loss in losses
    ]
    handles += [
        Line2D(
            [],
            [],
            label=dataset,
            linestyle="",
            markersize=4,
            **_marker(at, style.MUTED),
        )
        for at, dataset in enumerate(datasets)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7))
    return figure


def _marker(dataset: int, colour: str) -> dict[str, Any]:
    """Return how a dataset is marked: filled and hollow by turns."""
    return {
        "marker": style.MARKERS[dataset % len(style.MARKERS)],
        "color": colour,
        "markerfacecolor": "white" if dataset % 2 else colour,
    }


def _told(table: pd.DataFrame, scope: str, name: str) -> str:
    """Write the correlations over all datasets, or over the only one."""
    rows = table[
        (table["scope"] == scope) & (table["name"] == name) & (table["measure"] == MEASURE)
    ]
    if rows.empty or not np.isfinite(rows.iloc[0]["spearman"]):
        return ""
    row = rows.iloc[0]
    told = [("ρ", "spearman", "ci_low", "ci_high")]
    if np.isfinite(row["partial"]):
        told.append(("given accuracy", "partial", "partial_low", "partial_high"))
    lines = []
    for words, value, low, high in told:
        interval = f" [{row[low]:.2f}, {row[high]:.2f}]" if np.isfinite(row[low]) else ""
        lines.append(f"{words} {row[value]:.2f}{interval}")
    return "\n".join(lines).replace("-", "−")


def _draw(
    axes: Axes,
    scores: pd.DataFrame,
    measure: "pd.Series[float]",
    datasets: Sequence[str],
    looks: Mapping[str, style.LossStyle],
) -> None:
    for at, dataset in enumerate(datasets):
        mine = scores[scores.index.get_level_values("dataset") == dataset]
        for loss in scores.columns:
            keys = [(dataset, loss, seed) for seed in mine.index.get_level_values("seed")]
            if not keys:
                continue
            x = measure.reindex(pd.MultiIndex.from_tuples(keys)).to_numpy()
            axes.plot(
                x,
                mine[loss].to_numpy(),
                linestyle="",
                markersize=3.2,
                markeredgewidth=0.8,
                alpha=0.85,
                **_marker(at, looks[loss].colour),
            )
