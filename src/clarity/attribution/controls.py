"""Control methods: own maps that know neither the model nor its task.

A good metric ranks them last; one that does not measures something else. They follow the protocol
of every method (`clarity.attribution.methods`).
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
