"""Checkpoints that someone made up, with the checksum that a whole one has."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import torch


def sealed(content: bytes) -> bytes:
    """Bytes with their SHA-256 behind them."""
    return content + hashlib.sha256(content).digest()


def write_sealed(path: Path, content: Any) -> None:
    """Write any content as a checkpoint is written."""
    file = io.BytesIO()
    torch.save(content, file)
    path.write_bytes(sealed(file.getvalue()))


def repacked(whole: bytes, records: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    """An archive with the content of some records changed, and the checksums that are theirs.

    Args:
        whole: of `torch.save`.
        records: new content by the last part of the name, as "data.pkl".
        kind: of compression.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(made, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, records.get(name.partition("/")[2], old.read(name)))
    return made.getvalue()
