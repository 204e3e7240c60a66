"""Write docs/clxai-replication.md from the results of config/clxai-replication.yaml.

    python docs/clxai_replication.py [--results FOLDER]

The results folder must have the scores of the whole grid (`snakemake evaluate-all`). Nothing is
computed anew but which images each explained score gets right, means, signs, ranks and tests.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from scipy import stats

from clarity import storage
from clarity.attribution.targets import TargetFunction
from clarity.config import Config
from clarity.data.sets import EvaluationSet, to_input
from clarity.models import classifier
from clarity.runtime import deterministic
from clarity.statistics.significance import sign_flip_p, smallest_p
from clarity.tables.load import load_scores

ROOT = Path(__file__).parents[1]
RELEASED, MATCHED = "released", "matched"
EVALUATION = "evaluation.safetensors"

#: The facets by the names of their metrics, which have the settings "released" and "mended".
FACETS = {
    "pixel-flipping": "Pixel flipping (faithfulness)",
    "continuity": "Continuity",
    "contrastivity": "Contrastivity",
    "complexity": "Complexity",
    "sparseness": "Sparseness",
}

#: What each setting of a metric, a head or training mends.
SETTINGS = {
    "pixels": "whole pixels",
    "black": "black is 0",
    "relative": "divided by the start",
    "untouched": "untouched image first",
    "ties": "ties at random",
    "unclamped": "no clamp",
    "zero-maps": "zero maps left out",
    "mended": "all of the metric's points",
}

#: The head as released: cross-entropy's own, the others' probe on features it was not fitted to.
OWN, SLIP = "logit-uncalibrated", "probe-normalised-on-raw"
HEADS = {
    SLIP: "the probe's slip for all",
    "logit": "own head or probe, calibrated",
    "probe": "calibrated probe for all",
    "prototype": "prototypes for all",
}
CONTROLS = {"random": "*random maps*", "sobel": "*edges (Sobel)*"}


@dataclass(frozen=True)
class Arm:
    """One way to compare the losses by a facet.

    Attributes:
        name: what it mends.
        dataset: the arm of training.
        methods: the method by which each loss is explained.
        metric: the setting of the facet.
    """

    name: str
    dataset: str
    methods: Mapping[str, str]
    metric: str


@dataclass(frozen=True)
class Study:
    """The grid and its scores.

    Attributes:
        config: of the grid.
        scores: dataset, loss, seed, method, metric, image and value, NaN where there is none.
        right: whether a score gets an image right: bool, rows (dataset, seed, image), columns
            (loss, target).
        accuracy: mean test accuracy of the linear head by dataset and loss.
    """

    config: Config
    scores: pd.DataFrame
    right: pd.DataFrame
    accuracy: pd.Series

    @classmethod
    def read(cls, config: Config, results: Path) -> "Study":
        """Read the scores of every cell, and ask every model for the classes of the images."""
        loaded = load_scores(results, [cell.axes for cell in config.grid.cells()])
        axes = dict.fromkeys(("dataset", "loss", "method", "metric"), "str")
        predictions = loaded.predictions.astype({"dataset": "str", "loss": "str"})
        test = predictions[predictions["split"] == "test"]
        return cls(
            config,
            loaded.scores.astype(axes),
            _right(config, results),
            test.groupby(["dataset", "loss"])["correct"].mean(),
        )

    def counted(self, arm: "Arm") -> pd.Series:
        """Return the images that count: those that the explained scores of all losses get right.

        Returns:
            bool by (dataset, seed, image) of the arm's training.
        """
        explained = [
            (loss, self.config.methods[method].target) for loss, method in arm.methods.items()
        ]
        rows = self.right.loc[[arm.dataset]]
        return rows[explained].all(axis=1)

    @property
    def baseline(self) -> str:
        """The loss that the others are compared with."""
        return self.config.statistics.baseline

    @property
    def others(self) -> list[str]:
        """The other losses."""
        return [loss for loss in self.config.losses if loss != self.baseline]

    def values(self, arm: Arm, loss: str) -> pd.Series:
        """Return the values of a loss by seed and image, in that order; NaN where there is none."""
        rows = self.scores
        chosen = rows[
            (rows["dataset"] == arm.dataset)
            & (rows["loss"] == loss)
            & (rows["method"] == arm.methods[loss])
            & (rows["metric"] == arm.metric)
        ]
        values = chosen.set_index(["seed", "image"])["value"].sort_index()
        counted = self.counted(arm).droplevel("dataset")
        return values[counted.reindex(values.index).to_numpy(dtype=bool)]

    def run_means(self, arm: Arm) -> pd.DataFrame:
        """Return the mean of each run's images that have a value: [seed, loss]."""
        return pd.DataFrame(
            {
                loss: self.values(arm, loss).groupby("seed").mean()
                for loss in [self.baseline, *self.others]
            }
        )


def _right(config: Config, results: Path) -> pd.DataFrame:
    """Return which evaluation images each target of the grid gets right, as `Study.right`."""
    targets = sorted({recipe.target for recipe in config.methods.values()})
    parts = []
    cpu = torch.device("cpu")
    with deterministic("cpu", 1), torch.no_grad():
        for run in config.grid.runs():
            images = EvaluationSet.read(results / f"dataset={run.dataset}" / EVALUATION)
            model = classifier.load(results / run.folder / "model.safetensors", cpu)
            embeddings = model.embed(to_input(images.images, cpu))
            for target in targets:
                scores = TargetFunction(model, target).of_embeddings(embeddings)
                found = scores.argmax(dim=1).numpy() == images.classes[:, 0]
                known = {"dataset": run.dataset, "seed": run.seed, "image": range(len(found))}
                parts.append(
                    pd.DataFrame({**known, "loss": run.loss, "target": target, "right": found})
                )
    rows = pd.concat(parts, ignore_index=True)
    return rows.pivot(
        index=["dataset", "seed", "image"], columns=["loss", "target"], values="right"
    )


def arms(study: Study, facet: str, cam: str) -> Iterator[Arm]:
    """Yield the arms of a facet, as released first, then one point mended each, then all."""
    config = study.config
    losses = list(config.losses)

    def same(target: str) -> dict[str, str]:
        return dict.fromkeys(losses, cam if target == "logit" else f"{cam}-{target}")

    released = {**same(SLIP), study.baseline: same(OWN)[study.baseline]}
    yield Arm("**as released**", RELEASED, released, f"{facet}-released")
    for metric, recipe in config.metrics.items():
        setting = metric.removeprefix(f"{facet}-")
        if recipe.family == facet and setting != RELEASED:
            yield Arm(SETTINGS[setting], RELEASED, released, metric)
    for target, name in HEADS.items():
        if same(target)[losses[0]] in config.methods:
            yield Arm(f"head: {name}", RELEASED, same(target), f"{facet}-released")
    yield Arm("one training protocol", MATCHED, released, f"{facet}-released")
    last = "probe" if same("probe")[losses[0]] in config.methods else "logit"
    yield Arm("**everything mended**", MATCHED, same(last), f"{facet}-mended")
    for control, name in CONTROLS.items():
        yield Arm(name, RELEASED, dict.fromkeys(losses, control), f"{facet}-released")


# --- how each point moves each facet ------------------------------------------------------------


def table(study: Study, facet: str, cam: str) -> str:
    """Return the table of a facet as Markdown."""
    infos = study.config.metric_infos()
    others = study.others
    heads = [f"{loss} (difference; seeds)" for loss in others]
    lines = [
        f"| arm | {study.baseline} | {' | '.join(heads)} | best to worst | what changes |",
        "|---" * (4 + len(others)) + "|",
    ]
    first: tuple[dict[str, float], list[str]] | None = None
    for arm in arms(study, facet, cam):
        runs = study.run_means(arm)
        means = runs.mean()
        signs = {loss: float(np.sign(means[loss] - means[study.baseline])) for loss in others}
        lower = infos[arm.metric].direction == "lower"
        ranking = [str(loss) for loss in means.sort_values(ascending=lower).index]
        cells = [arm.name, _number(means[study.baseline])]
        for loss in others:
            differences = runs[loss] - runs[study.baseline]
            agree = int((np.sign(differences) == signs[loss]).sum())
            mean = means[loss] - means[study.baseline]
            count = int(differences.notna().sum())
            cells.append(f"{_number(means[loss])} ({mean:+.2g}; {agree} of {count})")
        if first is None:
            first = signs, ranking
        changed = [f"{loss} turns" for loss in others if signs[loss] != first[0][loss]]
        changed += ["ranking"] if ranking != first[1] else []
        if arm.name in CONTROLS.values():
            ranking, changed = [], []
        lines.append(f"| {' | '.join([*cells, ', '.join(ranking), ', '.join(changed)])} |")
    return "\n".join(lines)


def standing(study: Study, cam: str) -> str:
    """Return, for each facet and loss, in how many arms its difference keeps its sign."""
    lines = []
    for facet, title in FACETS.items():
        if not _has(study, facet, cam):
            continue
        lower = study.config.metric_infos()[f"{facet}-released"].direction == "lower"
        tried = [arm for arm in arms(study, facet, cam) if arm.name not in CONTROLS.values()]
        means = [study.run_means(arm).mean() for arm in tried]
        parts = []
        for loss in study.others:
            signs = [np.sign(mean[loss] - mean[study.baseline]) for mean in means]
            better = (signs[0] < 0) == lower
            kept = sum(sign == signs[0] for sign in signs[1:])
            parts.append(
                f"{loss} is {'better' if better else 'worse'} than {study.baseline} as released, "
                f"and in {kept} of the {len(signs) - 1} other arms, "
                f"{'with' if signs[-1] == signs[0] else 'but not with'} everything mended"
            )
        lines.append(f"- **{title}**: {'; '.join(parts)}.")
    return "\n".join(lines)


def _has(study: Study, facet: str, cam: str) -> bool:
    """Whether a facet is one of a method: a map that ignores the class has no contrastivity."""
    return facet != "contrastivity" or cam == "gradcam"


def tables(study: Study, cam: str) -> str:
    """Return the tables of all facets of a method."""
    infos = study.config.metric_infos()
    return "\n\n".join(
        f"**{title}**, {infos[f'{facet}-released'].direction} is better\n\n"
        f"{table(study, facet, cam)}"
        for facet, title in FACETS.items()
        if _has(study, facet, cam)
    )


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


# --- three ways to test the same scores ---------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """What a test says of a loss against the baseline: number of pairs, difference, p."""

    pairs: int
    difference: float
    p: float


def as_released(loss: pd.Series, baseline: pd.Series) -> tuple[Test, float]:
    """Drop missing values of each model, cut to one length, test pairs of images.

    Returns:
        The test, and the share of the pairs that are two scores of one image of one seed.
    """
    a, b = loss.dropna(), baseline.dropna()
    count = min(len(a), len(b))
    a, b = a.iloc[:count], b.iloc[:count]
    same = np.mean([x == y for x, y in zip(a.index, b.index, strict=True)]) if count else np.nan
    return _of_images(a.to_numpy(), b.to_numpy()), float(same)


def by_image(loss: pd.Series, baseline: pd.Series) -> Test:
    """Test the images that both have a score for, as if they were independent."""
    both = pd.concat([loss, baseline], axis=1, keys=["a", "b"]).dropna()
    return _of_images(both["a"].to_numpy(), both["b"].to_numpy())


def by_run(loss: pd.Series, baseline: pd.Series) -> Test:
    """Test the runs: the sign of each seed's mean difference could have been the other."""
    differences = (loss - baseline).dropna().groupby("seed").mean().to_numpy()
    if not len(differences):
        return Test(0, float("nan"), float("nan"))
    p = sign_flip_p(differences[None], np.random.default_rng(0))[0]
    return Test(len(differences), float(differences.mean()), float(p))


def _of_images(a: np.ndarray, b: np.ndarray) -> Test:
    if len(a) < 2 or np.ptp(a - b) == 0:
        return Test(len(a), float((a - b).mean()) if len(a) else float("nan"), float("nan"))
    return Test(len(a), float((a - b).mean()), float(stats.ttest_rel(a, b).pvalue))


def statistics(study: Study, cam: str) -> str:
    """Return the table of the tests of the scores as released."""
    lines = [
        "| facet | loss | as released: pairs (of one image) | p | paired by image: pairs | p "
        "| by run: seeds | p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for facet, title in FACETS.items():
        if not _has(study, facet, cam):
            continue
        arm = next(arms(study, facet, cam))
        baseline = study.values(arm, study.baseline)
        for loss in study.others:
            values = study.values(arm, loss)
            loose, same = as_released(values, baseline)
            images, runs = by_image(values, baseline), by_run(values, baseline)
            cells = [title, loss]
            cells += [f"{loose.difference:+.3f}: {loose.pairs} ({same:.0%})", _p(loose.p)]
            cells += [f"{images.difference:+.3f}: {images.pairs}", _p(images.p)]
            cells += [f"{runs.difference:+.3f}: {runs.pairs}", _p(runs.p)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _p(value: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:.1e}" if value < 0.001 else f"{value:.3f}"


POINTS = (
    (
        "noise",
        "added to normalised images, which are then clamped to [0, 1]: most of their values are "
        "outside",
        "*no clamp*",
    ),
    (
        "zero maps",
        "compared by SSIM as if they were maps",
        "*zero maps left out*; for contrastivity *all of the metric's points*",
    ),
    (
        "flipping",
        "32 values of single channels a step, the map being spread over channels",
        "*whole pixels*",
    ),
    ("black", "the least value of the normalised image", "*black is 0*"),
    (
        "probabilities",
        "not divided by that of the untouched image, which is not on the curve",
        "*divided by the start*, *untouched image first*",
    ),
    (
        "ties",
        "the zeros of a rectified map go in the order that sorting leaves them in",
        "*ties at random*",
    ),
    (
        "scale of maps",
        "the least value of a map is subtracted",
        "for complexity and sparseness *all of the metric's points*",
    ),
    (
        "head",
        "cross-entropy has its own; the others a probe that is fitted to normalised features and "
        "given raw ones",
        "*head: ...*",
    ),
    (
        "temperature",
        "none, so that the loss decides how sure a model is",
        "*head: ...*, but for *the probe's slip*",
    ),
    (
        "training",
        "epochs, batch, optimiser, augmentation and weight decay differ by loss",
        "*one training protocol*",
    ),
    (
        "epoch",
        "chosen by test accuracy for cross-entropy, by training loss for the others",
        "not replicated: the last epoch",
    ),
    ("probe", "100 steps of gradient descent", "not replicated: to convergence"),
    (
        "statistics",
        "missing values dropped for each model and pairs cut to one length; images as the unit",
        "the last table",
    ),
)

TEXT = """# A replication of arXiv 2604.22540, point by point

Made by `python docs/clxai_replication.py` from a run of
[config/clxai-replication.yaml](../config/clxai-replication.yaml). Arrighi et al., 2026, "On the
Properties of Feature Attribution for Supervised Contrastive Learning", compare cross-entropy with
supervised contrastive and triplet losses by five facets of Grad-CAM's and Eigen-CAM's maps. What
their released code (github.com/ivan-gentile/clxai, commit d860dfc) computes is computed here, in a
small form on a CPU, and again with one point of it mended at a time. Whether the paper's own tables
were made by exactly this code is not known, and a small form cannot confirm or refute them: what it
shows is how much each point of the protocol moves the comparison.

{seeds}; {losses}; a small convolutional network on five classes of CIFAR-10, 500 training pictures
each; {total} evaluation images a seed. Of these count, as there, those whose class the explained
scores of all losses get right at a seed; as released {kept}. Test accuracy of the linear head:
{accuracy}.

## Points of the released code

| point | in the released code | arm that mends it |
|---|---|---|
{points}

## How each point moves each facet: Grad-CAM

Means over seeds of the means over images that have a value; in brackets the difference to
{baseline}, and in how many seeds it has the sign of the mean. *What changes* compares signs and
ranking with the row *as released*. The two controls see neither model nor class; where they do
well, the facet says little. Values that are divided by the start are unbounded: a start near 0
makes them large.

{gradcam}

What stands:

{standing}

## Eigen-CAM

Its maps depend on neither class nor head; pixel flipping by them does on the head.

{eigencam}

## Three ways to test the same scores

The scores *as released*, each loss against {baseline}. **As released**: missing values are dropped
for each model, then both lists are cut to one length, so that a pair may be two different images;
how many pairs are of one image stands in brackets. **Paired by image**: the images that both have a
score for. Both take images of all seeds as independent, which those of one model are not. **By
run**: the sign-flip test on one difference a seed; with {seeds} p cannot be below {smallest:g}.

Grad-CAM:

{tests}

Eigen-CAM:

{tests_eigencam}
"""


def page(study: Study) -> str:
    """Return the page as Markdown."""
    config = study.config
    accuracy = [
        f"{dataset} {', '.join(f'{loss} {study.accuracy[dataset, loss]:.2f}' for loss in losses)}"
        for dataset, losses in ((name, list(config.losses)) for name in config.datasets)
    ]
    first = study.counted(next(arms(study, "complexity", "gradcam")))
    return TEXT.format(
        points="\n".join(f"| {' | '.join(point)} |" for point in POINTS),
        seeds=_seeds(config),
        losses=_words(list(config.losses)),
        total=config.evaluation.images,
        kept=f"{first.sum()} of {len(first)}",
        accuracy="; ".join(accuracy),
        baseline=study.baseline,
        gradcam=tables(study, "gradcam"),
        standing=standing(study, "gradcam"),
        eigencam=tables(study, "eigencam"),
        tests=statistics(study, "gradcam"),
        tests_eigencam=statistics(study, "eigencam"),
        smallest=smallest_p(len(config.seeds)),
    )


def _seeds(config: Config) -> str:
    return f"{len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''}"


def _words(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "clxai-replication.yaml")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "clxai-replication")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "clxai-replication.md")
    chosen = parser.parse_args()
    # Not `load_config`, which asks for the folders of the pictures: they are not read here.
    config = Config.model_validate(yaml.safe_load(chosen.config.read_text()))
    storage.write_text(chosen.out, page(Study.read(config, chosen.results)))


if __name__ == "__main__":
    main()
