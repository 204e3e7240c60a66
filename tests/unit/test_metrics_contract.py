"""Promises of every metric: each image counts alone, nothing is touched, costs are as said.

The arguments are the moderate ones of `metrics: all`, fitted to images of 16x16 pixels.
"""

import inspect
from dataclasses import replace
from functools import cache

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch

from clarity import catalogue
from clarity.metrics import registry
from clarity.metrics.evaluate import evaluate
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import MetricInfo, info

NAMES = catalogue.names("metrics")
OF_QUANTUS = [name for name in NAMES if hasattr(quantus, name)]
SIZE = 16
#: Rounding: networks round differently in batches of another size.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}

#: Where images of 16x16 pixels want other arguments than those of `metrics: all`.
FITTED: dict[str, dict[str, object]] = {
    # An untrained network is confident of nothing, and tells no two objects apart.
    "GridPointingGame": {"confidence": 0.0},
    "MosaicAccuracy": {"confidence": 0.0},
    "Focus": {"confidence": 0.0},
    "TargetSensitivity": {"told_apart": False},
    "Consistency": {"cells": 1},  # of six images, all must share an explanation
    "IROF": {"nr_segments": 25},
    "FaithfulnessCorrelation": {"nr_runs": 8},
    "Infidelity": {"n_perturb_samples": 4, "perturb_patch_sizes": [4, 8]},
    "Sufficiency": {"threshold": 0.98},
}


def recipe(name: str) -> MetricRecipe:
    moderate = registry.moderate(name, SIZE**2)
    return MetricRecipe(metric=name, **{**moderate, **FITTED.get(name, {})})


@cache
def known(name: str) -> MetricInfo:
    return info(recipe(name))


@cache
def cell(name: str):
    return make.trained(scenes=known(name).needs_scenes)


def values(subject, name: str, batch_size: int = 64) -> np.ndarray:
    frame = evaluate(subject, {"m": recipe(name)}, dataset="d", seed=0, batch_size=batch_size)
    return frame["value"].to_numpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_says_what_it_is(name):
    assert known(name).category in (
        "faithfulness",
        "robustness",
        "complexity",
        "randomisation",
        "axiomatic",
        "localisation",
        "contrastivity",
    )
    assert known(name).direction in ("higher", "lower", "none")
    assert known(name).paper
    found = catalogue.find("metrics", name)
    assert found.module.startswith("clarity.metrics."), f"{name} is Quantus' own, one image a call"


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_a_finite_value(name):
    frame = evaluate(cell(name), {"m": recipe(name)}, dataset="d", seed=0)
    assert frame["status"].eq("ok").all(), frame
    assert np.isfinite(frame["value"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_value_does_not_depend_on_the_size_of_a_batch(name):
    expected = values(cell(name), name)
    for size in (1, 4):
        np.testing.assert_allclose(values(cell(name), name, size), expected, **CLOSE)


ALONE = [name for name in NAMES if not known(name).whole_set]


@pytest.mark.parametrize("name", ALONE)
def test_the_value_is_the_same_alone_and_beside_others(name):
    expected = values(cell(name), name)
    for row in (0, 3, 5):
        np.testing.assert_allclose(
            values(make.only(cell(name), [row]), name), expected[[row]], **CLOSE
        )


@pytest.mark.parametrize("name", ALONE)
def test_the_value_does_not_depend_on_neighbours(name):
    whole = cell(name)
    expected = values(whole, name)
    images, maps = np.array(whole.images), np.array(whole.maps)
    images[[0, 4]] = images[[0, 4], :, ::-1] ** 2
    maps[0] *= 1000
    maps[4] = -np.abs(maps[4])
    maps[5] = 0
    others = replace(whole, images=images, maps=maps)
    np.testing.assert_allclose(values(others, name)[1:4], expected[1:4], **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_images_does_not_matter(name):
    metric = make.metric(recipe(name))
    batch = make.batch(cell(name), known(name).sign, known(name).scale, known(name).softmax)
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(
        metric(batch.rows(order)).values, metric(batch).values[order], **CLOSE
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_stays_as_it_is_and_no_global_random_state_is_used(name):
    whole = cell(name)  # its arrays raise when they are written to
    weights = {key: value.clone() for key, value in whole.model.state_dict().items()}
    np.random.seed(1)
    torch.manual_seed(1)
    first = values(whole, name)
    np.random.seed(2)
    torch.manual_seed(2)
    before, torch_before = np.random.get_state(), torch.get_rng_state()
    second = values(whole, name)
    after = np.random.get_state()
    np.testing.assert_array_equal(first, second)
    assert before[2] == after[2]
    assert np.array_equal(before[1], after[1])
    assert torch.equal(torch_before, torch.get_rng_state())
    assert all(torch.equal(value, weights[k]) for k, value in whole.model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_memory_changes_no_byte(name, monkeypatch):
    expected = values(cell(name), name)
    monkeypatch.setattr("clarity.metrics.memory.Memory.get", lambda *args: args[-1]())
    np.testing.assert_array_equal(values(cell(name), name), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_costs_what_it_says(name):
    costs = {}
    whole = cell(name)
    # As the default grid stores them: of label and runner-up alone.
    whole = replace(whole, maps=whole.maps[:, :2], classes=whole.classes[:, :2])
    evaluate(whole, {"m": recipe(name)}, dataset="d", seed=0, costs=costs)
    expected = registry.cost(
        recipe(name),
        pixels=SIZE**2,
        channels=3,
        classes=make.CLASSES,
        layers=make.layers(whole.model),
        images=6,
    )
    found = costs["m"].forward / 6, costs["m"].explained / 6
    # A call more, to learn the number of classes, or one image untouched, is within the formula.
    assert found == pytest.approx((expected.forward, expected.explained), rel=0.1, abs=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_without_a_pattern_is_counted_and_not_scored(name):
    whole = cell(name)
    maps = np.array(whole.maps)
    maps[2, 0], maps[3, 0, 0, 0] = 0.3, np.nan
    with np.errstate(invalid="ignore"):
        frame = evaluate(replace(whole, maps=maps), {"m": recipe(name)}, dataset="d", seed=0)
    if not known(name).constant_maps:
        assert frame["reason"][2] == "constant map"
    assert frame["reason"][3] == "the map has values that are not finite"
    assert frame["status"][3] == "nan"


@pytest.mark.parametrize("name", OF_QUANTUS)
def test_a_metric_of_quantus_takes_its_arguments_with_its_defaults(name):
    ours = catalogue.find("metrics", name).parameters
    theirs = inspect.signature(getattr(quantus, name).__init__).parameters
    hidden = catalogue.LIBRARIES["metrics"].given
    for key, parameter in theirs.items():
        if key in ("self", "kwargs") or key in hidden or key in make.NOT_TAKEN.get(name, {}):
            continue
        assert key in ours, f"{name}.{key}"
        if parameter.default is not parameter.empty and not callable(parameter.default):
            expected = make.OTHER_DEFAULT.get((name, key), parameter.default)
            assert ours[key].default == expected, f"{name}.{key}"


@pytest.mark.parametrize("name", OF_QUANTUS)
def test_category_direction_sign_scale_and_softmax_are_those_of_quantus(name):
    metric = getattr(quantus, name)
    plain = info(MetricRecipe(metric=name))
    said = {
        "category": metric.evaluation_category.value.lower(),
        "direction": metric.score_direction.value.lower(),
        "sign": "absolute"
        if inspect.signature(metric.__init__).parameters["abs"].default
        else "signed",
        "scale": "max"
        if inspect.signature(metric.__init__).parameters["normalise"].default
        else "none",
        "softmax": inspect.signature(metric.__call__).parameters["softmax"].default,
    }
    for key, value in said.items():
        expected = make.OTHERWISE.get((name, key), value)
        assert getattr(plain, key) == expected, key
