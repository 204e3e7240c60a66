"""Promises of the report in a browser: it opens from disk; tables and explorer do as they say."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from synthetic import Synthetic
from test_report import build, draw_placeholders, table

from clarity import storage

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

#: Rows of a page of a table.
ROWS = 25
LOSSES = ("cross-entropy", "triplet", "supcon")
#: The name of a class, which a page that takes it for markup would load and run.
HOSTILE = "</script><img src=x onerror=console.error({0})>&{0}"

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this system")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    made = Synthetic(
        tmp_path_factory.mktemp("results"),
        seeds=(0, 1),
        unavailable=[("triplet", "saliency")],
        scene_images=30,
    ).write()
    # Whoever names a folder of pictures names a class: nothing of it may become part of the page.
    pictures = made.root / "dataset=digits/evaluation.safetensors"
    tensors, metadata = storage.read_tensors(pictures)
    names = [HOSTILE.format(digit) for digit in json.loads(metadata["classes"])]
    storage.write_tensors(pictures, tensors, {**metadata, "classes": json.dumps(names)})
    draw_placeholders(made)
    # The statistic of ranks that are the same in every block is infinite.
    file = made.root / "tables/ranks.parquet"
    ranks = storage.read_table(file)
    storage.write_table(file, ranks.assign(iman_davenport=[np.inf, *ranks["iman_davenport"][1:]]))
    build(made, made.root / "report.html")
    return made


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, results):
    opened = browser.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on(
        "request", lambda request: said.append(request.url) if request.url[:4] == "http" else None
    )
    opened.goto((results.root / "report.html").as_uri())
    yield opened
    assert said == []
    opened.close()


def opened_table(page, name: str):
    """Go to a table, which is drawn when it is seen."""
    root = page.locator(f".data-table[data-table={name}]")
    root.scroll_into_view_if_needed()
    page.wait_for_selector(f".data-table[data-table={name}].drawn")
    return root


def status(page, name: str) -> str:
    return page.inner_text(f"#table-{name}-filters [role=status]")


def matching(page, name: str) -> int:
    return int(status(page, name).split(" of ")[0].replace(",", ""))


def shown(page, name: str) -> pd.DataFrame:
    """Return the rows of the page of a table that is shown, as they are read."""
    heads = page.locator(f"#table-{name} thead th:visible button").all_inner_texts()
    rows = page.locator(f"#table-{name} tbody tr").all()
    return pd.DataFrame([row.locator("td").all_inner_texts() for row in rows], columns=heads)


def read(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


def test_a_page_of_a_table_says_what_the_table_says(page, results):
    opened_table(page, "comparisons")
    frame = table(results, "comparisons")
    assert len(frame) > ROWS
    rows = shown(page, "comparisons")
    assert len(rows) == ROWS
    for told, row in zip(rows.to_dict("records"), frame.to_dict("records"), strict=False):
        for column in ("dataset", "method", "metric", "loss", "baseline", "verdict"):
            assert told[column] == row[column]
        for column in ("difference", "hedges_g", "mean"):
            if np.isnan(row[column]):
                assert told[column] == "–"
            else:
                assert read(told[column]) == pytest.approx(row[column], rel=6e-3)
        low, _, high = told["interval"].partition(" to ")
        if np.isfinite(row["ci_low"]):
            assert read(low) == pytest.approx(row["ci_low"], rel=6e-3)
            assert read(high) == pytest.approx(row["ci_high"], rel=6e-3)


def test_an_infinite_number_is_no_missing_one(page):
    opened_table(page, "ranks")
    assert shown(page, "ranks")["iman_davenport"].iloc[0] == "∞"


def test_a_filter_leaves_the_rows_of_the_table_that_have_the_value(page, results):
    root = opened_table(page, "comparisons")
    frame = table(results, "comparisons")
    assert matching(page, "comparisons") == len(frame)
    root.locator("select").nth(list(choices(page)).index("method")).select_option("gradcam")
    expected = frame[frame["method"] == "gradcam"]
    assert matching(page, "comparisons") == len(expected) > 0
    page.fill("#table-comparisons-filters input[type=search]", "supcon")
    both = expected[(expected["loss"] == "supcon") | (expected["baseline"] == "supcon")]
    assert matching(page, "comparisons") == len(both) > 0
    assert set(shown(page, "comparisons")["method"]) == {"gradcam"}
    page.click("#table-comparisons-filters button.all")
    assert matching(page, "comparisons") == len(frame)
    page.fill("#table-comparisons-filters input[type=search]", "no such word")
    assert matching(page, "comparisons") == 0
    assert shown(page, "comparisons").empty


def choices(page) -> list[str]:
    labels = page.locator("#table-comparisons-filters label:has(select)").all()
    return [label.inner_text().split("\n")[0].strip() for label in labels]


def test_the_pages_of_a_table_hold_each_row_once(page, results):
    root = opened_table(page, "summary")
    frame = table(results, "summary")
    found = []
    while True:
        found.append(shown(page, "summary"))
        following = root.locator("button[value=next]")
        if following.is_disabled():
            break
        following.click()
    rows = pd.concat(found, ignore_index=True)
    keys = ["dataset", "method", "metric", "loss"]
    assert rows[keys].to_numpy().tolist() == frame[keys].to_numpy().tolist()
    root.locator("button[value=first]").click()
    assert root.locator("button[value=back]").is_disabled()
    assert f"rows 1 to {ROWS} shown" in status(page, "summary")


def test_a_column_sorts_both_ways_by_keyboard_and_missing_numbers_come_last(page, results):
    opened_table(page, "summary")
    heads = page.locator("#table-summary thead th")
    place = heads.all_inner_texts().index("mean")
    expected = table(results, "summary")["mean"].dropna()
    for order, best in (("ascending", expected.min()), ("descending", expected.max())):
        heads.nth(place).locator("button").focus()
        page.keyboard.press("Enter")
        assert heads.nth(place).get_attribute("aria-sort") == order
        values = [read(value) for value in shown(page, "summary")["mean"]]
        assert values == sorted(values, reverse=order == "descending")
        assert values[0] == pytest.approx(best, rel=6e-3)
    page.click(".data-table[data-table=summary] button[value=last]")
    assert shown(page, "summary")["mean"].iloc[-1] == "–"


def test_columns_are_shown_and_hidden_as_they_are_chosen(page, results):
    root = opened_table(page, "comparisons")
    before = list(shown(page, "comparisons"))
    assert "rank_biserial" not in before
    root.locator(".choice summary").click()
    root.locator(".choice label", has_text="rank_biserial").locator("input").check()
    root.locator(".choice label", has_text="hedges_g").locator("input").uncheck()
    after = shown(page, "comparisons")
    assert set(after) == {*before, "rank_biserial"} - {"hedges_g"}
    values = table(results, "comparisons")["rank_biserial"]
    for text, value in zip(after["rank_biserial"], values, strict=False):
        assert text == "–" if np.isnan(value) else read(text) == pytest.approx(value, rel=6e-3)


def test_the_rows_that_match_are_saved_as_csv(page, results, tmp_path):
    root = opened_table(page, "summary")
    page.fill("#table-summary-filters input[type=search]", "triplet gradcam")
    with page.expect_download() as download:
        root.locator("button.save").click()
    download.value.save_as(tmp_path / "rows.csv")
    saved = pd.read_csv(tmp_path / "rows.csv")
    frame = table(results, "summary")
    expected = frame[(frame["loss"] == "triplet") & (frame["method"] == "gradcam")]
    assert len(saved) == len(expected) > 0
    np.testing.assert_allclose(saved["mean"], expected["mean"], rtol=1e-5)


def test_a_figure_is_shown_when_it_comes_into_view(page):
    figure = page.locator("#forest img")
    figure.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#forest img').naturalWidth > 0")
    assert figure.get_attribute("src").startswith("blob:")


def test_all_figures_are_there_for_the_printer(page):
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.wait_for_function(
        "Array.from(document.querySelectorAll('figure img')).every(one => one.src)"
    )
    sources = page.locator("figure img").evaluate_all("all => all.map(one => one.src)")
    assert len(sources) == len(set(sources)) > 10


# The explorer


@pytest.fixture
def explorer(page):
    page.locator("#explorer").scroll_into_view_if_needed()
    page.wait_for_selector("#explorer-maps tbody tr")
    return page


def picked(page) -> dict[tuple[str, str], str]:
    """Return what each cell of the board says, by method and loss."""
    losses = page.locator("#explorer-maps thead th span").all_inner_texts()
    rows = page.locator("#explorer-maps tbody tr").all()
    return {
        (row.locator("th").inner_text().removesuffix(" (control)"), loss): cell.inner_text()
        for row in rows
        for loss, cell in zip(losses, row.locator("td").all(), strict=True)
    }


def pick(page, name: str, value: str) -> None:
    page.locator(f"#explorer-form select[name={name}]").select_option(label=value)
    page.wait_for_timeout(300)


def test_the_explorer_shows_losses_and_methods_that_are_chosen(explorer, results):
    assert set(picked(explorer)) == {(m, loss) for m in ("saliency", "gradcam") for loss in LOSSES}
    explorer.locator("#explorer-methods label", has_text="random").locator("input").check()
    explorer.locator("#explorer-losses label", has_text="triplet").locator("input").uncheck()
    kept = ("cross-entropy", "supcon")
    chosen = {(m, loss) for m in ("saliency", "gradcam", "random") for loss in kept}
    assert set(picked(explorer)) == chosen
    pick(explorer, "dataset", "scenes")
    assert set(picked(explorer)) == chosen
    explorer.locator("#explorer-losses button[value=none]").click()
    assert explorer.locator("#explorer-maps").is_hidden()
    explorer.locator("#explorer-losses button[value=all]").click()
    assert {loss for _, loss in picked(explorer)} == set(LOSSES)


def test_class_names_are_words_and_nothing_else(explorer):
    """What the page would load or run, the fixture of the page would have heard."""
    assert "</script><img src=x onerror=console.error(" in explorer.inner_text("#explorer-told")
    assert explorer.locator("img[src=x]").count() == 0


def test_the_explorer_says_why_there_is_no_map(explorer):
    said = picked(explorer)
    assert "unavailable: saliency cannot explain this model" in said["saliency", "triplet"]
    assert "unavailable" not in said["gradcam", "triplet"]


def test_the_scores_of_the_explorer_are_those_of_the_image(explorer, results):
    pick(explorer, "scores", "all")
    radios = explorer.locator("#explorer-images input")
    radios.nth(0).focus()
    for place in range(2):
        row = int(explorer.inner_text("#explorer-told").split(",")[0].removeprefix("Image "))
        for (method, loss), said in picked(explorer).items():
            path = f"dataset=digits/loss={loss}/seed=0/method={method}/scores.parquet"
            scores = storage.read_table(results.root / path)
            mine = scores[scores["image"] == row].set_index("metric")["value"].dropna()
            for metric, value in mine.items():
                shown = said.split(str(metric))[1].split("\n")[1].strip()
                assert read(shown) == pytest.approx(value, rel=6e-3)
        if place == 0:
            explorer.keyboard.press("ArrowRight")
            explorer.wait_for_function(
                f"!document.getElementById('explorer-told').textContent.includes('Image {row},')"
            )


def colours(page, method: str, loss: str) -> np.ndarray:
    """Return the pixels of a map of the board: [H, W, 3], as many as the map has."""
    canvas = page.locator(f"canvas[aria-label$='by {method}, {loss}']")
    data = canvas.evaluate(
        "one => ({ width: one.width, height: one.height, pixels:"
        " Array.from(one.getContext('2d').getImageData(0, 0, one.width, one.height).data) })"
    )
    return np.array(data["pixels"]).reshape(data["height"], data["width"], 4)[..., :3]


def test_a_map_has_the_signs_of_the_stored_one(explorer, results):
    path = "dataset=digits/loss=supcon/seed=0/method=gradcam/attributions.safetensors"
    stored = storage.read_tensor_rows(results.root / path, "maps", [1])[0]
    explorer.locator("#explorer-images label").nth(1).click()
    explorer.wait_for_timeout(300)
    label, foil = stored
    for choice, values in ((0, label), (1, foil), (2, label - foil)):
        explorer.locator("#explorer-form select[name=class]").select_option(index=choice)
        explorer.wait_for_timeout(200)
        pixels = colours(explorer, "gradcam", "supcon").astype(int)
        assert pixels.shape[:2] == values.shape
        strong = np.abs(values) > 0.2 * np.percentile(np.abs(values), 99)
        assert strong.sum() > 20
        red = pixels[..., 0] > pixels[..., 2]
        np.testing.assert_array_equal(red[strong], values[strong] > 0)


def test_objects_are_outlined_where_it_is_known_where_they_are(explorer, results):
    pick(explorer, "dataset", "scenes")
    pixels = colours(explorer, "gradcam", "cross-entropy")
    masks = storage.read_tensor_rows(
        results.root / "dataset=scenes/evaluation.safetensors", "masks", [0]
    )
    assert pixels.shape[0] > 2 * masks.shape[-1]
    assert (pixels.max(axis=2) == 0).any()


# The window


def test_a_narrow_window_does_not_scroll_sideways(browser, results):
    opened = browser.new_page(viewport={"width": 360, "height": 800})
    opened.goto((results.root / "report.html").as_uri())
    for section in ("explorer", "tables", "provenance"):
        opened.locator(f"#{section}").scroll_into_view_if_needed()
        opened.wait_for_timeout(300)
        widths = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1]
    opened.close()


def test_without_scripts_the_page_says_where_everything_is(browser, results):
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((results.root / "report.html").as_uri())
    text = opened.inner_text("main")
    assert "need JavaScript" in text
    assert "figures" in text
    assert opened.locator("#verdicts tbody tr").count() > 0
    context.close()
