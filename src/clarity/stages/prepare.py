"""Preparing: owns the stage `prepare`, from a dataset recipe to its splits and evaluation set."""

from pathlib import Path

import numpy as np

from clarity.data.recipe import DatasetRecipe, Scenes
from clarity.data.sets import NONE, EvaluationSet
from clarity.data.sources import load_splits, with_scenes
from clarity.seeds import derive_seed


def prepare(
    data: Path,
    evaluation: Path,
    *,
    dataset: str,
    recipe: DatasetRecipe,
    images: int,
    scene_images: int,
) -> None:
    """Make a dataset's splits and its evaluation set.

    Args:
        data: where the splits go.
        evaluation: where the evaluation set goes.
        dataset: name of the recipe, the axis of all seeds here.
        recipe: the dataset.
        images: number of single images to explain; at most the test split has.
        scene_images: number of two-class scenes, for datasets that have them.
    """
    splits, masks = load_splits(recipe, dataset)
    splits.write(data)
    rows = _stratified(splits.test_labels, images, derive_seed("evaluation", dataset))
    labels = splits.test_labels[rows]
    single = EvaluationSet(
        splits.test_images[rows],
        np.stack([labels, np.full_like(labels, NONE)], axis=1),
        rows,
        None if masks is None else masks[rows],
        splits.class_names,
    )
    if isinstance(recipe, Scenes):
        single = with_scenes(single, recipe, dataset, scene_images)
    single.write(evaluation)


def _stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Pick ``count`` rows, as evenly over the classes as may be, class by class in turn."""
    if count > len(labels):
        raise ValueError(
            f"evaluation.images: found {count}, wanted at most {len(labels)}, the test images"
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    shuffled = labels[order]
    # The place of each image among those of its class: sorting by it deals the classes in turn.
    turn = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled == label
        turn[members] = np.arange(members.sum())
    return np.asarray(order[np.lexsort((shuffled, turn))][:count])
