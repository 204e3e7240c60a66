"""Mosaics: own two-class scenes made of test pictures of any data set; its parts are the masks.

A mask is a whole tile, object and surroundings: what speaks for class a is in a picture of a,
be it the object or its context, so that no outline of an object is needed and a model that uses
context is not called wrong. So it is in the pointing game on grids (Böhle et al., 2021, section 4)
and in Focus (Arias-Duart et al., 2022, section III). Where objects have masks, metrics of single
images use those.

In 2x2, each class has two different pictures on a diagonal, so that it has half of the area and
half of every row and column: a map that merely prefers a side or the centre gains nothing. In 2x1
and 1x2, a tile is the centre of its picture at full scale: squashed to half, whole pictures are
recognised less often (CIFAR-10, a small network, 1x2: both classes are the first two of 4% of the
mosaics, against 25% with centres).
"""

from itertools import product

import numpy as np
import torch
from torch.nn import functional as F


def make(
    images: np.ndarray, labels: np.ndarray, count: int, layout: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make mosaics of two classes, of the size of an image.

    All pairs of classes come equally often, to within one, and so do the classes; which of a pair
    is first, and which pictures show it, is drawn. A picture comes again only when all of its class
    have come.

    Args:
        images: uint8 [N, C, H, W].
        labels: int64 [N], of at least two classes.
        count: S, the number of mosaics.
        layout: "ROWSxCOLUMNS" of tiles: 2x1, 1x2 or 2x2.
        seed: of all draws.

    Returns:
        uint8 [S, C, H, W] images, int64 [S, 2] classes, the first that of the upper left tile, and
        bool [S, 2, H, W] masks of the tiles of each class.
    """
    rng = np.random.default_rng(seed)
    rows, columns = map(int, layout.split("x"))
    tiles = list(product(range(rows), range(columns)))
    classes = _pairs(np.unique(labels), count, rng)
    # Neighbouring tiles are of different classes.
    owners = np.array([(row + column) % 2 for row, column in tiles])
    which = _deal(classes[:, owners], labels, rng)
    height, width = images.shape[2:]
    mosaics = np.empty((count, *images.shape[1:]), dtype=np.uint8)
    masks = np.zeros((count, 2, height, width), dtype=bool)
    for tile, (row, column) in enumerate(tiles):
        down = slice(row * height // rows, (row + 1) * height // rows)
        across = slice(column * width // columns, (column + 1) * width // columns)
        size = (down.stop - down.start, across.stop - across.start)
        mosaics[:, :, down, across] = _tile(images[which[:, tile]], size)
        masks[:, owners[tile], down, across] = True
    return mosaics, classes, masks


def _pairs(classes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Deal pairs of classes, int64 [S, 2], as the rounds of a tournament of all against all.

    In a round each class meets one other (the circle method), so that a number of pairs that is no
    whole tournament has each class about equally often too.
    """
    seats = rng.permutation(classes)
    # An odd number of players takes a seat that stays empty.
    fixed, *ring = seats.tolist() + [-1] * (len(seats) % 2)
    half = len(ring) // 2 + 1
    rounds = []
    for turn in range(len(ring)):
        table = [fixed, *ring[turn:], *ring[:turn]]
        rounds += list(zip(table[:half], table[half:][::-1], strict=True))
    tournament = np.array([pair for pair in rounds if -1 not in pair], dtype=np.int64)
    pairs = np.resize(tournament, (count, 2))
    return np.where(rng.random((count, 1)) < 0.5, pairs, pairs[:, ::-1])


def _deal(wanted: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the row of a picture for each class number of ``wanted``, in its shape."""
    dealt = np.empty(wanted.shape, dtype=np.int64)
    for label in np.unique(wanted):
        places = wanted == label
        deck = rng.permutation(np.flatnonzero(labels == label))
        dealt[places] = np.resize(deck, int(places.sum()))
    return dealt


def _tile(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink the centre of images [S, C, H, W] that has the proportions of ``size`` to that size.

    Each pixel is the mean of the area that it covers.
    """
    whole = np.array(images.shape[2:])
    kept = np.rint(np.array(size) * (whole / size).min()).astype(int)
    (top, left), (bottom, right) = (whole - kept) // 2, (whole - kept) // 2 + kept
    centre = torch.from_numpy(images[:, :, top:bottom, left:right]).float()
    return F.interpolate(centre, size=size, mode="area").round().byte().numpy()
