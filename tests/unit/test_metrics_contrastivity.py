"""Promises of the contrastivity metrics on the ideal, the agnostic and the random map."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from pytorch_grad_cam.utils.image import scale_cam_image
from scipy.ndimage import zoom
from skimage.metrics import structural_similarity

from clarity.metrics.evaluate import evaluate
from clarity.metrics.registry import cost
from clarity.metrics.similarity import cosine, pearson, spearman, ssim, top_overlap
from clarity.seeds import derive_seed

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


# Maps of several classes: agnostic, redrawn at random, and exact ones of a linear model.


def weights_of_places(size=16, channels=3):
    """A linear model whose classes look at places of their own, evenly bright."""
    weights = np.zeros((make.CLASSES, channels, size, size), np.float32)
    for label in range(make.CLASSES):
        weights[label, :, 3 * label : 3 * label + 3, 2:14] = 1 / 50
    return make.Linear(weights)


def exact(n=6, **choices):
    return make.subject(n=n, model=weights_of_places(), **choices)


def edges(model, images, classes):
    return np.abs(np.diff(images.mean(1), axis=1, prepend=np.float32(0)))


def redrawn():
    generator = np.random.default_rng(0)
    return lambda model, images, classes: generator.normal(size=(len(images), *images.shape[2:]))


ON_PAIRS = [
    {"metric": "PairwiseSimilarity", "similarity": "spearman"},
    {"metric": "ContrastivityIndex"},
    {"metric": "TopKOverlap"},
]


@pytest.mark.parametrize("foil", ["runner-up", "least-likely"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_index_is_exactly_zero_for_maps_that_ignore_the_class(similarity, foil):
    found = make.values(
        exact(explain=edges), metric="ContrastivityIndex", similarity=similarity, foil=foil
    )
    assert (found == 0).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_index_is_zero_on_average_for_noise_which_wins_the_similarity(similarity):
    cell = make.subject(n=300, explain=redrawn())
    found = make.values(cell, metric="ContrastivityIndex", similarity=similarity)
    assert abs(found.mean()) < 3.5 * found.std() / 300**0.5
    plain = make.values(cell, metric="PairwiseSimilarity", similarity=similarity)
    assert abs(plain.mean()) < 0.02  # the best score that there is


def test_the_index_of_exact_maps_of_apart_places_is_high():
    assert (make.values(exact(), metric="ContrastivityIndex") > 0.4).all()
    assert (make.values(exact(), metric="ContrastivityIndex", similarity="cosine") > 0.95).all()


def test_the_index_has_the_noise_of_max_sensitivity():
    cell = exact()
    batch = make.batch(cell)
    batch.explain_all(batch.images, batch.classes)
    make.metric(make.MetricRecipe(metric="ContrastivityIndex"))(batch)
    hits = batch.maps_memory.hits
    sensitivity = {"nr_samples": 1, "lower_bound": 0.02}
    make.metric(make.MetricRecipe(metric="MaxSensitivity", **sensitivity))(batch)
    assert batch.maps_memory.hits == hits + 1


@pytest.mark.parametrize("recipe", ON_PAIRS)
def test_all_others_give_a_curve_by_the_distance_of_prototypes_and_its_mean(recipe):
    cell = make.trained()
    frame = make.score(cell, **recipe, foil="others")
    prototypes = cell.model.model.prototypes.numpy()
    pairs = cell.classes[:, :2]
    for row, (label, _) in enumerate(pairs):
        near = prototypes @ prototypes[label]
        order = [c for c in np.argsort(-near) if c != label]
        curve = []
        for foil in order:
            slot = list(cell.classes[row]).index(foil)
            maps, classes = np.array(cell.maps), np.array(cell.classes)
            for array in (maps, classes):
                array[row, [1, slot]] = array[row, [slot, 1]]
            alone = make.only(replace(cell, maps=maps, classes=classes), [row])
            curve.append(make.values(alone, **recipe)[0])
        np.testing.assert_allclose(frame["curve"][row], curve, atol=1e-6)
        assert frame["value"][row] == pytest.approx(np.mean(curve), abs=1e-6)


def test_all_others_need_prototypes():
    frame = make.score(exact(), metric="PairwiseSimilarity", foil="others")
    assert frame["status"].eq("unavailable").all()
    assert frame["reason"].str.contains("no prototypes").all()


def test_a_foil_without_a_map_is_left_out_of_the_mean_and_seen_in_the_curve():
    cell = make.trained()
    maps = np.array(cell.maps)
    maps[1, 2] = 0
    maps[2, 1:] = 0
    maps[3, 1:] = np.nan
    frame = make.score(replace(cell, maps=maps), metric="PairwiseSimilarity", foil="others")
    assert np.isnan(frame["curve"][1]).sum() == 1
    assert frame["value"][1] == pytest.approx(np.nanmean(frame["curve"][1]))
    assert frame["reason"][2] == "constant foil map"
    assert frame["reason"][3] == "the foil map has values that are not finite"


def test_the_least_likely_foil_is_the_lowest_score_of_the_others():
    cell = exact()
    scores = np.array(make.batch(cell).scores(cell.images))
    scores[np.arange(6), cell.classes[:, 0]] = np.inf
    least = scores.argmin(axis=1)
    maps = np.stack([cell.maps[:, 0], cell.explain(cell.model, cell.images, least)], axis=1)
    classes = np.stack([cell.classes[:, 0], least], axis=1)
    for recipe in ON_PAIRS:
        np.testing.assert_allclose(
            make.values(cell, **recipe, foil="least-likely"),
            make.values(replace(cell, maps=maps, classes=classes), **recipe),
            atol=1e-6,
        )


@pytest.mark.parametrize("metric", ["PairwiseSimilarity", "ContrastivityIndex", "TopKOverlap"])
@pytest.mark.parametrize("foil", ["runner-up", "least-likely", "others"])
def test_foils_cost_what_their_formulas_say_where_two_maps_are_stored(metric, foil):
    full = make.trained()
    cell = replace(full, maps=full.maps[:, :2], classes=full.classes[:, :2])
    recipe, costs = make.MetricRecipe(metric=metric, foil=foil), {}
    evaluate(cell, {"m": recipe}, dataset="d", seed=0, costs=costs)
    sizes = {"pixels": 256, "channels": 3, "layers": 1, "images": 6}
    expected = cost(recipe, classes=make.CLASSES, **sizes)
    # The least likely class may be the runner-up, whose map is stored.
    slack = 0.5 if foil == "least-likely" else 0
    assert costs["m"].explained / 6 == pytest.approx(expected.explained, abs=slack)
    assert costs["m"].forward / 6 == pytest.approx(expected.forward, abs=0.2)


def test_top_overlap_is_the_share_for_noise_one_for_the_same_map_and_zero_for_apart_places():
    cell = make.subject(n=200, size=32)
    noise = np.random.default_rng(0).normal(size=(200, 2, 32, 32))
    found = make.values(make.with_maps(cell, noise), metric="TopKOverlap", share=0.05)
    assert found.mean() == pytest.approx(0.05, abs=3.5 * found.std() / 200**0.5 + 0.001)
    for maps in (noise[:, 0], np.maximum(noise[:, 0], 1.9), cell.masks[:, 0]):
        same = make.values(make.with_maps(cell, maps), metric="TopKOverlap")
        assert (same == 1).all()
    few = np.zeros((200, 2, 32, 32))  # fewer marked pixels than the top has
    few[:, 0, 0, :9], few[:, 1, 9, :9] = 1, 1
    assert (make.values(make.with_maps(cell, few), metric="TopKOverlap") == 0).all()


def test_top_overlap_by_hand_with_ties():
    first, second = np.zeros((2, 1, 4, 5))
    first[0, 0] = [5, 4, 3, 3, 3]  # top 3 of 20: 5, 4 and a third of each 3
    second[0, 0] = [0, 9, 8, 7, 0]
    assert top_overlap(first, second, 0.15)[0] == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)


def test_class_sensitivity_compares_the_most_and_the_least_likely_class():
    cell = exact()
    scores = make.batch(cell).scores(cell.images)
    most, least = (
        cell.explain(cell.model, cell.images, ends)
        for ends in (scores.argmax(axis=1), scores.argmin(axis=1))
    )
    found = make.values(cell, metric="ClassSensitivity", similarity="cosine")
    np.testing.assert_allclose(found, cosine(most, least), atol=1e-6)
    agnostic = make.values(exact(explain=edges), metric="ClassSensitivity")
    np.testing.assert_allclose(agnostic, 1)


def released(label_map, foil_map):
    """What the released code of arXiv 2604.22540 computes of two maps of a Grad-CAM."""
    scaled = [scale_cam_image(np.maximum(m, 0)[None])[0] for m in (label_map, foil_map)]
    return structural_similarity(*scaled, data_range=1.0)


def test_ssim_of_a_random_class_is_that_of_pytorch_grad_cam_and_skimage():
    cell = make.trained()
    found = make.values(cell, metric="SsimRandomClass")
    for row in range(6):
        seed = derive_seed("metric", make.DATASET, make.SEED, row)
        draw = np.random.RandomState(seed).randint(0, make.CLASSES - 1)
        label = cell.classes[row, 0]
        other = draw + (draw >= label)
        slot = list(cell.classes[row]).index(other)
        assert found[row] == pytest.approx(released(cell.maps[row, 0], cell.maps[row, slot]))


def test_ssim_of_a_random_class_scores_zero_maps_only_if_asked_to_as_the_released_code_does():
    cell = make.trained()
    maps = np.array(cell.maps)
    maps[:, 1:] = 0
    cell = replace(cell, maps=maps)
    frame = make.score(cell, metric="SsimRandomClass")
    assert frame["reason"].eq("constant foil map").all()
    scored = make.values(cell, metric="SsimRandomClass", zero_maps="scored")
    expected = [released(first, np.zeros_like(first)) for first in maps[:, 0]]
    np.testing.assert_allclose(scored, expected, rtol=1e-5)


def test_ssim_of_a_random_class_is_one_for_maps_that_ignore_the_class():
    np.testing.assert_allclose(make.values(exact(explain=edges), metric="SsimRandomClass"), 1)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"metric": "PairwiseSimilarity", "foil": "random"}, "foil: found 'random'"),
        ({"metric": "ContrastivityIndex", "noise": 0.0}, "noise: found 0.0"),
        ({"metric": "TopKOverlap", "share": 1.5}, "share: found 1.5"),
        ({"metric": "SsimRandomClass", "zero_maps": "no"}, "zero_maps: found 'no'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(recipe, message):
    with pytest.raises(ValueError, match=message):
        make.score(exact(), **recipe)
