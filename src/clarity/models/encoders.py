"""Encoders: own the networks from a normalised image to its embedding.

Every encoder is a trunk (`clarity.models.networks`) whose last feature maps are averaged over space
into the embedding. So a class activation map of a score that is linear in the embedding sums to
what it explains, for every network: Zhou et al., 2016, "Learning Deep Features for Discriminative
Localization", equation 2.
"""

import torch
from torch import Tensor, nn

from clarity.models.maps import Layout, Tap, last_maps, outputs
from clarity.models.networks import Trunk, build_trunk
from clarity.models.recipe import EncoderRecipe
from clarity.recipes import nearest


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
            # In bfloat16, a variance over a batch would be too coarse.
            means = _mean(maps)
            super().forward(means)  # for the running statistics
            center, variance = means.mean(dim=0), means.var(dim=0, correction=0)
        else:
            center, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - center * scale
        normalised: Tensor = maps * scale[:, None, None] + shift[:, None, None]
        return normalised


class Encoder(nn.Module):
    """A network from images to embeddings that has spatial feature maps.

    Attributes:
        dimension: length of an embedding.
        trunk: the network up to its last maps.
    """

    def __init__(self, trunk: Trunk, *, centre: bool, embedding_size: int | None) -> None:
        """Build what stands between the maps of ``trunk`` and the embedding.

        Args:
            trunk: the network up to its last maps.
            centre: put a `MeanNorm` on the maps.
            embedding_size: length of an embedding, by a linear layer; by default the number of
                maps, without that layer.
        """
        super().__init__()
        width = trunk.layout.channels
        self.trunk = trunk
        self.maps = MeanNorm(width) if centre else nn.Identity()
        self.project = nn.Identity() if embedding_size is None else nn.Linear(width, embedding_size)
        self.tap: Tap | None = None
        self.dimension = embedding_size or width

    @property
    def cam_layer(self) -> nn.Module:
        """The module whose output [B, K, h, w] class activation maps weight.

        The last maps, whose mean over space is the embedding (before a linear layer, where there is
        one), unless another layer was chosen by `tap_layer`.
        """
        return self.maps if self.tap is None else self.tap

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to embeddings [B, dimension]."""
        return self.pooled(self.maps(self.trunk(images)))

    def pooled(self, maps: Tensor) -> Tensor:
        """Map the last maps [B, K, h, w] to embeddings [B, dimension]."""
        embeddings: Tensor = self.project(_mean(maps))
        return embeddings

    def tap_layer(self, name: str, layout: Layout) -> None:
        """Make the outputs of a layer of the trunk's network, of ``layout``, the `cam_layer`."""
        self.tap = Tap(self.trunk.network.get_submodule(name), layout)


def build_encoder(recipe: EncoderRecipe, channels: int, size: int) -> Encoder:
    """Build the encoder that ``recipe`` names.

    Weights are fresh, from torch's current random state, or those that the recipe names.

    Args:
        recipe: the recipe.
        channels: channels of the images.
        size: their height and width.

    Raises:
        ValueError: if there is no such network or layer, if it cannot take such images, or if the
            file of weights does not fit.
    """
    trunk = build_trunk(recipe, channels, size)
    encoder = Encoder(trunk, centre=recipe.centred, embedding_size=recipe.embedding_size)
    if recipe.cam_layer is None and trunk.layout.side > 1:
        return encoder
    # Maps of one place say nothing about where: those before them are the last that do.
    shapes, _ = outputs(trunk.network, trunk, torch.zeros(2, channels, size, size))
    tokens = trunk.layout.axes == "BLC"
    name = recipe.cam_layer or last_maps(trunk.network, shapes, tokens=tokens)
    if name is None:
        raise ValueError(
            f"encoder {recipe.name}: no layer has feature maps for {size}x{size} pixels"
        )
    shape = shapes.get(name, ())
    layout = Layout.of(shape, trunk.layout.prefix) or Layout.of(shape)
    if layout is None or layout.side == 1:
        with_maps = [n for n, shape in shapes.items() if Layout.of(shape) is not None]
        raise ValueError(
            f"encoder {recipe.name}: cam-layer: found '{name}', wanted a layer with feature maps"
            f"{nearest(name, with_maps)} The last ones: {', '.join(with_maps[-5:])}"
        )
    encoder.tap_layer(name, layout)
    return encoder


def _mean(maps: Tensor) -> Tensor:
    """Return the means of maps [B, K, h, w] over space, in float32 at least."""
    return maps.mean(dim=(2, 3), dtype=torch.promote_types(maps.dtype, torch.float32))
