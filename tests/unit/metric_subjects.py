"""Small cells with known properties, for the tests of the metrics."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from explained import classifier, pictures
from torch import nn

from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe
from clarity.metrics.batch import Batch, Explain, Passes, Scores
from clarity.metrics.evaluate import Subject, _batch, _metric, evaluate
from clarity.metrics.memory import Memory
from clarity.metrics.randomisation import resettable
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import MetricInfo, info

CLASSES = 5
DATASET, SEED = "d", 0

#: Arguments of Quantus that CLarity's class does not take, and why.
NOT_TAKEN: dict[str, dict[str, str]] = {
    "Focus": {"mosaic_shape": "Quantus never reads it; a mosaic has two by two images"},
    "AttributionLocalisation": {"positive_attributions": "the recipe's `sign` says it"},
    "RelativeRepresentationStability": {
        "layer_names": "the representation is the embedding",
        "layer_indices": "the representation is the embedding",
    },
    "MPRT": {
        "return_sample_correlation": "deprecated",
        "return_average_correlation": "the value is this mean unless the last is asked for",
    },
    "SmoothMPRT": {
        "return_average_correlation": "as of MPRT",
    },
    "EfficientMPRT": {
        "complexity_func": "a function; the entropy of the paper",
        "complexity_func_kwargs": "n_bins alone: the rules for it are wrong",
        "compute_extra_scores": "other quantities, of the model among them",
    },
    "MonotonicityCorrelation": {"eps": "scales all changes of an image alike, which no rank sees"},
    "Infidelity": {
        "loss_func": "the squared error is the definition, and the only one with a name"
    },
}

#: Defaults that are others than those of Quantus.
OTHER_DEFAULT: dict[tuple[str, str], object] = {
    # Quantus' is the signs of the first five pixels, all 1 once absolute values are taken.
    ("Consistency", "discretise_func"): "top_cell",
    ("PixelFlipping", "return_auc_per_sample"): True,  # the curve is kept beside its area
}

#: What CLarity says of a metric otherwise than Quantus.
OTHERWISE: dict[tuple[str, str], object] = {
    ("RegionPerturbation", "direction"): "higher",  # a drop, the most relevant first
    ("Consistency", "direction"): "higher",  # the probability that explanations do not mislead
    ("InputInvariance", "direction"): "lower",  # a change, where Quantus asks for equality
    ("EfficientMPRT", "softmax"): False,  # for Quantus' extra scores of the model alone
    ("InputInvariance", "softmax"): False,  # it asks for no score; Quantus says None
    ("SensitivityN", "softmax"): False,  # a probability is 0 whichever half of the pixels is left
    ("Completeness", "direction"): "lower",  # a gap, where Quantus asks for equality
    ("Completeness", "scale"): "none",  # the sum of a scaled map says nothing of the score
    ("RelevanceMassAccuracy", "sign"): "positive",  # a mass is one of positive parts
    ("AttributionLocalisation", "sign"): "positive",
}


class Linear(nn.Module):
    """Scores linear in the pixels, so that gradient times input is the exact attribution."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.from_numpy(weights.astype(np.float32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weights.flatten(1).T


def convnet(channels: int, size: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * (size // 2) ** 2, CLASSES),
    ).eval()


def gradient_times_input(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.array(images)).requires_grad_(True)
    chosen = model(inputs).gather(1, torch.from_numpy(np.array(classes))[:, None])
    (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
    return (gradient * inputs).sum(1).detach().numpy()


def frozen(array: np.ndarray | None) -> np.ndarray | None:
    """Make an array that raises when it is written to."""
    if array is not None:
        array = np.array(array)
        array.flags.writeable = False
    return array


def subject(
    n: int = 6,
    channels: int = 3,
    size: int = 16,
    scenes: bool = False,
    model: nn.Module | None = None,
    explain: Explain = gradient_times_input,
    maps: np.ndarray | None = None,
    images: np.ndarray | None = None,
) -> Subject:
    """Return a cell of gradient times input on a small convnet, or with what is given instead."""
    generator = np.random.default_rng(1)
    if images is None:
        images = generator.uniform(0.1, 0.9, (n, channels, size, size)).astype(np.float32)
    n, channels, size = images.shape[:3]
    model = convnet(channels, size) if model is None else model
    classes = np.stack([np.arange(n) % CLASSES, (np.arange(n) + 1 + np.arange(n) % 3) % CLASSES], 1)
    if maps is None:
        maps = np.stack([explain(model, images, classes[:, slot]) for slot in range(2)], axis=1)
    masks = np.zeros((n, 2, size, size), dtype=bool)
    for row in range(n):
        masks[row, 0, : 4 + row % 3, 2 : size // 2] = True
        masks[row, 1, size // 2 :, size // 2 + row % 2 :] = True
    return Subject(
        images=frozen(images),
        maps=frozen(maps),
        classes=frozen(classes),
        single=np.full(n, not scenes),
        masks=frozen(masks),
        model=model,
        explain=explain,
    )


def with_maps(cell: Subject, maps: np.ndarray) -> Subject:
    """Return the cell with other maps [N, 2, H, W], or the same maps [N, H, W] for both classes."""
    both = np.stack([maps, maps], axis=1) if maps.ndim == 3 else maps
    return replace(cell, maps=frozen(both.astype(np.float32)))


def only(cell: Subject, rows: Iterable[int]) -> Subject:
    """Return the cell with all other rows of the other kind: their ids and seeds stay the same."""
    kept = np.isin(np.arange(len(cell.single)), list(rows))
    return replace(cell, single=kept if cell.single.all() else ~kept)


def score(cell: Subject, batch_size: int = 64, name: str = "m", **recipe):
    """Score a cell by one metric."""
    return evaluate(
        cell, {name: MetricRecipe(**recipe)}, dataset=DATASET, seed=SEED, batch_size=batch_size
    )


def values(cell: Subject, batch_size: int = 64, **recipe) -> np.ndarray:
    return score(cell, batch_size, **recipe)["value"].to_numpy()


def batch(cell: Subject, sign: str = "signed", scale: str = "max", softmax: bool = False) -> Batch:
    """Return the cell as a metric sees it: all its rows, the seed of row r being 1000 + r."""
    known = MetricInfo("m", "own", "none", sign=sign, scale=scale, softmax=softmax)
    rows = np.arange(len(cell.images))
    return _batch(cell, known, rows, [1000 + row for row in rows], 64, Passes(), Memory())


def metric(recipe: MetricRecipe) -> Callable[[Batch], Scores]:
    """Return the metric that a recipe names."""
    return _metric(recipe, info(recipe))


def layers(model: nn.Module) -> int:
    """Count the layers that a randomisation resets."""
    return len(list(resettable(model)))


def trained(
    n: int = 6,
    *,
    channels: int = 3,
    size: int = 16,
    method: str = "InputXGradient",
    scenes: bool = False,
) -> Subject:
    """Return a cell of a method on a classifier as training leaves one: it has an encoder.

    Maps of all classes are stored. Scenes come with the image without either object: grey there.
    """
    model = classifier(channels=channels, size=size)
    recipe = MethodRecipe(method=method)
    images = pictures(n, channels, size).numpy()
    first = np.arange(n) % CLASSES
    explainer = Explainer(recipe, model)
    others = [np.delete(np.arange(CLASSES), label) for label in first]
    classes = np.array(
        [[a, *np.roll(rest, -row)] for row, (a, rest) in enumerate(zip(first, others, strict=True))]
    )

    def explain(score: nn.Module, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        made = explainer if score is explainer.score else Explainer(recipe, score)
        return made(torch.from_numpy(np.array(pixels)), torch.from_numpy(np.array(wanted))).numpy()

    maps = np.stack([explain(explainer.score, images, classes[:, k]) for k in range(CLASSES)], 1)
    masks = subject(n, channels, size).masks
    without = np.where(masks[:, :, None], np.float32(0.5), images[:, None])
    return Subject(
        images=frozen(images),
        maps=frozen(maps),
        classes=frozen(classes),
        single=np.full(n, not scenes),
        masks=frozen(masks),
        model=explainer.score,
        explain=explain,
        without=frozen(without.astype(np.float32)) if scenes else None,
    )
