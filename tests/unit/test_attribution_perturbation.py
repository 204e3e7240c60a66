"""Promises of the perturbation methods and of the regions that they remove.

Oracles: Captum's classes of the same names, one image at a time; closed forms for linear scores;
exact enumeration; loops that follow the definition.
"""

import itertools

import captum.attr
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr._core.lime import get_exp_kernel_similarity_function
from explained import CLASSES, classifier, pictures
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from clarity.attribution.perturbation import (
    RISE,
    FeatureAblation,
    FeaturePermutation,
    KernelShap,
    Lime,
    Occlusion,
    ShapleyValues,
    ShapleyValueSampling,
)
from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.recipe import Segments
from clarity.attribution.segments import segment
from clarity.attribution.targets import TargetFunction

SIZE = 16
#: A method of each kind, with arguments that make it fast.
METHODS = {
    "FeatureAblation": (FeatureAblation, {}),
    "FeaturePermutation": (FeaturePermutation, {}),
    "ShapleyValues": (ShapleyValues, {}),
    "ShapleyValueSampling": (ShapleyValueSampling, {"n_samples": 3}),
    "KernelShap": (KernelShap, {"n_samples": 40}),
    "Lime": (Lime, {"n_samples": 30}),
    "Occlusion": (Occlusion, {"sliding_window_shapes": [5, 5], "strides": 4}),
    "Occlusion of channels": (
        Occlusion,
        {"sliding_window_shapes": [2, 6, 6], "strides": [1, 5, 5]},
    ),
    "RISE": (RISE, {"n_masks": 30, "cells": 4}),
}
SHAPLEY = {
    "ShapleyValues": (ShapleyValues, {}),
    "ShapleyValueSampling": (ShapleyValueSampling, {"n_samples": 1}),
    "KernelShap": (KernelShap, {"n_samples": 40}),
    "KernelShap of all": (KernelShap, {"n_samples": 2**9}),
}


@pytest.fixture(scope="module")
def model():
    return classifier(size=SIZE)


@pytest.fixture(scope="module")
def score(model):
    return TargetFunction(model)


@pytest.fixture(scope="module")
def images():
    return pictures(4, size=SIZE)


@pytest.fixture(scope="module")
def baselines():
    return pictures(8, size=SIZE)[4:] * 0.5


@pytest.fixture(scope="module")
def superpixels():
    coarse = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    smooth = F.interpolate(coarse, size=SIZE, mode="bilinear")
    regions = segment(smooth, Segments(name="slic", count=10))
    # What follows wants images of several numbers of regions, few enough for all coalitions.
    counts = regions.amax(dim=(1, 2)) + 1
    assert len(counts.unique()) > 1
    assert counts.min() >= 4
    assert counts.max() <= 9
    return regions


@pytest.fixture(scope="module")
def targets():
    return torch.tensor([[0, 3, 1], [4, 4, 2], [2, 0, 1], [1, 3, 0]])


class Counted(nn.Module):
    """A score that remembers how many images each pass had."""

    def __init__(self, score):
        super().__init__()
        self.score = score
        self.passes = []

    def forward(self, images):
        self.passes.append(len(images))
        return self.score(images)


class Linear(nn.Module):
    """Scores that are linear in the pixels."""

    def __init__(self, size, channels=3):
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.weight = torch.randn(CLASSES, channels, size, size, generator=draw)

    def forward(self, images):
        return torch.einsum("bchw,kchw->bk", images, self.weight) + 7


def grid(images, count):
    return segment(images, Segments(name="grid", count=count))


def region_sums(values, regions):
    """Return for each pixel the sum of [B, K, H, W] over its region."""
    member = F.one_hot(regions).to(values)
    return torch.einsum("bkhw,bhwr,bijr->bkij", values, member, member)[:, :, None]


def one_by_one(explain, images, targets):
    """Return [B, K, ...] from a function of an image [1, C, H, W], its number and a class."""
    return torch.stack(
        [
            torch.stack([explain(images[i : i + 1], i, int(c))[0] for c in targets[i]])
            for i in range(len(images))
        ]
    )


def by_coalitions(captums, count, images, targets, baselines, regions):
    """Explain two images by a class of Captum that fits a linear model to ``count`` coalitions."""
    return one_by_one(
        lambda x, i, c: captums.attribute(
            x,
            baselines=baselines[i : i + 1],
            target=c,
            feature_mask=regions[i][None, None],
            n_samples=count,
            perturbations_per_eval=60,
        )[:, :1],
        images[:2],
        targets[:2],
    )


def close(found, expected, tolerance=1e-4):
    torch.testing.assert_close(
        found, expected.float(), rtol=tolerance, atol=tolerance * float(expected.abs().max())
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_feature_ablation_is_captums_for_squares_and_superpixels(channels):
    images = pictures(3, channels, SIZE)
    score = TargetFunction(classifier(channels=channels, size=SIZE))
    baselines = images.flip(0) * 0.3
    targets = torch.tensor([[0, 1], [2, 4], [3, 3]])
    for regions in (grid(images, 9), segment(images, Segments(name="slic", count=12))):
        method = FeatureAblation(score, rows=7)
        found = method.attribute_classes(images, targets, baselines=baselines, feature_mask=regions)
        captums = captum.attr.FeatureAblation(score)
        expected = one_by_one(
            lambda x, i, c, of=captums, at=regions: of.attribute(
                x, baselines=baselines[i : i + 1], target=c, feature_mask=at[i][None, None]
            )[:, :1],
            images,
            targets,
        )
        close(found, expected)


@pytest.mark.parametrize(
    ("channels", "window", "strides"),
    [
        (3, [3, 5, 5], [3, 2, 2]),
        (3, [3, 4, 6], [3, 3, 5]),
        (3, [3, 16, 3], [3, 1, 3]),
        (1, [1, 5, 5], [1, 3, 4]),
        (3, [1, 7, 5], [1, 4, 5]),
        (3, [2, 6, 6], [1, 6, 6]),
        (3, [2, 6, 6], 2),
    ],
)
def test_occlusion_is_captums_for_windows_that_are_cut_and_that_spare_channels(
    channels, window, strides
):
    images = pictures(2, channels, SIZE)
    score = TargetFunction(classifier(channels=channels, size=SIZE))
    baselines = images.flip(0) * 0.3
    targets = torch.tensor([[0, 1], [2, 2]])
    found = Occlusion(score, window, strides, rows=50).attribute_classes(
        images, targets, baselines=baselines
    )
    captums = captum.attr.Occlusion(score)
    expected = one_by_one(
        lambda x, i, c: captums.attribute(
            x,
            tuple(window),
            strides=tuple(strides) if isinstance(strides, list) else strides,
            baselines=baselines[i : i + 1],
            target=c,
            perturbations_per_eval=16,
        ),
        images,
        targets,
    )
    over_all = window[0] == channels
    assert found.shape[2] == (1 if over_all else channels)
    close(found, expected[:, :, :1] if over_all else expected)


def test_a_window_without_channels_covers_them_all(score, images, baselines, targets):
    given = {"baselines": baselines}
    flat = Occlusion(score, [5, 4], [3, 2]).attribute_classes(images, targets, **given)
    whole = Occlusion(score, [3, 5, 4], [3, 3, 2]).attribute_classes(images, targets, **given)
    assert torch.equal(flat, whole)


def test_shapley_values_are_captums_from_all_orders(score, images, baselines, targets):
    regions = grid(images, 4)
    found = ShapleyValues(score).attribute_classes(
        images, targets, baselines=baselines, feature_mask=regions
    )
    captums = captum.attr.ShapleyValues(score)
    expected = one_by_one(
        lambda x, i, c: captums.attribute(
            x,
            baselines=baselines[i : i + 1],
            target=c,
            feature_mask=regions[i][None, None],
            perturbations_per_eval=4,
        )[:, :1],
        images,
        targets,
    )
    close(found, expected)


@pytest.mark.parametrize("count", [4, 9])
def test_kernel_shap_with_enough_samples_for_all_coalitions_is_exact(
    count, score, images, baselines, targets
):
    given = {"baselines": baselines, "feature_mask": grid(images, count)}
    exact = ShapleyValues(score).attribute_classes(images, targets, **given)
    found = KernelShap(score, n_samples=2**count).attribute_classes(images, targets, **given)
    close(found, exact)


def test_kernel_shap_is_captums_from_the_same_coalitions(score, images, baselines, targets):
    regions = grid(images, 16)
    method = KernelShap(score, n_samples=100)
    coalitions = torch.from_numpy(method.plan(16, 0).present).long()

    def generator(original, **given):
        yield from coalitions[:, None]

    captums = captum.attr.KernelShap(score)
    captums.perturb_func = generator
    expected = by_coalitions(captums, len(coalitions), images, targets, baselines, regions)
    found = method.attribute_classes(images, targets, baselines=baselines, feature_mask=regions)
    # Captum gives the two conditions the weight 10^6 where it should be infinite.
    close(found[:2], expected, tolerance=2e-3)


def test_lime_is_captums_with_ridge_regression_from_the_same_coalitions(
    score, images, baselines, targets
):
    regions = grid(images, 16)
    method = Lime(score, n_samples=60, kernel_width=0.3, alpha=2.0)
    coalitions = torch.from_numpy(method.plan(16, 0).present).long()
    kernel = get_exp_kernel_similarity_function("cosine", kernel_width=0.3)

    def generator(original, **given):
        yield from coalitions[:, None]

    captums = captum.attr.Lime(
        score,
        interpretable_model=SkLearnRidge(alpha=2.0),
        similarity_func=lambda image, composed, sample, **given: kernel(
            torch.ones_like(sample), sample, None
        ),
        perturb_func=generator,
    )
    expected = by_coalitions(captums, len(coalitions), images, targets, baselines, regions)
    found = method.attribute_classes(images, targets, baselines=baselines, feature_mask=regions)
    close(found[:2], expected, tolerance=1e-3)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(ShapleyValueSampling, {"n_samples": 1}), (KernelShap, {"n_samples": 40})],
)
def test_estimates_of_shapley_values_are_right_on_average(
    kind, arguments, score, images, baselines, targets
):
    given = {"baselines": baselines, "feature_mask": grid(images, 9)}
    exact = ShapleyValues(score).attribute_classes(images, targets, **given)
    estimates = torch.stack(
        [
            kind(score, seed=seed, rows=512, **arguments).attribute_classes(
                images, targets, **given
            )
            for seed in range(40)
        ]
    )
    error = estimates.std(dim=0) / 40**0.5
    assert (error > 0).all()
    # 108 numbers, of which none should be five standard errors off.
    assert ((estimates.mean(dim=0) - exact).abs() < 5 * error).all()


def test_orders_that_share_coalitions_do_not_change_their_mean(score, images, baselines, targets):
    # With two regions there are two orders; what each order says is known by hand.
    regions = grid(images, 4) // 2
    method = ShapleyValueSampling(score, n_samples=7, seed=3)
    found = method.attribute_classes(images, targets, baselines=baselines, feature_mask=regions)
    upper = regions[:, None] == 0
    compositions = (
        baselines,
        torch.where(upper, images, baselines),
        torch.where(upper, baselines, images),
        images,
    )
    none, first, second, both = (score(x).gather(1, targets) for x in compositions)
    rises = torch.stack([first - none, both - second])
    shares = (found[:, :, 0, 0, 0] - rises[1]) / (rises[0] - rises[1])
    # The share of orders in which the upper half came first, the same for all images and classes.
    share = float(shares.mean())
    close(shares, torch.full_like(shares, share), tolerance=1e-3)
    assert share * 7 == pytest.approx(round(share * 7), abs=1e-2)
    assert 0 < share < 1


@pytest.mark.parametrize("name", SHAPLEY)
def test_shapley_attributions_sum_to_the_change_of_the_score(
    name, score, images, baselines, targets
):
    kind, arguments = SHAPLEY[name]
    regions = grid(images, 9)
    found = kind(score, **arguments).attribute_classes(
        images, targets, baselines=baselines, feature_mask=regions
    )
    first_pixels = torch.stack([(regions[0] == r).nonzero()[0] for r in range(9)])
    sums = found[:, :, 0, first_pixels[:, 0], first_pixels[:, 1]].sum(dim=2)
    close(sums, (score(images) - score(baselines)).gather(1, targets))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (FeatureAblation, {}),
        *SHAPLEY.values(),
        (Lime, {"n_samples": 60, "alpha": 0}),
        (Lime, {"n_samples": 60, "alpha": 0, "kernel_width": 5.0}),
    ],
)
def test_a_linear_score_gives_each_region_its_own_part(
    kind, arguments, images, baselines, targets, superpixels
):
    linear = Linear(SIZE)
    found = kind(linear, **arguments).attribute_classes(
        images, targets, baselines=baselines, feature_mask=superpixels
    )
    parts = (linear.weight[targets] * (images - baselines)[:, None]).sum(dim=2)
    close(found, region_sums(parts, superpixels), tolerance=1e-3)


def test_occlusion_of_a_linear_score_is_the_mean_of_windows_sums(images, baselines, targets):
    linear = Linear(SIZE)
    found = Occlusion(linear, [3, 3]).attribute_classes(images, targets, baselines=baselines)
    parts = (linear.weight[targets] * (images - baselines)[:, None]).sum(dim=2)
    box = torch.ones(1, 1, 3, 3)
    sums = F.conv2d(parts.flatten(0, 1)[:, None], box)
    windows = F.conv2d(torch.ones(1, 1, SIZE - 2, SIZE - 2), box, padding=2)
    expected = F.conv2d(sums, box, padding=2) / windows
    close(found, expected.view(found.shape), tolerance=1e-3)


def test_feature_permutation_is_the_mean_fall_over_references(score, images, targets):
    regions, references = grid(images, 4), pictures(9, size=SIZE)[4:]
    found = FeaturePermutation(score, rows=13).attribute_classes(
        images, targets, baselines=references, feature_mask=regions
    )
    expected = torch.zeros_like(found)
    for i, k in itertools.product(range(4), range(3)):
        whole = score(images[i : i + 1])[0, targets[i, k]]
        for r in range(4):
            inside = regions[i] == r
            swapped = torch.where(inside, references, images[i])
            fall = whole - score(swapped)[:, targets[i, k]].mean()
            expected[i, k, 0][inside] = fall
    close(found, expected)
    alone = FeaturePermutation(score).attribute_classes(
        images, targets, baselines=references[:1], feature_mask=regions
    )
    ablated = FeatureAblation(score).attribute_classes(
        images,
        targets,
        baselines=references[:1].expand_as(images),
        feature_mask=regions,
    )
    close(alone, ablated)


@pytest.mark.parametrize("p", [0.5, 0.25])
def test_rise_is_what_keeping_a_pixel_adds_on_average_over_all_masks(p):
    # All masks of 2x2 cells at all shifts: 64, few enough to know the expectation exactly.
    image, baseline = pictures(2, 1, 4).split(1)
    linear = Linear(4, channels=1)

    def curved(images):
        return linear(images).tanh() + linear(images) ** 2 / 20

    grids = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).view(-1, 1, 2, 2)
    large = F.interpolate(grids, size=(6, 6), mode="bilinear", align_corners=False)
    shifts = list(itertools.product(range(2), repeat=2))
    masks = torch.cat([large[..., y : y + 4, x : x + 4] for y, x in shifts])
    kept = grids.sum(dim=(1, 2, 3)).repeat(4)
    chance = p**kept * (1 - p) ** (4 - kept) / 4
    scores = curved(image * masks + baseline * (1 - masks))
    # Petsiuk et al., 2018, equations 3 to 5: E[g M] / p; less the mean score.
    expected = torch.einsum("n,nk,nhw->khw", chance, scores, masks[:, 0]) / p
    expected -= (chance @ scores)[:, None, None]

    found = torch.stack(
        [
            RISE(curved, n_masks=250, cells=2, kept=p, rows=250, seed=seed).attribute_classes(
                image, torch.arange(CLASSES)[None], baselines=baseline
            )[0, :, 0]
            for seed in range(40)
        ]
    )
    error = found.std(dim=0) / 40**0.5
    assert (error < 0.1 * expected.abs().max()).all()
    assert ((found.mean(dim=0) - expected).abs() < 5 * error).all()


def test_rise_does_not_take_the_height_of_scores_for_an_explanation(
    score, images, baselines, targets
):
    found = RISE(score, n_masks=30).attribute_classes(images, targets, baselines=baselines)
    shifted = RISE(lambda x: score(x) - 50, n_masks=30).attribute_classes(
        images, targets, baselines=baselines
    )
    close(shifted, found, tolerance=1e-3)
    flat = RISE(lambda x: torch.ones(len(x), CLASSES), n_masks=30)
    assert not flat.attribute_classes(images, targets, baselines=baselines).any()


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_its_own_image_and_classes_alone(
    name, score, images, baselines, targets, superpixels
):
    kind, arguments = METHODS[name]

    def explain(chosen, rows, wanted=targets):
        own = torch.tensor(chosen)
        return kind(score, rows=rows, **arguments).attribute_classes(
            images[own],
            wanted[own],
            baselines=baselines if kind.wants_references else baselines[own],
            feature_mask=superpixels[own],
        )

    together = explain([0, 1, 2, 3], 64)
    channels = 3 if name == "Occlusion of channels" else 1
    assert together.shape == (4, 3, channels, SIZE, SIZE)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    assert (together < 0).any()
    assert torch.equal(explain([0, 1, 2, 3], 64), together)
    close(explain([2, 0, 3, 1], 5), together[[2, 0, 3, 1]])
    close(torch.cat([explain([i], 1000) for i in range(4)]), together)
    apart = [explain([0, 1, 2, 3], 64, targets[:, k : k + 1]) for k in range(3)]
    close(torch.cat(apart, dim=1), together)


@pytest.mark.parametrize("name", METHODS)
def test_one_class_is_explained_as_among_several_and_nothing_else_changes(
    name, model, score, images, baselines, targets, superpixels
):
    kind, arguments = METHODS[name]
    given = {"baselines": baselines, "feature_mask": superpixels}
    before = [x.clone() for x in (images, baselines, targets, superpixels)]
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    method = kind(score, **arguments)
    found = method.attribute(images, targets[:, 1], **given)
    close(found, method.attribute_classes(images, targets, **given)[:, 1])
    assert not found.requires_grad
    assert torch.equal(torch.random.get_rng_state(), random_state)
    after = (images, baselines, targets, superpixels)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (FeatureAblation, {}, 10),
        (FeaturePermutation, {}, 9 * 4 + 1),
        (ShapleyValues, {}, 2**9),
        (ShapleyValueSampling, {"n_samples": 1}, 8 + 2),
        (KernelShap, {"n_samples": 41}, 41),
        (KernelShap, {"n_samples": 1000}, 2**9),
        (Lime, {"n_samples": 30}, 30),
        (Occlusion, {"sliding_window_shapes": [6, 6], "strides": 5}, 1 + 9),
        (RISE, {"n_masks": 30}, 30),
    ],
)
def test_passes_are_as_many_as_the_definition_needs_whatever_the_classes_and_as_full_as_may_be(
    kind, arguments, expected, score, images, baselines, targets
):
    counted = Counted(score)
    kind(counted, rows=37, **arguments).attribute_classes(
        images, targets, baselines=baselines, feature_mask=grid(images, 9)
    )
    full, rest = divmod(4 * expected, 37)
    assert counted.passes == [37] * full + [rest] * (rest > 0)


@pytest.mark.parametrize("kind", [ShapleyValueSampling, KernelShap, Lime, RISE])
def test_draws_follow_the_seed_alone(kind, score, images, baselines, targets):
    count = {"n_masks" if kind is RISE else "n_samples": 40}

    def explain(seed):
        return kind(score, seed=seed, **count).attribute_classes(
            images[:1], targets[:1], baselines=baselines[:1], feature_mask=grid(images[:1], 16)
        )

    torch.manual_seed(0)
    first = explain(4)
    torch.manual_seed(1)
    assert torch.equal(explain(4), first)
    assert not torch.equal(explain(5), first)


@pytest.mark.parametrize("kind", [FeatureAblation, ShapleyValues, KernelShap])
def test_a_single_region_gets_the_whole_change(kind, score, images, baselines, targets):
    found = kind(score).attribute_classes(
        images, targets, baselines=baselines, feature_mask=torch.zeros_like(grid(images, 4))
    )
    change = (score(images) - score(baselines)).gather(1, targets)
    close(found, change[:, :, None, None, None].expand_as(found))


def test_what_a_method_cannot_do_is_said_with_what_to_change(score, images, baselines, targets):
    given = {"baselines": baselines, "feature_mask": grid(images, 16)}
    for method, reason in (
        (ShapleyValues(score), r"2\^16 coalitions.*count of `segments`.* well below 12"),
        (KernelShap(score, n_samples=25), "25 coalitions do not determine 16 .* n_samples .* 32"),
        (Occlusion(score, [3, 17, 5]), "window of 3x17x5 does not fit into images of 3x16x16"),
        (Occlusion(score, [4, 5, 5]), "window of 4x5x5 does not fit"),
        (Occlusion(score, [1, 5, 5], 4), "1 of 3 channels with the stride 4 leave gaps"),
    ):
        with pytest.raises(MethodUnavailable, match=reason):
            method.attribute_classes(images, targets, **given)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (FeatureAblation, {"rows": 0}, "rows: found 0, wanted a whole number of at least 1"),
        (ShapleyValueSampling, {"n_samples": 2.5}, "n_samples: found 2.5, wanted a whole"),
        (KernelShap, {"n_samples": True}, "n_samples: found True"),
        (Lime, {"n_samples": 1}, "n_samples: found 1, wanted a whole number of at least 2"),
        (Lime, {"kernel_width": 0}, "kernel_width: found 0, wanted a number above 0"),
        (Lime, {"alpha": -0.1}, "alpha: found -0.1, wanted a number of at least 0"),
        (RISE, {"kept": 1.0}, "kept: found 1.0, wanted a number between 0 and 1"),
        (RISE, {"cells": "7"}, "cells: found '7'"),
        (Occlusion, {"sliding_window_shapes": [5]}, "found 1 numbers, wanted height and width"),
        (
            Occlusion,
            {"sliding_window_shapes": [3, 5, 5], "strides": [2, 2]},
            "strides: found 2 numbers, wanted 3",
        ),
        (Occlusion, {"sliding_window_shapes": [3, 5], "strides": 4}, "gaps between windows"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(kind, arguments, message, score):
    with pytest.raises(ValueError, match=message):
        kind(score, **arguments)


@pytest.mark.parametrize("name", ["grid", "slic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_regions_are_numbered_from_zero_without_gaps_and_follow_from_their_own_image(
    name, channels
):
    smooth = F.interpolate(pictures(3, channels, 8), size=32, mode="bilinear")
    images = torch.cat([smooth, torch.full((1, channels, 32, 32), 0.5)])
    regions = segment(images, Segments(name=name, count=25))
    assert regions.shape == (4, 32, 32)
    assert regions.dtype == torch.int64
    for one in regions:
        assert one.unique().tolist() == list(range(int(one.max()) + 1))
        assert 25 / 2 < one.max() + 1 <= 25 * 1.5
        for number in range(int(one.max()) + 1):
            assert ndimage.label(one == number)[1] == 1
    alone = torch.cat([segment(image[None], Segments(name=name, count=25)) for image in images])
    assert torch.equal(alone, regions)


def test_a_grid_has_squares_that_differ_by_a_pixel_at_most():
    regions = segment(torch.zeros(1, 3, 32, 32), Segments(name="grid", count=49))[0]
    assert regions.max() == 48
    for number in range(49):
        rows, columns = (regions == number).nonzero().T
        height, width = (int(x.max() - x.min()) + 1 for x in (rows, columns))
        assert len(rows) == height * width
        assert {height, width} <= {4, 5}
    assert (regions.diff(dim=0) >= 0).all()
    assert segment(torch.zeros(1, 1, 3, 3), Segments(name="grid", count=49)).max() == 8


@pytest.mark.parametrize("channels", [1, 3])
def test_superpixels_keep_to_edges_in_grey_as_in_colour(channels):
    image = torch.full((1, channels, 32, 32), 0.2)
    image[..., 13:] = 0.8
    regions = segment(image, Segments(name="slic", count=16, compactness=1.0))[0]
    assert not set(regions[:, :13].flatten().tolist()) & set(regions[:, 13:].flatten().tolist())
    squares = segment(image, Segments(name="slic", count=16, compactness=1e6))[0]
    assert set(squares[:, :13].flatten().tolist()) & set(squares[:, 13:].flatten().tolist())
