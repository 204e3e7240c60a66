"""Training: owns how an encoder learns from a loss and gets its head, prototypes and temperatures.

It reads and writes no files (`clarity.stages.train`). The order of images, their augmentation and
the initial encoder depend on dataset and seed only, so that the runs of one seed differ in nothing
but the loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor
from torch.nn import functional as F

from clarity.data.augment import augment
from clarity.data.protocol import Training
from clarity.data.sets import Splits, to_input
from clarity.losses.build import build_loss
from clarity.losses.recipe import LossRecipe
from clarity.models.classifier import Classifier, Shape
from clarity.seeds import derive_seed

#: Images a forward pass outside training; fixed, since sums may round otherwise at another size.
INFERENCE_BATCH = 256

#: Share of the steps in which the learning rate rises, and how far below its peak it starts
#: (Smith and Topin, 2019, "Super-Convergence").
WARM_UP = 0.25
START_DIVISOR = 10.0

#: Inverse strength of the probe's ridge penalty on standardised features, and its solver's limits.
PROBE_C = 1.0
PROBE_TOLERANCE = 1e-6
PROBE_ITERATIONS = 5000

#: The natural logarithm of a temperature is sought between these.
LOG_TEMPERATURE = (-7.0, 5.0)


@dataclass(frozen=True)
class Subset:
    """Some training images: uint8 [N, C, H, W] with labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray


def split_validation(splits: Splits, share: float, dataset: str) -> tuple[Subset, Subset]:
    """Part the training images into those to fit and those held out for calibration.

    The same parts for all seeds and losses; stratified by class.
    """
    splitter = StratifiedShuffleSplit(
        1, test_size=share, random_state=derive_seed("validation", dataset)
    )
    parts = next(splitter.split(splits.train_labels, splits.train_labels))
    fit, held_out = (
        Subset(splits.train_images[rows], splits.train_labels[rows]) for rows in map(np.sort, parts)
    )
    return fit, held_out


def train(
    fit: Subset,
    held_out: Subset,
    classes: int,
    training: Training,
    recipe: LossRecipe,
    *,
    dataset: str,
    seed: int,
    device: torch.device,
) -> tuple[Classifier, pd.DataFrame]:
    """Train a classifier and return it, in evaluation mode, with its history by epoch.

    Cross-entropy trains the head together with the encoder; after any other loss the head is a
    probe on the frozen embeddings. Every epoch of the plan is run: nothing is chosen by a score.

    Args:
        fit: the images to learn from.
        held_out: the images that calibrate the temperatures and show progress.
        classes: number of classes.
        training: how every loss is trained on this dataset.
        recipe: the loss.
        dataset: the dataset axis of the seeds.
        seed: the seed axis.
        device: where to train.

    Returns:
        The model and a frame with epoch, images_seen, learning_rate, loss (mean over the epoch) and
        validation_accuracy (nearest prototype, which every loss has).

    Raises:
        FloatingPointError: if the loss is not finite; names the epoch.
    """
    model, history = _fit(fit, held_out, classes, training, recipe, dataset, seed, device)
    set_prototypes(model, fit, device)
    if not recipe.uses_head:
        fit_probe(model, fit, device)
    calibrate(model, held_out, device)
    return model.eval().requires_grad_(False), history


@torch.no_grad()
def embed(model: Classifier, images: np.ndarray, device: torch.device) -> Tensor:
    """Embed uint8 images [N, C, H, W]: [N, D], without gradients."""
    parts = [
        model.embed(to_input(images[start : start + INFERENCE_BATCH], device))
        for start in range(0, len(images), INFERENCE_BATCH)
    ]
    return torch.cat(parts)


def epoch_batches(
    labels: Tensor, size: int, samples_per_class: int | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the batches of one epoch as indices, each image at most once.

    With ``samples_per_class`` m, images come in groups of m of one class, and a batch is made of
    whole groups, so that a metric loss finds m - 1 positives for each image. An incomplete last
    batch is left out, unless it is the only one: batch normalisation would weigh its images more.

    Raises:
        ValueError: if no class has ``samples_per_class`` images.
    """
    if samples_per_class is None:
        order = torch.randperm(len(labels), generator=generator)
    else:
        m = min(samples_per_class, size)
        groups: list[Tensor] = []
        for label in range(int(labels.max()) + 1):
            members = torch.nonzero(labels == label)[:, 0]
            members = members[torch.randperm(len(members), generator=generator)]
            groups += [members[i : i + m] for i in range(0, len(members) - m + 1, m)]
        if not groups:
            raise ValueError(f"samples-per-class: found {m}, but no class has so many images")
        order = torch.cat([groups[i] for i in torch.randperm(len(groups), generator=generator)])
        size = size // m * m
    if len(order) < size:
        yield order
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def _fit(
    fit: Subset,
    held_out: Subset,
    classes: int,
    training: Training,
    recipe: LossRecipe,
    dataset: str,
    seed: int,
    device: torch.device,
) -> tuple[Classifier, pd.DataFrame]:
    """Train the encoder and, where the loss uses it, the head."""
    images = to_input(fit.images, device)
    labels = torch.from_numpy(fit.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("encoder", dataset, seed))
        model = Classifier(Shape(training.encoder, images.shape[1], classes))
        torch.manual_seed(derive_seed("loss", dataset, seed))
        loss = build_loss(recipe, classes, model.encoder.dimension)
    model.to(device)
    loss.to(device)
    model.mean.copy_(images.mean(dim=(0, 2, 3), keepdim=True))
    model.std.copy_(images.std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-3))

    order = torch.Generator().manual_seed(derive_seed("order", dataset, seed))
    # A generator for each view: the first view is the same whatever the number of views.
    views = [
        torch.Generator().manual_seed(derive_seed("augment", dataset, seed, view))
        for view in range(recipe.views)
    ]
    plan = [
        list(epoch_batches(labels, training.batch_size, training.samples_per_class, order))
        for _ in range(training.epochs)
    ]
    rate = recipe.learning_rate or training.learning_rate
    optimizer = torch.optim.AdamW(
        # A loss may have weights of its own, such as proxies.
        [*model.parameters(), *loss.parameters()],
        lr=rate,
        weight_decay=training.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=rate,
        total_steps=sum(map(len, plan)),
        pct_start=WARM_UP,
        div_factor=START_DIVISOR,
    )
    rows: list[dict[str, Any]] = []
    seen = 0
    for epoch, batches in enumerate(plan, start=1):
        model.train()
        losses = []
        for batch in batches:
            originals = images[batch.to(device)]
            inputs = torch.cat([augment(originals, training.augment, view) for view in views])
            targets = labels[batch].repeat(recipe.views).to(device)
            embeddings = model.embed(inputs)
            value = loss(model.head(embeddings) if recipe.uses_head else embeddings, targets)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(value.detach())
            seen += len(inputs)
        mean_loss = float(torch.stack(losses).mean())
        if not np.isfinite(mean_loss):
            raise FloatingPointError(
                f"the loss is {mean_loss} in epoch {epoch}: lower the learning rate "
                f"(found {rate}) or check the arguments of {recipe.loss}"
            )
        model.eval()
        set_prototypes(model, fit, device)
        scores = model.similarities(embed(model, held_out.images, device))
        rows.append(
            {
                "epoch": epoch,
                "images_seen": seen,
                "learning_rate": schedule.get_last_lr()[0],
                "loss": mean_loss,
                "validation_accuracy": float(
                    np.mean(scores.argmax(1).cpu().numpy() == held_out.labels)
                ),
            }
        )
    return model, pd.DataFrame(rows)


@torch.no_grad()
def set_prototypes(model: Classifier, fit: Subset, device: torch.device) -> None:
    """Set each class prototype to the direction of the mean normalised training embedding.

    Snell et al., 2017, "Prototypical Networks", equation 1, on the unit sphere.
    """
    embeddings = F.normalize(embed(model, fit.images, device), dim=1)
    members = F.one_hot(torch.from_numpy(fit.labels), model.shape.classes).to(embeddings)
    model.prototypes.copy_(F.normalize(members.T @ embeddings, dim=1))


def fit_probe(model: Classifier, fit: Subset, device: torch.device) -> None:
    """Set the head to a multinomial logistic regression on frozen embeddings, to convergence.

    The features are standardised for the solver and the scaling is folded into the weights, so the
    head works on raw embeddings, like the one that cross-entropy trains.
    """
    features = embed(model, fit.images, device).cpu().numpy().astype(np.float64)
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    probe = LogisticRegression(C=PROBE_C, tol=PROBE_TOLERANCE, max_iter=PROBE_ITERATIONS)
    probe.fit((features - center) / scale, fit.labels)
    weights, bias = probe.coef_, probe.intercept_
    if len(weights) == 1:
        # Two classes: scikit-learn keeps the log-odds of the second; half of it goes to each.
        weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    weights = weights / scale
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weights))
        model.head.bias.copy_(torch.from_numpy(bias - weights @ center))


@torch.no_grad()
def calibrate(model: Classifier, held_out: Subset, device: torch.device) -> None:
    """Set both temperatures to those with the least cross-entropy on held-out images."""
    embeddings = embed(model, held_out.images, device)
    labels = torch.from_numpy(held_out.labels).to(device)
    for temperature, score in (
        (model.temperature, model.logits),
        (model.prototype_temperature, model.similarities),
    ):
        temperature.fill_(1.0)
        scores = score(embeddings).double()

        def cross_entropy(log_temperature: float, scores: Tensor = scores) -> float:
            return float(F.cross_entropy(scores / np.exp(log_temperature), labels))

        best = minimize_scalar(cross_entropy, bounds=LOG_TEMPERATURE, method="bounded")
        temperature.fill_(float(np.exp(best.x)))


@torch.no_grad()
def predict(model: Classifier, embeddings: Tensor, classes: np.ndarray, split: str) -> pd.DataFrame:
    """Return what both heads say of embeddings [N, D], one row an image.

    Args:
        model: the classifier.
        embeddings: of the images, [N, D].
        classes: int64 [N, 2]: (label, -1), or for a two-class scene its two classes.
        split: the value of the column of that name.

    Returns:
        A frame with split, image, label, second_label, predicted, runner_up (the foil: the best
        class other than the label), confidence, correct and correct_prototype. A two-class scene is
        correct if the two best classes are its two.
    """
    logits = model.logits(embeddings)
    others = logits.clone()
    others[torch.arange(len(classes)), torch.from_numpy(classes[:, 0])] = -torch.inf
    confidence, predicted = logits.softmax(1).max(1)
    return pd.DataFrame(
        {
            "split": split,
            "image": np.arange(len(classes), dtype=np.int32),
            "label": classes[:, 0],
            "second_label": classes[:, 1],
            "predicted": predicted.cpu().numpy(),
            "runner_up": others.argmax(1).cpu().numpy(),
            "confidence": confidence.cpu().numpy(),
            "correct": _correct(logits, classes),
            "correct_prototype": _correct(model.similarities(embeddings), classes),
        }
    )


def _correct(scores: Tensor, classes: np.ndarray) -> np.ndarray:
    """Whether the best class is the label or, for a two-class scene, the best two are its two."""
    best = scores.topk(2, dim=1).indices.cpu().numpy()
    both = (np.sort(best, axis=1) == np.sort(classes, axis=1)).all(axis=1)
    return np.asarray(np.where(classes[:, 1] < 0, best[:, 0] == classes[:, 0], both))
