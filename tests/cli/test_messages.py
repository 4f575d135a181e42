"""The commands accept what messages, help and documentation tell users to type."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path

import pytest
import yaml

from rotvq.cli.main import COMMANDS, main
from rotvq.cli.train import parse

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/rotvq").rglob("*.py"))
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

COMMAND = re.compile(r"rotvq ([a-z]+)(?![\w:])([^`\n;|]*?)(?=$|[`\n;|]|\. |\.$| #)", re.MULTILINE)
SETTING = re.compile(r"(--[a-z]+\.[a-z_]+) (\d[\d.e-]*\d|\d)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")


@cache
def options(command: str) -> set[str]:
    """The long options in a command's help."""
    said = StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        main([command, "--help"])
    return set(OPTION.findall(said.getvalue()))


@pytest.fixture(autouse=True)
def any_model(monkeypatch):
    """Training can start from any model."""
    monkeypatch.setattr("rotvq.training.starting_point.like", lambda config, name: config)


def texts(path: Path) -> Iterator[str]:
    """Every string of a module with a space in it; placeholders become X."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text:
            yield text


def commands(text: str) -> list[tuple[str, str]]:
    """Each "rotvq COMMAND …" in a text: the command, and what follows."""
    return [(command, rest) for command, rest in COMMAND.findall(text) if command in COMMANDS]


def unknown(text: str, home: str | None) -> set[str]:
    """Options that the command they are named with does not have.

    Args:
        text: in which they are named.
        home: the command that speaks; None where any may be meant.
    """
    missing = set()
    for command, rest in commands(text):
        missing |= set(OPTION.findall(rest)) - set(options(command))
    elsewhere = set(OPTION.findall(COMMAND.sub("", text)))
    mine = options(home) if home else {name for command in COMMANDS for name in options(command)}
    return missing | (elsewhere - set(mine) - set(options("train")))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_options_named_in_messages_exist(path):
    home = path.stem if path.parent.name == "cli" and path.stem in COMMANDS else None
    for text in texts(path):
        assert not unknown(text, home), text
        for option, value in SETTING.findall(text):
            parse([option, value])


def test_a_message_that_names_what_does_not_exist_is_found():
    assert unknown("Pass a smaller --batch.", None) == {"--batch"}
    assert unknown("Go on with rotvq encode X --resume", None) == {"--resume"}
    assert unknown("Pass --data.size or rotvq train --data.size 3.", "encode") == set()


def blocks(page: Path) -> Iterator[str]:
    """What stands in code on a page: indented or fenced blocks, and between backticks."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_of_the_documentation_are_accepted(page):
    for line in blocks(page):
        for command, rest in commands(line):
            assert set(OPTION.findall(rest)) <= set(options(command)), line
            if command == "train" and "…" not in rest:
                parse(shlex.split(rest, comments=True))


def test_options_of_the_documentation_exist():
    known = {name for command in COMMANDS for name in options(command)}
    for page in PAGES:
        for text in blocks(page):
            if text.startswith("--"):
                assert set(OPTION.findall(text)) <= known, (page.name, text)
                parse_values(text)


def parse_values(text: str) -> None:
    """What stands as "--group.field value" is a value that the field of a run takes."""
    words = shlex.split(text)
    fields = {name for name in options("train") if "." in name}
    if set(words[::2]) <= fields and len(words) % 2 == 0:
        parse(words)


EPILOGS = {
    command: text
    for command in COMMANDS
    for text in texts(ROOT / f"src/rotvq/cli/{command}.py")
    if re.search(r"example|^  rotvq", text, re.IGNORECASE) and commands(text)
}


def test_examples_of_train_are_accepted():
    assert len(commands(EPILOGS["train"])) >= 4
    for _, rest in commands(EPILOGS["train"]):
        parse(shlex.split(rest))


def test_extras_that_messages_name_exist():
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    named = {
        extra
        for path in SOURCES
        for extra in re.findall(r'installation\("(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert {"onnx"} <= named <= extras
    for path in [*SOURCES, *PAGES]:
        assert not re.search(r"install\W+rotvq\b(?!\[)", path.read_text(encoding="utf-8")), path


def test_a_report_makes_the_run_again_though_the_users_file_has_changed(
    rotvq, images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "my file.yaml"
    model = {"width": 8, "dim": 8, "depth": 0}
    training = {"epochs": 1, "batch_size": 8}
    mine.write_text(yaml.safe_dump({"model": model, "training": training}))
    assert rotvq("train", "--config", mine, "--data", images, "--out", "a run").status == 0
    mine.write_text(yaml.safe_dump({"model": model, "training": training | {"seed": 7}}))
    assert rotvq("report", "a run").status == 0
    said = (tmp_path / "a run/report.md").read_text().partition("## How to reproduce")[2]
    train, evaluate = said.strip().splitlines()
    for line in (train, evaluate):
        assert rotvq(*shlex.split(line)[1:]).status == 0, line
    runs = tmp_path / "a run", tmp_path / "a run-again"
    first, again = ((run / "model.safetensors").read_bytes() for run in runs)
    assert first == again
