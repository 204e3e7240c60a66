"""Contrastivity: owns CLarity's metrics of whether maps of two classes differ as they should.

They compare the stored maps of a cell and explain nothing again. Category and direction are class
attributes, which `clarity.metrics.registry` reads from the source.
"""

from typing import Literal

import numpy as np

from clarity.metrics.batch import Batch, Scores, is_constant
from clarity.metrics.similarity import SIMILARITIES


class PairwiseSimilarity:
    """How alike the map of the label is to that of the foil, the model's runner-up class.

    Nauta et al., 2023, "From Anecdotal Evidence to Quantitative Evaluation Methods", target
    sensitivity. Lower is better, 1 for a method that ignores the class. It rewards noise: two
    unrelated maps score best. So it is read beside a metric that noise cannot win, such as
    `DiscriminativeMass`.
    """

    category = "contrastivity"
    direction = "lower"

    def __init__(self, similarity: Literal["ssim", "spearman", "cosine"] = "ssim") -> None:
        """Choose the similarity: 2-D SSIM, rank correlation or cosine.

        Raises:
            ValueError: if there is no such similarity.
        """
        if similarity not in SIMILARITIES:
            raise ValueError(
                f"similarity: found '{similarity}', wanted one of {', '.join(SIMILARITIES)}"
            )
        self.similarity = SIMILARITIES[similarity]

    def __call__(self, batch: Batch) -> Scores:
        """Compare both maps of each image."""
        # SSIM to a zero map is near 0 and would look like contrast, so those count apart.
        flat = is_constant(batch.foil_maps)
        values = np.full(len(batch), np.nan)
        values[~flat] = self.similarity(batch.maps[~flat], batch.foil_maps[~flat])
        return Scores(values).leave_out(flat, "constant foil map")


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
