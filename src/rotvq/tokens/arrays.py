"""Tokens as arrays, as in `.npz` and `.safetensors` files. See `rotvq.tokens.file`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rotvq.tokens.collection import Codec, Size, Tokens
from rotvq.tokens.header import read_classes, read_codec

ARRAYS = ("tokens", "sizes", "names", "name_ends", "labels", "captions")
Arrays = dict[str, NDArray[Any]]

EXPANSION = 100
"""A file may take this many times its size in memory; tokens hardly compress."""

IMAGES = 10**7
"""Maximum number of images in a file whose tokens take no bits, as the model has one code."""

NAME = 4096
"""Maximum bytes of an image's name."""

CAPTIONS = 2**26
"""Maximum bytes of all captions of a file, on top of its EXPANSION."""


def to_arrays(tokens: Tokens, compact: bool) -> Arrays:
    """Tokens as arrays.

    Args:
        tokens: tokens of any number of images.
        compact: compress the names; they can then only be read all at once.
    """
    runs = [(len(list(same)), *size) for size, same in groupby(tokens.sizes)]
    arrays: Arrays = {
        "tokens": np.frombuffer(tokens.packed, np.uint8),
        "sizes": np.array(runs, np.uint32).reshape(-1, 3),
    }
    if tokens.names is not None and compact:
        arrays["names"] = _to_bytes(tokens.names)
    elif tokens.names is not None:
        encoded = [name.encode() for name in tokens.names]
        arrays["names"] = np.frombuffer(b"".join(encoded), np.uint8)
        ends = np.cumsum([*map(len, encoded)], dtype=np.uint64)
        arrays["name_ends"] = ends if arrays["names"].size > 2**32 - 1 else ends.astype(np.uint32)
    if tokens.labels is not None:
        arrays["labels"] = _packed_labels(tokens.labels)
    if tokens.captions is not None:
        arrays["captions"] = _to_bytes(tokens.captions)
    return arrays


def from_arrays(described: Mapping[str, Any], arrays: Arrays) -> Tokens:
    """Tokens from arrays.

    Raises:
        Exception: any exception, if they do not fit each other.
    """
    codec = read_codec(described)
    sizes = [size for count, size in checked_runs(codec, arrays) for _ in range(count)]
    names = captions = labels = None
    if "name_ends" in arrays:
        ends, content = check_ends(arrays).tolist(), arrays["names"].tobytes()
        names = [content[a:b].decode() for a, b in pairwise([0, *ends])]
    elif "names" in arrays:
        names = _from_bytes(arrays["names"], NAME * (len(sizes) + 1))
    if "captions" in arrays:
        room = CAPTIONS + EXPANSION * (arrays["tokens"].nbytes + arrays["captions"].nbytes)
        captions = _from_bytes(arrays["captions"], room)
    if "labels" in arrays:
        array = check_labels(arrays)
        none = np.iinfo(array.dtype).min
        labels = [None if label == none else label for label in array.tolist()]
    packed, classes = arrays["tokens"].tobytes(), read_classes(described)
    return Tokens(codec, sizes, packed, names, labels, captions, classes)


def checked_runs(codec: Codec, arrays: Arrays) -> list[tuple[int, Size]]:
    """Runs of consecutive images of one size: their number, and that size.

    Raises:
        ValueError: they do not match the tokens.
    """
    tokens, table = arrays["tokens"], arrays["sizes"]
    if tokens.dtype != np.uint8 or tokens.ndim != 1 or table.dtype != np.uint32:
        raise ValueError("its arrays have other types")
    runs = [(count, (height, width)) for count, height, width in table.tolist()]
    wanted = sum(count * codec.bytes_of(size) for count, size in runs)
    if any(min(run[0], *run[1]) < 1 for run in runs) or wanted != tokens.size:
        raise ValueError("its sizes do not match its tokens")
    if codec.bits == 0 and sum(count for count, _ in runs) > IMAGES:
        raise ValueError(f"it has more than {IMAGES:,} images of no bits")
    return runs


def check_labels(arrays: Arrays) -> NDArray[np.signedinteger[Any]]:
    """The labels.

    Raises:
        ValueError: they are not integers.
    """
    array = arrays["labels"]
    if array.dtype.kind != "i" or array.ndim != 1:
        raise ValueError("its labels are not integers")
    return array


def check_ends(arrays: Arrays) -> NDArray[np.unsignedinteger[Any]]:
    """Where each name ends.

    Raises:
        ValueError: they do not fit the names.
    """
    ends, names = arrays["name_ends"], arrays["names"]
    if ends.dtype.kind != "u" or ends.ndim != 1 or names.dtype != np.uint8:
        raise ValueError("its names have other types")
    if (ends[1:] < ends[:-1]).any() or (int(ends[-1]) if len(ends) else 0) != names.size:
        raise ValueError("its names do not match their lengths")
    return ends


def _packed_labels(labels: Sequence[int | None]) -> NDArray[np.signedinteger[Any]]:
    """Labels in the smallest type that holds them; its lowest number marks missing ones."""
    present = [label for label in labels if label is not None]
    lowest, highest = min(present, default=0), max(present, default=0)
    kinds = (np.int8, np.int16, np.int32)
    fitting = (k for k in kinds if np.iinfo(k).min < lowest and highest <= np.iinfo(k).max)
    kind = next(fitting, np.int64)
    return np.array([np.iinfo(kind).min if each is None else each for each in labels], kind)


def _to_bytes(texts: Sequence[str | None]) -> NDArray[np.uint8]:
    content = json.dumps(list(texts), ensure_ascii=False).encode()
    return np.frombuffer(zlib.compress(content, 9), np.uint8)


def _from_bytes(array: NDArray[Any], most: int) -> Any:
    """The argument of `_to_bytes`; at most `most` bytes are unpacked."""
    return json.loads(zlib.decompressobj().decompress(array.tobytes(), most))
