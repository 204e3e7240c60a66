"""Pictures: own how pictures of any size become one uint8 array; know nothing of data sets.

A picture is cropped to its central square and resized, if a size is asked for, at once when it is
decoded, so that memory holds small images only. A mask is changed exactly like its picture.
"""

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

Colour = Literal["as-is", "rgb", "grey"]

#: A picture, and where its object is at the picture's own size, bool [H, W], if that is known.
Loaded = tuple[Image.Image, np.ndarray | None]

#: Kinds of files that are opened, whatever their names say. Of others Pillow knows, some are given
#: to programs to read, such as PostScript.
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
#: Threads that decode; the result does not depend on them.
DECODERS = 4
#: Images resized in one go.
CHUNK = 1024
#: Weights of red, green and blue in grey, ITU-R 601-2, in units of 2^-16: Pillow's own.
LUMA = (19595, 38470, 7471)


def decoded(path: str | Path) -> Image.Image:
    """Open and decode a picture file.

    Raises:
        ValueError: if it is no picture, cut short, or so large that it fits no memory.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from error
    return image


def open_picture(path: str | Path) -> Image.Image:
    """Return the picture of a file.

    Raises:
        ValueError: if it cannot be read (`decoded`), or has more than 8 bits a channel, which would
            be cut off.
    """
    image = decoded(path)
    if image.mode[0] in "IF":
        raise ValueError(f"{path}: found the mode {image.mode}, wanted 8 bits a channel")
    return image


def open_mask(path: str | Path) -> np.ndarray:
    """Return where a mask picture marks an object, bool [H, W]: every value but 0.

    Raises:
        ValueError: if it cannot be read (`decoded`).
    """
    image = decoded(path)
    values = np.asarray(image)
    if values.ndim == 3:
        # Transparency says nothing of the object: masks saved as RGBA are opaque throughout.
        colours = values.shape[2] - (image.mode in ("RGBA", "LA"))
        return np.asarray(values[..., :colours].any(axis=2))
    return np.asarray(values != 0)


def box_mask(box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """Return the mask bool [H, W] of a box (x0, y0, x1, y1) in a picture of (width, height)."""
    x0, y0, x1, y1 = map(round, box)
    inside = np.zeros((size[1], size[0]), dtype=bool)
    inside[y0:y1, x0:x1] = True
    return inside


def read(
    count: int, load: Callable[[int], Loaded], *, size: int | None, colour: Colour, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode pictures in a few threads, each straight into its place.

    Args:
        count: number of pictures.
        load: from a row to its picture and mask.
        size: height and width of the images; None if the pictures have one size already.
        colour: channels; as-is takes those of the first picture, grey or RGB, for all.
        where: the dataset's place in the config, for the messages.

    Returns:
        uint8 [N, C, H, W], and bool [N, H, W] masks (empty where unknown) or None if none is known.

    Raises:
        ValueError: if the pictures differ in size or channels, and the recipe names none.
    """
    first, _ = load(0)
    mode = {"rgb": "RGB", "grey": "L"}.get(colour) or _own_mode(first)
    width, height = (size, size) if size else first.size
    images = np.empty((count, 3 if mode == "RGB" else 1, height, width), dtype=np.uint8)
    masks: dict[int, np.ndarray] = {}

    def place(row: int) -> None:
        picture, mask = load(row)
        if colour == "as-is" and _own_mode(picture) != mode:
            raise ValueError(
                f"{where}.colour: found grey and coloured pictures, wanted `rgb` or `grey`"
            )
        if size is None and picture.size != first.size:
            raise ValueError(
                f"{where}.size: missing; the pictures differ in size, such as "
                f"{first.width}x{first.height} and {picture.width}x{picture.height}"
            )
        pixels = np.asarray(_fitted(picture.convert(mode), size))
        images[row] = pixels.reshape(height, width, -1).transpose(2, 0, 1)
        if mask is not None:
            if mask.shape != (picture.height, picture.width):
                raise ValueError(
                    f"{where}.masks: found a mask of {mask.shape[1]}x{mask.shape[0]} for a picture "
                    f"of {picture.width}x{picture.height}, wanted the same size"
                )
            shades = Image.fromarray(mask.astype(np.uint8) * 255)
            # A pixel belongs to the object if at least half of it does.
            masks[row] = np.asarray(_fitted(shades, size)) >= 128

    with ThreadPoolExecutor(DECODERS) as pool:
        for _ in pool.map(place, range(count)):
            pass
    if not masks:
        return images, None
    nothing = np.zeros((height, width), dtype=bool)
    return images, np.stack([masks.get(row, nothing) for row in range(count)])


def fitted(images: np.ndarray, *, size: int | None, colour: Colour) -> np.ndarray:
    """Do to an array of images [N, C, H, W], uint8, what `read` does to pictures."""
    if colour == "grey" and images.shape[1] == 3:
        parts = np.array_split(images, max(1, len(images) // CHUNK))
        images = np.concatenate([_grey(part) for part in parts])
    height, width = images.shape[2:]
    if size is not None and (height, width) != (size, size):
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = images[:, :, top : top + side, left : left + side]
        resized = np.empty((len(images), images.shape[1], size, size), dtype=np.uint8)
        for start in range(0, len(images), CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(square[start : start + CHUNK]))
            resized[start : start + CHUNK] = F.interpolate(
                part, size=(size, size), mode="bilinear", antialias=True
            ).numpy()
        images = resized
    if colour == "rgb" and images.shape[1] == 1:
        images = np.repeat(images, 3, axis=1)
    return np.ascontiguousarray(images)


def _own_mode(picture: Image.Image) -> str:
    return "L" if picture.mode in ("1", "L", "LA") else "RGB"


def _fitted(picture: Image.Image, size: int | None) -> Image.Image:
    """Crop a picture to its central square and resize it, antialiased, in one step."""
    if size is None:
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _grey(images: np.ndarray) -> np.ndarray:
    weighted = np.tensordot(images.astype(np.uint32), np.array(LUMA, np.uint32), axes=(1, 0))
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[:, None]
