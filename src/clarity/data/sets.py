"""Image sets: own the arrays of a dataset (splits, evaluation set) and their files."""

import json
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from clarity import storage

#: Stands for "no class" and "no row": the second class of a single image, the row of a scene.
NONE = -1


@dataclass(frozen=True)
class Splits:
    """Training and test images of a dataset.

    Attributes:
        train_images: uint8 [N, C, H, W]; likewise ``test_images``.
        train_labels: int64 [N]; likewise ``test_labels``.
        class_names: one name a class.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

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
            {"classes": json.dumps(self.class_names)},
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
            )
        except KeyError as error:
            raise storage.CorruptArtifact(path, f"no {error}") from error


@dataclass(frozen=True)
class EvaluationSet:
    """The images that are explained, the same for all losses and seeds of a dataset.

    First single test images, then the two-class scenes of datasets that have them.

    Attributes:
        images: uint8 [N, C, H, W].
        classes: int64 [N, 2]: (label, -1) for a single image, (a, b) for a scene of a and b.
        test_index: int64 [N]: the row in the test split, -1 for a scene.
        masks: bool [N, 2, H, W], where the object of each class is; None if the dataset has none.
        class_names: one name a class.
    """

    images: np.ndarray
    classes: np.ndarray
    test_index: np.ndarray
    masks: np.ndarray | None
    class_names: tuple[str, ...]

    @property
    def single(self) -> np.ndarray:
        """Which rows are single images, bool [N]; the others are two-class scenes."""
        return np.asarray(self.classes[:, 1] == NONE)

    def write(self, path: storage.StrPath) -> None:
        """Write the set as `evaluation.safetensors`."""
        arrays = {
            "images": self.images,
            "classes": self.classes,
            "test_index": self.test_index,
        }
        if self.masks is not None:
            arrays["masks"] = self.masks.astype(np.uint8)
        storage.write_tensors(path, arrays, {"classes": json.dumps(self.class_names)})

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
            )
        except KeyError as error:
            raise storage.CorruptArtifact(path, f"no {error}") from error


def to_input(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Turn uint8 images [B, C, H, W] into the network's input: float32 in [0, 1]."""
    return torch.from_numpy(images).to(device).float() / 255
