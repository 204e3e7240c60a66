"""Promises of the localisation metrics: known answers, fair ties, and no value without a mask."""

import itertools
import warnings
from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
from quantus_direct import PLAIN, distinct, one_by_one, together
from torch import nn

EVERY = (
    {"metric": "RelevanceMassAccuracy"},
    {"metric": "PointingGame"},
    {"metric": "AttributionLocalisation"},
    {"metric": "AttributionLocalisation", "weighted": True},
    {"metric": "AUC"},
    {"metric": "RelevanceRankAccuracy"},
    {"metric": "TopKIntersection", "k": 12},
    {"metric": "TopKIntersection", "k": 12, "concept_influence": True},
)


def ids(recipe):
    return "-".join(map(str, recipe.values()))


def masked(masks: np.ndarray, maps: np.ndarray):
    """Return a cell of these masks and maps, [N, H, W] each."""
    n, size = len(masks), masks.shape[-1]
    images = np.ones((n, 1, size, size), np.float32)
    both = np.stack([maps, maps], axis=1).astype(np.float32)
    cell = make.subject(images=images, maps=both, model=nn.Identity())
    return replace(cell, masks=np.stack([masks, ~masks], axis=1))


# ---- equal to Quantus -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("PointingGame", {}),
        ("AUC", {}),
        ("RelevanceRankAccuracy", {}),
        ("TopKIntersection", {"k": 20}),
        ("TopKIntersection", {"k": 90, "concept_influence": True}),
    ],
)
def test_a_metric_is_that_of_quantus_where_no_two_pixels_are_equal(name, arguments):
    cell = make.with_maps(make.subject(n=40), distinct(40) - 128.5)
    expected = one_by_one(
        lambda row: getattr(quantus, name)(**arguments, **PLAIN), cell, masks=cell.masks[:, 0]
    )
    np.testing.assert_allclose(make.values(cell, metric=name, **arguments), expected, rtol=1e-6)
    assert np.ptp(expected) > 0


def test_auc_is_that_of_quantus_where_pixels_are_equal():
    cell = make.with_maps(make.subject(n=20), distinct(20) // 30)
    expected = one_by_one(lambda row: quantus.AUC(**PLAIN), cell, masks=cell.masks[:, 0])
    np.testing.assert_allclose(make.values(cell, metric="AUC"), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["RelevanceMassAccuracy", "AttributionLocalisation"])
def test_shares_of_mass_are_those_of_quantus_on_positive_maps(name):
    cell = make.subject()
    cell = make.with_maps(cell, np.abs(cell.maps[:, 0]))
    plain = {**PLAIN, "abs": True} if name == "AttributionLocalisation" else PLAIN
    expected = one_by_one(lambda row: getattr(quantus, name)(**plain), cell, masks=cell.masks[:, 0])
    np.testing.assert_allclose(make.values(cell, metric=name), expected, rtol=1e-5)


# ---- known answers ----------------------------------------------------------------------------


def test_the_mask_itself_as_a_map_wins_every_metric():
    cell = make.subject()
    cell = make.with_maps(cell, cell.masks[:, 0])
    share = cell.masks[:, 0].mean(axis=(1, 2))
    for recipe in EVERY:
        best = 1 / share if recipe.get("weighted") or recipe.get("concept_influence") else 1
        np.testing.assert_allclose(make.values(cell, **recipe), best, rtol=1e-6)


def test_relevance_beside_the_object_alone_loses_every_metric():
    cell = make.subject()
    cell = make.with_maps(cell, ~cell.masks[:, 0])
    for recipe in EVERY:
        np.testing.assert_array_equal(make.values(cell, **recipe), 0)


def test_random_maps_get_what_chance_gives():
    n = 1500
    generator = np.random.default_rng(3)
    maps = generator.uniform(size=(n, 2, 8, 8)).astype(np.float32)
    images = np.ones((n, 1, 8, 8), np.float32)
    cell = make.subject(images=images, maps=maps, model=nn.Identity())
    share = cell.masks[:, 0].mean()
    assert 0.1 < share < 0.5
    for recipe in EVERY:
        found = make.values(cell, **recipe)
        sized = recipe.get("weighted") or recipe.get("concept_influence")
        chance = 1 if sized else 0.5 if recipe["metric"] == "AUC" else share
        assert found.mean() == pytest.approx(chance, abs=4 * found.std() / np.sqrt(n))


@pytest.mark.parametrize("recipe", EVERY, ids=ids)
def test_a_dataset_without_an_object_in_an_image_has_no_value_there(recipe):
    cell = make.subject()
    masks = np.array(cell.masks)
    masks[3, 0] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = make.score(replace(cell, masks=masks), **recipe)
    assert frame["status"].tolist() == ["ok"] * 3 + ["unavailable"] + ["ok"] * 2
    assert frame["reason"][3] == "empty mask"
    with pytest.raises(ValueError, match="needs masks"):
        make.score(replace(cell, masks=None), **recipe)


def test_auc_counts_pairs_and_half_of_equal_ones():
    generator = np.random.default_rng(0)
    maps = generator.integers(0, 4, (8, 4, 4))
    masks = generator.uniform(size=(8, 4, 4)) < 0.4
    found = make.values(masked(masks, maps), metric="AUC")
    for value, map_, mask in zip(found, maps, masks, strict=True):
        pairs = map_[mask][:, None] - map_[~mask]
        assert value == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean())


def test_a_mask_of_the_whole_image_has_no_auc():
    masks = np.ones((2, 4, 4), dtype=bool)
    masks[1, 0] = False
    maps = np.random.default_rng(0).uniform(size=(2, 4, 4))
    frame = make.score(masked(masks, maps), metric="AUC")
    assert frame["status"].tolist() == ["unavailable", "ok"]
    assert frame["reason"][0] == "the mask is the whole image"


@pytest.mark.parametrize(
    "recipe",
    [
        {"metric": "PointingGame"},
        {"metric": "RelevanceRankAccuracy"},
        {"metric": "TopKIntersection", "k": 3},
    ],
    ids=ids,
)
def test_ties_have_the_value_expected_if_they_are_broken_at_random(recipe):
    """All orders of the six pixels of 3x3 that are equal."""
    map_ = np.array([[2, 1, 1], [1, 3, 1], [1, 1, 0]], dtype=np.float32)
    mask = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]], dtype=bool)
    if recipe["metric"] == "PointingGame":
        map_ = map_ * (map_ == 1)
    equal = np.flatnonzero(map_ == 1)
    broken = []
    for order in itertools.permutations(range(6)):
        values = map_.ravel().copy()
        values[equal] += 0.01 * np.array(order)
        broken.append(values.reshape(3, 3))
    counts = {"PointingGame": 1, "RelevanceRankAccuracy": int(mask.sum()), "TopKIntersection": 3}
    count = counts[recipe["metric"]]
    tops = np.argsort(-np.stack(broken).reshape(len(broken), -1), axis=1)[:, :count]
    expected = mask.ravel()[tops].mean()
    found = make.values(masked(mask[None], map_[None]), **recipe)
    assert found[0] == pytest.approx(expected)


def test_weighted_hits_count_by_how_small_the_object_is():
    cell = make.with_maps(make.subject(n=40), distinct(40))
    plain = make.values(cell, metric="PointingGame")
    weighted = make.values(cell, metric="PointingGame", weighted=True)
    np.testing.assert_allclose(weighted, plain * (1 - cell.masks[:, 0].mean(axis=(1, 2))))


def test_concept_influence_is_the_intersection_over_the_share_of_the_object():
    cell = make.subject()
    plain, influence = (
        make.values(cell, metric="TopKIntersection", k=40, concept_influence=sized)
        for sized in (False, True)
    )
    np.testing.assert_allclose(influence, plain / cell.masks[:, 0].mean(axis=(1, 2)))


@pytest.mark.parametrize("k", [256, 1000])
def test_more_pixels_than_an_image_has_are_refused(k):
    with pytest.raises(ValueError, match=rf"TopKIntersection\.k: found {k}"):
        make.score(make.subject(), metric="TopKIntersection", k=k)


def test_objects_larger_than_the_largest_size_are_left_out():
    cell = make.subject()
    share = cell.masks[:, 0].mean(axis=(1, 2))
    limit = float(np.median(share))
    frame = make.score(cell, metric="AttributionLocalisation", max_size=limit)
    assert 0 < (share > limit).sum() < 6
    assert (frame["status"].eq("unavailable") == (share > limit)).all()
    assert set(frame["reason"][share > limit]) == {"the object is larger than max_size"}


# ---- defects ----------------------------------------------------------------------------------


def test_defect_ties_and_empty_masks_hit_in_the_pointing_game():
    cell = make.subject()
    maps, masks = np.zeros((6, 16, 16), np.float32), np.array(cell.masks)
    maps[:, 0, 2] = maps[:, 0, 3] = maps[:, 15, 15] = maps[:, 15, 14] = 1.0
    maps[2, 15, 14] = 0.5
    masks[5, 0] = False
    cell = replace(make.with_maps(cell, maps), masks=masks)
    metric = quantus.PointingGame(**PLAIN)
    assert np.array(together(metric, cell, maps, masks=masks[:, 0])).all()
    frame = make.score(cell, metric="PointingGame")
    assert frame["value"].tolist()[:5] == pytest.approx([1 / 2, 1 / 2, 2 / 3, 1 / 2, 1 / 2])
    assert frame["status"].tolist() == ["ok"] * 5 + ["unavailable"]


def test_defect_relevance_mass_of_signed_maps_leaves_its_range():
    cell = make.subject()
    metric = quantus.RelevanceMassAccuracy(**PLAIN)
    theirs = np.array(together(metric, cell, cell.maps[:, 0], masks=cell.masks[:, 0]))
    assert ((theirs < 0) | (theirs > 1)).any()
    positive = np.maximum(cell.maps[:, 0], 0)
    expected = (positive * cell.masks[:, 0]).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    for name in ("RelevanceMassAccuracy", "AttributionLocalisation"):
        np.testing.assert_allclose(make.values(cell, metric=name), expected, rtol=1e-5)


def test_defect_a_negative_map_is_refused_alone_and_accepted_beside_others():
    cell = make.subject()
    maps = np.array(cell.maps[:, 0])
    maps[0] = -np.abs(maps[0]) - 0.1
    metric = quantus.RelevanceRankAccuracy(**PLAIN)
    masks = cell.masks[:, 0]
    theirs = together(metric, cell, maps, masks=masks)
    assert np.isfinite(theirs).all()
    with pytest.raises(AssertionError, match="should not all be less than zero"):
        together(metric, cell, maps, [0], masks=masks)
    ours = make.values(make.with_maps(cell, maps), metric="RelevanceRankAccuracy")
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.filterwarnings("ignore")
def test_defect_the_size_of_the_image_is_that_of_a_slice_of_the_batch():
    cell = make.subject()
    maps, masks = np.abs(cell.maps[:, 0]), cell.masks[:, 0]
    metric = quantus.AttributionLocalisation(weighted=True, abs=True, **PLAIN)
    with np.errstate(divide="ignore"):
        theirs = [together(metric, cell, maps, slice(n), masks=masks)[0] for n in (2, 3, 6)]
    plain = make.values(make.with_maps(cell, maps), metric="AttributionLocalisation")[0]
    pixels = masks[0].sum()
    assert np.isinf(theirs[0])
    np.testing.assert_allclose(theirs[1:], plain * pixels / 768 / np.array([1, 4]), rtol=1e-5)
    # And it is the share of the object in place of its inverse: large objects win twice.
    ours = make.values(make.with_maps(cell, maps), metric="AttributionLocalisation", weighted=True)
    np.testing.assert_allclose(ours[0], plain * 256 / pixels, rtol=1e-5)


def test_defect_a_weight_that_rewards_large_objects():
    """Relevance all over the image, on objects of one and of ten rows: no better on the larger."""
    masks = np.zeros((3, 16, 16), dtype=bool)
    masks[0, :1] = masks[1:, :10] = True
    maps = np.ones((3, 16, 16)) + 1e-3 * distinct(3) / 256
    cell = masked(masks, maps)
    metric = quantus.AttributionLocalisation(weighted=True, abs=True, **PLAIN)
    theirs = together(metric, cell, maps, masks=masks)
    assert theirs[1] > 90 * theirs[0]
    ours = make.values(cell, metric="AttributionLocalisation", weighted=True)
    np.testing.assert_allclose(ours, 1, atol=1e-2)


def test_defect_too_large_objects_are_only_warned_of():
    cell = make.subject()
    maps, masks = np.abs(cell.maps[:, 0]), cell.masks[:, 0]
    metric = quantus.AttributionLocalisation(max_size=1e-9, abs=True, **PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.isfinite(together(metric, cell, maps, masks=masks)).all()
    frame = make.score(cell, metric="AttributionLocalisation", max_size=1e-9)
    assert frame["status"].eq("unavailable").all()


@pytest.mark.parametrize(
    "recipe",
    [{"metric": "RelevanceRankAccuracy"}, {"metric": "TopKIntersection", "k": 40}],
    ids=ids,
)
def test_defect_equal_pixels_are_ranked_by_their_place(recipe):
    """A map with one peak in the middle: an object in any corner is found as well as any other."""
    maps = np.zeros((4, 16, 16), np.float32)
    maps[:, 8, 8] = 1
    masks = np.zeros((4, 16, 16), dtype=bool)
    masks[0, :5, :8] = masks[1, -5:, :8] = masks[2, :5, -8:] = masks[3, -5:, -8:] = True
    arguments = {key: value for key, value in recipe.items() if key != "metric"}
    metric = getattr(quantus, recipe["metric"])(**arguments, **PLAIN)
    cell = masked(masks, maps)
    assert np.ptp(together(metric, cell, maps, masks=masks)) > 0.3
    ours = make.values(cell, **recipe)
    np.testing.assert_allclose(ours, 39 * 40 / 255 / 40)
