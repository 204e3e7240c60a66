"""Benchmarks of the evaluation: against Quantus, against published code, against bare passes."""

import inspect
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import quantus
import torch
import yaml
from torch import nn

from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe
from clarity.config import Config, load_config
from clarity.data.scenes import generate_pairs, generate_single
from clarity.metrics import quantus_calls  # noqa: F401 (mends one function of Quantus)
from clarity.metrics.evaluate import Cost, Subject, evaluate
from clarity.metrics.memory import Memory
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import every_metric, info
from clarity.models.classifier import Classifier, Shape, direction

ROOT = Path(__file__).parents[1]
CLASSES = 8
BATCH = 64

#: Why a metric takes more than `LIMIT` times its passes: what it does beside them.
LIMIT = 1.5
_SSIM = "SSIM, pair by pair"
_NOISE = "noise, drawn image by image"
_MOSAICS = "a map or score of a mosaic counts as one and has four times the pixels"
_COPIES = "copies of the network, weights drawn anew"
BESIDE = {
    "AvgSensitivity": _NOISE,
    "MaxSensitivity": _NOISE,
    "LocalLipschitzEstimate": _NOISE,
    "ClassSensitivity": _SSIM,
    "ContrastivityIndex": f"{_SSIM}, twice; {_NOISE}",
    "RandomLogit": _SSIM,
    "SsimRandomClass": _SSIM,
    "ReleasedContinuity": f"{_SSIM}; {_NOISE}",
    "DiFull": _MOSAICS,
    "DiPart": _MOSAICS,
    "Focus": _MOSAICS,
    "GridPointingGame": _MOSAICS,
    "MosaicAccuracy": _MOSAICS,
    "MPRT": f"{_COPIES}; ranks of maps",
    "SmoothMPRT": f"{_COPIES}; {_NOISE}; ranks of maps",
    "EfficientMPRT": f"{_COPIES}; histograms",
    "InputInvariance": "a copy of the network",
    "MapClassifier": "the classifier; the maps are stored",
    "MapSilhouette": "distances between all maps",
    "SpaceAgreement": "ranks of distances between all maps",
    "Sufficiency": "distances between all maps",
    "ROAD": "a system of equations for each image and percentage",
}


def default_grid() -> Config:
    """Return the default config."""
    return load_config(yaml.safe_load((ROOT / "config.yaml").read_text()))


def network() -> Classifier:
    """Return an untrained network with heads, prototypes and references of its own."""
    torch.manual_seed(0)
    model = Classifier(Shape({"name": "convnet"}, 3, 32, CLASSES))
    data = generate_single(10 * CLASSES, split="train", seed=0)
    labels = torch.from_numpy(data.classes[:, 0].astype(np.int64))
    with torch.no_grad():
        pixels = torch.from_numpy(data.images).float() / 255
        model(pixels)  # the statistics of batch normalisation
        unit = direction(model.eval().embed(pixels))
        members = nn.functional.one_hot(labels, CLASSES).float()
        model.prototypes.copy_(direction(members.T @ unit))
        model.center.copy_(unit.mean(dim=0))
        model.prototypes_centred.copy_(direction(members.T @ (unit - model.center)))
        model.set_references(unit, labels)
    return model.requires_grad_(False)


def subject(model: Classifier, recipe: MethodRecipe, count: int, *, scenes: bool) -> Subject:
    """Return the maps of a method on generated images, of all classes."""
    data = (generate_pairs if scenes else generate_single)(count, split="test", seed=0)
    images = data.images.astype(np.float32) / 255
    first = data.classes.astype(np.int64)
    if not scenes:
        first = np.stack([first[:, 0], (first[:, 0] + 1) % CLASSES], axis=1)
    others = [[c for c in range(CLASSES) if c not in pair] for pair in first.tolist()]
    classes = np.concatenate([first, np.array(others)], axis=1)
    explainer = Explainer(recipe, model)

    def explain(score: nn.Module, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        made = explainer if score is explainer.score else Explainer(recipe, score)  # type: ignore[arg-type]
        found: np.ndarray = made(
            torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(wanted))
        ).numpy()
        return found

    every = explainer(torch.from_numpy(images), torch.from_numpy(classes)).numpy()
    masks = data.masks.astype(bool)
    grey = np.where(masks[:, :, None], np.float32(0.5), images[:, None])
    return Subject(
        images=images,
        maps=every,
        classes=classes,
        single=np.full(count, not scenes),
        masks=masks,
        model=explainer.score,
        explain=explain,
        without=grey if scenes else None,
    )


def by_quantus(judged: Subject, metric: Any, name: str) -> None:
    """Call a metric of Quantus on all images, in batches, as its documentation has it."""
    sign = np.abs if info(MetricRecipe(metric=name)).sign == "absolute" else np.asarray

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        maps = judged.explain(model, np.asarray(inputs, np.float32), np.asarray(targets))
        return np.asarray(sign(maps))[:, None]

    assert judged.masks is not None
    metric(
        model=judged.model,
        x_batch=judged.images.copy(),
        y_batch=judged.classes[:, 0].copy(),
        a_batch=np.array(sign(judged.maps[:, :1])),
        s_batch=judged.masks[:, :1].copy(),
        explain_func=explain,
        channel_first=True,
        batch_size=BATCH,
    )


def against_quantus(count: int, repeats: int) -> dict[str, Any]:
    """Compare the metrics of the default grid that Quantus has, for all its methods at once."""
    config = default_grid()
    recipes = {name: r for name, r in config.metrics.items() if _quantus_can(r)}
    model = network()
    cells = {
        name: subject(model, recipe, count, scenes=False) for name, recipe in config.methods.items()
    }
    spent: dict[str, dict[str, float]] = {
        name: {"clarity": float("inf"), "quantus": float("inf")} for name in recipes
    }
    for _ in range(repeats):
        ours: dict[str, float] = dict.fromkeys(recipes, 0.0)
        memories: dict[Any, Memory] = {}
        for name, cell in cells.items():
            method = config.methods[name]
            memory = memories.setdefault((method.target, method.foil), Memory())
            costs: dict[str, Cost] = {}
            whole = replace(cell, scores_memory=memory)
            evaluate(whole, recipes, dataset="scenes", seed=0, batch_size=BATCH, costs=costs)
            for metric, cost in costs.items():
                ours[metric] += cost.seconds
        for metric, recipe in recipes.items():
            theirs = 0.0
            for cell in cells.values():
                start = time.perf_counter()
                by_quantus(cell, _of_quantus(recipe), recipe.metric)
                theirs += time.perf_counter() - start
            best = spent[metric]
            best["clarity"] = min(best["clarity"], ours[metric])
            best["quantus"] = min(best["quantus"], theirs)
    total = {who: sum(times[who] for times in spent.values()) for who in ("clarity", "quantus")}
    return {
        "images": count,
        "methods": list(cells),
        "metrics": {n: {**t, "ratio": t["quantus"] / t["clarity"]} for n, t in spent.items()},
        "all": {**total, "ratio": total["quantus"] / total["clarity"]},
    }


def _quantus_can(recipe: MetricRecipe) -> bool:
    """Whether Quantus has the metric, and takes the recipe's arguments with these values."""
    kind = getattr(quantus, recipe.metric, None)
    # Blur is an imputer of CLarity's.
    return (
        kind is not None
        and recipe.arguments.keys() <= inspect.signature(kind.__init__).parameters.keys()
        and recipe.arguments.get("perturb_baseline") != "blur"
    )


def _of_quantus(recipe: MetricRecipe) -> Any:
    """Return Quantus' own class with the arguments of a recipe."""
    extra = {"num_classes": CLASSES} if recipe.metric == "RandomLogit" else {}
    return getattr(quantus, recipe.metric)(
        **recipe.arguments,
        **extra,
        normalise=False,
        disable_warnings=True,
        display_progressbar=False,
        return_aggregate=False,
    )


def against_passes(count: int, repeats: int) -> dict[str, Any]:
    """Compare each metric, Grad-CAM judged, with the passes that it asks for and nothing else."""
    model = network()
    recipe = MethodRecipe(method="LayerGradCam")
    kinds = {scenes: subject(model, recipe, count, scenes=scenes) for scenes in (False, True)}
    cell = kinds[False]
    forward = _seconds(repeats, lambda: _score(cell), count)
    explained = _seconds(
        repeats, lambda: cell.explain(cell.model, cell.images, cell.classes[:, 0]), count
    )
    found: dict[str, Any] = {}
    for name, plain in every_metric(["scenes"], ["scenes"], ["scenes"]).items():
        metric = MetricRecipe(**plain)
        times = []
        for _ in range(repeats):
            costs: dict[str, Cost] = {}
            judged = replace(kinds[info(metric).needs_scenes], scores_memory=Memory(0))
            evaluate(
                judged, {name: metric}, dataset="scenes", seed=0, batch_size=BATCH, costs=costs
            )
            times.append(costs[name].seconds)
        cost = costs[name]
        needed = cost.forward * forward + cost.explained * explained
        found[name] = {
            "seconds an image": min(times) / count,
            "passes an image": cost.forward / count,
            "maps an image": cost.explained / count,
            "seconds of these": needed / count,
            "ratio": min(times) / needed if needed else None,
            "why": BESIDE.get(metric.metric, ""),
        }
    return {"forward pass": forward, "map": explained, "metrics": found}


def _seconds(repeats: int, work: Callable[[], Any], count: int) -> float:
    """Return the least time of some calls, in seconds an image."""
    times = []
    for _ in range(max(repeats, 3)):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) / count


@torch.no_grad()
def _score(judged: Subject) -> None:
    for start in range(0, len(judged.images), BATCH):
        judged.model(torch.from_numpy(judged.images[start : start + BATCH].copy()))


PAGE = """\
# Benchmarks of the evaluation

Made by `make bench` in one run, side by side, on one thread of {processor}: torch {torch}, quantus
{quantus}, numpy {numpy}. Times are the least of some repeats.

## Against published code

The five facets of arXiv 2604.22540 for Grad-CAM and Eigen-CAM on a ResNet-18 for 32x32 pixels,
image by image over the same libraries (`bench/clxai_loop.py`), and by CLarity in whole batches.
Both need the same passes of the network, {passes:.0f} an image.

| | seconds an image |
|---|---|
| loop | {loop:.3f} |
| CLarity | {clarity:.3f} |
| the passes alone, in batches | {bare:.3f} |

**{ratio:.1f} times faster.** Largest difference of a value: {differences}.

## Against Quantus with the same batches

The metrics of the default grid that Quantus can compute as they are, for its {methods} methods on
{images} images of the small network: CLarity as a grid runs them, Quantus called metric by metric
and method by method with batches of {batch}.

| metric | CLarity, s | Quantus, s | ratio |
|---|---|---|---|
{against}

## Against bare passes

Each metric with the arguments of `metrics: all`, Grad-CAM judged: milliseconds an image, and how
many times what the passes that it asks for take by themselves (a forward pass {forward:.2f} ms, a
map {explained:.2f} ms an image). Metrics without passes have no ratio.

| metric | images scored | maps made | ms | times its passes | beside them |
|---|---|---|---|---|---|
{costs}
"""


def page(found: dict[str, Any], environment: dict[str, Any]) -> str:
    """Return what was found as Markdown."""
    facets, others, costs = (
        found[name] for name in ("five facets", "against Quantus", "against bare passes")
    )
    rows = {**others["metrics"], "**all**": others["all"]}
    return PAGE.format(
        **{key: environment["versions"][key] for key in ("torch", "quantus", "numpy")},
        processor=environment["host"]["processor"],
        passes=facets["passes an image"],
        loop=facets["loop seconds an image"],
        clarity=facets["clarity seconds an image"],
        bare=facets["seconds of the passes alone"],
        ratio=facets["ratio"],
        differences=", ".join(f"{k} {v:.0e}" for k, v in facets["largest difference"].items()),
        methods=len(others["methods"]),
        images=others["images"],
        batch=BATCH,
        against="\n".join(
            f"| {name} | {row['clarity']:.2f} | {row['quantus']:.2f} | {row['ratio']:.1f} |"
            for name, row in rows.items()
        ),
        forward=1000 * costs["forward pass"],
        explained=1000 * costs["map"],
        costs="\n".join(
            f"| {name} | {row['passes an image']:.1f} | {row['maps an image']:.1f} "
            f"| {1000 * row['seconds an image']:.2f} "
            f"| {'-' if row['ratio'] is None else format(row['ratio'], '.2f')} | {row['why']} |"
            for name, row in costs["metrics"].items()
        ),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(against_passes(64, 2), indent=1))
