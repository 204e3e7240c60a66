"""Units: own how scores of different metrics, methods and datasets are put on one scale.

A metric's score has no unit that another metric shares. What they share are images: the unit of a
(dataset, method, metric) is the standard deviation between images of the baseline within a run, as
in Cohen's d with the baseline's deviation (Glass, 1976), so a difference of 0.2 means "a fifth of
what images differ by". It does not shrink or grow with the number of runs, and is no measure of
certainty. The deviation between runs is not taken, since it is what one averages away.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from clarity.statistics.settings import Settings

BLOCK = ["dataset", "method", "metric"]


def units(runs: pd.DataFrame, baseline: str, settings: Settings) -> "pd.Series[float]":
    """Return the unit of each (dataset, method, metric).

    Args:
        runs: the table of that name: dataset, method, metric, loss, sd and n_images.
        baseline: the loss whose images give the unit.
        settings: a metric of `Settings.smallest_effects` gets the unit in which its smallest effect
            is `Settings.smallest_effect`.

    Returns:
        The unit in that of the metric, indexed by dataset, method and metric. It is the square root
        of the mean over runs of the variance between images; NaN if there is none, or images do not
        differ at all.
    """
    rows = runs[(runs["loss"] == baseline) & (runs["n_images"] > 1)]
    variance = rows.assign(variance=rows["sd"] ** 2).groupby(BLOCK, observed=True)["variance"]
    index = pd.MultiIndex.from_frame(runs[BLOCK].drop_duplicates())
    unit: pd.Series[float] = np.sqrt(variance.mean()).reindex(index)
    unit = unit.where(unit > 0)
    for metric, smallest in settings.smallest_effects.items():
        known = unit.index.get_level_values("metric") == metric
        unit[known] = smallest / settings.smallest_effect
    unit.name = "unit"
    return unit


def oriented(runs: pd.DataFrame, controls: Collection[str] = ()) -> pd.DataFrame:
    """Return the rows of metrics that have a direction, with `score`, higher being better.

    Args:
        runs: the table of that name.
        controls: methods that do not count.

    Returns:
        `score` is `paired_mean`, its sign turned where lower is better.
    """
    rows = runs[(runs["direction"] != "none") & ~runs["method"].isin(list(controls))]
    sign = np.where(rows["direction"] == "higher", 1.0, -1.0)
    return rows.assign(score=sign * rows["paired_mean"])


def on_one_scale(runs: pd.DataFrame, baseline: str, settings: Settings) -> pd.DataFrame:
    """Add `score` (see `oriented`) and `z`: how far a run lies from its block's mean.

    Args:
        runs: the table of that name.
        baseline: the loss whose images give the unit.
        settings: see `units`.

    Returns:
        The rows of metrics that have a direction. `z` is the run's score minus the mean over losses
        of the mean over seeds within (dataset, method, metric), in units of `units`, so higher is
        better. NaN where there is no score or no unit.
    """
    directed = oriented(runs)
    over_seeds = directed.groupby([*BLOCK, "loss"], observed=True)["score"].mean()
    centre = over_seeds.groupby(BLOCK, observed=True).mean().rename("centre")
    joined = directed.join(centre, on=BLOCK).join(units(directed, baseline, settings), on=BLOCK)
    return directed.assign(z=(joined["score"] - joined["centre"]) / joined["unit"])
