"""Write: owns the formats of the tables; what their columns mean is `columns`. Computes nothing.

Parquet for programs, CSV for everybody, LaTeX for papers, and a README that describes each column.
The same tables give the same bytes.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from clarity import storage
from clarity.statistics.responses import ALL
from clarity.statistics.significance import smallest_p
from clarity.storage import StrPath
from clarity.tables.columns import PURPOSES, describe

_EXPLANATION = f"""\
Each table is here as `.parquet` and `.csv` (six significant digits; empty where there is no
number), some also as `.tex`: `\\input` it in a document that loads `booktabs` and `longtable`.

The smallest p that the test can give is 2 / 2^n with n training runs: {smallest_p(3)} with 3,
{smallest_p(5)} with 5, {smallest_p(6):.3f} with 6, {smallest_p(10):.4f} with 10. With three seeds
no verdict can therefore be "better" or "worse", whatever the data. A family of m tests needs at
least 1 + log2(m / (1 - confidence)) runs before any of them can be significant on its own.
"""


def write_tables(tables: Mapping[str, pd.DataFrame], folder: StrPath) -> None:
    """Write each table as parquet and CSV, those of `SHOWN` also as LaTeX, and a README.md.

    The record `manifest.json` has the digests of all of them.

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
        if name in SHOWN:
            storage.write_text(target / f"{name}.tex", latex(name, frame))
    kinds = [(name, kind) for name in tables for kind in ("parquet", "csv")]
    kinds += [(name, "tex") for name in tables if name in SHOWN]
    storage.list_files(target, ["README.md", *(f"{name}.{kind}" for name, kind in kinds)])


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


def latex(name: str, frame: pd.DataFrame) -> str:
    r"""Return a table of `SHOWN` as a booktabs longtable, ready to `\input`."""
    shown, names = SHOWN[name](frame)
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
        d=[number(value) for value in frame["d"]],
        g=[number(value) for value in frame["hedges_g"]],
        p=[p_value(value) for value in frame["p"]],
        p_adjusted=[p_value(value) for value in frame["p_adjusted"]],
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


def _ranks(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    rows = frame[frame["method"] == ALL]
    shown = rows[["name", "loss", "n_blocks"]].assign(
        mean_rank=[number(value) for value in rows["mean_rank"]],
        critical_difference=[number(value) for value in rows["critical_difference"]],
        iman_davenport=[number(value) for value in rows["iman_davenport"]],
        iman_davenport_p=[p_value(value) for value in rows["iman_davenport_p"]],
    )
    return _titled(shown, ["name", "loss"])


def _posthoc(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    rows = frame[frame["method"] == ALL]
    shown = rows[["name", "loss", "baseline", "n_blocks"]].assign(
        rank_difference=[number(value) for value in rows["rank_difference"]],
        p_nemenyi=[p_value(value) for value in rows["p_nemenyi"]],
        p_wilcoxon_holm=[p_value(value) for value in rows["p_wilcoxon_holm"]],
        prob_lower=[_decimals(value) for value in rows["prob_lower"]],
        prob_within=[_decimals(value) for value in rows["prob_within"]],
        prob_higher=[_decimals(value) for value in rows["prob_higher"]],
    )
    return _titled(shown, ["name", "loss", "baseline"])


def _mixed(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    given = "_given_accuracy"
    shown = frame[["name", "loss", "n_blocks"]].assign(
        estimate=[number(value) for value in frame["estimate"]],
        interval=[*map(_interval, frame["ci_low"], frame["ci_high"])],
        p_holm=[p_value(value) for value in frame["p_holm"]],
        given=[number(value) for value in frame[f"estimate{given}"]],
        interval_given=[*map(_interval, frame[f"ci_low{given}"], frame[f"ci_high{given}"])],
        p_given=[p_value(value) for value in frame[f"p_holm{given}"]],
    )
    return _titled(shown, ["name", "loss"])


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
    "p_adjusted": "p (adjusted)",
    "n_blocks": "blocks",
    "mean_rank": "mean rank",
    "critical_difference": "critical difference",
    "iman_davenport": "F",
    "iman_davenport_p": "p",
    "rank_difference": "rank difference",
    "p_nemenyi": "p (Nemenyi)",
    "p_wilcoxon_holm": "p (Wilcoxon, Holm)",
    "prob_lower": "P(worse)",
    "prob_within": "P(equivalent)",
    "prob_higher": "P(better)",
    "p_holm": "p (Holm)",
    "given": "given accuracy",
    "interval_given": "its interval",
    "p_given": "its p (Holm)",
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
    "run; difference with its interval, in standard deviations between images (d) and between runs "
    "(Hedges' g), exact sign-flip p, adjusted within its family.",
    "summary": "Mean and standard deviation over training runs.",
    "ranks": "Mean ranks of the losses over blocks (dataset, seed), all methods together; critical "
    "difference of Nemenyi's test, F of Iman and Davenport.",
    "posthoc": "Pairs of losses over blocks (dataset, seed), all methods together: difference of "
    "mean ranks, p of Nemenyi's test and of Wilcoxon's, adjusted by Holm, and posterior "
    "probabilities of the Bayesian signed-rank test that the loss is worse, practically "
    "equivalent, or better.",
    "mixed-models": "Difference to the baseline by a linear model with a random intercept for "
    "each block (dataset, seed), in standard deviations between images, without and given test "
    "accuracy; p adjusted by Holm over the losses.",
    "models": "Training runs: accuracy, evaluation images kept, geometry of the embeddings, trust.",
}

#: What is shown of the tables that are written as LaTeX (`names.LATEX`): the columns, and which of
#: those hold names.
SHOWN: dict[str, Callable[[pd.DataFrame], tuple[pd.DataFrame, list[str]]]] = {
    "comparisons": _comparisons,
    "summary": _summary,
    "ranks": _ranks,
    "posthoc": _posthoc,
    "mixed-models": _mixed,
    "models": _models,
}
