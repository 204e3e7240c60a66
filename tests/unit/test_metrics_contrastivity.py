"""Promises of the contrastivity metrics on the ideal, the agnostic and the random map."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from scipy.ndimage import zoom
from skimage.metrics import structural_similarity

from clarity.metrics.similarity import cosine, pearson, spearman, ssim

SIMILARITIES = ("ssim", "spearman", "cosine")


def pairs(n=5, size=20):
    generator = np.random.default_rng(0)
    first = generator.normal(size=(n, size, size))
    second = generator.normal(size=(n, size, size)) + np.linspace(0, 2, n)[:, None, None] * first
    return first, second


def test_similarities_are_those_of_scipy_and_skimage_pair_by_pair():
    first, second = pairs()
    second[0] = np.round(second[0])  # ties
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        span = max(a.max(), b.max()) - min(a.min(), b.min())
        assert ssim(first, second)[row] == pytest.approx(
            structural_similarity(a, b, data_range=span)
        )
        flat = a.ravel(), b.ravel()
        assert spearman(first, second)[row] == pytest.approx(scipy.stats.spearmanr(*flat)[0])
        assert pearson(*(m.reshape(5, -1) for m in (first, second)))[row] == pytest.approx(
            scipy.stats.pearsonr(*flat)[0]
        )
        assert cosine(first, second)[row] == pytest.approx(1 - scipy.spatial.distance.cosine(*flat))


@pytest.mark.parametrize("similarity", [ssim, spearman, cosine])
def test_a_similarity_is_one_for_the_same_map_symmetric_and_the_same_pair_by_pair(similarity):
    first, second = pairs()
    np.testing.assert_allclose(similarity(first, first), 1)
    np.testing.assert_allclose(similarity(first, second), similarity(second, first))
    np.testing.assert_allclose(similarity(first[2:3], second[2:3]), similarity(first, second)[2:3])


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_ssim_does_not_depend_on_the_unit_of_the_maps(factor):
    """With a fixed range of values, all maps of small gradients would be alike."""
    first, second = pairs()
    np.testing.assert_allclose(ssim(factor * first, factor * second), ssim(first, second))
    raw, scaled = (
        make.values(make.subject(), metric="PairwiseSimilarity", scale=scale)
        for scale in ("none", "max")
    )
    np.testing.assert_allclose(raw, scaled, atol=0.1)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_pairwise_similarity_is_one_for_maps_that_ignore_the_class(similarity):
    cell = make.subject()
    agnostic = make.with_maps(cell, cell.maps[:, 0])
    found = make.values(agnostic, metric="PairwiseSimilarity", similarity=similarity)
    np.testing.assert_allclose(found, 1, atol=1e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_pairwise_similarity_compares_the_maps_of_label_and_foil(similarity):
    cell = make.subject()
    compare = {"ssim": ssim, "spearman": spearman, "cosine": cosine}[similarity]
    scaled = cell.maps / np.abs(cell.maps).max(axis=(2, 3), keepdims=True)
    expected = compare(scaled[:, 0], scaled[:, 1])
    found = make.values(cell, metric="PairwiseSimilarity", similarity=similarity)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_pairwise_similarity_does_not_score_a_zero_map_of_the_foil(similarity):
    """A ReLU Grad-CAM of a foil is often all zero, which SSIM would call contrastive."""
    cell = make.subject()
    maps = np.array(cell.maps)
    maps[1, 1] = 0
    maps[2, 0] = 0
    frame = make.score(replace(cell, maps=maps), metric="PairwiseSimilarity", similarity=similarity)
    assert frame["status"].tolist() == ["ok", "nan", "nan", "ok", "ok", "ok"]
    assert frame["reason"].tolist() == ["", "constant foil map", "constant map", "", "", ""]


def test_pairwise_similarity_rewards_noise_the_more_the_finer_the_maps():
    """Why it carries no verdict alone: unrelated maps look contrastive."""
    generator = np.random.default_rng(0)
    nulls = {}
    for resolution in (4, 32):
        maps = np.maximum(generator.normal(size=(60, 2, resolution, resolution)), 0)
        maps = np.stack([[zoom(m, 32 / resolution, order=1) for m in pair] for pair in maps])
        cell = make.subject(images=np.ones((60, 1, 32, 32), np.float32), maps=maps)
        nulls[resolution] = {
            s: make.values(cell, metric="PairwiseSimilarity", similarity=s).mean()
            for s in SIMILARITIES
        }
    assert nulls[32]["ssim"] < nulls[4]["ssim"] < 0.3
    assert all(abs(null["spearman"]) < 0.15 for null in nulls.values())
    assert all(null["cosine"] > 0.25 for null in nulls.values())


def scenes(maps=None, n=6):
    cell = make.subject(n=n, scenes=True)
    return cell if maps is None else make.with_maps(cell, maps)


def test_discriminative_mass_is_one_for_the_masks_and_minus_one_for_the_wrong_ones():
    masks = scenes().masks.astype(np.float32)
    np.testing.assert_array_equal(make.values(scenes(masks), metric="DiscriminativeMass"), 1)
    swapped = masks[:, ::-1]
    np.testing.assert_array_equal(make.values(scenes(swapped), metric="DiscriminativeMass"), -1)


def test_discriminative_mass_is_exactly_zero_for_maps_that_ignore_the_class():
    agnostic = np.random.default_rng(0).normal(size=(6, 16, 16))
    assert (make.values(scenes(agnostic), metric="DiscriminativeMass") == 0).all()


def test_discriminative_mass_of_random_maps_is_zero_on_average():
    maps = np.random.default_rng(0).normal(size=(400, 2, 16, 16))
    found = make.values(scenes(maps, n=400), metric="DiscriminativeMass")
    assert abs(found.mean()) < 3.5 * found.std() / 20


def test_discriminative_mass_counts_only_what_is_positive_and_on_either_object():
    masks = scenes().masks
    maps = masks.astype(np.float32)
    maps[:, 0][masks[:, 1]] = (
        1
        / 3
        * masks[:, 0].sum((1, 2)).repeat(masks[:, 1].sum((1, 2)))
        / (masks[:, 1].sum((1, 2)).repeat(masks[:, 1].sum((1, 2))))
    )
    neither = ~(masks[:, 0] | masks[:, 1])
    maps[:, 0][neither] = 50
    maps[:, 1][neither] = -50
    # The map of a has 3/4 of its mass on both objects on its own, that of b all of it.
    np.testing.assert_allclose(
        make.values(scenes(maps), metric="DiscriminativeMass"), 3 / 4, rtol=1e-5
    )


def test_discriminative_mass_is_of_the_positive_part_whatever_the_sign_of_the_recipe():
    cell = scenes()
    np.testing.assert_allclose(
        make.values(cell, metric="DiscriminativeMass", sign="signed"),
        make.values(cell, metric="DiscriminativeMass"),
        atol=1e-6,
    )


def test_discriminative_mass_is_the_same_from_either_side():
    cell = scenes()
    mirrored = replace(
        cell,
        maps=cell.maps[:, ::-1].copy(),
        masks=cell.masks[:, ::-1].copy(),
        classes=cell.classes[:, ::-1].copy(),
    )
    np.testing.assert_allclose(
        make.values(cell, metric="DiscriminativeMass"),
        make.values(mirrored, metric="DiscriminativeMass"),
        atol=1e-6,
    )


def test_discriminative_mass_says_why_a_scene_has_no_value():
    cell = scenes()
    maps, masks = np.array(cell.maps), np.array(cell.masks)
    union = masks.any(axis=1)
    maps[1, 1] = np.where(union[1], -1, 1)
    maps[2, 1] = 0
    maps[3, 0] = -np.abs(maps[3, 0])
    masks[4, 1] = False
    frame = make.score(replace(cell, maps=maps, masks=masks), metric="DiscriminativeMass")
    assert frame["reason"].tolist() == [
        "",
        "no positive mass on either object",
        "constant foil map",
        "no positive mass",
        "empty mask",
        "",
    ]
    assert frame["status"].tolist() == ["ok", "nan", "nan", "nan", "unavailable", "ok"]
