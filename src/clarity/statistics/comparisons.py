"""Comparisons: owns how scores become verdicts on losses; knows no files and no formats.

The unit is the training run. Scores of two losses are paired by image within (dataset, seed), the
paired images of a run are averaged, and every test and effect size is about these run means; the
interval lets images vary too (`clarity.statistics.intervals`). Images are never pooled: those of
one model are not independent samples of a loss.

An image counts only where both values are there (status ok) and, with `Settings.correct_only`, if
every loss of the grid at its dataset and seed classifies it right.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from clarity.seeds import derive_seed
from clarity.statistics.blocks import ABSENT, NAN, OK, UNAVAILABLE, Block, complete
from clarity.statistics.effect_sizes import hedges_g, hedges_g_interval, rank_biserial, superiority
from clarity.statistics.equivalence import equivalence_p, practical_probabilities
from clarity.statistics.intervals import estimate
from clarity.statistics.power import minimum_detectable_effect, runs_needed
from clarity.statistics.resampling import crossed_bootstrap, percentile_interval
from clarity.statistics.settings import Family, MetricInfo, Settings
from clarity.statistics.significance import adjusted, sign_flip_p, smallest_p
from clarity.statistics.units import units

#: What the names of a comparison are.
AXES = ("dataset", "method", "metric", "category", "direction", "loss", "baseline")
#: What is estimated within a block.
ESTIMATES = (
    "n_runs",
    "n_missing",
    "n_images",
    "n_unpaired",
    "mean",
    "mean_baseline",
    "difference",
    "ci_low",
    "ci_high",
    "bootstrap_low",
    "bootstrap_high",
    "d",
    "hedges_g",
    "g_low",
    "g_high",
    "rank_biserial",
    "superiority",
    "p",
    "p_smallest",
    "margin",
    "p_equivalence",
    "prob_lower",
    "prob_within",
    "prob_higher",
    "sd_runs",
    "mde",
    "runs_needed",
)
COLUMNS = (
    *AXES,
    "family",
    *ESTIMATES[: ESTIMATES.index("p_smallest") + 1],
    "p_adjusted",
    "margin",
    "p_equivalence",
    "p_equivalence_adjusted",
    *ESTIMATES[ESTIMATES.index("prob_lower") :],
    "verdict",
)

RUN_COLUMNS = (
    "dataset",
    "method",
    "metric",
    "category",
    "direction",
    "loss",
    "seed",
    "n_images",
    "mean",
    "sd",
    "n_paired",
    "paired_mean",
    "n_nan",
    "n_unavailable",
    "n_incorrect",
    "missing",
)


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


def run_means(block: Block, metrics: Mapping[str, MetricInfo], settings: Settings) -> pd.DataFrame:
    """Return what each training run of a block scores: the table `runs`.

    Args:
        block: the scores.
        metrics: category and direction of every metric.
        settings: whether only correctly classified images count.

    Returns:
        `RUN_COLUMNS`, a row for each metric, loss and seed of the block. `mean` is over the images
        that count for the run itself, `paired_mean` over those that count for every loss that has
        any at the seed, so that losses are ranked on the same images.
    """
    shape = len(block.losses), len(block.seeds)
    parts = []
    for place, metric in enumerate(block.metrics):
        counted = block.counted(place, correct_only=settings.correct_only)
        paired = complete(counted) & counted
        values, status = block.values[place], block.status[place]
        n_images, n_paired = counted.sum(axis=2), paired.sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(counted, values, 0.0).sum(axis=2) / n_images
            apart = np.where(counted, values - mean[:, :, None], 0.0)
            sd = np.sqrt((apart**2).sum(axis=2) / (n_images - 1))
            paired_mean = np.where(paired, values, 0.0).sum(axis=2) / n_paired
        columns = {
            "loss": np.repeat(np.array(block.losses, dtype=object), shape[1]),
            "seed": np.tile(np.array(block.seeds, dtype=np.int64), shape[0]),
            "n_images": n_images,
            "mean": mean,
            "sd": np.where(n_images > 1, sd, np.nan),
            "n_paired": n_paired,
            "paired_mean": paired_mean,
            "n_nan": (status == NAN).sum(axis=2),
            "n_unavailable": (status == UNAVAILABLE).sum(axis=2),
            "n_incorrect": (status == OK).sum(axis=2) - n_images,
            "missing": ~block.found,
        }
        info = metrics[metric]
        parts.append(
            pd.DataFrame({name: np.ravel(column) for name, column in columns.items()}).assign(
                dataset=block.dataset,
                method=block.method,
                metric=metric,
                category=info.category,
                direction=info.direction,
            )
        )
    if not parts:
        return pd.DataFrame(columns=list(RUN_COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(RUN_COLUMNS)]


def compare(
    block: Block,
    runs: pd.DataFrame,
    baseline: str,
    metrics: Mapping[str, MetricInfo],
    settings: Settings,
) -> pd.DataFrame:
    """Compare every loss with the baseline and with each other by each metric of a block.

    Args:
        block: the scores.
        runs: what `run_means` returns of it.
        baseline: the loss that is `baseline` wherever it is one of the pair.
        metrics: category and direction of every metric.
        settings: how to compare.

    Returns:
        `AXES` and `ESTIMATES`, a row for each metric and pair of losses (`loss_pairs`); what they
        mean is told in `clarity.tables.columns`. `judge` makes verdicts of the rows of all blocks.

    Raises:
        ValueError: if the baseline is no loss.
    """
    pairs = loss_pairs(block.losses, baseline)
    first, second = ([block.losses.index(pair[side]) for pair in pairs] for side in (0, 1))
    unit = units(runs, baseline, settings)
    parts = []
    for place, metric in enumerate(block.metrics):
        counted = block.counted(place, correct_only=settings.correct_only)
        values = np.where(counted, block.values[place], np.nan)
        candidates = block.status[place] != ABSENT
        if settings.correct_only:
            candidates &= block.correct
        seed = derive_seed(*settings.seed, "bootstrap", block.dataset, block.method, metric)
        found = _estimates(
            values[first],
            values[second],
            unit.loc[block.dataset, block.method, metric],
            settings,
            seed,
        )
        expected = (candidates[first] | candidates[second]).sum(axis=(1, 2))
        info = metrics[metric]
        parts.append(
            pd.DataFrame(
                {
                    "dataset": block.dataset,
                    "method": block.method,
                    "metric": metric,
                    "category": info.category,
                    "direction": info.direction,
                    "loss": [pair[0] for pair in pairs],
                    "baseline": [pair[1] for pair in pairs],
                    **found,
                    "n_unpaired": expected - found["n_images"],
                }
            )
        )
    if not parts:
        return pd.DataFrame(columns=[*AXES, *ESTIMATES])
    return pd.concat(parts, ignore_index=True)[[*AXES, *ESTIMATES]]


def _estimates(
    values: np.ndarray, baseline: np.ndarray, unit: float, settings: Settings, seed: int
) -> dict[str, np.ndarray]:
    """Return the columns of `ESTIMATES` for some pairs of losses, without `n_unpaired`.

    Args:
        values: of the losses, [pairs, S, I], NaN where an image does not count.
        baseline: likewise of their baselines.
        unit: of the metric, see `clarity.statistics.units`.
        settings: how to compare.
        seed: of the bootstrap.
    """
    differences = values - baseline
    found = estimate(differences)
    paired = ~np.isnan(differences)
    low, high = found.interval(settings.confidence)
    bootstrap = _bootstrap(differences, settings, seed)
    rows = len(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        own, other = (
            np.where(paired, side, 0.0).sum(axis=2) / paired.sum(axis=2)
            for side in (values, baseline)
        )
    has = paired.any(axis=2)
    effect = {
        name: np.full(rows, np.nan)
        for name in (
            "hedges_g",
            "g_low",
            "g_high",
            "rank_biserial",
            "superiority",
            "p",
            "p_smallest",
        )
    }
    # Tests of equal numbers of runs are computed together.
    for count in np.unique(found.runs[found.runs > 0]):
        same = np.flatnonzero(found.runs == count)
        a, b = (side[same][has[same]].reshape(len(same), count) for side in (own, other))
        effect["hedges_g"][same] = hedges_g(a, b)
        effect["g_low"][same], effect["g_high"][same] = hedges_g_interval(a, b, settings.confidence)
        effect["superiority"][same] = superiority(a, b)
        apart = found.run_means[same][has[same]].reshape(len(same), count)
        effect["rank_biserial"][same] = rank_biserial(apart)
        generator = np.random.default_rng(derive_seed(*settings.seed, "sign-flip", int(count)))
        effect["p"][same] = sign_flip_p(apart, generator)
        effect["p_smallest"][same] = smallest_p(int(count))
    margin = np.full(rows, unit * settings.smallest_effect)
    lower, within, higher = practical_probabilities(found, margin)
    alpha = settings.alpha
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, mean_baseline = (
            np.where(has, side, 0.0).sum(axis=1) / found.runs for side in (own, other)
        )
    return {
        "n_runs": found.runs,
        "n_missing": values.shape[1] - found.runs,
        "n_images": paired.sum(axis=(1, 2)),
        "mean": mean,
        "mean_baseline": mean_baseline,
        "difference": found.difference,
        "ci_low": low,
        "ci_high": high,
        "bootstrap_low": bootstrap[0],
        "bootstrap_high": bootstrap[1],
        "d": found.difference / unit,
        **effect,
        "margin": margin,
        "p_equivalence": equivalence_p(found, margin),
        "prob_lower": lower,
        "prob_within": within,
        "prob_higher": higher,
        "sd_runs": found.sd_runs,
        "mde": minimum_detectable_effect(found.sd_runs, found.runs, alpha),
        "runs_needed": runs_needed(found.difference, found.sd_runs, alpha),
    }


def _bootstrap(differences: np.ndarray, settings: Settings, seed: int) -> np.ndarray:
    """Return lower and upper ends of the bootstrap intervals, [2, pairs]; NaN with one run."""
    ends = np.full((2, len(differences)), np.nan)
    alike: dict[bytes, list[int]] = {}
    known = ~np.isnan(differences)
    for index, mask in enumerate(known):
        alike.setdefault(mask.tobytes(), []).append(index)
    # Pairs with the same paired images, most often all, are resampled together: one draw for all.
    # Others start from the same seed, so that no interval depends on which other losses there are.
    for indices in alike.values():
        mask = known[indices[0]]
        runs, images = mask.any(axis=1), mask.any(axis=0)
        if runs.sum() > 1:
            drawn = crossed_bootstrap(
                differences[indices][:, runs][:, :, images],
                settings.resamples,
                np.random.default_rng(seed),
            )
            ends[:, indices] = percentile_interval(drawn, settings.confidence)
    return ends


def judge(
    comparisons: pd.DataFrame, baseline: str, settings: Settings, controls: Collection[str] = ()
) -> pd.DataFrame:
    """Adjust the p values of all comparisons within their families, and give verdicts.

    Args:
        comparisons: the rows of all blocks that `compare` returns.
        baseline: the loss that the named families compare with.
        settings: for families, adjustment and level.
        controls: methods whose comparisons are families of their own.

    Returns:
        `COLUMNS`. `verdict` is 'better' or 'worse' for `loss` (or 'different' where the metric has
        no direction) if p_adjusted is below 1 - confidence and the interval excludes 0; else
        'equivalent' if p_equivalence_adjusted is below it; else 'inconclusive', or 'no data'
        without a paired image.
    """
    frame = comparisons.assign(
        family=_families(comparisons, baseline, settings.families, controls),
        p_adjusted=np.nan,
        p_equivalence_adjusted=np.nan,
    )
    families = frame["family"].to_numpy()
    for family in pd.unique(families):
        named = settings.families.get(family)
        adjustment = settings.adjustment if named is None else named.adjustment
        rows = families == family
        for name in ("p", "p_equivalence"):
            frame.loc[rows, f"{name}_adjusted"] = adjusted(frame.loc[rows, name], adjustment)
    frame["verdict"] = _verdicts(frame, settings.alpha)
    return frame[list(COLUMNS)]


def _families(
    comparisons: pd.DataFrame,
    baseline: str,
    families: Mapping[str, Family],
    controls: Collection[str],
) -> "pd.Series[str]":
    """Return the family of each row."""
    control = comparisons["method"].isin(list(controls))
    found = comparisons["metric"].astype("str")
    found = found.where(~control, found + " (controls)")
    free = (comparisons["baseline"] == baseline) & ~control
    for name, family in families.items():
        fits = free & _fits(comparisons, family)
        found = found.where(~fits, name)
        free &= ~fits
    return found


def _fits(comparisons: pd.DataFrame, family: Family) -> "pd.Series[bool]":
    """Tell which rows have all names of a family."""
    wanted: Iterable[tuple[str, Collection[str] | None]] = (
        ("dataset", family.datasets),
        ("method", family.methods),
        ("metric", family.metrics),
        ("loss", family.losses),
    )
    fits = pd.Series(True, comparisons.index)
    for column, names in wanted:
        if names is not None:
            fits &= comparisons[column].isin(list(names))
    return fits


def _verdicts(frame: pd.DataFrame, alpha: float) -> np.ndarray:
    """Return the verdict of each row from its adjusted p, interval and direction."""
    excludes_zero = (frame["ci_low"] > 0) | (frame["ci_high"] < 0)
    significant = (frame["p_adjusted"] < alpha) & excludes_zero
    raised = frame["difference"] > 0
    better = raised.where(frame["direction"] == "higher", ~raised)
    return np.select(
        [
            frame["n_images"] == 0,
            significant & (frame["direction"] == "none"),
            significant & better,
            significant,
            frame["p_equivalence_adjusted"] < alpha,
        ],
        ["no data", "different", "better", "worse", "equivalent"],
        "inconclusive",
    )
