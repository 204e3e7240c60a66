"""Adapted methods: own methods of Captum's names that need each nonlinearity as a layer of its own.

Captum's classes put hooks on modules: they find no rectifier that is a function, and fail on one
that is used twice. These have the same definitions and arguments, on an unrolled copy of the
network (`clarity.attribution.unrolled`), and all classes of an image share the way forward.
"""

import functools
import operator
from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from zennit.layer import Sum
from zennit.types import AvgPool, BatchNorm

from clarity.attribution.batching import in_passes
from clarity.attribution.cams import LayerGradCam
from clarity.attribution.gradients import class_gradients
from clarity.attribution.protocol import MethodUnavailable, PerClass
from clarity.attribution.targets import Score
from clarity.attribution.unrolled import Step, demand_rules, is_linear, steps, unroll

#: Functions of one number, each of which the rescale rule of DeepLIFT covers.
OF_ONE_NUMBER = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.ReLU,
    nn.SELU,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
)

#: Layers, beside convolutions and matrices, and functions that are linear but for a constant.
LINEAR_LAYERS = (Sum, AvgPool, BatchNorm, nn.Upsample)
LINEAR_FUNCTIONS = (torch.mean, torch.sum, operator.sub, operator.add, "mean", "sum")

#: Points on the way between two embeddings at which the gradient of a head is averaged.
NODES = 64
#: How many embeddings a head scores at once on that way: 10,000 references have as many cosines.
POINTS_AT_ONCE = 2048

#: What guided backpropagation and deconvolution take for rectifiers.
RECTIFIERS = (nn.ReLU, nn.ReLU6)


class DeepLift(PerClass):
    """Contributions of the differences between an image and a baseline, by DeepLIFT's rescale rule.

    Shrikumar et al., 2017, "Learning Important Features Through Propagating Activation
    Differences", section 3.5.1: what comes back through a nonlinearity is multiplied by
    (f(x) - f(b)) / (x - b), so that the map sums to g(x) - g(b). Where a step has several inputs,
    the multipliers are:

    - of a maximum, those of the place of the larger of both maxima, so that the difference goes to
      the one place that made it;
    - of a product, for each factor the mean of the other at the image and at the baseline;
    - of a head that is not linear, the mean gradient on the straight line between both embeddings
      (Sundararajan et al., 2017, "Axiomatic Attribution for Deep Networks"), which for a function
      of one number is the rescale rule. A foil whose weights are held constant leaves a rest there.

    Captum's class takes the gradient of what it has no rule for, without a word. Where two layers
    that have one follow each other, as a maximum follows a rectifier, its hooks on one tensor get
    into each other's way and its maps are far from adding up; and of its rule for a maximum there
    is no deterministic form.
    """

    def __init__(
        self, model: Score, rows: int, multiply_by_inputs: bool = True, eps: float = 1e-6
    ) -> None:
        """Copy the network; its weights are taken as they are now.

        Args:
            model: the score.
            rows: images a pass of the network.
            multiply_by_inputs: whether multipliers are multiplied by the difference of the image.
            eps: a difference below which the gradient takes the place of a quotient.

        Raises:
            MethodUnavailable: if a step of the network has no rule.
            ValueError: if ``eps`` is not above 0.
        """
        if not eps > 0:
            raise ValueError(f"eps: found {eps}, wanted a number above 0")
        self._score = model
        self._rows = rows
        self._multiply = multiply_by_inputs
        self._eps = eps
        self._network = unroll(model.encoder.trunk)
        demand_rules("DeepLift", self._network, lambda step: _is_linear(step) or _has_rule(step))
        self._nonlinear = {step.node for step in steps(self._network) if not _is_linear(step)}

    def attribute_classes(  # type: ignore[override]  # what it names it is given
        self, inputs: Tensor, targets: Tensor, *, baselines: Tensor, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W] against ``baselines`` [B, C, H, W]: [B, K, C, H, W]."""
        return in_passes(self._contributions, self._rows, inputs, targets, baselines)

    def _contributions(self, inputs: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        """Explain the images of one pass against a baseline each, or [1, C, H, W] for all."""
        score, network = self._score, self._network
        with torch.no_grad():
            plain = fx.Interpreter(network, garbage_collect_values=False)
            at_baseline = self._embeddings(plain.run(score.normalised(baselines)))
        leaf = inputs.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            rescaled = _Rescaled(network, self._nonlinear, plain.env, self._eps)
            embeddings = self._embeddings(rescaled.run(score.normalised(leaf)))
        starts = _mean_gradients(score, embeddings.detach(), at_baseline, targets)
        last = len(starts) - 1
        multipliers = [
            torch.autograd.grad(embeddings, leaf, start, retain_graph=slot < last)[0]
            for slot, start in enumerate(starts)
        ]
        found = torch.stack(multipliers, dim=1)
        return found * (inputs - baselines)[:, None] if self._multiply else found

    def _embeddings(self, maps: Tensor) -> Tensor:
        """Map the trunk's maps [B, K, h, w] to embeddings [B, D], which is linear."""
        encoder = self._score.encoder
        return encoder.pooled(encoder.maps(maps))


class DeepLiftShap(DeepLift):
    """The mean of `DeepLift` over baselines: an approximation of SHAP values.

    Lundberg and Lee, 2017, "A Unified Approach to Interpreting Model Predictions", section 4.2
    (Deep SHAP).
    """

    wants_references = True

    def attribute_classes(  # type: ignore[override]  # what it names it is given
        self, inputs: Tensor, targets: Tensor, *, baselines: Tensor, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W]; ``baselines`` [R, C, H, W] are the same for all."""
        explain = functools.partial(self._mean, baselines=baselines)
        return in_passes(explain, self._rows, inputs, targets)

    def _mean(self, inputs: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        total = torch.zeros(len(inputs), targets.shape[1], *inputs.shape[1:], device=inputs.device)
        for baseline in baselines:
            total += self._contributions(inputs, targets, baseline[None])
        return total / len(baselines)


class _Rectified(PerClass):
    """The gradient by another rule for the way back through rectifiers."""

    def __init__(self, model: Score, rows: int) -> None:
        """Copy the network; its weights are taken as they are now.

        Args:
            model: the score.
            rows: images a pass of the network.

        Raises:
            MethodUnavailable: if the network has no rectifier: it would be the plain gradient.
        """
        self._rows = rows
        network = unroll(model.encoder.trunk)
        replaced = [name for name, layer in network.named_children() if _rectifies(layer)]
        if not replaced:
            raise MethodUnavailable(
                f"{type(self).__name__} changes the gradient of ReLUs, and the network has none"
            )
        for name in replaced:
            setattr(network, name, self._rule(network.get_submodule(name)))
        self._adapted = _Adapted(model, network)

    @staticmethod
    @abstractmethod
    def _rule(rectifier: nn.Module) -> nn.Module:
        """Return what yields the same as ``rectifier`` and has another gradient."""

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W]: [B, K, C, H, W]."""
        explain = functools.partial(class_gradients, self._adapted)
        return in_passes(explain, self._rows, inputs, targets)


class GuidedBackprop(_Rectified):
    """The gradient that passes rectifiers where it is positive and they are on.

    Springenberg et al., 2015, "Striving for Simplicity: The All Convolutional Net", section 3.4.
    Other nonlinearities, if the network has such too, keep their gradients.
    """

    @staticmethod
    def _rule(rectifier: nn.Module) -> nn.Module:
        return _Guided(rectifier)


class Deconvolution(_Rectified):
    """The gradient that passes rectifiers where it is positive, on or not.

    Zeiler and Fergus, 2014, "Visualizing and Understanding Convolutional Networks", section 2.1.
    Other nonlinearities, if the network has such too, keep their gradients.
    """

    @staticmethod
    def _rule(rectifier: nn.Module) -> nn.Module:
        return _Deconvolved(rectifier)


class GuidedGradCam(GuidedBackprop):
    """Guided backpropagation times the positive part of Grad-CAM, upsampled.

    Selvaraju et al., 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", section 3.2.
    """

    def __init__(
        self,
        model: Score,
        layer: nn.Module,
        rows: int,
        interpolate_mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear",
    ) -> None:
        """Copy the network; its weights are taken as they are now.

        Args:
            model: the score.
            layer: whose maps Grad-CAM weights.
            rows: images a pass of the network.
            interpolate_mode: of the upsampling; bilinear as in the paper, where Captum's is nearest
                unless told.

        Raises:
            MethodUnavailable: if the network has no rectifier.
            ValueError: if there is no such mode.
        """
        if interpolate_mode not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(
                f"interpolate_mode: found '{interpolate_mode}', wanted nearest, bilinear or bicubic"
            )
        super().__init__(model, rows)
        self._mode = interpolate_mode
        self._grad_cam = LayerGradCam(model, layer, rows)

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W]: [B, K, C, H, W]."""
        guided = super().attribute_classes(inputs, targets)
        coarse = self._grad_cam.attribute_classes(inputs, targets).clamp_min(0)[:, :, 0]
        fine = F.interpolate(coarse, size=inputs.shape[2:], mode=self._mode)
        return guided * fine[:, :, None]


class LayerActivation(PerClass):
    """The mean of a layer's maps over its channels, the same for every class.

    What the network finds there, whatever for: a method has to say more than this.
    """

    def __init__(self, model: Score, layer: nn.Module, rows: int) -> None:
        """Take the score, the layer whose output [B, K, h, w] is shown, and images a pass."""
        self._score = model
        self._layer = layer
        self._rows = rows

    def attribute_classes(self, inputs: Tensor, targets: Tensor, **given: Any) -> Tensor:
        """Explain images [B, C, H, W]: [B, K, 1, h, w]."""
        kept: list[Tensor] = []

        def keep(layer: nn.Module, given: object, output: Tensor) -> None:
            kept.append(output.mean(dim=1, keepdim=True))

        handle = self._layer.register_forward_hook(keep)
        try:
            with torch.no_grad():
                for part in torch.split(inputs, self._rows):
                    self._score(part)
        finally:
            handle.remove()
        return torch.cat(kept)[:, None].repeat(1, targets.shape[1], 1, 1, 1)


class _Adapted(nn.Module):
    """A score whose trunk is an unrolled one."""

    def __init__(self, score: Score, trunk: nn.Module) -> None:
        super().__init__()
        self.score = score
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        """Score every class of images [B, C, H, W] in [0, 1]."""
        maps = self.trunk(self.score.normalised(images))
        return self.score.of_maps(self.score.encoder.maps(maps))


class _Head(nn.Module):
    """A score as a function of embeddings."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.score = score

    def forward(self, embeddings: Tensor) -> Tensor:
        """Score every class of embeddings [B, D]."""
        return self.score.of_embeddings(embeddings)


class _Guided(nn.Module):
    """A rectifier through which only what is positive comes back."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.rectifier = rectifier

    def forward(self, inputs: Tensor) -> Tensor:
        """Rectify."""
        # A view, whose gradient is that through this rectifier alone.
        own = inputs.view_as(inputs)
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient.clamp_min(0))  # type: ignore[no-untyped-call]
        output: Tensor = self.rectifier(own)
        return output


class _Deconvolved(nn.Module):
    """A rectifier through which all that is positive comes back, where it is off too."""

    def __init__(self, rectifier: nn.Module) -> None:
        super().__init__()
        self.rectifier = rectifier

    def forward(self, inputs: Tensor) -> Tensor:
        """Rectify."""
        output: Tensor = self.rectifier(inputs.detach()) + (inputs - inputs.detach())
        if output.requires_grad:
            output.register_hook(lambda gradient: gradient.clamp_min(0))  # type: ignore[no-untyped-call]
        return output


def _rectifies(layer: nn.Module) -> bool:
    return isinstance(layer, RECTIFIERS)


class _Rescaled(fx.Interpreter):
    """Runs an unrolled network so that gradients are the multipliers of DeepLIFT.

    Each nonlinear step yields what it always does, as a linear function of its inputs with the
    multipliers for slopes.
    """

    def __init__(
        self,
        network: fx.GraphModule,
        nonlinear: set[fx.Node],
        baseline: dict[fx.Node, Any],
        eps: float,
    ) -> None:
        """Prepare a run.

        Args:
            network: the network.
            nonlinear: its steps that have a rule of their own.
            baseline: what each step yields for the baseline, [B, ...] or [1, ...].
            eps: see `DeepLift`.
        """
        super().__init__(network)
        self._nonlinear = nonlinear
        self._baseline = baseline
        self._eps = eps

    def run_node(self, n: fx.Node) -> Any:
        """Take one step."""
        if n not in self._nonlinear:
            return super().run_node(n)
        before = [argument for argument in n.args if isinstance(argument, fx.Node)]
        inputs = [self.env[node] for node in before]
        bases = [self._baseline[node] for node in before]
        if n.op == "call_function":
            return _product(*inputs, *bases)
        layer = self.fetch_attr(str(n.target))
        if isinstance(layer, nn.MaxPool2d):
            return self._maximum(layer, *inputs, *bases)
        return self._of_one_number(layer, inputs[0], bases[0], self._baseline[n])

    def _slopes(self, rise: Tensor, run: Tensor, at_point: Tensor) -> Tensor:
        return torch.where(run.abs() < self._eps, at_point, rise / run)

    def _of_one_number(self, layer: nn.Module, inputs: Tensor, base: Tensor, at: Tensor) -> Tensor:
        """Apply an activation, whose value at ``base`` is ``at``."""
        leaf = inputs.detach().requires_grad_(True)
        outputs = layer(leaf)
        (derivative,) = torch.autograd.grad(outputs.sum(), leaf)
        outputs = outputs.detach()
        slopes = self._slopes(outputs - at, leaf.detach() - base, derivative)
        return _straight(outputs, slopes, inputs)

    def _maximum(self, layer: nn.MaxPool2d, inputs: Tensor, base: Tensor) -> Tensor:
        """Apply a maximum over windows [B, K, h, w]."""
        base = base.expand_as(inputs)
        largest, places = _largest(layer, inputs.detach())
        largest_of_base, places_of_base = _largest(layer, base)
        # At the place of the larger one, the other input is no larger than its own maximum: the
        # difference there has the sign of that of the maxima, and is no smaller.
        place = torch.where(largest >= largest_of_base, places, places_of_base).flatten(2)
        chosen = inputs.flatten(2).gather(2, place).view_as(largest)
        run = chosen.detach() - base.flatten(2).gather(2, place).view_as(largest)
        slopes = self._slopes(largest - largest_of_base, run, torch.ones_like(run))
        return _straight(largest, slopes, chosen)


def _straight(values: Tensor, slopes: Tensor, inputs: Tensor) -> Tensor:
    """Return ``values``, as a linear function of ``inputs``."""
    return values + slopes * (inputs - inputs.detach())


def _largest(layer: nn.MaxPool2d, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maxima [B, K, h, w] and their places in inputs flattened over space."""
    found: tuple[Tensor, Tensor] = F.max_pool2d(
        inputs,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.ceil_mode,
        return_indices=True,
    )
    return found


def _product(first: Tensor, second: Tensor, first_base: Tensor, second_base: Tensor) -> Tensor:
    """Multiply: xy - uv = (x - u) (y + v) / 2 + (y - v) (x + u) / 2."""
    values = (first * second).detach()
    slope_of_first = (second.detach() + second_base) / 2
    slope_of_second = (first.detach() + first_base) / 2
    return values + (
        slope_of_first * (first - first.detach()) + slope_of_second * (second - second.detach())
    )


def _is_linear(step: Step) -> bool:
    """Whether a step is linear in the image's features, but for a constant."""
    if step.layer is None:
        by_constant = step.node.target is operator.mul and step.features == 1
        return by_constant or step.node.target in LINEAR_FUNCTIONS
    return is_linear(step.layer) or isinstance(step.layer, LINEAR_LAYERS)


def _has_rule(step: Step) -> bool:
    """Whether a step that is not linear has a rule in `_Rescaled`."""
    if step.layer is None:
        return step.node.target is operator.mul
    # A subclass of the maximum may pad by itself.
    return type(step.layer) is nn.MaxPool2d or isinstance(step.layer, OF_ONE_NUMBER)


def _mean_gradients(
    score: Score, embeddings: Tensor, baselines: Tensor, targets: Tensor
) -> list[Tensor]:
    """Return the mean gradient of each class's score on the line between two embeddings.

    Args:
        score: from embeddings to scores.
        embeddings: [B, D].
        baselines: [B, D] or [1, D].
        targets: classes, int64 [B, K].

    Returns:
        K gradients [B, D]. Their products with the differences add up to those of the scores; to
        about a percent where a score has corners, as one less the runner-up's has.
    """
    places, shares = np.polynomial.legendre.leggauss(NODES)
    along = torch.from_numpy((places + 1) / 2).to(embeddings)
    weights = torch.from_numpy(shares / 2).to(embeddings)
    points = torch.lerp(baselines.expand_as(embeddings), embeddings, along[:, None, None])
    differentiate = functools.partial(class_gradients, _Head(score))
    repeated = targets.repeat(NODES, 1)
    gradients = in_passes(differentiate, POINTS_AT_ONCE, points.flatten(0, 1), repeated)
    means = torch.einsum(
        "j,jbkd->kbd", weights, gradients.view(*points.shape[:2], *gradients.shape[1:])
    )
    return list(means)
