"""Building losses: owns how a recipe becomes a torch module from a batch to a scalar."""

import importlib
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from clarity import catalogue
from clarity.losses.recipe import CROSS_ENTROPY, LossRecipe, Part, Projection, Term


class HeadTerm(nn.Module):
    """Cross-entropy of the head's logits, divided by a temperature in training only."""

    def __init__(self, label_smoothing: float = 0.0, temperature: float = 1.0) -> None:
        """Take the arguments of the recipe."""
        super().__init__()
        self.loss = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.temperature = temperature

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits [B, classes] with labels [B]."""
        value: Tensor = self.loss(logits / self.temperature, labels)
        return value


class MetricTerm(nn.Module):
    """A pytorch-metric-learning loss with its parts: embeddings [B, D], labels [B] to a scalar."""

    def __init__(self, term: Term, classes: int, dimension: int) -> None:
        """Build the loss that ``term`` names; fills in class count and size where it asks."""
        super().__init__()
        self.of_view_pairs = term.of_view_pairs
        self.self_supervised = term.self_supervised
        # Names of an embedding's size: `l` in ManifoldLoss, `descriptors_dim` in P2SGradLoss.
        sizes = {
            "num_classes": classes,
            **dict.fromkeys(("embedding_size", "l", "descriptors_dim"), dimension),
        }
        parts: dict[str, Any] = {}
        if term.distance is not None:
            parts["distance"] = _build_part("distances", term.distance)
        if term.reducer is not None:
            parts["reducer"] = _build_part("reducers", term.reducer)
        if term.regularizer is not None:
            parts["embedding_regularizer"] = _build_part("regularizers", term.regularizer)
            parts["embedding_reg_weight"] = term.regularizer.weight
        if term.weight_regularizer is not None:
            parts["weight_regularizer"] = _build_part(
                "regularizers", term.weight_regularizer, {"num_classes": classes}
            )
            parts["weight_reg_weight"] = term.weight_regularizer.weight
        arguments = term.all_arguments
        self.proxies_of_labels = term.loss == "ManifoldLoss" and not term.self_supervised
        if self.proxies_of_labels:
            # A proxy for each class: the meta-classes of Aziere and Todorovic, 2019, section 3.2.
            arguments.setdefault("K", classes)
            if arguments["K"] < classes:
                raise ValueError(
                    f"K: found {arguments['K']}, wanted at least {classes}, the classes"
                )
        loss = _build("losses", str(term.loss), {**arguments, **parts}, sizes)
        # Mining by the loss's own distance, unless the recipe says otherwise.
        self.miner = (
            None
            if term.miner is None
            else _build_part("miners", term.miner, shared=parts.get("distance"))
        )
        self.loss = loss
        if term.memory is not None:
            from pytorch_metric_learning.losses import CrossBatchMemory

            self.loss = CrossBatchMemory(loss, dimension, memory_size=term.memory, miner=self.miner)
            self.miner = None

    def forward(self, embeddings: Tensor, labels: Tensor, views: int) -> Tensor:
        """Return the loss of a batch whose rows are the first view of all images, then the next."""
        if self.of_view_pairs:
            first, second = embeddings.chunk(views)
            return self._scalar(self.loss(first, ref_emb=second))
        if self.self_supervised:
            # What pytorch-metric-learning's SelfSupervisedLoss does for two views, for any number.
            labels = torch.arange(len(labels) // views, device=labels.device).repeat(views)
        if self.proxies_of_labels:
            return self._scalar(self.loss(embeddings, indices_tuple=labels))
        mined = None if self.miner is None else self.miner(embeddings, labels)
        return self._scalar(self.loss(embeddings, labels, mined))

    def _scalar(self, value: Any) -> Tensor:
        """Hold the loss to one number; a loss without valid pairs gives a plain 0."""
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise TypeError(
                f"{type(self.loss).__name__} returned {type(value).__name__}, no number"
            )
        return value.reshape(())


class TrainingLoss(nn.Module):
    """The weighted sum of a recipe's terms, with the projection that metric losses may have.

    Attributes:
        projection: from embeddings to what metric losses see; the identity if there is none.
    """

    def __init__(self, recipe: LossRecipe, classes: int, dimension: int) -> None:
        """Build all terms of ``recipe`` for ``classes`` and embeddings of ``dimension``."""
        super().__init__()
        self.views = recipe.views
        self.normalise = recipe.normalise
        self.projection: nn.Module = nn.Identity()
        size = dimension
        if recipe.projection is not None:
            self.projection = _projection(recipe.projection, dimension)
            size = recipe.projection.size
        self.weights = [term.weight for term in recipe.all_terms]
        self.terms = nn.ModuleList(
            HeadTerm(**term.arguments)
            if term.loss == CROSS_ENTROPY
            else MetricTerm(term, classes, size)
            for term in recipe.all_terms
        )

    def forward(self, embeddings: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
        """Return the loss of a batch.

        Args:
            embeddings: [views * B, D], the first view of all images, then the next.
            labels: [views * B].
            head: from embeddings to logits, for terms that work on these.
        """
        total = embeddings.new_zeros(())
        projected = self.projection(embeddings)
        for weight, term in zip(self.weights, self.terms, strict=True):
            if isinstance(term, HeadTerm):
                value = term(head(embeddings), labels)
            else:
                value = term(projected, labels, self.views)
            total = total + weight * value
        return total


def _projection(recipe: Projection, dimension: int) -> nn.Module:
    """Build the network between embedding and loss: linear layers with rectification between."""
    widths = [dimension, *[recipe.hidden or dimension] * (recipe.layers - 1), recipe.size]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _build(kind: str, name: str, arguments: dict[str, Any], sizes: dict[str, int]) -> Any:
    """Build a class by name, with those of ``sizes`` that it asks for and the recipe leaves out."""
    if ":" in name:
        built = catalogue.load_own(name)
    else:
        # Here, since it loads pytorch-metric-learning, which takes a second.
        from clarity.losses.mended import MENDED

        library = importlib.import_module(f"pytorch_metric_learning.{kind}")
        built = MENDED.get(name) or getattr(library, name)
    wanted = catalogue.find(kind, name).given
    filled = {key: size for key, size in sizes.items() if key in wanted}
    return built(**{**filled, **arguments})


def _build_part(
    kind: str, part: Part, sizes: dict[str, int] | None = None, shared: Any = None
) -> Any:
    """Build a part; its distance is the one it names, or else ``shared``, if any."""
    arguments = dict(part.arguments)
    if isinstance(arguments.get("weights"), list):
        arguments["weights"] = torch.tensor(arguments["weights"], dtype=torch.float32)
    if part.distance is not None:
        arguments["distance"] = _build_part("distances", part.distance)
    elif shared is not None:
        arguments["distance"] = shared
    return _build(kind, part.name, arguments, sizes or {})
