"""Paths as users write them."""

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

LONGEST = 255
"""Maximum bytes of a name in most file systems."""


def expanded(path: str | os.PathLike[Any]) -> Path:
    """The path with ~ replaced by the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))


def shortened(name: str, longest: int = LONGEST) -> str:
    """The name; if it is too long, it is truncated and its hash is appended.

    Args:
        name: without slashes.
        longest: maximum number of bytes.
    """
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= longest:
        return name
    ending = f"-{hashlib.sha256(encoded).hexdigest()[:16]}{PurePosixPath(name).suffix[-16:]}"
    return encoded[: longest - len(ending.encode())].decode("utf-8", "ignore") + ending
