"""Encoders: own the networks from a normalised image to its embedding."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """A network from images to embeddings that has spatial feature maps.

    Attributes:
        dimension: length of an embedding.
    """

    dimension: int

    @property
    def cam_layer(self) -> nn.Module:
        """The module whose output [B, K, h, w] class activation maps weight."""
        raise AttributeError(f"{type(self).__name__} names no layer with spatial feature maps")


class ConvNet(Encoder):
    """Four 3x3 convolutions, two poolings, global average: small images on a laptop.

    A 28x28 or 32x32 image becomes feature maps of 7x7 or 8x8, and their mean over space is the
    embedding, so that a class activation map has something to say about where.

    After the last rectification the maps are batch normalised once more, which centres what
    rectification made positive. Without it all cosines of embeddings are close to 1, and losses of
    angles or distances on the sphere hardly learn (the neck of Luo et al., 2019, "Bag of Tricks and
    A Strong Baseline for Deep Person Re-identification"). It comes before the mean, so that the maps
    that are weighted are those whose mean is the embedding: an activation map then sums to what it
    explains, and has no offset that the embedding lacks.
    """

    def __init__(self, channels: int, widths: tuple[int, int, int, int] = (16, 32, 64, 64)):
        """Build the network for images of ``channels`` channels."""
        super().__init__()
        blocks: list[nn.Module] = []
        before = channels
        for position, width in enumerate(widths):
            blocks += [
                nn.Conv2d(before, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if position < 2:
                blocks.append(nn.MaxPool2d(2))
            before = width
        self.features = nn.Sequential(*blocks, nn.BatchNorm2d(before))
        self.dimension = before

    @property
    def cam_layer(self) -> nn.Module:
        """The last layer with feature maps, whose mean over space is the embedding."""
        return self.features[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to embeddings [B, dimension]."""
        return torch.mean(self.features(images), dim=(2, 3))


ENCODERS: dict[str, Callable[[int], Encoder]] = {"convnet": ConvNet}
