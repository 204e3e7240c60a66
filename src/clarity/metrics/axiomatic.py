"""Axiomatic: owns Quantus' metrics of properties that an attribution should have exactly."""

from typing import ClassVar, Literal

import numpy as np

from clarity.attribution.targets import TargetFunction
from clarity.metrics.batch import Batch, MetricUnavailable, Scores
from clarity.metrics.imputation import baselines


class Completeness:
    """How far a map is from adding up to the change of the score from the baseline image.

    Sundararajan et al., 2017, "Axiomatic Attribution for Deep Networks", proposition 1. With s the
    sum of the map and d = g(x) - g(baseline), |s - d| / (|s| + |d|): 0 if complete, 1 if of the
    wrong sign or of another order of magnitude. Lower is better. Quantus asks whether two floats
    are equal, which no method with rounding is.
    """

    category = "axiomatic"
    direction = "lower"
    scale = "none"
    constant_maps = True
    forward = "2"
    paper = "Sundararajan et al., 2017"

    def __init__(
        self, perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black"
    ) -> None:
        """Choose the baseline; it should be the one that the maps were computed with, if any."""
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Compare every sum with its change of score."""
        sums = batch.maps.astype(np.float64).sum(axis=(1, 2))
        nothing = baselines(batch, self.baseline)
        change = batch.class_scores(batch.images, remember=True)
        change = change - batch.class_scores(nothing, remember=True)
        size = np.abs(sums) + np.abs(change)
        gap = np.divide(np.abs(sums - change), size, out=np.full(len(sums), np.nan), where=size > 0)
        return Scores(gap).leave_out(size == 0, "neither relevance nor a change of the score")


class NonSensitivity:
    """Number of pixels where exactly one of relevance and effect is about zero; lower is better.

    Nguyen and Rodríguez Martínez, 2020, "On quantitative aspects of model interpretability": the
    size of the symmetric difference of the pixels that the map calls irrelevant, |a| < eps on a map
    whose largest absolute value is 1, and of those that the model does not depend on,
    |g(x without the pixel) - g(x)| < eps. From 0 to the number of pixels. Most maps have no value
    of exactly zero where the model depends on every pixel: then it is 0 whatever the map shows. g
    is a probability, as in Quantus: where a model is certain, no pixel may have an effect.

    With ``features_in_step`` above 1, neighbours in the order of the raster are removed together
    and counted as one, which is irrelevant if all its pixels are; the last may have fewer. There
    Quantus fails, since it compares each pixel with each group. A pixel is removed in all channels,
    where Quantus counts channel values: both agree on images of one channel.
    """

    category = "axiomatic"
    direction = "lower"
    sign = "absolute"
    softmax = True
    forward = "1 + ceil(pixels / features_in_step)"
    moderate: ClassVar = {"features_in_step": "=ceil(pixels / 32)"}
    paper = "Nguyen and Rodríguez Martínez, 2020"

    def __init__(
        self,
        eps: float = 1e-5,
        features_in_step: int = 1,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
    ) -> None:
        """Choose what is about zero, how many pixels go at a time, and what takes their place."""
        self.eps = eps
        self.step = features_in_step
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Remove each pixel, or group of them, from all images at once."""
        shape = (*batch.images.shape[:2], -1)
        images = batch.images.reshape(shape)
        fill = baselines(batch, self.baseline).reshape(shape)
        maps = batch.maps.reshape(len(batch), -1)
        start = batch.class_scores(batch.images, remember=True)
        differ = np.zeros(len(batch))
        for first in range(0, maps.shape[1], self.step):
            group = slice(first, first + self.step)
            changed = images.copy()
            changed[:, :, group] = fill[:, :, group]
            # No map decides what is removed, so that other methods ask for the same.
            scores = batch.class_scores(changed.reshape(batch.images.shape), remember=True)
            without_effect = np.abs(scores - start) < self.eps
            irrelevant = (maps[:, group] < self.eps).all(axis=1)
            differ += without_effect != irrelevant
        return Scores(differ)


class InputInvariance:
    """How far a map changes by a shift of the image that the model's first layer undoes.

    Kindermans et al., 2019, "The (Un)reliability of Saliency Methods": images x + s, and a model
    that subtracts s again, so that it computes exactly what the model computes of x. The value is
    |A'(x + s) - A(x)| / |A(x)|, with A' the map of that model and the Euclidean norm over pixels:
    0 for a method that is invariant, as gradients are. Lower is better. Random maps that are drawn
    from what the image shows have about the square root of 2.

    What a method brings of its own does not move with the images: black stays 0, a reference image
    stays as it is. So methods with a baseline, and gradient times input, whose baseline is 0, are
    not invariant: that is the paper's finding.

    A classifier's first layer is its normalisation, (x - mean) / std: adding s to the mean undoes
    the shift exactly. Quantus changes the bias of a convolution, which must be the model's first
    child and cannot make good for padding, and says whether the maps are equal to 1e-4, however
    small their values are.
    """

    category = "axiomatic"
    direction = "lower"
    scale = "none"
    explained = "1"
    paper = "Kindermans et al., 2019"

    def __init__(self, input_shift: float = -1) -> None:
        """Choose the shift, in units of the images, which reach from 0 to 1."""
        self.shift = input_shift

    def __call__(self, batch: Batch) -> Scores:
        """Explain all shifted images by the model that undoes the shift.

        Raises:
            MetricUnavailable: if the model has no normalisation as its first layer.
        """
        changed = batch.model_copy()
        if not isinstance(changed, TargetFunction):
            raise MetricUnavailable("the model has no normalisation that could undo a shift")
        changed.model.mean.add_(self.shift)
        shifted = batch.images + np.float32(self.shift)
        others = batch.of(changed).explain_all(shifted, batch.classes).astype(np.float64)
        axes = (1, 2)
        gap = np.linalg.norm(others - batch.maps, axis=axes)
        found = gap / np.linalg.norm(batch.maps.astype(np.float64), axis=axes)
        return Scores(found).leave_out(
            ~np.isfinite(found), "the map of a shifted image has values that are not finite"
        )
