"""Write docs/calibration.md: what every metric says of noise, of agnostic and of perfect maps.

    python docs/calibration.py

All of it is computed by `clarity.metrics.calibration`, as the metrics compute it in a grid.
"""

import math
from pathlib import Path

import pandas as pd
import torch

from clarity.metrics.calibration import KINDS, calibrate
from clarity.metrics.recipe import MetricRecipe
from clarity.metrics.registry import MetricInfo, every_metric, info

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "calibration.md"
SIDES = (4, 8, 32)
CATEGORIES = (
    "contrastivity",
    "localisation",
    "faithfulness",
    "randomisation",
    "robustness",
    "complexity",
    "axiomatic",
)

HEAD = """\
# Calibration

What each metric says of maps whose worth is known, in a small world of coloured objects where
what each pixel adds to a score is known exactly (`clarity.metrics.calibration`): **random** maps,
another for each image and class; **agnostic** maps, one for all classes, which find the objects
and cannot tell them apart; the **oracle**, what each pixel adds to the score of the class. Maps
are as coarse as class activation maps are: 4x4, 8x8 or 32x32 places, interpolated to 32x32
pixels. Means over {count} images or scenes with their standard errors; "-" where no image has a
value. Arguments are those of `metrics: all`. Made by `python docs/calibration.py`;
`tests/unit/test_metrics_calibration.py` holds it.

How to read it:

- A metric that puts **random** maps first rewards noise. All similarities between maps of two
  classes do: they are reported beside the contrastivity index, never in its place.
- A metric of contrastivity must give **agnostic** maps the null exactly; metrics of faithfulness
  and localisation need not tell them from the oracle, since finding the objects is most of their
  task.
- What moves from 4x4 to 32x32 is the size of the maps, not their worth: do not compare methods of
  different resolution by such a number alone.
- **bold**: neither noise nor agnostic maps can win, so the metric may carry a verdict; the others
  that give both the null are reported beside them.
- A metric may have something against the truth itself. Here these put noise before the oracle at
  32x32: {wrong}. IROF does since its superpixels of
  noisy pictures are one or two; the others since, by default, they follow probabilities, in which
  pixels that speak for other classes count too. Of the similarities noise is as good as the truth.
"""


def table(found: pd.DataFrame, known: dict[str, MetricInfo], category: str) -> list[str]:
    """Return the rows of a category as Markdown."""
    heads = [f"{kind} {side}" for kind in KINDS for side in SIDES]
    lines = [
        f"| metric | better | null: random, agnostic | {' | '.join(heads)} |",
        f"|---|---|---|{'---|' * len(heads)}",
    ]
    cells = found.set_index(["metric", "kind", "side"])
    for name, metric in known.items():
        if metric.category != category:
            continue
        shown = [entry(cells.loc[name, kind, side]) for kind in KINDS for side in SIDES]
        title = f"**{metric.metric}**" if metric.verdict else metric.metric
        nulls = metric.nulls or {}
        said = ", ".join(f"{nulls[k]:.3g}" if k in nulls else "-" for k in ("random", "agnostic"))
        lines.append(f"| {title} | {metric.direction} | {said} | {' | '.join(shown)} |")
    return lines


def entry(row: pd.Series) -> str:
    """Return a mean with its standard error; the error is left out where there is none."""
    if not row["share"]:
        return "-"
    mean, error = float(row["mean"]), float(row["error"])
    if not error > 1e-9:
        return f"{mean:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error))) if error < 10 else 0
    return f"{mean:.{min(digits, 3)}f} ± {error:.{min(digits, 3)}f}"


def noise_first(found: pd.DataFrame, known: dict[str, MetricInfo]) -> list[str]:
    """Return the metrics that put noise before the oracle on maps of full size."""
    means = found[found["side"] == max(SIDES)].pivot(index="metric", columns="kind", values="mean")
    gains = means["random"] - means["oracle"]
    signs = {"higher": 1, "lower": -1, "none": 0}
    return [m.metric for name, m in known.items() if signs[m.direction] * gains[name] > 0]


def main() -> None:
    """Compute the table and write the page."""
    torch.set_num_threads(1)
    count = 48
    everywhere = ["calibration"]
    recipes = {
        name: MetricRecipe(**recipe)
        for name, recipe in every_metric(everywhere, everywhere, everywhere).items()
    }
    known = {name: info(recipe) for name, recipe in recipes.items()}
    found = calibrate(recipes, sides=SIDES, count=count)
    lines = [HEAD.format(count=count, wrong=", ".join(noise_first(found, known)))]
    for category in CATEGORIES:
        lines += [f"## {category.capitalize()}\n", *table(found, known, category), ""]
    PAGE.write_text("\n".join(lines).rstrip() + "\n")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
