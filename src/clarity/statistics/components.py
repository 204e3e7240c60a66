"""Components: own what the scores of a metric vary with: the loss, the method, the seed, the image.

A benchmark whose scores vary with the method ten times as much as with the loss says little of
losses unless it compares them within methods.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = (
    "dataset",
    "metric",
    "category",
    "component",
    "n_losses",
    "n_methods",
    "n_seeds",
    "variance",
    "share",
)
COMPONENTS = ("loss", "method", "loss x method", "seed", "loss x seed", "residual", "image")


def components(runs: pd.DataFrame, controls: Collection[str] = ()) -> pd.DataFrame:
    """Split the variance of each metric's scores on each dataset.

    Args:
        runs: the table of that name.
        controls: methods that do not count.

    Returns:
        `COLUMNS`, one row a component, in the squared unit of the metric. `image` is the mean
        variance between the images of a cell; the others are components of the cells' paired means,
        by the method of moments from the mean squares of the layout loss x method x seed (Searle,
        Casella and McCulloch, 1992, "Variance components", chapter 4), negative ones set to 0;
        loss x seed is the training run. Methods and seeds that lack a cell are left out.
    """
    own = runs[~runs["method"].isin(list(controls))]
    rows: list[dict[str, Any]] = []
    for (dataset, metric, category), group in own.groupby(
        ["dataset", "metric", "category"], sort=False
    ):
        wide = group.pivot(index=["method", "seed"], columns="loss", values="paired_mean")
        table = wide.notna().all(axis=1).unstack("seed", fill_value=False)
        table = table[table.any(axis=1)]
        table = table.loc[:, table.all(axis=0)] if len(table) else table
        axes = {"dataset": dataset, "metric": metric, "category": category}
        methods, seeds, losses = list(table.index), list(table.columns), list(wide.columns)
        counts = {"n_losses": len(losses), "n_methods": len(methods), "n_seeds": len(seeds)}
        found = dict.fromkeys(COMPONENTS, np.nan)
        if len(losses) > 1 and len(methods) > 1 and len(seeds) > 1:
            index = pd.MultiIndex.from_product([methods, seeds])
            cells = wide.loc[index].to_numpy().reshape(len(methods), len(seeds), len(losses))
            found |= moments(cells.transpose(2, 0, 1))
            within = group[group["method"].isin(methods) & group["seed"].isin(seeds)]
            found["image"] = float((within["sd"] ** 2).mean())
        total = float(np.nansum(list(found.values())))
        rows += [
            {
                **axes,
                "component": name,
                **counts,
                "variance": value,
                "share": value / total if total > 0 else np.nan,
            }
            for name, value in found.items()
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def moments(cells: np.ndarray) -> dict[str, float]:
    """Return the variance components of a full layout, all factors random.

    Args:
        cells: [losses, methods, seeds], each axis of 2 or more.

    Returns:
        By name, those of `COMPONENTS` but the image. Method x seed is part of the residual, since
        the maps of one method differ between seeds only through the model.
    """
    a, b, n = cells.shape
    grand = cells.mean()
    loss, method, seed = (cells.mean(axis=axes) - grand for axes in ((1, 2), (0, 2), (0, 1)))
    both = cells.mean(axis=2) - grand - loss[:, None] - method[None, :]
    runs = cells.mean(axis=1) - grand - loss[:, None] - seed[None, :]
    rest = (
        cells
        - grand
        - loss[:, None, None]
        - method[None, :, None]
        - seed[None, None, :]
        - both[:, :, None]
        - runs[:, None, :]
    )
    residual = (rest**2).sum() / (a * b * n - a - b - n + 2 - (a - 1) * (b - 1) - (a - 1) * (n - 1))
    square_both = n * (both**2).sum() / ((a - 1) * (b - 1))
    square_runs = b * (runs**2).sum() / ((a - 1) * (n - 1))
    square_loss = b * n * (loss**2).sum() / (a - 1)
    square_method = a * n * (method**2).sum() / (b - 1)
    square_seed = a * b * (seed**2).sum() / (n - 1)
    found = {
        "loss": (square_loss - square_both - square_runs + residual) / (b * n),
        "method": (square_method - square_both) / (a * n),
        "loss x method": (square_both - residual) / n,
        "seed": (square_seed - square_runs) / (a * b),
        "loss x seed": (square_runs - residual) / b,
        "residual": residual,
    }
    return {name: max(float(value), 0.0) for name, value in found.items()}
