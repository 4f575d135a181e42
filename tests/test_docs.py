"""The commands and the code of the documentation run, page by page, in order, at a small size.

What a page says is run as it stands, except that SMALLER replaces what is large, and that the lines
of PARSED, which need a network, several processes or minutes, are only parsed.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from PIL import Image

from rotvq.cli.main import COMMANDS, main
from rotvq.errors import UserError
from rotvq.model import VQVAE

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
TINY = (
    "--model.width 16 --model.dim 16 --model.depth 1 --quantizer.codebook_size 32 "
    "--training.epochs 1 --training.batch_size 16 --data.train_images 64 --data.test_images 16"
)
SMALLER = {
    "--preset best": f"--preset best {TINY}",
    "--from rotvq-f4": "--from rotvq-f4 --training.epochs 1 --training.batch_size 8 "
    "--data.train_images 16 --data.test_images 8",
    "--training.epochs 4": "",
    "rotvq sweep --preset smoke": f"rotvq sweep --preset smoke {TINY}",
    "FOLDER-OF-PICTURES": "photos",
    "FOLDER": "photos",
    "cifar-10-python.tar.gz": "embedded:photos",
}
"""What is written on a page, and what the tests run in its place."""

PARSED = (
    "-o mine/",
    "reproduce all",
    "ablate all",
    "rotvq serve",
    "--rfid",
    "classifier --data",
    "--preset sharp",
    "--classifier",
    "--measure",
    "--guidance 4",
    "torchrun ",
    "accelerate launch ",
)
"""Commands with one of these words are parsed and not run."""


class Parsed(BaseException):
    """The words of a command line were accepted."""


def accepted(words: list[str], monkeypatch) -> None:
    """Parse the words of `rotvq …` with the command's own parser; run nothing."""
    if words[0] == "train":
        import_module("rotvq.cli.train").parse(words[1:])
        return
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self, *arguments, **options):
        parse(self, *arguments, **options)
        raise Parsed

    with monkeypatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
        import_module(f"rotvq.cli.{words[0]}").run(words[1:])


def steps(page: Path) -> list[tuple[str, str]]:
    """Commands and blocks of code in order; a line that ends in a backslash continues."""
    found = []
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = [text] if kind == "python" else text.replace("\\\n", " ").splitlines()
        found += [(kind, line) for line in lines if line.split("#")[0].strip()]
    return found


def command(line: str, monkeypatch, capsys) -> None:
    """Run one line of a shell block, or parse it."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets), line
    elif words[:2] == [".", ".venv/bin/activate"]:
        assert len(words) == 2
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), line
    elif words[0] in ("rotvq", "torchrun", "accelerate"):
        after = words[words.index("rotvq") + 1 :]
        if any(word in line for word in PARSED):
            accepted(after, monkeypatch)
        else:
            assert main(after) == 0, (line, capsys.readouterr().err)
    else:
        pytest.fail(f"the tests cannot run {line!r}")


def smaller(text: str) -> str:
    """A command or block of code with what is large replaced."""
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with a few photographs, as a reader has."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    Path("photos").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(f"photos/{number}.png")
    Image.fromarray(pixels[0]).save("cat.jpg")
    monkeypatch.setattr(VQVAE, "push_to_hub", lambda self, name: name)


@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)], ids=lambda p: p.stem)
def test_commands_and_code_of_the_page_run(page, elsewhere, monkeypatch, capsys):
    namespace: dict[str, object] = {}
    for kind, text in steps(page):
        if kind == "python":
            exec(compile(smaller(text), str(page), "exec"), namespace)
        else:
            command(smaller(text), monkeypatch, capsys)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("rotvq train --preset smoke --data.sizes 32", "--data.sizes"),
        ("rotvq encode photos --model runs/mine --output photos.npz", "--output"),
        ("rotvq reproduce all --presets cpu", "--presets"),
        ("torchrun --nproc-per-node 4 -m rotvq train --training.batches 4", "--training.batches"),
        ("make demonstration", "demonstration"),
        ("pip download rotvq", "cannot run"),
    ],
)
def test_a_line_that_does_not_work_is_found(line, complaint, elsewhere, monkeypatch, capsys):
    with pytest.raises((AssertionError, UserError, pytest.fail.Exception), match=complaint):
        command(line, monkeypatch, capsys)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_named_commands_exist(page):
    named = re.findall(r"(?:^|`)rotvq ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(COMMANDS)


def test_every_command_is_documented():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [command for command in COMMANDS if f"rotvq {command}" not in text] == ["demo"]
    assert "make demo" in text


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_links_of_the_page_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_extras_named_in_the_documentation_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"'\.\[([a-z]+)\]'", text)) | set(re.findall(r"rotvq\[([a-z]+)\]", text))
    assert "onnx" in named
    assert named <= set(project["optional-dependencies"])


def test_the_readme_fits_on_one_screen_and_its_examples_are_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    blocks = [(kind, block) for kind, block in BLOCK.findall(text)]
    assert [kind for kind, block in blocks if len(block.splitlines()) > 8] == []


def test_the_options_page_lists_every_option():
    script = run_path(str(ROOT / "docs" / "list_options.py"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page.partition(script["MARK"])[2] == f"{script['tables']()}\n", (
        "docs/options.md: expected the options of the configuration. Run docs/list_options.py."
    )


def test_the_options_page_lists_what_help_lists(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    listed = re.findall(r"^  (--[a-z]+\.[a-z_]+)", capsys.readouterr().out, re.MULTILINE)
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert len(listed) > 30
    assert set(re.findall(r"^\| `(--[a-z]+\.[a-z_]+)`", page, re.MULTILINE)) == set(listed)


def test_the_options_page_lists_every_preset():
    from rotvq.training.presets import PRESETS

    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE)) == set(PRESETS)


def test_the_table_of_faults_tells_the_last_records():
    text_of_page = (ROOT / "docs" / "fault-injection.md").read_text(encoding="utf-8")
    kill, fuzz, soak = (
        json.loads((ROOT / "results" / "robustness" / f"{name}.json").read_text())
        for name in ("kill", "fuzz", "soak")
    )
    first, _, last = soak["memory_mib"]
    assert f"{kill['kills']:,} times in {kill['runs']:,} runs" in text_of_page
    # The run folder has a row of its own.
    others = [reader["inputs"] for reader in fuzz["readers"] if reader["reader"] != "run"]
    assert f"{sum(others):,} inputs to {len(others)} readers" in text_of_page
    assert f"a tiny model for {soak['steps']:,} steps" in text_of_page
    assert (
        f"memory {first:.0f} MiB after the first thousand steps, {last:.0f} MiB at" in text_of_page
    )


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
