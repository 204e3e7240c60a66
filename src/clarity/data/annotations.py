"""Annotations: own the file that describes the user's own pictures of two classes; open no picture.

It is JSON, from the path of each picture, beside the file or below, to the objects that it shows:

    {"both.png": {"objects": [{"name": "dog", "box_xyxy": [78, 11, 167, 150]},
                              {"name": "cat", "mask": "masks/cat.png"}]}}

``name`` is a class of the dataset, whatever its case. ``box_xyxy`` spans [x0, x1) and [y0, y1), in
pixels of the picture as it is stored; ``mask`` is a picture of the same size, in which all but 0 is
the object. Several objects of a class are joined; boxes may overlap, and what they share belongs to
both classes. ``size``, [width, height], is compared with the picture's where it is given. Other
keys, such as notes of whoever drew the boxes, are left aside.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Object(_Entry):
    """An object: its class, and its box or the path of its mask, from the file's folder."""

    name: Annotated[str, Field(min_length=1)]
    box_xyxy: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    mask: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.box_xyxy is None) == (self.mask is None):
            raise ValueError(f"wanted a box_xyxy or a mask for the '{self.name}'")
        if self.box_xyxy is not None:
            x0, y0, x1, y1 = self.box_xyxy
            if not (0 <= x0 < x1 and 0 <= y0 < y1):
                raise ValueError(
                    f"found the box {self.box_xyxy} of the '{self.name}', wanted 0 <= x0 < x1, "
                    f"0 <= y0 < y1"
                )
        return self


class TwoObjects(_Entry):
    """What is known of a picture: its objects, of two classes, and its (width, height)."""

    objects: list[Object]
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None

    @property
    def names(self) -> list[str]:
        """The names of the two classes, in the order in which they come first."""
        return list(dict.fromkeys(one.name for one in self.objects))

    @model_validator(mode="after")
    def _two_classes(self) -> Self:
        if len(self.names) != 2:
            raise ValueError(f"found objects of {self.names or 'no class'}, wanted two classes")
        return self


def read(file: Path) -> dict[str, TwoObjects]:
    """Return what a file says of each picture, by the picture's path from the file's folder.

    Raises:
        ValueError: if it is not such a file; names the first place that is wrong, and the file.
        OSError: if it cannot be read.
    """
    try:
        plain = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
        found = TypeAdapter(dict[str, TwoObjects]).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{file}: {place}: {message}" if place else f"{file}: {message}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if not found:
        raise ValueError(f"{file}: names no picture")
    return found


def problems(file: Path, where: str) -> Iterator[str]:
    """Yield what is wrong with a file as far as can be known without opening a picture.

    Args:
        file: the file.
        where: the place in the config that names it.
    """
    if not file.is_file():
        yield f"{where}: no file {file}"
        return
    try:
        found = read(file)
    except (OSError, ValueError) as error:
        yield f"{where}: {error}"
        return
    for path in _named(found):
        if not (file.parent / path).is_file():
            yield f"{where}: {file} names {path}, but there is no file {file.parent / path}"


def files(file: Path) -> list[Path]:
    """Return a file and all pictures and masks that it names.

    Raises:
        ValueError: as `read` does.
    """
    return [file, *(file.parent / path for path in _named(read(file)))]


def _named(found: Mapping[str, TwoObjects]) -> list[str]:
    """Return the paths of the pictures and of their masks, each once."""
    masks = [one.mask for about in found.values() for one in about.objects if one.mask is not None]
    return list(dict.fromkeys([*found, *masks]))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of pairs; JSON's own would keep the last of two alike."""
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"found {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return mapping
