"""Reports in a real browser, wide and narrow. Needs playwright and a Chromium."""

from __future__ import annotations

import pytest
from in_browser import check_boxes, launched, needs_browser, open_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = needs_browser

KINDS = ("one", "two", "twenty")


@pytest.fixture(scope="module")
def browser():
    with launched() as opened:
        yield opened


@pytest.fixture
def show(browser, reports):
    pages = []

    def show(kind, width):
        pages.append(open_page(browser, reports[kind], width))
        return pages[-1]

    yield show
    for page in pages:
        page.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_overflows_and_every_column_can_be_reached(show, kind, width):
    found = check_boxes(show(kind, width), width)
    if kind == "twenty" and width == 400:
        assert any(box["wide"] for box in found)


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
