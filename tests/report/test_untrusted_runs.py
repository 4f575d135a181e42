"""Untrusted run folders: their text stays text, and each fault is reported in one line."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from rotvq.errors import UserError
from rotvq.report import figures, write_report
from rotvq.report.layouts import build_page
from rotvq.report.templating import render
from rotvq.run_record import load_runs
from rotvq.text import printable

EVIL = [
    "<script>alert(1)<!--",
    "a\r\r<img src=x onerror=alert(1)>\n\n<script>",
    "[x](javascript:alert(1)) ![y](z) `b` *c* __d__",
    "a | b\n\n# c\n---\n- d {: onclick=alert(1)}",
    "- item \\",
    "\x1b[31m\u202e\udcff\x00",
]


@pytest.fixture
def no_plots(monkeypatch):
    monkeypatch.setattr(figures, "curves", lambda runs: b"curves")
    monkeypatch.setattr(figures, "usage", lambda runs: b"usage")
    monkeypatch.setattr(figures, "cluster_sizes", lambda run: None)


def records(path):
    """Each record file of a run with its value; that of epochs.jsonl is a list of lines."""
    for name in ("run.json", "evaluation.json", "epochs.jsonl", "config.yaml"):
        if not (path / name).exists():
            continue
        text = (path / name).read_text()
        if name.endswith(".jsonl"):
            yield path / name, [json.loads(line) for line in text.splitlines()]
        else:
            yield path / name, yaml.safe_load(text)


def write(file, value):
    lines = value if file.suffix == ".jsonl" else [value]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def saying(value, text):
    """A record in which a text is every text, and a name and value more of every mapping."""
    if isinstance(value, dict):
        free = not any(isinstance(each, int | float) for each in value.values())
        return {key: saying(each, text) for key, each in value.items()} | (
            {text: text} if free else {}
        )
    if isinstance(value, list):
        return [saying(each, text) for each in value]
    return text if isinstance(value, str) else value


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("text", EVIL)
def test_text_of_a_run_is_escaped(make_run, text, parse_html, markdown_renderers):
    pages = []
    for name, said in (("words", "words"), (text.replace("/", "").replace("\0", ""), text)):
        path = make_run(name, epochs=2, codebook={"warning": "w"})
        other = make_run(f"other/{name}", epochs=1, evaluated=False)
        for file, value in itertools.chain(records(path), records(other)):
            write(file, saying(value, said))
        pages.append(build_page(load_runs([path, other])))
    for template in ("report.html.j2", "report.md.j2"):
        plain, found = (render(page, template) for page in pages)
        found.encode()
        in_markdown = ".md" in template
        shown = printable(" ".join(text.split()) if in_markdown else text)
        for kind in markdown_renderers.values() if in_markdown else [lambda content: content]:
            expected, elements = (parse_html(kind(each)).elements for each in (plain, found))
            # Names may break after their marks.
            assert [e for e in elements if e[0] != "wbr"] == [e for e in expected if e[0] != "wbr"]
            assert shown in " ".join(parse_html(kind(found)).text.split())


VALUES = [
    None, True, 0, -1, 1.5, "", "x", "\udcff", [], [1], ["x"], [[1]], {}, {"a": 1},
    {"a": {"b": None}}, float("nan"), float("-inf"), 1e308, 1e38, 1e-320, 2**63, -(2**63), 10**30,
    [None] * 3,
]  # fmt: skip


def places(value, at=()):
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for key, each in inside if isinstance(value, dict | list) else ():
        yield from places(each, (*at, key)) if isinstance(each, dict | list) else [(*at, key)]


def replaced(value, at, new):
    if not at:
        return new
    copy = json.loads(json.dumps(value))
    node = copy
    for key in at[:-1]:
        node = node[key]
    node[at[-1]] = new
    return copy


@pytest.mark.usefixtures("no_plots")
def test_a_wrong_value_at_any_key_is_read_or_refused(make_run):
    """Every key of every record, each with some of the values, the next key with the next."""
    codebook = {"dead": 1, "oldest": 5, "spread": [0.1, 0.2, 0.5, 1, 2, 3, 9]}
    path = make_run(epochs=2, codes=8, columns=2, side=8, codebook=codebook)
    shutil.rmtree(path / "reconstructions")
    rotating = itertools.cycle(VALUES)
    refused = 0
    for file, value in records(path):
        whole = file.read_text()
        for at in places(value):
            if file.suffix == ".jsonl" and not at:
                continue
            for new in itertools.islice(rotating, 5):
                write(file, replaced(value, at, new))
                try:
                    page = build_page(load_runs([path]))
                    for template in ("report.html.j2", "report.md.j2"):
                        render(page, template).encode()
                except UserError as error:
                    refused += 1
                    assert str(error).startswith(str(path)), (file.name, at, new)
                    assert "\n" not in str(error) and len(str(error)) < 600
        file.write_text(whole)
    assert refused > 100


def test_extreme_numbers_are_drawn(make_run):
    path = make_run(epochs=8, codes=8, columns=2, side=8)
    lines = [json.loads(line) for line in (path / "epochs.jsonl").read_text().splitlines()]
    numbers = [1e38, -1e38, 1e-320, 0, None, 2**63, 1e308 * 10, 5]
    for line, number in zip(lines, numbers, strict=True):
        line |= {split: dict.fromkeys(line[split], number) for split in ("train", "test", "timing")}
    lines[-1]["epoch"] = 10**9
    write(path / "epochs.jsonl", lines)
    evaluation = json.loads((path / "evaluation.json").read_text())
    for counts in ([2**64 - 1] + [0] * 7, [2**64 - 1] * 8, [1] + [0] * 70_000, [0] * 8):
        write(path / "evaluation.json", evaluation | {"counts": counts})
        assert _curves(build_page(load_runs([path]))).startswith(b"\x89PNG")


def _curves(page):
    (picture,) = (picture for picture in page.pictures if picture.name == "curves.png")
    return picture.png


@pytest.mark.parametrize("name", ["run.json", "evaluation.json", "epochs.jsonl", "config.yaml"])
@pytest.mark.parametrize(
    "content, message",
    [
        (b"\xff\xfe\xfd", "expected"),
        (b"{" * 100_000, "expected"),
        (b'{"a": ' * 100_000, "expected"),
        (b"9" * 10_000, "expected"),
        (b" " * (2**24 + 1), "at most|expected"),
        (b"&a [*a, *a]", "expected"),
        ("pipe", "regular file; got a pipe"),
        ("/dev/zero", "regular file; got a device"),
        ("folder", "regular file; got a folder"),
        ("/etc/hostname", "a link to /etc/hostname"),
    ],
)
def test_an_invalid_record_is_reported_in_one_line(make_run, name, content, message):
    path = make_run(epochs=1, codes=8, columns=2, side=8)
    file = path / name
    file.unlink()
    if content == "pipe":
        os.mkfifo(file)
    elif content == "folder":
        file.mkdir()
    elif isinstance(content, str):
        file.symlink_to(content)
    else:
        file.write_bytes(content + b"\n1")
    with pytest.raises(UserError, match=message) as error:
        load_runs([path])
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def picture(kind, size=(32, 32), **options):
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(content, kind, **options)
    return content.getvalue()


def header(width, height):
    """A PNG of that size, all black and packed."""
    content = io.BytesIO()
    Image.new("1", (width, height)).save(content, "PNG")
    return content.getvalue()


PICTURES = {
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\nshowpage\n", "PNG"),
    "a JPEG": (picture("JPEG"), "PNG"),
    "a TIFF": (picture("TIFF"), "PNG"),
    "cut off": (picture("PNG")[:-200], "PNG"),
    "empty": (b"", "PNG"),
    "wide": (header(9000, 4), "9000x4 pixels"),
    "large": (header(8000, 4000), "8000x4000 pixels"),
    "a bomb": (header(20_000, 20_000), "expected a PNG"),
    "many rows": (header(8, 8192), "a few pairs of rows"),
    "other tiles": (header(31, 32), "a few pairs of rows"),
    "a pipe": ("pipe", "got a pipe"),
    "/dev/zero": ("/dev/zero", "got a device"),
    "a link": ("/etc/hostname", "a link to /etc/hostname"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_an_invalid_picture_is_reported_in_one_line(make_run, kind):
    content, message = PICTURES[kind]
    path = make_run(epochs=1, codes=8, columns=4, side=8)
    file = path / "reconstructions" / "epoch_0001.png"
    file.unlink()
    if content == "pipe":
        os.mkfifo(file)
    elif isinstance(content, str):
        file.symlink_to(content)
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        build_page(load_runs([path]))
    assert "\n" not in str(error.value) and str(file) in str(error.value)


STARTS = """
import sys
from pathlib import Path
from rotvq.report import write_report
sys.addaudithook(lambda event, arguments: event in ("subprocess.Popen", "os.posix_spawn", "os.fork",
                 "os.system", "os.exec") and sys.exit(f"{event} {arguments}"))
write_report([Path(sys.argv[1])], Path(sys.argv[2]))
"""


def test_a_picture_starts_no_program(make_run, tmp_path):
    path = make_run(epochs=1, codes=8, columns=4, side=8)
    (path / "reconstructions" / "epoch_0001.png").write_bytes(PICTURES["PostScript"][0])
    command = [sys.executable, "-c", STARTS, path, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "expected a PNG picture" in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("no_plots")
def test_figures_are_not_written_through_a_link(make_run, tmp_path):
    path = make_run(epochs=1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "curves.png").write_text("mine")
    (path / "figures").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"figures: expected a folder; it is a link to .*elsewhere"):
        write_report([path], path)
    assert [(file.name, file.read_text()) for file in elsewhere.iterdir()] == [
        ("curves.png", "mine")
    ]


@pytest.mark.usefixtures("no_plots")
def test_a_linked_report_is_replaced_and_not_written_through(make_run, tmp_path):
    path = make_run(epochs=1)
    (tmp_path / "mine").write_text("mine")
    for name in ("report.html", "report.md"):
        (path / name).symlink_to(tmp_path / "mine")
    write_report([path], path)
    assert (tmp_path / "mine").read_text() == "mine" and not (path / "report.md").is_symlink()
