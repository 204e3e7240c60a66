"""Promises of the metrics of class maps on agnostic, random and exact maps."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import silhouette_samples
from test_metrics_contrastivity import edges, exact, redrawn

from clarity.metrics.evaluate import evaluate
from clarity.metrics.registry import cost

SWAP, DELETION, INSERTION = "ClassSwapDeletion", "ContrastiveDeletion", "ContrastiveInsertion"
ON_MARGIN = [
    {"metric": SWAP},
    {"metric": SWAP, "unit": "score"},
    {"metric": DELETION},
    {"metric": INSERTION},
]


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("recipe", ON_MARGIN)
def test_the_margin_gains_exactly_nothing_by_maps_that_ignore_the_class(recipe, softmax):
    cell = make.subject(explain=edges)
    for maps in (cell.maps[:, 0], np.maximum(cell.maps[:, 0], 0.2), cell.masks[:, 0]):
        found = make.values(make.with_maps(cell, maps), **recipe, softmax=softmax)
        assert (found == 0).all()


@pytest.mark.parametrize("recipe", ON_MARGIN)
def test_the_margin_gains_nothing_on_average_by_noise(recipe):
    found = make.values(make.subject(n=300, explain=redrawn()), **recipe)
    assert abs(found.mean()) < 3.5 * found.std() / 300**0.5


@pytest.mark.parametrize("recipe", ON_MARGIN)
def test_the_margin_gains_by_exact_maps_and_loses_by_swapped_ones(recipe):
    cell = exact()
    assert (make.values(cell, **recipe) > 0.2).all()
    swapped = make.with_maps(cell, cell.maps[:, ::-1])
    assert (make.values(swapped, **recipe) < -0.2).all()


@pytest.mark.parametrize("metric", [DELETION, INSERTION])
def test_on_average_no_order_gains_more_than_the_exact_one_of_a_linear_model(metric):
    generator = np.random.default_rng(0)
    model = make.Linear(generator.normal(size=(make.CLASSES, 3, 16, 16)).astype(np.float32))
    cell = make.subject(n=40, model=model)
    best = make.values(cell, metric=metric)
    for strength in (0.3, 1.0, 3.0):
        noisy = cell.maps + generator.normal(0, strength, cell.maps.shape)
        other = make.values(make.with_maps(cell, noisy), metric=metric)
        assert best.mean() > other.mean()


@pytest.mark.parametrize("side", [2, 4, 16])
@pytest.mark.parametrize("metric", [DELETION, INSERTION, "CorpusContrast"])
def test_coarse_noise_gains_nothing_on_average_whatever_the_size_of_its_patches(metric, side):
    """Pixels in random order as the measure of chance would give coarse noise a gain of its own."""
    cell = make.trained(n=120)
    noise = np.random.default_rng(1).normal(size=(120, make.CLASSES, side, side))
    maps = noise.repeat(16 // side, axis=2).repeat(16 // side, axis=3).astype(np.float32)
    found = make.values(make.with_maps(cell, maps), metric=metric)
    assert abs(found.mean()) < 3.5 * found.std() / len(found) ** 0.5


def test_class_swap_deletion_by_hand():
    cell = exact()
    found = make.values(cell, metric=SWAP, share=0.05, unit="score")
    count = round(0.05 * 256)
    for row in range(6):
        label, foil = cell.classes[row]
        parts = []
        for maps in cell.maps[row]:
            image = cell.images[row].copy()
            image.reshape(3, -1)[:, np.argsort(-maps.ravel())[:count]] = 0
            parts.append(make.batch(cell).scores(image[None])[0])
        drops = make.batch(cell).scores(cell.images[row : row + 1])[0] - np.stack(parts)
        expected = (drops[0, label] - drops[1, label]) + (drops[1, foil] - drops[0, foil])
        assert found[row] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", [SWAP, DELETION, INSERTION])
def test_the_unit_of_a_model_does_not_matter(metric):
    cell = exact()
    louder = make.Linear(7 * cell.model.weights.detach().numpy())
    np.testing.assert_allclose(
        make.values(replace(cell, model=louder), metric=metric),
        make.values(cell, metric=metric),
        atol=1e-5,
    )
    noise = make.subject(n=100, explain=redrawn())
    assert (np.abs(make.values(noise, metric=metric)) <= 1).all()


@pytest.mark.parametrize("recipe", ON_MARGIN)
def test_a_foil_without_a_map_is_counted(recipe):
    cell = exact()
    maps = np.array(cell.maps)
    maps[1, 1], maps[2, 1, 0, 0] = 0, np.nan
    frame = make.score(replace(cell, maps=maps), **recipe)
    assert frame["reason"].tolist() == [
        "",
        "constant foil map",
        "the foil map has values that are not finite",
        "",
        "",
        "",
    ]


def test_a_margin_that_does_not_start_above_zero_has_no_value_in_the_unit_of_its_start():
    cell = exact()
    scores = make.batch(cell).scores(cell.images)
    rows = np.arange(6)
    leads = scores[rows, cell.classes[:, 0]] > scores[rows, cell.classes[:, 1]]
    assert 0 < leads.sum() < 6
    frame = make.score(cell, metric=DELETION, unit="start")
    assert (frame["status"].eq("ok").to_numpy() == leads).all()
    assert frame["reason"][~leads].eq("the label does not lead its foil").all()


def test_the_area_under_the_curve_is_the_value():
    frame = make.score(exact(), metric=DELETION, steps=8)
    axis = frame.attrs["curves"]["m"]
    assert axis["axis"] == "share of pixels removed"
    for value, curve in zip(frame["value"], frame["curve"], strict=True):
        assert curve[0] == curve[-1] == 0
        assert np.trapezoid(curve, axis["at"]) == pytest.approx(value)


@pytest.mark.parametrize("mode", ["deletion", "insertion"])
def test_corpus_contrast_gains_by_exact_maps_and_nothing_by_noise(mode):
    """The exact map here is what each pixel alone takes from the contrast when it goes."""
    cell = make.trained(n=4, size=8)
    model = cell.model.model
    corpora = np.stack(
        [
            model.references[model.reference_labels == label].mean(dim=0).numpy()
            for label in range(make.CLASSES)
        ]
    )
    towards = corpora[cell.classes[:, 0]] - corpora[cell.classes[:, 1]]
    batch = make.batch(cell)

    def contrast(images):
        embeddings = batch.embed(images)
        return (embeddings * towards).sum(1) / np.linalg.norm(embeddings, axis=1)

    drops = np.zeros((4, 8, 8), np.float32)
    for place in np.ndindex(8, 8):
        image = np.array(cell.images)
        image[:, :, *place] = 0
        drops[(slice(None), *place)] = contrast(cell.images) - contrast(image)
    found = make.values(make.with_maps(cell, drops), metric="CorpusContrast", mode=mode)
    worst = make.values(make.with_maps(cell, -drops), metric="CorpusContrast", mode=mode)
    assert found.mean() > 0 > worst.mean()

    many = make.trained(n=200, size=8)
    noise = np.random.default_rng(0).normal(size=(200, 8, 8))
    null = make.values(make.with_maps(many, noise), metric="CorpusContrast", mode=mode)
    assert abs(null.mean()) < 3.5 * null.std() / 200**0.5


def test_corpus_contrast_needs_references_of_the_classes():
    frame = make.score(make.subject(), metric="CorpusContrast")
    assert frame["reason"].str.contains("no training references").all()
    cell = make.trained()
    model = cell.model.model
    kept = model.reference_labels != 2
    model.set_references(model.references[kept], model.reference_labels[kept])
    frame = make.score(cell, metric="CorpusContrast")
    lacking = (cell.classes[:, :2] == 2).any(axis=1)
    assert (frame["status"].eq("unavailable").to_numpy() == lacking).all()
    assert frame["reason"][lacking].eq("a class without training references").all()


CLASSIFIERS = ["centroid", "logistic"]


@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_map_classifier_is_exactly_at_chance_for_maps_that_ignore_the_class(
    classifier, targets
):
    cell = make.subject(n=40, explain=edges)
    recipe = {"metric": "MapClassifier", "classifier": classifier, "targets": targets}
    assert (make.values(cell, **recipe) == 0).all()


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_map_classifier_is_at_chance_on_average_for_noise(classifier):
    cell = make.subject(n=150, explain=redrawn())
    found = make.values(cell, metric="MapClassifier", classifier=classifier)
    # The folds' classifiers have most images in common, so the error is wider than that of a mean.
    assert abs(found.mean()) < 5 * found.std() / 150**0.5


@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_map_classifier_finds_every_class_of_exact_maps(classifier, targets):
    recipe = {"metric": "MapClassifier", "classifier": classifier, "targets": targets}
    assert (make.values(exact(n=30), **recipe) == 1).all()


def test_the_map_classifier_sees_the_shape_of_a_map_not_its_strength():
    def louder(model, images, classes):
        return edges(model, images, classes) * (1 + classes)[:, None, None].astype(np.float32)

    found = make.values(make.subject(n=40, explain=louder), metric="MapClassifier", scale="none")
    assert abs(found.mean()) < 0.1


def test_the_map_classifier_learns_nothing_from_the_image_that_it_judges():
    """Each image has stamps of its own for its classes: they say nothing of another image's."""

    def stamps(model, images, classes):
        keys = (images[:, 0, 0, 0] * 1e6).astype(int) * 10 + classes
        return np.stack([np.random.default_rng(key).normal(size=(16, 16)) for key in keys])

    found = make.values(make.subject(n=150, explain=stamps), metric="MapClassifier")
    assert abs(found.mean()) < 5 * found.std() / 150**0.5


def test_the_map_classifier_leaves_out_classes_without_a_map():
    cell = exact(n=30)

    def some_zero(model, images, classes):
        maps = make.gradient_times_input(model, images, classes)
        return np.where((classes == 4)[:, None, None], 0, maps)

    frame = make.score(replace(cell, explain=some_zero), metric="MapClassifier", targets=None)
    for row, curve in enumerate(frame["curve"]):
        assert np.isnan(curve).sum() == (4 not in cell.classes[row])
    assert (frame["value"] == 1).all()


def test_the_map_classifier_judges_an_image_whose_label_alone_has_no_map():
    """The set, and so the folds, are the same whatever maps a loss leaves flat."""
    cell = exact(n=30)
    flat = np.array(cell.maps)
    flat[:3, 0] = 0
    frame = make.score(make.with_maps(cell, flat), metric="MapClassifier")
    for row in range(3):
        assert np.isnan(frame["curve"][row]).sum() == 1
    assert (frame["value"] == 1).all()


def test_the_map_classifier_costs_the_maps_that_are_not_stored():
    cell, costs = exact(n=40), {}
    recipe = make.MetricRecipe(metric="MapClassifier", targets=4)
    evaluate(cell, {"m": recipe}, dataset="d", seed=0, costs=costs)
    sizes = {"pixels": 256, "channels": 3, "layers": 1, "images": 40}
    expected = cost(recipe, classes=make.CLASSES, **sizes).explained
    assert costs["m"].explained / 40 == pytest.approx(expected, rel=0.15)


def test_agreement_over_images_is_the_rank_correlation_of_distances():
    cell = make.trained(n=8)
    found = make.values(cell, metric="SpaceAgreement")
    maps = cell.maps[:, 0].reshape(8, -1)
    embeddings = make.batch(cell).embed(cell.images)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for row in range(8):
        others = [other for other in range(8) if other != row]
        of_maps = [1 - scipy.stats.spearmanr(maps[row], maps[other])[0] for other in others]
        of_embeddings = [1 - unit[row] @ unit[other] for other in others]
        expected = scipy.stats.spearmanr(of_maps, of_embeddings)[0]
        assert found[row] == pytest.approx(expected, abs=1e-6)


def test_agreement_over_images_is_zero_on_average_for_noise():
    cell = make.trained(n=60)
    noise = np.random.default_rng(0).normal(size=cell.maps.shape).astype(np.float32)
    found = make.values(replace(cell, maps=noise), metric="SpaceAgreement")
    assert abs(found.mean()) < 5 * found.std() / 60**0.5


def test_agreement_over_classes_is_one_for_maps_that_follow_the_prototypes():
    cell = make.trained()
    cosines = (cell.model.model.prototypes @ cell.model.model.prototypes.T).numpy()
    root = np.linalg.cholesky(cosines.astype(np.float64) + 1e-9 * np.eye(5))
    directions = np.random.default_rng(0).normal(size=(256, 5))
    directions = np.linalg.qr(directions - directions.mean(axis=0))[0]
    maps = (root @ directions.T).reshape(5, 16, 16)
    per_image = np.stack([maps[classes] for classes in cell.classes]).astype(np.float32)
    found = make.values(replace(cell, maps=per_image), metric="SpaceAgreement", over="classes")
    assert (found > 0.7).all()  # maps are compared by ranks, so the distances differ a little
    agnostic = make.with_maps(cell, np.repeat(cell.maps[:, :1], 5, axis=1))
    frame = make.score(agnostic, metric="SpaceAgreement", over="classes")
    assert frame["reason"].eq("all distances are the same").all()


def test_the_silhouette_is_one_for_a_stamp_a_class_and_below_zero_for_noise():
    cell = make.trained(n=60)
    stamps = np.random.default_rng(0).normal(size=(5, 16, 16))[cell.classes[:, 0]]
    found = make.values(make.with_maps(cell, stamps), metric="MapSilhouette")
    np.testing.assert_allclose(found, 1, atol=1e-6)
    noise = np.random.default_rng(0).normal(size=(60, 16, 16))
    found = make.values(make.with_maps(cell, noise), metric="MapSilhouette")
    assert -0.05 < found.mean() < -3 * found.std() / 60**0.5
    few = make.values(make.only(make.with_maps(cell, noise), range(15)), metric="MapSilhouette")
    assert few.mean() < found.mean()  # what a set gives noise depends on its size


def test_the_silhouette_of_embeddings_stands_beside_that_of_maps():
    cell = make.trained(n=12)
    frame = make.score(cell, metric="MapSilhouette")
    assert frame.attrs["curves"]["m"]["at"] == ["maps", "embeddings"]
    expected = silhouette_samples(
        make.batch(cell).embed(cell.images).astype(np.float64), cell.classes[:, 0], metric="cosine"
    )
    found = np.stack(frame["curve"].to_list())
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, 0], frame["value"])


@pytest.mark.parametrize(
    ("recipe", "rows"),
    [("MapClassifier", [0]), ("SpaceAgreement", [0, 1, 2]), ("MapSilhouette", [0, 1, 2])],
)
def test_a_set_that_is_too_small_has_no_value_and_a_reason(recipe, rows):
    frame = make.score(make.only(make.trained(), rows), metric=recipe)
    assert frame["status"].eq("unavailable").all()
    assert frame["reason"].ne("").all()
