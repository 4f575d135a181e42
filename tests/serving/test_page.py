"""The page in a real browser. Needs playwright and a Chromium."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from in_browser import launched, needs_browser, violations
from PIL import Image
from scipy import ndimage

from rotvq.tokens.file import load_tokens, to_npz

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, needs_browser]
playwright.expect.set_options(timeout=30_000)
expect = playwright.expect


RESET = """() => import('/state.js').then(({ $, say }) => {
  say('');
  history.replaceState(null, '', '/');
  $('effort').value = 0;
  $('size').value = 3;
  for (const value of ['paint', 'tokens']) document.querySelector(`[value=${value}]`).click();
  document.querySelector('[name=model]').click();
  document.querySelector('#photographs button').click();
})"""
DECODED = """async () => {
  const { state } = await import('/state.js');
  while (!state.sheets.every((each) => each?.decoded)) await new Promise((r) => setTimeout(r, 20));
}"""
JOINED = """async () => {
  const { line } = await import('/stroke.js'), wrong = [];
  for (let x = -20; x <= 20; x++) for (let y = -20; y <= 20; y++) {
    const cells = line([3, 4], [3 + x, 4 + y]), [first, last] = [cells[0], cells.at(-1)];
    const joined = cells.every(([a, b], i) =>
      !i || Math.max(Math.abs(a - cells[i - 1][0]), Math.abs(b - cells[i - 1][1])) <= 1);
    if (!joined || `${first} ${last}` !== `3,4 ${3 + x},${4 + y}`) wrong.push([x, y]);
  }
  return wrong;
}"""


@pytest.fixture(scope="module")
def opened(served_all):
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(served_all)
        ready(page)
        yield page


@pytest.fixture
def page(opened):
    """The page as it opens. A page for each test would take most of the time."""
    opened.complaints.clear()
    opened.set_viewport_size({"width": 1200, "height": 900})
    opened.evaluate(RESET)
    ready(opened)
    yield opened
    assert opened.complaints == []


def ready(page):
    """The photograph is decoded."""
    expect(page.locator("#message")).to_contain_text("192×128 pixels are 48×32 tokens")
    page.evaluate(DECODED)


def tokens(page):
    """The tokens of the active model, as the page holds them."""
    return np.array(page.evaluate("import('/state.js').then((s) => [...s.sheet().tokens])"))


def codes(page):
    found = "import('/state.js').then((s) => [s.sheet().rows, s.sheet().columns, s.state.brush])"
    rows, columns, brush = page.evaluate(found)
    return tokens(page).reshape(rows, columns), brush


def pixels(page, canvas):
    content = page.evaluate(f"document.getElementById('{canvas}').toDataURL().split(',')[1]")
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image.convert("RGB"))


def stroke(page, *places, size="1"):
    """Paint along shares of the picture, without a point between them."""
    page.select_option("#size", size)
    page.locator("#tokens").scroll_into_view_if_needed()
    box = page.locator("#tokens").bounding_box()
    for i, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if not i:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator("#decoded")).to_have_attribute("aria-busy", "false")


def test_it_opens_on_an_encoded_picture_and_says_what_to_do(page):
    assert re.sub(r"\s+", " ", " ".join(page.locator(".panels h2").all_text_contents())) == (
        "1 Pick 2 Paint 3 Compare"
    )
    expect(page.locator("#models")).to_have_text("firstsecond")
    expect(page.locator("#about")).to_have_text("30 codes: 5 bits for each 4×4 pixels")
    expect(page.locator("#message")).to_contain_text("192×128 pixels are 48×32 tokens")
    expect(page.locator("#bytes")).to_have_text("960 bytes")
    found = pixels(page, "decoded")
    error = np.square(pixels(page, "left") - found.astype(float)).mean()
    expect(page.locator("#error")).to_have_text(f"{10 * np.log10(255**2 / error):.2f} dB")


def test_a_fast_stroke_leaves_no_gap_and_is_one_step_of_undo(page):
    before, brush = codes(page)
    bytes_before, error = pixels(page, "decoded"), page.text_content("#error")
    stroke(page, (0.05, 0.1), (0.95, 0.9), (0.5, 0.1))
    after, _ = codes(page)
    painted = after == brush
    columns = np.flatnonzero(painted.any(0))
    assert np.array_equal(columns, np.arange(2, 46)), "a column between the ends is left out"
    for first, second in pairwise(columns):
        rows, following = (np.flatnonzero(painted[:, i]) for i in (first, second))
        assert np.abs(rows[:, None] - following).min() <= 1, "not joined"
    assert np.array_equal(after[~painted], before[~painted])
    expect(page.locator("#error")).not_to_have_text(error)
    assert not np.array_equal(pixels(page, "decoded"), bytes_before)
    page.keyboard.press("Control+z")
    assert np.array_equal(tokens(page), before.flatten())
    expect(page.locator("#error")).to_have_text(error)
    expect(page.locator("#undo")).to_be_disabled()
    page.keyboard.press("Control+Shift+Z")
    assert np.array_equal(tokens(page), after.flatten())


def test_every_line_of_tokens_is_joined(page):
    assert page.evaluate(JOINED) == []


@pytest.mark.parametrize("points", [3, 12, 150])
def test_a_stroke_at_any_speed_leaves_no_gap(page, points):
    before, brush = codes(page)
    along = np.linspace(0.03, 0.97, points)
    path = [*zip(along, 0.5 + 0.4 * np.sin(9 * along), strict=True)]
    stroke(page, *path)
    painted = codes(page)[0] == brush
    parts = ndimage.label(painted, np.ones((3, 3)))[0]
    ends = {parts[int(y * 32), int(x * 48)] for x, y in (path[0], path[-1])}
    assert painted.any(0)[2:46].all() and len(ends) == 1 and ends != {0}
    page.keyboard.press("Control+z")
    assert np.array_equal(codes(page)[0], before), "a stroke is one step"


def test_brush_sizes_eraser_and_clear(page):
    before, brush = codes(page)
    stroke(page, (0.5, 0.5), size="5")
    after, _ = codes(page)
    rows, columns = np.nonzero((after == brush) & (before != brush))
    assert 20 <= len(rows) <= 25 and np.ptp(rows) == np.ptp(columns) == 4
    expect(page.locator("#painted")).to_have_text(str(len(rows)))
    page.check("input[value=erase]", force=True)
    stroke(page, (0.5, 0.5))
    assert (codes(page)[0] != before).sum() in (len(rows), len(rows) - 1)
    stroke(page, (0.4, 0.4), (0.6, 0.6), size="9")
    assert np.array_equal(codes(page)[0], before)
    page.check("input[value=paint]", force=True)
    stroke(page, (0.1, 0.1), (0.9, 0.2), size="3")
    page.click("#reset")
    assert np.array_equal(codes(page)[0], before)
    page.click("#undo")
    assert not np.array_equal(codes(page)[0], before)


def test_picking_from_the_palette_and_from_the_picture(page):
    order, columns = page.evaluate(
        "import('/state.js').then((s) => [s.model().order, s.model().columns])"
    )
    box = page.locator("#codes").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 2.5 / columns, box["y"] + box["height"] * 1.5 / 6)
    code = order[columns + 2]
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    expect(page.locator("#code")).to_have_text(f"Code {order[0]}: click to pick")
    page.mouse.move(0, 0)
    expect(page.locator("#code")).to_contain_text(f"Code {code}")
    assert codes(page)[1] == code
    page.check("input[value=pick]", force=True)
    stroke(page, (0.5, 0.5))
    grid, brush = codes(page)
    assert brush == grid[16, 24]


def test_everything_works_with_the_keyboard(page):
    before, brush = codes(page)
    page.select_option("#size", "1")
    page.focus("#tokens")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#token")).to_contain_text(f"Row 2, column 1: code {brush}")
    assert codes(page)[0][1, 0] == brush
    page.keyboard.press("+")
    assert codes(page)[0][1, 0] == (brush + 1) % 30
    page.keyboard.press("Delete")
    assert np.array_equal(codes(page)[0], before)
    page.keyboard.press("e")
    expect(page.locator("input[value=erase]")).to_be_checked()
    page.keyboard.press("]")
    expect(page.locator("#size")).to_have_value("2")
    page.focus("#codes")
    for key in ("ArrowDown", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    assert codes(page)[1] != brush
    page.focus("#slider")
    page.keyboard.press("End")
    assert page.evaluate("getComputedStyle(document.getElementById('left')).clipPath") == (
        "inset(0px 0% 0px 0px)"
    )


def test_the_slider_uncovers_the_original(page):
    box = page.locator("#compared").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.2)
    page.mouse.up()
    expect(page.locator("#slider")).to_have_value("25")
    with Image.open(io.BytesIO(page.locator("#compared").screenshot())) as image:
        shown = np.asarray(image.convert("RGB").resize((192, 128), Image.Resampling.BOX), float)
    original, decoded = (pixels(page, name).astype(float) for name in ("left", "decoded"))
    for part, near, far in (
        (np.s_[:, 4:40], original, decoded),
        (np.s_[:, 60:], decoded, original),
    ):
        assert np.abs(shown - near)[part].mean() < 0.3 * np.abs(shown - far)[part].mean()


def test_zoom_scrolls_both_pictures(page):
    page.click("#larger")
    page.click("#larger")
    expect(page.locator("#zoom")).to_have_text("200 %")
    page.evaluate("document.querySelector('.paint .frame').scrollTo(30, 20)")
    page.wait_for_function("() => document.querySelector('.compare .frame').scrollLeft === 30")
    stroke(page, (0.25, 0.25))  # still where the pointer is
    grid, brush = codes(page)
    assert (grid[7:9, 11:13] == brush).any()


def test_a_link_holds_the_tokens(page, served_all):
    stroke(page, (0.1, 0.9), (0.9, 0.1))
    expected = codes(page)[0]
    page.click("#share")
    link = page.input_value("#link")
    assert link.startswith(f"{served_all}/#t1.") and len(link) < 1400
    page.once("dialog", lambda dialog: dialog.accept())  # paint would be lost
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#save")).to_be_enabled()
    assert np.array_equal(codes(page)[0], expected)
    expect(page.locator("#error-note")).to_have_text("there is no original")
    page.evaluate("location.hash = location.hash.slice(0, -3)")
    expect(page.locator("#message")).to_contain_text("This link is incomplete")
    page.evaluate("location.hash = '#t1.0123.8x8.AAAA'")
    expect(page.locator("#message")).to_contain_text("This link needs the model 0123")


def test_a_link_that_cannot_be_opened_says_so_beside_a_photograph(page, served_all):
    page.goto("about:blank")
    page.goto(f"{served_all}/#t1.0123.8x8.AAAA")
    expect(page.locator("#message")).to_contain_text("This link needs the model 0123")
    page.evaluate(DECODED)
    assert page.evaluate("location.hash") == ""


def test_another_model_keeps_the_place_of_the_keyboard(page):
    page.locator("#tokens").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    page.locator("input[name=model]").nth(0).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#token")).to_contain_text("Row 2, column 3: code")
    expect(page.locator("input[name=model]").nth(1)).to_be_focused()


def test_a_stroke_that_the_browser_takes_over_leaves_no_paint(page):
    page.locator("#tokens").scroll_into_view_if_needed()
    box, before = page.locator("#tokens").bounding_box(), tokens(page)
    at = {"clientX": box["x"] + 9, "clientY": box["y"] + 9, "pointerId": 1, "bubbles": True}
    page.locator("#tokens").evaluate("each => { each.setPointerCapture = () => {}; }")
    page.locator("#tokens").dispatch_event("pointerdown", {**at, "button": 0, "isPrimary": True})
    assert not np.array_equal(tokens(page), before)
    page.locator("#tokens").dispatch_event("pointercancel", at)
    assert np.array_equal(tokens(page), before)
    expect(page.locator("#undo")).to_be_disabled()


def test_the_picture_and_its_tokens_are_saved(page, tmp_path):
    stroke(page, (0.2, 0.2), (0.8, 0.2))
    grid, _ = codes(page)
    with page.expect_download() as saved:
        page.click("#save-tokens")
    saved.value.save_as(tmp_path / "tokens.npz")
    assert np.array_equal(load_tokens(tmp_path / "tokens.npz")[0], grid)
    with page.expect_download() as saved:
        page.click("#save")
    assert saved.value.suggested_filename == "decoded.png"
    saved.value.save_as(tmp_path / "decoded.png")
    with Image.open(tmp_path / "decoded.png") as image:
        assert np.array_equal(np.asarray(image), pixels(page, "decoded"))


def test_saved_tokens_are_opened_again(page, tmp_path):
    page.locator(".card").nth(1).click()
    stroke(page, (0.2, 0.2), (0.8, 0.9))
    grid, _ = codes(page)
    with page.expect_download() as saved:
        page.click("#save-tokens")
    saved.value.save_as(tmp_path / "mine.npz")
    page.locator("#photographs button").nth(1).click()
    page.wait_for_function("() => document.getElementById('left').width !== 192")
    page.set_input_files("#file", tmp_path / "mine.npz")
    expect(page.locator("#error-note")).to_have_text("there is no original")
    expect(page.locator("input[name=model]").nth(1)).to_be_checked()
    assert np.array_equal(codes(page)[0], grid)
    tokens = load_tokens(tmp_path / "mine.npz")
    strange = replace(tokens, codec=replace(tokens.codec, model="0" * 16))
    for name, content, message in (
        ("strange.npz", to_npz(strange), "got tokens of the model 0000000000000000. Serve that"),
        ("damaged.npz", b"PK", "expected a token file written by rotvq encode"),
    ):
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        expect(page.locator("#message")).to_contain_text(message)
        assert "status of 400" in page.complaints.pop()
    expect(page.locator("#progress")).to_be_hidden()
    assert np.array_equal(codes(page)[0], grid)


def test_effort_lowers_the_error_and_keeps_the_paint(page):
    unpainted = page.text_content("#error")
    stroke(page, (0.1, 0.5), (0.9, 0.5), size="9")
    before, brush = codes(page)
    expect(page.locator("#error")).not_to_have_text(unpainted)
    error = float(page.text_content("#error").split()[0])
    page.locator("#effort").fill("2")
    expect(page.locator("#message")).to_have_text("Found better tokens at effort 2.")
    page.wait_for_function(
        f"() => parseFloat(document.getElementById('error').textContent) > {error}"
    )
    after, _ = codes(page)
    assert (after != before).sum() > 20
    assert (before[12:21] == brush).all() and (after[12:21] == brush).all()


def test_a_search_shows_how_far_it_is_and_stops(page):
    before = codes(page)[0]
    page.locator("#effort").fill("9")
    page.wait_for_function(
        "() => [document.getElementById('progress').value].some((v) => 0 < v && v < 1)"
    )
    page.click("#stop")
    expect(page.locator("#message")).to_have_text("Stopped the search.")
    for part in ("#progress", "#stop"):
        expect(page.locator(part)).to_be_hidden()
    expect(page.locator("#effort")).to_have_value("0")
    assert np.array_equal(codes(page)[0], before)


def test_models_are_compared_and_taken_in_turn(page):
    expect(page.locator(".card")).to_have_count(2)
    first = codes(page)[0]
    page.locator(".card").nth(1).click()
    expect(page.locator("input[name=model]").nth(1)).to_be_checked()
    assert not np.array_equal(codes(page)[0], first)
    assert page.locator("#against option").all_text_contents() == ["Original", "first"]
    page.select_option("#against", "0")
    expect(page.locator("#left-name")).to_have_text("first")
    stroke(page, (0.5, 0.5), size="9")
    assert (codes(page)[0] == codes(page)[1]).sum() >= 72
    page.locator(".card").nth(0).click()
    assert np.array_equal(codes(page)[0], first), "each model has its own tokens"
    expect(page.locator("#prior")).to_be_visible()


def test_the_prior_samples_new_pictures_and_completes_painted_ones(page):
    expect(page.locator("#complete")).to_be_disabled()
    page.click("#crop")
    expect(page.locator("#message")).to_contain_text("16×12 pixels are 4×3 tokens")
    stroke(page, (0.1, 0.1), (0.9, 0.1))
    grid, brush = codes(page)
    assert (grid[0] == brush).all()
    expect(page.locator("#keep")).to_have_value("1")
    expect(page.locator("#bits-note")).to_contain_text("under the prior")
    page.click("#complete")
    expect(page.locator("#drawn .card")).to_have_count(8)
    expect(page.locator("#message")).to_contain_text("Click a picture")
    completed = codes(page)[0]
    assert np.array_equal(completed[0], grid[0]) and not np.array_equal(completed, grid)
    page.locator("#drawn .card").nth(3).click()
    assert not np.array_equal(codes(page)[0], completed)
    page.click("#undo")
    assert np.array_equal(codes(page)[0], completed)
    page.select_option("#label", "dog")
    page.click("#draw")
    expect(page.locator("#drawn .card")).to_have_text(["dog"] * 8)
    expect(page.locator("#message")).to_contain_text("Click a picture")
    assert codes(page)[0].shape == (3, 4) and not np.array_equal(codes(page)[0], completed)


def test_files_that_are_opened(page, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    page.set_input_files("#file", tmp_path / "a.png")
    expect(page.locator("#message")).to_contain_text("expected an image; this file is not one")
    expect(page.locator("#message")).to_have_class("error")
    assert "status of 400" in page.complaints.pop()
    (tmp_path / "large.png").write_bytes(bytes(10 * 2**20 + 1))
    page.set_input_files("#file", tmp_path / "large.png")
    expect(page.locator("#message")).to_have_text(
        "Files of up to 10 MiB are opened; this one is larger."
    )
    noise = np.random.default_rng(0).integers(0, 256, (20, 36, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "b.tiff")  # browsers cannot show it themselves
    page.set_input_files("#file", tmp_path / "b.tiff")
    expect(page.locator("#message")).to_contain_text("36×20 pixels are 9×5 tokens")
    expect(page.locator("#message")).not_to_have_class("error")
    page.wait_for_function("() => document.getElementById('left').width === 36")
    assert np.array_equal(pixels(page, "left"), noise)
    page.focus("#codes")
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    chosen = codes(page)[1]
    page.click("#blank")
    grid, brush = codes(page)
    assert (grid == chosen).all() and brush == chosen


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_size_and_scheme(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator(f".{name}").bounding_box() for name in ("pick", "paint", "compare")]
    axis = "x" if width > 960 else "y"
    assert boxes[0][axis] < boxes[1][axis] < boxes[2][axis]
    assert violations(page) == []
