"""Localisation: owns Quantus' metrics of whether relevance lies on the object.

Pixels of one value have no order: where a metric ranks pixels, its value is that expected if ties
are broken at random. Quantus breaks them by place, so that the flat part of a map, such as the
zeros that a ReLU leaves, counts for objects in one corner.
"""

from typing import ClassVar

import numpy as np

from clarity.metrics.batch import Batch, Scores


class RelevanceMassAccuracy:
    """Share of the positive relevance that lies on the object; in [0, 1], higher is better.

    Arras et al., 2022, "CLEVR-XAI", section 3.3. Quantus' own code, on positive parts: signed maps
    leave [0, 1] or divide by about 0.
    """

    category = "localisation"
    direction = "higher"
    needs_masks = True
    sign = "positive"
    paper = "Arras et al., 2022"

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        # Here, since Quantus takes seconds, and no other metric of localisation needs it.
        from quantus.metrics.localisation import relevance_mass_accuracy

        from clarity.metrics.quantus_calls import PLAIN, mended

        masks = masks_of(batch)
        maps = np.maximum(batch.maps, 0).astype(np.float64)
        nothing = np.asarray(maps.max(axis=(1, 2)) == 0)
        with mended(), np.errstate(invalid="ignore"):
            metric = relevance_mass_accuracy.RelevanceMassAccuracy(**PLAIN)
            values = metric.evaluate_batch(a_batch=maps[:, None], s_batch=masks[:, None])
        return (
            Scores(np.asarray(values, dtype=np.float64))
            .leave_out(nothing, "no positive mass")
            .leave_out(empty(masks), "empty mask", unavailable=True)
        )


class PointingGame:
    """Whether the highest value of a map lies on the object; higher is better.

    Zhang et al., 2018, "Top-Down Neural Attention by Excitation Backprop", section 4. Where several
    pixels share the highest value, the share of them that lies on the object: the chance of a hit.
    Quantus counts a hit if any of them does, so that a constant map always hits, and an empty mask
    as a hit.
    """

    category = "localisation"
    direction = "higher"
    needs_masks = True
    paper = "Zhang et al., 2018"

    def __init__(self, weighted: bool = False) -> None:
        """Choose whether a hit counts by how small the object is, 1 - its share of the image."""
        self.weighted = weighted

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        masks = masks_of(batch)
        hits = _expected_hits(batch.maps, masks, np.ones(len(batch), dtype=int))
        if self.weighted:
            hits = hits * (1 - masks.mean(axis=(1, 2)))
        return Scores(hits).leave_out(empty(masks), "empty mask", unavailable=True)


class AttributionLocalisation:
    """Share of the positive relevance on the object, weighted by its size if asked.

    Kohlbrenner et al., 2020, "Towards Best Practice in Explaining Neural Network Decisions with
    LRP", the inside-total relevance ratio R_in / R_tot of positive relevance, in [0, 1]; weighted,
    times S_tot / S_in, the pixels of the image over those of the object, so that 1 is chance and
    the range [0, S_tot / S_in]. Higher is better. Objects that fill more than ``max_size`` of the
    image are left out. Unweighted it is `RelevanceMassAccuracy`.

    Unweighted it is Quantus' on positive maps. Weighted, Quantus multiplies by S_in / S_tot, which
    rewards large objects twice, and takes S_tot from the number of images in the batch: infinite
    for a batch of one or two. Too large objects it only warns of.
    """

    category = "localisation"
    direction = "higher"
    needs_masks = True
    sign = "positive"
    paper = "Kohlbrenner et al., 2020"

    def __init__(self, weighted: bool = False, max_size: float = 1.0) -> None:
        """Choose whether small objects count more, and the largest share of the image of one."""
        self.weighted = weighted
        self.max_size = max_size

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        masks = masks_of(batch)
        maps = np.maximum(batch.maps, 0).astype(np.float64)
        total, share = maps.sum(axis=(1, 2)), masks.mean(axis=(1, 2))
        nothing, none = np.asarray(total == 0), empty(masks)
        values = (maps * masks).sum(axis=(1, 2)) / np.where(nothing, 1, total)
        if self.weighted:
            values = values / np.where(none, 1, share)
        large = np.asarray(share > self.max_size)
        return (
            Scores(values)
            .leave_out(nothing, "no positive mass")
            .leave_out(large, "the object is larger than max_size", unavailable=True)
            .leave_out(none, "empty mask", unavailable=True)
        )


class AUC:
    """Chance that a pixel of the object has a higher value than one beside it; higher is better.

    Fawcett, 2006, "An Introduction to ROC Analysis", section 7: the area under the ROC curve of the
    map as a detector of the object, in [0, 1], 0.5 at random. By ranks, ties at their mean rank,
    which is the area of Quantus and scikit-learn by trapezoids. It has no value if the mask marks
    all pixels, as if it marks none.
    """

    category = "localisation"
    direction = "higher"
    needs_masks = True
    nulls: ClassVar = {"random": 0.5}
    paper = "Fawcett, 2006"

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        from scipy.stats import rankdata

        masks = masks_of(batch)
        on = masks.reshape(len(batch), -1)
        ranks = rankdata(batch.maps.reshape(on.shape), axis=1)
        inside, outside = on.sum(axis=1), (~on).sum(axis=1)
        above = (ranks * on).sum(axis=1) - inside * (inside + 1) / 2
        return (
            Scores(above / np.maximum(inside * outside, 1))
            .leave_out(outside == 0, "the mask is the whole image", unavailable=True)
            .leave_out(empty(masks), "empty mask", unavailable=True)
        )


class RelevanceRankAccuracy:
    """Share of the k highest pixels that lie on the object, of k pixels; higher is better.

    Arras et al., 2022, "CLEVR-XAI". In [0, 1], at random the object's share of the
    image. Where ties straddle the k-th pixel, the share expected if they are broken at random; else
    it is Quantus'.
    """

    category = "localisation"
    direction = "higher"
    needs_masks = True
    paper = "Arras et al., 2022"

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask."""
        masks = masks_of(batch)
        size = np.maximum(masks.sum(axis=(1, 2)), 1)
        values = _expected_hits(batch.maps, masks, size) / size
        return Scores(values).leave_out(empty(masks), "empty mask", unavailable=True)


class TopKIntersection:
    """Share of the ``k`` highest pixels that lie on the object; higher is better.

    Theiner et al., 2022, "Interpretable Semantic Photo Geolocation". In [0, 1], at random the
    object's share of the image; an object of fewer than k pixels cannot reach 1. Their concept
    influence divides by that share: 1 is chance, and objects of all sizes compare. Ties as for
    `RelevanceRankAccuracy`; else it is Quantus'.
    """

    category = "localisation"
    direction = "higher"
    needs_masks = True
    # The default is nearly all of 32x32 pixels.
    moderate: ClassVar = {"k": "=ceil(pixels / 20)"}
    paper = "Theiner et al., 2022"

    def __init__(self, k: int = 1000, concept_influence: bool = False) -> None:
        """Choose how many pixels, and whether to divide by the object's share of the image."""
        self.k = k
        self.concept_influence = concept_influence

    def __call__(self, batch: Batch) -> Scores:
        """Judge every map by its mask.

        Raises:
            ValueError: if all pixels would be among the highest.
        """
        masks, pixels = masks_of(batch), batch.maps[0].size
        if self.k >= pixels:
            raise ValueError(
                f"TopKIntersection.k: found {self.k}, wanted less than the {pixels} pixels of an "
                f"image"
            )
        values = _expected_hits(batch.maps, masks, np.full(len(batch), self.k)) / self.k
        none = empty(masks)
        if self.concept_influence:
            values = values / np.where(none, 1, masks.mean(axis=(1, 2)))
        return Scores(values).leave_out(none, "empty mask", unavailable=True)


def masks_of(batch: Batch) -> np.ndarray:
    """Return the masks of the explained classes' objects, bool [N, H, W]."""
    if batch.masks is None:
        raise ValueError("this metric needs masks, found none")
    return batch.masks


def empty(masks: np.ndarray) -> np.ndarray:
    """Whether each mask of [N, H, W] marks nothing: bool [N]."""
    return np.asarray(~masks.any(axis=(1, 2)))


def _expected_hits(maps: np.ndarray, masks: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return how many of the highest pixels lie on the object, if ties are broken at random.

    Args:
        maps: [N, H, W].
        masks: bool [N, H, W].
        counts: int64 [N], how many pixels are looked at, at least 1.

    Returns:
        float64 [N], the expected number.
    """
    flat, on = maps.reshape(len(maps), -1), masks.reshape(len(maps), -1)
    last = np.take_along_axis(np.sort(flat, axis=1), flat.shape[1] - counts[:, None], axis=1)
    above, ties = flat > last, flat == last
    free = counts - above.sum(axis=1)
    return np.asarray((above & on).sum(axis=1) + free * (ties & on).sum(axis=1) / ties.sum(axis=1))
