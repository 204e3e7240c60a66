"""Evaluating: owns how the maps of one cell become rows of scores, whatever the metrics."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import quantus
from quantus.metrics.base import Metric
from torch import nn

from clarity.catalogue import load_own
from clarity.metrics import contrastivity
from clarity.metrics.batch import Batch, Scores, is_constant, scaled, with_sign
from clarity.metrics.quantus_adapter import ADAPTED, OneByOne
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import MetricInfo, info
from clarity.seeds import derive_seed


@dataclass(frozen=True)
class Subject:
    """What is judged: the maps of one cell, and what they explain.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1].
        maps: float32 [N, 2, H, W], signed, of both ``classes``.
        classes: int64 [N, 2]: label and foil of a single image, both classes of a scene.
        single: bool [N], false for two-class scenes.
        masks: bool [N, 2, H, W] of the objects of a scene, or of a single image's object first;
            None if the dataset has none.
        model: from images to scores of all classes, the function that the maps explain.
        explain: from images [B, C, H, W] and classes [B] to signed maps [B, H, W].
    """

    images: np.ndarray
    maps: np.ndarray
    classes: np.ndarray
    single: np.ndarray
    masks: np.ndarray | None
    model: nn.Module
    explain: Callable[[np.ndarray, np.ndarray], np.ndarray]


def evaluate(
    subject: Subject,
    recipes: Mapping[str, MetricRecipe],
    *,
    dataset: str,
    seed: int,
    batch_size: int = 64,
) -> pd.DataFrame:
    """Score the maps of a cell by every metric that applies to its dataset.

    Random draws depend on dataset, seed, metric and image, never on loss or method: all are judged
    by the same subsets and the same noise.

    Args:
        subject: the cell.
        recipes: the metrics, by recipe name.
        dataset: the dataset axis; metrics restricted to other datasets are left out.
        seed: the seed axis.
        batch_size: images a call of the model or the method.

    Returns:
        One row an image and metric: image (int32, the row in the evaluation set), metric, value
        (float64), status ("ok", "nan" or "unavailable") and reason ("" if ok).
    """
    frames = []
    for name, recipe in recipes.items():
        known = info(recipe)
        images = _rows(subject.single, known)
        if _left_out(recipe, dataset) or not len(images):
            continue
        seeds = [derive_seed("metric", dataset, seed, name, int(image)) for image in images]
        try:
            batch = _batch(subject, known, images, seeds, batch_size)
            scores = _score(batch, subject.maps[images, 0], recipe, known)
        except Exception as error:
            error.add_note(f"while computing the metric '{name}' ({recipe.metric})")
            raise
        frames.append(_frame(name, images, scores))
    return pd.concat(frames, ignore_index=True) if frames else _frame("", np.arange(0), None)


def unavailable(
    single: np.ndarray, recipes: Mapping[str, MetricRecipe], reason: str, dataset: str
) -> pd.DataFrame:
    """Return the rows of a cell whose maps could not be computed: `evaluate`'s, all unavailable."""
    frames = []
    for name, recipe in recipes.items():
        images = _rows(single, info(recipe))
        if _left_out(recipe, dataset) or not len(images):
            continue
        nothing = Scores(np.full(len(images), np.nan))
        everything = np.ones(len(images), dtype=bool)
        frames.append(_frame(name, images, nothing.leave_out(everything, reason, unavailable=True)))
    return pd.concat(frames, ignore_index=True) if frames else _frame("", np.arange(0), None)


def _left_out(recipe: MetricRecipe, dataset: str) -> bool:
    return recipe.datasets is not None and dataset not in recipe.datasets


def _rows(single: np.ndarray, known: MetricInfo) -> np.ndarray:
    """Return the images that a metric is about."""
    return np.flatnonzero(single if known.images == "single" else ~single)


def _batch(
    subject: Subject, known: MetricInfo, images: np.ndarray, seeds: list[int], batch_size: int
) -> Batch:
    """Gather the images that a metric is about, their maps with its sign and scale."""

    def prepared(maps: np.ndarray) -> np.ndarray:
        signed = with_sign(maps, known.sign)
        return scaled(signed) if known.scale == "max" else signed

    masks = None if subject.masks is None else subject.masks[images]
    return Batch(
        images=subject.images[images],
        maps=prepared(subject.maps[images, 0]),
        foil_maps=prepared(subject.maps[images, 1]),
        classes=subject.classes[images, 0],
        foils=subject.classes[images, 1],
        masks=None if masks is None else masks[:, 0],
        foil_masks=None if masks is None else masks[:, 1],
        seeds=seeds,
        model=subject.model,
        softmax=known.softmax,
        explain=lambda pixels, classes: prepared(subject.explain(pixels, classes)),
        batch_size=batch_size,
    )


def _score(batch: Batch, stored: np.ndarray, recipe: MetricRecipe, known: MetricInfo) -> Scores:
    """Score a batch; maps that a metric cannot judge, and would, are set aside first.

    Args:
        batch: the images, with maps of the sign and scale that the metric wants.
        stored: the maps [N, H, W] as they are stored.
        recipe: the metric.
        known: what is known of it.
    """
    metric = _metric(recipe, known)
    scores = Scores(np.full(len(batch), np.nan))
    broken = ~np.isfinite(stored).all(axis=(1, 2))
    constant = np.zeros(len(batch), dtype=bool)
    without_positive = constant
    if not known.constant_maps:
        constant = is_constant(batch.maps)
        if known.sign == "positive":
            without_positive = constant & ~is_constant(stored)
    rows = np.flatnonzero(~(broken | constant))
    if len(rows):
        found = metric(batch.rows(rows))
        scores.values[rows] = found.values
        scores.reasons = {int(rows[row]): reason for row, reason in found.reasons.items()}
        scores.unavailable = {int(rows[row]) for row in found.unavailable}
    return (
        scores.leave_out(constant, "constant map")
        .leave_out(without_positive, "no positive mass")
        .leave_out(broken, "the map has values that are not finite")
    )


def _metric(recipe: MetricRecipe, known: MetricInfo) -> Callable[[Batch], Scores]:
    """Build the metric that a recipe names.

    Raises:
        ValueError: if it has no score of a single image's map; says why.
    """
    if known.unsupported:
        raise ValueError(f"{recipe.metric} cannot be computed: {known.unsupported}")
    name = recipe.metric
    if ":" in name:
        kind: Any = load_own(name)
    else:
        kind = {**ADAPTED, **vars(contrastivity)}.get(name) or getattr(quantus, name)
    if inspect.isclass(kind) and issubclass(kind, Metric):
        return OneByOne(kind, known.sign, known.needs_masks, recipe.arguments)
    built: Callable[[Batch], Scores] = kind(**recipe.arguments)
    return built


def _frame(name: str, images: np.ndarray, scores: Scores | None) -> pd.DataFrame:
    """Turn scores into rows."""
    values = np.zeros(0) if scores is None else scores.values.astype(np.float64)
    statuses, reasons = [], []
    for row, value in enumerate(values.tolist()):
        known = {} if scores is None else scores.reasons
        if scores is not None and row in scores.unavailable:
            statuses.append("unavailable")
        else:
            statuses.append("ok" if np.isfinite(value) else "nan")
        reasons.append(known.get(row, "" if np.isfinite(value) else "not a finite number"))
    return pd.DataFrame(
        {
            "image": images.astype(np.int32),
            "metric": pd.Series([name] * len(images), dtype=str),
            "value": np.where(np.isfinite(values), values, np.nan),
            "status": pd.Series(statuses, dtype=str),
            "reason": pd.Series(reasons, dtype=str),
        }
    )
