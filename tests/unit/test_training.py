"""Promises of training: runs of one seed differ in the loss alone, repeat, and are calibrated."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from clarity.data.augment import augment
from clarity.data.protocol import Augment, Training
from clarity.data.sets import Splits
from clarity.losses.recipe import LossRecipe
from clarity.models import classifier
from clarity.models.classifier import Classifier, Shape
from clarity.models.encoders import MeanNorm
from clarity.training import (
    Subset,
    calibrate,
    embed,
    epoch_batches,
    fit_probe,
    predict,
    set_prototypes,
    split_validation,
    train,
)

CPU = torch.device("cpu")
LOSSES = {
    "cross-entropy": {"loss": "cross-entropy"},
    "triplet": {"loss": "TripletMarginLoss", "margin": 0.2, "miner": "BatchHardMiner"},
    "supcon": {"loss": "SupConLoss", "temperature": 0.1, "views": 2},
    "proxy-anchor": {"loss": "ProxyAnchorLoss"},
}
PLAN = {"epochs": 10, "batch-size": 60, "samples-per-class": 6, "learning-rate": 0.01}


@pytest.fixture(scope="module")
def digits() -> Splits:
    """The 1,797 real 8x8 digits of scikit-learn, enlarged to 16x16."""
    bunch = load_digits()
    images = np.round(bunch.images * 255 / 16).astype(np.uint8).repeat(2, 1).repeat(2, 2)[:, None]
    labels = bunch.target.astype(np.int64)
    names = tuple("0123456789")
    return Splits(images[:1200], labels[:1200], images[1200:], labels[1200:], names)


def run(digits, loss, seed=0, **plan):
    fit, held_out = split_validation(digits, 0.1, "digits")
    return train(
        fit,
        held_out,
        10,
        Training(**{**PLAN, **plan}),
        LossRecipe(**LOSSES[loss]),
        dataset="digits",
        seed=seed,
        device=CPU,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_real_digits_with_both_heads(digits, loss):
    model, history = run(digits, loss)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    test_classes = np.stack([digits.test_labels, np.full(597, -1)], axis=1)
    predictions = predict(model, embed(model, digits.test_images, CPU), test_classes, "test")
    assert predictions["correct"].mean() > 0.9
    assert predictions["correct_prototype"].mean() > 0.9


def test_the_same_axes_give_the_same_weights_and_another_seed_others(digits):
    first, history = run(digits, "supcon", epochs=1)
    torch.manual_seed(99)  # the surroundings must not matter
    again, history_again = run(digits, "supcon", epochs=1)
    other, _ = run(digits, "supcon", seed=1, epochs=1)
    state = first.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert history.equals(history_again)
    assert not torch.equal(other.head.weight, first.head.weight)


def test_losses_of_one_seed_start_from_one_encoder_and_see_one_order_of_images(digits, monkeypatch):
    seen = {}
    for loss in ("cross-entropy", "triplet", "supcon"):
        batches = seen[loss] = []

        def watch(model, images, batches=batches, embed=Classifier.embed):
            if model.training:
                weights = model.encoder.features[0].weight.detach().clone()
                batches.append((images[:60].clone(), weights))
            return embed(model, images)

        monkeypatch.setattr(Classifier, "embed", watch)
        run(digits, loss, epochs=1, augment={"shift": 2, "brightness": 0.2})
        monkeypatch.undo()
    for loss in ("triplet", "supcon"):
        assert torch.equal(seen[loss][0][1], seen["cross-entropy"][0][1])
        assert len(seen[loss]) == len(seen["cross-entropy"]) > 10
        for mine, theirs in zip(seen[loss], seen["cross-entropy"], strict=True):
            assert torch.equal(mine[0], theirs[0])


def test_batches_visit_an_image_at_most_once_and_hold_whole_groups_of_a_class():
    labels = torch.arange(7).repeat_interleave(torch.tensor([20, 20, 20, 20, 20, 20, 5]))
    generator = torch.Generator().manual_seed(0)
    batches = list(epoch_batches(labels, 32, 4, generator))
    everything = torch.cat(batches)
    assert len(everything.unique()) == len(everything) == 96
    for batch in batches:
        assert len(batch) == 32
        assert (labels[batch].bincount() % 4 == 0).all()
    plain = list(epoch_batches(labels, 32, None, generator))
    assert [len(batch) for batch in plain] == [32, 32, 32]
    assert [len(b) for b in epoch_batches(labels, 500, None, generator)] == [125]
    with pytest.raises(ValueError, match="samples-per-class: found 30"):
        list(epoch_batches(labels, 60, 30, generator))


def test_the_held_out_images_are_no_training_images_and_the_same_for_all_seeds(digits):
    numbered = Splits(
        np.arange(1200, dtype=np.uint16).reshape(-1, 1, 1, 1),
        digits.train_labels,
        digits.test_images,
        digits.test_labels,
        digits.class_names,
    )
    fit, held_out = split_validation(numbered, 0.1, "digits")
    assert len(held_out.images) == 120
    assert sorted(np.concatenate([fit.images, held_out.images]).ravel()) == list(range(1200))
    shares = np.bincount(held_out.labels) / np.bincount(digits.train_labels)
    np.testing.assert_allclose(shares, 0.1, atol=0.02)
    again = split_validation(numbered, 0.1, "digits")[1]
    np.testing.assert_array_equal(again.images, held_out.images)


@pytest.fixture(scope="module")
def untrained(digits):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Classifier(Shape("convnet", 1, 10)).eval()
    return model, Subset(digits.train_images, digits.train_labels)


def test_the_probe_on_raw_features_is_the_logistic_regression_on_scaled_ones(untrained):
    model, fit = untrained
    fit_probe(model, fit, CPU)
    features = embed(model, fit.images, CPU).double()
    scaled = ((features - features.mean(0)) / features.std(0, correction=0)).numpy()
    reference = LogisticRegression(tol=1e-6, max_iter=5000).fit(scaled, fit.labels)
    expected = reference.decision_function(scaled)
    found = model.head(features.float()).detach().numpy()
    # Logits matter up to a constant an image.
    expected = expected - expected.mean(1, keepdims=True)
    np.testing.assert_allclose(found - found.mean(1, keepdims=True), expected, atol=2e-3)


def test_the_probe_of_two_classes_is_the_same_regression(untrained):
    model, fit = untrained
    two = Classifier(Shape("convnet", 1, 2)).eval()
    two.encoder.load_state_dict(model.encoder.state_dict())
    rows = fit.labels < 2
    subset = Subset(fit.images[rows], fit.labels[rows])
    fit_probe(two, subset, CPU)
    features = embed(two, subset.images, CPU)
    found = two.head(features).detach().softmax(1)[:, 1].numpy()
    double = features.double()
    scaled = ((double - double.mean(0)) / double.std(0, correction=0)).numpy()
    reference = LogisticRegression(tol=1e-6, max_iter=5000).fit(scaled, subset.labels)
    np.testing.assert_allclose(found, reference.predict_proba(scaled)[:, 1], atol=1e-3)


def test_prototypes_point_to_the_class_means_of_normalised_embeddings(untrained):
    model, fit = untrained
    set_prototypes(model, fit, CPU)
    embeddings = F.normalize(embed(model, fit.images, CPU), dim=1).numpy()
    for label in range(10):
        mean = embeddings[fit.labels == label].mean(axis=0)
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(model.prototypes[label], expected, rtol=1e-4, atol=1e-6)


def test_calibration_undoes_any_scale_of_the_logits(untrained):
    model, fit = untrained
    fit_probe(model, fit, CPU)
    set_prototypes(model, fit, CPU)
    calibrate(model, fit, CPU)
    before = model(torch.from_numpy(fit.images[:50]).float() / 255)
    temperature = float(model.temperature)
    with torch.no_grad():
        model.head.weight *= 7
        model.head.bias *= 7
    calibrate(model, fit, CPU)
    assert float(model.temperature) == pytest.approx(7 * temperature, rel=1e-3)
    after = model(torch.from_numpy(fit.images[:50]).float() / 255)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    # No temperature on a fine grid does better.
    scores = model.logits(embed(model, fit.images, CPU)).detach().double().numpy()

    def cross_entropy(factor):
        scaled = scores * factor
        return np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(scaled)), fit.labels])

    assert cross_entropy(1.0) <= min(map(cross_entropy, np.geomspace(0.5, 2, 201))) + 1e-7


def test_predictions_name_the_foil_and_count_a_scene_as_right_only_with_both_classes(untrained):
    model, _ = untrained
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.0, 5, 4, 3, 0, 0, 0, 0, 0, 0]))
    model.temperature.fill_(1.0)
    classes = np.array([[1, -1], [2, -1], [1, 2], [2, 1], [1, 3]])
    found = predict(model, torch.zeros(5, model.encoder.dimension), classes, "evaluation")
    assert found["predicted"].tolist() == [1] * 5
    assert found["runner_up"].tolist() == [2, 1, 2, 1, 2]
    assert found["correct"].tolist() == [True, False, True, True, False]


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_epoch(digits):
    with pytest.raises(FloatingPointError, match=r"in epoch 1: lower the learning rate"):
        run(digits, "cross-entropy", **{"learning-rate": 1e30})


def test_a_classifier_comes_back_from_its_file_as_it_was(untrained, tmp_path, digits):
    model, _ = untrained
    classifier.save(model, tmp_path / "model.safetensors")
    loaded = classifier.load(tmp_path / "model.safetensors", CPU)
    images = torch.from_numpy(digits.test_images[:9]).float() / 255
    assert torch.equal(loaded(images), model(images))
    assert not any(weights.requires_grad for weights in loaded.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_means_of_normalised_maps_are_the_batch_normalised_means(training):
    maps = torch.rand(16, 5, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, reference = MeanNorm(5).double(), torch.nn.BatchNorm1d(5).double()
    for norm in (ours, reference):
        with torch.no_grad():
            norm.weight.copy_(torch.arange(1, 6))
            norm.bias.copy_(torch.arange(5))
            norm.running_mean.fill_(0.3)
            norm.running_var.fill_(0.2)
        norm.train(training)
    given = maps.clone().requires_grad_(True), maps.clone().requires_grad_(True)
    found, expected = ours(given[0]).mean(dim=(2, 3)), reference(given[1].mean(dim=(2, 3)))
    torch.testing.assert_close(found, expected)
    for result in (found, expected):
        result.square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad)
    torch.testing.assert_close(ours.running_mean, reference.running_mean)
    torch.testing.assert_close(ours.running_var, reference.running_var)


class TestAugment:
    images = torch.rand(50, 3, 12, 12, generator=torch.Generator().manual_seed(0))

    def draw(self, seed=0, **recipe):
        return augment(self.images, Augment(**recipe), torch.Generator().manual_seed(seed))

    def test_nothing_asked_for_changes_nothing(self):
        assert torch.equal(self.draw(), self.images)

    def test_a_shift_moves_each_image_by_whole_pixels_and_repeats_the_border(self):
        found = self.draw(shift=2)
        moves = set()
        for before, after in zip(self.images, found, strict=True):
            hits = []
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    rows = (torch.arange(12) + dy).clamp(0, 11)
                    columns = (torch.arange(12) + dx).clamp(0, 11)
                    if torch.equal(before[:, rows][:, :, columns], after):
                        hits.append((dy, dx))
            assert len(hits) == 1
            moves.update(hits)
        assert len(moves) > 15

    def test_a_flip_mirrors_about_half_of_the_images(self):
        found = self.draw(flip=True)
        mirrored = (found == self.images.flip(3)).flatten(1).all(1)
        same = (found == self.images).flatten(1).all(1)
        assert (mirrored ^ same).all()
        assert 15 <= mirrored.sum() <= 35

    def test_brightness_scales_an_image_and_stays_in_range(self):
        found = self.draw(brightness=0.5)
        assert found.min() >= 0
        assert found.max() <= 1
        inside = found < 1
        ratio = torch.where(inside & (self.images > 0), found / self.images, torch.nan)
        spread = torch.nan_to_num(ratio - ratio.flatten(1).nanmedian(1).values[:, None, None, None])
        assert spread.abs().max() < 1e-4

    def test_the_draw_is_the_generators_alone(self):
        assert torch.equal(self.draw(seed=5, shift=2), self.draw(seed=5, shift=2))
        assert not torch.equal(self.draw(seed=5, shift=2), self.draw(seed=6, shift=2))
