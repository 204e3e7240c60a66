"""Render: owns which artifact goes into which figure, and writes all figures of a grid.

A file that is missing, or maps that could not be computed, become a panel that says so. A file that
is there and cannot be read stops the stage: it is damaged, and the error says how to remake it.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import joblib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from clarity import storage
from clarity.figures import names, style
from clarity.figures.curves import curves
from clarity.figures.effects import effects, run_differences
from clarity.figures.embeddings import Embedded, embeddings
from clarity.figures.forest import forest
from clarity.figures.gallery import Examples, choose_images, gallery, number_of_images
from clarity.figures.heatmap import heatmap
from clarity.figures.measures import measures
from clarity.figures.ranks import ranks
from clarity.figures.sensitivity import sensitivity
from clarity.figures.separation import separation
from clarity.figures.specifications import specifications
from clarity.figures.training import training
from clarity.grid import Cell, Grid, Run
from clarity.statistics.settings import MetricInfo, Settings, categories_of
from clarity.tables.load import PREDICTIONS, read_status

T = TypeVar("T")

SILHOUETTE = "silhouette"
#: What a gallery shows of a cell: which classes, and their maps.
CELL = ("classes", "maps")
#: The tables that are drawn.
DRAWN = (
    "comparisons",
    "runs",
    "models",
    "models-comparisons",
    "curves",
    "ranks",
    "mixed-models",
    "separation",
    "settings",
)
#: Fewer figures are drawn by one process.
FEW_FIGURES = 16


@dataclass(frozen=True)
class Shown:
    """What is drawn: a grid, and how it was compared.

    Attributes:
        root: the results root, with hive folders.
        tables: the folder of the tables.
        grid: the axes. The gallery and the embeddings show the first seed.
        metrics: what must be known of each metric, in order.
        baseline: the loss that all others are compared with.
        controls: the methods that look at neither model nor class.
        settings: how scores were compared.
        families: of the metrics that are a setting of something, what they are a setting of.
    """

    root: Path
    tables: Path
    grid: Grid
    metrics: Mapping[str, MetricInfo]
    baseline: str
    controls: Sequence[str]
    settings: Settings
    families: Mapping[str, str]

    def figures(self) -> list[tuple[str, str]]:
        """Return kind and name of every figure: those of `clarity.figures.names.figure_names`."""
        return names.figures(
            self.grid.datasets,
            self.metrics,
            categories_of(self.metrics),
            dict.fromkeys(self.families.values()),
        )


def render_all(shown: Shown, folder: storage.StrPath, *, workers: int = 1) -> list[Path]:
    """Draw and write every figure of a grid, and a record `manifest.json` of their digests.

    Args:
        shown: what is drawn.
        folder: where the figures go.
        workers: processes that draw; the figures are the same with any number.

    Returns:
        The files that were written.

    Raises:
        clarity.storage.CorruptArtifact: if a table of `DRAWN` is missing, or any file is there and
            cannot be read.
    """
    wanted = shown.figures()
    # To start a process takes as long as to draw some figures.
    shares = 1 if len(wanted) < FEW_FIGURES else workers
    work = joblib.delayed(_render)
    # Dealt by turns: figures of a kind take alike, and stand together.
    done: list[list[Path]] = joblib.Parallel(n_jobs=shares)(
        work(shown, Path(folder), wanted[share::shares]) for share in range(shares)
    )
    written = [path for files in done for path in files]
    storage.list_files(folder, [path.name for path in written])
    return written


def _render(shown: Shown, folder: Path, wanted: Sequence[tuple[str, str]]) -> list[Path]:
    """Draw and write some of the figures."""
    # Layouts are solved by matrix products, whose last digits depend on how they are split.
    with threadpool_limits(1):
        drawers = _drawers(shown)
        files: list[Path] = []
        for kind, name in wanted:
            files += style.save(drawers[kind](name), folder, names.stem(kind, name))
    return files


def _drawers(shown: Shown) -> dict[str, Callable[[str], Figure]]:
    """Return what draws a figure of each kind, given its name."""
    tables = {name: storage.read_table(shown.tables / f"{name}.parquet") for name in DRAWN}
    root, grid = shown.root, shown.grid
    baseline, controls, metrics = shown.baseline, shown.controls, shown.metrics
    confidence = shown.settings.confidence
    runs = run_differences(tables["runs"], baseline)
    compared: dict[str, Any] = {"losses": grid.losses, "baseline": baseline}
    every_cell: dict[str, Any] = {**compared, "methods": grid.methods, "controls": controls}
    every_metric = {**every_cell, "metrics": list(metrics)}
    every_dataset = {**every_cell, "datasets": grid.datasets}
    comparisons = tables["comparisons"]
    return {
        "gallery": lambda name: _gallery(root, name, grid, baseline, controls),
        "training": lambda name: _training(root, name, grid, baseline),
        "embeddings": lambda name: _embeddings(root, name, grid, baseline),
        "measures": lambda name: measures(
            tables["models-comparisons"],
            tables["models"],
            dataset=name,
            confidence=confidence,
            **compared,
        ),
        "heatmap": lambda name: heatmap(comparisons, dataset=name, **every_metric),
        "curves": lambda name: curves(tables["curves"], dataset=name, **every_metric),
        "effects": lambda name: effects(
            comparisons, runs, metric=name, confidence=confidence, **every_dataset
        ),
        "ranks": lambda name: ranks(tables["ranks"], category=name, **compared),
        "specifications": lambda name: specifications(
            comparisons,
            category=name,
            confidence=confidence,
            datasets=grid.datasets,
            **every_metric,
        ),
        "settings": lambda name: sensitivity(
            comparisons,
            tables["settings"],
            family=name,
            families=shown.families,
            confidence=confidence,
            **every_dataset,
        ),
        "forest": lambda _: forest(
            tables["mixed-models"],
            verdict=[name for name, info in metrics.items() if info.verdict],
            confidence=confidence,
            **compared,
        ),
        "separation": lambda _: separation(
            tables["separation"],
            tables["runs"],
            tables["models"],
            metrics=metrics,
            datasets=grid.datasets,
            controls=controls,
            settings=shown.settings,
            families=shown.families,
            **compared,
        ),
    }


def _gallery(
    root: Path, dataset: str, grid: Grid, baseline: str, controls: Collection[str]
) -> Figure:
    place = f"dataset={dataset}/evaluation.safetensors"
    about = _read(root, place, storage.read_tensor_metadata)
    if isinstance(about, str):
        return style.only_reason(about)
    # Of images and maps, only the few that are shown are read.
    evaluation = root / place
    classes = storage.read_tensor_rows(evaluation, "classes")
    runs = [Run(dataset, loss, grid.seeds[0]) for loss in grid.losses]
    correct = np.ones(len(classes), dtype=bool)
    for run in runs:
        predictions = _read(root, f"{run.folder}/{PREDICTIONS}", storage.read_table)
        # A run that failed has no rows, and takes no image from the others.
        if not isinstance(predictions, str) and len(predictions):
            mine = predictions[predictions["split"] == "evaluation"].sort_values("image")
            correct &= mine["correct"].to_numpy(dtype=bool)
    # Whoever adds pictures of two classes wants to see them, more than scenes that were made.
    own = np.arange(len(classes)) >= len(classes) - len(json.loads(about.get("own_pictures", "[]")))
    order = np.argsort(~own, kind="stable")
    count = number_of_images(len(grid.losses), len(grid.methods))
    chosen = choose_images(classes[order], correct[order], count)
    rows = order[chosen]
    if not len(rows):
        return style.only_reason("no image that all losses classify right")
    explained: dict[str, np.ndarray] = {}
    maps: dict[tuple[str, str], np.ndarray | str] = {}
    for run in runs:
        for method in grid.methods:
            path = f"{Cell(run, method).folder}/attributions.safetensors"
            cell = _read(root, path, storage.read_tensor_metadata)
            if isinstance(cell, str):
                maps[run.loss, method] = cell
            elif cell["status"] != "ok":
                maps[run.loss, method] = cell["reason"]
            else:
                pair = (storage.read_tensor_rows(root / path, n, rows, columns=2) for n in CELL)
                explained[run.loss], maps[run.loss, method] = pair
    has_masks = "masks" in storage.read_tensor_shapes(evaluation)
    return gallery(
        Examples(
            storage.read_tensor_rows(evaluation, "images", rows),
            classes[rows],
            storage.read_tensor_rows(evaluation, "masks", rows).astype(bool) if has_masks else None,
            json.loads(about["classes"]),
        ),
        explained,
        maps,
        losses=grid.losses,
        methods=grid.methods,
        controls=list(controls),
        baseline=baseline,
    )


def _training(root: Path, dataset: str, grid: Grid, baseline: str) -> Figure:
    histories: dict[str, pd.DataFrame | str] = {}
    for loss in grid.losses:
        found: list[pd.DataFrame] = []
        for seed in grid.seeds:
            path = f"{Run(dataset, loss, seed).folder}/history.parquet"
            history = _read(root, path, storage.read_table)
            if isinstance(history, str):
                histories[loss] = history
            else:
                found.append(history.assign(seed=seed))
        if found:
            histories[loss] = pd.concat(found, ignore_index=True)
    return training(histories, losses=grid.losses, baseline=baseline)


def _embeddings(root: Path, dataset: str, grid: Grid, baseline: str) -> Figure:
    about = _read(root, f"dataset={dataset}/evaluation.safetensors", storage.read_tensor_metadata)
    if isinstance(about, str):
        return style.only_reason(about)
    runs = {loss: _embedded(root, Run(dataset, loss, grid.seeds[0])) for loss in grid.losses}
    return embeddings(
        runs,
        losses=grid.losses,
        baseline=baseline,
        class_names=json.loads(about["classes"]),
    )


def _embedded(root: Path, run: Run) -> Embedded | str:
    status = _read(root, f"{run.folder}/{PREDICTIONS}", read_status)
    if isinstance(status, str):
        return status
    if status.failed:
        return str(status)
    vectors = _read(root, f"{run.folder}/embeddings.safetensors", storage.read_tensors)
    predictions = storage.read_table(root / run.folder / PREDICTIONS)
    geometry = _read(root, f"{run.folder}/geometry.parquet", storage.read_table)
    if isinstance(vectors, str):
        return vectors
    if isinstance(geometry, str):
        return geometry
    test = predictions[predictions["split"] == "test"].sort_values("image")
    measures = geometry.set_index("measure")["value"]
    return Embedded(
        vectors[0]["test"],
        test["label"].to_numpy(),
        float(test["correct"].mean()),
        float(measures.get(SILHOUETTE, np.nan)),
    )


def _read(root: Path, relative: str, read: Callable[[Path], T]) -> T | str:
    """Read a file of the results, or return the reason why it cannot be: it is not there."""
    path = root / relative
    return read(path) if path.exists() else f"no file {relative}"
