"""Similarity: owns how alike two maps are, pair by pair."""

import math
from collections.abc import Callable

import numpy as np


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair of maps [N, H, W], in two dimensions: [N].

    Wang et al., 2004, "Image Quality Assessment", equation 13, windows of 7x7. The range of values
    is that of the pair, as in Quantus: a fixed one would call all maps of small values alike.
    Quantus flattens maps first, so that its windows are pieces of a line.
    """
    # Here, as below: what one similarity needs takes half a second, and most metrics need none.
    from skimage.metrics import structural_similarity

    def of_pair(a: np.ndarray, b: np.ndarray) -> float:
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        return float(structural_similarity(a, b, data_range=span))  # type: ignore[no-untyped-call]

    pairs = zip(first.astype(np.float64), second.astype(np.float64), strict=True)
    return np.array([of_pair(a, b) for a, b in pairs])


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rank correlation of each pair of maps [N, H, W], ties at their mean rank: [N].

    NaN where a map is constant.
    """
    from scipy.stats import rankdata

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


def similarity_named(name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the similarity that an argument names.

    Raises:
        ValueError: if there is no such similarity.
    """
    if name not in SIMILARITIES:
        raise ValueError(f"similarity: found '{name}', wanted one of {', '.join(SIMILARITIES)}")
    return SIMILARITIES[name]


def ssim_of_unit_range(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair of maps [N, H, W] in [0, 1], the range being 1: [N].

    In single precision, as maps are made. For maps that do not fill [0, 1] it is nearer to 1 than
    `ssim`.
    """
    from skimage.metrics import structural_similarity

    pairs = zip(first.astype(np.float32), second.astype(np.float32), strict=True)
    found = [structural_similarity(a, b, data_range=1.0) for a, b in pairs]  # type: ignore[no-untyped-call]
    return np.array(found, dtype=np.float64)


def unit_range(maps: np.ndarray) -> np.ndarray:
    """Shift and scale each map of [N, H, W] to [0, 1] as pytorch-grad-cam does; zero stays zero."""
    above = maps - maps.min(axis=(1, 2), keepdims=True)
    return np.asarray(above / (1e-7 + above.max(axis=(1, 2), keepdims=True)))


def top_overlap(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Share of the top pixels of one map that are among those of the other, pair by pair: [N].

    Each pixel has a membership in the top ``share`` of its map's pixels: 1 above the threshold, and
    where several are tied at it, what is left is shared among them. Pixels of a map's lowest value
    are never among its top ones: a map of a few marked pixels has no more than these. The overlap
    is the sum of the smaller memberships over the larger of both sums. Without ties it is the
    plain share; of a map with itself it is exactly 1.
    """
    tops = [_membership(_flat(maps), share) for maps in (first, second)]
    common = np.minimum(*tops).sum(axis=1)
    return _quotient(common, np.maximum(*(top.sum(axis=1) for top in tops)))


def _membership(flat: np.ndarray, share: float) -> np.ndarray:
    """Return how far each value of rows [N, F] is among the top ``share`` of its row: [N, F]."""
    count = max(1, round(share * flat.shape[1]))
    threshold = np.sort(flat, axis=1)[:, -count][:, None]
    above, tied = flat > threshold, flat == threshold
    left = count - above.sum(axis=1, keepdims=True)
    top = above + tied * (left / tied.sum(axis=1, keepdims=True))
    return np.where(flat > flat.min(axis=1, keepdims=True), top, 0.0)
