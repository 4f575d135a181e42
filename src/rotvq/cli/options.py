"""Parsers that raise a UserError instead of printing the usage and exiting."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin

from rotvq.errors import UserError
from rotvq.guarded import read_yaml
from rotvq.names import DEFAULT_EFFORT, EFFORTS, TuneName
from rotvq.paths import expanded

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from rotvq.model.error_functions import ErrorFunction


class Parser(argparse.ArgumentParser):
    """argparse with unabbreviated options and one-line errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}. See {self.prog} --help.")


def add_batch_size(parser: Parser, default: int = 128) -> None:
    """Add --batch-size."""
    parser.add_argument(
        "--batch-size", type=int, default=default, help=f"images per batch (default: {default})"
    )


def add_out(
    parser: Parser, what: str, default: Path | None = None, *, required: bool = False
) -> None:
    """Add the option for what the command writes."""
    known = f" (default: {default})" if default else ""
    parser.add_argument(
        "-o", "--out", type=expanded, default=default, required=required, help=what + known
    )


def add_size(parser: Parser, applies: str = "", otherwise: str = "the size they have") -> None:
    """Add the option for the size of images; `applies` tells when, `otherwise` the default."""
    parser.add_argument(
        "--size",
        metavar="N",
        help=f"{applies}side in pixels, or HEIGHTxWIDTH, to resize and crop images to (default: "
        f"{otherwise})",
    )


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Check that options are 1 or more, if they are given.

    Raises:
        UserError: one is below 1.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')}: expected 1 or more; got {value}.")


def add_effort(parser: Parser) -> None:
    """Add the options for the effort of encoding, and for what it is spent on."""
    parser.add_argument(
        "--effort",
        type=int,
        nargs="?",
        choices=range(len(EFFORTS)),
        const=DEFAULT_EFFORT,
        default=0,
        help="search for tokens that decode to a smaller error: 1 (fast) to "
        f"{len(EFFORTS) - 1} (slow), {DEFAULT_EFFORT} if no number follows; 0 (default): no search",
    )
    parser.add_argument(
        "--tune",
        choices=get_args(TuneName),
        help="with --effort: search for the smallest squared error (psnr, the default), or also "
        "for structure, which raises the SSIM at about the same squared error (ssim)",
    )


def check_tune(options: argparse.Namespace) -> None:
    """Check that a search to tune is asked for, and that what it needs is installed.

    Raises:
        UserError: --tune without --effort.
    """
    if options.tune and not options.effort:
        raise UserError("--tune: expected --effort with it; got none. Pass --effort as well.")
    if options.tune == "ssim":
        import_module("torchmetrics")  # if missing, report it before encoding


def tuned_error(options: argparse.Namespace) -> ErrorFunction:
    """The error that a search lowers."""
    from rotvq.evaluation.ssim import TUNES

    return TUNES[options.tune or "psnr"]


def add_levels(parser: Parser) -> None:
    """Add the option for the levels of a residual quantizer."""
    parser.add_argument(
        "--levels",
        type=int,
        metavar="N",
        help="with a residual quantizer, the first N levels only: fewer bits, a coarser image "
        "(default: all)",
    )


def with_configs(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """Replace each `--config FILE` by the options in the file.

    jsonargparse never opens the file, because it would also read files named in it.

    Args:
        words: the command line.
        groups: names of option groups, such as "training" in `--training.epochs`.

    Raises:
        UserError: a file does not exist, is not plain YAML, or contains anything except options;
            or a word is a group without an option.
    """
    found, left, parts = list[str](), iter(words), {f"--{group}" for group in groups}
    for word in left:
        option, _, value = word.partition("=")
        if option == "--config":
            found += _config_words(expanded(value or next(left, "")), groups)
        elif option in parts:
            raise UserError(f"{option}: expected {option}.NAME VALUE; got {option} alone.")
        else:
            found.append(word)
    return found


def _config_words(path: Path, groups: Collection[str]) -> Iterator[str]:
    try:
        parts = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"--config: expected a YAML file; {path} does not exist.") from None
    if not isinstance(parts, dict) or not set(parts) <= set(groups):
        raise UserError(
            f"{path}: expected only {', '.join(groups)}. Pass other options on the command line."
        )
    for group, options in parts.items():
        if not isinstance(options, dict):
            raise UserError(f"{path}: {group}: expected options with values; got {options!r:.80}.")
        for name, value in options.items():
            if isinstance(value, dict | list):
                raise UserError(
                    f"{path}: {group}.{name}: expected a single value; got {type(value).__name__}."
                )
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"--{group}.{name}={text}"


def parsed(parser: ArgumentParser, words: Sequence[str]) -> Any:
    """Parse words with jsonargparse; its errors become one line in our form.

    Raises:
        UserError: an option does not exist, or its value is not of its type.
    """
    try:
        return parser.instantiate(parser.parse_args(words))
    except (UnicodeError, OSError) as error:
        raise UserError(f"expected a readable file; got {_one_line(error)}.") from None
    except (argparse.ArgumentError, TypeError) as error:
        message = _wrong_value(parser, words) or _one_line(error)
        raise UserError(f"{message}. See {parser.prog} --help.") from None


def _wrong_value(parser: ArgumentParser, words: Sequence[str]) -> str | None:
    """The first option whose value is not of its type; None if there is none."""
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        action = parser._option_string_actions.get(option)
        if (kind := getattr(action, "_typehint", None)) is None:
            continue
        given = [word] if equals else [*words[number : number + 2]]
        try:
            parser.parse_args(given)
        except (argparse.ArgumentError, TypeError):
            value = value if equals else " ".join(given[1:]) or "nothing"
            return f"{option.removeprefix('--')}: expected {_described(kind)}; got {value}"
    return None


def _described(kind: Any) -> str:
    """A type in words, such as "int or null"."""
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if parts := get_args(kind):
        return " or ".join(map(_described, parts))
    return "null" if kind is NoneType else str(kind.__name__)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
