"""Atomic file writes: a new file beside the old one, synced, then moved into its place."""

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
"""Pattern of the names of files that are being written, or were when their writer was killed."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_LOOK = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_LOST = {errno.EIO, errno.ENOSPC, errno.EDQUOT}
"""Errors of a sync that mean lost data; others mean that the file system has no sync."""


def write_atomically(path: Path, write: Callable[[Path], object], durable: bool = True) -> None:
    """Let `write` fill a temporary file, then put it in the place of `path`.

    A crash at any moment leaves the old file or the new one.

    Args:
        path: of the file.
        write: fills the file at the path that it is given, which exists and is empty.
        durable: wait for the disk, so that this holds for crashes of the machine too.
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
    """Write text atomically, as UTF-8; parts of file names that are not text are escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, to_json(value, indent=1) + "\n")


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that any reader takes: nan and infinity, which JSON has not, become null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    A file that a living process is writing is locked and stays; so does one whose lock cannot be
    tried.
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
    """An empty file that nobody else has, removed at the end if it is still there.

    The name is random: processes in two containers may have the same id, and a name that can be
    guessed can be taken, with a link to another file. It is short, as a name may have 255 bytes.
    """
    path = folder / TEMPORARY.replace("*", secrets.token_hex(8))
    descriptor = os.open(path, _NEW, 0o666)
    try:
        if os.name == "nt":  # Windows moves no open file.
            os.close(descriptor)
        else:
            _lock(descriptor)
        yield path
    finally:
        path.unlink(missing_ok=True)
        if os.name != "nt":
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a file until it is closed, if no other process has; True where that worked."""
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
    """Wait until a file or the names in a folder are on the disk, where the system can do that."""
    if os.name == "nt":  # Windows opens no folders and syncs no file that is only read.
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
