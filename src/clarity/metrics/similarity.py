"""Similarity: owns how alike two maps are, pair by pair."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

#: Maps are scaled to [-1, 1] before SSIM, so this is the range of their values.
SSIM_RANGE = 2.0


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair of maps [N, H, W] in [-1, 1], in two dimensions: [N].

    Wang et al., 2004, "Image Quality Assessment", equation 13, windows of 7x7.
    """
    pairs = zip(first.astype(np.float64), second.astype(np.float64), strict=True)
    return np.array([structural_similarity(a, b, data_range=SSIM_RANGE) for a, b in pairs])


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlation of each pair of maps [N, H, W], ties at their mean rank: [N].

    NaN where a map is constant.
    """
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (first, second)]
    return pearson(*ranks)


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Linear correlation of each pair of rows [N, F]: [N]. NaN where a row is constant."""
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    size = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), size, out=np.full(len(a), np.nan), where=size > 0)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair of maps [N, H, W]: [N]. NaN where a map is zero."""
    a, b = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), size, out=np.full(len(a), np.nan), where=size > 0)


SIMILARITIES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ssim": ssim,
    "spearman": spearman,
    "cosine": cosine,
}
