"""Pictures: own how the figures of a grid lie in the page, with what they show in words."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from clarity import storage
from clarity.figures import names
from clarity.report.packing import pack

MEDIA = {"png": "image/png", "svg": "image/svg+xml"}
#: Characters of the largest figure in the page: those of a grid of 10,000 cells, but for galleries,
#: which are full of pixels, take a third of it.
LARGEST = 2_500_000
_SVG_SIZE = re.compile(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"')

#: What each kind of figure shows. The gallery is full of pixels, so it goes in as such.
KINDS: dict[str, tuple[str, str]] = {
    "gallery": (
        "png",
        "Maps of the first images, of different classes, that all losses classify right; first "
        "seed. Each block is one image, each row a loss. For a single image: the map of its label "
        "and of the foil, the class that this model ranks highest among the others. For a scene: "
        "the maps of its two classes. Third: the first map minus the second. Red speaks for the "
        "class, blue against it. Every map has its own scale, symmetric around 0, so strengths "
        "cannot be compared between maps. Outlines: the object of the explained class in black, "
        "the other in grey.",
    ),
    "training": (
        "svg",
        "Training loss, on its own scale for each loss, and accuracy on held-out training images "
        "by nearest class prototype. Thick: mean over seeds; thin: seeds.",
    ),
    "embeddings": (
        "svg",
        "Test embeddings of the first seed, scaled to length 1 and laid out by t-SNE. Close points "
        "are neighbours; distances between groups and their sizes mean nothing. Accuracy by the "
        "head; silhouette of the embeddings themselves, not of this picture.",
    ),
    "heatmap": (
        "svg",
        "Difference of each loss to the baseline by each metric and method, in standard "
        "deviations between images of the baseline, turned so that green is better. Signs are "
        "verdicts: + better, − worse, = equivalent; without a sign, inconclusive. Control methods "
        "are left out.",
    ),
    "curves": (
        "svg",
        "What the values of metrics are made of, such as the score of the class as pixels are "
        "removed: mean over training runs, with a band of one standard deviation between them.",
    ),
    "ranks": (
        "svg",
        "Critical-difference diagrams: mean rank of each loss over blocks of dataset and seed, all "
        "methods together, controls left out. A bar joins losses that Nemenyi's test does not tell "
        "apart; p is that of Iman and Davenport.",
    ),
    "forest": (
        "svg",
        "Difference to the baseline across the grid by a linear mixed model, with its interval: "
        "filled without, hollow given test accuracy. Bold: all metrics of a category together. A "
        "star marks metrics that noise cannot win.",
    ),
    "specifications": (
        "svg",
        "Specification curves: every comparison with the baseline by a dataset, a method and a "
        "metric of the category, in standard deviations between images, sorted, with its interval; "
        "the marks below say which choices made it. What a paper reports is one of them.",
    ),
    "settings": (
        "svg",
        "The same comparison under each setting of a metric, in standard deviations between "
        "images: a choice that papers make without a word. A sign that turns over along a line "
        "is a conclusion that hangs on it.",
    ),
    "separation": (
        "svg",
        "Silhouette of the classes in the embeddings against the metrics that carry the verdict "
        "on contrastivity: a dot is a training run. Spearman's correlation within datasets, its "
        "interval over blocks of dataset and seed, and the partial one given accuracy. Few losses "
        "make most of the variation, and none of it proves a cause.",
    ),
    "measures": (
        "svg",
        "Models compared with those of the baseline by accuracy, calibration, geometry of the test "
        "embeddings, detection of images of another dataset, and accuracy under attack and on "
        "corrupted images: mean difference over training runs, paired by seed, with its interval; "
        "small dots are training runs. Hollow: inconclusive. Each measure has its own "
        "scale.",
    ),
    "effects": (
        "svg",
        "Difference to the baseline, with its interval; small dots are training runs. Filled: "
        "better, worse or different; grey: equivalent; hollow: inconclusive. The control methods, "
        "below, look at neither model nor class.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        stem: the name of its file.
        title: what it is of.
        caption: what it shows or, if there is none, the reason why.
        packed: its bytes; empty if there is none.
        kind: of its bytes, as a media type.
        size: width and height in pixels of the screen, as the place to keep for it.
        alternative: what it shows, for those who do not see it.
    """

    stem: str
    title: str
    caption: str
    packed: str = ""
    kind: str = ""
    size: tuple[int, int] = (0, 0)
    alternative: str = ""


class Pictures:
    """The figures of a grid, as parts of the page."""

    def __init__(self, folder: Path, baseline: str) -> None:
        self._folder = folder
        self._baseline = baseline

    def get(self, kind: str, name: str = "") -> Picture:
        """Return the figure of a kind for what it is of; without a name, that of the grid."""
        suffix, caption = KINDS[kind]
        stem = names.stem(kind, name)
        title = name or kind
        path = self._folder / f"{stem}.{suffix}"
        if not path.exists():
            return Picture(stem, title, f"unavailable: no file figures/{path.name}")
        data = path.read_bytes()
        packed = pack(data)
        if len(packed) > LARGEST:
            return Picture(
                stem,
                title,
                f"unavailable: with {len(packed) / 1e6:.1f} MB too large for this page, see "
                f"figures/{path.name}",
            )
        # As an image of its own: the names inside an SVG must be unique in the whole page.
        return Picture(
            stem,
            title,
            caption,
            packed,
            MEDIA[suffix],
            _size(data, suffix, path),
            self._alternative(kind, name),
        )

    def _alternative(self, kind: str, name: str) -> str:
        return {
            "gallery": f"Saliency maps of images of {name}, a row a loss, three columns a method.",
            "training": f"Curves of training loss and validation accuracy by epoch on {name}.",
            "embeddings": f"Points of the test images of {name}, coloured by class, a panel a "
            "loss.",
            "measures": f"Differences to {self._baseline} on {name} by each measure of models, a "
            "panel a measure; the numbers are in the table of comparisons of models.",
            "heatmap": f"Every comparison with {self._baseline} on {name} as a coloured cell; the "
            "numbers are in the table of comparisons.",
            "curves": f"Curves of the metrics on {name}, a row a metric, a column a method; the "
            "numbers are in the table curves.",
            "ranks": f"Mean ranks of the losses by the metrics of {name}; the numbers are in the "
            "table of ranks.",
            "forest": f"Estimates of the difference to {self._baseline} by each metric, with and "
            "without accuracy; the numbers are in the table of mixed models.",
            "specifications": f"Every comparison with {self._baseline} by the metrics of {name}, "
            "sorted, with marks for its dataset, method and metric; the numbers are in the table "
            "of comparisons.",
            "settings": f"Differences to {self._baseline} under each setting of {name}; the "
            "numbers are in the table of comparisons.",
            "separation": "Points of training runs: silhouette against the metrics of the "
            "verdict; the numbers are in the table of separation.",
            "effects": f"Differences to {self._baseline} by {name}, for each dataset, method and "
            "loss; the numbers are in the table of comparisons.",
        }[kind]


def _size(data: bytes, suffix: str, path: Path) -> tuple[int, int]:
    """Return width and height of a figure in pixels of the screen.

    Raises:
        clarity.storage.CorruptArtifact: if the file does not say.
    """
    if suffix == "png":
        try:
            with Image.open(io.BytesIO(data)) as image:
                return image.size
        except UnidentifiedImageError as error:
            raise storage.CorruptArtifact(path, error) from error
    found = _SVG_SIZE.search(data[:2000].decode(errors="replace"))
    if found is None:
        raise storage.CorruptArtifact(path, "no size in points")
    width, height = (round(float(points) * 96 / 72) for points in found.groups())
    return width, height
