"""Write docs/metrics.md: what every metric is, and what became of each on config/all-metrics.yaml.

    make metrics        # runs the grid, then this

The reference is made of the metrics' own words. The table says of each metric how many scores are
numbers and why not, what an image takes, and whether the controls are where theory puts them.
"""

import argparse
import importlib
import inspect
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from clarity import catalogue, provenance, storage
from clarity.config import Config, load_config
from clarity.metrics.registry import MetricInfo

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
CONFIG = ROOT / "config" / "all-metrics.yaml"

CATEGORIES = {
    "contrastivity": "Are maps of different classes different, as they should be?",
    "localisation": "Is relevance on the object?",
    "faithfulness": "Does relevance tell what the model uses?",
    "randomisation": "Does the map depend on the model?",
    "robustness": "Does the map stay, if the image hardly changes?",
    "complexity": "Does the map need few pixels?",
    "axiomatic": "Does the map have properties that it should have exactly?",
}

#: Methods of the grid that are one map for all classes, and noise.
AGNOSTIC, NOISE = ("sobel", "eigencam"), "random"

#: Metrics that a map which sees no network must lose with certainty: the worst value there is.
OF_THE_NETWORK = {"MPRT": 1.0, "SmoothMPRT": 1.0, "EfficientMPRT": 0.0}

#: Categories whose metrics may well rank an edge map first, and why: what they ask, it has.
NO_CONTROL = {
    "faithfulness": "it finds the object, which is most of what a removal of regions asks",
    "robustness": "edges are as stable as maps can be",
    "complexity": "says nothing of right or wrong: edges and single pixels are simple too",
}

HEAD = """\
# Metrics

{count} metrics: the {quantus} of Quantus 0.6.0 by their names ([what was found wrong
there](quantus.md)), and {own} of CLarity's. What each says of noise, of maps that ignore the
class and of perfect ones is measured in [calibration.md](calibration.md). A metric of your own is
a class that is called with a `Batch` and returns `Scores` (`clarity.metrics.batch`), named
`module:Class`.

**The metrics in bold carry a verdict on contrastivity**: neither noise nor a map that is the same
for all classes can win them. Similarities between maps of two classes do not: noise has the
lowest similarity of all, so they are read beside the contrastivity index. A zero map is counted,
never scored.

A metric's settings are a hidden choice. `settings` in a recipe computes several, and the table
`settings` of the results tells how the ranking of the losses changes with them:

```yaml
metrics:
  pixel-flipping:
    metric: PixelFlipping
    features_in_step: 32
    settings:
      black: {{perturb_baseline: black}}
      mean: {{perturb_baseline: mean}}
      blur: {{perturb_baseline: blur}}
```

`metrics: all` takes every metric that a dataset can have, with the arguments in the reference
below. A metric that needs the whole set compares all images whose maps it can judge, those too that
`correct-only` leaves out of a comparison later. Metrics that yield more than a number keep it in
the column `curve` of `scores.parquet`; the file's metadata (`curves`) say what its points are.

## Coverage

{description} Made by `make metrics`.

- **scores**: share of the scores, over all cells, that are numbers; then NaN, and unavailable.
- **ms**: milliseconds an image, mean over the cells, with the maps of the cell stored. What other
  methods or metrics of the same model had already asked for came from memory.
- **controls**: whether noise and the methods that ignore the class ({agnostic}) are where theory
  puts them, in all {runs} models; and, where theory names no number, whether a control ranks
  first.

"""


@dataclass(frozen=True)
class Row:
    """What became of a metric."""

    shares: dict[str, float]
    reason: str
    milliseconds: float
    controls: list[tuple[bool | None, str]]


def load(config: Config, results: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all scores of the grid, and what each metric took in each cell."""
    frames, costs = [], []
    for cell in config.grid.cells():
        frame = storage.read_table(results / cell.folder / "scores.parquet")
        frames.append(frame.drop(columns="curve").assign(**cell.axes))
        folder = results / "logs/costs" / cell.run.folder
        for metric, cost in storage.read_json(folder / f"{cell.method}-metrics.json").items():
            costs.append({**cell.axes, "metric": metric, **cost})
    return pd.concat(frames, ignore_index=True), pd.DataFrame(costs)


def judged(name: str, known: MetricInfo, scores: pd.DataFrame, costs: pd.DataFrame) -> Row:
    """Say what became of a metric."""
    rows = scores[scores["metric"] == name]
    shares = rows["status"].value_counts(normalize=True)
    wrong = rows.loc[rows["status"] != "ok", "reason"]
    spent = costs[costs["metric"] == name]
    return Row(
        {status: float(shares.get(status, 0)) for status in ("ok", "nan", "unavailable")},
        "" if wrong.empty else str(wrong.mode()[0]),
        1000 * float((spent["seconds"] / spent["images"]).mean()),
        controls(known, rows),
    )


def controls(known: MetricInfo, rows: pd.DataFrame) -> list[tuple[bool | None, str]]:
    """Say of each control whether it is where theory puts it, in words."""
    keys = ["dataset", "loss", "method"]
    runs = rows.groupby(keys)["value"].agg(["mean", "std", "count"]).reset_index()
    runs = runs[runs["count"] > 1]
    found: list[tuple[bool | None, str]] = []
    nulls = known.nulls or {}
    agnostic = runs[runs["method"].isin(AGNOSTIC)]
    noise = runs[runs["method"] == NOISE]
    if "agnostic" in nulls and len(agnostic):
        far = float((agnostic["mean"] - nulls["agnostic"]).abs().max())
        found.append((far < 1e-5, f"agnostic {nulls['agnostic']:.3g}: at most {far:.1g} off"))
    if "random" in nulls and len(noise):
        # The models judge the same noise on the same images, so an image counts once.
        images = rows[rows["method"] == NOISE].groupby(["dataset", "image"])["value"].mean()
        mean, error = float(images.mean()), float(images.sem())
        near = abs(mean - nulls["random"]) < 3.5 * error + 1e-9
        found.append((near, f"noise {nulls['random']:.3g}: {mean:.3g} ± {error:.2g}"))
    if known.metric in OF_THE_NETWORK:
        blind = runs[runs["method"].isin((NOISE, "sobel"))]
        far = float((blind["mean"] - OF_THE_NETWORK[known.metric]).abs().max())
        found.append((far < 1e-5, f"blind {OF_THE_NETWORK[known.metric]:.0f}: {far:.1g} off"))
    if found or known.direction == "none" or runs.empty:
        return found
    means = runs.groupby("method")["mean"].mean()
    best = str(means.idxmax() if known.direction == "higher" else means.idxmin())
    order = means.sort_values(ascending=known.direction == "lower").index.tolist()
    place = (
        f"noise {order.index(NOISE) + 1} of {len(order)}" if NOISE in order else "noise has none"
    )
    if best == "sobel" and known.category in NO_CONTROL:
        return [(None, f"sobel first, {place}: {NO_CONTROL[known.category]}")]
    return [(best not in (NOISE, "sobel"), f"{best} first, {place}")]


def coverage(known: dict[str, MetricInfo], rows: dict[str, Row]) -> list[str]:
    """Return the table of coverage, by category."""
    lines = []
    for category in CATEGORIES:
        lines += [
            f"### {category.capitalize()}\n",
            "| metric | better | scores: ok, NaN, unavailable | why not | ms | controls |",
            "|---|---|---|---|---|---|",
        ]
        for name, metric in known.items():
            if metric.category != category:
                continue
            row = rows[name]
            shares = " / ".join(f"{100 * row.shares[s]:.0f} %" for s in row.shares)
            marks = {True: "✓ ", False: "✗ ", None: ""}
            said = "; ".join(marks[passed] + words for passed, words in row.controls)
            title = f"**{metric.metric}**" if metric.verdict else metric.metric
            cells = [title, metric.direction, shares, row.reason, f"{row.milliseconds:.1f}", said]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return lines


def taken(metric: MetricInfo) -> str:
    """Return the arguments that `metrics: all` gives, formulas as they are."""
    said = dict(metric.moderate or {}).items()
    return ", ".join(f"{key} {str(value).removeprefix('=')}" for key, value in said)


def reference(known: dict[str, MetricInfo]) -> list[str]:
    """Return each metric in its own words."""
    lines = ["## Reference\n"]
    for category, question in CATEGORIES.items():
        lines += [f"### {category.capitalize()}: {question[0].lower()}{question[1:]}\n"]
        for metric in known.values():
            if metric.category != category:
                continue
            found = catalogue.find("metrics", metric.metric)
            kind = getattr(importlib.import_module(found.module), found.name)
            facts = [
                f"{metric.direction} is better" if metric.direction != "none" else "no direction",
                f"of {'two-class scenes' if metric.images == 'scenes' else 'single images'}",
                f"{metric.sign} maps",
                "each divided by its largest absolute value" if metric.scale == "max" else "",
                "of probabilities" if metric.softmax else "",
                f"needs {', '.join(metric.needs)}" if metric.needs else "",
                f"nulls {dict(metric.nulls)}" if metric.nulls else "",
                f"`metrics: all` takes {taken(metric)}" if metric.moderate else "",
                metric.paper,
            ]
            words = textwrap.indent(inspect.getdoc(kind) or "", "  ").strip()
            lines += [f"- **{metric.metric}** ({'; '.join(filter(None, facts))}). {words}\n"]
    return lines


def main() -> None:
    """Read the results and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path)
    chosen = parser.parse_args()
    config = load_config(yaml.safe_load(CONFIG.read_text()))
    results = chosen.results or ROOT / config.results
    scores, costs = load(config, results)
    known = config.metric_infos()
    rows = {name: judged(name, metric, scores, costs) for name, metric in known.items()}
    host = provenance.environment()
    own = sum(not catalogue.is_of_quantus(metric.metric) for metric in known.values())
    description = (
        f"`config/all-metrics.yaml`: {len(config.methods)} methods, "
        f"{' and '.join(config.datasets)}, {', '.join(config.losses)}, one seed, "
        f"{config.evaluation.images} images and {config.evaluation.scenes} scenes of each; "
        f"one thread of {host['host']['processor']}, torch {host['versions']['torch']}."
    )
    lines = [
        HEAD.format(
            count=len(known),
            own=own,
            quantus=len(known) - own,
            description=description,
            agnostic=" and ".join(AGNOSTIC),
            runs=len(config.grid.runs()),
        ),
        *coverage(known, rows),
        *reference(known),
    ]
    PAGE.write_text("\n".join(lines).rstrip() + "\n")
    failed = [n for n, row in rows.items() for passed, _ in row.controls if passed is False]
    seconds = costs.groupby(["dataset", "loss", "seed", "method"])["seconds"].sum()
    print(f"written to {PAGE}; controls not where theory puts them: {failed or 'none'}")
    span = f"{seconds.min():.0f} to {seconds.max():.0f}"
    print(f"seconds a cell: {span}, {math.fsum(seconds):.0f} in all")


if __name__ == "__main__":
    main()
