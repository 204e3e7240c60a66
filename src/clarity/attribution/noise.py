"""Noise: owns averages of attributions over noise around the image."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from clarity.attribution.recipe import Noise
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
