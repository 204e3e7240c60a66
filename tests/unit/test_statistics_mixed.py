"""Promises of mixed models and variance components: the library's, exact cases, planted truth."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from across import LOSSES, Metric, make_models, make_runs, noise, turned
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from clarity.statistics.components import COMPONENTS, components, moments
from clarity.statistics.mixed import COLUMNS, mixed_models, random_intercept
from clarity.statistics.settings import Settings

ONE = {"m": Metric()}


def accuracies(runs, generator=None, by_loss=None):
    generator = generator or np.random.default_rng(0)
    return make_models(
        runs,
        lambda d, loss, s: {
            "accuracy": 0.9 + (by_loss or {}).get(loss, 0) + 0.01 * generator.normal()
        },
    )


def fitted(runs, models, metrics=None, **arguments):
    return mixed_models(runs, models, metrics or ONE, "ce", Settings(), **arguments)


def test_the_fit_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(40), 3)
    for spread in (0.7, 1.5, 3.0):
        covariate = rng.normal(size=120)
        design = np.column_stack(
            [np.ones(120), np.tile(np.eye(3)[1], 40), np.tile(np.eye(3)[2], 40), covariate]
        )
        score = (
            design @ [1, 0.5, -0.3, 0.4]
            + spread * rng.normal(size=40)[blocks]
            + rng.normal(size=120)
        )
        found = random_intercept(score, design, blocks)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = MixedLM(score, design, groups=blocks).fit(
                reml=True, method=["powell", "lbfgs"]
            )
        assert found.estimates == pytest.approx(expected.fe_params, abs=1e-4)
        assert found.errors == pytest.approx(expected.bse_fe, rel=5e-3)
        assert found.sd_block == pytest.approx(float(expected.cov_re[0, 0]) ** 0.5, rel=2e-2)
        assert found.sd_residual == pytest.approx(float(expected.scale) ** 0.5, rel=5e-3)


def test_without_a_covariate_the_estimate_is_the_paired_difference():
    rng = np.random.default_rng(2)
    shift = {seed: 3 * rng.normal() for seed in range(8)}
    runs = make_runs(
        lambda d, loss, s, m, metric: shift[s] + (loss == "triplet") + rng.normal(), seeds=8
    )
    row = fitted(runs, accuracies(runs)).query("scope == 'metric' and loss == 'triplet'").iloc[0]
    wide = runs.pivot(index="seed", columns="loss", values="paired_mean")
    assert row["estimate"] == pytest.approx((wide["triplet"] - wide["ce"]).mean())
    # The error of a balanced layout: twice the residual mean square over the number of blocks.
    rest = wide.sub(wide.mean(axis=1), axis=0) - (wide.mean() - wide.to_numpy().mean())
    square = (rest.to_numpy() ** 2).sum() / (7 * 2)
    assert row["se"] == pytest.approx((2 * square / 8) ** 0.5, rel=1e-5)
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["estimate"]) / row["se"], 14), rel=1e-5)


def test_averaging_over_methods_gives_what_the_model_with_all_intercepts_gives():
    rng = np.random.default_rng(3)
    of_method, of_dataset = {"cam": 0, "ig": 5, "lime": -4}, {"d": 0, "e": 10}
    of_run = {k: rng.normal() for k in itertools.product("de", LOSSES, range(8))}
    of_block = {k: 2 * rng.normal() for k in itertools.product("de", range(8))}
    runs = make_runs(
        lambda d, loss, s, m, metric: (
            of_dataset[d]
            + of_method[m]
            + of_block[d, s]
            + of_run[d, loss, s]
            + 0.7 * (loss == "supcon")
            + 0.3 * rng.normal()
        ),
        datasets="de",
        methods=tuple(of_method),
        seeds=8,
    )
    found = fitted(runs, accuracies(runs)).query("scope == 'metric'").set_index("loss")
    block = runs["dataset"] + runs["seed"].astype(str)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        full = MixedLM.from_formula(
            "y ~ C(dataset) + C(method) + C(loss, Treatment('ce'))",
            runs.assign(y=runs["paired_mean"], block=block),
            groups="block",
            re_formula="1",
            vc_formula={"run": "0 + C(loss)"},
        ).fit(reml=True)
    for loss in ("triplet", "supcon"):
        name = f"C(loss, Treatment('ce'))[T.{loss}]"
        assert found.loc[loss, "estimate"] == pytest.approx(full.fe_params[name], abs=1e-6)
        assert found.loc[loss, "se"] == pytest.approx(full.bse_fe[name], rel=0.02)


@pytest.mark.parametrize("datasets", ["d", "de"])
def test_under_the_null_p_is_below_the_level_no_more_often_than_it_says(datasets):
    rng = np.random.default_rng(4)
    metrics = {f"m{i}": Metric(category=f"c{i}") for i in range(300)}
    runs = make_runs(noise(rng, {}), metrics=metrics, seeds=6 // len(datasets), datasets=datasets)
    found = fitted(runs, accuracies(runs, rng), metrics).query(
        "scope == 'metric' and loss == 'triplet'"
    )
    bound = stats.binom.ppf(0.999, 300, 0.05)
    for name in ("p", "p_given_accuracy"):
        assert (found[name] < 0.05).sum() <= bound
        assert (found[name] < 0.05).mean() > 0.01


def test_what_accuracy_alone_does_is_taken_away_and_a_true_effect_stays():
    rng = np.random.default_rng(5)
    metrics = {f"m{i}": Metric(category=f"c{i}") for i in range(150)}
    metrics |= {f"t{i}": Metric(category=f"k{i}") for i in range(50)}
    frame = make_runs(lambda *_: 0.0, metrics=metrics, seeds=8)
    models = make_models(
        frame,
        lambda d, loss, s: {"accuracy": 0.8 + 0.06 * (loss == "triplet") + 0.04 * rng.normal()},
    )
    accuracy = models.set_index(["loss", "seed"])["accuracy"]
    runs = make_runs(
        lambda d, loss, s, m, metric: (
            40 * accuracy[loss, s]
            + 3.0 * (metric[0] == "t" and loss == "triplet")
            + 0.5 * rng.normal()
        ),
        metrics=metrics,
        seeds=8,
    )
    found = fitted(runs, models, metrics).query("scope == 'metric' and loss == 'triplet'")
    confounded, true = (found[found["name"].str.startswith(k)] for k in "mt")
    assert (confounded["p"] < 0.05).mean() > 0.9
    bound = stats.binom.ppf(0.999, 150, 0.05)
    assert (confounded["p_given_accuracy"] < 0.05).sum() <= bound
    low, high = (confounded[f"ci_{end}_given_accuracy"] for end in ("low", "high"))
    assert ((low <= 0) & (high >= 0)).mean() > 0.9
    assert confounded["explained"].mean() == pytest.approx(1, abs=0.1)
    assert (true["p_given_accuracy"] < 0.05).mean() > 0.9
    assert true["estimate_given_accuracy"].mean() == pytest.approx(3, abs=0.3)


def test_what_cannot_be_fitted_says_why():
    runs = make_runs(lambda *_: 1.0)
    found = fitted(runs, accuracies(runs))
    assert tuple(found) == COLUMNS
    assert found["note"].str.contains("no spread between runs").all()
    assert found["estimate"].isna().all()
    runs = make_runs(noise(np.random.default_rng(6), {}), seeds=1)
    assert fitted(runs, accuracies(runs))["note"].str.contains("too few runs").all()
    runs = make_runs(noise(np.random.default_rng(7), {}))
    models = accuracies(runs).assign(accuracy=0.9)
    told = fitted(runs, models)
    assert told["note"].str.contains("accuracy cannot be told from the losses").all()
    assert told["estimate"].notna().all()
    models = accuracies(runs)
    models.loc[0, "accuracy"] = np.nan
    assert fitted(runs, models)["note"].str.contains("3 runs in blocks").all()


def test_order_of_rows_does_not_matter():
    runs = make_runs(noise(np.random.default_rng(8), {"triplet": 1}), datasets="de")
    models = accuracies(runs)
    pd.testing.assert_frame_equal(fitted(runs, models), fitted(turned(runs), models), rtol=1e-6)


# --- variance components


def test_planted_components_come_back():
    rng = np.random.default_rng(9)
    planted = {
        "loss": 4.0,
        "method": 9.0,
        "loss x method": 1.0,
        "seed": 2.0,
        "loss x seed": 0.5,
        "residual": 0.25,
    }
    a, b, n = 12, 12, 12
    found = []
    for _ in range(60):
        drawn = {name: value**0.5 for name, value in planted.items()}
        cells = (
            drawn["loss"] * rng.normal(size=(a, 1, 1))
            + drawn["method"] * rng.normal(size=(1, b, 1))
            + drawn["seed"] * rng.normal(size=(1, 1, n))
            + drawn["loss x method"] * rng.normal(size=(a, b, 1))
            + drawn["loss x seed"] * rng.normal(size=(a, 1, n))
            + drawn["residual"] * rng.normal(size=(a, b, n))
        )
        found.append(moments(cells))
    means = pd.DataFrame(found).mean()
    for name, value in planted.items():
        assert means[name] == pytest.approx(value, rel=0.2)


def test_components_are_shares_of_complete_cells_without_controls():
    rng = np.random.default_rng(10)
    runs = make_runs(
        lambda d, loss, s, m, metric: 1e6 if m == "random" else 10 * (m == "ig") + rng.normal(),
        methods=("cam", "ig", "random"),
        seeds=5,
        sd=2.0,
    )
    runs.loc[
        (runs["seed"] == 4) & (runs["method"] == "ig") & (runs["loss"] == "ce"), "paired_mean"
    ] = np.nan
    found = components(runs, ["random"]).set_index("component")
    assert list(found.index) == list(COMPONENTS)
    assert found["share"].sum() == pytest.approx(1)
    assert found["share"].idxmax() == "method"
    assert found.loc["image", "variance"] == pytest.approx(4)
    assert (found["n_seeds"].iloc[0], found["n_methods"].iloc[0]) == (4, 2)
    assert components(runs, ["random", "ig"])["variance"].isna().all()
