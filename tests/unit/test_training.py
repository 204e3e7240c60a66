"""Promises of training: runs of one seed differ in the loss alone, repeat, and are calibrated."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from clarity import storage
from clarity.data.augment import _grey, augment
from clarity.data.protocol import Augment, Training
from clarity.data.sets import Splits
from clarity.losses.build import TrainingLoss
from clarity.losses.recipe import LossRecipe
from clarity.models import classifier
from clarity.models.classifier import HEADS, Classifier, Shape
from clarity.models.encoders import MeanNorm
from clarity.training import heads
from clarity.training.batches import Parts, Subset, epoch_batches, part, plan
from clarity.training.fit import train
from clarity.training.heads import calibrate, embed, fit_probe, predict, set_heads, set_prototypes
from clarity.training.optimisation import build_optimizer, build_schedule

CPU = torch.device("cpu")
LOSSES = {
    "cross-entropy": {"loss": "cross-entropy"},
    "triplet": {"loss": "TripletMarginLoss", "margin": 0.2, "miner": "BatchHardMiner"},
    "supcon": {"loss": "SupConLoss", "temperature": 0.1, "views": 2},
    "proxy-anchor": {"loss": "ProxyAnchorLoss"},
    "simclr": {"loss": "NTXentLoss", "temperature": 0.5, "views": 2, "self-supervised": True},
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
    recipe = LOSSES[loss] if isinstance(loss, str) else loss
    training = Training(**{**PLAN, **plan})
    return train(
        part(digits.train_images, digits.train_labels, training, "digits"),
        10,
        training,
        LossRecipe(**recipe),
        dataset="digits",
        seed=seed,
        device=CPU,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_real_digits_with_every_head(digits, loss):
    trained = run(digits, loss)
    assert trained.status.ok
    assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]
    test_classes = np.stack([digits.test_labels, np.full(597, -1)], axis=1)
    embeddings = embed(trained.model, digits.test_images, CPU)
    correct = predict(trained.model, embeddings, test_classes, "test").filter(like="correct")
    assert list(correct) == [
        "correct",
        *(f"correct_{head.replace('-', '_')}" for head in HEADS[1:]),
    ]
    assert correct.mean().min() > (0.5 if loss == "simclr" else 0.9)


def test_the_same_axes_give_the_same_weights_and_another_seed_others(digits):
    # Triplets are drawn at random from torch's global state.
    drawing = {"loss": "TripletMarginLoss", "triplets_per_anchor": 5}
    for loss in ("supcon", drawing):
        first = run(digits, loss, epochs=1)
        torch.manual_seed(99)  # the surroundings must not matter
        again, other = run(digits, loss, epochs=1), run(digits, loss, seed=1, epochs=1)
        state = first.model.state_dict()
        for name, value in again.model.state_dict().items():
            assert torch.equal(value, state[name]), name
        assert first.history.equals(again.history)
        assert not torch.equal(other.model.head.weight, first.model.head.weight)


def watch_batches(monkeypatch, digits, loss, **more):
    """Return the images and the first weights of each step of a run."""
    batches = []

    def watch(model, images, embed=Classifier.embed):
        if model.training:
            weights = next(model.encoder.parameters()).detach().clone()
            batches.append((images.clone(), weights))
        return embed(model, images)

    monkeypatch.setattr(Classifier, "embed", watch)
    run(digits, loss, epochs=2, augment={"shift": 2, "brightness": 0.2}, **more)
    monkeypatch.undo()
    return batches


def test_losses_of_one_seed_start_from_one_encoder_and_see_one_order_of_images(digits, monkeypatch):
    seen = {
        loss: watch_batches(monkeypatch, digits, loss, budget="epochs")
        for loss in ("cross-entropy", "triplet", "supcon")
    }
    for loss in ("triplet", "supcon"):
        assert torch.equal(seen[loss][0][1], seen["cross-entropy"][0][1])
        assert len(seen[loss]) == len(seen["cross-entropy"]) > 20
        for mine, theirs in zip(seen[loss], seen["cross-entropy"], strict=True):
            assert torch.equal(mine[0][: len(theirs[0])], theirs[0])


def test_all_losses_see_as_many_images_in_as_many_steps_whatever_their_views(digits, monkeypatch):
    one = watch_batches(monkeypatch, digits, "cross-entropy", **{"samples-per-class": None})
    two = watch_batches(monkeypatch, digits, "supcon", **{"samples-per-class": None})
    assert [len(images) for images, _ in one] == [len(images) for images, _ in two]
    # With two views the same images come in the same order, at half the speed.
    labels = torch.from_numpy(digits.train_labels[:1080])
    training = Training(**{**PLAN, "samples-per-class": None})
    plans = [plan(labels, training, v, torch.Generator().manual_seed(0)) for v in (1, 2)]
    slow, fast = (torch.cat(p.batches) for p in reversed(plans))
    assert torch.equal(slow, fast[: len(slow)])
    assert len(fast) == 2 * len(slow) == 10 * 1080
    by_epochs = plan(labels, training.model_copy(update={"budget": "epochs"}), 2, torch.Generator())
    assert len(torch.cat(by_epochs.batches)) == len(fast)


@pytest.mark.filterwarnings("default")
def test_a_loss_of_pairs_without_pairs_is_warned_of_by_name(digits):
    few = {"epochs": 1, "batch-size": 2, "samples-per-class": None}
    small = Splits(*(array[:60] for array in vars(digits).values()))
    with pytest.warns(
        UserWarning, match=r"datasets.digits: \d+ of 25 batches .* TripletMarginLoss"
    ):
        run(small, "triplet", validation=0.17, **few)
    for loss in ("proxy-anchor", "simclr"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(small, loss, validation=0.17, **{**few, "batch-size": 4})


def test_an_epoch_chosen_by_early_stopping_is_the_best_on_images_kept_for_that_alone(digits):
    stopped = run(digits, "cross-entropy", **{"epochs": 40, "early-stopping": {"patience": 2}})
    assert 3 <= len(stopped.history) < 40
    training = Training(**{**PLAN, "early-stopping": {"share": 0.2}})
    parts = part(digits.train_images, digits.train_labels, training, "digits")
    assert [len(s.labels) for s in (parts.fit, parts.calibration, parts.selection)] == [
        840,
        120,
        240,
    ]
    everything = np.concatenate([s.images for s in (parts.fit, parts.calibration, parts.selection)])
    unique = np.unique(everything.reshape(1200, -1), axis=0)
    assert len(unique) == len(np.unique(digits.train_images.reshape(1200, -1), axis=0))


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
    numbered = np.arange(1200, dtype=np.uint16).reshape(-1, 1, 1, 1)
    parts = part(numbered, digits.train_labels, Training(), "digits")
    assert parts.selection is None
    held_out = parts.calibration
    assert len(held_out.images) == 120
    together = np.concatenate([parts.fit.images, held_out.images])
    assert sorted(together.ravel()) == list(range(1200))
    shares = np.bincount(held_out.labels) / np.bincount(digits.train_labels)
    np.testing.assert_allclose(shares, 0.1, atol=0.02)
    again = part(numbered, digits.train_labels, Training(), "digits")
    np.testing.assert_array_equal(again.calibration.images, held_out.images)


CONVNET = {"name": "convnet"}


@pytest.fixture(scope="module")
def untrained(digits):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Classifier(Shape(CONVNET, 1, 16, 10)).eval()
    return model, Subset(digits.train_images, digits.train_labels)


def inputs_of_heads(model, subset):
    """Return the embeddings of a subset and its labels."""
    return embed(model, subset.images, CPU), torch.from_numpy(subset.labels)


def test_the_probe_on_raw_features_is_the_logistic_regression_on_scaled_ones(untrained):
    model, fit = untrained
    fit_probe(model.head, *inputs_of_heads(model, fit))
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
    two = Classifier(Shape(CONVNET, 1, 16, 2)).eval()
    two.encoder.load_state_dict(model.encoder.state_dict())
    rows = fit.labels < 2
    subset = Subset(fit.images[rows], fit.labels[rows])
    fit_probe(two.head, *inputs_of_heads(two, subset))
    features = embed(two, subset.images, CPU)
    found = two.head(features).detach().softmax(1)[:, 1].numpy()
    double = features.double()
    scaled = ((double - double.mean(0)) / double.std(0, correction=0)).numpy()
    reference = LogisticRegression(tol=1e-6, max_iter=5000).fit(scaled, subset.labels)
    np.testing.assert_allclose(found, reference.predict_proba(scaled)[:, 1], atol=1e-3)


def test_prototypes_point_to_the_class_means_of_normalised_embeddings(untrained):
    model, fit = untrained
    set_prototypes(model, *inputs_of_heads(model, fit))
    embeddings = F.normalize(embed(model, fit.images, CPU), dim=1).numpy()
    means = np.stack([embeddings[fit.labels == label].mean(axis=0) for label in range(10)])
    for label in range(10):
        expected = means[label] / np.linalg.norm(means[label])
        np.testing.assert_allclose(model.prototypes[label], expected, rtol=1e-4, atol=1e-6)
        centred = embeddings[fit.labels == label] - means.mean(axis=0)
        centred = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).mean(axis=0)
        expected = centred / np.linalg.norm(centred)
        np.testing.assert_allclose(model.prototypes_centred[label], expected, rtol=1e-3, atol=1e-5)


def test_the_nearest_neighbours_vote_as_in_the_paper(untrained, digits):
    model, fit = untrained
    parts = Parts(fit, fit, None)
    set_heads(model, parts, False, "digits", CPU)
    model.temperatures.fill_(1.0)
    images = digits.test_images[:20]
    queries = F.normalize(embed(model, images, CPU), dim=1).double().numpy()
    bank = F.normalize(embed(model, fit.images, CPU), dim=1).double().numpy()
    found = model.scores(embed(model, images, CPU), "knn").detach().numpy()
    for row, query in enumerate(queries):
        cosines = bank @ query
        nearest = np.argsort(-cosines)[:20]
        votes = np.zeros(10)
        np.add.at(votes, fit.labels[nearest], np.exp(cosines[nearest] / 0.07))
        share = votes / votes.sum()
        np.testing.assert_allclose(found[row], np.log(share + 1e-6), rtol=1e-2, atol=1e-2)


def test_the_neighbours_that_are_kept_are_as_many_of_each_class(untrained, monkeypatch):
    model, fit = untrained
    monkeypatch.setattr(heads, "MOST_REFERENCES", 100)
    set_heads(model, Parts(fit, fit, None), False, "digits", CPU)
    assert model.reference_labels.bincount().tolist() == [10] * 10
    lengths = model.references.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(100))


def test_the_linear_head_is_a_probe_unless_the_loss_trained_it(untrained):
    fit = untrained[1]
    for normalise in (False, True):
        shape = Shape(CONVNET, 1, 16, 10, normalise)
        fresh = Classifier(shape).eval()
        before = fresh.head.weight.detach().clone()
        set_heads(fresh, Parts(fit, fit, None), True, "digits", CPU)
        assert torch.equal(fresh.head.weight, before)
        set_heads(fresh, Parts(fit, fit, None), False, "digits", CPU)
        x = embed(fresh, fit.images[:30], CPU)
        same = "probe-normalised" if normalise else "probe"
        torch.testing.assert_close(
            fresh.scores(x, "linear"), fresh.scores(x, same), rtol=1e-3, atol=1e-2
        )
        if normalise:
            torch.testing.assert_close(
                fresh.scores(3 * x, "linear"), fresh.scores(x, "linear"), rtol=1e-3, atol=1e-2
            )


def test_calibration_undoes_any_scale_of_the_logits(untrained):
    model, fit = untrained
    set_heads(model, Parts(fit, fit, None), False, "digits", CPU)
    before = model(torch.from_numpy(fit.images[:50]).float() / 255)
    temperature = float(model.temperatures[0])
    with torch.no_grad():
        model.head.weight *= 7
        model.head.bias *= 7
    calibrate(model, *inputs_of_heads(model, fit))
    assert float(model.temperatures[0]) == pytest.approx(7 * temperature, rel=1e-3)
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
    model.temperatures.fill_(1.0)
    classes = np.array([[1, -1], [2, -1], [1, 2], [2, 1], [1, 3]])
    found = predict(model, torch.zeros(5, model.encoder.dimension), classes, "evaluation")
    assert found["predicted"].tolist() == [1] * 5
    assert found["runner_up"].tolist() == [2, 1, 2, 1, 2]
    assert found["correct"].tolist() == [True, False, True, True, False]


class Exploding(torch.nn.Module):
    """A loss that is a million times as large from the second epoch on."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def forward(self, embeddings, labels, indices_tuple=None):
        self.steps += 1
        return (1.0 if self.steps < 30 else 1e6) * (1 + embeddings.square().mean() * 1e-12)


class Collapsing(torch.nn.Module):
    """A loss that is least where all embeddings are one point."""

    def forward(self, embeddings, labels, indices_tuple=None):
        unit = torch.nn.functional.normalize(embeddings, dim=1)
        return 10 * (1 - unit[:, 0]).mean()


@pytest.mark.parametrize(
    ("loss", "rate", "status", "reason"),
    [
        ("cross-entropy", 1e30, "diverged", "the loss is"),
        ({"loss": "test_training:Exploding"}, 1e-3, "diverged", "the loss exploded to"),
        ({"loss": "test_training:Collapsing"}, 0.03, "collapsed", "point in one direction"),
    ],
)
def test_a_run_that_fails_is_no_error_but_a_status_with_the_epoch(
    digits, monkeypatch, loss, rate, status, reason
):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    trained = run(digits, loss, **{"learning-rate": rate, "epochs": 12})
    assert trained.status.status == status
    assert not trained.status.ok
    assert reason in trained.status.reason
    epochs = len(trained.history)
    if status == "diverged":
        assert trained.status.epoch == epochs < 12
    else:
        assert 1 <= trained.status.epoch <= epochs == 12
        spread = trained.history.set_index("epoch")["spread"]
        assert (spread.loc[trained.status.epoch :] < 1e-4).all()
        assert (spread.loc[: trained.status.epoch - 1].tail(1) >= 1e-4).all()


def test_a_classifier_comes_back_from_its_file_as_it_was(untrained, tmp_path, digits):
    model, fit = untrained
    set_heads(model, Parts(fit, fit, None), False, "digits", CPU)
    loss = TrainingLoss(LossRecipe(loss="ProxyAnchorLoss", projection={"size": 4}), 10, 64)
    file = tmp_path / "model.safetensors"
    ended = {"status": "collapsed", "epoch": 3, "reason": "a point"}
    classifier.save(model, file, loss=loss, status=ended)
    loaded = classifier.load(file, CPU)
    images = torch.from_numpy(digits.test_images[:9]).float() / 255
    for head in HEADS:
        embeddings = model.embed(images)
        assert torch.equal(
            loaded.scores(loaded.embed(images), head), model.scores(embeddings, head)
        )
    assert not any(weights.requires_grad for weights in loaded.parameters())
    assert classifier.status(file) == ended
    # The weights of the loss are in the file, and in no way of the classifier.
    kept = storage.read_tensors(file)[0]
    np.testing.assert_array_equal(
        kept["loss.terms.0.loss.proxies"], loss.terms[0].loss.proxies.detach()
    )
    assert kept["loss.projection.0.weight"].shape == (64, 64)


class TestOptimisation:
    def course(self, steps=100, **keys):
        training = Training(**{"learning-rate": 0.5, **keys})
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        schedule = build_schedule(optimizer, training, steps)
        rates = []
        for _ in range(steps):
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return np.array(rates)

    def test_one_cycle_is_torchs_own(self):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        reference = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            0.5,
            total_steps=101,
            pct_start=26 / 101,
            div_factor=10,
            final_div_factor=1000,
            cycle_momentum=False,
        )
        expected = []
        for _ in range(100):
            expected.append(reference.get_last_lr()[0])
            optimizer.step()
            reference.step()
        np.testing.assert_allclose(self.course(**{"warm-up": 0.25}), expected, rtol=1e-6)

    def test_a_cosine_follows_its_warm_up_and_ends_near_zero(self):
        rates = self.course(schedule="cosine", **{"warm-up": 0.1})
        assert np.argmax(rates) == 10
        np.testing.assert_allclose(rates[:10], 0.5 * np.arange(1, 11) / 11)
        np.testing.assert_allclose(rates[55], 0.25, rtol=0.03)
        assert rates[-1] < 0.001

    def test_a_line_and_a_constant(self):
        line = self.course(schedule="linear", **{"warm-up": 0.0})
        np.testing.assert_allclose(np.diff(line), -0.005)
        assert set(self.course(schedule="constant", **{"warm-up": 0.0})) == {0.5}

    @pytest.mark.parametrize("name", ["adamw", "adam", "radam", "sgd", "lars"])
    def test_every_optimiser_learns_and_weights_of_the_loss_have_a_group(self, digits, name):
        rate = {"sgd": 0.05, "lars": 2.0}.get(name, 0.01)
        trained = run(
            digits, "proxy-anchor", optimizer=name, **{"epochs": 3, "learning-rate": rate}
        )
        assert trained.history["loss"].iloc[-1] < trained.history["loss"].iloc[0]
        recipe = LossRecipe(loss="ProxyAnchorLoss", projection={"size": 8})
        loss = TrainingLoss(recipe, 10, 64)
        training = Training(optimizer=name, **{"learning-rate": 0.003})
        network, own = build_optimizer(trained.model, loss, training, recipe).param_groups
        assert own["params"] == [loss.terms[0].loss.proxies]
        assert own["lr"] == 0.01
        assert network["lr"] == 0.003
        assert any(p is loss.projection[0].weight for p in network["params"])
        faster = recipe.model_copy(update={"weights_learning_rate": 0.2})
        assert build_optimizer(trained.model, loss, training, faster).param_groups[1]["lr"] == 0.2


def test_half_precision_and_given_normalisation_are_taken(digits):
    given = {"mean": [0.25], "std": [0.5]}
    trained = run(digits, "triplet", precision="bfloat16", normalisation=given, epochs=3)
    assert float(trained.model.mean) == 0.25
    assert float(trained.model.std) == 0.5
    assert trained.history["validation_accuracy"].iloc[-1] > 0.6
    with pytest.raises(ValueError, match="found 2 means and 2 deviations, wanted 1"):
        run(digits, "triplet", normalisation={"mean": [0.2, 0.3], "std": [1.0, 1.0]})


def test_computed_normalisation_is_that_of_the_images_learnt_from(digits):
    trained = run(digits, "cross-entropy", epochs=1)
    parts = part(digits.train_images, digits.train_labels, Training(), "digits")
    pixels = parts.fit.images / 255
    assert float(trained.model.mean) == pytest.approx(pixels.mean(), rel=1e-5)
    assert float(trained.model.std) == pytest.approx(pixels.std(), rel=1e-5)


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

    def test_contrast_and_saturation_keep_what_they_turn_around(self):
        found = self.draw(contrast=0.3)
        inside = ((found > 0) & (found < 1)).all(1).all(1).all(1)
        middle = _grey(self.images).mean((1, 2, 3))
        torch.testing.assert_close(_grey(found).mean((1, 2, 3))[inside], middle[inside])
        found = self.draw(saturation=0.3)
        inside = ((found > 0) & (found < 1)).all(1)
        assert inside.float().mean() > 0.5
        grey = _grey(self.images)[:, 0]
        torch.testing.assert_close(_grey(found)[:, 0][inside], grey[inside], atol=1e-5, rtol=0)

    def test_a_hue_turn_keeps_grey_values_and_grey_images(self):
        pale = 0.4 + 0.2 * self.images
        found = augment(pale, Augment(hue=0.5), torch.Generator().manual_seed(0))
        torch.testing.assert_close(_grey(found), _grey(pale), atol=1e-4, rtol=0)
        assert (found - pale).abs().amax((1, 2, 3)).gt(0.01).float().mean() > 0.9
        same = pale.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        turned = augment(same, Augment(hue=0.5), torch.Generator().manual_seed(0))
        torch.testing.assert_close(turned, same.contiguous(), atol=1e-5, rtol=0)

    def test_a_share_of_images_is_grey_or_keeps_its_colours(self):
        grey = self.draw(grey=0.5)
        is_grey = (grey - grey.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-6
        assert 15 <= is_grey.sum() <= 35
        kept = (self.draw(brightness=0.5, jitter=0.4) == self.images).flatten(1).all(1)
        assert 20 <= kept.sum() <= 40

    def test_a_crop_is_a_part_of_the_image_enlarged(self):
        ramp = torch.linspace(0, 1, 12)
        images = torch.stack([ramp.expand(12, 12), ramp[:, None].expand(12, 12)]).expand(
            40, -1, -1, -1
        )
        found = augment(images.contiguous(), Augment(crop=0.25), torch.Generator().manual_seed(1))
        # On a ramp, a crop is a flatter ramp: its slope is the share of the side that is kept.
        width = (found[:, 0, :, 9] - found[:, 0, :, 2]).mean(1) / (ramp[9] - ramp[2])
        height = (found[:, 1, 9] - found[:, 1, 2]).mean(1) / (ramp[9] - ramp[2])
        area = width * height
        assert area.min() > 0.24
        assert area.max() <= 1.01
        assert area.std() > 0.1
        aspect = width / height
        assert aspect.min() > 0.7
        assert aspect.max() < 1.4
        assert found[:, 0].std(dim=1).max() < 1e-5  # nothing is turned or sheared

    def test_the_draw_is_the_generators_alone(self):
        assert torch.equal(self.draw(seed=5, shift=2), self.draw(seed=5, shift=2))
        assert not torch.equal(self.draw(seed=5, shift=2), self.draw(seed=6, shift=2))
