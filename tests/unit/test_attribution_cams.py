"""Promises of class activation maps: those of pytorch-grad-cam and Captum, all classes at once.

Both are asked for one image and class at a time. pytorch-grad-cam clips its maps at 0, stretches
them to [0, 1] and resizes them; what is compared is the map before that, unless it is said.
"""

import copy
import math

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional as F

from clarity.attribution.cams import (
    AblationCAM,
    EigenCAM,
    EigenGradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    LayerGradCam,
    ScoreCAM,
    XGradCAM,
)
from clarity.attribution.controls import CentreGaussian, ConstantMap
from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.targets import TargetFunction
from clarity.models.classifier import HEADS, Classifier, Shape

CLASSES = 5
CONVNET = {"name": "convnet", "arguments": {"widths": [6, 8, 8, 10]}}
RECTIFIED = {**CONVNET, "centre": False}
VIT = {
    "name": "timm/vit_tiny_patch16_224",
    "arguments": {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8},
}
RESNET = {"name": "torchvision/resnet18"}

#: Recipe of the encoder and size of the image.
NETWORKS = {
    "signed": (CONVNET, 16),
    "rectified": (RECTIFIED, 16),
    "tapped": ({**RECTIFIED, "cam-layer": "10"}, 16),
    "resnet": (RESNET, 48),
    "resnet-tapped": ({**RESNET, "cam-layer": "layer3"}, 48),
    "vit": (VIT, 32),
    "vit-tapped": ({**VIT, "cam-layer": "blocks.0"}, 32),
}
TARGETS = ("logit", "prototype", "contrast")

#: Ours and theirs, where both are a function of the same maps and gradient.
OF_GRADIENTS = {
    LayerGradCam: pytorch_grad_cam.GradCAM,
    XGradCAM: pytorch_grad_cam.XGradCAM,
    HiResCAM: pytorch_grad_cam.HiResCAM,
    LayerCAM: pytorch_grad_cam.LayerCAM,
}
METHODS = (*OF_GRADIENTS, GradCAMPlusPlus, EigenCAM, EigenGradCAM, ScoreCAM, AblationCAM)


def trained(name: str) -> Classifier:
    """A classifier with the statistics of a trained one, which fresh weights do not have."""
    recipe, size = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(Shape(recipe, 3, size, CLASSES))
        model.mean.fill_(0.4)
        model.std.fill_(0.3)
        model.prototypes.copy_(F.normalize(torch.randn_like(model.prototypes), dim=1))
        model.temperatures[HEADS.index("linear")] = 0.5
        model.temperatures[HEADS.index("prototype")] = 0.1
        model.train()
        model(torch.rand(16, 3, size, size))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def models() -> dict[str, Classifier]:
    return {name: trained(name) for name in NETWORKS}


def score_of(model: Classifier, target: str = "logit") -> TargetFunction:
    if target == "contrast":
        return TargetFunction(model, "logit", "runner-up").eval()
    return TargetFunction(model, target).eval()


def pictures(name: str, count: int = 3) -> torch.Tensor:
    size = NETWORKS[name][1]
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def every_class(images: torch.Tensor) -> torch.Tensor:
    return torch.arange(CLASSES).expand(len(images), -1)


def explain(kind, score, images, targets=None, **arguments) -> torch.Tensor:
    targets = every_class(images) if targets is None else targets
    return kind(score, score.layer, **arguments).attribute_classes(images, targets)


def of_each(images: torch.Tensor, ask) -> torch.Tensor:
    """What ``ask`` says of each image and class by itself, [B, K, 1, h, w]."""
    rows = [[ask(image[None], label) for label in range(CLASSES)] for image in images]
    return torch.stack([torch.stack([torch.as_tensor(m) for m in row]) for row in rows])


def theirs(kind, score, layer=None):
    """A method of pytorch-grad-cam, as a function of an image and a class: the raw map."""
    layer = score.layer if layer is None else layer

    def ask(image: torch.Tensor, label: int) -> np.ndarray:
        cam, maps, gradient = passed(kind, score, layer, image, label)
        target = [ClassifierOutputTarget(label)]
        try:
            return cam.get_cam_image(image, layer, target, maps, gradient, False)
        finally:
            cam.activations_and_grads.release()

    return ask


def passed(kind, score, layer, image, label):
    """A method of pytorch-grad-cam with the layer's maps and the gradient that it recorded."""
    cam = kind(score, [layer])
    outputs = cam.activations_and_grads(image.clone().requires_grad_(True))
    outputs[0, label].backward()
    recorded = cam.activations_and_grads
    return cam, recorded.activations[0].numpy(), recorded.gradients[0].numpy()


def assert_same(found: torch.Tensor, expected: torch.Tensor, rtol: float = 1e-4) -> None:
    """Equal to float rounding, in shares of the largest value of each map."""
    assert found.shape == expected.shape
    assert torch.isfinite(found).all()
    largest = expected.abs().amax(dim=(-2, -1), keepdim=True)
    assert (largest > 0).all()
    torch.testing.assert_close(found / largest, expected / largest, rtol=0, atol=rtol)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["signed", "rectified", "resnet-tapped", "vit", "vit-tapped"])
def test_maps_are_those_of_pytorch_grad_cam(name, target, models):
    score, images = score_of(models[name], target), pictures(name, 2)

    def ask(image, label):
        """The maps of all methods, from one pass."""
        cam, maps, gradient = passed(pytorch_grad_cam.GradCAM, score, score.layer, image, label)
        cam.activations_and_grads.release()
        found = [
            other(score, []).get_cam_image(image, None, None, maps, gradient, False)
            for other in OF_GRADIENTS.values()
        ]
        return np.stack(found)

    expected = of_each(images, ask)
    for position, kind in enumerate(OF_GRADIENTS):
        # XGrad-CAM divides by sums of signed maps, which may be small.
        rtol = 2e-3 if kind is XGradCAM else 1e-4
        assert_same(explain(kind, score, images), expected[:, :, position], rtol)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_is_that_of_captum(name, target, models):
    score, images = score_of(models[name], target), pictures(name, 2)
    cam = captum.attr.LayerGradCam(score, score.layer)
    expected = of_each(images, lambda image, label: cam.attribute(image, label).detach()[0])
    found = explain(LayerGradCam, score, images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    rectified = explain(LayerGradCam, score, images, relu_attributions=True)
    torch.testing.assert_close(rectified, found.relu())


def test_a_grad_cam_clipped_stretched_and_resized_is_the_picture_of_pytorch_grad_cam(models):
    score, images = score_of(models["signed"]), pictures("signed")
    found = explain(LayerGradCam, score, images, relu_attributions=True)[:, :, 0].numpy()
    with pytorch_grad_cam.GradCAM(score, [score.layer]) as cam:
        for image, maps in zip(images, found, strict=True):
            for label, coarse in enumerate(maps):
                leaf = image[None].clone().requires_grad_(True)
                expected = cam(leaf, [ClassifierOutputTarget(label)])
                picture = scale_cam_image(scale_cam_image(coarse[None], (16, 16)))
                np.testing.assert_allclose(picture, expected, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["rectified", "tapped", "resnet-tapped"])
def test_grad_cam_plus_plus_is_that_of_pytorch_grad_cam_without_its_small_number(
    name, target, models
):
    score, images = score_of(models[name], target), pictures(name, 2)

    def ask(image, label):
        cam, maps, gradient = passed(
            pytorch_grad_cam.GradCAMPlusPlus, score, score.layer, image, label
        )
        cam.activations_and_grads.release()
        # The product of maps and gradient decides alpha. With a larger gradient, the 1e-6 that is
        # added to its square no longer counts.
        weights = cam.get_cam_weights(image, None, None, maps / 1e4, gradient * 1e4) / 1e4
        return (weights[:, :, None, None] * maps).sum(axis=1)

    assert_same(explain(GradCAMPlusPlus, score, images), of_each(images, ask))


@pytest.mark.parametrize("name", ["signed", "vit-tapped"])
def test_grad_cam_plus_plus_of_signed_maps_follows_equation_19_with_sums_from_zero(name, models):
    score, images = score_of(models[name], "prototype"), pictures(name, 2)

    def ask(image, label):
        cam, maps, gradient = passed(
            pytorch_grad_cam.GradCAMPlusPlus, score, score.layer, image, label
        )
        cam.activations_and_grads.release()
        found = np.zeros(maps.shape[2:])
        for channel, slope in zip(maps[0].astype(np.float64), gradient[0], strict=True):
            weight = 0.0
            for g in slope.astype(np.float64).ravel():
                if g > 0:
                    alpha = g**2 / (2 * g**2 + max(channel.sum(), 0) * g**3)
                    assert alpha <= 0.5
                    weight += alpha * g
            found += weight * channel
        return np.float32(found[None])

    assert_same(explain(GradCAMPlusPlus, score, images), of_each(images, ask))


@pytest.mark.parametrize("name", ["signed", "rectified", "resnet", "vit"])
def test_where_the_gradient_is_the_same_everywhere_three_methods_agree(name, models):
    # The embedding is the mean of the last maps.
    score, images = score_of(models[name], "prototype"), pictures(name, 2)
    expected = explain(LayerGradCam, score, images)
    for kind in (XGradCAM, HiResCAM):
        assert_same(explain(kind, score, images), expected)


def test_x_grad_cam_gives_a_map_that_sums_to_zero_the_weight_of_grad_cam(models):
    score, images = score_of(models["signed"]), pictures("signed")
    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    maps[0, 1] -= maps[0, 1].mean()
    maps[1, 2] = 0
    cam = XGradCAM(score, score.layer)
    found = cam._map(maps, gradient)
    expected = torch.zeros(2, 4, 4)
    for image in range(2):
        for channel in range(3):
            a, g = maps[image, channel], gradient[image, channel]
            weight = g.mean() if abs(a.sum()) < 1e-4 else (g * a).sum() / a.sum()
            expected[image] += weight * a
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.isfinite(explain(XGradCAM, score, torch.zeros_like(images))).all()


@pytest.mark.parametrize("name", ["signed", "resnet-tapped", "vit-tapped"])
@pytest.mark.parametrize("kind", [LayerGradCam, XGradCAM, HiResCAM])
def test_the_map_of_a_contrast_is_that_of_the_class_minus_that_of_the_runner_up(kind, name, models):
    images = pictures(name)
    plain = explain(kind, score_of(models[name]), images)
    contrast = explain(kind, score_of(models[name], "contrast"), images)
    logits = models[name](images)
    for row in range(len(images)):
        for label in range(CLASSES):
            rival = max((c for c in range(CLASSES) if c != label), key=lambda c: logits[row, c])
            difference = plain[row, label] - plain[row, rival]
            torch.testing.assert_close(contrast[row, label], difference, rtol=1e-3, atol=1e-5)


def test_grad_cam_of_the_winner_against_the_runner_up_is_finer_cam_with_one_rival(models):
    images = pictures("signed")
    score, contrast = score_of(models["signed"]), score_of(models["signed"], "contrast")
    winners = models["signed"](images).argmax(dim=1)
    found = explain(LayerGradCam, contrast, images, winners[:, None], relu_attributions=True)
    with pytorch_grad_cam.FinerCAM(score, [score.layer]) as cam:
        for image, coarse in zip(images, found[:, 0, 0].numpy(), strict=True):
            expected = cam(image[None].clone().requires_grad_(True), comparison_categories=[1])
            assert expected.any()
            picture = scale_cam_image(scale_cam_image(coarse[None], (16, 16)))
            np.testing.assert_allclose(picture, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["signed", "rectified", "resnet-tapped", "vit", "vit-tapped"])
@pytest.mark.parametrize(
    ("kind", "other"),
    [
        (EigenCAM, pytorch_grad_cam.EigenCAM),
        (EigenGradCAM, pytorch_grad_cam.EigenGradCAM),
    ],
)
def test_principal_components_are_those_of_pytorch_grad_cam_but_for_the_sign(
    kind, other, name, models
):
    score, images = score_of(models[name]), pictures(name, 2)
    found = explain(kind, score, images)
    expected = of_each(images, theirs(other, score))
    flipped = (found * expected).sum(dim=(3, 4), keepdim=True).sign()
    assert_same(found, expected * flipped, 2e-3)
    # The value that is largest in size is positive.
    assert (found.amax(dim=(3, 4)) == found.abs().amax(dim=(3, 4))).all()


def test_eigen_cam_has_the_same_map_for_every_class_and_needs_more_places_than_maps_or_fewer(
    models,
):
    for name in ("signed", "resnet"):  # 10 maps of 16 places, 512 maps of 4 places
        score, images = score_of(models[name]), pictures(name)
        found = explain(EigenCAM, score, images)
        assert all(torch.equal(found[:, label], found[:, 0]) for label in range(CLASSES))
        maps = captum.attr.LayerActivation(score, score.layer).attribute(images)
        for one, map_ in zip(maps, found[:, 0, 0], strict=True):
            places = one.flatten(1).T - one.flatten(1).T.mean(dim=0)
            spread = torch.linalg.matrix_norm(places, 2)
            torch.testing.assert_close(map_.norm(), spread, rtol=1e-4, atol=0)


def test_a_constant_image_of_no_component_has_a_map_of_zeros(models):
    class Flat(nn.Module):
        def forward(self, maps):
            return torch.ones_like(maps)

    model = copy.deepcopy(models["rectified"])
    model.encoder.maps = Flat()
    assert (explain(EigenCAM, score_of(model), pictures("rectified")) == 0).all()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["signed", "tapped"])
def test_score_cam_is_that_of_pytorch_grad_cam_with_cells_upsampled_around_their_centres(
    name, target, models, monkeypatch
):
    score, images = score_of(models[name], target), pictures(name, 2)
    # It would stretch the maps so that the centres of the outer cells lie at the image's edge.
    monkeypatch.setattr(
        nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size=size, mode="bilinear")
    )
    expected = of_each(images, theirs(pytorch_grad_cam.ScoreCAM, score))
    assert_same(explain(ScoreCAM, score, images), expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["rectified", "tapped"])
def test_ablation_cam_times_the_score_is_that_of_pytorch_grad_cam(name, target, models):
    score, images = score_of(models[name], target), pictures(name, 2)
    layer = score.layer if name == "rectified" else score.encoder.trunk.network[10]
    # It sets maps to 0 only where they are rectified. The weights are shares of the score there.
    shares = of_each(images, theirs(pytorch_grad_cam.AblationCAM, score, layer))
    assert_same(explain(AblationCAM, score, images), shares * score(images)[:, :, None, None, None])


@pytest.mark.parametrize("name", ["signed", "vit-tapped"])
def test_ablation_cam_of_signed_maps_sets_them_to_zero(name, models):
    score, images = score_of(models[name], "prototype"), pictures(name, 2)
    maps = captum.attr.LayerActivation(score, score.layer).attribute(images)
    before = score(images)
    expected = torch.zeros(2, CLASSES, 1, *maps.shape[2:])
    for channel in range(maps.shape[1]):

        def zero(module, inputs, output, channel=channel):
            output = output.clone()
            output[:, channel] = 0
            return output

        handle = score.layer.register_forward_hook(zero)
        drop = before - score(images)
        handle.remove()
        expected += drop[:, :, None, None, None] * maps[:, None, channel : channel + 1]
    assert_same(explain(AblationCAM, score, images), expected)


def test_ablation_cam_of_a_logit_weights_maps_by_their_share_of_it(models):
    model, images = models["signed"], pictures("signed")
    score = score_of(model)
    maps = captum.attr.LayerActivation(score, score.layer).attribute(images)
    shares = model.head.weight / 0.5 * maps.mean(dim=(2, 3))[:, None]
    expected = torch.einsum("bck,bkhw->bchw", shares, maps)[:, :, None]
    assert_same(explain(AblationCAM, score, images), expected)


def counted(score):
    """How many images each pass of the trunk takes."""
    passes = []
    handle = score.encoder.trunk.register_forward_pre_hook(
        lambda module, inputs: passes.append(len(inputs[0]))
    )
    return passes, handle


@pytest.mark.parametrize("kind", [LayerGradCam, EigenCAM, EigenGradCAM])
def test_all_classes_of_an_image_share_one_pass_of_the_trunk(kind, models):
    score, images = score_of(models["signed"]), pictures("signed", 5)
    passes, handle = counted(score)
    explain(kind, score, images, torch.arange(10).remainder(CLASSES).expand(5, -1))
    assert passes == [5]
    passes.clear()
    explain(kind, score, images, rows=2)
    handle.remove()
    assert passes == [2, 2, 1]


@pytest.mark.parametrize(
    ("kind", "name", "more"),
    [
        (ScoreCAM, "signed", 5 * 10),
        (ScoreCAM, "tapped", 5 * 8),
        (AblationCAM, "signed", 0),
        (AblationCAM, "tapped", 5 * 8),
    ],
)
def test_perturbed_passes_are_one_an_image_and_map_for_all_classes(kind, name, more, models):
    score, images = score_of(models[name]), pictures(name, 5)
    for rows in (3, 1000):
        passes, handle = counted(score)
        explain(kind, score, images, rows=rows)
        handle.remove()
        assert sum(passes) == 5 + more
        assert max(passes) <= rows


def test_what_stands_before_the_layer_gets_no_backward_pass(models):
    model = copy.deepcopy(models["resnet-tapped"]).requires_grad_(True)
    score, images = score_of(model), pictures("resnet-tapped", 2)
    backward = {"layer2.1.conv2": 0, "layer3.1.conv2": 0, "layer4.1.conv2": 0}
    for name in backward:

        def count(module, into, out, name=name):
            backward[name] += 1

        model.encoder.trunk.network.get_submodule(name).register_full_backward_hook(count)
    explain(LayerGradCam, score, images)
    assert list(backward.values()) == [0, 0, CLASSES]
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", ["signed", "tapped", "vit-tapped"])
@pytest.mark.parametrize("kind", METHODS)
def test_a_map_depends_on_its_own_image_and_class_alone(kind, name, models):
    score, images = score_of(models[name], "prototype"), pictures(name)
    together = explain(kind, score, images)
    assert together.shape[:3] == (3, CLASSES, 1)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    assert torch.equal(explain(kind, score, images), together)
    for rows in (1, 2):
        assert_same(explain(kind, score, images, rows=rows), together)
    order = torch.tensor([2, 0, 1])
    assert_same(explain(kind, score, images[order]), together[order])
    # Some classes, one of them twice, others for each image; and a single one.
    some = torch.tensor([[4, 0, 4], [1, 2, 3], [0, 0, 1]])
    chosen = together[torch.arange(3)[:, None], some]
    assert_same(explain(kind, score, images, some), chosen)
    with torch.no_grad():
        single = kind(score, score.layer).attribute(images, some[:, 1])
    assert_same(single, chosen[:, 1])


class Failing(TargetFunction):
    def of_embeddings(self, embeddings, *, fixed_length=False):
        raise RuntimeError("no scores today")


@pytest.mark.parametrize("name", ["signed", "tapped", "vit-tapped"])
@pytest.mark.parametrize("kind", METHODS)
def test_images_and_model_are_left_as_they_were_also_after_an_error(kind, name, models):
    def hooks():
        return [
            (list(m._forward_hooks), list(m._forward_pre_hooks), list(m._backward_hooks))
            for m in models[name].modules()
        ]

    images = pictures(name, 2)
    before, kept, state = hooks(), images.clone(), copy.deepcopy(models[name].state_dict())
    explain(kind, score_of(models[name]), images)
    failing = Failing(models[name])
    with pytest.raises(RuntimeError, match="no scores today"):
        explain(kind, failing, images)
    assert hooks() == before
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert not any(module.training for module in models[name].modules())
    assert all(torch.equal(v, state[k]) for k, v in models[name].state_dict().items())
    assert all(weight.grad is None for weight in models[name].parameters())


def test_a_layer_that_is_added_to_in_place_later_is_explained_as_it_was(models):
    # Residual blocks of torchvision add to the output of their last normalisation in place. At
    # A (1 + t), the derivative of the score by t is the sum of G A.
    model = copy.deepcopy(models["resnet"]).double()
    score, images = score_of(model), pictures("resnet", 2).double()
    layer = model.encoder.trunk.network.layer3[1].bn2
    cam = HiResCAM(score, layer)
    found = cam.attribute_classes(images, every_class(images)).sum(dim=(2, 3, 4))
    stretched = []
    for t in (1e-5, -1e-5):
        handle = layer.register_forward_hook(lambda m, i, output, t=t: output * (1 + t))
        stretched.append(score(images))
        handle.remove()
    expected = (stretched[0] - stretched[1]) / 2e-5
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", METHODS)
def test_a_layer_without_maps_of_one_pass_makes_a_method_unavailable(kind, models):
    score, images = score_of(models["resnet"]), pictures("resnet", 1)
    network = score.encoder.trunk.network
    for layer, reason in (
        (score.encoder.project, r"Identity yields no feature maps \[B, K, h, w\]"),
        (network.layer3[0].relu, "the layer runs 2 times in one pass, not once"),
        (nn.ReLU(), "the layer runs 0 times in one pass, not once"),
    ):
        with pytest.raises(MethodUnavailable, match=reason):
            kind(score, layer).attribute_classes(images, every_class(images))


def test_scores_that_do_not_depend_on_the_layer_have_no_gradient_map(models):
    class Constant(TargetFunction):
        def of_embeddings(self, embeddings, *, fixed_length=False):
            return torch.zeros(len(embeddings), CLASSES)

    with pytest.raises(MethodUnavailable, match="do not depend on the layer's output"):
        explain(LayerGradCam, Constant(models["signed"]), pictures("signed"))


@pytest.mark.parametrize("kind", METHODS)
def test_a_pass_of_no_image_is_refused(kind, models):
    score = score_of(models["signed"])
    with pytest.raises(ValueError, match="rows: found 0, wanted 1 image or more"):
        kind(score, score.layer, rows=0)


def test_a_constant_map_is_one_everywhere():
    images = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    found = ConstantMap(nn.Identity()).attribute(images, torch.tensor([0, 1]))
    assert torch.equal(found, torch.ones(2, 1, 5, 7))


def test_a_centre_map_is_a_gaussian_of_the_distance_from_the_centre_in_sides_of_the_image():
    images = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(0))
    found = CentreGaussian(nn.Identity(), stdev=0.2).attribute(images, torch.tensor([0, 1]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found, found.flip(2))
    assert torch.equal(found, found.flip(3))
    for row in range(6):
        for column in range(9):
            down, across = (row + 0.5) / 6 - 0.5, (column + 0.5) / 9 - 0.5
            expected = math.exp(-(down**2 + across**2) / (2 * 0.2**2))
            assert found[0, 0, row, column].item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="stdev: found 0, wanted a positive share"):
        CentreGaussian(nn.Identity(), stdev=0)
