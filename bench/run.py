"""Benchmarks: ratios of times measured side by side in one run, printed and written as JSON.

    python bench/run.py [--only PART ...] [--out FILE] [--images N] [--repeats N]

Each ratio compares CLarity with the straightforward way on the same work: above 1, CLarity is
faster. Times are the least of some repeats, in seconds, on one thread.
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import captum.attr
import numpy as np
import torch
import yaml
from aggregation import SIZES, aggregation
from clxai_loop import five_facets
from evaluation import against_passes, against_quantus, page
from grid import grid
from scale import scale

from clarity import provenance
from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe, Segments
from clarity.attribution.segments import segment
from clarity.config import load_config
from clarity.data.protocol import Training
from clarity.data.scenes import generate_single
from clarity.losses.recipe import LossRecipe
from clarity.models.classifier import Classifier, Shape
from clarity.training.batches import part
from clarity.training.fit import fit_encoder

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def least(repeats: int, work: Callable[[], Any]) -> float:
    """Return the least time of some calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


#: Losses whose time an epoch is measured beside cross-entropy's, one of each kind.
LOSSES: dict[str, dict[str, Any]] = {
    "cross-entropy": {"loss": "cross-entropy"},
    "triplet, batch-hard": {"loss": "TripletMarginLoss", "miner": "BatchHardMiner"},
    "triplet, all": {"loss": "TripletMarginLoss"},
    "SupCon, 2 views": {"loss": "SupConLoss", "views": 2},
    "multi-similarity": {"loss": "MultiSimilarityLoss"},
    "proxy-anchor": {"loss": "ProxyAnchorLoss"},
    "SoftTriple": {"loss": "SoftTripleLoss"},
    "Smooth-AP": {"loss": "SmoothAPLoss"},
    "SupCon, memory of 1024": {"loss": "SupConLoss", "memory": 1024},
    "ce + triplet": {"terms": [{"loss": "cross-entropy"}, {"loss": "TripletMarginLoss"}]},
}


def training(count: int, repeats: int) -> dict[str, Any]:
    """Compare training with a bare loop over the same model, batches and data, in images/s.

    A bare loop keeps no history, watches no failure and has no schedule. Two epochs of each are
    timed, in turns, so that both meet the same load; the time an epoch of other losses beside it.
    """
    data = generate_single(count, split="train", seed=0)
    images, labels = data.images, data.classes[:, 0]
    epochs = 2
    keys = {"epochs": epochs, "batch-size": 128, "samples-per-class": 16}
    plan = Training(**{**keys, "validation": 0.1})
    parts = part(images, labels, plan, "bench")
    learnt = torch.from_numpy(parts.fit.images), torch.from_numpy(parts.fit.labels)
    seen = 0

    def ours(recipe: dict[str, Any]) -> None:
        nonlocal seen
        trained = fit_encoder(
            parts, 8, plan, LossRecipe(**recipe), dataset="bench", seed=0, device=CPU
        )
        seen = int(trained.history["images_seen"].iloc[-1])

    def bare() -> None:
        model = Classifier(Shape({"name": "convnet"}, images.shape[1], images.shape[2], 8))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        pixels = learnt[0].float() / 255
        for _ in range(epochs):
            for batch in torch.randperm(len(pixels)).split(128)[: seen // epochs // 128]:
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(pixels[batch]), learnt[1][batch])
                loss.backward()
                optimizer.step()

    times = {name: float("inf") for name in ("clarity", "bare loop")}
    for _ in range(repeats):
        times["clarity"] = min(times["clarity"], least(1, lambda: ours(LOSSES["cross-entropy"])))
        times["bare loop"] = min(times["bare loop"], least(1, bare))
    by_loss = {
        name: least(1, functools.partial(ours, recipe)) / epochs for name, recipe in LOSSES.items()
    }
    return {
        "images a second": {name: seen / value for name, value in times.items()},
        "ratio": times["bare loop"] / times["clarity"],
        "seconds an epoch, by loss": by_loss,
    }


@dataclass(frozen=True)
class Passes:
    """What the definition of a method asks of the network, an image.

    Attributes:
        recipe: the method.
        forward: forward passes, which all classes share.
        backward: how many of them go backward to the image, for each class.
        captum: the class of Captum that does the same, if any, for one image and class a call.
        arguments: its arguments, where they are not those of the recipe.
    """

    recipe: dict[str, Any]
    forward: int
    backward: int = 0
    captum: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


SQUARES = {"name": "grid", "count": 16}

#: One of each kind; regions are 16 squares, steps and samples few.
EXPLAINED: dict[str, Passes] = {
    "Saliency": Passes({"method": "Saliency"}, 1, 1, "Saliency"),
    "InputXGradient": Passes({"method": "InputXGradient"}, 1, 1, "InputXGradient"),
    "IntegratedGradients": Passes(
        {"method": "IntegratedGradients", "n_steps": 16}, 16, 16, "IntegratedGradients"
    ),
    "GradientShap": Passes(
        {"method": "GradientShap", "n_samples": 16, "baseline": "black"}, 16, 16
    ),
    "SmoothGrad": Passes(
        {"method": "Saliency", "noise": {"name": "smoothgrad", "samples": 16}}, 16, 16
    ),
    "GuidedBackprop": Passes({"method": "GuidedBackprop"}, 1, 1, "GuidedBackprop"),
    "DeepLift": Passes({"method": "DeepLift"}, 2, 2),
    "LRP": Passes({"method": "LRP"}, 1, 1),
    "LayerGradCam": Passes({"method": "LayerGradCam"}, 1, 0, "LayerGradCam"),
    "GradCAMPlusPlus": Passes({"method": "GradCAMPlusPlus"}, 1),
    "LayerCAM": Passes({"method": "LayerCAM"}, 1),
    "ScoreCAM": Passes({"method": "ScoreCAM"}, 1 + 64),
    "AblationCAM": Passes({"method": "AblationCAM"}, 1),
    "FeatureAblation": Passes(
        {"method": "FeatureAblation", "segments": SQUARES}, 1 + 16, 0, "FeatureAblation"
    ),
    "Occlusion": Passes(
        {"method": "Occlusion", "sliding_window_shapes": [3, 8, 8], "strides": [3, 8, 8]},
        1 + 16,
        0,
        "Occlusion",
        {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)},
    ),
    "ShapleyValueSampling": Passes(
        {"method": "ShapleyValueSampling", "n_samples": 5, "segments": SQUARES},
        2 + 5 * 15,
        0,
        "ShapleyValueSampling",
        {"n_samples": 5},
    ),
    "KernelShap": Passes(
        {"method": "KernelShap", "n_samples": 64, "segments": SQUARES},
        64,
        0,
        "KernelShap",
        {"n_samples": 64},
    ),
    "Lime": Passes({"method": "Lime", "n_samples": 64, "segments": SQUARES}, 64),
    "RISE": Passes({"method": "RISE", "n_masks": 64}, 64),
}


def bare(
    score: torch.nn.Module, images: torch.Tensor, classes: torch.Tensor, passes: Passes
) -> None:
    """Run the passes that a method's definition needs, in batches of 64, and nothing else."""
    copies = images.repeat_interleave(passes.forward, dim=0)
    targets = classes.repeat_interleave(passes.forward, dim=0)
    for batch, wanted in zip(copies.split(64), targets.split(64), strict=True):
        if not passes.backward:
            with torch.no_grad():
                score(batch)
            continue
        leaf = batch.requires_grad_(True)
        scores = score(leaf)
        for slot in range(classes.shape[1]):
            chosen = scores.gather(1, wanted[:, slot : slot + 1]).sum()
            torch.autograd.grad(chosen, leaf, retain_graph=slot + 1 < classes.shape[1])


def one_by_one(
    score: Any, images: torch.Tensor, classes: torch.Tensor, passes: Passes, squares: torch.Tensor
) -> None:
    """Explain by Captum's class, one image and one class a call, as published code has it."""
    kind = getattr(captum.attr, str(passes.captum))
    method = kind(score, score.layer) if passes.captum == "LayerGradCam" else kind(score)
    extra = {k: v for k, v in passes.recipe.items() if k == "n_steps"} | passes.arguments
    for row in range(len(images)):
        one = slice(row, row + 1)
        mask = {"feature_mask": squares[one]} if "segments" in passes.recipe else {}
        for slot in range(classes.shape[1]):
            image = images[one].clone().requires_grad_(True)
            method.attribute(image, target=classes[one, slot], **mask, **extra)


def attribution(count: int, repeats: int) -> dict[str, Any]:
    """Compare each method, two classes an image, with the passes it needs and with a loop."""
    data = generate_single(count, split="test", seed=0)
    torch.manual_seed(0)
    model = Classifier(Shape({"name": "convnet"}, 3, 32, 10)).eval().requires_grad_(False)
    images = torch.from_numpy(data.images.astype(np.float32) / 255)
    first = torch.from_numpy(data.classes[:, 0].astype(np.int64))
    classes = torch.stack([first, (first + 1) % 10], dim=1)
    squares = segment(images, Segments(**SQUARES))[:, None]
    found: dict[str, Any] = {}
    for name, passes in EXPLAINED.items():
        explain = Explainer(MethodRecipe(**passes.recipe), model)
        ours = functools.partial(explain, images, classes)
        needed = functools.partial(bare, explain.score, images, classes, passes)
        times = {"clarity": float("inf"), "bare passes": float("inf")}
        for _ in range(repeats):
            times["clarity"] = min(times["clarity"], least(1, ours))
            times["bare passes"] = min(times["bare passes"], least(1, needed))
        found[name] = {
            **times,
            "images a second": count / times["clarity"],
            "times the bare passes": times["clarity"] / times["bare passes"],
        }
        if passes.captum is not None:
            loop = functools.partial(one_by_one, explain.score, images, classes, passes, squares)
            found[name]["loop"] = least(1, loop)
            found[name]["ratio"] = found[name]["loop"] / times["clarity"]
    every = torch.arange(10).expand(count, 10)
    cam = Explainer(MethodRecipe(method="LayerGradCam"), model)
    theirs = captum.attr.LayerGradCam(model, model.encoder.cam_layer)

    def apart() -> None:
        for label in range(10):
            theirs.attribute(images, target=every[:, label])

    def forward() -> None:
        with torch.no_grad():
            model(images)

    all_classes = {
        "clarity": least(repeats, lambda: cam(images, every)),
        "captum, a class a call": least(repeats, apart),
        "one forward pass": least(repeats, forward),
    }
    return {"two classes": found, "Grad-CAM of ten classes": all_classes}


def checking(repeats: int) -> dict[str, float]:
    """Time the check of the default config, which every cluster job does."""
    values = yaml.safe_load((ROOT / "config.yaml").read_text())
    return {"config.yaml, later in a process": least(repeats, lambda: load_config(values))}


def evaluation(count: int, repeats: int) -> dict[str, Any]:
    """Compare the evaluation with published code, with Quantus in batches and with bare passes."""
    return {
        "five facets": five_facets(count),
        "against Quantus": against_quantus(64, repeats),
        "against bare passes": against_passes(64, repeats),
    }


def tables() -> list[dict[str, Any]]:
    """Time all tables of grids of growing size, from score files of the real layout."""
    found: list[dict[str, Any]] = in_scratch(lambda folder: aggregation(folder, list(SIZES)))
    return found


def in_scratch(measure: Callable[[Path], Any]) -> Any:
    """Measure something that writes, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        return measure(Path(scratch))


#: What can be measured, by name.
PARTS: dict[str, Callable[[int, int], Any]] = {
    "evaluation": evaluation,
    "attribution": lambda count, repeats: attribution(64, repeats),
    "training": lambda count, repeats: training(1280, repeats),
    "checking": lambda count, repeats: checking(repeats),
    "tables": lambda count, repeats: tables(),
    "scale": lambda count, repeats: in_scratch(scale),
    "grid": lambda count, repeats: in_scratch(grid),
}


def main() -> None:
    """Run the benchmarks, and write what they found as JSON and into the docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results.json")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: PARTS[name](chosen.images, chosen.repeats) for name in chosen.only}
    chosen.out.write_text(json.dumps({**found, **provenance.environment()}, indent=2) + "\n")
    json.dump(found, sys.stdout, indent=2)
    print(f"\nwritten to {chosen.out}")
    if "evaluation" in found:
        chosen.page.write_text(page(found["evaluation"], provenance.environment()))
        print(f"written to {chosen.page}")


if __name__ == "__main__":
    main()
