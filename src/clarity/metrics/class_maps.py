"""Class maps: owns metrics of what maps of classes do to the model and tell of the classes.

The first follow the margin between two classes as pixels go that their maps mark; the others take
maps as data, and compare all images of the evaluation set. `clarity.metrics.contrastivity` says
what random, agnostic and perfect maps are.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np

from clarity.metrics.batch import ROUNDING, Batch, Curves, MetricUnavailable, Scores
from clarity.metrics.contrastivity import (
    FOILS,
    foil_classes,
    no_map,
    one_of,
    prototype_cosines,
    share_of,
    without_foil,
)
from clarity.metrics.imputation import baselines, pixel_order
from clarity.metrics.similarity import spearman


class ClassSwapDeletion:
    """Whether what each map marks matters more to its own class than what the other map marks.

    Of two copies of an image, x_y lacks the top ``share`` of the pixels of A_y and x_f those of
    A_f. What is asked is [drop of g_y in x_y - in x_f] + [drop of g_f in x_f - in x_y], which is
    m(x_f) - m(x_y) with the margin m = g_y - g_f. New here.

    Scores of models differ in scale, so by default the value is divided by the span of the margin
    over all images that were scored: x, x_y, x_f and the image of nothing but the baseline. That
    is the model's own limit for the image: the value is in [-1, 1] and the same for scores a * g.
    The start m(x) alone would not do, since it can be near 0. Unit "score" leaves the scores' own.

    Higher is better. Random maps: 0 on average, since swapping the two maps turns the sign.
    Agnostic maps: exactly 0; tied pixels go in the same order. Perfect maps: large.
    """

    category = "contrastivity"
    direction = "higher"
    verdict = True
    forward = "2 + 2 * (unit == 'span') + (foil == 'least-likely')"
    explained = "1 * (foil == 'least-likely')"
    nulls: ClassVar = {"random": 0.0, "agnostic": 0.0}
    paper = "new here"

    def __init__(
        self,
        share: float = 0.1,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        unit: Literal["span", "score"] = "span",
        foil: Literal["runner-up", "least-likely"] = "runner-up",
    ) -> None:
        """Choose how many pixels go, what takes their place, the unit and the foil.

        Raises:
            ValueError: if the share is not between 0 and 1, or there is no such unit or foil.
        """
        self.share = share_of(share)
        self.baseline = perturb_baseline
        self.span = one_of("unit", unit, ("span", "score")) == "span"
        self.foil = one_of("foil", foil, FOILS[:2])

    def __call__(self, batch: Batch) -> Scores:
        """Score both copies of every image."""
        foils, foil_maps = _one_foil(batch, self.foil)
        none = no_map(foil_maps)
        fill = baselines(batch, self.baseline)
        count = max(1, round(self.share * batch.maps[0].size))
        # One call for each kind of copy: equal copies then have equal scores to the last bit.
        without = [
            batch.margins(
                _replaced(batch, _ranks(batch, maps, none), count, fill), foils, remember=False
            )
            for maps in (batch.maps, foil_maps)
        ]
        values = without[1] - without[0]
        scores = Scores(values)
        if self.span:
            met = [*without, batch.margins(batch.images, foils, remember=True)]
            span = np.ptp([*met, batch.margins(fill, foils, remember=True)], axis=0)
            scores.values = np.divide(values, span, out=np.full(len(batch), np.nan), where=span > 0)
            scores.leave_out(span == 0, "the margin is the same for all images scored")
        return without_foil(scores, foil_maps)


class ContrastiveDeletion:
    """How much sooner the margin to a foil falls than by chance, by A_y - A_f.

    Pixels go in the order of A_y - A_f, the largest first; maps are not scaled, so that of exact
    attributions the difference is that of the margin m = g_y - g_f. After Wang and Wang, 2022,
    "'Why Not Other Classes?'", for the contrast, and Petsiuk et al., 2018, "RISE", for the areas.
    Chance is the same order moved round the image by a random distance: unrelated to the image, and
    as patchy. With t the share of pixels removed, the value is the integral over [0, 1] of
    m_moved(t) - m_map(t) by trapezoids, divided by the model's own span of the margin for the
    image, the largest minus the smallest on both curves. So it is in [-1, 1] and the same for
    scores a * g. Unit "start" divides by m(0) instead, and then images whose label does not lead
    have no value.

    Higher is better. Random maps: 0 on average. Agnostic maps: exactly 0, since all pixels are tied
    and tied pixels go in one order. Perfect maps: large. The curve is the gain at each t.
    """

    category = "contrastivity"
    direction = "higher"
    scale = "none"
    forward = "2 * steps + (foil == 'least-likely')"
    explained = "1 * (foil == 'least-likely')"
    nulls: ClassVar = {"random": 0.0, "agnostic": 0.0}
    paper = "after Wang and Wang, 2022"

    _inserts = False

    def __init__(
        self,
        steps: int = 16,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        unit: Literal["span", "start"] = "span",
        foil: Literal["runner-up", "least-likely"] = "runner-up",
    ) -> None:
        """Choose the number of steps, what takes the pixels' place, the unit and the foil.

        Raises:
            ValueError: if there is no step, or no such unit or foil.
        """
        self.steps = _steps(steps)
        self.baseline = perturb_baseline
        self.unit = one_of("unit", unit, ("span", "start"))
        self.foil = one_of("foil", foil, FOILS[:2])

    def __call__(self, batch: Batch) -> Scores:
        """Follow the margin of every image in both orders."""
        foils, foil_maps = _one_foil(batch, self.foil)
        none = no_map(foil_maps)
        contrast = np.where(none[:, None, None], 0, batch.maps - np.nan_to_num(foil_maps))
        # Maps of two classes that differ by rounding are the same map.
        size = np.abs(batch.maps).max(axis=(1, 2), keepdims=True)
        contrast[np.abs(contrast) <= ROUNDING * size] = 0
        scores = _gain(
            batch,
            contrast,
            lambda images, remember: batch.margins(images, foils, remember=remember),
            fill=baselines(batch, self.baseline),
            steps=self.steps,
            inserts=self._inserts,
            unit=self.unit,
        )
        return without_foil(scores, foil_maps)


class ContrastiveInsertion(ContrastiveDeletion):
    """How much sooner the margin to a foil rises than by chance, by A_y - A_f.

    `ContrastiveDeletion` the other way: pixels enter the baseline in the order of A_y - A_f, the
    largest first, and the value is the integral of m_map(t) - m_moved(t). Higher is better, in
    [-1, 1]. Random maps: 0 on average. Agnostic maps: exactly 0. Perfect maps: large.
    """

    _inserts = True


class CorpusContrast:
    """How much sooner an image leaves its class for the foil's in the embedding than by chance.

    Lin et al., 2023, "Contrastive Corpus Attribution for Explaining Representations" (COCOA):
    deletion and insertion judged by the contrastive corpus similarity
    m(x) = mean over r in R_y of cos(h(x), h(r)) - mean over r in R_f of cos(h(x), h(r)). The
    corpora R are drawn anew from the classifier's training references, with replacement, from the
    image's seed, so that they are not those that the map may have explained. Pixels go, or enter,
    in the order of A_y, and the value is the gain in area over chance, and in the unit, of
    `ContrastiveDeletion`. The paper gives the areas themselves.

    Higher is better, in [-1, 1], for deletion and insertion. Random maps: 0 on average. Agnostic
    maps: whatever they find of the object, so it carries no verdict. Perfect maps: large.
    """

    category = "contrastivity"
    direction = "higher"
    forward = "2 * steps + (foil == 'least-likely')"
    nulls: ClassVar = {"random": 0.0}
    paper = "Lin et al., 2023"

    def __init__(
        self,
        mode: Literal["deletion", "insertion"] = "deletion",
        steps: int = 16,
        perturb_baseline: Literal["black", "white", "mean", "uniform", "blur"] = "black",
        corpus: int = 100,
        foil: Literal["runner-up", "least-likely", "others"] = "runner-up",
    ) -> None:
        """Choose the way, the number of steps, the baseline, the references a corpus and the foil.

        Raises:
            ValueError: if there is no step or reference, or no such mode or foil.
        """
        self.inserts = one_of("mode", mode, ("deletion", "insertion")) == "insertion"
        self.steps = _steps(steps)
        self.baseline = perturb_baseline
        if corpus < 1:
            raise ValueError(f"corpus: found {corpus}, wanted at least 1 reference")
        self.corpus = corpus
        self.foil = one_of("foil", foil, FOILS)

    def __call__(self, batch: Batch) -> Scores:
        """Follow the contrastive similarity of every image in both orders."""
        towards, none = self._directions(batch)

        def margin(images: np.ndarray, _: bool) -> np.ndarray:
            embeddings = batch.embed(images).astype(np.float64)
            length = np.linalg.norm(embeddings, axis=1)
            product = (embeddings * towards).sum(axis=1)
            return np.asarray(product / np.where(length > 0, length, 1))

        scores = _gain(
            batch,
            batch.maps,
            margin,
            fill=baselines(batch, self.baseline),
            steps=self.steps,
            inserts=self.inserts,
            unit="span",
        )
        return scores.leave_out(none, "a class without training references", unavailable=True)

    def _directions(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of a corpus minus that of its foil [N, D], and which have none [N]."""
        model = getattr(batch.model, "model", None)
        references = getattr(model, "references", None)
        if model is None or references is None or not len(references):
            raise MetricUnavailable("the model has no training references to draw a corpus from")
        known = references.detach().cpu().numpy().astype(np.float64)
        labels = model.reference_labels.detach().cpu().numpy()
        foils = None if self.foil == "others" else foil_classes(batch, self.foil)[:, 0]
        towards = np.zeros((len(batch), known.shape[1]))
        none = np.zeros(len(batch), dtype=bool)
        for row, generator in enumerate(batch.generators()):
            own = labels == batch.classes[row]
            other = ~own if foils is None else labels == foils[row]
            none[row] = not (own.any() and other.any())
            if not none[row]:
                means = [
                    known[generator.choice(np.flatnonzero(members), self.corpus)].mean(axis=0)
                    for members in (own, other)
                ]
                towards[row] = means[0] - means[1]
        return towards, none


class MapClassifier:
    """How well a small classifier tells from a map alone which class it explains.

    After target discriminativeness in Nauta et al., 2023, "From Anecdotal Evidence to Quantitative
    Evaluation Methods". Of each image, the maps of K random classes, K = ``targets`` or all. Each
    map is averaged over at most ``side`` x ``side`` blocks and brought to mean 0 and length 1, so
    that strength tells nothing. A classifier is fitted on the maps of other images (folds of whole
    images), and has to say which of the image's K classes a map explains. With r the share of the
    image's maps that it gets right, tied classes sharing, the value is (r - 1/K) / (1 - 1/K): the
    mean over images is the accuracy corrected for chance. Classes are drawn from the image's seed.

    Higher is better, in [-1/(K - 1), 1]. Random maps: 0 on average. Agnostic maps: exactly 0 for
    every image, since K equal maps get one answer and it is right once: what the classifier knows
    of the image does not help. Perfect maps: 1. Values of different K are not comparable. The curve
    has a point a class that was drawn, 1 if it was found; NaN, and not counted in K, where the
    map is constant or not finite.
    """

    category = "contrastivity"
    direction = "higher"
    # Maps without a pattern are left out class by class: the folds are the same for all losses.
    constant_maps = True
    whole_set = True
    verdict = True
    explained = "min(targets or classes, classes) * (1 - 2 / classes)"
    moderate: ClassVar = {"targets": 4}
    nulls: ClassVar = {"random": 0.0, "agnostic": 0.0}
    paper = "after Nauta et al., 2023"

    def __init__(
        self,
        targets: int | None = None,
        classifier: Literal["centroid", "logistic"] = "centroid",
        folds: int = 5,
        side: int = 8,
    ) -> None:
        """Choose how many classes an image, the classifier, the folds and the size of a map.

        Args:
            targets: classes drawn for an image; null for all.
            classifier: "centroid" takes the class of the mean map nearest by cosine, "logistic" is
                a logistic regression.
            folds: into how many parts the images are cut.
            side: blocks to a side of a map.

        Raises:
            ValueError: if there are fewer than 2 classes or folds, no block, or no such classifier.
        """
        for name, number, least in (
            ("targets", targets, 2),
            ("folds", folds, 2),
            ("side", side, 1),
        ):
            if number is not None and number < least:
                raise ValueError(f"{name}: found {number}, wanted at least {least}")
        self.targets, self.folds, self.side = targets, folds, side
        self.classifier = one_of("classifier", classifier, ("centroid", "logistic"))

    def __call__(self, batch: Batch) -> Scores:
        """Classify the maps of each image by those of others."""
        classes = batch.class_count
        if len(batch) < 2 or classes < 2:
            raise MetricUnavailable("maps of one image are classified by those of others")
        count = min(self.targets or classes, classes)
        drawn = np.empty((len(batch), count), dtype=np.int64)
        keys = np.empty(len(batch))
        for row, generator in enumerate(batch.generators()):
            drawn[row] = generator.permutation(classes)[:count]
            keys[row] = generator.random_sample()
        features, known = [], []
        for slot in range(count):
            maps = batch.maps_of(drawn[:, slot])
            known.append(~no_map(maps))
            features.append(_shapes(np.where(known[-1][:, None, None], maps, 0), self.side))
        seen, usable = np.stack(features, axis=1), np.stack(known, axis=1)
        # The order of the images decides neither the folds nor how sums are rounded.
        order = np.lexsort((batch.ids, keys))
        fold = np.empty(len(batch), dtype=np.int64)
        fold[order] = np.arange(len(batch)) % self.folds
        points = np.full(drawn.shape, np.nan)
        for part in range(min(self.folds, len(batch))):
            others = order[fold[order] != part]
            taken = usable[others]
            scores = self._fitted(seen[others][taken], drawn[others][taken], classes)
            for row in np.flatnonzero(fold == part).tolist():
                mine = usable[row]
                if mine.any():
                    points[row, mine] = _right(scores(seen[row, mine])[:, drawn[row, mine]])
        left = usable.sum(axis=1)
        found = np.where(usable, points, 0).sum(axis=1)
        values = (found - 1) / np.where(left > 1, left - 1, np.nan)
        curves = Curves("class drawn", range(1, count + 1), list(points))
        return Scores(values, curves).leave_out(left < 2, "fewer than two classes have a map")

    def _fitted(
        self, maps: np.ndarray, labels: np.ndarray, classes: int
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Fit the classifier on maps [M, F] of classes [M].

        Returns:
            From maps [B, F] to scores [B, classes], the lowest for classes that it never saw.
        """
        present = np.unique(labels)
        if len(present) < 2:
            return lambda maps: np.zeros((len(maps), classes))
        if self.classifier == "logistic":
            # Here, since scikit-learn takes a second, and few of these metrics need it.
            from sklearn.linear_model import LogisticRegression

            model = LogisticRegression(max_iter=1000).fit(maps, labels)
            weights, bias = model.coef_, model.intercept_
            if len(present) == 2:
                weights, bias = np.vstack([-weights, weights]), np.concatenate([-bias, bias])
        else:
            weights = np.stack([maps[labels == label].mean(axis=0) for label in present])
            length = np.linalg.norm(weights, axis=1, keepdims=True)
            weights, bias = weights / np.where(length > 0, length, 1), np.zeros(len(present))

        def scores(maps: np.ndarray) -> np.ndarray:
            found = np.full((len(maps), classes), -np.inf)
            # Not a product of matrices: it rounds by the place of a row, and equal maps must have
            # equal scores.
            found[:, present] = (maps[:, None] * weights).sum(axis=2) + bias
            return found

        return scores


class SpaceAgreement:
    """Whether what is far apart in the embedding is far apart in the maps, by rank.

    After Kriegeskorte et al., 2008, "Representational similarity analysis". ``over`` images: of
    each image, the rank correlation, over all other images, of the distance of the embeddings,
    1 - cosine, with that of the maps of the labels, 1 - Spearman's correlation. The paper takes all
    pairs at once; an image's value here takes its own, and the mean over images is reported.
    ``over`` classes: of each image, over all pairs of classes, of the distance of the classes'
    prototypes with that of the image's maps of both; it needs no other image.

    In [-1, 1]; neither end is better in itself. Random maps: 0 on average. Agnostic maps: over
    images, what the pictures share with the embedding, and so the standard to read it by; over
    classes, no value. Perfect maps: 1 if maps are to follow the embedding.
    """

    category = "contrastivity"
    direction = "none"
    whole_set = True
    forward = "1 * (over == 'images')"
    explained = "(classes - 2) * (over == 'classes')"
    paper = "after Kriegeskorte et al., 2008"

    def __init__(self, over: Literal["images", "classes"] = "images") -> None:
        """Choose between what distances are compared.

        Raises:
            ValueError: if there is no such choice.
        """
        self.over = one_of("over", over, ("images", "classes"))

    def __call__(self, batch: Batch) -> Scores:
        """Compare both spaces."""
        if self.over == "classes":
            return self._over_classes(batch)
        if len(batch) < 4:
            raise MetricUnavailable("distances are ranked only among four images or more")
        of_maps = 1 - _correlations(_ranked(batch.maps))
        of_embeddings = 1 - _cosines(batch.embed(batch.images))
        apart = ~np.eye(len(batch), dtype=bool)
        shape = (len(batch), 1, len(batch) - 1)
        values = spearman(of_embeddings[apart].reshape(shape), of_maps[apart].reshape(shape))
        return Scores(values).leave_out(np.isnan(values), "all distances are the same")

    def _over_classes(self, batch: Batch) -> Scores:
        far = 1 - prototype_cosines(batch)
        classes = np.arange(len(far))
        maps = batch.maps_of(np.broadcast_to(classes, (len(batch), len(classes))))
        values = np.full(len(batch), np.nan)
        few = np.zeros(len(batch), dtype=bool)
        for row, mine in enumerate(maps):
            kept = np.flatnonzero(~no_map(mine))
            few[row] = len(kept) < 3
            if not few[row]:
                first, second = np.triu_indices(len(kept), 1)
                between = 1 - _correlations(_ranked(mine[kept]))[first, second]
                between[between < ROUNDING] = 0
                pairs = far[np.ix_(kept, kept)][first, second]
                values[row] = spearman(pairs[None, None], between[None, None])[0]
        return (
            Scores(values)
            .leave_out(np.isnan(values), "all distances are the same")
            .leave_out(few, "fewer than three classes have a map")
        )


class MapSilhouette:
    """How well maps of the labels fall into classes, beside how well embeddings do.

    Rousseeuw, 1987, "Silhouettes": (b - a) / max(a, b), with a the mean distance of the image's map
    to those of its own class and b that to those of the nearest other class; 0 for the only image
    of a class. Maps are averaged over at most 8x8 blocks; distances are 1 - correlation of maps,
    and 1 - cosine of embeddings. The value is that of the maps; the curve has it and, second, that
    of the embeddings.

    Higher is better, in [-1, 1]. Random maps: below 0, since b is the least of several means, and
    the more so the fewer images a class has; compare only equal sets. Agnostic maps: what pictures
    of a class share, so it carries no verdict and is read beside that of an agnostic method.
    Perfect maps: 1.
    """

    category = "contrastivity"
    direction = "higher"
    whole_set = True
    forward = "1"
    paper = "after Rousseeuw, 1987"

    def __call__(self, batch: Batch) -> Scores:
        """Compare all images."""
        from sklearn.metrics import silhouette_samples

        count = len(np.unique(batch.classes))
        if not 2 <= count < len(batch):
            raise MetricUnavailable("silhouettes need two classes, and two images of one of them")
        spaces = _cosines(_shapes(batch.maps, 8)), _cosines(batch.embed(batch.images))
        found = []
        for cosines in spaces:
            distances = np.clip(1 - cosines, 0, None)
            np.fill_diagonal(distances, 0)
            found.append(silhouette_samples(distances, batch.classes, metric="precomputed"))
        values = np.stack(found, axis=1).astype(np.float64)
        curves = Curves("space", ("maps", "embeddings"), list(values))
        return Scores(values[:, 0].copy(), curves)


def _one_foil(batch: Batch, foil: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the one foil of each image [N] and its map [N, H, W]."""
    if foil == "runner-up":
        return batch.foils, batch.foil_maps
    classes = foil_classes(batch, foil)[:, 0]
    return classes, batch.maps_of(classes)


def _ranks(batch: Batch, maps: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Rank the pixels of maps [N, H, W]; those that are no maps count as flat."""
    return pixel_order(np.where(none[:, None, None], 0, maps), batch.seeds)


def _replaced(batch: Batch, ranks: np.ndarray, count: int, fill: np.ndarray) -> np.ndarray:
    """Put ``fill`` in the place of the ``count`` pixels of the highest rank, in all channels."""
    top = ranks >= ranks[0].size - count
    return np.where(top[:, None], fill, batch.images)


def _gain(
    batch: Batch,
    maps: np.ndarray,
    margin: Callable[[np.ndarray, bool], np.ndarray],
    *,
    fill: np.ndarray,
    steps: int,
    inserts: bool,
    unit: str,
) -> Scores:
    """Return how much area a margin gains on chance, pixels going or entering by ``maps``.

    Chance is the same map moved round the image by a random distance, from the image's seed, so
    that its pixels hang together as those of the map do. Pixels in random order would not do: a
    score falls at another pace under scattered pixels than under patches, and coarse maps of noise
    would gain or lose by that alone.

    Args:
        batch: the images.
        maps: [N, H, W], finite; the highest values come first, tied ones in a random order.
        margin: from images, and whether they are independent of the maps, to a number each.
        fill: what removed pixels become.
        steps: how many equal parts of the pixels follow each other.
        inserts: whether pixels enter rather than go.
        unit: "span" of both curves, or "start": the margin of the untouched image.
    """
    pixels = maps[0].size
    start, end = (fill, batch.images) if inserts else (batch.images, fill)
    curves = []
    for own in (True, False):
        ranks = pixel_order(maps if own else _moved(maps, batch), batch.seeds)
        points = []
        for step in range(1, steps):
            top = (ranks >= pixels - round(step * pixels / steps))[:, None]
            points.append(margin(np.where(top, end, start), False))
        curves.append(points)
    ends = [margin(images, True) for images in (start, end)]
    own_curve, random = (np.stack([ends[0], *points, ends[1]], axis=1) for points in curves)
    gain = (own_curve - random) if inserts else (random - own_curve)
    if unit == "span":
        size: np.ndarray = np.ptp(np.concatenate([own_curve, random], axis=1), axis=1)
        reason = "the margin is the same for all images scored"
    else:
        size, reason = ends[inserts], "the label does not lead its foil"
    gain = gain / np.where(size > 0, size, np.nan)[:, None]
    shares = np.linspace(0, 1, steps + 1)
    axis = f"share of pixels {'inserted' if inserts else 'removed'}"
    area = np.trapezoid(gain, shares, axis=1)
    scores = Scores(area, Curves(axis, shares.tolist(), list(gain)))
    return scores.leave_out(~(size > 0), reason)


def _moved(maps: np.ndarray, batch: Batch) -> np.ndarray:
    """Move each map of [N, H, W] round the image by a random distance down and across."""
    moved = np.empty_like(maps)
    for row, generator in enumerate(batch.generators()):
        distance = [generator.randint(side) for side in maps.shape[1:]]
        moved[row] = np.roll(maps[row], distance, axis=(0, 1))
    return moved


def _right(scores: np.ndarray) -> np.ndarray:
    """Return how far each of K maps gets its own class: scores [K, K] to [K].

    Column k is the class of row k. Classes tied for the highest score share the answer.
    """
    best = scores == scores.max(axis=1, keepdims=True)
    return np.asarray(np.diagonal(best) / best.sum(axis=1))


def _shapes(maps: np.ndarray, side: int) -> np.ndarray:
    """Average maps [N, H, W] over at most side x side blocks; mean 0, length 1: [N, F].

    A map that is flat after averaging becomes zero.
    """
    blocks = maps.astype(np.float64)
    for axis in (1, 2):
        size = blocks.shape[axis]
        edges = np.unique(np.linspace(0, size, min(side, size) + 1).astype(int))
        widths = np.diff(edges).reshape([-1 if other == axis else 1 for other in range(3)])
        blocks = np.add.reduceat(blocks, edges[:-1], axis=axis) / widths
    flat = blocks.reshape(len(maps), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    largest = np.abs(maps).max(axis=(1, 2), initial=0)[:, None]
    return np.where(length > ROUNDING * largest, flat / np.where(length > 0, length, 1), 0.0)


def _ranked(maps: np.ndarray) -> np.ndarray:
    """Return the ranks of each map of [N, H, W], ties at their mean rank: [N, H * W]."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(maps.reshape(len(maps), -1), axis=1))


def _correlations(rows: np.ndarray) -> np.ndarray:
    """Return the linear correlation of each pair of rows [N, F]: [N, N]."""
    return _cosines(rows - rows.mean(axis=1, keepdims=True))


def _cosines(rows: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows [N, F], 0 where one is zero: float64 [N, N]."""
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit = rows / np.where(length > 0, length, 1)
    return np.asarray(unit @ unit.T)


def _steps(steps: int) -> int:
    if steps < 1:
        raise ValueError(f"steps: found {steps}, wanted at least 1")
    return steps
