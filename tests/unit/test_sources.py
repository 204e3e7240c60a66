"""Promises of the sources: each named data set's own pixels, labels and splits, as selected."""

import csv
import json
import pickle
import struct
import sys
import zlib
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from pydantic import ValidationError
from scipy.io import savemat

from clarity import catalogue, signatures
from clarity.data import folders, pictures, torchvision_source
from clarity.data.recipe import REFUSED, SIZES_DIFFER, TEST_SPLITS, dataset_recipe
from clarity.data.sets import EvaluationSet, Splits
from clarity.data.sources import load_splits
from clarity.stages.prepare import prepare

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
RNG = np.random.default_rng(0)

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not here")


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def torchvision_recipe(name: str, **keys) -> dict:
    return {"source": f"torchvision/{name}", "download": False} | kebab(keys)


def folder_recipe(**keys) -> dict:
    return {"source": "image-folder"} | kebab(keys)


def kebab(keys: dict) -> dict:
    """Spell CLarity's own keys as the config does, and leave torchvision's as they are."""
    return {key if key == "target_types" else key.replace("_", "-"): keys[key] for key in keys}


def load(data: Path, recipe: dict) -> tuple[Splits, np.ndarray | None]:
    assert problems(recipe, data) == []
    return load_splits(dataset_recipe(recipe), "own", str(data))


def problems(recipe: dict, data: Path | None = None) -> list[str]:
    root = None if data is None else str(data)
    return list(dataset_recipe(recipe).problems("datasets.own", root))


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write_digits(raw: Path, labels: dict[str, np.ndarray], prefix: str = "") -> dict:
    images = {}
    for split, own in labels.items():
        images[split] = noise(len(own), 28, 28)
        word = "t10k" if split == "test" and not prefix else split
        write_idx(raw / f"{prefix}{word}-images-idx3-ubyte", images[split])
        write_idx(raw / f"{prefix}{word}-labels-idx1-ubyte", own)
    return images


def save(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_folder(folder: Path, counts: dict[str, int], size: int = 16) -> dict[str, np.ndarray]:
    """Write noise as an image folder; return its pixels by path below the folder."""
    names = [f"{name}/{number:03d}.png" for name in counts for number in range(counts[name])]
    return {name: save(folder / name, noise(size, size, 3)) for name in names}


def channels_first(images) -> np.ndarray:
    return np.stack(list(images)).transpose(0, 3, 1, 2)


# torchvision's classes that hold arrays


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_digits_come_as_they_are_stored(name, tmp_path):
    labels = {"train": np.repeat(np.arange(10), 3), "test": np.arange(10)}
    images = write_digits(tmp_path / name / "raw", labels)
    splits, masks = load(tmp_path, torchvision_recipe(name))
    np.testing.assert_array_equal(splits.train_images[:, 0], images["train"])
    np.testing.assert_array_equal(splits.test_images[:, 0], images["test"])
    np.testing.assert_array_equal(splits.train_labels, labels["train"])
    assert splits.class_names == tuple(getattr(torchvision.datasets, name).classes)
    assert masks is None


def test_where_split_names_a_variety_it_is_the_users_and_labels_begin_at_zero(tmp_path):
    labels = {"train": np.repeat(np.arange(1, 27), 2), "test": np.arange(1, 27)}
    write_digits(tmp_path / "EMNIST" / "raw", labels, "emnist-letters-")
    splits, _ = load(tmp_path, torchvision_recipe("EMNIST", split="letters"))
    np.testing.assert_array_equal(splits.train_labels, labels["train"] - 1)
    assert len(splits.class_names) == 26
    assert splits.class_names[0] == "a"
    assert "needs the argument 'split'" in problems(torchvision_recipe("EMNIST"), tmp_path)[0]


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Write CIFAR-10's files with 200 training and 40 test images of noise."""
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels, labels = noise(240, 3, 32, 32), np.tile(np.arange(10), 24)
    for number, file in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        part = slice(number * 40, (number + 1) * 40)
        content = {"data": pixels[part].reshape(40, -1), "labels": labels[part].tolist()}
        (folder / file).write_bytes(pickle.dumps(content))
    names = [f"class {number}" for number in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return tmp_path, pixels, labels


def test_cifar_comes_as_it_is_stored(cifar):
    root, pixels, labels = cifar
    splits, _ = load(root, torchvision_recipe("CIFAR10"))
    np.testing.assert_array_equal(splits.train_images, pixels[:200])
    np.testing.assert_array_equal(splits.test_images, pixels[200:])
    np.testing.assert_array_equal(splits.test_labels, labels[200:])


def test_classes_by_name_keep_the_data_sets_order_and_images_per_class_are_counted(cifar):
    root, pixels, labels = cifar
    recipe = torchvision_recipe("CIFAR10", classes=["class 7", "class 2"], train_images_per_class=5)
    splits, _ = load(root, recipe)
    assert splits.class_names == ("class 2", "class 7")
    assert np.bincount(splits.train_labels).tolist() == [5, 5]
    np.testing.assert_array_equal(splits.test_images, pixels[200:][np.isin(labels[200:], [2, 7])])
    again, _ = load(root, recipe)
    np.testing.assert_array_equal(splits.train_images, again.train_images)
    with pytest.raises(ValueError, match=r"datasets\.own\.classes.*did you mean 'class 7'"):
        load(root, torchvision_recipe("CIFAR10", classes=["class 2", "clas 7"]))
    with pytest.raises(ValueError, match="found 11, wanted at most 10"):
        load(root, torchvision_recipe("CIFAR10", classes=11))


@pytest.mark.parametrize("size", [16, 20, 48])
@pytest.mark.parametrize("colour", ["as-is", "grey"])
def test_an_array_is_resized_and_greyed_as_pillow_would(cifar, size, colour):
    root, pixels, _ = cifar
    splits, _ = load(root, torchvision_recipe("CIFAR10", classes=3, size=size, colour=colour))
    mode = "L" if colour == "grey" else "RGB"
    picture = Image.fromarray(pixels[0].transpose(1, 2, 0)).convert(mode)
    expected = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    found = splits.train_images[0].transpose(1, 2, 0).astype(int)
    assert splits.class_names == ("class 0", "class 1", "class 2")
    assert np.abs(found - expected.reshape(size, size, -1)).max() <= 1


def test_several_splits_are_joined_and_classes_without_names_are_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda _: True)
    images = {split: noise(20, 32, 32, 3) for split in ("train", "extra", "test")}
    for split, own in images.items():
        # The file calls the digit 0 10.
        labels = np.tile(np.arange(1, 11), 2)[:, None]
        savemat(tmp_path / f"{split}_32x32.mat", {"X": own.transpose(1, 2, 3, 0), "y": labels})
    splits, _ = load(tmp_path, torchvision_recipe("SVHN", train_split=["train", "extra"]))
    whole = np.concatenate([images["train"], images["extra"]])
    np.testing.assert_array_equal(splits.train_images, channels_first(whole))
    assert splits.train_labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert splits.class_names == tuple("0123456789")


# torchvision's classes that read files


def test_without_a_split_a_share_of_each_class_is_kept_for_testing(tmp_path):
    counts = {"Forest": 20, "Highway": 10, "River": 5}
    pixels = write_folder(tmp_path / "eurosat" / "2750", counts)
    recipe = torchvision_recipe("EuroSAT", test_share=0.4)
    splits, _ = load(tmp_path, recipe)
    assert np.bincount(splits.test_labels).tolist() == [8, 4, 2]
    assert np.bincount(splits.train_labels).tolist() == [12, 6, 3]
    both = np.concatenate([splits.train_images, splits.test_images])
    expected = channels_first(pixels.values())
    assert {image.tobytes() for image in both} == {image.tobytes() for image in expected}
    assert splits.class_names == ("Forest", "Highway", "River")
    other = load_splits(dataset_recipe(recipe), "another", str(tmp_path))[0]
    assert (other.test_images != splits.test_images).any()


def test_only_the_pictures_that_are_selected_are_opened(tmp_path, monkeypatch):
    for split in ("train", "test"):
        names = {
            c: [f"{c}/{split}{n}" for n in range(6)] for c in ("apple_pie", "cup_cakes", "waffles")
        }
        for name in chain(*names.values()):
            save(tmp_path / "food-101" / "images" / f"{name}.jpg", noise(20, 30, 3))
        (tmp_path / "food-101" / "meta").mkdir(exist_ok=True)
        (tmp_path / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(names))
    opened = []
    one = pictures.open_picture
    monkeypatch.setattr(pictures, "open_picture", lambda path: opened.append(path) or one(path))
    recipe = torchvision_recipe(
        "Food101", classes=2, train_images_per_class=3, test_images_per_class=1, size=16
    )
    splits, _ = load(tmp_path, recipe)
    assert splits.train_images.shape == (6, 3, 16, 16)
    assert splits.test_images.shape == (2, 3, 16, 16)
    # The first picture of each part is opened twice, to learn its size and channels.
    assert len(opened) == 8 + 2
    assert not any("waffles" in path for path in opened)


def test_a_class_without_a_loader_is_read_through_itself(tmp_path):
    base = tmp_path / "gtsrb"
    for number in range(3):
        for picture in range(4):
            save(base / "GTSRB" / "Training" / f"{number:05d}" / f"{picture}.ppm", noise(20, 18, 3))
    pixels = [
        save(base / "GTSRB/Final_Test/Images" / f"{n}.ppm", noise(16, 16, 3)) for n in range(3)
    ]
    with (base / "GT-final_test.csv").open("w") as stream:
        rows = csv.writer(stream, delimiter=";")
        rows.writerows([["Filename", "ClassId"], *([f"{n}.ppm", 2 - n] for n in range(3))])
    splits, _ = load(tmp_path, torchvision_recipe("GTSRB", size=16))
    assert splits.train_labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert splits.test_labels.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(splits.test_images, channels_first(pixels))


def write_pets(root: Path) -> dict[str, np.ndarray]:
    """Write three breeds, with a border around each rectangular pet; return the trimaps."""
    base, trimaps = root / "oxford-iiit-pet", {}
    breeds = [("Abyssinian", 1), ("beagle", 2), ("Bengal", 1)]
    for split in ("trainval", "test"):
        lines = []
        for label, (breed, species) in enumerate(breeds, start=1):
            for number in range(2):
                name = f"{breed}_{split}_{number}"
                trimap = np.full((40, 60), 2, dtype=np.uint8)
                trimap[9:31, 19:41], trimap[10:30, 20:40] = 3, 1
                trimaps[name] = save(base / "annotations" / "trimaps" / f"{name}.png", trimap)
                # The pet is white on black, so that its image tells where its mask must be.
                white = np.where(trimap[..., None] != 2, 255, 0).astype(np.uint8)
                save(base / "images" / f"{name}.jpg", np.repeat(white, 3, axis=2))
                lines.append(f"{name} {label} {species} 1\n")
        (base / "annotations" / f"{split}.txt").write_text("".join(lines))
    return trimaps


@pytest.mark.parametrize("size", [40, 24])
def test_a_pets_mask_is_its_outline_with_the_border_changed_like_its_image(size, tmp_path):
    write_pets(tmp_path)
    splits, masks = load(tmp_path, torchvision_recipe("OxfordIIITPet", size=size))
    assert splits.class_names == ("Abyssinian Trainval", "Beagle Trainval", "Bengal Trainval")
    assert masks.shape == (6, 2, size, size)
    assert not masks[:, 1].any()
    bright = splits.test_images.mean(axis=1) >= 128
    # JPEG blurs the edge, by less than a pixel.
    assert (bright != masks[:, 0]).mean() < 0.03
    assert masks[0, 0].sum() == pytest.approx(22 * 22 * (size / 40) ** 2, rel=0.12)


def test_pets_may_be_cats_and_dogs(tmp_path):
    write_pets(tmp_path)
    recipe = torchvision_recipe("OxfordIIITPet", size=24, target_types="binary-category")
    splits, masks = load(tmp_path, recipe)
    assert splits.class_names == ("Cat", "Dog")
    assert splits.test_labels.tolist() == [0, 0, 1, 1, 0, 0]
    assert masks[:, 0].any(axis=(1, 2)).all()


@pytest.mark.parametrize(("size", "archive"), [(24, "-160"), (200, "-320"), (400, "")])
def test_imagenettes_smallest_archive_that_is_enough_is_taken(size, archive, tmp_path):
    counts = {"n01440764": 2, "n02102040": 2}
    for split in ("train", "val"):
        for name in [f"{wnid}/{n}.JPEG" for wnid in counts for n in range(2)]:
            save(tmp_path / f"imagenette2{archive}" / split / name, noise(30, 40, 3))
    splits, _ = load(tmp_path, torchvision_recipe("Imagenette", size=size))
    assert splits.class_names == ("tench", "English springer")
    assert splits.test_images.shape == (4, 3, size, size)


def test_a_class_of_ones_own_is_read_like_torchvisions(tmp_path, monkeypatch):
    (tmp_path / "birds.py").write_text(
        "from PIL import Image\n"
        "class Birds:\n"
        "    classes = ['owl', 'wren']\n"
        "    def __init__(self, root, split='train', shade=10):\n"
        "        self.shade, self.count = shade, {'train': 8, 'test': 4}[split]\n"
        "    def __len__(self):\n"
        "        return self.count\n"
        "    def __getitem__(self, row):\n"
        "        if row >= self.count:\n"
        "            raise IndexError(row)\n"
        "        return Image.new('L', (16, 16), self.shade * (row % 2)), row % 2\n"
    )
    monkeypatch.chdir(tmp_path)
    recipe = {"source": "birds:Birds", "download": False, "shade": 7, "root": "."}
    splits, _ = load(tmp_path, recipe)
    assert splits.class_names == ("owl", "wren")
    assert splits.train_images.shape == (8, 1, 16, 16)
    np.testing.assert_array_equal(splits.test_images[:, 0, 0, 0], [0, 7, 0, 7])
    assert "unknown argument" in problems(recipe | {"shades": 7}, tmp_path)[0]


@pytest.mark.parametrize(
    ("train", "test", "wanted"),
    [
        ([0, 1, 0, 1], [0, 1, 2], r"found test images of the labels \[2\] without training"),
        ([0, 1, 0, 1], [0, 0], "found no test image of the class '1'"),
        ([0, 1, 0, 1], [0, None], "wanted the number of a class"),
        ([0, -1, 0, 1], [0, 1], "wanted the number of a class"),
        ([0.0, 1.0, 0.0], [0, 1], "wanted the number of a class"),
    ],
)
def test_labels_that_make_no_classification_are_an_error(
    train, test, wanted, tmp_path, monkeypatch
):
    (tmp_path / "labelled.py").write_text(
        "import numpy as np\n"
        "class Labelled:\n"
        f"    parts = {{True: {train}, False: {test}}}\n"
        "    def __init__(self, train=True):\n"
        "        self.targets = self.parts[train]\n"
        "        self.data = np.zeros((len(self.targets), 8, 8), np.uint8)\n"
        "    def __len__(self):\n"
        "        return len(self.targets)\n"
        "    def __getitem__(self, row):\n"
        "        return self.data[row], self.targets[row]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "labelled", raising=False)
    signatures._parse.cache_clear()
    with pytest.raises(ValueError, match=wanted):
        load(tmp_path, {"source": "labelled:Labelled"})


def test_a_missing_data_set_says_which_where_and_whether_it_was_fetched(tmp_path):
    recipe = dataset_recipe(torchvision_recipe("CIFAR10"))
    with pytest.raises(RuntimeError) as caught:
        load_splits(recipe, "own", str(tmp_path))
    note = " ".join(caught.value.__notes__)
    assert f"datasets.own: while reading torchvision/CIFAR10 from {tmp_path}" in note
    assert "download: false" in note


# every class, as its source says


@pytest.mark.parametrize("name", catalogue.names("datasets"))
def test_each_class_that_may_be_named_takes_the_arguments_and_splits_that_it_is_given(
    name, tmp_path
):
    keys = {"split": "letters"} if name == "EMNIST" else {}
    recipe = dataset_recipe(torchvision_recipe(name, size=32, **keys))
    key, train, test = recipe.splits()
    assert bool(train) == bool(test)
    kind = getattr(torchvision.datasets, name)
    for split in [*train, *test] or [None]:
        given = {} if key is None else {key: split}
        arguments = torchvision_source._arguments(recipe, tmp_path, given, masked=True)
        # An empty root: it may find no files, but it must know every word.
        with pytest.raises((RuntimeError, OSError)) as caught:
            kind(**arguments)
        assert "Unknown value" not in str(caught.value)


def test_torchvisions_classes_are_each_offered_or_refused_for_a_reason():
    offered = set(catalogue.names("datasets"))
    words = {word for word in torchvision.datasets.__all__ if word[0].isupper()}
    assert offered | REFUSED.keys() == words
    assert not offered & REFUSED.keys()
    assert {*SIZES_DIFFER, *TEST_SPLITS} <= offered


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"source": "torchvision/CIFR10"}, "did you mean 'CIFAR10'?"),
        ({"source": "torchvision/CocoDetection"}, "its targets are boxes"),
        ({"source": "torchvision/Kinetics"}, "it holds videos"),
        ({"source": "torchvision/ImageFolder"}, "source: image-folder"),
        ({"source": "torchvision/DTD", "size": 32, "partitoin": 2}, "did you mean 'partition'?"),
        ({"source": "torchvision/DTD", "size": 32, "partition": "x"}, "wanted int"),
        ({"source": "torchvision/DTD"}, "datasets.own.size: missing"),
        ({"source": "torchvision/DTD", "size": 32, "split": "val"}, "write `train-split`"),
        ({"source": "torchvision/DTD", "size": 32, "test-share": 0.5}, "split of its own"),
        ({"source": "torchvision/CIFAR10", "train-split": "train"}, "no name of a split"),
        ({"source": "torchvision/CIFAR10", "transform": "x"}, "not an argument for a recipe"),
        ({"source": "torchvision/EuroSAT", "test-split": "test"}, "no name of a split"),
        ({"source": "torchvision/CIFAR10", "classes": ["a", "a"]}, "wanted each class once"),
        (
            {"source": "torchvision/OxfordIIITPet", "size": 32, "target_types": "segmentation"},
            "wanted category",
        ),
        (
            {"source": "torchvision/CIFAR10", "download": False, "root": "/nowhere"},
            "no folder /nowhere",
        ),
        ({"source": "nowhere:Birds"}, "no Python source of a module 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_before_any_job_starts(keys, wanted):
    found = problems(keys)
    assert len(found) == 1
    assert found[0].startswith("datasets.own")
    assert wanted in found[0]


@pytest.mark.parametrize(
    "keys",
    [
        {"source": "torchvison/CIFAR10"},
        {"source": "torchvision/CIFAR10", "sizes": "x", "bad-key": 1},
        {"source": "torchvision/CIFAR10", "classes": 1},
        {"source": "torchvision/CIFAR10", "mosaic": "3x3"},
        {"source": "image-folder", "trian": "x"},
        {"source": "image-folder", "colour": "as-is"},
        {"source": "scenes", "mosaic": "2x2"},
        {},
    ],
)
def test_a_recipe_with_an_impossible_key_is_none(keys):
    with pytest.raises(ValidationError):
        dataset_recipe(keys)


# image folders


def test_an_image_folder_comes_class_by_class_in_sorted_order(tmp_path):
    train = write_folder(tmp_path / "train", {"b": 3, "a": 2})
    test = write_folder(tmp_path / "test", {"a": 1, "b": 1})
    save(tmp_path / "train" / "b" / ".hidden.png", noise(8, 8, 3))
    (tmp_path / "train" / "b" / "notes.txt").write_text("no picture")
    splits, masks = load(tmp_path, folder_recipe(train="train", test="test"))
    assert splits.class_names == ("a", "b")
    assert splits.train_labels.tolist() == [0, 0, 1, 1, 1]
    expected = channels_first(train[name] for name in sorted(train))
    np.testing.assert_array_equal(splits.train_images, expected)
    np.testing.assert_array_equal(splits.test_images, channels_first(test.values()))
    assert masks is None


def png(width: int, height: int, pixels: bytes) -> bytes:
    """Return a PNG file of one grey channel whose pixels are compressed as they are given."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    about = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", about), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        png(8, 8, bytes(72))[:-30],
        png(8, 8, bytes(72))[:20],
        # 4.9 GB of zeros in a few bytes.
        png(70_000, 70_000, b""),
        # Pillow would have Ghostscript run it.
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(pwned) (w) file closefile\n",
        b"GIF89a" + bytes(20),
    ],
)
@pytest.mark.parametrize("place", ["train", "masks"])
def test_a_hostile_picture_is_named_and_never_run(tmp_path, content, place):
    for split in ("train", "test", "masks"):
        write_folder(tmp_path / split, {"a": 2, "b": 2})
    bad = tmp_path / place / "a" / "000.png"
    assert bad.exists()
    bad.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{bad}: cannot be read as a picture"):
        load(tmp_path, folder_recipe(train="train", test="test", masks="masks"))


def test_one_folder_is_split_by_a_share(tmp_path):
    write_folder(tmp_path / "all", {"a": 10, "b": 20})
    splits, _ = load(tmp_path, folder_recipe(folder="all", test_share=0.3))
    assert np.bincount(splits.test_labels).tolist() == [3, 6]
    assert np.bincount(splits.train_labels).tolist() == [7, 14]


@pytest.mark.parametrize("shape", [(20, 40), (40, 20), (32, 32)])
def test_a_picture_and_its_mask_are_cropped_to_the_centre_and_resized_alike(shape, tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1}, size=32)
    objects = np.zeros(shape, dtype=bool)
    middle = shape[0] // 2, shape[1] // 2
    objects[middle[0] - 5 : middle[0] + 3, middle[1] - 3 : middle[1] + 7] = True
    for name in ("a/x", "b/y"):
        pixels = np.repeat(np.where(objects, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
        save(tmp_path / "test" / f"{name}.png", pixels)
        save(tmp_path / "masks" / f"{name}.tif", objects.astype(np.uint8))
    splits, masks = load(
        tmp_path, folder_recipe(train="train", test="test", masks="masks", size=16)
    )
    np.testing.assert_array_equal(splits.test_images[:, 0] >= 128, masks[:, 0])
    assert masks[0, 0].any()


@pytest.mark.parametrize(
    ("mode", "value"), [("L", 7), ("RGB", (0, 9, 0)), ("RGBA", (0, 9, 0, 255)), ("1", 1), ("P", 3)]
)
def test_any_value_but_zero_marks_the_object_whatever_the_kind_of_mask(mode, value, tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1})
    write_folder(tmp_path / "test", {"a": 1, "b": 1})
    background = (0, 0, 0, 255) if mode == "RGBA" else 0
    mask = Image.new(mode, (16, 16), background)
    mask.paste(value, (4, 2, 10, 8))
    (tmp_path / "masks" / "a").mkdir(parents=True)
    mask.save(tmp_path / "masks" / "a" / "000.png")
    _, masks = load(tmp_path, folder_recipe(train="train", test="test", masks="masks"))
    expected = np.zeros((16, 16), dtype=bool)
    expected[2:8, 4:10] = True
    np.testing.assert_array_equal(masks[0, 0], expected)
    assert not masks[1].any()


def test_a_class_index_mask_marks_the_pictures_own_class_alone(tmp_path):
    write_folder(tmp_path / "train", dict.fromkeys([f"c{n:03d}" for n in range(300)], 1), size=8)
    write_folder(tmp_path / "test", {"c002": 1, "c299": 1})
    for name, number in (("c002", 3), ("c299", 300)):
        index = np.zeros((16, 16), dtype=int)
        index[0:4], index[4:8], index[8:12] = number, 77, 1000
        colours = np.stack([index % 256, index // 256, index * 0], axis=2).astype(np.uint8)
        save(tmp_path / "masks" / name / "000.png", colours)
    recipe = folder_recipe(
        train="train",
        test="test",
        masks="masks",
        mask_value="class-index",
        classes=["c002", "c299"],
        size=16,
    )
    _, masks = load(tmp_path, recipe)
    assert masks[:, 0, :4].all()
    assert not masks[:, 0, 4:].any()


def test_boxes_are_masks_in_pixels_of_the_picture_and_those_of_a_picture_are_joined(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1}, size=32)
    write_folder(tmp_path / "test", {"a": 2, "b": 1}, size=32)
    lines = ["image,x0,y0,x1,y1", "a/000.png,0,0,8,4", "a/000.png,16,16,32,32", "b/000.png,2,2,6,6"]
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    recipe = folder_recipe(train="train", test="test", boxes="boxes.csv", size=16)
    _, masks = load(tmp_path, recipe)
    expected = np.zeros((3, 16, 16), dtype=bool)
    expected[0, :2, :4] = expected[0, 8:, 8:] = expected[2, 1:3, 1:3] = True
    np.testing.assert_array_equal(masks[:, 0], expected)
    for bad, message in (("a/000.png,5,0,5,4", "line 2"), ("a/000.png,x,0,5,4", "line 2")):
        (tmp_path / "boxes.csv").write_text(f"{lines[0]}\n{bad}\n")
        with pytest.raises(ValueError, match=message):
            load(tmp_path, recipe)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, "wanted `train` and `test`, or `folder`"),
        ({"train": "train"}, "found train, wanted"),
        ({"train": "train", "test": "tset"}, "datasets.own.test: no folder"),
        ({"train": "train", "test": "test", "masks": "x"}, "datasets.own.masks: no folder"),
        ({"train": "train", "test": "test", "boxes": "x"}, "datasets.own.boxes: no file"),
        ({"train": "train", "test": "test", "test-share": 0.1}, "only with `folder`"),
        ({"train": "train", "test": "test", "mask-value": "class-index"}, "only with `masks`"),
        ({"train": "train", "test": "test", "classes": ["alpha", "bta"]}, "did you mean 'beta'?"),
        ({"train": "train", "test": "test", "classes": 3}, "wanted at most 2"),
        ({"folder": "train/alpha"}, "found 0 folders"),
        ({"train": "train", "test": "more"}, "has the class gamma, `train` not"),
    ],
)
def test_a_folder_that_is_missing_or_no_use_is_named_before_any_job_starts(keys, wanted, tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / split, {"alpha": 1, "beta": 1})
    (tmp_path / "more" / "gamma").mkdir(parents=True)
    (tmp_path / "more" / "alpha").mkdir()
    found = problems({"source": "image-folder", **keys}, tmp_path)
    assert len(found) == 1
    assert wanted in found[0]


def test_pictures_that_do_not_fit_together_are_an_error_that_names_the_key(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1}, size=16)
    write_folder(tmp_path / "test", {"a": 1, "b": 1}, size=20)
    recipe = folder_recipe(train="train", test="test")
    with pytest.raises(ValueError, match=r"datasets\.own\.size: training images are \(3, 16, 16\)"):
        load(tmp_path, recipe)
    save(tmp_path / "train" / "b" / "wide.png", noise(16, 24, 3))
    with pytest.raises(ValueError, match="such as 16x16 and 24x16"):
        load(tmp_path, recipe)
    save(tmp_path / "test" / "c" / "one.png", noise(16, 16, 3))
    with pytest.raises(ValueError, match="found the classes c that training has not"):
        folders.list_pictures(tmp_path / "test", ["a", "b"])
    save(tmp_path / "train" / "a" / "001.png", noise(16, 16, 3))
    deep = Image.fromarray(np.full((16, 16), 40000, dtype=np.uint16))
    deep.save(tmp_path / "train" / "b" / "wide.png")
    with pytest.raises(ValueError, match="wanted 8 bits a channel"):
        load(tmp_path, folder_recipe(folder="train", size=16))


def test_masks_of_other_pictures_are_an_error_and_so_is_one_of_another_size(tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / split, {"a": 1, "b": 1})
    recipe = folder_recipe(train="train", test="test", masks="masks")
    save(tmp_path / "masks" / "a" / "other.png", np.ones((16, 16), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"datasets\.own\.masks: none belongs"):
        load(tmp_path, recipe)
    save(tmp_path / "masks" / "a" / "000.png", np.ones((8, 16), dtype=np.uint8))
    with pytest.raises(ValueError, match="found a mask of 16x8 for a picture of 16x16"):
        load(tmp_path, recipe)


# stand-ins and the stage


def test_image_folders_below_data_stand_in_for_a_download_and_it_is_recorded(tmp_path, capsys):
    write_folder(tmp_path / "own" / "train", {"n01440764": 2, "n02102040": 2})
    pixels = write_folder(tmp_path / "own" / "val", {"n01440764": 1, "n02102040": 1})
    recipe = {"source": "torchvision/Imagenette", "size": 16}
    splits, _ = load(tmp_path, recipe)
    np.testing.assert_array_equal(splits.test_images, channels_first(pixels.values()))
    assert splits.class_names == ("tench", "English springer")
    assert splits.origin == (
        "image folders own/train and own/val in place of torchvision/Imagenette"
    )
    assert f"{tmp_path}/own/train and {tmp_path}/own/val stand in" in capsys.readouterr().out
    files = [tmp_path / "out" / name for name in ("data.safetensors", "evaluation.safetensors")]
    prepare(
        *files,
        dataset="own",
        recipe=dataset_recipe(recipe),
        images=2,
        scene_images=4,
        data=str(tmp_path),
    )
    assert Splits.read(files[0]).origin == EvaluationSet.read(files[1]).origin == splits.origin


def test_folders_that_stand_in_for_a_data_set_with_masks_need_masks_too(tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / "own" / split, {"beagle": 1, "pug": 1})
    recipe = {"source": "torchvision/OxfordIIITPet", "size": 16}
    with pytest.raises(ValueError, match="own/masks; torchvision/OxfordIIITPet has masks"):
        load(tmp_path, recipe)
    save(tmp_path / "own" / "masks" / "pug" / "000.png", np.ones((16, 16), dtype=np.uint8))
    _, masks = load(tmp_path, recipe)
    assert masks[:, 0].all(axis=(1, 2)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("mosaic", "masks"), list(product([None, "1x2", "2x1", "2x2"], [False, True]))
)
def test_the_evaluation_set_has_the_masks_and_scenes_that_its_recipe_says(mosaic, masks, tmp_path):
    for split in ("train", "test"):
        write_folder(tmp_path / split, {"a": 6, "b": 6, "c": 6})
    save(tmp_path / "masks" / "a" / "000.png", np.ones((16, 16), dtype=np.uint8))
    keys = {"masks": "masks"} if masks else {}
    recipe = dataset_recipe(folder_recipe(train="train", test="test", mosaic=mosaic, **keys))
    files = [tmp_path / name for name in ("data.safetensors", "evaluation.safetensors")]
    prepare(*files, dataset="own", recipe=recipe, images=18, scene_images=7, data=str(tmp_path))
    found = EvaluationSet.read(files[1])
    assert recipe.has_scenes == (mosaic is not None) == bool((~found.single).any())
    assert len(found.images) == 18 + 7 * (mosaic is not None)
    assert (found.masks is None) == (not masks and mosaic is None)
    if found.masks is not None:
        known = found.masks.any(axis=(2, 3))
        assert recipe.has_masks == bool(known[found.single, 0].any()) == masks
        assert known[~found.single].all()
        assert known[found.single, 0].sum() == masks
    with pytest.raises(ValueError, match=r"evaluation\.images: found 19, wanted at most 18"):
        prepare(*files, dataset="own", recipe=recipe, images=19, scene_images=7, data=str(tmp_path))


# real data


@needs_shared
def test_the_real_pets_are_read_with_masks_that_agree_with_their_trimaps():
    root = SHARED / "oxford_pets370"
    splits, masks = load(root, torchvision_recipe("OxfordIIITPet", size=64, mosaic="2x2"))
    assert splits.train_images.shape == (259, 3, 64, 64)
    assert splits.test_images.shape == (111, 3, 64, 64)
    assert np.bincount(splits.test_labels).tolist() == [3] * 37
    assert splits.class_names[0] == "Abyssinian"
    names = (root / "oxford-iiit-pet/annotations/test.txt").read_text().split("\n")
    for row in (0, 50, 110):
        name = names[row].split()[0]
        file = root / "oxford-iiit-pet/annotations/trimaps" / f"{name}.png"
        trimap = np.asarray(Image.open(file))
        side = min(trimap.shape)
        top, left = (trimap.shape[0] - side) // 2, (trimap.shape[1] - side) // 2
        share = (trimap[top : top + side, left : left + side] != 2).mean()
        assert masks[row, 0].mean() == pytest.approx(share, abs=0.02)


@needs_shared
def test_the_real_imagenette_is_read_from_folders_in_place_of_the_download(tmp_path):
    (tmp_path / "own").symlink_to(SHARED / "imagenette224")
    recipe = {
        "source": "torchvision/Imagenette",
        "size": 64,
        "train-images-per-class": 5,
        "classes": ["tench", "church", "parachute"],
    }
    splits, _ = load(tmp_path, recipe)
    assert splits.class_names == ("tench", "church", "parachute")
    assert np.bincount(splits.train_labels).tolist() == [5, 5, 5]
    assert np.bincount(splits.test_labels).tolist() == [50, 50, 50]


@needs_shared
def test_one_picture_of_a_dog_and_a_cat_has_the_boxes_that_were_drawn(tmp_path):
    boxes = json.loads((SHARED / "two_class" / "boxes.json").read_text())["cat_dog_224.png"]
    rows = ["image,x0,y0,x1,y1"]
    for label, kept in product(("cat", "dog"), ("train", "test")):
        (tmp_path / kept / label).mkdir(parents=True)
        (tmp_path / kept / label / "both.png").symlink_to(SHARED / "two_class/cat_dog_224.png")
    drawn = {one["name"]: one["box_xyxy"] for one in boxes["objects"]}
    rows += [f"{label}/both.png,{','.join(map(str, drawn[label]))}" for label in drawn]
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    _, masks = load(tmp_path, folder_recipe(train="train", test="test", boxes="boxes.csv"))
    for row, label in enumerate(("cat", "dog")):
        x0, y0, x1, y1 = drawn[label]
        assert masks[row, 0].sum() == (x1 - x0) * (y1 - y0)
        assert masks[row, 0, y0:y1, x0:x1].all()
