"""Power: owns what a number of training runs can show, and how many would show an effect.

Both follow the paired t test on run differences (Cohen, 1988, "Statistical Power Analysis", chapter
2), before any adjustment for the number of tests.
"""

import functools

import numpy as np
from scipy import special, stats

from clarity.statistics.significance import fewest_runs

POWER = 0.8
#: More runs than that are not counted.
MOST_RUNS = 10_000


@functools.lru_cache
def detectable(alpha: float, power: float = POWER) -> np.ndarray:
    """Return the smallest mean difference that n runs detect, in standard deviations of theirs.

    Args:
        alpha: level of the two-sided test.
        power: chance to detect it.

    Returns:
        By n, from 0 to `MOST_RUNS`; NaN for fewer than two runs. It falls with n.
    """
    runs = np.arange(2, MOST_RUNS + 1)
    critical = stats.t.ppf(1 - alpha / 2, runs - 1)
    noncentrality = special.nctdtrinc(runs - 1.0, 1 - power, critical)
    return np.concatenate([[np.nan, np.nan], noncentrality / np.sqrt(runs)])


def minimum_detectable_effect(sd_runs: np.ndarray, runs: np.ndarray, alpha: float) -> np.ndarray:
    """Return the difference that so many runs would detect at `POWER`, in the unit of the scores.

    Args:
        sd_runs: standard deviation of the run differences, [rows].
        runs: number of runs, int [rows].
        alpha: level of the test.

    Returns:
        [rows]; NaN with fewer than two runs.
    """
    found: np.ndarray = detectable(alpha)[np.minimum(runs, MOST_RUNS)] * sd_runs
    return found


def runs_needed(difference: np.ndarray, sd_runs: np.ndarray, alpha: float) -> np.ndarray:
    """Return how many runs would show the observed difference at `POWER`.

    Args:
        difference: observed, [rows].
        sd_runs: standard deviation of the run differences, [rows].
        alpha: level of the test.

    Returns:
        [rows]: at least the number from which the exact test can be below the level at all; NaN for
        no difference, without a deviation, or where more than `MOST_RUNS` would be needed.
    """
    smallest = detectable(alpha)[2:]
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.abs(difference) / sd_runs
    # From the end, since the array falls and searchsorted wants one that rises.
    enough = len(smallest) - np.searchsorted(smallest[::-1], effect, side="right")
    needed = np.maximum(enough + 2, fewest_runs(alpha)).astype(np.float64)
    possible = (difference != 0) & ~np.isnan(effect) & (enough < len(smallest))
    return np.where(possible, needed, np.nan)
