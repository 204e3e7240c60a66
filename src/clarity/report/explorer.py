"""Explorer: owns which images, maps and scores the page lets its reader look at, and how they lie.

Maps are those of the first seed, as stored, but for two things that keep a page small: they are
reduced to at most `SIDES` pixels, and their values are cut at `PERCENTILE` and kept in 255 steps.
`explorer.js` draws them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from clarity import storage
from clarity.figures.gallery import NONE
from clarity.figures.maps import COLOURS, PERCENTILE, shaded
from clarity.grid import MAPS, SCORES, Cell, Grid, Run, controls_last
from clarity.report.packing import listed, pack, pack_json
from clarity.tables.load import PREDICTIONS

#: Values of maps that a page may hold, over all datasets; packed, each takes about a byte.
BUDGET = 6_000_000

#: The longest side of a map and how many of its classes, the most wanted first. None: all.
SIDES: tuple[tuple[int, int | None], ...] = ((64, None), (64, 2), (48, 2), (32, 2), (24, 2))

#: Images of a dataset: no choice above is taken that leaves fewer, as long as another does.
FEWEST, MOST = 4, 24

#: A map's values are kept as whole numbers up to this one.
STEPS = 127


@dataclass(frozen=True)
class Explored:
    """A dataset that can be looked at.

    Attributes:
        dataset: its name.
        images: how many.
        about: everything but the maps, packed.
        maps: those of each image, packed: int8 [losses, methods, classes, H, W], in `STEPS` of
            their own scale.
    """

    dataset: str
    images: int
    about: str
    maps: list[str]


def explore(
    root: Path,
    grid: Grid,
    *,
    metrics: Mapping[str, Mapping[str, Any]],
    controls: Collection[str],
    budget: int = BUDGET,
) -> list[Explored]:
    """Return what can be looked at of each dataset that has an evaluation set.

    Args:
        root: the results root.
        grid: the axes; the first seed is shown.
        metrics: by name, in order, with the keys category and direction.
        controls: the methods that look at neither model nor class; they come last.
        budget: values of maps that all datasets together may take.

    Raises:
        clarity.storage.CorruptArtifact: if a file is there and cannot be read.
    """
    paths = {name: root / f"dataset={name}/evaluation.safetensors" for name in grid.datasets}
    there = [name for name, path in paths.items() if path.exists()]
    return [_dataset(root, name, grid, metrics, controls, budget // len(there)) for name in there]


def colours() -> str:
    """Return the colours of a map's values from -`STEPS` to `STEPS`, packed: uint8 [255, 3]."""
    ramp = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 2 * STEPS + 1))[:, :3]
    return pack(np.round(255 * ramp).astype(np.uint8).tobytes())


def _dataset(
    root: Path,
    dataset: str,
    grid: Grid,
    metrics: Mapping[str, Mapping[str, Any]],
    controls: Collection[str],
    budget: int,
) -> Explored:
    place = root / f"dataset={dataset}/evaluation.safetensors"
    notes = storage.read_tensor_metadata(place)
    classes = storage.read_tensor_rows(place, "classes")
    own = len(json.loads(notes.get("own_pictures", "[]")))
    methods = controls_last(grid.methods, controls)
    runs = [Run(dataset, loss, grid.seeds[0]) for loss in grid.losses]
    cells = [[_Maps.of(root, Cell(run, method)) for method in methods] for run in runs]
    stored = max((cell.classes for row in cells for cell in row), default=0)
    height, width = storage.read_tensor_shapes(place)["images"][-2:]
    side, kept, count = plan(
        len(runs) * len(methods), stored, max(height, width), len(classes), budget
    )
    rows = chosen_images(classes, own, count)
    shape = reduced_shape(height, width, side)
    explained = np.full((len(runs), len(rows), kept), NONE)
    scales = np.zeros((len(runs), len(methods), len(rows), kept))
    values = np.zeros((len(rows), len(runs), len(methods), kept, *shape), np.int8)
    for at, row in enumerate(cells):
        for column, cell in enumerate(row):
            if cell.reason:
                continue
            many = min(kept, cell.classes)
            explained[at, :, :many] = storage.read_tensor_rows(
                cell.path, "classes", rows, columns=many
            )
            maps = storage.read_tensor_rows(cell.path, "maps", rows, columns=many)
            steps, scale = in_steps(reduced(maps, shape))
            values[:, at, column, :many], scales[at, column, :, :many] = steps, scale
    pixels = _pixels(storage.read_tensor_rows(place, "images", rows), shape)
    under = shaded(pixels.transpose(0, 3, 1, 2))
    about = {
        "dataset": dataset,
        "seed": grid.seeds[0],
        "losses": list(grid.losses),
        "methods": methods,
        "controls": len([m for m in methods if m in controls]),
        "metrics": [
            {"name": name, "category": told["category"], "direction": told["direction"]}
            for name, told in metrics.items()
        ],
        "classes": json.loads(notes["classes"]),
        "shape": list(shape),
        "kept": kept,
        "images": [
            {"row": int(row), "label": int(label), "second": int(second)}
            for row, (label, second) in zip(rows, classes[rows], strict=True)
        ],
        "pixels": pack(pixels.tobytes()),
        "under": pack(np.round(255 * under).astype(np.uint8).tobytes()),
        "masks": _masks(place, rows, shape),
        "predicted": [_predicted(root, run, rows) for run in runs],
        "explained": explained.tolist(),
        "scales": listed(scales),
        "reasons": [[cell.reason for cell in row] for row in cells],
        "scores": [
            [_scores(root, Cell(run, method), rows, list(metrics)) for method in methods]
            for run in runs
        ],
    }
    return Explored(
        dataset, len(rows), pack_json(about), [pack(image.tobytes()) for image in values]
    )


@dataclass(frozen=True)
class _Maps:
    """What is known of a cell's maps before they are read."""

    path: Path
    reason: str
    classes: int

    @classmethod
    def of(cls, root: Path, cell: Cell) -> "_Maps":
        path = root / cell.folder / MAPS
        if not path.exists():
            return cls(path, f"no file {cell.folder}/{path.name}", 0)
        notes = storage.read_tensor_metadata(path)
        if notes["status"] != "ok":
            return cls(path, notes["reason"], 0)
        return cls(path, "", storage.read_tensor_shapes(path)["maps"][1])


def plan(cells: int, stored: int, side: int, images: int, budget: int) -> tuple[int, int, int]:
    """Return the longest side of a map, the classes of an image, and the images of a dataset.

    Args:
        cells: how many cells of a dataset are shown.
        stored: classes that an image has maps of.
        side: longest side of the maps.
        images: how many there are.
        budget: values of maps that the dataset may take.
    """
    wanted = min(images, MOST)
    for most, classes in SIDES:
        kept = stored if classes is None else min(stored, classes)
        small = min(side, most)
        fit = budget // max(cells * kept * small * small, 1)
        if fit >= min(FEWEST, wanted):
            break
    return small, kept, min(wanted, max(fit, 1))


def chosen_images(classes: np.ndarray, own: int, count: int) -> np.ndarray:
    """Choose images: the user's own first, then single ones and scenes by turns, class by class.

    Whether a model is right plays no part: the page says where one is not.

    Args:
        classes: integers [N, 2], the second -1 for a single image.
        own: how many at the end are the user's own pictures.
        count: how many to choose.

    Returns:
        Rows, single images before those of two classes, each group in ascending order.
    """
    pair = classes[:, 1] != NONE
    frame = pd.DataFrame({"first": classes[:, 0], "pair": pair})
    frame["theirs"] = np.arange(len(classes)) < len(classes) - own
    frame["turn"] = frame.groupby(["pair", "first"]).cumcount()
    frame["place"] = frame.sort_values("turn", kind="stable").groupby("pair").cumcount()
    chosen = frame.sort_values(["theirs", "place", "pair"], kind="stable").index[:count].to_numpy()
    return chosen[np.lexsort((chosen, pair[chosen]))]


def reduced_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the shape of a map whose longest side is at most ``side``."""
    share = min(1.0, side / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def reduced(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return maps [..., H, W] as the means of the areas of fewer pixels: [..., *shape]."""
    if maps.shape[-2:] == shape:
        return maps
    flat = maps.reshape(-1, *maps.shape[-2:]).astype(np.float32)
    small = [
        np.asarray(Image.fromarray(one).resize(shape[::-1], Image.Resampling.BOX)) for one in flat
    ]
    return np.stack(small).reshape(*maps.shape[:-2], *shape)


def in_steps(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return maps [..., H, W] in `STEPS` of their own scale, and the scales [...].

    A map's scale is the `PERCENTILE` of its absolute values, or their maximum if that is 0; that of
    a map that is 0 everywhere is 0. A map that is not finite has the scale NaN.
    """
    size = np.abs(maps)
    scale = np.percentile(size, PERCENTILE, axis=(-2, -1))
    scale = np.where(scale > 0, scale, size.max(axis=(-2, -1)))
    finite = np.isfinite(maps).all(axis=(-2, -1))
    divisor = np.where(finite & (scale > 0), scale, 1)[..., None, None]
    shares = np.clip(np.where(finite[..., None, None], maps, 0) / divisor, -1, 1)
    return np.round(STEPS * shares).astype(np.int8), np.where(finite, scale, np.nan)


def _pixels(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return images [N, C, H, W] as uint8 [N, h, w, 3]."""
    small = np.round(reduced(images, shape)).astype(np.uint8)
    rgb = np.repeat(small, 3, axis=1) if small.shape[1] == 1 else small[:, :3]
    return np.ascontiguousarray(rgb.transpose(0, 2, 3, 1))


def _masks(place: Path, rows: np.ndarray, shape: tuple[int, int]) -> str:
    """Return where the object of each class is, packed uint8 [N, 2, h, w]; empty if not known."""
    if "masks" not in storage.read_tensor_shapes(place):
        return ""
    masks = storage.read_tensor_rows(place, "masks", rows).astype(bool)
    return pack((reduced(masks.astype(np.float32), shape) >= 0.5).astype(np.uint8).tobytes())


def _predicted(root: Path, run: Run, rows: np.ndarray) -> list[int]:
    """Return the class that a model gives each image; none for a run that failed."""
    path = root / run.folder / PREDICTIONS
    nothing = [NONE] * len(rows)
    if not path.exists():
        return nothing
    frame = storage.read_table(path, ["split", "image", "predicted"])
    mine = frame[frame["split"] == "evaluation"].set_index("image")["predicted"]
    return [int(value) for value in mine.reindex(rows, fill_value=NONE)]


def _scores(root: Path, cell: Cell, rows: np.ndarray, metrics: Sequence[str]) -> list[Any]:
    """Return the score of each image by each metric; None where there is no number."""
    path = root / cell.folder / SCORES
    if not path.exists():
        return [[None] * len(metrics)] * len(rows)
    frame = storage.read_table(path, ["image", "metric", "value"])
    wide = frame[frame["image"].isin(rows)].pivot(index="image", columns="metric", values="value")
    known = wide.reindex(index=rows, columns=list(metrics)).to_numpy(dtype=float)
    return listed(known)
