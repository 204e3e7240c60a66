"""Detection: owns how well a model tells images of another dataset from its own."""

import math

import torch
from torch import Tensor

#: The neighbour whose distance counts (Sun et al., 2022, their choice for CIFAR-10).
NEIGHBOUR = 50
#: Which values of what `detect` measures are better, by the end of the measure's name.
DIRECTIONS = {"auroc": "higher", "fpr95": "lower"}


def detect(
    known: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], reference: Tensor
) -> dict[str, float]:
    """Measure three detectors, each of which scores how foreign an image is.

    - msp: maximum softmax probability, Hendrycks and Gimpel, 2017, section 3;
    - energy: Liu et al., 2020, equation 4;
    - knn: distance to the k-th nearest reference embedding, all of unit length, Sun et al., 2022,
      section 3; k is `NEIGHBOUR`, or the mean number of reference images of a class if that is
      less: a neighbour further away is of another class.

    Args:
        known: calibrated logits [N, classes] and embeddings [N, D] of images of the model's own
            dataset.
        other: the same of images of another dataset.
        reference: embeddings [M, D] of training images.

    Returns:
        For each detector `ood-DETECTOR-auroc`, the area under the curve with the foreign images as
        positives, and `ood-DETECTOR-fpr95`, the share of the model's own images that pass for
        foreign at the threshold at which 95 % of the foreign images do. NaN if any input is not
        finite.
    """
    # Here, since it takes a second, and only datasets with a foreign one need it.
    from pytorch_ood.detector import KNN, EnergyBased, MaxSoftmax
    from pytorch_ood.metrics import OODMetrics

    if not all(part.isfinite().all() for part in (*known, *other, reference)):
        return {f"ood-{d}-{end}": math.nan for d in ("msp", "energy", "knn") for end in DIRECTIONS}
    of_a_class = max(1, len(reference) // known[0].shape[1])
    nearest = KNN(None, k=min(NEIGHBOUR, of_a_class), algorithm="brute")
    nearest.fit_features(reference.cpu(), torch.zeros(len(reference), dtype=torch.int64))
    logits, embeddings = (torch.cat(pair).cpu() for pair in zip(known, other, strict=True))
    # pytorch-ood takes a label below 0 for "foreign".
    labels = torch.cat([torch.zeros(len(known[0])), torch.full((len(other[0]),), -1)]).long()
    values = {}
    for name, scores in (
        ("msp", MaxSoftmax(None).predict_logits(logits.double())),
        ("energy", EnergyBased(None).predict_logits(logits.double())),
        ("knn", nearest.predict_features(embeddings)),
    ):
        metrics = OODMetrics()
        metrics.update(scores, labels)
        found = metrics.compute()
        values[f"ood-{name}-auroc"] = float(found["AUROC"])
        values[f"ood-{name}-fpr95"] = float(found["FPR95TPR"])
    return values


def as_input(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Bring images [B, c, h, w], grey or RGB, to another ``shape`` (C, H, W): [B, C, H, W]."""
    # Here for the same reason as in `detect`.
    from torchvision.transforms.v2 import functional as V

    channels, height, width = shape
    if channels != images.shape[1]:
        images = V.rgb_to_grayscale(images) if channels == 1 else V.grayscale_to_rgb(images)
    resized: Tensor = V.resize(images, [height, width], antialias=True)
    return resized
