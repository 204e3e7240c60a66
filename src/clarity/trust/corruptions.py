"""Corruptions: own what noise, blur, light and compression do to images; know no model.

Hendrycks and Dietterich, 2019, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", section 3 and appendix A: those that need no picture of their own (frost) and no
drawing program (motion blur, snow), in batches. Five severities, those of CIFAR-10-C for images up
to `SMALL` pixels and those of ImageNet-C for larger ones. Unlike there, values are not rounded to
whole numbers from 0 to 255 (except by JPEG, which has no others).
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from clarity.trust.recipe import Corruption

#: The longer side up to which an image is as small as those of CIFAR-10-C.
SMALL = 64

#: The strength at severities 1 to 5, for small and for large images.
STRENGTHS: dict[Corruption, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "gaussian-noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot-noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse-noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus-blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}


def corrupt(
    images: Tensor, corruption: Corruption, severity: int, generator: torch.Generator
) -> Tensor:
    """Corrupt images [B, C, H, W] in [0, 1], on the CPU; the result is in [0, 1] too.

    Args:
        images: grey (C = 1) or RGB (C = 3).
        corruption: what is done to them.
        severity: 1 to 5.
        generator: source of the noise.
    """
    strengths = STRENGTHS[corruption][max(images.shape[2:]) > SMALL]
    return _APPLY[corruption](images, strengths[severity - 1], generator).clamp(0, 1)


def _gaussian_noise(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    return images + scale * torch.randn(images.shape, generator=generator)


def _shot_noise(images: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    return torch.poisson(images * photons, generator=generator) / photons


def _impulse_noise(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Replace a share of all values, half of them by 0 and half by 1."""
    draw = torch.rand(images.shape, generator=generator)
    return images.where(draw >= share, (draw < share / 2).to(images.dtype))


def _defocus_blur(images: Tensor, lens: tuple[float, float], _: torch.Generator) -> Tensor:
    """Blur by a disk of ``lens[0]`` pixels radius, itself smoothed with sigma ``lens[1]``."""
    radius, sigma = lens
    edge = 1 if radius <= 8 else 2  # half the width of the smoothing kernel
    reach = int(radius) + edge
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).double()
    bell = torch.exp(-(torch.arange(-edge, edge + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    bell = torch.outer(bell, bell) / bell.sum() ** 2
    kernel = F.conv2d((disk / disk.sum())[None, None], bell[None, None], padding=edge)
    channels = images.shape[1]
    weights = kernel.to(images.dtype).expand(channels, 1, -1, -1)
    return F.conv2d(nn.ReflectionPad2d(reach)(images), weights, groups=channels)


def _brightness(images: Tensor, amount: float, _: torch.Generator) -> Tensor:
    """Raise V of HSV (hue and saturation stay), that is the largest channel."""
    value = images.amax(1, keepdim=True)
    raised = (value + amount).clamp(max=1)
    return torch.where(value > 0, images * (raised / value.clamp(min=1e-12)), raised)


def _contrast(images: Tensor, factor: float, _: torch.Generator) -> Tensor:
    means = images.mean((2, 3), keepdim=True)
    return means + factor * (images - means)


def _pixelate(images: Tensor, factor: float, _: torch.Generator) -> Tensor:
    height, width = images.shape[2:]
    down = _boxes(height, int(height * factor)), _boxes(width, int(width * factor))
    small = down[0] @ images @ down[1].T
    return _boxes(down[0].shape[0], height) @ small @ _boxes(down[1].shape[0], width).T


def _boxes(before: int, after: int) -> Tensor:
    """Return the weights [after, before] with which Pillow's box filter resizes a row of pixels."""
    step = before / after
    middles = (torch.arange(after, dtype=torch.float64) + 0.5) * step
    distances = (torch.arange(before, dtype=torch.float64) + 0.5 - middles[:, None]) / max(step, 1)
    inside = ((distances > -0.5) & (distances <= 0.5)).float()
    return inside / inside.sum(1, keepdim=True)


def _jpeg(images: Tensor, quality: int, _: torch.Generator) -> Tensor:
    pixels = (images * 255).round().to(torch.uint8).movedim(1, 3).numpy()
    # Pillow takes a grey image without an axis of channels.
    pictures = pixels[..., 0] if pixels.shape[3] == 1 else pixels
    stored = [_through_jpeg(picture, quality) for picture in pictures]
    return torch.from_numpy(np.stack(stored)).reshape(pixels.shape).movedim(3, 1) / 255


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    with io.BytesIO() as file:
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))


_APPLY: dict[Corruption, Callable[[Tensor, Any, torch.Generator], Tensor]] = {
    "gaussian-noise": _gaussian_noise,
    "shot-noise": _shot_noise,
    "impulse-noise": _impulse_noise,
    "defocus-blur": _defocus_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}
