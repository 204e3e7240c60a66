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
        # Rounded, since 1 - 0.95 is a little more than 0.05 and p = 0.05 is not below it.
        return round(1 - self.confidence, 12)


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
    axes = ["dataset", "loss", "seed"]
    images = predictions.groupby(["dataset", "seed", "image"], observed=True)
    by_all = predictions[images["correct"].transform("all").to_numpy(dtype=bool)]
    kept = {run: part["image"].to_numpy() for run, part in by_all.groupby(axes, observed=True)}
    image = scores["image"].to_numpy()
    correct = np.zeros(len(scores), dtype=bool)
    for run, rows in scores.groupby(axes, observed=True).indices.items():
        if run in kept:
            correct[rows] = np.isin(image[rows], kept[run])
    return correct


def compare(
    scores: pd.DataFrame,
    baseline: str,
    metrics: Mapping[str, MetricInfo],
    settings: Settings,
    controls: Collection[str] = (),
) -> pd.DataFrame:
    """Compare every loss with the baseline and with each other, for each dataset, method, metric.

    Args:
        scores: one row an (image, metric) of a cell: dataset, loss, method and metric
            (categorical; the categories are the grid and their order is the config's), seed,
            image, value, status ('ok', 'nan', 'unavailable'), correct (see `mark_correct`).
            The order of the rows does not matter.
        baseline: the loss that is `baseline` wherever it is one of the pair.
        metrics: category and direction of every metric in ``scores``.
        settings: how to compare.
        controls: methods whose p values are a family of their own.

    Returns:
        `COLUMNS`, one row for each dataset, method, metric that the dataset has and pair of losses
        (`loss_pairs`), in the order of the categories. `n_runs` counts the runs with at least one
        paired image, `n_images` the paired images summed over these runs, `mean` and
        `mean_baseline` are means over run means and `difference` is the first minus the second.
        The interval is NaN with fewer than two runs: images of one run tell nothing of the next.
        The effect size is that of `hedges_g`, p that of `sign_flip_p`. `p_holm` is adjusted within
        a family: one metric with all its datasets, methods and pairs of losses, those of the
        control methods in a family of their own. `verdict` is 'better' or 'worse' for `loss` (or
        'different' where the metric has no direction) if p_holm is below 1 - confidence and the
        interval excludes 0; else 'inconclusive', or 'no data' without a paired image.

    Raises:
        ValueError: if the baseline is no loss, a metric is not in ``metrics``, or an image has two
            scores for one metric in one cell.
    """
    unknown = sorted(set(scores["metric"].unique()) - set(metrics))
    if unknown:
        raise ValueError(f"metrics: no category and direction given for {', '.join(unknown)}")
    losses = [str(loss) for loss in scores["loss"].cat.categories]
    pairs = loss_pairs(losses, baseline)
    places = [(losses.index(loss), losses.index(other)) for loss, other in pairs]
    axes: list[dict[str, object]] = []
    contrasts: list[_Contrast | None] = []
    for (dataset, method, metric), block in _blocks(scores, settings):
        seed = derive_seed(*settings.seed, "bootstrap", dataset, method, metric)
        info = metrics[metric]
        axes += [
            {
                "dataset": dataset,
                "method": method,
                "metric": metric,
                "category": info.category,
                "direction": info.direction,
                "loss": loss,
                "baseline": other,
            }
            for loss, other in pairs
        ]
        contrasts += _contrasts(block, places, settings, seed)
    frame = pd.DataFrame(axes, columns=list(COLUMNS[:7]))
    frame = frame.assign(**_estimates(contrasts))
    generator = np.random.default_rng(derive_seed(*settings.seed, "sign-flip"))
    frame["effect_size"], frame["p"] = _tests(contrasts, generator)
    frame["p_holm"] = np.nan
    for rows in frame.groupby(["metric", frame["method"].isin(list(controls))]).indices.values():
        frame.loc[rows, "p_holm"] = holm(frame.loc[rows, "p"].to_numpy())
    frame["verdict"] = _verdicts(frame, settings.alpha)
    return frame[list(COLUMNS)]


def _blocks(
    scores: pd.DataFrame, settings: Settings
) -> Iterator[tuple[tuple[str, str, str], np.ndarray | None]]:
    """Yield the values [losses, runs, images] of each dataset, method and metric that it has.

    Runs are the seeds, images those with a value; NaN where there is none; None if there is none
    at all.
    """
    axes = ["dataset", "method", "metric"]
    names = [scores[axis].cat.categories for axis in axes]
    shape = tuple(map(len, names))
    codes = [scores[axis].cat.codes.to_numpy() for axis in axes]
    has_metric = np.zeros((shape[0], shape[2]), dtype=bool)
    has_metric[codes[0], codes[2]] = True

    usable = scores["status"].to_numpy() == "ok"
    if settings.correct_only:
        usable &= scores["correct"].to_numpy(dtype=bool)
    rows = np.flatnonzero(usable)
    group = np.ravel_multi_index(tuple(code[rows] for code in codes), shape)
    order = np.argsort(group, kind="stable")
    rows, group = rows[order], group[order]
    loss = scores["loss"].cat.codes.to_numpy()
    seed, seeds = pd.factorize(scores["seed"].to_numpy(), sort=True)
    image = scores["image"].to_numpy()
    value = scores["value"].to_numpy(dtype=np.float64)
    losses = len(scores["loss"].cat.categories)
    for place in np.ndindex(shape):
        if not has_metric[place[0], place[2]]:
            continue
        key = tuple(str(name[at]) for name, at in zip(names, place, strict=True))
        index = np.ravel_multi_index(place, shape)
        inside = rows[slice(*np.searchsorted(group, [index, index + 1]))]
        if len(inside) == 0:
            yield (key[0], key[1], key[2]), None
            continue
        images, column = np.unique(image[inside], return_inverse=True)
        block = np.full((losses, len(seeds), len(images)), np.nan)
        block[loss[inside], seed[inside], column] = value[inside]
        if np.count_nonzero(np.isfinite(block)) < len(inside):
            raise ValueError(
                f"scores: {'/'.join(key)} has two values, or one that is not finite, marked ok "
                f"for one image of a run"
            )
        yield (key[0], key[1], key[2]), block


def _contrasts(
    block: np.ndarray | None,
    pairs: Sequence[tuple[int, int]],
    settings: Settings,
    seed: int,
) -> list[_Contrast | None]:
    """Contrast each pair of losses of a block; None where no image is paired."""
    contrasts: list[_Contrast | None] = [None] * len(pairs)
    if block is None:
        return contrasts
    alike: dict[bytes, list[int]] = {}
    for index, (a, b) in enumerate(pairs):
        alike.setdefault((np.isfinite(block[a]) & np.isfinite(block[b])).tobytes(), []).append(
            index
        )
    # Pairs with the same paired images, most often all, are resampled together: one draw for all.
    # Others start from the same seed, so that no interval depends on which other losses there are.
    for indices in alike.values():
        first, second = (block[[pairs[i][side] for i in indices]] for side in (0, 1))
        paired = np.isfinite(first[0]) & np.isfinite(second[0])
        runs = np.flatnonzero(paired.any(axis=1))
        if len(runs) == 0:
            continue
        means, baseline_means = (
            np.stack([values[:, run, paired[run]].mean(axis=1) for run in runs], axis=1)
            for values in (first, second)
        )
        low = high = np.full(len(indices), np.nan)
        if len(runs) > 1:
            differences = [(first - second)[:, run, paired[run]].T for run in runs]
            low, high = percentile_interval(
                hierarchical_bootstrap(
                    differences, settings.resamples, np.random.default_rng(seed)
                ),
                settings.confidence,
            )
        for k, index in enumerate(indices):
            contrasts[index] = _Contrast(
                means[k], baseline_means[k], int(paired.sum()), float(low[k]), float(high[k])
            )
    return contrasts


def _estimates(contrasts: Sequence[_Contrast | None]) -> dict[str, np.ndarray]:
    """Return the columns from n_runs to ci_high."""
    values = [
        (0, 0, *[np.nan] * 4)
        if c is None
        else (len(c.means), c.images, c.means.mean(), c.baseline_means.mean(), c.low, c.high)
        for c in contrasts
    ]
    n_runs, n_images, mean, mean_baseline, low, high = np.array(values).reshape(-1, 6).T
    return {
        "n_runs": n_runs.astype(np.int64),
        "n_images": n_images.astype(np.int64),
        "mean": mean,
        "mean_baseline": mean_baseline,
        "difference": mean - mean_baseline,
        "ci_low": low,
        "ci_high": high,
    }


def _tests(
    contrasts: Sequence[_Contrast | None], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return effect size and p of each contrast, computed together for equal numbers of runs."""
    effect, p = np.full((2, len(contrasts)), np.nan)
    by_runs: dict[int, list[int]] = {}
    for index, contrast in enumerate(contrasts):
        if contrast is not None:
            by_runs.setdefault(len(contrast.means), []).append(index)
    for _, indices in sorted(by_runs.items()):
        chosen = [c for c in (contrasts[index] for index in indices) if c is not None]
        means = np.stack([c.means for c in chosen])
        baseline_means = np.stack([c.baseline_means for c in chosen])
        effect[indices] = hedges_g(means, baseline_means)
        p[indices] = sign_flip_p(means - baseline_means, generator)
    return effect, p


def _verdicts(frame: pd.DataFrame, alpha: float) -> np.ndarray:
    """Return the verdict of each row from its adjusted p, interval and direction."""
    significant = (frame["p_holm"] < alpha) & ((frame["ci_low"] > 0) | (frame["ci_high"] < 0))
    raised = frame["difference"] > 0
    better = raised.where(frame["direction"] == "higher", ~raised)
    return np.select(
        [frame["n_images"] == 0, ~significant, frame["direction"] == "none", better],
        ["no data", "inconclusive", "different", "better"],
        "worse",
    )
