"""Fitting: owns the loop in which an encoder learns from a loss.

The order of images, their augmentation and the initial encoder depend on dataset and seed only, so
that the runs of one seed differ in nothing but the loss.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from clarity.data.augment import augment
from clarity.data.protocol import Training
from clarity.losses.build import TrainingLoss
from clarity.losses.recipe import LossRecipe
from clarity.models.classifier import Classifier, Shape
from clarity.seeds import derive_seed
from clarity.training.batches import Parts, Subset, plan, without_positives
from clarity.training.heads import embed, set_heads
from clarity.training.optimisation import build_optimizer, build_schedule

#: A mean loss of an epoch that is as many times the first epoch's (or 1) counts as exploded.
EXPLOSION = 1e3
#: Embeddings on the unit sphere whose total variance is below this count as collapsed to a point.
COLLAPSE = 1e-4


@dataclass(frozen=True)
class Status:
    """How a training run ended.

    Attributes:
        status: whether its model can be explained, or why not.
        epoch: the epoch in which it failed, or the last one.
        reason: "" if nothing is wrong.
    """

    status: Literal["ok", "diverged", "collapsed"]
    epoch: int
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the model can be explained."""
        return self.status == "ok"


@dataclass(frozen=True)
class Trained:
    """What training yields.

    Attributes:
        model: the classifier, in evaluation mode; without heads if the run failed.
        loss: the loss, with its own weights.
        history: a row an epoch: epoch, images_seen, learning_rate, loss (mean over the epoch),
            validation_accuracy (nearest prototype, which every loss has) and spread (the total
            variance of held-out embeddings of length 1).
        status: how it ended.
    """

    model: Classifier
    loss: TrainingLoss
    history: pd.DataFrame
    status: Status


def train(
    parts: Parts,
    classes: int,
    training: Training,
    recipe: LossRecipe,
    *,
    dataset: str,
    seed: int,
    device: torch.device,
) -> Trained:
    """Train a classifier and give it its heads.

    Cross-entropy trains the linear head together with the encoder; after any other loss it is a
    probe on the frozen embeddings. Every epoch of the plan is run and the last one is kept, unless
    early stopping is asked for.

    A loss that is not finite or explodes, and embeddings that end in one point, are no errors: they
    are the status of the run.

    Args:
        parts: the training images, parted.
        classes: number of classes.
        training: how the loss is trained on this dataset.
        recipe: the loss.
        dataset: the dataset axis of the seeds.
        seed: the seed axis.
        device: where to train.
    """
    # Some losses, miners and regularised layers draw from torch's global state.
    with seeded(derive_seed("training", dataset, seed), device):
        trained = fit_encoder(
            parts, classes, training, recipe, dataset=dataset, seed=seed, device=device
        )
    trained.model.eval()
    if trained.status.ok:
        set_heads(trained.model, parts, recipe.uses_head, dataset, device)
    trained.model.requires_grad_(False)
    return trained


def fit_encoder(
    parts: Parts,
    classes: int,
    training: Training,
    recipe: LossRecipe,
    *,
    dataset: str,
    seed: int,
    device: torch.device,
) -> Trained:
    """Train the encoder and, where the loss uses it, the linear head; arguments as for `train`."""
    # Bytes as they are: floats of a whole dataset would take four times the memory.
    images = torch.from_numpy(parts.fit.images).to(device)
    labels = torch.from_numpy(parts.fit.labels)
    model, loss = _build(images, classes, training, recipe, dataset, seed, device)
    order = torch.Generator().manual_seed(derive_seed("order", dataset, seed))
    steps = plan(labels, training, recipe.views, order)
    _warn_without_positives(steps.batches, labels, recipe, dataset)
    # A generator for each view: the first view is the same whatever the number of views.
    generators = [
        torch.Generator().manual_seed(derive_seed("augment", dataset, seed, view))
        for view in range(recipe.views)
    ]
    optimizer = build_optimizer(model, loss, training, recipe)
    schedule = build_schedule(optimizer, training, len(steps.batches))
    embed_batch = _compiled(model) if training.compile else model.embed
    autocast = _autocast(training.precision, device)

    rows: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Tensor]] | None = None
    waited = seen = 0
    for epoch, batches in enumerate(steps.epochs(), start=1):
        model.train()
        losses: list[Tensor] = []
        sums = torch.zeros(classes, model.dimension, device=device)
        for batch in batches:
            originals = images[batch.to(device)].float() / 255
            inputs = torch.cat([augment(originals, training.augment, g) for g in generators])
            targets = labels[batch].to(device).repeat(recipe.views)
            with autocast:
                embeddings = embed_batch(inputs)
            embeddings = embeddings.float()
            value = loss(embeddings, targets, model.head_scores)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(value.detach())
            sums.index_add_(0, targets, F.normalize(embeddings.detach(), dim=1))
            seen += len(inputs)
        model.eval()
        # Of the epoch's own embeddings: no further pass over the images.
        prototypes = F.normalize(sums, dim=1)
        rows.append(
            {
                "epoch": epoch,
                "images_seen": seen,
                "learning_rate": schedule.get_last_lr()[0],
                "loss": float(torch.stack(losses).mean()),
                **_progress(model, prototypes, parts.calibration, device),
            }
        )
        failure = _failure(rows)
        if failure is not None:
            return Trained(model, loss, pd.DataFrame(rows), failure)
        if training.early_stopping is not None and parts.selection is not None:
            score = _progress(model, prototypes, parts.selection, device)["validation_accuracy"]
            if best is None or score > best[0]:
                best, waited = (score, copy.deepcopy(model.state_dict())), 0
            else:
                waited += 1
            if waited == training.early_stopping.patience:
                break
    if best is not None:
        model.load_state_dict(best[1])
    history = pd.DataFrame(rows)
    return Trained(model, loss, history, _collapse(history) or Status("ok", len(history)))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global random state within the block, and restore it afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _build(
    images: Tensor,
    classes: int,
    training: Training,
    recipe: LossRecipe,
    dataset: str,
    seed: int,
    device: torch.device,
) -> tuple[Classifier, TrainingLoss]:
    """Build model and loss from seeds of their own: all losses of a seed start from one encoder."""
    _, channels, height, width = images.shape
    if height != width:
        raise ValueError(
            f"datasets.{dataset}: found images of {height}x{width}, wanted square ones"
        )
    shape = Shape(
        encoder=training.encoder.plain(),
        channels=channels,
        size=height,
        classes=classes,
        normalise=recipe.normalise,
    )
    cpu = torch.device("cpu")
    with seeded(derive_seed("encoder", dataset, seed), cpu):
        model = Classifier(shape, pretrained=True)
    with seeded(derive_seed("loss", dataset, seed), cpu):
        loss = TrainingLoss(recipe, classes, model.dimension)
    mean, std = _normalisation(images, training)
    model.mean.copy_(mean)
    model.std.copy_(std)
    return model.to(device), loss.to(device)


def _normalisation(images: Tensor, training: Training) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel: given, expected or computed."""
    expected = training.encoder.expected_normalisation()
    if training.normalisation is not None:
        mean, std = training.normalisation.mean, training.normalisation.std
    elif expected is not None:
        mean, std = map(list, expected)
        if images.shape[1] == 1:
            # What weights for colours, summed for one channel, expect of a grey image.
            mean, std = [float(np.mean(mean))], [float(np.mean(std))]
    else:
        # Counts of the 256 values, some images at a time: exact, and no wider copy of all images.
        counts = torch.zeros(images.shape[1], 256, dtype=torch.int64)
        for some in torch.split(images, 1000):
            for channel, pixels in enumerate(some.transpose(0, 1).flatten(1).cpu()):
                counts[channel] += pixels.bincount(minlength=256)
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts / counts.sum(dim=1, keepdim=True)
        center = (share * values).sum(dim=1, keepdim=True)
        spread = (share * (values - center) ** 2).sum(dim=1).sqrt()
        mean, std = center[:, 0].tolist(), spread.clamp(min=1e-3).tolist()
    channels = images.shape[1]
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise ValueError(
            f"normalisation: found {len(mean)} means and {len(std)} deviations, wanted {channels}"
        )
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)


def _compiled(model: Classifier) -> Callable[[Tensor], Tensor]:
    """Return the forward pass to embeddings, compiled, as repeatable as torch is asked to be."""
    # `clarity.runtime` does not load the compiler, which has a setting of its own for this.
    torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
    return torch.compile(model.embed)


def _autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of the encoder's forward pass."""
    half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


@torch.no_grad()
def _progress(
    model: Classifier, prototypes: Tensor, subset: Subset, device: torch.device
) -> dict[str, float]:
    """Return accuracy by the nearest of ``prototypes``, and the spread of the embeddings."""
    unit = F.normalize(embed(model, subset.images, device), dim=1)
    nearest = (unit @ prototypes.T).argmax(dim=1).cpu().numpy()
    return {
        "validation_accuracy": float(np.mean(nearest == subset.labels)),
        "spread": float(1 - unit.mean(dim=0).square().sum()),
    }


def _failure(rows: list[dict[str, Any]]) -> Status | None:
    """Return why the run cannot go on after the last of ``rows``, if it cannot."""
    last = rows[-1]
    if not np.isfinite(last["loss"]):
        return Status("diverged", last["epoch"], f"the loss is {last['loss']}")
    if not np.isfinite(last["spread"]):
        return Status("diverged", last["epoch"], "an embedding is not finite")
    first = max(1.0, abs(rows[0]["loss"]))
    if abs(last["loss"]) > EXPLOSION * first:
        return Status("diverged", last["epoch"], f"the loss exploded to {last['loss']:.3g}")
    return None


def _collapse(history: pd.DataFrame) -> Status | None:
    """Return from which epoch on all embeddings were one point, if they ended so."""
    spread = history["spread"].to_numpy()
    healthy = np.flatnonzero(spread >= COLLAPSE)
    first = healthy[-1] + 1 if len(healthy) else 0
    if first == len(spread):
        return None
    reason = f"all embeddings point in one direction (spread {spread[-1]:.1e})"
    return Status("collapsed", int(history["epoch"].iloc[first]), reason)


def _warn_without_positives(
    batches: list[Tensor], labels: Tensor, recipe: LossRecipe, dataset: str
) -> None:
    """Warn if a loss of pairs meets batches that have none of one class."""
    wanting = [term.loss for term in recipe.all_terms if term.needs_pairs]
    if recipe.views > 1 or not wanting:
        return
    lacking = without_positives(batches, labels)
    if lacking:
        warnings.warn(
            f"datasets.{dataset}: {lacking} of {len(batches)} batches hold no two images of a "
            f"class; {', '.join(map(str, wanting))} learns nothing of them. Set samples-per-class "
            f"to 2 or more",
            stacklevel=2,
        )
