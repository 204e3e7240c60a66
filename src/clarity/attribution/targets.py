"""Target functions: own the scores g_c(x) that are explained, one module for each kind."""

from typing import Literal

import torch
from torch import Tensor, nn

from clarity.models.classifier import Classifier

TargetName = Literal["logit", "prototype", "contrast"]


class TargetFunction(nn.Module):
    """Scores of all classes, g(x) [B, classes], for images [B, C, H, W] in [0, 1].

    - ``logit``: the calibrated logit of the linear head.
    - ``prototype``: the calibrated cosine of the embedding to the class mean of the training
      embeddings. It needs no head, so it means the same for every loss.
    - ``contrast``: the logit minus the highest logit of the other classes, the foil (Jacovi et al.,
      2021, "Contrastive Explanations for Model Interpretability": why this and not that).
    """

    def __init__(self, model: Classifier, target: TargetName) -> None:
        """Wrap ``model``; its weights are shared, not copied."""
        super().__init__()
        self.model = model
        self.target = target

    def forward(self, images: Tensor) -> Tensor:
        """Score every class of every image."""
        embeddings = self.model.embed(images)
        if self.target == "prototype":
            return self.model.similarities(embeddings)
        logits = self.model.logits(embeddings)
        return _minus_runner_up(logits) if self.target == "contrast" else logits


def _minus_runner_up(scores: Tensor) -> Tensor:
    """Subtract from each class's score the highest score among the other classes."""
    best, order = scores.topk(2, dim=1)
    is_best = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, :1], True)
    return scores - torch.where(is_best, best[:, 1:], best[:, :1])
