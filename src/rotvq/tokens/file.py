"""Token files: `.npz`, `.safetensors` or `.parquet`, by the suffix of the name.

All hold the same, version 2 of the format "rotvq tokens":

- a header: format, version, model (fingerprint), codebook_sizes, index_shape, bits (of a token),
  stride, channels, images;
- the packed tokens: ⌈rows·columns·bits/8⌉ bytes per image, highest bit first, row by row; the
  indices of a token follow each other, each in the bits of its own codebook;
- heights and widths of the images in pixels; the grid has ⌈height/stride⌉ rows;
- names, labels and captions, each if the source has any.

npz: arrays `header` (JSON as bytes), `tokens` (bytes of all images one after the other), `sizes`
(runs of consecutive images of one size: count, height, width), `names` (zlib of a JSON list, as
bytes), `labels` (the smallest signed integers that fit, of which the lowest means none), `captions`
(as names, with null).
safetensors: the same arrays, with the header in the metadata. parquet: a row per image with
`tokens`, `height`, `width`, `name`, `label` and `caption` (null for an image without one), and the
header in the metadata of the schema.

Version 1, which is still read, had a single codebook: `codebook_size` instead of `codebook_sizes`
and `index_shape`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from rotvq.errors import UserError, first_line
from rotvq.files import write_atomically
from rotvq.tokens.collection import Tokens
from rotvq.tokens.header import header, read_codec, text_header

_ARRAYS = ("header", "tokens", "sizes", "names", "labels", "captions")
Arrays = dict[str, NDArray[Any]]

EXPANSION = 100
"""Times its size on disk that a file may take in memory: tokens hardly compress."""

IMAGES = 10**7
"""Images in a file of a model with one code, whose tokens take no bits, at most."""

NAME = 4096
"""Bytes of an image's name, at most."""

CAPTIONS = 2**26
"""Bytes of all captions together that a file may hold on top of its EXPANSION."""


def save_tokens(tokens: Tokens, path: str | Path) -> None:
    """Save tokens atomically as `.npz`, `.safetensors` or `.parquet`, by the suffix of the path.

    Raises:
        UserError: the path has another suffix.
    """
    path = Path(path)
    write, _ = _kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda target: write(target, tokens))


def load_tokens(path: str | Path) -> Tokens:
    """Load the tokens that `save_tokens` or `rotvq encode` wrote.

    Raises:
        UserError: the file does not exist, is damaged, or is not a token file.
    """
    path = Path(path)
    _, read = _kind(path)
    if not path.is_file():
        raise UserError(f"{path}: expected a token file; there is no such file.")
    try:
        return read(path)
    except ModuleNotFoundError:  # pyarrow
        raise
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # A crafted file can make its library raise anything.
    except Exception as error:
        raise UserError(
            f"{path}: expected a token file written by rotvq encode; got something else, or a "
            f"damaged file ({first_line(error)}). Encode the images again."
        ) from None


def _kind(path: Path) -> tuple[Callable[[Path, Tokens], None], Callable[[Path], Tokens]]:
    if path.suffix not in KINDS:
        raise UserError(f"{path}: expected a name ending in {', '.join(KINDS)}.")
    return KINDS[path.suffix]


def _write_npz(path: Path, tokens: Tokens) -> None:
    described = np.frombuffer(json.dumps(header(tokens)).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **{"header": described, **_arrays(tokens)})  # type: ignore[arg-type]


def _read_npz(path: Path) -> Tokens:
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("its arrays are compressed")
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        # An array whose items have no size could claim any length.
        arrays = {key: file[key] for key in file.files if key in _ARRAYS}
        return _tokens(json.loads(arrays["header"].tobytes()), arrays)


def _write_safetensors(path: Path, tokens: Tokens) -> None:
    path.write_bytes(save(_arrays(tokens), metadata=text_header(tokens)))


def _read_safetensors(path: Path) -> Tokens:
    # From bytes, as safetensors cannot open a path that is not UTF-8. The file starts with the
    # length of a JSON header.
    arrays = load(path.read_bytes())
    with path.open("rb") as file:
        described = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return _tokens(described.get("__metadata__", {}), arrays)


def _write_parquet(path: Path, tokens: Tokens) -> None:
    from rotvq.tokens.parquet import write_parquet  # needs pyarrow

    write_parquet(path, tokens)


def _read_parquet(path: Path) -> Tokens:
    from rotvq.tokens.parquet import read_parquet

    return read_parquet(path, EXPANSION)


KINDS: dict[str, tuple[Callable[[Path, Tokens], None], Callable[[Path], Tokens]]] = {
    ".npz": (_write_npz, _read_npz),
    ".safetensors": (_write_safetensors, _read_safetensors),
    ".parquet": (_write_parquet, _read_parquet),
}


def _arrays(tokens: Tokens) -> Arrays:
    runs = [(len(list(same)), *size) for size, same in groupby(tokens.sizes)]
    arrays: Arrays = {
        "tokens": np.frombuffer(tokens.packed, np.uint8),
        "sizes": np.array(runs, np.uint32).reshape(-1, 3),
    }
    if tokens.names is not None:
        arrays["names"] = _to_bytes(tokens.names)
    if tokens.labels is not None:
        arrays["labels"] = _packed_labels(tokens.labels)
    if tokens.captions is not None:
        arrays["captions"] = _to_bytes(tokens.captions)
    return arrays


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


def _tokens(described: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Tokens:
    codec = read_codec(described)
    tokens, table = arrays["tokens"], arrays["sizes"]
    if tokens.dtype != np.uint8 or tokens.ndim != 1 or table.dtype != np.uint32:
        raise ValueError("its arrays have other types")
    runs = [(count, (height, width)) for count, height, width in table.tolist()]
    wanted = sum(count * codec.bytes_of(size) for count, size in runs)
    if any(min(run[0], *run[1]) < 1 for run in runs) or wanted != tokens.size:
        raise ValueError("its sizes do not match its tokens")
    if codec.bits == 0 and sum(count for count, _ in runs) > IMAGES:
        raise ValueError(f"it has more than {IMAGES:,} images of no bits")
    sizes = [size for count, size in runs for _ in range(count)]
    names = captions = labels = None
    if "names" in arrays:
        names = _from_bytes(arrays["names"], NAME * (len(sizes) + 1))
    if "captions" in arrays:
        room = CAPTIONS + EXPANSION * (tokens.nbytes + arrays["captions"].nbytes)
        captions = _from_bytes(arrays["captions"], room)
    if "labels" in arrays:
        array = arrays["labels"]
        if array.dtype.kind != "i" or array.ndim != 1:
            raise ValueError("its labels are not whole numbers")
        none = np.iinfo(array.dtype).min
        labels = [None if label == none else label for label in array.tolist()]
    return Tokens(codec, sizes, tokens.tobytes(), names, labels, captions)
