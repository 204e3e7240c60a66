"""Run times: own the table of what training, maps and scores took, from manifests and cost files.

It is the one table whose numbers are not the same when the same grid is computed again.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from clarity import storage
from clarity.grid import RECORD, Cell, Grid

COLUMNS = (
    "stage",
    "dataset",
    "loss",
    "method",
    "metric",
    "n_runs",
    "images",
    "seconds",
    "sd",
    "ms_per_image",
    "forward_per_image",
    "explained_per_image",
    "bytes_per_image",
)
_KEYS = list(COLUMNS[:5])
#: Where jobs leave what each method and metric cost; see the rules of attribution and evaluation.
COSTS = "logs/costs"
#: What a run's training and its stage `trust` cost; no method can be called so.
TRAIN_COST, TRUST_COST = "stage=train.json", "stage=trust.json"
#: What whole jobs took, from the start of the process on.
JOBS = f"{COSTS}/jobs"
NOTHING = float("nan")
STAGES = ("training", "trust", "attribution", "evaluation")


def run_times(root: storage.StrPath, grid: Grid) -> pd.DataFrame:
    """Return the mean cost of each training, method and metric, over training runs.

    Args:
        root: the results root.
        grid: the axes.

    Returns:
        The columns `COLUMNS`. What left no record, such as a file computed by another copy of the
        results, has no row.

    Raises:
        clarity.storage.CorruptArtifact: if a record is there and cannot be read.
    """
    source = Path(root)
    rows: list[dict[str, Any]] = []
    for run in grid.runs():
        place_of_record = source / run.folder / RECORD
        manifest = storage.read_record(place_of_record) if place_of_record.exists() else {}
        if "seconds" in manifest:
            cost = {"seconds": manifest["seconds"], "images": manifest.get("images_seen", NOTHING)}
            rows.append(_row(STAGES[0], run.dataset, cost, loss=run.loss))
        costs = source / COSTS / run.folder
        if trust := record(costs / TRUST_COST):
            rows.append(_row(STAGES[1], run.dataset, trust, loss=run.loss))
        for cell in (Cell(run, method) for method in grid.methods):
            place = {"method": cell.method}
            maps = record(costs / f"{cell.method}.json")
            if maps.get("status") == "ok":
                rows.append(_row(STAGES[2], run.dataset, maps, **place))
            for metric, cost in record(costs / f"{cell.method}-metrics.json").items():
                rows.append(_row(STAGES[3], run.dataset, cost, **place, metric=metric))
    if not rows:
        return pd.DataFrame({name: [] for name in COLUMNS})
    frame = pd.DataFrame(rows)
    frame["n_runs"] = 1
    grouped = frame.groupby(_KEYS, sort=False, dropna=False)
    table = grouped.mean(numeric_only=True)
    table["n_runs"] = grouped.size()
    table["sd"] = grouped["seconds"].std()
    ordered = table.reset_index()
    # As the stages run; within one, the axes in the order of the config.
    ordered = ordered.sort_values(
        "stage", key=lambda names: names.map(STAGES.index), kind="stable", ignore_index=True
    )
    return ordered[list(COLUMNS)]


def record(path: Path) -> dict[str, Any]:
    """Return what a job left of what it cost; nothing if it left no file."""
    found: dict[str, Any] = storage.read_json(path) if path.exists() else {}
    return found


def _row(stage: str, dataset: str, cost: dict[str, Any], **place: str) -> dict[str, Any]:
    """Return what one job took for one thing; numbers that are not recorded are missing."""
    images = float(cost.get("images", NOTHING))
    per_image = {
        name: float(cost.get(key, NOTHING)) / images
        for name, key in (
            ("forward_per_image", "forward"),
            ("explained_per_image", "explained"),
            ("bytes_per_image", "bytes"),
        )
    }
    return {
        **dict.fromkeys(_KEYS, ""),
        "stage": stage,
        "dataset": dataset,
        **place,
        "images": images,
        "seconds": float(cost["seconds"]),
        "ms_per_image": 1000 * float(cost["seconds"]) / images,
        **per_image,
    }
