"""The documentation as a site: built with warnings as errors, then looked at in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="mkdocs-material is not installed")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
AUDITED = {".", "api/data", "gallery", "results"}
"""Pages that axe reads, one of each kind: it takes seconds a page."""
AXE = {"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "cat.aria"]}

DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
STILL = "*, ::before, ::after { transition: none !important; animation: none !important }"
"""The theme fades colors and moves parts; what is between two states is not looked at."""
# Scripts follow a resize later: only a width that stays is too large.
WIDTH = """async () => {
  const root = document.documentElement, end = performance.now() + 5000;
  while (root.scrollWidth > innerWidth && performance.now() < end)
    await new Promise(requestAnimationFrame);
  return root.scrollWidth;
}"""
FRAMES = ".scroll, p:has(> img[src$='#wide'])"
# Of each table and picture that scrolls: whether it says so and takes the keyboard, and whether its
# last column shows, beside the first one, when it is scrolled to the end.
SCROLLED = """boxes => boxes.map(box => {
  box.scrollLeft = 1e6;
  const edge = box.getBoundingClientRect().right + 1;
  const row = [...box.querySelectorAll("tr:first-child > *")].map(c => c.getBoundingClientRect());
  const wide = box.scrollWidth > box.clientWidth + 1;
  const [first, last] = [row[0], row[row.length - 1]];
  return wide === box.classList.contains("wide") && wide === (box.tabIndex === 0)
    && (!row.length || (last.right <= edge && (row.length === 1 || last.left >= first.right - 1)));
})"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def seen(site):
    """What a browser finds on each page, 1200 pixels wide and light, and 400 wide and dark."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe").Axe()
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    found, elsewhere = {}, []
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: elsewhere.append(request.url))
        for file in sorted(site.rglob("index.html")):
            name = file.parent.relative_to(site).as_posix()
            page.goto(f"{home}{name}/")
            page.add_style_tag(content=STILL)
            for width, scheme in ((1200, "light"), (400, "dark")):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.evaluate(DRAWN)
                audit = axe.run(page, options=AXE).response if name in AUDITED else {}
                found[name, width] = {
                    "width": page.evaluate(WIDTH),
                    "scrolls": page.eval_on_selector_all(FRAMES, SCROLLED),
                    "axe": [
                        (broken["id"], [node["html"] for node in broken["nodes"]])
                        for broken in audit.get("violations", ())
                    ],
                }
        browser.close()
    server.shutdown()
    server.server_close()
    found["elsewhere"] = [url for url in elsewhere if not url.startswith((home, "data:"))]
    return found


def test_the_site_has_every_page_and_its_links_lead_to_files(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    dead = []
    for page in pages:
        if "repository" in page.parts or page.name == "404.html":
            continue
        for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text(encoding="utf-8")):
            parts = urlsplit(unescape(link))
            target = page.parent / unquote(parts.path)
            target = target / "index.html" if target.is_dir() else target
            if not parts.scheme and not target.is_file():
                dead.append((page.parent.name, link))
    assert dead == []


def test_examples_of_the_api_are_code_and_lists_are_lists(site):
    text = (site / "api" / "quantizers" / "index.html").read_text(encoding="utf-8")
    assert 'id="rotvq.VectorQuantizer"' in text
    assert text.count('class="gp">&gt;&gt;&gt;') > 10
    assert not re.search(r"<p>[^<]*&gt;&gt;&gt;", text)


def test_no_page_overflows(seen):
    pages = {key: found["width"] for key, found in seen.items() if key != "elsewhere"}
    assert {key: width for key, width in pages.items() if width > key[1]} == {}


def test_every_column_of_every_table_can_be_reached(seen):
    scrolls = {key: found["scrolls"] for key, found in seen.items() if key != "elsewhere"}
    assert sum(map(len, scrolls.values())) > 50
    assert [key for key, each in scrolls.items() if not all(each)] == []


def test_contrast_and_labels_hold(seen):
    broken = {key: found["axe"] for key, found in seen.items() if key != "elsewhere"}
    assert {key: each for key, each in broken.items() if each} == {}


def test_the_site_loads_nothing_from_elsewhere(seen):
    assert seen["elsewhere"] == []


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://example.org/owner/name.git", "https://example.org/owner/name"),
        ("https://user:secret@example.org/owner/name", "https://example.org/owner/name"),
        ("git@example.org:owner/name.git", "https://example.org/owner/name"),
        ("ssh://git@example.org/owner/name.git", "https://example.org/owner/name"),
        ("/srv/git/name.git", None),
        ("../name", None),
        ("", None),
    ],
)
def test_the_site_links_to_the_repository_without_secrets(remote, page):
    assert run_path(str(ROOT / "docs" / "site" / "repository.py"))["address"](remote) == page


def test_the_pipeline_shows_the_tokens_of_the_model(tmp_path):
    script = run_path(str(ROOT / "docs" / "draw_pipeline.py"))
    script["main"](tmp_path / "pipeline.svg")
    drawn, committed = (
        re.findall(r'class="token"[^>]*>(\d+)<', path.read_text(encoding="utf-8"))
        for path in (tmp_path / "pipeline.svg", script["PICTURE"])
    )
    assert len(drawn) == len(committed) == script["TOKENS"] ** 2
    # Another processor may round a latent to the other of two codes.
    assert sum(a != b for a, b in zip(drawn, committed, strict=True)) <= 2
