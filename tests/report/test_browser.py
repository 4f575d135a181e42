"""Reports in a real browser, wide and narrow. Needs playwright and a Chromium."""

from __future__ import annotations

import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

KINDS = ("one", "two", "twenty")

# For each scrolling box: whether it says so, whether it can be reached by the keyboard, and where
# the first and the last cell of its first row end up when it is scrolled to the end.
SCROLLED = """boxes => boxes.map(box => {
  const row = box.querySelector("tr"), {left, right} = box.getBoundingClientRect();
  box.scrollLeft = 1e6;
  const [first, last] = [row.cells[0], row.cells[row.cells.length - 1]].map(
    cell => cell.getBoundingClientRect());
  return {
    wide: box.scrollWidth > box.clientWidth + 1, says: box.classList.contains("wide"),
    focusable: box.tabIndex === 0, single: row.cells.length === 1,
    firstStays: Math.abs(first.left - left) < 12, lastShows: last.right <= right + 1,
    lastIsFree: last.left >= first.right - 1,
  };
})"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def show(browser, reports):
    pages = []

    def show(kind, width):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.complaints, page.fetched = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.fetched.append(request.url.partition(":")[0]))
        page.goto(reports[kind].as_uri())
        page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
        page.wait_for_timeout(100)
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_overflows_and_every_column_can_be_reached(show, kind, width):
    page = show(kind, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = page.eval_on_selector_all(".scroll", SCROLLED)
    assert found
    for box in found:
        assert box["says"] == box["focusable"] == box["wide"]
        assert box["firstStays"] and box["lastShows"]
        assert box["single"] or box["lastIsFree"], "the last column is hidden by the first"
    if kind == "twenty" and width == 400:
        assert any(box["wide"] for box in found)
    assert page.complaints == []
    assert set(page.fetched) <= {"file", "data"}


def test_a_click_or_the_enter_key_sorts_the_runs(show):
    page = show("twenty", 1200)
    column = page.locator("table.sortable thead th", has_text="MSE")
    place = column.evaluate("head => head.cellIndex + 1")
    cells = page.locator(f"table.sortable tbody tr > :nth-child({place})")
    before = [float(text) for text in cells.all_text_contents()]
    assert len(before) == 20 and before == sorted(before)
    column.click()
    column.click()
    playwright.expect(column).to_have_attribute("aria-sort", "descending")
    playwright.expect(cells.first).to_have_text(f"{before[-1]:.4g}")
    assert [float(text) for text in cells.all_text_contents()] == sorted(before, reverse=True)
    column.press("Enter")
    playwright.expect(cells.first).to_have_text(f"{before[0]:.4g}")


def test_a_picture_is_enlarged_inside_its_frame(show):
    page = show("one", 400)
    figure = page.locator("figure").first
    before = figure.locator("img").bounding_box()["width"]
    figure.get_by_label("Enlarge").check()
    assert figure.locator("img").bounding_box()["width"] > 2 * before
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_twenty_runs_are_one_small_file_that_opens_at_once(browser, reports):
    assert reports["twenty"].stat().st_size < 3e6
    page = browser.new_page()
    tools = page.context.new_cdp_session(page)
    # The time of the page's own thread, which other programs do not lengthen.
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(reports["twenty"].as_uri())
    page.wait_for_timeout(100)
    metrics = {m["name"]: m["value"] for m in tools.send("Performance.getMetrics")["metrics"]}
    assert 0 < metrics["TaskDuration"] < 1
    page.close()
