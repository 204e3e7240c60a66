"""Perturbation: owns methods that remove parts of an image and see what becomes of the scores.

All are one procedure with three choices (Covert, Lundberg and Lee, 2021, "Explaining by Removing: A
Unified Framework for Model Explanation", section 3): how a part is removed, which behaviour of the
model is watched, and how what is seen with many parts removed becomes a number for each. Here

- a removed pixel becomes that of a baseline image: x * m + b * (1 - m) for a mask m (in
  `FeaturePermutation` that of other images, one after the other, and scores are averaged);
- the scores of the classes asked for are watched, all from the same passes of the network;
- the summary is the method. Where whole regions are removed it is linear in the scores: a `Plan`
  lists the coalitions, the sets of regions that stay, and the weight of each one's score.

Coalitions, masks and orders are drawn once for a number of regions: every image, class and loss
gets the same. Attributions are signed: above 0, the part raises the score.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from clarity.attribution.protocol import MethodUnavailable, PerClass
from clarity.attribution.targets import Score
from clarity.seeds import derive_seed

#: Regions of which `ShapleyValues` tries all coalitions: 4,096 passes an image.
MOST_REGIONS = 12


@dataclass(frozen=True)
class Plan:
    """What a method does with images of a certain number of regions, d.

    Attributes:
        present: the regions that stay in each coalition, bool [N, d].
        weights: attributions [d] are these [d, N], float64, times the coalitions' scores [N].
        backgrounds: which of the reference images shows where a region is removed, int64 [N]; None
            for a method that wants none.
    """

    present: np.ndarray
    weights: np.ndarray
    backgrounds: np.ndarray | None = None


class Perturbation(PerClass):
    """Passes of composed images through the network, at most ``rows`` at a time.

    Attributes:
        wants_references: whether ``baselines`` are reference images [R, C, H, W] that are the same
            for all images, instead of one baseline for each image.
    """

    wants_references: ClassVar[bool] = False

    def __init__(self, model: Score, rows: int = 64) -> None:
        """Explain ``model`` with at most ``rows`` images a pass."""
        self._score = model
        self._rows = _whole("rows", rows, 1)

    def _scores(
        self,
        images: Tensor,
        targets: Tensor,
        backgrounds: Tensor,
        image_of: Tensor,
        background_of: Tensor,
        masks: Callable[[slice], Tensor],
    ) -> Tensor:
        """Score images composed with backgrounds, each for the classes of its image.

        Args:
            images: [B, C, H, W].
            targets: classes [B, K].
            backgrounds: [R, C, H, W].
            image_of: which image a composition shows where its mask is 1, [P].
            background_of: which background where it is 0, [P].
            masks: makes a part of the masks, [at most rows, C or 1, H, W] in [0, 1].

        Returns:
            Scores [P, K] on the CPU, float64: sums of thousands of them follow.
        """
        found = []
        with torch.no_grad():
            for start in range(0, len(image_of), self._rows):
                part = slice(start, start + self._rows)
                image, background = image_of[part], background_of[part]
                # Exact where the mask is 0 or 1, and on CPUs ten times as fast as `torch.where`.
                composed = torch.lerp(backgrounds[background], images[image], masks(part))
                found.append(self._score(composed).gather(1, targets[image]))
        return torch.cat(found).cpu().double()


class RegionPerturbation(Perturbation, ABC):
    """A method that removes whole regions, and whose attributions are linear in the scores."""

    def __init__(self, model: Score, rows: int = 64) -> None:
        """Explain ``model`` with at most ``rows`` images a pass."""
        super().__init__(model, rows)
        self._plans: dict[tuple[int, int], Plan] = {}

    @abstractmethod
    def plan(self, regions: int, references: int) -> Plan:
        """Return the coalitions of regions, and how their scores are summed up.

        Args:
            regions: how many the image has.
            references: how many reference images there are, for a method that wants them; else 0.

        Raises:
            MethodUnavailable: if the method cannot work with so many regions.
        """

    def attribute_classes(  # type: ignore[override]  # what it is given has names here
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        baselines: Tensor,
        feature_mask: Tensor,
        **given: Any,
    ) -> Tensor:
        """Explain images [B, C, H, W] for classes int64 [B, K].

        Args:
            inputs: in [0, 1].
            targets: the classes.
            baselines: what shows where a region is removed, [B, C, H, W]; or the reference images
                [R, C, H, W], if the method wants those.
            feature_mask: the region of each pixel, int64 [B, H, W], from 0 without gaps.
            given: not looked at.

        Returns:
            Attributions [B, K, 1, H, W]: each pixel has that of its region, not divided by the
            number of pixels.

        Raises:
            MethodUnavailable: if the method cannot work with so many regions.
        """
        device, (height, width) = inputs.device, inputs.shape[2:]
        regions = feature_mask.to(device).flatten(1)
        counts = regions.amax(dim=1).cpu() + 1
        references = len(baselines) if self.wants_references else 0
        # Images with as many regions share a plan, and all images share passes: pairs of an image
        # and a coalition, of which only the last pass may hold fewer than the others.
        groups = [
            ((counts == count).nonzero()[:, 0], self._planned(count, references))
            for count in sorted(set(counts.tolist()))
        ]
        image_of, coalition_of, background_of = (
            torch.cat(part).to(device) for part in zip(*_pairs(groups), strict=True)
        )
        most = int(counts.max())
        stays = [np.pad(p.present, ((0, 0), (0, most - p.present.shape[1]))) for _, p in groups]
        present = torch.from_numpy(np.concatenate(stays)).to(inputs)

        def masks(part: slice) -> Tensor:
            by_pixel = present[coalition_of[part]].gather(1, regions[image_of[part]])
            return by_pixel.view(-1, 1, height, width)

        scores = self._scores(inputs, targets, baselines, image_of, background_of, masks)
        by_group = torch.split(scores, [len(images) * len(p.present) for images, p in groups])
        found = torch.zeros(*targets.shape, most)
        for (images, plan), part in zip(groups, by_group, strict=True):
            by_class = part.view(len(images), len(plan.present), -1).transpose(1, 2)
            attributions = by_class @ torch.from_numpy(plan.weights).T
            found[images, :, : attributions.shape[2]] = attributions.float()
        places = regions[:, None].expand(-1, targets.shape[1], -1)
        return found.to(device).gather(2, places).view(*targets.shape, 1, height, width)

    def _planned(self, regions: int, references: int) -> Plan:
        if (regions, references) not in self._plans:
            self._plans[regions, references] = self.plan(regions, references)
        return self._plans[regions, references]


def _pairs(groups: Sequence[tuple[Tensor, Plan]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the pairs of each group: image, coalition (counted over all groups), background."""
    start = 0
    for images, plan in groups:
        coalitions = torch.arange(start, start + len(plan.present))
        image_of = images.repeat_interleave(len(coalitions))
        background_of = image_of
        if plan.backgrounds is not None:
            background_of = torch.from_numpy(plan.backgrounds).repeat(len(images))
        yield image_of, coalitions.repeat(len(images)), background_of
        start += len(coalitions)


class FeatureAblation(RegionPerturbation):
    """The fall of the score when one region is removed: g(x) - g(x without region i).

    The oldest of these methods, with squares for regions: Zeiler and Fergus, 2014, "Visualizing and
    Understanding Convolutional Networks", section 4.2. As Captum's class of this name. Takes d + 1
    passes an image.
    """

    def plan(self, regions: int, references: int) -> Plan:
        """Return the whole image, then the image without each of its regions."""
        return Plan(_all_but_one(regions), np.hstack([np.ones((regions, 1)), -np.eye(regions)]))


class FeaturePermutation(RegionPerturbation):
    """The fall of the score when one region is replaced by that of other images, on average.

    Captum's class of this name shuffles a region among the images of the batch, once, so that a map
    depends on which images it was computed with, and on luck. Here the region of each reference
    image takes its place in turn, and the mean over references is subtracted: the region is drawn
    from its marginal distribution (Covert et al., 2021, section 4), and nothing is random. Takes
    d * R + 1 passes an image for R references.
    """

    wants_references = True

    def plan(self, regions: int, references: int) -> Plan:
        """Return the whole image, then it without each of its regions, one reference at a time."""
        removed = -np.eye(regions) / references
        return Plan(
            np.vstack([np.ones((1, regions), bool), *[_all_but_one(regions)[1:]] * references]),
            np.hstack([np.ones((regions, 1)), *[removed] * references]),
            np.concatenate([[0], np.arange(references).repeat(regions)]),
        )


class ShapleyValues(RegionPerturbation):
    """Shapley values: the fair share of each region in g(x) - g(baseline), exactly.

    The mean, over all orders in which regions may be added to the baseline, of the rise of the
    score when region i comes. Shapley, 1953, "A Value for n-Person Games"; Lundberg and Lee, 2017,
    "A Unified Approach to Interpreting Model Predictions", equation 4: the sum over coalitions S
    without i of |S|! (d - |S| - 1)! / d! (g(S with i) - g(S)). As Captum's class of this name,
    which goes through all d! orders; here through the 2^d coalitions.
    """

    default_regions = 9

    def plan(self, regions: int, references: int) -> Plan:
        """Return all coalitions with the weights of Shapley's formula."""
        if regions > MOST_REGIONS:
            raise MethodUnavailable(
                f"an image has {regions} regions, and 2^{regions} coalitions are too many to try "
                f"all; lower the count of `segments`, for superpixels well below {MOST_REGIONS}, "
                f"or take ShapleyValueSampling or KernelShap"
            )
        present = _all_coalitions(regions)
        size = present.sum(axis=1)
        # |S|! (d - |S| - 1)! / d!, for the coalition before the region comes.
        weight = np.array([1 / (regions * comb(regions - 1, before)) for before in range(regions)])
        joins, lacks = weight[size - 1], weight[np.minimum(size, regions - 1)]
        return Plan(present, np.where(present, joins[:, None], -lacks[:, None]).T)


class ShapleyValueSampling(RegionPerturbation):
    """Shapley values estimated from random orders of the regions.

    Castro, Gomez and Tejada, 2009, "Polynomial calculation of the Shapley value based on sampling",
    the algorithm ApproShapley. Regions are added to the baseline in ``n_samples`` random orders,
    and each gets the mean rise of the score when it comes, so that attributions sum to
    g(x) - g(baseline) for any number of orders. As Captum's class of this name. A coalition that
    several orders share is tried once: takes n_samples * (d - 1) + 2 passes an image at most.
    """

    def __init__(self, model: Score, n_samples: int = 25, rows: int = 64, seed: int = 0) -> None:
        """Explain ``model``.

        Args:
            model: the score.
            n_samples: random orders.
            rows: images a pass.
            seed: of the orders.
        """
        super().__init__(model, rows)
        self._n_samples = _whole("n_samples", n_samples, 1)
        self._seed = seed

    def plan(self, regions: int, references: int) -> Plan:
        """Return the coalitions that the orders run through, and the mean rise of each region."""
        draw = np.random.default_rng(derive_seed("ShapleyValueSampling", self._seed, regions))
        orders = draw.permuted(np.tile(np.arange(regions), (self._n_samples, 1)), axis=1)
        rank = orders.argsort(axis=1)
        # [order, regions that have come, region]
        prefixes = rank[:, None] < np.arange(regions + 1)[:, None]
        present, place = np.unique(prefixes.reshape(-1, regions), axis=0, return_inverse=True)
        place = place.reshape(self._n_samples, regions + 1)
        weights = np.zeros((regions, len(present)))
        np.add.at(weights, (orders, place[:, 1:]), 1 / self._n_samples)
        np.add.at(weights, (orders, place[:, :-1]), -1 / self._n_samples)
        return Plan(present, weights)


class KernelShap(RegionPerturbation):
    """Shapley values by a weighted linear regression of the scores on what is present.

    Lundberg and Lee, 2017, "A Unified Approach to Interpreting Model Predictions", theorem 2: the
    linear game that is closest to g by the Shapley kernel and equals it with all regions and with
    none has the Shapley values as coefficients. Both conditions hold exactly here; Captum's class
    of this name gives both coalitions the weight 10^6 instead.

    Coalitions are drawn by the kernel, as Captum does, but each is followed by its complement,
    which lowers the variance (Covert and Lee, 2021, "Improving KernelSHAP", paired sampling). If
    ``n_samples`` are enough for all 2^d, each is taken once with its weight, and the result is
    exact.
    """

    def __init__(self, model: Score, n_samples: int = 1000, rows: int = 64, seed: int = 0) -> None:
        """Explain ``model``.

        Args:
            model: the score.
            n_samples: passes an image: the coalitions, all and none among them. Captum's 25 are
                fewer than the unknowns for most images.
            rows: images a pass.
            seed: of the coalitions.
        """
        super().__init__(model, rows)
        self._n_samples = _whole("n_samples", n_samples, 2)
        self._seed = seed

    def plan(self, regions: int, references: int) -> Plan:
        """Return none, all, then the coalitions between, and the constrained least squares fit."""
        between, kernel = self._coalitions(regions)
        share = between.mean(axis=1)
        root = np.sqrt(kernel)[:, None]
        # With coefficients that sum to delta = g(all) - g(none), what remains to be fitted is their
        # deviation from delta / d, which sums to 0, by rows that do.
        design = root * (between - share[:, None])
        if np.linalg.matrix_rank(design) < regions - 1:
            raise MethodUnavailable(
                f"{self._n_samples} coalitions do not determine {regions} regions; raise n_samples "
                f"well above {2 * regions}"
            )
        fit = np.linalg.pinv(design) * root.T
        of_share = fit @ share
        none = of_share - fit.sum(axis=1) - 1 / regions
        everything = 1 / regions - of_share
        ends = np.array([[False], [True]]).repeat(regions, axis=1)
        return Plan(np.vstack([ends, between]), np.column_stack([none, everything, fit]))

    def _coalitions(self, regions: int) -> tuple[np.ndarray, np.ndarray]:
        """Return coalitions bool [N, d], neither all nor none, and their weights [N]."""
        sizes = np.arange(1, regions)
        # The kernel, summed over all coalitions of a size.
        kernel = 1 / (sizes * (regions - sizes))
        if 2**regions <= self._n_samples:
            present = _all_coalitions(regions)[1:-1]
            size = present.sum(axis=1)
            ways = np.array([comb(regions, chosen) for chosen in range(1, regions)])
            return present, (kernel / ways)[size - 1]
        draw = np.random.default_rng(derive_seed("KernelShap", self._seed, regions))
        wanted = self._n_samples - 2
        drawn = draw.choice(sizes, size=-(-wanted // 2), p=kernel / kernel.sum())
        order = draw.random((len(drawn), regions)).argsort(axis=1).argsort(axis=1)
        chosen = order < drawn[:, None]
        present = np.stack([chosen, ~chosen], axis=1).reshape(-1, regions)[:wanted]
        return present, np.ones(wanted)


class Lime(RegionPerturbation):
    """Coefficients of a linear model of the scores around the image.

    Ribeiro, Singh and Guestrin, 2016, "'Why Should I Trust You?': Explaining the Predictions of Any
    Classifier", equations 1 and 2, with the choices of the authors' code for images: coalitions
    that each region joins with probability 1/2, the whole image first; weights
    exp(-D^2 / (2 kernel_width^2)) for the cosine distance D = 1 - sqrt(present / d) of a coalition
    to the whole; ridge regression with an intercept and penalty ``alpha``, on all regions. The
    paper selects a few regions by lasso before; every pixel needs an attribution here.

    Captum's class of this name, which has lasso and a distance of pixels by default, gives the same
    from these coalitions with ``SkLearnRidge(alpha=1.0)`` and these weights as similarity.
    """

    def __init__(
        self,
        model: Score,
        n_samples: int = 1000,
        kernel_width: float = 0.25,
        alpha: float = 1.0,
        rows: int = 64,
        seed: int = 0,
    ) -> None:
        """Explain ``model``.

        Args:
            model: the score.
            n_samples: passes an image: the coalitions, the whole image among them.
            kernel_width: how far from the image a coalition still counts, in cosine distance.
            alpha: penalty on the squares of the coefficients; 0 for none.
            rows: images a pass.
            seed: of the coalitions.
        """
        super().__init__(model, rows)
        self._n_samples = _whole("n_samples", n_samples, 2)
        self._kernel_width = _number(
            "kernel_width", kernel_width, "above 0", lambda width: width > 0
        )
        self._alpha = _number("alpha", alpha, "of at least 0", lambda penalty: penalty >= 0)
        self._seed = seed

    def plan(self, regions: int, references: int) -> Plan:
        """Return the coalitions, and the weighted ridge regression on them."""
        draw = np.random.default_rng(derive_seed("Lime", self._seed, regions))
        present = draw.random((self._n_samples, regions)) < 0.5
        present[0] = True
        weight = self.similarity(present)
        # An intercept is what is left when both sides are centred by the weighted mean.
        centred: np.ndarray = present - np.average(present, axis=0, weights=weight)
        weighted = centred * weight[:, None]
        normal = weighted.T @ centred + self._alpha * np.eye(regions)
        # The smallest solution, should there be several without a penalty.
        return Plan(present, np.linalg.pinv(normal, hermitian=True) @ weighted.T)

    def similarity(self, present: np.ndarray) -> np.ndarray:
        """Return the weights [N] of coalitions bool [N, d]."""
        distance = 1 - np.sqrt(present.mean(axis=1))
        similarity: np.ndarray = np.exp(-(distance**2) / (2 * self._kernel_width**2))
        return similarity


class Occlusion(Perturbation):
    """The fall of the score when a window is removed, averaged over the windows over a pixel.

    Zeiler and Fergus, 2014, "Visualizing and Understanding Convolutional Networks", section 4.2. As
    Captum's class of this name: windows start at multiples of the stride until the last reaches the
    border, where it is cut. Takes 1 pass an image, and 1 for each window.
    """

    def __init__(
        self,
        model: Score,
        sliding_window_shapes: Sequence[int],
        strides: int | Sequence[int] = 1,
        rows: int = 64,
    ) -> None:
        """Explain ``model``.

        Args:
            model: the score.
            sliding_window_shapes: height and width of the window in pixels, over all channels; or
                channels, height and width, for fewer channels at a time.
            strides: pixels (or channels) between windows, for all axes or each.
            rows: images a pass.

        Raises:
            ValueError: if the windows leave gaps, or a number is not a whole one above 0.
        """
        super().__init__(model, rows)
        self._window = [_whole("sliding_window_shapes", side, 1) for side in sliding_window_shapes]
        axes = len(self._window)
        if axes not in (2, 3):
            raise ValueError(
                f"sliding_window_shapes: found {axes} numbers, wanted height and width, or "
                "channels, height and width"
            )
        steps = [strides] * axes if isinstance(strides, int) else list(strides)
        self._strides = [_whole("strides", step, 1) for step in steps]
        if len(steps) != axes:
            raise ValueError(f"strides: found {len(steps)} numbers, wanted {axes} or a single one")
        if any(
            step > side for step, side in zip(self._strides[-2:], self._window[-2:], strict=True)
        ):
            raise ValueError(
                f"strides: found {strides}, wanted at most sliding_window_shapes, "
                f"{list(sliding_window_shapes)}: there would be gaps between windows"
            )

    def attribute_classes(  # type: ignore[override]  # what it is given has names here
        self, inputs: Tensor, targets: Tensor, *, baselines: Tensor, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W] for classes int64 [B, K].

        Args:
            inputs: in [0, 1].
            targets: the classes.
            baselines: what shows where a window is removed, [B, C, H, W].
            given: not looked at.

        Returns:
            Attributions [B, K, 1, H, W], or [B, K, C, H, W] with a window over fewer channels.

        Raises:
            MethodUnavailable: if the window is larger than the image, or leaves gaps in channels.
        """
        along = self._windows(inputs.shape[1:])
        shape = [len(axis) for axis in along]
        # Before the first window stands an empty one, for the whole image.
        which = torch.cartesian_prod(*[torch.arange(count) for count in shape])
        channels, rows, columns = (
            torch.cat([torch.zeros(1, axis.shape[1]), axis[chosen]]).to(inputs)
            for axis, chosen in zip(along, which.T, strict=True)
        )
        batch, size = len(inputs), len(rows)
        image_of = torch.arange(batch, device=inputs.device).repeat_interleave(size)
        window_of = torch.arange(size, device=inputs.device).repeat(batch)

        def masks(part: slice) -> Tensor:
            window = window_of[part]
            place = rows[window][:, :, None] * columns[window][:, None]
            return 1 - channels[window][:, :, None, None] * place[:, None]

        scores = self._scores(inputs, targets, baselines, image_of, image_of, masks)
        scores = scores.view(batch, size, -1)
        falls = (scores[:, :1] - scores[:, 1:]).transpose(1, 2).reshape(*targets.shape, *shape)
        # Windows are products of intervals: so are their sums, and how many there are over a pixel.
        total = torch.einsum("bkcij,cd,ih,jw->bkdhw", falls, *[axis.double() for axis in along])
        over = torch.einsum("d,h,w->dhw", *[axis.sum(dim=0).double() for axis in along])
        return (total / over).float().to(inputs.device)

    def _windows(self, size: Sequence[int]) -> list[Tensor]:
        """Return which places the windows cover along channels, height and width, bool [N, side].

        With a window over all channels they count as a single place.
        """
        window, strides = self._window, self._strides
        if any(extent > side for extent, side in zip(window[::-1], size[::-1], strict=False)):
            raise MethodUnavailable(
                f"a window of {_by(window)} does not fit into images of {_by(size)}"
            )
        if len(window) == 2 or window[0] == size[0]:
            size, window, strides = [1, *size[1:]], [1, *window[-2:]], [1, *strides[-2:]]
        if strides[0] > window[0]:
            raise MethodUnavailable(
                f"windows of {window[0]} of {size[0]} channels with the stride {strides[0]} leave "
                "gaps; give strides for channels, height and width, the first at most "
                f"{window[0]}"
            )
        along = []
        for side, extent, stride in zip(size, window, strides, strict=True):
            starts = torch.arange(-(-(side - extent) // stride) + 1)[:, None] * stride
            places = torch.arange(side)
            along.append((places >= starts) & (places < starts + extent))
        return along


class RISE(Perturbation):
    """How much higher the score is when a pixel is kept, with the rest masked at random.

    Petsiuk, Das and Saenko, 2018, "RISE: Randomized Input Sampling for Explanation of Black-box
    Models". A mask is a grid of ``cells`` x ``cells`` of which each cell is 1 with probability
    ``kept`` and else 0, upsampled bilinearly to one cell more than the image and cut to it at a
    random shift (section 3.2). Equation 6 estimates S = E[g(image with M) | M(pixel) = 1] by
    sum_i g_i M_i / (N kept). From that the mean score is subtracted here, each g_i by the mean of
    all, and divided by N - 1, so that the estimate of S - E[g] has no bias: scores may be of any
    sign and size, and what they have in common would otherwise come back as noise, wherever a pixel
    is kept more often than others by chance. It only shifts a map by a constant.
    """

    def __init__(
        self,
        model: Score,
        n_masks: int = 4000,
        cells: int = 7,
        kept: float = 0.5,
        rows: int = 64,
        seed: int = 0,
    ) -> None:
        """Explain ``model``.

        Args:
            model: the score.
            n_masks: random masks, which are passes an image; 4,000 to 8,000 in the paper.
            cells: of the coarse grid, a side.
            kept: probability that a cell is kept.
            rows: images a pass.
            seed: of the masks.
        """
        super().__init__(model, rows)
        self._n_masks = _whole("n_masks", n_masks, 2)
        self._cells = _whole("cells", cells, 1)
        self._kept = _number("kept", kept, "between 0 and 1", lambda share: 0 < share < 1)
        self._seed = seed

    def attribute_classes(  # type: ignore[override]  # what it is given has names here
        self, inputs: Tensor, targets: Tensor, *, baselines: Tensor, **given: Any
    ) -> Tensor:
        """Explain images [B, C, H, W] for classes int64 [B, K].

        Args:
            inputs: in [0, 1].
            targets: the classes.
            baselines: what shows where the mask is 0, [B, C, H, W].
            given: not looked at.

        Returns:
            Attributions [B, K, 1, H, W].
        """
        batch, count, device = len(inputs), self._n_masks, inputs.device
        grids, down, across = (part.to(device) for part in self._draw(*inputs.shape[2:]))
        image_of = torch.arange(batch, device=device).repeat_interleave(count)
        mask_of = torch.arange(count, device=device).repeat(batch)

        def masks(part: slice) -> Tensor:
            which = mask_of[part]
            return (down[which] @ grids[which] @ across[which].transpose(1, 2))[:, None]

        scores = self._scores(inputs, targets, baselines, image_of, image_of, masks)
        scores = scores.view(batch, count, -1)
        centred = (scores - scores.mean(dim=1, keepdim=True)).float().to(device)
        total = torch.zeros(*targets.shape, *inputs.shape[2:], device=device)
        for start in range(0, count, self._rows):
            part = slice(start, min(start + self._rows, count))
            total += torch.einsum("bnk,nhw->bkhw", centred[:, part], masks(part)[:, 0])
        return total[:, :, None] / (self._kept * (count - 1))

    def _draw(self, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the masks as products: a mask [height, width] is down @ grid @ across.T.

        Returns:
            Coarse grids [N, cells, cells], and what upsamples, shifts and cuts them: [N, height,
            cells] and [N, width, cells].
        """
        draw = np.random.default_rng(
            derive_seed("RISE", self._seed, self._n_masks, self._cells, height, width)
        )
        grids = draw.random((self._n_masks, self._cells, self._cells)) < self._kept
        sides = []
        for side in (height, width):
            cell = -(-side // self._cells)
            size = (self._cells + 1) * cell
            # Half-pixel centres: how images are resized where corners are not aligned.
            centres = (np.arange(size) + 0.5) * self._cells / size - 0.5
            centres = centres.clip(0, self._cells - 1)
            upsample = (1 - np.abs(centres[:, None] - np.arange(self._cells))).clip(0)
            shifts = draw.integers(cell, size=self._n_masks)
            sides.append(upsample[shifts[:, None] + np.arange(side)])
        down, across = (torch.from_numpy(side).float() for side in sides)
        return torch.from_numpy(grids).float(), down, across


def _all_but_one(regions: int) -> np.ndarray:
    """Return the coalition of all regions, then those without each of them, bool [d + 1, d]."""
    return np.vstack([np.ones((1, regions), bool), ~np.eye(regions, dtype=bool)])


def _all_coalitions(regions: int) -> np.ndarray:
    """Return all coalitions, none of the regions first and all of them last, bool [2^d, d]."""
    return (np.arange(2**regions)[:, None] >> np.arange(regions) & 1).astype(bool)


def _by(sides: Sequence[int]) -> str:
    return "x".join(str(side) for side in sides)


def _whole(name: str, value: object, least: int) -> int:
    """Return an argument that must be a whole number.

    Raises:
        ValueError: if it is none, or below ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: found {value!r}, wanted a whole number of at least {least}")
    return value


def _number(name: str, value: object, wanted: str, allowed: Callable[[float], bool]) -> float:
    """Return an argument that must be a number.

    Raises:
        ValueError: if it is none, or not ``allowed``.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not allowed(value):
        raise ValueError(f"{name}: found {value!r}, wanted a number {wanted}")
    return value
