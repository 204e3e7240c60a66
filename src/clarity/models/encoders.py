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

    A 28x28 or 32x32 image becomes feature maps of 7x7 or 8x8. Their mean over space, batch
    normalised, is the embedding, so that a class activation map has something to say about where.
    The normalisation centres what rectification made positive: without it all cosines are close to
    1, and losses of angles or distances on the sphere hardly learn (the neck of Luo et al., 2019,
    "Bag of Tricks and A Strong Baseline for Deep Person Re-identification").
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
        self.features = nn.Sequential(*blocks)
        self.neck = nn.BatchNorm1d(before)
        self.dimension = before

    @property
    def cam_layer(self) -> nn.Module:
        """The last convolution, after its normalisation and rectification."""
        return self.features[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to embeddings [B, dimension]."""
        embeddings: Tensor = self.neck(torch.mean(self.features(images), dim=(2, 3)))
        return embeddings


ENCODERS: dict[str, Callable[[int], Encoder]] = {"convnet": ConvNet}
