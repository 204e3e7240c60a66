"""Baselines: own the images that stand for "nothing", and what that means for each name.

Which "nothing" is right is not known: Sturmfels et al., 2020, "Visualizing the Impact of Feature
Attribution Baselines", compare most of these.
"""

import math

import numpy as np
import torch
from torch import Tensor

from clarity.attribution.recipe import OF_THE_IMAGE, Baseline
from clarity.seeds import derive_seed

GREYS = {"black": 0.0, "grey": 0.5, "white": 1.0}


def baseline_images(
    recipe: Baseline, images: Tensor, references: Tensor | None, seed: int
) -> Tensor:
    """Return a baseline for each image, [B, C, H, W] in [0, 1].

    Noise, and which training image, depend on ``seed`` alone, so that all images, classes and
    losses have the same.

    Args:
        recipe: which baseline.
        images: [B, C, H, W] in [0, 1].
        references: training images [R, C, H, W] in [0, 1], for "sample".
        seed: the seed axis.

    Raises:
        ValueError: if "sample" is asked for and there are no references.
    """
    if recipe.name in GREYS:
        return torch.full_like(images, GREYS[recipe.name])
    if recipe.name == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images).clone()
    if recipe.name == "blur":
        # Loads all of torchvision, for seconds.
        from torchvision.transforms.functional import gaussian_blur

        side = min(images.shape[2:])
        sigma = recipe.blur * side
        # Three standard deviations to each side; the image is mirrored at its border once at most.
        reach = min(math.ceil(3 * sigma), side - 1)
        blurred: Tensor = gaussian_blur(images, [2 * reach + 1] * 2, [sigma, sigma])
        return blurred
    draw = np.random.default_rng(derive_seed("baseline", recipe.name, seed))
    if recipe.name == "uniform":
        noise = torch.from_numpy(draw.random(images.shape[1:], dtype=np.float32))
        return noise.to(images).expand_as(images).clone()
    known = _existing(references, images)
    return known[int(draw.integers(len(known)))].to(images).expand_as(images).clone()


def baseline_distribution(
    recipe: Baseline, images: Tensor, references: Tensor | None, seed: int
) -> Tensor:
    """Return baselines [R, C, H, W] to average over, the same for all images.

    Args:
        recipe: which; what depends on the image is no distribution.
        images: [B, C, H, W] in [0, 1], for their size and device.
        references: training images [R, C, H, W] in [0, 1], for "sample".
        seed: the seed axis.

    Raises:
        ValueError: if the baseline depends on the image, or there are no references.
    """
    if recipe.name == "sample":
        return _existing(references, images)[: recipe.count].to(images)
    if recipe.name in OF_THE_IMAGE:
        raise ValueError(
            f"baseline: found '{recipe.name}', which is another for each image; wanted a "
            f"distribution for all: sample, uniform, black, grey or white"
        )
    if recipe.name == "uniform":
        draw = np.random.default_rng(derive_seed("baseline", recipe.name, seed))
        shape = (recipe.count, *images.shape[1:])
        return torch.from_numpy(draw.random(shape, dtype=np.float32)).to(images)
    return baseline_images(recipe, images[:1], references, seed)


def _existing(references: Tensor | None, images: Tensor) -> Tensor:
    """Return the references in the size of ``images``: for a mosaic, side by side as its parts."""
    if references is None or not len(references):
        raise ValueError("baseline: found 'sample', but no training images are at hand")
    if references.shape[2:] == images.shape[2:]:
        return references
    down, across = (
        whole // part for whole, part in zip(images.shape[2:], references.shape[2:], strict=True)
    )
    return references.repeat(1, 1, down, across)
