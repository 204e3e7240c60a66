"""Significance: owns p values, their adjustment and the effect size; knows no losses and no files.

All of them take one number a training run, never one an image.
"""

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

#: Up to so many runs all sign patterns are tried; beyond, as many as this number of runs has.
EXACT_RUNS = 16
#: Entries of the largest null distribution held at a time: 128 MiB of float64.
CHUNK = 2**24
#: A spread below this share of the values is rounding, not spread.
ROUNDING = 1e-12


def sign_flip_p(differences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return two-sided p values of paired sign-flip permutation tests, one a row.

    Null hypothesis: within a run, the two conditions could have been swapped, so the sign of each
    difference is arbitrary (Fisher, 1935, "The Design of Experiments", section 21). With at most
    `EXACT_RUNS` runs the test is exact; with more, patterns are drawn and p counts the observed one
    among them (Phipson and Smyth, 2010, "Permutation p-values should never be zero").

    Args:
        differences: one paired difference a run, [rows, runs], finite.
        generator: source of the patterns where not all are tried.

    Returns:
        The p values, [rows]. None is below `smallest_p`.

    Raises:
        ValueError: if ``differences`` is not two-dimensional, has no run or is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0 or not np.isfinite(values).all():
        raise ValueError(f"sign_flip_p needs finite values [rows, runs], found {values.shape}")
    patterns = 2 ** min(values.shape[1], EXACT_RUNS)
    if values.shape[1] == 1:
        # Both patterns are as extreme as the other, and scipy asks for two observations.
        return np.ones(len(values))
    step = max(1, CHUNK // patterns)
    chunks = [
        stats.permutation_test(
            (values[start : start + step],),
            lambda sample, axis: sample.mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            axis=-1,
            n_resamples=patterns if values.shape[1] <= EXACT_RUNS else patterns - 1,
            batch=max(1, CHUNK // values[start : start + step].size),
            rng=generator,
        ).pvalue
        for start in range(0, len(values), step)
    ]
    return np.concatenate([np.empty(0), *chunks])


def smallest_p(runs: int) -> float:
    """Return the smallest p that `sign_flip_p` can give with so many runs: 2 / 2**runs.

    Three runs cannot get below 0.25 and five not below 0.0625, whatever the data.

    Raises:
        ValueError: if there is no run.
    """
    if runs < 1:
        raise ValueError(f"runs: found {runs}, wanted at least 1")
    return float(2.0 ** (1 - min(runs, EXACT_RUNS)))


def holm(p: np.ndarray) -> np.ndarray:
    """Return the p values of one family adjusted by Holm (1979); NaN is no member and stays NaN."""
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if tested.any():
        adjusted[tested] = multipletests(values[tested], method="holm")[1]
    return adjusted


def hedges_g(means: np.ndarray, baseline_means: np.ndarray) -> np.ndarray:
    """Return Hedges' g between two sets of run means, one a row.

    g = J * (mean(a) - mean(b)) / sqrt((var(a) + var(b)) / 2), with variances over n - 1 and
    J = 1 - 3 / (8 n - 9) (Hedges, 1981; Borenstein et al., 2009, equations 4.18 to 4.24). The unit
    is the spread between training runs of one loss, not between images, and not that of the paired
    differences, which would grow with the correlation of the pairs.

    Args:
        means: run means of one condition, [rows, runs].
        baseline_means: run means of the other in the same order, [rows, runs].

    Returns:
        g, [rows]. NaN where it is not defined: fewer than two runs, or no spread between runs
        beyond rounding; an effect in units of zero spread is not infinite but has no unit.

    Raises:
        ValueError: if the two shapes differ or are not [rows, runs].
    """
    a = np.asarray(means, dtype=np.float64)
    b = np.asarray(baseline_means, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"hedges_g needs two arrays [rows, runs], found {a.shape} and {b.shape}")
    rows, runs = a.shape
    g = np.full(rows, np.nan)
    if runs < 2:
        return g
    spread = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / 2)
    defined = spread > ROUNDING * np.maximum(np.abs(a), np.abs(b)).max(axis=1)
    difference = a.mean(axis=1) - b.mean(axis=1)
    g[defined] = (1 - 3 / (8 * runs - 9)) * difference[defined] / spread[defined]
    return g
