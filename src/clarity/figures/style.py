"""Style: owns how every figure looks and how it is saved; knows nothing of what a figure shows.

Figures are made without pyplot: no global state, no display, no window. The same figure saved
twice is the same bytes, as SVG and as PNG.
"""

import functools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clarity import storage
from clarity.figures.names import FORMATS

P = ParamSpec("P")
R = TypeVar("R")

#: Width of a figure over both columns of a page of a journal, in inches.
PAGE_WIDTH = 7.2

#: Font sizes in points, at the size of print.
BASE_SIZE = 8.0
SMALL_SIZE = 7.0
TINY_SIZE = 6.0

#: Pixels an inch of the PNG.
DPI = 200

INK = "#222222"
MUTED = "#6b6b6b"
FAINT = "#d9d9d9"
SHADE = "#f3f3f3"

#: Colours that stay apart under all common colour vision deficiencies (Okabe and Ito, 2008, "Color
#: Universal Design"), without their yellow, which is lost on white paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BASELINE_COLOUR = INK
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

#: Colours of classes: Paul Tol's "muted" scheme and a grey; markers change when they run out.
CLASS_COLOURS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
    "#888888",
)

# Any, since matplotlib types the keys of its settings one by one.
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": BASE_SIZE,
    "axes.titlesize": BASE_SIZE,
    "axes.titleweight": "bold",
    "axes.labelsize": BASE_SIZE,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,  # a name with a dollar sign is a name
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.facecolor": "white",
    "svg.hashsalt": "clarity",
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "svg.image_inline": True,
}


@dataclass(frozen=True)
class LossStyle:
    """How a loss is drawn everywhere: three signs, so that colour alone never tells losses apart.

    Attributes:
        colour: a hexadecimal RGB colour.
        marker: a matplotlib marker.
        dashes: a matplotlib line style.
    """

    colour: str
    marker: str
    dashes: Any


def loss_styles(losses: Sequence[str], baseline: str) -> dict[str, LossStyle]:
    """Give each loss its look: the baseline neutral and dark, others by place in the config.

    The look of a loss does not depend on which losses a figure shows.
    """
    ordered = [baseline, *(loss for loss in losses if loss != baseline)]
    colours = [BASELINE_COLOUR, *(PALETTE[i % len(PALETTE)] for i in range(len(ordered) - 1))]
    return {
        loss: LossStyle(colours[i], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i, loss in enumerate(ordered)
    }


def class_style(index: int) -> tuple[str, str]:
    """Return the colour and the marker of class ``index``."""
    turn, place = divmod(index, len(CLASS_COLOURS))
    return CLASS_COLOURS[place], MARKERS[turn % len(MARKERS)]


def shortened(name: str, longest: int) -> str:
    """Return a name of at most so many characters; where it is cut, it ends in an ellipsis."""
    return name if len(name) <= longest else name[: max(longest - 1, 1)].rstrip("-_ .") + "…"


def interval_words(confidence: float) -> str:
    """Name the intervals of a confidence: "95 % interval"."""
    return f"{100 * confidence:g} % interval"


def title(figure: Figure, text: str, height: float) -> None:
    """Write the title at the top left of a figure of that height in inches, without a layout."""
    figure.suptitle(text, fontsize=BASE_SIZE + 1, x=0.01, y=1 - 0.06 / height, ha="left", va="top")


def above(axes: Axes, text: str, points: float, **look: Any) -> None:
    """Write a text at the left, so many points above the panel."""
    axes.annotate(
        text,
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, points),
        textcoords="offset points",
        **look,
    )


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw under the settings of this module, whatever those of the process."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_SETTINGS)
            return draw(*args, **kwargs)

    return wrapper


@styled
def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Save ``figure`` as ``folder/stem`` in every format and return the files."""
    files = []
    for suffix in FORMATS:
        path = folder / f"{stem}.{suffix}"
        # Dates and versions would make the same figure other bytes.
        metadata = {"Date": None, "Creator": None} if suffix == "svg" else {"Software": None}
        with storage.atomic(path) as temporary:
            figure.savefig(temporary, format=suffix, metadata=metadata)
        files.append(path)
    return files


@styled
def only_reason(reason: str) -> Figure:
    """Return a figure that only says why there is nothing to draw."""
    figure = Figure(figsize=(PAGE_WIDTH, 1.0))
    empty_panel(figure.add_subplot(), reason, characters=100)
    return figure


def empty_panel(axes: Axes, reason: str, *, characters: int = 24) -> None:
    """Leave ``axes`` empty but for the words "unavailable: reason", so many characters a line."""
    axes.set(xticks=[], yticks=[], facecolor=SHADE)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(
        0.5,
        0.5,
        textwrap.fill(f"unavailable: {reason}", characters),
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=SMALL_SIZE,
        color=MUTED,
    )
