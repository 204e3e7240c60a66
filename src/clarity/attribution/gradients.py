"""Gradients: own the methods made of derivatives of the score with respect to the image.

The scores of several classes are differentiated after one forward pass. Random draws are the same
for every image, class and loss of a seed; Captum draws for each row of a batch from the global
state, so that a map depends on where its image stands.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clarity.attribution.batching import in_passes
from clarity.attribution.protocol import PerClass
from clarity.attribution.targets import Score
from clarity.seeds import derive_seed


def class_gradients(score: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Differentiate the scores of several classes with respect to the image.

    Args:
        score: from images to scores of all classes.
        images: [B, C, H, W].
        targets: classes, int64 [B, K].

    Returns:
        Gradients [B, K, C, H, W], by one forward pass and K backward ones.
    """
    leaf = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        chosen = score(leaf).gather(1, targets).sum(dim=0)
    last = len(chosen) - 1
    found = [
        torch.autograd.grad(chosen[slot], leaf, retain_graph=slot < last)[0]
        for slot in range(last + 1)
    ]
    return torch.stack(found, dim=1)


class Saliency(PerClass):
    """The gradient of the score.

    Simonyan et al., 2014, "Deep Inside Convolutional Networks", section 3, with its sign; the
    recipe's ``sign`` and ``channels`` make of it what the paper shows.
    """

    def __init__(self, model: Score, rows: int) -> None:
        """Explain ``model``, ``rows`` images a pass."""
        self._score = model
        self._rows = rows

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W] for classes [B, K]: [B, K, C, H, W]."""
        explain = functools.partial(class_gradients, self._score)
        return in_passes(explain, self._rows, inputs, targets)


class InputXGradient(Saliency):
    """The gradient times the image: Shrikumar et al., 2016, "Not Just a Black Box", section 2."""

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W] for classes [B, K]: [B, K, C, H, W]."""
        return super().attribute_classes(inputs, targets) * inputs[:, None]


class IntegratedGradients(PerClass):
    """The mean gradient on the way from the baseline to the image, times their difference.

    Sundararajan et al., 2017, "Axiomatic Attribution for Deep Networks", equation 1; the integral
    by Gauss and Legendre, as in Captum's class of this name. It sums to g(x) - g(baseline).
    """

    def __init__(
        self, model: Score, rows: int, n_steps: int = 50, multiply_by_inputs: bool = True
    ) -> None:
        """Take ``n_steps`` places on the way; without the difference, the mean gradient alone."""
        self._score = model
        self._rows = rows
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        self._shares = torch.from_numpy((1 + nodes) / 2).float()
        self._weights = torch.from_numpy(weights / 2).float()
        self._multiply = multiply_by_inputs

    def attribute_classes(
        self, inputs: Tensor, targets: Tensor, baselines: Tensor | None = None, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W], from ``baselines`` of that shape or black, for [B, K]."""
        base = torch.zeros_like(inputs) if baselines is None else baselines
        difference = inputs - base
        shares, weights = self._shares.to(inputs), self._weights.to(inputs)

        def place(image: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
            at = base[image] + shares[step].reshape(-1, 1, 1, 1) * difference[image]
            return at, weights[step].reshape(-1, 1, 1, 1)

        total = _weighted_sum(self._score, targets, place, len(shares), self._rows)
        return total * difference[:, None] if self._multiply else total


class GradientShap(PerClass):
    """Expected gradients: gradients between images and random baselines, times their difference.

    Erion et al., 2021, "Improving Performance of Deep Learning Models with Axiomatic Attribution
    Priors and Expected Gradients", equation 3; Lundberg and Lee, 2017. For draws of a baseline b,
    a share a of [0, 1] and noise e, the mean of (x + e - b) * dg/dx at b + a (x + e - b). It sums
    to g(x) - E g(b), in the mean over draws and without noise.
    """

    wants_references = True

    def __init__(
        self, model: Score, rows: int, seed: int, n_samples: int = 5, stdevs: float = 0.0
    ) -> None:
        """Draw ``n_samples`` baselines and places, with noise of deviation ``stdevs``."""
        self._score = model
        self._rows = rows
        self._samples = n_samples
        self._stdev = stdevs
        self._seed = seed

    def attribute_classes(
        self, inputs: Tensor, targets: Tensor, baselines: Tensor | None = None, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W]; ``baselines`` [R, C, H, W] are a distribution, or black."""
        known = torch.zeros_like(inputs[:1]) if baselines is None else baselines
        draw = np.random.default_rng(derive_seed("gradient shap", self._samples, self._seed))
        base = known[
            torch.from_numpy(draw.integers(len(known), size=self._samples)).to(known.device)
        ]
        shares = torch.from_numpy(draw.random(self._samples, dtype=np.float32)).to(inputs)
        normal = draw.standard_normal((self._samples, *inputs.shape[1:]), dtype=np.float32)
        noise = self._stdev * torch.from_numpy(normal).to(inputs)

        def place(image: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
            difference = inputs[image] + noise[step] - base[step]
            return base[step] + shares[step].reshape(-1, 1, 1, 1) * difference, difference

        return _weighted_sum(self._score, targets, place, self._samples, self._rows) / self._samples


def _weighted_sum(
    score: nn.Module,
    targets: Tensor,
    place: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    steps: int,
    rows: int,
) -> Tensor:
    """Sum gradients at several places of each image, weighted: [B, K, C, H, W].

    Args:
        score: from images to scores of all classes.
        targets: classes [B, K].
        place: from numbers of images [P] and of steps [P] to where gradients are taken
            [P, C, H, W], and their weights, which broadcast to that.
        steps: places of an image.
        rows: places of a pass, whatever their images.
    """
    total: Tensor | None = None
    for pairs in torch.split(torch.arange(len(targets) * steps, device=targets.device), rows):
        image, step = pairs // steps, pairs % steps
        at, weights = place(image, step)
        found = class_gradients(score, at, targets[image]) * weights[:, None]
        if total is None:
            total = torch.zeros(targets.shape + at.shape[1:]).to(at)
        total.index_add_(0, image, found)
    assert total is not None, "no images"
    return total
