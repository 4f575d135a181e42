"""Token files: `.npz`, `.safetensors` or `.parquet`, by the suffix of the name.

All hold the same, version 3 of the format "rotvq tokens", or 4 with scales:

- a header: format, version, model (fingerprint), codebook_sizes, index_shape, bits (of a token),
  stride, channels, images; with a multi-scale quantizer also scales; index_shape is then the
  number of scales, from the first, that have tokens in the file; and, if the classes have names,
  classes: those names by label;
- the packed tokens: ⌈rows·columns·bits/8⌉ bytes per image, highest bit first, row by row; the
  indices of a token follow each other, each in the bits of its own codebook. With scales, one map
  follows the other, each row by row, so the bytes are ⌈tokens·bits/8⌉;
- heights and widths of the images in pixels; the grid has ⌈height/stride⌉ rows;
- names, labels and captions, each if the source has any.

npz: arrays `header` (JSON as bytes), `tokens` (bytes of all images one after the other), `sizes`
(runs of consecutive images of one size: count, height, width), `names` (zlib of a JSON list, as
bytes), `labels` (the smallest signed integers that fit, of which the lowest means none), `captions`
(as names, with null).
safetensors: the same arrays, with the header in the metadata and names that need not be unpacked:
`names` (UTF-8) and `name_ends` (where each ends). parquet: a row per image with `tokens`, `height`,
`width`, `name`, `label` and `caption` (null for an image without one), and the header in the
metadata of the schema.

Older versions are still read. Version 2 had zlib's names in safetensors files, too. Version 1 had a
single codebook: `codebook_size` instead of `codebook_sizes` and `index_shape`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from safetensors.numpy import load, save

from rotvq.errors import UserError, first_line
from rotvq.files import write_atomically
from rotvq.paths import expanded
from rotvq.tokens.arrays import ARRAYS, EXPANSION, from_arrays, to_arrays
from rotvq.tokens.collection import Tokens
from rotvq.tokens.header import as_text, header, read_count

T = TypeVar("T")
Header = Mapping[str, Any]

TABLE = 2**26
"""Maximum bytes of a safetensors file's header."""


def save_tokens(tokens: Tokens, path: str | Path, *, recipe: str | None = None) -> None:
    """Save tokens atomically as `.npz`, `.safetensors` or `.parquet`, by the suffix of the path.

    Args:
        tokens: tokens of any number of images.
        path: path of the file; its folder is created if needed.
        recipe: recorded in the header, if this is one of several shards; see `read_header`.

    Raises:
        UserError: the path has another suffix.
    """
    path = expanded(path)
    write = _kind(path).write
    path.parent.mkdir(parents=True, exist_ok=True)
    described = header(tokens, recipe)
    write_atomically(path, lambda target: write(target, tokens, described))


def load_tokens(path: str | Path) -> Tokens:
    """Load the tokens that `save_tokens` or `rotvq encode` wrote.

    Raises:
        UserError: the file does not exist, is damaged, or is not a token file.
    """
    path = expanded(path)
    if path.is_dir():
        raise UserError(
            f"{path}: expected a token file; got a folder. Read a folder of shards with "
            "rotvq.TokenDataset, or its files one by one."
        )
    return reading(path, _kind(path).read)


def read_header(path: Path) -> Header:
    """The header of a token file; lists may be JSON.

    Raises:
        UserError: the file does not exist, is damaged, or is not a token file.
    """
    return reading(path, _kind(path).read_header)


def number_of_images(path: Path, header: Header) -> int:
    """The number of images that the header of a token file states.

    Raises:
        UserError: it states none.
    """
    return reading(path, lambda _: read_count(header))


def reading(path: Path, read: Callable[[Path], T]) -> T:
    """Read a token file.

    Raises:
        UserError: the file does not exist, is damaged, or is not a token file.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a token file; there is no such file.")
    return _guarded(str(path), lambda: read(path))


def _guarded(name: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ModuleNotFoundError:  # pyarrow
        raise
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    # A crafted file can make its library raise anything.
    except Exception as error:
        raise UserError(
            f"{name}: expected a token file written by rotvq encode; got something else, or a "
            f"damaged file ({first_line(error)}). Encode the images again."
        ) from None


def _kind(path: Path) -> _Kind:
    if path.suffix not in KINDS:
        raise UserError(f"{path}: expected a name ending in {', '.join(KINDS)}.")
    return KINDS[path.suffix]


def to_npz(tokens: Tokens) -> bytes:
    """The content of an `.npz` token file."""
    content = BytesIO()
    _savez(content, tokens, header(tokens))
    return content.getvalue()


def from_npz(content: bytes) -> Tokens:
    """The tokens in the content of an `.npz` token file.

    Raises:
        UserError: it is damaged, or not a token file.
    """
    return _guarded("tokens", lambda: _loadz(BytesIO(content)))


def _write_npz(path: Path, tokens: Tokens, header: Header) -> None:
    with path.open("wb") as file:
        _savez(file, tokens, header)


def _savez(file: IO[bytes], tokens: Tokens, header: Header) -> None:
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    np.savez(file, **arrays, **to_arrays(tokens, compact=True))  # type: ignore[arg-type]


def _read_npz(path: Path) -> Tokens:
    with path.open("rb") as opened:
        return _loadz(opened)


def _loadz(opened: IO[bytes]) -> Tokens:
    with zipfile.ZipFile(opened) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("its arrays are compressed")
    opened.seek(0)
    with np.load(opened, allow_pickle=False) as file:
        # An array whose items have no size could claim any length.
        arrays = {key: file[key] for key in file.files if key in ("header", *ARRAYS)}
        return from_arrays(json.loads(arrays["header"].tobytes()), arrays)


def _read_npz_header(path: Path) -> Header:
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        described: Header = json.loads(file["header"].tobytes())
        return described


def _write_safetensors(path: Path, tokens: Tokens, header: Header) -> None:
    content = save(to_arrays(tokens, compact=False), metadata=as_text(header))
    # The library writes metadata in random order; equal tokens are to be equal files.
    start = 8 + int.from_bytes(content[:8], "little")
    table = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":"))
    path.write_bytes(content[:8] + table.encode().ljust(start - 8) + content[start:])


def _read_safetensors(path: Path) -> Tokens:
    # From bytes, as safetensors cannot open a path that is not UTF-8.
    return from_arrays(_read_safetensors_header(path), load(path.read_bytes()))


def _read_safetensors_header(path: Path) -> Header:
    found: Header = safetensors_table(path).get("__metadata__", {})
    return found


def safetensors_table(path: Path) -> dict[str, Any]:
    """What a safetensors file begins with: its arrays and metadata as JSON, after its length.

    Raises:
        Exception: any exception, if the file is damaged.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(TABLE, path.stat().st_size):
            raise ValueError("its header is damaged")
        table: dict[str, Any] = json.loads(file.read(length))
        return table


def _write_parquet(path: Path, tokens: Tokens, header: Header) -> None:
    from rotvq.tokens.parquet import write_parquet  # needs pyarrow

    write_parquet(path, tokens, header)


def _read_parquet(path: Path) -> Tokens:
    from rotvq.tokens.parquet import read_parquet

    return read_parquet(path, EXPANSION)


def _read_parquet_header(path: Path) -> Header:
    from rotvq.tokens.parquet import read_parquet_header

    return read_parquet_header(path)


class _Kind(NamedTuple):
    write: Callable[[Path, Tokens, Header], None]
    read: Callable[[Path], Tokens]
    read_header: Callable[[Path], Header]


KINDS = {
    ".npz": _Kind(_write_npz, _read_npz, _read_npz_header),
    ".safetensors": _Kind(_write_safetensors, _read_safetensors, _read_safetensors_header),
    ".parquet": _Kind(_write_parquet, _read_parquet, _read_parquet_header),
}
