"""Files of `torch.save` that a stranger may have written: no code is run, memory is bounded."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from typing import Any, BinaryIO

import torch

LARGEST_PICKLE = 2**26
"""Bytes of everything in the file that is not a tensor's content."""

_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
_STORAGES = {"Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool"}
_KNOWN = _NAMES | {f"torch {kind}Storage" for kind in _STORAGES}


def read(file: BinaryIO) -> Any:
    """The tensors and plain values in a file, on the CPU.

    Args:
        file: seekable.

    Raises:
        Exception: of any kind, where the file is damaged, holds a name other than those of tensors,
            or its records unfold to more than the file.
    """
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        _check(records, file.seek(0, io.SEEK_END))
        # A copy, so that torch reads the records that were checked: its own reader of archives may
        # see others in a file that was made to mislead.
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as checked:
            for record in records:
                content = archive.read(record)
                if record.filename.endswith(".pkl"):
                    _check_names(content)
                checked.writestr(record.filename, content)
    copy.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Of what torch did not write, which is refused or harmless.
        return torch.load(copy, map_location="cpu", weights_only=True)


def _check(records: list[zipfile.ZipInfo], size: int) -> None:
    """See that the records are those that `torch.save` writes: one of a name, none compressed."""
    if any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError("its records are compressed")
    if len({record.filename for record in records}) != len(records):
        raise ValueError("two of its records have one name")
    if sum(record.file_size for record in records) > size:
        raise ValueError("its records overlap")
    if any(r.file_size > LARGEST_PICKLE for r in records if r.filename.endswith(".pkl")):
        raise ValueError(f"it holds more than {LARGEST_PICKLE:,} bytes of plain values")


def _check_names(pickled: bytes) -> None:
    """See that a pickle names nothing but tensors.

    torch itself allows more, and some of it makes gigabytes of a few bytes.
    """
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "STACK_GLOBAL" or (
            operation.name in ("GLOBAL", "INST") and argument not in _KNOWN
        ):
            raise ValueError(f"it names {argument}")
