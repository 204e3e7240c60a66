"""Robustness: owns Quantus' metrics of how maps change when the image hardly does.

All draw their noise from the image's seed, sample after sample, so that metrics whose noise has the
same bounds ask for the same maps, which are made once (`clarity.metrics.memory`). Those are the two
sensitivities and the three relative stabilities; the Lipschitz estimate draws Gaussian noise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Literal

import numpy as np

from clarity.metrics.batch import Batch, Curves, Scores
from clarity.metrics.imputation import baselines

CHANGED = "the noise changes the prediction"


class _Sensitivity:
    """What the two sensitivities share: the relative change of a map under each noise."""

    category = "robustness"
    direction = "lower"
    scale = "none"
    forward = "(1 + nr_samples) * return_nan_when_prediction_changes"
    explained = "nr_samples"
    moderate: ClassVar = {"nr_samples": 4, "lower_bound": 0.02}

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
        self.bounds = _bounds(lower_bound, upper_bound)
        self.same_prediction_only = return_nan_when_prediction_changes

    def _changes(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return |A(x + e) - A(x)| / |A(x)| of each noise [S, N]; who keeps the prediction [N]."""
        size = _norm(batch.maps)
        changes, same = _under_noise(
            batch,
            uniformly_noisy(batch, self.samples, self.bounds),
            lambda noisy, maps: _norm(maps - batch.maps) / size,
            self.same_prediction_only,
        )
        return changes, _always(same)


class MaxSensitivity(_Sensitivity):
    """Largest relative change of a map under small uniform noise on the image.

    Yeh et al., 2019, "On the (In)fidelity and Sensitivity of Explanations", definition 2:
    max over noise of |A(x + e) - A(x)| / |A(x)|. Lower is better. The noise is in units of the
    images, which reach from 0 to 1. Noisy images are not clipped: that would halve the noise on
    black and white pixels, and so on some datasets only.

    It is Quantus', one image a call with the same seed, for all images at once.
    """

    paper = "Yeh et al., 2019"

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again under each noise."""
        changes, same = self._changes(batch)
        return Scores(changes.max(axis=0)).leave_out(~same, CHANGED)


class AvgSensitivity(_Sensitivity):
    """Mean relative change of a map under small uniform noise on the image.

    The average sensitivity of Bhatt et al., 2020, "Evaluating and Aggregating Feature-based Model
    Explanations", with the distance of Yeh et al., 2019: the mean over noise of
    |A(x + e) - A(x)| / |A(x)|. Lower is better. Unlike the maximum, it does not grow with the
    number of samples. The noise is that of `MaxSensitivity`.

    It is Quantus', one image a call with the same seed, for all images at once.
    """

    paper = "Bhatt et al., 2020"

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again under each noise."""
        changes, same = self._changes(batch)
        return Scores(changes.mean(axis=0)).leave_out(~same, CHANGED)


class LocalLipschitzEstimate:
    """Largest change of a map relative to the change of the image, under Gaussian noise.

    Alvarez-Melis and Jaakkola, 2018, "On the Robustness of Interpretability Methods", the local
    Lipschitz estimate: max over noise of |A(x + e) - A(x)|_2 / |e|_2, each map divided by its own
    largest absolute value. Lower is better. They search a box around the image for the maximum;
    Quantus, and so this, draws from a normal distribution, and therefore other noise than the
    sensitivities.

    It is Quantus', one image a call with the same seed, for all images at once.
    """

    category = "robustness"
    direction = "lower"
    softmax = True
    forward = "(1 + nr_samples) * return_nan_when_prediction_changes"
    explained = "nr_samples"
    moderate: ClassVar = {"nr_samples": 4, "perturb_std": 0.02}
    paper = "Alvarez-Melis and Jaakkola, 2018"

    def __init__(
        self,
        nr_samples: int = 200,
        perturb_mean: float = 0.0,
        perturb_std: float = 0.1,
        return_nan_when_prediction_changes: bool = False,
    ) -> None:
        """Draw ``nr_samples`` noises of this mean and standard deviation, for images in [0, 1]."""
        self.samples = nr_samples
        self.mean, self.deviation = perturb_mean, perturb_std
        self.same_prediction_only = return_nan_when_prediction_changes

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again under each noise."""

        def draw(generator: np.random.RandomState, shape: tuple[int, ...]) -> np.ndarray:
            return generator.normal(self.mean, self.deviation, shape)

        def slope(noisy: np.ndarray, maps: np.ndarray) -> np.ndarray:
            # Quantus' constant, which only keeps it from dividing by zero.
            return np.asarray(_norm(maps - batch.maps) / (_norm(noisy - batch.images) + 1e-10))

        noisy = _noisy(batch, self.samples, draw)
        slopes, same = _under_noise(batch, noisy, slope, self.same_prediction_only)
        return Scores(slopes.max(axis=0)).leave_out(~_always(same), CHANGED)


class _RelativeStability(ABC):
    """What the three relative stabilities share: all but what the change is compared with.

    Attributes:
        entrywise: whether the change of what is compared with is relative in each entry.
    """

    category = "robustness"
    direction = "lower"
    scale = "none"
    explained = "nr_samples"
    moderate: ClassVar = {
        "nr_samples": 4,
        "lower_bound": 0.02,
        "upper_bound": None,
        "same_prediction_only": True,
    }
    paper = "Agarwal et al., 2022"
    entrywise = True

    def __init__(
        self,
        nr_samples: int = 200,
        eps_min: float = 1e-6,
        return_nan_when_prediction_changes: bool = True,
        lower_bound: float = 0.02,
        upper_bound: float | None = 0.2,
        same_prediction_only: bool = False,
    ) -> None:
        """Choose the noise, and what is done with noise that changes the prediction.

        Args:
            nr_samples: noises.
            eps_min: the least denominator, also of entries that are zero.
            return_nan_when_prediction_changes: give no value where any noise changes it.
            lower_bound: noise is drawn from [lower, upper], Quantus' fixed choice, or from
                [-lower, lower] if ``upper_bound`` is null.
            upper_bound: see ``lower_bound``.
            same_prediction_only: instead take the maximum over the noises that do not change it,
                as the paper does, and give no value only where none is left.

        Raises:
            ValueError: if the bounds leave no room.
        """
        self.samples = nr_samples
        self.least = eps_min
        self.bounds = _bounds(lower_bound, upper_bound)
        self.same_prediction_only = same_prediction_only
        self.checked = return_nan_when_prediction_changes or same_prediction_only

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again under each noise."""
        before = self._compared(batch, batch.images)

        def ratio(noisy: np.ndarray, maps: np.ndarray) -> np.ndarray:
            after = self._compared(batch, noisy)
            moved = self._relative(before, after) if self.entrywise else before - after
            least = np.maximum(_norm(moved), self.least)
            return np.asarray(_norm(self._relative(batch.maps, maps)) / least)

        noisy = uniformly_noisy(batch, self.samples, self.bounds)
        ratios, same = _under_noise(batch, noisy, ratio, self.checked)
        if self.same_prediction_only:
            largest = ratios.max(axis=0, where=same, initial=-np.inf)
            return Scores(largest).leave_out(_always(~same), "every noise changes the prediction")
        return Scores(ratios.max(axis=0)).leave_out(~_always(same), CHANGED)

    def _relative(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the change of each entry relative to what it was."""
        # In 64 bits: squares of changes relative to entries near zero overflow 32.
        start = before.astype(np.float64)
        return np.asarray((start - after) / np.where(start == 0, self.least, start))

    @abstractmethod
    def _compared(self, batch: Batch, images: np.ndarray) -> np.ndarray:
        """Return what the change of the map is compared with: [N, ...]."""


class RelativeInputStability(_RelativeStability):
    """Largest relative change of a map over that of the image, under uniform noise.

    Agarwal et al., 2022, "Rethinking Stability for Attribution-based Explanations", section 3:
    max over noisy x' of |(A(x) - A(x')) / A(x)|_2 / max(|(x - x') / x|_2, eps_min), entry by entry,
    over x' of the same prediction. Lower is better, in [0, inf). An entry that is zero counts as
    eps_min: a black pixel makes the image's change, and a map's zero the map's, of the order of
    1e5. Compare only images and methods that are alike in that, or read the output stability.

    With its defaults it is Quantus', one image a call with the same seed, for all images at once.
    Quantus draws its noise from [0.02, 0.2], which brightens every pixel, gives no value if any
    noise changes the prediction (its NaN), and puts eps_min only in place of denominators that
    are exactly zero; ``upper_bound`` and ``same_prediction_only`` are additions of CLarity.
    """

    forward = "(1 + nr_samples) * max(return_nan_when_prediction_changes, same_prediction_only)"

    def _compared(self, batch: Batch, images: np.ndarray) -> np.ndarray:
        return images


class RelativeOutputStability(_RelativeStability):
    """Largest relative change of a map over the change of the model's scores.

    Agarwal et al., 2022, "Rethinking Stability for Attribution-based Explanations", section 3:
    max over noisy x' of |(A(x) - A(x')) / A(x)|_2 / max(|h(x) - h(x')|_2, eps_min), h the scores of
    all classes. Lower is better, in [0, inf). It depends on the scale of the scores: between losses
    only calibrated scores compare. Arguments and differences from Quantus as for
    `RelativeInputStability`.
    """

    forward = (
        "(1 + nr_samples) * (1 + max(return_nan_when_prediction_changes, same_prediction_only))"
    )
    entrywise = False

    def _compared(self, batch: Batch, images: np.ndarray) -> np.ndarray:
        return batch.scores(images, remember=True)


class RelativeRepresentationStability(_RelativeStability):
    """Largest relative change of a map over that of the image's embedding.

    Agarwal et al., 2022, "Rethinking Stability for Attribution-based Explanations", section 3:
    max over noisy x' of |(A(x) - A(x')) / A(x)|_2 / max(|(L(x) - L(x')) / L(x)|_2, eps_min), L the
    representation. Lower is better, in [0, inf). Here it is the embedding, not normalised, which is
    what the losses shape; Quantus takes the outputs of all layers, unless told otherwise, so that
    the first and largest decide. Arguments and other differences from Quantus as for
    `RelativeInputStability`.
    """

    forward = (
        "(1 + nr_samples) * (1 + max(return_nan_when_prediction_changes, same_prediction_only))"
    )

    def _compared(self, batch: Batch, images: np.ndarray) -> np.ndarray:
        return batch.embed(images)


class Continuity:
    """Largest change of a map relative to the change of the image, as the image is shifted.

    Montavon et al., 2018, "Methods for Interpreting and Understanding Deep Neural Networks",
    section 7: max over x' != x of |A(x) - A(x')|_1 / |x - x'|_2, maps absolute and each divided by
    its largest value. Lower is better. x' are shifts of the image along its rows, from all the way
    out on the left to all the way out on the right. The curve is the ratio at each shift, the value
    its maximum; it grows with the number of pixels.

    Where Quantus works, it is Quantus' on images whose darkest value is 0. Quantus stops with an
    index error if ``nr_steps`` divides 2 W + 1, shifts by nothing if it is greater than that,
    ignores ``perturb_baseline``, takes the darkest value of the image for black, and fails on
    numpy 2 if asked to check the prediction.
    """

    category = "robustness"
    direction = "lower"
    sign = "absolute"
    forward = "(1 + min(nr_steps, 2 * side)) * return_nan_when_prediction_changes"
    explained = "min(nr_steps, 2 * side)"
    moderate: ClassVar = {"nr_steps": 8}
    paper = "Montavon et al., 2018"

    def __init__(
        self,
        nr_steps: int = 28,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        return_nan_when_prediction_changes: bool = False,
    ) -> None:
        """Take at most ``nr_steps`` shifts, putting the baseline where the image has left."""
        self.steps = nr_steps
        self.baseline = perturb_baseline
        self.same_prediction_only = return_nan_when_prediction_changes

    def __call__(self, batch: Batch) -> Scores:
        """Explain all images again after each shift."""
        fill = baselines(batch, self.baseline)
        shifts = _shifts(batch.images.shape[3], self.steps)

        def both(shifted: np.ndarray, maps: np.ndarray) -> np.ndarray:
            return np.stack([_distance(maps, batch.maps), _norm(shifted - batch.images)])

        copies = (_shifted(batch.images, fill, shift) for shift in shifts)
        changes, same = _under_noise(batch, copies, both, self.same_prediction_only)
        map_change, image_change = changes[:, 0], changes[:, 1]
        other = image_change > 0
        ratios = np.full(map_change.shape, np.nan)
        np.divide(map_change, image_change, out=ratios, where=other)
        curves = Curves("shift to the right in pixels", shifts, list(ratios.T))
        return (
            Scores(ratios.max(axis=0, where=other, initial=-np.inf), curves)
            .leave_out(_always(~other), "no shift changes the image")
            .leave_out(~_always(same), "a shift changes the prediction")
        )


class Consistency:
    """Probability that another image with the same explanation has the same prediction.

    Dasgupta et al., 2022, "Framework for Evaluating Faithfulness of Local Explanations",
    consistency: P(f(x') = f(x) | e(x') = e(x)) over x' in the set, here all other images of the
    evaluation set with a map that can be judged. In [0, 1]; higher is better, though Quantus says
    lower. Explanations that say nothing get the share of the image's class among predictions.

    Two maps of real numbers are never the same, so they are made discrete: ``top_cell`` is the cell
    of a grid with the highest mean relevance. Quantus takes the signs of the first five pixels, all
    1 once absolute values are taken, and compares within a batch of its own size; it gives 0 where
    no other image has the same explanation, where there is nothing to judge. With its function and
    the whole set in one batch, values are Quantus'.
    """

    category = "robustness"
    direction = "higher"
    sign = "absolute"
    softmax = True
    whole_set = True
    forward = "1"
    paper = "Dasgupta et al., 2022"

    def __init__(
        self,
        discretise_func: Literal[
            "top_cell", "sign", "top_n_sign", "floating_points", "rank"
        ] = "top_cell",
        cells: int = 4,
    ) -> None:
        """Choose what of a map counts as the explanation.

        Args:
            discretise_func: "top_cell", or Quantus' function of this name: of all values "sign",
                "floating_points" (two decimals) or "rank", or of the first five "top_n_sign".
            cells: of the grid along each side, for "top_cell".
        """
        self.discretise = discretise_func
        self.cells = cells

    def __call__(self, batch: Batch) -> Scores:
        """Compare every image with all others."""
        predictions = _prediction(batch, batch.images)
        explanations = np.unique(self._discrete(batch.maps), return_inverse=True)[1]
        shared = np.zeros((explanations.max() + 1, predictions.max() + 1))
        np.add.at(shared, (explanations, predictions), 1)
        others = shared[explanations].sum(axis=1) - 1
        values = (shared[explanations, predictions] - 1) / np.maximum(others, 1)
        return Scores(values).leave_out(others == 0, "no other image has this explanation")

    def _discrete(self, maps: np.ndarray) -> np.ndarray:
        """Return a number for the explanation that each map is: int64 [N]."""
        if self.discretise != "top_cell":
            # Here, since Quantus takes seconds, and nothing else of robustness needs it.
            from quantus.functions import discretise_func

            function: Callable[[np.ndarray], int] = getattr(discretise_func, self.discretise)
            return np.array([function(map_.ravel()) for map_ in maps])
        if self.cells > min(maps.shape[1:]):
            raise ValueError(
                f"Consistency.cells: found {self.cells}, wanted at most the {min(maps.shape[1:])} "
                f"pixels of a side"
            )
        sums, size = maps.astype(np.float64), np.ones(1)
        for axis in (1, 2):
            edges = np.linspace(0, maps.shape[axis], self.cells + 1).astype(int)
            sums = np.add.reduceat(sums, edges[:-1], axis=axis)
            size = np.multiply.outer(size, np.diff(edges))
        return np.asarray((sums / size).reshape(len(maps), -1).argmax(axis=1))


def _bounds(lower: float, upper: float | None) -> tuple[float, float]:
    """Return what uniform noise is drawn between, as Quantus reads its two arguments."""
    low, high = (-lower, lower) if upper is None else (lower, upper)
    if not low < high:
        raise ValueError(
            f"lower_bound, upper_bound: found noise from {low} to {high}, wanted the first below "
            f"the second"
        )
    return low, high


def _noisy(
    batch: Batch,
    samples: int,
    draw: Callable[[np.random.RandomState, tuple[int, ...]], np.ndarray],
) -> Iterator[np.ndarray]:
    """Yield all images with noise of their own: float32 [N, C, H, W], ``samples`` times."""
    generators = list(batch.generators())
    for _ in range(samples):
        noise = np.stack([draw(generator, batch.images.shape[1:]) for generator in generators])
        yield (batch.images + noise).astype(np.float32)


def uniformly_noisy(
    batch: Batch, samples: int, bounds: tuple[float, float]
) -> Iterator[np.ndarray]:
    """Yield all images with uniform noise: the same bytes to every metric with these bounds."""
    return _noisy(batch, samples, lambda generator, shape: generator.uniform(*bounds, shape))


def _under_noise(
    batch: Batch,
    changed: Iterable[np.ndarray],
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    check: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Explain changed copies of all images.

    Args:
        batch: the images.
        changed: copies of them, float32 [N, C, H, W] each.
        measure: of a copy and its maps, what is kept of them: [..., N].
        check: whether to look if predictions stay; otherwise all are said to.

    Returns:
        What was measured of each copy, float64 [S, ..., N], and whether the prediction stays as it
        is without a change, bool [S, N].
    """
    before = _prediction(batch, batch.images) if check else None
    measured, same = [], []
    for images in changed:
        measured.append(measure(images, batch.explain_all(images, batch.classes)))
        same.append(
            np.ones(len(batch), dtype=bool)
            if before is None
            else _prediction(batch, images) == before
        )
    return np.array(measured, dtype=np.float64), np.array(same)


def _prediction(batch: Batch, images: np.ndarray) -> np.ndarray:
    """Return the class of the highest score: int64 [N]."""
    return np.asarray(batch.scores(images, remember=True).argmax(axis=1))


def _always(said: np.ndarray) -> np.ndarray:
    """Whether something holds in all of [S, N]: bool [N]."""
    return np.asarray(said.all(axis=0))


def _norm(arrays: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm of each of [N, ...], flattened: float64 [N]."""
    return np.asarray(np.linalg.norm(arrays.reshape(len(arrays), -1).astype(np.float64), axis=1))


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the sum of absolute differences of each pair of maps [N, H, W]: float64 [N]."""
    return np.asarray(np.abs(first.astype(np.float64) - second).sum(axis=(1, 2)))


def _shifts(width: int, steps: int) -> list[int]:
    """Return Quantus' shifts in pixels, without those that are none or leave the image's side."""
    step = max(1, (2 * width + 1) // steps)
    shifts = np.minimum(step * np.arange(1, steps + 1) - width, width)
    return [shift for shift in np.unique(shifts).tolist() if shift != 0]


def _shifted(images: np.ndarray, fill: np.ndarray, shift: int) -> np.ndarray:
    """Move images [N, C, H, W] to the right, or left if negative, over ``fill``."""
    width = images.shape[3]
    moved = fill.copy()
    to, origin = max(shift, 0), max(-shift, 0)
    kept = width - abs(shift)
    moved[..., to : to + kept] = images[..., origin : origin + kept]
    return moved
