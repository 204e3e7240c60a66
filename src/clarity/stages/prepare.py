"""Preparing: owns the stage `prepare`, from a dataset recipe to its splits and evaluation set."""

from pathlib import Path

import numpy as np

from clarity.data.recipe import DatasetRecipe
from clarity.data.selection import stratified
from clarity.data.sets import NONE, REFERENCES, EvaluationSet, Splits
from clarity.data.sources import load_splits, two_class_scenes
from clarity.seeds import derive_seed


def prepare(
    splits: Path,
    evaluation: Path,
    *,
    dataset: str,
    recipe: DatasetRecipe,
    images: int,
    scene_images: int,
    data: str | None = None,
) -> None:
    """Make a dataset's splits and its evaluation set.

    Args:
        splits: where the splits go.
        evaluation: where the evaluation set goes.
        dataset: name of the recipe, the axis of all seeds here.
        recipe: the dataset.
        images: number of single images to explain; at most the test split has.
        scene_images: number of two-class scenes, for datasets that make them.
        data: root of data folders; None is the working directory.

    Raises:
        ValueError: if the test split has fewer than ``images``, or own pictures of two classes
            do not fit the dataset.
    """
    made, masks = load_splits(recipe, dataset, data)
    if images > len(made.test_labels):
        raise ValueError(
            f"evaluation.images: found {images}, wanted at most {len(made.test_labels)}, the test "
            f"images of '{dataset}'"
        )
    made.write(splits)
    rows = stratified(made.test_labels, images, derive_seed("evaluation", dataset))
    labels = made.test_labels[rows]
    explained = EvaluationSet(
        made.test_images[rows],
        np.stack([labels, np.full_like(labels, NONE)], axis=1),
        rows,
        None if masks is None else masks[rows],
        made.class_names,
        _references(made, dataset),
        made.origin,
    )
    for scenes in two_class_scenes(recipe, dataset, made, scene_images, data):
        explained = explained.with_scenes(scenes)
    explained.write(evaluation)


def _references(made: Splits, dataset: str) -> np.ndarray:
    """Pick training images that stand for nothing, uint8 [R, C, H, W], evenly over the classes.

    Where there are more classes than references, which of them have one is drawn.
    """
    seed = derive_seed("references", dataset)
    turn = np.random.default_rng(seed).permutation(len(made.class_names))
    rows = stratified(turn[made.train_labels], REFERENCES, seed)
    return np.asarray(made.train_images[rows])
