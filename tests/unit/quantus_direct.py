"""Quantus itself, one image a call and seeded as CLarity seeds that image: what must be met."""

import metric_subjects as make
import numpy as np

from clarity.metrics import quantus_calls  # noqa: F401 (mends one function of Quantus)
from clarity.seeds import derive_seed

PLAIN = {"normalise": False, "disable_warnings": True}


def seed_of(row: int) -> int:
    return derive_seed("metric", make.DATASET, make.SEED, row)


def scaled(maps: np.ndarray) -> np.ndarray:
    return maps / np.abs(maps).max(axis=(-2, -1), keepdims=True)


def one_by_one(metric, cell, maps=None, *, prepare=scaled, softmax=False, masks=None):
    """Call Quantus itself on one image at a time, seeded as CLarity seeds that image."""
    maps = prepare(cell.maps[:, 0]) if maps is None else maps

    def explain(model, inputs, targets, **_):
        return prepare(cell.explain(model, np.asarray(inputs, np.float32), np.asarray(targets)))[
            :, None
        ]

    found = []
    for row in range(len(maps)):
        np.random.seed(seed_of(row))
        found += metric(row)(
            model=cell.model,
            x_batch=np.array(cell.images[row : row + 1]),
            y_batch=np.array(cell.classes[row : row + 1, 0]),
            a_batch=np.array(maps[row : row + 1, None]),
            s_batch=None if masks is None else np.array(masks[row : row + 1, None]),
            explain_func=explain,
            softmax=softmax,
            channel_first=True,
            batch_size=1,
        )
    return np.array(found, dtype=np.float64)


def distinct(n: int = 6, size: int = 16) -> np.ndarray:
    """Return maps whose values are all different, so that order is not left to chance."""
    generator = np.random.default_rng(5)
    return np.stack([generator.permutation(size * size) for _ in range(n)]).reshape(n, size, size)


def together(
    metric,
    cell,
    maps,
    rows=slice(None),
    *,
    softmax=False,
    masks=None,
    batch_size=64,
    prepare=np.array,
):
    """Call Quantus itself on some images in one call: what its batches make of them."""

    def explain(model, inputs, targets, **_):
        return prepare(cell.explain(model, np.asarray(inputs, np.float32), np.asarray(targets)))[
            :, None
        ]

    return metric(
        model=cell.model,
        x_batch=np.array(cell.images[rows]),
        y_batch=np.array(cell.classes[rows, 0]),
        a_batch=np.array(maps[rows, None]),
        s_batch=None if masks is None else np.array(masks[rows, None]),
        explain_func=explain,
        softmax=softmax,
        channel_first=True,
        batch_size=batch_size,
    )
