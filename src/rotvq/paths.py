"""Paths as users write them."""

import os
from pathlib import Path
from typing import Any


def expanded(path: str | os.PathLike[Any]) -> Path:
    """The path with ~ replaced by the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))
