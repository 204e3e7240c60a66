"""Promises of the calibration: every metric says of noise, agnostic and perfect maps what it must.

The real metrics on the real code, in a world where the answer is known.
"""

import functools

import numpy as np
import pandas as pd
import pytest
import torch

from clarity import catalogue
from clarity.metrics import calibration
from clarity.metrics.calibration import calibrate, detector, pictures, scenes, subject
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import MetricInfo, every_metric, info

SIDES = (4, 32)
WORLD = ["calibration"]
RECIPES = {
    recipe["metric"]: MetricRecipe(**recipe)
    for recipe in every_metric(WORLD, WORLD, WORLD).values()
}
KNOWN: dict[str, MetricInfo] = {name: info(recipe) for name, recipe in RECIPES.items()}
WITH_NULLS = [name for name, known in KNOWN.items() if known.nulls]
VERDICTS = [name for name, known in KNOWN.items() if known.verdict]


@functools.cache
def table() -> pd.DataFrame:
    chosen = {name: RECIPES[name] for name in WITH_NULLS}
    found = calibrate(chosen, sides=SIDES, count=48)
    return found.set_index(["metric", "kind", "side"])


def test_the_network_of_the_world_tells_its_classes_and_sums_up_its_oracle():
    images, labels, _ = pictures(40)
    with torch.no_grad():
        logits = detector()(torch.from_numpy(images)).numpy()
    assert (logits.argmax(axis=1) == labels).all()
    cell = subject("oracle", calibration.SIZE, 40, two_class=False)
    sums = cell.maps.sum(axis=(2, 3))
    expected = np.take_along_axis(logits, cell.classes, axis=1)
    np.testing.assert_allclose(sums, expected, rtol=1e-4)


def test_what_stands_for_removed_pixels_adds_nothing():
    for level in (0.0, 0.5):
        blank = torch.full((1, 3, 32, 32), level)
        assert (detector()(blank) == 0).all()


def test_scenes_without_an_object_are_otherwise_the_same():
    images, _, masks, without = scenes(12)
    for slot in range(2):
        changed = np.abs(images - without[:, slot]).max(axis=1) > 0
        assert not (changed & ~masks[:, slot]).any()
        assert (changed.sum(axis=(1, 2)) > 0.9 * masks[:, slot].sum(axis=(1, 2))).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", [n for n in WITH_NULLS if "random" in KNOWN[n].nulls])
def test_noise_gets_the_null_on_average(name, side):
    row = table().loc[name, "random", side]
    assert row["share"] > 0.5
    assert row["mean"] == pytest.approx(KNOWN[name].nulls["random"], abs=3.5 * row["error"])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", [n for n in WITH_NULLS if "agnostic" in KNOWN[n].nulls])
def test_maps_that_ignore_the_class_get_the_null_exactly(name, side):
    row = table().loc[name, "agnostic", side]
    assert row["share"] == 1
    assert row["mean"] == pytest.approx(KNOWN[name].nulls["agnostic"], abs=1e-6)
    assert row["error"] < 1e-6


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", WITH_NULLS)
def test_perfect_maps_beat_noise_where_noise_has_a_null(name, side):
    sign = 1 if KNOWN[name].direction == "higher" else -1
    oracle, noise = (table().loc[name, kind, side] for kind in ("oracle", "random"))
    if "random" in KNOWN[name].nulls:
        error = np.hypot(oracle["error"], noise["error"])
        assert sign * (oracle["mean"] - noise["mean"]) > (0 if name == "TopKOverlap" else 3 * error)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", VERDICTS)
def test_what_carries_a_verdict_ranks_perfect_maps_above_both_nulls(name, side):
    assert KNOWN[name].direction == "higher"
    oracle = table().loc[name, "oracle", side]
    for kind in ("random", "agnostic"):
        other = table().loc[name, kind, side]
        assert oracle["mean"] > other["mean"] + 3 * np.hypot(oracle["error"], other["error"])


def test_every_similarity_of_maps_of_two_classes_rewards_noise():
    """Why none of them carries a verdict: agnostic maps are worst, noise is near the best."""
    similarities = [
        name for name, known in KNOWN.items() if (known.nulls or {}).get("agnostic") == 1.0
    ]
    assert len(similarities) >= 5
    for name in similarities:
        assert not KNOWN[name].verdict
        assert KNOWN[name].direction == "lower"
        assert table().loc[name, "random", 32]["mean"] < 0.1


def test_a_verdict_is_carried_by_what_the_science_says():
    assert set(VERDICTS) == {
        "ContrastivityIndex",
        "ClassSwapDeletion",
        "DiscriminativeMass",
        "Focus",
        "GridPointingGame",
        "MapClassifier",
        "TargetSensitivity",
    }
    assert set(VERDICTS) <= set(catalogue.names("metrics"))
