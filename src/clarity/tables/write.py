"""Write: owns the formats of the tables and what their columns mean; computes nothing.

Parquet for programs, CSV for everybody, LaTeX for papers, and a README that describes each column.
The same tables give the same bytes.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from clarity import storage
from clarity.statistics.significance import smallest_p
from clarity.storage import StrPath
from clarity.tables.measures import meaning

PURPOSES = {
    "comparisons": "Two losses on the same images of the same seeds: one row for each dataset, "
    "method, metric and pair of losses. The unit is the training run.",
    "summary": "Each loss by itself: one row for each dataset, method, metric and loss. Its means "
    "are over all images that the loss has a score for, those of comparisons over paired images.",
    "settings": "How the ranking of the losses changes with the settings of a metric, which are a "
    "hidden choice: one row for each dataset, method, family of settings, setting and loss. Empty "
    "if no metric has `settings`.",
    "models": "Each training run: one row for each dataset, loss and seed. A row without numbers "
    "is a run whose files are missing.",
    "models-summary": "What is measured of models, over seeds: one row for each dataset, loss and "
    "measure. Rows by group: accuracy, calibration, geometry of the embeddings, detection of "
    "images of another dataset, accuracy under attack and on corrupted images.",
    "models-comparisons": "Two losses by the measures of their models, paired by seed: one row for "
    "each dataset, measure and pair of losses. One number a training run.",
    "coverage": "How many scores are numbers: one row for each dataset, method and metric.",
    "missing": "Files that could not be read, and so are in no other table: one row a file.",
}

_AXES = {
    "dataset": "dataset recipe",
    "method": "method recipe: how maps are computed and which score they explain",
    "metric": "metric recipe",
    "category": "group of metrics that the metric belongs to",
    "direction": "which values are better: higher, lower, or none if neither is",
    "loss": "loss recipe",
    "seed": "seed of the training run",
}

COLUMNS: dict[str, dict[str, str]] = {
    "comparisons": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric", "category", "direction")},
        "loss": "the loss that the row is about",
        "baseline": "the loss that it is compared with: the configured baseline or, of two others, "
        "the one that comes first in the config",
        "n_runs": "number of training runs (seeds) of each loss with at least one paired image",
        "n_images": "number of paired images, summed over runs; an image is paired if both losses "
        "have a score for it and, with correct-only, all losses of the grid classify it right at "
        "this seed. It is no sample size: images of one run are not independent",
        "mean": "mean of the loss: over runs, of the mean over the run's paired images",
        "mean_baseline": "the same for the baseline, on the same images",
        "difference": "mean minus mean_baseline",
        "ci_low": "lower end of the interval of the difference: hierarchical percentile bootstrap, "
        "runs then images within each drawn run. With few runs it is too narrow: with 3 runs a "
        "95 % interval covers about 75 %. Empty with a single run",
        "ci_high": "upper end of that interval",
        "effect_size": "Hedges' g of the run means: difference over the standard deviation between "
        "runs of one loss (pooled), times the small-sample factor 1 - 3 / (8 n - 9). Empty with "
        "fewer than two runs, or if runs do not differ at all",
        "p": "two-sided p of the paired sign-flip permutation test on the runs' differences, exact "
        "up to 16 runs",
        "p_holm": "p adjusted by Holm within a family: all rows of one metric, over datasets, "
        "methods and pairs of losses; the control methods are a family of their own",
        "verdict": "better or worse (of loss, by the metric's direction; different if it has none) "
        "if p_holm is below 1 - confidence and the interval excludes 0; else inconclusive, which "
        "is not evidence of no difference; no data if no image is paired",
    },
    "summary": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric", "category", "direction")},
        "loss": _AXES["loss"],
        "n_runs": "number of training runs with at least one image that counts",
        "n_images": "number of scores that count, summed over runs: status ok and, with "
        "correct-only, classified right by all losses of the grid at this seed",
        "mean": "mean over runs of the mean over the run's images that count",
        "sd": "standard deviation of the run means (n - 1); empty with a single run",
        "n_nan": "number of scores that the metric could not give (status nan)",
        "n_unavailable": "number of scores without a map to score (status unavailable)",
        "n_incorrect": "number of scores that are ok, but left out by correct-only. n_images, "
        "n_nan, n_unavailable and n_incorrect add up to all scores",
        "constant_maps": "share of all scores that failed because the map has one value "
        "everywhere, or no positive one where only those count",
        "constant_foils": "share that failed because the map of the foil has one value everywhere: "
        "such maps are counted here and never compared as if they were maps",
        "rank": "rank of the loss by its mean within dataset, method and metric; 1 is best, ties "
        "share the better rank; empty if the metric has no direction",
    },
    "settings": {
        **{axis: _AXES[axis] for axis in ("dataset", "method")},
        "family": "the entry of the config whose settings are compared",
        "setting": "the metric: one of its settings",
        "direction": _AXES["direction"],
        "loss": _AXES["loss"],
        "mean": "as in summary",
        "sd": "as in summary",
        "rank": "rank of the loss under this setting, as in summary",
        "n_first": "number of settings under which the loss ranks first",
        "n_settings": "number of settings of the family",
        "agreement": "mean over pairs of settings of Kendall's tau-b between their ranks of the "
        "losses: 1 if the setting does not matter, below 0 if it turns the ranking round; empty "
        "where there is no ranking to compare",
    },
    "models": {
        "dataset": _AXES["dataset"],
        "loss": _AXES["loss"],
        "seed": _AXES["seed"],
        "status": "how the training ended: ok; diverged or collapsed, then the run has no numbers "
        "and counts nowhere; or missing, if its files are",
        "status_epoch": "the epoch in which it failed; empty if it did not",
        "status_reason": "why it failed; empty if it did not",
        "images_seen": "training images seen, those of every epoch and view: the compute budget",
        "n_evaluation": "number of evaluation images, scenes included",
        "n_kept": "how many of them all losses of the grid classify right at this seed, so that "
        "correct-only keeps them; the same for all losses",
        "share_kept": "n_kept over n_evaluation",
    },
    "models-summary": {
        "dataset": _AXES["dataset"],
        "loss": _AXES["loss"],
        "group": "group of measures that the measure belongs to",
        "measure": "what is measured; those of models, and accuracy at each severity of corruption",
        "direction": _AXES["direction"],
        "n_runs": "number of training runs that have a number",
        "n_failed": "number of training runs that failed: diverged or collapsed",
        "n_nan": "number of training runs of which it has no value, see reason",
        "mean": "mean over runs",
        "sd": "standard deviation over runs (n - 1); empty with a single run",
        "reason": "the commonest reason of those without a value",
    },
    "models-comparisons": {
        "dataset": _AXES["dataset"],
        "measure": "what is measured, as in models-summary",
        "group": "group of measures that the measure belongs to",
        "direction": _AXES["direction"],
        "loss": "the loss that the row is about",
        "baseline": "the loss that it is compared with, as in comparisons",
        "n_runs": "number of seeds at which both losses have a number",
        "mean": "mean of the loss over these seeds",
        "mean_baseline": "the same for the baseline",
        "difference": "mean minus mean_baseline",
        "ci_low": "lower end of the interval of the difference: percentile bootstrap over seeds, "
        "as in comparisons. With few runs it is too narrow. Empty with a single run",
        "ci_high": "upper end of that interval",
        "effect_size": "Hedges' g, as in comparisons",
        "p": "two-sided p of the paired sign-flip permutation test, as in comparisons",
        "p_holm": "p adjusted by Holm within a family: all rows of one measure, over datasets and "
        "pairs of losses",
        "verdict": "better, worse, different, inconclusive or no data, as in comparisons",
    },
    "coverage": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric")},
        "n_cells": "number of cells (loss, seed) that the grid has here",
        "n_cells_found": "number of those whose score file has this metric",
        "n_rows": "number of scores in these files",
        "ok": "share of the scores that are numbers",
        "nan": "share that the metric could not give",
        "unavailable": "share without a map to score",
        "reason": "the commonest reason of scores that are not ok; empty if all are",
        "n_reason": "number of scores with this reason",
    },
    "missing": {
        **{axis: _AXES[axis] for axis in ("dataset", "loss", "seed")},
        "method": _AXES["method"] + "; empty if the file belongs to the whole run",
        "artifact": "name of the file",
        "reason": "what is wrong with it",
    },
}

_EXPLANATION = f"""\
Each table is here as `.parquet` and `.csv` (six significant digits; empty where there is no
number), some also as `.tex`: `\\input` it in a document that loads `booktabs` and `longtable`.

The smallest p that the test can give is 2 / 2^n with n training runs: {smallest_p(3)} with 3,
{smallest_p(5)} with 5, {smallest_p(6):.3f} with 6, {smallest_p(10):.4f} with 10. With three seeds
every verdict is therefore "inconclusive", whatever the data. A family of m tests needs at least
1 + log2(m / (1 - confidence)) runs before any of them can be significant on its own.
"""


def write_tables(tables: Mapping[str, pd.DataFrame], folder: StrPath) -> None:
    """Write each table as parquet and CSV, those of `LATEX` also as LaTeX, and a README.md.

    Args:
        tables: those of `clarity.tables.build.build_tables`, by name.
        folder: where they go.

    Raises:
        ValueError: if a column has no description.
    """
    target = Path(folder)
    storage.write_text(target / "README.md", readme(tables))
    for name, frame in tables.items():
        storage.write_table(target / f"{name}.parquet", frame)
        text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        storage.write_text(target / f"{name}.csv", text)
        if name in LATEX:
            storage.write_text(target / f"{name}.tex", latex(name, frame))


def readme(tables: Mapping[str, pd.DataFrame]) -> str:
    """Describe each table and each of its columns, in Markdown.

    Raises:
        ValueError: if a column has no description.
    """
    parts = ["# Tables\n", _EXPLANATION]
    for name, frame in tables.items():
        parts += [f"## {name}\n", f"{PURPOSES[name]}\n", "| column | meaning |", "|---|---|"]
        parts += [f"| `{column}` | {describe(name, str(column))} |" for column in frame]
        parts.append("")
    return "\n".join(parts)


def describe(table: str, column: str) -> str:
    """Return what a column of a table means.

    Raises:
        ValueError: if it has no description.
    """
    if column in COLUMNS[table]:
        return COLUMNS[table][column]
    if table != "models":
        raise ValueError(f"column '{column}' of the table '{table}' has no description")
    return meaning(column)


def latex(name: str, frame: pd.DataFrame) -> str:
    r"""Return a table of `LATEX` as a booktabs longtable, ready to `\input`."""
    shown, names = LATEX[name](frame)
    styler = shown.style.hide(axis="index").format(escape="latex", subset=pd.Index(names))
    table: str = styler.format_index(escape="latex", axis=1).to_latex(
        environment="longtable",
        hrules=True,
        column_format="".join("l" if column in names else "r" for column in shown),
        caption=_CAPTIONS[name],
        label=f"tab:{name}",
    )
    return (
        "% needs \\usepackage{booktabs,longtable}\n"
        f"\\begingroup\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\n{table}\\endgroup\n"
    )


def number(value: float) -> str:
    """Return a number with three significant digits in LaTeX; a dash if there is none."""
    if math.isnan(value):
        return "--"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"${mantissa} \\times 10^{{{int(exponent)}}}$" if exponent else f"${mantissa}$"


def p_value(value: float) -> str:
    """Return a p value with three decimals in LaTeX; a dash if there is none."""
    if math.isnan(value):
        return "--"
    return "$<0.001$" if value < 0.001 else f"${value:.3f}$"


def with_sd(mean: float, sd: float) -> str:
    """Return mean and standard deviation in LaTeX, both to the second digit of the latter."""
    if math.isnan(sd) or sd == 0:
        return number(mean)
    decimals = 1 - math.floor(math.log10(sd))
    if not 0 <= decimals <= 6 or abs(mean) >= 1e6:
        return f"{number(mean)} $\\pm$ {number(sd)}"
    return f"${mean:.{decimals}f} \\pm {sd:.{decimals}f}$"


def _interval(low: float, high: float) -> str:
    return "--" if math.isnan(low) else f"[{number(low)}, {number(high)}]"


def _decimals(value: float) -> str:
    return "--" if math.isnan(value) else f"${value:.3f}$"


def _comparisons(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    names = ["dataset", "method", "metric", "direction", "loss", "baseline", "verdict"]
    shown = frame[[*names[:-1], "n_runs", "n_images"]].assign(
        difference=[number(value) for value in frame["difference"]],
        interval=[*map(_interval, frame["ci_low"], frame["ci_high"])],
        g=[number(value) for value in frame["effect_size"]],
        p=[p_value(value) for value in frame["p"]],
        p_holm=[p_value(value) for value in frame["p_holm"]],
        verdict=frame["verdict"],
    )
    return _titled(shown, names)


def _summary(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    names = ["dataset", "method", "metric", "direction", "loss"]
    counts = ["n_runs", "n_images", "n_nan", "n_unavailable", "n_incorrect"]
    shown = frame[[*names, *counts[:2]]].assign(
        mean_sd=[*map(with_sd, frame["mean"], frame["sd"])],
        rank=["--" if math.isnan(rank) else f"{rank:.0f}" for rank in frame["rank"]],
        **{count: frame[count] for count in counts[2:]},
    )
    return _titled(shown, names)


def _models(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    names = ["dataset", "loss", "status"]
    frame = frame[[*(column for column in _MODELS if column in frame)]]
    decimals = [c for c in frame if frame[c].dtype.kind == "f"]
    shown = frame.assign(**{str(c): [_decimals(value) for value in frame[c]] for c in decimals})
    return _titled(shown, names)


def _titled(shown: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Give the columns titles for people; return also the titles of those that hold names."""
    titles = {str(column): _TITLES.get(str(column), str(column)) for column in shown}
    return shown.rename(columns=titles), [titles[name] for name in names]


#: The columns of models that fit on a page.
_MODELS = (
    "dataset",
    "loss",
    "seed",
    "status",
    "accuracy",
    "accuracy_prototype",
    "accuracy_scenes",
    "n_evaluation",
    "n_kept",
    "silhouette",
    "map-at-r",
    "ece",
    "corruption-mean",
)

_TITLES = {
    "direction": "better",
    "n_runs": "runs",
    "n_images": "images",
    "p_holm": "p (Holm)",
    "mean_sd": "mean ± sd",
    "n_nan": "NaN",
    "n_unavailable": "unavailable",
    "n_incorrect": "misclassified",
    "accuracy_prototype": "accuracy (prototypes)",
    "accuracy_scenes": "scenes",
    "accuracy_scenes_prototype": "scenes (prototypes)",
    "n_evaluation": "images",
    "n_kept": "kept",
    "share_kept": "share kept",
}

_CAPTIONS = {
    "comparisons": "Losses compared on the same images of the same seeds. The unit is the training "
    "run; difference with its bootstrap interval, Hedges' g, exact sign-flip p, adjusted by Holm.",
    "summary": "Mean and standard deviation over training runs.",
    "models": "Training runs: accuracy, evaluation images kept, geometry of the embeddings, trust.",
}

#: The tables that are written as LaTeX, and what is shown of them: the columns, and which of those
#: hold names.
LATEX: dict[str, Callable[[pd.DataFrame], tuple[pd.DataFrame, list[str]]]] = {
    "comparisons": _comparisons,
    "summary": _summary,
    "models": _models,
}
