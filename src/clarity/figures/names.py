"""Figure names: own which figure files a grid has, without loading what draws them.

The Snakefile imports this module, so it imports nothing beyond the standard library.
"""

from collections.abc import Iterable

#: The file types of every figure: vector for papers, pixels for slides and quick looks.
FORMATS = ("svg", "png")

#: Kinds of figures of which there is one a dataset, in the order of the report.
DATASET_KINDS = ("gallery", "training", "embeddings", "measures")

#: The kind of figure of which there is one a metric.
METRIC_KIND = "effects"


def stem(kind: str, name: str) -> str:
    """Return the file name, without its type, of the figure ``kind`` of a dataset or metric."""
    return f"{kind}-{name}"


def figure_stems(datasets: Iterable[str], metrics: Iterable[str]) -> list[str]:
    """Return the file name, without its type, of every figure of a grid."""
    of_datasets = [stem(kind, name) for name in datasets for kind in DATASET_KINDS]
    return of_datasets + [stem(METRIC_KIND, name) for name in metrics]


def figure_names(datasets: Iterable[str], metrics: Iterable[str]) -> list[str]:
    """Return the file name of every figure of a grid, one a format."""
    stems = figure_stems(datasets, metrics)
    return [f"{figure}.{suffix}" for figure in stems for suffix in FORMATS]
