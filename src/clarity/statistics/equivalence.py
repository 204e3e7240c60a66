"""Equivalence: owns how sure it is that a difference is too small to matter.

A p above a level is no evidence of no difference. These are: two one-sided tests, and the posterior
probability of a region of practical equivalence.
"""

import numpy as np
from scipy import stats

from clarity.statistics.intervals import Estimates

#: Weight of the pseudo-observation of the Bayesian signed-rank test, and draws from its posterior.
PRIOR = 0.5
SAMPLES = 2000


def equivalence_p(found: Estimates, margin: np.ndarray) -> np.ndarray:
    """Return p of two one-sided tests: that a difference lies within -margin and margin.

    The larger p of the two tests (Schuirmann, 1987, "A comparison of the two one-sided tests
    procedure and the power approach"), with the variance and degrees of freedom of the intervals.
    Without any variance it is 0 for a difference within the margin and 1 for one beyond; what does
    not differ at all is equivalent whatever the margin.

    Args:
        found: the differences.
        margin: the smallest that matters, [rows], in their unit.

    Returns:
        p, [rows]; NaN without a variance or a margin.
    """
    error = np.sqrt(found.variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        above = stats.t.sf((found.difference + margin) / error, found.df)
        below = stats.t.cdf((found.difference - margin) / error, found.df)
    p: np.ndarray = np.maximum(above, below)
    exact = error == 0
    within = np.abs(found.difference) < margin
    p = np.where(exact, np.where(within, 0.0, 1.0), p)
    p = np.where(np.isnan(margin) | np.isnan(error), np.nan, p)
    return np.where(exact & (found.difference == 0), 0.0, p)


def practical_probabilities(
    found: Estimates, margin: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the posterior probabilities that a difference lies below, within, above the margin.

    The Bayesian t test with a flat prior on the mean and on the logarithm of the deviation, whose
    posterior is Student's around the difference (Kruschke, 2013; Benavoli et al., 2017, "Time for a
    change", section 4.1), with the variance and degrees of freedom of the intervals.

    Args:
        found: the differences.
        margin: half the width of the region of practical equivalence, [rows].

    Returns:
        Three arrays [rows] that sum to 1; NaN without a variance or a margin.
    """
    error = np.sqrt(found.variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        lower = stats.t.cdf((-margin - found.difference) / error, found.df)
        higher = stats.t.sf((margin - found.difference) / error, found.df)
    exact = error == 0
    lower = np.where(exact, found.difference < -margin, lower)
    higher = np.where(exact, found.difference > margin, higher)
    unknown = np.isnan(margin) | np.isnan(error)
    lower, higher = (np.where(unknown, np.nan, side) for side in (lower, higher))
    return lower, 1 - lower - higher, higher


def signed_rank_probabilities(
    differences: np.ndarray, margin: float, generator: np.random.Generator
) -> np.ndarray:
    """Return the posterior probabilities of the Bayesian signed-rank test, one a row.

    That the median of the Walsh averages lies below -margin, within, or above (Benavoli et al.,
    2014, "A Bayesian Wilcoxon signed-rank test based on the Dirichlet process"; the prior is one
    pseudo-observation of 0 with weight `PRIOR`). The same as baycomp's, all samples at once.

    Args:
        differences: [rows, blocks].
        margin: half the width of the region of practical equivalence.
        generator: of the `SAMPLES` draws, the same for all rows; a probability is right to 0.01.

    Returns:
        [rows, 3], each summing to 1.
    """
    rows, blocks = differences.shape
    weights = np.ones(blocks + 1)
    weights[0] = PRIOR
    drawn = generator.dirichlet(weights, SAMPLES)
    found = np.empty((rows, 3))
    for row, values in enumerate(np.column_stack([np.zeros(rows), differences])):
        sums = values[:, None] + values[None, :]
        above, below = (
            (side * sums > 2 * margin) + 0.5 * (side * sums == 2 * margin) for side in (1.0, -1.0)
        )
        higher = ((drawn @ above) * drawn).sum(axis=1)
        lower = ((drawn @ below) * drawn).sum(axis=1)
        winners = np.argmax(np.stack([lower, 1 - lower - higher, higher], axis=1), axis=1)
        found[row] = np.bincount(winners, minlength=3) / SAMPLES
    return found
