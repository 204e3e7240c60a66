"""Faithfulness: owns Quantus' metrics of whether relevance predicts what a removal does.

Those that follow a score while pixels go in order are in `clarity.metrics.flipping`. What is
removed is a pixel, in all channels; Quantus spreads a map over the channels of a colour image and
removes channel values. Where what is removed does not depend on the maps, all methods share it.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np

from clarity.metrics.batch import ROUNDING, Batch, Curves, Scores
from clarity.metrics.imputation import baselines, pixel_order
from clarity.metrics.similarity import pearson, spearman


class FaithfulnessCorrelation:
    """Correlation of a subset's summed relevance with the drop of the score without it.

    Bhatt et al., 2020, "Evaluating and Aggregating Feature-based Model Explanations", equation 3:
    over random subsets S of pixels, the Pearson correlation of the sum of the map over S with
    g(x) - g(x with the pixels of S at the baseline in all channels). In [-1, 1], higher is better.

    On images of one channel it is Quantus', one image a call with the same seed. Quantus draws the
    subsets of a batch one image after another from the global generator, so that a score depends
    on the image's place.
    """

    category = "faithfulness"
    direction = "higher"
    forward = "1 + nr_runs"
    moderate: ClassVar = {"nr_runs": 50, "subset_size": "=ceil(pixels / 16)"}
    nulls: ClassVar = {"random": 0.0}
    paper = "Bhatt et al., 2020"

    def __init__(
        self,
        nr_runs: int = 100,
        subset_size: int = 224,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
    ) -> None:
        """Draw ``nr_runs`` subsets of ``subset_size`` pixels."""
        self.runs = nr_runs
        self.size = subset_size
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Remove the subsets of every image, all images at once."""
        pixels = batch.maps[0].size
        if self.size >= pixels:
            raise ValueError(
                f"FaithfulnessCorrelation.subset_size: found {self.size}, wanted less than the "
                f"{pixels} pixels of an image"
            )
        generators = list(batch.generators())
        subsets = (_subsets(batch, generators, self.size) for _ in range(self.runs))
        sums, drops, start = _removals(batch, subsets, self.baseline, remember=True)
        values, undefined = _correlation(sums, drops, start)
        return Scores(values).leave_out(undefined, "all subsets have the same sum or drop")


class FaithfulnessEstimate:
    """Correlation of a pixel's relevance with the drop of the score without it.

    Alvarez-Melis and Jaakkola, 2018, "Towards Robust Interpretability with Self-Explaining Neural
    Networks": each pixel is removed alone, and the value is the Pearson correlation over pixels of
    the map with g(x) - g(x with the pixel at the baseline). In [-1, 1], higher is better. With
    ``features_in_step`` above 1, pixels are taken together that follow each other in the order of
    the map, each group is removed alone, and its relevance is summed.

    On images of one channel whose maps have no ties it is Quantus', one image a call. Pixels of
    equal relevance are grouped at random, from the image's seed; Quantus leaves it to the sorting.
    The last group may be a smaller one.
    """

    category = "faithfulness"
    direction = "higher"
    forward = "1 + ceil(pixels / features_in_step)"
    moderate: ClassVar = {"features_in_step": "=ceil(pixels / 32)"}
    nulls: ClassVar = {"random": 0.0}
    paper = "Alvarez-Melis and Jaakkola, 2018"

    def __init__(
        self,
        features_in_step: int = 1,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
    ) -> None:
        """Remove ``features_in_step`` pixels at a time."""
        self.size = features_in_step
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Remove each group of every image, all images at once."""
        # Single pixels are the same removals in whatever order, so methods can share them.
        alone = self.size == 1
        step = _raster(batch) if alone else _steps(batch, -batch.maps, self.size)
        groups = (step == index for index in range(int(step.max()) + 1))
        sums, drops, start = _removals(batch, groups, self.baseline, remember=alone)
        values, undefined = _correlation(sums, drops, start)
        return Scores(values).leave_out(undefined, "all groups have the same sum or drop")


class Infidelity:
    """Squared error of a map as a prediction of what the removal of a square does to the score.

    Yeh et al., 2019, "On the (In)fidelity and Sensitivity of Explanations", section 2: the mean
    over perturbations I of (sum of I * map - (g(x) - g(x - I)))^2. Here I takes a square to the
    baseline in all channels, and the map stands for each channel. At least 0, lower is better. Each
    sample draws one place, from the image's seed, for each size in ``perturb_patch_sizes``, all
    places at which the square lies in the image being equally likely.

    The value is in squared units of the score, and follows the scale of the map. Two arguments of
    CLarity's own take up what the authors' code does with squares. ``indicator`` puts 1 for a
    removed pixel in place of the change of its channels: for maps that already contain the image,
    such as gradient times input. ``optimal_scale`` multiplies the map with the factor that fits the
    image's drops best, so that only its pattern counts.

    Quantus draws nothing: each sample takes the same tiles of the image, and leaves the earlier
    tiles removed when it takes the next. It equals Quantus where one square is the whole image.
    """

    category = "faithfulness"
    direction = "lower"
    scale = "none"
    forward = "1 + n_perturb_samples * len(perturb_patch_sizes or [4])"
    moderate: ClassVar = {"n_perturb_samples": 32}
    paper = "Yeh et al., 2019"

    def __init__(
        self,
        perturb_patch_sizes: list[int] | None = None,
        n_perturb_samples: int = 10,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        indicator: bool = False,
        optimal_scale: bool = False,
    ) -> None:
        """Draw ``n_perturb_samples`` squares of each of the sides, of side 4 if none are given."""
        self.sides = perturb_patch_sizes or [4]
        self.samples = n_perturb_samples
        self.baseline = perturb_baseline
        self.indicator = indicator
        self.optimal = optimal_scale

    def __call__(self, batch: Batch) -> Scores:
        """Remove the squares of every image, all images at once."""
        height, width = batch.maps.shape[1:]
        if not 0 < min(self.sides) <= max(self.sides) <= min(height, width):
            raise ValueError(
                f"Infidelity.perturb_patch_sizes: found {self.sides}, wanted sides from 1 to "
                f"{min(height, width)}, that of an image"
            )
        generators = list(batch.generators())
        squares = (
            _squares(batch, generators, side) for _ in range(self.samples) for side in self.sides
        )
        weights = batch.maps.astype(np.float64)
        if not self.indicator:
            fill = baselines(batch, self.baseline)
            weights = weights * (batch.images - fill).sum(axis=1, dtype=np.float64)
        sums, drops, _ = _removals(batch, squares, self.baseline, remember=True, weights=weights)
        if self.optimal:
            size = (sums * sums).sum(axis=1)
            best = np.divide((sums * drops).sum(axis=1), size, out=0 * size, where=size > 0)
            sums = sums * best[:, None]
        return Scores(((sums - drops) ** 2).mean(axis=1))


class Monotonicity:
    """Whether the score never falls as pixels are put in, the least relevant first.

    Arya et al., 2019, "One Explanation Does Not Fit All", as AI Explainability 360 computes it: the
    image starts as the baseline, gets its pixels in the order of rising relevance,
    ``features_in_step`` at a time, and the value is 1 if no step lowers the score, else 0. Higher
    is better. A fall within the rounding of the largest score is none. The curve is the score after
    each step.

    Few images of a real model reach 1. With ``share``, an argument of CLarity's own, the value is
    the share of the steps that do not lower the score.

    Quantus puts the baseline where the baseline is already, so that no pixel ever comes in: it
    calls every map monotone.
    """

    category = "faithfulness"
    direction = "higher"
    sign = "absolute"
    softmax = True
    forward = "ceil(pixels / features_in_step)"
    moderate: ClassVar = {"features_in_step": "=ceil(pixels / 32)", "share": True}
    paper = "Arya et al., 2019"

    def __init__(
        self,
        features_in_step: int = 1,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        share: bool = False,
    ) -> None:
        """Put ``features_in_step`` pixels in at a time."""
        self.size = features_in_step
        self.baseline = perturb_baseline
        self.share = share

    def __call__(self, batch: Batch) -> Scores:
        """Put the pixels of every image in, all images at once."""
        step = _steps(batch, batch.maps, self.size)
        last = int(step.max())
        if last == 0:
            raise ValueError(
                f"Monotonicity.features_in_step: found {self.size}, wanted less than the "
                f"{step[0].size} pixels of an image"
            )
        fill = baselines(batch, self.baseline)
        curve = np.empty((len(batch), last + 1))
        for index in range(last + 1):
            shown = np.where((step <= index)[:, None], batch.images, fill)
            curve[:, index] = batch.class_scores(shown, remember=index == last)
        rounding = ROUNDING * np.abs(curve).max(axis=1, keepdims=True)
        kept = np.diff(curve, axis=1) >= -rounding
        values = kept.mean(axis=1) if self.share else kept.all(axis=1).astype(np.float64)
        pixels = step[0].size
        at = [min((index + 1) * self.size / pixels, 1.0) for index in range(last + 1)]
        return Scores(values, Curves("share of pixels put in", at, list(curve)))


class MonotonicityCorrelation:
    """Rank correlation of a pixel's relevance with how much the score depends on it.

    Nguyen and Rodriguez Martinez, 2020, "On Quantitative Aspects of Model Interpretability": the
    Spearman correlation over pixels of the absolute map with the mean over ``nr_samples`` random
    values of the pixel of (g(x with that value) - g(x))^2. In [-1, 1], higher is better. With
    ``features_in_step`` above 1, pixels that follow each other in the order of the map are taken
    together, and their relevance is summed. Changes within rounding count as none.

    With "uniform", each channel of a pixel gets a random number of its own; Quantus gives one
    random grey to all pixels of a group. The other baselines are not random and cost one sample,
    where Quantus computes the same ``nr_samples`` times; with them, on images of one channel and
    maps without ties, it is Quantus', one image a call. Quantus divides by the squared score of
    the image, which no rank sees, and fails if only some scores of a batch are below its ``eps``.
    """

    category = "faithfulness"
    direction = "higher"
    sign = "absolute"
    softmax = True
    forward = (
        "1 + ceil(pixels / features_in_step) * (nr_samples if perturb_baseline == 'uniform' else 1)"
    )
    moderate: ClassVar = {"features_in_step": "=ceil(pixels / 16)", "nr_samples": 2}
    paper = "Nguyen and Rodriguez Martinez, 2020"

    def __init__(
        self,
        nr_samples: int = 100,
        features_in_step: int = 1,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "uniform",
    ) -> None:
        """Change ``features_in_step`` pixels at a time, ``nr_samples`` times if at random."""
        self.random = perturb_baseline == "uniform"
        self.samples = nr_samples if self.random else 1
        self.size = features_in_step
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Change each group of every image, all images at once."""
        # Single pixels are changed alike in whatever order, so methods can share them.
        alone = self.size == 1
        step = _raster(batch) if alone else _steps(batch, batch.maps, self.size)
        count = int(step.max()) + 1
        groups = step + count * np.arange(len(batch))[:, None, None]
        maps = batch.maps.astype(np.float64)
        sums = np.bincount(groups.ravel(), maps.ravel()).reshape(len(batch), count)
        start = batch.class_scores(batch.images, remember=True)
        squares = np.zeros(sums.shape)
        generators = list(batch.generators())
        shape = batch.images.shape[1:]
        for _ in range(self.samples):
            if self.random:
                drawn = [generator.uniform(size=shape) for generator in generators]
                fill = np.stack(drawn).astype(np.float32)
            else:
                fill = baselines(batch, self.baseline)
            for index in range(count):
                changed = np.where((step == index)[:, None], fill, batch.images)
                after = batch.class_scores(changed, remember=alone)
                squares[:, index] += (after - start) ** 2
        # Otherwise pixels that the model ignores would be ranked by its rounding.
        change = np.sqrt(squares / self.samples)
        change[change <= ROUNDING * np.abs(start)[:, None]] = 0
        undefined = (np.ptp(change, axis=1) == 0) | (np.ptp(sums, axis=1) == 0)
        return Scores(spearman(sums, change)).leave_out(
            undefined, "all groups have the same sum or change"
        )


class SensitivityN:
    """Correlation of summed relevance with the drop of the score, for subsets of all sizes.

    Ancona et al., 2018, "Towards Better Understanding of Gradient-based Attribution Methods for
    Deep Neural Networks", section on Sensitivity-n: for each n, the Pearson correlation over
    ``nr_samples`` random subsets of n pixels of the sum of the map with g(x) - g(x with the subset
    at the baseline). n goes from ``features_in_step`` to ``n_max_percentage`` (a share) of the
    pixels, ``features_in_step`` at a time. The value is the mean over those n that have a
    correlation, the curve is all of them, NaN where all subsets have the same sum or drop. In
    [-1, 1], higher is better. The score is no probability: of a random half of the pixels left,
    that is 0 whichever half it is, and more often so for the surer losses.

    Quantus' is another quantity: it removes pixels in the order of the map, sums the relevance of
    the last step alone, correlates over the *images* of a batch, so that no image has a value, and
    forgets all batches but the first. ``nr_samples`` is CLarity's own argument.
    """

    category = "faithfulness"
    direction = "higher"
    forward = "1 + nr_samples * floor(floor(n_max_percentage * pixels) / features_in_step)"
    moderate: ClassVar = {
        "features_in_step": "=ceil(pixels / 32)",
        "n_max_percentage": 0.13,
        "nr_samples": 10,
    }
    nulls: ClassVar = {"random": 0.0}
    paper = "Ancona et al., 2018"

    def __init__(
        self,
        n_max_percentage: float = 0.8,
        features_in_step: int = 1,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        nr_samples: int = 100,
    ) -> None:
        """Draw ``nr_samples`` subsets of each size."""
        self.most = n_max_percentage
        self.step = features_in_step
        self.baseline = perturb_baseline
        self.samples = nr_samples

    def __call__(self, batch: Batch) -> Scores:
        """Remove the subsets of every image, all images at once."""
        pixels = batch.maps[0].size
        sizes = range(self.step, int(self.most * pixels) + 1, self.step)
        if not sizes or sizes[-1] > pixels:
            raise ValueError(
                f"SensitivityN: found no size from features_in_step {self.step} to "
                f"n_max_percentage {self.most} of the {pixels} pixels of an image"
            )
        generators = list(batch.generators())
        subsets = (_subsets(batch, generators, size) for size in sizes for _ in range(self.samples))
        sums, drops, start = _removals(batch, subsets, self.baseline, remember=True)
        curve = np.full((len(batch), len(sizes)), np.nan)
        for index in range(len(sizes)):
            drawn = slice(index * self.samples, (index + 1) * self.samples)
            found, undefined = _correlation(sums[:, drawn], drops[:, drawn], start)
            curve[:, index] = np.where(undefined, np.nan, found)
        known = np.isfinite(curve).sum(axis=1)
        values = np.nansum(curve, axis=1) / np.maximum(known, 1)
        return Scores(
            values, Curves("pixels removed", list(map(float, sizes)), list(curve))
        ).leave_out(known == 0, "for each size, all subsets have the same sum or drop")


class Sufficiency:
    """Share of the images with a similar map that the model gives the same class.

    Dasgupta et al., 2022, "Framework for Evaluating Faithfulness of Local Explanations", the
    estimate of sufficiency, with Quantus' notion of similar: the distance of the absolute maps,
    divided by the largest distance of any two, is at most ``threshold``. In [0, 1], higher is
    better. The default distance divides each pixel by its standard deviation over the images;
    others are those that `scipy.spatial.distance.cdist` knows by name. Maps of many pixels are all
    about as far from each other, so that few have a similar one.

    The set is all images of the evaluation set whose maps can be judged. It is Quantus', called
    with all images in one batch, but for two points: an image without a similar one has no value,
    where Quantus says 0, and pixels that are the same in all maps do not count, where Quantus'
    distances become NaN and all values 0. Quantus compares within a batch, and fails with every
    distance but the default one.
    """

    category = "faithfulness"
    direction = "higher"
    sign = "absolute"
    softmax = True
    whole_set = True
    forward = "1"
    paper = "Dasgupta et al., 2022"

    def __init__(self, threshold: float = 0.6, distance_func: str = "seuclidean") -> None:
        """Call maps similar up to ``threshold`` of the largest distance."""
        self.threshold = threshold
        self.distance = distance_func

    def __call__(self, batch: Batch) -> Scores:
        """Compare every two images."""
        from scipy.spatial.distance import cdist

        maps = batch.maps.reshape(len(batch), -1).astype(np.float64)
        kind = self.distance
        if kind == "seuclidean":
            spread = maps.std(axis=0)
            # Pixels that differ by rounding alone would count as much as any other.
            alive = spread > ROUNDING * np.abs(maps).max()
            maps, kind = maps[:, alive] / spread[alive], "euclidean"
        distances = cdist(maps, maps, kind)
        largest = distances.max()
        similar = distances <= self.threshold * largest
        np.fill_diagonal(similar, False)
        found = batch.scores(batch.images, remember=True).argmax(axis=1)
        same = similar & (found[:, None] == found)
        count = similar.sum(axis=1)
        return Scores(same.sum(axis=1) / np.maximum(count, 1)).leave_out(
            count == 0, "no other image has a similar map"
        )


def _subsets(batch: Batch, generators: list[np.random.RandomState], size: int) -> np.ndarray:
    """Draw ``size`` pixels of each image: bool [N, H, W]."""
    chosen = np.zeros((len(batch), batch.maps[0].size), dtype=bool)
    for row, generator in enumerate(generators):
        chosen[row, generator.choice(chosen.shape[1], size, replace=False)] = True
    return chosen.reshape(batch.maps.shape)


def _squares(batch: Batch, generators: list[np.random.RandomState], side: int) -> np.ndarray:
    """Draw a square of each image: bool [N, H, W]."""
    chosen = np.zeros(batch.maps.shape, dtype=bool)
    height, width = batch.maps.shape[1:]
    for row, generator in enumerate(generators):
        top = generator.randint(height - side + 1)
        left = generator.randint(width - side + 1)
        chosen[row, top : top + side, left : left + side] = True
    return chosen


def _steps(batch: Batch, maps: np.ndarray, size: int) -> np.ndarray:
    """Return at which step, from 0, each pixel is taken, the lowest first: int64 [N, H, W]."""
    return pixel_order(maps, batch.seeds).astype(np.int64) // size


def _raster(batch: Batch) -> np.ndarray:
    """Return steps of one pixel each that do not depend on the maps: int64 [N, H, W]."""
    pixels = np.arange(batch.maps[0].size).reshape(1, *batch.maps.shape[1:])
    return pixels.repeat(len(batch), axis=0)


def _removals(
    batch: Batch,
    removed: Iterable[np.ndarray],
    baseline: str,
    *,
    remember: bool,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remove pixels from every image, each time from the untouched one.

    Args:
        batch: the images.
        removed: what is removed each time, bool [N, H, W].
        baseline: what stands for removed pixels, in all channels.
        remember: whether ``removed`` does not depend on the maps, so that methods share the scores.
        weights: what is summed over the removed pixels, [N, H, W]; the maps if None.

    Returns:
        The sums [N, T], the drops of the class's score [N, T] and the score of the untouched
        images [N], all float64.
    """
    weights = batch.maps.astype(np.float64) if weights is None else weights
    fill = baselines(batch, baseline)
    start = batch.class_scores(batch.images, remember=True)
    sums, drops = [], []
    for mask in removed:
        changed = np.where(mask[:, None], fill, batch.images)
        # Summed in one order whatever the subset, so that equal sums are equal.
        sums.append((weights * mask).sum(axis=(1, 2)))
        drops.append(start - batch.class_scores(changed, remember=remember))
    return np.stack(sums, axis=1), np.stack(drops, axis=1), start


def _correlation(
    sums: np.ndarray, drops: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of sums and drops [N, T], and where there is none: both [N]."""
    # Otherwise a model that ignores the pixels would be judged by its rounding.
    unmoved = np.ptp(drops, axis=1) <= ROUNDING * np.abs(start)
    return pearson(sums, drops), unmoved | (np.ptp(sums, axis=1) == 0)
