"""Promises of the figures of a whole grid: what is drawn is what the tables say."""

import numpy as np
import pandas as pd
import pytest
from across import Metric, make_models, make_runs, noise
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from clarity.figures import style
from clarity.figures.curves import curves
from clarity.figures.forest import forest
from clarity.figures.heatmap import LIMIT, heatmap
from clarity.figures.ranks import cliques, ranks
from clarity.figures.separation import separation
from clarity.statistics.mixed import mixed_models
from clarity.statistics.ranks import rank_tables
from clarity.statistics.separation import separation_tables
from clarity.statistics.settings import Settings

LOSSES = ["ce", "triplet", "sup_con $5%"]
METRICS = {
    "index": Metric("contrastivity", verdict=True),
    "ssim": Metric("contrastivity", "lower"),
    "flip": Metric("faithfulness", "lower"),
}
FEW = Settings(resamples=200)


@pytest.fixture(scope="module")
def grid():
    rng = np.random.default_rng(0)
    effects = {"triplet": 2.0, LOSSES[2]: -1.0}
    runs = make_runs(
        noise(rng, effects), metrics=METRICS, losses=LOSSES, datasets="de", methods=("cam", "ig")
    )
    models = make_models(
        runs, lambda *_: {"accuracy": 0.9 + 0.01 * rng.normal(), "silhouette": rng.random()}
    )
    return runs, models


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def reason(figure) -> str:
    return " ".join(words(figure)).replace("\n", " ")


# --- critical-difference diagrams


@pytest.mark.parametrize(
    ("means", "difference", "expected"),
    [
        ([1.0, 2.0, 3.0], 0.5, []),
        ([1.0, 1.2, 3.0], 0.5, [(0, 1)]),
        ([1.0, 1.4, 1.8], 0.5, [(0, 1), (1, 2)]),
        ([1.0, 1.1, 1.2], 0.5, [(0, 2)]),
        ([1.0, 1.0, 4.0, 4.1], 0.5, [(0, 1), (2, 3)]),
    ],
)
def test_bars_join_the_largest_groups_within_the_critical_difference(means, difference, expected):
    assert cliques(means, difference) == expected


def test_a_diagram_has_every_loss_at_its_mean_rank_and_a_panel_for_each_question(grid):
    table, _ = rank_tables(grid[0], METRICS, "ce", FEW)
    figure = ranks(table, category="contrastivity", losses=LOSSES, baseline="ce")
    said = words(figure)
    for name in ("contrastivity verdict", "contrastivity", "index", "ssim"):
        assert name in said
    assert "flip" not in said
    rows = table[(table["name"] == "ssim") & (table["method"] == "all")].set_index("loss")
    axes = next(a for a in figure.axes if "ssim" in [t.get_text() for t in a.texts])
    looks = style.loss_styles(LOSSES, "ce")
    for loss, row in rows.iterrows():
        markers = [line for line in axes.lines if line.get_marker() == looks[loss].marker]
        assert [line.get_xdata()[0] for line in markers] == [pytest.approx(row["mean_rank"])]
        assert any(
            f"{loss}  {row['mean_rank']:.2f}" in t or f"{row['mean_rank']:.2f}  {loss}" in t
            for t in said
        )


def test_two_losses_or_no_block_are_a_panel_that_says_so(grid):
    table, _ = rank_tables(grid[0], METRICS, "ce", FEW)
    assert "three losses" in reason(
        ranks(table, category="contrastivity", losses=LOSSES[:2], baseline="ce")
    )
    nothing = ranks(table.iloc[:0], category="contrastivity", losses=LOSSES, baseline="ce")
    assert "no block" in reason(nothing)


# --- forest


def test_the_forest_draws_both_estimates_of_every_row_where_the_table_has_them(grid):
    table = mixed_models(*grid, METRICS, "ce", FEW)
    figure = forest(table, losses=LOSSES, baseline="ce", verdict=["index"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == LOSSES[1:]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    # Faithfulness has one metric, which says all that the category could.
    assert labels == ["contrastivity verdict", "contrastivity", "index *", "ssim", "flip"]
    for axes, loss in zip(figure.axes, LOSSES[1:], strict=True):
        drawn = {
            round(float(line.get_xdata()[0]), 9)
            for line in axes.lines
            if len(line.get_xdata()) == 1
        }
        rows = table[
            (table["loss"] == loss)
            & ((table["scope"] != "category") | (table["name"] != "faithfulness"))
        ]
        expected = {*rows["estimate"].round(9), *rows["estimate_given_accuracy"].round(9)}
        assert drawn == expected
        spans = {
            tuple(np.round(line.get_xdata(), 9))
            for line in axes.lines
            if len(line.get_xdata()) == 2
        }
        for row in rows.itertuples():
            assert (round(row.ci_low, 9), round(row.ci_high, 9)) in spans


def test_a_forest_without_any_model_says_so(grid):
    table = mixed_models(*grid, METRICS, "ce", FEW)
    assert "no metric" in reason(forest(table.iloc[:0], losses=LOSSES, baseline="ce", verdict=[]))
    assert "nothing to compare" in reason(forest(table, losses=["ce"], baseline="ce", verdict=[]))


# --- heat map


def comparison(**changes) -> pd.DataFrame:
    row = {
        "dataset": "d",
        "method": "cam",
        "metric": "index",
        "category": "contrastivity",
        "direction": "higher",
        "loss": "triplet",
        "baseline": "ce",
        "d": 0.7,
        "verdict": "inconclusive",
    }
    return pd.DataFrame([row | changes])


def cell(frame, **arguments):
    given = {
        "dataset": "d",
        "losses": ["ce", "triplet"],
        "methods": ["cam", "random"],
        "metrics": ["index"],
        "controls": ["random"],
        "baseline": "ce",
    }
    figure = heatmap(frame, **given | arguments)
    patches = [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    return figure, [to_hex(p.get_facecolor()) for p in patches]


def test_a_cell_is_coloured_by_the_better_side_whatever_the_direction():
    _, (higher,) = cell(comparison())
    _, (lower,) = cell(comparison(direction="lower", d=-0.7))
    _, (worse,) = cell(comparison(d=-0.7))
    assert higher == lower != worse
    red, green = (int(higher[at : at + 2], 16) for at in (1, 3))
    assert green > red, "better is green"
    _, (far,) = cell(comparison(d=10 * LIMIT))
    _, (end,) = cell(comparison(d=LIMIT))
    assert far == end


@pytest.mark.parametrize(
    ("verdict", "sign"),
    [
        ("better", "+"),
        ("worse", "−"),
        ("equivalent", "="),
        ("inconclusive", None),
        ("no data", None),
    ],
)
def test_a_cell_carries_the_sign_of_its_verdict(verdict, sign):
    figure, _ = cell(comparison(verdict=verdict))
    signs = [t.get_text() for t in figure.axes[0].texts if t.get_text() in ("+", "−", "=", "≠")]
    assert signs == [sign] * (sign is not None)


def test_no_data_is_grey_and_controls_are_left_out():
    _, (grey,) = cell(comparison(d=np.nan, verdict="no data"))
    assert grey == style.SHADE
    figure, cells = cell(pd.concat([comparison(), comparison(method="random")]))
    assert len(cells) == 1
    assert "random" not in words(figure)
    assert "nothing was compared" in reason(
        heatmap(
            comparison(),
            dataset="e",
            losses=["ce", "triplet"],
            methods=["cam"],
            metrics=["index"],
            controls=[],
            baseline="ce",
        )
    )


# --- curves


def curve(metric="flip", loss="ce", points=4, **changes) -> pd.DataFrame:
    at = np.linspace(0, 1, points)
    return pd.DataFrame(
        {
            "dataset": "d",
            "method": "cam",
            "metric": metric,
            "loss": loss,
            "point": range(points),
            "at": at,
            "label": "",
            "axis": "share removed",
            "n_runs": 3,
            "mean": 1 - at,
            "sd": 0.1,
        }
        | changes
    )


def drawn(table):
    return curves(
        table,
        dataset="d",
        losses=LOSSES,
        methods=["cam"],
        metrics=["flip", "short", "named"],
        controls=[],
        baseline="ce",
    )


def test_a_curve_is_the_mean_with_a_band_of_its_deviation():
    figure = drawn(pd.concat([curve(), curve(loss="triplet", mean=0.5)]))
    (axes,) = figure.axes
    lines = {to_hex(line.get_color()): line.get_ydata() for line in axes.lines}
    looks = style.loss_styles(LOSSES, "ce")
    assert lines[looks["ce"].colour.lower()] == pytest.approx(1 - np.linspace(0, 1, 4))
    assert lines[looks["triplet"].colour.lower()] == pytest.approx(0.5)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(-0.1), pytest.approx(1.1))


def test_what_is_too_short_or_has_names_for_points_is_no_curve():
    short = pd.concat([curve("short", points=2), curve("named", label="layer", at=np.nan)])
    assert "no metric with a curve" in reason(drawn(short))
    figure = drawn(pd.concat([short, curve()]))
    assert len(figure.axes) == 1


# --- separation


def test_every_training_run_is_a_dot_at_its_silhouette(grid):
    runs, models = grid
    table, _ = separation_tables(runs, models, METRICS, "ce", FEW)
    figure = separation(
        table,
        runs,
        models,
        metrics=METRICS,
        datasets=["d", "e"],
        losses=LOSSES,
        controls=[],
        baseline="ce",
        settings=FEW,
    )
    said = words(figure)
    assert "contrastivity verdict" in said
    assert "index" in said
    assert "ssim" not in said
    x = np.concatenate([line.get_xdata() for line in figure.axes[1].lines])
    assert sorted(x) == pytest.approx(sorted(models["silhouette"]))
    row = table[
        (table["scope"] == "metric") & (table["name"] == "index") & (table["dataset"] == "all")
    ]
    assert any(f"ρ {row['spearman'].iloc[0]:.2f}".replace("-", "−") in text for text in said)


def test_without_a_verdict_or_a_silhouette_there_is_a_panel_that_says_so(grid):
    runs, models = grid
    table, _ = separation_tables(runs, models, METRICS, "ce", FEW)
    given = {
        "datasets": ["d", "e"],
        "losses": LOSSES,
        "controls": [],
        "baseline": "ce",
        "settings": FEW,
    }
    plain = {"flip": METRICS["flip"]}
    assert "no metric" in reason(separation(table, runs, models, metrics=plain, **given))
    without = models.drop(columns="silhouette")
    assert "no silhouette" in reason(separation(table, runs, without, metrics=METRICS, **given))


def test_the_same_tables_give_the_same_bytes(grid, tmp_path):
    table, _ = rank_tables(grid[0], METRICS, "ce", FEW)
    made = [
        [
            path.read_bytes()
            for path in style.save(
                ranks(table, category="contrastivity", losses=LOSSES, baseline="ce"),
                tmp_path / name,
                "x",
            )
        ]
        for name in ("one", "two")
    ]
    assert made[0] == made[1]
