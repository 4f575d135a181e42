"""The page in a real browser: mouse, keys, a small screen. Needs playwright and a Chromium."""

from __future__ import annotations

import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")


@pytest.fixture
def page(served):
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(served)
        playwright.expect(page.locator("#about")).to_contain_text("30 codes of length 8")
        yield page
        browser.close()


def shows(page, where, text):
    playwright.expect(page.locator(where)).to_contain_text(text)


def decoded(page):
    return page.locator("#decoded").screenshot()


def begin(page):
    page.click("#sample")
    shows(page, "#message", "192×128 pixels, 32×48 tokens, 960 bytes.")
    playwright.expect(page.locator("#save")).to_have_attribute("aria-disabled", "false")


def test_painting_with_the_mouse(page):
    begin(page)
    before = decoded(page)
    codes = page.locator("#codes").bounding_box()
    page.mouse.click(codes["x"] + codes["width"] * 0.42, codes["y"] + codes["height"] * 0.25)
    shows(page, "#token", "Painting with code 8.")
    tokens = page.locator("#tokens").bounding_box()
    page.mouse.move(tokens["x"] + tokens["width"] * 0.2, tokens["y"] + tokens["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(
        tokens["x"] + tokens["width"] * 0.7, tokens["y"] + tokens["height"] * 0.6, steps=20
    )
    page.mouse.up()
    shows(page, "#token", "Row 20, column 34: code 8")
    page.wait_for_timeout(500)
    assert decoded(page) != before
    page.click("#reset")
    page.wait_for_timeout(500)
    assert decoded(page) == before
    assert page.complaints == []


def test_painting_with_the_keyboard(page):
    page.focus("#sample")
    page.keyboard.press("Enter")
    shows(page, "#message", "32×48 tokens")
    page.focus("#tokens")
    first = page.text_content("#token")
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    shows(page, "#token", "Row 2, column 2")
    page.keyboard.press("+")
    shows(page, "#token", "(was ")
    page.keyboard.press("Delete")
    assert "(was " not in page.text_content("#token")
    for key in ("ArrowLeft", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    assert page.text_content("#token") == first
    page.focus("#codes")
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    shows(page, "#token", "Painting with code 7.")
    page.keyboard.press("Escape")
    assert "Painting" not in page.text_content("#token")
    assert page.complaints == []


def test_a_dropped_file_that_is_not_an_image(page, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "a.png")
    shows(page, "#message", "expected an image")
    playwright.expect(page.locator("#message")).to_have_class("error")
    begin(page)
    playwright.expect(page.locator("#message")).not_to_have_class("error")


def test_a_small_screen(page):
    page.set_viewport_size({"width": 360, "height": 700})
    begin(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [page.locator(f"#{name}").bounding_box() for name in ("picture", "tokens", "decoded")]
    assert boxes[0]["y"] < boxes[1]["y"] < boxes[2]["y"]
