"""Promises of the scenes: exact masks, classes that only the object tells, the same bytes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from clarity.data import scenes
from clarity.data.scenes import CLASS_NAMES, NONE, generate_pairs, generate_single, render


def test_an_image_does_not_depend_on_how_many_are_asked_for():
    for generate in (generate_single, generate_pairs):
        few, many = (generate(n, split="test", seed=3) for n in (10, 200))
        np.testing.assert_array_equal(few.images, many.images[:10])
        np.testing.assert_array_equal(few.masks, many.masks[:10])
        np.testing.assert_array_equal(few.classes, many.classes[:10])


def test_splits_and_seeds_have_no_image_in_common():
    parts = [
        generate_single(50, split=split, seed=seed).images
        for split, seed in (("train", 0), ("test", 0), ("train", 1))
    ]
    flat = np.concatenate(parts).reshape(150, -1)
    assert len(np.unique(flat, axis=0)) == 150


@pytest.mark.parametrize("size", [32, 48])
def test_an_object_changes_the_pixels_of_its_mask_and_no_others(size):
    single = generate_single(64, split="test", seed=0, size=size)
    assert single.images.shape == (64, 3, size, size)
    empty = render(np.full((64, 2), NONE), kind="single", split="test", seed=0, size=size)
    changed = (single.images != empty.images).any(axis=1)
    np.testing.assert_array_equal(changed, single.masks[:, 0].astype(bool))
    assert not single.masks[:, 1].any()


def test_two_objects_do_not_touch_and_each_is_where_its_mask_is():
    pairs = generate_pairs(112, split="test", seed=0)
    assert (pairs.classes[:, 0] != pairs.classes[:, 1]).all()
    assert pairs.masks.any(axis=(2, 3)).all()
    assert not (pairs.masks[:, 0] & pairs.masks[:, 1]).any()
    for gone in range(2):
        classes = pairs.classes.copy()
        classes[:, gone] = NONE
        without = render(classes, kind="pair", split="test", seed=0)
        changed = (pairs.images != without.images).any(axis=1)
        np.testing.assert_array_equal(changed, pairs.masks[:, gone].astype(bool))


def test_classes_and_ordered_pairs_take_turns():
    single = generate_single(80, split="train", seed=0)
    assert (np.bincount(single.classes[:, 0]) == 10).all()
    pairs = generate_pairs(2 * 8 * 7, split="train", seed=0)
    _, counts = np.unique(pairs.classes, axis=0, return_counts=True)
    assert len(counts) == 56
    assert (counts == 2).all()


def test_objects_of_all_classes_have_the_same_area():
    # The same scenes with every class in turn: only the drawing of the shape on the grid differs.
    areas = [
        render(np.tile([label, NONE], (200, 1)), kind="single", split="train", seed=0)
        .masks[:, 0]
        .sum(axis=(1, 2))
        .mean()
        for label in range(len(CLASS_NAMES))
    ]
    assert max(areas) / min(areas) < 1.02


def held_out_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    half = len(labels) // 2
    scaler = StandardScaler().fit(features[:half])
    model = LogisticRegression(max_iter=2000).fit(scaler.transform(features[:half]), labels[:half])
    return model.score(scaler.transform(features[half:]), labels[half:])


def test_neither_colour_nor_background_gives_the_class_away():
    data = generate_single(4000, split="train", seed=1)
    labels = data.classes[:, 0]
    pixels = data.images.reshape(4000, 3, -1) / 255
    outside = ~data.masks[:, 0].astype(bool).reshape(4000, 1, -1)
    count = outside.sum(axis=2)
    background = (pixels * outside).sum(axis=2) / count
    spread = ((pixels - background[:, :, None]) ** 2 * outside).sum(axis=2) / count
    chance = 1 / 8
    # Three standard errors of an accuracy at chance on the 2,000 images of the second half.
    bound = chance + 3 * np.sqrt(chance * (1 - chance) / 2000)
    assert held_out_accuracy(pixels.mean(axis=2), labels) < bound
    assert held_out_accuracy(np.hstack([pixels.mean(axis=2), pixels.std(axis=2)]), labels) < bound
    assert held_out_accuracy(np.hstack([background, spread]), labels) < bound
    # The same classifier finds a class where there is one to be found: the check can fail.
    told = np.hstack([background, np.eye(8)[labels]])
    assert held_out_accuracy(told, labels) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n: found 0, wanted at least 1"),
        ({"classes": 9}, "classes: found 9, wanted 2 to 8"),
        ({"split": "val"}, "split: found 'val', wanted one of train, test"),
        ({"size": 8}, "size: found 8, wanted at least 24"),
        ({"seed": -1}, "seed: found -1, wanted at least 0"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate_single(**{"n": 4, "split": "train", "seed": 0, **arguments})


def test_the_sample_figure_shows_every_class_and_two_class_scenes():
    figure = scenes.sample_figure()
    labels = [axis.get_ylabel() for part in figure.subfigs for axis in part.axes]
    assert [label for label in labels if label] == list(CLASS_NAMES)
    assert len(labels) == 8 * 8 + 16
