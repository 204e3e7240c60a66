"""Promises of the complexity metrics: Quantus' values, each map by itself, none written to."""

from dataclasses import replace

import metric_subjects as make
import numpy as np
import pytest
import quantus
from quantus_direct import PLAIN, one_by_one, scaled, together


def absolute(maps: np.ndarray) -> np.ndarray:
    return np.abs(scaled(maps))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Sparseness", {}),
        ("Complexity", {}),
        ("EffectiveComplexity", {"eps": 0.01}),
        ("EffectiveComplexity", {"eps": 0.3}),
    ],
)
def test_a_metric_is_that_of_quantus_one_image_a_call(name, arguments):
    cell = make.subject()
    expected = one_by_one(
        lambda row: getattr(quantus, name)(abs=True, **arguments, **PLAIN), cell, prepare=absolute
    )
    found = make.values(cell, metric=name, **arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(expected) > 0


def known_maps(counts, size: int = 16) -> np.ndarray:
    """Return maps of -3 in so many pixels and zero in the others."""
    maps = np.zeros((len(counts), size * size), np.float32)
    for row, count in enumerate(counts):
        maps[row, np.random.default_rng(row).permutation(size * size)[:count]] = -3
    return maps.reshape(-1, size, size)


COUNTS = np.array([1, 2, 16, 64, 128, 255])


@pytest.mark.parametrize(
    ("name", "expected", "atol"),
    [
        ("Sparseness", 1 - COUNTS / 256, 1e-4),  # the Gini index
        ("Complexity", np.log(COUNTS), 1e-6),  # the entropy of equal shares
        ("EffectiveComplexity", COUNTS, 0),
    ],
)
def test_maps_of_some_equal_pixels_have_known_values(name, expected, atol):
    cell = make.with_maps(make.subject(), known_maps(COUNTS))
    np.testing.assert_allclose(make.values(cell, metric=name), expected, atol=atol)


def test_effective_complexity_counts_pixels_above_a_share_of_the_largest():
    maps = np.tile(np.linspace(-1, 0, 256).reshape(16, 16), (6, 1, 1))
    maps *= np.array([1, 5, 1e-3, 100, 1e4, 1])[:, None, None]
    cell = make.with_maps(make.subject(), maps)
    for eps in (0.1, 0.5):
        expected = (np.linspace(0, 1, 256) > eps).sum()
        found = make.values(cell, metric="EffectiveComplexity", eps=eps)
        np.testing.assert_array_equal(found, expected)


def test_concentrated_maps_are_less_complex_than_noise():
    cell = make.subject(n=20)
    generator = np.random.default_rng(0)
    noise = generator.uniform(size=(20, 16, 16))
    peaked = noise * np.exp(-(np.arange(16) ** 2) / 8)
    for name, better in (
        ("Sparseness", np.greater),
        ("Complexity", np.less),
        ("EffectiveComplexity", np.less),
    ):
        extra = {"eps": 0.05} if name == "EffectiveComplexity" else {}
        found = [
            make.values(make.with_maps(cell, maps), metric=name, **extra)
            for maps in (peaked, noise)
        ]
        assert better(*found).all()


# ---- defects ----------------------------------------------------------------------------------


def test_defect_scaling_by_the_maximum_of_the_batch():
    cell = make.subject()
    louder = np.array(cell.maps)
    louder[0] *= 1000
    metric = quantus.EffectiveComplexity(eps=0.05, disable_warnings=True)
    theirs = [together(metric, cell, maps[:, 0]) for maps in (cell.maps, louder)]
    assert theirs[0][1:] != theirs[1][1:]
    ours = [
        make.values(replace(cell, maps=maps), metric="EffectiveComplexity", eps=0.05)
        for maps in (cell.maps, louder)
    ]
    np.testing.assert_array_equal(*ours)


@pytest.mark.parametrize("name", ["Sparseness", "Complexity"])
def test_defect_changing_the_callers_maps_in_place(name):
    cell = make.subject()
    maps = np.abs(cell.maps[:, :1])
    before = maps.copy()
    metric = getattr(quantus, name)(abs=False, normalise=False, disable_warnings=True)
    metric(
        model=cell.model,
        x_batch=np.array(cell.images),
        y_batch=np.array(cell.classes[:, 0]),
        a_batch=maps,
        channel_first=True,
    )
    assert not np.array_equal(maps, before)
    positive = make.with_maps(cell, before[:, 0])  # an array that raises when it is written to
    make.score(positive, metric=name)
    assert np.array_equal(positive.maps[:, 0], before[:, 0])
