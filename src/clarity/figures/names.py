"""Figure names: own which figure files a grid has, without loading what draws them.

The Snakefile imports this module, so it imports nothing beyond the standard library.
"""

from collections.abc import Iterable

#: The file types of every figure: vector for papers, pixels for slides and quick looks.
FORMATS = ("svg", "png")

#: Kinds of figures of which there is one a dataset, in the order of the report.
DATASET_KINDS = ("gallery", "training", "embeddings", "measures", "heatmap", "curves")

#: The kind of figure of which there is one a metric.
METRIC_KIND = "effects"

#: Kinds of which there is one a category of metrics that have a direction.
CATEGORY_KINDS = ("ranks", "specifications")

#: The kind of which there is one a family of settings of a metric.
FAMILY_KIND = "settings"

#: Kinds of which there is one a grid.
GRID_KINDS = ("forest", "separation")


def stem(kind: str, name: str = "") -> str:
    """Return the file name, without its type, of a figure; without a name, that of the grid."""
    return f"{kind}-{name}" if name else kind


def figures(
    datasets: Iterable[str],
    metrics: Iterable[str],
    categories: Iterable[str],
    families: Iterable[str],
) -> list[tuple[str, str]]:
    """Return kind and name of every figure of a grid; those of the grid as a whole have no name."""
    return [
        *((kind, name) for name in datasets for kind in DATASET_KINDS),
        *((METRIC_KIND, name) for name in metrics),
        *((kind, name) for name in categories for kind in CATEGORY_KINDS),
        *((FAMILY_KIND, name) for name in families),
        *((kind, "") for kind in GRID_KINDS),
    ]


def figure_names(
    datasets: Iterable[str],
    metrics: Iterable[str],
    categories: Iterable[str],
    families: Iterable[str],
) -> list[str]:
    """Return the file name of every figure of a grid, one a format."""
    stems = [stem(*figure) for figure in figures(datasets, metrics, categories, families)]
    return [f"{figure}.{suffix}" for figure in stems for suffix in FORMATS]
