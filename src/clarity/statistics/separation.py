"""Separation: owns whether an advantage in the embedding space carries over to the explanations.

Across training runs, how far classes lie apart in the embeddings is held against the quality of the
maps, by rank, within datasets: that one dataset is easier than another is no evidence. Most of what
varies between runs varies between losses, of which there are few; so each correlation stands beside
the one within losses, where only the seed varies. Neither proves a cause.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from clarity.seeds import derive_seed
from clarity.statistics.resampling import jackknife_interval, without_each
from clarity.statistics.responses import NO_FAMILIES, Response, responses
from clarity.statistics.settings import MetricInfo, Settings
from clarity.statistics.significance import adjusted

#: Measures of how far classes lie apart, and whether more is further.
MEASURES = {"silhouette": 1, "map-at-r": 1, "distance-ratio": -1, "nc1": -1}
#: What every dataset counts for, together.
ALL = "all"
#: Permutations of a p value: the smallest is 1 over one more.
PERMUTATIONS = 1999
#: With fewer runs there is no correlation, and with fewer blocks neither interval nor p.
FEWEST_RUNS, FEWEST_BLOCKS = 4, 3
#: A correlation nearer to 1 counts as this one where it is transformed.
LARGEST = 0.999

_RUN = ["dataset", "loss", "seed"]

_KEYS = ("scope", "name", "category")
SEPARATION = (
    "dataset",
    *_KEYS,
    "measure",
    "n_runs",
    "n_losses",
    "spearman",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "spearman_within",
    "partial",
    "partial_low",
    "partial_high",
)
MEDIATION = (
    *_KEYS,
    "loss",
    "measure",
    "n_runs",
    "total",
    "direct",
    "indirect",
    "indirect_low",
    "indirect_high",
    "share",
)


def separation_tables(
    runs: pd.DataFrame,
    models: pd.DataFrame,
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    settings: Settings,
    controls: Collection[str] = (),
    families: Mapping[str, str] = NO_FAMILIES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold the separation of the embeddings against the quality of the explanations.

    Args:
        runs: the table of that name.
        models: the table of that name: dataset, loss, seed, accuracy, and what of `MEASURES` is
            there.
        metrics: what must be known of each metric, in order.
        baseline: the loss that the others are compared with.
        settings: for the scale and the level.
        controls: methods that do not count.
        families: of the metrics that are a setting of something, what they are a setting of.

    Returns:
        `SEPARATION`: for each dataset, and all, each metric with a direction, category and the
        verdict, and each measure. `MEDIATION`: for each of these and each loss against the
        baseline, by silhouette.
    """
    known = [name for name in MEASURES if name in models]
    about = models.set_index(_RUN)[["accuracy", *known]].copy()
    for name in known:
        about[name] *= MEASURES[name]
    asked = [
        response
        for response in responses(runs, metrics, baseline, settings, controls, families)
        if len(response.scores)
    ]
    if not asked:
        return pd.DataFrame(columns=list(SEPARATION)), pd.DataFrame(columns=list(MEDIATION))
    scores = pd.DataFrame(
        {
            place: response.scores.rename_axis(columns="loss").stack()
            for place, response in enumerate(asked)
        }
    )
    scores = scores.reorder_levels(_RUN).sort_index()
    about = about.reindex(scores.index)
    datasets = list(dict.fromkeys(runs["dataset"]))
    found: dict[tuple[int, str, str], dict[str, Any]] = {}
    for dataset in [ALL, *datasets] if len(datasets) > 1 else datasets:
        mine = scores.index.get_level_values("dataset") == dataset
        part = scores if dataset == ALL else scores[mine]
        if dataset == ALL:  # of a score that one dataset has, that dataset says it
            several = part.groupby(level="dataset").count().gt(0).sum() > 1
            part = part.loc[:, several]
        for measure in known:
            given = about.loc[part.index, [measure, "accuracy"]]
            for place, row in _correlate(part, given, measure, settings).items():
                found[place, dataset, measure] = row
    rows = [
        {"dataset": dataset, **_named(asked[place]), "measure": measure, **row}
        for (place, dataset, measure), row in sorted(found.items(), key=lambda item: item[0][0])
    ]
    table = pd.DataFrame(rows, columns=list(SEPARATION))
    families_of = table[["dataset", "scope", "measure"]].apply(tuple, axis=1)
    for family in pd.unique(families_of):
        members = (families_of == family).to_numpy()
        table.loc[members, "p_holm"] = adjusted(table.loc[members, "p"])
    effects: list[dict[str, Any]] = []
    if "silhouette" in known:
        for place, response in enumerate(asked):
            pair = pd.DataFrame({"score": scores[place], "silhouette": about["silhouette"]})
            effects += _mediate(response, pair.reset_index(), baseline, settings)
    return table, pd.DataFrame(effects, columns=list(MEDIATION))


def _named(response: Response) -> dict[str, str]:
    return {key: getattr(response, key) for key in _KEYS}


def rank_correlations(
    score: np.ndarray, measure: np.ndarray, given: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return Pearson's correlation of ranks and the partial one given a third, one a row.

    r_xy.z = (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)).

    Args:
        score: ranks, [rows, runs].
        measure: ranks, [rows, runs].
        given: ranks, [rows, runs].

    Returns:
        Two arrays [rows]; NaN where something does not vary, or all that varies goes with what is
        given.
    """

    def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = (side - side.mean(axis=-1, keepdims=True) for side in (a, b))
        scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
        found: np.ndarray = np.divide(
            (a * b).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale > 1e-12
        )
        return found

    plain = correlation(score, measure)
    with_score, with_measure = correlation(score, given), correlation(measure, given)
    return plain, _partial(plain, with_score, with_measure)


def _partial(plain: np.ndarray, with_score: np.ndarray, with_measure: np.ndarray) -> np.ndarray:
    """Return partial correlations from the plain ones, and from those with what is given."""
    # What does not vary with accuracy, because that is constant, is not explained by it.
    with_score, with_measure = (np.nan_to_num(side) for side in (with_score, with_measure))
    rest = (1 - with_score**2) * (1 - with_measure**2)
    found: np.ndarray = np.divide(
        plain - with_score * with_measure,
        np.sqrt(np.maximum(rest, 0)),
        out=np.full(plain.shape, np.nan),
        where=rest > 1e-9,
    )
    return found


def _correlate(
    scores: pd.DataFrame, given: pd.DataFrame, measure: str, settings: Settings
) -> dict[int, dict[str, Any]]:
    """Return the correlations of one measure with every score, over the runs of some datasets.

    Args:
        scores: a row a run, a column a question.
        given: the measure and accuracy of these runs.
        measure: its name.
        settings: for the level and the seed.
    """
    has = given.notna().all(axis=1).to_numpy(dtype=bool)
    known = scores.notna().to_numpy(dtype=bool) & has[:, None]
    alike: dict[bytes, list[int]] = {}
    for column in range(known.shape[1]):
        if known[:, column].any():
            alike.setdefault(known[:, column].tobytes(), []).append(column)
    found: dict[int, dict[str, Any]] = {}
    for columns in alike.values():
        rows = known[:, columns[0]]
        table = pd.concat([scores.loc[rows].iloc[:, columns], given.loc[rows]], axis=1)
        results = _correlate_whole(table, measure, settings)
        found |= {int(scores.columns[c]): row for c, row in zip(columns, results, strict=True)}
    return found


def _correlate_whole(table: pd.DataFrame, measure: str, settings: Settings) -> list[dict[str, Any]]:
    """Return the correlations of a measure with scores, all of which the same runs have.

    Args:
        table: by run, the scores, then the measure and accuracy.
        measure: its name.
        settings: for the level and the seed.
    """
    count = table.shape[1] - 2
    dataset = table.index.get_level_values("dataset")
    shared = {"n_runs": len(table), "n_losses": table.index.get_level_values("loss").nunique()}
    if len(table) < FEWEST_RUNS:
        return [dict(shared) for _ in range(count)]
    # Ranks within datasets, as shares of their runs, so that datasets of any size can be pooled.
    ranks = table.groupby(dataset).rank(pct=True)
    values = (ranks - ranks.groupby(dataset).transform("mean")).to_numpy().T
    of_seeds = table - table.groupby(level=["dataset", "loss"]).transform("mean")
    # What is the same for all seeds of a loss but for rounding does not vary within it.
    of_seeds = of_seeds.where(of_seeds.abs() > 1e-12, 0.0)
    seeds = of_seeds.groupby(dataset).rank(pct=True)
    within = (seeds - seeds.groupby(dataset).transform("mean")).to_numpy().T

    def against(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return rank_correlations(rows[:count], rows[[count] * count], rows[[count + 1] * count])

    plain, partial = against(values)
    seeds_only = against(within)[0]
    results = [
        {
            **shared,
            "spearman": float(plain[k]),
            "partial": float(partial[k]),
            "spearman_within": float(seeds_only[k]),
        }
        for k in range(count)
    ]
    blocks = table.groupby(level=["dataset", "seed"]).ngroup().to_numpy()
    sizes = np.bincount(blocks)
    if len(sizes) < FEWEST_BLOCKS or len(set(sizes)) > 1:
        return results
    seed = derive_seed(*settings.seed, "separation", measure, len(table), len(sizes))
    generator = np.random.default_rng(seed)
    low_high = _intervals(values, (plain, partial), blocks, settings.confidence)
    null = _permuted(values[count], blocks, generator) @ values[:count].T
    scale = np.sqrt((values[count] ** 2).sum() * (values[:count] ** 2).sum(axis=1))
    for k, row in enumerate(results):
        for name, ends in low_high.items():
            row |= {f"{name}_low": float(ends[0][k]), f"{name}_high": float(ends[1][k])}
        if not math.isnan(plain[k]):
            extreme = np.abs(null[:, k]) >= abs(plain[k]) * scale[k] - 1e-9
            row["p"] = float((1 + extreme.sum()) / (1 + PERMUTATIONS))
    return results


def _intervals(
    values: np.ndarray,
    estimates: tuple[np.ndarray, np.ndarray],
    blocks: np.ndarray,
    confidence: float,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the intervals of plain ("ci") and partial correlation, by leaving out each block.

    The runs of a block share their data and initial weights. Correlations are transformed by
    Fisher's z, whose distribution is nearer to normal, and back.

    Args:
        values: ranks of the scores, then of the measure and accuracy, [scores + 2, runs].
        estimates: the correlations themselves, plain and partial, [scores] each.
        blocks: of each run, int [runs].
        confidence: of the intervals.
    """
    count = len(values) - 2
    left_out = []
    for block in range(int(blocks.max()) + 1):
        kept = values[:, blocks != block]
        left_out.append(
            rank_correlations(kept[:count], kept[[count] * count], kept[[count + 1] * count])
        )
    found = {}
    for place, name in enumerate(("ci", "partial")):
        each = np.arctanh(_inside(np.stack([pair[place] for pair in left_out])))
        low, high = jackknife_interval(np.arctanh(_inside(estimates[place])), each, confidence)
        found[name] = np.tanh(low), np.tanh(high)
    return found


def _inside(correlations: np.ndarray) -> np.ndarray:
    """Return correlations off the ends, where Fisher's z is infinite."""
    inside: np.ndarray = np.clip(correlations, -LARGEST, LARGEST)
    return inside


def _permuted(
    measure: np.ndarray, blocks: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return the measure with its values exchanged within blocks, [PERMUTATIONS, runs].

    Under the null it is arbitrary which run of a block has which.
    """
    table = np.stack([np.flatnonzero(blocks == block) for block in range(int(blocks.max()) + 1)])
    permuted = np.empty((PERMUTATIONS, len(measure)))
    order = np.argsort(generator.random((PERMUTATIONS, *table.shape)), axis=2)
    permuted[:, table.ravel()] = np.take_along_axis(
        np.broadcast_to(measure[table], order.shape), order, axis=2
    ).reshape(PERMUTATIONS, -1)
    return permuted


def _mediate(
    response: Response, long: pd.DataFrame, baseline: str, settings: Settings
) -> list[dict[str, Any]]:
    """Split the effect of each loss into what goes through the separation and the rest."""
    rows = []
    others = [loss for loss in response.scores.columns if loss != baseline]
    if baseline not in response.scores:
        return []
    for loss in others:
        row: dict[str, Any] = {**_named(response), "loss": loss, "measure": "silhouette"}
        pair = long[long["loss"].isin([loss, baseline])].dropna(subset=["score", "silhouette"])
        whole = pair.groupby(["dataset", "seed"])["loss"].transform("count") == 2
        wide = pair[whole].pivot(
            index=["dataset", "seed"], columns="loss", values=["score", "silhouette"]
        )
        row["n_runs"] = 2 * len(wide)
        if len(wide) > 2:
            score, separation = (
                wide[name][[baseline, loss]].to_numpy(dtype=np.float64)
                for name in ("score", "silhouette")
            )
            dataset = pd.factorize(wide.index.get_level_values("dataset"))[0]
            total, direct, indirect = mediation(score[None], separation[None], dataset[None])
            kept = without_each(len(wide))
            _, _, left_out = mediation(score[kept], separation[kept], dataset[kept])
            low, high = jackknife_interval(indirect, left_out, settings.confidence)
            row |= {
                "total": float(total[0]),
                "direct": float(direct[0]),
                "indirect": float(indirect[0]),
                "indirect_low": float(low[0]),
                "indirect_high": float(high[0]),
                "share": float(indirect[0] / total[0]) if total[0] else math.nan,
            }
        rows.append(row)
    return rows


def mediation(
    score: np.ndarray, mediator: np.ndarray, dataset: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the total, direct and indirect effects of the second of two losses, one a row.

    mediator = a loss, score = c' loss + b mediator, both with an intercept for each dataset; the
    indirect effect is a b, the direct one c', their sum the total (Baron and Kenny, 1986;
    MacKinnon, Fairchild and Fritz, 2007, "Mediation analysis"). It is a cause only if nothing else
    moves both the mediator and the score.

    Args:
        score: [rows, blocks, 2].
        mediator: [rows, blocks, 2].
        dataset: number of each block's dataset, int [rows, blocks].

    Returns:
        Three arrays [rows]; NaN where the mediator does not vary beyond loss and dataset.
    """
    counts = np.stack([(dataset == place).sum(axis=1) for place in range(dataset.max() + 1)])

    def centred(values: np.ndarray) -> np.ndarray:
        left = values.copy()
        for place in range(len(counts)):
            mine = (dataset == place)[:, :, None]
            sums = np.where(mine, values, 0.0).sum(axis=(1, 2)) / np.maximum(2 * counts[place], 1)
            left -= np.where(mine, sums[:, None, None], 0.0)
        return left

    effect = mediator[:, :, 1].mean(axis=1) - mediator[:, :, 0].mean(axis=1)
    total = score[:, :, 1].mean(axis=1) - score[:, :, 0].mean(axis=1)
    side = np.array([-0.5, 0.5])
    rest = centred(mediator) - effect[:, None, None] * side
    squares = (rest**2).sum(axis=(1, 2))
    scale = (centred(mediator) ** 2).sum(axis=(1, 2))
    slope = np.divide(
        (rest * centred(score)).sum(axis=(1, 2)),
        squares,
        out=np.full(len(squares), np.nan),
        where=squares > 1e-12 * np.maximum(scale, 1e-300),
    )
    indirect = effect * slope
    return total, total - indirect, indirect
