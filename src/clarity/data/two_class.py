"""Two-class pictures: own reading the user's own pictures of two objects as two-class scenes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clarity.data import annotations, pictures
from clarity.data.sets import TwoClassScenes
from clarity.recipes import nearest


def read(
    file: Path, class_names: Sequence[str], shape: tuple[int, int, int], where: str
) -> TwoClassScenes:
    """Read the pictures that a file of `clarity.data.annotations` names.

    They become images as those of the dataset do: the central square, resized. If the dataset's
    images are no squares, the pictures must have their size already.

    Args:
        file: the file.
        class_names: the dataset's, a name a class.
        shape: channels, height and width of the dataset's images.
        where: the place in the config that names the file, for the messages.

    Raises:
        ValueError: if a class is not among the dataset's, a box or a size is not that of the
            picture, or nothing of an object is left in the central square.
    """
    found = annotations.read(file)
    names = list(found)
    described = list(found.values())
    classes = np.array(
        [
            [_label(name, class_names, f"{where}: {picture}") for name in about.names]
            for picture, about in found.items()
        ],
        dtype=np.int64,
    )
    for picture, (first, second) in zip(names, classes, strict=True):
        if first == second:
            raise ValueError(f"{where}: {picture}: found '{class_names[first]}' under two names")

    def one(row: int) -> pictures.Loaded:
        # A picture is read once for each of its classes.
        place, slot = divmod(row, 2)
        picture = pictures.open_picture(file.parent / names[place])
        about = described[place]
        if about.size is not None and tuple(about.size) != picture.size:
            raise ValueError(
                f"{where}: {names[place]}: found a picture of {picture.width}x{picture.height}, "
                f"wanted {about.size[0]}x{about.size[1]}, as {file.name} says"
            )
        return picture, _mask(about, about.names[slot], picture.size, file, names[place], where)

    channels, height, width = shape
    size = height if height == width else None
    colour: pictures.Colour = "rgb" if channels == 3 else "grey"
    images, masks = pictures.read(2 * len(names), one, size=size, colour=colour, where=where)
    if images.shape[1:] != shape or masks is None:
        raise ValueError(
            f"{where}: found pictures of {images.shape[3]}x{images.shape[2]}, wanted {width}x"
            f"{height}, the dataset's images, which are no squares"
        )
    for row in np.flatnonzero(~masks.any(axis=(1, 2))):
        picture, slot = names[row // 2], int(row % 2)
        raise ValueError(
            f"{where}: {picture}: nothing of the '{found[picture].names[slot]}' is left in the "
            f"central square that becomes the image"
        )
    pairs = masks.reshape(len(names), 2, height, width)
    return TwoClassScenes(images[::2], classes, pairs, tuple(names))


def _label(name: str, class_names: Sequence[str], where: str) -> int:
    """Return the place of a class among the dataset's, whatever the case of its name."""
    if name in class_names:
        return list(class_names).index(name)
    alike = [label for label, own in enumerate(class_names) if own.casefold() == name.casefold()]
    if len(alike) != 1:
        raise ValueError(
            f"{where}: no class '{name}'{nearest(name, class_names)} "
            f"Allowed: {', '.join(class_names)}"
        )
    return alike[0]


def _mask(
    about: annotations.TwoObjects,
    name: str,
    size: tuple[int, int],
    file: Path,
    picture: str,
    where: str,
) -> np.ndarray:
    """Return where the objects of a class are in a picture, bool [H, W]."""
    width, height = size
    whole = np.zeros((height, width), dtype=bool)
    for thing in about.objects:
        if thing.name != name:
            continue
        if thing.box_xyxy is not None:
            _, _, x1, y1 = thing.box_xyxy
            if x1 > width or y1 > height:
                raise ValueError(
                    f"{where}: {picture}: found the box {thing.box_xyxy} of the '{name}', but the "
                    f"picture is {width}x{height}"
                )
            whole |= pictures.box_mask(thing.box_xyxy, size)
        elif thing.mask is not None:
            mask = pictures.open_mask(file.parent / thing.mask)
            if mask.shape != whole.shape:
                raise ValueError(
                    f"{where}: {picture}: found the mask {thing.mask} of {mask.shape[1]}x"
                    f"{mask.shape[0]}, but the picture is {width}x{height}"
                )
            whole |= mask
    return whole
