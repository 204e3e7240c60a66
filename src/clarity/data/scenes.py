"""Scenes: owns the generated data set `scenes`, colour images whose objects are known exactly.

It does not choose how many images a run has, nor which of them are explained (`data.prepare`).

A class is a shape and a texture: two shapes times four textures, so that the shape alone leaves
four classes and the texture alone two. All else is drawn without knowing the class: place, area, a
slight rotation, colours, background and distractors. Both shapes have the same area.

- An image holds one object, a two-class scene two objects of different classes. Both come from the
  same plan with room for two objects; the image of one leaves the second out. So a two-class scene
  without one of its objects looks like any other image.
- Distractors are plain thin bars and small spots, shapes and a texture that no class has. They lie
  behind the objects.
- Every pixel shows one thing: the background, a distractor or an object. Nothing is blended, so
  a mask is exact. One noise, coarse and fine, lies over all: it is the background's texture.
- Objects and distractors are lighter than a dark background or darker than a light one, by a
  contrast of their own in each channel.

Label-preserving augmentations: mirroring along either axis (a diagonal texture then runs the other
way, which it does in no other class), changes of brightness, contrast and colour, and shifts that
keep the object in view. Not label-preserving: rotation by more than `TILT`, shearing, mixing
images, and blurring that wipes out a texture.

Determinism: image i depends on kind, split, seed, size, its classes and i, and on nothing else.
Only +, -, *, / and square roots are computed on the way to a pixel, which IEEE 754 rounds the same
everywhere; sines come from a table that is rounded far above their last digit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from clarity.seeds import derive_seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["single", "pair"]

#: Stands for "no object".
NONE = -1
SPLITS = ("train", "test")
SMALLEST_SIZE = 24

#: Lengths below are in 1/32 of the side of an image: pixels at the default size.
SIDE = 32.0
#: Least and greatest area of an object, and the least gap between two.
AREA = (110.0, 150.0)
GAP = 1.0
#: Width of a stripe and of a square of a chequered object.
CELL = 3.0
#: Distractors of an image; half the width of a bar, half its length, and the radius of a spot.
DISTRACTORS = 4
BAR_WIDTH = (0.5, 0.9)
BAR_LENGTH = (3.0, 6.0)
SPOT_RADIUS = (1.0, 2.2)

#: Least and greatest intensity before the noise, and the amplitude of the noise: within [0, 1].
INTENSITY = (0.15, 0.85)
NOISE = 0.12
#: How far things lie from the background in each channel, as a share of the range of INTENSITY: the
#: mean of an object's two colours, and a distractor; then half the distance of the two colours.
CONTRAST = (0.3, 0.5)
DISTRACTOR_CONTRAST = (0.2, 0.6)
TEXTURE_CONTRAST = (0.08, 0.15)

#: Images rendered at a time: fits the cache; has no influence on the result.
CHUNK = 128

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five squares."""
    u, v, half = np.abs(u), np.abs(v), 0.5 / math.sqrt(5)
    return np.asarray((np.minimum(u, v) < half) & (np.maximum(u, v) < 3 * half))


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Outer radius twice the inner one."""
    square = u * u + v * v
    return np.asarray((square < 4 / (3 * math.pi)) & (square > 1 / (3 * math.pi)))


def _columns(s: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor(s) % 2 == 0)


def _rows(_: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor(t) % 2 == 0)


def _diagonals(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.asarray(np.floor((s + t) * math.sqrt(0.5)) % 2 == 0)


def _chequered(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.asarray((np.floor(s) + np.floor(t)) % 2 == 0)


#: Shapes of area 1 around the origin; none has a point farther from it than REACH.
SHAPES: dict[str, Pattern] = {"cross": _cross, "ring": _ring}
REACH = math.sqrt(0.5)
#: Where a texture shows its first colour; coordinates in widths of a stripe.
TEXTURES: dict[str, Pattern] = {
    "upright": _columns,
    "level": _rows,
    "diagonal": _diagonals,
    "chequered": _chequered,
}
#: Shapes vary fastest, so that an even number of classes has every texture in both shapes.
CLASS_NAMES = tuple(f"{texture} {shape}" for texture in TEXTURES for shape in SHAPES)

#: What is drawn for an image, uniform in [0, 1), with shapes: the same whatever its classes.
DRAWS: dict[str, tuple[int, ...]] = {
    "background": (3,),
    "noise_colour": (3,),
    "noise_mix": (),
    "coarse": (5, 5),
    "fine": (17, 17),
    "distractor": (DISTRACTORS, 9),  # x, y, direction, bar or spot, width, length, colour
    "place": (6,),  # distance, direction, shifts, mirrors
    "area": (2,),
    "direction": (2, 2),  # of shape and texture
    "phase": (2, 2),
    "colour": (2, 2, 3),
    "swap": (2, 3),  # dark or light
}

#: Shapes, textures and distractors are turned by one of these angles, in radians: objects by up to
#: TILT to either side.
TILT = np.pi / 12
_ANGLES = np.linspace(-TILT, TILT, 31)
_COSINE, _SINE = np.round(np.cos(_ANGLES), 9), np.round(np.sin(_ANGLES), 9)


@dataclass(frozen=True)
class Scenes:
    """Images with what is in them.

    Attributes:
        images: uint8 [N, 3, S, S].
        classes: int64 [N, 2]: (label, -1) for an image of one object, (a, b) for one of two.
        masks: uint8 [N, 2, S, S], 1 where the object of each class is, 0 elsewhere.
    """

    images: np.ndarray
    classes: np.ndarray
    masks: np.ndarray


def generate_single(n: int, *, split: str, seed: int, size: int = 32, classes: int = 8) -> Scenes:
    """Generate ``n`` images of one object each; the classes take turns.

    Args:
        n: number of images; fewer images are the first of more.
        split: 'train' or 'test', which have no image in common.
        seed: at least 0.
        size: height and width in pixels, at least 24; a size is a resolution of the same scene.
        classes: number of classes, the first of `CLASS_NAMES`.

    Raises:
        ValueError: if an argument is out of its range.
    """
    _check_count(n, classes)
    label = np.arange(n) % classes
    both = np.stack([label, np.full(n, NONE)], axis=1)
    return render(both, kind="single", split=split, seed=seed, size=size)


def generate_pairs(n: int, *, split: str, seed: int, size: int = 32, classes: int = 8) -> Scenes:
    """Generate ``n`` scenes of two objects of different classes; the ordered pairs take turns.

    Objects have the area that they have in images of one object, and do not touch. Each class comes
    first once and second once in every ``classes`` scenes, and each ordered pair once in every
    ``classes * (classes - 1)``. Arguments and errors are those of `generate_single`.
    """
    _check_count(n, classes)
    turn, first = np.divmod(np.arange(n), classes)
    second = (first + 1 + turn % (classes - 1)) % classes
    both = np.stack([first, second], axis=1)
    return render(both, kind="pair", split=split, seed=seed, size=size)


def render(classes: np.ndarray, *, kind: Kind, split: str, seed: int, size: int = 32) -> Scenes:
    """Render the first scenes of a split with objects of one's own choice.

    With the classes of `generate_single` or `generate_pairs` this gives their images; with others
    it gives counterfactuals: the same place, colours, background and distractors, another object
    or none.

    Args:
        classes: integers [N, 2], indices into `CLASS_NAMES`; -1 leaves an object out.
        kind: 'single' or 'pair': which scenes.
        split: see `generate_single`.
        seed: see `generate_single`.
        size: see `generate_single`.

    Raises:
        ValueError: if an argument is out of its range.
    """
    classes = np.asarray(classes, dtype=np.int64)
    if classes.ndim != 2 or classes.shape[1] != 2:
        raise ValueError(f"classes: found shape {list(classes.shape)}, wanted [N, 2]")
    if classes.size and not NONE <= classes.min() <= classes.max() < len(CLASS_NAMES):
        found = f"{classes.min()} to {classes.max()}"
        raise ValueError(f"classes: found {found}, wanted -1 to {len(CLASS_NAMES) - 1}")
    if kind not in get_args(Kind):
        raise ValueError(f"kind: found {kind!r}, wanted one of {', '.join(get_args(Kind))}")
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, wanted one of {', '.join(SPLITS)}")
    if seed < 0:
        raise ValueError(f"seed: found {seed}, wanted at least 0")
    if size < SMALLEST_SIZE:
        raise ValueError(f"size: found {size}, wanted at least {SMALLEST_SIZE}")
    stream = derive_seed("scenes", kind, split, seed)
    images = np.empty((len(classes), 3, size, size), dtype=np.uint8)
    masks = np.empty((len(classes), 2, size, size), dtype=np.uint8)
    for start in range(0, len(classes), CHUNK):
        rows = slice(start, min(start + CHUNK, len(classes)))
        draws = _draw(stream, range(rows.start, rows.stop))
        images[rows], masks[rows] = _paint(draws, classes[rows], size)
    return Scenes(images, classes, masks)


def _check_count(n: int, classes: int) -> None:
    if n < 1:
        raise ValueError(f"n: found {n}, wanted at least 1")
    if not 2 <= classes <= len(CLASS_NAMES):
        raise ValueError(f"classes: found {classes}, wanted 2 to {len(CLASS_NAMES)}")


def _draw(stream: int, images: range) -> dict[str, np.ndarray]:
    """Draw the random numbers of some images, each array [images, *DRAWS[name]]."""
    lengths = [math.prod(shape) for shape in DRAWS.values()]
    numbers = np.stack(
        [np.random.Generator(np.random.PCG64([stream, i])).random(sum(lengths)) for i in images]
    )
    parts = np.split(numbers, np.cumsum(lengths)[:-1], axis=1)
    return {
        name: part.reshape(len(images), *shape)
        for (name, shape), part in zip(DRAWS.items(), parts, strict=True)
    }


def _paint(
    draws: dict[str, np.ndarray], classes: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Paint background, distractors, objects and noise, in this order."""
    canvas = np.empty((len(classes), 3, size, size))
    background, sign = _background(draws)
    canvas[:] = background[:, :, None, None]
    for k in range(DISTRACTORS):
        draw = draws["distractor"][:, k]
        where = _distractor(draw, size)
        colour = background + sign * _between(*DISTRACTOR_CONTRAST, draw[:, 6:])
        np.copyto(canvas, colour[:, :, None, None], where=where[:, None])
    masks = np.zeros((len(classes), 2, size, size), dtype=np.uint8)
    area = _between(*AREA, draws["area"])
    centres = _centres(draws["place"], REACH * np.sqrt(area))
    for k in range(2):
        x, y = _coordinates(centres[:, k], draws["direction"][:, k, 0], size)
        s, t = _coordinates(centres[:, k], draws["direction"][:, k, 1], size)
        root = np.sqrt(area[:, k])[:, None, None]
        phase = 2 * draws["phase"][:, k, :, None, None]
        kinds = classes[:, k]
        texture, shape = kinds // len(SHAPES), kinds % len(SHAPES)
        where = _pick(SHAPES, np.where(kinds == NONE, NONE, shape), x / root, y / root)
        first = _pick(TEXTURES, texture, s / CELL + phase[:, 0], t / CELL + phase[:, 1])
        colours = _object_colours(background, sign, draws["colour"][:, k])
        for colour, part in zip(colours, (where & first, where & ~first), strict=True):
            np.copyto(canvas, colour[:, :, None, None], where=part[:, None])
        masks[:, k] = where
    canvas = _between(*INTENSITY, canvas) + NOISE * _noise(draws, size)
    return (255 * canvas + 0.5).astype(np.uint8), masks


def _between(low: float, high: float, draw: np.ndarray) -> np.ndarray:
    return low + (high - low) * draw


def _pick(
    patterns: dict[str, Pattern], index: np.ndarray, u: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Evaluate for each image the pattern of its index; nowhere for NONE."""
    picked = np.zeros(u.shape, dtype=bool)
    for k, pattern in enumerate(patterns.values()):
        rows = index == k
        picked[rows] = pattern(u[rows], v[rows])
    return picked


def _coordinates(
    centre: np.ndarray, direction: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels' coordinates [N, S, S] in a system at ``centre`` [N, 2], turned."""
    pixels = (np.arange(size) + 0.5) * (SIDE / size)
    x = (pixels - centre[:, :1])[:, None, :]
    y = (pixels - centre[:, 1:])[:, :, None]
    angle = (direction * len(_ANGLES)).astype(np.int64)
    cosine, sine = _COSINE[angle][:, None, None], _SINE[angle][:, None, None]
    return cosine * x + sine * y, cosine * y - sine * x


def _centres(draw: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Place two circles of radii ``reach`` [N, 2] in the image, apart: centres [N, 2, 2] (x, y).

    Drawn are their distance, then its part along x among all for which there is room, then where
    the two are in the room left. No placing is rejected: the numbers drawn do not depend on luck.
    """
    together = reach[:, 0] + reach[:, 1]
    room = SIDE - together
    distance = _between(together + GAP, math.sqrt(2) * room, draw[:, 0])
    least = np.sqrt(np.maximum(distance * distance - room * room, 0))
    along_x = _between(least, np.minimum(room, distance), draw[:, 1])
    along = np.stack([along_x, np.sqrt(np.maximum(distance * distance - along_x * along_x, 0))], 1)
    along = np.minimum(along, room[:, None])
    first = reach[:, :1] + draw[:, 2:4] * (room[:, None] - along)
    centres = np.stack([first, first + along], axis=1)
    return np.where(draw[:, None, 4:6] < 0.5, centres, SIDE - centres)


def _distractor(draw: np.ndarray, size: int) -> np.ndarray:
    """Return where a bar with round ends is [N, S, S]; a spot is one without length, but wider."""
    x, y = _coordinates(SIDE * draw[:, :2], draw[:, 2], size)
    bar = draw[:, 3] < 0.5
    width = np.where(bar, _between(*BAR_WIDTH, draw[:, 4]), _between(*SPOT_RADIUS, draw[:, 4]))
    length = np.where(bar, _between(*BAR_LENGTH, draw[:, 5]), 0)
    beyond = np.maximum(np.abs(x) - length[:, None, None], 0)
    return np.asarray(beyond * beyond + y * y < (width * width)[:, None, None])


def _background(draws: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the colour of each background [N, 3] and whether things on it are lighter or darker.

    A dark background (sign +1) leaves room above it, a light one (sign -1) below it, for the
    greatest contrast of an object and of its texture.
    """
    sign = np.where(draws["swap"][:, 0, :1] < 0.5, 1.0, -1.0)
    dark = _between(0, 1 - CONTRAST[1] - TEXTURE_CONTRAST[1], draws["background"])
    return np.where(sign > 0, dark, 1 - dark), sign


def _object_colours(
    background: np.ndarray, sign: np.ndarray, draw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two colours [N, 3] of a texture, before `INTENSITY`.

    Both differ from the background by at least 0.15 in every channel, and from each other by at
    least 0.16. The draws are the same whatever the class.
    """
    middle = background + sign * _between(*CONTRAST, draw[:, 0])
    half = _between(*TEXTURE_CONTRAST, draw[:, 1])
    return middle + half, middle - half


def _noise(draws: dict[str, np.ndarray], size: int) -> np.ndarray:
    """Return coarse and fine noise [N, 3, S, S] in [-1, 1]."""
    mix = draws["noise_mix"][:, None, None]
    field = mix * _smooth(draws["coarse"], size) + (1 - mix) * _smooth(draws["fine"], size)
    return np.asarray((2 * draws["noise_colour"] - 1)[:, :, None, None] * (2 * field - 1)[:, None])


def _smooth(grid: np.ndarray, size: int) -> np.ndarray:
    """Interpolate values on a grid [N, G, G] linearly to [N, S, S]."""
    place = (np.arange(size) + 0.5) / size * (grid.shape[1] - 1)
    low = np.floor(place).astype(np.int64)
    part = place - low
    rows = grid[:, low] * (1 - part)[:, None] + grid[:, low + 1] * part[:, None]
    return np.asarray(rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part)


def sample_figure() -> "Figure":
    """Draw a row of images for each class and two rows of two-class scenes, masks outlined."""
    # Imported here: only the docs need it.
    from matplotlib.figure import Figure

    columns = 8
    single = generate_single(columns * len(CLASS_NAMES), split="train", seed=0)
    pairs = generate_pairs(2 * columns, split="train", seed=0)
    figure = Figure(figsize=(columns, len(CLASS_NAMES) + 2.6), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[len(CLASS_NAMES), 2.4])
    upper, lower = np.asarray(parts)
    for axes, name, label in zip(
        upper.subplots(len(CLASS_NAMES), columns), CLASS_NAMES, range(len(CLASS_NAMES)), strict=True
    ):
        rows = np.flatnonzero(single.classes[:, 0] == label)
        for axis, row in zip(axes, rows, strict=True):
            _show(axis, single.images[row], single.masks[row])
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
    lower.suptitle("two-class scenes", fontsize="medium")
    for axis, image, masks in zip(
        lower.subplots(2, columns).flat, pairs.images, pairs.masks, strict=True
    ):
        _show(axis, image, masks)
    return figure


def _show(axis: "Axes", image: np.ndarray, masks: np.ndarray) -> None:
    """Show an image with its masks outlined, the first in white, the second in black."""
    axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    for mask, colour in zip(masks, ("white", "black"), strict=True):
        if mask.any():
            axis.contour(mask, levels=[0.5], colors=colour, linewidths=0.8)
    axis.set(xticks=[], yticks=[])
