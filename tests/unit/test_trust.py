"""Promises of trust: known answers, bounds that hold, and numbers that never hide a failure."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn
from torch.nn import functional as F

from clarity import storage
from clarity.data.selection import first_of_each
from clarity.data.sets import Splits
from clarity.grid import Run
from clarity.models import classifier
from clarity.stages import trust as stage
from clarity.tables.measures import GROUPS, MEASURES
from clarity.trust import measure
from clarity.trust.attacks import fgsm, pgd
from clarity.trust.corruptions import SMALL, STRENGTHS, corrupt
from clarity.trust.detection import as_input, detect
from clarity.trust.measure import Foreign, trust
from clarity.trust.recipe import Trust

NAMES = list(STRENGTHS)


class Linear(nn.Module):
    """A classifier of images [B, C, H, W] whose embedding is the image itself."""

    def __init__(self, weights: torch.Tensor, scale: float = 1.0):
        super().__init__()
        self.weights = nn.Parameter(weights, requires_grad=False)
        self.scale = scale

    def embed(self, images):
        return images.flatten(1)

    def logits(self, embeddings):
        return self.scale * embeddings @ self.weights.T

    def forward(self, images):
        return self.logits(self.embed(images))


def pictures(count=60, classes=3, size=8, channels=1, seed=0):
    """Images of noise, each with one bright bar, which tells its class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.integers(0, 90, (count, channels, size, size))
    for image, label in zip(images, labels, strict=True):
        image[:, label] += 120
    return images.astype(np.uint8), labels


def splits(count=60, **more) -> Splits:
    images, labels = pictures(count, **more)
    return Splits(images, labels, images, labels, tuple("abc"))


def rows_model(size=8, scale=0.5):
    """Return a model that sums the row of each class."""
    weights = torch.zeros(3, 1, size, size)
    for label in range(3):
        weights[label, :, label] = 1
    return Linear(weights.flatten(1), scale)


def values(frame):
    return frame.set_index("measure")["value"]


QUICK = Trust(images=30, radii=[0.05], steps=5, corruptions=["contrast"], severities=[1, 5])


# --- accuracy and calibration


def test_calibration_is_that_of_the_definitions(monkeypatch):
    """Computed again by hand in numpy, image by image and bin by bin."""
    data, model = splits(), rows_model()
    found = values(trust(model, data, None, QUICK, "bars"))
    logits = data.test_images.reshape(60, -1) / 255 @ model.weights.numpy().T * 0.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = p[np.arange(60), data.test_labels]
    assert found["nll"] == pytest.approx(-np.log(own).mean(), rel=1e-6)
    target = np.eye(3)[data.test_labels]
    assert found["brier"] == pytest.approx(((p - target) ** 2).sum(1).mean(), rel=1e-6)
    confidence, right = p.max(1), p.argmax(1) == data.test_labels
    place = np.ceil(confidence * 15).astype(int)
    error = sum(
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean()
        for b in set(place)
    )
    assert found["ece"] == pytest.approx(error, rel=1e-5)
    assert found["accuracy"] == right.mean()


def test_a_model_that_is_never_sure_of_three_classes_has_known_scores():
    data = splits()
    found = values(trust(Linear(torch.zeros(3, 64)), data, None, QUICK, "bars"))
    assert found["nll"] == pytest.approx(math.log(3))
    assert found["brier"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["ece"] == pytest.approx(0, abs=1e-6)


def test_the_subset_is_the_first_images_of_every_class_alike():
    labels = np.array([0, 0, 0, 0, 1, 2, 1, 2, 1])
    assert first_of_each(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert first_of_each(labels, 3).tolist() == [0, 4, 5]
    assert first_of_each(labels, 99).tolist() == list(range(9))


# --- attacks


def test_fgsm_of_a_linear_model_is_the_step_that_is_worst_for_it():
    torch.manual_seed(0)
    images, weights = torch.rand(6, 1, 4, 4) * 0.4 + 0.3, torch.randn(2, 16)
    labels = torch.tensor([0, 1] * 3)
    changed = fgsm(Linear(weights), images, labels, 0.1)
    away = torch.sign(weights[1 - labels] - weights[labels]).reshape(6, 1, 4, 4)
    torch.testing.assert_close(changed, images + 0.1 * away)


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("radius", [0.01, 0.3])
def test_an_attack_stays_within_its_radius_and_the_range_of_pixels(attack, radius):
    images = torch.from_numpy(pictures()[0]).float() / 255
    labels = torch.arange(60) % 3
    model = rows_model()
    changed = (
        fgsm(model, images, labels, radius)
        if attack == "fgsm"
        else pgd(model, images, labels, radius, 7)
    )
    assert (changed - images).abs().max() <= radius + 1e-6
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert F.cross_entropy(model(changed), labels) > F.cross_entropy(model(images), labels)


def test_pgd_finds_what_one_step_cannot():
    """Around a bend of the loss, the gradient at the start leads astray."""

    class Bend(nn.Module):
        def forward(self, x):
            x = x.flatten(1)
            valley = 30 * (x[:, 0] - 0.5) ** 2 + 3 * (x[:, 1] - 0.5) * (x[:, 0] - 0.4)
            return torch.stack([valley, torch.zeros_like(valley)], 1)

    image = torch.tensor([[[[0.62, 0.6]]]])
    label = torch.tensor([0])
    model = Bend()
    lost = F.cross_entropy(model(pgd(model, image, label, 0.2, 20)), label)
    assert lost > F.cross_entropy(model(fgsm(model, image, label, 0.2)), label) + 0.1


def test_a_model_that_is_all_too_sure_does_not_pass_for_robust():
    """Its probabilities round to 1 in float32, where the gradient of cross-entropy is 0."""
    data = splits()
    sure = rows_model(scale=40.0)
    images = torch.from_numpy(data.test_images).float() / 255
    assert (sure(images).softmax(1).max(1).values == 1).float().mean() > 0.9
    found = values(trust(sure, data, None, QUICK.model_copy(update={"radii": [0.3]}), "bars"))
    assert found["accuracy-subset"] == 1
    assert found["fgsm-accuracy:0.3"] < 0.1
    assert found["pgd-accuracy:0.3"] < 0.1


# --- corruptions


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 80, 96)])
def test_a_corruption_keeps_shape_and_range_and_hurts_more_when_more_severe(name, shape):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((4, shape[0], 7, 7), generator=generator)
    images = F.interpolate(coarse, shape[1:], mode="bicubic").clamp(0, 1) * 0.8
    harm = []
    for severity in range(1, 6):
        changed = corrupt(images, name, severity, torch.Generator().manual_seed(1))
        assert changed.shape == images.shape
        assert changed.dtype == images.dtype
        assert changed.min() >= 0
        assert changed.max() <= 1
        harm.append(float((changed - images).abs().mean()))
    assert harm[0] > 0
    assert harm[4] > 1.2 * harm[0]


@pytest.mark.parametrize(("side", "severity"), [(28, 1), (32, 3), (96, 2), (96, 5)])
def test_pixelation_is_that_of_pillow(side, severity):
    image = np.random.default_rng(0).random((side, side), dtype=np.float32)
    factor = STRENGTHS["pixelate"][side > SMALL][severity - 1]
    small = Image.fromarray(image).resize([int(side * factor)] * 2, Image.Resampling.BOX)
    expected = np.asarray(small.resize([side] * 2, Image.Resampling.BOX))
    found = corrupt(torch.from_numpy(image)[None, None], "pixelate", severity, None)
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_corruption_depends_on_its_seed_alone(name):
    images = torch.from_numpy(pictures(channels=3, size=28)[0]).float() / 255
    once, again, other = (
        corrupt(images, name, 3, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(once, again)
    assert torch.equal(once, other) == (not name.endswith("noise"))


def test_noise_has_the_strength_of_the_benchmark():
    grey = torch.full((1, 1, 64, 64), 0.5)
    noisy = corrupt(grey, "gaussian-noise", 5, torch.Generator().manual_seed(0))
    assert float(noisy.std()) == pytest.approx(0.10, rel=0.05)
    shot = corrupt(grey, "shot-noise", 5, torch.Generator().manual_seed(0))
    assert float(shot.std()) == pytest.approx(math.sqrt(0.5 / 50), rel=0.05)
    salt = corrupt(grey, "impulse-noise", 5, torch.Generator().manual_seed(0))
    assert float((salt == 0).float().mean()) == pytest.approx(0.035, abs=0.01)
    assert float((salt == 1).float().mean()) == pytest.approx(0.035, abs=0.01)
    large = corrupt(F.pad(grey, [8] * 4, value=0.5), "gaussian-noise", 5, torch.Generator())
    assert max(large.shape) > SMALL
    assert float(large.std()) > 0.25


def test_brightness_and_contrast_are_those_of_their_definitions():
    generator = torch.Generator()
    colour = torch.tensor([0.2, 0.4, 0.1])[None, :, None, None].expand(1, 3, 4, 4)
    brighter = corrupt(colour, "brightness", 2, generator)[0, :, 0, 0]
    # V goes from 0.4 to 0.5; hue and saturation, ratios of the channels, stay.
    torch.testing.assert_close(brighter, torch.tensor([0.25, 0.5, 0.125]))
    black = corrupt(torch.zeros(1, 3, 4, 4), "brightness", 1, generator)
    torch.testing.assert_close(black, torch.full((1, 3, 4, 4), 0.05))
    halves = torch.tensor([0.2, 0.8]).repeat(8).reshape(1, 1, 4, 4)
    flat = corrupt(halves, "contrast", 5, generator)
    torch.testing.assert_close(flat, 0.5 + 0.15 * (halves - 0.5))


def test_defocus_is_the_convolution_with_a_smoothed_disk():
    """Against OpenCV, which the benchmark was made with."""
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for side, severity in ((28, 4), (28, 5), (96, 2), (96, 5)):
        image = rng.random((side, side), dtype=np.float32)
        radius, sigma = STRENGTHS["defocus-blur"][side > SMALL][severity - 1]
        reach = 8 if radius <= 8 else radius
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        disk = (x**2 + y**2 <= radius**2).astype(np.float32)
        disk = np.pad(disk / disk.sum(), 2)
        kernel = cv2.GaussianBlur(disk, (3, 3) if radius <= 8 else (5, 5), sigma)
        expected = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        found = corrupt(torch.from_numpy(image)[None, None], "defocus-blur", severity, None)
        np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


def test_corruptions_are_averaged_and_the_same_for_every_model():
    recipe = Trust(images=30, radii=[], corruptions=["impulse-noise", "jpeg"], severities=[1, 5])
    frame = trust(rows_model(), splits(), None, recipe, "bars")
    single = frame[frame["measure"].str.match("corruption-.*:")]
    assert list(single["measure"]) == [
        f"corruption-{name}:{severity}" for name in ("impulse-noise", "jpeg") for severity in (1, 5)
    ]
    assert values(frame)["corruption-mean"] == pytest.approx(single["value"].mean())
    again = trust(rows_model(), splits(), None, recipe, "bars")
    assert again.equals(frame)
    twice = trust(rows_model(scale=9.0), splits(), None, recipe, "bars")
    # The same images, noise and decisions: a scale changes no class.
    assert values(twice).filter(like="corruption").equals(values(frame).filter(like="corruption"))


# --- images of another dataset


def test_detection_is_that_of_the_definitions():
    rng = torch.Generator().manual_seed(0)
    known = torch.randn(80, 4, generator=rng) * 3, torch.randn(80, 6, generator=rng) + 1
    other = torch.randn(50, 4, generator=rng), torch.randn(50, 6, generator=rng) - 0.2
    reference = torch.randn(200, 6, generator=rng) + 1
    found = detect(known, other, reference)
    foreign = np.r_[np.zeros(80), np.ones(50)]
    logits, embeddings = (torch.cat(pair).numpy() for pair in zip(known, other, strict=True))
    unit, fitted = (F.normalize(torch.as_tensor(e), dim=1).numpy() for e in (embeddings, reference))
    distances = np.sort(np.linalg.norm(unit[:, None] - fitted[None], axis=2), axis=1)
    shifted = np.exp(logits.astype(np.float64))
    assert len(reference) // 4 == 50
    for name, scores in (
        ("msp", -(shifted / shifted.sum(1, keepdims=True)).max(1)),
        ("energy", -np.log(shifted.sum(1))),
        ("knn", distances[:, 49]),
    ):
        assert found[f"ood-{name}-auroc"] == pytest.approx(roc_auc_score(foreign, scores), abs=1e-5)
        false, true, _ = roc_curve(foreign, scores, drop_intermediate=False)
        first = false[np.argmax(true >= 0.95)]
        assert found[f"ood-{name}-fpr95"] == pytest.approx(first, abs=1e-6)


def test_images_of_another_dataset_are_brought_to_the_models_input():
    grey = torch.full((2, 1, 28, 28), 0.25)
    torch.testing.assert_close(as_input(grey, (3, 32, 40)), torch.full((2, 3, 32, 40), 0.25))
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0] = 1
    shown = as_input(red, (1, 28, 28))
    assert shown.shape == (1, 1, 28, 28)
    # The share of red in luma (ITU-R BT.601).
    torch.testing.assert_close(shown, torch.full((1, 1, 28, 28), 0.2989), atol=1e-3, rtol=0)


def test_images_that_are_nothing_like_the_own_are_told_by_their_embeddings():
    images, labels = 255 - splits().test_images, splits().test_labels
    foreign = Foreign("inverted", Splits(images, labels, images, labels, ()))
    found = values(trust(rows_model(), splits(), foreign, QUICK, "bars"))
    assert found["ood-knn-auroc:inverted"] == 1
    assert found["ood-knn-fpr95:inverted"] == 0


# --- the table


def test_every_measure_has_a_meaning_and_a_group_that_the_tables_know():
    foreign = Foreign("other", splits(seed=3))
    frame = trust(rows_model(), splits(), foreign, Trust(images=9), "bars")
    assert {name.partition(":")[0] for name in frame["measure"]} <= set(MEASURES)
    assert set(frame["group"]) <= set(GROUPS)


def test_every_measure_has_group_direction_and_no_reason_where_it_is_a_number():
    foreign = Foreign("other", splits(seed=3, size=10, channels=3))
    frame = trust(rows_model(), splits(), foreign, QUICK, "bars")
    assert tuple(frame) == measure.COLUMNS
    assert not frame["measure"].duplicated().any()
    assert frame["value"].notna().all()
    assert set(frame["reason"]) == {""}
    counts = frame["group"].value_counts().to_dict()
    assert counts == {
        "accuracy": 2,
        "calibration": 3,
        "out-of-distribution": 6,
        "adversarial": 2,
        "corruption": 3,
    }
    lower = {"nll", "brier", "ece"} | {f"ood-{d}-fpr95:other" for d in ("msp", "energy", "knn")}
    assert set(frame.loc[frame["direction"] == "lower", "measure"]) == lower


def test_a_model_whose_output_is_not_finite_has_no_number_and_a_reason():
    weights = torch.full((3, 64), torch.nan)
    frame = trust(Linear(weights), splits(), Foreign("other", splits(seed=3)), QUICK, "bars")
    assert frame["value"].isna().all()
    assert set(frame["reason"]) == {measure.NOT_FINITE}


# --- the stage


def store(tmp_path, monkeypatch, status):
    """Put a model with a status where the stage finds it."""
    monkeypatch.setattr(classifier, "load", lambda path, device: rows_model())
    monkeypatch.setattr(classifier, "status", lambda path: status)
    storage.write_tensors(tmp_path / "model.safetensors", {"weights": np.zeros(1)})
    splits().write(tmp_path / "data.safetensors")
    splits(seed=3).write(tmp_path / "other.safetensors")


def run_stage(tmp_path, recipe=QUICK, ood=None):
    stage.trust_run(
        tmp_path / "model.safetensors",
        tmp_path / "data.safetensors",
        ood,
        tmp_path / "trust.parquet",
        Run("bars", "triplet", 0),
        recipe=recipe,
        code="code",
        costs=tmp_path / "costs.json",
        device="cpu",
    )
    path = tmp_path / "trust.parquet"
    return storage.read_table(path), storage.read_table_metadata(path), path.read_bytes()


def test_the_stage_writes_the_same_bytes_again(tmp_path, monkeypatch):
    store(tmp_path, monkeypatch, {"status": "ok", "epoch": 3, "reason": ""})
    frame, metadata, written = run_stage(tmp_path)
    assert frame.equals(trust(rows_model(), splits(), None, QUICK, "bars"))
    assert metadata["status"] == "ok"
    assert run_stage(tmp_path)[2] == written
    made = (tmp_path / "trust.parquet").stat().st_ino
    run_stage(tmp_path)
    assert (tmp_path / "trust.parquet").stat().st_ino == made, "left as it is"
    (tmp_path / "trust.parquet").unlink()
    assert run_stage(tmp_path)[2] == written


def test_a_run_that_failed_has_a_table_without_numbers_that_says_why(tmp_path, monkeypatch):
    store(tmp_path, monkeypatch, {"status": "diverged", "epoch": 3, "reason": "the loss is nan"})
    frame, metadata, _ = run_stage(tmp_path)
    assert len(frame) == 0
    assert tuple(frame) == measure.COLUMNS
    told = {key: metadata[key] for key in ("status", "epoch", "reason")}
    assert told == {"status": "diverged", "epoch": "3", "reason": "the loss is nan"}


def test_the_other_dataset_is_named_by_the_recipe_and_given_as_a_file(tmp_path, monkeypatch):
    store(tmp_path, monkeypatch, {"status": "ok", "epoch": 3, "reason": ""})
    recipe = QUICK.model_copy(update={"out_of_distribution": {"bars": "others"}})
    frame, _, _ = run_stage(tmp_path, recipe, tmp_path / "other.safetensors")
    assert "ood-msp-auroc:others" in set(frame["measure"])
    with pytest.raises(ValueError, match="'others'"):
        run_stage(tmp_path, recipe)
    with pytest.raises(ValueError, match="None"):
        run_stage(tmp_path, QUICK, tmp_path / "other.safetensors")


def test_a_real_classifier_is_measured_as_it_is_stored(tmp_path):
    torch.manual_seed(0)
    model = classifier.Classifier(classifier.Shape({"name": "convnet"}, 1, 28, 3))
    classifier.save(model, tmp_path / "model.safetensors")
    data = splits(size=28)
    data.write(tmp_path / "data.safetensors")
    frame, _, _ = run_stage(tmp_path)
    model.eval().requires_grad_(False)
    images = torch.from_numpy(data.test_images).float() / 255
    right = model(images).argmax(1).numpy() == data.test_labels
    assert values(frame)["accuracy"] == pytest.approx(right.mean())
    assert frame["value"].notna().all()


# --- the recipe


def test_the_defaults_measure_every_corruption_at_every_severity():
    assert set(Trust().corruptions) == set(STRENGTHS)
    assert Trust().severities == [1, 2, 3, 4, 5]
    assert Trust(**Trust().plain()) == Trust()


def test_a_run_depends_on_its_own_dataset_alone():
    recipe = Trust(**{"out-of-distribution": {"digits": "scenes", "scenes": "digits"}})
    assert recipe.part("digits")["out-of-distribution"] == {"digits": "scenes"}
    assert recipe.part("more")["out-of-distribution"] == {}
    assert Trust(**recipe.part("digits")).images == recipe.images


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"digts": "scenes"}, "trust.out-of-distribution: found 'digts'; did you mean 'digits'?"),
        ({"digits": "scene"}, "trust.out-of-distribution.digits: found 'scene'; did you mean"),
        ({"digits": "digits"}, "trust.out-of-distribution.digits: found 'digits', wanted another"),
    ],
)
def test_a_dataset_that_is_not_there_is_named_with_the_nearest(mapping, said):
    (problem,) = Trust(**{"out-of-distribution": mapping}).problems(["digits", "scenes"])
    assert said in problem


def test_what_is_listed_twice_is_a_problem():
    (problem,) = Trust(radii=[0.1, 0.1]).problems([])
    assert problem == "trust.radii: found [0.1, 0.1], wanted each once"


@pytest.mark.parametrize(
    "wrong", [{"radii": [2.0]}, {"severities": [6]}, {"corruptions": ["fog"]}, {"image": 3}]
)
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Trust(**wrong)
