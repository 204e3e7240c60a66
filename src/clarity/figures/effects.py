"""Effects: own the picture of how far each loss lies from the baseline by one metric.

It draws the tables `comparisons` and `runs`; the only thing worked out here is the difference of
each single run.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from clarity.figures import style
from clarity.figures.words import span
from clarity.grid import controls_last

#: Verdicts whose markers are filled; that of equivalence is filled with grey.
SIGNIFICANT = ("better", "worse", "different")
EQUIVALENT = "equivalent"
#: Of the differences that are too small to be of interest.
MARGIN_COLOUR = "#e6ecf0"

# Lengths in inches.
METHOD_GAP, CONTROL_GAP = 0.13, 0.2
#: From loss to loss: of a few losses, and of more.
LOSS_STEP, SMALL_STEP, FEW_LOSSES = 0.17, 0.115, 4
#: How far below its mean the dots of the single runs lie.
DOTS_BELOW = 0.06
ABOVE, BELOW = 0.62, 0.85
COLUMNS = 2
#: Width of a column of panels without anything to show, relative to one with.
EMPTY_WIDTH = 0.35
SMALLEST_HEIGHT = 0.8
NO_RUNS = np.empty(0)


def run_differences(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return the difference of each loss to the baseline in each run.

    Args:
        runs: the table of that name.
        baseline: the loss that all others are compared with.

    Returns:
        dataset, method, metric, loss, seed, difference: of the means over the images that every
        loss has a score for, so that it is the run's part of `difference` in comparisons wherever
        no score is missing. Only runs that both losses have.
    """
    keys = ["dataset", "method", "metric", "seed"]
    reference = runs[runs["loss"] == baseline].set_index(keys)["paired_mean"]
    others = runs[runs["loss"] != baseline].join(reference.rename("reference"), on=keys)
    others = others.assign(difference=others["paired_mean"] - others["reference"])
    columns = ["dataset", "method", "metric", "loss", "seed", "difference"]
    return others[columns].dropna(subset="difference").reset_index(drop=True)


@style.styled
def effects(
    comparisons: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    metric: str,
    datasets: Sequence[str],
    losses: Sequence[str],
    methods: Sequence[str],
    controls: Sequence[str],
    baseline: str,
    confidence: float,
) -> Figure:
    """Draw the difference of each loss to the baseline, with its interval: a panel a dataset.

    A large marker is the mean difference over runs, filled where the verdict is one; small dots
    are runs. Methods are rows; controls stand apart below. A band is as wide as the smallest
    difference of interest.

    Args:
        comparisons: the table of that name.
        runs: what `run_differences` returns.
        metric: whose differences are drawn.
        datasets: panels, in order.
        losses: in order.
        methods: rows from the top, in order; controls are moved to the end.
        controls: which of the methods look at neither model nor class.
        baseline: the loss that the others are compared with.
        confidence: of the intervals.
    """
    rows = comparisons[(comparisons["metric"] == metric) & (comparisons["baseline"] == baseline)]
    dots = runs[runs["metric"] == metric]
    others = [loss for loss in losses if loss != baseline]
    places, height = _places(methods, controls, len(others))
    columns = min(COLUMNS, len(datasets))
    lines = -(-len(datasets) // columns)
    figure = Figure(
        figsize=(style.PAGE_WIDTH, lines * (height + ABOVE) + BELOW), layout="constrained"
    )
    drawn = [dataset in set(rows["dataset"]) and bool(others) for dataset in datasets]
    widths = [1.0 if any(drawn[column::columns]) else EMPTY_WIDTH for column in range(columns)]
    grid = figure.add_gridspec(lines, columns, width_ratios=widths)
    looks = style.loss_styles(losses, baseline)
    for place, dataset in enumerate(datasets):
        axes = figure.add_subplot(grid[divmod(place, columns)])
        part = rows[rows["dataset"] == dataset]
        axes.set_title(dataset, loc="left")
        if not drawn[place]:
            reason = "nothing to compare with" if not others else "not scored on this dataset"
            style.empty_panel(axes, reason)
            continue
        _draw_panel(
            axes,
            part,
            dots[dots["dataset"] == dataset],
            places,
            height,
            {loss: looks[loss] for loss in others},
            set(controls),
            names=not any(drawn[place - place % columns : place]),
        )
    title = f"{metric}: difference to {baseline}{_meaning(rows)}"
    figure.suptitle(title, fontsize=style.BASE_SIZE + 1, x=0.01, ha="left")
    if others:
        draw_legend(figure, {loss: looks[loss] for loss in others}, confidence, 5, margin=True)
    return figure


def _places(
    methods: Sequence[str], controls: Sequence[str], losses: int
) -> tuple[dict[str, float], float]:
    """Return the middle of each method's row in inches from the top, and the height of all."""
    ordered = controls_last(methods, controls)
    step = max(losses, 1) * loss_step(losses)
    places: dict[str, float] = {}
    y = METHOD_GAP / 2
    for index, method in enumerate(ordered):
        if method in controls and index and ordered[index - 1] not in controls:
            y += CONTROL_GAP
        places[method] = y + step / 2
        y += step + METHOD_GAP
    return places, max(y - METHOD_GAP / 2, SMALLEST_HEIGHT)


def _meaning(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    category, direction = rows.iloc[0][["category", "direction"]]
    meaning = {
        "higher": "higher is better",
        "lower": "lower is better",
        "none": "no value is better than another",
    }[direction]
    return f" ({category}; {meaning})"


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    dots: pd.DataFrame,
    places: dict[str, float],
    height: float,
    looks: dict[str, style.LossStyle],
    controls: set[str],
    *,
    names: bool,
) -> None:
    axes.set_ylim(height, 0)
    axes.axvline(0, color=style.INK, lw=0.8, zorder=1)
    below = [place for method, place in places.items() if method in controls]
    step = loss_step(len(looks))
    if below:
        top = min(below) - len(looks) * step / 2 - METHOD_GAP / 2
        axes.axhspan(top, height, color=style.SHADE, zorder=0, lw=0)
        axes.text(
            0.995,
            top + 0.02,
            "controls",
            transform=blended_transform_factory(axes.transAxes, axes.transData),
            ha="right",
            va="top",
            fontsize=style.TINY_SIZE,
            color=style.MUTED,
        )
    by_cell = {(row["method"], row["loss"]): row for row in rows.to_dict("records")}
    by_run = {key: part.to_numpy() for key, part in dots.groupby(["method", "loss"])["difference"]}
    for index, (loss, look) in enumerate(looks.items()):
        for some, alpha in ((set(places) - controls, 1.0), (controls, 0.5)):
            found: list[Drawn] = []
            for method in (name for name in places if name in some):
                y = places[method] + (index - (len(looks) - 1) / 2) * step
                row = by_cell.get((method, loss))
                if row is None:
                    no_data(axes, y, "unavailable: not compared")
                else:
                    found.append(Drawn(y, row, by_run.get((method, loss), NO_RUNS)))
            draw_differences(axes, found, look, step, alpha)
    axes.set_yticks(list(places.values()), list(places) if names else [])
    axes.tick_params(axis="y", length=0)
    for label, method in zip(axes.get_yticklabels(), places, strict=False):
        if method in controls:
            label.set_color(style.MUTED)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("difference")
    axes.set_title(_counts(rows), loc="right", fontsize=style.TINY_SIZE, fontweight="normal")
    mark_direction(axes, str(rows.iloc[0]["direction"]))


def _counts(rows: pd.DataFrame) -> str:
    """Write how many runs and images the panel rests on."""
    known = rows[rows["n_images"] > 0]
    return f"n: {span(known['n_runs'])} runs, {span(known['n_images'])} image pairs"


@dataclass(frozen=True)
class Drawn:
    """A row of comparisons to be drawn.

    Attributes:
        y: at which height.
        row: of the table.
        runs: the difference of each run.
    """

    y: float
    row: Mapping[Hashable, Any]
    runs: np.ndarray


def draw_differences(
    axes: Axes,
    drawn: Sequence[Drawn],
    look: style.LossStyle,
    step: float,
    alpha: float = 1.0,
) -> None:
    """Draw rows of comparisons of one loss: runs, interval and mean, or "no data".

    Where a row has a margin, the smallest difference of interest, a band of the height ``step``
    shows it. A few artists draw all rows: a figure of many rows takes as long as it has artists.
    """
    known: list[Drawn] = []
    for one in drawn:
        if np.isfinite(one.row["difference"]):
            known.append(one)
        else:
            no_data(axes, one.y, "unavailable: no data")
    if not known:
        return
    frame = pd.DataFrame([one.row for one in known]).assign(y=[one.y for one in known])
    if "margin" in frame:
        margins = frame.dropna(subset="margin")[["y", "margin"]].to_numpy(dtype=float)
        bands = [
            Rectangle((-margin, y - step / 2), 2 * margin, step) for y, margin in margins.tolist()
        ]
        # A margin that is wider than all differences does not widen the axis.
        axes.add_collection(
            PatchCollection(bands, facecolor=MARGIN_COLOUR, lw=0, zorder=0.5), autolim=False
        )
    axes.plot(
        np.concatenate([one.runs for one in known]),
        np.repeat(frame["y"] + DOTS_BELOW, [len(one.runs) for one in known]),
        linestyle="",
        marker="o",
        markersize=2.0,
        markeredgewidth=0,
        color=look.colour,
        alpha=0.7 * alpha,
        zorder=4,
    )
    spans = frame.dropna(subset="ci_low")
    axes.hlines(
        spans["y"], spans["ci_low"], spans["ci_high"], color=look.colour, lw=1.1, alpha=alpha
    )
    draw_means(axes, frame, ("difference", "y"), look, 4.6, alpha)


def draw_means(
    axes: Axes,
    frame: pd.DataFrame,
    at: tuple[str, str],
    look: style.LossStyle,
    size: float,
    alpha: float = 1.0,
) -> None:
    """Draw the marker of each row at the columns ``at``, filled as its verdict says."""
    for colour, part in frame.groupby(frame["verdict"].map(lambda v: _face(str(v), look))):
        axes.plot(
            part[at[0]],
            part[at[1]],
            linestyle="",
            marker=look.marker,
            markersize=size,
            markerfacecolor=colour,
            markeredgecolor=look.colour,
            markeredgewidth=1.0,
            alpha=alpha,
            zorder=3,
        )


def loss_step(losses: int) -> float:
    """Return how far apart the rows of so many losses lie, in inches."""
    return LOSS_STEP if losses <= FEW_LOSSES else SMALL_STEP


def _face(verdict: str, look: style.LossStyle) -> str:
    """Return the colour that fills the marker of a mean."""
    if verdict in SIGNIFICANT:
        return look.colour
    return style.FAINT if verdict == EQUIVALENT else "white"


def no_data(axes: Axes, y: float, words: str) -> None:
    """Write at the height ``y`` why nothing is drawn there."""
    axes.text(
        0.5,
        y,
        words,
        transform=blended_transform_factory(axes.transAxes, axes.transData),
        ha="center",
        va="center",
        fontsize=style.TINY_SIZE,
        color=style.MUTED,
        bbox={"fc": "white", "ec": "none", "pad": 0.8},
        zorder=5,
    )


def mark_direction(axes: Axes, direction: str) -> None:
    """Write at the better end of the horizontal axis that it is better."""
    if direction == "none":
        return
    right = direction == "higher"
    # On the line of the axis label, at the better end.
    axes.annotate(
        "better →" if right else "← better",
        (1.0 if right else 0.0, 0.0),
        xycoords="axes fraction",
        xytext=(0, -18),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=style.SMALL_SIZE,
        color=style.PALETTE[2],
        fontweight="bold",
    )


def draw_legend(
    figure: Figure,
    looks: Mapping[str, style.LossStyle],
    confidence: float,
    columns: int,
    *,
    runs: bool = True,
    margin: bool = False,
) -> None:
    """Draw the legend below a figure: the losses, then the meaning of the signs.

    Args:
        figure: with a constrained layout.
        looks: of the losses.
        confidence: of the intervals.
        columns: at most.
        runs: whether single runs are drawn.
        margin: whether the smallest difference of interest is.
    """

    def key(label: str, **look: Any) -> Line2D:
        return Line2D([], [], label=label, **{"linestyle": "", "color": style.MUTED, **look})

    handles: list[Line2D | Patch] = [
        key(
            style.shortened(loss, 30),
            color=look.colour,
            marker=look.marker,
            markersize=4.6,
        )
        for loss, look in looks.items()
    ]
    handles += [
        key("better, worse or different", marker="o", markersize=4.6),
        key("equivalent", marker="o", markersize=4.6, markerfacecolor=style.FAINT),
        key("inconclusive", marker="o", markersize=4.6, markerfacecolor="white"),
        *([key("one run", marker="o", markersize=2.2)] if runs else []),
        key(style.interval_words(confidence), linestyle="-", lw=1.1),
        *([Patch(color=MARGIN_COLOUR, label="below the smallest of interest")] if margin else []),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), columns),
        handletextpad=0.5,
        columnspacing=1.4,
    )
