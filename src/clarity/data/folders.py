"""Folders: own reading pictures from a folder for each class, with masks or boxes of objects."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from clarity.data import parts, pictures
from clarity.data.recipe import ImageFolder, Selected, below, class_folders
from clarity.data.sets import Splits

#: What counts as a picture.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Mask = Callable[["Listing", int, tuple[int, int]], np.ndarray | None]


@dataclass(frozen=True)
class Listing:
    """The pictures of an image folder.

    Attributes:
        folder: the folder.
        names: paths below it, with forward slashes: class by class, sorted.
        labels: int64 [N], the place of each picture's class among the classes.
    """

    folder: Path
    names: Sequence[str]
    labels: np.ndarray


def load(recipe: ImageFolder, dataset: str, data: str | None) -> tuple[Splits, np.ndarray | None]:
    """Return the splits of an image folder and the masks [N, H, W] of its test images, if any."""
    mask: Mask | None = None
    if recipe.masks is not None:
        mask = masks_in(below(data, recipe.masks), recipe.mask_value)
    elif recipe.boxes is not None:
        mask = boxes_in(below(data, recipe.boxes))
    train, test = recipe.train or recipe.folder, recipe.test
    if train is None:
        raise ValueError(f"datasets.{dataset}: no folder of training pictures")
    return read(
        below(data, train),
        None if test is None else below(data, test),
        recipe,
        dataset,
        colour=recipe.colour,
        mask=mask,
    )


def read(
    train: Path,
    test: Path | None,
    recipe: Selected,
    dataset: str,
    *,
    colour: pictures.Colour,
    mask: Mask | None,
    shown: Mapping[str, str] | None = None,
    origin: str = "",
) -> tuple[Splits, np.ndarray | None]:
    """Read the pictures that a recipe selects from image folders.

    Args:
        train: folder of training pictures, or of all; its folders are the classes.
        test: folder of test pictures, if they have one of their own.
        recipe: the selection.
        dataset: name of the recipe.
        colour: channels of the images.
        mask: from a listing, a row and the picture's (width, height) to the object's mask.
        shown: names to show in place of those of folders.
        origin: see `clarity.data.sets.Splits`.

    Raises:
        ValueError: if no test picture has a mask, though masks are asked for.
    """
    classes = class_folders(train)
    names = [(shown or {}).get(name, name) for name in classes]
    listings = [list_pictures(folder, classes) for folder in (train, test) if folder is not None]
    where = f"datasets.{dataset}"
    described = [
        parts.Part(
            listing.labels,
            # Masks are for explaining, and only test images are explained.
            partial(
                _read, listing, mask if listing is listings[-1] else None, recipe, colour, where
            ),
        )
        for listing in listings
    ]
    found = parts.splits(
        described[0],
        described[1] if test is not None else None,
        names,
        recipe,
        dataset,
        origin,
    )
    if mask is not None:
        if found[1] is None:
            raise ValueError(f"{where}.masks: none belongs to a test picture in {test or train}")
        lacking = int((~found[1].any(axis=(1, 2))).sum())
        print(f"{where}: {lacking} of {len(found[1])} test images have no mask", flush=True)
    return found


def list_pictures(folder: Path, classes: Sequence[str]) -> Listing:
    """List the pictures of the classes, in a fixed order.

    Raises:
        ValueError: if the folder has a class that is not among them, or a class has no picture.
    """
    strange = sorted(set(class_folders(folder)) - set(classes))
    if strange:
        raise ValueError(f"{folder}: found the classes {', '.join(strange)} that training has not")
    names: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = sorted(
            Path(parent, file).relative_to(folder).as_posix()
            # Not rglob, which does not follow links to folders.
            for parent, _, files in os.walk(folder / name, followlinks=True)
            for file in files
            if Path(file).suffix.lower() in SUFFIXES and not file.startswith(".")
        )
        names += own
        labels += [label] * len(own)
    return Listing(folder, names, np.array(labels, dtype=np.int64))


def masks_in(folder: Path, value: str) -> Mask:
    """Return a reader of mask pictures that have the pictures' names, whatever their suffix.

    Args:
        folder: where they are.
        value: "nonzero" takes every value but 0 for the object; "class-index" the pixels whose
            R + 256 G is 1 + the index of the picture's class, as in ImageNet-S (Gao et al., 2022),
            where 0 is everything else and 1000 is left out.
    """
    files = {
        Path(parent, file).relative_to(folder).with_suffix("").as_posix(): Path(parent, file)
        for parent, _, names in os.walk(folder, followlinks=True)
        for file in names
        if Path(file).suffix.lower() in SUFFIXES
    }

    def mask(listing: Listing, row: int, _: tuple[int, int]) -> np.ndarray | None:
        file = files.get(str(Path(listing.names[row]).with_suffix("").as_posix()))
        if file is None:
            return None
        if value == "nonzero":
            return pictures.open_mask(file)
        image = pictures.decoded(file)
        values = np.asarray(image)
        if values.ndim < 3:
            raise ValueError(f"{file}: found {image.mode}, wanted the class in R + 256 G")
        index = values[..., 0].astype(np.int64) + 256 * values[..., 1].astype(np.int64)
        return np.asarray(index == 1 + listing.labels[row])

    return mask


def boxes_in(file: Path) -> Mask:
    """Return a reader of masks from a CSV file of boxes: image, x0, y0, x1, y1.

    ``image`` is the path below the test folder; a box spans [x0, x1) and [y0, y1), in pixels of the
    picture as it is stored. The boxes of a picture are joined.

    Raises:
        ValueError: if a column is missing or a box is not one; names the line.
    """
    columns = ("x0", "y0", "x1", "y1")
    boxes: dict[str, list[list[float]]] = {}
    with file.open(newline="", encoding="utf-8-sig") as stream:
        table = csv.DictReader(stream)
        missing = {"image", *columns} - set(table.fieldnames or ())
        if missing:
            raise ValueError(f"{file}: no column {', '.join(sorted(missing))}")
        for line in table:
            try:
                x0, y0, x1, y1 = box = [float(line[key]) for key in columns]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file}, line {table.line_num}: {error}") from error
            if not (0 <= x0 < x1 and 0 <= y0 < y1):
                raise ValueError(
                    f"{file}, line {table.line_num}: found {box}, wanted 0 <= x0 < x1, 0 <= y0 < y1"
                )
            boxes.setdefault(line["image"], []).append(box)

    def mask(listing: Listing, row: int, size: tuple[int, int]) -> np.ndarray | None:
        found = boxes.get(listing.names[row])
        if found is None:
            return None
        return np.asarray(np.any([pictures.box_mask(box, size) for box in found], axis=0))

    return mask


def _read(
    listing: Listing,
    mask: Mask | None,
    recipe: Selected,
    colour: pictures.Colour,
    where: str,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Read some pictures of a listing."""

    def one(place: int) -> pictures.Loaded:
        row = int(rows[place])
        picture = pictures.open_picture(listing.folder / listing.names[row])
        return picture, None if mask is None else mask(listing, row, picture.size)

    return pictures.read(len(rows), one, size=recipe.size, colour=colour, where=where)
