"""torchvision's data sets: own reading any of its classification classes, by its public interface.

Classes that hold all images as one array are taken as that array. Those that take a `loader` are
given one that returns the path, so that labels are known before a picture is decoded.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import ConcatDataset

from clarity import catalogue
from clarity.data import folders, parts, pictures
from clarity.data.recipe import Torchvision
from clarity.data.sets import Splits

#: OxfordIIITPet's trimaps: 1 object, 2 background, 3 border, which is object too.
PET_BACKGROUND = 2

#: Imagenette's archives by the length of the shorter side; beyond, the full one, of 1.5 GB.
IMAGENETTE = {160: "160px", 320: "320px"}


def load(recipe: Torchvision, dataset: str, data: str | None) -> tuple[Splits, np.ndarray | None]:
    """Return the splits of a torchvision data set, and masks [N, H, W] of test images, if any.

    Image folders ``data/DATASET/{train,test}`` stand in for the class, with a line in the log and
    in the files that are made (`Splits.origin`).

    Args:
        recipe: the data set.
        dataset: name of the recipe.
        data: root of data folders; None is the working directory.

    Raises:
        Exception: whatever torchvision raises, with the place, the root and `download` as a note.
    """
    name = recipe.class_name
    # Here, since it takes a second, and other sources do not need it.
    import torchvision

    kind: Any = catalogue.load_own(name) if ":" in name else getattr(torchvision.datasets, name)
    stand_in = recipe.stand_in(dataset, data)
    if stand_in is not None:
        return _from_folders(*stand_in, kind, recipe, dataset)
    key, train_splits, test_splits = recipe.splits()
    root = recipe.root_folder(data)

    def build(split: Any, masked: bool) -> Any:
        return kind(**_arguments(recipe, root, {} if key is None else {key: split}, masked))

    try:
        train = [build(split, masked=False) for split in train_splits or [None]]
        test = [build(split, masked=True) for split in test_splits]
    except Exception as error:
        found = f"{recipe.source} from {root}, download: {str(recipe.download).lower()}"
        error.add_note(f"datasets.{dataset}: while reading {found}")
        raise
    return parts.splits(
        _part(train, recipe, dataset),
        _part(test, recipe, dataset) if test else None,
        _class_names(train[0], recipe),
        recipe,
        dataset,
    )


def _from_folders(
    train: Path, test: Path, kind: Any, recipe: Torchvision, dataset: str
) -> tuple[Splits, np.ndarray | None]:
    """Read image folders in place of torchvision's own files."""
    print(f"datasets.{dataset}: {train} and {test} stand in for {recipe.source}", flush=True)
    masks = train.parent / "masks"
    if recipe.has_masks and not masks.is_dir():
        raise ValueError(f"datasets.{dataset}: no folder {masks}; {recipe.source} has masks")
    # Imagenette's folders are named by WordNet, its classes in English.
    english: Mapping[str, Sequence[str]] = getattr(kind, "_WNID_TO_CLASS", {})
    return folders.read(
        train,
        test,
        recipe,
        dataset,
        colour=_colour(recipe),
        mask=folders.masks_in(masks, "nonzero") if recipe.has_masks else None,
        shown={wnid: words[0] for wnid, words in english.items()},
        origin=f"image folders {dataset}/{train.name} and {dataset}/{test.name} in place of "
        f"{recipe.source}",
    )


def _arguments(
    recipe: Torchvision, root: Path, split: Mapping[str, Any], masked: bool
) -> dict[str, Any]:
    """Return what the class is called with."""
    given = {"root": str(root), "download": recipe.download, "loader": str}
    takes = catalogue.find("datasets", recipe.class_name).given
    arguments = {**recipe.arguments, **split, **{k: v for k, v in given.items() if k in takes}}
    if recipe.class_name == "Imagenette":
        enough = [size for size in IMAGENETTE if recipe.size is not None and recipe.size <= size]
        arguments["size"] = IMAGENETTE[enough[0]] if enough else "full"
    if recipe.has_masks and masked:
        arguments["target_types"] = [arguments.get("target_types", "category"), "segmentation"]
    return arguments


def _colour(recipe: Torchvision) -> pictures.Colour:
    """Return the channels of pictures; torchvision's own loader makes all pictures RGB."""
    takes_loader = "loader" in catalogue.find("datasets", recipe.class_name).given
    return "rgb" if recipe.colour == "as-is" and takes_loader else recipe.colour


def _part(datasets: Sequence[Any], recipe: Torchvision, dataset: str) -> parts.Part:
    """Describe one or more splits as one part."""
    labels = np.concatenate([_labels(one, dataset) for one in datasets])
    arrays = [array for one in datasets if (array := _array(one)) is not None]
    joined: ConcatDataset[Any] = ConcatDataset(datasets)

    def take(rows: np.ndarray) -> tuple[np.ndarray, None]:
        whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return pictures.fitted(whole[rows], size=recipe.size, colour=recipe.colour), None

    def decode(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return pictures.read(
            len(rows),
            lambda place: _picture(joined[int(rows[place])]),
            size=recipe.size,
            colour=_colour(recipe),
            where=f"datasets.{dataset}",
        )

    return parts.Part(labels, take if len(arrays) == len(datasets) else decode)


def _picture(sample: tuple[Any, Any]) -> pictures.Loaded:
    """Return the picture of a sample, and the mask of a pet whose trimap is among its targets."""
    image, target = sample
    mask = np.asarray(target[1]) != PET_BACKGROUND if isinstance(target, tuple) else None
    if isinstance(image, str):
        return pictures.open_picture(image), mask
    return image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image)), mask


def _array(dataset: Any) -> np.ndarray | None:
    """Return all images [N, C, H, W] of a class that holds them as one array, else None."""
    found = getattr(dataset, "data", None)
    if found is None or not hasattr(found, "shape") or len(found) != len(dataset):
        return None
    array = np.asarray(found)
    if array.dtype != np.uint8:
        return None
    if array.ndim == 3:
        return array[:, None]
    return array.transpose(0, 3, 1, 2) if array.shape[-1] in (1, 3) else array


def _labels(dataset: Any, name: str) -> np.ndarray:
    """Return the labels [N] of a data set, without decoding pictures where it lists them.

    Raises:
        ValueError: if they are no class numbers.
    """
    for attribute in ("targets", "labels"):
        labels = np.asarray(getattr(dataset, attribute, None))
        if labels.ndim == 1 and len(labels) == len(dataset):
            break
    else:
        with ThreadPoolExecutor(pictures.DECODERS) as pool:
            found = list(pool.map(lambda row: dataset[row][1], range(len(dataset))))
        labels = np.array([one[0] if isinstance(one, tuple) else one for one in found])
    if labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ValueError(
            f"datasets.{name}: found labels such as {labels[0]!r} in {dataset}, wanted the number "
            f"of a class"
        )
    return labels.astype(np.int64)


def _class_names(dataset: Any, recipe: Torchvision) -> list[str]:
    """Return the names of the classes; of several synonyms, the first."""
    attributes = ["classes", "categories"]
    if recipe.arguments.get("target_types") == "binary-category":
        attributes = ["bin_classes"]
    names: Sequence[Any] = next(
        (found for key in attributes if (found := getattr(dataset, key, None))), ()
    )
    return [str(name if isinstance(name, str) else name[0]) for name in names]
