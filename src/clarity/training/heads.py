"""Heads: own how a trained encoder gets its ways to score classes, and their temperatures."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity.data.selection import stratified
from clarity.data.sets import to_input
from clarity.models.classifier import HEADS, Classifier
from clarity.seeds import derive_seed
from clarity.training.batches import Parts

#: Images a forward pass outside training; fixed, since sums may round otherwise at another size.
INFERENCE_BATCH = 256

#: Inverse strength of the probe's ridge penalty on standardised features, and its solver's limits.
PROBE_C = 1.0
PROBE_TOLERANCE = 1e-6
PROBE_ITERATIONS = 5000

#: Most training images that the nearest neighbours are sought among.
MOST_REFERENCES = 10_000

#: The natural logarithm of a temperature is sought between these.
LOG_TEMPERATURE = (-7.0, 5.0)


@torch.no_grad()
def embed(model: Classifier, images: np.ndarray, device: torch.device) -> Tensor:
    """Embed uint8 images [N, C, H, W]: float32 [N, D], without gradients.

    Done in the mode, training or evaluation, that the model is in.
    """
    parts = [
        model.embed(to_input(images[start : start + INFERENCE_BATCH], device))
        for start in range(0, len(images), INFERENCE_BATCH)
    ]
    return torch.cat(parts) if parts else torch.zeros((0, model.dimension), device=device)


def set_heads(
    model: Classifier, parts: Parts, joint_head: bool, dataset: str, device: torch.device
) -> None:
    """Give a trained encoder all its heads, and calibrate them.

    Args:
        model: the classifier, whose encoder is trained, in evaluation mode.
        parts: the training images.
        joint_head: whether the loss trained the linear head, which is then left as it is.
        dataset: the dataset axis of the seeds.
        device: where to compute.
    """
    embeddings = embed(model, parts.fit.images, device)
    labels = torch.from_numpy(parts.fit.labels).to(device)
    set_prototypes(model, embeddings, labels)
    _set_references(model, embeddings, labels, dataset)
    fit_probe(model.probe, embeddings, labels)
    fit_probe(model.probe_normalised, F.normalize(embeddings, dim=1), labels)
    if not joint_head:
        model.head.load_state_dict(
            (model.probe_normalised if model.shape.normalise else model.probe).state_dict()
        )
    calibrate(
        model,
        embed(model, parts.calibration.images, device),
        torch.from_numpy(parts.calibration.labels).to(device),
    )


@torch.no_grad()
def set_prototypes(model: Classifier, embeddings: Tensor, labels: Tensor) -> None:
    """Set the class prototypes to the directions of the mean normalised training embeddings.

    Snell et al., 2017, "Prototypical Networks", equation 1, on the unit sphere. The centred ones do
    the same after the mean over classes was subtracted, so that what all classes share, such as the
    positive values of rectified features, does not make all cosines alike.
    """
    unit = F.normalize(embeddings, dim=1)
    members = F.one_hot(labels, model.shape.classes).to(unit)
    means = members.T @ unit / members.sum(dim=0).clamp(min=1)[:, None]
    center = means.mean(dim=0)
    model.prototypes.copy_(F.normalize(means, dim=1))
    model.center.copy_(center)
    centred = F.normalize(unit - center, dim=1)
    model.prototypes_centred.copy_(F.normalize(members.T @ centred, dim=1))


@torch.no_grad()
def _set_references(model: Classifier, embeddings: Tensor, labels: Tensor, dataset: str) -> None:
    """Keep normalised training embeddings for nearest neighbours: all, or as many of each class."""
    seed = derive_seed("references", dataset)
    picked = np.sort(stratified(labels.cpu().numpy(), MOST_REFERENCES, seed))
    rows = torch.from_numpy(picked).to(labels.device)
    model.set_references(F.normalize(embeddings[rows], dim=1), labels[rows])


def fit_probe(head: nn.Linear, embeddings: Tensor, labels: Tensor) -> None:
    """Set a head to the multinomial logistic regression on embeddings [N, D], to convergence.

    The features are standardised for the solver and the scaling is folded into the weights, so the
    head works on the embeddings as given, like the one that cross-entropy trains.
    """
    # Here, as in `calibrate`, since it takes half a second, and what reads heads needs none.
    from sklearn.linear_model import LogisticRegression

    features = embeddings.cpu().numpy().astype(np.float64)
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    probe = LogisticRegression(C=PROBE_C, tol=PROBE_TOLERANCE, max_iter=PROBE_ITERATIONS)
    probe.fit((features - center) / scale, labels.cpu().numpy())
    weights, bias = probe.coef_, probe.intercept_
    if len(weights) == 1:
        # Two classes: scikit-learn keeps the log-odds of the second; half of it goes to each.
        weights, bias = np.vstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    weights = weights / scale
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weights))
        head.bias.copy_(torch.from_numpy(bias - weights @ center))


@torch.no_grad()
def calibrate(model: Classifier, embeddings: Tensor, labels: Tensor) -> None:
    """Set the temperature of each head to the one with the least cross-entropy on held-out images.

    Args:
        model: the classifier.
        embeddings: [N, D], of images that neither training nor a choice of epochs has seen.
        labels: int64 [N].
    """
    from scipy.optimize import minimize_scalar

    for head in HEADS:
        temperature = model.temperatures[HEADS.index(head)]
        temperature.fill_(1.0)
        scores = model.scores(embeddings, head).double()

        def cross_entropy(log_temperature: float, scores: Tensor = scores) -> float:
            return float(F.cross_entropy(scores / np.exp(log_temperature), labels))

        best = minimize_scalar(cross_entropy, bounds=LOG_TEMPERATURE, method="bounded")
        temperature.fill_(float(np.exp(best.x)))


@torch.no_grad()
def predict(model: Classifier, embeddings: Tensor, classes: np.ndarray, split: str) -> pd.DataFrame:
    """Return what the heads say of embeddings [N, D], one row an image.

    Args:
        model: the classifier.
        embeddings: of the images, [N, D].
        classes: int64 [N, 2]: (label, -1), or for a two-class scene its two classes.
        split: the value of the column of that name.

    Returns:
        A frame with split, image, label, second_label, predicted, runner_up (the foil: the best
        class other than the label), confidence, correct (the linear head) and correct_HEAD for each
        other head. A two-class scene is correct if the two best classes are its two.
    """
    logits = model.logits(embeddings)
    others = logits.clone()
    others[torch.arange(len(classes)), torch.from_numpy(classes[:, 0])] = -torch.inf
    confidence, predicted = logits.softmax(1).max(1)
    return pd.DataFrame(
        {
            "split": np.full(len(classes), split, dtype=object),
            "image": np.arange(len(classes), dtype=np.int32),
            "label": classes[:, 0],
            "second_label": classes[:, 1],
            "predicted": predicted.cpu().numpy(),
            "runner_up": others.argmax(1).cpu().numpy(),
            "confidence": confidence.cpu().numpy(),
            "correct": _correct(logits, classes),
            **{
                f"correct_{head.replace('-', '_')}": _correct(
                    model.scores(embeddings, head), classes
                )
                for head in HEADS[1:]
            },
        }
    )


def _correct(scores: Tensor, classes: np.ndarray) -> np.ndarray:
    """Whether the best class is the label or, for a two-class scene, the best two are its two."""
    best = scores.topk(2, dim=1).indices.cpu().numpy()
    both = (np.sort(best, axis=1) == np.sort(classes, axis=1)).all(axis=1)
    return np.asarray(np.where(classes[:, 1] < 0, best[:, 0] == classes[:, 0], both))
