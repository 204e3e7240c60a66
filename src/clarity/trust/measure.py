"""Measure: owns what is measured of one model's trustworthiness, on which images, and its table."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from clarity.data.selection import first_of_each
from clarity.data.sets import Splits, to_input
from clarity.models.classifier import Classifier
from clarity.seeds import derive_seed
from clarity.trust.attacks import fgsm, pgd
from clarity.trust.corruptions import corrupt
from clarity.trust.detection import DIRECTIONS, as_input, detect
from clarity.trust.recipe import Trust

#: Bins of the expected calibration error (Guo et al., 2017, section 5).
BINS = 15
#: Images a call of the model; fixed, since noise is drawn batch by batch.
BATCH = 250
#: Training images at most that the nearest-neighbour detector compares with.
REFERENCE = 5_000

COLUMNS = ("measure", "group", "value", "direction", "reason")
#: Why a value is NaN: there is no other reason here.
NOT_FINITE = "the model's output is not finite"

Row = tuple[str, str, float, str]


@dataclass(frozen=True)
class Foreign:
    """Images of another dataset.

    Attributes:
        name: of the dataset.
        splits: its images, of any size, grey or RGB.
    """

    name: str
    splits: Splits


def trust(
    model: Classifier, splits: Splits, foreign: Foreign | None, recipe: Trust, dataset: str
) -> pd.DataFrame:
    """Measure a model, frozen and in evaluation mode, on the device where it is.

    Args:
        model: the model.
        splits: the images of its dataset.
        foreign: another dataset whose images it should tell from its own, if any.
        recipe: what is measured.
        dataset: the name of its dataset; noise is the same for all its models.

    Returns:
        measure, group, value, direction ("higher" or "lower" is better) and reason ("" or why the
        value is NaN), one row each:

        - accuracy: `accuracy` on the test images, `accuracy-subset` on those that are attacked and
          corrupted (`clarity.data.selection.first_of_each`);
        - calibration, on the test images: `nll`, `brier` (Brier, 1950: squared error summed over
          classes) and `ece` (`BINS` bins of equal width, Guo et al., 2017, equation 3);
        - out-of-distribution: what `clarity.trust.detection.detect` measures, as
          `ood-DETECTOR-auroc:DATASET`. Of the other dataset as many test images as there are here;
        - adversarial: accuracy under `clarity.trust.attacks`, as `fgsm-accuracy:RADIUS`;
        - corruption: accuracy on corrupted images as `corruption-NAME:SEVERITY`, and their mean
          `corruption-mean`.
    """
    device = next(model.parameters()).device
    labels = torch.from_numpy(splits.test_labels).to(device)
    logits, embeddings = _apply(model, _batches(splits.test_images, device))
    rows = [("accuracy", "accuracy", _accuracy(logits, labels), "higher")]
    chosen = torch.from_numpy(first_of_each(splits.test_labels, recipe.images))
    images, targets = to_input(splits.test_images[chosen], device), labels[chosen.to(device)]
    clean = _accuracy(logits[chosen.to(device)], targets)
    rows.append(("accuracy", "accuracy-subset", clean, "higher"))
    rows += [("calibration", name, value, "lower") for name, value in _calibration(logits, labels)]
    if foreign is not None:
        rows += _detection(model, splits, foreign, (logits, embeddings))
    rows += _adversarial(model, images, targets, recipe)
    rows += _corrupted(model, images, targets, recipe, dataset)
    frame = pd.DataFrame(rows, columns=["group", "measure", "value", "direction"])
    frame["reason"] = np.where(frame["value"].isna(), NOT_FINITE, "")
    return frame[list(COLUMNS)].astype({"value": np.float64, "reason": "str"})


def nothing() -> pd.DataFrame:
    """Return the table of a model of which nothing can be measured: its columns without rows."""
    types = {name: np.float64 if name == "value" else "str" for name in COLUMNS}
    return pd.DataFrame(columns=list(COLUMNS)).astype(types)


def _batches(images: np.ndarray, device: torch.device) -> Iterator[Tensor]:
    """Yield uint8 images [N, C, H, W] as batches of the model's input."""
    for start in range(0, len(images), BATCH):
        yield to_input(images[start : start + BATCH], device)


def _apply(model: Classifier, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return calibrated logits [N, classes] and embeddings [N, D] of batches in [0, 1]."""
    with torch.no_grad():
        embeddings = torch.cat([model.embed(batch) for batch in batches])
        return model.logits(embeddings), embeddings


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images that are classified right; NaN if a logit is not finite."""
    if not logits.isfinite().all():
        return math.nan
    return float((logits.argmax(1) == labels).double().mean())


def _calibration(logits: Tensor, labels: Tensor) -> Iterator[tuple[str, float]]:
    # Here, since it loads torchvision: seconds, for a table that is up to date too.
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits = logits.double()
    probabilities = logits.softmax(1)
    wrong = probabilities - F.one_hot(labels, logits.shape[1])
    yield "nll", float(F.cross_entropy(logits, labels))
    yield "brier", float((wrong**2).sum(1).mean())
    # torchmetrics counts NaN into a bin like any other number.
    finite = bool(logits.isfinite().all())
    error = multiclass_calibration_error(probabilities, labels, logits.shape[1], BINS)
    yield "ece", float(error) if finite else math.nan


def _detection(
    model: Classifier, splits: Splits, foreign: Foreign, known: tuple[Tensor, Tensor]
) -> Iterator[Row]:
    device = next(model.parameters()).device
    fitted = first_of_each(splits.train_labels, REFERENCE)
    _, reference = _apply(model, _batches(splits.train_images[fitted], device))
    chosen = first_of_each(foreign.splits.test_labels, len(splits.test_labels))
    shape = splits.test_images.shape[1:]
    strange = _batches(foreign.splits.test_images[chosen], device)
    other = _apply(model, (as_input(batch, shape) for batch in strange))
    for name, value in detect(known, other, reference).items():
        direction = DIRECTIONS[name.rpartition("-")[2]]
        yield "out-of-distribution", f"{name}:{foreign.name}", value, direction


def _adversarial(model: Classifier, images: Tensor, labels: Tensor, recipe: Trust) -> Iterator[Row]:
    batches = list(zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True))
    for radius in recipe.radii:
        attacked = {
            "fgsm": [fgsm(model, x, y, radius) for x, y in batches],
            "pgd": [pgd(model, x, y, radius, recipe.steps) for x, y in batches],
        }
        for name, changed in attacked.items():
            logits, _ = _apply(model, changed)
            value = _accuracy(logits, labels)
            yield "adversarial", f"{name}-accuracy:{radius:g}", value, "higher"


def _corrupted(
    model: Classifier, images: Tensor, labels: Tensor, recipe: Trust, dataset: str
) -> Iterator[Row]:
    values = []
    for name in recipe.corruptions:
        for severity in recipe.severities:
            generator = torch.Generator().manual_seed(
                derive_seed("corruption", dataset, name, severity)
            )
            clean = torch.split(images.cpu(), BATCH)
            changed = (corrupt(x, name, severity, generator).to(images.device) for x in clean)
            logits, _ = _apply(model, changed)
            values.append(_accuracy(logits, labels))
            yield "corruption", f"corruption-{name}:{severity}", values[-1], "higher"
    if values:
        yield "corruption", "corruption-mean", float(np.mean(values)), "higher"
