"""Runs of a grid with planted truth, as the table `runs` has them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

LOSSES = ("ce", "triplet", "supcon")


@dataclass(frozen=True)
class Metric:
    """What the statistics must know of a metric."""

    category: str = "faithfulness"
    direction: str = "higher"
    verdict: bool = False


def make_runs(
    score: Callable[[str, str, int, str, str], float],
    *,
    metrics: dict[str, Metric] | None = None,
    datasets: Sequence[str] = ("d",),
    losses: Sequence[str] = LOSSES,
    seeds: int = 6,
    methods: Sequence[str] = ("cam",),
    sd: float = 1.0,
) -> pd.DataFrame:
    """Return the table `runs`; ``score`` gives a mean by dataset, loss, seed, method, metric."""
    metrics = metrics or {"m": Metric()}
    rows = [
        {
            "dataset": dataset,
            "method": method,
            "metric": metric,
            "category": info.category,
            "direction": info.direction,
            "loss": loss,
            "seed": seed,
            "n_images": 20,
            "sd": sd,
            "n_paired": 20,
            "paired_mean": score(dataset, loss, seed, method, metric),
        }
        for dataset in datasets
        for method in methods
        for metric, info in metrics.items()
        for loss in losses
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(mean=frame["paired_mean"])


def make_models(
    runs: pd.DataFrame, value: Callable[[str, str, int], dict[str, float]]
) -> pd.DataFrame:
    """Return the table `models` of the same runs: ``value`` gives the measures of each."""
    keys = runs[["dataset", "loss", "seed"]].drop_duplicates()
    return pd.DataFrame(
        [
            {
                "dataset": r.dataset,
                "loss": r.loss,
                "seed": r.seed,
                **value(r.dataset, r.loss, r.seed),
            }
            for r in keys.itertuples()
        ]
    )


def turned(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the same rows with the last seed first; names keep the order of the config."""
    return frame.sort_values("seed", ascending=False, kind="stable", ignore_index=True)


def noise(generator: np.random.Generator, effects: dict[str, float], spread: float = 1.0):
    """Return a score: the effect of the loss and normal noise, the same for the same run."""
    drawn: dict[tuple, float] = {}

    def score(dataset: str, loss: str, seed: int, method: str, metric: str) -> float:
        key = dataset, loss, seed, method, metric
        if key not in drawn:
            drawn[key] = effects.get(loss, 0.0) + spread * generator.normal()
        return drawn[key]

    return score
