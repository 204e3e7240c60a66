"""Significance: owns p values and their adjustment; knows no losses and no files.

All of them take one number a training run, never one an image.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from clarity.statistics.settings import Adjustment

#: Up to so many runs all sign patterns are tried; beyond, as many as this number of runs has.
EXACT_RUNS = 16
#: Entries of the largest array held at a time: 128 MiB of float64.
CHUNK = 2**24
#: Sums that differ by less than this share of the absolute values are tied.
ROUNDING = 1e-12


def sign_flip_p(differences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return two-sided p values of paired sign-flip permutation tests, one a row.

    Null hypothesis: within a run, the two conditions could have been swapped, so the sign of each
    difference is arbitrary (Fisher, 1935, "The Design of Experiments", section 21). With at most
    `EXACT_RUNS` runs the test is exact; with more, patterns are drawn and p counts the observed one
    among them (Phipson and Smyth, 2010, "Permutation p-values should never be zero").

    Args:
        differences: one paired difference a run, [rows, runs], finite.
        generator: source of the patterns where not all are tried: the same for all rows.

    Returns:
        The p values, [rows]. None is below `smallest_p`.

    Raises:
        ValueError: if ``differences`` is not two-dimensional, has no run or is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0 or not np.isfinite(values).all():
        raise ValueError(f"sign_flip_p needs finite values [rows, runs], found {values.shape}")
    rows, runs = values.shape
    # A pattern and its opposite are as extreme as each other, so the first sign stays: all patterns
    # of the others stand for all, the first of them being the observed one.
    count = 2 ** (min(runs, EXACT_RUNS) - 1)
    if runs <= EXACT_RUNS:
        bits = np.arange(count)[:, None] >> np.arange(runs - 1)[None, :]
        flips = (bits & 1).astype(bool)
    else:
        flips = generator.random((count, runs - 1)) < 0.5
        flips[0] = False
    signs = np.ones((runs, count))
    signs[1:] -= 2.0 * flips.T
    p = np.empty(rows)
    step = max(1, CHUNK // count)
    for start in range(0, rows, step):
        part = values[start : start + step]
        sums = np.abs(part @ signs)
        observed = np.abs(part.sum(axis=1)) - ROUNDING * np.abs(part).sum(axis=1)
        p[start : start + step] = (sums >= observed[:, None]).mean(axis=1)
    return p


def smallest_p(runs: int) -> float:
    """Return the smallest p that `sign_flip_p` can give with so many runs: 2 / 2**runs.

    Three runs cannot get below 0.25 and five not below 0.0625, whatever the data.

    Raises:
        ValueError: if there is no run.
    """
    if runs < 1:
        raise ValueError(f"runs: found {runs}, wanted at least 1")
    return float(2.0 ** (1 - min(runs, EXACT_RUNS)))


def fewest_runs(alpha: float) -> int:
    """Return the number of runs from which `sign_flip_p` can be below ``alpha``.

    Raises:
        ValueError: if no number of runs can.
    """
    for runs in range(1, EXACT_RUNS + 1):
        if smallest_p(runs) < alpha:
            return runs
    raise ValueError(f"alpha: found {alpha}, wanted more than {smallest_p(EXACT_RUNS)}")


def adjusted(p: ArrayLike, adjustment: Adjustment = "holm") -> np.ndarray:
    """Return the p values of one family, adjusted; NaN is no member and stays NaN.

    Holm (1979) bounds the chance of any false rejection, Benjamini and Hochberg (1995) the expected
    share of false ones.
    """
    values = np.asarray(p, dtype=np.float64)
    found = np.full(values.shape, np.nan)
    tested = ~np.isnan(values)
    if adjustment == "holm":
        found[tested] = _holm(values[tested])
    else:
        found[tested] = stats.false_discovery_control(values[tested], method="bh")
    return found


def _holm(p: np.ndarray) -> np.ndarray:
    """Return p values adjusted by Holm, all of one family.

    Not statsmodels' multipletests, which collects garbage at every call: 0.1 s a family.
    """
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    found = np.empty_like(p)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found
