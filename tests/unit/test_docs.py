"""Promises of the documentation: its examples run, and its lists are complete."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from explained import NAMES, classifier, pictures

from clarity import catalogue, storage
from clarity.attribution.methods import Explainer, Setting
from clarity.attribution.recipe import FOILS, MethodRecipe
from clarity.attribution.targets import HEAD_OF
from clarity.config import load_config

ROOT = Path(__file__).parents[2]
METHODS = (ROOT / "docs" / "methods.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", METHODS, re.DOTALL)


def test_the_example_of_an_own_method_explains_a_model(tmp_path, monkeypatch):
    source = next(block for block in blocks("python") if "class CentreSurround" in block)
    (tmp_path / "mymethod.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    recipe = MethodRecipe(method="mymethod:CentreSurround", sigma=1.0)
    assert catalogue.check("attribution", recipe.method, recipe.arguments, "x") == []
    images, classes = pictures(), torch.tensor([0, 1, 2, 3, 4, 0])
    found = Explainer(recipe, classifier())(images, classes)
    assert found.shape == (6, 32, 32)
    # An image without edges loses nothing by being blurred.
    flat = torch.full_like(images, 0.5)
    assert Explainer(recipe, classifier())(flat, classes).abs().max() < 1e-6 < found.abs().max()
    monkeypatch.delitem(sys.modules, "mymethod")


def test_the_example_of_an_encoder_without_classes_explains_it():
    model, images = classifier(), pictures()
    names = {
        "encoder": model.encoder,
        "normalise": lambda pixels: (pixels - model.mean) / model.std,
        "one_image": images[:1],
        "some_images": images[1:3],
        "other_images": images[3:],
        "images": images,
        "which": torch.tensor([0, 1, 0, 1, 0, 1]),
    }
    exec(next(block for block in blocks("python") if "CorpusSimilarity(" in block), names)
    assert names["maps"].shape == (6, 32, 32)
    assert names["maps"].abs().amax(dim=(1, 2)).min() > 0


def test_the_example_of_reading_some_maps_reads_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell = Path("results/dataset=mnist/loss=triplet/seed=0/method=gradcam/attributions.safetensors")
    maps = torch.rand(20, 2, 4, 4).numpy()
    storage.write_tensors(cell, {"maps": maps}, {})
    names: dict = {}
    exec(next(block for block in blocks("python") if "read_tensor_rows(" in block), names)
    assert (names["maps"] == maps[[3, 17]]).all()


def test_the_example_of_recipes_is_valid(tmp_path, monkeypatch):
    source = next(block for block in blocks("python") if "class CentreSurround" in block)
    (tmp_path / "mymethod.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    methods = yaml.safe_load(blocks("yaml")[0])["methods"]
    default = yaml.safe_load((ROOT / "config.yaml").read_text())
    config = load_config({**default, "methods": methods})
    assert [n for n in config.methods if n.startswith("gradcam")] == [
        "gradcam",
        "gradcam-prototype",
        "gradcam-contrast",
    ]
    for name in ("smoothgrad", "integrated-gradients", "gradcam-contrast"):
        explain = Explainer(config.methods[name], classifier(), Setting(class_names=NAMES))
        assert explain(pictures(2), torch.tensor([0, 1])).shape == (2, 32, 32)


@pytest.mark.parametrize("name", catalogue.names("attribution"))
def test_every_class_stands_in_the_documentation(name):
    assert f"`{name}`" in METHODS


@pytest.mark.parametrize("name", [*HEAD_OF, "knn", "similarity", *FOILS])
def test_every_target_and_foil_stands_in_the_documentation(name):
    assert f"`{name}`" in METHODS
