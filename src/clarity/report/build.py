"""Build: owns the one page of a grid, with everything in it; what the tables say is `findings`.

The page needs no network and no other file. The same results give the same page.
"""

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from clarity import storage
from clarity.figures import names
from clarity.figures.words import count, span
from clarity.grid import Grid
from clarity.report import findings
from clarity.tables.columns import describe
from clarity.tables.measures import is_single_severity, meaning
from clarity.tables.names import TABLES

MISSING_NUMBER = "–"

#: What each kind of figure shows. The gallery is full of pixels, so it goes in as such.
KINDS: dict[str, tuple[str, str]] = {
    "gallery": (
        "png",
        "Maps of the first images, of different classes, that all losses classify right; first "
        "seed. Each block is one image, each row a loss. For a single image: the map of its label "
        "and of the foil, the class that this model ranks highest among the others. For a scene: "
        "the maps of its two classes. Red speaks for the class, blue against it. Every map has its "
        "own scale, symmetric around 0, so strengths cannot be compared between maps. Outlines: "
        "the object of the explained class in black, the other in grey.",
    ),
    "training": (
        "svg",
        "Training loss, on its own scale for each loss, and accuracy on held-out training images "
        "by nearest class prototype. Thick: mean over seeds; thin: seeds.",
    ),
    "embeddings": (
        "svg",
        "Test embeddings of the first seed, scaled to length 1 and laid out by t-SNE. Close points "
        "are neighbours; distances between groups and their sizes mean nothing. Accuracy by the "
        "head; silhouette of the embeddings themselves, not of this picture.",
    ),
    "heatmap": (
        "svg",
        "Difference of each loss to the baseline by each metric and method, in standard "
        "deviations between images of the baseline, turned so that green is better. Signs are "
        "verdicts: + better, − worse, = equivalent; without a sign, inconclusive. Control methods "
        "are left out.",
    ),
    "curves": (
        "svg",
        "What the values of metrics are made of, such as the score of the class as pixels are "
        "removed: mean over training runs, with a band of one standard deviation between them.",
    ),
    "ranks": (
        "svg",
        "Critical-difference diagrams: mean rank of each loss over blocks of dataset and seed, all "
        "methods together, controls left out. A bar joins losses that Nemenyi's test does not tell "
        "apart; p is that of Iman and Davenport.",
    ),
    "forest": (
        "svg",
        "Difference to the baseline across the grid by a linear mixed model, with its interval: "
        "filled without, hollow given test accuracy. Bold: all metrics of a category together. A "
        "star marks metrics that noise cannot win.",
    ),
    "separation": (
        "svg",
        "Silhouette of the classes in the embeddings against the metrics that carry the verdict "
        "on contrastivity: a dot is a training run. Spearman's correlation within datasets, its "
        "interval over blocks of dataset and seed, and the partial one given accuracy. Few losses "
        "make most of the variation, and none of it proves a cause.",
    ),
    "measures": (
        "svg",
        "Models compared with those of the baseline by accuracy, calibration, geometry of the test "
        "embeddings, detection of images of another dataset, and accuracy under attack and on "
        "corrupted images: mean difference over training runs, paired by seed, with its interval; "
        "small dots are training runs. Hollow: inconclusive. Each measure has its own "
        "scale.",
    ),
    "effects": (
        "svg",
        "Difference to the baseline, with its interval; small dots are training runs. Filled: "
        "better, worse or different; grey: equivalent; hollow: inconclusive. The control methods, "
        "below, look at neither model nor class.",
    ),
}

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

#: Columns whose values can be picked from a list.
FILTERS = (
    "dataset",
    "method",
    "family",
    "scope",
    "over",
    "metric",
    "component",
    "group",
    "measure",
    "category",
    "loss",
    "baseline",
    "status",
    "verdict",
)

#: What is looked for most comes first: a table may be wider than the window.
COMPARISON_COLUMNS = (
    "dataset",
    "method",
    "metric",
    "measure",
    "loss",
    "baseline",
    "verdict",
    "difference",
    "interval",
    "d",
    "hedges_g",
    "p",
    "p_adjusted",
    "p_equivalence_adjusted",
    "mde",
    "runs_needed",
    "mean",
    "mean_baseline",
    "n_runs",
    "n_missing",
    "n_images",
    "n_unpaired",
    "family",
    "group",
    "category",
    "direction",
)

#: The tables of what holds across the grid, and their titles.
ACROSS_TABLES = {
    "mixed-models": "Mixed models",
    "ranks": "Ranks",
    "posthoc": "Pairs of losses by rank",
    "separation": "Embeddings and explanations",
    "mediation": "Mediation by the embeddings",
    "stability": "Stability over seeds, methods and settings",
    "agreement": "Agreement of pairs of metrics",
    "concordance": "Concordance of the metrics of a category",
    "components": "Variance components",
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


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is read, what it is sorted by, and its look."""

    text: str
    value: str
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        name: identifies it on the page.
        title: its caption.
        columns: name and meaning of each column.
        rows: the cells.
        filters: for some columns, by number, the values to pick from.
    """

    name: str
    title: str
    columns: list[tuple[str, str]]
    rows: list[list[Cell]]
    filters: dict[int, list[str]]


@dataclass(frozen=True)
class Picture:
    """A figure of the page; without ``source`` there is only the reason why."""

    stem: str
    title: str
    source: str
    alternative: str
    caption: str


def build_report(
    root: storage.StrPath,
    out: storage.StrPath,
    *,
    config: Mapping[str, Any],
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    baseline: str,
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
    pictures = _Pictures(Path(figures or source / "figures"), baseline)
    provenance = _Provenance.of(source, grid)
    page = _template().render(
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
            frames["posthoc"],
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
            _table("comparisons", "Comparisons of losses", _with_interval(comparisons)),
            _table("summary", "Summary of each loss", summary),
            *(
                _table(name, title, frames[name])
                for name, title in ACROSS_TABLES.items()
                if len(frames[name])
            ),
            *(
                [_table("settings", "Rankings by the settings of a metric", frames["settings"])]
                if len(frames["settings"])
                else []
            ),
            _table("models", "Training runs", frames["models"]),
            _table(
                "models-comparisons",
                "Comparisons of models",
                _with_interval(frames["models-comparisons"]),
            ),
        ],
        missing=_table("missing", "Missing files", frames["missing"]),
        coverage=_table("coverage", "Scores that are not numbers", _gaps(frames["coverage"])),
        excluded=_excluded(frames["models"]),
        left_out=_left_out(summary),
        dataset_pictures={
            dataset: {kind: pictures.get(kind, dataset) for kind in names.DATASET_KINDS}
            for dataset in grid.datasets
        },
        grid_pictures={kind: pictures.get(kind, "") for kind in names.GRID_KINDS},
        rank_pictures={
            category: pictures.get(names.CATEGORY_KIND, category)
            for category in dict.fromkeys(
                str(told["category"]) for told in metrics.values() if told["direction"] != "none"
            )
        },
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
    storage.write_text(out, page)


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


def number(value: float) -> str:
    """Write a number with three significant digits, with a real minus; a dash if there is none."""
    if math.isnan(value):
        return MISSING_NUMBER
    return f"{value:.3g}".replace("-", "−")


def _p_value(value: float) -> str:
    if math.isnan(value):
        return MISSING_NUMBER
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cell(column: str, value: Any) -> Cell:
    """Return how a value of a table is shown."""
    if isinstance(value, tuple):
        low, high = value
        if math.isnan(low):
            return Cell(MISSING_NUMBER, "", "number")
        return Cell(f"{number(low)} to {number(high)}", repr(low), "number")
    if isinstance(value, str):
        look = f"verdict {value.replace(' ', '-')}" if column == "verdict" else ""
        return Cell(value, value, look)
    if isinstance(value, int):
        return Cell(f"{value:,}", repr(value), "number")
    text = _p_value(value) if column.split("_")[0] == "p" else number(value)
    return Cell(text, "" if math.isnan(value) else repr(value), "number")


def _table(name: str, title: str, frame: pd.DataFrame) -> Table:
    """Turn a table of the results into one of the page; every row of it."""
    columns = [str(column) for column in frame]
    records = frame.astype(object).to_numpy().tolist()
    return Table(
        name,
        title,
        [(column, _describe(name, column)) for column in columns],
        [
            [_cell(column, value) for column, value in zip(columns, record, strict=True)]
            for record in records
        ],
        {
            place: [str(value) for value in frame[column].unique()]
            for place, column in enumerate(columns)
            if column in FILTERS and frame[column].nunique() > 1
        },
    )


def _describe(table: str, column: str) -> str:
    if column == "interval":
        return f"ci_low and ci_high: {describe('comparisons', 'ci_low')}"
    return describe(table, column)


def _with_interval(comparisons: pd.DataFrame) -> pd.DataFrame:
    """Put both ends of the interval into one column."""
    ends = zip(comparisons["ci_low"], comparisons["ci_high"], strict=True)
    shown = comparisons.assign(interval=pd.Series(list(ends), comparisons.index, dtype=object))
    return shown[[column for column in COMPARISON_COLUMNS if column in shown]]


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


class _Pictures:
    """The figures of a grid, as parts of the page."""

    def __init__(self, folder: Path, baseline: str) -> None:
        self._folder = folder
        self._baseline = baseline

    def get(self, kind: str, name: str) -> Picture:
        """Return the figure of a kind for a dataset or metric."""
        suffix, caption = KINDS[kind]
        stem = names.stem(kind, name)
        path = self._folder / f"{stem}.{suffix}"
        if not path.exists():
            return Picture(stem, name or kind, "", "", f"unavailable: no file figures/{path.name}")
        # As an image of its own: the names inside an SVG must be unique in the whole page.
        mime = "image/png" if suffix == "png" else "image/svg+xml"
        encoded = base64.b64encode(path.read_bytes()).decode()
        return Picture(
            stem,
            name or kind,
            f"data:{mime};base64,{encoded}",
            self._alternative(kind, name),
            caption,
        )

    def _alternative(self, kind: str, name: str) -> str:
        return {
            "gallery": f"Saliency maps of images of {name}, a row a loss, a pair of columns a "
            "method.",
            "training": f"Curves of training loss and validation accuracy by epoch on {name}.",
            "embeddings": f"Points of the test images of {name}, coloured by class, a panel a "
            "loss.",
            "measures": f"Differences to {self._baseline} on {name} by each measure of models, a "
            "panel a measure; the numbers are in the table of comparisons of models.",
            "heatmap": f"Every comparison with {self._baseline} on {name} as a coloured cell; the "
            "numbers are in the table of comparisons.",
            "curves": f"Curves of the metrics on {name}, a row a metric, a column a method; the "
            "numbers are in the table curves.",
            "ranks": f"Mean ranks of the losses by the metrics of {name}; the numbers are in the "
            "table of ranks.",
            "forest": f"Estimates of the difference to {self._baseline} by each metric, with and "
            "without accuracy; the numbers are in the table of mixed models.",
            "separation": "Points of training runs: silhouette against the metrics of the "
            "verdict; the numbers are in the table of separation.",
            "effects": f"Differences to {self._baseline} by {name}, for each dataset, method and "
            "loss; the numbers are in the table of comparisons.",
        }[kind]


@dataclass(frozen=True)
class _Provenance:
    """Where the results come from, over all training runs that have a manifest."""

    runs: int
    runs_expected: int
    facts: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    durations: list[tuple[str, str, str]]
    version: str
    commit: str

    @classmethod
    def of(cls, root: Path, grid: Grid) -> "_Provenance":
        """Read the manifests of a grid."""
        runs = grid.runs()
        manifests = [
            (run, storage.read_json(path))
            for run in runs
            if (path := root / run.folder / "manifest.json").exists()
        ]
        found = [manifest for _, manifest in manifests]
        seconds: dict[tuple[str, str], list[float]] = {}
        for run, manifest in manifests:
            seconds.setdefault((run.dataset, run.loss), []).append(manifest["seconds"])
        libraries = list(dict.fromkeys(name for m in found for name in m["versions"]))
        versions = [(name, _distinct(m["versions"].get(name) for m in found)) for name in libraries]
        commit = _distinct(m["git"]["commit"] for m in found)
        changed = any(m["git"]["changed"] for m in found)
        facts = [
            ("commit", commit + (", with uncommitted changes" if changed else "")),
            ("device", _distinct(m["device"] for m in found)),
            ("processor", _distinct(m["host"]["processor"] for m in found)),
            ("system", _distinct(m["host"]["system"] for m in found)),
            ("threads a job", _distinct(m["threads"] for m in found)),
        ]
        return cls(
            len(found),
            len(runs),
            facts,
            versions,
            [(*key, span(values, "{:.1f}")) for key, values in seconds.items()],
            dict(versions).get("clarity-xai", ""),
            commit,
        )


def _distinct(values: Any) -> str:
    """Write each value once."""
    known = sorted({"unknown" if value is None else str(value) for value in values})
    return ", ".join(known) if known else "unknown"
