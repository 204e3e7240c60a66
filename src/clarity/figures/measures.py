"""Measures: own the picture of how far the models of each loss lie from those of the baseline.

It draws the tables `models-comparisons` and `models`: accuracy, calibration, geometry and
robustness, each in its own unit and so in a panel of its own.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.figures.effects import (
    Drawn,
    draw_differences,
    draw_legend,
    loss_step,
    mark_direction,
    no_data,
)
from clarity.figures.words import span
from clarity.tables.measures import is_single_severity

# Lengths in inches.
COLUMNS = 4
ABOVE, BELOW, MARGIN = 0.36, 0.36, 0.08
TITLE, LEGEND = 0.3, 0.4


@style.styled
def measures(
    comparisons: pd.DataFrame,
    models: pd.DataFrame,
    *,
    dataset: str,
    losses: Sequence[str],
    baseline: str,
    confidence: float,
) -> Figure:
    """Draw the difference of each loss to the baseline by every measure of models.

    A large marker is the mean difference over runs, filled where the verdict is one; small dots
    are runs. Each group of measures starts a line; accuracies at single severities of corruption
    are left to the table.

    Args:
        comparisons: the table models-comparisons.
        models: the table of that name.
        dataset: whose models.
        losses: in order.
        baseline: the loss that the others are compared with.
        confidence: of the intervals.
    """
    rows = comparisons[(comparisons["dataset"] == dataset) & (comparisons["baseline"] == baseline)]
    rows = rows[~rows["measure"].map(is_single_severity).astype(bool)]
    others = [loss for loss in losses if loss != baseline]
    groups = {
        str(g): list(block["measure"].unique()) for g, block in rows.groupby("group", sort=False)
    }
    if not groups or not others:
        reason = "no model was measured" if others else "nothing to compare with"
        return style.only_reason(reason)
    looks = {
        loss: look for loss, look in style.loss_styles(losses, baseline).items() if loss in others
    }
    differences = _run_differences(models[models["dataset"] == dataset], baseline)
    lines = [
        (group, names[start : start + COLUMNS])
        for group, names in groups.items()
        for start in range(0, len(names), COLUMNS)
    ]
    height = len(others) * loss_step(len(others)) + 2 * MARGIN
    figure = Figure(
        figsize=(style.PAGE_WIDTH, len(lines) * (height + ABOVE + BELOW) + TITLE + LEGEND),
        layout="constrained",
    )
    grid = figure.add_gridspec(len(lines), COLUMNS)
    seen = set()
    for line, (group, names) in enumerate(lines):
        for column, measure in enumerate(names):
            axes = figure.add_subplot(grid[line, column])
            part = rows[rows["measure"] == measure]
            _draw_panel(axes, part, differences, measure, looks, height, names=column == 0)
            if group not in seen:
                # Above the title of its first panel.
                style.above(axes, group, 16, fontsize=style.BASE_SIZE, color=style.MUTED)
                seen.add(group)
    runs = rows.loc[rows["n_runs"] > 0, "n_runs"]
    title = f"{dataset}: models, difference to {baseline} (n: {span(runs)} runs)"
    figure.suptitle(title, fontsize=style.BASE_SIZE + 1, x=0.01, ha="left")
    draw_legend(figure, looks, confidence, 7)
    return figure


def _run_differences(models: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return each measure of models minus that of the baseline at the same seed, and the loss."""
    numbers = models.set_index(["loss", "seed"]).select_dtypes("number")
    reference = numbers.xs(baseline, level="loss")
    return numbers - reference.reindex(numbers.index.get_level_values("seed")).to_numpy()


def _draw_panel(
    axes: Axes,
    rows: pd.DataFrame,
    differences: pd.DataFrame,
    measure: str,
    looks: dict[str, style.LossStyle],
    height: float,
    *,
    names: bool,
) -> None:
    axes.set_ylim(height, 0)
    axes.axvline(0, color=style.INK, lw=0.8, zorder=1)
    by_loss = {row["loss"]: row for row in rows.to_dict("records")}
    step = loss_step(len(looks))
    places = {loss: MARGIN + (place + 0.5) * step for place, loss in enumerate(looks)}
    for loss, look in looks.items():
        if loss not in by_loss:
            no_data(axes, places[loss], "unavailable: not compared")
            continue
        runs = differences.xs(loss, level="loss")[measure].dropna().to_numpy()
        draw_differences(axes, [Drawn(places[loss], by_loss[loss], runs)], look, step)
    axes.set_yticks(list(places.values()), list(places) if names else [])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_title(measure.replace("_", " "), loc="left", fontsize=style.SMALL_SIZE)
    mark_direction(axes, str(rows.iloc[0]["direction"]))
