"""Imputation: owns what stands for removed pixels, and the order in which pixels are removed.

Images are in [0, 1], so "black" is 0; Quantus' "black" is the darkest pixel of each image.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from clarity.metrics.batch import Batch

BASELINES = {"black": 0.0, "white": 1.0}

#: Standard deviation of the blur, as a share of the image's shorter side.
BLUR = 1 / 8

#: Noise of the noisy linear imputation (Rong et al., 2022), the default of Quantus' ROAD too.
NOISE = 0.01

#: Weights of a pixel's neighbours (Rong et al., 2022): 1/6 straight, 1/12 diagonal.
_WEIGHTS = {
    (dy, dx): 1 / 12 if dy and dx else 1 / 6
    for dy in (-1, 0, 1)
    for dx in (-1, 0, 1)
    if (dy, dx) != (0, 0)
}


def baselines(batch: Batch, baseline: str) -> np.ndarray:
    """Return what stands for removed pixels, float32 [N, C, H, W].

    Args:
        batch: the images.
        baseline: "black" (0), "white" (1), "mean" (the mean of the image), "uniform" (a random
            number in [0, 1] for each value, drawn from the image's seed) or "blur" (the image under
            a Gaussian blur of an eighth of its shorter side). Quantus takes the least, greatest and
            mean value of the image as it is after the earlier steps, so that what a removed pixel
            becomes changes from step to step, and one random grey for all pixels.

    Raises:
        ValueError: if there is no such baseline.
    """
    images = batch.images
    if baseline in BASELINES:
        return np.full_like(images, BASELINES[baseline])
    if baseline == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2, 3), keepdims=True), images.shape).copy()
    if baseline == "uniform":
        drawn = [generator.uniform(size=images.shape[1:]) for generator in batch.generators()]
        return np.stack(drawn).astype(np.float32)
    if baseline == "blur":
        from scipy.ndimage import gaussian_filter

        spread = BLUR * min(images.shape[2:])
        return np.asarray(gaussian_filter(images, (0, 0, spread, spread)), dtype=np.float32)
    raise ValueError(
        f"perturb_baseline: found '{baseline}', wanted black, white, mean, uniform or blur, or "
        f"noisy-linear where pixels are removed step by step"
    )


class Imputer:
    """Puts something in the place of removed pixels, whichever they are."""

    def __init__(self, batch: Batch, baseline: str) -> None:
        """Choose a baseline of `baselines`, or "noisy-linear".

        Noisy linear imputation (`linear`) depends on all pixels that are removed. Its noise is
        drawn from the image's seed once, so that a pixel's noise is the same after every step.

        Raises:
            ValueError: if there is no such baseline.
        """
        self._images = batch.images
        self._linear = baseline == "noisy-linear"
        if self._linear:
            noise = [NOISE * g.standard_normal(batch.images.shape[1:]) for g in batch.generators()]
            self._put = np.stack(noise)
        else:
            self._put = baselines(batch, baseline)

    def __call__(self, removed: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        """Return the images without the pixels in ``removed``: float32 [B, C, H, W].

        Args:
            removed: bool [B, H, W].
            rows: which images of the batch these are, if not all.
        """
        if self._linear:
            return linear(self._images[rows], removed, self._put[rows])
        return np.asarray(np.where(removed[:, None], self._put[rows], self._images[rows]))


def linear(images: np.ndarray, removed: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Replace removed pixels by the weighted means of their neighbours, and noise.

    Rong et al., 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
    section on noisy linear imputation: each removed pixel is the mean of its up to eight
    neighbours, weighted 1/6 straight and 1/12 diagonal, removed neighbours included, which is a
    system of equations. It is Quantus' `noisy_linear_imputation`; the system is symmetric, positive
    definite and banded, and is solved as such, some ten times as fast. Of an image without
    any pixel left, which Quantus cannot solve, all pixels become its mean colour.

    Args:
        images: float32 [B, C, H, W].
        removed: bool [B, H, W].
        noise: [B, C, H, W], added to removed pixels.

    Returns:
        float32 [B, C, H, W], not clipped to [0, 1], as in Quantus.
    """
    channels, height, width = images.shape[1:]
    found = images.reshape(len(images), channels, -1).copy()
    gone = removed.reshape(len(images), -1)
    for pixels, mask, added in zip(found, gone, noise.reshape(found.shape), strict=True):
        if mask.all():
            filled = np.repeat(pixels.mean(axis=1, keepdims=True), mask.size, axis=1)
        elif mask.any():
            filled = _solve(pixels.astype(np.float64), mask, height, width)
        else:
            continue
        pixels[:, mask] = filled + added[:, mask]
    return found.reshape(images.shape)


def _solve(pixels: np.ndarray, removed: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the means of neighbours that stand for the removed pixels: [C, removed]."""
    from scipy.linalg import solveh_banded

    neighbours, valid, weights = _neighbourhood(height, width)
    unknown = np.flatnonzero(removed)
    place = np.full(removed.size, -1)
    place[unknown] = np.arange(len(unknown))
    beside, inside = neighbours[:, unknown], valid[:, unknown]
    weight = np.where(inside, weights[:, None], 0.0)
    known = np.where(removed[beside], 0.0, weight)
    constant = np.einsum("nu,cnu->uc", known, pixels[:, beside])
    # A pair of removed neighbours stands once in the upper half of the matrix, as column > row.
    offset, row = np.nonzero(removed[beside] & inside & (beside > unknown))
    column = place[beside[offset, row]]
    band = int((column - row).max(initial=0))
    matrix = np.zeros((band + 1, len(unknown)))
    matrix[band] = weight.sum(axis=0)
    matrix[band + row - column, column] = -weights[offset]
    solved: np.ndarray = solveh_banded(matrix, constant, overwrite_ab=True, check_finite=False)
    return solved.T


@lru_cache(maxsize=8)
def _neighbourhood(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pixel's neighbours [8, H * W], whether they are in the image, and weights [8]."""
    y, x = np.divmod(np.arange(height * width), width)
    rows, columns = (
        np.stack([axis + offset[way] for offset in _WEIGHTS]) for way, axis in enumerate((y, x))
    )
    valid = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(valid, rows * width + columns, 0), valid, np.array(list(_WEIGHTS.values()))


def pixel_order(maps: np.ndarray, seeds: list[int]) -> np.ndarray:
    """Replace each map of [N, H, W] by the ranks of its pixels, the highest value the highest rank.

    Pixels of one value are put in a random order, drawn from the image's seed: taken in the order
    of the raster, the flat part of a map would be removed from the top left corner on.
    """
    flat = maps.reshape(len(maps), -1)
    ranks = np.empty(flat.shape, dtype=np.float32)
    for row, seed in enumerate(seeds):
        shuffle = np.random.default_rng(seed).permutation(flat.shape[1])
        order = shuffle[np.argsort(flat[row][shuffle], kind="stable")]
        ranks[row, order] = np.arange(flat.shape[1])
    return ranks.reshape(maps.shape)
