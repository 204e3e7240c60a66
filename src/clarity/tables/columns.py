"""Columns: own what every table and every column of it means, in words; load nothing heavy."""

from clarity.tables.measures import meaning

PURPOSES = {
    "comparisons": "Two losses on the same images of the same seeds: one row for each dataset, "
    "method, metric and pair of losses. The unit is the training run.",
    "summary": "Each loss by itself: one row for each dataset, method, metric and loss. Its means "
    "are over all images that the loss has a score for, those of comparisons over paired images.",
    "ranks": "How the losses rank across the grid: one row for each question (a metric, a "
    "category, the metrics that carry the verdict on contrastivity), method and loss. Blocks are "
    "(dataset, seed).",
    "posthoc": "Which losses the ranks tell apart: one row for each question, method and pair of "
    "losses.",
    "mixed-models": "How far each loss lies from the baseline across the grid, with and without "
    "accuracy: one row for each question and loss.",
    "components": "What the scores of a metric vary with: one row for each dataset, metric and "
    "component.",
    "separation": "Whether training runs whose embeddings separate the classes better have better "
    "maps: one row for each question, dataset and measure of separation. A correlation, not a "
    "cause.",
    "mediation": "How much of the effect of a loss goes with the separation of its embeddings: "
    "one row for each question and loss.",
    "agreement": "Whether two metrics of a category rank losses, or methods, alike: one row for "
    "each pair of metrics.",
    "concordance": "The same of all metrics of a category together.",
    "stability": "Whether a ranking of losses holds for other seeds, methods and settings of the "
    "metric.",
    "runs": "Each training run by each metric: one row for each dataset, method, metric, loss and "
    "seed. What ranks, models and correlations across the grid are made of.",
    "curves": "What the value of a metric is made of, such as the score as pixels are removed: "
    "one row for each dataset, method, metric, loss and point of the curve.",
    "settings": "How the ranking of the losses changes with the settings of a metric, which are a "
    "hidden choice: one row for each dataset, method, family of settings, setting and loss. Empty "
    "if no metric has `settings`.",
    "models": "Each training run: one row for each dataset, loss and seed. A row without numbers "
    "is a run whose files are missing.",
    "models-summary": "What is measured of models, over seeds: one row for each dataset, loss and "
    "measure. Rows by group: accuracy, calibration, geometry of the embeddings, detection of "
    "images of another dataset, accuracy under attack and on corrupted images.",
    "models-comparisons": "Two losses by the measures of their models, paired by seed: one row for "
    "each dataset, measure and pair of losses. One number a training run.",
    "coverage": "How many scores are numbers: one row for each dataset, method and metric.",
    "run-times": "What was spent: one row for each dataset and loss that was trained, method that "
    "explained, and method and metric that was evaluated. The one table that is not the same "
    "when a grid is computed again; what left no record has no row.",
    "missing": "Files that could not be read, and so are in no other table: one row a file.",
}

_AXES = {
    "dataset": "dataset recipe",
    "method": "method recipe: how maps are computed and which score they explain",
    "metric": "metric recipe",
    "category": "group of metrics that the metric belongs to",
    "direction": "which values are better: higher, lower, or none if neither is",
    "loss": "loss recipe",
    "seed": "seed of the training run",
}

_JACKKNIFE = "lower end of its interval: jackknife of blocks (dataset, seed), Student's t"

#: What is asked of a grid as a whole.
_QUESTION = {
    "scope": "metric, category or verdict: whether one metric is asked for, all of a category, or "
    "those that may carry the verdict on contrastivity since noise cannot win them",
    "name": "the metric, the category, or 'contrastivity verdict'",
    "category": "group of metrics",
}
_ALL_METHODS = "method recipe, or all: the mean over methods, the controls left out"

#: What a comparison of two losses counts and estimates, of maps and of models alike.
_PAIR = {
    "n_runs": "number of training runs (seeds) of each loss that are paired",
    "n_missing": "number of seeds of the grid that are not: a run failed or is missing, or has no "
    "score",
}
_ESTIMATE = {
    "difference": "mean minus mean_baseline",
    "ci_low": "lower end of the interval of the difference: Student's, with the variance of the "
    "two-way layout of runs and images, both random (Hillis, 2007). Covers at its nominal rate "
    "from three runs on. Empty with a single run",
    "ci_high": "upper end of that interval",
    "bootstrap_low": "lower end of the percentile bootstrap interval, runs and images both "
    "resampled. With few runs it is too narrow, since runs are few to draw from: three that are "
    "normal are covered at 75 %, not 95 %. Empty with a single run",
    "bootstrap_high": "upper end of that interval",
    "hedges_g": "Hedges' g of the run means: difference over the standard deviation between runs "
    "of one loss (pooled), times the small-sample factor 1 - 3 / (8 n - 9). Empty with fewer than "
    "two runs, or if runs do not differ at all",
    "g_low": "lower end of the interval of hedges_g (Bonett, 2008, within-subjects design)",
    "g_high": "upper end of that interval",
    "rank_biserial": "matched-pairs rank-biserial correlation of the runs' differences: 1 if all "
    "are positive, -1 if all are negative",
    "superiority": "probability that a run of the loss lies above a run of the baseline (Vargha "
    "and Delaney), ties by half",
    "p": "two-sided p of the paired sign-flip permutation test on the runs' differences, exact up "
    "to 16 runs",
    "p_smallest": "the smallest p that this number of runs can give, whatever the data",
    "p_adjusted": "p adjusted within the family",
    "sd_runs": "standard deviation of the runs' differences (n - 1)",
    "mde": "smallest difference that a paired t test with this number of runs detects at 80 % "
    "power at the level of one test. With fewer than six runs the exact test cannot fall below "
    "0.05 at all",
    "runs_needed": "number of runs that would show the observed difference at 80 % power at the "
    "level of one test; at least the number from which the exact test can. Empty for no difference",
}
_VERDICT = (
    "better or worse (of loss, by the metric's direction; different if it has none) if p_adjusted "
    "is below 1 - confidence and the interval excludes 0"
)

COLUMNS: dict[str, dict[str, str]] = {
    "comparisons": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric", "category", "direction")},
        "loss": "the loss that the row is about",
        "baseline": "the loss that it is compared with: the configured baseline or, of two others, "
        "the one that comes first in the config",
        "family": "the hypotheses whose p values are adjusted together: a family that the config "
        "names, or all comparisons by the metric that are in none; those of the control methods "
        "are a family of their own",
        **_PAIR,
        "n_images": "number of paired images, summed over runs; an image is paired if both losses "
        "have a score for it and, with correct-only, all losses of the grid classify it right at "
        "this seed. It is no sample size: images of one run are not independent",
        "n_unpaired": "number of images, summed over runs, that would count but lack the score of "
        "either loss, or of both: NaN, unavailable or in no file",
        "mean": "mean of the loss: over runs, of the mean over the run's paired images",
        "mean_baseline": "the same for the baseline, on the same images",
        **_ESTIMATE,
        "d": "the difference in standard deviations between images of the baseline",
        "margin": "smallest difference of interest, in the metric's unit; empty if images of the "
        "baseline do not differ",
        "p_equivalence": "p of two one-sided tests, that the difference lies within the margin",
        "p_equivalence_adjusted": "the same, adjusted within the family",
        "prob_lower": "posterior probability that the difference lies below minus the margin "
        "(Bayesian t test with a flat prior)",
        "prob_within": "that it lies within the margin",
        "prob_higher": "that it lies above the margin",
        "verdict": f"{_VERDICT}; else equivalent if p_equivalence_adjusted is below it; else "
        "inconclusive, which is no evidence of no difference; no data if no image is paired. What "
        "is both better and within the margin is called better",
    },
    "summary": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric", "category", "direction")},
        "loss": _AXES["loss"],
        "n_runs": "number of training runs with at least one image that counts",
        "n_images": "number of scores that count, summed over runs: status ok and, with "
        "correct-only, classified right by all losses of the grid at this seed",
        "mean": "mean over runs of the mean over the run's images that count",
        "sd": "standard deviation of the run means (n - 1); empty with a single run",
        "paired_mean": "the same mean over the images that count for every loss that has any at "
        "the seed, so that losses are ranked on the same images",
        "n_nan": "number of scores that the metric could not give (status nan)",
        "n_unavailable": "number of scores without a map to score (status unavailable)",
        "n_incorrect": "number of scores that are ok, but left out by correct-only. n_images, "
        "n_nan, n_unavailable and n_incorrect add up to all scores",
        "constant_maps": "share of all scores that failed because the map has one value "
        "everywhere, or no positive one where only those count",
        "constant_foils": "share that failed because the map of the foil has one value everywhere: "
        "such maps are counted here and never compared as if they were maps",
        "rank": "rank of the loss by its paired_mean within dataset, method and metric; 1 is "
        "best, ties share the better rank; empty if the metric has no direction",
    },
    "ranks": {
        **_QUESTION,
        "method": _ALL_METHODS,
        "loss": _AXES["loss"],
        "mean_rank": "mean over blocks of the rank of the loss; 1 is best, ties share the mean "
        "rank. Of several metrics, the rank of its mean rank by each",
        "n_blocks": "number of blocks, which are (dataset, seed): the unit of these tests. "
        "Datasets are taken as they are; another one may rank otherwise",
        "n_incomplete": "number of blocks that are left out since some loss has no score there",
        "friedman": "Friedman's chi-squared, corrected for ties; empty with fewer than three "
        "losses",
        "friedman_p": "p of that statistic",
        "iman_davenport": "Iman and Davenport's F of it, which is less conservative",
        "iman_davenport_p": "p of that statistic",
        "critical_difference": "difference of mean ranks from which Nemenyi's test tells two "
        "losses apart",
    },
    "posthoc": {
        **_QUESTION,
        "method": _ALL_METHODS,
        "loss": "the loss that the row is about",
        "baseline": "the loss that it is compared with, as in comparisons",
        "n_blocks": "number of blocks (dataset, seed)",
        "rank_difference": "mean rank of the loss minus that of the baseline; negative is better",
        "p_nemenyi": "p of Nemenyi's test",
        "p_wilcoxon": "p of the Wilcoxon signed-rank test of the blocks' differences, exact up to "
        "16",
        "p_wilcoxon_smallest": "the smallest p that this number of blocks can give",
        "p_wilcoxon_holm": "p_wilcoxon adjusted by Holm over the pairs of losses of the question",
        "difference": "mean difference, in standard deviations between images, positive where the "
        "loss is better",
        "prob_lower": "posterior probability that the loss is worse by more than the smallest "
        "effect (Bayesian signed-rank test)",
        "prob_within": "that the difference is smaller than the smallest effect",
        "prob_higher": "that the loss is better by more than the smallest effect",
    },
    "mixed-models": {
        **_QUESTION,
        "loss": "the loss that is compared with the baseline",
        "n_runs": "number of training runs in the model: one number each, the mean over methods",
        "n_blocks": "number of blocks (dataset, seed), which have a random intercept",
        **{
            f"{name}{suffix}": f"{meaning_}{words}"
            for suffix, words in (
                ("", ""),
                ("_given_accuracy", ", with test accuracy in the model"),
            )
            for name, meaning_ in {
                "estimate": "difference to the baseline in standard deviations between images, "
                "positive where the loss is better",
                "se": "its standard error",
                "ci_low": "lower end of its interval",
                "ci_high": "upper end of its interval",
                "p": "p of Student's test of it",
                "p_holm": "this p adjusted by Holm over the losses of the question",
            }.items()
        },
        "accuracy_slope": "change of the score with accuracy, from 0 to 1, within losses and "
        "datasets",
        "accuracy_slope_p": "p of that slope",
        "explained": "share of the estimate that goes away with accuracy in the model: 1 - "
        "estimate_given_accuracy / estimate. Empty where the estimate cannot be told from 0",
        "sd_block": "standard deviation between blocks",
        "sd_residual": "standard deviation of the rest, which is that between training runs",
        "note": "why something is not there",
    },
    "components": {
        **{axis: _AXES[axis] for axis in ("dataset", "metric", "category")},
        "component": "what varies: the loss, the method, the two together, the seed, the training "
        "run (loss x seed), the rest, or the image",
        "n_losses": "number of losses",
        "n_methods": "number of methods that have every loss and seed, controls left out",
        "n_seeds": "number of seeds that have every loss and method",
        "variance": "in the squared unit of the metric; negative estimates are 0",
        "share": "share of their sum",
    },
    "separation": {
        "dataset": "dataset recipe, or all: ranks within datasets, pooled",
        **_QUESTION,
        "measure": "measure of the embeddings, turned so that more is more separated",
        "n_runs": "number of training runs",
        "n_losses": "number of losses among them: most of what varies varies between these few",
        "spearman": "Spearman's correlation of the measure with the score, mean over methods",
        "ci_low": _JACKKNIFE,
        "ci_high": "upper end of that interval",
        "p": "p of it, by exchanging the measure within blocks",
        "p_holm": "p adjusted by Holm over the questions of one scope",
        "spearman_within": "the same correlation within losses, where only the seed varies",
        "partial": "Spearman's partial correlation given test accuracy",
        "partial_low": "lower end of its interval",
        "partial_high": "upper end of that interval",
    },
    "mediation": {
        **_QUESTION,
        "loss": "the loss that is compared with the baseline",
        "measure": "the mediator: a measure of the embeddings",
        "n_runs": "number of training runs of both losses",
        "total": "difference to the baseline, as in posthoc",
        "direct": "what of it does not go with the measure",
        "indirect": "what of it goes with the measure: product of coefficients. A cause only if "
        "nothing else moves both",
        "indirect_low": _JACKKNIFE,
        "indirect_high": "upper end of that interval",
        "share": "indirect over total; it may be negative, or more than 1, if the two are opposed",
    },
    "agreement": {
        "over": "what is ranked: losses (within dataset, seed and method) or methods (within "
        "dataset, seed and loss)",
        "category": _AXES["category"],
        "metric": "entry of the config; its settings are averaged",
        "other": "the other metric",
        "n": "number of rankings that both give",
        "correlation": "mean over them of Spearman's correlation of the two rankings",
        "ci_low": _JACKKNIFE,
        "ci_high": "upper end of that interval",
    },
    "concordance": {
        "dataset": "dataset recipe, or all",
        "category": _AXES["category"],
        "over": "what is ranked, as in agreement",
        "n_metrics": "number of metrics that rank, at most",
        "n_items": "number of losses or methods that are ranked, at most",
        "n_rankings": "number of sets of rankings over which the coefficients are averaged",
        "kendall_w": "Kendall's W: 0 for no agreement of the metrics, 1 for the same ranking by "
        "all. By chance, m metrics have a mean of 1 / m",
        "krippendorff_alpha": "Krippendorff's alpha of the ranks, ordinal: 0 by chance, 1 for the "
        "same",
    },
    "stability": {
        "over": "what changes: seeds, methods, or settings of a metric",
        "dataset": _AXES["dataset"],
        "method": "method recipe; empty where methods are what changes",
        "name": "metric recipe, or the entry whose settings change",
        "category": _AXES["category"],
        "n": "number of seeds, methods or settings with a score for every loss",
        "kendall_w": "Kendall's W of their rankings of the losses; by chance 1 / n on average",
        "n_pairs": "number of pairs of seeds (methods, settings) with a difference to the "
        "baseline that is not 0, over all losses",
        "flips": "share of these pairs in which the difference has the opposite sign",
        "n_verdicts": "number of pairs in which both are better or worse; empty for seeds, which "
        "have no verdict",
        "flips_verdicts": "share of these in which one is better and one worse",
    },
    "runs": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric", "category", "direction")},
        "loss": _AXES["loss"],
        "seed": _AXES["seed"],
        "n_images": "number of images that count: status ok and, with correct-only, classified "
        "right by all losses of the grid at this seed",
        "mean": "mean over these images",
        "sd": "standard deviation between them (n - 1); empty with a single one",
        "n_paired": "number of images that count for every loss that has any at this seed",
        "paired_mean": "mean over those: what losses are ranked by",
        "n_nan": "number of scores that the metric could not give (status nan)",
        "n_unavailable": "number of scores without a map to score (status unavailable)",
        "n_incorrect": "number of scores that are ok, but left out by correct-only",
        "missing": "whether there is no score file of this cell",
        "n_constant": "number of scores that are none because the map has one value everywhere, or "
        "no positive one where only those count",
        "n_constant_foil": "number that are none because the map of the foil has one value "
        "everywhere",
    },
    "curves": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric")},
        "loss": _AXES["loss"],
        "point": "number of the point, from 0",
        "at": "where it lies on the axis; empty if the axis has names",
        "label": "name of the point, where the axis has names",
        "axis": "what the points of the curve are",
        "n_runs": "number of training runs with a curve",
        "mean": "mean over runs of the mean over the run's images that count",
        "sd": "standard deviation between runs (n - 1); empty with a single run",
    },
    "settings": {
        **{axis: _AXES[axis] for axis in ("dataset", "method")},
        "family": "the entry of the config whose settings are compared",
        "setting": "the metric: one of its settings",
        "direction": _AXES["direction"],
        "loss": _AXES["loss"],
        "mean": "as in summary",
        "sd": "as in summary",
        "rank": "rank of the loss under this setting, as in summary",
        "n_first": "number of settings under which the loss ranks first",
        "n_settings": "number of settings of the family",
        "agreement": "mean over pairs of settings of Kendall's tau-b between their ranks of the "
        "losses: 1 if the setting does not matter, below 0 if it turns the ranking round; empty "
        "where there is no ranking to compare",
    },
    "models": {
        "dataset": _AXES["dataset"],
        "loss": _AXES["loss"],
        "seed": _AXES["seed"],
        "status": "how the training ended: ok; diverged or collapsed, then the run has no numbers "
        "and counts nowhere; or missing, if its files are",
        "status_epoch": "the epoch in which it failed; empty if it did not",
        "status_reason": "why it failed; empty if it did not",
        "images_seen": "training images seen, those of every epoch and view: the compute budget",
        "n_evaluation": "number of evaluation images, scenes included",
        "n_kept": "how many of them all losses of the grid classify right at this seed, so that "
        "correct-only keeps them; the same for all losses",
        "share_kept": "n_kept over n_evaluation",
    },
    "models-summary": {
        "dataset": _AXES["dataset"],
        "loss": _AXES["loss"],
        "group": "group of measures that the measure belongs to",
        "measure": "what is measured; those of models, and accuracy at each severity of corruption",
        "direction": _AXES["direction"],
        "n_runs": "number of training runs that have a number",
        "n_failed": "number of training runs that failed: diverged or collapsed",
        "n_nan": "number of training runs of which it has no value, see reason",
        "mean": "mean over runs",
        "sd": "standard deviation over runs (n - 1); empty with a single run",
        "reason": "the commonest reason of those without a value",
    },
    "models-comparisons": {
        "dataset": _AXES["dataset"],
        "measure": "what is measured, as in models-summary",
        "group": "group of measures that the measure belongs to",
        "direction": _AXES["direction"],
        "loss": "the loss that the row is about",
        "baseline": "the loss that it is compared with, as in comparisons",
        **_PAIR,
        "mean": "mean of the loss over these seeds",
        "mean_baseline": "the same for the baseline",
        **_ESTIMATE,
        "verdict": f"{_VERDICT}; else inconclusive, or no data without a paired run",
    },
    "coverage": {
        **{axis: _AXES[axis] for axis in ("dataset", "method", "metric")},
        "n_cells": "number of cells (loss, seed) that the grid has here",
        "n_cells_found": "number of those whose score file has this metric",
        "n_rows": "number of scores in these files",
        "ok": "share of the scores that are numbers",
        "nan": "share that the metric could not give",
        "unavailable": "share without a map to score",
        "reason": "the commonest reason of scores that are not ok; empty if all are",
        "n_reason": "number of scores with this reason",
    },
    "run-times": {
        "stage": "training, attribution or evaluation",
        "dataset": _AXES["dataset"],
        "loss": _AXES["loss"] + "; empty: the mean is over all",
        "method": _AXES["method"] + "; empty for training",
        "metric": _AXES["metric"] + "; empty for training and attribution",
        "n_runs": "number of training runs that left a record",
        "images": "images of a run, mean over runs: seen in training, explained or scored",
        "seconds": "seconds of a run, mean over runs; training includes heads and predictions",
        "sd": "standard deviation of the seconds over runs (n - 1); empty with a single one",
        "ms_per_image": "milliseconds an image, mean over runs",
        "forward_per_image": "images that the model classified for each image scored",
        "explained_per_image": "maps that were computed anew for each image scored",
        "bytes_per_image": "bytes of the stored maps for each image, all classes together",
    },
    "missing": {
        **{axis: _AXES[axis] for axis in ("dataset", "loss", "seed")},
        "method": _AXES["method"] + "; empty if the file belongs to the whole run",
        "artifact": "name of the file",
        "reason": "what is wrong with it",
    },
}


def describe(table: str, column: str) -> str:
    """Return what a column of a table means.

    Raises:
        ValueError: if it has no description.
    """
    if column in COLUMNS[table]:
        return COLUMNS[table][column]
    if table != "models":
        raise ValueError(f"column '{column}' of the table '{table}' has no description")
    return meaning(column)
