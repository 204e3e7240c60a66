"""Promises of the metrics on scenes without one of their objects: known answers and nulls."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import torch
from torch import nn

SIZE = 12


class Colours(nn.Module):
    """Scores a class by its own channel, so that gradient times input is the exact effect."""

    def forward(self, images):
        return images.sum(dim=(2, 3))


def scenes(n: int = 10, explain=make.gradient_times_input, model: nn.Module | None = None):
    """Scenes of two objects, each with light in its own class's channel, on a dim background."""
    light = np.random.default_rng(2).uniform(0.01, 0.05, (n, make.CLASSES, SIZE, SIZE))
    images = light.astype(np.float32)
    bare = make.subject(images=images, scenes=True, model=Colours())
    rows = np.arange(n)
    for slot in range(2):
        images[rows, bare.classes[:, slot]] += 0.5 * bare.masks[:, slot]
    without = np.stack([images, images], axis=1)
    for slot in range(2):
        without[rows, slot, bare.classes[:, slot]] -= 0.5 * bare.masks[:, slot]
    whole = make.subject(images=images, scenes=True, model=model or Colours(), explain=explain)
    return replace(whole, without=make.frozen(without))


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2, SIZE, SIZE))


class Swapped(Colours):
    """Takes each class for its neighbour: no object does what the data set says."""

    def forward(self, images):
        return super().forward(images).roll(1, dims=1)


# ---- target sensitivity ------------------------------------------------------------------------


def test_target_sensitivity_is_1_if_both_maps_follow_their_class_and_0_if_they_swap():
    cell = scenes()
    assert set(make.values(cell, metric="TargetSensitivity")) == {1.0}
    masks = make.with_maps(cell, cell.masks.astype(float))
    assert set(make.values(masks, metric="TargetSensitivity")) == {1.0}
    swapped = make.with_maps(cell, cell.maps[:, ::-1])
    assert set(make.values(swapped, metric="TargetSensitivity")) == {0.0}


def test_target_sensitivity_is_exactly_0_for_a_method_that_ignores_the_class():
    cell = scenes(n=20)
    agnostic = make.with_maps(cell, noise(20)[:, 0])
    assert set(make.values(agnostic, metric="TargetSensitivity")) == {0.0}
    rounded = np.repeat(noise(20)[:, :1], 2, axis=1)
    rounded[:, 1] *= 1 + 1e-7
    rounded[:, 1, 0, 0] += 1e-7
    found = make.values(make.with_maps(cell, rounded), metric="TargetSensitivity")
    assert set(found) == {0.0}, "maps that differ by rounding are the same"


def test_target_sensitivity_is_one_half_for_noise():
    found = make.values(make.with_maps(scenes(n=400), noise(400)), metric="TargetSensitivity")
    assert found.mean() == pytest.approx(0.5, abs=0.06)


def test_target_sensitivity_compares_each_object_by_itself():
    cell = scenes(n=1)
    first, second = cell.masks[0].astype(float)
    ground = 1 - first - second
    # Shares (a, b) of the maps: (.5, .4) and (.3, .2). Object a wins, and object b loses.
    maps = [
        [x * first / first.sum() + y * second / second.sum() + z * ground / ground.sum()]
        for x, y, z in [(0.5, 0.4, 0.1), (0.3, 0.2, 0.5)]
    ]
    found = make.values(make.with_maps(cell, np.stack(maps, axis=1)), metric="TargetSensitivity")
    assert found == pytest.approx([0.5])


def test_only_scenes_count_whose_objects_the_model_tells_apart():
    cell = scenes(model=Swapped())
    masks = make.with_maps(cell, cell.masks.astype(float))
    frame = make.score(masks, metric="TargetSensitivity")
    scores = [
        cell.model(torch.from_numpy(np.array(x))).numpy()
        for x in (cell.images, cell.without[:, 0], cell.without[:, 1])
    ]
    rows, (a, b) = np.arange(10), cell.classes.T
    drop = [[(scores[0] - scores[j])[rows, k] for j in (1, 2)] for k in (a, b)]
    apart = (drop[0][0] > drop[1][0]) & (drop[1][1] > drop[0][1])
    assert not apart.all()
    np.testing.assert_array_equal(frame["status"].eq("ok"), apart)
    assert set(frame["reason"][~apart]) == {"the model does not tell the objects apart"}
    assert set(frame["status"][~apart]) == {"unavailable"}
    everyone = make.values(masks, metric="TargetSensitivity", told_apart=False)
    assert set(everyone) == {1.0}


# ---- agreement with deletion -------------------------------------------------------------------


def random_linear(n: int):
    """Scenes and a linear model whose exact attribution is the gradient times the change."""
    weights = np.random.default_rng(4).normal(size=(make.CLASSES, make.CLASSES, SIZE, SIZE))
    cell = scenes(n, model=make.Linear(weights))
    change = cell.images[:, None] - cell.without
    exact = np.einsum("nkchw,njchw->nkhw", weights[cell.classes], change)
    return cell, exact, np.einsum("nkchw,njchw->nkj", weights[cell.classes], change)


def test_deletion_agreement_is_1_for_the_exact_attribution_and_0_for_its_opposite():
    cell, exact, drops = random_linear(20)
    first_matters = drops[:, :, 0] > drops[:, :, 1]
    assert 0 < first_matters.mean() < 1
    found = make.values(make.with_maps(cell, exact), metric="DeletionAgreement")
    assert set(found) == {1.0}
    found = make.values(make.with_maps(cell, -exact), metric="DeletionAgreement")
    assert set(found) == {0.0}
    half = make.with_maps(cell, exact * np.array([1, -1])[:, None, None])
    assert set(make.values(half, metric="DeletionAgreement")) == {0.5}


def test_deletion_agreement_asks_the_model_and_not_the_data_set():
    cell = scenes(model=Swapped())
    assert set(make.values(scenes(), metric="DeletionAgreement")) == {1.0}
    masks = make.with_maps(cell, cell.masks.astype(float))
    assert make.score(masks, metric="DeletionAgreement")["value"].ne(1).any()


def test_deletion_agreement_is_one_half_for_noise_and_for_a_method_that_ignores_the_class():
    cell = scenes(n=400)
    random = make.values(make.with_maps(cell, noise(400)), metric="DeletionAgreement")
    assert random.mean() == pytest.approx(0.5, abs=0.06)
    agnostic = make.values(make.with_maps(cell, noise(400)[:, 0]), metric="DeletionAgreement")
    assert set(agnostic) == {0.5}


def test_deletion_agreement_has_no_truth_where_both_objects_matter_alike():
    class Blind(Colours):
        def forward(self, images):
            return 0 * super().forward(images)

    cell = make.with_maps(scenes(model=Blind()), noise(10))
    frame = make.score(cell, metric="DeletionAgreement")
    assert set(frame["reason"]) == {"both objects matter alike to a class"}
    assert set(frame["status"]) == {"unavailable"}


# ---- what cannot be judged ---------------------------------------------------------------------

METRICS = ("TargetSensitivity", "DeletionAgreement")


@pytest.mark.parametrize("metric", METRICS)
def test_a_scene_that_is_not_known_without_an_object_has_no_value(metric):
    cell = scenes()
    without = np.array(cell.without)
    without[2, 1] = cell.images[2]
    frame = make.score(replace(cell, without=without), metric=metric)
    assert frame["status"][2] == "unavailable"
    assert frame["reason"][2] == "the scene without one of its objects is not known"
    assert frame["status"].eq("ok").sum() == 9
    frame = make.score(replace(cell, without=None), metric=metric)
    assert set(frame["status"]) == {"unavailable"}
    assert set(frame["reason"]) == {"the scenes of this data set do not come without their objects"}


@pytest.mark.parametrize("metric", METRICS)
def test_maps_and_masks_that_tell_nothing_are_counted_and_not_scored(metric):
    cell = scenes()
    maps, masks = np.array(cell.maps), np.array(cell.masks)
    maps[1, 1] = 0
    masks[3, 1] = False
    frame = make.score(replace(cell, maps=maps, masks=masks), metric=metric)
    assert frame["reason"][1] == "constant foil map"
    assert frame["reason"][3] == "empty mask"
    assert frame["status"].tolist() == ["ok", "nan", "ok", "unavailable"] + ["ok"] * 6
