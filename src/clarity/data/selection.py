"""Selection: owns which rows of a labelled set are taken, evenly over its classes."""

import numpy as np


def stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Pick ``count`` of the rows [N], as evenly over the classes as may be, dealt in turn."""
    order, turn = _shuffled(labels, seed)
    return np.asarray(order[np.lexsort((labels[order], turn))][:count])


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Pick the first ``count`` rows, of every class alike; the rows come in their own order.

    First the first of each class, then the second of each, and so on.
    """
    return np.sort(np.argsort(_turns(labels), kind="stable")[:count])


def per_class(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Pick at most ``most`` rows of each class; the rows come in their own order."""
    order, turn = _shuffled(labels, seed)
    return np.sort(order[turn < most])


def split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the rows into two, the second with ``share`` of each class, but at least one row."""
    order, turn = _shuffled(labels, seed)
    sizes = np.bincount(labels)
    second = turn < np.maximum(1, np.rint(share * sizes)).astype(int)[labels[order]]
    return np.sort(order[~second]), np.sort(order[second])


def _shuffled(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows shuffled, and the place of each among those of its class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return order, _turns(labels[order])


def _turns(labels: np.ndarray) -> np.ndarray:
    """Return the place of each row among those of its class."""
    turn = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = labels == label
        turn[members] = np.arange(members.sum())
    return turn
