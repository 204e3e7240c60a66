"""Building losses: owns how a recipe becomes a torch module from a batch to a scalar."""

from typing import Any

from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn

from clarity import catalogue
from clarity.losses.recipe import CROSS_ENTROPY, LossRecipe

LIBRARIES = {"miner": miners, "distance": distances, "reducer": reducers}


class MetricLoss(nn.Module):
    """A pytorch-metric-learning loss with its miner: embeddings [B, D], labels [B] to a scalar."""

    def __init__(self, recipe: LossRecipe, classes: int, dimension: int) -> None:
        """Build the loss that ``recipe`` names; fills in class count and size where it asks."""
        super().__init__()
        parts = {
            key: getattr(LIBRARIES[key], name)(**arguments)
            for key, (name, arguments) in recipe.parts.items()
        }
        self.miner = parts.pop("miner", None)
        sizes = {"num_classes": classes, "embedding_size": dimension}
        wanted = catalogue.find("losses", recipe.loss).given
        arguments: dict[str, Any] = {key: sizes[key] for key in sizes if key in wanted}
        self.loss = getattr(losses, recipe.loss)(**{**arguments, **recipe.arguments, **parts})

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        mined = None if self.miner is None else self.miner(embeddings, labels)
        value: Tensor = self.loss(embeddings, labels, mined)
        return value


def build_loss(recipe: LossRecipe, classes: int, dimension: int) -> nn.Module:
    """Build the loss that ``recipe`` names, for ``classes`` and embeddings of ``dimension``.

    Cross-entropy takes logits [B, classes], every other loss embeddings [B, D]; both take labels.
    """
    if recipe.loss == CROSS_ENTROPY:
        return nn.CrossEntropyLoss(**recipe.arguments)
    return MetricLoss(recipe, classes, dimension)
