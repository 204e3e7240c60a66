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


class MeanNorm(nn.BatchNorm1d):
    """Batch normalisation of feature maps by the statistics of their means over space.

    The means of its output are what batch normalisation would make of the means of its input: the
    neck of Luo et al., 2019, "Bag of Tricks and A Strong Baseline for Deep Person
    Re-identification". Without it the embeddings of a rectified network are all positive, their
    cosines close to 1, and losses of angles or distances on the sphere hardly learn. It works on
    the maps, not on their means, so that the embedding is the mean of the maps that class
    activation maps weight: these then sum to what they explain, with no offset that the embedding
    lacks.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps [B, K, h, w]."""
        if self.training:
            means = maps.mean(dim=(2, 3))
            super().forward(means)  # for the running statistics
            center, variance = means.mean(dim=0), means.var(dim=0, correction=0)
        else:
            center, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - center * scale
        normalised: Tensor = maps * scale[:, None, None] + shift[:, None, None]
        return normalised


class ConvNet(Encoder):
    """Four 3x3 convolutions, two poolings, global average: small images on a laptop.

    A 28x28 or 32x32 image becomes feature maps of 7x7 or 8x8, and their mean over space is the
    embedding, so that a class activation map has something to say about where.

    Before the mean the maps pass a `MeanNorm`, which centres what rectification made positive.
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
        self.features = nn.Sequential(*blocks, MeanNorm(before))
        self.dimension = before

    @property
    def cam_layer(self) -> nn.Module:
        """The last layer with feature maps, whose mean over space is the embedding."""
        return self.features[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to embeddings [B, dimension]."""
        return torch.mean(self.features(images), dim=(2, 3))


ENCODERS: dict[str, Callable[[int], Encoder]] = {"convnet": ConvNet}
