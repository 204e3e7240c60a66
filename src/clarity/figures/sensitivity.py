"""Sensitivity: owns the picture of how a comparison changes with the settings of its metric."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.figures.effects import draw_legend, draw_means
from clarity.figures.maps import broken
from clarity.figures.standardised import UNIT, standardised

# Lengths in inches.
ROW, ABOVE, BELOW = 1.25, 0.35, 0.62
COLUMNS = 4
#: How far apart the losses of one setting lie, in settings.
APART = 0.16


@style.styled
def sensitivity(
    comparisons: pd.DataFrame,
    settings: pd.DataFrame,
    *,
    family: str,
    families: Mapping[str, str],
    datasets: Sequence[str],
    losses: Sequence[str],
    methods: Sequence[str],
    controls: Collection[str],
    baseline: str,
    confidence: float,
) -> Figure:
    """Draw the difference of each loss to the baseline under each setting: a panel a method.

    Args:
        comparisons: the table of that name.
        settings: the table of that name, for how far the settings agree on the ranks.
        family: the metric whose settings are drawn.
        families: of the metrics that are a setting of something, what they are a setting of.
        datasets: in order; likewise ``losses`` and ``methods``.
        losses: see ``datasets``.
        methods: see ``datasets``.
        controls: methods that look at neither model nor class; they are left out.
        baseline: the loss that the others are compared with.
        confidence: of the intervals.
    """
    names = [name for name, known in families.items() if known == family]
    rows = standardised(comparisons, baseline=baseline, controls=controls)
    rows = rows[rows["metric"].isin(names)]
    others = [loss for loss in losses if loss != baseline]
    there = set(zip(rows["dataset"], rows["method"], strict=True))
    panels = [(d, m) for d in datasets for m in methods if (d, m) in there]
    if not panels or not others:
        reason = "no setting was compared" if others else "nothing to compare with"
        return style.only_reason(reason)
    looks = style.loss_styles(losses, baseline)
    # Methods side by side; what does not fit starts another line, and so does a dataset.
    lines: list[list[tuple[str, str]]] = []
    for panel in panels:
        if not lines or len(lines[-1]) == COLUMNS or lines[-1][-1][0] != panel[0]:
            lines.append([])
        lines[-1].append(panel)
    figure = Figure(
        figsize=(style.PAGE_WIDTH, len(lines) * (ROW + ABOVE) + BELOW), layout="constrained"
    )
    columns = max(map(len, lines))
    grid = figure.add_gridspec(len(lines), columns)
    told = settings[settings["family"] == family].drop_duplicates(["dataset", "method"])
    agreement = told.set_index(["dataset", "method"])["agreement"].to_dict()
    short = {name: name.removeprefix(f"{family}-") for name in names}
    shared: Axes | None = None
    for line, members in enumerate(lines):
        for column, (dataset, method) in enumerate(members):
            axes = figure.add_subplot(grid[line, column], sharey=shared)
            shared = shared or axes
            part = rows[(rows["dataset"] == dataset) & (rows["method"] == method)]
            _draw(axes, part, names, {loss: looks[loss] for loss in others})
            axes.set_title(style.shortened(method, 22), loc="left", fontsize=style.SMALL_SIZE)
            tau = agreement.get((dataset, method), np.nan)
            if np.isfinite(tau):
                axes.set_title(
                    f"τ {tau:.2f}".replace("-", "−"),
                    loc="right",
                    fontsize=style.TINY_SIZE,
                    fontweight="normal",
                    color=style.MUTED,
                )
            labels = ["\n".join(broken(short[name], 12, 2)) for name in names]
            axes.set_xticks(range(len(names)), labels, fontsize=style.TINY_SIZE)
            if column == 0:
                axes.set_ylabel(f"{dataset}\n{UNIT}", fontsize=style.SMALL_SIZE)
            else:
                axes.tick_params(labelleft=False)
    figure.suptitle(
        f"{family}: difference to {baseline} by setting, better is up; τ: mean agreement of the "
        f"settings on the ranks of the losses",
        fontsize=style.BASE_SIZE,
        x=0.01,
        ha="left",
    )
    draw_legend(figure, {loss: looks[loss] for loss in others}, confidence, 7, runs=False)
    return figure


def _draw(
    axes: Axes, rows: pd.DataFrame, names: Sequence[str], looks: Mapping[str, style.LossStyle]
) -> None:
    axes.axhline(0, color=style.INK, lw=0.8, zorder=1)
    by_cell = {(row["metric"], row["loss"]): row for row in rows.to_dict("records")}
    for index, (loss, look) in enumerate(looks.items()):
        at = np.arange(len(names)) + (index - (len(looks) - 1) / 2) * APART
        mine = [by_cell.get((name, loss)) for name in names]
        known = [(x, row) for x, row in zip(at, mine, strict=True) if row is not None]
        if not known:
            continue
        axes.plot(
            [x for x, _ in known],
            [row["value"] for _, row in known],
            color=look.colour,
            linestyle=look.dashes,
            lw=0.7,
            alpha=0.6,
            zorder=2,
        )
        frame = pd.DataFrame([row for _, row in known]).assign(at=[x for x, _ in known])
        spans = frame.dropna(subset="low")
        axes.vlines(spans["at"], spans["low"], spans["high"], color=look.colour, lw=1.1)
        draw_means(axes, frame, ("at", "value"), look, 4.2)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(4))
