"""Heat map: owns the picture of every comparison with the baseline on one dataset at once."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clarity.figures import style
from clarity.figures.standardised import UNIT, standardised

# Lengths in inches.
CELL_HEIGHT, CATEGORY, NAMES, RIGHT = 0.17, 0.16, 1.62, 0.12
TITLE, HEADING, LINE_GAP, BELOW, LOSS_GAP = 0.26, 0.2, 0.14, 0.5, 0.1
#: The narrowest and widest cell: losses that would make one narrower go to a line of their own.
NARROWEST, WIDEST = 0.13, 0.6
#: Characters of a name on the left, and above a column, and the length of one there.
LONGEST, LONGEST_METHOD, CHARACTER = 27, 24, 0.052
#: Effects beyond are drawn like this one, and the colour bar says so.
LIMIT = 1.5
#: Brown is worse and green-blue better: told apart under all common colour vision deficiencies.
COLOURS = "BrBG"
SIGNS = {"better": "+", "worse": "−", "different": "≠", "equivalent": "="}


@style.styled
def heatmap(
    comparisons: pd.DataFrame,
    *,
    dataset: str,
    losses: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
    controls: Collection[str],
    baseline: str,
) -> Figure:
    """Draw the standardised difference of each loss by each method and metric, with its verdict.

    Args:
        comparisons: the table of that name.
        dataset: whose comparisons.
        losses: in order.
        methods: in order; controls are left out.
        metrics: in order; those without a direction are left out.
        controls: methods that look at neither model nor class.
        baseline: the loss that the others are compared with.
    """
    rows = standardised(comparisons, baseline=baseline, controls=controls)
    rows = rows[rows["dataset"] == dataset]
    others = [loss for loss in losses if loss != baseline]
    own = [method for method in methods if method not in controls]
    known = [metric for metric in metrics if metric in set(rows["metric"])]
    if not known or not others or not own:
        reason = "nothing to compare with" if not others else "nothing was compared"
        return style.only_reason(reason)
    categories = rows.drop_duplicates("metric").set_index("metric")["category"]
    tops: dict[str, float] = {}
    headings: dict[str, float] = {}
    depth = 0.0
    # A category is one group, wherever the config names its metrics.
    for category in dict.fromkeys(categories[metric] for metric in known):
        headings[category] = depth
        depth += CATEGORY
        for metric in (m for m in known if categories[m] == category):
            tops[metric] = depth
            depth += CELL_HEIGHT
    room = style.PAGE_WIDTH - NAMES - RIGHT
    side_by_side = min(len(others), max(1, int(room / (len(own) * NARROWEST + LOSS_GAP))))
    step = min((room - LOSS_GAP * (side_by_side - 1)) / (side_by_side * len(own)), WIDEST)
    names = [style.shortened(method, LONGEST_METHOD) for method in own]
    above = HEADING + CHARACTER * max(map(len, names)) + 0.08
    lines = -(-len(others) // side_by_side)
    height = above + depth
    total = TITLE + lines * height + (lines - 1) * LINE_GAP + BELOW
    figure = Figure(figsize=(style.PAGE_WIDTH, total))
    by_cell = {(r["metric"], r["loss"], r["method"]): r for r in rows.to_dict("records")}
    scale, colours = Normalize(-LIMIT, LIMIT), colormaps[COLOURS]
    for line in range(lines):
        top = TITLE + line * (height + LINE_GAP)
        axes = figure.add_axes((0, 1 - (top + height) / total, 1, height / total))
        axes.set(xlim=(0, style.PAGE_WIDTH), ylim=(height, 0))
        axes.axis("off")
        for metric, y in tops.items():
            axes.text(
                NAMES - 0.05,
                above + y + CELL_HEIGHT / 2,
                style.shortened(metric, LONGEST),
                ha="right",
                va="center",
                fontsize=style.SMALL_SIZE,
            )
        for category, y in headings.items():
            axes.text(
                NAMES - 0.05,
                above + y + CATEGORY - 0.02,
                style.shortened(category, LONGEST),
                ha="right",
                va="bottom",
                fontsize=style.TINY_SIZE,
                fontweight="bold",
                color=style.MUTED,
            )
        for place, loss in enumerate(others[line * side_by_side : (line + 1) * side_by_side]):
            left = NAMES + place * (len(own) * step + LOSS_GAP)
            axes.text(
                left,
                HEADING - 0.05,
                style.shortened(loss, int(len(own) * step / 0.075)),
                fontweight="bold",
                fontsize=style.BASE_SIZE,
                va="bottom",
            )
            for column, method in enumerate(own):
                x = left + column * step
                axes.text(
                    x + step / 2,
                    above - 0.02 + CATEGORY / 2,
                    names[column],
                    rotation=90,
                    ha="center",
                    va="bottom",
                    fontsize=style.TINY_SIZE,
                )
                for metric, y in tops.items():
                    cell = by_cell.get((metric, loss, method))
                    _draw(axes, cell, x, above + y, step, scale, colours)
    style.title(figure, f"{dataset}: difference to {baseline}", total)
    _draw_key(figure, total, scale, colours)
    return figure


def _draw(
    axes: Axes,
    row: Mapping[Hashable, Any] | None,
    x: float,
    y: float,
    width: float,
    scale: Normalize,
    colours: Colormap,
) -> None:
    """Draw a comparison as a cell: grey without a number, with the sign of its verdict."""
    value = np.nan if row is None else float(row["value"])
    shown = bool(np.isfinite(value))
    face = colours(scale(np.clip(value, -LIMIT, LIMIT))) if shown else style.SHADE
    axes.add_patch(Rectangle((x, y), width, CELL_HEIGHT, facecolor=face, edgecolor="white", lw=0.8))
    sign = SIGNS.get(str(row["verdict"]), "") if row is not None else ""
    if sign:
        axes.text(
            x + width / 2,
            y + CELL_HEIGHT / 2,
            sign,
            ha="center",
            va="center",
            fontsize=style.SMALL_SIZE,
            color="white" if shown and abs(value) > 0.7 * LIMIT else style.INK,
        )


def _draw_key(figure: Figure, total: float, scale: Normalize, colours: Colormap) -> None:
    bar = figure.add_axes(
        (NAMES / style.PAGE_WIDTH, 0.3 / total, 2.2 / style.PAGE_WIDTH, 0.09 / total)
    )
    figure.colorbar(
        ScalarMappable(scale, colours),
        cax=bar,
        orientation="horizontal",
        extend="both",
        ticks=[-LIMIT, 0, LIMIT],
    )
    bar.tick_params(labelsize=style.TINY_SIZE, length=2)
    bar.set_xticklabels([f"−{LIMIT:g} worse", "0", f"better {LIMIT:g}"])
    figure.text(
        (NAMES + 2.6) / style.PAGE_WIDTH,
        0.3 / total,
        f"{UNIT}; grey: no number\n+ better   − worse   = equivalent   no sign: inconclusive",
        fontsize=style.TINY_SIZE,
        color=style.MUTED,
        va="center",
    )
