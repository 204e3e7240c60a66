"""Maps: own how the outputs of a network's layers become feature maps [B, K, h, w].

Networks keep them with channels first, with channels last, or as a sequence of tokens. Knows no
library, and no network by name.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """How an output holds feature maps.

    Attributes:
        axes: "BCHW", "BHWC", or "BLC" for tokens.
        side: height and width of the maps.
        channels: how many maps there are.
        prefix: tokens before those of the patches, such as the class token.
    """

    axes: str
    side: int
    channels: int
    prefix: int = 0

    @classmethod
    def of(cls, shape: Sequence[int], prefix: int | None = None) -> "Layout | None":
        """Recognise the layout of an output for a square image; None if it holds no maps.

        Args:
            shape: of the output.
            prefix: tokens before those of the patches, if known.
        """
        match shape:
            case [_, channels, height, width] if height == width:
                return cls("BCHW", height, channels)
            case [_, height, width, channels] if height == width:
                return cls("BHWC", height, channels)
            case [_, length, channels] if length > (prefix or 0):
                side = math.isqrt(length - (prefix or 0))
                extra = length - side * side
                # If it is not known, a class token at most: a sequence is not always of patches.
                if extra == prefix or (prefix is None and extra <= 1):
                    return cls("BLC", side, channels, extra)
        return None

    def maps(self, output: Tensor) -> Tensor:
        """Return the maps [B, K, h, w] that an output of this layout holds."""
        if self.axes == "BLC":
            patches = output[:, self.prefix :].transpose(1, 2)
            return patches.reshape(-1, self.channels, self.side, self.side)
        return output.permute(0, 3, 1, 2) if self.axes == "BHWC" else output

    def output(self, maps: Tensor, original: Tensor) -> Tensor:
        """Return maps in this layout; tokens before the patches are those of ``original``."""
        if self.axes == "BLC":
            return torch.cat([original[:, : self.prefix], maps.flatten(2).transpose(1, 2)], dim=1)
        return maps.permute(0, 2, 3, 1) if self.axes == "BHWC" else maps


class Tap(nn.Module):
    """The feature maps of a layer as the output of a module, whatever the layer's own layout.

    What the layer yields goes through this module and back on its way to the next layer, so that a
    class activation method finds maps here, and their gradient.
    """

    def __init__(self, layer: nn.Module, layout: Layout) -> None:
        """Put the module behind ``layer``, whose outputs have ``layout``."""
        super().__init__()
        self.layout = layout
        # A bound method: a deep copy of both modules is then tapped by the copy of this one. Before
        # other hooks, so that a trunk that ends in this layer yields what came through here.
        layer.register_forward_hook(self._through, prepend=True)

    def forward(self, output: Tensor) -> Tensor:
        """Map an output of the layer to maps [B, K, h, w]."""
        return self.layout.maps(output)

    def _through(self, layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return self.layout.output(self(output), output)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of feature maps over their channels, at each place by itself."""

    def forward(self, maps: Tensor) -> Tensor:
        """Normalise maps [B, K, h, w]."""
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


def outputs(
    network: nn.Module, forward: Callable[[Tensor], object], images: Tensor
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Run a network once, in evaluation mode, and see what its layers yield.

    Args:
        network: the network, left as it was.
        forward: what to call.
        images: [B, C, H, W].

    Returns:
        The shape of the last output of each module that was called, by dotted name, the latest
        last; and the shape of what ``forward`` returns. What is no tensor for the whole batch has
        an empty shape.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            shapes.pop(name, None)
            shapes[name] = _shape(output, images)

        return hook

    modes = [(module, module.training) for module in network.modules()]
    handles = [
        module.register_forward_hook(note(name)) for name, module in network.named_modules() if name
    ]
    try:
        with torch.no_grad():
            network.eval()
            result = forward(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
    return shapes, _shape(result, images)


def _shape(output: object, images: Tensor) -> tuple[int, ...]:
    if isinstance(output, Tensor) and output.shape[:1] == images.shape[:1]:
        return tuple(output.shape)
    return ()


def last_maps(
    network: nn.Module, shapes: dict[str, tuple[int, ...]], *, tokens: bool = True
) -> str | None:
    """Return the last layer of a network whose outputs are maps of more than one place, or None.

    Args:
        network: the network.
        shapes: what `outputs` saw.
        tokens: whether a sequence may be taken for the tokens of patches.
    """
    for name in reversed(shapes):
        layout = Layout.of(shapes[name])
        # Adaptive pooling makes maps of any size from maps of one place, and they tell no more.
        pools = isinstance(network.get_submodule(name), nn.AdaptiveAvgPool2d)
        if layout is None or layout.side == 1 or layout.channels == 1 or pools:
            continue
        if tokens or layout.axes != "BLC":
            return name
    return None
