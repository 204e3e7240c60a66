"""Build: owns what stands in each table of a grid; knows no formats, and no statistics of its own.

Tables are built from what is there; what is not there stands in the table `missing`, and shows as
rows without numbers in the others. Every row of a score file is counted in exactly one column of
`summary`: used, NaN, unavailable, or left out because a loss misclassifies its image.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from clarity.grid import Cell
from clarity.statistics.comparisons import MetricInfo, Settings, compare, mark_correct
from clarity.storage import StrPath
from clarity.tables.load import (
    MISSING_COLUMNS,
    NOT_THERE,
    OK,
    SCORES,
    STATUSES,
    Loaded,
    load_scores,
)
from clarity.tables.measures import GROUPS, is_single_severity, place

#: The reasons of scores that are none because the map had nothing to judge, and because that of the
#: foil had.
EMPTY_MAPS = ("constant map", "no positive mass")
EMPTY_FOILS = ("constant foil map",)

#: No metric is a setting of something.
NO_FAMILIES: Mapping[str, str] = {}

_CELL = ["dataset", "method", "metric"]
_RUN = ["dataset", "loss", "seed"]


def build_tables(
    root: StrPath,
    cells: Sequence[Mapping[str, str | int]],
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    controls: Collection[str] = (),
    settings: Settings | None = None,
    *,
    families: Mapping[str, str] = NO_FAMILIES,
    strict: bool = False,
) -> dict[str, pd.DataFrame]:
    """Build all tables of a grid from the files of its cells.

    Args:
        root: the results root, with hive folders.
        cells: each with keys dataset, loss, seed and method. The order in which a name first
            comes is its order in every table, and of two losses, neither the baseline, the
            earlier is the baseline of the pair.
        metrics: category and direction of each metric of the grid, in the order of the tables.
        baseline: the loss that all others are compared with.
        controls: the methods that look at neither model nor class.
        settings: how scores are compared; the defaults of `Settings` if not given.
        families: of the metrics that are a setting of something, what they are a setting of.
        strict: raise at the first file that is missing or cannot be read.

    Returns:
        comparisons, summary, settings, models, models-summary, models-comparisons, coverage and
        missing. The columns are described in `clarity.tables.write.COLUMNS`. Scores of a metric
        that the grid does not name are left out and stand in missing.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
        ValueError: if there is no cell, one twice, or ``baseline`` is the loss of none.
    """
    settings = settings or Settings()
    loaded = load_scores(root, cells, strict=strict)
    scores, stale = _only_metrics(loaded.scores, list(metrics))
    evaluated = loaded.predictions[loaded.predictions["split"] == "evaluation"]
    scores["correct"] = mark_correct(scores, evaluated)
    measures = model_measures(loaded)
    summary = summary_table(scores, metrics, settings)
    return {
        "comparisons": compare(scores, baseline, metrics, settings, controls),
        "summary": summary,
        "settings": settings_table(summary, families),
        "models": models_table(loaded, measures),
        "models-summary": models_summary_table(loaded, measures),
        "models-comparisons": models_comparisons_table(loaded, measures, baseline, settings),
        "coverage": coverage_table(scores, loaded.cells),
        "missing": pd.concat([loaded.missing, stale], ignore_index=True),
    }


def _only_metrics(scores: pd.DataFrame, metrics: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the grid's metrics, in its order, and the cells that hold others."""
    known = scores["metric"].isin(metrics).to_numpy()
    stale = (
        scores.loc[~known, ["dataset", "loss", "seed", "method", "metric"]]
        .drop_duplicates()
        .assign(
            artifact=SCORES,
            reason=lambda rows: [
                f"left out: the grid has no metric '{metric}'" for metric in rows["metric"]
            ],
        )
    )
    kept = scores if known.all() else scores[known].reset_index(drop=True)
    return (
        kept.assign(metric=kept["metric"].cat.set_categories(metrics)),
        stale[list(MISSING_COLUMNS)].astype({"dataset": str, "loss": str, "method": str}),
    )


def summary_table(
    scores: pd.DataFrame, metrics: Mapping[str, MetricInfo], settings: Settings
) -> pd.DataFrame:
    """Summarise each loss for each dataset, method and metric that the dataset has.

    Args:
        scores: as for `clarity.statistics.comparisons.compare`, with reason.
        metrics: category and direction of each metric.
        settings: whether only correctly classified images count.

    Returns:
        One row a (dataset, method, metric, loss); a loss without scores has zeros and NaN.
    """
    axes = [*_CELL, "loss"]
    status = scores["status"]
    ok = status == "ok"
    counted = ok & scores["correct"] if settings.correct_only else ok
    runs = scores[counted].groupby([*axes, "seed"], observed=True)["value"].agg(["mean", "count"])
    over_runs = runs.groupby(axes, observed=True).agg(
        n_runs=("mean", "count"),
        n_images=("count", "sum"),
        mean=("mean", "mean"),
        sd=("mean", "std"),
    )
    flags = pd.DataFrame(
        {
            "n_rows": True,
            "n_nan": status == "nan",
            "n_unavailable": status == "unavailable",
            "n_incorrect": ok & ~counted,
            "n_constant": scores["reason"].isin(EMPTY_MAPS),
            "n_constant_foil": scores["reason"].isin(EMPTY_FOILS),
        }
    )
    counts = flags.groupby([scores[axis] for axis in axes], observed=True).sum()
    totals = over_runs.join(counts, how="outer").reset_index()
    frame = _grid_rows(scores, axes).merge(_plain(totals, axes), on=axes, how="left")
    numbers = ["n_runs", "n_images", "n_nan", "n_unavailable", "n_incorrect"]
    frame[numbers] = frame[numbers].fillna(0).astype(np.int64)
    frame["constant_maps"] = frame["n_constant"] / frame["n_rows"]
    frame["constant_foils"] = frame["n_constant_foil"] / frame["n_rows"]
    frame["category"] = [metrics[metric].category for metric in frame["metric"]]
    frame["direction"] = [metrics[metric].direction for metric in frame["metric"]]
    # Rank 1 is the best loss; where no value is better than another there is no rank.
    ascending = frame["mean"].where(frame["direction"] == "lower", -frame["mean"])
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


def model_measures(loaded: Loaded) -> pd.DataFrame:
    """Return everything that was measured of each model, one number a training run.

    Returns:
        dataset, loss (as strings), seed, group and measure (categorical, in the order of the
        tables), value, direction, reason: one row a (run, measure), in that order.
    """
    predictions = _plain(loaded.predictions, ["dataset", "loss"])
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
    stored = loaded.measures[loaded.measures["measure"] != "accuracy"]
    parts.append(_plain(stored, ["dataset", "loss"]))
    frame = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    frame["group"] = pd.Categorical(frame["group"], GROUPS)
    frame["measure"] = pd.Categorical(
        frame["measure"], sorted(frame["measure"].unique(), key=place)
    )
    runs = loaded.runs[_RUN].reset_index(names="run")
    frame = frame.merge(runs, on=_RUN).sort_values(["run", "group", "measure"])
    columns = [*_RUN, "group", "measure", "value", "direction", "reason"]
    return frame[columns].reset_index(drop=True)


def _known_measures(measures: pd.DataFrame) -> pd.DataFrame:
    """Return measure (as strings), group and direction of every measure, in the tables' order."""
    known = measures[["measure", "group", "direction"]].drop_duplicates("measure")
    return known.sort_values(["group", "measure"]).astype({"measure": "str"})


def models_table(loaded: Loaded, measures: pd.DataFrame) -> pd.DataFrame:
    """Describe each training run: how it ended, its evaluation images and what it measures.

    Args:
        loaded: for the runs and their predictions.
        measures: what `model_measures` returns.

    Returns:
        One row a (dataset, loss, seed), with one column for each measure that any run has, but for
        accuracies at single severities of corruption. Runs without files have no numbers.
    """
    predictions = _plain(loaded.predictions, ["dataset", "loss"])
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
    frame = loaded.runs
    for part in (wide[accuracies], counts, wide.drop(columns=accuracies)):
        frame = frame.merge(part.reset_index(), on=_RUN, how="left")
    numbers = ["n_evaluation", "n_kept"]
    frame[numbers] = frame[numbers].fillna(0).astype(np.int64)
    return frame


def models_summary_table(loaded: Loaded, measures: pd.DataFrame) -> pd.DataFrame:
    """Summarise the models of each dataset and loss over their seeds.

    Args:
        loaded: for the runs and how they ended.
        measures: what `model_measures` returns.

    Returns:
        One row a (dataset, loss, measure that any loss has on the dataset).
    """
    axes = ["dataset", "loss"]
    runs = loaded.runs.assign(failed=~loaded.runs["status"].isin([OK, NOT_THERE]))
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
    loaded: Loaded, measures: pd.DataFrame, baseline: str, settings: Settings
) -> pd.DataFrame:
    """Compare the models of every two losses by each measure, as maps are compared by metrics.

    A measure is one number a run, so it is compared like a metric with a single image.

    Args:
        loaded: for the grid.
        measures: what `model_measures` returns.
        baseline: the loss that all others are compared with.
        settings: how; all runs count that have a value.
    """
    infos = {
        str(row.measure): _Measure(str(row.group), str(row.direction))
        for row in _known_measures(measures).itertuples()
    }
    finite = measures["value"].notna()
    scores = pd.DataFrame(
        {
            "dataset": pd.Categorical(measures["dataset"], loaded.runs["dataset"].unique()),
            "loss": pd.Categorical(measures["loss"], loaded.runs["loss"].unique()),
            "seed": measures["seed"],
            "method": pd.Categorical(["model"] * len(measures), ["model"]),
            "metric": pd.Categorical(measures["measure"].astype("str"), list(infos)),
            "image": 0,
            "value": measures["value"],
            "status": np.where(finite, "ok", "nan"),
        }
    )
    compared = compare(
        scores,
        baseline,
        infos,
        replace(settings, correct_only=False, seed=(*settings.seed, "models")),
    )
    return compared.drop(columns=["method", "n_images"]).rename(
        columns={"metric": "measure", "category": "group"}
    )


def coverage_table(scores: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Tell for each dataset, method and metric that the dataset has how many scores are numbers."""
    expected = pd.DataFrame(
        [(cell.run.dataset, cell.method) for cell in cells], columns=_CELL[:2]
    ).value_counts(sort=False)
    found = scores[[*_CELL, "loss", "seed"]].drop_duplicates()
    groups = scores.groupby(_CELL, observed=True)["status"]
    totals = groups.value_counts().unstack("status").reindex(columns=list(STATUSES)).fillna(0)
    reasons = (
        scores[scores["status"] != "ok"]
        .groupby([*_CELL, "reason"], observed=True)
        .size()
        .rename("n_reason")
        .reset_index()
        .sort_values("n_reason", ascending=False, kind="stable")
        .drop_duplicates(_CELL)
    )
    frame = _grid_rows(scores, _CELL)
    n_rows = totals.sum(axis=1)
    for part in (
        expected.rename("n_cells").reset_index(),
        found.groupby(_CELL, observed=True).size().rename("n_cells_found").reset_index(),
        n_rows.rename("n_rows").reset_index(),
        totals.div(n_rows, axis=0).reset_index(),
        reasons,
    ):
        keys = [axis for axis in _CELL if axis in part]
        frame = frame.merge(_plain(part, keys), on=keys, how="left")
    frame["reason"] = frame["reason"].astype("str").fillna("")
    counts = ["n_cells", "n_cells_found", "n_rows", "n_reason"]
    frame[counts] = frame[counts].fillna(0).astype(np.int64)
    return frame[[*_CELL, *counts[:3], *STATUSES, "reason", "n_reason"]]


def _grid_rows(scores: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return each combination of the axes whose metric the dataset has, in the grid's order."""
    pairs = scores[["dataset", "metric"]].drop_duplicates()
    known = set(zip(pairs["dataset"], pairs["metric"], strict=True))
    names = [list(scores[axis].cat.categories) for axis in axes]
    rows = pd.MultiIndex.from_product(names, names=axes).to_frame(index=False)
    has = [pair in known for pair in zip(rows["dataset"], rows["metric"], strict=True)]
    return rows[has].reset_index(drop=True)


def _plain(frame: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Return a small frame with its named axes as strings instead of categories."""
    return frame.astype({axis: "str" for axis in axes if axis != "seed"})
