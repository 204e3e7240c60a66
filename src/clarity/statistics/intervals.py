"""Intervals: own the variance of a mean difference whose images are crossed with its runs.

The same images are explained for every training run, so a difference between two losses varies with
the run, with the image (all runs find it on the same ones) and with both. That is the design of
studies in which several readers judge the same cases, and its analysis is theirs: Dorfman, Berbaum
and Metz, 1992, "Receiver operating characteristic rating analysis", Investigative Radiology 27;
Hillis, 2007, "A comparison of denominator degrees of freedom methods for multiple observer ROC
analysis", Statistics in Medicine 26, equations 11 and 18; Hillis, Berbaum and Metz, 2008. Runs are
the readers, images the cases, and both are random: the interval speaks of further runs and images.

Where images have no effect of their own it is the interval of the paired t test on run means.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Alternations between run and image effects of an unbalanced layout. A balanced one needs one.
FITS = 12
#: A variance below this share of the squared values is rounding, not variance.
ROUNDING = 1e-24


@dataclass(frozen=True)
class Estimates:
    """Mean differences and how sure they are, one a row.

    Attributes:
        difference: mean over runs of the mean over the run's images, float64 [rows].
        variance: of `difference`; NaN with fewer than two runs.
        df: degrees of freedom of `variance`.
        sd_runs: standard deviation of the runs' means (n - 1); NaN with fewer than two runs.
        runs: number of runs with an image, int64 [rows].
        run_means: mean over images, float64 [rows, R]; NaN for a run without an image.
    """

    difference: np.ndarray
    variance: np.ndarray
    df: np.ndarray
    sd_runs: np.ndarray
    runs: np.ndarray
    run_means: np.ndarray

    def interval(self, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper ends of the two-sided Student intervals.

        Raises:
            ValueError: if ``confidence`` is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence: found {confidence}, wanted a number between 0 and 1")
        half = stats.t.ppf((1 + confidence) / 2, self.df) * np.sqrt(self.variance)
        return self.difference - half, self.difference + half


def estimate(differences: np.ndarray) -> Estimates:
    """Estimate mean differences and their variances.

    With R runs, n_r images in run r and I images in all, the variance is V = V_run +
    max(V_image - V_residual, 0), where V_run = s^2(run means) / R; V_image = I / (I - 1)
    sum_i u_i^2 with u_i the sum over runs of (d_ri - mean_r) / (R n_r); and V_residual =
    s^2(residuals) sum_ri 1 / (R n_r)^2, of the additive fit of runs and images, with N - R - I + 1
    degrees of freedom. With the same images in every run these are Hillis' mean squares over R I.
    The degrees of freedom of V are Satterthwaite's: V^2 / (V_run^2 / (R - 1) + (V - V_run)^2 /
    (I - 1)). Hillis (2007, equation 18) leaves out the second term, which needs many images: with 8
    images and 30 runs that covers 90 % in place of 94 %.

    Args:
        differences: [rows, R, I]; NaN where a run has no difference for an image.

    Returns:
        One estimate a row. Where residuals and images cannot be told apart, since no image is in
        two runs or there is one image only, images are nested in runs and V is V_run.
    """
    known = ~np.isnan(differences)
    values = np.where(known, differences, 0.0)
    images = known.sum(axis=2)
    has = images > 0
    runs = has.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = values.sum(axis=2) / images
        difference = np.nansum(means, axis=1) / runs
        centred = np.where(has, means - difference[:, None], 0.0)
        squares = (centred**2).sum(axis=1)
        scale = np.abs(np.where(has, means, 0.0)).max(axis=1, initial=0.0) ** 2
        squares = np.where(squares > ROUNDING * scale * runs, squares, 0.0)
        variance_runs = squares / (runs - 1)
        from_runs = variance_runs / runs
        weights = np.where(has, 1 / (runs[:, None] * images), 0.0)[:, :, None]
    deviations = np.where(known, values - np.where(has, means, 0.0)[:, :, None], 0.0)
    from_images, images_df = _from_images(deviations, known, weights)
    variance = from_runs + from_images
    with np.errstate(invalid="ignore", divide="ignore"):
        df = variance**2 / (from_runs**2 / (runs - 1) + from_images**2 / images_df)
    single = runs < 2
    variance = np.where(single, np.nan, variance)
    return Estimates(
        difference=np.where(runs > 0, difference, np.nan),
        variance=variance,
        df=np.where(single, np.nan, np.where(variance > 0, df, runs - 1.0)),
        sd_runs=np.where(single, np.nan, np.sqrt(variance_runs)),
        runs=runs.astype(np.int64),
        run_means=np.where(has, means, np.nan),
    )


def _from_images(
    deviations: np.ndarray, known: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return max(V_image - V_residual, 0) of `estimate` and I - 1, both [rows].

    Args:
        deviations: of each difference from its run's mean, [rows, R, I], 0 where there is none.
        known: where there is one, bool [rows, R, I].
        weights: 1 / (R n_r), [rows, R, 1].
    """
    in_runs = known.sum(axis=1)
    there = in_runs > 0
    images = there.sum(axis=1)
    runs = known.any(axis=2).sum(axis=1)
    df = known.sum(axis=(1, 2)) - runs - images + 1
    influence = (weights * deviations).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = images / (images - 1) * (influence**2).sum(axis=1)
        residuals = deviations
        per_run = np.maximum(known.sum(axis=2), 1)[:, :, None]
        for _ in range(FITS if not _balanced(known) else 1):
            effect = np.where(there, residuals.sum(axis=1) / in_runs, 0.0)
            residuals = np.where(known, residuals - effect[:, None, :], 0.0)
            residuals -= np.where(known, residuals.sum(axis=2, keepdims=True) / per_run, 0.0)
        noise = (residuals**2).sum(axis=(1, 2)) / df
        residual = noise * ((weights**2) * known).sum(axis=(1, 2))
        found = np.where((df > 0) & (images > 1), np.maximum(variance - residual, 0.0), 0.0)
    # Where every difference is its run's mean but for rounding, images vary by nothing.
    size = np.abs(deviations).max(axis=(1, 2), initial=0.0)
    return np.where(size > 0, found, 0.0), np.maximum(images - 1, 1)


def _balanced(known: np.ndarray) -> bool:
    """Tell whether in every row all runs that have images have the same ones."""
    there = known.any(axis=1, keepdims=True)
    runs = known.any(axis=2, keepdims=True)
    return bool((known == (there & runs)).all())
