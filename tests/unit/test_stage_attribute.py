"""Promises of the stage `attribute`: the right classes are explained, in the right order."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from explained import CLASSES, NAMES, classifier, pictures

from clarity import storage
from clarity.attribution.recipe import MethodRecipe
from clarity.data.sets import NONE, EvaluationSet
from clarity.models import classifier as models
from clarity.stages.attribute import attribute_run, explained_classes


@pytest.fixture(scope="module")
def images() -> EvaluationSet:
    pixels = (pictures(5) * 255).to(torch.uint8).numpy()
    return EvaluationSet(
        pixels,
        np.array([[0, NONE], [3, NONE], [2, NONE], [1, 4], [4, 2]]),
        np.array([0, 1, 2, NONE, NONE]),
        None,
        NAMES,
        references=pixels[:2],
    )


RUNNERS_UP = [1, 0, 4, 0, 0]
RANKS = np.array(
    [[0, 1, 2, 3, 4], [0, 3, 4, 1, 2], [4, 2, 0, 1, 3], [2, 0, 1, 3, 4], [0, 4, 1, 2, 3]]
)


@pytest.fixture
def predictions() -> pd.DataFrame:
    rows = pd.DataFrame({"split": "evaluation", "runner_up": RUNNERS_UP})
    other = pd.DataFrame({"split": "test", "runner_up": [3, 3]})
    return pd.concat([other, rows], ignore_index=True)


def test_an_image_gets_its_label_and_the_runner_up_and_a_scene_its_two_classes(images, predictions):
    found = explained_classes(images, predictions, RANKS, "label+runner-up")
    assert found.tolist() == [[0, 1], [3, 0], [2, 4], [1, 4], [4, 2]]


def test_further_classes_follow_as_the_model_ranks_them(images, predictions):
    found = explained_classes(images, predictions, RANKS, "top-3")
    assert found.tolist() == [[0, 1, 2], [3, 0, 4], [2, 4, 0], [1, 4, 2], [4, 2, 0]]
    every = explained_classes(images, predictions, RANKS, "all")
    assert every.shape == (5, CLASSES)
    assert (np.sort(every, axis=1) == np.arange(CLASSES)).all()
    assert (every[:, :3] == found).all()


@pytest.fixture
def run(tmp_path, images, predictions):
    """Return what runs the stage in a folder, by keyword, and the folder."""
    images.write(tmp_path / "evaluation.safetensors")
    storage.write_table(tmp_path / "predictions.parquet", predictions)

    def call(methods: dict[str, dict], **more: object) -> dict:
        options = {"seed": 0, "classes": "label+runner-up", "memory": None, "compress": False}
        attribute_run(
            tmp_path / "model.safetensors",
            tmp_path / "evaluation.safetensors",
            tmp_path / "predictions.parquet",
            {name: tmp_path / f"{name}.safetensors" for name in methods},
            methods={name: MethodRecipe(**recipe) for name, recipe in methods.items()},
            code=dict.fromkeys(methods, "code"),
            costs=tmp_path / "costs",
            **{**options, **more},
        )
        return {name: storage.read_tensors(tmp_path / f"{name}.safetensors") for name in methods}

    models.save(classifier(), tmp_path / "model.safetensors")
    return call, tmp_path


def test_a_method_that_does_not_apply_is_a_row_and_the_others_go_on(run):
    call, _ = run
    found = call(
        {
            "shapley": {"method": "ShapleyValues", "segments": {"name": "grid", "count": 16}},
            "gradcam": {"method": "LayerGradCam"},
        }
    )
    tensors, metadata = found["shapley"]
    assert metadata["status"] == "unavailable"
    assert "16 regions" in metadata["reason"]
    assert tensors.keys() == {"classes"}
    assert found["gradcam"][1]["status"] == "ok"


class Wrong:
    """A method with a mistake."""

    def __init__(self, model):
        pass

    def attribute(self, inputs, target):
        raise RuntimeError("a mistake")


def test_a_failing_method_is_named_and_the_others_are_written_and_kept(run):
    call, folder = run
    methods = {
        "wrong": {"method": f"{__name__}:Wrong"},
        "gradcam": {"method": "LayerGradCam"},
    }
    with pytest.raises(ExceptionGroup, match="1 of 2 methods failed") as failure:
        call(methods)
    (error,) = failure.value.exceptions
    assert "a mistake" in str(error)
    assert "while explaining by the method 'wrong'" in error.__notes__[0]
    assert not (folder / "wrong.safetensors").exists()
    written = (folder / "gradcam.safetensors").read_bytes()
    # What a failed job has written, the workflow deletes; the next run finds it all the same.
    inode = (folder / "gradcam.safetensors").stat().st_ino
    (folder / "gradcam.safetensors").unlink()
    call({"gradcam": methods["gradcam"]})
    assert (folder / "gradcam.safetensors").stat().st_ino == inode
    assert (folder / "gradcam.safetensors").read_bytes() == written
    assert not list(folder.glob(".kept*"))


def test_what_was_kept_of_another_recipe_is_not_taken(run):
    call, folder = run
    with pytest.raises(ExceptionGroup):
        call({"cam": {"method": "LayerGradCam"}, "wrong": {"method": f"{__name__}:Wrong"}})
    (folder / "cam.safetensors").unlink()
    _, metadata = call({"cam": {"method": "HiResCAM"}})["cam"]
    assert json.loads(metadata["recipe"])["method"] == "HiResCAM"
    assert not list(folder.glob(".kept*"))


def test_a_foil_that_is_no_class_of_the_dataset_makes_the_cell_unavailable(run):
    call, _ = run
    _, metadata = call({"cam": {"method": "LayerGradCam", "foil": "class:cat"}})["cam"]
    assert metadata["status"] == "unavailable"
    assert "no class 'cat'" in metadata["reason"]


def test_the_maps_of_all_classes_begin_with_those_of_two(run):
    call, _ = run
    recipe = {"occlusion": {"method": "Occlusion", "sliding_window_shapes": [8, 8], "strides": 8}}
    two, _ = call(recipe)["occlusion"]
    every, _ = call(recipe, classes="all", compress=True)["occlusion"]
    assert two["maps"].dtype == np.float32
    np.testing.assert_allclose(every["maps"][:, :2], two["maps"], rtol=1e-4, atol=1e-6)


def test_a_cell_that_is_up_to_date_is_kept_and_another_seed_is_another_draw(run):
    call, folder = run
    recipe = {"rise": {"method": "RISE", "n_masks": 20}}
    first, _ = call(recipe)["rise"]
    written = (folder / "rise.safetensors").stat().st_ino
    call(recipe)
    assert (folder / "rise.safetensors").stat().st_ino == written
    other, _ = call(recipe, seed=1)["rise"]
    assert not np.allclose(first["maps"], other["maps"])
