"""A run folder as one fuzzing input: packed to bytes, unpacked, and rendered as a report."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from markdown_it import MarkdownIt

from rotvq.data_processing import ImageData, ImageSplit
from rotvq.report import style
from rotvq.report.layouts import build_page
from rotvq.report.templating import render
from rotvq.run_record import load_runs
from rotvq.training.config import Config
from rotvq.training.trainer import Trainer

FILES = (
    "run.json",
    "config.yaml",
    "evaluation.json",
    "epochs.jsonl",
    "reconstructions/epoch_0001.png",
)
BETWEEN = b"\n=====\n"

ELEMENTS = {
    ".html": "html head meta title style body header main section h1 h2 p dl dt dd div b code "
    "details summary table thead tbody tr th td figure img figcaption label input pre script wbr",
    ".md": "h1 h2 p table thead tbody tr th td strong br blockquote details summary img ul li "
    "pre code",
}
ATTRIBUTES = "alt aria-label charset class content lang name role scope src style type width"


def packed(folder: Path) -> bytes:
    """The files of a run that its report reads, joined."""
    return BETWEEN.join((folder / name).read_bytes() for name in FILES)


def unpack(content: bytes, folder: Path) -> None:
    """Write the files in an input; files it does not contain are removed."""
    parts = content.split(BETWEEN, len(FILES) - 1)
    for i, name in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if i < len(parts):
            path.write_bytes(parts[i])


def render_report(folder: Path) -> None:
    """Render a run's report; check that no text becomes markup in HTML or Markdown."""
    page = build_page(load_runs([folder]))
    for template in ("report.html.j2", "report.md.j2"):
        text = render(page, template)
        text.encode()
        if ".md" in template:
            _Checked(MarkdownIt("js-default", {"html": True}).render(text), ".md")
        else:
            _Checked(text, ".html")


def whole_runs(folder: Path) -> Iterator[bytes]:
    """A run of two epochs, and one with minimal records."""
    draw = np.random.default_rng(0)
    split = ImageSplit(draw.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8))
    config = Config().replace(
        model={"width": 8, "dim": 8, "depth": 1},
        quantizer={"codebook_size": 16},
        training={"epochs": 2, "batch_size": 8},
    )
    trainer = Trainer(config, ImageData("noise", split, split), folder)
    trainer.begin("rotvq train --data noise")
    trainer.run()
    yield packed(folder)
    (folder / "evaluation.json").write_text('{"format": 2, "images": 12, "metrics": {}}')
    (folder / "config.yaml").write_text("model: {width: 8}")
    yield packed(folder)


def without_drawing() -> None:
    """Skip the rendering of figures, which takes a hundred times as long as building them."""
    style.png = lambda figure: b""


class _Checked(HTMLParser):
    """Fails on elements, attributes and addresses that no template writes."""

    def __init__(self, page: str, language: str) -> None:
        super().__init__()
        self.elements = ELEMENTS[language].split()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.elements, tag
        for name, value in attrs:
            assert name in ATTRIBUTES.split(), (tag, name)
            assert name != "src" or (value or "").startswith(("figures/", "data:image/png")), value
