"""Separation: owns the picture of embeddings against explanations, a dot a training run."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.statistics.responses import responses
from clarity.statistics.settings import MetricInfo, Settings

MEASURE = "silhouette"
COLUMNS = 3
PANEL = 1.75
#: Markers of the datasets, filled and hollow by turns.
HOLLOW = (False, True)


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
    """
    wanted = {name: info for name, info in metrics.items() if info.verdict}
    chosen = runs[runs["metric"].isin(list(wanted))]
    asked = [
        r
        for r in responses(chosen, wanted, baseline, settings, controls)
        if r.scope != "category" and len(r.scores)
    ]
    if MEASURE not in models or not asked:
        figure = Figure(figsize=(style.PAGE_WIDTH, 1.0))
        reason = f"no {MEASURE}" if MEASURE not in models else "no metric that carries the verdict"
        style.empty_panel(figure.add_subplot(), reason, characters=100)
        return figure
    asked.sort(key=lambda response: response.scope != "verdict")
    looks = style.loss_styles(losses, baseline)
    measure = models.set_index(["dataset", "loss", "seed"])[MEASURE]
    lines = -(-len(asked) // COLUMNS)
    figure = Figure(figsize=(style.PAGE_WIDTH, lines * (PANEL + 0.35) + 0.5), layout="constrained")
    grid = figure.add_gridspec(lines, COLUMNS)
    for place, response in enumerate(asked):
        axes = figure.add_subplot(grid[divmod(place, COLUMNS)])
        _draw(axes, response.scores, measure, datasets, looks)
        told = _told(table, response.scope, response.name)
        for text, above, weight in ((response.name, 12, "bold"), (told, 3, "normal")):
            axes.annotate(
                text,
                (0.0, 1.0),
                xycoords="axes fraction",
                xytext=(0, above),
                textcoords="offset points",
                fontsize=style.SMALL_SIZE if above > 3 else style.TINY_SIZE,
                fontweight=weight,
                color=style.INK if above > 3 else style.MUTED,
            )
        if place % COLUMNS == 0:
            axes.set_ylabel("SD between images", fontsize=style.SMALL_SIZE)
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
            marker=style.MARKERS[at % len(style.MARKERS)],
            markersize=4,
            color=style.MUTED,
            markerfacecolor="white" if at % 2 else style.MUTED,
        )
        for at, dataset in enumerate(datasets)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7))
    return figure


def _told(table: pd.DataFrame, scope: str, name: str) -> str:
    """Write the correlations over all datasets, or over the only one."""
    rows = table[
        (table["scope"] == scope) & (table["name"] == name) & (table["measure"] == MEASURE)
    ]
    if rows.empty or not np.isfinite(rows.iloc[0]["spearman"]):
        return ""
    row = rows.iloc[0]
    interval = ""
    if np.isfinite(row["ci_low"]):
        interval = f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
    given = f"; given accuracy {row['partial']:.2f}" if np.isfinite(row["partial"]) else ""
    return f"ρ {row['spearman']:.2f}{interval}{given}".replace("-", "−")


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
                marker=style.MARKERS[at % len(style.MARKERS)],
                color=looks[loss].colour,
                markerfacecolor="white" if HOLLOW[at % 2] else looks[loss].colour,
                alpha=0.85,
            )
