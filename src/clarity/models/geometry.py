"""Geometry: owns the measures of how well classes are told apart in the embedding space."""

import numpy as np
import pandas as pd
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import silhouette_score


def geometry(embeddings: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Measure embeddings [N, D] with labels [N], each embedding scaled to length 1.

    Returns:
        measure, value and direction ("higher" or "lower" is better), one row each:

        - silhouette: Rousseeuw, 1987, with cosine distance;
        - distance-ratio: mean distance within classes over mean distance between classes;
        - r-precision and map-at-r: Musgrave et al., 2020, "A Metric Learning Reality Check",
          section 2.2, each embedding against all others.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    calculator = AccuracyCalculator(
        include=("r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    retrieval = calculator.get_accuracy(torch.from_numpy(unit), torch.from_numpy(labels))
    rows = [
        ("silhouette", silhouette_score(unit, labels, metric="cosine"), "higher"),
        ("distance-ratio", _distance_ratio(unit, labels), "lower"),
        ("r-precision", retrieval["r_precision"], "higher"),
        ("map-at-r", retrieval["mean_average_precision_at_r"], "higher"),
    ]
    frame = pd.DataFrame(rows, columns=["measure", "value", "direction"])
    return frame.astype({"value": np.float64})


def _distance_ratio(unit: np.ndarray, labels: np.ndarray) -> float:
    """Mean Euclidean distance of pairs within a class over that of pairs of two classes."""
    squared = np.maximum(2 - 2 * unit.astype(np.float64) @ unit.T.astype(np.float64), 0)
    distances = np.sqrt(squared)
    same = labels[:, None] == labels[None]
    others = ~np.eye(len(labels), dtype=bool)
    return float(distances[same & others].mean() / distances[~same].mean())
