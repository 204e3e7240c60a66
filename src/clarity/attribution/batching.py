"""Batching: owns how many images a pass of the network takes.

The number follows from the network and from memory that the config sets aside, never from what a
machine has free: the same config gives the same passes, and so the same bytes, everywhere.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: GiB of a pass if the config does not say, by kind of device. On one core, passes of 256 images by
#: a small network and of 16 by a ResNet took as long an image as larger ones, and a quarter less
#: than passes of a few images.
MEMORY = {"cpu": 1 / 4, "cuda": 4.0}

#: More images a pass are no faster on any machine that was measured.
MOST_ROWS = 1024

#: What a pass with a way back keeps beside the outputs of layers: gradients of the same size.
KEPT = 2


def bytes_of_row(network: nn.Module, image: Tensor) -> int:
    """Return about how many bytes one image takes on its way through a network and back.

    Args:
        network: from images to anything, left as it was.
        image: [C, H, W].
    """
    total = 0

    def count(module: nn.Module, inputs: object, output: Any) -> None:
        nonlocal total
        if isinstance(output, Tensor):
            total += output.numel() * output.element_size()

    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    handles = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.no_grad():
            network(image[None])
    finally:
        for handle in handles:
            handle.remove()
    return KEPT * (total + image.numel() * image.element_size())


def in_passes(explain: Callable[..., Tensor], rows: int, *tensors: Tensor) -> Tensor:
    """Call ``explain`` with at most ``rows`` rows of each tensor, and join what it returns."""
    parts = zip(*(torch.split(tensor, rows) for tensor in tensors), strict=True)
    return torch.cat([explain(*part) for part in parts])


def rows_of_pass(
    network: nn.Module, image: Tensor, memory: float | None = None, classes: int = 1
) -> int:
    """Return how many images [C, H, W] a pass may take: between 1 and `MOST_ROWS`.

    Args:
        network: from images to anything, left as it was.
        image: [C, H, W], on the network's device.
        memory: GiB; None for what `MEMORY` says.
        classes: explained at once, each with an attribution of the image's size.
    """
    given = MEMORY.get(image.device.type, MEMORY["cpu"]) if memory is None else memory
    attributions = KEPT * classes * image.numel() * image.element_size()
    fitting = int(given * 2**30) // (bytes_of_row(network, image) + attributions)
    return min(max(fitting, 1), MOST_ROWS)
