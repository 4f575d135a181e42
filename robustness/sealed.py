"""Crafted checkpoints with a valid checksum."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch


def sealed(content: bytes) -> bytes:
    """The content with its SHA-256 appended."""
    return content + hashlib.sha256(content).digest()


def write_sealed(path: Path, content: Any) -> None:
    """Write any content in the format of a checkpoint."""
    file = io.BytesIO()
    torch.save(content, file)
    path.write_bytes(sealed(file.getvalue()))


def repacked(whole: bytes, records: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with some records replaced, and valid checksums.

    Args:
        whole: an archive written by `torch.save`.
        records: new content by the last part of the name, such as "data.pkl".
        kind: the compression, such as `zipfile.ZIP_STORED`.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, records.get(name.partition("/")[2], old.read(name)))
    return made.getvalue()
