"""Promises of the report: it stands alone, says what the tables say, and breaks on no name."""

import base64
import gzip
import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from synthetic import METRICS, Synthetic

from clarity import storage
from clarity.figures.names import figures, stem
from clarity.report import findings
from clarity.report.build import DATA_TABLES, build_report
from clarity.report.data_tables import COMPARISON_COLUMNS

SVG = "http://www.w3.org/2000/svg"
VOID = {"meta", "link", "img", "input", "br"}
TABLES = (*DATA_TABLES, "coverage", "missing")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    parents: list["Element"]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def find(self, tag: str) -> list["Element"]:
        """Return all elements of this kind below, in order."""
        found = []
        for child in self.children:
            found += [child] * (child.tag == tag) + child.find(tag)
        return found


class Page(HTMLParser):
    """A page as a tree; an end tag that does not match is an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = Element("", {}, [])
        self.open = [self.root]
        self.feed(source)
        self.close()
        assert self.open == [self.root], "an element is not closed"

    def handle_starttag(self, tag, attrs):
        element = Element(tag, dict(attrs), list(self.open))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return self.root.find(tag)

    def by_id(self, name: str) -> Element:
        (found,) = [e for e in self.elements() if e.attributes.get("id") == name]
        return found

    def elements(self) -> list[Element]:
        def below(element):
            return [x for child in element.children for x in (child, *below(child))]

        return below(self.root)

    def ids(self) -> list[str]:
        return [e.attributes["id"] for e in self.elements() if "id" in e.attributes]

    def unpacked(self, name: str) -> bytes:
        """Return what lies packed in the page."""
        return gzip.decompress(base64.b64decode(self.by_id(name).text))

    def data(self, table: str) -> pd.DataFrame:
        """Return the rows of a table as they lie in the page."""
        heads = self.by_id(f"table-{table}").find("thead")[0].find("th")
        found = {}
        for head, values in zip(heads, json.loads(self.unpacked(f"data-{table}")), strict=True):
            kind, name = head.attributes["data-kind"], head.text.strip()
            if kind == "interval":
                found["ci_low"], found["ci_high"] = (np.array(end, dtype=float) for end in values)
            elif kind in ("text", "verdict"):
                found[name] = [values["levels"][code] for code in values["codes"]]
            else:
                found[name] = np.array(values, dtype=float)
        return pd.DataFrame(found)

    def rows(self, table: str) -> list[list[str]]:
        (body,) = self.by_id(table).find("tbody")
        return [
            [cell.text.strip() for cell in row.children if cell.tag in ("td", "th")]
            for row in body.find("tr")
        ]


def build(results: Synthetic, out: Path, **changes) -> Page:
    arguments = {
        "config": results.config(),
        "grid": results.grid,
        "metrics": {
            name: {"category": metric.category, "direction": metric.direction}
            for name, metric in results.metrics.items()
        },
        "baseline": results.baseline,
        "families": results.families,
        "controls": results.controls,
    }
    build_report(results.root, out, **{**arguments, **changes})
    return Page(out.read_text(encoding="utf-8"))


def stems(results: Synthetic) -> list[str]:
    return [
        stem(*figure)
        for figure in figures(
            results.datasets, results.metrics, results.categories, results.families
        )
    ]


def draw_placeholders(results: Synthetic) -> None:
    """Write a small file for every figure: what is in them is not the report's business."""
    folder = results.root / "figures"
    for name in stems(results):
        vector = f'<svg width="144pt" height="72pt" xmlns="{SVG}"><title>{name}</title></svg>'
        storage.write_text(folder / f"{name}.svg", vector)
        Image.new("RGB", (40, 20)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    made = Synthetic(root, unavailable=[("triplet", "gradcam")]).write()
    (root / "dataset=scenes/loss=supcon/seed=1/method=random/scores.parquet").unlink()
    made.write_tables()
    draw_placeholders(made)
    return made


@pytest.fixture(scope="module")
def page(results):
    return build(results, results.root / "report.html")


def table(results: Synthetic, name: str) -> pd.DataFrame:
    return storage.read_table(results.root / f"tables/{name}.parquet")


# The page as a file


def test_the_page_loads_nothing_from_elsewhere(page, results):
    loads = ("src", "srcset", "poster", "data", "action", "formaction", "background", "xlink:href")
    for element in page.elements():
        for name in loads:
            value = element.attributes.get(name)
            assert value is None or value.startswith("data:"), (element.tag, name, value)
        address = element.attributes.get("href")
        if address is not None and element.tag != "a":
            assert address.startswith("data:"), (element.tag, address)
        assert "url(" not in (element.attributes.get("style") or "")
        assert element.tag not in ("iframe", "object", "embed", "base")
    for sheet in page.all("style"):
        assert "@import" not in sheet.text
        assert "url(" not in sheet.text
    (script,) = (one for one in page.all("script") if "type" not in one.attributes)
    for word in ("fetch", "XMLHttpRequest", "import", "WebSocket", "http", "eval", "innerHTML"):
        assert word not in script.text


def test_every_figure_is_in_the_page_with_words_for_those_who_do_not_see_it(page, results):
    shown = {element.attributes["id"]: element for element in page.all("figure")}
    assert sorted(shown) == sorted(stems(results))
    for name, figure in shown.items():
        (image,) = figure.find("img")
        suffix, kind, size = (
            ("png", "image/png", ("40", "20"))
            if name.startswith("gallery")
            else ("svg", "image/svg+xml", ("192", "96"))
        )
        assert image.attributes["data-kind"] == kind
        assert (image.attributes["width"], image.attributes["height"]) == size
        file = results.root / f"figures/{name}.{suffix}"
        assert page.unpacked(image.attributes["data-packed"]) == file.read_bytes()
        assert name.partition("-")[2] in image.attributes["alt"]
        (caption,) = figure.find("figcaption")
        assert len(caption.text) > 40


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [("svg", "<svg/>", "no size in points"), ("png", "no picture", "cannot identify image file")],
)
def test_a_figure_that_is_damaged_is_named(tmp_path, suffix, content, words):
    results = Synthetic(tmp_path, seeds=(0, 1), datasets=("digits",)).write()
    draw_placeholders(results)
    file = tmp_path / f"figures/{'gallery' if suffix == 'png' else 'training'}-digits.{suffix}"
    storage.write_text(file, content)
    with pytest.raises(storage.CorruptArtifact, match=words) as error:
        build(results, tmp_path / "report.html")
    assert file.name in str(error.value)


def test_links_within_the_page_lead_somewhere_and_ids_are_unique(page):
    ids = page.ids()
    assert len(ids) == len(set(ids))
    inner = [a.attributes["href"][1:] for a in page.all("a") if a.attributes["href"][0] == "#"]
    assert len(inner) > 5
    assert set(inner) <= set(ids)
    labels = [
        e.attributes["aria-labelledby"]
        for e in page.elements()
        if "aria-labelledby" in e.attributes
    ]
    assert set(labels) <= set(ids)


def test_tables_have_captions_and_headers_with_a_scope(page):
    tables = page.all("table")
    assert len(tables) > len(TABLES) - 3
    for element in tables:
        assert len(element.find("caption")) == 1
        assert all(head.attributes.get("scope") in ("col", "row") for head in element.find("th"))


def test_columns_of_data_tables_are_sorted_by_buttons_that_say_how(page):
    shown = [name for name in TABLES if f"table-{name}" in page.ids()]
    assert {"comparisons", "mixed-models", "models", "coverage", "missing"} <= set(shown)
    for name in shown:
        (head,) = page.by_id(f"table-{name}").find("thead")
        for cell in head.find("th"):
            assert cell.attributes["aria-sort"] == "none"
            assert [button.attributes["type"] for button in cell.find("button")] == ["button"]


def test_headings_leave_out_no_level(page):
    levels = [int(e.tag[1]) for e in page.elements() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_the_same_results_give_the_same_page(page, results, tmp_path):
    build(results, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (results.root / "report.html").read_bytes()


def test_building_loads_no_torch():
    code = "import sys, clarity.report.build; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# Tables


@pytest.mark.parametrize(
    "name",
    ["comparisons", "summary", "ranks", "mixed-models", "models", "models-comparisons", "missing"],
)
def test_every_row_and_column_of_a_table_is_in_the_page(page, results, name):
    frame = table(results, name)
    assert len(frame) > 0
    shown = page.data(name)
    assert f"({len(frame)} row" in page.by_id(f"table-{name}-caption").text
    assert set(shown) == set(frame)
    for column in frame:
        if pd.api.types.is_numeric_dtype(frame[column]) and frame[column].dtype != bool:
            np.testing.assert_allclose(shown[column], frame[column].astype(float), rtol=1e-5)
        else:
            assert list(shown[column]) == list(frame[column].astype(str))


def test_what_is_too_large_for_a_page_is_named_and_left_to_the_files(
    tmp_path, results, monkeypatch
):
    monkeypatch.setattr("clarity.report.build.MOST_ROWS", 10)
    monkeypatch.setattr("clarity.report.pictures.LARGEST", 10)
    page = build(results, tmp_path / "report.html")
    frame = table(results, "comparisons")
    shown = page.data("comparisons")
    assert len(shown) == sum(frame["baseline"] == results.baseline) < len(frame)
    assert "all pairs are in the files" in page.by_id("table-comparisons-caption").text
    assert len(page.data("summary")) == len(table(results, "summary"))
    for name in ("gallery-digits", "forest"):
        assert "too large for this page, see figures/" in page.by_id(name).text


def test_what_is_looked_for_first_is_shown_and_the_rest_can_be_chosen(page, results):
    (head,) = page.by_id("table-comparisons").find("thead")
    hidden = [cell.text.strip() for cell in head.find("th") if "hidden" in cell.attributes]
    assert set(hidden) == set(table(results, "comparisons")) - set(COMPARISON_COLUMNS) - {
        "ci_low",
        "ci_high",
    }
    boxes = [b for b in page.all("input") if b.attributes["type"] == "checkbox"]
    assert all(box.parents[-1].tag == "label" for box in boxes)
    choice = [b for b in boxes if b.parents[-3].attributes.get("class") == "choice"]
    assert len(choice) >= len(head.find("th"))


def test_filters_offer_every_name_that_a_table_holds(page, results):
    form = page.by_id("table-comparisons-filters")
    (head,) = page.by_id("table-comparisons").find("thead")
    columns = [cell.text.strip() for cell in head.find("th")]
    offered = {
        columns[int(pick.attributes["data-column"])]: {o.text for o in pick.find("option")}
        for pick in form.find("select")
    }
    frame = table(results, "comparisons")
    assert offered["method"] == {"all", *frame["method"]}
    assert offered["verdict"] == {"all", *frame["verdict"]}
    assert all(control.parents[-1].tag == "label" for control in form.find("select"))
    assert all(control.parents[-1].tag == "label" for control in form.find("input"))


def test_gaps_are_listed(page, results):
    coverage = table(results, "coverage")
    gaps = coverage[(coverage["ok"] < 1) | (coverage["n_cells_found"] < coverage["n_cells"])]
    assert 0 < len(gaps) < len(coverage)
    assert len(page.data("coverage")) == len(gaps)
    assert "gradcam cannot explain this model" in set(page.data("coverage")["reason"])
    assert page.data("missing")["reason"].str.contains("no such file").any()
    text = page.by_id("gaps").text
    summary = table(results, "summary")
    for column in ("n_incorrect", "n_nan", "n_unavailable"):
        assert f"{summary[column].sum():,} " in text


def test_a_whole_grid_says_that_nothing_is_missing(tmp_path):
    metrics = {"sparseness": METRICS["sparseness"]}
    results = Synthetic(tmp_path, metrics=metrics, seeds=(0, 1), datasets=("digits",)).write()
    draw_placeholders(results)
    text = build(results, tmp_path / "report.html").by_id("gaps").text
    assert "Every score of every cell is a number." in text
    assert "No file of the grid is missing." in text


def test_a_figure_or_a_manifest_that_is_not_there_is_named(tmp_path):
    results = Synthetic(tmp_path, seeds=(0, 1), datasets=("digits",)).write()
    for path in tmp_path.glob("dataset=*/loss=triplet/seed=*/manifest.json"):
        path.unlink()
    page = build(results, tmp_path / "report.html")
    assert "unavailable: no file figures/gallery-digits.png" in page.by_id("gallery-digits").text
    assert not page.all("img")
    assert "4 of 6 training runs have a manifest" in page.by_id("provenance").text


def test_versions_durations_and_config_are_those_of_the_runs(page, results):
    text = page.by_id("provenance").text
    assert "2.14.1" in text
    assert "18 of 18 training runs have a manifest" in text
    spent = page.data("run-times")
    row = spent[(spent["dataset"] == "digits") & (spent["loss"] == "triplet")].iloc[0]
    seconds = [
        storage.read_json(results.root / f"dataset=digits/loss=triplet/seed={seed}/manifest.json")[
            "seconds"
        ]
        for seed in results.seeds
    ]
    assert row["stage"] == "training"
    assert row["seconds"] == pytest.approx(np.mean(seconds), rel=1e-5)
    (config,) = page.by_id("provenance").find("pre")
    assert yaml.safe_load(config.text) == results.config()


def test_odd_names_are_shown_as_they_are_and_do_nothing(tmp_path):
    losses = ("ce+triplet", "<b>bold", "a&amp;b")
    metrics = {
        "<script>": METRICS["sparseness"],
        "<td>&lt;": METRICS["pixel-flipping"],
    }
    results = Synthetic(
        tmp_path,
        losses=losses,
        baseline="ce+triplet",
        metrics=metrics,
        seeds=(0, 1),
        datasets=("digits",),
        unavailable=[("a&amp;b", "gradcam")],
    ).write()
    page = build(results, tmp_path / "report.html")
    assert not page.all("b")
    assert len([one for one in page.all("script") if "type" not in one.attributes]) == 1
    cells = set(page.data("summary").astype(object).to_numpy().ravel())
    assert {*losses, *metrics} <= cells
    assert "ce+triplet" in page.by_id("answer").text


def test_runs_that_failed_are_told_where_the_answer_is_and_no_others(tmp_path):
    failed = [("digits", "triplet", 1)]
    results = Synthetic(tmp_path, seeds=(0, 1), datasets=("digits",), failed=failed).write()
    page = build(results, tmp_path / "report.html")
    note = page.by_id("failures")
    assert page.by_id("answer") in note.parents
    assert "1 of 6 training runs failed" in note.text
    assert "digits, triplet, seed 1: diverged in epoch 3, the loss is not finite." in note.text
    assert note.text.count("seed") == 1
    for row in page.rows("accuracy"):
        assert row[2:4] == (["1", "1"] if row[1] == "triplet" else ["2", "0"])
    models = page.data("models").set_index(["dataset", "loss", "seed"])
    told = models.loc["digits", "triplet", 1]
    assert (told["status"], told["status_epoch"]) == ("diverged", 3)
    assert np.isnan(told["accuracy"])
    assert np.isnan(told["ece"])


def test_where_no_run_failed_nothing_is_said_of_it(page):
    assert not [e for e in page.elements() if e.attributes.get("id") == "failures"]
    (head,) = page.by_id("accuracy").find("thead")
    assert "failed" not in [cell.text.strip() for cell in head.find("th")]


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("accuracy", {"accuracy", "geometry"}),
        ("trust", {"calibration", "out-of-distribution", "adversarial", "corruption"}),
    ],
)
def test_what_is_measured_of_models_is_shown_with_its_spread(page, results, name, groups):
    summary = table(results, "models-summary")
    summary = summary[summary["group"].isin(groups)].set_index(["dataset", "loss", "measure"])
    (head,) = page.by_id(name).find("thead")
    columns = [cell.text.strip().rstrip(" ↑↓") for cell in head.find("th")]
    spelt = {m.replace("_", " "): m for m in summary.index.unique("measure")}
    assert set(columns[3:]) == {m for m in spelt if not m.startswith("corruption-jpeg:")}
    rows = page.rows(name)
    assert len(rows) == 6
    for row in rows:
        for column, text in zip(columns[3:], row[3:], strict=True):
            key = (
                row[0],
                row[1],
                column.replace("accuracy ", "accuracy_").replace("scenes p", "scenes_p"),
            )
            if key not in summary.index:
                assert text == "–"
                continue
            mean, sd = summary.loc[key, ["mean", "sd"]]
            assert text == f"{mean:.3f} ± {sd:.3f}".replace("-", "−")


# Findings


def decided(results: Synthetic) -> pd.DataFrame:
    """Return the comparisons with verdicts of all kinds, as of a grid of more seeds."""
    rng = np.random.default_rng(0)
    frame = table(results, "comparisons")
    verdicts = rng.choice(["better", "worse", "inconclusive", "no data"], len(frame))
    return frame.assign(verdict=verdicts, n_runs=8)


def words(frame: pd.DataFrame, results: Synthetic) -> list[str]:
    return findings.answer(
        frame,
        table(results, "models-summary"),
        losses=results.losses,
        baseline=results.baseline,
        controls=results.controls,
        confidence=0.95,
    )


def test_the_answer_counts_what_the_table_holds(results):
    frame = decided(results)
    opening, counts, contrastivity, *_ = words(frame, results)
    own = frame[(frame["baseline"] == "cross-entropy") & ~frame["method"].isin(results.controls)]
    for sentence, rows in (
        (counts, own),
        (contrastivity, own[own["category"] == "contrastivity"]),
    ):
        for loss in ("triplet", "supcon"):
            mine = rows.loc[rows["loss"] == loss, "verdict"]
            expected = (
                f"{loss} is better in {sum(mine == 'better')}, worse in {sum(mine == 'worse')}, "
                f"inconclusive in {sum(mine == 'inconclusive')}, "
                f"without data in {sum(mine == 'no data')} of {len(mine)} comparisons"
            )
            assert expected.replace(", without data in 0 of", " of") in sentence
    verdicts = own["verdict"].isin(["better", "worse"]).sum()
    assert opening.startswith(f"{verdicts} of {len(own)} comparisons")


def test_the_table_of_verdicts_counts_what_the_table_holds(page, results):
    frame = table(results, "comparisons")
    own = frame[(frame["baseline"] == "cross-entropy") & ~frame["method"].isin(results.controls)]
    rows = page.rows("verdicts")
    assert [row[:2] for row in rows[-2:]] == [["all", "triplet"], ["all", "supcon"]]
    for category, loss, *numbers in rows:
        mine = own[(own["loss"] == loss) & ((own["category"] == category) | (category == "all"))]
        order = ("better", "worse", "different", "equivalent", "inconclusive", "no data")
        assert numbers[:6] == [str(sum(mine["verdict"] == verdict)) for verdict in order]
        leaning = sum(
            row["verdict"] == "inconclusive"
            and (row["difference"] > 0) == (row["direction"] == "higher")
            for row in mine.to_dict("records")
        )
        assert numbers[6] == f"{leaning} of {sum(mine['verdict'] == 'inconclusive')}"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("better", "inconclusive"), "the other losses do better"),
        (("worse", "inconclusive"), "the other losses do worse"),
        (("better", "worse"), "the verdicts are mixed"),
        (("inconclusive", "no data"), "does not decide the question"),
    ],
)
def test_the_opening_claims_no_more_than_the_verdicts(results, verdicts, expected):
    frame = decided(results)
    frame["verdict"] = np.resize(verdicts, len(frame))
    # Verdicts on controls, and of the others among each other, are no answer.
    frame.loc[frame["method"].isin(results.controls), "verdict"] = "better"
    frame.loc[frame["baseline"] != results.baseline, "verdict"] = "worse"
    assert expected in words(frame, results)[0]


def test_three_seeds_are_said_to_prove_nothing(page):
    text = page.by_id("answer").text
    assert "smallest p that the exact paired test can give is 0.25" in text
    assert "nothing can be significant" in text


def test_six_seeds_are_not_said_to_prove_nothing(results):
    text = " ".join(words(decided(results).assign(n_runs=6), results))
    assert "is 0.0312" in text
    assert "nothing can be" not in text


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize("family", [1, 2, 5, 20, 33, 160])
def test_the_seeds_needed_are_the_fewest_that_can_do(family, confidence):
    frame = pd.DataFrame({"family": "m", "method": "x", "n_runs": 3}, index=range(family))
    found = findings.power(frame, [], confidence)
    enough = [n for n in range(1, 40) if family * 2 / 2**n < round(1 - confidence, 12)]
    assert found.family == family
    assert found.runs_needed == enough[0]


def test_a_grid_with_nothing_to_compare_says_so(results):
    frame = table(results, "comparisons").iloc[:0]
    assert words(frame, results) == ["There is nothing to compare with cross-entropy yet."]


def summary(rows: list[tuple]) -> pd.DataFrame:
    columns = ["metric", "category", "direction", "loss", "method", "mean"]
    return pd.DataFrame(rows, columns=columns).assign(dataset="d")


def test_controls_are_last_only_where_every_method_is_strictly_better():
    frame = summary(
        [
            ("m", "faithfulness", direction, loss, method, mean if direction == "higher" else -mean)
            for direction in ("higher",)
            for loss, means in {
                "last": {"a": 2.0, "b": 3.0, "noise": 1.0},
                "tie": {"a": 1.0, "b": 3.0, "noise": 1.0},
                "middle": {"a": 0.0, "b": 3.0, "noise": 1.0},
                "first": {"a": 0.0, "b": 0.5, "noise": 1.0},
                "unknown": {"a": 0.0, "b": 0.5, "noise": np.nan},
            }.items()
            for method, mean in means.items()
        ]
    )
    for direction in ("higher", "lower"):
        sign = 1 if direction == "higher" else -1
        flipped = frame.assign(direction=direction, mean=sign * frame["mean"])
        (place,) = findings.control_places(flipped, ["a", "b", "noise"], ["noise"]).to_dict(
            "records"
        )
        assert (place["n_last"], place["n_first"], place["n_groups"]) == (1, 1, 4)
    undirected = frame.assign(direction="none")
    assert findings.control_places(undirected, ["a", "b", "noise"], ["noise"]).empty


def test_a_metric_that_noise_wins_is_named_and_one_that_it_loses_is_praised():
    frame = summary(
        [
            ("flip", "faithfulness", "higher", "ce", "a", 2.0),
            ("flip", "faithfulness", "higher", "ce", "noise", 1.0),
            ("ssim", "contrastivity", "lower", "ce", "a", 2.0),
            ("ssim", "contrastivity", "lower", "ce", "noise", 1.0),
        ]
    )
    text = findings.controls_say(findings.control_places(frame, ["a", "noise"], ["noise"]))
    assert any("last" in sentence and "flip" in sentence for sentence in text)
    assert not any("last" in sentence and "ssim" in sentence for sentence in text)
    assert any("above every method" in s and "ssim (noise)" in s for s in text)
    assert any("reward noise" in sentence for sentence in text)


def test_a_grid_without_controls_says_so():
    places = findings.control_places(summary([("m", "x", "higher", "ce", "a", 1.0)]), ["a"], [])
    assert findings.controls_say(places) == [
        "The grid has no control method to hold its metrics against."
    ]


# Across the grid


def mixed(**changes) -> pd.DataFrame:
    row = {
        "scope": "verdict",
        "category": "contrastivity",
        "loss": "triplet",
        "estimate": 0.3,
        "ci_low": 0.1,
        "ci_high": 0.5,
        "estimate_given_accuracy": -0.04,
        "ci_low_given_accuracy": -0.2,
        "ci_high_given_accuracy": 0.12,
    }
    return pd.DataFrame([row | changes])


def separated(**changes) -> pd.DataFrame:
    row = {
        "scope": "verdict",
        "measure": "silhouette",
        "n_runs": 18,
        "n_losses": 3,
        "spearman": 0.42,
        "partial": -0.1,
        "ci_low": 0.05,
        "ci_high": 0.7,
        "partial_low": np.nan,
        "partial_high": np.nan,
    }
    return pd.DataFrame([row | changes])


def stable(**changes) -> pd.DataFrame:
    row = {
        "over": "methods",
        "category": "contrastivity",
        "n_pairs": 12,
        "flips": 0.25,
        "n_verdicts": 3.0,
        "flips_verdicts": 1 / 3,
    }
    return pd.DataFrame([row | changes, row | {"over": "seeds", "flips": 1.0}])


def told(*tables, stability=None) -> str:
    held = stable() if stability is None else stability
    return " ".join(findings.across(*tables, held, baseline="ce", margin=0.2))


def test_the_answer_across_the_grid_says_what_the_tables_say():
    text = told(mixed(), separated())
    assert (
        "triplet lies +0.30 from ce (+0.10 to +0.50; given accuracy −0.04, −0.20 to +0.12)" in text
    )
    assert "the interval does not exclude 0.2, the smallest difference of interest" in text
    assert "a correlation of +0.42 (+0.05 to +0.70)" in text
    assert "18 training runs of 3 losses" in text
    assert "−0.10 given accuracy" in text
    assert "opposite signs in 25 % of 12 pairs of methods" in text
    assert "opposite in 1 of 3" in text


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (-0.1, 0.19, "all of the interval is below the smallest"),
        (0.21, 0.4, "all of the interval is beyond the smallest"),
        (-0.5, -0.3, "all of the interval is beyond the smallest"),
        (-0.3, 0.1, "does not exclude 0.2"),
        (0.1, 0.3, "does not exclude 0.2"),
    ],
)
def test_an_interval_is_held_against_the_smallest_difference_of_interest(low, high, words):
    assert words in told(mixed(ci_low=low, ci_high=high), separated())


def test_what_is_not_there_is_not_told():
    nothing = mixed(scope="metric")
    assert told(nothing, separated()) == ""
    text = told(mixed(estimate_given_accuracy=np.nan), separated().iloc[:0])
    assert "given accuracy" not in text
    assert "correlation" not in text
    assert "verdict, better" not in told(
        mixed(), separated(), stability=stable(n_verdicts=0.0, flips_verdicts=np.nan)
    )


def test_named_hypotheses_are_told_apart(results):
    frame = decided(results)
    own = frame["baseline"].eq("cross-entropy") & ~frame["method"].isin(results.controls)
    frame.loc[own & (frame["metric"] == "sparseness"), "family"] = "primary"
    text = " ".join(
        findings.answer(
            frame,
            table(results, "models-summary"),
            losses=results.losses,
            baseline="cross-entropy",
            controls=results.controls,
            confidence=0.95,
            families=["primary", "absent"],
        )
    )
    assert "named in advance (primary)" in text
    assert "absent" not in text
