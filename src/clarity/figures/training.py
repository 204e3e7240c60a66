"""Training curves: own the picture of losses and validation accuracy by epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from clarity.figures import style
from clarity.figures.words import count

#: Small panels of loss curves side by side.
COLUMNS = 4
ROW_HEIGHT, ACCURACY_HEIGHT = 1.45, 2.2


@style.styled
def training(
    histories: Mapping[str, pd.DataFrame | str], *, losses: Sequence[str], baseline: str
) -> Figure:
    """Draw the training loss of each loss on its own scale, and all validation accuracies together.

    Thick lines are means over seeds, thin lines are seeds. Values of different loss functions have
    no common unit, so they do not share an axis.

    Args:
        histories: by loss, a frame with columns seed, epoch, loss and validation_accuracy, or the
            reason why there is none. A loss that is not named has none for the reason "not run".
        losses: in order.
        baseline: the loss with the neutral look.
    """
    looks = style.loss_styles(losses, baseline)
    columns = min(COLUMNS, len(losses))
    rows = -(-len(losses) // columns)
    height = rows * ROW_HEIGHT + ACCURACY_HEIGHT
    figure = Figure(figsize=(style.PAGE_WIDTH, height), layout="constrained")
    grid = figure.add_gridspec(
        rows + 1, columns, height_ratios=[*[ROW_HEIGHT] * rows, ACCURACY_HEIGHT]
    )
    accuracy = figure.add_subplot(grid[rows, :])
    for place, loss in enumerate(losses):
        axes = figure.add_subplot(grid[divmod(place, columns)])
        axes.set_title(loss, color=looks[loss].colour, loc="left")
        history = histories.get(loss, "not run")
        if isinstance(history, str):
            style.empty_panel(axes, history)
            continue
        _draw_runs(axes, history, "loss", looks[loss])
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        if place % columns == 0:
            axes.set_ylabel("training loss")
        _draw_runs(accuracy, history, "validation_accuracy", looks[loss], label=loss)
    accuracy.set_title("validation accuracy (nearest prototype)", loc="left")
    if not accuracy.lines:
        style.empty_panel(accuracy, "no training history")
        return figure
    accuracy.set(xlabel="epoch", ylabel="accuracy")
    accuracy.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    accuracy.grid(axis="y", color=style.FAINT, linewidth=0.5)
    accuracy.set_axisbelow(True)
    # Below the panel: the curves of a short training may be anywhere in it.
    figure.legend(loc="outside lower center", ncols=min(len(losses), COLUMNS))
    return figure


def _draw_runs(
    axes: Axes,
    history: pd.DataFrame,
    column: str,
    look: style.LossStyle,
    label: str | None = None,
) -> None:
    """Draw one thin line a seed and their mean over the epochs that all seeds have."""
    by_seed = history.pivot(index="epoch", columns="seed", values=column)
    epochs = by_seed.index.to_numpy()
    for seed in by_seed:
        axes.plot(epochs, by_seed[seed], color=look.colour, lw=0.5, alpha=0.45)
    mean = by_seed.mean(axis=1, skipna=False).to_numpy()
    known = np.isfinite(mean)
    axes.plot(
        epochs[known],
        mean[known],
        color=look.colour,
        lw=1.5,
        linestyle=look.dashes,
        marker=look.marker,
        markersize=2.8,
        label=None if label is None else f"{label} ({count(by_seed.shape[1], 'seed')})",
    )
