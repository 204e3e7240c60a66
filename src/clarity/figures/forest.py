"""Forest: owns the picture of how far each loss lies from the baseline across the grid."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.figures.effects import mark_direction
from clarity.figures.standardised import UNIT
from clarity.figures.words import span

# Lengths in inches.
ROW, GAP, TITLE, ABOVE, AXIS, LEGEND, NAMES = 0.165, 0.11, 0.28, 0.26, 0.4, 0.24, 1.6
#: Losses side by side.
COLUMNS = 4
#: Characters of a name on the left.
LONGEST = 27
#: The estimates of a row: their columns' suffix, how far below its middle they lie, their fill.
ESTIMATES = (("", -0.03, True), ("_given_accuracy", 0.04, False))


@style.styled
def forest(
    mixed: pd.DataFrame,
    *,
    losses: Sequence[str],
    baseline: str,
    verdict: Collection[str],
    confidence: float,
) -> Figure:
    """Draw the estimates of the mixed models with and without accuracy: a column a loss.

    Args:
        mixed: the table `mixed-models`.
        losses: in order.
        baseline: the loss that the others are compared with.
        verdict: the metrics that may carry the verdict on contrastivity; they are marked.
        confidence: of the intervals.
    """
    others = [loss for loss in losses if loss != baseline]
    places, categories, height = _places(mixed)
    rows = mixed[mixed["estimate"].notna()]
    if rows.empty or not others:
        reason = "no metric with a model" if others else "nothing to compare with"
        return style.only_reason(reason)
    looks = style.loss_styles(losses, baseline)
    columns = min(COLUMNS, len(others))
    lines = -(-len(others) // columns)
    line_height = ABOVE + height + AXIS
    total = TITLE + lines * line_height + LEGEND
    figure = Figure(figsize=(style.PAGE_WIDTH, total))
    width = (style.PAGE_WIDTH - NAMES - 0.1) / columns
    shared: Axes | None = None
    for place, loss in enumerate(others):
        line, column = divmod(place, columns)
        bottom = 1 - (TITLE + line * line_height + ABOVE + height) / total
        axes = figure.add_axes(
            (
                (NAMES + column * width) / style.PAGE_WIDTH,
                bottom,
                (width - 0.12) / style.PAGE_WIDTH,
                height / total,
            ),
            sharex=shared,
        )
        shared = shared or axes
        axes.set_ylim(height, 0)
        axes.axvline(0, color=style.INK, lw=0.8, zorder=1)
        mine = {(r["scope"], r["name"]): r for r in mixed[mixed["loss"] == loss].to_dict("records")}
        for key, y in places.items():
            row = mine.get(key)
            if row is None or not np.isfinite(row["estimate"]):
                _no_estimate(axes, y, "" if row is None else str(row["note"]))
            else:
                _draw(axes, row, y, looks[loss])
        title = style.shortened(loss, int(width / 0.08))
        axes.set_title(title, loc="left", color=looks[loss].colour)
        axes.set_yticks(list(places.values()), [])
        if column == 0:
            labels = axes.set_yticklabels(
                [
                    style.shortened(name, LONGEST) + (" *" if name in verdict else "")
                    for _, name in places
                ]
            )
            for label, (scope, _) in zip(labels, places, strict=True):
                label.set_fontweight("normal" if scope == "metric" else "bold")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        for top in categories.values():
            axes.axhline(top, color=style.FAINT, lw=0.6, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.margins(x=0.06)
        axes.set_xlabel(UNIT, fontsize=style.SMALL_SIZE, loc="left")
        mark_direction(axes, "higher")
    told = span(rows["n_blocks"])
    words = f"Difference to {baseline} across the grid ({told} blocks of dataset and seed)"
    style.title(figure, words, total)
    figure.legend(
        handles=_legend(bool(set(rows["name"]) & set(verdict)), confidence),
        loc="lower center",
        ncols=5,
        bbox_to_anchor=(0.5, 0.0),
        handletextpad=0.4,
        columnspacing=1.2,
    )
    return figure


def _places(
    rows: pd.DataFrame,
) -> tuple[dict[tuple[str, str], float], dict[str, float], float]:
    """Return the middle of each question's row, the top of each category, and the height of all."""
    places: dict[tuple[str, str], float] = {}
    categories: dict[str, float] = {}
    y = 0.0
    ordered = list(dict.fromkeys(rows["category"]))
    # What the question of the grid is about comes first.
    ordered.sort(
        key=lambda category: (
            not (rows.loc[rows["category"] == category, "scope"] == "verdict").any()
        )
    )
    for category in ordered:
        mine = rows[rows["category"] == category]
        categories[category] = y
        y += GAP / 2
        metrics = list(dict.fromkeys(mine.loc[mine["scope"] == "metric", "name"]))
        scopes = [
            ("verdict", n) for n in dict.fromkeys(mine.loc[mine["scope"] == "verdict", "name"])
        ]
        if len(metrics) > 1:
            scopes.append(("category", category))
        for key in [*scopes, *(("metric", name) for name in metrics)]:
            places[key] = y + ROW / 2
            y += ROW
        y += GAP / 2
    return places, categories, y


def _no_estimate(axes: Axes, y: float, note: str) -> None:
    """Write why a row is empty, where there is room."""
    axes.annotate(
        style.shortened(f"no estimate: {note}" if note else "no estimate", 40),
        (0.0, y),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=style.TINY_SIZE - 0.5,
        color=style.MUTED,
    )


def _draw(axes: Axes, row: Mapping[Hashable, Any], y: float, look: style.LossStyle) -> None:
    whole = row["scope"] != "metric"
    for suffix, below, filled in ESTIMATES:
        value, low, high = (
            float(row[f"{name}{suffix}"]) for name in ("estimate", "ci_low", "ci_high")
        )
        if not np.isfinite(value):
            continue
        axes.plot(
            [low, high],
            [y + below] * 2,
            color=look.colour,
            lw=1.2 if filled else 0.8,
            alpha=1.0 if filled else 0.6,
            solid_capstyle="butt",
            zorder=2,
        )
        axes.plot(
            value,
            y + below,
            marker="D" if whole else "o",
            markersize=4.4 if whole else 3.4,
            markerfacecolor=look.colour if filled else "white",
            markeredgecolor=look.colour,
            markeredgewidth=0.8,
            zorder=3,
        )


def _legend(any_verdict: bool, confidence: float) -> list[Line2D]:
    def key(label: str, marker: str, face: str) -> Line2D:
        return Line2D(
            [],
            [],
            label=label,
            linestyle="",
            marker=marker,
            markersize=4.2,
            color=style.MUTED,
            markerfacecolor=face,
        )

    handles = [
        key("without accuracy", "o", style.MUTED),
        key("given accuracy", "o", "white"),
        key("category as a whole", "D", style.MUTED),
    ]
    if any_verdict:
        handles.append(key("noise cannot win it", "*", style.MUTED))
    words = style.interval_words(confidence)
    return [*handles, Line2D([], [], label=words, color=style.MUTED, lw=1.1)]
