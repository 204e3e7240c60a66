"""Promises of the Quantus adapter: equal to Quantus where it is right, mended where it is not.

For each defect of Quantus 0.6.0 that the adapter works round, a test shows the defect in Quantus
itself, so that a release without it is noticed, and that CLarity's score is free of it.
"""

from dataclasses import replace
from itertools import pairwise

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus.helpers import asserts, warn
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import nn

from clarity.metrics import quantus_adapter as adapter
from clarity.seeds import derive_seed

PLAIN = {"normalise": False, "disable_warnings": True}


def seed_of(row: int, name: str = "m") -> int:
    return derive_seed("metric", make.DATASET, make.SEED, name, row)


def scaled(maps: np.ndarray) -> np.ndarray:
    return maps / np.abs(maps).max(axis=(-2, -1), keepdims=True)


def one_by_one(metric, cell, maps=None, *, prepare=scaled, softmax=False, masks=None):
    """Call Quantus itself on one image at a time, seeded as CLarity seeds that image."""
    maps = prepare(cell.maps[:, 0]) if maps is None else maps

    def explain(model, inputs, targets, **_):
        return prepare(cell.explain(np.asarray(inputs, np.float32), np.asarray(targets)))[:, None]

    found = []
    for row in range(len(maps)):
        np.random.seed(seed_of(row))
        found += metric(row)(
            model=cell.model,
            x_batch=np.array(cell.images[row : row + 1]),
            y_batch=np.array(cell.classes[row : row + 1, 0]),
            a_batch=np.array(maps[row : row + 1, None]),
            s_batch=None if masks is None else np.array(masks[row : row + 1, None]),
            explain_func=explain,
            softmax=softmax,
            channel_first=True,
            batch_size=1,
        )
    return np.array(found, dtype=np.float64)


def distinct(n: int = 6, size: int = 16) -> np.ndarray:
    """Return maps whose values are all different, so that order is not left to chance."""
    generator = np.random.default_rng(5)
    return np.stack([generator.permutation(size * size) for _ in range(n)]).reshape(n, size, size)


# ---- equal to Quantus -------------------------------------------------------------------------


def test_pixel_flipping_is_the_area_under_the_curve_of_quantus_on_grey_images():
    cell = make.with_maps(make.subject(channels=1), distinct())
    metric = quantus.PixelFlipping(features_in_step=32, perturb_baseline=0.0, **PLAIN)
    curves = one_by_one(lambda row: metric, cell, softmax=True).reshape(6, 8)
    start = probabilities(cell.model, cell.images, cell.classes[:, 0])
    whole = np.column_stack([start, curves]) / start[:, None]
    area = (whole[:, 1:] + whole[:, :-1]).sum(axis=1) / 2 / 8
    found = make.values(cell, metric="PixelFlipping", features_in_step=32)
    np.testing.assert_allclose(found, area, rtol=1e-5)


def test_faithfulness_correlation_is_that_of_quantus_on_grey_images():
    cell = make.subject(channels=1)
    expected = one_by_one(
        lambda row: quantus.FaithfulnessCorrelation(
            nr_runs=20, subset_size=40, perturb_baseline=0.0, return_aggregate=False, **PLAIN
        ),
        cell,
    )
    found = make.values(cell, metric="FaithfulnessCorrelation", nr_runs=20, subset_size=40)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "bounds", [{"lower_bound": 0.05}, {"lower_bound": 0.0, "upper_bound": 0.1}]
)
def test_max_sensitivity_is_that_of_quantus(bounds):
    cell = make.subject()
    expected = one_by_one(
        lambda row: quantus.MaxSensitivity(nr_samples=5, **bounds, **PLAIN), cell, prepare=np.array
    )
    found = make.values(cell, metric="MaxSensitivity", nr_samples=5, **bounds)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 0.01


def test_max_sensitivity_is_that_of_quantus_where_the_noise_changes_the_prediction():
    cell = make.subject(n=12)
    options = {"nr_samples": 3, "lower_bound": 0.1, "return_nan_when_prediction_changes": True}
    expected = one_by_one(
        lambda row: quantus.MaxSensitivity(**options, **PLAIN), cell, prepare=np.array
    )
    frame = make.score(cell, metric="MaxSensitivity", **options)
    np.testing.assert_allclose(frame["value"], expected, atol=1e-5)
    assert 0 < np.isnan(expected).sum() < 12
    assert set(frame["reason"][np.isnan(expected)]) == {"the noise changes the prediction"}


def test_sparseness_is_that_of_quantus():
    cell = make.subject()
    expected = one_by_one(lambda row: quantus.Sparseness(**PLAIN), cell)
    np.testing.assert_allclose(make.values(cell, metric="Sparseness"), expected, atol=1e-5)


def test_random_logit_is_that_of_quantus_with_ssim_in_two_dimensions():
    def flat_ssim(a, b, **_):
        a, b = (np.asarray(x, np.float64).reshape(16, 16) for x in (a[0], b[0]))
        span = np.concatenate([a, b]).max() - np.concatenate([a, b]).min()
        return [structural_similarity(a, b, data_range=span)]

    cell = make.subject()
    expected = one_by_one(
        lambda row: quantus.RandomLogit(
            similarity_func=flat_ssim, num_classes=make.CLASSES, seed=seed_of(row), **PLAIN
        ),
        cell,
    )
    np.testing.assert_allclose(make.values(cell, metric="RandomLogit"), expected, atol=1e-5)


def test_relevance_mass_is_that_of_quantus_on_positive_maps():
    cell = make.subject()
    cell = make.with_maps(cell, np.abs(cell.maps[:, 0]))
    expected = one_by_one(
        lambda row: quantus.RelevanceMassAccuracy(**PLAIN), cell, masks=cell.masks[:, 0]
    )
    np.testing.assert_allclose(
        make.values(cell, metric="RelevanceMassAccuracy"), expected, atol=1e-5
    )


def test_pointing_game_is_that_of_quantus_where_the_maximum_is_unique():
    cell = make.with_maps(make.subject(n=40), distinct(40))
    expected = one_by_one(lambda row: quantus.PointingGame(**PLAIN), cell, masks=cell.masks[:, 0])
    np.testing.assert_array_equal(make.values(cell, metric="PointingGame"), expected)
    assert 0 < expected.mean() < 1


def test_completeness_is_zero_exactly_where_quantus_says_true():
    generator = np.random.default_rng(0)
    weights = generator.integers(-3, 4, (make.CLASSES, 1, 4, 4))
    images = generator.integers(0, 5, (6, 1, 4, 4)).astype(np.float32) / 4
    model = make.Linear(weights).eval()
    cell = make.subject(model=model, images=images)
    maps = np.array(cell.maps)
    maps[::2, 0, 0, 0] += 0.25
    cell = replace(cell, maps=maps)
    metric = quantus.Completeness(perturb_baseline=0.0, **PLAIN)
    exact = one_by_one(lambda row: metric, cell, prepare=np.array).astype(bool)
    assert exact.tolist() == [False, True] * 3
    gaps = make.values(cell, metric="Completeness")
    assert (gaps[exact] == 0).all()
    assert (gaps[~exact] > 0).all()


@pytest.mark.parametrize(
    ("name", "arguments", "prepare"),
    [
        ("FaithfulnessEstimate", {"features_in_step": 32}, scaled),
        ("AvgSensitivity", {"nr_samples": 3, "lower_bound": 0.05}, np.array),
        ("LocalLipschitzEstimate", {"nr_samples": 3}, scaled),
        ("Infidelity", {"n_perturb_samples": 3}, np.array),
        ("Complexity", {}, lambda maps: np.abs(scaled(maps))),
        ("RelevanceRankAccuracy", {}, scaled),
    ],
)
def test_any_other_metric_is_that_of_quantus_one_image_a_call(name, arguments, prepare):
    cell = make.subject()
    black = {"perturb_baseline": 0.0} if name in ("FaithfulnessEstimate", "Infidelity") else {}
    expected = one_by_one(
        lambda row: getattr(quantus, name)(**arguments, **black, abs=name == "Complexity", **PLAIN),
        cell,
        prepare=prepare,
        softmax=name == "LocalLipschitzEstimate",
        masks=cell.masks[:, 0],
    )
    np.testing.assert_allclose(make.values(cell, metric=name, **arguments), expected, rtol=1e-6)


# ---- known answers ----------------------------------------------------------------------------


def probabilities(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found = model(torch.from_numpy(np.array(images))).softmax(dim=1).double().numpy()
    return found[np.arange(len(classes)), classes]


def linear_cell(n: int = 40, channels: int = 3, size: int = 16):
    """Return a cell of exact attributions of a linear model; every image is of the best class."""
    generator = np.random.default_rng(2)
    model = make.Linear(generator.normal(size=(make.CLASSES, channels, size, size)) / 4).eval()
    images = generator.uniform(0, 1, (n, channels, size, size)).astype(np.float32)
    with torch.no_grad():
        best = model(torch.from_numpy(images)).argsort(dim=1, descending=True)[:, :2].numpy()
    explain = make.gradient_times_input(model)
    maps = np.stack([explain(images, best[:, 0]), explain(images, best[:, 1])], axis=1)
    return replace(make.subject(model=model, images=images), maps=maps, classes=best)


def test_pixel_flipping_removes_whole_pixels_of_colour_images_most_relevant_first():
    cell = linear_cell()
    maps = cell.maps[:, 0]
    expected = []
    for image, map_, label in zip(cell.images, maps, cell.classes[:, 0], strict=True):
        order = np.argsort(-map_.ravel())
        steps = [np.array(image)]
        for first in range(0, 256, 32):
            changed = steps[-1].reshape(3, 256).copy()
            changed[:, order[first : first + 32]] = 0
            steps.append(changed.reshape(image.shape))
        curve = probabilities(cell.model, np.stack(steps), np.full(9, label))
        expected.append(np.trapezoid(curve / curve[0], np.linspace(0, 1, 9)))
    found = make.values(cell, metric="PixelFlipping", features_in_step=32)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_exact_attribution_flips_better_than_random_order_which_beats_the_worst_order():
    cell = linear_cell()
    means = [
        make.values(make.with_maps(cell, maps), metric="PixelFlipping", features_in_step=16).mean()
        for maps in (cell.maps[:, 0], distinct(40), -cell.maps[:, 0])
    ]
    assert means[0] + 0.1 < means[1] < means[2] - 0.1


def test_pixel_flipping_of_a_model_that_sees_nothing_is_one():
    cell = linear_cell()
    cell = replace(cell, model=make.Linear(np.zeros((make.CLASSES, 3, 16, 16))).eval())
    np.testing.assert_allclose(
        make.values(cell, metric="PixelFlipping", features_in_step=16), 1, rtol=1e-6
    )


@pytest.mark.parametrize("step", [1, 16, 100, 256, 1000])
def test_the_last_step_of_pixel_flipping_may_be_a_shorter_one(step):
    cell = make.subject(channels=1)
    curve = make.values(cell, metric="PixelFlipping", features_in_step=step)
    start = probabilities(cell.model, cell.images, cell.classes[:, 0])
    black = probabilities(cell.model, 0 * cell.images, cell.classes[:, 0])
    assert np.isfinite(curve).all()
    if step >= 256:
        np.testing.assert_allclose(curve, (1 + black / start) / 2, rtol=1e-5)
    if step == 100:
        ranks = cell.maps[:, 0].reshape(6, -1).argsort(axis=1)[:, ::-1]
        points = [start / start]
        for removed in (100, 200, 256):
            changed = np.array(cell.images).reshape(6, -1)
            np.put_along_axis(changed, ranks[:, :removed], 0, axis=1)
            points.append(
                probabilities(cell.model, changed.reshape(cell.images.shape), cell.classes[:, 0])
                / start
            )
        area = np.trapezoid(np.stack(points), [0, 100 / 256, 200 / 256, 1], axis=0)
        np.testing.assert_allclose(curve, area, rtol=1e-5)


def test_pixel_flipping_of_scores_says_where_there_is_nothing_to_start_from():
    cell = linear_cell()
    worst = cell.classes[:, ::-1].copy()
    with torch.no_grad():
        scores = cell.model(torch.from_numpy(np.array(cell.images))).numpy()
    worst[:, 0] = scores.argmin(axis=1)
    start = scores.min(axis=1)
    frame = make.score(
        replace(cell, classes=worst), metric="PixelFlipping", features_in_step=64, softmax=False
    )
    assert ((frame["status"] == "nan") == (start <= 0)).all()
    assert (start <= 0).any()
    assert set(frame["reason"][start <= 0]) == {"the score of the untouched image is not positive"}


def test_faithfulness_correlation_is_one_for_the_exact_attribution_also_in_colour():
    cell = linear_cell()
    recipe = {"metric": "FaithfulnessCorrelation", "nr_runs": 20, "subset_size": 64}
    np.testing.assert_allclose(make.values(cell, **recipe), 1, atol=1e-4)
    opposite = make.with_maps(cell, -cell.maps[:, 0])
    np.testing.assert_allclose(make.values(opposite, **recipe), -1, atol=1e-4)
    assert abs(make.values(make.with_maps(cell, distinct(40)), **recipe).mean()) < 0.15


def test_faithfulness_correlation_of_a_model_that_sees_nothing_is_not_that_of_its_rounding():
    class Deaf(make.Linear):
        def forward(self, images):
            return 5 + 1e-7 * super().forward(images)

    cell = linear_cell()
    deaf = replace(cell, model=Deaf(cell.model.weights.detach().numpy()).eval())
    frame = make.score(deaf, metric="FaithfulnessCorrelation", nr_runs=10, subset_size=32)
    assert set(frame["reason"]) == {"all subsets have the same sum or drop"}


def test_completeness_is_zero_for_gradient_times_input_of_a_linear_model():
    np.testing.assert_allclose(make.values(linear_cell(), metric="Completeness"), 0, atol=1e-5)


@pytest.mark.parametrize(
    ("factor", "gap"), [(1.0, 0.0), (2.0, 1 / 3), (0.5, 1 / 3), (-1.0, 1.0), (0.0, 1.0)]
)
def test_completeness_is_the_gap_relative_to_both_sides(factor, gap):
    cell = linear_cell()
    found = make.values(make.with_maps(cell, factor * cell.maps[:, 0]), metric="Completeness")
    np.testing.assert_allclose(found, gap, atol=1e-5)


def test_completeness_is_measured_from_the_baseline_of_the_recipe():
    cell = linear_cell()
    weights = cell.model.weights.detach().numpy()[cell.classes[:, 0]]
    for name, baseline in (
        ("white", np.ones_like(cell.images)),
        (
            "mean",
            np.broadcast_to(cell.images.mean(axis=(1, 2, 3), keepdims=True), cell.images.shape),
        ),
    ):
        maps = (weights * (cell.images - baseline)).sum(axis=1)
        other = make.with_maps(cell, maps)
        found = make.values(other, metric="Completeness", perturb_baseline=name)
        np.testing.assert_allclose(found, 0, atol=2e-5)
        assert make.values(other, metric="Completeness").mean() > 0.1


def test_completeness_of_nothing_that_changes_nothing_has_no_value():
    cell = linear_cell(n=4)
    images = np.array(cell.images)
    images[1] = 0
    frame = make.score(replace(cell, images=images, maps=0 * cell.maps), metric="Completeness")
    assert frame["status"].tolist() == ["ok", "nan", "ok", "ok"]
    assert frame["reason"][1] == "neither relevance nor a change of the score"


def test_max_sensitivity_of_a_known_explainer_is_known():
    """A(x) = mean over channels of x, so |A(x + e) - A(x)| is the norm of the mean noise."""
    cell = make.subject(explain=lambda images, classes: np.asarray(images).mean(axis=1))
    found = make.values(cell, metric="MaxSensitivity", nr_samples=4, lower_bound=0.02)
    for row in range(6):
        draw = np.random.RandomState(seed_of(row))
        noise = [draw.uniform(-0.02, 0.02, (3, 16, 16)).mean(axis=0) for _ in range(4)]
        size = np.linalg.norm(cell.maps[row, 0])
        assert found[row] == pytest.approx(max(map(np.linalg.norm, noise)) / size, rel=1e-4)


def test_max_sensitivity_is_zero_for_a_map_that_never_changes():
    fixed = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    cell = make.subject(explain=lambda images, classes: np.stack([fixed] * len(images)))
    np.testing.assert_array_equal(make.values(cell, metric="MaxSensitivity", nr_samples=3), 0)


def test_max_sensitivity_does_not_clip_the_noise_at_black_and_white():
    seen = []

    def explain(images, classes):
        seen.append(np.array(images))
        return make.gradient_times_input(model)(images, classes)

    model = make.convnet(3, 16)
    cell = make.subject(model=model, images=np.ones((6, 3, 16, 16), np.float32), explain=explain)
    make.score(cell, metric="MaxSensitivity", nr_samples=1, lower_bound=0.02)
    assert 1.019 < seen[-1].max() <= 1.02
    assert 0.98 <= seen[-1].min() < 0.981


def test_sparseness_is_the_gini_index():
    maps = np.zeros((6, 16, 16))
    maps[:3, 5, 5] = 2.0
    maps[3:, :8] = -1.0
    found = make.values(make.with_maps(make.subject(), maps), metric="Sparseness")
    np.testing.assert_allclose(found[:3], 1 - 1 / 256, atol=1e-4)
    np.testing.assert_allclose(found[3:], 0.5, atol=1e-4)


def test_random_logit_is_one_for_maps_that_ignore_the_class():
    cell = make.subject(explain=lambda images, classes: np.asarray(images).mean(axis=1))
    np.testing.assert_allclose(make.values(cell, metric="RandomLogit"), 1, atol=1e-6)


def test_random_logit_draws_every_class_but_the_label_alike():
    asked = []

    def explain(images, classes):
        asked.append(np.array(classes))
        return np.random.default_rng(0).normal(size=(len(images), 16, 16)).astype(np.float32)

    cell = make.subject(
        n=400, explain=explain, maps=np.random.default_rng(1).normal(size=(400, 2, 16, 16))
    )
    make.score(cell, metric="RandomLogit", batch_size=400)
    foils, labels = asked[-1], cell.classes[:, 0]
    assert (foils != labels).all()
    for label in range(make.CLASSES):
        counts = np.bincount(foils[labels == label], minlength=make.CLASSES)
        assert counts[label] == 0
        assert (np.delete(counts, label) > 8).all()  # 20 expected of each


def test_random_logit_does_not_score_a_zero_map_of_the_foil():
    cell = make.subject(
        explain=lambda images, classes: np.zeros((len(images), 16, 16), np.float32),
        maps=make.subject().maps,
    )
    frame = make.score(cell, metric="RandomLogit")
    assert set(frame["reason"]) == {"constant foil map"}
    assert frame["status"].eq("nan").all()


def test_the_mask_itself_as_a_map_wins_every_localisation_metric():
    cell = make.subject()
    cell = make.with_maps(cell, cell.masks[:, 0])
    for metric in ("PointingGame", "RelevanceMassAccuracy", "AttributionLocalisation", "AUC"):
        np.testing.assert_allclose(make.values(cell, metric=metric), 1, atol=1e-6)


def test_random_maps_get_the_share_of_the_mask():
    n = 1500
    generator = np.random.default_rng(3)
    maps = generator.uniform(size=(n, 2, 8, 8)).astype(np.float32)
    images = np.ones((n, 1, 8, 8), np.float32)
    cell = make.subject(images=images, maps=maps, model=nn.Identity())
    share = cell.masks[:, 0].mean()
    assert 0.1 < share < 0.5
    hits = make.values(cell, metric="PointingGame")
    assert hits.mean() == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / n))
    assert make.values(cell, metric="RelevanceMassAccuracy").mean() == pytest.approx(
        share, abs=0.01
    )


def test_weighted_hits_count_by_how_small_the_object_is():
    cell = make.with_maps(make.subject(n=40), distinct(40))
    plain = make.values(cell, metric="PointingGame")
    weighted = make.values(cell, metric="PointingGame", weighted=True)
    np.testing.assert_allclose(weighted, plain * (1 - cell.masks[:, 0].mean(axis=(1, 2))))


# ---- defects ----------------------------------------------------------------------------------


def direct(metric, cell, maps, *, softmax=False, masks=None, batch_size=64, **more):
    """Call Quantus itself on the whole batch."""
    return metric(
        model=cell.model,
        x_batch=np.array(cell.images),
        y_batch=np.array(cell.classes[:, 0]),
        a_batch=maps,
        s_batch=None if masks is None else np.array(masks[:, None]),
        softmax=softmax,
        channel_first=True,
        batch_size=batch_size,
        **more,
    )


def test_defect_scaling_by_the_maximum_of_the_batch():
    cell = make.subject()
    louder = np.array(cell.maps)
    louder[0] *= 1000
    metric = quantus.EffectiveComplexity(eps=0.05, disable_warnings=True)
    theirs = [direct(metric, cell, np.array(m[:, 0, None])) for m in (cell.maps, louder)]
    assert theirs[0][1:] != theirs[1][1:]
    ours = [
        make.values(replace(cell, maps=m), metric="EffectiveComplexity", eps=0.05)
        for m in (cell.maps, louder)
    ]
    np.testing.assert_array_equal(*ours)


def test_defect_changing_the_callers_maps_in_place():
    cell = make.subject()
    maps = np.abs(cell.maps[:, :1])
    before = maps.copy()
    direct(quantus.Sparseness(abs=False, normalise=False, disable_warnings=True), cell, maps)
    assert not np.array_equal(maps, before)
    positive = make.with_maps(cell, before[:, 0])  # an array that raises when it is written to
    make.score(positive, metric="Sparseness")
    assert np.array_equal(positive.maps[:, 0], before[:, 0])


def test_defect_a_negative_map_is_refused_alone_and_accepted_beside_others():
    cell = make.subject()
    maps = np.array(cell.maps[:, :1])
    maps[0] = -np.abs(maps[0]) - 0.1
    metric = quantus.RelevanceRankAccuracy(**PLAIN)
    masks = cell.masks[:, 0]
    assert np.isfinite(direct(metric, cell, maps, masks=masks)).all()
    with pytest.raises(AssertionError, match="should not all be less than zero"):
        metric(
            model=cell.model,
            x_batch=np.array(cell.images[:1]),
            y_batch=np.array(cell.classes[:1, 0]),
            a_batch=maps[:1],
            s_batch=np.array(masks[:1, None]),
            channel_first=True,
        )
    ours = make.values(make.with_maps(cell, maps[:, 0]), metric="RelevanceRankAccuracy")
    np.testing.assert_allclose(ours, direct(metric, cell, maps, masks=masks))


def test_defect_a_perturbed_map_of_zeros_fails_the_batch():
    cell = make.subject(explain=lambda images, classes: np.zeros((len(images), 16, 16), np.float32))
    cell = replace(cell, maps=make.subject().maps)
    metric = quantus.AvgSensitivity(nr_samples=2, **PLAIN)
    with pytest.raises(AssertionError, match="all equal to zero"):
        direct(
            metric,
            cell,
            np.array(cell.maps[:, :1]),
            explain_func=lambda model, inputs, targets, **_: cell.explain(inputs, targets)[:, None],
        )
    np.testing.assert_allclose(make.values(cell, metric="AvgSensitivity", nr_samples=2), 1)


def test_what_quantus_does_is_put_back_after_each_call():
    checks = asserts.assert_attributions, warn.warn_perturbation_caused_no_change
    make.score(make.subject(), metric="PixelFlipping", features_in_step=64)
    with adapter.mended():
        assert asserts.assert_attributions is not checks[0]
    with pytest.raises(ZeroDivisionError), adapter.mended():
        raise ZeroDivisionError
    assert (asserts.assert_attributions, warn.warn_perturbation_caused_no_change) == checks


def test_defect_random_logit_draws_by_position():
    def foils(metric, batch_size):
        asked = []

        def explain(model, inputs, targets, **_):
            asked.extend(np.asarray(targets).tolist())
            return cell.explain(inputs, targets)[:, None]

        maps = np.array(cell.maps[:, :1])
        direct(metric, cell, maps, batch_size=batch_size, explain_func=explain)
        return asked

    cell = make.subject()
    metric = quantus.RandomLogit(num_classes=make.CLASSES, **PLAIN)
    assert foils(metric, 2) != foils(metric, 6)
    np.testing.assert_allclose(
        make.values(cell, 2, metric="RandomLogit"),
        make.values(cell, 6, metric="RandomLogit"),
        atol=1e-6,
    )


def test_defect_ssim_along_a_line():
    """Turning both maps by a quarter changes nothing in two dimensions."""
    first = gaussian_filter(np.random.default_rng(0).normal(size=(24, 24)), (4, 0))
    second = np.roll(first, 2, axis=0)
    along_rows = quantus.ssim(first.ravel(), second.ravel())
    along_columns = quantus.ssim(first.T.ravel(), second.T.ravel())
    assert abs(along_rows - along_columns) > 0.05
    ours = adapter.ssim(np.stack([first, first.T]), np.stack([second, second.T]))
    assert ours[0] == pytest.approx(ours[1])


def test_defect_flipping_channel_values_in_place_of_pixels():
    seen = []

    class Spy(nn.Module):
        def forward(self, images):
            seen.append(images.numpy().copy())
            return images.mean(dim=(2, 3))

    images = np.full((3, 3, 8, 8), 0.5, np.float32)
    maps = distinct(3, 8).astype(np.float32)
    cell = make.subject(images=images, maps=np.stack([maps, maps], 1), model=Spy().eval())

    def partly_removed():
        return max(
            ((image == 0).any(axis=0) & (image != 0).any(axis=0)).sum()
            for step in seen
            for image in step
        )

    metric = quantus.PixelFlipping(features_in_step=8, perturb_baseline=0.0, **PLAIN)
    direct(metric, cell, maps[:, None].copy())
    assert partly_removed() > 0
    for recipe in (
        {"metric": "PixelFlipping", "features_in_step": 8},
        {"metric": "FaithfulnessCorrelation", "nr_runs": 4, "subset_size": 8},
    ):
        seen.clear()
        make.score(replace(cell, classes=cell.classes % 3), **recipe)
        assert partly_removed() == 0
        gone = {int((image == 0).all(axis=0).sum()) for step in seen for image in step}
        steps = set(range(0, 65, 8)) if recipe["metric"] == "PixelFlipping" else {0, 8}
        assert gone == steps


def test_defect_flat_parts_of_a_map_are_removed_in_the_order_of_the_raster():
    """A map with one peak is flat elsewhere; what is removed next must not be the top rows."""
    maps = np.zeros((200, 8, 8), np.float32)
    maps[:, 4, 4] = 1
    ranks = adapter.pixel_order(maps, list(range(200)))
    assert (ranks[:, 4, 4] == 63).all()
    assert all(sorted(r.ravel().tolist()) == list(range(64)) for r in ranks)
    of_rows = ranks.mean(axis=0)
    assert np.abs(of_rows.ravel()[np.arange(64) != 36] - 31).max() < 5  # 31 +- 1.3 expected
    np.testing.assert_array_equal(ranks[:5], adapter.pixel_order(maps[:5], list(range(5))))


def test_ranks_keep_the_order_of_the_values():
    maps = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    maps[1] = np.round(maps[1])
    ranks = adapter.pixel_order(maps, [1, 2, 3]).reshape(3, -1)
    for rank, values in zip(ranks, maps.reshape(3, -1), strict=True):
        assert (np.diff(values[np.argsort(rank)]) >= 0).all()


def test_defect_black_is_the_darkest_value_of_the_image():
    cell = make.subject(channels=1)  # values from 0.1 to 0.9
    seen = []

    def forward(images):
        seen.append(images.detach().numpy().copy())
        return original(images)

    original, cell.model.forward = cell.model.forward, forward
    metric = quantus.PixelFlipping(features_in_step=64, perturb_baseline="black", **PLAIN)
    direct(metric, cell, np.array(cell.maps[:, :1]))
    assert seen[-1].min() > 0.05
    for recipe in (
        {"metric": "PixelFlipping", "features_in_step": 64},
        {"metric": "Selectivity", "patch_size": 4},
        {"metric": "FaithfulnessEstimate", "features_in_step": 64},
    ):
        for named in ({}, {"perturb_baseline": "black"}):
            seen.clear()
            make.score(cell, **recipe, **named)
            assert seen[-1].min() == 0
        seen.clear()
        make.score(cell, **recipe, perturb_baseline="white")
        assert seen[-1].max() == 1


@pytest.mark.parametrize("baseline", ["mean", "uniform"])
def test_defect_the_baseline_changes_from_step_to_step(baseline):
    seen = []

    class Spy(nn.Module):
        def forward(self, images):
            seen.append(images.numpy().copy())
            return images.mean(dim=(2, 3))

    cell = replace(make.subject(model=nn.Identity(), maps=make.subject().maps), model=Spy().eval())
    cell = replace(cell, classes=cell.classes % 3)
    ranks = distinct().astype(np.float32)
    cell = make.with_maps(cell, ranks)
    make.score(cell, metric="PixelFlipping", features_in_step=16, perturb_baseline=baseline)
    last = seen[-1]
    first = ranks.reshape(6, -1).argmax(axis=1)
    rows = np.arange(6)
    one_step = seen[1].reshape(6, 3, -1)[rows, :, first]
    np.testing.assert_array_equal(one_step, last.reshape(6, 3, -1)[rows, :, first])
    if baseline == "mean":
        means = cell.images.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(last, np.broadcast_to(means[:, None, None, None], last.shape))
    else:
        assert len(np.unique(last)) > 0.9 * last.size
        assert abs(last.mean() - 0.5) < 0.02


def test_defect_ties_and_empty_masks_hit_in_the_pointing_game():
    cell = make.subject()
    maps, masks = np.zeros((6, 16, 16), np.float32), np.array(cell.masks)
    maps[:, 0, 2] = maps[:, 0, 3] = maps[:, 15, 15] = maps[:, 15, 14] = 1.0
    maps[2, 15, 14] = 0.5
    masks[5, 0] = False
    cell = replace(make.with_maps(cell, maps), masks=masks)
    metric = quantus.PointingGame(**PLAIN)
    assert np.array(direct(metric, cell, maps[:, None].copy(), masks=masks[:, 0])).all()
    frame = make.score(cell, metric="PointingGame")
    assert frame["value"].tolist()[:5] == pytest.approx([1 / 2, 1 / 2, 2 / 3, 1 / 2, 1 / 2])
    assert frame["status"].tolist() == ["ok"] * 5 + ["unavailable"]


def test_defect_relevance_mass_of_signed_maps_leaves_its_range():
    cell = make.subject()
    metric = quantus.RelevanceMassAccuracy(**PLAIN)
    theirs = np.array(direct(metric, cell, np.array(cell.maps[:, :1]), masks=cell.masks[:, 0]))
    assert ((theirs < 0) | (theirs > 1)).any()
    ours = make.values(cell, metric="RelevanceMassAccuracy")
    assert ((ours >= 0) & (ours <= 1)).all()
    positive = np.maximum(cell.maps[:, 0], 0)
    expected = (positive * cell.masks[:, 0]).sum(axis=(1, 2)) / positive.sum(axis=(1, 2))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_defect_completeness_asks_for_equal_floats():
    cell = linear_cell()
    metric = quantus.Completeness(perturb_baseline=0.0, **PLAIN)
    assert not np.array(direct(metric, cell, np.array(cell.maps[:, :1]))).all()
    assert (make.values(cell, metric="Completeness") < 1e-5).all()


def test_defect_numpy_has_no_trapz():
    assert not hasattr(np, "trapz")
    cell = make.with_maps(make.subject(channels=1), distinct())
    maps = cell.maps[:, :1].copy()
    curves = direct(quantus.PixelFlipping(features_in_step=32, **PLAIN), cell, maps, softmax=True)
    areas = direct(
        quantus.PixelFlipping(features_in_step=32, return_auc_per_sample=True, **PLAIN),
        cell,
        maps,
        softmax=True,
    )
    by_hand = [sum((a + b) / 2 for a, b in pairwise(c)) for c in curves]
    np.testing.assert_allclose(areas, by_hand, rtol=1e-5)
    metric = quantus.PixelFlipping(features_in_step=32, **PLAIN)
    direct(metric, cell, maps, softmax=True)
    assert metric.get_auc_score == pytest.approx(np.mean(by_hand), rel=1e-5)
    areas_over = direct(
        quantus.IROF(return_aggregate=False, **PLAIN), cell, maps, softmax=True, batch_size=1
    )
    assert np.isfinite(areas_over).all()


def test_defect_metrics_of_changed_models_score_the_unchanged_one_if_the_method_cannot_follow():
    cell = make.subject()
    explain = adapter._explain_func(make.batch(cell))
    with pytest.raises(ValueError, match="explains a changed copy of the model"):
        explain(make.convnet(3, 16), cell.images, cell.classes[:, 0])
    assert explain(cell.model, cell.images, cell.classes[:, 0]).shape == (6, 1, 16, 16)


def test_scores_come_from_the_model_itself_and_leave_no_copy_behind():
    """A softmax inside a model, as in attention, is left where it is."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Softmax(dim=1)
            self.last = make.convnet(3, 16)

        def forward(self, images):
            return self.last(self.first(images))

    cell = make.subject(model=Attention().eval())
    found = make.values(cell, metric="PixelFlipping", features_in_step=256)
    start = probabilities(cell.model, cell.images, cell.classes[:, 0])
    black = probabilities(cell.model, 0 * cell.images, cell.classes[:, 0])
    np.testing.assert_allclose(found, (1 + black / start) / 2, rtol=1e-5)
