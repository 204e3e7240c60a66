"""Evaluating: owns how the maps of one cell become rows of scores, whatever the metrics."""

import importlib
import inspect
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import nn

from clarity import catalogue
from clarity.attribution.protocol import MethodUnavailable
from clarity.metrics.batch import (
    Batch,
    Curves,
    Explain,
    MetricUnavailable,
    Passes,
    Pool,
    Scores,
    is_constant,
    scaled,
    with_sign,
)
from clarity.metrics.memory import Memory
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import MetricInfo, info
from clarity.seeds import derive_seed

if TYPE_CHECKING:
    # Loaded when a recipe names a class of theirs. They stand here to count as source of the stages
    # that evaluate (`clarity.provenance.imports`).
    from clarity.metrics import (  # noqa: F401
        axiomatic,
        class_maps,
        complexity,
        contrastivity,
        faithfulness,
        flipping,
        localisation,
        mosaics,
        parts,
        randomisation,
        released,
        robustness,
    )


@dataclass(frozen=True)
class Subject:
    """What is judged: the maps of one cell, and what they explain.

    Attributes:
        images: float32 [N, C, H, W] in [0, 1].
        maps: float32 [N, K, H, W], signed, of all ``classes``, at least two.
        classes: int64 [N, K]: first label and foil of a single image, or both classes of a scene.
        single: bool [N], false for two-class scenes.
        masks: bool [N, 2, H, W] of the objects of a scene, or of a single image's object first;
            None if the dataset has none.
        without: float32 [N, 2, C, H, W], the scenes without one of their objects; None if the
            dataset has none.
        model: from images to scores of all classes, the function that the maps explain.
        explain: from a model, ``model`` or a changed copy of it, images [B, C, H, W] and classes
            [B] to signed maps [B, H, W].
        scores_memory: of the model's scores, for other methods that explain the same score.
    """

    images: np.ndarray
    maps: np.ndarray
    classes: np.ndarray
    single: np.ndarray
    masks: np.ndarray | None
    model: nn.Module
    explain: Explain
    without: np.ndarray | None = None
    scores_memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True)
class Cost:
    """What a metric took: seconds, images, and what it asked of the model (see `Passes`)."""

    seconds: float
    images: int
    forward: int
    explained: int


def evaluate(
    subject: Subject,
    recipes: Mapping[str, MetricRecipe],
    *,
    dataset: str,
    seed: int,
    batch_size: int = 64,
    costs: MutableMapping[str, Cost] | None = None,
) -> pd.DataFrame:
    """Score the maps of a cell by every metric that applies to its dataset.

    Random draws depend on dataset, seed and image, never on loss, method or metric: all are judged
    by the same subsets and the same noise, and settings of a metric differ in the setting alone.

    Args:
        subject: the cell.
        recipes: the metrics, by recipe name.
        dataset: the dataset axis; metrics restricted to other datasets are left out.
        seed: the seed axis.
        batch_size: images a call of the model or the method.
        costs: filled with what each metric took, by recipe name.

    Returns:
        One row an image and metric: image (int32, the row in the evaluation set), metric, value
        (float64), status ("ok", "nan" or "unavailable"), reason ("" if ok) and curve (float64, what
        the value was made of, if that is more than a number; else None). Its ``attrs["curves"]``
        says by metric what the points of its curves are.
    """
    frames = []
    curves: dict[str, dict[str, Any]] = {}
    maps_memory = Memory()
    for name, recipe in recipes.items():
        known = info(recipe)
        images = _rows(subject.single, known)
        if _left_out(recipe, dataset) or not len(images):
            continue
        seeds = [derive_seed("metric", dataset, seed, int(image)) for image in images]
        passes = Passes()
        start = time.perf_counter()
        try:
            batch = _batch(subject, known, images, seeds, batch_size, passes, maps_memory)
            scores = _score(batch, subject.maps[images, 0], recipe, known)
        except (MethodUnavailable, MetricUnavailable) as error:
            # Of an image that the metric has changed, say, or of a network without an encoder.
            scores = _nothing(len(images), str(error))
        except Exception as error:
            error.add_note(f"while computing the metric '{name}' ({recipe.metric})")
            raise
        if costs is not None:
            seconds = time.perf_counter() - start
            costs[name] = Cost(seconds, len(images), passes.forward, passes.explained)
        if scores.curves is not None:
            curves[name] = {"axis": scores.curves.axis, "at": list(scores.curves.at)}
        frames.append(_frame(name, images, scores))
    found = pd.concat(frames, ignore_index=True) if frames else _frame("", np.arange(0), None)
    found.attrs["curves"] = curves
    return found


def unavailable(
    single: np.ndarray, recipes: Mapping[str, MetricRecipe], reason: str, dataset: str
) -> pd.DataFrame:
    """Return the rows of a cell whose maps could not be computed: `evaluate`'s, all unavailable."""
    frames = []
    for name, recipe in recipes.items():
        images = _rows(single, info(recipe))
        if _left_out(recipe, dataset) or not len(images):
            continue
        frames.append(_frame(name, images, _nothing(len(images), reason)))
    found = pd.concat(frames, ignore_index=True) if frames else _frame("", np.arange(0), None)
    found.attrs["curves"] = {}
    return found


def _nothing(count: int, reason: str) -> Scores:
    """Return no value for any of ``count`` images, for one reason."""
    everything = np.ones(count, dtype=bool)
    return Scores(np.full(count, np.nan)).leave_out(everything, reason, unavailable=True)


def _left_out(recipe: MetricRecipe, dataset: str) -> bool:
    return recipe.datasets is not None and dataset not in recipe.datasets


def _rows(single: np.ndarray, known: MetricInfo) -> np.ndarray:
    """Return the images that a metric is about."""
    return np.flatnonzero(single if known.images == "single" else ~single)


def _batch(
    subject: Subject,
    known: MetricInfo,
    images: np.ndarray,
    seeds: list[int],
    batch_size: int,
    passes: Passes,
    maps_memory: Memory,
) -> Batch:
    """Gather the images that a metric is about, their maps with its sign and scale."""

    def prepared(maps: np.ndarray) -> np.ndarray:
        signed = with_sign(maps, known.sign)
        return scaled(signed) if known.scale == "max" else signed

    # All of them are not copied: with maps of all classes, copies would not fit into memory.
    rows = slice(None) if len(images) == len(subject.images) else images
    masks = None if subject.masks is None else subject.masks[rows]
    alone = np.flatnonzero(subject.single)
    return Batch(
        images=subject.images[rows],
        ids=images,
        maps=prepared(subject.maps[images, 0]),
        foil_maps=prepared(subject.maps[images, 1]),
        classes=subject.classes[images, 0],
        foils=subject.classes[images, 1],
        masks=None if masks is None else masks[:, 0],
        foil_masks=None if masks is None else masks[:, 1],
        without=None if subject.without is None else subject.without[rows],
        stored=subject.maps[rows],
        stored_classes=subject.classes[images],
        pool=Pool(subject.images[alone], subject.classes[alone, 0], alone),
        seeds=seeds,
        model=subject.model,
        softmax=known.softmax,
        explain=subject.explain,
        prepared=prepared,
        batch_size=batch_size,
        passes=passes,
        maps_memory=maps_memory,
        scores_memory=subject.scores_memory,
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
    # As many images at a time as a call of the model takes, so that what a metric holds of each
    # fits into memory, however many there are.
    size = max(1, len(rows) if known.whole_set else batch.batch_size)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        found = metric(batch if len(part) == len(batch) else batch.rows(part))
        scores.values[part] = found.values
        scores.reasons |= {int(part[row]): reason for row, reason in found.reasons.items()}
        scores.unavailable |= {int(part[row]) for row in found.unavailable}
        if found.curves is not None:
            if scores.curves is None:
                nothing = [np.zeros(0)] * len(batch)
                scores.curves = Curves(found.curves.axis, found.curves.at, nothing)
            for row, curve in zip(part, found.curves.values, strict=True):
                scores.curves.values[row] = curve
    return (
        scores.leave_out(constant, "constant map")
        .leave_out(without_positive, "no positive mass")
        .leave_out(broken, "the map has values that are not finite")
    )


def _metric(recipe: MetricRecipe, known: MetricInfo) -> Callable[[Batch], Scores]:
    """Build the metric that a recipe names."""
    if ":" in recipe.metric:
        kind: Any = catalogue.load_own(recipe.metric)
    else:
        found = catalogue.find("metrics", recipe.metric)
        kind = getattr(importlib.import_module(found.module), found.name)
    # Quantus takes seconds to load. A class of its own, and one that calls it, has loaded it.
    if "quantus" in sys.modules:
        from quantus.metrics.base import Metric

        from clarity.metrics.quantus_calls import OneByOne

        if inspect.isclass(kind) and issubclass(kind, Metric):
            return OneByOne(kind, known.sign, known.needs_masks, recipe.arguments)
    built: Callable[[Batch], Scores] = kind(**recipe.arguments)
    return built


def _frame(name: str, images: np.ndarray, scores: Scores | None) -> pd.DataFrame:
    """Turn scores into rows."""
    scores = Scores(np.zeros(0)) if scores is None else scores
    values = scores.values.astype(np.float64)
    finite = np.isfinite(values)
    statuses = np.where(finite, "ok", "nan").astype(object)
    reasons = np.where(finite, "", "not a finite number").astype(object)
    for row, reason in scores.reasons.items():
        reasons[row] = reason
    statuses[list(scores.unavailable)] = "unavailable"
    found: list[np.ndarray | None] = [None] * len(images)
    if scores.curves is not None:
        found = [curve if len(curve) else None for curve in scores.curves.values]
    return pd.DataFrame(
        {
            "image": images.astype(np.int32),
            "metric": pd.Series([name] * len(images), dtype=str),
            "value": np.where(finite, values, np.nan),
            "status": pd.Series(statuses, dtype=str),
            "reason": pd.Series(reasons, dtype=str),
            "curve": pd.Series(found, dtype=object),
        }
    )
