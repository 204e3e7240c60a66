"""Image sets: own the arrays of a dataset (splits, evaluation set) and their files."""

import json
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from clarity import storage

#: Training images that stand for nothing in attribution, at most: methods that average over them
#: take a pass of the network for each, and the mean of 32 is within a fifth of the images' spread.
REFERENCES = 32

#: Stands for "no class" and "no row": the second class of a single image, the row of a scene.
NONE = -1


@dataclass(frozen=True)
class Splits:
    """Training and test images of a dataset.

    Attributes:
        train_images: uint8 [N, C, H, W]; likewise ``test_images``.
        train_labels: int64 [N]; likewise ``test_labels``.
        class_names: one name a class.
        origin: where the images came from, in words; "" if the recipe says it all.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    origin: str = ""

    def write(self, path: storage.StrPath) -> None:
        """Write the splits as `data.safetensors`."""
        storage.write_tensors(
            path,
            {
                "train.images": self.train_images,
                "train.labels": self.train_labels,
                "test.images": self.test_images,
                "test.labels": self.test_labels,
            },
            {"classes": json.dumps(self.class_names), "origin": self.origin},
        )

    @classmethod
    def read(cls, path: storage.StrPath) -> Self:
        """Read splits that `write` wrote.

        Raises:
            clarity.storage.CorruptArtifact: if the file is not whole or lacks a part.
        """
        arrays, metadata = storage.read_tensors(path)
        try:
            return cls(
                arrays["train.images"],
                arrays["train.labels"],
                arrays["test.images"],
                arrays["test.labels"],
                tuple(json.loads(metadata["classes"])),
                metadata["origin"],
            )
        except KeyError as error:
            raise storage.CorruptArtifact(path, f"no {error}") from error


@dataclass(frozen=True)
class TwoClassScenes:
    """Images of two classes each, with where each class is.

    Attributes:
        images: uint8 [S, C, H, W].
        classes: int64 [S, 2].
        masks: bool [S, 2, H, W]; they may overlap.
        files: the file of each, for pictures of the user's own; empty for images that are made.
        without: uint8 [S, 2, C, H, W], each image without the object of either class, all else the
            same; None where that is not known.
    """

    images: np.ndarray
    classes: np.ndarray
    masks: np.ndarray
    files: tuple[str, ...] = ()
    without: np.ndarray | None = None


@dataclass(frozen=True)
class EvaluationSet:
    """The images that are explained, the same for all losses and seeds of a dataset.

    First single test images, then the two-class scenes of datasets that have them: those that are
    made, then the user's own pictures.

    Attributes:
        images: uint8 [N, C, H, W].
        classes: int64 [N, 2]: (label, -1) for a single image, (a, b) for a scene of a and b.
        test_index: int64 [N]: the row in the test split, -1 for a scene.
        masks: bool [N, 2, H, W], where the object of each class is, all false where that is not
            known; None if it is known of no image.
        class_names: one name a class.
        references: uint8 [R, C, H, W], training images that stand for nothing in attribution,
            evenly over the classes; so are the first of them.
        origin: where the images came from, as in `Splits`.
        own_pictures: files of the user's own two-class pictures, which are the last rows.
        without: uint8 [N, 2, C, H, W], each scene without the object of either class, all else the
            same; where that is not known the image itself. None if it is known of no image.
    """

    images: np.ndarray
    classes: np.ndarray
    test_index: np.ndarray
    masks: np.ndarray | None
    class_names: tuple[str, ...]
    references: np.ndarray
    origin: str = ""
    own_pictures: tuple[str, ...] = ()
    without: np.ndarray | None = None

    @property
    def single(self) -> np.ndarray:
        """Which rows are single images, bool [N]; the others are two-class scenes."""
        return np.asarray(self.classes[:, 1] == NONE)

    def with_scenes(self, scenes: TwoClassScenes) -> Self:
        """Return the set with two-class scenes after its images."""
        own = self.masks
        if own is None:
            own = np.zeros((len(self.images), *scenes.masks.shape[1:]), dtype=bool)
        without = None
        if self.without is not None or scenes.without is not None:
            without = np.concatenate(
                [
                    np.repeat(part.images[:, None], 2, axis=1)
                    if part.without is None
                    else part.without
                    for part in (self, scenes)
                ]
            )
        return replace(
            self,
            images=np.concatenate([self.images, scenes.images]),
            classes=np.concatenate([self.classes, scenes.classes]),
            test_index=np.concatenate([self.test_index, np.full(len(scenes.images), NONE)]),
            masks=np.concatenate([own, scenes.masks]),
            own_pictures=self.own_pictures + scenes.files,
            without=without,
        )

    def write(self, path: storage.StrPath) -> None:
        """Write the set as `evaluation.safetensors`."""
        arrays = {
            "images": self.images,
            "classes": self.classes,
            "test_index": self.test_index,
            "references": self.references,
        }
        if self.masks is not None:
            arrays["masks"] = self.masks.astype(np.uint8)
        if self.without is not None:
            arrays["without"] = self.without
        metadata = {
            "classes": json.dumps(self.class_names),
            "origin": self.origin,
            "own_pictures": json.dumps(self.own_pictures),
        }
        storage.write_tensors(path, arrays, metadata)

    @classmethod
    def read(cls, path: storage.StrPath) -> Self:
        """Read a set that `write` wrote.

        Raises:
            clarity.storage.CorruptArtifact: if the file is not whole or lacks a part.
        """
        arrays, metadata = storage.read_tensors(path)
        try:
            masks = arrays["masks"].astype(bool) if "masks" in arrays else None
            return cls(
                arrays["images"],
                arrays["classes"],
                arrays["test_index"],
                masks,
                tuple(json.loads(metadata["classes"])),
                arrays["references"],
                metadata["origin"],
                tuple(json.loads(metadata["own_pictures"])),
                arrays.get("without"),
            )
        except KeyError as error:
            raise storage.CorruptArtifact(path, f"no {error}") from error


def to_input(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Turn uint8 images [B, C, H, W] into the network's input: float32 in [0, 1]."""
    return torch.from_numpy(images).to(device).float() / 255
