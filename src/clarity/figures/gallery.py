"""Gallery: owns the picture of saliency maps, images by losses by methods, two classes each.

It shows maps as they were stored: nothing is smoothed, made positive or compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from clarity.figures import style
from clarity.figures.maps import (
    PAIR_GAP,
    broken,
    draw_key,
    draw_map,
    draw_unavailable,
    put,
    shaded,
)
from clarity.grid import controls_last

#: Stands for "no second class": the image shows one object.
NONE = -1

#: The maps of an image by a method: of both its classes, and the first minus the second.
MAPS = 3
SINGLE_NAMES = ("label", "foil", "difference")
SCENE_NAMES = ("first", "second", "difference")

#: Images of a gallery: as many as fill about this number of rows of maps, within limits.
ROWS = 18
FEWEST, MOST = 2, 4

# Lengths in inches.
LEFT_MARGIN = 0.02
THUMBNAIL = 0.74
THUMBNAIL_COLUMN = 0.9
LOSS_COLUMN = 0.98
SMALLEST_MAP, LARGEST_MAP = 0.38, 0.52
METHOD_GAP, CONTROL_GAP, BLOCK_GAP, ROW_GAP = 0.07, 0.14, 0.12, 0.02
HEADER, SUBHEADER, FOOTER = 0.34, 0.16, 0.42
LINE = 0.105
_LEFT = LEFT_MARGIN + THUMBNAIL_COLUMN + LOSS_COLUMN
_ROOM = style.PAGE_WIDTH - _LEFT - CONTROL_GAP


@dataclass(frozen=True)
class Examples:
    """Images to show, with what is known of them.

    Attributes:
        images: uint8 [N, C, H, W].
        classes: integers [N, 2]: (label, -1) for a single image, (a, b) for a two-class scene.
        masks: bool [N, 2, H, W], where the object of each class is, or None.
        class_names: one name a class.
    """

    images: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None
    class_names: Sequence[str]


def number_of_images(losses: int, methods: int) -> int:
    """Return how many images a gallery of so many losses and methods shows."""
    bands = -(-methods // _most_methods())
    return min(MOST, max(FEWEST, ROWS // max(losses * bands, 1)))


def _most_methods() -> int:
    """Return how many methods fit side by side."""
    return int((_ROOM + METHOD_GAP) / (_width_of(SMALLEST_MAP) + METHOD_GAP))


def _width_of(size: float) -> float:
    """Return how wide the maps of a method are if each is of this size."""
    return MAPS * size + (MAPS - 1) * PAIR_GAP


def choose_images(classes: np.ndarray, correct: np.ndarray, count: int) -> list[int]:
    """Choose the first images that all losses classify right, of different classes.

    Where there are two-class scenes, half of the images are scenes.

    Args:
        classes: integers [N, 2], the second -1 for a single image.
        correct: bool [N], whether all losses are right.
        count: how many images to choose at most.

    Returns:
        Rows, single images first, each group in ascending order.
    """
    single = classes[:, 1] == NONE
    scenes = count // 2 if (~single).any() else 0
    chosen: list[int] = []
    for group, wanted in ((single, count - scenes), (~single, scenes)):
        seen: set[int] = set()
        rows: list[int] = []
        for row in np.flatnonzero(group & correct):
            shown = {int(c) for c in classes[row] if c != NONE}
            if len(rows) < wanted and not shown & seen:
                rows.append(int(row))
                seen |= shown
        chosen += rows
    return chosen


@style.styled
def gallery(
    examples: Examples,
    explained: Mapping[str, np.ndarray],
    maps: Mapping[tuple[str, str], np.ndarray | str],
    *,
    losses: Sequence[str],
    methods: Sequence[str],
    controls: Sequence[str],
    baseline: str,
) -> Figure:
    """Draw the maps of both classes of each image, and their difference: a row a loss.

    Each map has its own symmetric scale around zero (see `PERCENTILE`), drawn over a faint grey of
    the image.

    Args:
        examples: the images, N of them.
        explained: by loss, the two classes whose maps are shown, integers [N, 2].
        maps: by (loss, method), signed maps [N, 2, H, W], or the reason why there are none. A cell
            that is not named has no maps for the reason "not computed".
        losses: rows of each block, in order.
        methods: groups of columns, in order; controls are moved to the end.
        controls: which of the methods look at neither model nor class.
        baseline: the loss with the neutral look.
    """
    ordered = controls_last(methods, controls)
    plan = _Plan.of(examples.classes[:, 1] == NONE, len(losses), ordered, set(controls))
    figure = Figure(figsize=(plan.width, plan.height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, plan.width), ylim=(plan.height, 0))
    axes.axis("off")
    looks = style.loss_styles(losses, baseline)
    under = shaded(examples.images)
    for band in plan.bands:
        _draw_headers(axes, band, set(controls))
        for block in band.blocks:
            i = block.row
            _draw_image(axes, examples, i, block.top)
            for place, loss in enumerate(losses):
                top = block.top + place * (plan.size + ROW_GAP)
                classes = explained.get(loss)
                foil = None if classes is None else examples.class_names[classes[i, 1]]
                single = examples.classes[i, 1] == NONE
                _draw_loss(axes, loss, looks[loss].colour, foil if single else None, top, plan.size)
                for method, x in band.columns:
                    found = maps.get((loss, method), "not computed")
                    if isinstance(found, str):
                        draw_unavailable(axes, found, x, top, plan.size, MAPS)
                        continue
                    masks = None if examples.masks is None else examples.masks[i]
                    first, second = found[i]
                    # The difference speaks for the first class, as the map of that does.
                    for place, (values, slot) in enumerate(
                        ((first, 0), (second, 1), (first - second, 0))
                    ):
                        left = x + place * (plan.size + PAIR_GAP)
                        draw_map(axes, values, under[i], masks, slot, left, top, plan.size)
    draw_key(axes, _LEFT, plan.height - FOOTER + 0.14)
    return figure


@dataclass(frozen=True)
class _Block:
    """Where the rows of one image begin, in inches from the top."""

    row: int
    top: float


@dataclass(frozen=True)
class _Band:
    """All images by some of the methods; wide grids take several bands."""

    columns: list[tuple[str, float]]
    blocks: list[_Block]
    top: float
    sections: list[tuple[float, tuple[str, ...]]]
    size: float
    bottom: float


@dataclass(frozen=True)
class _Plan:
    """Where everything stands, in inches."""

    bands: list[_Band]
    size: float
    width: float
    height: float

    @classmethod
    def of(
        cls, single: np.ndarray, losses: int, methods: Sequence[str], controls: set[str]
    ) -> "_Plan":
        bands_needed = -(-len(methods) // _most_methods())
        groups = [list(part) for part in np.array_split(methods, bands_needed)]
        widest = max(map(len, groups))
        group_width = (_ROOM - (widest - 1) * METHOD_GAP) / widest
        size = (group_width - (MAPS - 1) * PAIR_GAP) / MAPS
        size = min(max(size, SMALLEST_MAP), LARGEST_MAP)
        rows = losses * (size + ROW_GAP) - ROW_GAP
        block_height = max(rows, THUMBNAIL + 4 * LINE)
        y = 0.04
        bands = []
        for group in groups:
            columns: list[tuple[str, float]] = []
            x = _LEFT
            for method in group:
                if method in controls and columns and columns[-1][0] not in controls:
                    x += CONTROL_GAP - METHOD_GAP
                columns.append((str(method), x))
                x += _width_of(size) + METHOD_GAP
            top = y
            blocks: list[_Block] = []
            sections: list[tuple[float, tuple[str, ...]]] = []
            y += HEADER
            for is_single in (True, False):
                members = np.flatnonzero(single == is_single)
                if len(members):
                    sections.append((y, SINGLE_NAMES if is_single else SCENE_NAMES))
                    y += SUBHEADER
                for row in members:
                    blocks.append(_Block(int(row), y))
                    y += block_height + BLOCK_GAP
            bands.append(_Band(columns, blocks, top, sections, size, y - BLOCK_GAP))
        return cls(bands, size, style.PAGE_WIDTH, y + FOOTER)


def _draw_headers(axes: Axes, band: _Band, controls: set[str]) -> None:
    width = _width_of(band.size)
    characters = max(int(width / 0.06), 8)
    before: str | None = None
    for method, x in band.columns:
        control = method in controls
        lines = broken(method, characters, 1 if control else 2) + ["(control)"] * control
        axes.text(
            x + width / 2,
            band.top + HEADER - 0.04,
            "\n".join(lines),
            ha="center",
            va="bottom",
            fontsize=style.SMALL_SIZE,
            linespacing=1.0,
            fontweight="normal" if control else "bold",
            color=style.MUTED if control else style.INK,
        )
        if control and before is not None and before not in controls:
            line = x - CONTROL_GAP / 2
            axes.plot([line, line], [band.top + 0.06, band.bottom], color=style.FAINT, lw=0.8)
        before = method
    for y, names in band.sections:
        for _, x in band.columns:
            for slot, name in enumerate(names):
                axes.text(
                    x + slot * (band.size + PAIR_GAP) + band.size / 2,
                    y + SUBHEADER - 0.03,
                    name,
                    ha="center",
                    va="bottom",
                    fontsize=style.TINY_SIZE,
                    color=style.MUTED,
                )


def _draw_image(axes: Axes, examples: Examples, i: int, top: float) -> None:
    """Draw an image with the names of its classes below."""
    pixels = examples.images[i].transpose(1, 2, 0)
    shown = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    put(axes, shown, LEFT_MARGIN, top, THUMBNAIL)
    first, second = (int(c) for c in examples.classes[i])
    names = examples.class_names
    if second == NONE:
        lines = [f"label: {names[first]}"]
    else:
        lines = [f"first: {names[first]}", f"second: {names[second]}"]
    wrapped = [part for line in lines for part in broken(line, 17, 2)]
    axes.text(
        LEFT_MARGIN,
        top + THUMBNAIL + 0.03,
        "\n".join(wrapped),
        ha="left",
        va="top",
        fontsize=style.TINY_SIZE,
        linespacing=1.1,
    )


def _draw_loss(
    axes: Axes, loss: str, colour: str, foil: str | None, top: float, size: float
) -> None:
    x = LEFT_MARGIN + THUMBNAIL_COLUMN
    axes.add_patch(Rectangle((x - 0.08, top), 0.035, size, color=colour, lw=0))
    lines = broken(loss, 16, 2)
    middle = top + size / 2
    axes.text(
        x,
        middle if foil is None else middle - 0.01,
        "\n".join(lines),
        ha="left",
        va="center" if foil is None else "bottom",
        fontsize=style.SMALL_SIZE,
        fontweight="bold",
        color=style.INK,
        linespacing=1.0,
    )
    if foil is not None:
        axes.text(
            x,
            middle + 0.02,
            "\n".join(broken(f"foil: {foil}", 20, 2)),
            ha="left",
            va="top",
            fontsize=style.TINY_SIZE,
            color=style.INK,
            linespacing=1.0,
        )
