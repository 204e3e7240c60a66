"""Control methods: own maps that know neither the model nor its task.

A good metric ranks them last; one that does not measures something else. They follow the protocol
of every method (`clarity.attribution.protocol`).
"""

import hashlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity.seeds import derive_seed


class RandomMap:
    """Independent standard normal pixels, another map for each image and class.

    The draw is a hash of the image's pixels and the class: the same question gets the same answer,
    and an image that was changed in the least gets an unrelated map.
    """

    def __init__(self, model: nn.Module) -> None:
        """Take the model for the protocol's sake; it is not looked at."""

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return maps [B, 1, H, W] for images [B, C, H, W] and classes [B]."""
        maps = []
        for image, label in zip(inputs.detach().cpu().numpy(), target.tolist(), strict=True):
            pixels = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
            generator = np.random.default_rng(derive_seed("random map", pixels, label))
            maps.append(generator.standard_normal((1, *image.shape[1:]), dtype=np.float32))
        return torch.from_numpy(np.stack(maps)).to(inputs.device)


class SobelMap:
    """The strength of edges, the same map for every class.

    Adebayo et al., 2018, "Sanity Checks for Saliency Maps", section 5: an edge detector looks like
    an explanation and explains nothing.
    """

    def __init__(self, model: nn.Module) -> None:
        """Take the model for the protocol's sake; it is not looked at."""

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return maps [B, 1, H, W] for images [B, C, H, W], whatever the classes."""
        grey = F.pad(inputs.detach().mean(dim=1, keepdim=True), [1] * 4, mode="replicate")
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)
        kernels = torch.stack([across, across.T])[:, None]
        strength: Tensor = torch.linalg.vector_norm(F.conv2d(grey, kernels), dim=1, keepdim=True)
        return strength


class ConstantMap:
    """The same value at all pixels: a map that tells nothing, and all ties."""

    def __init__(self, model: nn.Module) -> None:
        """Take the model for the protocol's sake; it is not looked at."""

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return maps of ones [B, 1, H, W] for images [B, C, H, W], whatever the classes."""
        return torch.ones_like(inputs[:, :1])


class CentreGaussian:
    """A Gaussian around the centre of the image, the same map for every image and class.

    Photographers put objects in the middle: in Judd et al., 2012, "A Benchmark of Computational
    Models of Saliency to Predict Human Fixations", such a map beats many models. It is
    stretched to the image's sides.
    """

    def __init__(self, model: nn.Module, stdev: float = 0.25) -> None:
        """Take the model for the protocol's sake; it is not looked at.

        Args:
            model: any.
            stdev: standard deviation, as a share of the image's side.

        Raises:
            ValueError: if ``stdev`` is not positive.
        """
        if stdev <= 0:
            raise ValueError(f"stdev: found {stdev}, wanted a positive share of the image's side")
        self.stdev = stdev

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return maps [B, 1, H, W] in (0, 1] for images [B, C, H, W], whatever the classes."""
        sides = inputs.shape[2:]
        places = [(torch.arange(side).to(inputs) - (side - 1) / 2) / side for side in sides]
        down, across = (torch.exp(-((place / self.stdev) ** 2) / 2) for place in places)
        return (down[:, None] * across).expand(len(inputs), 1, -1, -1).contiguous()
