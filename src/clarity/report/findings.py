"""Findings: own what the tables say in numbers and sentences; know nothing of pages and files.

Every number in a sentence is counted here from the tables, so that the text of a report cannot say
anything else than they do.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clarity.figures.words import count
from clarity.statistics.significance import smallest_p
from clarity.tables.load import NOT_THERE, TRAINED

#: The category that the question of CLarity is about.
MAIN_CATEGORY = "contrastivity"

BETTER, WORSE, DIFFERENT = "better", "worse", "different"
EQUIVALENT, INCONCLUSIVE, NO_DATA = "equivalent", "inconclusive", "no data"


@dataclass(frozen=True)
class Tally:
    """How often a loss got each verdict against the baseline.

    Attributes:
        loss: the loss.
        better: comparisons in which it is better; likewise ``worse``, ``different``,
            ``equivalent``, ``inconclusive`` and ``no_data``.
        leaning: inconclusive comparisons whose estimate lies on the better side. No evidence.
        leaning_of: inconclusive comparisons by metrics that have a better side.
    """

    loss: str
    better: int
    worse: int
    different: int
    equivalent: int
    inconclusive: int
    no_data: int
    leaning: int
    leaning_of: int

    @property
    def total(self) -> int:
        """All comparisons of the loss with the baseline."""
        return self.decided + self.inconclusive + self.no_data

    @property
    def decided(self) -> int:
        """Comparisons with a verdict."""
        return self.better + self.worse + self.different + self.equivalent


@dataclass(frozen=True)
class Power:
    """What the number of training runs allows.

    Attributes:
        runs: least and greatest number of training runs of a comparison.
        smallest_p: the smallest p that the greatest number of runs can give.
        level: of the tests.
        family: the greatest number of comparisons whose p values are adjusted together.
        runs_needed: runs with which one comparison of such a family can get a verdict alone.
    """

    runs: tuple[int, int]
    smallest_p: float
    level: float
    family: int
    runs_needed: int

    @property
    def possible(self) -> bool:
        """Whether any single test can fall below the level, before adjustment."""
        return self.smallest_p < self.level


def against_baseline(
    comparisons: pd.DataFrame, baseline: str, controls: Collection[str]
) -> pd.DataFrame:
    """Return the rows that compare a loss with the baseline, control methods left out."""
    rows = comparisons[comparisons["baseline"] == baseline]
    return rows[~rows["method"].isin(list(controls))]


def tally(rows: pd.DataFrame, losses: Iterable[str]) -> list[Tally]:
    """Count the verdicts in ``rows`` of the table comparisons, for each of ``losses``."""
    result = []
    for loss in losses:
        mine = rows[rows["loss"] == loss]
        counts = mine["verdict"].value_counts()
        open_rows = mine[(mine["verdict"] == INCONCLUSIVE) & (mine["direction"] != "none")]
        towards = np.where(open_rows["direction"] == "higher", 1, -1) * open_rows["difference"]
        result.append(
            Tally(
                loss=loss,
                better=int(counts.get(BETTER, 0)),
                worse=int(counts.get(WORSE, 0)),
                different=int(counts.get(DIFFERENT, 0)),
                equivalent=int(counts.get(EQUIVALENT, 0)),
                inconclusive=int(counts.get(INCONCLUSIVE, 0)),
                no_data=int(counts.get(NO_DATA, 0)),
                leaning=int((towards > 0).sum()),
                leaning_of=len(open_rows),
            )
        )
    return result


def power(comparisons: pd.DataFrame, controls: Collection[str], confidence: float) -> Power | None:
    """Return what the runs of the comparisons allow, or None if nothing was compared."""
    tested = comparisons[comparisons["n_runs"] > 0]
    tested = tested[~tested["method"].isin(list(controls))]
    if tested.empty:
        return None
    # Rounded, since 1 - 0.95 is a little more than 0.05.
    level = round(1 - confidence, 12)
    family = int(tested.groupby("family").size().max())
    runs = int(tested["n_runs"].min()), int(tested["n_runs"].max())
    # The smallest p times the size of the family must be below the level (Holm's first step).
    needed = math.floor(1 + math.log2(family / level)) + 1
    return Power(runs, smallest_p(runs[1]), level, family, needed)


def control_places(
    summary: pd.DataFrame, methods: Sequence[str], controls: Collection[str]
) -> pd.DataFrame:
    """Tell where each metric ranks the control methods among the others.

    Within a dataset and a loss, methods are ranked by their means. A control is last if every other
    method is better, first if it is better than each.

    Args:
        summary: the table of that name.
        methods: in order.
        controls: which of them look at neither model nor class.

    Returns:
        metric, category, control, n_last, n_first, n_groups: one row a metric that has a direction
        and control, in the order of the tables; n_groups counts (dataset, loss) with both.
    """
    directed = summary[(summary["direction"] != "none") & summary["mean"].notna()]
    # Higher is better after this.
    directed = directed.assign(
        worth=directed["mean"].where(directed["direction"] == "higher", -directed["mean"])
    )
    places = []
    for (metric, category), block in directed.groupby(["metric", "category"], sort=False):
        worth = block.pivot(index=["dataset", "loss"], columns="method", values="worth")
        others = worth[[m for m in methods if m in worth and m not in controls]]
        for control in (m for m in methods if m in controls and m in worth):
            known = worth[control].notna() & others.notna().any(axis=1)
            mine, least, most = worth[control], others.min(axis=1), others.max(axis=1)
            places.append(
                {
                    "metric": metric,
                    "category": category,
                    "control": control,
                    "n_last": int((mine < least)[known].sum()),
                    "n_first": int((mine > most)[known].sum()),
                    "n_groups": int(known.sum()),
                }
            )
    columns = ["metric", "category", "control", "n_last", "n_first", "n_groups"]
    return pd.DataFrame(places, columns=columns)


def answer(
    comparisons: pd.DataFrame,
    models_summary: pd.DataFrame,
    *,
    losses: Sequence[str],
    baseline: str,
    controls: Collection[str],
    confidence: float,
    families: Sequence[str] = (),
) -> list[str]:
    """Answer the question in sentences, from the verdicts.

    Args:
        comparisons: the table of that name.
        models_summary: the table models-summary.
        losses: in order.
        baseline: the loss that all others are compared with.
        controls: methods that do not count.
        confidence: of the intervals; the level of the tests is 1 - confidence.
        families: of hypotheses that the config names.
    """
    others = [loss for loss in losses if loss != baseline]
    rows = against_baseline(comparisons, baseline, controls)
    allowed = power(comparisons, controls, confidence)
    if rows.empty or allowed is None:
        return [f"There is nothing to compare with {baseline} yet."]
    counts = tally(rows, others)
    sentences = [_opening(counts, baseline)]
    sentences.append(
        f"Over {count(rows['dataset'].nunique(), 'dataset')}, "
        f"{count(rows['method'].nunique(), 'attribution method')} and "
        f"{count(rows['metric'].nunique(), 'metric')} (the control methods left out), "
        f"{_all_verdicts(counts, baseline)}."
    )
    for family in families:
        named = rows[rows["family"] == family]
        if not named.empty:
            sentences.append(
                f"Of the hypotheses that were named in advance ({family}): "
                f"{_all_verdicts(tally(named, others), baseline)}."
            )
    main = rows[rows["category"] == MAIN_CATEGORY]
    if not main.empty:
        sentences.append(
            f"By the metrics of {MAIN_CATEGORY}, which the question is about: "
            f"{_all_verdicts(tally(main, others), baseline)}."
        )
    sentences.append(_limits(allowed))
    sentences += _accuracies(models_summary)
    return sentences


def across(
    mixed: pd.DataFrame,
    separation: pd.DataFrame,
    stability: pd.DataFrame,
    *,
    baseline: str,
    margin: float,
) -> list[str]:
    """Say in sentences what holds across the grid by the metrics that noise cannot win.

    Args:
        mixed: the table mixed-models.
        separation: the table of that name.
        stability: the table of that name.
        baseline: the loss that all others are compared with.
        margin: the smallest effect of interest, in standard deviations between images.
    """
    rows = mixed[(mixed["scope"] == "verdict") & mixed["estimate"].notna()]
    if rows.empty:
        return []
    sentences = [
        "By the metrics of contrastivity that noise cannot win, all datasets, methods and metrics "
        "together, in standard deviations between images (positive is better):"
    ]
    for row in rows.to_dict("records"):
        text = (
            f"{row['loss']} lies {_signed(row['estimate'])} from {baseline} "
            f"({_signed(row['ci_low'])} to {_signed(row['ci_high'])}"
        )
        if math.isfinite(row["estimate_given_accuracy"]):
            text += (
                f"; given accuracy {_signed(row['estimate_given_accuracy'])}, "
                f"{_signed(row['ci_low_given_accuracy'])} to "
                f"{_signed(row['ci_high_given_accuracy'])}"
            )
        text += ")"
        sentences.append(f"{text}; {_of_interest(row['ci_low'], row['ci_high'], margin)}.")
    sentences += _disagreement(stability[stability["category"] == rows.iloc[0]["category"]])
    told = separation[
        (separation["scope"] == "verdict") & (separation["measure"] == "silhouette")
    ].dropna(subset="spearman")
    if len(told):
        first = told.iloc[0]
        text = (
            f"Runs whose embeddings separate the classes better have maps with a correlation of "
            f"{_signed(first['spearman'])}{_interval(first['ci_low'], first['ci_high'])} by these "
            f"metrics (Spearman over {first['n_runs']} training runs of {first['n_losses']} "
            f"losses, within datasets)"
        )
        if math.isfinite(first["partial"]):
            text += (
                f", and {_signed(first['partial'])}"
                f"{_interval(first['partial_low'], first['partial_high'])} given accuracy"
            )
        sentences.append(f"{text}. No correlation proves a cause.")
    return sentences


def _interval(low: float, high: float) -> str:
    return f" ({_signed(low)} to {_signed(high)})" if math.isfinite(low) else ""


def _of_interest(low: float, high: float, margin: float) -> str:
    """Say how an interval lies to the smallest difference of interest."""
    if -margin < low and high < margin:
        return f"all of the interval is below the smallest difference of interest, {margin:g}"
    if low > margin or high < -margin:
        return f"all of the interval is beyond the smallest difference of interest, {margin:g}"
    return f"the interval does not exclude {margin:g}, the smallest difference of interest"


def _disagreement(stability: pd.DataFrame) -> list[str]:
    """Say how often two attribution methods contradict each other on a loss."""
    rows = stability[(stability["over"] == "methods") & (stability["n_pairs"] > 0)]
    if rows.empty:
        return []
    pairs = int(rows["n_pairs"].sum())
    flips = float((rows["flips"] * rows["n_pairs"]).sum()) / pairs
    text = (
        f"Such a mean hides what methods disagree on: by the metrics of contrastivity, the "
        f"difference to the baseline has opposite signs in {100 * flips:.0f} % of {pairs:,} pairs "
        f"of methods"
    )
    decided = rows[rows["n_verdicts"] > 0]
    if len(decided):
        verdicts = int(decided["n_verdicts"].sum())
        opposite = float((decided["flips_verdicts"] * decided["n_verdicts"]).sum())
        text += (
            f"; where both have a verdict, better or worse, it is opposite in {opposite:.0f} of "
            f"{verdicts:,}"
        )
    return [f"{text}."]


def _signed(value: float) -> str:
    """Write a number with two decimals and its sign; a dash if there is none."""
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _opening(counts: Sequence[Tally], baseline: str) -> str:
    decided = sum(one.decided for one in counts)
    total = sum(one.total for one in counts)
    if not decided:
        return (
            f"This grid does not decide the question: none of its {total:,} comparisons with "
            f"{baseline} has a verdict."
        )
    better, worse = sum(c.better for c in counts), sum(c.worse for c in counts)
    if not better and not worse:
        tendency = "none says that another loss does better or worse"
    elif better and not worse:
        tendency = "where there is a verdict, the other losses do better"
    elif worse and not better:
        tendency = "where there is a verdict, the other losses do worse"
    else:
        tendency = "the verdicts are mixed"
    return (
        f"{decided:,} of {total:,} comparisons with {baseline} "
        f"{'has' if decided == 1 else 'have'} a verdict; {tendency}."
    )


def _all_verdicts(counts: Sequence[Tally], baseline: str) -> str:
    return "; ".join(_verdicts(one, baseline) for one in counts)


def _verdicts(one: Tally, baseline: str) -> str:
    parts = [f"better in {one.better:,}", f"worse in {one.worse:,}"]
    if one.different:
        parts.append(f"different (no better side) in {one.different:,}")
    if one.equivalent:
        parts.append(f"equivalent in {one.equivalent:,}")
    parts.append(f"inconclusive in {one.inconclusive:,}")
    if one.no_data:
        parts.append(f"without data in {one.no_data:,}")
    return f"{one.loss} is {', '.join(parts)} of {count(one.total, 'comparison')} with {baseline}"


def _limits(allowed: Power) -> str:
    least, most = allowed.runs
    runs = count(most, "training run") if least == most else f"{least} to {most} training runs"
    text = (
        f"Each comparison rests on {runs} a loss (seeds), and with "
        f"{most} the smallest p that the exact paired test can give is {allowed.smallest_p:.3g}"
    )
    if not allowed.possible:
        return (
            f"{text}, not below the level of {allowed.level:g}: with so few seeds nothing can be "
            f"significant, whatever the data. “Inconclusive” is no evidence that the losses are "
            f"alike; “equivalent” is. With {allowed.family:,} comparisons to a family, adjusted by "
            f"Holm, “better” or “worse” needs {allowed.runs_needed} seeds or more."
        )
    return (
        f"{text}. Adjusted by Holm over up to {allowed.family:,} comparisons to a family, one "
        f"alone can be significant at {allowed.level:g} from {allowed.runs_needed} seeds on. "
        f"“Inconclusive” is no evidence that the losses are alike."
    )


def _accuracies(models_summary: pd.DataFrame) -> list[str]:
    accuracy = models_summary[models_summary["measure"] == "accuracy"].dropna(subset="mean")
    if accuracy.empty:
        return []
    parts = []
    for dataset, block in accuracy.groupby("dataset", sort=False):
        ordered = block.sort_values("mean", kind="stable")
        least, most = (ordered.iloc[place] for place in (0, -1))
        parts.append(
            f"{dataset} {least['mean']:.3f} ({least['loss']}) to {most['mean']:.3f} "
            f"({most['loss']})"
        )
    return [
        "Accuracy is a confounder, since a better classifier may be easier to explain; mean test "
        f"accuracy by loss: {'; '.join(parts)}."
    ]


def failures(models: pd.DataFrame) -> list[str]:
    """Say in sentences which training runs failed, each with the epoch and the reason.

    Args:
        models: the table of that name.
    """
    failed = models[~models["status"].isin([TRAINED, NOT_THERE])]
    if failed.empty:
        return []
    verb = "was" if len(failed) == 1 else "were"
    return [
        f"{len(failed)} of {count(len(models), 'training run')} failed, {verb} not explained and "
        f"{verb} compared with nothing:",
        *(
            f"{run['dataset']}, {run['loss']}, seed {run['seed']}: {run['status']} in epoch "
            f"{run['status_epoch']:g}, {run['status_reason']}."
            for run in failed.to_dict("records")
        ),
    ]


def controls_say(places: pd.DataFrame) -> list[str]:
    """Say in sentences what the places of the controls mean for each metric.

    Args:
        places: what `control_places` returns.
    """
    known = places[places["n_groups"] > 0]
    if known.empty:
        return ["The grid has no control method to hold its metrics against."]
    last = known["n_last"] == known["n_groups"]
    first = known["n_first"] > 0
    by_metric = last.groupby(known["metric"], sort=False).all()
    passed = [str(metric) for metric, all_last in by_metric.items() if all_last]
    failed = [str(metric) for metric, all_last in by_metric.items() if not all_last]
    sentences = [
        "A control looks at neither the model nor the class, so a good metric ranks it below every "
        "method."
    ]
    if passed:
        sentences.append(f"Every control is last for every dataset and loss by {_list(passed)}.")
    if failed:
        sentences.append(
            f"That is not so by {_list(failed)}: there, a good score alone does not "
            f"show that a map explains the model."
        )
    if first.any():
        best = known[first].groupby("metric", sort=False)["control"].agg(list)
        sentences.append(
            "A control is even ranked above every method, for some dataset and loss, by "
            + _list([f"{metric} ({', '.join(names)})" for metric, names in best.items()])
            + "."
        )
    if (known.loc[~last, "category"] == MAIN_CATEGORY).any():
        sentences.append(
            "Measures of how little the maps of two classes resemble each other reward noise: "
            "random maps resemble nothing. They say something only together with measures that "
            "noise cannot win."
        )
    return sentences


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
