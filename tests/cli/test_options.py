"""Parsers that raise one line."""

from __future__ import annotations

import argparse

import pytest
from jsonargparse import ArgumentParser

from rotvq.cli.options import Parser, guarded
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


def test_good_words_pass(parser):
    assert parser.parse_args(["--seed", "3", "--preset", "smoke"]).seed == 3


def test_guarded_passes_values_and_user_errors():
    assert guarded(lambda: 3, "rotvq x") == 3
    with pytest.raises(UserError, match=r"^ours$"):
        guarded(lambda: (_ for _ in ()).throw(UserError("ours")), "rotvq x")


@pytest.mark.parametrize("kind", [TypeError, lambda text: argparse.ArgumentError(None, text)])
def test_guarded_makes_one_line(kind):
    def fail():
        raise kind("first\n   second.")

    with pytest.raises(UserError, match=r"^first second\. See rotvq x --help\.$"):
        guarded(fail, "rotvq x")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--t.epochs", "many"], "t.epochs: expected int; got many"),
        (["--t.epochs", "2.5"], "t.epochs: expected int; got 2.5"),
        (["--t.beta", "x"], "t.beta: expected float; got x"),
        (["--t.micro_batch_size", "x"], "t.micro_batch_size: expected int or null; got x"),
        (["--t.precision", "fp8"], "'auto','fp32','bf16','fp16'; got fp8"),
        (["--q.estimator", "turn"], "'rotation','straight_through'"),
    ],
)
def test_what_jsonargparse_says_is_put_in_our_words(words, text):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainingConfig, "t")
    parser.add_class_arguments(QuantizerConfig, "q")
    with pytest.raises(UserError) as error:
        guarded(lambda: parser.parse_args(words), "rotvq x")
    told = str(error.value)
    assert text in told.replace("', '", "','")
    assert told.startswith(words[0].removeprefix("--"))
    assert "\n" not in told
    assert "class" not in told
    assert "typing" not in told
