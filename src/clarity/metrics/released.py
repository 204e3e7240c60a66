"""Released: owns the facets of arXiv 2604.22540 as its released code computes them.

For comparison alone: Arrighi et al., 2026, "On the Properties of Feature Attribution for Supervised
Contrastive Learning", github.com/ivan-gentile/clxai, commit d860dfc,
src/evaluation/xai_evaluation.py. By default each class gives that code's number for an image; each
argument mends one point, so that one can see what the point does. Whether the paper's tables were
made by exactly this code is not known.

There, maps are those of pytorch-grad-cam: the positive part, shifted and scaled to [0, 1] for each
image (`clarity.metrics.similarity.unit_range`). Images are normalised before anything is done to
them, so that noise and replaced values are in units of the network's input. Zero maps have no
value, except where maps are compared: there they count as maps.

What is otherwise here: the explained class is the label, not the prediction, which are the same of
the images that count; negative parts go after a map was upsampled, not before, unless the method
takes them away itself (``relu_attributions`` of Grad-CAM); random draws come from the image's seed.
The facet "contrastivity" is `clarity.metrics.contrastivity.SsimRandomClass` with ``zero_maps:
scored``.
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from clarity.metrics.batch import Batch, Curves, Scores
from clarity.metrics.complexity import Complexity, Sparseness
from clarity.metrics.contrastivity import no_map, one_of
from clarity.metrics.imputation import pixel_order
from clarity.metrics.similarity import ssim_of_unit_range, unit_range

UNITS = ("values", "pixels")
BASELINES = ("image-minimum", "black")
TIES = ("sorted", "random")


class ReleasedPixelFlipping:
    """Mean probability while the values of a normalised image are replaced by its minimum.

    Arrighi et al., 2026, facet "faithfulness": Quantus' PixelFlipping with 32 features a step and
    the baseline "black", then the area under the curve by trapezoids over (points - 1). Lower is
    better, in [0, 1]. Points that can be mended:

    - a feature is a value of one channel of a pixel, the map being spread over the channels
      (``unit: pixels`` takes a pixel in all channels);
    - "black" is the least value of the normalised image, which is no black, and another colour
      for each image (``baseline: black``);
    - probabilities are not divided by that of the untouched image, so that a model that is sure of
      itself looks unfaithful (``relative``);
    - the first point comes after the first step (``untouched`` puts the untouched image first);
    - values of equal relevance, such as all of a rectified map's zeros, go in whatever order
      sorting leaves them in (``ties: random``).

    The probabilities are those of the score that is explained: whether it is calibrated is the
    method's ``target``.
    """

    category = "faithfulness"
    direction = "lower"
    sign = "positive"
    scale = "none"
    softmax = True
    forward = (
        "ceil(pixels * (channels if unit == 'values' else 1) / features_in_step)"
        " + (1 if relative or untouched else 0)"
    )
    moderate: ClassVar = {"features_in_step": "=ceil(3 * pixels / 32)"}
    paper = "Arrighi et al., 2026, as released"

    def __init__(
        self,
        features_in_step: int = 32,
        unit: Literal["values", "pixels"] = "values",
        baseline: Literal["image-minimum", "black"] = "image-minimum",
        relative: bool = False,
        untouched: bool = False,
        ties: Literal["sorted", "random"] = "sorted",
    ) -> None:
        """Replace ``features_in_step`` values or pixels at a time.

        Args:
            features_in_step: values of a channel, or pixels.
            unit: whether a pixel goes channel by channel or at once.
            baseline: the image's least normalised value, or 0 before normalisation.
            relative: divide by the probability of the untouched image.
            untouched: whether the curve begins with the untouched image.
            ties: in which order equal values go.

        Raises:
            ValueError: if there is no such unit, baseline or order.
        """
        self.step = features_in_step
        self.unit = one_of("unit", unit, UNITS)
        self.baseline = one_of("baseline", baseline, BASELINES)
        self.ties = one_of("ties", ties, TIES)
        self.relative, self.untouched = relative, untouched

    def __call__(self, batch: Batch) -> Scores:
        """Flip all images at once.

        Raises:
            ValueError: if the steps are so large that the curve has no two points.
        """
        count, channels, height, width = batch.images.shape
        groups = channels if self.unit == "values" else 1
        order = self._order(batch, groups)
        steps = range(0, order.shape[1], self.step)
        if len(steps) + self.untouched < 2:
            raise ValueError(
                f"features_in_step: found {self.step} of {order.shape[1]}, wanted fewer"
            )
        changed = batch.images.reshape(count, groups, channels // groups, height * width).copy()
        fill = self._fill(batch).reshape(count, groups, channels // groups)
        rows = np.arange(count)[:, None]
        curve = np.empty((count, len(steps)))
        for place, start in enumerate(steps):
            group, pixel = np.divmod(order[:, start : start + self.step], height * width)
            changed[rows, group, :, pixel] = fill[rows, group]
            # Remembered: classes of this kind that differ in what they make of a curve ask for the
            # same images, and an answer takes a few bytes.
            curve[:, place] = batch.class_scores(changed.reshape(batch.images.shape), remember=True)
        removed = np.minimum((np.arange(len(steps)) + 1) * self.step / order.shape[1], 1.0)
        positive = np.ones(count, dtype=bool)
        if self.relative or self.untouched:
            first = batch.class_scores(batch.images, remember=True)
            if self.untouched:
                curve = np.column_stack([first, curve])
                removed = np.append(0.0, removed)
            if self.relative:
                positive = first > 0
                curve = curve / np.where(positive, first, np.nan)[:, None]
        area = np.asarray(np.trapezoid(curve, axis=1) / (curve.shape[1] - 1))
        found = Scores(area, Curves("share of values removed", removed.tolist(), list(curve)))
        return found.leave_out(~positive, "the score of the untouched image is not positive")

    def _order(self, batch: Batch, groups: int) -> np.ndarray:
        """Return the values, groups * pixels of them, in the order in which they go: [N, F]."""
        maps = np.repeat(unit_range(batch.maps)[:, None], groups, axis=1)
        if self.ties == "random":
            maps = pixel_order(maps, batch.seeds)
        # Not a stable sort: that of Quantus.
        return np.asarray(np.argsort(-maps.reshape(len(batch), -1), axis=1))

    def _fill(self, batch: Batch) -> np.ndarray:
        """Return what replaces the values of each image's channels: [N, C]."""
        if self.baseline == "black":
            return np.zeros(batch.images.shape[:2], dtype=np.float32)
        shift, slope = _normalisation(batch)
        normalised = batch.images * slope[:, None, None] + shift[:, None, None]
        least = normalised.min(axis=(1, 2, 3))[:, None]
        return np.asarray((least - shift) / slope, dtype=np.float32)


class ReleasedContinuity:
    """SSIM of the map and that under Gaussian noise on the normalised image, cut to [0, 1].

    Arrighi et al., 2026, facet "continuity": one draw of noise of standard deviation 0.02 is added
    to the normalised image, which is then clamped to [0, 1]. SSIM of both maps in [0, 1], windows
    of 7x7, the range being 1. Higher is better, in [-1, 1]. Points that can be mended:

    - a normalised image reaches from about -2 to 2, so that the clamp changes most values by far
      more than the noise does (``clamp: false``);
    - two zero maps are as alike as can be, and a zero map beside another looks discontinuous
      (``zero_maps: left-out``).
    """

    category = "robustness"
    direction = "higher"
    sign = "positive"
    scale = "none"
    constant_maps = True
    explained = "1"
    paper = "Arrighi et al., 2026, as released"

    def __init__(
        self,
        noise: float = 0.02,
        clamp: bool = True,
        zero_maps: Literal["scored", "left-out"] = "scored",
    ) -> None:
        """Choose the noise and what is done as released.

        Args:
            noise: standard deviation, in units of the normalised image.
            clamp: whether the noisy normalised image is cut to [0, 1].
            zero_maps: whether maps without a pattern are compared.

        Raises:
            ValueError: if there is no such choice for ``zero_maps``.
        """
        self.noise = noise
        self.clamp = clamp
        self.scored = one_of("zero_maps", zero_maps, ("scored", "left-out")) == "scored"

    def __call__(self, batch: Batch) -> Scores:
        """Explain every image once more, changed."""
        shift, slope = (values[:, None, None] for values in _normalisation(batch))
        shape = batch.images.shape[1:]
        noise = np.stack([generator.standard_normal(shape) for generator in batch.generators()])
        noisy = batch.images * slope + shift + self.noise * noise
        if self.clamp:
            noisy = noisy.clip(0, 1)
        maps = batch.explain_all(((noisy - shift) / slope).astype(np.float32), batch.classes)
        finite = np.isfinite(maps).all(axis=(1, 2))
        none = no_map(batch.maps) | (no_map(maps) & finite)
        kept = finite if self.scored else finite & ~none
        values = np.full(len(batch), np.nan)
        values[kept] = ssim_of_unit_range(unit_range(batch.maps[kept]), unit_range(maps[kept]))
        scores = Scores(values)
        if not self.scored:
            scores.leave_out(none, "constant map, of the image or of the noisy one")
        return scores.leave_out(~finite, "the map under noise has values that are not finite")


class _OfRectified:
    """What both metrics of complexity share: all but what judges the maps."""

    category = "complexity"
    sign = "positive"
    scale = "none"
    paper = "Arrighi et al., 2026, as released"
    _judge: ClassVar[Any]

    def __init__(self, shift: bool = True) -> None:
        """Choose whether each map's least value is subtracted."""
        self.shift = shift

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map in [0, 1], its least value subtracted or not."""
        if self.shift:
            maps = unit_range(batch.maps)
        else:
            maps = batch.maps / batch.maps.max(axis=(1, 2), keepdims=True)
        found: Scores = self._judge()(replace(batch, maps=maps))
        return found


class ReleasedComplexity(_OfRectified):
    """Entropy of the shares that pixels have in a rectified map whose least value was subtracted.

    Arrighi et al., 2026, facet "complexity": `clarity.metrics.complexity.Complexity` (Bhatt et al.,
    2020) of a map in [0, 1]. Lower is better, in [0, log pixels]. The point that can be mended: a
    map that is positive everywhere loses its least value, and looks simpler (``shift: false``).
    """

    direction = "lower"
    _judge: ClassVar = Complexity


class ReleasedSparseness(_OfRectified):
    """Gini index of a rectified map whose least value was subtracted.

    Arrighi et al., 2026, facet "complexity", sparseness: `clarity.metrics.complexity.Sparseness`
    (Chalasani et al., 2020) of a map in [0, 1]. Higher is better, in [0, 1]. The point that can be
    mended is that of `ReleasedComplexity`.
    """

    direction = "higher"
    _judge: ClassVar = Sparseness


def _normalisation(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and slope of each channel [C] of the model's normalisation; 0 and 1 if none."""
    channels = batch.images.shape[1]
    normalised = getattr(batch.model, "normalised", None)
    if normalised is None:
        return np.zeros(channels), np.ones(channels)
    device = next((p.device for p in batch.model.parameters()), torch.device("cpu"))
    ends = torch.tensor([0.0, 1.0], device=device)[:, None, None, None]
    low, high = normalised(ends.expand(2, channels, 1, 1))[..., 0, 0].double().cpu().numpy()
    return low, high - low
