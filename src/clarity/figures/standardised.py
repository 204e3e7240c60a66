"""Standardised: owns comparisons with the baseline on one scale, for figures that mix metrics."""

from collections.abc import Collection

import numpy as np
import pandas as pd

#: What the scale is called on an axis.
UNIT = "SD between images"


def standardised(
    comparisons: pd.DataFrame, *, baseline: str, controls: Collection[str]
) -> pd.DataFrame:
    """Return the comparisons with the baseline by metrics that have a direction, on one scale.

    Args:
        comparisons: the table of that name.
        baseline: the loss that the others are compared with.
        controls: methods that look at neither model nor class; they are left out.

    Returns:
        The rows with value, low and high: the difference and the ends of its interval in standard
        deviations between images of the baseline, turned so that higher is better. They are missing
        where the images do not differ.
    """
    rows = comparisons[
        (comparisons["baseline"] == baseline)
        & (comparisons["direction"] != "none")
        & ~comparisons["method"].isin(list(controls))
    ]
    # The table holds the difference in both units, and its interval in that of the metric. A
    # difference of 0 does not say how they convert; other losses on the same images do.
    ratio = (rows["d"] / rows["difference"].where(rows["difference"] != 0)).astype(float)
    alike = rows.groupby(["dataset", "method", "metric"], sort=False).ngroup()
    ratio = ratio.fillna(ratio.groupby(alike).transform("mean"))
    sign = np.where(rows["direction"] == "lower", -1.0, 1.0)
    ends = np.stack([rows[end] * ratio * sign for end in ("ci_low", "ci_high")])
    return rows.assign(value=rows["d"] * sign, low=ends.min(axis=0), high=ends.max(axis=0))
