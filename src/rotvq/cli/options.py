"""Parsers that raise a UserError where others print and exit."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rotvq.errors import UserError
from rotvq.guarded import read_yaml


class Parser(argparse.ArgumentParser):
    """argparse with whole option names and one-line errors."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}. See {self.prog} --help.")


def with_configs(words: Sequence[str], groups: Collection[str]) -> list[str]:
    """Words with each `--config FILE` replaced by the options that the file holds, in its place.

    No other reader opens the file: jsonargparse would follow names of files in it.

    Args:
        words: of the command line.
        groups: the parts of a configuration, as "training" in `--training.epochs`.

    Raises:
        UserError: a file is absent, is not plain YAML, or holds something other than options; a
            word names a part where its options are expected.
    """
    found, left, parts = list[str](), iter(words), {f"--{group}" for group in groups}
    for word in left:
        option, _, value = word.partition("=")
        if option == "--config":
            found += _config_words(Path(value or next(left, "")), groups)
        elif option in parts:
            raise UserError(f"{option}: expected one of its options, as {option}.NAME VALUE.")
        else:
            found.append(word)
    return found


def _config_words(path: Path, groups: Collection[str]) -> Iterator[str]:
    try:
        parts = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"--config: expected a YAML file; there is no {path}.") from None
    if not isinstance(parts, dict) or not set(parts) <= set(groups):
        raise UserError(
            f"{path}: expected {', '.join(groups)} and nothing else. Give other options on the "
            "command line."
        )
    for group, options in parts.items():
        if not isinstance(options, dict):
            raise UserError(f"{path}: {group}: expected options with values; got something else.")
        for name, value in options.items():
            if isinstance(value, dict | list):
                raise UserError(f"{path}: {group}.{name}: expected one value; got several.")
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"--{group}.{name}={text}"


def guarded(parse: Callable[[], Any], prog: str) -> Any:
    """Turn what jsonargparse complains of into one line in our form."""
    try:
        return parse()
    except (UnicodeError, OSError) as error:
        raise UserError(f"expected a readable file; {' '.join(str(error).split())}.") from None
    except (argparse.ArgumentError, TypeError) as error:
        raise UserError(f"{_in_our_words(str(error))}. See {prog} --help.") from None


def _in_our_words(message: str) -> str:
    key = re.search(r'Parser key "([^"]+)"', message)
    value = re.search(r"(?:Given|Got) value: (.*)", message.splitlines()[-1])
    kinds = re.findall(r"Expected an? (<class '\w+'>|typing\.Literal\[.+?\])", message)
    if not (key and value and kinds):
        plain = re.sub(r"<?functools\.partial.*", "of another kind", message, flags=re.DOTALL)
        return " ".join(plain.split()).rstrip(".")
    kinds = [re.sub(r"<class '(\w+)'>|typing\.Literal\[(.+)\]", r"\1\2", kind) for kind in kinds]
    expected = " or ".join("null" if kind == "NoneType" else kind for kind in kinds)
    return f"{key[1]}: expected {expected}; got {value[1]}"
