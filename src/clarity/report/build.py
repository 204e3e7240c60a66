"""Build: owns the one page of a grid, with everything in it; what the tables say is `findings`.

The page needs no network and no other file. The same results give the same page.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from clarity import storage
from clarity.figures import names
from clarity.figures.maps import PERCENTILE
from clarity.figures.words import count, span
from clarity.grid import Grid
from clarity.report import explorer, findings
from clarity.report.data_tables import COMPARISON_COLUMNS, data_table
from clarity.report.pictures import Picture, Pictures
from clarity.report.provenance import Provenance
from clarity.tables.measures import is_single_severity, meaning
from clarity.tables.names import TABLES

MISSING_NUMBER = "–"

#: Rows of a table beyond which the page holds only the pairs of losses with the baseline.
MOST_ROWS = 25_000

#: Titles of what is told of a metric, where it is told.
METRIC_TITLES = {
    "metric": "class",
    "category": "category",
    "direction": "better",
    "images": "images",
    "sign": "of the map's signs",
    "scale": "scaling",
    "softmax": "softmax",
    "paper": "source",
}

#: The tables of the page: their titles, and the columns that come first, if not all are shown.
DATA_TABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "comparisons": ("Comparisons of losses", COMPARISON_COLUMNS),
    "summary": ("Summary of each loss", ()),
    "mixed-models": ("Mixed models", ()),
    "ranks": ("Ranks", ()),
    "posthoc": ("Pairs of losses by rank", ()),
    "separation": ("Embeddings and explanations", ()),
    "mediation": ("Mediation by the embeddings", ()),
    "stability": ("Stability over seeds, methods and settings", ()),
    "agreement": ("Agreement of pairs of metrics", ()),
    "concordance": ("Concordance of the metrics of a category", ()),
    "components": ("Variance components", ()),
    "settings": ("Rankings by the settings of a metric", ()),
    "models": ("Training runs", ()),
    "models-comparisons": ("Comparisons of models", COMPARISON_COLUMNS),
}

#: The groups of measures of models that the page shows together, by the title of their table.
MODEL_TABLES = {
    "accuracy": ("accuracy", "geometry"),
    "trust": ("calibration", "out-of-distribution", "adversarial", "corruption"),
}

WORKS = (
    (
        "Hedström et al. (2023). Quantus: an explainable AI toolkit for responsible evaluation of "
        "neural network explanations and beyond. JMLR 24(34).",
        "https://jmlr.org/papers/v24/22-0142.html",
    ),
    (
        "Kokhlikyan et al. (2020). Captum: a unified and generic model interpretability library "
        "for PyTorch.",
        "https://arxiv.org/abs/2009.07896",
    ),
    (
        "Musgrave, Belongie and Lim (2020). PyTorch Metric Learning.",
        "https://arxiv.org/abs/2008.09164",
    ),
    (
        "Mölder et al. (2021). Sustainable data analysis with Snakemake. F1000Research 10:33.",
        "https://doi.org/10.12688/f1000research.29032.2",
    ),
)


def build_report(
    root: storage.StrPath,
    out: storage.StrPath,
    *,
    config: Mapping[str, Any],
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    baseline: str,
    families: Sequence[str],
    controls: Collection[str],
    tables: storage.StrPath | None = None,
    figures: storage.StrPath | None = None,
) -> None:
    """Write the page of a grid: one HTML file that holds all it shows.

    Args:
        root: the results root, with hive folders.
        out: the file to write.
        config: the whole config with all defaults, as plain values and spelt as in the file. Shown
            as YAML; the confidence of the intervals and whether images must be classified right
            are taken from it.
        grid: the axes, in the order of the config.
        metrics: by name, in order, what is to be told of a metric: keys of `METRIC_TITLES`.
        baseline: the loss that all others are compared with.
        families: the metrics whose settings are compared.
        controls: the methods that look at neither model nor class.
        tables: the folder of the tables; ``root``/tables if not given.
        figures: the folder of the figures; ``root``/figures if not given. A figure that is not
            there is named as missing.

    Raises:
        clarity.storage.CorruptArtifact: if a table or a manifest cannot be read.
    """
    source = Path(root)
    folder = Path(tables or source / "tables")
    frames = {name: storage.read_table(folder / f"{name}.parquet") for name in TABLES}
    comparisons, summary = frames["comparisons"], frames["summary"]
    confidence = float(config["statistics"]["confidence"])
    others = [loss for loss in grid.losses if loss != baseline]
    compared = findings.against_baseline(comparisons, baseline, controls)
    places = findings.control_places(summary, grid.methods, controls)
    pictures = Pictures(Path(figures or source / "figures"), baseline)
    provenance = Provenance.of(source, grid)
    categories = dict.fromkeys(
        str(told["category"]) for told in metrics.values() if told["direction"] != "none"
    )
    page = _template().render(
        unsealed=storage.UNSEALED.decode(),
        answer=findings.answer(
            comparisons,
            frames["models-summary"],
            losses=grid.losses,
            baseline=baseline,
            controls=controls,
            confidence=confidence,
            families=list(config["statistics"].get("families", {})),
        ),
        across=findings.across(
            frames["mixed-models"],
            frames["separation"],
            frames["stability"],
            baseline=baseline,
            margin=float(config["statistics"].get("smallest-effect", 0.2)),
        ),
        verdicts=_verdict_rows(compared, others),
        failures=findings.failures(frames["models"]),
        models={
            name: _models(frames["models-summary"], groups) for name, groups in MODEL_TABLES.items()
        },
        controls=findings.controls_say(places),
        places=places.to_dict("records"),
        metrics=_metric_rows(metrics),
        tables=[
            data_table(name, *_fitting(title, frames[name], baseline), first)
            for name, (title, first) in DATA_TABLES.items()
            if len(frames[name])
        ],
        missing=data_table("missing", "Missing files", frames["missing"]),
        coverage=data_table("coverage", "Scores that are not numbers", _gaps(frames["coverage"])),
        run_times=data_table("run-times", "What was spent", frames["run-times"]),
        explored=explorer.explore(source, grid, metrics=metrics, controls=controls),
        map_colours=explorer.colours(),
        map_percentile=PERCENTILE,
        excluded=_excluded(frames["models"]),
        left_out=_left_out(summary),
        dataset_pictures={
            dataset: {kind: pictures.get(kind, dataset) for kind in names.DATASET_KINDS}
            for dataset in grid.datasets
        },
        grid_pictures={kind: pictures.get(kind) for kind in names.GRID_KINDS},
        category_pictures={
            kind: [pictures.get(kind, category) for category in categories]
            for kind in names.CATEGORY_KINDS
        },
        family_pictures=[pictures.get(names.FAMILY_KIND, family) for family in families],
        effect_pictures=_by_category(
            {metric: pictures.get(names.METRIC_KIND, metric) for metric in metrics}, metrics
        ),
        config=yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=88),
        provenance=provenance,
        works=WORKS,
        baseline=baseline,
        percent=f"{100 * confidence:g}",
        correct_only=bool(config["evaluation"]["correct-only"]),
        size={
            "datasets": count(len(grid.datasets), "dataset"),
            "losses": count(len(grid.losses), "loss", "losses"),
            "seeds": count(len(grid.seeds), "seed"),
            "methods": count(len(grid.methods), "method"),
            "metrics": count(len(metrics), "metric"),
        },
    )
    storage.write_sealed_text(out, page)


def _fitting(title: str, frame: pd.DataFrame, baseline: str) -> tuple[str, pd.DataFrame]:
    """Return a table with its title, and of many pairs of losses only those with the baseline."""
    if len(frame) <= MOST_ROWS or "baseline" not in frame:
        return title, frame
    return f"{title} with {baseline}; all pairs are in the files", frame[
        frame["baseline"] == baseline
    ]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clarity.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("template.html")


def _verdict_rows(compared: pd.DataFrame, others: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tallies by category, then over all categories."""
    rows: list[dict[str, Any]] = []
    for category, block in compared.groupby("category", sort=False):
        rows += [{"category": category, "tally": t} for t in findings.tally(block, others)]
    rows += [{"category": "all", "tally": t} for t in findings.tally(compared, others)]
    return rows


def _models(models_summary: pd.DataFrame, groups: Collection[str]) -> dict[str, Any]:
    """Return some groups of measures of each dataset and loss, mean ± sd over runs."""
    known = models_summary[models_summary["group"].isin(list(groups))]
    known = known[~known["measure"].map(is_single_severity).astype(bool)]
    measures = list(known["measure"].unique())
    rows = []
    for (dataset, loss), block in known.groupby(["dataset", "loss"], sort=False):
        by_measure = block.set_index("measure")
        values = [
            _mean_and_sd(by_measure["mean"].get(m, math.nan), by_measure["sd"].get(m, math.nan))
            for m in measures
        ]
        runs, failed = int(by_measure["n_runs"].max()), int(by_measure["n_failed"].max())
        rows.append(
            {"dataset": dataset, "loss": loss, "runs": runs, "failed": failed, "values": values}
        )
    directions = dict(zip(known["measure"], known["direction"], strict=True))
    return {
        "measures": [(m, directions[m], meaning(m)) for m in measures],
        "rows": rows,
        "any_failed": any(row["failed"] for row in rows),
    }


def _mean_and_sd(mean: float, sd: float) -> str:
    if math.isnan(mean):
        return MISSING_NUMBER
    text = f"{mean:.3f}".replace("-", "−")
    return text if math.isnan(sd) else f"{text} ± {sd:.3f}"


def _metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is told of each metric."""
    keys = [key for key in METRIC_TITLES if any(key in told for told in metrics.values())]
    return {
        "titles": [METRIC_TITLES[key] for key in keys],
        "rows": [
            (name, [_told(told.get(key, "")) for key in keys]) for name, told in metrics.items()
        ],
    }


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _gaps(coverage: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of coverage in which something is not a number or not there."""
    whole = (coverage["ok"] == 1) & (coverage["n_cells_found"] == coverage["n_cells"])
    return coverage[~whole]


def _excluded(models: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each dataset how many evaluation images are kept in each run."""
    return [
        {
            "dataset": dataset,
            "images": span(block["n_evaluation"]),
            "kept": span(block["n_kept"]),
            "share": span(block["share_kept"].dropna().round(2), "{:.2f}"),
        }
        # A run that failed classifies no image, and takes none from the others.
        for dataset, block in models[models["n_evaluation"] > 0].groupby("dataset", sort=False)
    ]


def _left_out(summary: pd.DataFrame) -> dict[str, str]:
    """Count the scores that went into the summary and those that did not."""
    columns = ("n_images", "n_incorrect", "n_nan", "n_unavailable")
    return {column: f"{int(summary[column].sum()):,}" for column in columns}


def _by_category(
    pictures: Mapping[str, Picture], metrics: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Picture]]:
    grouped: dict[str, list[Picture]] = {}
    for metric, picture in pictures.items():
        grouped.setdefault(str(metrics[metric]["category"]), []).append(picture)
    return grouped
