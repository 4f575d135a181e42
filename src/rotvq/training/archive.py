"""Reading untrusted files of `torch.save`: no code runs, and memory is bounded."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from typing import Any, BinaryIO

import torch

LARGEST_PICKLE = 2**26
"""Maximum size in bytes of everything but the tensors' data."""

_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
_STORAGES = {"Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"}
_KNOWN = _NAMES | {f"torch {kind}Storage" for kind in _STORAGES}


def read(file: BinaryIO) -> Any:
    """Load the tensors and plain values of a file, on the CPU.

    Args:
        file: seekable.

    Raises:
        Exception: any exception, if the file is damaged, refers to anything but tensors, or expands
            to more than its own size.
    """
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        _check(records, file.seek(0, io.SEEK_END))
        # torch reads a copy of the checked records: its own zip reader may see other records in a
        # crafted file.
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as checked:
            for record in records:
                content = archive.read(record)
                if record.filename.endswith(".pkl"):
                    _check_names(content)
                checked.writestr(record.filename, content)
    copy.seek(0)
    with warnings.catch_warnings():
        # About content that torch did not write, which is refused or harmless.
        warnings.simplefilter("ignore")
        return torch.load(copy, map_location="cpu", weights_only=True)


def _check(records: list[zipfile.ZipInfo], size: int) -> None:
    """Check that the records are like those of `torch.save`: unique names, no compression."""
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed")
    if len({record.filename for record in records}) != len(records):
        raise ValueError("two of its records have one name")
    if sum(record.file_size for record in records) > size:
        raise ValueError("its records overlap")
    if any(r.file_size > LARGEST_PICKLE for r in records if r.filename.endswith(".pkl")):
        raise ValueError(f"it holds more than {LARGEST_PICKLE:,} bytes of plain values")


def _check_names(pickled: bytes) -> None:
    """Check that a pickle refers to nothing but tensors.

    torch allows more, some of which turns a few bytes into gigabytes.
    """
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "STACK_GLOBAL" or (
            operation.name in ("GLOBAL", "INST") and argument not in _KNOWN
        ):
            raise ValueError(f"it names {argument}")
