"""Atomic file writes: write a temporary file in the same folder, sync it, then rename it."""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".rotvq-*.part"
"""Name pattern of temporary files: being written, or left by a process that was killed."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_LOOK = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LOST = {errno.EIO, errno.ENOSPC, errno.EDQUOT}
"""Errors of fsync that mean lost data; others mean that the file system does not support it."""


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Let `write` fill a temporary file, then rename it to `path`.

    A crash at any moment leaves either the old file or the new one.

    Args:
        path: the file to write.
        write: fills the file at the path it is given, which exists and is empty.
        durable: wait for the disk, so that this also holds if the machine crashes.
    """
    with _temporary(path.parent) as temporary:
        write(temporary)
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
    if durable:
        _sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    write_atomically(path, lambda target: target.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write text atomically as UTF-8; bytes of file names that are not UTF-8 are escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, to_json(value, indent=1) + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: nan and infinity become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Files that a running process is writing are locked and kept, and so are files that cannot be
    locked.
    """
    for path in folder.glob(TEMPORARY):
        with suppress(OSError):
            descriptor = os.open(path, _LOOK)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and _lock(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new empty file, removed at the end if it still exists.

    The name is random: processes in two containers may have the same id, and a predictable name
    could be taken by a link to another file. It is short, because names are limited to 255 bytes.
    """
    path = folder / TEMPORARY.replace("*", secrets.token_hex(8))
    descriptor, is_ours = None, True
    try:
        try:
            # A signal may raise after the file is there and before this returns.
            descriptor = os.open(path, _NEW, 0o666)
        except OSError:
            is_ours = False
            raise
        if os.name == "nt":  # Windows cannot rename open files.
            os.close(descriptor)
        else:
            _lock(descriptor)
        yield path
    finally:
        if is_ours:
            path.unlink(missing_ok=True)
        if descriptor is not None and os.name != "nt":
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed; False if that fails, as when another process holds it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sync(path: Path) -> None:
    """Wait until a file or the entries of a folder are on disk, where the system supports it."""
    if os.name == "nt":  # Windows can neither open folders nor sync read-only files.
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _LOST:
            raise
