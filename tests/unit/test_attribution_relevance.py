"""Promises of relevance propagation: it shares out what there is, as theory and Captum say."""

import copy

import captum.attr
import pytest
import torch
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import nn
from torch.nn import functional as F

from clarity.attribution.protocol import MethodUnavailable
from clarity.attribution.relevance import LRP, RULES
from clarity.attribution.targets import Score, TargetFunction
from clarity.models.classifier import Classifier, Shape
from clarity.models.encoders import Encoder, build_encoder
from clarity.models.maps import Layout
from clarity.models.networks import Trunk
from clarity.models.recipe import EncoderRecipe

CLASSES = 4
SMALL = {"epsilon": 1e-12, "stabilizer": 1e-12}
TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8}


def trained(name, size, **recipe):
    """Return a classifier with statistics as training leaves them, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Classifier(Shape({"name": name, **recipe}, 3, size, CLASSES))
        model.mean.fill_(0.4)
        model.std.fill_(0.3)
        model.prototypes.copy_(F.normalize(torch.randn_like(model.prototypes), dim=1))
        model.temperatures.fill_(0.1)
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.momentum = None
        with torch.no_grad():
            model.train()(torch.rand(32, 3, size, size))
    return model.double().eval().requires_grad_(False)


def without_constants(model):
    """Return the model with all biases at 0, those that batch normalisations amount to included."""
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.zero_()
    for name, statistic in model.named_buffers():
        if name.endswith("running_mean"):
            statistic.zero_()
    return model


@pytest.fixture(scope="module")
def convnet():
    return trained("convnet", 16)


@pytest.fixture(scope="module")
def resnet():
    return trained("torchvision/resnet18", 32)


def pictures(size, count=3):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)).double()


def all_classes(count=3):
    return torch.arange(CLASSES).repeat(count, 1)


class Residual(nn.Module):
    """A small network with all that a residual one has; rectifiers are functions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.first = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.mean = nn.AvgPool2d(2)

    def forward(self, images):
        inputs = self.pool(F.relu(self.norm(self.stem(images))))
        outputs = self.second(F.relu(self.first(inputs)))
        outputs += inputs
        return self.mean(F.relu(outputs))


class Linear(Score):
    """A linear score of the mean of a network's maps, of images as they are."""

    def __init__(self, network, channels, side):
        super().__init__()
        trunk = Trunk(network, Layout("BCHW", side, channels))
        self.encoder = Encoder(trunk, centre=False, embedding_size=None)
        self.head = nn.Linear(channels, CLASSES)
        self.double().eval().requires_grad_(False)

    def normalised(self, images):
        return images

    def of_embeddings(self, embeddings, *, fixed_length=False):
        return self.head(embeddings)


def gradient_times_input(score, images):
    """Return the products [B, K, C, H, W] of normalised pixels and gradients, the length held."""
    leaf = score.normalised(images).requires_grad_(True)
    encoder = score.encoder
    scores = score.of_maps(encoder.maps(encoder.trunk(leaf)), fixed_length=True)
    found = [
        torch.autograd.grad(scores[:, label].sum(), leaf, retain_graph=True)[0]
        for label in range(CLASSES)
    ]
    return torch.stack(found, dim=1) * leaf.detach()[:, None]


@pytest.mark.parametrize("target", ["logit", "prototype"])
@pytest.mark.parametrize("name", ["convnet", "resnet"])
def test_without_a_stabilizer_the_epsilon_rule_is_the_gradient_times_the_input(
    name, target, request
):
    # Ancona et al., 2018, "Towards better understanding of gradient-based attribution methods for
    # Deep Neural Networks", proposition 1, for rectified networks; biases keep their shares.
    score = TargetFunction(request.getfixturevalue(name), target)
    images = pictures(32 if name == "resnet" else 16)
    found = LRP(score, 8, composite="Epsilon", **SMALL).attribute_classes(images, all_classes())
    expected = gradient_times_input(score, images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("composite", RULES)
def test_the_map_sums_to_the_score_where_nothing_has_a_bias(composite):
    torch.manual_seed(0)
    score = Linear(Residual(), 6, 4)
    score.head.bias.zero_()
    images = pictures(16)
    found = LRP(score, 8, composite=composite, **SMALL).attribute_classes(images, all_classes())
    torch.testing.assert_close(found.sum(dim=(2, 3, 4)), score(images))


def test_the_map_of_a_cosine_sums_to_the_cosine_where_nothing_has_a_bias(convnet):
    score = TargetFunction(without_constants(copy.deepcopy(convnet)), "prototype")
    images = pictures(16)
    found = LRP(score, 8, **SMALL).attribute_classes(images, all_classes())
    torch.testing.assert_close(found.sum(dim=(2, 3, 4)), score(images), rtol=1e-5, atol=1e-7)


def test_what_reaches_the_last_maps_is_the_score_less_its_value_without_any_map(convnet):
    # Of the normalisation of maps too, the constant keeps its share.
    score = TargetFunction(convnet, "logit")
    maps = convnet.encoder.trunk(score.normalised(pictures(16)))
    starts = LRP(score, 8)._of_maps(maps, all_classes())
    sums = torch.stack(starts, dim=1).sum(dim=(2, 3, 4))
    without = score.of_maps(score.encoder.maps(torch.zeros_like(maps)))
    torch.testing.assert_close(sums, score(pictures(16)) - without)


class Plain(nn.Module):
    """A network with its head, as Captum's rules want it."""

    def __init__(self, network, head):
        super().__init__()
        self.network = network
        self.head = head

    def forward(self, images):
        return self.head(self.network(images).flatten(1))


def test_the_epsilon_rule_equals_captums():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU()
    )
    score = Linear(network, 8, 1)  # maps of one place: Captum has no rule for a mean over space
    images = pictures(8)
    method = LRP(score, 8, composite="Epsilon", epsilon=1e-3)
    found = method.attribute_classes(images, all_classes())
    plain = Plain(network, score.head)
    for label in range(CLASSES):
        for layer, epsilon in ((network[0], 1e-3), (network[3], 1e-3), (score.head, 1e-12)):
            layer.rule = EpsilonRule(epsilon)  # Captum takes them off again
        leaf = images.clone().requires_grad_(True)
        captums = captum.attr.LRP(plain).attribute(leaf, target=label)
        torch.testing.assert_close(found[:, label], captums.detach())


def test_the_box_rule_shares_out_by_the_distance_from_the_bounds_of_a_pixel():
    # Montavon et al., 2017, "Explaining nonlinear classification decisions with deep Taylor
    # decomposition", equation 14, of one layer.
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 4, bias=False)
    score = Linear(nn.Sequential(conv), 5, 1)
    score.normalised = lambda images: (images - 0.4) / 0.3
    images = pictures(4)
    found = LRP(score, 8, stabilizer=1e-12).attribute_classes(images, all_classes())
    x, low, high = (
        score.normalised(value)[:, None] for value in (images, 0 * images, 0 * images + 1)
    )
    weight = conv.weight[None]
    shares = x * weight - low * weight.clamp_min(0) - high * weight.clamp_max(0)
    shares = shares / shares.sum(dim=(2, 3, 4), keepdim=True)
    starts = conv(score.normalised(images))[:, None, :, 0, 0] * score.head.weight
    expected = torch.einsum("bkn,bnchw->bkchw", starts, shares)
    torch.testing.assert_close(found, expected)


def test_the_gamma_rule_favours_what_speaks_for_a_unit():
    # Montavon et al., 2019, section 10.2.1, by hand for a second layer, whose inputs are positive.
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.ReLU(), nn.Conv2d(6, 5, 1, bias=False), nn.ReLU()
    )
    score = Linear(network, 5, 2)
    images = pictures(2)
    found = LRP(score, 8, gamma=0.7, stabilizer=1e-12).attribute_classes(images, all_classes())
    hidden, maps = network[:2](images), network(images)
    weight = network[2].weight[:, :, 0, 0]
    weight = weight + 0.7 * weight.clamp_min(0)
    starts = maps[:, None] * score.head.weight[None, :, :, None, None] / 4
    active = torch.where(maps > 0, torch.einsum("nm,bmhw->bnhw", weight, hidden), 1.0)
    relevance = torch.einsum("bknhw,bnhw,nm,bmhw->bkmhw", starts, 1 / active, weight, hidden)
    # What one pixel of one colour and another get is up to the first layer's rule, not its sum.
    torch.testing.assert_close(found.sum(dim=2), relevance.sum(dim=2))


@pytest.mark.parametrize("composite", ["EpsilonGammaBox", "EpsilonPlusFlat"])
def test_the_map_of_a_contrast_is_the_difference_of_the_maps(composite, convnet):
    images, classes = pictures(16), all_classes()

    def explain(foil):
        score = TargetFunction(convnet, "logit", foil)
        return LRP(score, 8, composite=composite).attribute_classes(images, classes)

    plain = explain(None)
    logits = convnet(images)
    for row in range(len(images)):
        best, second = logits[row].topk(2).indices.tolist()
        for label in range(CLASSES):
            rival = plain[row, second if label == best else best]
            torch.testing.assert_close(explain("runner-up")[row, label], plain[row, label] - rival)
    others = (plain.sum(dim=1, keepdim=True) - plain) / (CLASSES - 1)
    torch.testing.assert_close(explain("others"), plain - others)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("efficientnet-lite0", {}),
        ("timm/densenet121", {"block_config": [2, 2], "growth_rate": 8}),
    ],
)
def test_networks_of_convolutions_and_rectifiers_can_be_explained(name, arguments):
    model = trained(name, 32, arguments=arguments).float()
    images, classes = pictures(32, 2).float(), all_classes(2)
    found = LRP(TargetFunction(model, "logit"), 8).attribute_classes(images, classes)
    assert found.shape == (2, CLASSES, 3, 32, 32)
    assert torch.isfinite(found).all()
    assert found.abs().amax(dim=(2, 3, 4)).min() > 0
    assert (found[:, 0] - found[:, 1]).abs().max() > 1e-3 * found.abs().max()


def test_a_map_depends_on_its_own_image_and_class_alone_however_passes_are_cut(convnet):
    score = TargetFunction(convnet, "logit")
    images, classes = pictures(16, 5), all_classes(5)
    together = LRP(score, 8).attribute_classes(images, classes)
    torch.testing.assert_close(LRP(score, 2).attribute_classes(images, classes), together)
    method = LRP(score, 8)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(
        method.attribute_classes(images[order], classes[order].flip(1)), together[order].flip(1)
    )
    for label in range(CLASSES):
        alone = method.attribute(images[1:2], torch.tensor([label]))
        torch.testing.assert_close(alone[0], together[1, label])


def test_explaining_leaves_the_model_as_it_was_after_an_error_too(convnet):
    score = TargetFunction(convnet, "logit")
    before = {name: value.clone() for name, value in score.state_dict().items()}
    kept = {name: module.forward.__func__ for name, module in score.named_modules() if name}
    method = LRP(score, 8)
    images = pictures(16)
    first = method.attribute_classes(images, all_classes())
    with pytest.raises(RuntimeError):
        method.attribute_classes(images, all_classes() + CLASSES)
    assert torch.equal(method.attribute_classes(images, all_classes()), first)
    assert not first.requires_grad
    assert not images.requires_grad
    for network in (score, method._network):
        assert not any(
            module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
            for module in network.modules()
        )
    assert all(torch.equal(value, before[name]) for name, value in score.state_dict().items())
    assert all(score.get_submodule(name).forward.__func__ is kept[name] for name in kept)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        (
            "timm/vit_tiny_patch16_224",
            TINY_VIT,
            r"add \(in its own forward pass\), nor for LayerNorm",
        ),
        ("torchvision/regnet_y_400mf", {}, r"Sigmoid \(network\..*\), nor for mul"),
        ("torchvision/mobilenet_v3_small", {}, r"Hardswish \(network\.features\.0\.2\)"),
        ("timm/convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}, "LayerNorm"),
    ],
)
def test_a_step_without_a_rule_makes_the_method_unavailable_and_is_named(name, arguments, reason):
    encoder = build_encoder(EncoderRecipe(name=name, arguments=arguments), 3, 32)
    score = Linear(nn.Identity(), encoder.dimension, 1)
    score.encoder = encoder.eval()
    with pytest.raises(MethodUnavailable, match=reason):
        LRP(score, 8)


def test_arguments_out_of_range_are_refused(convnet):
    score = TargetFunction(convnet, "logit")
    with pytest.raises(ValueError, match="composite: found 'Gamma', wanted one of EpsilonGammaBox"):
        LRP(score, 8, composite="Gamma")
    for name in ("epsilon", "gamma", "stabilizer"):
        with pytest.raises(ValueError, match=f"{name}: found 0, wanted a number above 0"):
            LRP(score, 8, **{name: 0})
