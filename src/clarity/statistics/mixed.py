"""Mixed models: own how far the losses lie apart across a grid, with and without accuracy.

One number a training run (`clarity.statistics.responses`), modelled as score ~ loss [+ accuracy]
with a random intercept for its block, the (dataset, seed). Scores are centred within dataset,
method and metric and averaged over methods, which takes the place of intercepts for datasets and
methods: in a grid without gaps the losses' estimates and their errors are those of the model with
all these intercepts, and a variance between two datasets or four methods cannot be estimated.

The fit is restricted maximum likelihood (Patterson and Thompson, 1971), in one dimension since all
blocks have the same losses. statsmodels' MixedLM gives the same where it gives anything; it stops
at a singular matrix where blocks do not vary, which is common here, and takes a second a fit.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

from clarity.statistics.responses import NO_FAMILIES, Response, responses
from clarity.statistics.settings import MetricInfo, Settings
from clarity.statistics.significance import adjusted

_GIVEN = "_given_accuracy"
_OF_LOSS = ("estimate", "se", "ci_low", "ci_high", "p", "p_holm")
COLUMNS = (
    "scope",
    "name",
    "category",
    "loss",
    "n_runs",
    "n_blocks",
    *_OF_LOSS,
    *(f"{name}{_GIVEN}" for name in _OF_LOSS),
    "accuracy_slope",
    "accuracy_slope_p",
    "explained",
    "sd_block",
    "sd_residual",
    "note",
)
#: A spread below this is rounding, not spread.
ROUNDING = 1e-9
#: Intercepts are taken for at most so nearly all of a block's mean.
LARGEST_SHARE = 1 - 1e-6


def mixed_models(
    runs: pd.DataFrame,
    models: pd.DataFrame,
    metrics: Mapping[str, MetricInfo],
    baseline: str,
    settings: Settings,
    controls: Collection[str] = (),
    families: Mapping[str, str] = NO_FAMILIES,
) -> pd.DataFrame:
    """Fit a mixed model for each metric with a direction, each category, and the verdict.

    Args:
        runs: the table of that name.
        models: the table of that name: dataset, loss, seed and accuracy.
        metrics: what must be known of each metric, in order.
        baseline: the loss that the others are compared with.
        settings: for the scale and the level.
        controls: methods that do not count.
        families: of the metrics that are a setting of something, what they are a setting of.

    Returns:
        `COLUMNS`, one row for each of the other losses. Estimates are in standard deviations
        between images, positive where the loss is better. Tests and intervals are Student's with
        the residual degrees of freedom of the layout of blocks and losses, since Wald's normal ones
        are too narrow with few blocks. `explained` is the share of the estimate that goes with
        accuracy, empty if the estimate cannot be told from 0.
    """
    accuracy = models.set_index(["dataset", "loss", "seed"])["accuracy"]
    rows: list[dict[str, Any]] = []
    for response in responses(runs, metrics, baseline, settings, controls, families):
        if baseline in response.scores:
            rows += _rows(response, accuracy, baseline, settings)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    response: Response, accuracy: "pd.Series[float]", baseline: str, settings: Settings
) -> list[dict[str, Any]]:
    long = response.scores.reset_index().melt(
        ["dataset", "seed"], var_name="loss", value_name="score"
    )
    keys = pd.MultiIndex.from_frame(long[["dataset", "loss", "seed"]])
    long["accuracy"] = accuracy.reindex(keys).to_numpy(dtype=np.float64)
    others = [loss for loss in response.scores.columns if loss != baseline]
    shared: dict[str, Any] = {
        "scope": response.scope,
        "name": response.name,
        "category": response.category,
        "n_runs": len(long),
        "n_blocks": len(response.scores),
    }
    notes = []
    plain = _fit(long, others, settings, covariate=False)
    known = long[
        long.groupby(["dataset", "seed"])["accuracy"].transform("count") == len(others) + 1
    ]
    if len(known) < len(long):
        notes.append(f"{len(long) - len(known)} runs in blocks without every accuracy")
    given = _fit(known, others, settings, covariate=True)
    notes += [
        f"{words}{which}"
        for fit, which in ((plain, ""), (given, " given accuracy"))
        if (words := fit["note"])
    ]
    rows = []
    for loss in others:
        row = {**shared, "loss": loss, "note": "; ".join(notes)}
        row |= {name: plain["losses"][loss][name] for name in _OF_LOSS}
        row |= {f"{name}{_GIVEN}": given["losses"][loss][name] for name in _OF_LOSS}
        row |= {name: given[name] for name in ("accuracy_slope", "accuracy_slope_p")}
        row |= {name: plain[name] for name in ("sd_block", "sd_residual")}
        told = row["p"] < settings.alpha
        row["explained"] = 1 - row[f"estimate{_GIVEN}"] / row["estimate"] if told else math.nan
        rows.append(row)
    return rows


def _fit(
    long: pd.DataFrame, others: list[str], settings: Settings, *, covariate: bool
) -> dict[str, Any]:
    """Fit the model; NaN and a note where it cannot be."""
    nothing = dict.fromkeys(_OF_LOSS, math.nan)
    found: dict[str, Any] = {
        "losses": {loss: dict(nothing) for loss in others},
        "accuracy_slope": math.nan,
        "accuracy_slope_p": math.nan,
        "sd_block": math.nan,
        "sd_residual": math.nan,
        "note": "",
    }
    blocks = long.groupby(["dataset", "seed"], sort=True).ngroup().to_numpy()
    count = len(np.unique(blocks))
    df = (count - 1) * len(others) - covariate
    score = long["score"].to_numpy(dtype=np.float64)
    if df < 1:
        return found | {"note": "too few runs"}
    columns = [np.ones(len(long)), *((long["loss"] == loss).to_numpy(float) for loss in others)]
    if covariate:
        centred = long["accuracy"] - long.groupby("dataset")["accuracy"].transform("mean")
        columns.append(centred.to_numpy())
        if np.linalg.matrix_rank(np.stack(columns, axis=1)) < len(columns):
            return found | {"note": "accuracy cannot be told from the losses"}
    design: np.ndarray = np.stack(columns, axis=1)
    residuals = score - design @ np.linalg.lstsq(design, score, rcond=None)[0]
    if np.abs(residuals).max() <= ROUNDING * max(np.abs(score).max(), ROUNDING):
        return found | {"note": "no spread between runs"}
    fit = random_intercept(score, design, blocks)
    quantile = stats.t.ppf((1 + settings.confidence) / 2, df)
    estimates, errors = fit.estimates, fit.errors
    p = 2 * stats.t.sf(np.abs(estimates / errors), df)
    of_losses = slice(1, 1 + len(others))
    holm = adjusted(p[of_losses])
    for place, loss in enumerate(others):
        value, error = float(estimates[1 + place]), float(errors[1 + place])
        found["losses"][loss] = {
            "estimate": value,
            "se": error,
            "ci_low": value - quantile * error,
            "ci_high": value + quantile * error,
            "p": float(p[1 + place]),
            "p_holm": float(holm[place]),
        }
    if covariate:
        found["accuracy_slope"], found["accuracy_slope_p"] = float(estimates[-1]), float(p[-1])
    found["sd_block"], found["sd_residual"] = fit.sd_block, fit.sd_residual
    return found


@dataclass(frozen=True)
class Fit:
    """A linear model with a random intercept.

    Attributes:
        estimates: of the fixed effects, [columns].
        errors: their standard errors, [columns].
        sd_block: standard deviation of the intercepts; 0 where blocks differ by no more than their
            members do, so that the fit is that of ordinary least squares.
        sd_residual: standard deviation of the rest.
    """

    estimates: np.ndarray
    errors: np.ndarray
    sd_block: float
    sd_residual: float


def random_intercept(score: np.ndarray, design: np.ndarray, blocks: np.ndarray) -> Fit:
    """Fit score = design @ effects + intercept of the block + rest by restricted likelihood.

    Args:
        score: [rows].
        design: [rows, columns], of full rank.
        blocks: of each row, int [rows]; all of one size.

    Raises:
        ValueError: if the blocks differ in size.
    """
    _, places, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    if len(set(sizes)) > 1:
        raise ValueError(f"blocks: found sizes {sorted(set(sizes))}, wanted one")
    size, count = int(sizes[0]), len(sizes)
    rows, columns = design.shape
    together = np.column_stack([score, design])
    means = np.stack([np.bincount(places, column) / size for column in together.T], axis=1)[places]

    def parts(shrink: float) -> tuple[np.ndarray, np.ndarray, float]:
        # Subtracting this share of the block's mean turns generalised into ordinary least squares;
        # 1 - (1 - shrink)^2 is the intercepts' share of the variance of a block's mean.
        moved = together - shrink * means
        effects = np.linalg.lstsq(moved[:, 1:], moved[:, 0], rcond=None)[0]
        return moved[:, 1:], effects, float(((moved[:, 0] - moved[:, 1:] @ effects) ** 2).sum())

    def deviance(shrink: float) -> float:
        moved, _, squares = parts(shrink)
        ratio = 1 / (1 - shrink) ** 2
        log_information = float(np.linalg.slogdet(moved.T @ moved)[1])
        return float(
            (rows - columns) * math.log(squares) + count * math.log(ratio) + log_information
        )

    found = optimize.minimize_scalar(
        deviance, bounds=(0.0, LARGEST_SHARE), method="bounded", options={"xatol": 1e-10}
    )
    shrink = float(found.x) if found.fun < deviance(0.0) else 0.0
    moved, effects, squares = parts(shrink)
    variance = squares / (rows - columns)
    errors = np.sqrt(variance * np.diag(np.linalg.inv(moved.T @ moved)))
    between = variance * (1 / (1 - shrink) ** 2 - 1) / size
    return Fit(effects, errors, math.sqrt(between), math.sqrt(variance))
