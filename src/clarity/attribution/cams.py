"""Class activation maps: own the methods that weight the feature maps of one layer.

They explain all classes of an image by one pass of the network. Methods that need gradients cut
the graph at the layer, so that a class costs a backward pass from the scores to the layer and what
stands before it none. Maps are as coarse as the layer's, keep their sign, and end in no ReLU,
which would hide what speaks against a class; a ReLU inside a definition stays.

Notation: A [K, h, w] are the feature maps of an image, A_k one of them, G = dg_c/dA [K, h, w] the
gradient of the score of a class. Sums and means without an index are over the h * w places.

A score with a foil makes these methods contrastive: with one class as the foil, they are what
Zhang et al., 2025, "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual
Explanation", make of them with one class to compare with and a strength of comparison of 1.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clarity.attribution.batching import in_passes
from clarity.attribution.protocol import MethodUnavailable, PerClass
from clarity.attribution.targets import Score

#: The sum of a feature map below this share of the sum of its absolute values is rounding: sums of
#: thousands of numbers in float32 are no more precise.
NO_SUM = 1e-5


class CamBase(PerClass):
    """A method that makes maps of a score's classes from the feature maps of a layer."""

    def __init__(self, model: Score, layer: nn.Module, rows: int = 256) -> None:
        """Explain ``model`` by the output [B, K, h, w] of ``layer``.

        Args:
            model: the score.
            layer: a module of it that runs once a pass.
            rows: images that one pass of the network may take.

        Raises:
            ValueError: if ``rows`` is not positive.
        """
        if rows < 1:
            raise ValueError(f"rows: found {rows}, wanted 1 image or more")
        self.model = model
        self.layer = layer
        self.rows = rows

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W] for classes int64 [B, K]: maps [B, K, 1, h, w], float32.

        Raises:
            MethodUnavailable: if the layer does not yield the feature maps of one pass, or if the
                scores do not depend on them.
        """
        return in_passes(self._maps, self.rows, inputs.detach(), targets)[:, :, None].float()

    @abstractmethod
    def _maps(self, images: Tensor, targets: Tensor) -> Tensor:
        """Explain at most ``rows`` images for classes [B, K]: maps [B, K, h, w]."""

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's maps [B, K, h, w], as a leaf of the graph, and the scores."""
        seen: list[Tensor] = []

        def cut(output: Tensor) -> Tensor:
            seen.append(output.detach().requires_grad_())
            # A copy: what follows may add to it in place, which a leaf would not allow.
            return seen[-1].clone()

        with _replaced(self.layer, cut):
            scores: Tensor = self.model(images)
        if len(seen) != 1:
            raise MethodUnavailable(f"the layer runs {len(seen)} times in one pass, not once")
        return seen[0], scores


class GradientCamBase(CamBase):
    """A method that makes the map of a class from the layer's maps and the score's gradient."""

    def _maps(self, images: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad():
            maps, scores = self._run(images)
            chosen = scores.gather(1, targets).sum(dim=0).unbind()
        if not scores.requires_grad:
            raise MethodUnavailable("the scores do not depend on the layer's output")
        found = []
        for score in chosen:
            # Reduced to a map at once: the gradients of all classes together could be gigabytes.
            (gradient,) = torch.autograd.grad(score, maps, retain_graph=True)
            found.append(self._map(maps.detach(), gradient))
        return torch.stack(found, dim=1)

    @abstractmethod
    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        """Make maps [B, h, w] from the layer's maps and the gradient by them [B, K, h, w]."""


class LayerGradCam(GradientCamBase):
    """Grad-CAM: sum_k mean(G_k) A_k.

    Selvaraju et al., 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", equations 1 and 2, without the ReLU unless ``relu_attributions``. Named after
    Captum's class, in whose place it stands.
    """

    def __init__(
        self,
        model: Score,
        layer: nn.Module,
        rows: int = 256,
        relu_attributions: bool = False,
    ) -> None:
        """Explain ``model`` by ``layer``: see `CamBase`.

        Args:
            model: the score.
            layer: whose output is weighted.
            rows: images that one pass of the network may take.
            relu_attributions: set what is negative in the map to 0, as in equation 2.
        """
        super().__init__(model, layer, rows)
        self.relu_attributions = relu_attributions

    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        found = _weighted(gradient.mean(dim=(2, 3)), maps)
        return found.relu() if self.relu_attributions else found


class GradCAMPlusPlus(GradientCamBase):
    """Grad-CAM++: sum_k w_k A_k with w_k = sum(alpha_k relu(G_k)).

    Chattopadhay et al., 2018, "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep
    Convolutional Networks". Equation 19, alpha = G^2 / (2 G^2 + sum(A_k) G^3), is
    1 / (2 + sum(A_k) G) where the gradient is not 0; elsewhere alpha is of no consequence. So it
    needs no small number in the denominator, as in pytorch-grad-cam, which the scale of the score
    makes matter more or less.

    The paper explains exp(g) for the score g, so that its derivatives are powers of G. The factor
    exp(g) that is left in w_k is left out, as it is usual: it is the same for all places, and
    overflows.

    The paper's maps are rectified, so that alpha is at most 1/2. Where maps are not, sum(A_k) G may
    be near -2 and the weight beyond any bound: a negative sum counts as 0, for alpha = 1/2.
    """

    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        positive = gradient.relu()
        total = maps.sum(dim=(2, 3), keepdim=True).relu()
        return _weighted((positive / (2 + total * positive)).sum(dim=(2, 3)), maps)


class XGradCAM(GradientCamBase):
    """XGrad-CAM: sum_k w_k A_k with w_k = sum(G_k A_k) / sum(A_k).

    Fu et al., 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs":
    the weights by which the map, summed over places, is closest to the score. At last maps whose
    mean is the embedding, the gradient is the same at all places and the map that of Grad-CAM.

    A map that sums to 0 has no such weight and gets that of Grad-CAM. Where maps are not rectified,
    sums near 0 make large weights: that is the definition.
    """

    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        mean = gradient.mean(dim=(2, 3), keepdim=True)
        total = maps.sum(dim=(2, 3))
        sums = total.abs() > NO_SUM * maps.abs().sum(dim=(2, 3))
        # What the weight has beyond the mean gradient, so that it is exact for a constant one.
        beyond = ((gradient - mean) * maps).sum(dim=(2, 3)) / torch.where(sums, total, 1)
        return _weighted(mean[:, :, 0, 0] + torch.where(sums, beyond, 0), maps)


class HiResCAM(GradientCamBase):
    """HiResCAM: sum_k G_k A_k, place by place.

    Draelos and Carin, 2020, "Use HiResCAM instead of Grad-CAM for Faithful Explanations of
    Convolutional Neural Networks": only places that the score uses are marked.
    """

    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * maps).sum(dim=1)


class LayerCAM(GradientCamBase):
    """LayerCAM: sum_k relu(G_k) A_k, place by place.

    Jiang et al., 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization".
    """

    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.relu() * maps).sum(dim=1)


class EigenCAM(CamBase):
    """Eigen-CAM: the first principal component of the maps, the same for every class.

    Muhammad and Yeasin, 2020, "Eigen-CAM: Class Activation Map using Principal Components". The
    maps are centred over places first, as in pytorch-grad-cam and unlike in the paper: without it
    the component is close to the mean of the maps. Its sign: see `_principal`.
    """

    @torch.no_grad()
    def _maps(self, images: Tensor, targets: Tensor) -> Tensor:
        maps, _ = self._run(images)
        return _principal(maps)[:, None].repeat(1, targets.shape[1], 1, 1)


class EigenGradCAM(GradientCamBase):
    """Eigen-CAM of the products G_k A_k in the place of the maps, which depend on the class.

    As in pytorch-grad-cam, which brought it forth. Its sign (`_principal`) says nothing of whether
    a place speaks for or against the class.
    """

    def _map(self, maps: Tensor, gradient: Tensor) -> Tensor:
        return _principal(gradient * maps)


class ScoreCAM(CamBase):
    """Score-CAM: sum_k w_k A_k with w = softmax over k of the score of the image times mask k.

    Wang et al., 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural
    Networks", algorithm 1. Mask k is A_k, upsampled (bilinear) and brought to [0, 1]; a constant
    map makes no mask and gets no weight. What is masked becomes black. The paper subtracts the
    score of a black image from each: that is the same for all, and the softmax does not see it.

    Takes a pass of K images for each image, which all classes share.
    """

    @torch.no_grad()
    def _maps(self, images: Tensor, targets: Tensor) -> Tensor:
        maps, _ = self._run(images)
        scores = []
        masks = torch.split(maps.flatten(0, 1)[:, None], self.rows)
        for (image, _), coarse in zip(_pairs(maps, self.rows), masks, strict=True):
            mask = F.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
            lowest, highest = mask.aminmax(dim=2, keepdim=True)
            lowest, highest = lowest.amin(3, keepdim=True), highest.amax(3, keepdim=True)
            span = (highest - lowest).clamp_min(torch.finfo(mask.dtype).tiny)
            found = self.model(images[image] * ((mask - lowest) / span))
            constant = (highest == lowest)[:, 0, 0]
            # Not -inf: where all maps are constant, all weigh the same.
            scores.append(found.masked_fill(constant, torch.finfo(found.dtype).min))
        weights = torch.cat(scores).reshape(*maps.shape[:2], -1).softmax(dim=1)
        return _weighted_by_class(weights, maps, targets)


class AblationCAM(CamBase):
    """Ablation-CAM: sum_k w_k A_k with w_k = g - g_k, g_k the score with A_k set to 0.

    Desai and Ramaswamy, 2020, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via
    Gradient-free Localization". The paper divides weights by g. It does not change the map of a
    class with a positive score but for its scale; it would turn the sign of the map of one with a
    negative score, and a score of 0 would have none: there is no division here.

    Runs the network for K images for each image, which all classes share; or only what follows the
    last maps, if they are the layer.
    """

    @torch.no_grad()
    def _maps(self, images: Tensor, targets: Tensor) -> Tensor:
        maps, scores = self._run(images)
        last = self.layer is self.model.encoder.maps
        # The embedding is the mean of the last maps: maps of one place have the same scores.
        means = maps.mean(dim=(2, 3), keepdim=True)
        ablated = []
        for image, channel in _pairs(maps, self.rows):
            kept = 1 - F.one_hot(channel, maps.shape[1]).to(maps.dtype)[:, :, None, None]
            if last:
                ablated.append(self.model.of_maps(means[image] * kept))
            else:
                with _replaced(self.layer, kept.mul):
                    ablated.append(self.model(images[image]))
        drops = scores[:, None] - torch.cat(ablated).reshape(*maps.shape[:2], -1)
        return _weighted_by_class(drops, maps, targets)


@contextmanager
def _replaced(layer: nn.Module, by: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While this is open, ``layer`` yields what ``by`` makes of its feature maps."""

    def hook(module: nn.Module, inputs: object, output: object) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise MethodUnavailable(f"{type(layer).__name__} yields no feature maps [B, K, h, w]")
        return by(output)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _pairs(maps: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the numbers of image and channel of all maps [B, K, h, w], ``rows`` maps at a time."""
    images, channels = maps.shape[:2]
    for part in torch.split(torch.arange(images * channels, device=maps.device), rows):
        yield part // channels, part % channels


def _weighted(weights: Tensor, maps: Tensor) -> Tensor:
    """Sum maps [B, K, h, w] by weights [B, K]: [B, h, w]."""
    return (weights[:, :, None, None] * maps).sum(dim=1)


def _weighted_by_class(weights: Tensor, maps: Tensor, targets: Tensor) -> Tensor:
    """Sum maps [B, K, h, w] by the weights [B, K, classes] of ``targets``: [B, targets, h, w]."""
    chosen = weights.gather(2, targets[:, None].expand(-1, maps.shape[1], -1))
    return torch.einsum("bkt,bkhw->bthw", chosen, maps)


def _principal(maps: Tensor) -> Tensor:
    """Project maps [B, K, h, w], K numbers at each place, on their first principal axis: [B, h, w].

    An axis has no sign of its own. The value that is largest in size is made positive: Chung and
    Ying, 2025, "Seg-Eigen-CAM", equation 13.
    """
    # Eigenvectors of the smaller of the two matrices of products are several times faster than
    # singular vectors. In float64, for the products square what is small.
    values = maps.flatten(2).mT.double()
    values = values - values.mean(dim=1, keepdim=True)
    if values.shape[1] <= values.shape[2]:
        squares, axes = torch.linalg.eigh(values @ values.mT)
        found = axes[:, :, -1] * squares[:, -1:].clamp_min(0).sqrt()
    else:
        _, axes = torch.linalg.eigh(values.mT @ values)
        found = (values @ axes[:, :, -1:])[:, :, 0]
    turned = found.amax(dim=1, keepdim=True) < -found.amin(dim=1, keepdim=True)
    found = torch.where(turned, -found, found)
    return found.reshape(maps[:, 0].shape).to(maps.dtype)
