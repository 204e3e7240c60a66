"""Parts: own how the classes and images that a recipe selects become splits; read no files.

A loader describes each part of a data set by its labels and by how its rows are read, so that only
selected pictures are ever decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clarity.data import selection
from clarity.data.recipe import TEST_SHARE, Selected
from clarity.data.sets import Splits
from clarity.recipes import nearest
from clarity.seeds import derive_seed

#: From rows [M] to images uint8 [M, C, H, W], and masks bool [M, H, W] or None if there are none.
Reader = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True)
class Part:
    """A part of a data set before its pictures are read: int64 labels [N], and how to read rows."""

    labels: np.ndarray
    read: Reader


def splits(
    train: Part,
    test: Part | None,
    class_names: Sequence[str],
    recipe: Selected,
    dataset: str,
    origin: str = "",
) -> tuple[Splits, np.ndarray | None]:
    """Read the images that a recipe selects.

    Args:
        train: the training part, or all images.
        test: the test part; without one, a share of each class in ``train`` is kept for testing.
        class_names: the name of each label; labels beyond are named by their number.
        recipe: the selection. Classes without a training image are no classes.
        dataset: name of the recipe, the axis of all seeds here.
        origin: see `clarity.data.sets.Splits`.

    Returns:
        The splits, with labels from 0 in the data set's own order of classes, and bool [N, H, W]
        masks of the test images or None.

    Raises:
        ValueError: if there is no such class, or the parts do not fit together.
    """
    where = f"datasets.{dataset}"
    present = np.unique(train.labels).tolist()
    names = {
        label: class_names[label] if label < len(class_names) else str(label) for label in present
    }
    chosen = _chosen(names, recipe, where)
    kept = [_rows(part, chosen) for part in (train, test or train)]
    if test is None:
        labels = train.labels[kept[0]]
        share = recipe.test_share or TEST_SHARE
        picked = selection.split(labels, share, derive_seed("split", dataset))
        kept = [rows[pick] for rows, pick in zip(kept, picked, strict=True)]
    elif not np.isin(test.labels, present).all():
        strange = sorted(set(test.labels.tolist()) - set(present))
        raise ValueError(f"{where}: found test images of the labels {strange} without training")
    images, found, masks = [], [], None
    for split, part, rows, most in (
        ("train", train, kept[0], recipe.train_images_per_class),
        ("test", test or train, kept[1], recipe.test_images_per_class),
    ):
        labels = np.searchsorted(chosen, part.labels[rows]).astype(np.int64)
        if most is not None:
            few = selection.per_class(labels, most, derive_seed("subset", dataset, split))
            rows, labels = rows[few], labels[few]
        sizes = np.bincount(labels, minlength=len(chosen))
        if not sizes.all():
            lacking = names[chosen[int(sizes.argmin())]]
            raise ValueError(f"{where}: found no {split} image of the class '{lacking}'")
        pixels, masks = part.read(rows)
        print(
            f"{where}: {len(rows)} {split} images of {len(chosen)} classes, {sizes.min()} to "
            f"{sizes.max()} a class, {'x'.join(map(str, pixels.shape[1:]))}",
            flush=True,
        )
        images.append(pixels)
        found.append(labels)
    if images[0].shape[1:] != images[1].shape[1:]:
        raise ValueError(
            f"{where}.size: training images are {images[0].shape[1:]}, test images "
            f"{images[1].shape[1:]} (channels, height, width); give `size` and `colour`"
        )
    shown = tuple(names[label] for label in chosen)
    return Splits(images[0], found[0], images[1], found[1], shown, origin), masks


def _chosen(names: dict[int, str], recipe: Selected, where: str) -> list[int]:
    """Return the labels of the classes that a recipe takes, in order."""
    if recipe.classes is None:
        return list(names)
    if isinstance(recipe.classes, int):
        if recipe.classes > len(names):
            raise ValueError(
                f"{where}.classes: found {recipe.classes}, wanted at most {len(names)}"
            )
        return list(names)[: recipe.classes]
    labels = {name: label for label, name in names.items()}
    for name in recipe.classes:
        if name not in labels:
            raise ValueError(
                f"{where}.classes: no class '{name}'{nearest(name, labels)} "
                f"Allowed: {', '.join(labels)}"
            )
    return sorted(labels[name] for name in recipe.classes)


def _rows(part: Part, chosen: list[int]) -> np.ndarray:
    return np.flatnonzero(np.isin(part.labels, chosen))
