"""Embeddings: own the two-dimensional picture of a test set's embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from clarity.figures import style
from clarity.seeds import derive_seed

#: Points of a panel: the first so many test images. t-SNE takes seconds for a thousand.
POINTS = 1000
#: t-SNE's perplexity where there are enough points (van der Maaten and Hinton, 2008).
PERPLEXITY = 30.0

COLUMNS = 3
LEGEND_COLUMNS = 5


@dataclass(frozen=True)
class Embedded:
    """The test embeddings of one run, with what is said of it.

    Attributes:
        embeddings: float [N, D].
        labels: integers [N].
        accuracy: share of test images that the head classifies right.
        silhouette: of the embeddings by class, in [-1, 1].
    """

    embeddings: np.ndarray
    labels: np.ndarray
    accuracy: float
    silhouette: float


def project(embeddings: np.ndarray, method: str = "t-SNE") -> np.ndarray:
    """Project L2-normalised embeddings [N, D] on the plane: [N, 2].

    On one thread and from a fixed seed, so that the same embeddings give the same bytes.

    Args:
        embeddings: all losses are compared by angle, so lengths are taken away.
        method: "t-SNE", which shows who is whose neighbour and no distances between groups, or
            "PCA", which is linear and shows most of the variance.

    Raises:
        ValueError: if ``method`` is neither, or there are fewer than 3 points.
    """
    points = np.asarray(embeddings, dtype=np.float64)
    if len(points) < 3:
        raise ValueError(f"embeddings: found {len(points)} points, wanted at least 3")
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    points = points / np.where(lengths == 0, 1, lengths)
    seed = derive_seed("embeddings figure")
    with threadpool_limits(1):
        # Equal embeddings have no variance to explain, and still a place.
        with np.errstate(invalid="ignore"):
            pca = PCA(min(2, points.shape[1]), svd_solver="full").fit_transform(points)
        if pca.shape[1] == 1:
            pca = np.hstack([pca, np.zeros_like(pca)])
        if method == "PCA":
            return np.asarray(pca)
        if method != "t-SNE":
            raise ValueError(f"method: found '{method}', wanted 't-SNE' or 'PCA'")
        spread = pca[:, 0].std()
        start = (pca / spread * 1e-4 if spread else pca).astype(np.float32)
        tsne = TSNE(
            perplexity=min(PERPLEXITY, (len(points) - 1) / 3),
            init=start,  # keeps the large-scale layout (Kobak and Berens, 2019)
            random_state=seed,
            n_jobs=1,
        )
        return np.asarray(tsne.fit_transform(points.astype(np.float32)))


@style.styled
def embeddings(
    runs: Mapping[str, Embedded | str],
    *,
    losses: Sequence[str],
    baseline: str,
    class_names: Sequence[str],
    method: str = "t-SNE",
) -> Figure:
    """Draw the test embeddings of one run of each loss, coloured by class.

    Args:
        runs: by loss, its run, or the reason why there is none. A loss that is not named has none
            for the reason "not run".
        losses: a panel each, in order.
        baseline: the loss with the neutral look.
        class_names: one name a class.
        method: see `project`.
    """
    looks = style.loss_styles(losses, baseline)
    columns = min(COLUMNS, len(losses))
    rows = -(-len(losses) // columns)
    panel = style.PAGE_WIDTH / COLUMNS
    legend_rows = -(-len(class_names) // LEGEND_COLUMNS)
    figure = Figure(
        figsize=(style.PAGE_WIDTH, rows * (panel + 0.25) + 0.2 + 0.16 * legend_rows),
        layout="constrained",
    )
    for place, loss in enumerate(losses):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_title(f"{loss}\n", color=looks[loss].colour, loc="left")
        run = runs.get(loss, "not run")
        if isinstance(run, str):
            style.empty_panel(axes, run)
            axes.set_box_aspect(1)
            continue
        axes.text(
            0,
            1.02,
            f"accuracy {run.accuracy:.3f}, silhouette {run.silhouette:.2f}",
            transform=axes.transAxes,
            fontsize=style.SMALL_SIZE,
            va="bottom",
        )
        _draw_points(
            axes, project(run.embeddings[:POINTS], method), run.labels[:POINTS], class_names
        )
    figure.legend(
        handles=[_key(index, name, class_names) for index, name in enumerate(class_names)],
        loc="outside lower center",
        ncols=min(LEGEND_COLUMNS, len(class_names)),
        handletextpad=0.3,
        columnspacing=1.2,
    )
    return figure


def _draw_points(
    axes: Axes, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> None:
    for index in range(len(class_names)):
        members = points[labels == index]
        colour, marker = style.class_style(index)
        axes.scatter(
            members[:, 0],
            members[:, 1],
            s=5,
            c=colour,
            marker=marker,
            linewidths=0,
            alpha=0.75,
            rasterized=True,
        )
        if len(members):
            # The name stands on the class, for those who do not see the colour.
            x, y = np.median(members, axis=0)
            axes.text(
                x,
                y,
                _tag(index, class_names),
                ha="center",
                va="center",
                fontsize=style.TINY_SIZE,
                fontweight="bold",
                path_effects=[withStroke(linewidth=1.6, foreground="white")],
            )
    axes.set(xticks=[], yticks=[])
    # Both axes have the same unit; only the box is square.
    low, high = points.min(axis=0), points.max(axis=0)
    half = (high - low).max() * 0.53 or 1.0
    middle = (low + high) / 2
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, color=style.FAINT)


def _tag(index: int, class_names: Sequence[str]) -> str:
    """Return what stands on a class: its name if all names are short, else its number."""
    short = all(len(name) <= 3 for name in class_names)
    return class_names[index] if short else str(index)


def _key(index: int, name: str, class_names: Sequence[str]) -> Line2D:
    colour, marker = style.class_style(index)
    tag = _tag(index, class_names)
    label = name if tag == name else f"{tag}: {name}"
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=4, label=label)
