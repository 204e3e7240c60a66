"""Maps: own how a signed map is drawn and its scale is explained, in every figure of maps."""

import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as MplPath
from matplotlib.patheffects import withStroke

from clarity.figures import style

#: A map's colours end at this percentile of its absolute values, so that one pixel cannot make all
#: others pale (as in Smilkov et al., 2017, "SmoothGrad", section 3.1).
PERCENTILE = 99.0

#: How much darker than white the image under a map may be.
SHADING = 0.28

#: Inches between the two maps of a pair.
PAIR_GAP = 0.015

COLOURS = "RdBu_r"


def shaded(images: np.ndarray) -> np.ndarray:
    """Return a faint grey version of the images in [0, 1]: [N, H, W].

    Stretched to the same range, and inverted if mostly dark: colours must show on all of them.
    """
    grey = images.mean(axis=1)
    low, high = (
        bound.reshape(-1, 1, 1) for bound in (grey.min(axis=(1, 2)), grey.max(axis=(1, 2)))
    )
    stretched = (grey - low) / np.maximum(high - low, 1)
    dark = np.median(stretched, axis=(1, 2), keepdims=True) < 0.5
    return np.asarray(1 - SHADING * np.where(dark, stretched, 1 - stretched))


def draw_map(
    axes: Axes,
    values: np.ndarray,
    under: np.ndarray,
    masks: np.ndarray | None,
    slot: int,
    x: float,
    y: float,
    size: float,
) -> None:
    """Draw one signed map [H, W]; outline the object of its class, and fainter the other's."""
    if not np.isfinite(values).all():
        note(axes, "not finite", x, y, size)
        return
    scale = float(np.percentile(np.abs(values), PERCENTILE)) or float(np.abs(values).max())
    if scale == 0:
        put(axes, np.repeat(under[..., None], 3, axis=2), x, y, size)
        note(axes, "all zero", x, y, size)
        return
    colours = matplotlib.colormaps[COLOURS](0.5 + 0.5 * np.clip(values / scale, -1, 1))[..., :3]
    put(axes, colours * under[..., None], x, y, size)
    if masks is None:
        return
    for which, colour in ((1 - slot, "#8a8a8a"), (slot, "#000000")):
        corners = outline(masks[which]) * (size / masks.shape[-1]) + (x, y)
        if len(corners):
            # One path of many strokes: a thousand separate lines make a slow and large SVG.
            path = MplPath(corners, [MplPath.MOVETO, MplPath.LINETO] * (len(corners) // 2))
            axes.add_patch(PathPatch(path, fill=False, ec=colour, lw=0.45, capstyle="projecting"))


def draw_unavailable(
    axes: Axes, reason: str, x: float, y: float, size: float, maps: int = 2
) -> None:
    """Draw the reason why there are no maps, in place of some side by side."""
    width = maps * size + (maps - 1) * PAIR_GAP
    axes.add_patch(Rectangle((x, y), width, size, fc=style.SHADE, ec=style.FAINT, lw=0.4))
    lines = broken(f"unavailable: {reason}", max(int(width / 0.045), 10), int(size / 0.09))
    axes.text(
        x + width / 2,
        y + size / 2,
        "\n".join(lines),
        ha="center",
        va="center",
        fontsize=style.TINY_SIZE - 0.5,
        color=style.MUTED,
        linespacing=1.0,
    )


def outline(mask: np.ndarray) -> np.ndarray:
    """Return strokes along the border of a mask [H, W], as corners of pixels.

    Returns:
        (x, y) of the ends of each stroke, one after the other: [2 * strokes, 2].
    """
    padded = np.pad(mask.astype(bool), 1)
    upright = _strokes((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    level = _strokes(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return np.concatenate([upright[:, ::-1], level]).astype(float)


def _strokes(border: np.ndarray) -> np.ndarray:
    """Join neighbouring edges [lines, places] to strokes; return their ends as (place, line)."""
    steps = np.diff(np.pad(border.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (lines, starts), (_, ends) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    return np.stack([starts, lines, ends, lines], axis=1).reshape(-1, 2)


def put(axes: Axes, pixels: np.ndarray, x: float, y: float, size: float) -> None:
    """Put an RGB image [H, W, 3] on the page, its pixels unsmoothed."""
    axes.imshow(
        pixels,
        extent=(x, x + size, y + size, y),
        interpolation="none",
        aspect="auto",
    )
    axes.add_patch(Rectangle((x, y), size, size, fill=False, ec=style.FAINT, lw=0.4))


def note(axes: Axes, words: str, x: float, y: float, size: float) -> None:
    """Write what a map is over its middle."""
    axes.text(
        x + size / 2,
        y + size / 2,
        words.replace(" ", "\n"),
        ha="center",
        va="center",
        fontsize=style.TINY_SIZE,
        color=style.INK,
        linespacing=1.0,
        path_effects=[withStroke(linewidth=1.6, foreground="white")],
    )


def broken(text: str, characters: int, most: int) -> list[str]:
    """Break a text into lines; what does not fit becomes an ellipsis."""
    return textwrap.wrap(text, characters, max_lines=most, placeholder="…")


#: What is below a map, and what its outlines are, in the words of a key.
OVER_THE_IMAGE = "over a faint grey of the image (inverted if mostly dark)"


def draw_key(axes: Axes, x: float, y: float, below: str = OVER_THE_IMAGE) -> None:
    """Draw the scale of colours with what it means, and end with the words ``below``."""
    width, height = 1.1, 0.09
    ramp = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 128))[None, :, :3]
    axes.imshow(ramp, extent=(x, x + width, y + height, y), aspect="auto", interpolation="none")
    for place, words in ((0.0, "−"), (0.5, "0"), (1.0, "+")):
        axes.text(
            x + place * width,
            y + height + 0.02,
            words,
            ha="center",
            va="top",
            fontsize=style.TINY_SIZE,
        )
    axes.text(
        x + width + 0.12,
        y + height / 2,
        f"against (blue) and for (red) the class; each map on its own scale, 0 in the middle,\n"
        f"ends at the {PERCENTILE:g}th percentile of |value|; {below}",
        ha="left",
        va="center",
        fontsize=style.TINY_SIZE,
        color=style.MUTED,
        linespacing=1.15,
    )
