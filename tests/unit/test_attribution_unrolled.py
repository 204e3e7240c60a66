"""Promises of unrolled networks and of what works on them: the same outputs, sums that add up."""

import warnings

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zennit.layer import Sum

from clarity.attribution.adapted import (
    Deconvolution,
    DeepLift,
    DeepLiftShap,
    GuidedBackprop,
    GuidedGradCam,
    LayerActivation,
)
from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.targets import Score, TargetFunction
from clarity.attribution.unrolled import merge_batch_norms, steps, unroll
from clarity.models.classifier import HEADS, Classifier, Shape
from clarity.models.encoders import Encoder, build_encoder
from clarity.models.maps import Layout
from clarity.models.networks import Trunk
from clarity.models.recipe import EncoderRecipe

CLASSES = 4
TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8}
NETWORKS = {
    "convnet": {"name": "convnet"},
    "resnet18": {"name": "torchvision/resnet18"},
    "resnet50": {"name": "torchvision/resnet50"},
    "tapped": {"name": "torchvision/resnet18", "cam-layer": "layer3"},
    "vgg": {"name": "torchvision/vgg11_bn"},
    "mobilenet": {"name": "torchvision/mobilenet_v3_small"},
    "densenet": {"name": "torchvision/densenet121"},
    "shufflenet": {"name": "torchvision/shufflenet_v2_x0_5"},
    "lite0": {"name": "efficientnet-lite0"},
    "timm-resnet": {"name": "timm/resnet18"},
    "vit": {"name": "timm/vit_tiny_patch16_224", "arguments": TINY_VIT},
}
RECTIFIED = {
    "guided": (GuidedBackprop, captum.attr.GuidedBackprop),
    "deconvolution": (Deconvolution, captum.attr.Deconvolution),
}


def trunk(recipe, size=64):
    """Return a trunk with statistics that are not those of a new network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build_encoder(EncoderRecipe(**recipe), 3, size).trunk
        for layer in made.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
    return made.eval().requires_grad_(False)


def pictures(size, count=3, seed=1):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def all_classes(count=3):
    return torch.arange(CLASSES).repeat(count, 1)


def has_hooks(network):
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in network.modules()
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unrolled_network_yields_the_same_from_layers_that_are_called_once(name):
    network = trunk(NETWORKS[name])
    state = {key: value.clone() for key, value in network.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in network.modules()]
    unrolled = unroll(network)
    images = pictures(64, 2)
    expected = network(images)
    assert torch.equal(unrolled(images), expected)
    calls = [node.target for node in unrolled.graph.nodes if node.op == "call_module"]
    assert sorted(calls) == sorted(child for child, _ in unrolled.named_children())
    assert len(set(calls)) == len(calls)
    assert [child for child, _ in unrolled.named_children()] == calls
    merge_batch_norms(unrolled)
    scale = expected.abs().max().item()
    torch.testing.assert_close(unrolled(images), expected, rtol=1e-4, atol=3e-5 * scale)
    assert [len(module._forward_hooks) for module in network.modules()] == hooks
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_what_follows_the_end_of_a_trunk_is_left_out_and_normalisations_merge():
    unrolled = unroll(trunk(NETWORKS["resnet18"]))
    kinds = [type(layer) for layer in unrolled.children()]
    assert kinds.count(nn.ReLU) == 17
    assert kinds.count(Sum) == 8
    assert nn.AdaptiveAvgPool2d not in kinds
    merge_batch_norms(unrolled)
    kinds = [type(layer) for layer in unrolled.children()]
    assert nn.BatchNorm2d not in kinds
    assert kinds.count(nn.Conv2d) == 20


class Functional(nn.Module):
    """A network of one convolution whose other steps are functions, one rectifier used twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)

    def forward(self, images):
        maps = self.relu(F.avg_pool2d(self.conv(images), 2))
        maps = F.dropout(self.drop(maps), 0.5, self.training)
        once = torch.max_pool2d(maps, kernel_size=3, stride=1, padding=1)
        twice = self.relu(once - maps) + once
        batch, channels, height, width = twice.size()
        groups = twice.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return groups.reshape(batch, -1, height, width).relu() * torch.sigmoid(maps)


def test_functions_and_shared_layers_become_layers_of_their_own():
    torch.manual_seed(0)
    network = Functional().eval()
    unrolled = unroll(network)
    images = pictures(16)
    assert torch.equal(unrolled(images), network(images))
    kinds = [type(layer).__name__ for layer in unrolled.children()]
    assert sorted(kinds) == sorted(
        ["Conv2d", "AvgPool2d", "ReLU", "MaxPool2d", "ReLU", "Sum", "ReLU", "Sigmoid"]
    )
    assert [step.kind for step in steps(unrolled) if step.layer is None] == ["sub", "mul"]


def test_a_square_is_no_product_with_a_constant():
    class Squared(nn.Module):
        def forward(self, images):
            return images * images + images + images * 2

    found = [(step.kind, step.features) for step in steps(unroll(Squared()))]
    assert found == [("mul", 2), ("Sum", 1), ("mul", 1), ("Sum", 1)]


def test_a_network_whose_steps_depend_on_the_image_has_no_one_graph():
    class Branching(nn.Module):
        def forward(self, images):
            return images.relu() if images.mean() > 0.5 else images

    with pytest.raises(MethodUnavailable, match="cannot be unrolled into a graph: symbolically"):
        unroll(Branching())


def classifier(name, size, **recipe):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(Shape({"name": name, **recipe}, 3, size, CLASSES))
        model.mean.fill_(0.4)
        model.std.fill_(0.3)
        for prototypes in (model.prototypes, model.prototypes_centred):
            prototypes.copy_(F.normalize(torch.randn_like(prototypes), dim=1))
        model.center.normal_(0, 0.01)
        references = F.normalize(torch.randn(40, model.dimension), dim=1)
        model.set_references(references, torch.arange(40) % CLASSES)
        model.temperatures.fill_(0.1)
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.momentum = None
        with torch.no_grad():
            model.train()(torch.rand(32, 3, size, size) ** 2)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def convnet():
    return classifier("convnet", 16)


@pytest.fixture(scope="module")
def resnet():
    return classifier("torchvision/resnet18", 32)


@pytest.fixture(scope="module")
def gated():
    """Squeeze-and-excitation, hard swish and no maximum: products and more than rectifiers."""
    return classifier("torchvision/mobilenet_v3_small", 32).double()


class Plain(Score):
    """A linear score of the mean of a network's maps: Captum finds its layers, each used once."""

    def __init__(self, network, channels, side):
        super().__init__()
        made = Trunk(network, Layout("BCHW", side, channels))
        self.encoder = Encoder(made, centre=False, embedding_size=None)
        self.head = nn.Linear(channels, CLASSES)
        self.eval().requires_grad_(False)

    def normalised(self, images):
        return (images - 0.4) / 0.3

    def of_embeddings(self, embeddings, *, fixed_length=False):
        return self.head(embeddings)


@pytest.fixture(scope="module")
def plain():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # No two nonlinear layers in a row: Captum's DeepLift then is far from adding up.
        convolutions = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 8, 3),
            nn.Conv2d(8, 8, 2),
            nn.Conv2d(8, 8, 2),
        )
        others = nn.ReLU(), nn.MaxPool2d(2), nn.ELU(), nn.ReLU()
        layers = [layer for pair in zip(convolutions, others, strict=True) for layer in pair]
        return Plain(nn.Sequential(*layers), 8, 3)


def captums(kind, score, images, **given):
    """Return the attributions [B, K, C, H, W] of a class of Captum's, class by class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that hooks are set
        found = [
            kind(score).attribute(images.clone().requires_grad_(True), target=label, **given)
            for label in range(CLASSES)
        ]
    return torch.stack(found, dim=1).detach()


@pytest.mark.parametrize("target", [t for t in HEADS if t != "linear"] + ["logit", "similarity"])
def test_deeplift_adds_up_to_the_change_of_the_score(target, convnet):
    score = TargetFunction(convnet, target)
    images, baselines = pictures(16), pictures(16, seed=2) ** 3
    found = DeepLift(score, 8).attribute_classes(images, all_classes(), baselines=baselines)
    change = score(images) - score(baselines)
    assert found.shape == (3, CLASSES, 3, 16, 16)
    gap = (found.sum(dim=(2, 3, 4)) - change).abs().max()
    assert gap < 1e-4 * change.abs().max()


@pytest.mark.parametrize(("name", "share"), [("resnet", 1e-4), ("gated", 1e-6)])
def test_deeplift_adds_up_through_residual_blocks_maxima_and_gates(name, share, request):
    # In double precision where the score of a fresh network hardly changes.
    model = request.getfixturevalue(name)
    score = TargetFunction(model, "logit")
    images = pictures(32).to(model.mean)
    black = torch.zeros_like(images)
    found = DeepLift(score, 8, eps=1e-10).attribute_classes(images, all_classes(), baselines=black)
    change = score(images) - score(black)
    gap = (found.sum(dim=(2, 3, 4)) - change).abs().max()
    assert gap < share * change.abs().max()


def test_deeplift_of_the_margin_adds_up_but_for_the_corner_where_the_runner_up_changes(convnet):
    score = TargetFunction(convnet, "logit", "runner-up")
    images = pictures(16)
    black = torch.zeros_like(images)
    found = DeepLift(score, 8).attribute_classes(images, all_classes(), baselines=black)
    change = score(images) - score(black)
    assert (found.sum(dim=(2, 3, 4)) - change).abs().max() < 0.02 * change.abs().max()


def test_deeplift_equals_captums_where_captum_has_all_rules(plain):
    images, baselines = pictures(14), pictures(14, seed=2)
    expected = captums(captum.attr.DeepLift, plain, images, baselines=baselines)
    found = DeepLift(plain, 8, eps=1e-10).attribute_classes(
        images, all_classes(), baselines=baselines
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    multipliers = DeepLift(plain, 8, multiply_by_inputs=False).attribute_classes(
        images, all_classes(), baselines=baselines
    )
    torch.testing.assert_close(multipliers * (images - baselines)[:, None], found)


def test_deepliftshap_is_the_mean_of_deeplift_over_baselines(plain, convnet):
    images, references = pictures(16), pictures(16, count=5, seed=2)
    score = TargetFunction(convnet, "prototype")
    found = DeepLiftShap(score, 2).attribute_classes(images, all_classes(), baselines=references)
    single = DeepLift(score, 8)
    each = [
        single.attribute_classes(images, all_classes(), baselines=one.expand_as(images))
        for one in references
    ]
    torch.testing.assert_close(found, torch.stack(each).mean(dim=0), rtol=1e-4, atol=1e-6)
    images, references = images[..., :14, :14], references[..., :14, :14]
    found = DeepLiftShap(plain, 8).attribute_classes(images, all_classes(), baselines=references)
    expected = captums(captum.attr.DeepLiftShap, plain, images, baselines=references)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_step_without_a_rule_makes_deeplift_unavailable():
    encoder = build_encoder(EncoderRecipe(**NETWORKS["vit"]), 3, 32)
    score = Plain(nn.Sequential(nn.Identity()), encoder.dimension, 1)
    score.encoder = encoder.eval()
    with pytest.raises(MethodUnavailable, match=r"DeepLift has no rule for LayerNorm \(network\.b"):
        DeepLift(score, 8)
    with pytest.raises(ValueError, match="eps: found 0, wanted a number above 0"):
        DeepLift(score, 8, eps=0)


@pytest.mark.parametrize("name", RECTIFIED)
def test_rules_for_rectifiers_equal_captums_on_a_network_that_uses_each_once(name, plain):
    ours, theirs = RECTIFIED[name]
    images = pictures(14)
    found = ours(plain, 8).attribute_classes(images, all_classes())
    torch.testing.assert_close(found, captums(theirs, plain, images))
    gradient = captums(captum.attr.Saliency, plain, images, abs=False)
    assert (found - gradient).abs().max() > 0.1 * gradient.abs().max()


@pytest.mark.parametrize("name", RECTIFIED)
def test_rules_for_rectifiers_reach_those_that_are_used_twice_and_those_that_are_cut_off(name):
    class Reused(nn.Module):
        def __init__(self, second):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.next = nn.Conv2d(8, 8, 3)
            self.relu = nn.ReLU()
            self.second = second

        def forward(self, images):
            return (self.second or self.relu)(self.next(self.relu(self.conv(images))))

    ours, theirs = RECTIFIED[name]
    torch.manual_seed(0)
    once, twice = Reused(nn.ReLU()), Reused(None)
    capped = Reused(nn.ReLU6())  # no map of it reaches 6
    scores = [Plain(network, 8, 10) for network in (once, twice, capped)]
    for score in scores[1:]:
        score.load_state_dict(scores[0].state_dict(), strict=False)
    images = pictures(14)
    expected = captums(theirs, scores[0], images)
    for score in scores[1:]:
        found = ours(score, 8).attribute_classes(images, all_classes())
        torch.testing.assert_close(found, expected)


def test_without_a_rectifier_these_methods_are_unavailable():
    score = Plain(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU()), 8, 6)
    for kind in (GuidedBackprop, Deconvolution):
        with pytest.raises(MethodUnavailable, match=f"{kind.__name__} changes the gradient of ReL"):
            kind(score, 8)
    with pytest.raises(MethodUnavailable, match="GuidedGradCam changes"):
        GuidedGradCam(score, score.layer, 8)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_guided_grad_cam_equals_captums(mode, plain):
    images = pictures(14)
    found = GuidedGradCam(plain, plain.layer, 8, interpolate_mode=mode).attribute_classes(
        images, all_classes()
    )
    expected = captums(
        lambda score: captum.attr.GuidedGradCam(score, score.layer),
        plain,
        images,
        interpolate_mode=mode,
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(ValueError, match="interpolate_mode: found 'area', wanted nearest, bil"):
        GuidedGradCam(plain, plain.layer, 8, interpolate_mode="area")


def test_the_activation_of_a_layer_is_the_mean_of_its_maps_whatever_the_class(resnet):
    images = pictures(32, 5)
    score = TargetFunction(resnet, "logit")
    layer = resnet.encoder.trunk.network.get_submodule("layer2")
    found = LayerActivation(score, layer, 2).attribute_classes(images, all_classes(5))
    expected = captum.attr.LayerActivation(score, layer).attribute(images).mean(dim=1)
    assert found.shape == (5, CLASSES, 1, 4, 4)
    for label in range(CLASSES):
        torch.testing.assert_close(found[:, label, 0], expected.detach())


METHODS = {
    "deeplift": lambda score, rows: DeepLift(score, rows),
    "deepliftshap": lambda score, rows: DeepLiftShap(score, rows),
    "guided": lambda score, rows: GuidedBackprop(score, rows),
    "deconvolution": lambda score, rows: Deconvolution(score, rows),
    "guided-grad-cam": lambda score, rows: GuidedGradCam(score, score.layer, rows),
    "activation": lambda score, rows: LayerActivation(score, score.layer, rows),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_its_own_image_and_class_alone_and_nothing_is_left_behind(name, convnet):
    score = TargetFunction(convnet, "prototype", "runner-up")
    state = {key: value.clone() for key, value in score.state_dict().items()}
    images, classes = pictures(16, 5), all_classes(5)
    pixels = images.clone()
    references = pictures(16, 3, seed=2)

    def explain(which, chosen, rows):
        base = references if name == "deepliftshap" else torch.zeros_like(which)
        given = {"baselines": base} if name.startswith("deeplift") else {}
        return METHODS[name](score, rows).attribute_classes(which, chosen, **given)

    together = explain(images, classes, 8)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    assert torch.equal(explain(images, classes, 8), together)
    close = {"rtol": 1e-3, "atol": 1e-5 * together.abs().max().item()}
    torch.testing.assert_close(explain(images, classes, 2), together, **close)
    order = torch.tensor([3, 0, 4, 2, 1])
    turned = explain(images[order], classes[order].flip(1), 8).flip(1)
    torch.testing.assert_close(turned, together[order], **close)
    alone = [explain(images, classes[:, k : k + 1], 8) for k in range(CLASSES)]
    torch.testing.assert_close(torch.cat(alone, dim=1), together, **close)
    assert torch.equal(images, pixels)
    assert not images.requires_grad
    assert not has_hooks(score)
    assert not score.encoder.training
    assert all(torch.equal(value, state[key]) for key, value in score.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_an_error_amid_the_work_leaves_no_hook_behind(name, convnet):
    score = TargetFunction(convnet, "logit")
    given = {"baselines": pictures(16)} if name.startswith("deeplift") else {}
    method = METHODS[name](score, 8)
    with pytest.raises(RuntimeError):
        method.attribute_classes(pictures(16)[:, :1].repeat(1, 2, 1, 1), all_classes(), **given)
    assert not has_hooks(score)
