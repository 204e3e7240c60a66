"""Classifier: owns what a training run yields (encoder, head, prototypes) and its file."""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity import storage
from clarity.models.encoders import ENCODERS


@dataclass(frozen=True)
class Shape:
    """What must be known to build a classifier before its weights are loaded."""

    encoder: str
    channels: int
    classes: int


class Classifier(nn.Module):
    """An encoder with two ways to score classes: a linear head and class prototypes.

    Images are [B, C, H, W] in [0, 1]; the normalisation is the first layer, so that methods and
    metrics work on pixels as they are and a black pixel is exactly 0.

    Both scores are divided by a temperature that was calibrated on held-out images (Guo et al.,
    2017, "On Calibration of Modern Neural Networks", section 4.2), so that a softmax over them
    means the same for every loss. Without it, the scale of the logits, which the loss decides,
    would pass for faithfulness.
    """

    mean: Tensor
    std: Tensor
    prototypes: Tensor
    temperature: Tensor
    prototype_temperature: Tensor

    def __init__(self, shape: Shape) -> None:
        """Build the network with fresh weights from torch's current random state."""
        super().__init__()
        self.shape = shape
        self.encoder = ENCODERS[shape.encoder](shape.channels)
        self.head = nn.Linear(self.encoder.dimension, shape.classes)
        self.register_buffer("mean", torch.zeros(1, shape.channels, 1, 1))
        self.register_buffer("std", torch.ones(1, shape.channels, 1, 1))
        self.register_buffer("prototypes", torch.zeros(shape.classes, self.encoder.dimension))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("prototype_temperature", torch.ones(()))
        # Convolutions run up to a third faster on CPUs and GPUs with channels innermost.
        self.to(memory_format=torch.channels_last)

    def embed(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [0, 1] to embeddings [B, D], not normalised."""
        embeddings: Tensor = self.encoder((images - self.mean) / self.std)
        return embeddings

    def logits(self, embeddings: Tensor) -> Tensor:
        """Score embeddings [B, D] by the linear head: calibrated logits [B, classes]."""
        scores: Tensor = self.head(embeddings) / self.temperature
        return scores

    def similarities(self, embeddings: Tensor) -> Tensor:
        """Score embeddings [B, D] by cosine to each class prototype, calibrated: [B, classes]."""
        cosines = F.normalize(embeddings, dim=1) @ self.prototypes.T
        return cosines / self.prototype_temperature

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [0, 1] to calibrated logits [B, classes]."""
        return self.logits(self.embed(images))


def save(model: Classifier, path: storage.StrPath) -> None:
    """Write a classifier as safetensors."""
    arrays = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    storage.write_tensors(path, arrays, {"shape": json.dumps(vars(model.shape), sort_keys=True)})


def load(path: storage.StrPath, device: torch.device) -> Classifier:
    """Read a classifier in evaluation mode, its weights frozen.

    Raises:
        clarity.storage.CorruptArtifact: if the file is missing, cut short or of another shape.
    """
    arrays, metadata = storage.read_tensors(path)
    try:
        model = Classifier(Shape(**json.loads(metadata["shape"])))
        model.load_state_dict({name: torch.from_numpy(np.copy(a)) for name, a in arrays.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise storage.CorruptArtifact(path, error) from error
    return model.to(device).eval().requires_grad_(False)
