"""Parts: own the metrics on scenes of two objects from which either can be taken away exactly.

What an object does to a score is then known from the model itself, with nothing imputed: the scene
without it is an image like any other. g_k is the score of class k, x the scene, x - j the scene
without the object of class j, S_j the mask of that object, A_k the map of class k; a and b are the
two classes of the scene.
"""

from typing import ClassVar

import numpy as np

from clarity.metrics.batch import ROUNDING, Batch, MetricUnavailable, Scores, is_constant

UNKNOWN = "the scene without one of its objects is not known"


class TargetSensitivity:
    """Whether each object has more of the map of its own class than of the map of the other.

    After Hesse et al., 2023, "FunnyBirds: A Synthetic Vision Dataset for a Part-Based Analysis of
    Explainable AI Methods" (target sensitivity), with objects in the place of a bird's parts. With
    m(A, S) = A+(S) / A+(scene), the mean of [m(A_a, S_a) > m(A_b, S_a)] and
    [m(A_b, S_b) > m(A_a, S_b)]. Higher is better: 1 if both maps follow their class, 0.5 on average
    for noise, and exactly 0 for a method that ignores the class, since ties lose.

    What a class's object is, is the data set's word, not the model's. So only scenes count where
    the model itself tells the objects apart: where taking a away lowers g_a more than g_b, and
    taking b away lowers g_b more than g_a. Differences of scores do not change with what a softmax
    divides out.
    """

    category = "contrastivity"
    direction = "higher"
    images = "scenes"
    sign = "positive"
    scale = "none"
    needs_masks = True
    needs_deletions = True
    verdict = True
    forward = "3 if told_apart else 0"
    nulls: ClassVar = {"random": 0.5, "agnostic": 0.0}
    paper = "after Hesse et al., 2023"

    def __init__(self, told_apart: bool = True) -> None:
        """Judge only scenes whose objects the model tells apart, or all."""
        self.told_apart = told_apart

    def __call__(self, batch: Batch) -> Scores:
        """Judge both maps of each scene."""
        masks = _masks(batch)
        without, unknown = _without(batch)
        first, second = (_shares(maps, masks) for maps in (batch.maps, batch.foil_maps))
        wins = np.stack([first[:, 0] - second[:, 0], second[:, 1] - first[:, 1]], axis=1)
        scores = Scores((wins > ROUNDING).mean(axis=1))
        if self.told_apart:
            whole, *left = (
                batch.margins(images, batch.foils, remember=True)
                for images in (batch.images, without[:, 0], without[:, 1])
            )
            drops = np.stack([whole - margin for margin in left], axis=1)
            apart = (drops[:, 0] > 0) & (drops[:, 1] < 0)
            scores.leave_out(~apart, "the model does not tell the objects apart", unavailable=True)
        return _known(scores, batch, masks, unknown)


class DeletionAgreement:
    """Whether a map says which of two objects matters more to a class, as exact deletion does.

    For each class k of the scene, whether A_k(S_a) - A_k(S_b), sums of signed relevance, has the
    sign of g_k(x - b) - g_k(x - a), which is above 0 if taking a away lowers g_k more; the mean of
    both classes. Higher is better: 1 for relevance that sums to the effect of an object, 0.5 on
    average for noise. A method that ignores the class gets 0.5 where each object matters most to
    its own class: one of its two maps must be wrong. The truth is the model's own, so that a model
    that looks elsewhere is not called wrong. Single deletions against sums of relevance are in
    Hesse et al., 2023, "FunnyBirds", as a correlation over the parts of a bird; here there are two.
    """

    category = "faithfulness"
    direction = "higher"
    images = "scenes"
    scale = "none"
    needs_masks = True
    needs_deletions = True
    forward = "2"
    nulls: ClassVar = {"random": 0.5}
    paper = "after Hesse et al., 2023"

    def __call__(self, batch: Batch) -> Scores:
        """Judge both maps of each scene."""
        masks = _masks(batch)
        without, unknown = _without(batch)
        left = [batch.scores(without[:, j], remember=True).astype(np.float64) for j in range(2)]
        rows = np.arange(len(batch))
        agreed, undecided = [], np.zeros(len(batch), dtype=bool)
        for classes, maps in ((batch.classes, batch.maps), (batch.foils, batch.foil_maps)):
            truth = left[1][rows, classes] - left[0][rows, classes]
            sums = _sums(maps, masks)
            agreed.append(np.sign(sums[:, 0] - sums[:, 1]) == np.sign(truth))
            undecided |= truth == 0
        scores = Scores(np.mean(agreed, axis=0))
        scores.leave_out(undecided, "both objects matter alike to a class", unavailable=True)
        return _known(scores, batch, masks, unknown)


def _masks(batch: Batch) -> np.ndarray:
    """Return the masks of both objects: bool [N, 2, H, W]."""
    if batch.masks is None or batch.foil_masks is None:
        raise ValueError("this metric needs masks of both objects, found none")
    return np.stack([batch.masks, batch.foil_masks], axis=1)


def _without(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return the scenes without either object, and whether one of them is not known, bool [N].

    Raises:
        MetricUnavailable: if no scene comes without its objects.
    """
    if batch.without is None:
        raise MetricUnavailable("the scenes of this data set do not come without their objects")
    same = (batch.without == batch.images[:, None]).all(axis=(2, 3, 4))
    return batch.without, np.asarray(same.any(axis=1))


def _sums(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Sum maps [N, H, W] over both masks: float64 [N, 2]."""
    return np.asarray((maps.astype(np.float64)[:, None] * masks).sum(axis=(2, 3)))


def _shares(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of each map's positive mass on either object: float64 [N, 2]."""
    positive = np.maximum(maps, 0).astype(np.float64)
    whole = positive.sum(axis=(1, 2))[:, None]
    sums = _sums(positive, masks)
    return np.asarray(np.divide(sums, whole, out=np.zeros_like(sums), where=whole > 0))


def _known(scores: Scores, batch: Batch, masks: np.ndarray, unknown: np.ndarray) -> Scores:
    """Leave out the scenes that no map could be judged on, or whose foil map says nothing."""
    unmasked = np.asarray(~np.all(masks.any(axis=(2, 3)), axis=1))
    return (
        scores.leave_out(is_constant(batch.foil_maps), "constant foil map")
        .leave_out(unmasked, "empty mask", unavailable=True)
        .leave_out(unknown, UNKNOWN, unavailable=True)
    )
