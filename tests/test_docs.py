"""The commands and the code of the documentation run as they stand, page by page, in order."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from PIL import Image

from rotvq.cli.main import VERBS, main
from rotvq.model import VQVAE

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("make ", "FOLDER", "rotvq reproduce all")
"""Commands with a place to fill in, and such as take minutes and have tests of their own."""


def steps(page: Path) -> list[tuple[str, str]]:
    """Commands and blocks of code, in order."""
    found = []
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        found += (
            [(kind, text)] if kind == "python" else [(kind, line) for line in text.splitlines()]
        )
    return [(k, t) for k, t in found if t.strip() and not any(word in t for word in ELSEWHERE)]


@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)], ids=lambda p: p.stem)
def test_page(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VQVAE, "push_to_hub", lambda self, name: name)
    for kind, text in steps(page):
        if kind == "python":
            exec(compile(text, str(page), "exec"), {"pixels": np.zeros((3, 20, 30), np.uint8)})
        else:
            program, *words = shlex.split(text, comments=True)
            assert program == "rotvq"
            assert main(words) == 0, (text, capsys.readouterr().err)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem)
def test_verbs_exist(page):
    named = re.findall(r"(?:^|`)rotvq ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(VERBS)


def test_every_verb_is_documented():
    text = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "README.md"])
    assert all(f"rotvq {verb}" in text or f"make {verb}" in text for verb in VERBS)


def test_the_table_of_faults_tells_the_last_records():
    told = (ROOT / "docs" / "long-runs.md").read_text(encoding="utf-8")
    kill, fuzz, soak = (
        json.loads((ROOT / "results" / "robustness" / f"{name}.json").read_text())
        for name in ("kill", "fuzz", "soak")
    )
    first, _, last = soak["memory_mib"]
    assert f"{kill['kills']:,} times in {kill['runs']:,} runs" in told
    assert f"{fuzz['inputs']:,} inputs to {len(fuzz['readers'])} readers" in told
    assert f"a tiny model for {soak['steps']:,} steps" in told
    assert f"memory {first:.0f} MiB after the first thousand steps, {last:.0f} MiB at" in told


def test_the_rotation_figure_matches_its_script(tmp_path):
    script = run_path(str(ROOT / "docs" / "draw_rotation.py"))
    script["main"](tmp_path / "rotation.png")
    drawn, committed = (
        np.asarray(Image.open(path).convert("RGB"), np.int16)
        for path in (tmp_path / "rotation.png", script["PICTURE"])
    )
    assert drawn.shape == committed.shape
    # Other versions of matplotlib shift the text a little; other arrows differ by far more.
    assert (np.abs(drawn - committed).max(-1) > 64).mean() < 0.005
