"""Table names: own which tables a grid has; the Snakefile imports this, so it loads nothing."""

TABLES = (
    "comparisons",
    "summary",
    "settings",
    "models",
    "models-summary",
    "models-comparisons",
    "coverage",
    "missing",
)
