"""Sampling: owns methods that average gradients over draws, the same draws for every image.

Captum draws noise for each row of a batch from the global state, so that a map depends on where its
image stands. Here all images, classes and losses share the draws of a seed.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clarity.attribution.gradients import class_gradients
from clarity.attribution.protocol import PerClass
from clarity.attribution.recipe import Noise
from clarity.attribution.targets import Score
from clarity.seeds import derive_seed


def draws_of_noise(noise: Noise, shape: torch.Size, seed: int) -> Tensor:
    """Return the draws [samples, C, H, W] that are added to every image of ``shape`` (C, H, W)."""
    draw = np.random.default_rng(derive_seed("noise tunnel", noise.samples, seed))
    normal = draw.standard_normal((noise.samples, *shape), dtype=np.float32)
    return torch.from_numpy(normal) * noise.stdev


def over_noise(attributions: Iterable[Tensor], noise: Noise) -> Tensor:
    """Reduce the attributions of the noisy copies of images, one tensor a draw, to one tensor.

    The mean: Smilkov et al., 2017, "SmoothGrad: removing noise by adding noise". The mean square:
    Hooker et al., 2019, "A Benchmark for Interpretability Methods in Deep Neural Networks". The
    variance: Adebayo et al., 2018, "Local Explanation Methods for Deep Neural Networks Lack
    Sensitivity to Parameter Values" (VarGrad).
    """
    mean = spread = torch.zeros(())
    for count, found in enumerate(attributions, start=1):
        if noise.name == "smoothgrad-squared":
            found = found.square()
        # Welford, 1962: a difference of large sums would lose the digits of a small variance.
        step = found - mean
        mean = mean + step / count
        spread = spread + step * (found - mean)
    return spread / noise.samples if noise.name == "vargrad" else mean


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
        self, inputs: Tensor, targets: Tensor, *, baselines: Tensor, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W]; ``baselines`` [R, C, H, W] are a distribution."""
        draw = np.random.default_rng(derive_seed("gradient shap", self._samples, self._seed))
        total = torch.zeros(len(inputs), targets.shape[1], *inputs.shape[1:], device=inputs.device)
        for _ in range(self._samples):
            base = baselines[int(draw.integers(len(baselines)))]
            share = float(draw.random())
            noise = torch.from_numpy(draw.standard_normal(inputs.shape[1:], dtype=np.float32))
            difference = inputs + self._stdev * noise.to(inputs) - base
            at = base + share * difference
            for start in range(0, len(inputs), self._rows):
                part = slice(start, start + self._rows)
                gradients = class_gradients(self._score, at[part], targets[part])
                total[part] += gradients * difference[part, None]
        return total / self._samples
