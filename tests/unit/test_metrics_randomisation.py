"""Promises of the metrics that randomise the class or the weights."""

import copy
import zlib
from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from quantus.helpers.model.pytorch_model import PyTorchModel
from quantus_direct import PLAIN, one_by_one, scaled, seed_of
from scipy.stats import entropy
from skimage.metrics import structural_similarity
from torch import nn

from clarity.attribution.protocol import MethodUnavailable
from clarity.metrics import randomisation
from clarity.metrics.evaluate import evaluate
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.similarity import spearman

ORDERS = ("top_down", "bottom_up", "independent")


def grey_mean(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Explain by what is seen: no weight and no class decides."""
    return np.asarray(images).mean(axis=1)


def noise_of_weights(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Explain by noise that is another for every other model, and for every image."""
    weights = float(sum(p.detach().double().sum() for p in model.parameters()))
    seeds = [zlib.crc32(repr(weights).encode() + image.tobytes()) for image in images]
    drawn = [np.random.default_rng(seed).normal(size=images.shape[2:]) for seed in seeds]
    return np.array(drawn, dtype=np.float32)


def gradient(model: nn.Module, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.array(images)).requires_grad_(True)
    chosen = model(inputs).gather(1, torch.from_numpy(np.array(classes))[:, None])
    (found,) = torch.autograd.grad(chosen.sum(), inputs)
    return found.sum(1).numpy()


class Watched:
    """An explainer that keeps the models that it was given, and what their weights were."""

    def __init__(self, explain=make.gradient_times_input) -> None:
        self.explain = explain
        self.models: list[nn.Module] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def __call__(self, model, images, classes):
        self.models.append(model)
        self.weights.append({k: v.clone() for k, v in model.state_dict().items()})
        return self.explain(model, images, classes)


def watched(cell, **recipe) -> Watched:
    """Score a cell and return what was explained."""
    seen = Watched(cell.explain)
    make.score(replace(cell, explain=seen), **recipe)
    return seen


def changed(before: dict, after: dict) -> set[str]:
    """Return the layers whose weights differ."""
    return {k.rpartition(".")[0] for k in before if not torch.equal(before[k], after[k])}


def curves(frame) -> np.ndarray:
    return np.stack(frame["curve"])


@pytest.fixture
def seeds_of_quantus(monkeypatch):
    """Draw weights as Quantus does: every layer from the same seed."""
    monkeypatch.setattr(randomisation, "derive_seed", lambda *parts: 43)


def of_quantus(name: str, cell, prepare=scaled, **arguments) -> list:
    """Return what Quantus says of each image, one a call."""

    def explain(model, inputs, targets, **_):
        made = cell.explain(model, np.asarray(inputs, np.float32), np.asarray(targets))
        return prepare(made)[:, None]

    found = []
    for row in range(len(cell.images)):
        with torch.random.fork_rng():
            metric = getattr(quantus, name)(**arguments, **PLAIN)
            found.append(
                metric(
                    model=cell.model,
                    x_batch=np.array(cell.images[[row]]),
                    y_batch=np.array(cell.classes[[row], 0]),
                    a_batch=np.array(prepare(cell.maps[[row], 0])[:, None]),
                    explain_func=explain,
                    channel_first=True,
                )
            )
    return found


# ---- random logit -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("similarity", ["ssim", "spearman", "cosine"])
def test_random_logit_is_one_for_maps_that_ignore_the_class(similarity):
    cell = make.subject(explain=grey_mean)
    found = make.values(cell, metric="RandomLogit", similarity=similarity)
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_random_logit_draws_every_class_but_the_label_alike():
    asked = []

    def explain(model, images, classes):
        asked.append(np.array(classes))
        return np.random.default_rng(0).normal(size=(len(images), 16, 16)).astype(np.float32)

    cell = make.subject(
        n=400, explain=explain, maps=np.random.default_rng(1).normal(size=(400, 1, 16, 16))
    )
    cell = replace(cell, classes=cell.classes[:, :1].repeat(2, axis=1), maps=cell.maps.repeat(2, 1))
    make.score(cell, metric="RandomLogit", batch_size=400)
    foils, labels = asked[-1], cell.classes[:, 0]
    assert (foils != labels).all()
    for label in range(make.CLASSES):
        counts = np.bincount(foils[labels == label], minlength=make.CLASSES)
        assert counts[label] == 0
        assert (np.delete(counts, label) > 8).all()  # 20 expected of each


def test_random_logit_takes_maps_that_are_stored_as_they_are():
    cell = make.trained()
    expected = make.values(cell, metric="RandomLogit")
    kept = replace(cell, explain=None)
    np.testing.assert_array_equal(make.values(kept, metric="RandomLogit"), expected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.0, "constant foil map"), (np.nan, "the foil map has values that are not finite")],
)
def test_random_logit_does_not_score_a_foil_map_without_a_pattern(value, reason):
    cell = make.subject(explain=lambda m, x, c: np.full((len(x), 16, 16), value, np.float32))
    maps = np.stack([make.subject().maps[:, 0], np.array(cell.maps[:, 1])], axis=1)
    frame = make.score(replace(cell, maps=maps), metric="RandomLogit")
    assert set(frame["reason"]) == {reason}
    assert frame["status"].eq("nan").all()


# ---- model parameter randomisation ------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_mprt_is_that_of_quantus_layer_by_layer(order, seeds_of_quantus):
    cell = make.subject()
    frame = make.score(cell, metric="MPRT", layer_order=order)
    layers = ["0", "4"] if order != "top_down" else ["4", "0"]
    assert frame.attrs["curves"]["m"] == {"axis": "layer", "at": layers}
    theirs = of_quantus("MPRT", cell, layer_order=order)
    expected = np.array([[found[layer][0] for layer in layers] for found in theirs])
    np.testing.assert_allclose(curves(frame), expected, atol=1e-4)
    np.testing.assert_allclose(frame["value"], expected.mean(axis=1), atol=1e-4)
    assert (expected < 0.9).all()


@pytest.mark.parametrize("argument", ["return_last_correlation", "skip_layers"])
def test_the_last_correlation_is_that_of_quantus(argument, seeds_of_quantus):
    cell = make.subject()
    expected = np.concatenate(of_quantus("MPRT", cell, return_last_correlation=True))
    frame = make.score(cell, metric="MPRT", **{argument: True})
    np.testing.assert_allclose(frame["value"], expected, atol=1e-4)
    assert curves(frame).shape == (6, 1 if argument == "skip_layers" else 2)


@pytest.mark.parametrize("similarity", ["ssim", "spearman", "cosine"])
def test_maps_that_ignore_the_weights_have_a_similarity_of_one(similarity):
    cell = make.subject(explain=grey_mean)
    for metric in ("MPRT", "SmoothMPRT"):
        more = {"nr_samples": 3} if metric == "SmoothMPRT" else {}
        frame = make.score(cell, metric=metric, similarity=similarity, **more)
        np.testing.assert_allclose(curves(frame), 1, atol=1e-6)
        np.testing.assert_allclose(frame["value"], 1, atol=1e-6)
    np.testing.assert_allclose(make.values(cell, metric="EfficientMPRT"), 0, atol=1e-12)


def test_noise_has_a_similarity_of_zero_on_average():
    cell = make.subject(n=40, explain=noise_of_weights)
    for metric in ("MPRT", "SmoothMPRT"):
        more = {"nr_samples": 3} if metric == "SmoothMPRT" else {}
        found = make.values(cell, metric=metric, **more)
        assert abs(found.mean()) < 0.02  # 40 images of 256 pixels and 2 layers: deviation 0.007
    assert abs(make.values(cell, metric="EfficientMPRT").mean()) < 0.02


@pytest.mark.parametrize("order", ORDERS)
def test_layers_are_randomised_in_order_each_state_a_model_of_its_own(order):
    cell = make.trained()
    original = cell.model.state_dict()
    names = [name for name, _ in randomisation.resettable(cell.model)]
    seen = watched(cell, metric="MPRT", layer_order=order)
    assert len({id(model) for model in seen.models}) == len(seen.models) == len(names) == 10
    places = {"head": "model.head"} | {name: name for name in names if name.startswith("encoder.")}
    expected: set[str] = set()
    for name, model, weights in zip(
        names if order != "top_down" else names[::-1], seen.models, seen.weights, strict=True
    ):
        expected = {name} if order == "independent" else expected | {name}
        found = changed(original, weights)
        assert {key.removeprefix("model.") for key in found} == {
            places[key].removeprefix("model.") for key in expected
        }
        # A method may keep what it derived from the weights: they must not change behind its back.
        assert not changed(weights, model.state_dict())


def test_batch_normalisation_loses_its_running_statistics():
    last = watched(make.trained(), metric="MPRT").models[-1]
    layers = [m for m in last.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert layers
    for layer in layers:
        assert (layer.running_mean == 0).all()
        assert (layer.running_var == 1).all()
        assert (layer.weight == 1).all()


def test_attention_of_torch_loses_all_its_weights():
    """Its queries, keys and values are one parameter, which only a private name resets."""
    attention = nn.MultiheadAttention(8, 2)
    names = [name for name, _ in randomisation.resettable(nn.ModuleDict({"a": attention}))]
    assert names == ["a", "a.out_proj"]
    before = attention.in_proj_weight.detach().clone()
    randomisation._randomise(attention.requires_grad_(False), "a")
    assert not torch.isclose(attention.in_proj_weight, before).any()


def test_layers_of_one_shape_get_different_weights_that_are_the_same_in_every_run():
    torch.manual_seed(0)
    body = [nn.Linear(4, 4) for _ in range(3)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4), *body, nn.Linear(4, 5)).eval()
    cell = make.subject(model=model)
    first, second = (watched(cell, metric="MPRT").models[-1] for _ in range(2))
    assert not torch.equal(first[2].weight, first[3].weight)
    assert not changed(first.state_dict(), second.state_dict())
    # Drawn as the layer draws its own weights.
    assert first[2].weight.abs().max() <= 0.5


def test_points_are_evenly_spaced_and_end_with_the_random_network():
    cell = make.trained()
    whole = make.score(cell, metric="MPRT")
    names = whole.attrs["curves"]["m"]["at"]
    for points, expected in ((1, [9]), (3, [3, 6, 9]), (4, [2, 4, 7, 9]), (99, list(range(10)))):
        frame = make.score(cell, metric="MPRT", points=points)
        assert frame.attrs["curves"]["m"]["at"] == [names[place] for place in expected]
        np.testing.assert_array_equal(curves(frame), curves(whole)[:, expected])


def test_metrics_that_randomise_alike_explain_once():
    cell = make.trained()
    seen = Watched(cell.explain)
    recipes = {
        "mprt": MetricRecipe(metric="MPRT"),
        "efficient": MetricRecipe(metric="EfficientMPRT"),
        "last": MetricRecipe(metric="MPRT", layer_order="bottom_up", skip_layers=True),
    }
    costs = {}
    evaluate(replace(cell, explain=seen), recipes, dataset="d", seed=0, costs=costs)
    assert len(seen.models) == 10
    assert [costs[name].explained // 6 for name in recipes] == [10, 1, 1]


@pytest.mark.parametrize("metric", ["MPRT", "SmoothMPRT", "EfficientMPRT"])
def test_a_model_without_layers_to_reset_makes_the_metric_unavailable(metric):
    weights = np.random.default_rng(0).normal(size=(make.CLASSES, 3, 16, 16))
    frame = make.score(make.subject(model=make.Linear(weights)), metric=metric)
    assert frame["status"].eq("unavailable").all()
    assert set(frame["reason"]) == {"the model has no layer whose weights could be drawn anew"}


@pytest.mark.parametrize("metric", ["MPRT", "SmoothMPRT", "EfficientMPRT"])
def test_a_method_that_cannot_explain_a_random_model_makes_the_metric_unavailable(metric):
    def explain(model, images, classes):
        raise MethodUnavailable("not of this network")

    frame = make.score(make.subject(explain=explain, maps=make.subject().maps), metric=metric)
    assert frame["status"].eq("unavailable").all()
    assert set(frame["reason"]) == {"not of this network"}


@pytest.mark.parametrize("metric", ["MPRT", "SmoothMPRT", "EfficientMPRT"])
def test_a_map_of_a_random_network_without_a_pattern_is_no_value_for_that_image(metric):
    cell = make.subject()
    start = cell.model[0].weight.clone()

    def explain(model, images, classes):
        maps = np.array(make.gradient_times_input(model, images, classes))
        if not torch.equal(model[0].weight, start):  # the second of two layers, from the top
            for row, image in enumerate(images):
                if np.allclose(image, cell.images[2], atol=0.4):
                    maps[row] = np.nan
                if np.allclose(image, cell.images[4], atol=0.4):
                    maps[row] = 0
        return maps

    more = {"nr_samples": 2, "noise_magnitude": 0.01} if metric == "SmoothMPRT" else {}
    recipe = {"metric": metric, "layer_order": "top_down", **more}
    plain = make.score(cell, **recipe)
    frame = make.score(replace(cell, explain=explain), **recipe)
    assert frame["reason"].tolist() == [
        "",
        "",
        "the map of a random network has values that are not finite",
        "",
        "constant map of a random network",
        "",
    ]
    assert frame["status"].tolist() == ["ok", "ok", "nan", "ok", "nan", "ok"]
    whole = [0, 1, 3, 5]
    np.testing.assert_array_equal(frame["value"][whole], plain["value"][whole])
    if metric != "EfficientMPRT":
        np.testing.assert_array_equal(curves(frame)[:, 0], curves(plain)[:, 0])
        assert np.isnan(curves(frame)[[2, 4], 1]).all()


def test_what_a_last_value_does_not_depend_on_does_not_take_it_away():
    cell = make.subject()

    def explain(model, images, classes):
        maps = make.gradient_times_input(model, images, classes)
        return maps if not torch.equal(model[0].weight, cell.model[0].weight) else 0 * maps

    cell = replace(cell, explain=explain)
    assert make.score(cell, metric="MPRT")["status"].eq("nan").all()
    assert make.score(cell, metric="MPRT", return_last_correlation=True)["status"].eq("ok").all()


@pytest.mark.parametrize(
    ("metric", "arguments", "message"),
    [
        ("MPRT", {"layer_order": "sideways"}, "layer_order: found 'sideways'"),
        ("MPRT", {"similarity": "pearson"}, "similarity: found 'pearson'"),
        ("MPRT", {"points": 0}, "points: found 0"),
        ("MPRT", {"layer_order": "independent", "skip_layers": True}, "one layer at a time"),
        ("SmoothMPRT", {"nr_samples": 0}, "nr_samples: found 0"),
        ("EfficientMPRT", {"layer_order": "independent"}, "one layer at a time"),
        ("RandomLogit", {"similarity": "pearson"}, "similarity: found 'pearson'"),
    ],
)
def test_arguments_without_a_meaning_are_refused(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        make.metric(MetricRecipe(metric=metric, **arguments))


# ---- smooth and efficient ---------------------------------------------------------------------


def test_a_smooth_test_of_one_sample_is_the_test_itself():
    cell = make.trained()
    expected = make.score(cell, metric="MPRT", layer_order="bottom_up")
    found = make.score(cell, metric="SmoothMPRT", nr_samples=1)
    np.testing.assert_array_equal(found["value"], expected["value"])
    np.testing.assert_array_equal(curves(found), curves(expected))


def test_a_smooth_test_of_gradients_without_noise_is_that_of_quantus(seeds_of_quantus):
    """Gradients are all that Quantus smooths; without noise, its draws do not matter."""
    cell = make.subject(explain=gradient)
    theirs = of_quantus("SmoothMPRT", cell, nr_samples=2, noise_magnitude=0.0)
    expected = np.array([[found[layer][0] for layer in ("0", "4")] for found in theirs])
    frame = make.score(cell, metric="SmoothMPRT", nr_samples=2, noise_magnitude=0.0)
    np.testing.assert_allclose(curves(frame), expected, atol=1e-4)


def test_smooth_maps_are_means_over_the_same_noise_for_every_model():
    cell = make.subject(images=np.array(make.subject().images) * np.float32(0.5))
    frame = make.score(
        cell, metric="SmoothMPRT", nr_samples=3, noise_magnitude=0.2, skip_layers=True
    )
    last = watched(cell, metric="MPRT", skip_layers=True).models[-1]
    for row in range(6):
        image, label = cell.images[[row]], cell.classes[[row], 0]
        draw = np.random.RandomState(seed_of(row))
        deviation = 0.2 * (image.max() - image.min())
        noisy = [image] + [
            (image + deviation * draw.randn(*image.shape)).astype(np.float32) for _ in range(2)
        ]
        means = [
            np.mean([make.gradient_times_input(model, x, label) for x in noisy], axis=0)
            for model in (cell.model, last)
        ]
        (expected,) = spearman(*np.abs(means))
        assert frame["value"][row] == pytest.approx(expected, abs=1e-4)


def test_the_rise_of_complexity_is_that_of_quantus(seeds_of_quantus):
    cell = make.subject()
    expected = np.concatenate(of_quantus("EfficientMPRT", cell, prepare=np.array))
    np.testing.assert_allclose(make.values(cell, metric="EfficientMPRT"), expected, atol=1e-6)
    assert np.ptp(expected) > 0.01


def test_the_rise_of_complexity_is_known_for_known_histograms():
    cell = make.subject()
    start = cell.model[4].weight.clone()

    def explain(model, images, classes):
        """Half of the pixels 1, or the random model's: four values, as many pixels each."""
        levels = 2 if torch.equal(model[4].weight, start) else 4
        return np.stack([np.arange(256).reshape(16, 16) % levels] * len(images)).astype(np.float32)

    cell = make.subject(explain=explain)
    np.testing.assert_allclose(make.values(cell, metric="EfficientMPRT"), 1.0)  # ln 4 / ln 2 - 1
    one = np.zeros((6, 16, 16))
    one[:, 3, 3] = 1
    expected = np.log(4) / entropy([255, 1]) - 1
    found = make.values(make.with_maps(cell, one), metric="EfficientMPRT")
    np.testing.assert_allclose(found, expected)


def test_complexity_is_known_where_values_of_32_bits_leave_no_room_for_bins():
    nearly = 1 + np.random.default_rng(0).integers(0, 40, (6, 16, 16)) * np.float32(1.2e-7)

    def explain(model, images, classes):
        return nearly.astype(np.float32)

    frame = make.score(make.subject(explain=explain), metric="EfficientMPRT")
    assert frame["status"].eq("ok").all()
    np.testing.assert_array_equal(frame["value"], 0)


def test_complexity_after_every_layer_ends_with_the_value():
    cell = make.trained()
    frame = make.score(cell, metric="EfficientMPRT", skip_layers=False)
    assert curves(frame).shape == (6, 10)
    np.testing.assert_array_equal(curves(frame)[:, -1], frame["value"])
    np.testing.assert_array_equal(make.values(cell, metric="EfficientMPRT"), frame["value"])


# ---- defects ----------------------------------------------------------------------------------


def direct(name: str, cell, batch_size: int = 64, given: dict | None = None, **arguments):
    """Call Quantus itself on the whole batch."""

    def explain(model, inputs, targets, **_):
        made = cell.explain(model, np.asarray(inputs, np.float32), np.asarray(targets))
        return np.asarray(scaled(made)[:, None])

    with torch.random.fork_rng():
        return getattr(quantus, name)(**arguments, **PLAIN)(
            model=cell.model,
            x_batch=np.array(cell.images),
            y_batch=np.array(cell.classes[:, 0]),
            a_batch=scaled(cell.maps[:, 0])[:, None],
            explain_func=explain,
            channel_first=True,
            batch_size=batch_size,
            **(given or {}),
        )


def test_defect_random_logit_draws_by_position():
    cell = make.subject()
    small, large = (
        np.array(direct("RandomLogit", cell, size, num_classes=make.CLASSES)) for size in (2, 6)
    )
    assert np.abs(small - large).max() > 0.01
    np.testing.assert_allclose(
        make.values(cell, 2, metric="RandomLogit"),
        make.values(cell, 6, metric="RandomLogit"),
        atol=1e-5,
    )


def test_defect_random_logit_asks_for_classes_that_the_model_lacks():
    with pytest.raises((IndexError, RuntimeError)):
        direct("RandomLogit", make.subject())


@pytest.mark.parametrize("name", ["MPRT", "SmoothMPRT"])
def test_defect_the_untouched_model_is_in_the_mean_over_layers(name):
    cell = make.subject(explain=gradient)
    more = {"nr_samples": 1} if name == "SmoothMPRT" else {}
    layers = direct(name, cell, **more)
    mean = direct(name, cell, return_average_correlation=True, **more)
    with_it = np.mean([layers[key] for key in ("original", "0", "4")], axis=0)
    np.testing.assert_allclose(mean, with_it, atol=1e-6)
    assert np.min(layers["original"]) > 0.99
    without = np.mean([layers[key] for key in ("0", "4")], axis=0)
    assert (mean > without + 0.1).all()


@pytest.mark.parametrize("name", ["MPRT", "SmoothMPRT"])
def test_defect_ssim_fails(name):
    with pytest.raises(AttributeError, match="'list' object has no attribute 'tolist'"):
        direct(name, make.subject(), similarity_func=quantus.similarity_func.ssim)
    assert make.score(make.subject(), metric="MPRT", similarity="ssim")["status"].eq("ok").all()


def test_defect_layers_of_one_shape_get_the_same_weights():
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(4, 4) for _ in range(3)))
    with torch.random.fork_rng():
        *_, (_, random) = PyTorchModel(model).get_random_layer_generator(seed=42)
    assert torch.equal(random[1].weight, random[2].weight)


def test_defect_the_global_state_of_torch_is_set():
    def state(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            list(PyTorchModel(copy.deepcopy(make.subject().model)).get_random_layer_generator())
            return torch.get_rng_state()

    assert torch.equal(state(1), state(2))


def test_defect_the_smooth_test_never_calls_the_function_that_it_is_given():
    seen = Watched()
    cell = replace(make.subject(), explain=seen)
    direct("SmoothMPRT", cell, nr_samples=2)
    assert seen.models == []
    make.score(cell, metric="SmoothMPRT", nr_samples=2)
    assert len(seen.models) == 1 + 2 * 2


def test_defect_the_smooth_test_compares_a_given_map_with_smoothed_ones():
    """The untouched model, which should be like itself, is not."""
    cell = make.subject(explain=gradient)
    found = direct("SmoothMPRT", cell, nr_samples=20, noise_magnitude=1.0)["original"]
    assert max(found) < 0.95


def test_defect_independent_layers_have_a_last_correlation_of_one_layer_alone():
    cell = make.subject()
    arguments = {"layer_order": "independent", "return_last_correlation": True}
    alone = direct("MPRT", cell, layer_order="independent")["4"]
    np.testing.assert_allclose(direct("MPRT", cell, **arguments), alone, atol=1e-6)


def test_defect_the_number_of_bins_does_not_depend_on_the_number_of_pixels():
    rules = quantus.functions.n_bins_func
    small, large = np.zeros((1, 1, 8, 8)), np.zeros((1, 1, 224, 224))
    for rule in (rules.square_root_choice, rules.sturges_formula, rules.rice_rule):
        assert rule(a_batch=small) == rule(a_batch=large) <= 2
