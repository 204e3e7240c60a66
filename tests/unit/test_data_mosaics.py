"""Promises of the mosaics: known tiles, masks that are the tiles, pairs and classes in balance."""

from itertools import combinations

import numpy as np
import pytest

from clarity.data import mosaics, selection

LAYOUTS = ("2x1", "1x2", "2x2")


def flat_pictures(classes: int, each: int, size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures whose every pixel is their own number, and their labels."""
    number = np.arange(classes * each, dtype=np.uint8)
    images = np.broadcast_to(number[:, None, None, None], (len(number), 3, size, size))
    return images.copy(), np.repeat(np.arange(classes), each)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [12, 13])
def test_a_mask_holds_the_pictures_of_its_class_and_nothing_else(layout, size):
    images, labels = flat_pictures(5, 6, size)
    made, classes, masks = mosaics.make(images, labels, 40, layout, seed=3)
    assert made.shape == (40, 3, size, size)
    assert made.dtype == np.uint8
    assert (masks.sum(axis=1) == 1).all()
    shown = labels[made]
    for slot in range(2):
        wanted = classes[:, slot, None, None, None]
        assert ((shown == wanted) | ~masks[:, slot, None]).all()
    assert (classes[:, 0] != classes[:, 1]).all()
    assert masks[:, 0, 0, 0].all()


def test_in_two_by_two_each_class_has_a_diagonal_of_two_different_whole_pictures():
    images, labels = flat_pictures(3, 4, 8)
    images[:, :, :4] += 100  # what tells a whole picture: both of its halves
    made, _, masks = mosaics.make(images, labels, 30, "2x2", seed=0)
    assert (masks.sum(axis=2) == 4).all()
    assert (masks.sum(axis=3) == 4).all()
    np.testing.assert_array_equal(made[:, :, 0], made[:, :, 2] + 100)
    np.testing.assert_array_equal(made[:, :, 4], made[:, :, 6] + 100)
    assert (made[:, 0, 0, 0] != made[:, 0, 4, 4]).all()
    assert (made[:, 0, 0, 4] != made[:, 0, 4, 0]).all()


@pytest.mark.parametrize("layout", ["2x1", "1x2"])
def test_a_half_is_the_centre_of_its_picture_untouched(layout):
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 12, 12), dtype=np.uint8)
    labels = np.repeat([0, 1], 4)
    made, *_ = mosaics.make(images, labels, 6, layout, seed=0)
    centres = images[:, :, 3:9] if layout == "2x1" else images[:, :, :, 3:9]
    halves = np.split(made, 2, axis=2 if layout == "2x1" else 3)
    for half in halves:
        for tile in half:
            assert any(np.array_equal(tile, centre) for centre in centres)


def test_a_quarter_is_the_mean_of_each_two_by_two_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    made, classes, _ = mosaics.make(images, np.array([0, 1]), 1, "2x2", seed=0)
    mean = images.reshape(2, 1, 4, 2, 4, 2).mean(axis=(3, 5))
    np.testing.assert_array_equal(made[0, :, :4, :4], np.rint(mean[classes[0, 0]]))
    np.testing.assert_array_equal(made[0, :, :4, 4:], np.rint(mean[classes[0, 1]]))


@pytest.mark.parametrize("classes", [2, 5, 8])
@pytest.mark.parametrize("count", [7, 28, 61])
def test_all_pairs_and_all_classes_come_equally_often(classes, count):
    images, labels = flat_pictures(classes, 4)
    _, pairs, _ = mosaics.make(images, labels, count, "1x2", seed=1)
    ordered = [tuple(sorted(pair)) for pair in pairs.tolist()]
    times = [ordered.count(pair) for pair in combinations(range(classes), 2)]
    assert max(times) - min(times) <= 1
    each = np.bincount(pairs.ravel(), minlength=classes)
    assert each.max() - each.min() <= 2
    firsts = (pairs[:, 0] < pairs[:, 1]).mean()
    assert 0 < firsts < 1


def test_a_picture_comes_again_only_when_all_of_its_class_have_come():
    images, labels = flat_pictures(2, 10)
    made, *_ = mosaics.make(images, labels, 10, "1x2", seed=0)
    assert len(np.unique(made[:, 0, 0, [0, -1]])) == 20


def test_the_seed_alone_decides():
    images, labels = flat_pictures(4, 5)
    one, same, other = (mosaics.make(images, labels, 20, "2x2", seed) for seed in (5, 5, 6))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (one[0] != other[0]).any()


def test_a_stratified_pick_is_as_even_as_it_can_be_and_a_split_takes_its_share_of_each_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 50, 3]))
    picked = selection.stratified(labels, 40, seed=1)
    assert np.bincount(labels[picked]).tolist() == [19, 18, 3]
    assert len(set(picked.tolist())) == 40
    few = selection.per_class(labels, 10, seed=1)
    assert np.bincount(labels[few]).tolist() == [10, 10, 3]
    first, second = selection.split(labels, 0.2, seed=1)
    assert np.bincount(labels[second]).tolist() == [20, 10, 1]
    assert sorted([*first, *second]) == list(range(153))
