"""Ranks: own the critical-difference diagrams of a category of metrics.

Demšar, 2006, "Statistical comparisons of classifiers over multiple data sets", section 3.2.5: the
losses lie at their mean ranks, and a bar joins those that Nemenyi's test does not tell apart.
"""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clarity.figures import style

# Lengths in inches.
ROW, AXIS, TITLE, BAR_GAP, PANEL_GAP, LEGEND = 0.15, 0.3, 0.3, 0.07, 0.16, 0.3
COLUMNS = 2
CHARACTER, NAME_CHARACTER, NUMBER = 0.056, 0.078, 0.42
#: How far beyond the axis a name begins, as a share of it; and its longest.
STUB, LONGEST = 0.06, 18
INCOMPLETE = "no block with every loss"
#: The scopes in the order of the panels; what the whole category says comes before its metrics.
SCOPES = ("verdict", "category", "metric")


@style.styled
def ranks(table: pd.DataFrame, *, category: str, losses: Sequence[str], baseline: str) -> Figure:
    """Draw a diagram for the category, one for the verdict if it is of it, and one a metric.

    Args:
        table: the table `ranks`.
        category: whose metrics are drawn.
        losses: in order.
        baseline: the loss that looks neutral.
    """
    rows = table[(table["category"] == category) & (table["method"] == "all")]
    panels = [
        (scope, name, group)
        for scope in SCOPES
        for name, group in rows[rows["scope"] == scope].groupby("name", sort=False)
        # Of a category with one metric, the metric says it all.
        if scope != "category" or rows.loc[rows["scope"] == "metric", "name"].nunique() > 1
    ]
    if len(losses) < 3 or not any(_whole(group) for _, _, group in panels):
        reason = "ranks need three losses" if len(losses) < 3 else INCOMPLETE
        return style.only_reason(reason)
    looks = style.loss_styles(losses, baseline)
    heights = [_height(group) for _, _, group in panels]
    lines = [heights[at : at + COLUMNS] for at in range(0, len(heights), COLUMNS)]
    total = sum(max(line) for line in lines) + PANEL_GAP * len(lines) + LEGEND
    figure = Figure(figsize=(style.PAGE_WIDTH, total))
    left, gap = 0.12, 0.35
    width = (style.PAGE_WIDTH - 2 * left - gap) / COLUMNS
    top = 0.04
    for line, tallest in enumerate(map(max, lines)):
        for column, (_, name, group) in enumerate(panels[line * COLUMNS : (line + 1) * COLUMNS]):
            height = _height(group)
            axes = figure.add_axes(
                (
                    (left + column * (width + gap)) / style.PAGE_WIDTH,
                    1 - (top + height) / total,
                    width / style.PAGE_WIDTH,
                    height / total,
                )
            )
            _draw(axes, str(name), group, width, height, looks)
        top += tallest + PANEL_GAP
    figure.text(
        left / style.PAGE_WIDTH,
        0.06 / total,
        "Mean rank over blocks (dataset, seed); 1 is best. Joined: not told apart by Nemenyi's "
        "test (CD: its critical difference).",
        fontsize=style.SMALL_SIZE,
        color=style.MUTED,
    )
    return figure


def cliques(means: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """Return first and last place of each largest group of sorted means within a difference."""
    found: list[tuple[int, int]] = []
    for first, start in enumerate(means):
        last = max(at for at, mean in enumerate(means) if mean - start < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _whole(group: pd.DataFrame) -> bool:
    """Whether there is a block with every loss, so that there are ranks."""
    return bool(group["n_blocks"].max() > 0)


def _height(group: pd.DataFrame) -> float:
    if not _whole(group):
        return TITLE + AXIS
    means = sorted(group["mean_rank"])
    bars = len(cliques(means, float(group["critical_difference"].iloc[0])))
    return TITLE + AXIS + bars * BAR_GAP + math.ceil(len(means) / 2) * ROW + 0.06


def _draw(
    axes: Axes,
    name: str,
    group: pd.DataFrame,
    width: float,
    height: float,
    looks: Mapping[str, style.LossStyle],
) -> None:
    if not _whole(group):
        style.empty_panel(axes, f"{name}: {INCOMPLETE}", characters=48)
        return
    rows = group.sort_values(["mean_rank", "loss"], kind="stable")
    means = rows["mean_rank"].to_list()
    count = len(means)
    difference = float(rows["critical_difference"].iloc[0])
    blocks, p = int(rows["n_blocks"].iloc[0]), float(rows["iman_davenport_p"].iloc[0])
    names = [style.shortened(loss, LONGEST) for loss in rows["loss"]]
    # Room on both sides for a name and its number, in units of the axis.
    room = (CHARACTER * max(map(len, names)) + NUMBER) / width
    margin = (room + STUB) * (count - 1) / (1 - 2 * room)
    axes.set(xlim=(1 - margin, count + margin), ylim=(height, 0))
    axes.axis("off")
    longest = int(width / NAME_CHARACTER)
    axes.text(
        1 - margin,
        0.02,
        style.shortened(name, longest),
        fontweight="bold",
        va="top",
        fontsize=style.BASE_SIZE,
    )
    told = "" if math.isnan(p) else f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    axes.text(
        1 - margin,
        0.16,
        f"{blocks} blocks{told}",
        va="top",
        fontsize=style.TINY_SIZE,
        color=style.MUTED,
    )
    line = TITLE + AXIS - 0.05
    axes.plot([1, count], [line, line], color=style.INK, lw=0.8)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [line - 0.04, line], color=style.INK, lw=0.8)
        axes.text(tick, line - 0.06, str(tick), ha="center", va="bottom", fontsize=style.TINY_SIZE)
    if difference < count - 1 + 2 * margin:
        at = TITLE + 0.06
        axes.plot(
            [1, 1 + difference], [at, at], color=style.MUTED, lw=1.0, marker="|", markersize=4
        )
        axes.text(
            1 + difference,
            at,
            f" CD {difference:.2f}",
            va="center",
            fontsize=style.TINY_SIZE,
            color=style.MUTED,
        )
    groups = cliques(means, difference)
    for place, (first, last) in enumerate(groups):
        y = line + (place + 0.7) * BAR_GAP
        axes.plot(
            [means[first] - 0.03, means[last] + 0.03],
            [y, y],
            color=style.INK,
            lw=2.4,
            solid_capstyle="butt",
        )
    top = line + len(groups) * BAR_GAP + 0.1
    half = math.ceil(count / 2)
    for place, (loss, mean) in enumerate(zip(rows["loss"], means, strict=True)):
        better = place < half
        row = place if better else count - 1 - place
        y = top + row * ROW
        x = 1 - STUB * (count - 1) if better else count + STUB * (count - 1)
        look = looks[loss]
        axes.plot([mean, mean, x], [line, y, y], color=look.colour, lw=0.8, zorder=1)
        axes.plot(mean, line, marker=look.marker, color=look.colour, markersize=4, zorder=3)
        axes.text(
            x,
            y,
            f"{names[place]}  {mean:.2f} " if better else f" {mean:.2f}  {names[place]}",
            ha="right" if better else "left",
            va="center",
            fontsize=style.SMALL_SIZE,
            color=look.colour,
        )
