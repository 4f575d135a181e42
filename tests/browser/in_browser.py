"""A real browser, and what every page must pass in it. Needs playwright and a Chromium."""

from __future__ import annotations

import shutil
from contextlib import contextmanager

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

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


@contextmanager
def launched():
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser, file, width, scheme="light"):
    """The page of a file with everything unfolded; `complaints` and `fetched` are collected."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.complaints, page.fetched = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.fetched.append(request.url.partition(":")[0]))
    page.goto(file.as_uri())
    page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    page.wait_for_timeout(100)
    return page


def check_boxes(page, width):
    """Nothing overflows, and the last column of every table can be reached; the boxes."""
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = page.eval_on_selector_all(".scroll", SCROLLED)
    assert found
    for box in found:
        assert box["says"] == box["focusable"] == box["wide"]
        assert box["firstStays"] and box["lastShows"]
        assert box["single"] or box["lastIsFree"], "the last column is hidden by the first"
    assert page.complaints == []
    assert set(page.fetched) <= {"file", "data"}
    return found


def violations(page):
    """The rules of axe-core on contrast, names and structure that a page breaks, and where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    found = axe.Axe().run(page).response["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]][:5]) for each in found]
