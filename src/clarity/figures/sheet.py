"""Sheet: owns the picture of many methods on one image: a row a method, a pair of maps a target."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clarity.figures import style
from clarity.figures.maps import (
    OVER_THE_IMAGE,
    PAIR_GAP,
    broken,
    draw_key,
    draw_map,
    draw_unavailable,
    put,
)

# Lengths in inches.
MAP = 0.4
LABEL = 1.12
TARGET_GAP, ROW_GAP, BAND_GAP = 0.06, 0.02, 0.16
HEADER, FOOTER = 0.42, 0.42
PICTURE = 0.9


@style.styled
def sheet(
    maps: Mapping[tuple[str, str], np.ndarray | str],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    pair: tuple[str, str],
    under: np.ndarray,
    masks: np.ndarray | None = None,
    picture: np.ndarray | None = None,
    bands: int = 2,
    below: str = OVER_THE_IMAGE,
) -> Figure:
    """Draw the maps of two classes for one image, by every method and target.

    Args:
        maps: by (row, column), signed maps [2, H, W] of both classes, or why there are none. What
            is not named is left empty.
        rows: methods, in order.
        columns: targets, in order.
        pair: the names of the two classes.
        under: a faint grey image [H, W] in [0, 1] below the maps, or ones.
        masks: bool [2, H, W], where the object of each class is, to be outlined.
        picture: the image uint8 [C, H, W], drawn above; None leaves it out.
        bands: columns of the page that the rows are dealt to.
        below: what is below a map, in the words of the key.
    """
    group = 2 * MAP + PAIR_GAP
    band_width = LABEL + len(columns) * (group + TARGET_GAP)
    dealt = [list(part) for part in np.array_split(np.array(rows, dtype=object), bands)]
    above = PICTURE + 0.1 if picture is not None else 0.04
    height = above + HEADER + max(map(len, dealt)) * (MAP + ROW_GAP) + FOOTER
    width = bands * band_width + (bands - 1) * BAND_GAP
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    if picture is not None:
        pixels = picture.transpose(1, 2, 0)
        shown = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
        put(axes, shown, LABEL, 0.04, PICTURE)
    for place, methods in enumerate(dealt):
        left = place * (band_width + BAND_GAP)
        _headers(axes, columns, pair, left + LABEL, above + HEADER)
        for row, method in enumerate(methods):
            top = above + HEADER + row * (MAP + ROW_GAP)
            axes.text(
                left + LABEL - 0.06,
                top + MAP / 2,
                "\n".join(broken(str(method), 20, 2)),
                ha="right",
                va="center",
                fontsize=style.SMALL_SIZE,
                linespacing=1.0,
            )
            for column, target in enumerate(columns):
                found = maps.get((method, target))
                x = left + LABEL + column * (group + TARGET_GAP)
                if isinstance(found, str):
                    draw_unavailable(axes, found, x, top, MAP)
                elif found is not None:
                    for slot in range(2):
                        at = x + slot * (MAP + PAIR_GAP)
                        draw_map(axes, found[slot], under, masks, slot, at, top, MAP)
    draw_key(axes, LABEL, height - FOOTER + 0.14, below)
    return figure


def _headers(
    axes: Axes, columns: Sequence[str], pair: tuple[str, str], left: float, bottom: float
) -> None:
    """Write the targets and, below each, the two classes."""
    for column, target in enumerate(columns):
        x = left + column * (2 * MAP + PAIR_GAP + TARGET_GAP)
        axes.text(
            x + MAP + PAIR_GAP / 2,
            bottom - 0.25,
            target,
            ha="center",
            va="bottom",
            fontsize=style.SMALL_SIZE,
            fontweight="bold",
        )
        for slot, name in enumerate(pair):
            axes.text(
                x + slot * (MAP + PAIR_GAP) + MAP / 2,
                bottom - 0.03,
                "\n".join(broken(name, 9, 2)),
                linespacing=1.0,
                ha="center",
                va="bottom",
                fontsize=style.TINY_SIZE,
                color=style.MUTED,
            )
