"""Heat map: owns the picture of every comparison with the baseline on one dataset at once."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clarity.figures import style

# Lengths in inches.
CELL_HEIGHT, GAP, NAMES, ABOVE, BELOW, RIGHT = 0.17, 0.08, 1.5, 1.0, 0.55, 0.5
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
    rows = comparisons[
        (comparisons["dataset"] == dataset)
        & (comparisons["baseline"] == baseline)
        & (comparisons["direction"] != "none")
        & ~comparisons["method"].isin(list(controls))
    ]
    others = [loss for loss in losses if loss != baseline]
    own = [method for method in methods if method not in controls]
    known = [metric for metric in metrics if metric in set(rows["metric"])]
    if not known or not others or not own:
        reason = "nothing to compare with" if not others else "nothing was compared"
        return style.only_reason(reason)
    categories = rows.drop_duplicates("metric").set_index("metric")["category"]
    tops, y, last = {}, 0.0, None
    for metric in known:
        y += GAP if last not in (None, categories[metric]) else 0.0
        tops[metric], last = y, categories[metric]
        y += CELL_HEIGHT
    total = y + ABOVE + BELOW
    figure = Figure(figsize=(style.PAGE_WIDTH, total))
    width = style.PAGE_WIDTH - NAMES - RIGHT
    axes = figure.add_axes(
        (NAMES / style.PAGE_WIDTH, BELOW / total, width / style.PAGE_WIDTH, y / total)
    )
    step = (width - GAP * (len(others) - 1)) / (len(others) * len(own))
    axes.set(xlim=(0, width), ylim=(y, 0))
    axes.axis("off")
    by_cell = {(r["metric"], r["loss"], r["method"]): r for r in rows.to_dict("records")}
    scale, colours = Normalize(-LIMIT, LIMIT), colormaps[COLOURS]
    for place, loss in enumerate(others):
        left = place * (len(own) * step + GAP)
        axes.text(
            left, -ABOVE + 0.42, loss, fontweight="bold", fontsize=style.BASE_SIZE, va="bottom"
        )
        for column, method in enumerate(own):
            x = left + column * step
            axes.text(
                x + step / 2,
                -0.05,
                method,
                rotation=45,
                rotation_mode="anchor",
                ha="left",
                va="bottom",
                fontsize=style.TINY_SIZE,
            )
            for metric in known:
                row = by_cell.get((metric, loss, method))
                value = np.nan if row is None else float(row["d"])
                value = -value if row is not None and row["direction"] == "lower" else value
                shown = np.isfinite(value)
                face = colours(scale(np.clip(value, -LIMIT, LIMIT))) if shown else style.SHADE
                axes.add_patch(
                    Rectangle(
                        (x, tops[metric]),
                        step,
                        CELL_HEIGHT,
                        facecolor=face,
                        edgecolor="white",
                        lw=0.8,
                    )
                )
                sign = SIGNS.get(str(row["verdict"]), "") if row is not None else ""
                if sign:
                    dark = shown and abs(value) > 0.7 * LIMIT
                    axes.text(
                        x + step / 2,
                        tops[metric] + CELL_HEIGHT / 2,
                        sign,
                        ha="center",
                        va="center",
                        fontsize=style.SMALL_SIZE,
                        color="white" if dark else style.INK,
                    )
    for metric in known:
        axes.text(
            -0.05,
            tops[metric] + CELL_HEIGHT / 2,
            metric,
            ha="right",
            va="center",
            fontsize=style.SMALL_SIZE,
        )
    figure.suptitle(
        f"{dataset}: difference to {baseline}",
        fontsize=style.BASE_SIZE + 1,
        x=0.01,
        y=1 - 0.05 / total,
        ha="left",
        va="top",
    )
    bar = figure.add_axes(
        (NAMES / style.PAGE_WIDTH, 0.3 / total, 2.4 / style.PAGE_WIDTH, 0.09 / total)
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
        (NAMES + 2.75) / style.PAGE_WIDTH,
        0.3 / total,
        "standard deviations between images\n+ better   − worse   = equivalent   no sign: open",
        fontsize=style.TINY_SIZE,
        color=style.MUTED,
        va="center",
    )
    return figure
