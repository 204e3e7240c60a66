"""Build: owns what stands in each table of a grid; knows no formats, and no statistics of its own.

Tables are built from what is there; what is not there stands in the table `missing`, and shows as
rows without numbers in the others. Every row of a score file is counted in exactly one column of
`summary`: used, NaN, unavailable, or left out because a loss misclassifies its image.

A grid is worked through block by block (`clarity.statistics.blocks`): `block_tables` says all that
can be said of one dataset and method, `build_tables` puts the blocks together.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from threadpoolctl import threadpool_limits

from clarity.grid import Grid
from clarity.statistics.agreement import agreement_tables
from clarity.statistics.blocks import ABSENT, OK, STATUSES, Block
from clarity.statistics.comparisons import COLUMNS as COMPARISON_COLUMNS
from clarity.statistics.comparisons import compare, judge, run_means
from clarity.statistics.components import components
from clarity.statistics.mixed import mixed_models
from clarity.statistics.ranks import rank_tables
from clarity.statistics.separation import separation_tables
from clarity.statistics.settings import MetricInfo, Settings
from clarity.statistics.stability import stability_table
from clarity.storage import StrPath
from clarity.tables.load import (
    MISSING_COLUMNS,
    NOT_THERE,
    TRAINED,
    LoadedBlock,
    Models,
    Right,
    load_block,
    load_models,
)
from clarity.tables.measures import GROUPS, is_single_severity, place
from clarity.tables.run_times import run_times

#: The reasons of scores that are none because the map had nothing to judge, and because that of the
#: foil had.
EMPTY_MAPS = ("constant map", "no positive mass")
EMPTY_FOILS = ("constant foil map",)

#: No metric is a setting of something.
NO_FAMILIES: Mapping[str, str] = {}

#: Below so many cells, other processes cost more time than they save.
FEW_CELLS = 500

_CELL = ["dataset", "method", "metric"]
_RUN = ["dataset", "loss", "seed"]

CURVE_COLUMNS = (*_CELL, "loss", "point", "at", "label", "axis", "n_runs", "mean", "sd")
COVERAGE_COLUMNS = (*_CELL, "n_cells", "n_cells_found", "n_rows", *STATUSES, "reason", "n_reason")


@dataclass(frozen=True)
class Part:
    """What can be said of one dataset and method alone: rows of the tables of these names."""

    comparisons: pd.DataFrame
    runs: pd.DataFrame
    coverage: pd.DataFrame
    curves: pd.DataFrame
    missing: list[dict[str, str | int]]


@dataclass(frozen=True)
class Gathered:
    """What the files of a grid say: its training runs, and each (dataset, method)."""

    models: Models
    parts: Mapping[tuple[str, str], Part]


def build_tables(
    root: StrPath,
    grid: Grid,
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    controls: Collection[str] = (),
    settings: Settings | None = None,
    *,
    families: Mapping[str, str] = NO_FAMILIES,
    strict: bool = False,
    workers: int = 1,
    gathered: Gathered | None = None,
) -> dict[str, pd.DataFrame]:
    """Build all tables of a grid from the files of its cells.

    Args:
        root: the results root, with hive folders.
        grid: the axes; their order is that of every table, and of two losses, neither the baseline,
            the earlier is the baseline of the pair.
        metrics: what must be known of each metric of the grid, in the order of the tables.
        baseline: the loss that all others are compared with.
        controls: the methods that look at neither model nor class.
        settings: how scores are compared; the defaults of `Settings` if not given.
        families: of the metrics that are a setting of something, what they are a setting of.
        strict: raise at the first file that is missing or cannot be read.
        workers: processes that read and compare; the tables are the same with any number.
        gathered: what the files of runs and cells say, if that is known already.

    Returns:
        The tables of `clarity.tables.names.TABLES`. The columns are described in
        `clarity.tables.columns`. Scores of a metric that the grid does not name are left out and
        stand in missing.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
        ValueError: if ``baseline`` is no loss of the grid.
    """
    settings = settings or Settings()
    if baseline not in grid.losses:
        raise ValueError(f"baseline: found '{baseline}', wanted one of {', '.join(grid.losses)}")
    models = load_models(root, grid, strict=strict) if gathered is None else gathered.models
    right = {dataset: models.right(dataset) for dataset in grid.datasets}
    blocks = list(product(grid.datasets, grid.methods))
    if gathered is None:
        few = len(blocks) * len(grid.losses) * len(grid.seeds) < FEW_CELLS
        work = joblib.delayed(block_tables)
        parts: list[Part] = joblib.Parallel(n_jobs=1 if few else workers)(
            work(root, grid, *names, metrics, right[names[0]], baseline, settings, strict=strict)
            for names in blocks
        )
    else:
        parts = [gathered.parts[names] for names in blocks]
    parts += _without_scores(parts, blocks, grid, metrics, right, baseline, settings)
    runs = _together([part.runs for part in parts], grid, metrics)
    comparisons = _together([part.comparisons for part in parts], grid, metrics)
    missing = models.missing + [row for part in parts for row in part.missing]
    measures = model_measures(models)
    summary = summary_table(runs)
    trained = models_table(models, measures)
    judged = judge(comparisons, baseline, settings, controls)
    if "accuracy" not in trained:  # no run was trained yet
        trained = trained.assign(accuracy=np.nan)
    across = (metrics, baseline, settings, controls, families)
    with threadpool_limits(1):
        ranks, posthoc = rank_tables(runs, *across)
        separation, mediation = separation_tables(runs, trained, *across)
        mixed = mixed_models(runs, trained, *across)
        agreement, concordance = agreement_tables(runs, metrics, settings, controls, families)
    return {
        "comparisons": judged,
        "summary": summary,
        "ranks": ranks,
        "posthoc": posthoc,
        "mixed-models": mixed,
        "components": components(runs, controls),
        "separation": separation,
        "mediation": mediation,
        "agreement": agreement,
        "concordance": concordance,
        "stability": stability_table(runs, judged, baseline, controls, families),
        "settings": settings_table(summary, families),
        "curves": _together([part.curves for part in parts], grid, metrics),
        "runs": runs,
        "models": trained,
        "models-summary": models_summary_table(models, measures),
        "models-comparisons": models_comparisons_table(measures, grid, baseline, settings),
        "coverage": _together([part.coverage for part in parts], grid, metrics),
        "run-times": run_times(root, grid),
        "missing": _missing_table(missing, grid),
    }


def block_tables(
    root: StrPath,
    grid: Grid,
    dataset: str,
    method: str,
    metrics: Mapping[str, MetricInfo],
    right: Right,
    baseline: str,
    settings: Settings,
    *,
    strict: bool = False,
) -> Part:
    """Say all that can be said of one dataset and method alone.

    Args:
        root: the results root.
        grid: for losses and seeds.
        dataset: its name.
        method: its name.
        metrics: what must be known of each metric of the grid.
        right: which images all losses classify right.
        baseline: the loss that all others are compared with.
        settings: how scores are compared.
        strict: raise at the first file that is missing or cannot be read.
    """
    # A matrix product that is split over other numbers of threads may round otherwise.
    with threadpool_limits(1):
        loaded = load_block(root, grid, dataset, method, list(metrics), right, strict=strict)
        return _part(loaded, baseline, metrics, settings)


def _part(
    loaded: LoadedBlock,
    baseline: str,
    metrics: Mapping[str, MetricInfo],
    settings: Settings,
) -> Part:
    runs = run_means(loaded.block, metrics, settings)
    counts = [_reasons(loaded, words) for words in (EMPTY_MAPS, EMPTY_FOILS)]
    keys = list(zip(runs["metric"], runs["loss"], runs["seed"], strict=True))
    runs["n_constant"], runs["n_constant_foil"] = (
        np.array([count.get(key, 0) for key in keys], dtype=np.int64) for count in counts
    )
    return Part(
        compare(loaded.block, runs, baseline, metrics, settings),
        runs,
        coverage_rows(loaded),
        curve_rows(loaded, settings),
        loaded.missing,
    )


def _reasons(loaded: LoadedBlock, words: Collection[str]) -> dict[tuple[str, str, int], int]:
    """Count the scores that are none for one of some reasons, by metric, loss and seed."""
    found: dict[tuple[str, str, int], int] = {}
    for (row, loss, seed, reason), count in loaded.reasons.items():
        if reason in words:
            key = loaded.block.metrics[row], loss, seed
            found[key] = found.get(key, 0) + count
    return found


def _without_scores(
    parts: Sequence[Part],
    blocks: Sequence[tuple[str, str]],
    grid: Grid,
    metrics: Mapping[str, MetricInfo],
    right: Mapping[str, Right],
    baseline: str,
    settings: Settings,
) -> list[Part]:
    """Return rows without numbers for the metrics that a dataset has, but not by some method."""
    found = [list(dict.fromkeys(part.runs["metric"])) for part in parts]
    known: dict[str, set[str]] = {dataset: set() for dataset in grid.datasets}
    for (dataset, _), names in zip(blocks, found, strict=True):
        known[dataset] |= set(names)
    more = []
    for (dataset, method), names in zip(blocks, found, strict=True):
        lacking = [name for name in metrics if name in known[dataset] and name not in names]
        if lacking:
            shape = len(lacking), len(grid.losses), len(grid.seeds), 0
            images = np.empty(0, np.int64)
            block = Block(
                dataset,
                method,
                lacking,
                list(grid.losses),
                list(grid.seeds),
                images,
                np.empty(shape),
                np.full(shape, ABSENT, np.uint8),
                right[dataset].of(grid.losses, grid.seeds, images),
                np.zeros(shape[1:3], dtype=bool),
            )
            more.append(_part(LoadedBlock(block), baseline, metrics, settings))
    return more


def _together(parts: Sequence[pd.DataFrame], grid: Grid, metrics: Collection[str]) -> pd.DataFrame:
    """Put the rows of all blocks together, in the grid's order of dataset, method and metric."""
    full = [part for part in parts if len(part)] or list(parts[:1])
    frame = pd.concat(full, ignore_index=True)
    order = {"dataset": grid.datasets, "method": grid.methods, "metric": list(metrics)}
    keys = frame[list(order)].apply(
        lambda column: column.map({name: at for at, name in enumerate(order[column.name])})
    )
    rows = np.lexsort([keys[name].to_numpy() for name in reversed(list(order))])
    return frame.iloc[rows].reset_index(drop=True)


def _missing_table(rows: Sequence[Mapping[str, str | int]], grid: Grid) -> pd.DataFrame:
    """Return the table `missing`, in the order of the grid."""
    frame = pd.DataFrame(rows, columns=list(MISSING_COLUMNS))
    methods = ["", *grid.methods]
    keys = [
        frame["method"].map(methods.index),
        frame["seed"].map(list(grid.seeds).index),
        frame["loss"].map(list(grid.losses).index),
        frame["dataset"].map(list(grid.datasets).index),
    ]
    rows_in_order = np.lexsort([key.to_numpy(dtype=np.int64) for key in keys])
    return frame.iloc[rows_in_order].reset_index(drop=True)


def summary_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Summarise each loss for each dataset, method and metric that the dataset has.

    Args:
        runs: the table of that name.

    Returns:
        One row a (dataset, method, metric, loss); a loss without scores has zeros and NaN.
    """
    axes = [*_CELL, "loss"]
    rows = runs.assign(
        counts=runs["n_images"] > 0,
        n_rows=runs[["n_images", "n_nan", "n_unavailable", "n_incorrect"]].sum(axis=1),
    )
    frame = (
        rows.groupby([*axes, "category", "direction"], sort=False)
        .agg(
            n_runs=("counts", "sum"),
            n_images=("n_images", "sum"),
            mean=("mean", "mean"),
            sd=("mean", "std"),
            paired_mean=("paired_mean", "mean"),
            n_nan=("n_nan", "sum"),
            n_unavailable=("n_unavailable", "sum"),
            n_incorrect=("n_incorrect", "sum"),
            n_constant=("n_constant", "sum"),
            n_constant_foil=("n_constant_foil", "sum"),
            n_rows=("n_rows", "sum"),
        )
        .reset_index()
    )
    total = frame["n_rows"].where(frame["n_rows"] > 0)
    frame["constant_maps"] = frame["n_constant"] / total
    frame["constant_foils"] = frame["n_constant_foil"] / total
    # Rank 1 is the best loss; where no value is better than another there is no rank.
    paired = frame["paired_mean"]
    ascending = paired.where(frame["direction"] == "lower", -paired)
    ranked = ascending.where(frame["direction"] != "none")
    frame["rank"] = ranked.groupby([frame[axis] for axis in _CELL]).rank(method="min")
    return frame[
        [
            *_CELL,
            "category",
            "direction",
            "loss",
            "n_runs",
            "n_images",
            "mean",
            "sd",
            "paired_mean",
            "n_nan",
            "n_unavailable",
            "n_incorrect",
            "constant_maps",
            "constant_foils",
            "rank",
        ]
    ]


def settings_table(summary: pd.DataFrame, families: Mapping[str, str]) -> pd.DataFrame:
    """Show how the ranking of the losses changes with the settings of a metric.

    Args:
        summary: what `summary_table` returns.
        families: of the metrics that are a setting of something, what they are a setting of.

    Returns:
        One row a (dataset, method, family, setting, loss).
    """
    keys = ["dataset", "method", "family"]
    rows = summary[summary["metric"].isin(list(families))].rename(columns={"metric": "setting"})
    rows = rows.assign(family=rows["setting"].map(families).astype("str"))
    groups = rows.groupby(keys, sort=False)
    agreement = [
        (*group[keys].iloc[0], group["setting"].nunique(), _agreement(group)) for _, group in groups
    ]
    first = rows.assign(first=rows["rank"] == 1).groupby([*keys, "loss"], sort=False)["first"].sum()
    found = rows.merge(pd.DataFrame(agreement, columns=[*keys, "n_settings", "agreement"]), on=keys)
    found = found.merge(first.rename("n_first").reset_index(), on=[*keys, "loss"])
    shown = [*keys, "setting", "direction", "loss", "mean", "sd", "rank"]
    return found[[*shown, "n_first", "n_settings", "agreement"]].astype(
        {"n_first": np.int64, "n_settings": np.int64, "agreement": np.float64}
    )


def _agreement(group: pd.DataFrame) -> float:
    """Return the mean over pairs of settings of Kendall's tau-b between their ranks of losses."""
    ranks = group.pivot(index="loss", columns="setting", values="rank")
    pairs = [kendalltau(ranks[a], ranks[b]).statistic for a, b in combinations(ranks, 2)]
    known = [pair for pair in pairs if np.isfinite(pair)]
    return float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class _Measure:
    """What a comparison must know of a measure of models: its group stands for the category."""

    category: str
    direction: str
    verdict: bool = False


def model_measures(models: Models) -> pd.DataFrame:
    """Return everything that was measured of each model, one number a training run.

    Returns:
        dataset, loss (as strings), seed, group and measure (categorical, in the order of the
        tables), value, direction, reason: one row a (run, measure), in that order.
    """
    predictions = _plain(models.predictions, ["dataset", "loss"])
    heads = [str(name) for name in predictions if str(name).startswith("correct")]
    test = predictions[predictions["split"] == "test"]
    scenes = predictions[
        (predictions["split"] == "evaluation") & (predictions["second_label"] >= 0)
    ]
    parts = []
    for rows, start, chosen in (
        (test, "accuracy", heads),
        (scenes, "accuracy_scenes", ["correct", "correct_prototype"]),
    ):
        names = {head: head.replace("correct", start, 1) for head in chosen}
        shares = rows.groupby(_RUN, sort=False)[chosen].mean().rename(columns=names)
        long = shares.reset_index().melt(_RUN, var_name="measure")
        parts.append(long.assign(group="accuracy", direction="higher", reason=""))
    # The stage `trust` measures the accuracy of the linear head once more, to be whole by itself.
    stored = models.measures[models.measures["measure"] != "accuracy"]
    parts.append(_plain(stored, ["dataset", "loss"]))
    frame = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    frame["group"] = pd.Categorical(frame["group"], GROUPS)
    frame["measure"] = pd.Categorical(
        frame["measure"], sorted(frame["measure"].unique(), key=place)
    )
    runs = models.runs[_RUN].reset_index(names="run")
    frame = frame.merge(runs, on=_RUN).sort_values(["run", "group", "measure"])
    columns = [*_RUN, "group", "measure", "value", "direction", "reason"]
    return frame[columns].reset_index(drop=True)


def _known_measures(measures: pd.DataFrame) -> pd.DataFrame:
    """Return measure (as strings), group and direction of every measure, in the tables' order."""
    known = measures[["measure", "group", "direction"]].drop_duplicates("measure")
    return known.sort_values(["group", "measure"]).astype({"measure": "str"})


def models_table(models: Models, measures: pd.DataFrame) -> pd.DataFrame:
    """Describe each training run: how it ended, its evaluation images and what it measures.

    Args:
        models: for the runs and their predictions.
        measures: what `model_measures` returns.

    Returns:
        One row a (dataset, loss, seed), with one column for each measure that any run has, but for
        accuracies at single severities of corruption. Runs without files have no numbers.
    """
    predictions = _plain(models.predictions, ["dataset", "loss"])
    evaluation = predictions[predictions["split"] == "evaluation"]
    kept = evaluation.groupby(["dataset", "seed", "image"])["correct"].transform("all")
    counts = (
        evaluation.assign(kept=kept)
        .groupby(_RUN)
        .agg(n_evaluation=("kept", "size"), n_kept=("kept", "sum"), share_kept=("kept", "mean"))
    )
    names = [name for name in _known_measures(measures)["measure"] if not is_single_severity(name)]
    plain = measures.astype({"measure": "str"})
    wide = plain.pivot(index=_RUN, columns="measure", values="value")[names]
    accuracies = [name for name in names if name.startswith("accuracy")]
    frame = models.runs
    for part in (wide[accuracies], counts, wide.drop(columns=accuracies)):
        frame = frame.merge(part.reset_index(), on=_RUN, how="left")
    numbers = ["n_evaluation", "n_kept"]
    frame[numbers] = frame[numbers].fillna(0).astype(np.int64)
    return frame


def models_summary_table(models: Models, measures: pd.DataFrame) -> pd.DataFrame:
    """Summarise the models of each dataset and loss over their seeds.

    Args:
        models: for the runs and how they ended.
        measures: what `model_measures` returns.

    Returns:
        One row a (dataset, loss, measure that any loss has on the dataset).
    """
    axes = ["dataset", "loss"]
    runs = models.runs.assign(failed=~models.runs["status"].isin([TRAINED, NOT_THERE]))
    failed = runs.groupby(axes, sort=False)["failed"].sum().rename("n_failed").reset_index()
    keys = [*axes, "measure"]
    pairs = measures[["dataset", "measure"]].drop_duplicates().astype({"measure": "str"})
    # One row for each loss and measure of a dataset; the left side gives the order of the rows.
    frame = failed.merge(_known_measures(measures), how="cross")
    frame = frame.merge(pairs, on=["dataset", "measure"])
    plain = measures.astype({"measure": "str"}).assign(nan=measures["value"].isna())
    found = plain.groupby(keys).agg(
        n_runs=("value", "count"), n_nan=("nan", "sum"), mean=("value", "mean"), sd=("value", "std")
    )
    reasons = plain[plain["nan"]].groupby(keys)["reason"].agg(lambda words: words.mode()[0])
    for part in (found, reasons):
        frame = frame.merge(part.reset_index(), on=keys, how="left")
    frame[["n_runs", "n_nan"]] = frame[["n_runs", "n_nan"]].fillna(0).astype(np.int64)
    frame["reason"] = frame["reason"].astype("str").fillna("")
    counts = ["n_runs", "n_failed", "n_nan"]
    columns = [*axes, "group", "measure", "direction", *counts, "mean", "sd", "reason"]
    return frame[columns].astype({"group": "str"})


def models_comparisons_table(
    measures: pd.DataFrame, grid: Grid, baseline: str, settings: Settings
) -> pd.DataFrame:
    """Compare the models of every two losses by each measure, as maps are compared by metrics.

    A measure is one number a run, so it is compared like a metric with a single image.

    Args:
        measures: what `model_measures` returns.
        grid: the axes.
        baseline: the loss that all others are compared with.
        settings: how; all runs count that have a value, and there are no named families.
    """
    settings = replace(
        settings,
        correct_only=False,
        families={},
        smallest_effects={},
        seed=(*settings.seed, "models"),
    )
    known = _known_measures(measures)
    infos = {
        str(row.measure): _Measure(str(row.group), str(row.direction)) for row in known.itertuples()
    }
    plain = measures.astype({"measure": "str"})
    parts = [
        _compare_models(
            plain[plain["dataset"] == dataset], dataset, infos, grid, baseline, settings
        )
        for dataset in grid.datasets
    ]
    full = [part for part in parts if len(part)] or parts[:1]
    compared = judge(pd.concat(full, ignore_index=True), baseline, settings)
    # There is no deviation between images, so no unit in which a difference could be too small.
    absent = ["method", "n_images", "n_unpaired", "d", "margin", "family"]
    absent += [name for name in COMPARISON_COLUMNS if name.startswith(("p_equivalence", "prob_"))]
    return compared.drop(columns=absent).rename(columns={"metric": "measure", "category": "group"})


def _compare_models(
    measures: pd.DataFrame,
    dataset: str,
    infos: Mapping[str, "_Measure"],
    grid: Grid,
    baseline: str,
    settings: Settings,
) -> pd.DataFrame:
    """Compare the models of one dataset."""
    names = [name for name in infos if name in set(measures["measure"])]
    shape = len(names), len(grid.losses), len(grid.seeds), 1
    values = np.full(shape, np.nan)
    places = [
        measures[axis].map({name: i for i, name in enumerate(known)}).to_numpy(dtype=np.int64)
        for axis, known in (("measure", names), ("loss", grid.losses), ("seed", grid.seeds))
    ]
    values[places[0], places[1], places[2], 0] = measures["value"]
    block = Block(
        dataset,
        "model",
        names,
        list(grid.losses),
        list(grid.seeds),
        np.zeros(1, np.int64),
        values,
        np.where(np.isnan(values), ABSENT, OK).astype(np.uint8),
        np.ones(shape[1:], dtype=bool),
        np.ones(shape[1:3], dtype=bool),
    )
    runs = run_means(block, infos, settings)
    return compare(block, runs, baseline, infos, settings)


def coverage_rows(loaded: LoadedBlock) -> pd.DataFrame:
    """Tell for each metric of a block how many scores are numbers."""
    block = loaded.block
    cells = len(block.losses) * len(block.seeds)
    rows: list[dict[str, Any]] = []
    for row, metric in enumerate(block.metrics):
        status = block.status[row]
        n_rows = int((status != ABSENT).sum())
        reasons: dict[str, int] = {}
        for (place_, _, _, reason), count in loaded.reasons.items():
            if place_ == row:
                reasons[reason] = reasons.get(reason, 0) + count
        # The commonest; of equally common ones the first by name.
        reason, count = min(reasons.items(), key=lambda one: (-one[1], one[0]), default=("", 0))
        rows.append(
            {
                "dataset": block.dataset,
                "method": block.method,
                "metric": metric,
                "n_cells": cells,
                "n_cells_found": int((status != ABSENT).any(axis=2).sum()),
                "n_rows": n_rows,
                **{
                    name: (status == code).sum() / n_rows if n_rows else math.nan
                    for code, name in enumerate(STATUSES)
                },
                "reason": reason,
                "n_reason": count,
            }
        )
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))


def curve_rows(loaded: LoadedBlock, settings: Settings) -> pd.DataFrame:
    """Average the curves of a block over images, then over runs.

    Args:
        loaded: the block with its curves.
        settings: whether only correctly classified images count.
    """
    block = loaded.block
    rows: list[pd.DataFrame] = []
    for row, axis in sorted(loaded.axes.items()):
        counted = block.counted(row, correct_only=settings.correct_only)
        points = list(axis["at"])
        named = any(isinstance(point, str) for point in points)
        for i, loss in enumerate(block.losses):
            means = []
            for k, seed in enumerate(block.seeds):
                images, curves = loaded.curves.get((row, loss, seed), (np.empty(0, np.int64), None))
                used = counted[i, k, np.searchsorted(block.images, images)]
                if curves is not None and used.any():
                    means.append(curves[used].mean(axis=0))
            if means:
                stack = np.stack(means)
                rows.append(
                    pd.DataFrame(
                        {
                            "dataset": block.dataset,
                            "method": block.method,
                            "metric": block.metrics[row],
                            "loss": loss,
                            "point": np.arange(len(points), dtype=np.int64),
                            "at": np.full(len(points), np.nan)
                            if named
                            else np.array(points, float),
                            "label": [str(point) if named else "" for point in points],
                            "axis": str(axis["axis"]),
                            "n_runs": len(stack),
                            "mean": stack.mean(axis=0),
                            "sd": stack.std(axis=0, ddof=1)
                            if len(stack) > 1
                            else np.full(len(points), np.nan),
                        }
                    )
                )
    if not rows:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.concat(rows, ignore_index=True)[list(CURVE_COLUMNS)]


def _plain(frame: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return a small frame with its named axes as strings instead of categories."""
    return frame.astype({axis: "str" for axis in axes if axis != "seed"})
