"""Write docs/coverage.md and its figures from the results of config/methods.yaml.

    make coverage        # runs the grid, then this

The table says of each method, network and target whether it can explain the one by the other, in
how much time, or why not; the figures show the maps of a two-class scene.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from clarity import provenance, storage
from clarity.config import Config, load_config
from clarity.data.sets import EvaluationSet
from clarity.figures.maps import shaded
from clarity.figures.sheet import sheet
from clarity.grid import Cell, Run

ROOT = Path(__file__).parents[1]
TARGETS = ("logit", "prototype", "contrast")

#: Pixels an inch of the figures in the docs.
DPI = 130


def base_and_target(config: Config, name: str) -> tuple[str, str]:
    """Return the method that an entry is of, and its target as the config spells it."""
    recipe = config.methods[name]
    target = "contrast" if recipe.foil == "runner-up" else recipe.target
    return name.removesuffix(f"-{target}"), target


def cells(config: Config, results: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return, by (network, method, target), what became of a cell and what it cost."""
    found = {}
    loss, seed = next(iter(config.losses)), config.seeds[0]
    for dataset in config.datasets:
        run = Run(dataset, loss, seed)
        for name in config.methods:
            path = results / Cell(run, name).folder / "attributions.safetensors"
            cost = storage.read_json(results / "logs/costs" / run.folder / f"{name}.json")
            found[dataset, *base_and_target(config, name)] = {**cost, "path": path}
    return found


def compressed_share(path: Path, scratch: Path) -> float:
    """Return the size of a cell's file, stored compressed, as a share of its size."""
    tensors, metadata = storage.read_tensors(path)
    storage.write_tensors(scratch, tensors, metadata, compressed=("maps",))
    share = scratch.stat().st_size / path.stat().st_size
    scratch.unlink()
    return share


def milliseconds(seconds: float) -> str:
    """Write a time with two or three digits that count."""
    time = 1000 * seconds
    return f"{time:,.0f}" if time >= 100 else f"{time:.2g}"


def table(config: Config, results: Path) -> str:
    """Return the coverage table with its footnotes, as Markdown."""
    found = cells(config, results)
    networks = list(config.datasets)
    names = list(dict.fromkeys(base_and_target(config, name)[0] for name in config.methods))
    reasons: list[str] = []
    lines = [
        f"| method | class | {' | '.join(networks)} | compressed |",
        f"|---|---|{'---|' * (len(networks) + 1)}",
    ]
    for name in names:
        entries = []
        for network in networks:
            parts = []
            for target in TARGETS:
                cell = found.get((network, name, target))
                if cell is None:
                    continue
                if cell["status"] == "ok":
                    parts.append(milliseconds(cell["seconds"] / cell["images"]))
                else:
                    if cell["reason"] not in reasons:
                        reasons.append(cell["reason"])
                    parts.append(f"—<sup>{reasons.index(cell['reason']) + 1}</sup>")
            entries.append(parts[0] if len(set(parts)) == 1 else " · ".join(parts))
        kind = next(
            config.methods[entry].method
            for entry in config.methods
            if base_and_target(config, entry)[0] == name
        )
        done = [
            cell["path"]
            for (_, method, _), cell in found.items()
            if method == name and cell["status"] == "ok"
        ]
        shares = [compressed_share(path, results / ".compressed") for path in done[:1]]
        share = f"{shares[0]:.0%}" if shares else ""
        lines.append(f"| {name} | `{kind}` | {' | '.join(entries)} | {share} |")
    notes = [f"{place + 1}. {reason}" for place, reason in enumerate(reasons)]
    sizes = {cell["bytes"] for cell in found.values() if cell["status"] == "ok"}
    images = {cell["images"] for cell in found.values()}
    assert len(images) == 1
    return TEXT.format(
        targets=" · ".join(TARGETS),
        networks=", ".join(networks),
        images=images.pop(),
        machine=provenance.processor(),
        torch=provenance.environment()["versions"]["torch"],
        cells=len(found),
        failed=sum(cell["status"] != "ok" for cell in found.values()),
        sizes=f"{min(sizes) / 1000:.0f} to {max(sizes) / 1000:.0f} kB",
        table="\n".join(lines),
        notes="\n".join(notes),
        figures="\n\n".join(
            f"![Maps by every method on {network}](coverage-{network}.png)" for network in networks
        ),
    )


TEXT = """# Which method explains what

Made by `make coverage` from a run of [config/methods.yaml](../config/methods.yaml): {cells} cells,
of which {failed} are unavailable. An entry is the time of an image and two classes in milliseconds,
for the targets {targets} (once where they do not differ, or the
method knows no target), on one thread of {machine} with torch {torch},
{images} images of 32x32, in one run beside other work: orders of magnitude; *or why there is no
map*. A cell takes {sizes} as it is stored; the last column is what `compress: true` leaves of it
(the logit, on the first network that has maps).

{table}

{notes}

## What the maps look like

A two-class scene (outlined: in black the object of the map's class, in grey the other), by every
method on each network ({networks}). The models are hardly trained: this shows the
methods, not what they say of losses.

{figures}
"""


def figure(config: Config, results: Path, network: str, out: Path) -> None:
    """Draw the maps of the first scene whose two classes the model ranks first."""
    found = cells(config, results)
    images = EvaluationSet.read(results / f"dataset={network}" / "evaluation.safetensors")
    run = Run(network, next(iter(config.losses)), config.seeds[0])
    predictions = storage.read_table(results / run.folder / "predictions.parquet")
    mine = predictions[predictions["split"] == "evaluation"].sort_values("image")
    scenes = np.flatnonzero(~images.single & mine["correct"].to_numpy(dtype=bool))
    row = int(scenes[0]) if len(scenes) else int(np.flatnonzero(~images.single)[0])
    maps: dict[tuple[str, str], np.ndarray | str] = {}
    for (dataset, method, target), cell in found.items():
        if dataset == network:
            path = cell["path"]
            ok = cell["status"] == "ok"
            maps[method, target] = (
                storage.read_tensor_rows(path, "maps", [row])[0] if ok else cell["reason"]
            )
    masks = images.masks
    first, second = (images.class_names[c] for c in images.classes[row])
    drawn = sheet(
        maps,
        rows=list(dict.fromkeys(method for method, _ in maps)),
        columns=TARGETS,
        pair=(first, second),
        under=shaded(images.images[row : row + 1])[0],
        masks=None if masks is None else masks[row],
        picture=images.images[row],
    )
    save_small(drawn, out)


def save_small(drawn: Any, out: Path) -> None:
    """Save a figure as a PNG of few colours: maps of two hues lose nothing that is seen."""
    with storage.atomic(out) as temporary:
        drawn.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
        with Image.open(temporary) as picture:
            picture.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(
                temporary, format="png", optimize=True
            )


def main() -> None:
    """Write the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "methods.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    chosen = parser.parse_args()
    config = load_config(yaml.safe_load(chosen.config.read_text()))
    results = Path(config.results)
    storage.write_text(chosen.out / "coverage.md", table(config, results))
    for network in config.datasets:
        figure(config, results, network, chosen.out / f"coverage-{network}.png")


if __name__ == "__main__":
    main()
