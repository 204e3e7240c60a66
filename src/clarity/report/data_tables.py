"""Data tables: own how a table of the results becomes one of the page: its columns, kinds, filters.

`tables.js` draws them: a page of rows at a time, sorted and filtered, with the columns chosen.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clarity.report.packing import listed, pack_json
from clarity.tables.columns import describe

#: Columns whose values can be picked from a list.
FILTERS = (
    "dataset",
    "method",
    "family",
    "setting",
    "scope",
    "over",
    "stage",
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

#: What is looked for first in a comparison; the other columns can be chosen.
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

#: The ends of an interval, which share a column.
ENDS = ("ci_low", "ci_high")


@dataclass(frozen=True)
class Column:
    """A column of a table of the page.

    Attributes:
        name: as in the table.
        meaning: in words.
        kind: text, verdict, number, p or interval; how it is written and sorted.
        shown: whether it is shown unless it is chosen not to be.
        choices: values to pick rows by, if any.
    """

    name: str
    meaning: str
    kind: str
    shown: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class DataTable:
    """A table of the page.

    Attributes:
        name: identifies it on the page.
        title: its caption.
        columns: its columns, in order.
        rows: how many rows it has.
        packed: their values, a column after the other.
    """

    name: str
    title: str
    columns: list[Column]
    rows: int
    packed: str


def data_table(
    name: str, title: str, frame: pd.DataFrame, first: Collection[str] = ()
) -> DataTable:
    """Turn a table of the results into one of the page: every row and column of it.

    Args:
        name: of the table; its columns are described by it.
        title: of the page.
        frame: the rows.
        first: the columns that come first and are shown, in order; all others are left to be
            chosen. If there are none, all are shown.
    """
    names = [str(column) for column in frame]
    if ENDS[0] in names:
        names[names.index(ENDS[0])] = "interval"
        names.remove(ENDS[1])
    order = [known for known in first if known in names]
    order += [known for known in names if known not in order]
    columns, values = [], []
    for column in order:
        kind, data = _packed(column, frame)
        levels = data["levels"] if isinstance(data, dict) else []
        columns.append(
            Column(
                column,
                _describe(name, column),
                kind,
                not first or column in first,
                tuple(levels) if column in FILTERS and len(levels) > 1 else (),
            )
        )
        values.append(data)
    return DataTable(name, title, columns, len(frame), pack_json(values))


def _describe(table: str, column: str) -> str:
    if column == "interval":
        return f"ci_low and ci_high: {describe(table, 'ci_low')}"
    return describe(table, column)


def _packed(column: str, frame: pd.DataFrame) -> tuple[str, Any]:
    """Return the kind of a column and its values: texts as their levels and places in them."""
    if column == "interval":
        return "interval", [listed(frame[end].to_numpy()) for end in ENDS]
    values = frame[column]
    if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        return "p" if column.split("_")[0] == "p" else "number", listed(values.to_numpy())
    codes, levels = pd.factorize(values.astype(str))
    return (
        "verdict" if column == "verdict" else "text",
        {"levels": [str(level) for level in levels], "codes": codes.tolist()},
    )
