"""Table names: own which tables a grid has; the Snakefile imports this, so it loads nothing."""

#: In the order of the README beside them.
TABLES = (
    "comparisons",
    "summary",
    "ranks",
    "posthoc",
    "mixed-models",
    "components",
    "separation",
    "mediation",
    "agreement",
    "concordance",
    "stability",
    "settings",
    "curves",
    "runs",
    "models",
    "models-summary",
    "models-comparisons",
    "coverage",
    "run-times",
    "missing",
)

#: Those that are written as LaTeX too.
LATEX = ("comparisons", "summary", "ranks", "posthoc", "mixed-models", "models")


def table_files() -> list[str]:
    """Return the name of every file of the folder of tables."""
    files = [f"{name}.{kind}" for name in TABLES for kind in ("parquet", "csv")]
    return [*files, *(f"{name}.tex" for name in LATEX), "README.md", "manifest.json"]


#: Where the first level of aggregation leaves what it found, under the results root.
PARTS = "parts"
#: What the training runs of a dataset tell, and what can be said of a dataset and a method.
MODELS_PARTS = ("predictions", "measures", "runs", "missing")
BLOCK_PARTS = ("comparisons", "runs", "coverage", "curves", "missing")


def parts_folder(dataset: str, method: str | None = None) -> str:
    """Return the folder of a dataset's runs, or of a dataset and a method, under the root."""
    kind = "models" if method is None else f"method={method}"
    return f"{PARTS}/dataset={dataset}/{kind}"


def parts_files(dataset: str, method: str | None = None) -> list[str]:
    """Return the files there, under the root."""
    names = MODELS_PARTS if method is None else BLOCK_PARTS
    return [f"{parts_folder(dataset, method)}/{name}.parquet" for name in names]
