"""Promises of the robustness metrics: Quantus' values where it is right, noise explained once."""

import warnings
from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus.functions import discretise_func
from quantus_direct import PLAIN, one_by_one, scaled, seed_of, together
from torch import nn

from clarity.metrics import batch as batches
from clarity.metrics.evaluate import evaluate
from clarity.metrics.quantus_calls import mended
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import every_metric

SENSITIVITIES = ("MaxSensitivity", "AvgSensitivity")
STABILITIES = (
    "RelativeInputStability",
    "RelativeOutputStability",
    "RelativeRepresentationStability",
)
CHANGED = "the noise changes the prediction"


class Pixels(nn.Module):
    """The embedding is the image itself, the scores linear in it."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.encoder = nn.Flatten()
        self.linear = make.Linear(weights)

    def normalised(self, images):
        return images

    def forward(self, images):
        return self.linear(images)


class Bright(nn.Module):
    """Predicts class 1 where the mean of an image is above a threshold, else class 0."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, images):
        above = images.mean(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-above, above], dim=1)


def identity(model, images, classes):
    """Explain an image by itself."""
    return np.asarray(images, dtype=np.float32).mean(axis=1)


def pixels(n: int = 6, size: int = 8, **more):
    """Return a cell whose maps are the images, of one channel, away from zero."""
    generator = np.random.default_rng(4)
    weights = generator.normal(size=(make.CLASSES, 1, size, size))
    images = generator.uniform(0.3, 0.9, (n, 1, size, size)).astype(np.float32)
    model = more.pop("model", None) or Pixels(weights).eval()
    return make.subject(images=images, model=model, explain=more.pop("explain", identity), **more)


def noise(row: int, samples: int, low: float, high: float, shape) -> np.ndarray:
    draw = np.random.RandomState(seed_of(row))
    return np.stack([draw.uniform(low, high, shape) for _ in range(samples)])


def safely_scaled(maps: np.ndarray) -> np.ndarray:
    return np.abs(batches.scaled(maps))


# ---- equal to Quantus -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SENSITIVITIES)
@pytest.mark.parametrize(
    "bounds", [{"lower_bound": 0.05}, {"lower_bound": 0.0, "upper_bound": 0.1}]
)
def test_a_sensitivity_is_that_of_quantus(name, bounds):
    cell = make.subject()
    expected = one_by_one(
        lambda row: getattr(quantus, name)(nr_samples=5, **bounds, **PLAIN), cell, prepare=np.array
    )
    found = make.values(cell, metric=name, nr_samples=5, **bounds)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"lower_bound": 0.1}) for name in SENSITIVITIES),
        ("LocalLipschitzEstimate", {}),
    ],
)
def test_a_metric_is_that_of_quantus_where_the_noise_changes_the_prediction(name, options):
    cell = make.subject(n=12)
    lipschitz = name == "LocalLipschitzEstimate"
    options = {"nr_samples": 3, "return_nan_when_prediction_changes": True, **options}
    expected = one_by_one(
        lambda row: getattr(quantus, name)(**options, **PLAIN),
        cell,
        prepare=scaled if lipschitz else np.array,
        softmax=lipschitz,
    )
    frame = make.score(cell, metric=name, **options)
    np.testing.assert_allclose(frame["value"], expected, rtol=1e-5)
    assert 0 < np.isnan(expected).sum() < 12
    assert set(frame["reason"][np.isnan(expected)]) == {CHANGED}


@pytest.mark.parametrize("moments", [{}, {"perturb_mean": 0.1, "perturb_std": 0.02}])
def test_the_lipschitz_estimate_is_that_of_quantus(moments):
    cell = make.subject()
    expected = one_by_one(
        lambda row: quantus.LocalLipschitzEstimate(nr_samples=4, **moments, **PLAIN),
        cell,
        softmax=True,
    )
    found = make.values(cell, metric="LocalLipschitzEstimate", nr_samples=4, **moments)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", STABILITIES)
@pytest.mark.parametrize("strict", [True, False])
def test_a_relative_stability_is_that_of_quantus(name, strict):
    cell = make.trained(n=10)
    layers = {"layer_names": ["model.encoder.project"]} if "Representation" in name else {}
    options = {"nr_samples": 4, "return_nan_when_prediction_changes": strict}
    expected = one_by_one(
        lambda row: getattr(quantus, name)(**options, **layers, **PLAIN), cell, prepare=np.array
    )
    frame = make.score(cell, metric=name, **options)
    np.testing.assert_allclose(frame["value"], expected, rtol=1e-4)
    assert np.isfinite(expected).any()
    if strict:
        assert set(frame["reason"][np.isnan(expected)]) <= {CHANGED}
    else:
        assert frame["status"].eq("ok").all()


@pytest.mark.parametrize("steps", [4, 8, 15, 28])
def test_continuity_is_that_of_quantus_on_images_with_a_black_pixel(steps):
    cell = make.subject()
    images = np.array(cell.images)
    images[:, :, 3, 5] = 0
    cell = make.subject(images=images)
    with mended():  # it refuses the map of zeros of an image that is all the way out
        expected = one_by_one(
            lambda row: quantus.Continuity(nr_steps=steps, abs=True, **PLAIN),
            cell,
            maps=safely_scaled(cell.maps[:, 0]),
            prepare=safely_scaled,
        )
    found = make.values(cell, metric="Continuity", nr_steps=steps)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("function", ["sign", "top_n_sign", "floating_points", "rank"])
def test_consistency_is_that_of_quantus_called_with_all_images_in_one_batch(function):
    # Maps of few kinds, so that images share them, and Quantus' 0 of an image alone does not occur.
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 2, (4, 16, 16)) * generator.uniform(0.2, 1, (4, 16, 16))
    cell = make.with_maps(make.subject(n=24), kinds[np.arange(24) % 4])
    metric = quantus.Consistency(
        discretise_func=getattr(discretise_func, function), abs=True, **PLAIN
    )
    expected = together(metric, cell, scaled(cell.maps[:, 0]), softmax=True)
    found = make.values(cell, batch_size=5, metric="Consistency", discretise_func=function)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.ptp(expected) > 0


# ---- noise is shared --------------------------------------------------------------------------


def spied(cell):
    """Return the cell and the list of the images that its method is asked to explain."""
    asked = []

    def explain(model, images, classes):
        asked.append(np.array(images))
        return cell.explain(model, images, classes)

    return replace(cell, explain=explain), asked


def test_metrics_whose_noise_has_the_same_bounds_explain_it_once():
    cell, asked = spied(make.trained())
    bounds = {"lower_bound": 0.02, "upper_bound": None}
    alike = {
        name: MetricRecipe(metric=name, nr_samples=samples, **bounds)
        for samples, name in enumerate((*SENSITIVITIES, *STABILITIES), start=3)
    }
    costs = {}
    evaluate(cell, alike, dataset="d", seed=0, costs=costs)
    # The one that asks for most decides; the others' samples are the first of its own.
    assert len(asked) == 7
    assert len({images.tobytes() for images in asked}) == 7
    assert [cost.explained / 6 for cost in costs.values()] == [3, 4, 5, 6, 7]


def test_the_relative_stabilities_share_their_default_noise():
    cell, asked = spied(make.trained())
    evaluate(
        cell,
        {name: MetricRecipe(metric=name, nr_samples=3) for name in STABILITIES},
        dataset="d",
        seed=0,
    )
    assert len(asked) == 3


def test_what_metrics_for_all_explain_is_shared():
    cell, asked = spied(make.trained())
    recipes = {
        name: MetricRecipe(**recipe)
        for name, recipe in every_metric([], [], []).items()
        if recipe["metric"] in (*SENSITIVITIES, *STABILITIES)
    }
    assert len(recipes) == 5
    evaluate(cell, recipes, dataset="d", seed=0)
    assert len(asked) == 4


# ---- known answers ----------------------------------------------------------------------------


def test_the_sensitivities_of_a_known_explainer_are_known():
    """A(x) = mean over channels of x, so |A(x + e) - A(x)| is the norm of the mean noise."""
    cell = make.subject(explain=identity)
    found = {
        name: make.values(cell, metric=name, nr_samples=4, lower_bound=0.02)
        for name in SENSITIVITIES
    }
    for row in range(6):
        moved = noise(row, 4, -0.02, 0.02, (3, 16, 16)).mean(axis=1).reshape(4, -1)
        changes = np.linalg.norm(moved, axis=1) / np.linalg.norm(cell.maps[row, 0])
        assert found["MaxSensitivity"][row] == pytest.approx(changes.max(), rel=1e-4)
        assert found["AvgSensitivity"][row] == pytest.approx(changes.mean(), rel=1e-4)


@pytest.mark.parametrize(
    "name", [*SENSITIVITIES, "LocalLipschitzEstimate", *STABILITIES, "Continuity"]
)
def test_a_map_that_never_changes_is_perfectly_robust(name):
    fixed = np.random.default_rng(0).uniform(0.1, 1, (8, 8)).astype(np.float32)
    cell = pixels(explain=lambda model, images, classes: np.stack([fixed] * len(images)))
    extra = {} if name == "Continuity" else {"nr_samples": 3}
    if name in STABILITIES:
        extra["same_prediction_only"] = True
    frame = make.score(cell, metric=name, **extra)
    assert (frame["value"].dropna() == 0).all()
    assert frame["status"].eq("ok").any()


def test_the_lipschitz_estimate_of_a_map_that_is_a_multiple_of_the_image_is_that_multiple():
    cell = pixels(explain=lambda *asked: 3 * identity(*asked))
    found = make.values(cell, metric="LocalLipschitzEstimate", nr_samples=3, scale="none")
    np.testing.assert_allclose(found, 3, rtol=1e-5)


@pytest.mark.parametrize("name", ["RelativeInputStability", "RelativeRepresentationStability"])
def test_a_map_that_changes_as_the_image_does_has_relative_stability_one(name):
    found = make.values(
        pixels(), metric=name, nr_samples=3, return_nan_when_prediction_changes=False
    )
    np.testing.assert_allclose(found, 1, rtol=1e-5)


def test_output_stability_is_relative_to_the_change_of_all_scores():
    cell = pixels()
    weights = cell.model.linear.weights.detach().numpy().reshape(make.CLASSES, -1)
    found = make.values(
        cell,
        metric="RelativeOutputStability",
        nr_samples=3,
        return_nan_when_prediction_changes=False,
    )
    for row in range(6):
        moved = noise(row, 3, 0.02, 0.2, (8, 8)).reshape(3, -1)
        relative = np.linalg.norm(moved / cell.images[row].ravel(), axis=1)
        expected = relative / np.linalg.norm(moved @ weights.T, axis=1)
        assert found[row] == pytest.approx(expected.max(), rel=1e-4)


def test_a_stability_relative_to_what_hardly_changes_is_bounded_by_eps_min():
    constant = pixels(model=Pixels(np.zeros((make.CLASSES, 1, 8, 8))).eval())
    for least in (1e-6, 1e-3):
        found = make.values(constant, metric="RelativeOutputStability", nr_samples=2, eps_min=least)
        for row in range(6):
            moved = noise(row, 2, 0.02, 0.2, (8, 8)).reshape(2, -1)
            relative = np.linalg.norm(moved / constant.images[row].ravel(), axis=1)
            assert found[row] == pytest.approx(relative.max() / least, rel=1e-4)


@pytest.mark.parametrize("name", STABILITIES)
def test_representation_stability_needs_an_encoder_and_no_other_does(name):
    frame = make.score(make.subject(), metric=name, nr_samples=1)
    wanted = name == "RelativeRepresentationStability"
    assert frame["status"].eq("unavailable").all() == wanted


def test_noise_that_changes_the_prediction_is_left_out_or_leaves_no_value():
    """Brightness decides; the noise is around zero, so that it changes some predictions."""
    cell = pixels(n=100, model=Bright(0.6).eval())
    cell = replace(cell, classes=cell.classes % 2)
    images = np.array(cell.images)
    images += 0.6 - images.mean(axis=(1, 2, 3), keepdims=True)
    images += np.linspace(-0.012, 0.012, 100, dtype=np.float32)[:, None, None, None]
    cell = replace(cell, images=images, explain=lambda m, x, c: identity(m, x, c) ** 2)
    cell = make.with_maps(cell, images[:, 0] ** 2)
    common = {"metric": "RelativeInputStability", "nr_samples": 2, "lower_bound": 0.1}
    every = {"upper_bound": None, **common}
    strict = make.score(cell, **every)
    lenient = make.score(cell, **every, same_prediction_only=True)
    counted = make.values(cell, **every, return_nan_when_prediction_changes=False)
    before = images.mean(axis=(1, 2, 3)) > 0.6
    seen = set()
    for row in range(100):
        noisy = images[row] + noise(row, 2, -0.1, 0.1, (1, 8, 8))
        same = (noisy.mean(axis=(1, 2, 3)) > 0.6) == before[row]
        moved = np.stack(
            [(images[row] ** 2 - noisy**2) / images[row] ** 2, noisy / images[row] - 1]
        )
        sizes = np.linalg.norm(moved.reshape(2, 2, -1), axis=2)
        ratios = sizes[0] / sizes[1]
        assert counted[row] == pytest.approx(ratios.max(), rel=1e-4)
        if same.all():
            assert strict["value"][row] == pytest.approx(ratios.max(), rel=1e-4)
        else:
            assert strict["reason"][row] == CHANGED
        if same.any():
            assert lenient["value"][row] == pytest.approx(ratios[same].max(), rel=1e-4)
        else:
            assert lenient["reason"][row] == "every noise changes the prediction"
        seen.add((bool(same.all()), bool(same.any())))
    assert seen == {(True, True), (False, True), (False, False)}


@pytest.mark.parametrize("name", [*SENSITIVITIES, *STABILITIES])
def test_bounds_without_room_are_refused(name):
    with pytest.raises(ValueError, match="lower_bound, upper_bound"):
        make.score(make.subject(), metric=name, lower_bound=0.3, upper_bound=0.2)


def test_noise_is_not_clipped_at_black_and_white():
    cell = make.subject(images=np.ones((6, 3, 16, 16), np.float32))
    cell, asked = spied(cell)
    make.score(cell, metric="MaxSensitivity", nr_samples=1, lower_bound=0.02)
    assert 1.019 < asked[-1].max() <= 1.02
    assert 0.98 <= asked[-1].min() < 0.981


def test_continuity_is_the_largest_change_of_a_map_over_that_of_the_shifted_image():
    cell = pixels()
    frame = make.score(cell, metric="Continuity", nr_steps=8, perturb_baseline="white")
    at = frame.attrs["curves"]["m"]["at"]
    assert at == [-6, -4, -2, 2, 4, 6, 8]
    for row in range(6):
        image, ratios = cell.images[row, 0], []
        for shift in at:
            moved = np.roll(image, shift, axis=1)
            gone = slice(0, shift) if shift > 0 else slice(8 + shift, 8)
            moved[:, gone] = 1
            change = np.abs(moved / moved.max() - image / image.max()).sum()
            ratios.append(change / np.linalg.norm(moved - image))
        np.testing.assert_allclose(frame["curve"][row], ratios, rtol=1e-4)
        assert frame["value"][row] == pytest.approx(max(ratios), rel=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 11, 16, 28, 32, 33, 34, 1000])
def test_the_shifts_of_continuity_stay_within_the_image_whatever_their_number(steps):
    cell, asked = spied(make.subject())
    frame = make.score(cell, metric="Continuity", nr_steps=steps)
    at = frame.attrs["curves"]["m"]["at"]
    assert frame["status"].eq("ok").all()
    assert 0 < len(at) <= min(steps, 32)
    assert 0 not in at
    assert all(np.diff(at) > 0)
    assert -16 <= min(at) <= max(at) <= 16
    assert len({images.tobytes() for images in asked}) == len(at)


def test_continuity_of_an_image_that_no_shift_changes_has_no_value():
    cell = make.subject()
    images = np.array(cell.images)
    images[2] = 0
    frame = make.score(replace(cell, images=images), metric="Continuity", nr_steps=4)
    assert frame["reason"][2] == "no shift changes the image"
    assert frame["status"].tolist() == ["ok", "ok", "nan", "ok", "ok", "ok"]


def test_a_shift_that_changes_the_prediction_leaves_no_value_if_asked():
    cell = pixels(model=Bright(0.3).eval())
    cell = replace(cell, classes=cell.classes % 2)
    frame = make.score(
        cell, metric="Continuity", nr_steps=4, return_nan_when_prediction_changes=True
    )
    assert set(frame["reason"]) == {"a shift changes the prediction"}
    stay = replace(cell, model=Bright(-1).eval())
    frame = make.score(
        stay, metric="Continuity", nr_steps=4, return_nan_when_prediction_changes=True
    )
    assert frame["status"].eq("ok").all()


def peaks(places, size: int = 8) -> np.ndarray:
    maps = np.full((len(places), size, size), 0.01, np.float32)
    for row, (y, x) in enumerate(places):
        maps[row, y, x] = -1
    return maps


def bright(levels, size: int = 8):
    """Return a cell of flat images; those above 0.5 are of class 1."""
    images = np.ones((len(levels), 1, size, size), np.float32)
    images *= np.array(levels, dtype=np.float32)[:, None, None, None]
    cell = make.subject(images=images, model=Bright(0.5).eval(), explain=identity)
    return replace(cell, classes=cell.classes % 2)


def test_consistency_is_the_share_of_images_with_the_same_explanation_that_agree():
    """On a grid of 2x2 cells: four peaks top left, one of them of another class; two below."""
    places = [(0, 0), (3, 3), (1, 2), (0, 1), (7, 0), (4, 3), (0, 7)]
    cell = make.with_maps(bright([0.9, 0.8, 0.9, 0.1, 0.2, 0.3, 0.9]), peaks(places))
    frame = make.score(cell, metric="Consistency", cells=2)
    np.testing.assert_allclose(frame["value"][:6], [2 / 3, 2 / 3, 2 / 3, 0, 1, 1])
    assert frame["reason"][6] == "no other image has this explanation"


def test_consistency_of_explanations_that_say_nothing_is_the_share_of_the_class():
    generator = np.random.default_rng(0)
    levels = np.where(np.arange(600) < 420, 0.9, 0.1)
    cell = make.with_maps(bright(levels), generator.uniform(size=(600, 8, 8)))
    found = make.values(cell, metric="Consistency")
    assert found[:420].mean() == pytest.approx(0.7, abs=0.03)
    assert found[420:].mean() == pytest.approx(0.3, abs=0.03)


def test_a_grid_need_not_divide_the_image_and_must_fit_into_it():
    maps = np.zeros((2, 7, 7), np.float32)
    maps[0, 0, 0], maps[1, 6, 6] = 1, 1
    cell = make.with_maps(bright([0.9, 0.9], size=7), maps)
    assert make.score(cell, metric="Consistency", cells=1)["value"].tolist() == [1, 1]
    assert make.score(cell, metric="Consistency", cells=3)["status"].tolist() == ["nan"] * 2
    with pytest.raises(ValueError, match=r"Consistency\.cells: found 8"):
        make.score(cell, metric="Consistency", cells=8)


# ---- defects ----------------------------------------------------------------------------------


def test_defect_a_perturbed_map_of_zeros_fails_the_batch():
    cell = make.subject()
    cell = replace(
        cell, explain=lambda model, images, classes: np.zeros((len(images), 16, 16), np.float32)
    )
    metric = quantus.AvgSensitivity(nr_samples=2, **PLAIN)
    with pytest.raises(AssertionError, match="all equal to zero"):
        together(metric, cell, cell.maps[:, 0])
    np.testing.assert_allclose(make.values(cell, metric="AvgSensitivity", nr_samples=2), 1)


@pytest.mark.parametrize("name", ["MaxSensitivity", "RelativeInputStability"])
def test_defect_noise_depends_on_the_place_in_the_batch(name):
    cell = make.subject()
    metric = getattr(quantus, name)(nr_samples=2, **PLAIN)

    def of_the_last(rows):
        np.random.seed(0)
        return together(metric, cell, cell.maps[:, 0], rows)[-1]

    assert of_the_last([5]) != of_the_last([4, 5])
    whole, alone = (
        make.values(part, metric=name, nr_samples=2) for part in (cell, make.only(cell, [5]))
    )
    np.testing.assert_allclose(alone[0], whole[5], rtol=1e-5)


@pytest.mark.parametrize("name", STABILITIES[:2])
def test_defect_the_noise_of_relative_stabilities_brightens_every_pixel(name):
    cell, asked = spied(make.subject())
    together(getattr(quantus, name)(nr_samples=1, **PLAIN), cell, cell.maps[:, 0])
    added = asked[-1] - cell.images
    assert added.min() > 0.019
    assert added.mean() == pytest.approx(0.11, abs=0.01)
    asked.clear()
    make.score(cell, metric=name, nr_samples=1, lower_bound=0.1, upper_bound=None)
    assert (asked[-1] - cell.images).mean() == pytest.approx(0, abs=0.01)


def test_defect_one_changed_prediction_takes_the_value_of_a_relative_stability():
    cell = make.subject(n=12)
    metric = quantus.RelativeInputStability(nr_samples=20, **PLAIN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.array(together(metric, cell, cell.maps[:, 0]))
    assert np.isnan(theirs).any()
    frame = make.score(
        cell, metric="RelativeInputStability", nr_samples=20, same_prediction_only=True
    )
    assert frame["status"].eq("ok").sum() > np.isfinite(theirs).sum()


def test_defect_eps_min_only_replaces_denominators_of_exactly_zero():
    metric = quantus.RelativeOutputStability(eps_min=1e-6, **PLAIN)
    maps, others = np.ones((1, 1, 2, 2)), np.full((1, 1, 2, 2), 2.0)
    scores = np.zeros((1, 3))
    found = [
        metric.relative_output_stability_objective(scores, scores + change, maps, others)[0]
        for change in (0.0, 1e-9)
    ]
    assert found[1] > 100 * found[0]  # 2 / 1e-6 by the paper's maximum, for both


@pytest.mark.parametrize(("size", "steps"), [(32, 13), (28, 19), (16, 11)])
def test_defect_continuity_shifts_past_the_image(size, steps):
    cell = make.subject(n=2, size=size)
    metric = quantus.Continuity(nr_steps=steps, abs=True, **PLAIN)
    with pytest.raises(IndexError, match="out of bounds"):
        together(metric, cell, cell.maps[:, 0])
    assert make.score(cell, metric="Continuity", nr_steps=steps)["status"].eq("ok").all()


def test_defect_continuity_of_many_steps_shifts_by_nothing():
    cell, asked = spied(make.subject())
    metric = quantus.Continuity(nr_steps=40, abs=True, **PLAIN)
    together(metric, cell, cell.maps[:, 0])
    # The image itself, and forty times what is left of it when it is all the way out.
    assert len({images.tobytes() for images in asked}) == 2
    assert len(asked) == 41


def test_defect_continuity_ignores_the_baseline_and_calls_the_darkest_value_black():
    cell, asked = spied(make.subject())  # values from 0.1 to 0.9
    for baseline in ("black", "white"):
        asked.clear()
        metric = quantus.Continuity(nr_steps=4, perturb_baseline=baseline, abs=True, **PLAIN)
        together(metric, cell, cell.maps[:, 0])
        assert min(images.min() for images in asked) > 0.05
        assert max(images.max() for images in asked) < 0.95
        asked.clear()
        make.score(cell, metric="Continuity", nr_steps=4, perturb_baseline=baseline)
        filled = [images.min() if baseline == "black" else images.max() for images in asked]
        assert filled == [0.0 if baseline == "black" else 1.0] * len(filled)


def test_defect_continuity_cannot_check_the_prediction():
    cell = make.subject()
    metric = quantus.Continuity(
        nr_steps=4, return_nan_when_prediction_changes=True, abs=True, **PLAIN
    )
    with pytest.raises(AttributeError, match="NaN"):
        together(metric, cell, cell.maps[:, 0])


def test_defect_consistency_looks_at_the_first_five_pixels():
    cell = make.subject(n=20)
    metric = quantus.Consistency(abs=True, **PLAIN)
    maps = np.abs(scaled(cell.maps[:, 0]))
    others = maps.copy()
    others[::2] = others[::2, ::-1]
    theirs = [together(metric, cell, m, softmax=True) for m in (maps, others)]
    np.testing.assert_array_equal(*theirs)
    predictions = cell.model(torch.from_numpy(np.array(cell.images))).argmax(dim=1).numpy()
    share = (predictions[:, None] == predictions).sum(axis=1) - 1
    np.testing.assert_allclose(theirs[0], share / 19, rtol=1e-6)
    ours = [
        make.values(make.with_maps(cell, m), metric="Consistency", cells=2) for m in (maps, others)
    ]
    assert not np.array_equal(*ours)


def test_defect_consistency_compares_within_a_batch_and_calls_an_image_alone_inconsistent():
    cell = make.subject(n=20)
    metric = quantus.Consistency(abs=True, **PLAIN)
    maps = np.abs(scaled(cell.maps[:, 0]))
    theirs = [together(metric, cell, maps, softmax=True, batch_size=size) for size in (4, 20)]
    assert not np.allclose(*theirs)
    assert together(metric, cell, maps, [3], softmax=True) == [0]
    ours = [make.values(cell, size, metric="Consistency", cells=2) for size in (4, 20)]
    np.testing.assert_array_equal(*ours)
    alone = make.score(make.only(cell, [3]), metric="Consistency")
    assert alone["reason"].tolist() == ["no other image has this explanation"]


def test_defect_consistency_is_said_to_be_better_if_lower():
    assert quantus.Consistency.score_direction.value == "lower"
