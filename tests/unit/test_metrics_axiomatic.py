"""Promises of the metrics of what an attribution should be exactly."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus.helpers.model.pytorch_model import PyTorchModel
from quantus_direct import PLAIN, one_by_one, scaled

from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe
from clarity.attribution.targets import TargetFunction


def linear(weights: np.ndarray, images: np.ndarray, classes: np.ndarray | None = None):
    """Return a cell of exact attributions of a linear model, weights [classes, C, H, W]."""
    cell = make.subject(model=make.Linear(weights).eval(), images=images)
    classes = cell.classes if classes is None else classes
    maps = np.stack([cell.explain(cell.model, images, classes[:, k]) for k in range(2)], axis=1)
    return replace(cell, maps=maps, classes=classes)


def linear_cell(n: int = 20, channels: int = 3, size: int = 16):
    generator = np.random.default_rng(2)
    weights = generator.normal(size=(make.CLASSES, channels, size, size)) / 4
    return linear(weights, generator.uniform(0, 1, (n, channels, size, size)).astype(np.float32))


# ---- completeness -----------------------------------------------------------------------------


def test_completeness_is_zero_exactly_where_quantus_says_true():
    generator = np.random.default_rng(0)
    weights = generator.integers(-3, 4, (make.CLASSES, 1, 4, 4))
    images = generator.integers(0, 5, (6, 1, 4, 4)).astype(np.float32) / 4
    cell = linear(weights, images)
    maps = np.array(cell.maps)
    maps[::2, 0, 0, 0] += 0.25
    cell = replace(cell, maps=maps)
    metric = quantus.Completeness(perturb_baseline=0.0, **PLAIN)
    exact = one_by_one(lambda row: metric, cell, prepare=np.array).astype(bool)
    assert exact.tolist() == [False, True] * 3
    gaps = make.values(cell, metric="Completeness")
    assert (gaps[exact] == 0).all()
    assert (gaps[~exact] > 0).all()


def test_completeness_is_zero_for_gradient_times_input_of_a_linear_model():
    np.testing.assert_allclose(make.values(linear_cell(), metric="Completeness"), 0, atol=1e-5)


@pytest.mark.parametrize(("factor", "gap"), [(2, 1 / 3), (0.5, 1 / 3), (-1, 1), (100, 99 / 101)])
def test_completeness_is_the_gap_relative_to_both_sides(factor, gap):
    cell = linear_cell()
    found = make.values(make.with_maps(cell, factor * cell.maps[:, 0]), metric="Completeness")
    np.testing.assert_allclose(found, gap, atol=1e-4)


def test_completeness_is_measured_from_the_baseline_of_the_recipe():
    cell = linear_cell()
    weights = cell.model.weights.detach().numpy()[cell.classes[:, 0]]
    for name, nothing in (
        ("white", np.ones_like(cell.images)),
        ("mean", np.broadcast_to(cell.images.mean(axis=(1, 2, 3), keepdims=True), weights.shape)),
    ):
        other = make.with_maps(cell, (weights * (cell.images - nothing)).sum(axis=1))
        found = make.values(other, metric="Completeness", perturb_baseline=name)
        np.testing.assert_allclose(found, 0, atol=1e-3)  # one image's score hardly changes
        assert make.values(other, metric="Completeness").mean() > 0.1


def test_completeness_of_nothing_that_changes_nothing_has_no_value():
    cell = linear_cell(4)
    images = np.array(cell.images)
    images[1] = 0
    frame = make.score(replace(cell, images=images, maps=0 * cell.maps), metric="Completeness")
    assert frame["status"].tolist() == ["ok", "nan", "ok", "ok"]
    assert frame["reason"][1] == "neither relevance nor a change of the score"


# ---- non-sensitivity --------------------------------------------------------------------------


def half_blind(channels: int = 3):
    """Return a cell of a linear model that does not look at the upper half."""
    generator = np.random.default_rng(3)
    # Every pixel of the lower half counts, and differently for every class, so that the probability
    # of no class stays the same by chance.
    signs = generator.choice([-1.0, 1.0], (16, 16)) * (np.arange(16)[:, None] >= 8)
    slopes = 0.02 + 0.05 * np.arange(make.CLASSES)
    weights = np.tile(slopes[:, None, None, None] * signs, (1, channels, 1, 1))
    images = generator.uniform(0.2, 0.8, (6, channels, 16, 16)).astype(np.float32)
    classes = np.array([[0, 1], [4, 3]] * 3)  # those of the least and of the greatest slope
    return linear(weights, images, classes=classes)


def test_non_sensitivity_is_that_of_quantus_on_grey_images():
    cell = half_blind(channels=1)
    maps = np.array(scaled(cell.maps[:, 0]))
    maps[:, 5:10, :7] = 0
    maps[:, 2, 2] = 0.5
    expected = one_by_one(
        lambda row: quantus.NonSensitivity(perturb_baseline=0.0, abs=True, **PLAIN),
        cell,
        np.abs(maps),
        softmax=True,
    )
    found = make.values(make.with_maps(cell, maps), metric="NonSensitivity")
    np.testing.assert_array_equal(found, expected)
    assert expected.min() > 10


def test_the_exact_attribution_misses_nothing_and_the_reverse_everything():
    cell = half_blind()
    blind = np.broadcast_to(np.arange(16)[:, None] < 8, (6, 16, 16)).astype(np.float32)
    for maps, expected in ((1 - blind, 0), (blind, 256)):
        found = make.values(make.with_maps(cell, maps), metric="NonSensitivity")
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(make.values(cell, metric="NonSensitivity"), 0)


@pytest.mark.parametrize(("step", "groups"), [(16, 16), (32, 8), (48, 6), (256, 1), (1000, 1)])
def test_pixels_in_a_step_count_as_one(step, groups):
    """Steps of 48 are 3 rows each, the last 1: the third of them looks at both halves."""
    cell = half_blind()
    blind = np.broadcast_to(np.arange(16)[:, None] < 8, (6, 16, 16)).astype(np.float32)
    seen = {16: 8, 32: 4, 48: 4, 256: 1, 1000: 1}[step]
    for maps, expected in ((1 - blind, 0), (blind, groups - {48: 1}.get(step, 0))):
        found = make.values(
            make.with_maps(cell, maps), metric="NonSensitivity", features_in_step=step
        )
        np.testing.assert_array_equal(found, expected if step < 256 else 0)
    point = np.zeros((6, 16, 16), np.float32)
    point[:, 15, 15] = -1  # all groups with an effect but its own are called irrelevant
    found = make.values(make.with_maps(cell, point), metric="NonSensitivity", features_in_step=step)
    np.testing.assert_array_equal(found, seen - 1)


def test_what_is_about_zero_is_an_argument():
    cell = half_blind()
    maps = np.full((6, 16, 16), 0.01, np.float32)
    maps[:, 15, 15] = 1
    for eps, expected in ((1e-9, 128), (0.5, None)):
        found = make.values(make.with_maps(cell, maps), metric="NonSensitivity", eps=eps)
        if expected is None:  # no pixel has half the probability, and one has all the relevance
            np.testing.assert_array_equal(found, 1)
        else:
            np.testing.assert_array_equal(found, expected)


def test_the_baseline_decides_what_a_removal_changes():
    cell = half_blind()
    white = replace(cell, images=np.ones_like(cell.images))
    maps = np.ones((6, 16, 16), np.float32)
    maps[:, 0, 0] = 0.5
    white = make.with_maps(white, maps)
    found = make.values(white, metric="NonSensitivity", perturb_baseline="white")
    np.testing.assert_array_equal(found, 256)
    found = make.values(white, metric="NonSensitivity", perturb_baseline="black")
    np.testing.assert_array_equal(found, 128)


def test_methods_that_explain_one_score_share_the_removals():
    cell = half_blind()
    make.values(cell, metric="NonSensitivity", features_in_step=32)
    misses = cell.scores_memory.misses
    assert misses == 1 + 8
    other = make.with_maps(cell, -(cell.maps[:, 0] ** 2))
    make.values(other, metric="NonSensitivity", features_in_step=32)
    assert cell.scores_memory.misses == misses


# ---- input invariance -------------------------------------------------------------------------


def explained(**recipe):
    """Return a cell of one method on a trained classifier: labels and one foil each."""
    cell = make.trained()
    method = MethodRecipe(**recipe)

    def explain(model, images, classes):
        made = Explainer(method, model)(
            torch.from_numpy(np.array(images)), torch.from_numpy(np.array(classes))
        )
        return made.numpy()

    classes = cell.classes[:, :2]
    maps = np.stack([explain(cell.model, cell.images, classes[:, k]) for k in range(2)], axis=1)
    return replace(cell, explain=explain, classes=classes, maps=maps)


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "Saliency"},
        {"method": "GuidedBackprop"},
        {"method": "LayerGradCam"},
        {"method": "EigenCAM"},
        {"method": "SobelMap"},
        {"method": "IntegratedGradients", "baseline": {"name": "mean"}, "n_steps": 5},
    ],
    ids=lambda recipe: recipe["method"],
)
@pytest.mark.parametrize("shift", [-1, 0.3])
def test_methods_without_a_fixed_reference_point_are_invariant(recipe, shift):
    found = make.values(explained(**recipe), metric="InputInvariance", input_shift=shift)
    np.testing.assert_allclose(found, 0, atol=2e-3)


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "InputXGradient"},
        {"method": "IntegratedGradients", "n_steps": 5},
        {"method": "FeatureAblation"},
    ],
    ids=lambda recipe: recipe["method"],
)
def test_methods_with_black_as_their_baseline_are_not(recipe):
    assert make.values(explained(**recipe), metric="InputInvariance").min() > 0.1


def test_input_times_gradient_changes_by_the_gradient():
    """(x + s) g - x g = s g, summed over channels."""
    cell = explained(method="InputXGradient")
    for shift in (-1, 0.25):
        inputs = torch.from_numpy(np.array(cell.images)).requires_grad_(True)
        chosen = cell.model(inputs).gather(1, torch.from_numpy(cell.classes[:, :1].copy()))
        (gradient,) = torch.autograd.grad(chosen.sum(), inputs)
        change = np.linalg.norm((shift * gradient).sum(dim=1).numpy(), axis=(1, 2))
        expected = change / np.linalg.norm(cell.maps[:, 0], axis=(1, 2))
        found = make.values(cell, metric="InputInvariance", input_shift=shift)
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_maps_drawn_from_what_the_image_shows_change_by_the_root_of_two():
    def explain(model, images, classes):
        draws = [np.random.default_rng(int(1e6 * image.sum() % 1e9)) for image in images]
        return np.stack([draw.normal(size=(16, 16)) for draw in draws]).astype(np.float32)

    cell = make.trained()
    cell = replace(
        cell,
        explain=explain,
        classes=cell.classes[:, :2],
        maps=np.stack([explain(None, cell.images, None)] * 2, axis=1),
    )
    found = make.values(cell, metric="InputInvariance")
    assert found.mean() == pytest.approx(np.sqrt(2), abs=0.1)


def test_the_changed_model_computes_of_shifted_images_what_the_model_computes():
    cell, seen = make.trained(), []

    def explain(model, images, classes):
        seen.append((model, np.array(images)))
        return cell.explain(model, images, classes)

    make.score(replace(cell, explain=explain), metric="InputInvariance", input_shift=0.5)
    ((model, images),) = seen
    assert isinstance(model, TargetFunction)
    assert model is not cell.model
    np.testing.assert_allclose(images, cell.images + 0.5, atol=1e-6)
    with torch.no_grad():
        ours, theirs = model(torch.tensor(images)), cell.model(torch.tensor(cell.images))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert (model.model.mean - cell.model.model.mean).unique().tolist() == pytest.approx([0.5])


def test_a_model_without_normalisation_makes_input_invariance_unavailable():
    frame = make.score(make.subject(), metric="InputInvariance")
    assert frame["status"].eq("unavailable").all()
    assert set(frame["reason"]) == {"the model has no normalisation that could undo a shift"}


def test_a_broken_map_of_a_shifted_image_is_no_value():
    cell = make.trained()

    def explain(model, images, classes):
        maps = np.array(cell.explain(model, images, classes))
        maps[1, 2, 2] = np.nan
        return maps

    frame = make.score(replace(cell, explain=explain), metric="InputInvariance")
    assert frame["status"].tolist() == ["ok", "nan", "ok", "ok", "ok", "ok"]
    assert frame["reason"][1] == "the map of a shifted image has values that are not finite"


# ---- defects ----------------------------------------------------------------------------------


def direct(name: str, cell, factor: float = 1.0, **arguments):
    """Call Quantus itself on the whole batch, maps times a factor."""

    def explain_func(model, inputs, targets, **_):
        made = cell.explain(model, np.asarray(inputs, np.float32), np.asarray(targets))
        return np.asarray(factor * made[:, None])

    return getattr(quantus, name)(**arguments, **PLAIN)(
        model=cell.model,
        x_batch=np.array(cell.images),
        y_batch=np.array(cell.classes[:, 0]),
        a_batch=np.array(abs(factor) * cell.maps[:, 0][:, None]),
        explain_func=explain_func,
        channel_first=True,
    )


def test_defect_completeness_asks_for_equal_floats():
    cell = linear_cell()
    assert not all(direct("Completeness", cell, perturb_baseline=0.0))
    assert (make.values(cell, metric="Completeness") < 1e-5).all()


def test_defect_non_sensitivity_of_several_features_fails():
    with pytest.raises(ValueError, match="could not be broadcast"):
        direct("NonSensitivity", make.subject(channels=1), features_in_step=4)


def test_defect_input_invariance_wants_a_convolution_first():
    model = torch.nn.Sequential(torch.nn.Identity(), *make.convnet(3, 16))
    with pytest.raises(AttributeError, match="out_channels"):
        direct("InputInvariance", make.subject(model=model))


def test_defect_input_invariance_changes_what_a_padded_model_computes():
    cell = make.subject()
    shifted = PyTorchModel(cell.model).add_mean_shift_to_first_layer(-1, (1, 3, 16, 16))
    images = torch.tensor(cell.images)
    with torch.no_grad():
        assert (shifted(images - 1) - cell.model(images)).abs().max() > 0.01


def test_defect_small_maps_are_invariant_whatever_they_show():
    cell = make.subject()
    assert not any(direct("InputInvariance", cell))
    assert all(direct("InputInvariance", cell, factor=-1e-6))  # the very opposite
