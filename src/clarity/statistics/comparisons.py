"""Comparisons: owns how scores become verdicts on losses; knows no files and no formats.

The unit is the training run. Scores of two losses are paired by image within (dataset, seed), the
paired images of a run are averaged, and every test, effect size and interval is about these run
means. Images are never pooled: those of one model are not independent samples of a loss.

An image counts only where both values are there (status ok) and, with `Settings.correct_only`, if
every loss of the grid at its dataset and seed classifies it right (`mark_correct`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np
import pandas as pd

from clarity.seeds import derive_seed
from clarity.statistics.resampling import hierarchical_bootstrap, percentile_interval
from clarity.statistics.significance import hedges_g, holm, sign_flip_p

COLUMNS = (
    "dataset",
    "method",
    "metric",
    "category",
    "direction",
    "loss",
    "baseline",
    "n_runs",
    "n_images",
    "mean",
    "mean_baseline",
    "difference",
    "ci_low",
    "ci_high",
    "effect_size",
    "p",
    "p_holm",
    "verdict",
)


class MetricInfo(Protocol):
    """What a comparison must know of a metric."""

    @property
    def category(self) -> str:
        """The group of metrics that it belongs to."""

    @property
    def direction(self) -> str:
        """Which values are better: 'higher', 'lower' or 'none'."""


@dataclass(frozen=True)
class Settings:
    """How scores are compared.

    Attributes:
        confidence: of the intervals; verdicts use 1 - confidence as their level.
        resamples: bootstrap resamples an interval.
        correct_only: count only images that all losses of a (dataset, seed) classify right.
        seed: the first parts of every seed.
    """

    confidence: float = 0.95
    resamples: int = 2000
    correct_only: bool = True
    seed: tuple[str | int, ...] = ("compare",)

    @property
    def alpha(self) -> float:
        """The level of the verdicts."""
        return 1 - self.confidence


@dataclass(frozen=True)
class _Contrast:
    """Two losses on their paired images: one mean a run for each, and the interval."""

    means: np.ndarray
    baseline_means: np.ndarray
    images: int
    low: float
    high: float


def loss_pairs(losses: Sequence[str], baseline: str) -> list[tuple[str, str]]:
    """Return each unordered pair of losses once, as (loss, baseline of the pair).

    First every loss against ``baseline``, then the others among each other, where the one that
    is listed earlier is the baseline.

    Raises:
        ValueError: if ``baseline`` is no loss.
    """
    if baseline not in losses:
        raise ValueError(f"baseline: found '{baseline}', wanted one of {', '.join(losses)}")
    others = [loss for loss in losses if loss != baseline]
    return [(loss, baseline) for loss in others] + [
        (later, earlier) for earlier, later in combinations(others, 2)
    ]


def mark_correct(scores: pd.DataFrame, predictions: pd.DataFrame) -> np.ndarray:
    """Tell for each row of ``scores`` whether all losses classify its image right.

    Args:
        scores: with columns dataset, loss, seed, image.
        predictions: with columns dataset, loss, seed, image, correct: the evaluation images.

    Returns:
        bool [rows]. All losses with predictions at the row's (dataset, seed) must be right. Rows
        whose own run has no prediction for the image are False: nobody knows.
    """
    evaluated = predictions[["dataset", "loss", "seed", "image"]].assign(
        right=predictions.groupby(["dataset", "seed", "image"], observed=True)["correct"].transform(
            "all"
        )
    )
    axes = ["dataset", "loss", "seed"]
    # One key a run in both frames, so that the look-up is an array and not a join of all rows.
    runs = evaluated[axes].drop_duplicates().reset_index(drop=True)
    known = pd.MultiIndex.from_frame(runs.astype({"dataset": str, "loss": str}))
    size = 1 + int(max(evaluated["image"].max(), scores["image"].max())) if len(runs) else 1
    right = np.zeros((len(runs) + 1, size), dtype=bool)
    right[_run_of(evaluated, known), evaluated["image"].to_numpy()] = evaluated["right"].to_numpy()
    image = scores["image"].to_numpy()
    # Row -1 is that of unknown runs, all False; a negative image stands for a whole cell.
    return right[_run_of(scores, known), image.clip(0, size - 1)] & (image >= 0) & (image < size)


def _run_of(frame: pd.DataFrame, known: pd.MultiIndex) -> np.ndarray:
    """Return for each row the position of its run in ``known``, -1 if it is not there."""
    codes, runs = _factorize(frame, ["dataset", "loss", "seed"])
    return known.get_indexer(runs)[codes]


def _factorize(frame: pd.DataFrame, columns: list[str]) -> tuple[np.ndarray, pd.MultiIndex]:
    """Return for each row the position of its combination of ``columns``, and the combinations."""
    groups = frame.groupby(columns, observed=True, sort=False)
    first = frame.loc[~frame.duplicated(columns), columns]
    return groups.ngroup().to_numpy(), pd.MultiIndex.from_frame(
        first.astype({name: str for name in columns if name != "seed"})
    )
