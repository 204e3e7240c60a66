"""Promises of the figures: what they show, that they repeat, and that a gap is a label."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from skimage.color import deltaE_ciede2000, rgb2lab
from synthetic import METRICS, Synthetic

from clarity import storage
from clarity.figures import render, style
from clarity.figures.effects import effects, run_differences
from clarity.figures.embeddings import Embedded, embeddings, project
from clarity.figures.gallery import Examples, choose_images, gallery
from clarity.figures.maps import outline
from clarity.figures.measures import measures
from clarity.figures.names import figure_names, figures, stem
from clarity.figures.render import FEW_FIGURES, Shown, render_all
from clarity.figures.training import training
from clarity.grid import Run
from clarity.statistics.settings import Settings


def draw(results: Synthetic, out: Path, workers: int = 1) -> None:
    shown = Shown(
        results.root,
        results.root / "tables",
        results.grid,
        results.metrics,
        results.baseline,
        results.controls,
        Settings(resamples=200),
        dict.fromkeys(results.settings, "flipping"),
    )
    render_all(shown, out, workers=workers)


def words(figure: Figure) -> str:
    """Return all that is written in a figure, lines joined."""
    return " | ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    return Synthetic(root, unavailable=[("triplet", "gradcam")]).write()


@pytest.fixture(scope="module")
def drawn(results):
    draw(results, results.root / "figures")
    return contents(results.root / "figures")


@pytest.fixture
def damaged(tmp_path):
    metrics = {"sparseness": METRICS["sparseness"]}
    return Synthetic(tmp_path, seeds=(0, 1), metrics=metrics, datasets=("digits",)).write()


# All figures of a grid


def test_every_expected_file_is_written_and_no_other(results, drawn):
    names = figure_names(results.datasets, results.metrics, results.categories, results.families)
    assert sorted(drawn) == sorted([*names, "manifest.json"])
    assert {"gallery-digits.svg", "effects-sparseness.png", "embeddings-scenes.svg"} <= set(drawn)


def test_other_processes_draw_the_same_bytes(results, drawn, tmp_path):
    assert len(drawn) >= 2 * FEW_FIGURES, "enough that they are shared out"
    code = (
        "import sys; from pathlib import Path; from synthetic import Synthetic;"
        "from test_figures import draw;"
        f"draw(Synthetic(Path({str(results.root)!r})), Path({str(tmp_path)!r}), workers=2)"
    )
    # Another hash seed is another order of sets and another start of every id from a hash.
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "PYTHONPATH": path}, check=True
    )
    again = contents(tmp_path)
    assert [name for name in drawn if drawn[name] != again[name]] == []


def test_no_file_holds_a_date_or_a_version(drawn):
    for name, content in drawn.items():
        if name.endswith(".svg"):
            assert b"dc:date" not in content, name
        else:
            assert b"tEXt" not in content, name
            assert b"tIME" not in content, name
        assert matplotlib.__version__.encode() not in content, name


def test_an_svg_needs_no_other_file(drawn):
    for name, content in drawn.items():
        if name.endswith(".svg"):
            targets = [part.split(b'"')[0] for part in content.split(b'href="')[1:]]
            assert targets
            assert {target[:5] for target in targets if not target.startswith(b"#")} <= {b"data:"}


def test_drawing_loads_neither_torch_nor_a_window():
    code = (
        "import sys, clarity.figures.render;"
        "print([m for m in ('torch', 'matplotlib.pyplot', 'tkinter') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


RUN = "dataset=digits/loss=triplet/seed=0"


@pytest.mark.parametrize(
    ("lost", "where"),
    [
        (f"{RUN}/method=gradcam/attributions.safetensors", "gallery-digits"),
        (f"{RUN}/embeddings.safetensors", "embeddings-digits"),
        (f"{RUN}/predictions.parquet", "embeddings-digits"),
        (f"{RUN}/geometry.parquet", "embeddings-digits"),
        ("dataset=digits/loss=triplet/seed=*/history.parquet", "training-digits"),
        ("dataset=digits/evaluation.safetensors", "gallery-digits"),
        ("dataset=*/**/*.*", "training-digits"),
    ],
)
def test_a_lost_file_stops_no_figure_and_is_named_in_its_panel(damaged, monkeypatch, lost, where):
    for path in list(damaged.root.glob(lost)):
        path.unlink()
    shown = {}
    monkeypatch.setattr(
        style, "save", lambda figure, folder, stem: shown.update({stem: words(figure)}) or []
    )
    draw(damaged, damaged.root / "figures")
    wanted = figures(["digits"], ["sparseness"], ["complexity"], [])
    assert sorted(shown) == sorted(stem(*figure) for figure in wanted)
    assert "unavailable:nofile" in shown[where].replace(" ", "")


def test_a_damaged_file_is_named(damaged):
    path = damaged.root / "dataset=digits/loss=triplet/seed=0/history.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(storage.CorruptArtifact, match=r"triplet/seed=0/history\.parquet"):
        draw(damaged, damaged.root / "figures")


# Style


def test_the_baseline_is_dark_and_neutral_wherever_the_config_lists_it():
    for losses in (["ce", "a", "b"], ["a", "b", "ce"]):
        looks = style.loss_styles(losses, "ce")
        red, green, blue = to_rgb(looks["ce"].colour)
        assert red == green == blue < 0.25
        assert (looks["a"], looks["b"]) == tuple(
            style.loss_styles(["ce", "a", "b"], "ce")[loss] for loss in "ab"
        )


def test_a_new_loss_at_the_end_changes_the_look_of_no_other():
    few, more = (style.loss_styles(list("cabdefgh")[:n], "c") for n in (4, 8))
    assert few == {loss: more[loss] for loss in few}


def test_losses_differ_in_colour_and_in_marker():
    looks = style.loss_styles([f"loss {i}" for i in range(7)], "loss 0").values()
    assert len({look.colour for look in looks}) == 7
    assert len({look.marker for look in looks}) == 7


# Machado, Oliveira and Fernandes, 2009, table 1, severity 1.0.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("matrix", DEFICIENCIES.values(), ids=DEFICIENCIES)
def test_the_first_losses_are_told_apart_by_colour_blind_readers(matrix):
    looks = style.loss_styles([f"loss {i}" for i in range(5)], "loss 0").values()
    colours = np.array([to_rgb(look.colour) for look in looks])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    distances = [
        deltaE_ciede2000(lab[i], lab[j]) for i in range(len(lab)) for j in range(i) if i != j
    ]
    # 2.3 is just noticeable; lines far apart on a page need several times that.
    assert min(distances) > 10


def test_the_settings_of_the_process_change_no_figure_and_are_not_changed(tmp_path):
    def curves():
        return training({"ce": history(0)}, losses=["ce"], baseline="ce")

    style.save(curves(), tmp_path, "plain")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.hashsalt": "x"}):
        before = dict(matplotlib.rcParams)
        style.save(curves(), tmp_path, "other")
        assert dict(matplotlib.rcParams) == before
    for suffix in ("svg", "png"):
        plain, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("plain", "other"))
        assert plain == other


# Gallery


def examples(images=1, size=4, **changes) -> Examples:
    values = {
        "images": np.full((images, 1, size, size), 255, np.uint8),
        "classes": np.stack([np.arange(images), np.full(images, -1)], axis=1),
        "masks": None,
        "class_names": ["zero", "one", "two", "three"],
    }
    return Examples(**{**values, **changes})


def one_map(values: np.ndarray) -> np.ndarray:
    """Return the picture of a map [H, W] as the gallery draws it: RGB [H, W, 3]."""
    maps = np.stack([values, values])[None]
    figure = gallery(
        examples(size=len(values)),
        {"ce": np.array([[0, 1]])},
        {("ce", "m"): maps},
        losses=["ce"],
        methods=["m"],
        controls=[],
        baseline="ce",
    )
    # The image itself comes first, the map of the label second.
    return np.asarray(figure.findobj(AxesImage)[1].get_array(), dtype=float)


def test_colours_are_symmetric_around_zero():
    values = np.zeros((4, 4))
    values[0, :2] = [1, 0.5]
    values[1, :2] = [-1, -0.5]
    picture = one_map(values)
    for column in range(2):
        positive, negative = picture[0, column], picture[1, column]
        assert positive[0] > positive[2] + 0.2
        assert negative[2] > negative[0] + 0.2
    assert np.ptp(picture[3, 3]) < 0.02
    assert picture[0, 0].sum() < picture[0, 1].sum(), "a stronger value is not darker"


def test_each_map_has_its_own_scale():
    values = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_array_equal(one_map(values), one_map(values * 1000))
    shifted = one_map(values + 10)
    assert (shifted[..., 0] > shifted[..., 2]).all(), "zero moved: no negative value is blue"


def test_one_extreme_pixel_does_not_make_the_others_pale():
    values = np.ones((20, 20))
    values[0, 0] = 1000
    picture = one_map(values)
    np.testing.assert_allclose(picture[5, 5], picture[0, 0])


def test_a_map_of_zeros_or_nan_is_labelled_and_not_coloured():
    maps = np.zeros((1, 2, 4, 4))
    maps[0, 1, 0, 0] = np.nan
    figure = gallery(
        examples(),
        {"ce": np.array([[0, 1]])},
        {("ce", "m"): maps},
        losses=["ce"],
        methods=["m"],
        controls=[],
        baseline="ce",
    )
    assert "all zero" in words(figure)
    assert "not finite" in words(figure)


def test_a_gallery_names_classes_foils_methods_controls_and_reasons():
    figure = gallery(
        examples(2, classes=np.array([[2, -1], [0, 3]])),
        {"ce": np.array([[2, 1], [0, 3]]), "triplet": np.array([[2, 0], [0, 3]])},
        {("ce", "m"): np.ones((2, 2, 4, 4)), ("triplet", "m"): "no layer"},
        losses=["ce", "triplet"],
        methods=["noise", "m"],
        controls=["noise"],
        baseline="ce",
    )
    text = words(figure)
    for part in (
        "label: two",
        "foil: one",
        "foil: zero",
        "first: zero",
        "second: three",
        "noise (control)",
        "unavailable: no layer",
        "unavailable: not computed",
    ):
        assert part in text
    parts = text.split(" | ")
    assert parts.index("m") < parts.index("noise (control)"), "controls come last"


def test_the_third_map_is_the_first_minus_the_second():
    first, second = np.random.default_rng(0).normal(size=(2, 6, 6))

    def pictures(maps):
        figure = gallery(
            examples(size=6),
            {"ce": np.array([[0, 1]])},
            {("ce", "m"): maps[None]},
            losses=["ce"],
            methods=["m"],
            controls=[],
            baseline="ce",
        )
        assert "difference" in words(figure)
        return [np.asarray(image.get_array()) for image in figure.findobj(AxesImage)[1:4]]

    difference = pictures(np.stack([first, second]))[2]
    np.testing.assert_array_equal(difference, pictures(np.stack([first - second, second]))[0])


def test_many_methods_keep_the_width_of_a_page():
    methods = [f"method-{i}" for i in range(14)]
    maps = {("ce", method): np.ones((1, 2, 4, 4)) for method in methods}
    figure = gallery(
        examples(),
        {"ce": np.array([[0, 1]])},
        maps,
        losses=["ce"],
        methods=methods,
        controls=[],
        baseline="ce",
    )
    assert figure.get_figwidth() <= style.PAGE_WIDTH
    for image in figure.findobj(AxesImage):
        left, right, bottom, top = image.get_extent()
        assert 0 <= left < right <= figure.get_figwidth()
        assert 0 <= top < bottom <= figure.get_figheight()
    assert all(method in words(figure) for method in methods)


def test_images_are_the_first_right_ones_of_different_classes():
    rng = np.random.default_rng(3)
    for _ in range(50):
        n = int(rng.integers(1, 40))
        first = rng.integers(0, 5, n)
        second = np.where(rng.random(n) < 0.4, (first + rng.integers(1, 5, n)) % 5, -1)
        classes, correct = np.stack([first, second], axis=1), rng.random(n) < 0.7
        chosen = choose_images(classes, correct, 4)
        assert correct[chosen].all()
        wanted = {False: 2, True: 2} if (second >= 0).any() else {False: 4, True: 0}
        for is_scene, most in wanted.items():
            rows = [row for row in chosen if (second[row] >= 0) == is_scene]
            shown = [c for row in rows for c in classes[row] if c >= 0]
            assert len(shown) == len(set(shown))
            assert len(rows) <= most
            # Whatever right image was passed over shares a class with one chosen before it.
            for row in np.flatnonzero(correct & ((second >= 0) == is_scene)):
                before = {c for other in rows if other < row for c in classes[other]}
                full = sum(other < row for other in rows) == most
                assert row in rows or full or before & {c for c in classes[row] if c >= 0}


def test_an_outline_is_exactly_the_border_of_the_mask():
    rng = np.random.default_rng(0)
    for mask in (rng.random((7, 9)) < 0.5, np.ones((2, 3), bool), np.zeros((3, 3), bool)):
        unit_edges = set()
        for (x0, y0), (x1, y1) in outline(mask).reshape(-1, 2, 2).astype(int):
            assert x0 == x1 or y0 == y1
            steps = max(x1 - x0, y1 - y0)
            dx, dy = (x1 - x0) // steps, (y1 - y0) // steps
            unit_edges |= {
                (x0 + i * dx, y0 + i * dy, x0 + (i + 1) * dx, y0 + (i + 1) * dy)
                for i in range(steps)
            }
        expected = set()
        height, width = mask.shape
        for y in range(height):
            for x in range(width):
                for other, edge in (
                    ((y - 1, x), (x, y, x + 1, y)),
                    ((y + 1, x), (x, y + 1, x + 1, y + 1)),
                    ((y, x - 1), (x, y, x, y + 1)),
                    ((y, x + 1), (x + 1, y, x + 1, y + 1)),
                ):
                    inside = 0 <= other[0] < height and 0 <= other[1] < width and mask[other]
                    if mask[y, x] and not inside:
                        expected.add(edge)
        assert unit_edges == expected


# Effects


def comparison(**changes) -> pd.DataFrame:
    row = {
        "dataset": "digits",
        "method": "m",
        "metric": "score",
        "category": "faithfulness",
        "direction": "higher",
        "loss": "triplet",
        "baseline": "ce",
        "n_runs": 3,
        "n_images": 30,
        "mean": 1.5,
        "mean_baseline": 1.0,
        "difference": 0.5,
        "ci_low": 0.2,
        "ci_high": 0.8,
        "verdict": "inconclusive",
    }
    return pd.DataFrame([{**row, **changes}])


def effect_figure(rows: pd.DataFrame, **changes) -> Figure:
    runs = pd.DataFrame(
        {
            "dataset": "digits",
            "method": "m",
            "metric": "score",
            "loss": "triplet",
            "seed": [0, 1, 2],
            "difference": [0.3, 0.5, 0.7],
        }
    )
    arguments = {
        "metric": "score",
        "datasets": ["digits"],
        "losses": ["ce", "triplet"],
        "methods": ["m"],
        "controls": [],
        "baseline": "ce",
        "confidence": 0.95,
    }
    return effects(rows, runs, **{**arguments, **changes})


def lines(figure: Figure) -> list[Line2D]:
    """Return the lines and markers of the first panel."""
    return list(figure.axes[0].lines)


def test_run_differences_average_to_the_table(results):
    runs = run_differences(
        storage.read_table(results.root / "tables/runs.parquet"), results.baseline
    )
    means = runs.groupby(["dataset", "method", "metric", "loss"])["difference"].agg(
        ["mean", "count"]
    )
    table = storage.read_table(results.root / "tables/comparisons.parquet")
    table = table[(table["baseline"] == results.baseline) & (table["n_runs"] > 0)]
    # Where a score is missing, a pair of losses has images that all losses together have not.
    whole = table[table["n_unpaired"] == 0].set_index(["dataset", "method", "metric", "loss"])
    assert len(whole) > len(table) / 3
    np.testing.assert_allclose(means.loc[whole.index, "mean"], whole["difference"], atol=1e-12)
    np.testing.assert_array_equal(means.loc[whole.index, "count"], whole["n_runs"])


def test_an_effect_shows_its_interval_its_runs_and_the_zero():
    figure = effect_figure(comparison())
    spans = [list(line.get_xdata()) for line in lines(figure)]
    assert [0.3, 0.5, 0.7] in spans
    assert [0, 0] in spans
    (interval,) = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert [segment[:, 0].tolist() for segment in interval.get_segments()] == [[0.2, 0.8]]


@pytest.mark.parametrize(
    ("verdict", "fill"),
    [
        ("better", style.PALETTE[0]),
        ("worse", style.PALETTE[0]),
        ("different", style.PALETTE[0]),
        ("equivalent", style.FAINT),
        ("inconclusive", "white"),
    ],
)
def test_a_marker_is_filled_as_the_verdict_says(verdict, fill):
    marker = style.loss_styles(["ce", "triplet"], "ce")["triplet"].marker
    drawn_lines = lines(effect_figure(comparison(verdict=verdict)))
    (mean,) = [line for line in drawn_lines if line.get_marker() == marker]
    assert to_hex(mean.get_markerfacecolor()) == to_hex(fill)
    assert to_hex(mean.get_markeredgecolor()) == style.PALETTE[0].lower()


@pytest.mark.parametrize(
    ("direction", "mark"), [("higher", "better →"), ("lower", "← better"), ("none", "")]
)
def test_the_better_side_is_marked(direction, mark):
    text = words(effect_figure(comparison(direction=direction)))
    assert [m for m in ("better →", "← better") if m in text] == [mark] * bool(mark)


def test_controls_stand_below_all_methods():
    rows = pd.concat([comparison(method=method) for method in ("noise", "m", "n")])
    figure = effect_figure(rows, methods=["noise", "m", "n"], controls=["noise"])
    axes = figure.axes[0]
    places = {
        label.get_text(): place
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    }
    # The axis points down.
    assert places["noise"] > max(places["m"], places["n"])
    assert "controls" in words(figure)


def test_an_effect_without_data_says_so_and_n_is_printed():
    rows = pd.concat(
        [comparison(), comparison(method="n", n_images=0, n_runs=0, difference=np.nan)]
    )
    text = words(effect_figure(rows, methods=["m", "n", "o"], datasets=["digits", "scenes"]))
    assert "unavailable: no data" in text
    assert "unavailable: not compared" in text
    assert "unavailable: not scored on this dataset" in text
    assert "n: 3 runs, 30 image pairs" in text


def test_the_smallest_difference_of_interest_is_a_band_that_widens_no_axis():
    for margin in (0.1, 100.0):
        axes = effect_figure(comparison(margin=margin)).axes[0]
        (bands,) = [c for c in axes.collections if isinstance(c, PatchCollection)]
        (band,) = bands.get_paths()
        assert (band.vertices[:, 0].min(), band.vertices[:, 0].max()) == (-margin, margin)
        assert axes.get_xlim()[1] < 1.0
    without = effect_figure(comparison())
    assert not any(isinstance(c, PatchCollection) for c in without.axes[0].collections)
    assert "95 % interval" in words(without)


def test_a_grid_of_one_loss_has_nothing_to_compare():
    figure = effect_figure(comparison().iloc[:0], losses=["ce"])
    assert "unavailable: nothing to compare with" in words(figure)


# Training


def measure_rows(**changes) -> pd.DataFrame:
    rows = [
        {
            "dataset": "digits",
            "measure": measure,
            "group": group,
            "direction": direction,
            "loss": loss,
            "baseline": "ce",
            "n_runs": 2,
            "difference": 0.1,
            "ci_low": 0.05,
            "ci_high": 0.2,
            "verdict": "inconclusive",
        }
        for measure, group, direction in (
            ("accuracy", "accuracy", "higher"),
            ("nc1", "geometry", "lower"),
            ("corruption-jpeg:1", "corruption", "higher"),
            ("corruption-mean", "corruption", "higher"),
        )
        for loss in ("triplet", "supcon")
    ]
    return pd.DataFrame(rows).assign(**changes)


def models_of(losses=("ce", "triplet", "supcon")) -> pd.DataFrame:
    rows = [
        {"dataset": "digits", "loss": loss, "seed": seed, "accuracy": 0.9 + place / 50 - seed / 100}
        for place, loss in enumerate(losses)
        for seed in (0, 1)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(nc1=frame["accuracy"], **{"corruption-mean": frame["accuracy"]})


def measures_figure(rows: pd.DataFrame, models: pd.DataFrame | None = None) -> Figure:
    return measures(
        rows,
        models_of() if models is None else models,
        dataset="digits",
        losses=("ce", "triplet", "supcon"),
        baseline="ce",
        confidence=0.95,
    )


def test_models_have_a_panel_a_measure_by_group_and_none_for_single_severities():
    figure = measures_figure(measure_rows())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["accuracy", "nc1", "corruption-mean"]
    said = words(figure)
    assert all(group in said for group in ("geometry", "corruption"))
    assert "corruption-jpeg" not in said


def test_models_are_drawn_with_the_runs_that_the_difference_is_the_mean_of():
    figure = measures_figure(measure_rows())
    dots = [line for line in figure.axes[0].get_lines() if line.get_markersize() == 2.0]
    np.testing.assert_allclose([line.get_xdata() for line in dots], [[0.02] * 2, [0.04] * 2])


def test_a_measure_of_models_without_data_says_so():
    figure = measures_figure(measure_rows(difference=np.nan, n_runs=0))
    assert words(figure).count("unavailable: no data") == 6
    assert "no model was measured" in words(measures_figure(measure_rows().iloc[:0]))


def test_a_run_that_failed_costs_no_other_run_its_place_in_a_figure(tmp_path):
    failed = [("digits", "triplet", 0)]
    results = Synthetic(tmp_path, seeds=(0, 1), datasets=("digits",), failed=failed).write()
    draw(results, tmp_path / "figures")
    names = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"gallery-digits", "embeddings-digits", "measures-digits"} <= names
    grid, baseline = results.grid, results.baseline
    gallery = words(render._gallery(tmp_path, "digits", grid, baseline, results.controls))
    images = gallery.count("label: ")
    assert images > 0
    # Two of three losses have a foil.
    assert gallery.count("foil: ") == 2 * images
    run = Run("digits", "triplet", 0)
    assert render._embedded(tmp_path, run) == "diverged in epoch 3 (the loss is not finite)"
    assert not isinstance(render._embedded(tmp_path, Run("digits", "supcon", 0)), str)


def history(seed: int, epochs: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "seed": seed,
            "epoch": np.arange(1, epochs + 1),
            "loss": 1.0 / np.arange(1, epochs + 1) + seed,
            "validation_accuracy": 0.5 + 0.1 * np.arange(epochs),
        }
    )


def test_curves_have_the_colour_of_their_loss_and_average_the_seeds():
    losses = ["ce", "triplet"]
    figure = training(
        {loss: pd.concat([history(0), history(2)]) for loss in losses}, losses=losses, baseline="ce"
    )
    looks = style.loss_styles(losses, "ce")
    for loss in losses:
        (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left") == loss]
        assert {to_hex(line.get_color()) for line in axes.lines} == {looks[loss].colour.lower()}
        (mean,) = [line for line in axes.lines if line.get_marker() == looks[loss].marker]
        np.testing.assert_allclose(mean.get_ydata(), 1 / np.arange(1, 4) + 1)
        assert len(axes.lines) == 3


def test_a_loss_without_history_has_a_labelled_panel():
    figure = training(
        {"ce": history(0), "triplet": "no file x"},
        losses=["ce", "triplet", "supcon"],
        baseline="ce",
    )
    assert "unavailable: no file x" in words(figure)
    assert "unavailable: not run" in words(figure)
    nothing = training({}, losses=["ce"], baseline="ce")
    assert "unavailable: no training history" in words(nothing)


# Embeddings


@pytest.mark.parametrize("method", ["t-SNE", "PCA"])
def test_a_projection_repeats_and_knows_no_lengths(method):
    points = np.random.default_rng(0).normal(size=(40, 5))
    found = project(points, method)
    assert found.shape == (40, 2)
    np.testing.assert_array_equal(found, project(points, method))
    # Powers of two, so that lengths change and roundings do not.
    lengths = 2.0 ** np.random.default_rng(1).integers(-3, 4, size=(40, 1))
    np.testing.assert_array_equal(found, project(points * lengths, method))


def test_a_projection_keeps_separate_groups_apart():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    points = np.eye(8)[labels] + rng.normal(0, 0.05, (60, 8))
    found = project(points)
    distances = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(labels[distances.argmin(axis=1)], labels)


def test_embeddings_of_one_dimension_and_equal_embeddings_have_a_picture():
    assert project(np.array([[1.0], [-1.0], [2.0], [1.0]]), "PCA").shape == (4, 2)
    assert np.isfinite(project(np.ones((5, 3)))).all()


def test_a_projection_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="'UMAP'"):
        project(np.ones((5, 3)), "UMAP")
    with pytest.raises(ValueError, match="2 points"):
        project(np.ones((2, 3)))


def test_panels_tell_accuracy_silhouette_classes_and_what_is_missing():
    labels = np.arange(30) % 3
    run = Embedded(np.eye(3)[labels] + 0.01 * np.arange(30)[:, None], labels, 0.9567, 0.321)
    figure = embeddings(
        {"ce": run, "triplet": "no file y"},
        losses=["ce", "triplet", "supcon"],
        baseline="ce",
        class_names=["zebra", "horse", "donkey"],
        method="PCA",
    )
    figure.canvas.draw()
    text = words(figure)
    for part in ("accuracy 0.957, silhouette 0.32", "0: zebra", "2: donkey"):
        assert part in text
    assert "unavailable: no file y" in text
    assert "unavailable: not run" in text
