"""Specifications: own the curves of all comparisons that one could have reported, and of what.

Simonsohn, Simmons and Nelson, 2020, "Specification curve analysis", figure 2: the estimates of all
reasonable choices, sorted, above marks that say which choices made each.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.figures.standardised import UNIT, standardised
from clarity.figures.words import count

# Lengths in inches.
CURVE, ROW, GROUP_GAP, ABOVE, BELOW, PANEL_GAP, RIGHT = 1.25, 0.115, 0.07, 0.52, 0.36, 0.3, 0.08
#: Losses side by side, and the room for names on the left.
COLUMNS, NAMES, COLUMN_GAP = 3, 1.62, 0.14
CHOICES = ("dataset", "method", "metric")
DECIDED = ("better", "worse")


@style.styled
def specifications(
    comparisons: pd.DataFrame,
    *,
    category: str,
    datasets: Sequence[str],
    losses: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
    controls: Collection[str],
    baseline: str,
    confidence: float,
) -> Figure:
    """Draw for each loss its differences to the baseline by all metrics of a category, sorted.

    Args:
        comparisons: the table of that name.
        category: whose metrics.
        datasets: in order; likewise ``losses``, ``methods`` and ``metrics``.
        losses: see ``datasets``.
        methods: see ``datasets``.
        metrics: see ``datasets``.
        controls: methods that look at neither model nor class; they are left out.
        baseline: the loss that the others are compared with.
        confidence: of the intervals.
    """
    rows = standardised(comparisons, baseline=baseline, controls=controls)
    rows = rows[(rows["category"] == category) & rows["value"].notna()]
    others = [loss for loss in losses if loss != baseline]
    if rows.empty or not others:
        reason = f"nothing of {category} was compared" if others else "nothing to compare with"
        return style.only_reason(reason)
    order = {"dataset": datasets, "method": methods, "metric": metrics}
    shown = {
        choice: [name for name in order[choice] if name in set(rows[choice])] for choice in CHOICES
    }
    places, depth = _places(shown)
    height = CURVE + depth
    columns = min(COLUMNS, len(others))
    lines = -(-len(others) // columns)
    total = ABOVE + lines * height + (lines - 1) * PANEL_GAP + BELOW
    figure = Figure(figsize=(style.PAGE_WIDTH, total))
    width = (style.PAGE_WIDTH - NAMES - RIGHT - (columns - 1) * COLUMN_GAP) / columns
    looks = style.loss_styles(losses, baseline)
    limits = _limits(rows)
    for place, loss in enumerate(others):
        line, column = divmod(place, columns)
        left = (NAMES + column * (width + COLUMN_GAP)) / style.PAGE_WIDTH
        top = ABOVE + line * (height + PANEL_GAP)
        mine = rows[rows["loss"] == loss].sort_values(
            ["value", "dataset", "method", "metric"], kind="stable"
        )
        share = width / style.PAGE_WIDTH
        upper = figure.add_axes((left, 1 - (top + CURVE) / total, share, CURVE / total))
        _draw_curve(upper, mine, looks[loss], limits, first=column == 0)
        title = style.shortened(loss, int(width / 0.075))
        upper.set_title(title, loc="left", color=looks[loss].colour, y=1.07)
        style.above(upper, _tally(mine), 2, fontsize=style.TINY_SIZE, color=style.MUTED)
        lower = figure.add_axes((left, 1 - (top + height) / total, share, depth / total))
        lower.set_ylim(depth, 0)
        _draw_choices(lower, mine, places, looks[loss], names=column == 0)
    style.title(figure, f"{category}: every comparison with {baseline}, sorted", total)
    figure.legend(
        handles=_legend(confidence),
        loc="lower center",
        ncols=4,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    return figure


def _places(shown: dict[str, list[str]]) -> tuple[dict[tuple[str, str], float], float]:
    """Return the middle of each choice's row in inches from the top, and the height of all."""
    places: dict[tuple[str, str], float] = {}
    y = GROUP_GAP
    for choice, names in shown.items():
        # What is the same everywhere is no choice.
        if len(names) < 2:
            continue
        for name in names:
            places[choice, name] = y + ROW / 2
            y += ROW
        y += GROUP_GAP
    return places, max(y, ROW)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the range of the values: wide intervals are cut before they make all others small."""
    ends = np.concatenate([rows[end].dropna().to_numpy() for end in ("low", "high", "value")])
    values = rows["value"].to_numpy()
    low, high = np.percentile(ends, [2, 98])
    low, high = min(low, values.min(), 0.0), max(high, values.max(), 0.0)
    margin = 0.06 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _draw_curve(
    axes: Axes,
    rows: pd.DataFrame,
    look: style.LossStyle,
    limits: tuple[float, float],
    *,
    first: bool,
) -> None:
    at = np.arange(len(rows))
    decided = rows["verdict"].isin(DECIDED).to_numpy()
    equivalent = (rows["verdict"] == "equivalent").to_numpy()
    axes.axhline(0, color=style.INK, lw=0.8, zorder=1)
    for chosen, colour, alpha in ((~decided, style.MUTED, 0.35), (decided, look.colour, 0.8)):
        part = rows[chosen]
        axes.vlines(at[chosen], part["low"], part["high"], color=colour, alpha=alpha, lw=0.8)
    for chosen, face, edge in (
        (~decided & ~equivalent, "white", style.MUTED),
        (equivalent, style.FAINT, style.MUTED),
        (decided, look.colour, look.colour),
    ):
        axes.plot(
            at[chosen],
            rows["value"][chosen],
            linestyle="",
            marker="o",
            markersize=2.6,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=0.6,
            zorder=3,
        )
    axes.set(xlim=(-1, max(len(rows), 1)), ylim=limits, xticks=[])
    axes.spines["bottom"].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if first:
        axes.set_ylabel(f"{UNIT}\n(better is up)", fontsize=style.SMALL_SIZE)
    else:
        axes.set_yticklabels([])


def _tally(rows: pd.DataFrame) -> str:
    """Write how many of the comparisons are what."""
    counts = rows["verdict"].value_counts()
    named = [f"{counts[name]} {name}" for name in (*DECIDED, "equivalent") if name in counts]
    return f"{', '.join(named) or 'no verdict'} of {count(len(rows), 'comparison')}"


def _draw_choices(
    axes: Axes,
    rows: pd.DataFrame,
    places: dict[tuple[str, str], float],
    look: style.LossStyle,
    *,
    names: bool,
) -> None:
    decided = rows["verdict"].isin(DECIDED).to_numpy()
    for (choice, name), y in places.items():
        axes.axhline(y, color=style.SHADE, lw=4.5, zorder=0)
        mine = (rows[choice] == name).to_numpy()
        for chosen, colour in ((mine & ~decided, style.MUTED), (mine & decided, look.colour)):
            at = np.flatnonzero(chosen)
            axes.vlines(at, y - 0.36 * ROW, y + 0.36 * ROW, color=colour, lw=1.0)
    axes.set(xlim=(-1, max(len(rows), 1)), xticks=[])
    labels = [style.shortened(name, 27) for _, name in places]
    axes.set_yticks(list(places.values()), labels if names else [], fontsize=style.TINY_SIZE)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _legend(confidence: float) -> list[Line2D]:
    def key(label: str, **look: object) -> Line2D:
        known = {"linestyle": "", "marker": "o", "markersize": 3.5, "color": style.MUTED}
        return Line2D([], [], label=label, **{**known, **look})  # type: ignore[arg-type]

    return [
        key("better or worse", color=style.INK),
        key("equivalent", markerfacecolor=style.FAINT),
        key("inconclusive", markerfacecolor="white"),
        key(style.interval_words(confidence), linestyle="-", marker="", lw=0.9),
    ]
