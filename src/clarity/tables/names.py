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
    return [*files, *(f"{name}.tex" for name in LATEX), "README.md"]
