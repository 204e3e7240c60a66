"""Promises of attribution: the right scores are explained, maps are right and repeatable."""

import importlib

import captum.attr
import pytest
import torch
from explained import CLASSES, NAMES, classifier, pictures
from torch import nn
from torch.nn import functional as F

from clarity import catalogue, provenance
from clarity.attribution.methods import Explainer, Setting, _class
from clarity.attribution.recipe import MethodRecipe
from clarity.attribution.targets import CorpusSimilarity, TargetFunction
from clarity.models.classifier import Classifier

#: One recipe a class, with few samples, and some that are told apart by other keys.
METHODS: dict[str, dict] = {
    "saliency": {"method": "Saliency"},
    "absolute-saliency": {"method": "Saliency", "sign": "absolute", "channels": "max-abs"},
    "smoothgrad": {"method": "Saliency", "noise": {"name": "smoothgrad", "samples": 3}},
    "vargrad": {"method": "InputXGradient", "noise": {"name": "vargrad", "samples": 3}},
    "input-x-gradient": {"method": "InputXGradient"},
    "integrated-gradients": {"method": "IntegratedGradients", "n_steps": 8, "baseline": "blur"},
    "gradient-shap": {"method": "GradientShap", "n_samples": 3},
    "guided-backprop": {"method": "GuidedBackprop"},
    "deconvolution": {"method": "Deconvolution"},
    "guided-gradcam": {"method": "GuidedGradCam"},
    "deeplift": {"method": "DeepLift"},
    "deeplift-shap": {"method": "DeepLiftShap", "baseline": {"name": "sample", "count": 3}},
    "lrp": {"method": "LRP"},
    "gradcam": {"method": "LayerGradCam"},
    "gradcam-prototype": {"method": "LayerGradCam", "target": "prototype"},
    "gradcam-contrast": {"method": "LayerGradCam", "target": "contrast"},
    "gradcam++": {"method": "GradCAMPlusPlus"},
    "xgradcam": {"method": "XGradCAM"},
    "hirescam": {"method": "HiResCAM"},
    "layercam": {"method": "LayerCAM"},
    "eigencam": {"method": "EigenCAM"},
    "eigen-gradcam": {"method": "EigenGradCAM"},
    "scorecam": {"method": "ScoreCAM"},
    "ablationcam": {"method": "AblationCAM"},
    "layer-gradient-x-activation": {"method": "LayerGradientXActivation"},
    "layer-integrated-gradients": {"method": "LayerIntegratedGradients", "n_steps": 4},
    "layer-conductance": {"method": "LayerConductance", "n_steps": 4},
    "internal-influence": {"method": "InternalInfluence", "n_steps": 4},
    "layer-activation": {"method": "LayerActivation"},
    "feature-ablation": {"method": "FeatureAblation", "segments": {"name": "grid", "count": 16}},
    "superpixels": {"method": "FeatureAblation", "segments": {"name": "slic", "count": 9}},
    "occlusion": {"method": "Occlusion", "sliding_window_shapes": [3, 8, 8], "strides": [3, 8, 8]},
    "shapley-sampling": {"method": "ShapleyValueSampling", "n_samples": 2, "segments": "slic"},
    "shapley": {"method": "ShapleyValues", "segments": {"name": "grid", "count": 4}},
    "kernel-shap": {"method": "KernelShap", "n_samples": 40, "segments": {"count": 9}},
    "lime": {"method": "Lime", "n_samples": 40, "segments": {"count": 9}},
    "feature-permutation": {"method": "FeaturePermutation", "segments": {"count": 4}},
    "rise": {"method": "RISE", "n_masks": 16},
    "random": {"method": "RandomMap"},
    "sobel": {"method": "SobelMap"},
    "constant": {"method": "ConstantMap"},
    "centre": {"method": "CentreGaussian"},
}

#: Methods that know no class.
AGNOSTIC = ("eigencam", "layer-activation", "sobel", "constant", "centre")


def recipe(name: str, **more: object) -> MethodRecipe:
    plain = {**METHODS[name], **more}
    if plain.get("segments", {}) is not None and isinstance(plain.get("segments"), dict):
        plain["segments"] = {"name": "grid", **plain["segments"]}
    return MethodRecipe.model_validate(plain)


@pytest.fixture(scope="module")
def model() -> Classifier:
    return classifier()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return pictures()


@pytest.fixture(scope="module")
def classes() -> torch.Tensor:
    return torch.tensor([0, 1, 2, 3, 4, 0])


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting(seed=0, references=pictures(9)[6:], class_names=NAMES)


def test_every_class_that_a_config_may_name_is_tried_here():
    tried = {plain["method"] for plain in METHODS.values()}
    assert tried == set(catalogue.names("attribution"))


def test_every_module_of_methods_counts_as_source_of_the_stages_that_explain():
    own = {m for m in catalogue.LIBRARIES["attribution"].modules if m.startswith("clarity.")}
    for stage in ("attribute", "evaluate"):
        assert own <= provenance.closure(f"clarity.stages.{stage}")


def test_the_first_module_that_has_a_name_is_meant_by_it():
    for name in {plain["method"] for plain in METHODS.values()}:
        modules = [importlib.import_module(m) for m in catalogue.LIBRARIES["attribution"].modules]
        meant = next(found for m in modules if (found := getattr(m, name, None)) is not None)
        assert _class(name) is meant


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_its_own_image_and_class_alone(name, model, images, classes, setting):
    explain = Explainer(recipe(name), model, setting)
    together = explain(images, classes)
    assert together.shape == (6, 32, 32)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    # Else all that follows would hold for nothing; the mean of the last maps has one gradient.
    flat = float(together.std(dim=(1, 2)).min()) < 1e-6 * float(together.abs().max())
    assert flat == (name in ("constant", "internal-influence"))
    scale = float(together.abs().max())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    near = {"rtol": 1e-3, "atol": 1e-4 * scale}
    torch.testing.assert_close(explain(images[order], classes[order]), together[order], **near)
    # Passes of other sizes, and one image alone.
    small = Explainer(recipe(name), model, Setting(**{**vars(setting), "memory": 0.003}))
    alone = torch.cat([small(images[i : i + 1], classes[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(alone, together[:2], **near)
    assert torch.equal(explain(images, classes), together)


@pytest.mark.parametrize("name", METHODS)
def test_classes_at_once_are_classes_one_by_one(name, model, images, classes, setting):
    explain = Explainer(recipe(name), model, setting)
    pairs = torch.stack([classes, (classes + 2) % CLASSES], dim=1)
    both = explain(images, pairs)
    assert both.shape == (6, 2, 32, 32)
    scale = float(both.abs().max())
    for slot in range(2):
        one = explain(images, pairs[:, slot])
        torch.testing.assert_close(both[:, slot], one, rtol=1e-3, atol=1e-4 * scale)
    same = torch.allclose(both[:, 0], both[:, 1])
    assert same == (name in AGNOSTIC)


@pytest.mark.parametrize("name", METHODS)
def test_explaining_leaves_the_images_and_the_model_as_they_were(
    name, model, images, classes, setting
):
    before = images.clone(), {k: v.clone() for k, v in model.state_dict().items()}
    hooks = {n: (len(m._forward_hooks), len(m._backward_hooks)) for n, m in model.named_modules()}
    forwards = {n for n, m in model.named_modules() if "forward" in vars(m)}
    Explainer(recipe(name), model, setting)(images, classes)
    assert torch.equal(images, before[0])
    assert not images.requires_grad
    assert all(torch.equal(v, before[1][k]) for k, v in model.state_dict().items())
    after = {n: (len(m._forward_hooks), len(m._backward_hooks)) for n, m in model.named_modules()}
    assert after == hooks
    assert {n for n, m in model.named_modules() if "forward" in vars(m)} == forwards
    assert not any(module.training for module in model.modules())


#: Methods whose maps are linear in the score, with what else must hold still for that.
LINEAR = [
    *("saliency", "input-x-gradient", "integrated-gradients", "gradient-shap", "smoothgrad"),
    *("lrp", "gradcam", "xgradcam", "hirescam"),
    *("layer-gradient-x-activation", "layer-integrated-gradients", "internal-influence"),
    *("feature-ablation", "occlusion", "shapley-sampling", "shapley", "kernel-shap", "rise"),
]


@pytest.mark.parametrize("name", LINEAR)
def test_the_map_of_a_contrast_is_the_difference_of_the_two_maps(
    name, model, images, classes, setting
):
    explain = Explainer(recipe(name), model, setting)
    contrast = Explainer(recipe(name, foil="class:c"), model, setting)
    expected = explain(images, classes) - explain(images, torch.full_like(classes, 2))
    scale = float(expected.abs().max())
    torch.testing.assert_close(contrast(images, classes), expected, rtol=1e-3, atol=1e-4 * scale)
    assert (contrast(images[2:3], classes[2:3]) == 0).all()


@pytest.mark.parametrize("name", ["saliency", "input-x-gradient", "gradcam", "hirescam"])
def test_the_margin_is_contrasted_with_the_runner_up_where_the_gradient_is_taken(
    name, model, images, classes, setting
):
    scores = model(images).scatter(1, classes[:, None], -torch.inf)
    explain = Explainer(recipe(name), model, setting)
    expected = explain(images, classes) - explain(images, scores.argmax(dim=1))
    found = Explainer(recipe(name, target="contrast"), model, setting)(images, classes)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def linear_classifier() -> Classifier:
    """Return a network that is linear in the image: one convolution, a mean, a linear head."""
    model = Classifier(
        classifier().shape.__class__({"name": f"{__name__}:OneConvolution"}, 3, 16, CLASSES)
    )
    return model.eval().requires_grad_(False)


class OneConvolution(nn.Module):
    """A network whose maps are linear in the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 12, kernel_size=3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolution(images)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("saliency", "weights"),
        ("smoothgrad", "weights"),
        ("input-x-gradient", "weights x image"),
        ("integrated-gradients", "weights x image"),
        ("deeplift", "weights x image"),
    ],
)
def test_a_linear_score_is_explained_by_its_weights_times_the_image(name, factor):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = linear_classifier()
    images, classes = pictures(4, size=16), torch.tensor([0, 1, 2, 3])
    # The weights, as what unit images score beyond a black one.
    units = torch.eye(3 * 16 * 16).reshape(-1, 3, 16, 16)
    weights = (model(units) - model(torch.zeros(1, 3, 16, 16))).T.reshape(-1, 3, 16, 16)[classes]
    expected = weights if factor == "weights" else weights * images
    plain = {**METHODS[name]}
    if "baseline" in plain:
        plain["baseline"] = "black"
    found = Explainer(MethodRecipe.model_validate(plain), model)(images, classes)
    torch.testing.assert_close(found, expected.sum(dim=1), rtol=1e-3, atol=1e-6)


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


@pytest.mark.parametrize("target", ["logit", "log-probability", "prototype", "knn", "similarity"])
def test_integrated_gradients_add_up_to_the_change_of_the_score(target, model, images, classes):
    recipe = MethodRecipe(
        method="IntegratedGradients", n_steps=200, baseline="black", target=target
    )
    explain = Explainer(recipe, model)
    rows = torch.arange(6)
    change = explain.score(images) - explain.score(torch.zeros_like(images))
    found = explain(images, classes).sum(dim=(1, 2))
    torch.testing.assert_close(found, change[rows, classes], rtol=0.05, atol=0.05)


def test_saliency_keeps_the_sign_and_sums_over_channels(model, images, classes):
    leaf = images.clone().requires_grad_(True)
    score = model(leaf)[torch.arange(6), classes].sum()
    gradient = torch.autograd.grad(score, leaf)[0]
    picked = gradient.gather(1, gradient.abs().argmax(1, keepdim=True))[:, 0]
    for keys, expected in (
        ({}, gradient.sum(dim=1)),
        ({"channels": "mean"}, gradient.mean(dim=1)),
        ({"channels": "max-abs"}, picked),
        ({"sign": "absolute"}, gradient.abs().sum(dim=1)),
        ({"sign": "positive"}, gradient.clamp_min(0).sum(dim=1)),
    ):
        explain = Explainer(MethodRecipe(method="Saliency", **keys), model)
        torch.testing.assert_close(explain(images, classes), expected)


def test_smoothgrad_is_captums_noise_tunnel_but_for_the_draws(model, images, classes):
    noise = {"name": "smoothgrad", "samples": 60, "stdev": 0.05}
    recipe = MethodRecipe.model_validate({"method": "Saliency", "noise": noise})
    found = Explainer(recipe, model)(images, classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = captum.attr.NoiseTunnel(captum.attr.Saliency(model)).attribute(
            images, nt_samples=60, stdevs=0.05, target=classes, abs=False
        )
    stacked = torch.stack([found.flatten(1), theirs.sum(dim=1).flatten(1)])
    for pair in stacked.unbind(dim=1):
        assert torch.corrcoef(pair)[0, 1] > 0.9


def test_what_a_method_does_not_take_is_refused(model):
    for key, value in (("baseline", "black"), ("segments", "grid")):
        with pytest.raises(ValueError, match=f"{key}: found, but Saliency takes none"):
            Explainer(MethodRecipe.model_validate({"method": "Saliency", key: value}), model)


def test_a_recipe_is_described_with_nothing_left_to_defaults(model):
    explain = Explainer(MethodRecipe(method="IntegratedGradients"), model)
    described = explain.described()
    assert described["n_steps"] == 50
    assert described["baseline"]["name"] == "black"
    assert described["target"] == "logit"
    shapley = Explainer(MethodRecipe(method="ShapleyValueSampling", n_samples=3), model)
    assert shapley.described()["n_samples"] == 3
    assert shapley.described()["segments"]["count"] == 49


def test_an_encoder_without_classes_is_explained_too(model, images):
    score = CorpusSimilarity(
        model.encoder, [images[:1]], images[3:], normalise=lambda x: (x - model.mean) / model.std
    )
    zeros = torch.zeros(6, dtype=torch.long)
    for name in ("gradcam", "saliency", "shapley", "lrp"):
        found = Explainer(recipe(name), score, Setting())(images, zeros)
        assert found.shape == (6, 32, 32)
        assert (found != 0).any()


class GradientTimesInput:
    """A user's own method, as the protocol of `clarity.attribution.protocol` wants it."""

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


class GradientWithAnything(GradientTimesInput):
    """A user's own method whose constructor takes what it does not name."""

    def __init__(self, model, **options):
        super().__init__(model, options["power"])


def test_what_a_method_of_the_user_does_not_name_goes_to_its_constructor_alone(
    model, images, classes
):
    recipe = MethodRecipe(method=f"{__name__}:GradientWithAnything", power=2.0, scale=3.0)
    named = MethodRecipe(method=f"{__name__}:GradientTimesInput", power=2.0, scale=3.0)
    found = Explainer(recipe, model)(images, classes)
    assert torch.equal(found, Explainer(named, model)(images, classes))
