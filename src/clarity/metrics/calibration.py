"""Calibration: owns a small world in which the right answer of every metric is known.

Classes are colours. An image has an object of the colour of its class on a grey, noisy ground, a
scene two objects; the network is a detector of colours, pixel by pixel, so that what each pixel
adds to the score of a class is known exactly. Three kinds of maps are judged there:

- ``random``: independent normal noise, another for each image and class;
- ``agnostic``: one map for all classes, the sum of what each pixel adds to all scores: it finds the
  objects and cannot tell them apart;
- ``oracle``: what each pixel adds to the score of the class.

Each is made as coarse as class activation maps are: averaged over squares, then interpolated. What
a metric says of them tells what its numbers mean, and whether it can tell noise from knowledge.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe
from clarity.metrics.batch import Explain
from clarity.metrics.evaluate import Subject, evaluate
from clarity.metrics.recipe import MetricRecipe
from clarity.models.classifier import Classifier, Shape, direction

#: As far from each other in RGB as four colours can be: their L1 distances are 2.
COLOURS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0))
#: What a distance of 1 takes from the response of a detector, which is 1 at its colour. So nothing
#: is left at the colour of another class, at grey and at black: what stands for removed pixels adds
#: nothing to any score.
SLOPE = 1.0
#: The ground, and the largest change of a channel by noise there: enough that some pixels speak
#: weakly for each class, so that no map is zero everywhere. On objects it is less.
GREY = 0.5
GROUND_NOISE, OBJECT_NOISE = 0.4, 0.1
#: Logits are this times the mean response: about 6 for an object.
GAIN = 60.0
#: Pixels of a side; objects are between these in height and width.
SIZE = 32
OBJECT = (9, 13)

KINDS = ("random", "agnostic", "oracle")


class ColourMaps(nn.Sequential):
    """Responses of the detectors: relu(1 - SLOPE * L1 distance of the pixel to the colour).

    Written with two convolutions of single pixels: |a| = relu(a) + relu(-a).
    """

    def __init__(self, channels: int = 3) -> None:
        """Build the network for images of three channels."""
        above = nn.Conv2d(channels, 2 * channels * len(COLOURS), kernel_size=1)
        joined = nn.Conv2d(2 * channels * len(COLOURS), len(COLOURS), kernel_size=1)
        super().__init__(above, nn.ReLU(), joined, nn.ReLU())
        assert above.bias is not None
        assert joined.bias is not None
        with torch.no_grad():
            above.weight.zero_()
            joined.weight.zero_()
            joined.bias.fill_(1.0)
            for label, colour in enumerate(COLOURS):
                for channel, value in enumerate(colour):
                    row = 2 * (label * channels + channel)
                    for unit, sign in ((row, 1.0), (row + 1, -1.0)):
                        above.weight[unit, channel] = sign
                        above.bias[unit] = -sign * value
                        joined.weight[label, unit] = -SLOPE


def detector() -> Classifier:
    """Return the classifier of the world: the logit of a class is its colour's share of the image.

    Prototypes and references are the embeddings of images of the classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        name = f"{__name__}:{ColourMaps.__name__}"
        shape = Shape({"name": name, "centre": False}, 3, SIZE, len(COLOURS))
        model = Classifier(shape)
    images, labels, _ = pictures(20 * len(COLOURS), seed=1)
    with torch.no_grad():
        for head in (model.head, model.probe, model.probe_normalised):
            head.weight.copy_(GAIN * torch.eye(len(COLOURS)))
            head.bias.zero_()
        unit = direction(model.embed(torch.from_numpy(images)))
        members = F.one_hot(torch.from_numpy(labels), len(COLOURS)).float()
        means = members.T @ unit
        model.prototypes.copy_(direction(means))
        model.center.copy_(unit.mean(dim=0))
        model.prototypes_centred.copy_(direction(members.T @ (unit - model.center)))
        model.set_references(unit, torch.from_numpy(labels))
        model.temperatures.fill_(1.0)
    return model.eval().requires_grad_(False)


def pictures(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images float32 [N, 3, S, S], labels int64 [N] and masks bool [N, S, S]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(COLOURS)
    masks = np.zeros((count, SIZE, SIZE), dtype=bool)
    for row in range(count):
        height, width = rng.integers(*OBJECT, 2)
        # Each class in a quarter of its own: something that maps alone can tell classes by.
        down, across = divmod(int(labels[row]), 2)
        half = SIZE // 2
        top = down * half + rng.integers(0, half - height + 1)
        left = across * half + rng.integers(0, half - width + 1)
        masks[row, top : top + height, left : left + width] = True
    return _painted(masks[:, None], labels[:, None], rng), labels, masks


def scenes(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return scenes of two objects, side by side.

    Returns:
        Images float32 [N, 3, S, S], classes int64 [N, 2], masks bool [N, 2, S, S], and the images
        without either object float32 [N, 2, 3, S, S].
    """
    rng = np.random.default_rng(seed)
    first = np.arange(count) % len(COLOURS)
    step = 1 + np.arange(count) // len(COLOURS) % (len(COLOURS) - 1)
    classes = np.stack([first, (first + step) % len(COLOURS)], axis=1)
    masks = np.zeros((count, 2, SIZE, SIZE), dtype=bool)
    half = SIZE // 2
    for row in range(count):
        sides = rng.permutation(2)
        for slot in range(2):
            height, width = rng.integers(*OBJECT, 2)
            top = rng.integers(0, SIZE - height + 1)
            left = sides[slot] * half + rng.integers(0, half - width + 1)
            masks[row, slot, top : top + height, left : left + width] = True
    state = rng.bit_generator.state
    images = _painted(masks, classes, rng)
    without = []
    for slot in range(2):
        # The same noise: all else is the same.
        rng.bit_generator.state = state
        left_out = masks.copy()
        left_out[:, slot] = False
        without.append(_painted(left_out, classes, rng))
    return images, classes, masks, np.stack(without, axis=1)


def _painted(masks: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint objects where ``masks`` [N, K, S, S] are, of classes [N, K], on noisy grey."""
    noise = rng.uniform(-1, 1, (len(masks), 3, SIZE, SIZE))
    images = GREY + GROUND_NOISE * noise
    colours = np.array(COLOURS)[classes]
    for slot in range(masks.shape[1]):
        painted = colours[:, slot, :, None, None] + OBJECT_NOISE * noise
        np.copyto(images, painted, where=masks[:, slot, None])
    return np.clip(images, 0, 1).astype(np.float32)


def explainer(kind: str, side: int) -> Explain:
    """Return how maps of a kind of `KINDS` are made, as coarse as ``side`` x ``side`` places."""
    recipe = MethodRecipe(method="RandomMap" if kind == "random" else "HiResCAM")
    known: dict[nn.Module, Explainer] = {}

    def explain(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        if model not in known:
            known.clear()
            known[model] = Explainer(recipe, model)  # type: ignore[arg-type]
        pixels = torch.from_numpy(np.array(images))
        if kind == "agnostic":
            every = torch.arange(len(COLOURS)).expand(len(images), -1)
            maps = known[model](pixels, every).sum(dim=1)
        else:
            maps = known[model](pixels, torch.from_numpy(np.array(classes)))
        return _coarse(maps, side).numpy()

    return explain


def _coarse(maps: Tensor, side: int) -> Tensor:
    """Average maps [B, H, W] over squares to ``side`` places, and interpolate as for CAMs."""
    shape = maps.shape[1:]
    # A mosaic is larger than an image, and so are the maps of its network.
    height, width = (max(1, side * length // SIZE) for length in shape)
    small = F.adaptive_avg_pool2d(maps[:, None], (height, width))
    back = F.interpolate(small, size=tuple(shape), mode="bilinear", align_corners=False)
    return back[:, 0]


def subject(kind: str, side: int, count: int, *, two_class: bool) -> Subject:
    """Return a cell of maps of a kind, of single images or of scenes."""
    model = Explainer(MethodRecipe(method="HiResCAM"), detector()).score
    explain = explainer(kind, side)
    without = None
    if two_class:
        images, first, masks, without = scenes(count)
    else:
        images, labels, own = pictures(count)
        first = np.stack([labels, (labels + 1 + np.arange(count) // 4 % 3) % len(COLOURS)], axis=1)
        masks = np.stack([own, np.zeros_like(own)], axis=1)
    others = [[c for c in range(len(COLOURS)) if c not in pair] for pair in first.tolist()]
    classes = np.concatenate([first, np.array(others)], axis=1)
    maps = [explain(model, images, classes[:, slot]) for slot in range(len(COLOURS))]
    return Subject(
        images=images,
        maps=np.stack(maps, axis=1),
        classes=classes,
        single=np.full(count, not two_class),
        masks=masks,
        model=model,
        explain=explain,
        without=without,
    )


def calibrate(
    recipes: Mapping[str, MetricRecipe],
    *,
    sides: Sequence[int] = (4, 8, 32),
    kinds: Iterable[str] = KINDS,
    count: int = 48,
) -> pd.DataFrame:
    """Compute metrics for every kind of map and resolution.

    Args:
        recipes: the metrics, by name.
        sides: places of the maps in each direction.
        kinds: of `KINDS`.
        count: images, and scenes.

    Returns:
        One row a (metric, side, kind): mean and standard error over the images that have a value,
        and the share that have one.
    """
    rows = []
    for kind in kinds:
        for side in sides:
            for two_class in (False, True):
                cell = subject(kind, side, count, two_class=two_class)
                found = evaluate(cell, recipes, dataset="calibration", seed=0)
                # Metrics of the other kind of images have no rows.
                for name, values in found.groupby("metric", sort=False)["value"]:
                    known = values.dropna()
                    rows.append(
                        {
                            "metric": name,
                            "side": side,
                            "kind": kind,
                            "mean": known.mean(),
                            "error": known.std() / np.sqrt(max(len(known), 1)),
                            "share": len(known) / count,
                        }
                    )
    return pd.DataFrame(rows)
