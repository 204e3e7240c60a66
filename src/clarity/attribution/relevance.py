"""Relevance: owns layer-wise relevance propagation (LRP), which hands a score back to the pixels.

Bach et al., 2015, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise
Relevance Propagation". The rules are zennit's (Anders et al., 2021, "Software for Dataset-wide XAI:
From Local Explanations to Global Insights with Zennit, CoRelAy, and ViRelAy"), on an unrolled copy
of the network (`clarity.attribution.unrolled`): Captum's LRP knows neither the sum of a residual
block nor a mean over space.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    LayerMapComposite,
    layer_map_base,
)
from zennit.core import Composite
from zennit.layer import Sum
from zennit.rules import Epsilon
from zennit.types import AvgPool, BatchNorm, Linear, MaxPool

from clarity.attribution.batching import in_passes
from clarity.attribution.protocol import PerClass
from clarity.attribution.targets import Score
from clarity.attribution.unrolled import (
    Step,
    demand_rules,
    is_linear,
    merge_batch_norms,
    unroll,
)

#: Rectifiers and their like, of which relevance passes through unchanged: they keep the sign, and
#: rise. What falls somewhere (GELU, SiLU) or is not 0 at 0 (a gate) has no rule in the papers.
PASSED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.Tanh, nn.Softsign)

#: Layers with a rule, beside those that are linear: a sum and a mean share out in proportion; of a
#: maximum, the largest takes all; of a batch normalisation that stands alone, all passes.
RULED = (*PASSED, Sum, AvgPool, MaxPool, BatchNorm)


def _epsilon(epsilon: float, stabilizer: float) -> LayerMapComposite:
    """Return the epsilon rule for every linear layer: Bach et al., 2015, equation 58."""
    return LayerMapComposite([*layer_map_base(stabilizer), (Linear, Epsilon(epsilon=epsilon))])


#: The rules of each composite, and what they are given.
RULES: dict[str, tuple[Callable[..., Composite], tuple[str, ...]]] = {
    "EpsilonGammaBox": (EpsilonGammaBox, ("low", "high", "epsilon", "gamma", "stabilizer")),
    "EpsilonPlus": (EpsilonPlus, ("epsilon", "stabilizer")),
    "EpsilonPlusFlat": (EpsilonPlusFlat, ("epsilon", "stabilizer")),
    "EpsilonAlpha2Beta1": (EpsilonAlpha2Beta1, ("epsilon", "stabilizer")),
    "EpsilonAlpha2Beta1Flat": (EpsilonAlpha2Beta1Flat, ("epsilon", "stabilizer")),
    "Epsilon": (_epsilon, ("epsilon", "stabilizer")),
}


class LRP(PerClass):
    """Relevance of each pixel and colour, by one rule a layer.

    The head is linear once the length of the embedding is held constant, so what it hands to the
    last maps A is R = A * dg/dA, LRP-0 through the head and the normalisation of maps: a
    normalisation by constants, whichever side of a linear layer it stands on, is a part of that
    layer. From A on, each layer shares the relevance of its outputs out among its inputs by the
    rule of the composite, back to the normalised image; batch normalisations are merged into the
    convolutions before them. Constants keep their shares: the map sums to g less those of the
    biases, and where there are none, to the logit, or to the cosine.

    The rules are linear in the relevance that they share out, so the map of a score with a foil is
    the map of the class minus that of the foil. That is the idea of contrastive LRP: Gu et al.,
    2018, "Understanding Individual Decisions of CNNs via Contrastive Backpropagation", who scale
    both to one sum and clip at 0; Iwana et al., 2019, "Explaining Convolutional Neural Networks
    using Softmax Gradient Layer-wise Relevance Propagation", who weight foils as softmax does.

    Composites have the names and rules of zennit's classes: "EpsilonGammaBox" (the gamma rule for
    convolutions, the box rule for the first, as Montavon et al., 2019, "Layer-Wise Relevance
    Propagation: An Overview", recommend), "EpsilonPlus" and "EpsilonAlpha2Beta1" (z+ or alpha-beta
    for convolutions), both also with "Flat" (the flat rule for the first). "Epsilon" is the epsilon
    rule alone. By default it is the gamma rule, which keeps what speaks against a class: with z+,
    maps of all classes become alike with depth (Sixt et al., 2020, "When Explanations Lie: Why Many
    Modified BP Attributions Fail").
    """

    def __init__(
        self,
        model: Score,
        rows: int,
        composite: Literal[
            "EpsilonGammaBox",
            "EpsilonPlus",
            "EpsilonPlusFlat",
            "EpsilonAlpha2Beta1",
            "EpsilonAlpha2Beta1Flat",
            "Epsilon",
        ] = "EpsilonGammaBox",
        epsilon: float = 1e-6,
        gamma: float = 0.25,
        stabilizer: float = 1e-6,
    ) -> None:
        """Copy the network; its weights are taken as they are now.

        Args:
            model: the score.
            rows: images a pass of the network.
            composite: which rules.
            epsilon: of the epsilon rule, added to the size of each denominator.
            gamma: of the gamma rule: how much more positive weights count.
            stabilizer: what stands for epsilon in the other rules.

        Raises:
            MethodUnavailable: if a step of the network has no rule.
            ValueError: if an argument is out of range.
        """
        if composite not in RULES:
            raise ValueError(f"composite: found '{composite}', wanted one of {', '.join(RULES)}")
        for name, value in (("epsilon", epsilon), ("gamma", gamma), ("stabilizer", stabilizer)):
            if not value > 0:
                raise ValueError(f"{name}: found {value}, wanted a number above 0")
        self._score = model
        self._rows = rows
        self._composite = composite
        self._numbers = {"epsilon": epsilon, "gamma": gamma, "stabilizer": stabilizer}
        self._network = unroll(model.encoder.trunk)
        demand_rules("LRP", self._network, _has_rule)
        merge_batch_norms(self._network)

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W]: relevance [B, K, C, H, W] of the normalised pixels."""
        return in_passes(self._relevance, self._rows, inputs, targets)

    def _relevance(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Explain the images of one pass: one way forward, and one back a class."""
        images = self._score.normalised(inputs.detach()).requires_grad_(True)
        # The same at all places, so that they fit what the network runs on, parts of images too.
        corner = inputs[:1, :, :1, :1]
        low, high = (self._score.normalised(torch.full_like(corner, bound)) for bound in (0.0, 1.0))
        with torch.enable_grad(), self._rules(low, high).context(self._network):
            maps = self._network(images)
            starts = self._of_maps(maps.detach(), targets)
            last = len(starts) - 1
            found = [
                torch.autograd.grad(maps, images, start, retain_graph=slot < last)[0]
                for slot, start in enumerate(starts)
            ]
        return torch.stack(found, dim=1).detach()

    def _of_maps(self, maps: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the relevance of the trunk's maps [B, K, h, w] for each class in turn."""
        leaf = maps.requires_grad_(True)
        scores = self._score.of_maps(self._score.encoder.maps(leaf), fixed_length=True)
        chosen = scores.gather(1, targets).sum(dim=0)
        gradients = [torch.autograd.grad(one, leaf, retain_graph=True)[0] for one in chosen]
        return [maps.detach() * gradient for gradient in gradients]

    def _rules(self, low: Tensor, high: Tensor) -> Composite:
        """Return the rules, for normalised images between ``low`` and ``high`` [1, C, 1, 1]."""
        kind, names = RULES[self._composite]
        offered = {**self._numbers, "low": low, "high": high}
        return kind(**{name: offered[name] for name in names})


def _has_rule(step: Step) -> bool:
    return is_linear(step.layer) or isinstance(step.layer, RULED)
