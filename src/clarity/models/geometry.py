"""Geometry: owns the measures of how the classes lie in the embedding space; trains nothing.

All measures are of embeddings scaled to unit length, neural collapse too: losses that see angles
alone leave the length free, and none shall be judged by what it does not train.
"""

import numpy as np
import pandas as pd
import torch

from clarity.seeds import derive_seed

#: Images that are measured at most; of more, this many are drawn once for all (`_subset`).
POINTS = 5_000
#: Rows of the matrix of all pairs that are held at a time.
ROWS = 1_000
#: MiB that scikit-learn may take for its distances.
WORKING_MEMORY = 256
#: Embeddings nearer than this (unit length, float32) are one point.
SAME = 1e-6

#: Which values are better: the order of the rows of `geometry`.
DIRECTIONS = {
    "silhouette": "higher",
    "davies-bouldin": "lower",
    "calinski-harabasz": "higher",
    "distance-ratio": "lower",
    "r-precision": "higher",
    "map-at-r": "higher",
    "precision-at-1": "higher",
    "alignment": "lower",
    "uniformity": "lower",
    "effective-rank": "none",
    "nc1": "lower",
}


def geometry(embeddings: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Measure embeddings [N, D] with labels [N], each embedding scaled to length 1.

    With more than `POINTS` images, the same `POINTS` of them for every model. Time grows with the
    square of N, memory with N.

    Returns:
        measure, value, direction ("higher" or "lower" is better, or "none") and reason ("" or why
        the value is NaN), one row each (no row if there is no image):

        - silhouette: Rousseeuw, 1987, with cosine distance;
        - davies-bouldin: Davies and Bouldin, 1979, with Euclidean distance;
        - calinski-harabasz: Calinski and Harabasz, 1974;
        - distance-ratio: mean distance within classes over mean distance between classes;
        - r-precision and map-at-r: Musgrave et al., 2020, "A Metric Learning Reality Check",
          section 2.2, and precision-at-1, each embedding against all others;
        - alignment: Wang and Isola, 2020, section 4.1, L_align with alpha 2, a positive pair
          being two images of a class, and uniformity: L_uniform with t 2, over all pairs;
        - effective-rank: Roy and Vetterli, 2007, definition 1, of the embeddings, not centred;
        - nc1: tr(Sigma_W pinv(Sigma_B)) / C, Papyan et al., 2020, section 2.2, with
          the mean of the class means as the global mean.
    """
    if len(labels) == 0:
        return _table([])
    chosen = _subset(len(labels))
    labels = np.unique(labels[chosen], return_inverse=True)[1]
    points = embeddings[chosen].astype(np.float64)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    values, reasons = _measure(points / np.maximum(lengths, 1e-12), labels)
    rows = [
        (measure, values.get(measure, np.nan), direction, reasons.get(measure, ""))
        for measure, direction in DIRECTIONS.items()
    ]
    return _table(rows)


def _table(rows: list[tuple[str, float, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["measure", "value", "direction", "reason"])
    words = {"measure": "str", "direction": "str", "reason": "str"}
    return frame.astype({**words, "value": "float64"})


def _subset(number: int) -> np.ndarray:
    """Return the indices of the images that are measured; they depend on their number alone."""
    if number <= POINTS:
        return np.arange(number)
    generator = np.random.default_rng(derive_seed("geometry", number))
    return np.sort(generator.choice(number, POINTS, replace=False))


def _measure(unit: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], dict[str, str]]:
    """Return the values of the measures that are defined and the reasons of the others."""
    if not np.isfinite(unit).all():
        return {}, dict.fromkeys(DIRECTIONS, "an embedding is not finite")
    sizes = np.bincount(labels)
    pairs = _Pairs.of(unit, labels)
    values = {"uniformity": pairs.uniformity, "effective-rank": _effective_rank(unit)}
    reasons: dict[str, str] = {}
    if sizes.max() == 1:
        reasons = dict.fromkeys(DIRECTIONS, "no class has two images")
    else:
        values["alignment"] = pairs.alignment
        if np.ptp(unit, axis=0).max() < SAME:
            reasons = dict.fromkeys(DIRECTIONS, "collapsed: all embeddings are equal")
        elif len(sizes) == 1:
            reasons = dict.fromkeys(DIRECTIONS, "all images are of one class")
        else:
            values |= _of_classes(unit, labels, sizes, reasons)
            values["distance-ratio"] = pairs.ratio
    return values, {name: why for name, why in reasons.items() if name not in values}


def _of_classes(
    unit: np.ndarray, labels: np.ndarray, sizes: np.ndarray, reasons: dict[str, str]
) -> dict[str, float]:
    """Return the measures that need two classes and points; note why any has no value."""
    # Here, since they take a second, and a run that is up to date or failed does not need them.
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN
    from sklearn import config_context
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

    means = np.stack([unit[labels == label].mean(0) for label in range(len(sizes))])
    within = unit - means[labels]
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity(), batch_size=ROWS),
    )
    retrieval = calculator.get_accuracy(
        torch.from_numpy(unit.astype(np.float32)), torch.from_numpy(labels)
    )
    values = {
        "r-precision": retrieval["r_precision"],
        "map-at-r": retrieval["mean_average_precision_at_r"],
        "precision-at-1": retrieval["precision_at_1"],
    }
    with config_context(working_memory=WORKING_MEMORY):
        values["silhouette"] = float(silhouette_score(unit, labels, metric="cosine"))
    # Where these are 0 / 0 or x / 0, scikit-learn returns a number that looks like any other.
    if np.ptp(means, axis=0).max() < SAME:
        reasons |= dict.fromkeys(("davies-bouldin", "nc1"), "the class means are equal")
    else:
        values["davies-bouldin"] = float(davies_bouldin_score(unit, labels))
        values["nc1"] = _collapse(within, means)
    if np.abs(within).max() < SAME:
        reasons["calinski-harabasz"] = "every class is one point"
    else:
        values["calinski-harabasz"] = float(calinski_harabasz_score(unit, labels))
    return values


class _Pairs:
    """Sums over all pairs of points, taken a block of rows at a time.

    Attributes:
        ratio: mean Euclidean distance of pairs within a class over that of pairs of two classes.
        alignment: mean squared distance of pairs within a class.
        uniformity: logarithm of the mean of exp(-2 squared distance) over all pairs.
    """

    def __init__(self, ratio: float, alignment: float, uniformity: float) -> None:
        self.ratio, self.alignment, self.uniformity = ratio, alignment, uniformity

    @classmethod
    def of(cls, unit: np.ndarray, labels: np.ndarray) -> "_Pairs":
        """Sum over the pairs i < j of points [N, D] of unit length with labels [N]."""
        distances, squares, counts = np.zeros(2), np.zeros(2), np.zeros(2, dtype=np.int64)
        potential = 0.0
        for start in range(0, len(unit), ROWS):
            rows = unit[start : start + ROWS]
            upper = np.triu(np.ones((len(rows), len(unit) - start), dtype=bool), k=1)
            squared = np.maximum(2 - 2 * rows @ unit[start:].T, 0)
            same = labels[start : start + ROWS, None] == labels[None, start:]
            for kind, chosen in enumerate((same & upper, ~same & upper)):
                part = squared[chosen]
                counts[kind] += len(part)
                squares[kind] += part.sum()
                distances[kind] += np.sqrt(part).sum()
                potential += np.exp(-2 * part).sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            means = distances / counts
            return cls(
                float(means[0] / means[1]),
                float(squares[0] / counts[0]),
                float(np.log(potential / counts.sum())),
            )


def _effective_rank(unit: np.ndarray) -> float:
    """Return the exponential of the entropy of the singular values, scaled to sum 1."""
    squares = np.linalg.eigvalsh(unit.T @ unit)
    noise = squares[-1] * max(unit.shape) * np.finfo(np.float64).eps
    singular = np.sqrt(squares[squares > noise])
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _collapse(within: np.ndarray, means: np.ndarray) -> float:
    """Return tr(Sigma_W pinv(Sigma_B)) / C from the deviations [N, D] from the class means [C, D].

    With M = U S V^T the centred class means, pinv(Sigma_B) / C is V S^-2 V^T.
    """
    _, scales, directions = np.linalg.svd(means - means.mean(0), full_matrices=False)
    kept = scales > scales[0] * max(means.shape) * np.finfo(np.float64).eps
    scaled = within @ directions[kept].T / scales[kept]
    return float((scaled**2).sum(1).mean())
