"""Quantus adapter: owns how metrics of Quantus 0.6.0 are called so that each image counts alone.

Three ways, in this order of preference: Quantus' own code on whole batches where that is safe; the
published definition on whole batches, tested to equal Quantus one image a call; Quantus itself, one
image a call with a seed of its own (`OneByOne`), for every metric that has no entry here. Each
defect that is worked round is named where it is. Images are in [0, 1], so "black" is 0; Quantus'
"black" is the darkest pixel of each image.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from quantus.functions.norm_func import fro_norm
from quantus.helpers import asserts as quantus_asserts
from quantus.helpers import utils as quantus_utils
from quantus.helpers import warn as quantus_warn
from quantus.metrics.complexity import sparseness
from quantus.metrics.faithfulness import pixel_flipping
from quantus.metrics.localisation import relevance_mass_accuracy

from clarity.metrics.batch import ROUNDING, Batch, Scores, Sign, is_constant
from clarity.metrics.similarity import pearson, ssim

BASELINES = {"black": 0.0, "white": 1.0}

#: Metrics whose score is a curve, reported by its mean: the AOPC of Samek et al., 2017, equation
#: 12, and the mean score as the most relevant patches go.
CURVES = ("RegionPerturbation", "Selectivity")


def _area_under_curve(
    values: np.ndarray, dx: float = 1, batched: bool = False
) -> np.ndarray | np.floating[Any]:
    """Integrate curves by trapezoids, in place of a function that calls `numpy.trapz`."""
    area: np.ndarray | np.floating[Any] = np.trapezoid(np.asarray(values), dx=dx, axis=-1)
    return area


# numpy 2.4 has no `trapz`, which Quantus 0.6.0 calls in this one place (the areas of PixelFlipping,
# Selectivity and IROF). To go when Quantus calls `trapezoid`.
quantus_utils.calculate_auc = _area_under_curve


@contextmanager
def mended() -> Iterator[None]:
    """Run Quantus without two of its checks and without its warnings.

    `assert_attributions` refuses a map alone that it lets pass beside others: one below zero
    everywhere, or a perturbed image's map of zeros. It also makes a Python set of all values, which
    takes minutes on large maps. The other check compares every image with every perturbed copy, to
    warn.
    """
    checks = (
        (quantus_asserts, "assert_attributions"),
        (quantus_warn, "warn_perturbation_caused_no_change"),
    )
    before = [getattr(module, name) for module, name in checks]
    for module, name in checks:
        setattr(module, name, lambda *_, **__: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for (module, name), check in zip(checks, before, strict=True):
            setattr(module, name, check)


def baselines(batch: Batch, baseline: str) -> np.ndarray:
    """Return what stands for removed pixels, float32 [N, C, H, W].

    Args:
        batch: the images.
        baseline: "black" (0), "white" (1), "mean" (the mean of the image) or "uniform" (a random
            number in [0, 1] for each value, drawn from the image's seed). Quantus takes the least,
            greatest and mean value of the image as it is after the earlier steps, so that what a
            removed pixel becomes changes from step to step, and one random grey for all pixels.

    Raises:
        ValueError: if there is no such baseline.
    """
    images = batch.images
    if baseline in BASELINES:
        return np.full_like(images, BASELINES[baseline])
    if baseline == "mean":
        return np.broadcast_to(images.mean(axis=(1, 2, 3), keepdims=True), images.shape).copy()
    if baseline == "uniform":
        drawn = [generator.uniform(size=images.shape[1:]) for generator in batch.generators()]
        return np.stack(drawn).astype(np.float32)
    raise ValueError(f"perturb_baseline: found '{baseline}', wanted black, white, mean or uniform")


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
    [0, 1] by trapezoids, the untouched image as the first point. Lower is better. The curve is
    Quantus'; the softmax is over calibrated scores, since the scale of the logits would decide.
    """

    def __init__(
        self,
        features_in_step: int = 1,
        perturb_baseline: str = "black",
        return_auc_per_sample: bool = True,
    ) -> None:
        """Remove ``features_in_step`` pixels at a time, putting the baseline in their place.

        Raises:
            ValueError: if a curve is asked for in place of its area.
        """
        if not return_auc_per_sample:
            raise ValueError("return_auc_per_sample: found false, but a score is one number")
        self.step = features_in_step
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Flip the pixels of every image, all images at once."""
        pixels = batch.maps[0].size
        start = batch.class_scores(batch.images)
        positive = start > 0
        rows = np.arange(len(batch))
        parts = np.split(rows, rows[batch.batch_size :: batch.batch_size])
        with mended():
            curves = [self._curves(batch.rows(part)) for part in parts]
        curve = np.column_stack([start, np.concatenate(curves)])
        curve = curve / np.where(positive, start, np.nan)[:, None]
        removed = np.minimum(np.arange(curve.shape[1]) * self.step / pixels, 1.0)
        area = np.trapezoid(curve, removed, axis=1)
        return Scores(area).leave_out(~positive, "the score of the untouched image is not positive")

    def _curves(self, batch: Batch) -> np.ndarray:
        """Return the score after each step: [N, steps]."""
        fill = baselines(batch, self.baseline).reshape(len(batch), -1)
        rows = np.arange(len(batch))[:, None]

        def replace(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
            changed = arr.copy()
            changed[rows, indices] = fill[rows, indices]
            return changed

        # Quantus spreads a map over the channels and flips channel values one by one. Ranks have no
        # ties between pixels, so that whole pixels go if a step is as many values as channels.
        channels = batch.images.shape[1]
        metric = pixel_flipping.PixelFlipping(
            features_in_step=self.step * channels, perturb_func=replace, **_PLAIN
        )
        ranks = pixel_order(batch.maps, batch.seeds)[:, None]
        scorer: Any = _Scorer(batch)
        # The inner function: the outer one refuses steps that do not divide the number of pixels,
        # though the last step may as well be a shorter one.
        curves = metric.evaluate_batch(
            model=scorer,
            x_batch=batch.images.copy(),
            y_batch=batch.classes,
            a_batch=np.repeat(ranks, channels, axis=1),
        )
        return np.array(curves, dtype=np.float64)


class FaithfulnessCorrelation:
    """Correlation of a subset's summed relevance with the drop of the score without it.

    Bhatt et al., 2020, "Evaluating and Aggregating Feature-based Model Explanations", equation 3:
    over random subsets S of pixels, the Pearson correlation of the sum of the map over S with
    g(x) - g(x with the pixels of S at the baseline in all channels). Higher is better.

    On images of one channel it is Quantus', one image a call with the same seed. Quantus draws the
    subsets of a batch one image after another from the global generator, so that a score depends
    on the image's place; and on colour images it takes channel values, not pixels.
    """

    def __init__(
        self,
        nr_runs: int = 100,
        subset_size: int = 224,
        perturb_baseline: str = "black",
    ) -> None:
        """Draw ``nr_runs`` subsets of ``subset_size`` pixels."""
        self.runs = nr_runs
        self.size = subset_size
        self.baseline = perturb_baseline

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
        start = batch.class_scores(batch.images)
        drops = np.empty((count, self.runs))
        rows = np.arange(count)
        flat = batch.images.reshape(count, batch.images.shape[1], pixels)
        fill = baselines(batch, self.baseline).reshape(flat.shape)
        for run in range(self.runs):
            changed = flat.copy()
            removed = rows[:, None], slice(None), subsets[:, run]
            changed[removed] = fill[removed]
            drops[:, run] = start - batch.class_scores(changed.reshape(batch.images.shape))
        maps = batch.maps.reshape(count, pixels).astype(np.float64)
        sums = maps[rows[:, None, None], subsets].sum(axis=2)
        # Otherwise a model that ignores the pixels would be judged by its rounding.
        unmoved = np.ptp(drops, axis=1) <= ROUNDING * np.abs(start)
        constant = unmoved | (np.ptp(sums, axis=1) == 0)
        values = pearson(sums, drops)
        return Scores(values).leave_out(constant, "all subsets have the same sum or drop")


class MaxSensitivity:
    """Largest relative change of a map under small uniform noise on the image.

    Yeh et al., 2019, "On the (In)fidelity and Sensitivity of Explanations", definition 2:
    max over noise of |A(x + e) - A(x)| / |A(x)|. Lower is better. The noise is in units of the
    images, which reach from 0 to 1. Noisy images are not clipped: that would halve the noise on
    black and white pixels, and so on some datasets only.

    It is Quantus', one image a call with the same seed, for all images at once.
    """

    def __init__(
        self,
        nr_samples: int = 200,
        lower_bound: float = 0.2,
        upper_bound: float | None = None,
        return_nan_when_prediction_changes: bool = False,
    ) -> None:
        """Draw ``nr_samples`` noises from [-lower, lower], or from [lower, upper] if given.

        Raises:
            ValueError: if the bounds leave no room.
        """
        self.samples = nr_samples
        self.low, self.high = (
            (-lower_bound, lower_bound) if upper_bound is None else (lower_bound, upper_bound)
        )
        if not self.low < self.high:
            raise ValueError(
                f"lower_bound, upper_bound: found noise from {self.low} to {self.high}, wanted the "
                f"first below the second"
            )
        self.same_prediction_only = return_nan_when_prediction_changes

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again under each noise."""
        generators = list(batch.generators())
        maps = batch.maps.reshape(len(batch), -1)
        size = fro_norm(maps)
        largest = np.zeros(len(batch))
        changed = np.zeros(len(batch), dtype=bool)
        for _ in range(self.samples):
            noise = [g.uniform(self.low, self.high, batch.images.shape[1:]) for g in generators]
            noisy = (batch.images + np.stack(noise)).astype(np.float32)
            others = batch.explain_all(noisy, batch.classes).reshape(maps.shape)
            largest = np.maximum(largest, fro_norm(maps - others) / size)
            if self.same_prediction_only:
                before, after = batch.scores(batch.images), batch.scores(noisy)
                changed |= before.argmax(axis=1) != after.argmax(axis=1)
        return Scores(largest.astype(np.float64)).leave_out(
            changed, "the noise changes the prediction"
        )


class Sparseness:
    """Gini index of the absolute values of a map, in [0, 1]; higher is better.

    Chalasani et al., 2020, "Concise Explanations of Neural Networks Using Adversarial Training",
    section 4. Quantus' own code, on a copy: it adds to the array that it is given.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map."""
        # Absolute values are taken before; Quantus' own `abs` only keeps it from printing advice.
        metric = sparseness.Sparseness(**{**_PLAIN, "abs": True})
        maps = batch.maps.astype(np.float64)[:, None]
        return Scores(np.asarray(metric.evaluate_batch(x_batch=batch.images, a_batch=maps)))


class RandomLogit:
    """How alike the map of the label is to that of a random other class; lower is better.

    Sixt et al., 2020, "When Explanations Lie", section 4, with SSIM in two dimensions. Quantus
    draws the other class by the image's place in the batch and takes SSIM along a line; here it is
    drawn from the image's seed, as Quantus would for this image alone.
    """

    def __call__(self, batch: Batch) -> Scores:
        """Explain a random other class of every image."""
        count = batch.scores(batch.images[:1]).shape[1]
        draws = np.array([generator.randint(0, count - 1) for generator in batch.generators()])
        others = draws + (draws >= batch.classes)
        maps = batch.explain_all(batch.images, others)
        # SSIM to a zero map is near 0 and would look like contrast, so those count apart.
        flat = is_constant(maps)
        values = np.full(len(batch), np.nan)
        values[~flat] = ssim(batch.maps[~flat], maps[~flat])
        return Scores(values).leave_out(flat, "constant foil map")


class Completeness:
    """How far a map is from adding up to the change of the score from the baseline image.

    Sundararajan et al., 2017, "Axiomatic Attribution for Deep Networks", proposition 1. With s the
    sum of the map and d = g(x) - g(baseline), |s - d| / (|s| + |d|): 0 if complete, 1 if of the
    wrong sign or of another order of magnitude. Lower is better. Quantus asks whether two floats
    are equal, which no method with rounding is.
    """

    def __init__(self, perturb_baseline: str = "black") -> None:
        """Choose the baseline; it should be the one that the maps were computed with, if any."""
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Compare every sum with its change of score."""
        sums = batch.maps.astype(np.float64).sum(axis=(1, 2))
        nothing = baselines(batch, self.baseline)
        change = batch.class_scores(batch.images) - batch.class_scores(nothing)
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
        nothing = np.asarray(maps.max(axis=(1, 2)) == 0)
        with mended(), np.errstate(invalid="ignore"):
            metric = relevance_mass_accuracy.RelevanceMassAccuracy(**_PLAIN)
            values = metric.evaluate_batch(a_batch=maps[:, None], s_batch=masks[:, None])
        return (
            Scores(np.asarray(values, dtype=np.float64))
            .leave_out(nothing, "no positive mass")
            .leave_out(_empty(masks), "empty mask", unavailable=True)
        )


class PointingGame:
    """Whether the highest value of a map lies on the object; higher is better.

    Zhang et al., 2018, "Top-Down Neural Attention by Excitation Backprop", section 4. Where several
    pixels share the highest value, the share of them that lies on the object: the chance of a hit.
    Quantus counts a hit if any of them does, so that a constant map always hits, and an empty mask
    as a hit.
    """

    def __init__(self, weighted: bool = False) -> None:
        """Choose whether a hit counts by how small the object is, 1 - its share of the image."""
        self.weighted = weighted

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        masks = _masks(batch)
        highest = batch.maps == batch.maps.max(axis=(1, 2), keepdims=True)
        hits = (highest & masks).sum(axis=(1, 2)) / highest.sum(axis=(1, 2))
        if self.weighted:
            hits = hits * (1 - masks.mean(axis=(1, 2)))
        return Scores(hits).leave_out(_empty(masks), "empty mask", unavailable=True)


class OneByOne:
    """Any other metric of Quantus: one image a call, its random draws from the image's seed.

    Slow and safe. What Quantus makes of a map of one channel stays as it is: on colour images, most
    of its metrics spread it over the channels and change channel values one by one.
    """

    def __init__(
        self, kind: Any, sign: Sign, needs_masks: bool, arguments: Mapping[str, Any]
    ) -> None:
        """Take a class of Quantus and the arguments that it is to be built with."""
        self.kind = kind
        self.needs_masks = needs_masks
        takes = inspect.signature(kind.__init__).parameters
        # Absolute values are taken before; Quantus' own `abs` only keeps it from printing advice.
        plain = {**_PLAIN, "abs": sign == "absolute"}
        self.arguments = {
            **{key: value for key, value in plain.items() if key in takes},
            **arguments,
        }
        if "perturb_baseline" in takes:
            # Quantus' "black" is the darkest value of an image; in [0, 1], black is 0.
            named = arguments.get("perturb_baseline", takes["perturb_baseline"].default)
            self.arguments["perturb_baseline"] = BASELINES.get(named, named)

    def __call__(self, batch: Batch) -> Scores:
        """Score image by image."""
        values = [self._score(batch.rows(np.array([row]))) for row in range(len(batch))]
        scores = Scores(np.array(values, dtype=np.float64))
        if self.needs_masks:
            scores.leave_out(_empty(_masks(batch)), "empty mask", unavailable=True)
        return scores

    def _score(self, one: Batch) -> float:
        """Score one image."""
        # Built anew each time: some metrics keep what they have seen.
        metric = self.kind(**self.arguments)
        device = next((str(parameter.device) for parameter in one.model.parameters()), "cpu")
        with mended(), _seeded(one.seeds[0]):
            found = metric(
                model=one.model,
                x_batch=one.images.copy(),
                y_batch=one.classes.copy(),
                a_batch=one.maps[:, None].copy(),
                s_batch=None if one.masks is None else one.masks[:, None].copy(),
                channel_first=True,
                explain_func=_explain_func(one),
                softmax=one.softmax,
                device=device,
                batch_size=1,
            )
        if self.kind.__name__ in CURVES:
            return float(np.mean(found))
        value = np.asarray(found, dtype=np.float64) if isinstance(found, list) else None
        if value is None or value.size != 1:
            raise ValueError(f"{self.kind.__name__} gave {found!r} for one image, not a number")
        return float(value.item())


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
_PLAIN: dict[str, Any] = {
    "abs": False,
    "normalise": False,
    "return_aggregate": False,
    "disable_warnings": True,
    "display_progressbar": False,
}


class _Scorer:
    """A batch's model in the form that Quantus' inner functions call.

    Quantus' own wrapper keeps every model that it ever saw in a cache, and cuts a softmax out of
    models that have one inside.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def shape_input(self, x: np.ndarray, shape: tuple[int, ...], **_: Any) -> np.ndarray:
        return x.reshape(shape)

    def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
        return self._batch.scores(x.astype(np.float32, copy=False))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, which Quantus draws from, and put it back as it was."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def _explain_func(batch: Batch) -> Callable[..., np.ndarray]:
    """Return the batch's explainer in the form that Quantus calls."""

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        if model is not batch.model:
            raise ValueError(
                "the metric explains a changed copy of the model, and a method is bound to the "
                "model as it is"
            )
        images = np.asarray(inputs, dtype=np.float32)
        return batch.explain_all(images, np.asarray(targets, dtype=np.int64))[:, None]

    return explain


def _masks(batch: Batch) -> np.ndarray:
    if batch.masks is None:
        raise ValueError("this metric needs masks, found none")
    return batch.masks


def _empty(masks: np.ndarray) -> np.ndarray:
    """Whether each mask of [N, H, W] marks nothing: bool [N]."""
    return np.asarray(~masks.any(axis=(1, 2)))
