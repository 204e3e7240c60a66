"""Promises of the target functions: each score is what its definition says, for every foil."""

import math

import pytest
import torch
from explained import CLASSES, NAMES, classifier, pictures
from torch.nn import functional as F

from clarity.attribution.recipe import FOILS, MethodRecipe
from clarity.attribution.targets import HEAD_OF, CorpusSimilarity, TargetFunction
from clarity.models.classifier import HEADS, VOTE_TEMPERATURE, Classifier

TARGETS = [*HEAD_OF, "knn", "similarity"]


@pytest.fixture(scope="module")
def model() -> Classifier:
    return classifier()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return pictures()


def test_the_logit_is_the_calibrated_score_of_the_linear_head(model, images):
    expected = model.head(model.embed(images)) / 0.5
    torch.testing.assert_close(TargetFunction(model)(images), expected)


def test_the_uncalibrated_logit_is_the_score_before_the_temperature(model, images):
    expected = model.head(model.embed(images))
    torch.testing.assert_close(TargetFunction(model, "logit-uncalibrated")(images), expected)
    torch.testing.assert_close(TargetFunction(model)(images), expected / 0.5)


def test_the_probe_on_raw_features_has_the_weights_that_were_fitted_to_directions(images):
    model = classifier()
    model.temperatures[HEADS.index("probe-normalised")] = 0.25
    embeddings = model.embed(images)
    weights, bias = model.probe_normalised.weight, model.probe_normalised.bias
    found = TargetFunction(model, "probe-normalised-on-raw")(images)
    torch.testing.assert_close(found, embeddings @ weights.T + bias)
    # Of an embedding of length 1 both are the same, but for the temperature.
    unit = F.normalize(embeddings, dim=1)
    raw = TargetFunction(model, "probe-normalised-on-raw").of_embeddings(unit)
    mended = TargetFunction(model, "probe-normalised").of_embeddings(embeddings)
    torch.testing.assert_close(raw, mended * 0.25)


def test_the_prototype_score_is_the_cosine_to_the_class_mean(model, images):
    cosine = F.cosine_similarity(model.embed(images)[:, None], model.prototypes[None], dim=2)
    torch.testing.assert_close(TargetFunction(model, "prototype")(images), cosine / 0.1)


def test_log_probabilities_are_those_of_the_calibrated_logits(model, images):
    probabilities = TargetFunction(model, "log-probability")(images).exp()
    torch.testing.assert_close(probabilities, model(images).softmax(dim=1))


def test_the_vote_of_neighbours_is_every_references_by_its_cosine(model, images):
    unit = F.normalize(model.embed(images), dim=1)
    expected = torch.zeros(len(images), CLASSES, dtype=torch.float64)
    for row, one in enumerate(unit):
        for reference, label in zip(model.references, model.reference_labels, strict=True):
            expected[row, label] += math.exp(float(one @ reference) / VOTE_TEMPERATURE)
    shares = expected / expected.sum(dim=1, keepdim=True)
    found = TargetFunction(model, "knn")(images).exp().double()
    torch.testing.assert_close(found, shares, rtol=1e-3, atol=1e-6)


def test_a_class_without_references_has_a_score_and_leaves_the_others_their_gradients(images):
    model = classifier()
    kept = model.reference_labels != 4
    model.set_references(model.references[kept], model.reference_labels[kept])
    leaf = images.clone().requires_grad_(True)
    scores = TargetFunction(model, "knn")(leaf)
    assert torch.isfinite(scores).all()
    assert (scores[:, 4] < scores[:, :4].min(dim=1).values).all()
    gradient = torch.autograd.grad(scores[:, 1].sum(), leaf)[0]
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


def test_similarity_is_the_mean_cosine_to_the_references_of_the_class(model, images):
    unit = F.normalize(model.embed(images), dim=1)
    cosines = unit @ model.references.T
    expected = torch.stack(
        [cosines[:, model.reference_labels == label].mean(dim=1) for label in range(CLASSES)], dim=1
    )
    torch.testing.assert_close(TargetFunction(model, "similarity")(images), expected / 0.1)


@pytest.mark.parametrize("target", TARGETS)
def test_a_foil_is_what_is_subtracted(target, model, images):
    scores = TargetFunction(model, target)(images)
    for row, label in ((0, 0), (3, 2), (5, 4)):
        own = scores[row, label]
        others = torch.cat([scores[row, :label], scores[row, label + 1 :]])
        expected = {
            "runner-up": own - others.max(),
            "others": own - others.mean(),
            "softmax": own - (others.softmax(dim=0) * others).sum(),
            "class:c": own - scores[row, NAMES.index("c")],
        }
        assert expected.keys() >= set(FOILS)
        for foil, value in expected.items():
            found = TargetFunction(model, target, foil, NAMES)(images)[row, label]
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_scores_come_from_the_last_maps_and_lengths_held_constant_change_gradients_alone(
    target, model, images
):
    score = TargetFunction(model, target, "others")
    maps = model.encoder.maps(model.encoder.trunk(score.normalised(images)))
    torch.testing.assert_close(score.of_maps(maps), score(images))
    torch.testing.assert_close(score.of_maps(maps, fixed_length=True), score(images))


def test_a_cosine_of_constant_length_is_shared_out_without_a_remainder(model, images):
    # z . dg/dz is g where g is linear, and 0 for a true cosine (Euler's theorem).
    embeddings = model.embed(images).requires_grad_(True)
    score = TargetFunction(model, "prototype")
    for fixed, expected in ((True, score(images)[:, 1]), (False, torch.zeros(len(images)))):
        scores = score.of_embeddings(embeddings, fixed_length=fixed)[:, 1]
        gradient = torch.autograd.grad(scores.sum(), embeddings)[0]
        torch.testing.assert_close(
            (gradient * embeddings).sum(dim=1).detach(), expected, rtol=1e-4, atol=1e-4
        )


def test_the_softmax_foil_has_the_gradient_of_weights_held_constant(model, images):
    # Wang and Wang, 2022: dg_c/dz = w_c - sum over others of a_s w_s.
    embeddings = model.embed(images).requires_grad_(True)
    scores = TargetFunction(model, "logit", "softmax").of_embeddings(embeddings)[:, 2]
    found = torch.autograd.grad(scores.sum(), embeddings)[0]
    logits = model.logits(embeddings).detach()
    weights = model.head.weight / 0.5
    rivals = torch.tensor([0, 1, 3, 4])
    expected = weights[2] - logits[:, rivals].softmax(dim=1) @ weights[rivals]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_encoder_without_classes_is_explained_by_its_similarity_to_images(model, images):
    def normalise(pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - model.mean) / model.std

    corpora, foil = [images[:1], images[1:4]], images[4:]
    score = CorpusSimilarity(model.encoder, corpora, foil, normalise=normalise)
    unit = F.normalize(model.embed(images), dim=1)
    far = (unit @ unit[4:].T).mean(dim=1)
    expected = torch.stack(
        [(unit @ unit[:1].T).mean(dim=1) - far, (unit @ unit[1:4].T).mean(dim=1) - far], dim=1
    )
    torch.testing.assert_close(score(images), expected)
    assert score.layer is model.encoder.cam_layer


def test_contrast_is_short_for_the_logit_with_the_runner_up():
    short = MethodRecipe(method="Saliency", target="contrast")
    assert short == MethodRecipe(method="Saliency", target="logit", foil="runner-up")
    others = MethodRecipe(method="Saliency", target="contrast", foil="others")
    assert (others.target, others.foil) == ("logit", "others")


def test_an_unknown_foil_is_refused_with_what_there_is(model):
    with pytest.raises(ValueError, match="did you mean 'others'"):
        MethodRecipe(method="Saliency", foil="other")
    with pytest.raises(ValueError, match=r"no class 'cat'\. There are: a, b"):
        TargetFunction(model, "logit", "class:cat", ["a", "b"])
