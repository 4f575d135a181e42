"""The arrays of a token file, memory-mapped: only what is used is read from disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rotvq.tokens.arrays import ARRAYS, Arrays, check_ends, check_labels, checked_runs, to_arrays
from rotvq.tokens.collection import Codec
from rotvq.tokens.file import load_tokens, reading, safetensors_table
from rotvq.tokens.header import read_codec

_TYPES = {"U8": np.uint8, "U32": np.uint32, "U64": np.uint64} | {
    f"I{8 * n}": np.dtype(f"i{n}") for n in (1, 2, 4, 8)
}


class MappedTokens:
    """The images of a token file, many at a time by their numbers.

    Files other than `.safetensors`, and those of older versions, are loaded into memory, packed.

    Args:
        path: path of the file.

    Raises:
        UserError: the file does not exist, is damaged, or is not a token file.
    """

    def __init__(self, path: Path) -> None:
        self.codec, arrays = reading(path, _opened)
        self.packed = arrays["tokens"]
        self._sizes = arrays["sizes"][:, 1:].astype(np.int64)
        self._lengths = np.array([*map(self.codec.bytes_of, self._sizes.tolist())], np.int64)
        counts = arrays["sizes"][:, 0].astype(np.int64)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self._offsets = np.cumsum(counts * self._lengths) - counts * self._lengths
        self._labels = arrays.get("labels")
        self._no_label = None if self._labels is None else np.iinfo(self._labels.dtype).min
        self._names = arrays["names"].data if "name_ends" in arrays else None
        self._name_ends = arrays.get("name_ends")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def places(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sizes (n, 2) of images, and where their bytes begin in `packed` (n,)."""
        run = np.searchsorted(self._ends, numbers, "right")
        offsets = self._offsets[run] + (numbers - self._starts[run]) * self._lengths[run]
        return self._sizes[run], offsets

    def labels(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels of images; -1 for an image without one."""
        if self._labels is None:
            return np.full(len(numbers), -1)
        found = self._labels[numbers]
        return np.where(found == self._no_label, -1, found).astype(np.int64)

    def names(self, numbers: NDArray[np.int64]) -> list[str]:
        """Names of images; "" for an image without one."""
        if self._names is None or self._name_ends is None:
            return [""] * len(numbers)
        ends = self._name_ends[numbers].tolist()
        starts = np.where(numbers > 0, self._name_ends[numbers - 1], 0).tolist()
        return [
            str(self._names[a:b], "utf-8", "replace") for a, b in zip(starts, ends, strict=True)
        ]


def _opened(path: Path) -> tuple[Codec, Arrays]:
    if path.suffix == ".safetensors":
        table = safetensors_table(path)
        if "name_ends" in table or "names" not in table:
            return _mapped(path, table)
    tokens = load_tokens(path)
    return tokens.codec, to_arrays(tokens, compact=False)


def _mapped(path: Path, table: dict[str, Any]) -> tuple[Codec, Arrays]:
    codec = read_codec(table.get("__metadata__", {}))
    content = _mapping(path)
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    arrays: Arrays = {}
    for name in ARRAYS:
        if name in table and name != "captions":
            first, last = (start + int(offset) for offset in table[name]["data_offsets"])
            kind, shape = np.dtype(_TYPES[table[name]["dtype"]]), table[name]["shape"]
            if not start <= first <= last <= len(content):
                raise ValueError("its arrays lie outside the file")
            if math.prod(shape) * kind.itemsize != last - first:
                raise ValueError("the shape of an array does not match its bytes")
            arrays[name] = content[first:last].view(kind).reshape(shape)
    images = sum(count for count, _ in checked_runs(codec, arrays))
    if "labels" in arrays and len(check_labels(arrays)) != images:
        raise ValueError("its labels do not match its images")
    if "names" in arrays and len(check_ends(arrays)) != images:
        raise ValueError("its names do not match its images")
    return codec, arrays


def _mapping(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file.

    Unlike `np.memmap`, torch keeps no file descriptor open, of which a process usually has 1,024: a
    dataset may have more shards.
    """
    try:
        content = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8).numpy()
    except UnicodeEncodeError:  # torch takes only paths in UTF-8
        return np.asarray(np.memmap(path, np.uint8, "r"))
    content.flags.writeable = False
    return content
