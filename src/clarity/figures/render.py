"""Render: owns which artifact goes into which figure, and writes all figures of a grid.

A file that is missing, or maps that could not be computed, become a panel that says so. A file that
is there and cannot be read stops the stage: it is damaged, and the error says how to remake it.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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
from clarity.figures.separation import separation
from clarity.figures.training import training
from clarity.grid import Cell, Grid, Run
from clarity.statistics.responses import NO_FAMILIES
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
)


def render_all(
    root: storage.StrPath,
    out_dir: storage.StrPath,
    *,
    datasets: Sequence[str],
    losses: Sequence[str],
    seeds: Sequence[int],
    methods: Sequence[str],
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    controls: Collection[str],
    settings: Settings,
    families: Mapping[str, str] = NO_FAMILIES,
    tables: storage.StrPath | None = None,
) -> list[Path]:
    """Draw and write every figure of a grid: those of `clarity.figures.names.figure_names`.

    Args:
        root: the results root, with hive folders.
        out_dir: where the figures go.
        datasets: names in the order of the config; likewise ``losses``, ``seeds`` and ``methods``.
            The gallery and the embeddings show the first seed.
        losses: see ``datasets``.
        seeds: see ``datasets``.
        methods: see ``datasets``.
        metrics: what must be known of each metric, in order.
        baseline: the loss that all others are compared with.
        controls: the methods that look at neither model nor class.
        settings: how scores were compared.
        families: of the metrics that are a setting of something, what they are a setting of.
        tables: the folder of the tables; ``root``/tables if not given.

    Returns:
        The files that were written.

    Raises:
        clarity.storage.CorruptArtifact: if a table of `DRAWN` is missing, or any file is there and
            cannot be read.
    """
    source, target = Path(root), Path(out_dir)
    grid = Grid(datasets, losses, seeds, methods)
    folder = Path(tables or source / "tables")
    compared = {name: storage.read_table(folder / f"{name}.parquet") for name in DRAWN}
    every_cell: dict[str, Any] = {
        "losses": losses,
        "methods": methods,
        "metrics": list(metrics),
        "controls": controls,
        "baseline": baseline,
    }
    drawers: dict[str, Callable[[str], Figure]] = {
        "gallery": lambda name: _gallery(source, name, grid, baseline, controls),
        "training": lambda name: _training(source, name, grid, baseline),
        "embeddings": lambda name: _embeddings(source, name, grid, baseline),
        "measures": lambda name: measures(
            compared["models-comparisons"],
            compared["models"],
            dataset=name,
            losses=losses,
            baseline=baseline,
        ),
        "heatmap": lambda name: heatmap(compared["comparisons"], dataset=name, **every_cell),
        "curves": lambda name: curves(compared["curves"], dataset=name, **every_cell),
    }
    files: list[Path] = []
    for dataset in datasets:
        for kind in names.DATASET_KINDS:
            files += style.save(drawers[kind](dataset), target, names.stem(kind, dataset))
    runs = run_differences(compared["runs"], baseline)
    for metric in metrics:
        figure = effects(
            compared["comparisons"],
            runs,
            metric=metric,
            datasets=datasets,
            losses=losses,
            methods=methods,
            controls=list(controls),
            baseline=baseline,
        )
        files += style.save(figure, target, names.stem(names.METRIC_KIND, metric))
    for category in categories_of(metrics):
        figure = ranks(compared["ranks"], category=category, losses=losses, baseline=baseline)
        files += style.save(figure, target, names.stem(names.CATEGORY_KIND, category))
    across = {
        "forest": forest(
            compared["mixed-models"],
            losses=losses,
            baseline=baseline,
            verdict=[name for name, info in metrics.items() if info.verdict],
        ),
        "separation": separation(
            compared["separation"],
            compared["runs"],
            compared["models"],
            metrics=metrics,
            datasets=datasets,
            losses=losses,
            controls=controls,
            baseline=baseline,
            settings=settings,
            families=families,
        ),
    }
    for kind in names.GRID_KINDS:
        files += style.save(across[kind], target, names.stem(kind))
    return files


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
    chosen = choose_images(classes[order], correct[order], number_of_images(len(grid.losses)))
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
