"""Mended losses: own what is put right in losses of pytorch-metric-learning 2.9.

Each stands in for the class of the same name, takes its arguments and does what its paper says, or
does it in a time that a training run has.
"""

import torch
from pytorch_metric_learning import losses
from torch import Tensor
from torch.nn.functional import softplus

#: Stands for a negative that is not there: its exponential is 0, and so is its gradient.
NO_NEGATIVE = -1e4

#: Anchors and positives of the positive pairs, anchors and negatives of the negative ones.
Pairs = tuple[Tensor, Tensor, Tensor, Tensor]


class SmoothAPLoss(losses.SmoothAPLoss):  # type: ignore[misc]
    """One minus the average precision of each image's ranking, the ranks smoothed by sigmoids.

    Brown et al., 2020, "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval",
    equations 6 and 7. The library's version takes the number of images of a class for the number of
    classes when it forms groups, so that unless the two are equal the positives are of other
    classes; it also needs batches sorted by class. This one takes any batch; images without a
    positive have no average precision and do not count.
    """

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: object,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, object]]:
        """Return the loss of each image that has a positive in the batch."""
        if indices_tuple is not None:
            raise ValueError("SmoothAPLoss ranks all images of a batch and takes no miner")
        similarities = self.distance(embeddings)
        others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = (labels[:, None] == labels) & others
        anchors = torch.nonzero(positive.any(dim=1))[:, 0]
        if len(anchors) == 0:
            return dict(self.zero_losses())
        similarities, positive = similarities[anchors], positive[anchors]
        # above[q, i, j]: how surely j ranks before i among the images that q ranks (equation 6).
        differences = similarities[:, None, :] - similarities[:, :, None]
        above = torch.sigmoid(differences / self.temperature)
        compared = others[anchors][:, None, :] & others
        above = torch.where(compared, above, 0.0)
        rank = 1 + above.sum(dim=2)
        rank_of_positives = 1 + (above * positive[:, None, :]).sum(dim=2)
        precision = torch.where(positive, rank_of_positives / rank, 0.0)
        average_precision = precision.sum(dim=1) / positive.sum(dim=1)
        return {
            "ap_loss": {
                "losses": 1 - average_precision,
                "indices": anchors,
                "reduction_type": "element",
            }
        }


class DynamicSoftMarginLoss(losses.DynamicSoftMarginLoss):  # type: ignore[misc]
    """The triplet loss whose margin is the distribution of earlier differences of distances.

    Zhang and Rusinkiewicz, 2019, "Learning Local Descriptors With a CDF-Based Dynamic Soft Margin",
    section 3. In the library's version the distribution keeps the graph of each batch, so that the
    second step fails, and a difference in the highest bin has no place in the histogram.
    """

    def _inside(self, differences: Tensor) -> Tensor:
        """Keep differences below the last bin's middle, so that both bins they share exist."""
        highest = self.min_val + (self.num_bins - 1 - 1e-4) * self.delta
        return differences.detach().clamp(max=highest)

    def update_histogram(self, data: Tensor) -> None:
        """Count the differences of a batch, as numbers."""
        super().update_histogram(self._inside(data))

    def weigh_loss(self, data: Tensor) -> Tensor:
        """Weigh each difference by the share of smaller ones."""
        place = torch.floor((self._inside(data) - self.min_val) / self.delta).long()
        weighed: Tensor = torch.cumsum(self.hist_, 0)[place] * data
        return weighed


class HistogramLoss(losses.HistogramLoss):  # type: ignore[misc]
    """The probability that a pair of one class is less alike than a pair of two.

    Ustinova and Lempitsky, 2016, "Learning Deep Embeddings with Histogram Loss", section 3. In the
    library's version a cosine of 1, which rounding makes of a little less, has no bin; and it goes
    through all triplets, as Python lists, to find the pairs, which takes ten times as long.
    """

    def compute_loss(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: object,
        ref_emb: Tensor,
        ref_labels: Tensor,
    ) -> dict[str, dict[str, object]]:
        """Return the loss of a batch: each pair counts once."""
        if indices_tuple is not None:
            mined: dict[str, dict[str, object]] = super().compute_loss(
                embeddings, labels, indices_tuple, ref_emb, ref_labels
            )
            return mined
        same = labels[:, None] == labels
        once = torch.ones_like(same).triu(diagonal=1)
        # As in triplets, a pair has at least one image that has pairs of the other kind.
        has_positive, has_negative = same.sum(dim=1) > 1, ~same.all(dim=1)
        positive = same & once & (has_negative[:, None] | has_negative)
        negative = ~same & once & (has_positive[:, None] | has_positive)
        if not (positive.any() and negative.any()):
            return dict(self.zero_losses())
        cosines = self.distance(embeddings)
        at_most = torch.cumsum(self.compute_density(cosines[positive]), dim=0)
        loss = torch.sum(self.compute_density(cosines[negative]) * at_most)
        return {"loss": {"losses": loss, "indices": None, "reduction_type": "already_reduced"}}

    def compute_density(self, distances: Tensor) -> Tensor:
        """Return the share of cosines [N] in each bin, [bins + 1]."""
        margin = self.delta / 100
        density: Tensor = super().compute_density(distances.clamp(margin - 1, 1 - margin))
        return density


class LiftedStructureLoss(losses.LiftedStructureLoss):  # type: ignore[misc]
    """For each positive pair, its distance over the nearest negatives of both of its images.

    Song et al., 2016, "Deep Metric Learning via Lifted Structured Feature Embedding", equation 4.
    The library's version has a row for each positive and a column for each negative pair of a
    batch, 30 million numbers for 128 images of 8 classes; the sums over the negatives of an image
    are the same for all its positives.
    """

    def _compute_loss(
        self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: Pairs
    ) -> dict[str, dict[str, object]]:
        first, second = indices_tuple[:2]
        if len(pos_pairs) == 0 or len(neg_pairs) == 0:
            return dict(self.zero_losses())
        nearness = self.distance.margin(self.neg_margin, neg_pairs)
        of_image = _over_negatives(nearness, indices_tuple)
        of_pair = torch.logaddexp(of_image[first], of_image[second])
        # Halved, since each positive pair is counted twice.
        loss = torch.relu(of_pair + self.distance.margin(pos_pairs, self.pos_margin)) ** 2 / 2
        return _of_positives(loss, indices_tuple)


class NTXentLoss(losses.NTXentLoss):  # type: ignore[misc]
    """Cross-entropy of each positive against the negatives of its anchor.

    Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    equation 1. Mended as `LiftedStructureLoss` is.
    """

    def _compute_loss(
        self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: Pairs
    ) -> dict[str, dict[str, object]]:
        if len(pos_pairs) == 0 or len(neg_pairs) == 0:
            return dict(self.zero_losses())
        sign = 1 if self.distance.is_inverted else -1
        positive, negative = (sign * pairs / self.temperature for pairs in (pos_pairs, neg_pairs))
        of_anchor = _over_negatives(negative, indices_tuple)[indices_tuple[0]]
        return _of_positives(torch.logaddexp(positive, of_anchor) - positive, indices_tuple)


class TupletMarginLoss(losses.TupletMarginLoss):  # type: ignore[misc]
    """Each positive, its angle a margin smaller, against the negatives of its anchor.

    Yu and Tao, 2019, "Deep Metric Learning with Tuplet Margin Loss", equation 6. Mended as
    `LiftedStructureLoss` is; and the angle of two equal embeddings, 0, has a gradient here.
    """

    def _compute_loss(
        self, pos_pairs: Tensor, neg_pairs: Tensor, indices_tuple: Pairs
    ) -> dict[str, dict[str, object]]:
        if len(pos_pairs) == 0 or len(neg_pairs) == 0:
            return dict(self.zero_losses())
        angles = torch.acos(pos_pairs.clamp(-1 + 1e-6, 1 - 1e-6))
        positive = self.scale * torch.cos(angles - self.margin)
        of_anchor = _over_negatives(self.scale * neg_pairs, indices_tuple)[indices_tuple[0]]
        return _of_positives(softplus(of_anchor - positive), indices_tuple)


def _over_negatives(values: Tensor, pairs: Pairs) -> Tensor:
    """Return the logarithm of the summed exponentials of each image's negatives, [images]."""
    anchor, negative = pairs[2:]
    count = 1 + int(torch.cat(pairs).max())
    table = values.new_full((count, count), NO_NEGATIVE)
    table[anchor, negative] = values
    return torch.logsumexp(table, dim=1)


def _of_positives(loss: Tensor, pairs: Pairs) -> dict[str, dict[str, object]]:
    return {"loss": {"losses": loss, "indices": pairs[:2], "reduction_type": "pos_pair"}}


MENDED = {
    kind.__name__: kind
    for kind in (
        SmoothAPLoss,
        DynamicSoftMarginLoss,
        HistogramLoss,
        LiftedStructureLoss,
        NTXentLoss,
        TupletMarginLoss,
    )
}
