"""Similarity: owns how alike two maps are, pair by pair."""

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair of maps [N, H, W], in two dimensions: [N].

    Wang et al., 2004, "Image Quality Assessment", equation 13, windows of 7x7. The range of values
    is that of the pair, as in Quantus: a fixed one would call all maps of small values alike.
    Quantus flattens maps first, so that its windows are pieces of a line.
    """

    def of_pair(a: np.ndarray, b: np.ndarray) -> float:
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        return float(structural_similarity(a, b, data_range=span))  # type: ignore[no-untyped-call]

    pairs = zip(first.astype(np.float64), second.astype(np.float64), strict=True)
    return np.array([of_pair(a, b) for a, b in pairs])


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlation of each pair of maps [N, H, W], ties at their mean rank: [N].

    NaN where a map is constant.
    """
    ranks = [rankdata(_flat(maps), axis=1) for maps in (first, second)]
    return pearson(*ranks)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Linear correlation of each pair of rows [N, F]: [N]. NaN where a row is constant."""
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return _quotient((a * b).sum(axis=1), size)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair of maps [N, H, W]: [N]. NaN where a map is zero."""
    a, b = (_flat(maps).astype(np.float64) for maps in (first, second))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return _quotient((a * b).sum(axis=1), size)


def _flat(maps: np.ndarray) -> np.ndarray:
    """Return maps [N, H, W] as rows [N, H * W], also where N is 0."""
    return maps.reshape(len(maps), math.prod(maps.shape[1:]))


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide [N] by [N], NaN where the second is zero."""
    nothing = np.full(len(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=nothing, where=denominator > 0))


SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ssim": ssim,
    "spearman": spearman,
    "cosine": cosine,
}
