"""Effect sizes: own how large a difference is in units of what varies; know no losses, no files.

All of them take one number a training run, never one an image.
"""

import numpy as np
from scipy import stats

#: A spread below this share of the values is rounding, not spread.
ROUNDING = 1e-12


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
    a, b = _pair(means, baseline_means)
    rows, runs = a.shape
    g = np.full(rows, np.nan)
    if runs < 2:
        return g
    spread = _spread(a, b)
    defined = spread > 0
    difference = a.mean(axis=1) - b.mean(axis=1)
    g[defined] = _correction(runs) * difference[defined] / spread[defined]
    return g


def hedges_g_interval(
    means: np.ndarray, baseline_means: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of the interval of `hedges_g`, one a row.

    g -+ t_{n-1} sqrt(V) with V = J^2 (d^2 (s_a^4 + s_b^4 + 2 s_ab^2) / (8 s^4 (n - 1)) +
    s_diff^2 / (s^2 (n - 1))), where s^2 is the pooled variance, s_ab the covariance of the pairs
    and s_diff^2 the variance of their differences (Bonett, 2008, "Confidence intervals for
    standardized linear contrasts of means", Psychological Methods 13, within-subjects design). The
    first term, how unsure the unit is, does not shrink with the correlation of the pairs. Student's
    quantile stands in for the normal one, since the runs are few.

    Args:
        means: as in `hedges_g`.
        baseline_means: likewise.
        confidence: of the interval.

    Returns:
        NaN where g is.
    """
    a, b = _pair(means, baseline_means)
    runs = a.shape[1]
    g = hedges_g(a, b)
    if runs < 2:
        return g, g
    spread = _spread(a, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        var_a, var_b, var_apart = (part.var(axis=1, ddof=1) for part in (a, b, a - b))
        covariance = (var_a + var_b - var_apart) / 2
        d = g / _correction(runs)
        of_unit = d**2 * (var_a**2 + var_b**2 + 2 * covariance**2) / (8 * spread**4 * (runs - 1))
        variance = _correction(runs) ** 2 * (of_unit + var_apart / (spread**2 * (runs - 1)))
        half = stats.t.ppf((1 + confidence) / 2, runs - 1) * np.sqrt(variance)
    return g - half, g + half


def rank_biserial(differences: np.ndarray) -> np.ndarray:
    """Return the matched-pairs rank-biserial correlation of run differences, one a row.

    The share of the sum of ranks that speaks for a positive difference minus that against it, zeros
    left out (Kerby, 2014, "The simple difference formula"): -1 to 1, and 0 where all are zero.

    Args:
        differences: [rows, runs].
    """
    size = np.abs(differences)
    ranks = stats.rankdata(size, axis=1) - (size == 0).sum(axis=1, keepdims=True)
    signed = np.where(size > 0, np.sign(differences) * ranks, 0.0).sum(axis=1)
    total = np.where(size > 0, ranks, 0.0).sum(axis=1)
    found: np.ndarray = np.divide(signed, total, out=np.zeros(len(total)), where=total > 0)
    return found


def superiority(means: np.ndarray, baseline_means: np.ndarray) -> np.ndarray:
    """Return the probability that a run of one condition lies above a run of the other, one a row.

    Over all pairs of runs, ties by half (Vargha and Delaney, 2000, "A critique and improvement of
    the CL common language effect size statistics"). Unpaired, since whoever trains a model trains
    it with one loss.

    Args:
        means: run means of one condition, [rows, runs].
        baseline_means: of the other, [rows, runs].
    """
    a, b = _pair(means, baseline_means)
    sign = np.sign(a[:, :, None] - b[:, None, :])
    found: np.ndarray = (sign.mean(axis=(1, 2)) + 1) / 2
    return found


def _pair(means: np.ndarray, baseline_means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = np.asarray(means, dtype=np.float64)
    b = np.asarray(baseline_means, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"wanted two arrays [rows, runs], found {a.shape} and {b.shape}")
    return a, b


def _spread(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the pooled standard deviation between runs, 0 where it is but rounding."""
    spread = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / 2)
    found: np.ndarray = np.where(
        spread > ROUNDING * np.maximum(np.abs(a), np.abs(b)).max(axis=1), spread, 0.0
    )
    return found


def _correction(runs: int) -> float:
    """Return J of `hedges_g`."""
    return 1 - 3 / (8 * runs - 9)
