"""Flipping: owns the metrics of faithfulness that remove pixels or regions in order.

The score is followed while pixels go, and the curve is kept beside the value. What stands for
removed pixels may depend on all that are gone (noisy linear imputation), so that these metrics do
not call Quantus; they are tested to equal it, one image a call, where it is right.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import numpy as np

from clarity.metrics.batch import ROUNDING, Batch, Curves, Scores
from clarity.metrics.imputation import Imputer, linear, pixel_order

#: Regions a side up to which all sets of regions can be tried: 512 of 9.
EXACT = 3


class PixelFlipping:
    """Area under the probability of the class as pixels are removed, the most relevant first.

    Bach et al., 2015, "On Pixel-wise Explanations", section "Pixel-flipping". With t the share of
    pixels removed and p the softmax of the calibrated scores, the integral of p(t) / p(0) over t in
    [0, 1] by trapezoids, the untouched image as the first point. Lower is better. The curve is
    p(t) / p(0).

    Quantus' curve is p(t) without the untouched image; on colour images it removes channel values
    one by one instead of pixels, and refuses steps that do not divide the number of pixels. The
    softmax is over calibrated scores, since the scale of the logits would decide.
    """

    category = "faithfulness"
    direction = "lower"
    softmax = True
    forward = "1 + ceil(pixels / features_in_step)"
    moderate: ClassVar = {"features_in_step": "=ceil(pixels / 32)"}
    paper = "Bach et al., 2015"

    def __init__(
        self,
        features_in_step: int = 1,
        perturb_baseline: Literal[
            "black", "white", "mean", "uniform", "blur", "noisy-linear"
        ] = "black",
        return_auc_per_sample: bool = True,
    ) -> None:
        """Remove ``features_in_step`` pixels at a time, putting the baseline in their place.

        The last step may be a shorter one. ``return_auc_per_sample`` changes nothing: the area is
        the value, and the curve is kept beside it.
        """
        self.step = _at_least_one("features_in_step", features_in_step)
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Flip the pixels of every image, all images at once."""
        pixels = batch.maps[0].size
        gone = [*range(0, pixels, self.step), pixels]
        removed = np.array(gone) / pixels
        curve = _follow(batch, self.baseline, gone, _by_pixel)
        start = curve[:, :1]
        curve = np.divide(curve, start, out=np.full_like(curve, np.nan), where=start > 0)
        scores = Scores(np.trapezoid(curve, removed, axis=1))
        return _with_curves(scores, "share of pixels removed", removed.tolist(), curve).leave_out(
            start[:, 0] <= 0, "the score of the untouched image is not positive"
        )


class Selectivity:
    """Area under the probability of the class as patches are removed, the most relevant first.

    Montavon et al., 2018, "Methods for interpreting and understanding deep neural networks",
    section on explanation selectivity: patches of ``patch_size`` pixels a side go in the order of
    the sum of the map in each. With t the share of patches removed, the integral of the class's
    probability p(t) over t in [0, 1] by trapezoids, the untouched image as the first point. In
    [0, 1], lower is better. Not divided by p(0), as published: its level follows how sure the model
    is, so that models are better compared by `NormalisedAopc`.

    Quantus returns the curve without the untouched image, and no area.
    """

    category = "faithfulness"
    direction = "lower"
    softmax = True
    forward = "1 + ceil(side / patch_size) ** 2"
    moderate: ClassVar = {"patch_size": "=ceil(side / 4)"}
    paper = "Montavon et al., 2018"

    def __init__(
        self,
        patch_size: int = 8,
        perturb_baseline: Literal[
            "black", "white", "mean", "uniform", "blur", "noisy-linear"
        ] = "black",
    ) -> None:
        """Remove patches of ``patch_size`` pixels a side; those at the edge may be smaller."""
        self.patch = _at_least_one("patch_size", patch_size)
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Remove the patches of every image, all images at once."""
        regions = _patches(batch.maps[0], self.patch)
        count = int(regions.max()) + 1
        curve = _follow(
            batch,
            self.baseline,
            range(count + 1),
            lambda images: _by_region(images, regions)[:, regions],
        )
        removed = np.linspace(0, 1, count + 1)
        scores = Scores(np.trapezoid(curve, removed, axis=1))
        return _with_curves(scores, "share of patches removed", removed.tolist(), curve)


class RegionPerturbation:
    """Mean drop of the probability of the class as regions are removed in the order of the map.

    Samek et al., 2017, "Evaluating the visualization of what a deep neural network has learned",
    equation 12, for one image: with p_k the class's probability after k regions,
    AOPC = (sum over k = 0 .. L of p_0 - p_k) / (L + 1), with L the regions that are removed.
    Regions are ordered by the sum of the map in each. Higher is better for the most relevant first
    ("morf"), lower for the least relevant first ("lerf"); "random" is a control that no map
    changes. In [-1, 1]. The curve is p_0 - p_k.

    Quantus returns the curve from k = 1 on, and calls a lower one better whatever the order.
    """

    category = "faithfulness"
    direction = "higher"
    directions = ("order", {"morf": "higher", "lerf": "lower", "random": "none"})
    softmax = True
    forward = "1 + min(regions_evaluation, ceil(side / patch_size) ** 2)"
    moderate: ClassVar = {"patch_size": "=ceil(side / 4)", "regions_evaluation": 32}
    paper = "Samek et al., 2017"

    def __init__(
        self,
        patch_size: int = 8,
        order: Literal["morf", "lerf", "random"] = "morf",
        regions_evaluation: int = 100,
        perturb_baseline: Literal[
            "black", "white", "mean", "uniform", "blur", "noisy-linear"
        ] = "black",
    ) -> None:
        """Remove up to ``regions_evaluation`` regions of ``patch_size`` pixels a side.

        Raises:
            ValueError: if there is no such order.
        """
        if order not in ("morf", "lerf", "random"):
            raise ValueError(f"order: found '{order}', wanted morf, lerf or random")
        self.patch = _at_least_one("patch_size", patch_size)
        self.regions = _at_least_one("regions_evaluation", regions_evaluation)
        self.order = order
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Remove the regions of every image, all images at once."""
        regions = _patches(batch.maps[0], self.patch)
        count = int(regions.max()) + 1
        gone = range(min(self.regions, count) + 1)

        def ranks(part: Batch) -> np.ndarray:
            if self.order == "random":
                # As Quantus draws it; the first of a permutation goes first.
                orders = np.stack([g.permutation(count) for g in part.generators()])
                return np.asarray(count - 1 - orders.argsort(axis=1))[:, regions]
            found = _by_region(part, regions)
            return (found if self.order == "morf" else count - 1 - found)[:, regions]

        curve = _follow(
            batch, self.baseline, gone, ranks, remember=self.order == "random", of=count
        )
        drop = curve[:, :1] - curve
        return _with_curves(Scores(drop.mean(axis=1)), "regions removed", list(gone), drop)


class IROF:
    """Area over the relative probability of the class as segments of the image are removed.

    Rieger and Hansen, 2020, "IROF: a low resource evaluation metric for explanation methods": the
    image is cut into superpixels, which go in the order of the mean of the map in each, the highest
    first. With q_k = p_k / p_0 after k of n segments, the value is Quantus': n minus the integral
    of q_1 .. q_n by trapezoids of width 1; from 1 (nothing changes) to about n (the first segment
    takes all). Higher is better. It is counted in segments, whose number depends on the image
    alone, never on model or map. The curve is q_0 = 1, q_1 .. q_n, spread evenly over [0, 1].

    Quantus refuses colour images; in a batch, it adds half of the last q of every image with fewer
    segments than the most (the padding is integrated too) and takes the mean of all images for
    "mean", drifting from step to step, where the mean here is that of the untouched image.
    """

    category = "faithfulness"
    direction = "higher"
    softmax = True
    forward = "1 + min(nr_segments, pixels)"
    moderate: ClassVar = {"nr_segments": 36}
    paper = "Rieger and Hansen, 2020"

    def __init__(
        self,
        segmentation_method: Literal["slic", "felzenszwalb"] = "slic",
        perturb_baseline: Literal[
            "black", "white", "mean", "uniform", "blur", "noisy-linear"
        ] = "mean",
        nr_segments: int = 100,
    ) -> None:
        """Cut images by SLIC or Felzenszwalb's method.

        Args:
            segmentation_method: which.
            perturb_baseline: what stands for removed segments.
            nr_segments: about how many segments SLIC finds; 100 is Quantus'. Felzenszwalb's method
                finds as many as there are.

        Raises:
            ValueError: if there is no such method.
        """
        if segmentation_method not in ("slic", "felzenszwalb"):
            raise ValueError(
                f"segmentation_method: found '{segmentation_method}', wanted slic or felzenszwalb"
            )
        self.method = segmentation_method
        self.count = _at_least_one("nr_segments", nr_segments)
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Remove the segments of every image, all images at once."""
        curves = self._curves(batch)
        values = np.array([len(q) - 1 - np.trapezoid(q[1:]) for q in curves])
        broken = np.array([not np.isfinite(q).all() for q in curves])
        single = np.array([len(q) <= 2 for q in curves])
        kept = [np.zeros(0) if out else q for q, out in zip(curves, broken | single, strict=True)]
        return (
            Scores(values, Curves("share of segments removed", (), kept))
            .leave_out(single, "the image is a single segment")
            .leave_out(broken, "the score of the untouched image is not positive")
        )

    def _curves(self, batch: Batch) -> list[np.ndarray]:
        """Return the relative probability after each segment, from 1 on: one array an image."""
        start = batch.class_scores(batch.images, remember=True)
        ranks = np.zeros(batch.maps.shape)
        counts = np.zeros(len(batch), dtype=int)
        for row, (image, map_) in enumerate(zip(batch.images, batch.maps, strict=True)):
            segments = self._segments(image)
            size = np.bincount(segments.ravel())
            means = np.bincount(segments.ravel(), weights=map_.ravel()) / size
            counts[row] = len(means)
            ranks[row] = pixel_order(means[None, None], batch.seeds[row : row + 1])[0, 0][segments]
        imputer = Imputer(batch, self.baseline)
        found = np.full((len(batch), int(counts.max()) + 1), np.nan)
        found[:, 0] = start
        for step in range(1, found.shape[1]):
            rows = np.flatnonzero(counts >= step)
            gone = ranks[rows] >= (counts[rows] - step)[:, None, None]
            scores = batch.scores(imputer(gone, rows))
            found[rows, step] = scores[np.arange(len(rows)), batch.classes[rows]]
        relative = np.divide(
            found, start[:, None], out=np.full_like(found, np.nan), where=start[:, None] > 0
        )
        return [curve[: count + 1] for curve, count in zip(relative, counts, strict=True)]

    def _segments(self, image: np.ndarray) -> np.ndarray:
        """Cut an image [C, H, W] into segments 0 .. n - 1: int [H, W]."""
        # Here, since it loads much of scipy, and pixels are flipped without it.
        from skimage.segmentation import felzenszwalb, slic

        last = np.moveaxis(image, 0, -1).astype(np.float64)
        if self.method == "slic":
            found = slic(last, n_segments=self.count, start_label=0)
        else:
            found = felzenszwalb(last)
        return np.unique(found, return_inverse=True)[1].reshape(found.shape)


class ROAD:
    """How often the class stays the prediction as pixels are removed and imputed without a trace.

    Rong et al., 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods": at
    each percentage the most relevant pixels are replaced by noisy linear imputation, from which the
    shape of the removed region is hard to read, and it is noted whether the explained class still
    has the highest score. The value is the mean of these 0s and 1s over the percentages, in [0, 1],
    so that its mean over images is the mean of Quantus' accuracy curve. Lower is better. An image
    that the model gets wrong has a low value whatever the map. The curve is the 0s and 1s.

    Quantus fails on colour images, and returns the accuracy of the first batch alone. Called for
    one image with the image's seed it makes the very same images.
    """

    category = "faithfulness"
    direction = "lower"
    softmax = True
    forward = "50 if percentages is None else len(percentages)"
    moderate: ClassVar = {"percentages": [10, 20, 30, 40, 50, 60, 70, 80, 90]}
    paper = "Rong et al., 2022"

    def __init__(self, percentages: list[float] | None = None, noise: float = 0.01) -> None:
        """Remove each of ``percentages`` (1, 3 .. 99 if not given) of the pixels, from the image.

        Args:
            percentages: of all pixels.
            noise: standard deviation of what is added to imputed pixels.

        Raises:
            ValueError: if there is no percentage, or one is not in [0, 100].
        """
        chosen = list(range(1, 100, 2)) if percentages is None else list(percentages)
        if not chosen or not all(0 <= share <= 100 for share in chosen):
            raise ValueError(f"percentages: found {chosen}, wanted numbers from 0 to 100")
        self.percentages = chosen
        self.noise = noise

    def __call__(self, batch: Batch) -> Scores:
        """Remove the pixels of every image, all images at once."""
        stays = self._stays(batch)
        shares = [share / 100 for share in self.percentages]
        return _with_curves(Scores(stays.mean(axis=1)), "share of pixels removed", shares, stays)

    def _stays(self, batch: Batch) -> np.ndarray:
        """Return whether the class is predicted, 0 or 1, at each percentage: [N, percentages]."""
        count, channels = batch.images.shape[:2]
        pixels = batch.maps[0].size
        ranks = pixel_order(batch.maps, batch.seeds)
        order = np.argsort(-ranks.reshape(count, -1), axis=1)
        generators = list(batch.generators())
        found = []
        for percentage in self.percentages:
            gone = int(pixels * percentage / 100)
            noise = np.zeros((count, channels, pixels))
            for row, generator in enumerate(generators):
                # Drawn anew at each percentage, in the order of removal, as Quantus does.
                noise[row][:, order[row, :gone]] = self.noise * generator.randn(channels, gone)
            images = linear(batch.images, ranks >= pixels - gone, noise.reshape(batch.images.shape))
            found.append(batch.scores(images).argmax(axis=1) == batch.classes)
        return np.stack(found, axis=1).astype(np.float64)


class NormalisedAopc:
    """How far a map orders regions by what the model needs, between the best and worst order.

    After Edin et al., 2025, "Normalized AOPC: Fixing Misleading Faithfulness Metrics for Feature
    Attribution Explainability". The image is cut into grid x grid regions, R in all. An order o
    of the regions has AOPC(o) = (sum over k = 1 .. R of f(x) - f(x without the first k)) / R. What
    AOPC an order can reach differs from model to model and image to image, so that raw values say
    nothing across models. Edin et al. take (AOPC - L) / (U - L), with L and U the least and
    greatest AOPC of any order of that image under that model, found by beam search. Here, the value
    is the normalised AOPC of the most relevant first (comprehensiveness) minus that of the least
    relevant first (sufficiency), the reverse order:

        (AOPC(most first) - AOPC(least first)) / (U - L).

    Higher is better. 1 is the best order that was found, if its reverse is the worst, and -1 the
    reverse. An order at random has 0 on average, exactly: it is as likely as its reverse. Scores
    a f + b with a > 0 give the same value. U and L belong to the image and the model, never to the
    map, and are found by a search for the order that lowers the score the most and for the one
    that lowers it the least:

    - "greedy": at each step the region that lowers the score the most (the least), given those
      that are gone: beam search with a beam of one, for R**2 images. A bound from within: a map may
      beat it, so that values beyond [-1, 1] may be. On 3 x 3 regions of two small untrained
      networks it found 90 and 98 % of the exact U - L on average over 12 images, 72 % at least; an
      order by the drop without each region alone found 54 and 72 %, 21 % at least, and so is not
      offered: how much it misses differs between models.
    - "exact": all sets of regions, for 2**R images, of grids up to 3 x 3; within [-1, 1].

    Images that the search asks for depend on no map and are remembered for other methods. Regions
    are ordered by the sum of the map in each. The curve is what each step adds to the value, the
    difference of both drops over U - L; the value is its mean over the steps from the first on.
    """

    category = "faithfulness"
    direction = "higher"
    softmax = True
    forward = "(2**grid**2 if search == 'exact' else grid**4) + 2 * (grid**2 - 1)"
    moderate: ClassVar = {"grid": 3}
    nulls: ClassVar = {"random": 0.0}
    paper = "after Edin et al., 2025"

    def __init__(
        self,
        grid: int = 4,
        search: Literal["greedy", "exact"] = "greedy",
        perturb_baseline: Literal[
            "black", "white", "mean", "uniform", "blur", "noisy-linear"
        ] = "black",
    ) -> None:
        """Order grid x grid regions, and search the limits in one of two ways.

        Raises:
            ValueError: if there are not two regions a side, or too many for an exact search, or
                there is no such search.
        """
        if grid < 2:
            raise ValueError(f"grid: found {grid}, wanted at least 2 regions a side")
        if search not in ("greedy", "exact"):
            raise ValueError(f"search: found '{search}', wanted greedy or exact")
        if search == "exact" and grid > EXACT:
            raise ValueError(f"grid: found {grid}, wanted at most {EXACT} for an exact search")
        self.grid = grid
        self.search = search
        self.baseline = perturb_baseline

    def __call__(self, batch: Batch) -> Scores:
        """Order the regions of every image, all images at once.

        Raises:
            ValueError: if an image has fewer pixels a side than there are regions.
        """
        height, width = batch.maps.shape[1:]
        if min(height, width) < self.grid:
            raise ValueError(f"grid: found {self.grid}, wanted at most {min(height, width)}")
        rows, columns = (np.arange(side) * self.grid // side for side in (height, width))
        regions = rows[:, None] * self.grid + columns
        gain, spread, size = self._score(batch, regions)
        nothing = spread <= ROUNDING * size
        curve = gain / np.where(nothing, np.nan, spread)[:, None]
        shares = np.linspace(0, 1, gain.shape[1]).tolist()
        scores = Scores(curve[:, 1:].mean(axis=1))
        return _with_curves(scores, "share of regions removed", shares, curve).leave_out(
            nothing, "no order of removal lowers the score more than another"
        )

    def _score(self, batch: Batch, regions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return f(least first) - f(most first) [N, R + 1], U - L [N], and the largest |f| [N]."""
        imputer = Imputer(batch, self.baseline)
        count = int(regions.max()) + 1
        ends = [
            batch.class_scores(imputer(np.full(batch.maps.shape, gone)), remember=True)
            for gone in (False, True)
        ]

        def score(gone: np.ndarray, *, remember: bool) -> np.ndarray:
            """Score the images without the regions in ``gone``, bool [N, R]: [N]."""
            return batch.class_scores(imputer(gone[:, regions]), remember=remember)

        found = _by_region(batch, regions)
        curves = [
            np.stack(
                [
                    ends[0],
                    *(score(ranks >= count - k, remember=False) for k in range(1, count)),
                    ends[1],
                ],
                axis=1,
            )
            for ranks in (found, count - 1 - found)
        ]
        limits = (_exact if self.search == "exact" else _greedy)(score, len(batch), count)
        size = np.abs(np.concatenate(curves, axis=1)).max(axis=1)
        return curves[1] - curves[0], (limits[1] - limits[0]) / count, size


def _greedy(
    score: Callable[..., np.ndarray], images: int, regions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the region that leaves the least, and apart the most, of the score at each step.

    Args:
        score: scores all images without regions, bool [N, R]: [N].
        images: N.
        regions: R.

    Returns:
        The least and the greatest sum of the scores after 1 .. R - 1 regions: [N] each.
    """
    rows = np.arange(images)

    def without(gone: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        found = gone.copy()
        found[rows, chosen] = True
        return found

    def tried(gone: np.ndarray, remaining: np.ndarray) -> np.ndarray:
        """Score without one region more, each of [N, left]: [N, left]."""
        return np.stack(
            [score(without(gone, region), remember=True) for region in remaining.T], axis=1
        )

    nothing = np.zeros((images, regions), dtype=bool)
    every = np.tile(np.arange(regions), (images, 1))
    first = tried(nothing, every)
    sums = []
    for choose in (np.argmin, np.argmax):
        gone, remaining, scores = nothing, every, first
        total = np.zeros(images)
        for left in range(regions - 1, 0, -1):
            best = choose(scores, axis=1)
            total += scores[rows, best]
            gone = without(gone, remaining[rows, best])
            if left > 1:
                remaining = np.argsort(gone, axis=1, kind="stable")[:, :left]
                scores = tried(gone, remaining)
        sums.append(total)
    return np.minimum(*sums), np.maximum(*sums)


def _exact(
    score: Callable[..., np.ndarray], images: int, regions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the least and the greatest sum over all orders, as `_greedy` does over some."""
    sets = 2**regions
    members = (np.arange(sets)[:, None] >> np.arange(regions) & 1).astype(bool)
    least, most = np.zeros((2, images, sets))
    for number in range(1, sets):
        # A set is reached from those with one region less, whose numbers are lower.
        before = number - 2 ** np.flatnonzero(members[number])
        least[:, number] = least[:, before].min(axis=1)
        most[:, number] = most[:, before].max(axis=1)
        if number < sets - 1:
            found = score(np.tile(members[number], (images, 1)), remember=True)
            least[:, number] += found
            most[:, number] += found
    return least[:, -1], most[:, -1]


def _at_least_one(name: str, value: int) -> int:
    """Return a number of pixels or regions, which must be positive."""
    if value < 1:
        raise ValueError(f"{name}: found {value}, wanted at least 1")
    return value


def _by_pixel(batch: Batch) -> np.ndarray:
    """Return the rank of each pixel, the most relevant the highest: [N, H, W]."""
    return pixel_order(batch.maps, batch.seeds)


def _patches(map_: np.ndarray, size: int) -> np.ndarray:
    """Cut a map [H, W] into patches of ``size`` pixels a side, numbered from 0: int [H, W].

    What does not divide is shared between both edges, as in Quantus.
    """
    rows, columns = ((np.arange(side) + ((-side % size) // 2)) // size for side in map_.shape)
    return np.asarray(rows[:, None] * (columns[-1] + 1) + columns)


def _by_region(batch: Batch, regions: np.ndarray) -> np.ndarray:
    """Return the rank of each region by the sum of the map, the highest the highest: [N, R]."""
    flat = batch.maps.reshape(len(batch), -1).astype(np.float64)
    sums = np.stack([np.bincount(regions.ravel(), weights=map_) for map_ in flat])
    return pixel_order(sums[:, None], batch.seeds)[:, 0]


def _follow(
    batch: Batch,
    baseline: str,
    gone: Iterable[int],
    ranks: Callable[[Batch], np.ndarray],
    *,
    remember: bool = False,
    of: int | None = None,
) -> np.ndarray:
    """Follow the score of the class while what has the highest ranks is removed.

    Args:
        batch: the images.
        baseline: what stands for removed pixels.
        gone: how many ranks are removed at each point; the first is 0.
        ranks: gives each pixel's rank, from 0 on: [N, H, W].
        remember: whether the images do not depend on the maps.
        of: how many ranks there are, if ``gone`` does not end there.

    Returns:
        float64 [N, points].
    """
    steps = list(gone)
    total = steps[-1] if of is None else of
    ranked, imputer = ranks(batch), Imputer(batch, baseline)
    points = [batch.class_scores(batch.images, remember=True)]
    points += [
        batch.class_scores(imputer(ranked >= total - step), remember=remember) for step in steps[1:]
    ]
    return np.stack(points, axis=1)


def _with_curves(scores: Scores, axis: str, at: list[Any], curves: np.ndarray) -> Scores:
    """Add the curves [N, points], none where an image has no value."""
    finite = np.isfinite(scores.values)
    kept = [curve if has else np.zeros(0) for curve, has in zip(curves, finite, strict=True)]
    scores.curves = Curves(axis, at, kept)
    return scores
