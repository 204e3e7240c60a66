"""Promises of the report in a browser: it opens from disk, and its tables can be worked with."""

import shutil

import pytest
from synthetic import Synthetic
from test_report import build, draw_placeholders, table

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this system")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    made = Synthetic(tmp_path_factory.mktemp("results"), seeds=(0, 1), datasets=("digits",)).write()
    draw_placeholders(made)
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
    # The placeholders of figures are no pictures, which is no error of the page.
    assert [line for line in said if "ERR_INVALID" not in line] == []
    opened.close()


def shown(page, name: str) -> list[list[str]]:
    rows = page.locator(f"#table-{name} tbody tr:visible")
    return [row.split("\t") for row in rows.all_inner_texts()]


def columns(page, name: str) -> list[str]:
    return page.locator(f"#table-{name} thead th button").all_inner_texts()


def test_a_filter_leaves_the_rows_of_the_table_that_have_the_value(page, results):
    frame = table(results, "comparisons")
    assert len(shown(page, "comparisons")) == len(frame)
    place = columns(page, "comparisons").index("method")
    page.select_option(f"#table-comparisons-filters select[data-column='{place}']", "gradcam")
    expected = frame[frame["method"] == "gradcam"]
    assert len(shown(page, "comparisons")) == len(expected) > 0
    page.fill("#table-comparisons-filters input[type=search]", "supcon")
    both = expected[(expected["loss"] == "supcon") | (expected["baseline"] == "supcon")]
    assert len(shown(page, "comparisons")) == len(both) > 0
    page.click("#table-comparisons-filters button[type=reset]")
    assert len(shown(page, "comparisons")) == len(frame)


def test_a_column_sorts_both_ways_by_keyboard(page, results):
    place = columns(page, "summary").index("mean")
    button = page.locator("#table-summary thead th button").nth(place)
    expected = table(results, "summary")["mean"].dropna()
    for order in ("ascending", "descending"):
        button.focus()
        page.keyboard.press("Enter")
        assert (
            page.locator("#table-summary thead th").nth(place).get_attribute("aria-sort") == order
        )
        values = [row[place].replace("−", "-") for row in shown(page, "summary")]
        numbers = [float(value) for value in values if value != "–"]
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert len(numbers) == len(expected)


def test_a_narrow_window_does_not_scroll_sideways(browser, results):
    opened = browser.new_page(viewport={"width": 360, "height": 800})
    opened.goto((results.root / "report.html").as_uri())
    widths = opened.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
    opened.close()
