"""Promises of attribution: the right scores are explained, maps are right and repeatable."""

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clarity.attribution.controls import RandomMap, SobelMap
from clarity.attribution.methods import Explainer, MethodUnavailable
from clarity.attribution.recipe import MethodRecipe
from clarity.attribution.targets import TargetFunction
from clarity.models.classifier import HEADS, Classifier, Shape

CLASSES = 5
METHODS = {
    "saliency": {"method": "Saliency", "abs": False},
    "integrated-gradients": {"method": "IntegratedGradients", "n_steps": 8, "baseline": "black"},
    "gradcam": {"method": "LayerGradCam"},
    "gradcam-prototype": {"method": "LayerGradCam", "target": "prototype"},
    "saliency-contrast": {"method": "Saliency", "abs": False, "target": "contrast"},
    "random": {"method": "RandomMap"},
    "sobel": {"method": "SobelMap"},
}


@pytest.fixture(scope="module")
def model() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(Shape({"name": "convnet"}, 3, 16, CLASSES))
        model.mean.fill_(0.4)
        model.std.fill_(0.3)
        model.prototypes.copy_(F.normalize(torch.randn_like(model.prototypes), dim=1))
        model.temperatures[HEADS.index("linear")] = 0.5
        model.temperatures[HEADS.index("prototype")] = 0.1
        # Statistics of batch normalisation as training leaves them, not those of a new network.
        model.train()
        model(torch.rand(64, 3, 32, 32))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def classes() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_its_own_image_and_class_alone(name, model, images, classes):
    explain = Explainer(MethodRecipe(**METHODS[name]), model)
    together = explain(images, classes)
    assert together.shape == (6, 32, 32)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(explain(images[order], classes[order]), together[order])
    alone = torch.cat([explain(images[i : i + 1], classes[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)
    assert torch.equal(explain(images, classes), together)


@pytest.mark.parametrize("name", METHODS)
def test_explaining_leaves_the_images_and_the_model_as_they_were(name, model, images, classes):
    before = images.clone(), {k: v.clone() for k, v in model.state_dict().items()}
    Explainer(MethodRecipe(**METHODS[name]), model)(images, classes)
    assert torch.equal(images, before[0])
    assert not images.requires_grad
    assert all(torch.equal(v, before[1][k]) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not model.training


def test_grad_cam_is_the_gradient_weighted_sum_of_the_last_feature_maps(model, images, classes):
    # Selvaraju et al., 2017, equations 1 and 2 without the ReLU, by hand.
    maps = torch.nn.Sequential(model.encoder.trunk, model.encoder.maps)
    features = maps((images - model.mean) / model.std).requires_grad_(True)
    logits = model.logits(features.mean(dim=(2, 3)))
    gradient = torch.autograd.grad(logits[torch.arange(6), classes].sum(), features)[0]
    coarse = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True)
    expected = F.interpolate(coarse, size=(32, 32), mode="bilinear", align_corners=False)[:, 0]
    found = Explainer(MethodRecipe(method="LayerGradCam"), model)(images, classes)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)
    assert (found < 0).any()


def test_grad_cam_of_the_logit_sums_to_the_logit_without_its_bias(model, images, classes):
    # The embedding is the mean of the feature maps, so with a = dg/dF summed over space, the sum of
    # the coarse map is a.h, which is w.h for a linear head and 0 for a cosine (Euler's theorem).
    layer = model.encoder.cam_layer
    for target, expected in (
        ("logit", model(images) - model.head.bias / 0.5),
        ("prototype", torch.zeros(6, CLASSES)),
    ):
        cam = captum.attr.LayerGradCam(TargetFunction(model, target), layer)
        sums = cam.attribute(images, target=classes).sum(dim=(1, 2, 3))
        torch.testing.assert_close(sums, expected[torch.arange(6), classes], rtol=1e-3, atol=1e-4)


def test_integrated_gradients_add_up_to_the_change_of_the_score(model, images, classes):
    recipe = MethodRecipe(method="IntegratedGradients", n_steps=400, baseline="black")
    explain = Explainer(recipe, model)
    rows = torch.arange(6)
    change = explain.score(images) - explain.score(torch.zeros_like(images))
    found = explain(images, classes).sum(dim=(1, 2))
    torch.testing.assert_close(found, change[rows, classes], rtol=0.02, atol=0.02)


def test_saliency_keeps_the_sign_and_sums_over_channels(model, images, classes):
    explain = Explainer(MethodRecipe(method="Saliency", abs=False), model)
    leaf = images.clone().requires_grad_(True)
    score = model(leaf)[torch.arange(6), classes].sum()
    gradient = torch.autograd.grad(score, leaf)[0]
    torch.testing.assert_close(explain(images, classes), gradient.sum(dim=1))
    largest = Explainer(MethodRecipe(method="Saliency", abs=False, channels="max-abs"), model)
    picked = gradient.gather(1, gradient.abs().argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(largest(images, classes), picked)


def test_the_prototype_score_is_the_cosine_to_the_class_mean(model, images):
    cosine = F.cosine_similarity(model.embed(images)[:, None], model.prototypes[None], dim=2)
    found = TargetFunction(model, "prototype")(images)
    torch.testing.assert_close(found, cosine / 0.1)


def test_the_contrast_score_is_the_logit_minus_the_best_other_logit(model, images):
    logits = model(images)
    expected = torch.empty_like(logits)
    for row in range(len(images)):
        for label in range(CLASSES):
            others = [logits[row, other] for other in range(CLASSES) if other != label]
            expected[row, label] = logits[row, label] - max(others)
    torch.testing.assert_close(TargetFunction(model, "contrast")(images), expected)


def test_a_random_map_is_another_one_for_each_image_and_class_and_the_same_when_asked_again(images):
    method = RandomMap(nn.Identity())
    first = method.attribute(images, torch.zeros(6, dtype=torch.long))
    assert torch.equal(first, method.attribute(images, torch.zeros(6, dtype=torch.long)))
    other_class = method.attribute(images, torch.ones(6, dtype=torch.long))
    barely_changed = method.attribute(images + 1e-6, torch.zeros(6, dtype=torch.long))
    flat = torch.cat([first, other_class, barely_changed]).flatten(1)
    correlation = torch.corrcoef(flat).fill_diagonal_(0).abs().max()
    # 1,024 independent pixels: six standard errors of a correlation.
    assert correlation < 6 / 32


def test_an_edge_map_marks_an_edge_and_ignores_the_class():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    method = SobelMap(nn.Identity())
    found = method.attribute(image, torch.tensor([0]))
    assert torch.equal(found, method.attribute(image, torch.tensor([3])))
    strength = torch.zeros(8, 8)
    strength[:, 3:5] = 4.0
    torch.testing.assert_close(found[0, 0], strength)


def test_a_baseline_for_a_method_that_takes_none_makes_it_unavailable(model):
    with pytest.raises(MethodUnavailable, match="Saliency takes no baseline"):
        Explainer(MethodRecipe(method="Saliency", baseline="black"), model)


class GradientTimesInput:
    """A user's own method, as the protocol of `clarity.attribution.methods` wants it."""

    def __init__(self, model, power=1.0):
        self.inner = captum.attr.InputXGradient(model)
        self.power = power

    def attribute(self, inputs, target, scale=1.0):
        return self.inner.attribute(inputs, target=target) * scale**self.power


def test_a_method_of_the_user_is_named_by_module_and_class(model, images, classes):
    recipe = MethodRecipe(method=f"{__name__}:GradientTimesInput", power=2.0, scale=3.0)
    expected = Explainer(MethodRecipe(method="InputXGradient"), model)(images, classes)
    found = Explainer(recipe, model)(images, classes)
    torch.testing.assert_close(found, 9 * expected, rtol=1e-4, atol=1e-7)
