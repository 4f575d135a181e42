"""Files that are whole or absent: written beside, synced, then moved into place."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

_NUMBERS = count()


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Let `write` fill a temporary file, then put it in the place of `path`.

    A crash at any moment leaves the old file or the new one. Where that is not worth the wait for
    the disk, `durable=False` says so for crashes of the machine.
    """
    # Short: a name may have no more than 255 bytes, and that of `path` may have them already.
    temporary = path.with_name(f".{os.getpid()}-{next(_NUMBERS)}.part")
    try:
        write(temporary)
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda target: target.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8; parts of file names that are not text are escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, to_json(value, indent=1) + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that any reader takes: nan and infinity, which JSON has not, become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sync(path: Path) -> None:
    if os.name == "nt":  # Windows opens no folders and syncs no file that is only read.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
