"""Bounded reading of untrusted files: regular files, JSON and YAML with plain data.

Nothing here waits for a pipe, reads a device, follows a link out of a folder, or uses more memory
than a few times the size of the file.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from rotvq.errors import UserError, first_line

LARGEST = 2**24
"""Maximum bytes of a file that is read at once."""

LARGEST_YAML = 2**18
"""Maximum bytes of a YAML file; the parser takes a second for 50 KB, a configuration has 1 KB."""

DEEPEST = 32
"""Maximum levels of nesting."""

LARGEST_NUMBER = 1e38
"""About the largest float32: metrics stay below it, and sums of such numbers are finite."""


def open_regular(path: Path, within: Path | None = None) -> BinaryIO:
    """Open a regular file to read bytes.

    Args:
        path: the file. Links to regular files are followed.
        within: a folder that must contain the file after links are resolved; None allows any.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is a folder, a pipe, a socket or a device, is outside `within`, or cannot be
            opened.
    """
    try:
        _check_regular(path, os.stat(path))
        if within is not None and not path.resolve().is_relative_to(within.resolve()):
            raise UserError(
                f"{path}: expected a file inside {within}; it is a link to {path.resolve()}. "
                "Replace the link with a copy."
            )
        # If a pipe replaces the file at this moment, opening it does not wait for a writer.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NONBLOCK))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: expected a readable file; got {error.strerror}.") from None
    try:
        _check_regular(path, os.fstat(file.fileno()))
    except UserError:
        file.close()
        raise
    return file


def read_bytes(path: Path, largest: int = LARGEST, within: Path | None = None) -> bytes:
    """The content of a regular file of at most `largest` bytes.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is larger, or cannot be read; see `open_regular`.
    """
    with open_regular(path, within) as file:
        try:
            content = file.read(largest + 1)
        except OSError as error:
            raise UserError(f"{path}: expected a readable file; got {error.strerror}.") from None
    if len(content) > largest:
        raise UserError(f"{path}: expected at most {largest:,} bytes; got more.")
    return content


def check_not_linked(folder: Path) -> None:
    """Check that a folder is not a link to another one; it need not exist yet.

    Raises:
        UserError: it is a link.
    """
    if folder.is_symlink():
        raise UserError(
            f"{folder}: expected a folder; it is a link to {os.readlink(folder)}. Remove it or "
            "choose another --out."
        )


def check_not_file(folder: Path) -> None:
    """Check that a folder to write to is not a file; it need not exist yet.

    Raises:
        UserError: it is one.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: expected a folder; {folder} is a file. Choose another name.")


def read_json(path: Path, within: Path | None = None) -> Any:
    """The value in a JSON file; raises like `parse_json` and `read_bytes`."""
    return parse_json(read_bytes(path, within=within), str(path))


def read_yaml(path: Path, within: Path | None = None) -> Any:
    """The value in a YAML file without aliases and custom tags.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, is not YAML, or contains more than plain data.
    """
    content = read_bytes(path, LARGEST_YAML, within)
    return _plain(lambda: yaml.load(content, _NoAliases), "YAML", str(path))


def parse_json(content: bytes | str, where: str) -> Any:
    """The value of a JSON text; NaN and Infinity are accepted as numbers.

    Args:
        content: the text.
        where: what to call it in error messages.

    Raises:
        UserError: it is not JSON, is nested too deeply, or has an integer of more than 64 bits.
    """
    return _plain(lambda: json.loads(content), "JSON", where)


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Check that a value is a mapping, and return it.

    Raises:
        UserError: it is not; the message starts with `where`.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping of names; got {type(value).__name__}.")
    return value


def numbers(record: Mapping[str, Any], key: str, where: str) -> Mapping[str, float]:
    """The numbers in the mapping at a key of a record; null and non-finite ones are nan.

    Raises:
        UserError: a value is not a number, or exceeds `LARGEST_NUMBER`.
    """
    values = mapping(record.get(key), f"{where}: {key}")
    return {name: _number(value, f"{where}: {key}.{name}") for name, value in values.items()}


def _number(value: Any, where: str) -> float:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.nan
    if not isinstance(value, int | float) or abs(value) > LARGEST_NUMBER:
        raise UserError(f"{where}: expected a number up to {LARGEST_NUMBER:g}; got {shown(value)}.")
    return float(value)


def shown(value: Any) -> str:
    """A value for an error message: one line of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _plain(parse: Callable[[], Any], kind: str, where: str) -> Any:
    try:
        value = parse()
        _check(value)
    # A crafted file can make a parser raise anything.
    except Exception as error:
        raise UserError(f"{where}: expected {kind}; {_reason(error)}.") from None
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return first_line(error)


def _check(value: Any, depth: int = 0) -> None:
    """Check that a value can be written as JSON, and its numbers as text."""
    if depth > DEEPEST:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise ValueError(f"it has a key of type {type(key).__name__}, which is not text")
            _check(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1)
    elif isinstance(value, int) and value.bit_length() > 64:
        raise ValueError("it has an integer of more than 64 bits")
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"it has a value of type {type(value).__name__}")


class _NoAliases(yaml.SafeLoader):
    """Refuses aliases: a few lines of them can expand to more than fits in memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise UserError(f"{path}: expected a regular file; got {kind}.")
