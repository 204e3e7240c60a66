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
from clarity.figures.sensitivity import sensitivity
from clarity.figures.separation import separation
from clarity.figures.specifications import specifications
from clarity.figures.standardised import standardised
from clarity.figures.style import FAINT
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
    lost = table["name"] == "ssim"
    part = table.assign(n_blocks=table["n_blocks"].where(~lost, 0))
    figure = ranks(part, category="contrastivity", losses=LOSSES, baseline="ce")
    assert any("ssim" in text and "no block" in text for text in words(figure))
    nothing = ranks(table.iloc[:0], category="contrastivity", losses=LOSSES, baseline="ce")
    assert "no block" in reason(nothing)


# --- forest


def test_the_forest_draws_both_estimates_of_every_row_where_the_table_has_them(grid):
    table = mixed_models(*grid, METRICS, "ce", FEW)
    figure = forest(table, losses=LOSSES, baseline="ce", verdict=["index"], confidence=0.95)
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
    given = {"baseline": "ce", "verdict": [], "confidence": 0.95}
    assert "no metric" in reason(forest(table.iloc[:0], losses=LOSSES, **given))
    assert "nothing to compare" in reason(forest(table, losses=["ce"], **given))


def test_a_row_without_an_estimate_says_why(grid):
    table = mixed_models(*grid, METRICS, "ce", FEW)
    lost = (table["name"] == "index") & (table["loss"] == "triplet")
    table.loc[lost, ["estimate", "note"]] = np.nan, "no block with both"
    figure = forest(table, losses=LOSSES, baseline="ce", verdict=[], confidence=0.95)
    triplet, other = figure.axes
    assert "no estimate: no block with both" in [text.get_text() for text in triplet.texts]
    assert not any("no estimate" in text.get_text() for text in other.texts)
    labels = [label.get_text() for label in triplet.get_yticklabels()]
    assert "index" in labels


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
        "difference": 1.4,
        "ci_low": 0.4,
        "ci_high": 2.4,
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


def test_a_category_is_one_group_and_losses_that_do_not_fit_have_a_line_of_their_own():
    names = ["index", "flip", "ssim"]
    losses = [f"loss{i}" for i in range(9)]
    methods = [f"method{i}" for i in range(12)]
    frame = pd.concat(
        comparison(metric=name, category=category, loss=loss, method=method)
        for name, category in zip(names, ("a", "b", "a"), strict=True)
        for loss in losses
        for method in methods
    )
    figure = heatmap(
        frame,
        dataset="d",
        losses=["ce", *losses],
        methods=methods,
        metrics=names,
        controls=[],
        baseline="ce",
    )
    lines = [axes for axes in figure.axes if any(t.get_text() == "index" for t in axes.texts)]
    assert len(lines) > 1
    for axes in lines:
        heights = {t.get_text(): t.get_position()[1] for t in axes.texts}
        assert heights["a"] < heights["index"] < heights["ssim"] < heights["b"] < heights["flip"]
        ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
        assert max(ends) <= style.PAGE_WIDTH
    shown = sum(len(axes.patches) for axes in lines)
    assert shown == len(frame)


# --- one scale


def test_intervals_are_turned_and_scaled_like_their_difference():
    rows = standardised(
        pd.concat(
            [
                comparison(),
                comparison(direction="lower", metric="flip"),
                comparison(loss="other", difference=0.0, d=0.0),
                comparison(metric="flat", difference=0.0, d=np.nan, ci_low=0.0, ci_high=0.0),
                comparison(method="random"),
                comparison(baseline="other"),
                comparison(direction="none"),
            ],
            ignore_index=True,
        ),
        baseline="ce",
        controls=["random"],
    )
    # A standard deviation is 2 here: 1.4 is 0.7 of it.
    expected = [[0.7, 0.2, 1.2], [-0.7, -1.2, -0.2], [0.0, 0.2, 1.2], [np.nan] * 3]
    np.testing.assert_allclose(rows[["value", "low", "high"]], expected)


# --- specification curves


def specification_figure(frame, **changes):
    given = {
        "category": "contrastivity",
        "datasets": ["d", "e"],
        "losses": ["ce", "triplet"],
        "methods": ["cam", "ig", "random"],
        "metrics": ["index", "ssim"],
        "controls": ["random"],
        "baseline": "ce",
        "confidence": 0.9,
    }
    return specifications(frame, **given | changes)


def test_a_specification_curve_is_sorted_and_marks_what_made_each():
    values = {("d", "cam"): 0.3, ("d", "ig"): -0.5, ("e", "cam"): 1.0, ("e", "ig"): 0.1}
    frame = pd.concat(
        comparison(dataset=dataset, method=method, d=value, difference=2 * value)
        for (dataset, method), value in values.items()
    )
    frame.loc[frame["d"] == 1.0, "verdict"] = "better"
    figure = specification_figure(pd.concat([frame, comparison(method="random", d=9.0)]))
    curve, choices = figure.axes
    points = sorted(
        (x, y)
        for line in curve.lines
        if line.get_marker() == "o"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    )
    assert points == [(0, -0.5), (1, 0.1), (2, 0.3), (3, 1.0)]
    filled = [line for line in curve.lines if line.get_markerfacecolor() not in ("white", FAINT)]
    assert [list(line.get_xdata()) for line in filled if line.get_marker() == "o"] == [[3]]
    labels = [label.get_text() for label in choices.get_yticklabels()]
    # All have the same metric, which is no choice.
    assert labels == ["d", "e", "cam", "ig"]
    rows = dict(zip(choices.get_yticks(), labels, strict=True))
    marks: dict[str, set[int]] = {name: set() for name in labels}
    for marked in choices.collections:
        for segment in marked.get_segments():
            place = min(rows, key=lambda y: abs(y - segment[:, 1].mean()))
            marks[rows[place]].add(round(segment[0, 0]))
    assert marks == {"d": {0, 2}, "e": {1, 3}, "cam": {2, 3}, "ig": {0, 1}}
    said = words(figure)
    assert "1 better of 4 comparisons" in said
    assert "90 % interval" in said


def test_a_category_without_a_comparison_says_so():
    assert "nothing of localisation" in reason(
        specification_figure(comparison(), category="localisation")
    )
    assert "nothing to compare" in reason(specification_figure(comparison(), losses=["ce"]))


# --- settings


def test_each_setting_shows_the_difference_of_each_loss():
    values = {("a-x", "triplet"): 0.3, ("a-y", "triplet"): -0.2, ("a-x", "sup"): 0.1}
    frame = pd.concat(
        comparison(metric=metric, loss=loss, d=value, difference=2 * value)
        for (metric, loss), value in values.items()
    )
    table = pd.DataFrame([{"dataset": "d", "method": "cam", "family": "a", "agreement": -1.0}])
    given = {
        "family": "a",
        "families": {"a-x": "a", "a-y": "a", "other": "b"},
        "datasets": ["d"],
        "losses": ["ce", "triplet", "sup"],
        "methods": ["cam"],
        "controls": [],
        "baseline": "ce",
        "confidence": 0.95,
    }
    figure = sensitivity(frame, table, **given)
    (axes,) = figure.axes
    looks = style.loss_styles(["ce", "triplet", "sup"], "ce")
    for loss, expected in (("triplet", [0.3, -0.2]), ("sup", [0.1])):
        drawn = [line for line in axes.lines if line.get_marker() == looks[loss].marker]
        (line,) = drawn
        assert list(line.get_ydata()) == expected
        assert [round(x) for x in line.get_xdata()] == list(range(len(expected)))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y"]
    assert "τ −1.00" in words(figure)
    assert "no setting" in reason(sensitivity(frame, table, **given | {"family": "b"}))


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
