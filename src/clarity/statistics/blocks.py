"""Blocks: own the scores of one dataset and method as arrays; know no files and no statistics.

A block is what every comparison of losses lies within, so that a grid of any size is worked through
block by block.
"""

from dataclasses import dataclass

import numpy as np

#: What a score can be: a number, a number that the metric could not give, a map that is not there.
#: Their places are the codes in `Block.status`.
STATUSES = ("ok", "nan", "unavailable")
OK, NAN, UNAVAILABLE = range(len(STATUSES))
#: The code of a score that is in no file.
ABSENT = len(STATUSES)


@dataclass(frozen=True)
class Block:
    """The scores of one dataset and method.

    Attributes:
        dataset: its name.
        method: its name.
        metrics: that the dataset has, M of them.
        losses: of the grid, L of them.
        seeds: of the grid, S of them.
        images: ids of the images that have any score, int [I], ascending.
        values: float64 [M, L, S, I], NaN unless the status is ok.
        status: uint8 [M, L, S, I], codes of `STATUSES` or `ABSENT`.
        correct: bool [L, S, I]: whether every loss that has predictions at the seed classifies the
            image right; False where the loss itself has none, since nobody knows.
        found: bool [L, S], whether there is a file of scores.
    """

    dataset: str
    method: str
    metrics: list[str]
    losses: list[str]
    seeds: list[int]
    images: np.ndarray
    values: np.ndarray
    status: np.ndarray
    correct: np.ndarray
    found: np.ndarray

    def counted(self, metric: int, *, correct_only: bool) -> np.ndarray:
        """Tell which scores of a metric count: those that are numbers, bool [L, S, I].

        Args:
            metric: its place.
            correct_only: only where all losses classify the image right.
        """
        ok: np.ndarray = self.status[metric] == OK
        return ok & self.correct if correct_only else ok


def complete(counted: np.ndarray) -> np.ndarray:
    """Tell which images count for every loss that has any at the seed, bool [S, I].

    Args:
        counted: bool [L, S, I].
    """
    silent = ~counted.any(axis=2, keepdims=True)
    every = np.all(counted | silent, axis=0)
    return np.asarray(every & np.any(counted, axis=0))
