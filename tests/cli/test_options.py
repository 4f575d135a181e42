"""Parsers raise one-line errors."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from rotvq.cli import options
from rotvq.cli.options import Parser, parsed
from rotvq.errors import UserError
from rotvq.training.config import QuantizerConfig, TrainingConfig


@pytest.fixture
def parser():
    made = Parser(prog="rotvq demo")
    made.add_argument("--seed", type=int)
    made.add_argument("--preset", choices=["demo", "smoke"])
    return made


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--seed", "x"], "--seed.*'x'"),
        (["--preset", "big"], "--preset.*'big'.*demo.*smoke"),
        (["--see", "3"], "--see"),
        (["--seed"], "--seed"),
        (["extra"], "extra"),
    ],
)
def test_mistakes_are_user_errors_that_name_the_help(parser, words, named):
    with pytest.raises(UserError, match=named) as error:
        parser.parse_args(words)
    assert str(error.value).endswith("See rotvq demo --help.")
    assert "\n" not in str(error.value)


def test_the_home_folder_means_the_same_to_all_parts_of_a_command(rotvq, tmp_path, monkeypatch):
    """A shell leaves the ~ of --out=~/tokens.npz to the program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, color in (("a.png", "teal"), ("b.png", "red")):
        Image.new("RGB", (16, 16), color).save(name)
    assert rotvq("encode", "a.png", "--out=~/tokens.npz").status == 0
    before = Path("tokens.npz").read_bytes()
    assert "tokens.npz exists" in rotvq("encode", "b.png", "--out=~/tokens.npz").error
    assert Path("tokens.npz").read_bytes() == before
    assert rotvq("decode", "~/tokens.npz", "--out=~/images").status == 0
    assert rotvq("reconstruct", "~/a.png", "--out=~/a.rotvq.png").status == 0
    assert rotvq("export", "rotvq-f8", "--to", "model", "--out=~/saved").status == 0
    assert rotvq("encode", "a.png", "--model=~/saved", "--out=~/b.npz").status == 0
    assert not Path("~").exists()


def test_no_option_is_a_plain_path():
    """`expanded` reads ~, which Path does not."""
    commands = Path(options.__file__).parent.glob("*.py")
    assert [p.name for p in commands if re.search(r"type=Path\b", p.read_text())] == []


def test_valid_arguments_are_accepted(parser):
    assert parser.parse_args(["--seed", "3", "--preset", "smoke"]).seed == 3


def configuration() -> ArgumentParser:
    """A parser of two groups of a configuration."""
    made = ArgumentParser(prog="rotvq x", exit_on_error=False)
    made.add_class_arguments(TrainingConfig, "t")
    made.add_class_arguments(QuantizerConfig, "q")
    return made


def test_parsed_makes_configurations_and_passes_their_own_errors_on():
    made = parsed(configuration(), ["--t.epochs", "3", "--q.estimator=reflection"])
    assert made.t == TrainingConfig(epochs=3)
    assert made.q == QuantizerConfig(estimator="reflection")
    with pytest.raises(UserError, match=r"^training\.epochs: expected a positive number; got 0\.$"):
        parsed(configuration(), ["--t.epochs", "0"])


@pytest.mark.parametrize("kind", [TypeError, lambda text: argparse.ArgumentError(None, text)])
def test_any_other_error_of_jsonargparse_becomes_one_line(kind, monkeypatch):
    def fail(words):
        raise kind("first\n   second.")

    made = configuration()
    monkeypatch.setattr(made, "parse_args", fail)
    with pytest.raises(UserError, match=r"^first second\. See rotvq x --help\.$"):
        parsed(made, [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--t.epochs", "many"], "t.epochs: expected int; got many"),
        (["--t.epochs", "2.5"], "t.epochs: expected int; got 2.5"),
        (["--t.beta", "x"], "t.beta: expected float; got x"),
        (["--t.micro_batch_size", "x"], "t.micro_batch_size: expected int or null; got x"),
        (["--t.precision", "fp8"], "t.precision: expected auto or fp32 or bf16 or fp16; got fp8"),
        (["--t.seed", "1", "--q.init=k"], "q.init: expected uniform or data; got k"),
        (["--t.nope", "1"], "unrecognized arguments: --t.nope 1"),
        (["--t.epochs"], "t.epochs: expected int; got nothing"),
    ],
)
def test_a_wrong_value_is_reported_with_its_option_and_type(words, text):
    with pytest.raises(UserError) as error:
        parsed(configuration(), words)
    assert str(error.value) == f"{text}. See rotvq x --help."
