"""Curves: own the picture of what the value of a metric is made of, such as removed pixels."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.grid import controls_last

# Lengths in inches.
PANEL, ABOVE, BELOW = 0.95, 0.5, 0.35
#: A metric with fewer points has no curve to look at.
FEWEST_POINTS = 3


@style.styled
def curves(
    table: pd.DataFrame,
    *,
    dataset: str,
    losses: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
    controls: Collection[str],
    baseline: str,
) -> Figure:
    """Draw the curves of every metric that has one: a row a metric, a column a method.

    Args:
        table: the table `curves`.
        dataset: whose curves.
        losses: in order.
        methods: in order.
        metrics: in order.
        controls: methods that look at neither model nor class; they come last.
        baseline: the loss that looks neutral.
    """
    rows = table[(table["dataset"] == dataset) & (table["label"] == "")]
    lengths = rows.groupby("metric")["point"].nunique()
    known = [m for m in metrics if lengths.get(m, 0) >= FEWEST_POINTS]
    rows = rows[rows["metric"].isin(known)]
    ordered = controls_last(methods, controls)
    shown = [method for method in ordered if method in set(rows["method"])]
    if not known:
        return style.only_reason("no metric with a curve")
    figure = Figure(
        figsize=(style.PAGE_WIDTH, len(known) * (PANEL + 0.25) + ABOVE + BELOW),
        layout="constrained",
    )
    grid = figure.subplots(len(known), len(shown), sharey="row", squeeze=False)
    looks = style.loss_styles(losses, baseline)
    for line, metric in enumerate(known):
        for column, method in enumerate(shown):
            axes = grid[line, column]
            part = rows[(rows["metric"] == metric) & (rows["method"] == method)]
            _draw(axes, part, losses, looks)
            if line == 0:
                axes.set_title(method, fontsize=style.SMALL_SIZE)
            if column == 0:
                axes.set_ylabel(metric, fontsize=style.TINY_SIZE)
            axes.tick_params(labelsize=style.TINY_SIZE)
        axis = str(rows.loc[rows["metric"] == metric, "axis"].iloc[0])
        grid[line, len(shown) // 2].set_xlabel(axis, fontsize=style.TINY_SIZE)
    figure.suptitle(
        f"{dataset}: mean over training runs, band: ± standard deviation between them",
        fontsize=style.BASE_SIZE,
        x=0.01,
        ha="left",
    )
    handles = [
        Line2D([], [], label=loss, color=looks[loss].colour, linestyle=looks[loss].dashes)
        for loss in losses
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(losses), 6))
    return figure


def _draw(
    axes: Axes, part: pd.DataFrame, losses: Sequence[str], looks: dict[str, style.LossStyle]
) -> None:
    for loss in losses:
        mine = part[part["loss"] == loss].sort_values("point")
        if mine.empty:
            continue
        at, mean, sd = (mine[name].to_numpy() for name in ("at", "mean", "sd"))
        look = looks[loss]
        axes.plot(at, mean, color=look.colour, linestyle=look.dashes, lw=1.0)
        if np.isfinite(sd).all():
            axes.fill_between(at, mean - sd, mean + sd, color=look.colour, alpha=0.15, lw=0)
    if part.empty:
        style.empty_panel(axes, "no curve", characters=12)
        return
    axes.xaxis.set_major_locator(MaxNLocator(2))
    axes.yaxis.set_major_locator(MaxNLocator(3))
