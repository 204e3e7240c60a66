"""Classifier: owns what a training run yields (encoder, heads) and its file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity import storage
from clarity.models.encoders import build_encoder
from clarity.models.recipe import EncoderRecipe

HeadName = Literal["linear", "probe", "probe-normalised", "prototype", "prototype-centred", "knn"]
#: The ways to score classes, in the order of their temperatures.
HEADS: tuple[HeadName, ...] = (
    "linear",
    "probe",
    "probe-normalised",
    "prototype",
    "prototype-centred",
    "knn",
)

#: Nearest neighbours that vote, and the temperature of their votes: Wu et al., 2018, "Unsupervised
#: Feature Learning via Non-Parametric Instance Discrimination", section 3.4; 20 as in Caron et al.,
#: 2021, "Emerging Properties in Self-Supervised Vision Transformers", section 4.1.
NEIGHBOURS = 20
VOTE_TEMPERATURE = 0.07
#: Images whose neighbours are sought at once.
VOTERS_AT_ONCE = 512
#: Share of the votes that a class without any gets, so that its logarithm is a number.
NO_VOTES = 1e-6

#: Weights that belong to the loss and not to the classifier have names that begin so in the file.
OF_THE_LOSS = "loss."


@dataclass(frozen=True)
class Shape:
    """What must be known to build a classifier before its weights are loaded.

    Attributes:
        encoder: the plain recipe of the encoder.
        channels: of an image.
        size: height and width of an image.
        classes: number of classes.
        normalise: whether the linear head works on embeddings of length 1.
    """

    encoder: Mapping[str, Any]
    channels: int
    size: int
    classes: int
    normalise: bool = False


class Classifier(nn.Module):
    """An encoder with several ways to score classes, its heads.

    Images are [B, C, H, W] in [0, 1]; the normalisation is the first layer, so that methods and
    metrics work on pixels as they are and a black pixel is exactly 0.

    The heads, for embeddings z and their directions u = z / |z|:

    - ``linear``: trained with the encoder where the loss does so (cross-entropy), else a probe; on
      u instead of z if the shape says so;
    - ``probe`` and ``probe-normalised``: logistic regressions on the frozen z and u;
    - ``prototype``: cosine of z to the mean direction of each class; ``prototype-centred``: the
      same after the mean of all classes was subtracted from u;
    - ``knn``: the logarithm of each class's share of the votes of the nearest training images.

    All scores are divided by a temperature that was calibrated on held-out images (Guo et al.,
    2017, "On Calibration of Modern Neural Networks", section 4.2), so that a softmax over them
    means the same for every loss. Without it, the scale of the logits, which the loss decides,
    would pass for faithfulness.
    """

    mean: Tensor
    std: Tensor
    prototypes: Tensor
    prototypes_centred: Tensor
    center: Tensor
    references: Tensor
    reference_labels: Tensor
    temperatures: Tensor

    def __init__(self, shape: Shape, *, pretrained: bool = False) -> None:
        """Build the network with fresh weights from torch's current random state.

        Args:
            shape: what is to be built.
            pretrained: load the weights that the encoder's recipe names, if it does.
        """
        super().__init__()
        self.shape = shape
        recipe = EncoderRecipe(**shape.encoder)
        if not pretrained:
            recipe = recipe.model_copy(update={"pretrained": False, "weights": None})
        self.encoder = build_encoder(recipe, shape.channels, shape.size)
        self.dimension = self.encoder.dimension
        self.head = nn.Linear(self.dimension, shape.classes)
        self.probe = nn.Linear(self.dimension, shape.classes)
        self.probe_normalised = nn.Linear(self.dimension, shape.classes)
        self.register_buffer("mean", torch.zeros(1, shape.channels, 1, 1))
        self.register_buffer("std", torch.ones(1, shape.channels, 1, 1))
        self.register_buffer("prototypes", torch.zeros(shape.classes, self.dimension))
        self.register_buffer("prototypes_centred", torch.zeros(shape.classes, self.dimension))
        self.register_buffer("center", torch.zeros(self.dimension))
        self.set_references(torch.zeros(0, self.dimension), torch.zeros(0, dtype=torch.int64))
        self.register_buffer("temperatures", torch.ones(len(HEADS)))
        # Convolutions run up to a third faster on CPUs and GPUs with channels innermost.
        self.to(memory_format=torch.channels_last)

    def set_references(self, embeddings: Tensor, labels: Tensor) -> None:
        """Keep training embeddings of length 1 [R, D] with labels [R] for nearest neighbours."""
        self.register_buffer("references", embeddings)
        self.register_buffer("reference_labels", labels)

    def embed(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [0, 1] to embeddings [B, D], not normalised."""
        embeddings: Tensor = self.encoder((images - self.mean) / self.std)
        return embeddings

    def head_scores(self, embeddings: Tensor, *, fixed_length: bool = False) -> Tensor:
        """Score embeddings [B, D] by the linear head, not calibrated: what a loss trains."""
        scores: Tensor = self.head(
            direction(embeddings, fixed_length) if self.shape.normalise else embeddings
        )
        return scores

    def scores(self, embeddings: Tensor, head: HeadName, *, fixed_length: bool = False) -> Tensor:
        """Score embeddings [B, D] by one of the heads, calibrated: [B, classes].

        Args:
            embeddings: not normalised.
            head: which of the heads.
            fixed_length: see `direction`.
        """
        unit = direction(embeddings, fixed_length)
        match head:
            case "linear":
                scores = self.head_scores(embeddings, fixed_length=fixed_length)
            case "probe":
                scores = self.probe(embeddings)
            case "probe-normalised":
                scores = self.probe_normalised(unit)
            case "prototype":
                scores = unit @ self.prototypes.T
            case "prototype-centred":
                centred = direction(unit - self.center, fixed_length)
                scores = centred @ self.prototypes_centred.T
            case "knn":
                scores = self._votes(unit)
        return scores / self.temperatures[HEADS.index(head)]

    def _votes(self, unit: Tensor) -> Tensor:
        """Return the logarithm of each class's share of the votes of the nearest references."""
        # A part at a time: the cosines of 10,000 images to 10,000 references are 400 MB.
        return torch.cat([self._votes_of_part(part) for part in torch.split(unit, VOTERS_AT_ONCE)])

    def _votes_of_part(self, unit: Tensor) -> Tensor:
        count = min(NEIGHBOURS, len(self.references))
        cosines, nearest = (unit @ self.references.T).topk(count, dim=1)
        votes = (cosines / VOTE_TEMPERATURE).softmax(dim=1)
        members = F.one_hot(self.reference_labels[nearest], self.shape.classes).to(votes)
        return ((votes[:, None] @ members)[:, 0] + NO_VOTES).log()

    def logits(self, embeddings: Tensor) -> Tensor:
        """Score embeddings [B, D] by the linear head: calibrated logits [B, classes]."""
        return self.scores(embeddings, "linear")

    def similarities(self, embeddings: Tensor) -> Tensor:
        """Score embeddings [B, D] by cosine to each class prototype, calibrated: [B, classes]."""
        return self.scores(embeddings, "prototype")

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [0, 1] to calibrated logits [B, classes]."""
        return self.logits(self.embed(images))


def direction(embeddings: Tensor, fixed_length: bool = False) -> Tensor:
    """Divide embeddings [B, D] by their lengths.

    Args:
        embeddings: of any length; zero stays zero.
        fixed_length: differentiate as if the lengths were constants. A cosine then is linear in the
            embedding, so that it can be shared out among its components without a remainder; its
            true gradient is orthogonal to the embedding (Euler's theorem).
    """
    if not fixed_length:
        return F.normalize(embeddings, dim=1)
    length = torch.linalg.vector_norm(embeddings.detach(), dim=1, keepdim=True)
    unit: Tensor = embeddings / length.clamp_min(1e-12)
    return unit


def save(
    model: Classifier,
    path: storage.StrPath,
    *,
    loss: nn.Module | None = None,
    status: Mapping[str, Any] | None = None,
) -> None:
    """Write a classifier as safetensors, with the loss's own weights and the run's status."""
    tensors = dict(model.state_dict())
    if loss is not None:
        tensors |= {f"{OF_THE_LOSS}{name}": value for name, value in loss.named_parameters()}
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    metadata = {"shape": json.dumps(asdict(model.shape), sort_keys=True)}
    if status is not None:
        metadata["status"] = json.dumps(status, sort_keys=True)
    storage.write_tensors(path, arrays, metadata)


def status(path: storage.StrPath) -> dict[str, Any]:
    """Return how the training of the model in a file ended: status, epoch, reason.

    Raises:
        clarity.storage.CorruptArtifact: if the file is missing, cut short or no model.
    """
    metadata = storage.read_tensor_metadata(path)
    if "shape" not in metadata:
        raise storage.CorruptArtifact(path, "no model")
    found: dict[str, Any] = json.loads(metadata.get("status", '{"status": "ok"}'))
    return found


def load(path: storage.StrPath, device: torch.device) -> Classifier:
    """Read a classifier in evaluation mode, its weights frozen.

    Raises:
        clarity.storage.CorruptArtifact: if the file is missing, cut short or of another shape.
    """
    arrays, metadata = storage.read_tensors(path)
    try:
        shape = json.loads(metadata["shape"])
        model = Classifier(Shape(**shape))
        state = {
            name: torch.from_numpy(np.copy(array))
            for name, array in arrays.items()
            if not name.startswith(OF_THE_LOSS)
        }
        model.set_references(state["references"], state["reference_labels"])
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise storage.CorruptArtifact(path, error) from error
    return model.to(device).eval().requires_grad_(False)
