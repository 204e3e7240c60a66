"""Contrastivity: owns CLarity's metrics of whether maps of two classes differ as they should.

They compare the maps of a cell that are stored, and explain only what is not. Each says what it
gives to three kinds of maps that tell nothing or all: *random* maps, drawn anew at each call;
*agnostic* maps, the same for all classes, such as edges; and *perfect* ones. A similarity rewards
noise, so it carries no verdict. Neither kind of null wins a verdict, but a fixed stamp for each
class, whatever the image and the weights, would: metrics of randomisation find that one.

A foil's map that is constant, or not finite, is none: it has no score, but a reason. What
maps of two classes do to the model, and what a set of maps tells of the classes, is in
`clarity.metrics.class_maps`.
"""

from collections.abc import Callable, Collection
from typing import ClassVar, Literal

import numpy as np

from clarity.metrics.batch import Batch, Curves, MetricUnavailable, Scores, is_constant
from clarity.metrics.robustness import uniformly_noisy
from clarity.metrics.similarity import (
    similarity_named,
    ssim_of_unit_range,
    top_overlap,
    unit_range,
)

#: From rows [N] and the maps of a foil [N, H, W] to a value for each true row.
Compare = Callable[[np.ndarray, np.ndarray], np.ndarray]

FOILS = ("runner-up", "least-likely", "others")


class PairwiseSimilarity:
    """How alike the map of the label is to those of other classes, the foils.

    Nauta et al., 2023, "From Anecdotal Evidence to Quantitative Evaluation Methods", target
    sensitivity: sim(A_y, A_f), or its mean over all f. Lower is better, in [-1, 1]. With all
    others as foils, there is a curve, one point a foil from the class nearest to the label to the
    farthest, by the cosine of the classes' prototypes.

    Random maps: the best score; its value depends on the resolution of the maps. Agnostic maps: 1.
    Perfect maps: not defined. So it is read beside a metric that noise cannot win, such as
    `ContrastivityIndex`.
    """

    category = "contrastivity"
    direction = "lower"
    forward = "1 * (foil == 'least-likely')"
    explained = "(foil == 'least-likely') + (classes - 2) * (foil == 'others')"
    nulls: ClassVar = {"agnostic": 1.0}
    paper = "Nauta et al., 2023"

    def __init__(
        self,
        similarity: Literal["ssim", "spearman", "cosine"] = "ssim",
        foil: Literal["runner-up", "least-likely", "others"] = "runner-up",
    ) -> None:
        """Choose the similarity, 2-D SSIM, rank correlation or cosine, and the foil.

        Raises:
            ValueError: if there is no such similarity or foil.
        """
        self.similarity = similarity_named(similarity)
        self.foil = one_of("foil", foil, FOILS)

    def __call__(self, batch: Batch) -> Scores:
        """Compare the maps of each image."""
        return over_foils(
            batch, self.foil, lambda rows, maps: self.similarity(batch.maps[rows], maps[rows])
        )


class ContrastivityIndex:
    """How much more the map under noise is like the label's own map than like a foil's.

    For small noise e, the same in both terms: sim(A_y(x), A_y(x + e)) - sim(A_f(x), A_y(x + e)). It
    is `PairwiseSimilarity` with the similarity of a repeat as its standard, so that maps that
    differ from all others, themselves included, gain nothing. The noise is uniform and not
    clipped, that of `MaxSensitivity` with as large a bound. New here.

    Higher is better, in [-2, 2]. Random maps: 0 on average, since all three are alike. Agnostic
    maps: exactly 0. Perfect maps: above 0, near 1 for maps that do not overlap. With all others as
    foils, the mean over them, and a curve as in `PairwiseSimilarity`.
    """

    category = "contrastivity"
    direction = "higher"
    verdict = True
    forward = "1 * (foil == 'least-likely')"
    explained = "1 + (foil == 'least-likely') + (classes - 2) * (foil == 'others')"
    nulls: ClassVar = {"random": 0.0, "agnostic": 0.0}
    paper = "new here, after Nauta et al., 2023"

    def __init__(
        self,
        similarity: Literal["ssim", "spearman", "cosine"] = "ssim",
        foil: Literal["runner-up", "least-likely", "others"] = "runner-up",
        noise: float = 0.02,
    ) -> None:
        """Choose similarity and foil, and draw each value's noise from [-noise, noise].

        Raises:
            ValueError: if there is no such similarity or foil, or no noise.
        """
        if not noise > 0:
            raise ValueError(f"noise: found {noise}, wanted a number greater than 0")
        self.similarity = similarity_named(similarity)
        self.foil = one_of("foil", foil, FOILS)
        self.noise = noise

    def __call__(self, batch: Batch) -> Scores:
        """Explain every image once more, under noise."""
        # Drawn as robustness metrics draw it: the same noisy images are explained once.
        noisy = next(uniformly_noisy(batch, 1, (-self.noise, self.noise)))
        repeats = batch.explain_all(noisy, batch.classes)
        none = no_map(repeats)

        def compare(rows: np.ndarray, maps: np.ndarray) -> np.ndarray:
            found = np.full(len(rows), np.nan)
            rows = rows & ~none
            own, other = (self.similarity(a[rows], repeats[rows]) for a in (batch.maps, maps))
            found[rows] = own - other
            return found

        scores = over_foils(batch, self.foil, lambda rows, maps: compare(rows, maps)[rows])
        return scores.leave_out(none, "no map under noise: constant or not finite")


class SsimRandomClass:
    """SSIM of the map of the label to that of a random other class, as one paper's code has it.

    Arrighi et al., 2026, arXiv 2604.22540, metric "contrastivity", as in the paper's released code
    (github.com/ivan-gentile/clxai, commit d860dfc, src/evaluation/xai_evaluation.py): a Grad-CAM of
    the positive part; each map a is scaled on its own to (a - min a) / (1e-7 + max(a - min a)); the
    other class is drawn evenly from all but the explained one; SSIM with windows of 7x7 and a range
    of 1, in single precision. Lower is better, in [-1, 1].

    Random maps: the best score. Agnostic maps: 1. Perfect maps: not defined. Other defects: a map
    of either class that is all zero is compared as if it were a map, and looks contrastive (here
    it has no value, unless ``zero_maps`` is "scored"); scaling by the minimum moves the zero of a
    map and hides how strong it is; one class is drawn, from an unseeded generator. Here the draw is
    that of the image's seed, the same for all losses; the explained class is the label where the
    paper explains the prediction; and negative parts go after a map was upsampled, not before.
    """

    category = "contrastivity"
    direction = "lower"
    sign = "positive"
    scale = "none"
    # Set aside here: as released, a label's zero map is compared too.
    constant_maps = True
    explained = "1"
    nulls: ClassVar = {"agnostic": 1.0}
    paper = "Arrighi et al., 2026"

    def __init__(self, zero_maps: Literal["left-out", "scored"] = "left-out") -> None:
        """Choose what becomes of maps without a pattern.

        Raises:
            ValueError: if there is no such choice.
        """
        self.scored = one_of("zero_maps", zero_maps, ("left-out", "scored")) == "scored"

    def __call__(self, batch: Batch) -> Scores:
        """Compare the maps of the label and of the class that is drawn."""
        maps = batch.maps_of(random_others(batch))
        finite = np.isfinite(maps).all(axis=(1, 2))
        own = ~no_map(batch.maps) | self.scored
        foil = finite & (~no_map(maps) | self.scored)
        kept = own & foil
        values = np.full(len(batch), np.nan)
        values[kept] = ssim_of_unit_range(unit_range(batch.maps[kept]), unit_range(maps[kept]))
        scores = Scores(values).leave_out(~foil, "constant foil map")
        scores.leave_out(~own, "constant map")
        return scores.leave_out(~finite, "the foil map has values that are not finite")


class ClassSensitivity:
    """How alike the maps of the most and of the least likely class are.

    Li et al., 2021, "An Experimental Study of Quantitative Evaluations on Saliency Methods", class
    sensitivity: sim(A_max, A_min), the classes of the model's highest and lowest score whatever the
    label. Lower is better, in [-1, 1]. Random maps: the best score. Agnostic maps: 1. Perfect maps:
    not defined.
    """

    category = "contrastivity"
    direction = "lower"
    forward = "1"
    explained = "1"
    nulls: ClassVar = {"agnostic": 1.0}
    paper = "Li et al., 2021"

    def __init__(self, similarity: Literal["ssim", "spearman", "cosine"] = "ssim") -> None:
        """Choose the similarity: 2-D SSIM, rank correlation or cosine.

        Raises:
            ValueError: if there is no such similarity.
        """
        self.similarity = similarity_named(similarity)

    def __call__(self, batch: Batch) -> Scores:
        """Compare the two maps of each image."""
        scores = batch.scores(batch.images, remember=True)
        ends = np.stack([scores.argmax(axis=1), scores.argmin(axis=1)], axis=1)
        most, least = batch.maps_of(ends).swapaxes(0, 1)
        none = no_map(most) | no_map(least)
        values = np.full(len(batch), np.nan)
        values[~none] = self.similarity(most[~none], least[~none])
        same = ends[:, 0] == ends[:, 1]
        return (
            Scores(values)
            .leave_out(none, "no map of either class: constant or not finite")
            .leave_out(same, "all classes have the same score")
        )


class TopKOverlap:
    """Share of the most relevant pixels for the label that are so for a foil too.

    Williamson et al., 2025, "CASE: Contrastive Activation for Saliency Estimation", arXiv
    2506.07327: the overlap of the top 5 % of pixels of the maps of the first two classes; the
    paper then tests by a one-sided Wilcoxon test whether its median is below 50 %. Lower is better,
    in [0, 1]. Ties count as `clarity.metrics.similarity.top_overlap` says. With all others as
    foils, the mean over them, and a curve as in `PairwiseSimilarity`.

    Random maps: ``share``. Agnostic maps: exactly 1. Perfect maps: low.
    """

    category = "contrastivity"
    direction = "lower"
    forward = "1 * (foil == 'least-likely')"
    explained = "(foil == 'least-likely') + (classes - 2) * (foil == 'others')"
    nulls: ClassVar = {"random": 0.05, "agnostic": 1.0}
    paper = "Williamson et al., 2025"

    def __init__(
        self,
        share: float = 0.05,
        foil: Literal["runner-up", "least-likely", "others"] = "runner-up",
    ) -> None:
        """Choose the share of pixels that are the top ones, and the foil.

        Raises:
            ValueError: if the share is not between 0 and 1, or there is no such foil.
        """
        self.share = share_of(share)
        self.foil = one_of("foil", foil, FOILS)

    def __call__(self, batch: Batch) -> Scores:
        """Compare the maps of each image."""
        return over_foils(
            batch,
            self.foil,
            lambda rows, maps: top_overlap(batch.maps[rows], maps[rows], self.share),
        )


class DiscriminativeMass:
    """In a scene of two objects, how far the positive mass follows the explained class.

    For classes a and b with masks S_a and S_b, the share of the positive mass of the map of a
    within both masks that lies in S_a, minus the same share of the map of b:
    m(A_a) - m(A_b), with m(A) = A+(S_a) / A+(S_a or S_b). It follows the relevance mass accuracy of
    Arras et al., 2022, section 3.3. In [-1, 1], higher is better: 1 if each map marks its own
    object alone, exactly 0 for a method that ignores the class, and 0 on average for noise.
    """

    category = "contrastivity"
    direction = "higher"
    images = "scenes"
    sign = "positive"
    needs_masks = True
    verdict = True
    nulls: ClassVar = {"random": 0.0, "agnostic": 0.0}
    paper = "after Arras et al., 2022"

    def __call__(self, batch: Batch) -> Scores:
        """Judge both maps of each scene."""
        if batch.masks is None or batch.foil_masks is None:
            raise ValueError("DiscriminativeMass needs masks of both objects, found none")
        shares, empty = [], np.zeros(len(batch), dtype=bool)
        unmasked = np.asarray(~(batch.masks.any(axis=(1, 2)) & batch.foil_masks.any(axis=(1, 2))))
        for maps in (batch.maps, batch.foil_maps):
            positive = np.maximum(maps, 0).astype(np.float64)
            own = (positive * batch.masks).sum(axis=(1, 2))
            both = (positive * (batch.masks | batch.foil_masks)).sum(axis=(1, 2))
            empty |= both == 0
            shares.append(np.divide(own, both, out=np.full(len(batch), np.nan), where=both > 0))
        return (
            Scores(shares[0] - shares[1])
            .leave_out(empty, "no positive mass on either object")
            .leave_out(is_constant(batch.foil_maps), "constant foil map")
            .leave_out(unmasked, "empty mask", unavailable=True)
        )


def foil_classes(batch: Batch, foil: str) -> np.ndarray:
    """Return the foils of each image, int64 [N, F].

    Args:
        batch: the images.
        foil: "runner-up" (of a scene the second class), "least-likely" (the lowest score among the
            other classes) or "others" (all, from the class whose prototype is the nearest to that
            of the label, by cosine, to the farthest).

    Raises:
        MetricUnavailable: if the classes are to be put in order and the model has no prototypes.
    """
    rows = np.arange(len(batch))
    if foil == "runner-up":
        return batch.foils[:, None]
    if foil == "least-likely":
        scores = np.array(batch.scores(batch.images, remember=True))
        scores[rows, batch.classes] = np.inf
        return np.asarray(scores.argmin(axis=1)[:, None])
    nearness = prototype_cosines(batch)[batch.classes]
    nearness[rows, batch.classes] = np.inf
    return np.argsort(-nearness, axis=1, kind="stable")[:, 1:]


def prototype_cosines(batch: Batch) -> np.ndarray:
    """Return the cosine of each pair of the classifier's class prototypes: float64 [C, C].

    Raises:
        MetricUnavailable: if the model has none for some class.
    """
    found = getattr(getattr(batch.model, "model", None), "prototypes", None)
    if found is None or not bool((found != 0).any(dim=1).all()):
        raise MetricUnavailable("the model has no prototypes to tell how far classes are apart")
    prototypes = found.detach().cpu().numpy().astype(np.float64)
    unit = prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True)
    return np.asarray(unit @ unit.T)


def over_foils(batch: Batch, foil: str, compare: Compare) -> Scores:
    """Compare each image's map with those of its foils: the mean over the foils that have a map.

    With several foils there is a curve too, a point a foil, NaN where the foil has no map.

    Args:
        batch: the images.
        foil: see `foil_classes`.
        compare: from rows, bool [N], and the maps of one foil an image [N, H, W] to the values of
            the true rows.
    """
    classes = foil_classes(batch, foil)
    points = np.full(classes.shape, np.nan)
    broken = np.ones(len(batch), dtype=bool)
    for slot in range(classes.shape[1]):
        maps = batch.foil_maps if foil == "runner-up" else batch.maps_of(classes[:, slot])
        rows = ~no_map(maps)
        points[rows, slot] = compare(rows, maps)
        broken &= ~np.isfinite(maps).all(axis=(1, 2))
    known = np.isfinite(points)
    count = known.sum(axis=1)
    values = np.where(known, points, 0).sum(axis=1) / np.where(count > 0, count, np.nan)
    scores = Scores(values)
    if foil == "others":
        axis = "rank of the foil by the distance of its prototype from the label's"
        scores.curves = Curves(axis, range(1, classes.shape[1] + 1), list(points))
    scores.leave_out(count == 0, "constant foil map")
    return scores.leave_out(broken, "the foil map has values that are not finite")


def without_foil(scores: Scores, foil_maps: np.ndarray) -> Scores:
    """Take the values of images away whose foil has no map."""
    scores.leave_out(no_map(foil_maps), "constant foil map")
    broken = ~np.isfinite(foil_maps).all(axis=(1, 2))
    return scores.leave_out(broken, "the foil map has values that are not finite")


def random_others(batch: Batch) -> np.ndarray:
    """Draw a class other than the explained one from each image's seed: int64 [N].

    Raises:
        MetricUnavailable: if the model scores one class alone.
    """
    count = batch.class_count
    if count < 2:
        raise MetricUnavailable("the model has one class, and none to draw beside it")
    draws = np.array([generator.randint(0, count - 1) for generator in batch.generators()])
    return np.asarray(draws + (draws >= batch.classes))


def no_map(maps: np.ndarray) -> np.ndarray:
    """Whether each of [N, H, W] is no map: constant, or with values that are not finite: [N]."""
    finite = np.isfinite(maps).all(axis=(1, 2))
    return np.asarray(~finite | is_constant(np.nan_to_num(maps)))


def one_of(argument: str, value: str, known: Collection[str]) -> str:
    """Return the value of an argument.

    Raises:
        ValueError: if it is none that is known.
    """
    if value not in known:
        raise ValueError(f"{argument}: found '{value}', wanted one of {', '.join(known)}")
    return value


def share_of(share: float) -> float:
    """Return a share that an argument gives.

    Raises:
        ValueError: if it is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: found {share}, wanted a number between 0 and 1")
    return share
