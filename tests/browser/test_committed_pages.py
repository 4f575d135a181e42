"""The pages of studies and reports that the repository holds, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_browser import check_boxes, launched, needs_browser, open_page, violations

RESULTS = Path(__file__).parents[2] / "results"
PAGES = sorted(RESULTS.glob("**/*.html"))
pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def browser():
    with launched() as opened:
        yield opened


def test_the_pages_are_found():
    assert {"ablations.html", "reproduction.html", "report.html"} == {p.name for p in PAGES}


def test_faults_are_found(browser):
    page = browser.new_page()
    page.set_content("<button></button><p style='color: #ccc; background: #fff'>faint</p>")
    assert {"button-name", "color-contrast"} <= {rule for rule, _ in violations(page)}
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (400, "dark")])
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(RESULTS)))
def test_everything_can_be_reached_and_read(browser, path, width, scheme):
    page = open_page(browser, path, width, scheme)
    check_boxes(page, width)
    assert violations(page) == []
    page.close()
