"""Resampling: owns the crossed bootstrap and the jackknife; knows no losses and no verdicts.

Runs are drawn with replacement, and so are images; an image that is drawn counts in every run that
is drawn, since all runs are judged on the same images (Owen, 2007, "The pigeonhole bootstrap",
Annals of Applied Statistics 1). Drawing images anew within each run, as the hierarchical bootstrap
does where they are nested (Saravanan, Berman and Sober, 2020), would take for noise what all runs
find on the same image.

What the interval does not give is *nominal coverage with few runs*. A bootstrap of R runs
underestimates the variance of their mean by (R - 1) / R and takes normal where Student quantiles
are due. With normal run effects alone, intervals meant to cover 95 % cover 75 % with 3 runs, 83 %
with 5, 88 % with 8 and 93 % with 15 (simulated). Read it beside that of `intervals`, which covers:
it shows which way the distribution leans.

For what has no such interval, a correlation or a product of coefficients, the jackknife with
Student's quantiles holds its level from 3 blocks on: simulated, 93 to 98 % for rank correlations
and 94 to 100 % for indirect effects, where the percentile bootstrap of the same blocks covers 80 to
92 % and 66 to 95 %.
"""

import numpy as np
from scipy import stats

#: Entries of the largest array held at a time: 32 MiB of float64.
CHUNK = 2**22


def crossed_bootstrap(
    differences: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw the mean over runs of the mean over images, runs and images both resampled.

    Args:
        differences: [K, R, I], K comparisons that share their missing values (NaN), which are then
            resampled together. Every run needs an image.
        resamples: number B of bootstrap resamples.
        generator: source of every draw.

    Returns:
        The bootstrap distribution, [B, K]. A drawn run none of whose images is drawn is left out of
        its resample.

    Raises:
        ValueError: if there is no run, a run without images, or values are missing in some
            comparisons and not in others.
    """
    known = ~np.isnan(differences)
    if differences.ndim != 3 or differences.shape[1] == 0 or not known.any(axis=2).all():
        raise ValueError(
            f"crossed_bootstrap needs [comparisons, runs, images] with images in every run, found "
            f"{differences.shape}"
        )
    if (known != known[:1]).any():
        raise ValueError("crossed_bootstrap needs comparisons that miss the same values")
    comparisons, runs, images = differences.shape
    drawn_runs = draw_counts(generator, resamples, runs)
    drawn_images = draw_counts(generator, resamples, images)
    values = np.where(known, differences, 0.0).reshape(comparisons * runs, images).T
    there = known[0].T.astype(np.float64)
    found = np.empty((resamples, comparisons))
    step = max(1, CHUNK // (comparisons * runs))
    for start in range(0, resamples, step):
        part = slice(start, start + step)
        seen = drawn_images[part] @ there
        sums = (drawn_images[part] @ values).reshape(-1, comparisons, runs)
        weights = np.where(seen > 0, drawn_runs[part], 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(seen[:, None, :] > 0, sums / seen[:, None, :], 0.0)
            found[part] = (means * weights[:, None, :]).sum(axis=2) / weights.sum(axis=1)[:, None]
    # No image of any drawn run was drawn: the rare resample says nothing.
    return found[~np.isnan(found).any(axis=1)]


def draw_counts(generator: np.random.Generator, resamples: int, size: int) -> np.ndarray:
    """Return how often each of ``size`` things is drawn in each resample, float64 [B, size]."""
    picked = generator.integers(size, size=(resamples, size))
    picked += np.arange(resamples)[:, None] * size
    counts = np.bincount(picked.ravel(), minlength=resamples * size)
    return counts.reshape(resamples, size).astype(np.float64)


def percentile_interval(
    distribution: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper end of the central ``confidence`` share, along the first axis.

    Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", section 13.3.

    Raises:
        ValueError: if ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, wanted a number between 0 and 1")
    tail = (1 - confidence) / 2
    low, high = np.quantile(distribution, [tail, 1 - tail], axis=0)
    return low, high


def without_each(blocks: int) -> np.ndarray:
    """Return which blocks are kept when each is left out in turn, int [blocks, blocks - 1]."""
    every = np.broadcast_to(np.arange(blocks), (blocks, blocks))
    return every[~np.eye(blocks, dtype=bool)].reshape(blocks, blocks - 1)


def jackknife_interval(
    estimate: np.ndarray, left_out: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of estimates from those without each block.

    The variance is (B - 1) / B times the sum of squares around their mean, the quantiles are those
    of Student's t with B - 1 degrees of freedom (Tukey, 1958; Efron and Tibshirani, 1993, "An
    Introduction to the Bootstrap", chapter 11). For a mean it is the classical interval.

    Args:
        estimate: from all blocks, [...].
        left_out: without each of B blocks, [B, ...].
        confidence: between 0 and 1.

    Returns:
        Lower and upper ends; NaN where there are fewer than 2 blocks, or an estimate is missing
        without one of them: then a single block carries it.
    """
    blocks = len(left_out)
    if blocks < 2:
        nothing = np.full(np.shape(estimate), np.nan)
        return nothing, nothing
    squares = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    half = stats.t.ppf((1 + confidence) / 2, blocks - 1) * np.sqrt((blocks - 1) / blocks * squares)
    return estimate - half, estimate + half
