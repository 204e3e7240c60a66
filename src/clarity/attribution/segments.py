"""Segments: owns the regions of an image that perturbation methods remove together.

Regions depend on the image and the recipe alone, never on a model or a random draw, so that all
losses are asked about the same regions.
"""

import numpy as np
import torch
from torch import Tensor

from clarity.attribution.recipe import Segments


def segment(images: Tensor, recipe: Segments) -> Tensor:
    """Number the regions of each image.

    - ``grid``: round(sqrt(count)) rows of as many squares, row by row; where that does not divide
      the image's side, squares differ by a pixel. At most one square a pixel.
    - ``slic``: superpixels, k-means of colour and place (Achanta et al., 2012, "SLIC Superpixels
      Compared to State-of-the-Art Superpixel Methods"), by scikit-image with ten iterations and no
      blur; each region is connected. A grey image is taken for a colour image of three equal
      channels, so that ``compactness`` weighs lightness by the scale of CIELAB, 0 to 100, for both.
      The number of regions is near ``count`` and differs by image.

    Args:
        images: [B, C, H, W] in [0, 1].
        recipe: the kind of regions and about how many.

    Returns:
        The number of each pixel's region, int64 [B, H, W] on the images' device, from 0 without
        gaps in each image.
    """
    if recipe.name == "grid":
        return _grid(images, recipe.count)
    # A library that takes one image at a time.
    regions = np.stack([_slic(image, recipe) for image in images.detach().cpu().numpy()])
    return torch.from_numpy(regions).to(images.device)


def _grid(images: Tensor, count: int) -> Tensor:
    batch, _, height, width = images.shape
    side = min(max(round(count**0.5), 2), height, width)
    rows = torch.arange(height, device=images.device) * side // height
    columns = torch.arange(width, device=images.device) * side // width
    regions: Tensor = rows[:, None] * side + columns
    return regions.expand(batch, height, width).clone()


def _slic(image: np.ndarray, recipe: Segments) -> np.ndarray:
    """Return the superpixels [H, W] of an image [C, H, W]."""
    # Here, since it loads much of scipy, and squares do not need it.
    from skimage.segmentation import slic

    colour = np.repeat(image, 3, axis=0) if len(image) == 1 else image
    found = slic(
        colour,
        n_segments=recipe.count,
        compactness=recipe.compactness,
        max_num_iter=10,
        sigma=0,
        enforce_connectivity=True,
        start_label=0,
        channel_axis=0,
    )
    return np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)
