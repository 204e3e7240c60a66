"""Quantus adapter: owns how the metrics of Quantus 0.6.0 are called so that each image counts alone.

Three ways, in this order of preference: Quantus' own code on whole batches where that is safe; the
published definition on whole batches, tested to equal Quantus one image a call; Quantus itself, one
image a call with a seed of its own (`OneByOne`), for every metric that has no entry here. Each
defect that is worked round is named where it is. Images are in [0, 1], so "black" is 0; Quantus'
"black" is the darkest pixel of each image.
"""

import warnings
from typing import Any

import numpy as np
import quantus
from quantus.helpers import utils as quantus_utils

from clarity.metrics.batch import Batch, Scores
from clarity.metrics.similarity import pearson, ssim

BASELINES = {"black": 0.0, "white": 1.0}


def _area_under_curve(
    values: np.ndarray, dx: float = 1, batched: bool = False
) -> np.ndarray | np.floating[Any]:
    """Integrate curves by trapezoids, in place of a function that calls `numpy.trapz`."""
    area: np.ndarray | np.floating[Any] = np.trapezoid(np.asarray(values), dx=dx, axis=-1)
    return area


# numpy 2.4 has no `trapz`, which Quantus 0.6.0 calls in this one place (PixelFlipping's, Selectivity's
# and IROF's areas). To go when Quantus calls `trapezoid`.
quantus_utils.calculate_auc = _area_under_curve


def _fill(baseline: str | float) -> Any:
    """Return the value of a named baseline, or what Quantus is to make of it."""
    return BASELINES.get(baseline, baseline) if isinstance(baseline, str) else float(baseline)


def pixel_order(maps: np.ndarray, seeds: list[int]) -> np.ndarray:
    """Replace each map of [N, H, W] by the ranks of its pixels, the highest value the highest rank.

    Pixels of one value are put in a random order, drawn from the image's seed: taken in the order
    of the raster, the flat part of a map would be removed from the top left corner on.
    """
    flat = maps.reshape(len(maps), -1)
    ranks = np.empty(flat.shape, dtype=np.float32)
    for row, seed in enumerate(seeds):
        shuffle = np.random.default_rng(seed).permutation(flat.shape[1])
        order = shuffle[np.argsort(flat[row][shuffle], kind="stable")]
        ranks[row, order] = np.arange(flat.shape[1])
    return ranks.reshape(maps.shape)


class PixelFlipping:
    """Area under the probability of the class as pixels are removed, the most relevant first.

    Bach et al., 2015, "On Pixel-wise Explanations", section "Pixel-flipping". With t the share of
    pixels removed and p the softmax of the calibrated scores, the integral of p(t) / p(0) over t in
    [0, 1] by trapezoids. Lower is better. The curve is Quantus'; the softmax is over calibrated
    scores, since otherwise the scale of the logits decides.
    """

    def __init__(
        self, features_in_step: int = 1, perturb_baseline: str | float = "black", **kwargs: Any
    ) -> None:
        """Remove ``features_in_step`` pixels at a time, putting the baseline in their place."""
        self.step = features_in_step
        self.arguments = {"perturb_baseline": _fill(perturb_baseline), **kwargs}

    def __call__(self, batch: Batch) -> Scores:
        """Flip the pixels of every image, all images at once."""
        channels, pixels = batch.images.shape[1], batch.maps[0].size
        # Quantus spreads a map over the channels and flips channel values one by one. Ranks have no
        # ties between pixels, so that whole pixels go if a step is as many values as channels.
        metric = quantus.PixelFlipping(
            features_in_step=self.step * channels, **self.arguments, **_QUIET
        )
        ranks = pixel_order(batch.maps, batch.seeds)[:, None]
        start = _of_class(batch.scores(batch.images, softmax=True), batch.classes)
        curves = []
        for first in range(0, len(batch), batch.batch_size):
            part = slice(first, first + batch.batch_size)
            curves += _call(
                metric,
                batch,
                x_batch=batch.images[part].copy(),
                y_batch=batch.classes[part],
                a_batch=np.repeat(ranks[part], channels, axis=1),
                softmax=True,
            )
        curve = np.column_stack([start, np.array(curves, dtype=np.float64)]) / start[:, None]
        removed = np.minimum(np.arange(curve.shape[1]) * self.step / pixels, 1.0)
        return Scores(np.trapezoid(curve, removed, axis=1))


class FaithfulnessCorrelation:
    """Correlation of a subset's summed relevance with the drop of the score without it.

    Bhatt et al., 2020, "Evaluating and Aggregating Feature-based Model Explanations", equation 3:
    over random subsets S of pixels, the Pearson correlation of the sum of the map over S with
    g(x) - g(x with the pixels of S at the baseline). Higher is better.

    Quantus draws the subsets of a batch one image after another from the global generator, so that
    a score depends on the image's place; and it takes channel values, not pixels.
    """

    def __init__(
        self,
        nr_runs: int = 100,
        subset_size: int = 224,
        perturb_baseline: str | float = "black",
    ) -> None:
        """Draw ``nr_runs`` subsets of ``subset_size`` pixels."""
        self.runs = nr_runs
        self.size = subset_size
        self.fill = _fill(perturb_baseline)
        if isinstance(self.fill, str):
            raise ValueError(
                f"FaithfulnessCorrelation.perturb_baseline: found '{self.fill}', wanted black, "
                f"white or a number"
            )

    def __call__(self, batch: Batch) -> Scores:
        """Remove the subsets of every image, all images at once."""
        count, pixels = len(batch), batch.maps[0].size
        if self.size >= pixels:
            raise ValueError(
                f"FaithfulnessCorrelation.subset_size: found {self.size}, wanted less than the "
                f"{pixels} pixels of an image"
            )
        subsets = np.stack(
            [
                [generator.choice(pixels, self.size, replace=False) for _ in range(self.runs)]
                for generator in batch.generators()
            ]
        )
        start = _of_class(batch.scores(batch.images, softmax=False), batch.classes)
        drops = np.empty((count, self.runs))
        rows = np.arange(count)
        flat = batch.images.reshape(count, batch.images.shape[1], pixels)
        for run in range(self.runs):
            changed = flat.copy()
            changed[rows[:, None], :, subsets[:, run]] = self.fill
            scores = batch.scores(changed.reshape(batch.images.shape), softmax=False)
            drops[:, run] = start - _of_class(scores, batch.classes)
        maps = batch.maps.reshape(count, pixels).astype(np.float64)
        sums = maps[rows[:, None, None], subsets].sum(axis=2)
        constant = (np.ptp(sums, axis=1) == 0) | (np.ptp(drops, axis=1) == 0)
        values = pearson(sums, drops)
        return Scores(values).leave_out(constant, "all subsets have the same sum or drop")


class MaxSensitivity:
    """Largest relative change of a map under small uniform noise on the image.

    Yeh et al., 2019, "On the (In)fidelity and Sensitivity of Explanations", definition 2:
    max over noise of |A(x + e) - A(x)| / |A(x)|. Lower is better. The noise is in units of the
    images, which reach from 0 to 1; noisy images are not clipped.
    """

    def __init__(
        self, nr_samples: int = 200, lower_bound: float = 0.2, upper_bound: float | None = None
    ) -> None:
        """Draw ``nr_samples`` noises from [-lower, lower], or from [lower, upper] if given."""
        self.samples = nr_samples
        self.low, self.high = (
            (-lower_bound, lower_bound) if upper_bound is None else (lower_bound, upper_bound)
        )

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again under each noise."""
        generators = list(batch.generators())
        size = np.linalg.norm(batch.maps.reshape(len(batch), -1), axis=1)
        largest = np.zeros(len(batch))
        for _ in range(self.samples):
            noise = [g.uniform(self.low, self.high, batch.images.shape[1:]) for g in generators]
            noisy = (batch.images + np.stack(noise)).astype(np.float32)
            change = batch.explain_all(noisy, batch.classes) - batch.maps
            largest = np.maximum(
                largest, np.linalg.norm(change.reshape(len(batch), -1), axis=1) / size
            )
        return Scores(largest.astype(np.float64))


class Sparseness:
    """Gini index of the absolute values of a map, in [0, 1]; higher is better.

    Chalasani et al., 2020, "Concise Explanations of Neural Networks Using Adversarial Training",
    section 4. Quantus' own code, on a copy: it adds to the array that it is given.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map."""
        metric = quantus.Sparseness(**_QUIET)
        maps = batch.maps.astype(np.float64)[:, None]
        return Scores(np.asarray(metric.evaluate_batch(x_batch=batch.images, a_batch=maps)))


class RandomLogit:
    """How alike the map of the label is to that of a random other class; lower is better.

    Sixt et al., 2020, "When Explanations Lie", section 4, with SSIM in two dimensions of maps in
    [-1, 1]. Quantus draws the other class by the image's place in the batch and takes SSIM along a
    line; here it is drawn from the image's seed.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Explain a random other class of every image."""
        count = batch.scores(batch.images[:1], softmax=False).shape[1]
        draws = np.array([generator.randint(0, count - 1) for generator in batch.generators()])
        others = draws + (draws >= batch.classes)
        maps = batch.explain_all(batch.images, others)
        flat = maps.reshape(len(maps), -1)
        constant = flat.max(axis=1) == flat.min(axis=1)
        return Scores(ssim(batch.maps, maps)).leave_out(constant, "constant map of the other class")


class Completeness:
    """How far a map is from adding up to the change of the score from a black image.

    Sundararajan et al., 2017, "Axiomatic Attribution for Deep Networks", proposition 1. With s the
    sum of the map and d = g(x) - g(0), |s - d| / (|s| + |d|): 0 if complete, 1 if of the wrong sign
    or of another order of magnitude. Lower is better. Quantus asks whether two floats are equal,
    which no method with rounding is.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Compare every sum with its change of score."""
        sums = batch.maps.astype(np.float64).sum(axis=(1, 2))
        black = batch.scores(np.zeros_like(batch.images[:1]), softmax=False).astype(np.float64)
        scores = batch.scores(batch.images, softmax=False).astype(np.float64)
        change = _of_class(scores - black, batch.classes)
        size = np.abs(sums) + np.abs(change)
        gap = np.divide(np.abs(sums - change), size, out=np.full(len(sums), np.nan), where=size > 0)
        return Scores(gap).leave_out(size == 0, "neither relevance nor a change of the score")


class RelevanceMassAccuracy:
    """Share of the positive relevance that lies on the object; in [0, 1], higher is better.

    Arras et al., 2022, "CLEVR-XAI", section 3.3. Quantus' own code, on positive parts: signed maps
    leave [0, 1] or divide by about 0.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        masks = _masks(batch)
        maps = np.maximum(batch.maps, 0).astype(np.float64)
        nothing, empty = maps.max(axis=(1, 2)) == 0, ~masks.any(axis=(1, 2))
        values = np.full(len(batch), np.nan)
        rows = ~nothing & ~empty
        if rows.any():
            metric = quantus.RelevanceMassAccuracy(**_QUIET)
            values[rows] = metric.evaluate_batch(
                a_batch=maps[rows, None], s_batch=masks[rows, None]
            )
        return (
            Scores(values)
            .leave_out(nothing, "no positive relevance")
            .leave_out(empty, "empty mask", unavailable=True)
        )


class PointingGame:
    """Whether the highest value of a map lies on the object; higher is better.

    Zhang et al., 2018, "Top-Down Neural Attention by Excitation Backprop", section 4. Where several
    pixels share the highest value, the share of them that lies on the object: the chance of a hit.
    Quantus counts a hit if any of them does, so that a constant map always hits, and an empty mask
    as a hit.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        masks = _masks(batch)
        highest = batch.maps == batch.maps.max(axis=(1, 2), keepdims=True)
        hits = (highest & masks).sum(axis=(1, 2)) / highest.sum(axis=(1, 2))
        return Scores(hits).leave_out(~masks.any(axis=(1, 2)), "empty mask", unavailable=True)


class OneByOne:
    """Any other metric of Quantus: one image a call, its random draws from the image's seed.

    Slow and safe. A curve, or one value a layer, is reported by its mean.
    """

    def __init__(self, name: str, softmax: bool, **arguments: Any) -> None:
        """Build the metric of Quantus that ``name`` says."""
        self.metric = getattr(quantus, name)(**arguments, **_QUIET)
        self.softmax = softmax

    def __call__(self, batch: Batch) -> Scores:
        """Score image by image."""
        scores = Scores(np.full(len(batch), np.nan))
        # Quantus refuses a map that is negative everywhere, though most metrics are defined on it.
        negative = batch.maps.max(axis=(1, 2)) < 0
        for row in np.flatnonzero(~negative).tolist():
            one = batch.rows(np.array([row]))
            # Quantus draws from the global generator; it is put back as it was.
            state = np.random.get_state()
            np.random.seed(batch.seeds[row])
            try:
                found = _call(
                    self.metric,
                    one,
                    x_batch=one.images.copy(),
                    y_batch=one.classes.copy(),
                    a_batch=one.maps[:, None].copy(),
                    s_batch=None if one.masks is None else one.masks[:, None].copy(),
                    explain_func=_explain_func(one),
                    softmax=self.softmax,
                )
            finally:
                np.random.set_state(state)
            values = list(found.values()) if isinstance(found, dict) else found
            scores.values[row] = np.mean(np.asarray(values, dtype=np.float64))
        return scores.leave_out(negative, "Quantus refuses a map below zero everywhere")


ADAPTED: dict[str, type] = {
    adapted.__name__: adapted
    for adapted in (
        PixelFlipping,
        FaithfulnessCorrelation,
        MaxSensitivity,
        Sparseness,
        RandomLogit,
        Completeness,
        RelevanceMassAccuracy,
        PointingGame,
    )
}

#: Signs and scale are set before (`clarity.metrics.batch`), and no aggregate is wanted.
_QUIET: dict[str, Any] = {
    "abs": False,
    "normalise": False,
    "return_aggregate": False,
    "disable_warnings": True,
    "display_progressbar": False,
}


def _call(metric: Any, batch: Batch, **arguments: Any) -> Any:
    """Call a metric of Quantus on a batch, without its warnings about parameters."""
    device = str(next((p.device for p in batch.model.parameters()), "cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric(
            model=batch.model,
            channel_first=True,
            device=device,
            batch_size=len(arguments["x_batch"]),
            **arguments,
        )


def _explain_func(batch: Batch) -> Any:
    """Return the batch's explainer in the form that Quantus calls."""

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        images = np.asarray(inputs, dtype=np.float32)
        return batch.explain_all(images, np.asarray(targets, dtype=np.int64))[:, None]

    return explain


def _of_class(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Pick from scores [N, classes] that of each row's class: float64 [N]."""
    return scores[np.arange(len(classes)), classes].astype(np.float64)


def _masks(batch: Batch) -> np.ndarray:
    if batch.masks is None:
        raise ValueError("this metric needs masks, found none")
    return batch.masks
