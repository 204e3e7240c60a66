"""Build: owns what stands in each table of a grid; knows no formats, and no statistics of its own.

Tables are built from what is there; what is not there stands in the table `missing`, and shows as
rows without numbers in the others. Every row of a score file is counted in exactly one column of
`summary`: used, NaN, unavailable, or left out because a loss misclassifies its image.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from clarity.grid import Cell
from clarity.statistics.comparisons import MetricInfo, Settings, compare, mark_correct
from clarity.storage import StrPath
from clarity.tables.load import MISSING_COLUMNS, SCORES, STATUSES, Loaded, load_scores

#: A reason that holds this word says that the map had one value everywhere.
CONSTANT = "constant"

_CELL = ["dataset", "method", "metric"]


def build_tables(
    root: StrPath,
    cells: Sequence[Mapping[str, str | int]],
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    controls: Collection[str] = (),
    settings: Settings | None = None,
    *,
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
        strict: raise at the first file that is missing or cannot be read.

    Returns:
        comparisons, summary, models, models-summary, coverage and missing. The columns are
        described in `clarity.tables.write.COLUMNS`. Scores of a metric that the grid does not
        name are left out and stand in missing.

    Raises:
        clarity.storage.CorruptArtifact: if ``strict`` and a file is missing or cannot be read.
        ValueError: if there is no cell, one twice, or ``baseline`` is the loss of none.
    """
    settings = settings or Settings()
    loaded = load_scores(root, cells, strict=strict)
    scores, stale = _only_metrics(loaded.scores, list(metrics))
    evaluated = loaded.predictions[loaded.predictions["split"] == "evaluation"]
    scores["correct"] = mark_correct(scores, evaluated)
    models = models_table(loaded)
    return {
        "comparisons": compare(scores, baseline, metrics, settings, controls),
        "summary": summary_table(scores, metrics, settings),
        "models": models,
        "models-summary": models_summary_table(models, loaded.geometry),
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
    constant_reasons = [r for r in scores["reason"].cat.categories if CONSTANT in r.lower()]
    flags = pd.DataFrame(
        {
            "n_rows": True,
            "n_nan": status == "nan",
            "n_unavailable": status == "unavailable",
            "n_incorrect": ok & ~counted,
            "n_constant": scores["reason"].isin(constant_reasons),
        }
    )
    counts = flags.groupby([scores[axis] for axis in axes], observed=True).sum()
    totals = over_runs.join(counts, how="outer").reset_index()
    frame = _grid_rows(scores, axes).merge(_plain(totals, axes), on=axes, how="left")
    numbers = ["n_runs", "n_images", "n_nan", "n_unavailable", "n_incorrect"]
    frame[numbers] = frame[numbers].fillna(0).astype(np.int64)
    frame["constant_maps"] = frame["n_constant"] / frame["n_rows"]
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
            "rank",
        ]
    ]


def models_table(loaded: Loaded) -> pd.DataFrame:
    """Describe each training run: its accuracies, its evaluation images and its geometry.

    Returns:
        One row a (dataset, loss, seed), with one column for each measure of geometry that any run
        has. Runs without predictions or geometry have no numbers.
    """
    axes = ["dataset", "loss", "seed"]
    runs = dict.fromkeys(cell.run for cell in loaded.cells)
    frame = pd.DataFrame([(run.dataset, run.loss, run.seed) for run in runs], columns=axes)
    predictions = _plain(loaded.predictions, axes)
    test = predictions[predictions["split"] == "test"]
    evaluation = predictions[predictions["split"] == "evaluation"]
    scenes = evaluation[evaluation["second_label"] >= 0]
    kept = evaluation.groupby(["dataset", "seed", "image"])["correct"].transform("all")
    geometry = _plain(loaded.geometry, axes)
    for part in (
        test.groupby(axes).agg(
            accuracy=("correct", "mean"), accuracy_prototype=("correct_prototype", "mean")
        ),
        scenes.groupby(axes).agg(
            accuracy_scenes=("correct", "mean"),
            accuracy_scenes_prototype=("correct_prototype", "mean"),
        ),
        evaluation.assign(kept=kept)
        .groupby(axes)
        .agg(n_evaluation=("kept", "size"), n_kept=("kept", "sum"), share_kept=("kept", "mean")),
        geometry.pivot(index=axes, columns="measure", values="value"),
    ):
        frame = frame.merge(part.reset_index(), on=axes, how="left")
    counts = ["n_evaluation", "n_kept"]
    frame[counts] = frame[counts].fillna(0).astype(np.int64)
    return frame


def models_summary_table(models: pd.DataFrame, geometry: pd.DataFrame) -> pd.DataFrame:
    """Summarise the models of each dataset and loss over their seeds, one row a measure."""
    axes = ["dataset", "loss"]
    columns = [str(name) for name in models]
    directions = {name: "higher" for name in columns if name.startswith("accuracy")}
    directions["share_kept"] = "none"
    directions |= dict(zip(geometry["measure"], geometry["direction"], strict=True))
    measures = [name for name in columns if name in directions]
    # Unsorted groups come in the order of the grid, melted rows in that of the measures.
    place = models.groupby(axes, sort=False).ngroup()
    long = models.assign(place=place).melt([*axes, "place"], measures, "measure")
    frame = (
        long.groupby(["place", *axes, "measure"], sort=False)["value"]
        .agg(n_runs="count", mean="mean", sd="std")
        .reset_index()
        .sort_values("place", kind="stable", ignore_index=True)
    )
    frame["direction"] = frame["measure"].map(directions)
    return frame[[*axes, "measure", "direction", "n_runs", "mean", "sd"]]


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
