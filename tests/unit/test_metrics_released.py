"""Promises of the released facets: each is what the code of arXiv 2604.22540 gives for an image."""

from dataclasses import replace
from functools import cache

import metric_subjects as make
import numpy as np
import pytest
import quantus
import torch
from explained import classifier, pictures
from quantus.helpers import utils as quantus_utils
from quantus_direct import seed_of
from skimage.metrics import structural_similarity
from torch import nn

from clarity.attribution.methods import Explainer
from clarity.attribution.recipe import MethodRecipe
from clarity.metrics.evaluate import Subject

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SIZE = 16
MEAN, STD = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.24, 0.3])
ROWS = range(6)


class Normalised(nn.Module):
    """The classifier as published code has it: it is given images that are normalised already."""

    def __init__(self, score: nn.Module) -> None:
        super().__init__()
        self.score = score

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.score.of_embeddings(self.score.encoder(images))


@cache
def cell() -> Subject:
    """Return rectified Grad-CAM maps of an uncalibrated head; the foil's map of row 1 is zero."""
    model = classifier(size=SIZE)
    for buffer, values in ((model.mean, MEAN), (model.std, STD)):
        buffer.copy_(torch.from_numpy(values.astype(np.float32)).reshape(1, 3, 1, 1))
    model.head.weight.mul_(8)  # probabilities that differ from image to image
    recipe = MethodRecipe(
        method="LayerGradCam", relu_attributions=True, target="logit-uncalibrated"
    )
    explainer = Explainer(recipe, model)
    images = pictures(6, 3, SIZE).numpy()
    classes = np.array([[(r + k) % make.CLASSES for k in range(make.CLASSES)] for r in ROWS])

    def explain(score: nn.Module, pixels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        return explainer(torch.from_numpy(np.array(pixels)), torch.from_numpy(wanted)).numpy()

    maps = np.stack([explain(explainer.score, images, classes[:, k]) for k in range(5)], axis=1)
    return Subject(
        images=make.frozen(images),
        maps=make.frozen(maps),
        classes=make.frozen(classes),
        single=np.ones(6, dtype=bool),
        masks=None,
        model=explainer.score,
        explain=explain,
    )


def normalised(images: np.ndarray) -> np.ndarray:
    return ((images - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)


def unit(one: np.ndarray) -> np.ndarray:
    """Scale one map as pytorch-grad-cam does."""
    above = np.maximum(one, 0) - np.maximum(one, 0).min()
    return above / (1e-7 + above.max())


def with_zero_map(row: int, slots: slice) -> Subject:
    maps = np.array(cell().maps)
    maps[row, slots] = 0
    return replace(cell(), maps=make.frozen(maps))


def value(name: str, subject: Subject | None = None, **arguments) -> np.ndarray:
    return make.values(cell() if subject is None else subject, metric=name, **arguments)


def released_area(row: int) -> float:
    metric = quantus.PixelFlipping(
        perturb_baseline="black",
        features_in_step=32,
        disable_warnings=True,
        display_progressbar=False,
    )
    curve = metric(
        model=Normalised(cell().model).eval(),
        x_batch=normalised(cell().images[row : row + 1]),
        y_batch=np.array(cell().classes[row : row + 1, 0]),
        a_batch=unit(cell().maps[row, 0])[None],
        device="cpu",
    )[0]
    return quantus_utils.calculate_auc(np.array(curve)) / (len(curve) - 1)


def test_pixel_flipping_is_quantus_on_normalised_images():
    expected = [released_area(row) for row in ROWS]
    np.testing.assert_allclose(value("ReleasedPixelFlipping"), expected, **CLOSE)
    assert np.ptp(expected) > 1e-3


@torch.no_grad()
def flipped(row: int, order: np.ndarray, fill: np.ndarray, by_pixel: bool) -> np.ndarray:
    """Return the probabilities of one image, step by step, the untouched image first."""
    image = np.array(cell().images[row]).reshape(3, -1)
    found = []
    for start in range(-32, len(order), 32):
        for place in order[start : start + 32] if start >= 0 else ():
            if by_pixel:
                image[:, place] = fill
            else:
                channel, pixel = divmod(int(place), SIZE * SIZE)
                image[channel, pixel] = fill[channel]
        scores = cell().model(torch.from_numpy(image.reshape(1, 3, SIZE, SIZE)))
        found.append(float(scores.softmax(dim=1)[0, cell().classes[row, 0]]))
    return np.array(found)


@pytest.mark.parametrize(
    "arguments",
    [{"unit": "pixels"}, {"baseline": "black"}, {"relative": True}, {"untouched": True}],
    ids=str,
)
def test_each_argument_of_pixel_flipping_mends_one_point(arguments):
    found = value("ReleasedPixelFlipping", **arguments)
    for row in ROWS:
        map_ = unit(cell().maps[row, 0])
        by_pixel = arguments.get("unit") == "pixels"
        spread = map_ if by_pixel else np.broadcast_to(map_, (3, SIZE, SIZE))
        least = normalised(cell().images[row]).min()
        fill = np.zeros(3) if "baseline" in arguments else least * STD + MEAN
        curve = flipped(row, np.argsort(-spread.reshape(1, -1), axis=1)[0], fill, by_pixel)
        start, curve = curve[0], curve if "untouched" in arguments else curve[1:]
        area = ((curve[1:] + curve[:-1]) / 2).mean()
        area = area / start if "relative" in arguments else area
        np.testing.assert_allclose(found[row], area, **CLOSE)
    assert np.abs(found - value("ReleasedPixelFlipping")).max() > 1e-4


def test_random_ties_matter_where_a_map_has_many_zeros_and_nowhere_else():
    maps = np.array(cell().maps)
    distinct = np.random.default_rng(0).permutation(SIZE * SIZE).reshape(SIZE, SIZE)
    maps[:, 0] = distinct
    maps[0, 0] = distinct > 200
    subject = replace(cell(), maps=make.frozen(maps))
    plain, random = (
        value("ReleasedPixelFlipping", subject, unit="pixels", ties=ties)
        for ties in ("sorted", "random")
    )
    assert plain[0] != random[0]
    np.testing.assert_allclose(plain[1:], random[1:], **CLOSE)


def test_steps_as_large_as_the_image_are_refused():
    with pytest.raises(ValueError, match="features_in_step: found 1000 of 768"):
        value("ReleasedPixelFlipping", features_in_step=1000)


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    return structural_similarity(unit(first), unit(second), data_range=1.0)


@pytest.mark.parametrize("clamp", [True, False])
def test_continuity_is_ssim_under_noise_on_the_normalised_image(clamp):
    found = value("ReleasedContinuity", clamp=clamp)
    batch = make.batch(cell())
    rows = zip(ROWS, found, strict=True)
    for row, score in rows:
        generator = np.random.RandomState(seed_of(row))
        noise = 0.02 * generator.standard_normal((3, SIZE, SIZE))
        noisy = normalised(cell().images[row]) + noise
        noisy = noisy.clip(0, 1) if clamp else noisy
        pixels = (noisy * STD[:, None, None] + MEAN[:, None, None]).astype(np.float32)
        again = cell().explain(cell().model, pixels[None], batch.classes[row : row + 1])[0]
        assert score == pytest.approx(ssim(cell().maps[row, 0], again), abs=1e-5)


def test_the_clamp_changes_the_image_by_far_more_than_the_noise():
    assert value("ReleasedContinuity").mean() < value("ReleasedContinuity", clamp=False).mean()


def test_a_zero_map_is_compared_as_released_and_left_out_when_mended():
    zero = with_zero_map(2, slice(0, 1))
    assert np.isfinite(value("ReleasedContinuity", zero)).all()
    mended = make.score(zero, metric="ReleasedContinuity", zero_maps="left-out")
    assert mended["status"].tolist() == ["ok", "ok", "nan", "ok", "ok", "ok"]
    assert mended["reason"][2].startswith("constant map")


def test_a_constant_model_is_as_continuous_as_can_be_as_released():
    flat = replace(
        cell(),
        maps=make.frozen(np.zeros_like(cell().maps)),
        explain=lambda model, images, classes: np.zeros((len(images), SIZE, SIZE), np.float32),
    )
    assert (value("ReleasedContinuity", flat) == 1).all()
    assert (value("SsimRandomClass", flat, zero_maps="scored") == 1).all()


def test_contrastivity_is_ssim_to_the_map_of_a_random_other_class():
    found = value("SsimRandomClass", zero_maps="scored")
    for row in ROWS:
        generator = np.random.RandomState(seed_of(row))
        label = cell().classes[row, 0]
        drawn = generator.randint(0, make.CLASSES - 1)
        other = drawn + (drawn >= label)
        slot = cell().classes[row].tolist().index(other)
        assert found[row] == pytest.approx(
            ssim(cell().maps[row, 0], cell().maps[row, slot]), abs=1e-5
        )


def test_zero_maps_of_the_label_and_of_the_foil_are_scored_as_released_alone():
    for slots, reason in ((slice(0, 1), "constant map"), (slice(1, None), "constant foil map")):
        zero = with_zero_map(3, slots)
        assert np.isfinite(value("SsimRandomClass", zero, zero_maps="scored")).all()
        mended = make.score(zero, metric="SsimRandomClass", zero_maps="left-out")
        assert mended["reason"][3] == reason
        kept = [0, 1, 2, 4, 5]
        np.testing.assert_array_equal(
            mended["value"].to_numpy()[kept],
            value("SsimRandomClass", zero, zero_maps="scored")[kept],
        )


@pytest.mark.parametrize("name", ["Complexity", "Sparseness"])
def test_complexity_and_sparseness_are_those_of_quantus_on_the_shifted_map(name):
    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False)
    expected = [
        metric(
            model=Normalised(cell().model).eval(),
            x_batch=normalised(cell().images[row : row + 1]),
            y_batch=np.array(cell().classes[row : row + 1, 0]),
            a_batch=unit(cell().maps[row, 0])[None],
            device="cpu",
        )[0]
        for row in ROWS
    ]
    np.testing.assert_allclose(value(f"Released{name}"), expected, **CLOSE)


@pytest.mark.parametrize("name", ["Complexity", "Sparseness"])
def test_without_the_shift_a_positive_map_stays_as_it_is(name):
    lifted = make.with_maps(cell(), np.maximum(cell().maps[:, 0], 0) + 1)
    for subject in (cell(), lifted):
        np.testing.assert_allclose(
            value(f"Released{name}", subject, shift=False),
            make.values(subject, metric=name),
            **CLOSE,
        )
    np.testing.assert_allclose(
        value(f"Released{name}", lifted), value(f"Released{name}"), rtol=1e-4
    )
    assert (
        np.abs(value(f"Released{name}", lifted, shift=False) - value(f"Released{name}")).min() > 0
    )


def test_a_model_without_a_normalisation_is_taken_as_it_is():
    subject = make.subject()
    found = value("ReleasedPixelFlipping", subject)
    least = subject.images.min(axis=(1, 2, 3))
    assert np.isfinite(found).all()
    assert (least > 0).all()
    assert np.isfinite(value("ReleasedContinuity", subject)).all()
