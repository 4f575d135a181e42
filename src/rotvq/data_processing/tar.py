"""Reads the headers of a tar file, with bounds.

Python's tarfile trusts the headers: a negative size makes it loop forever (3.11.7), a sparse file
of 5 KB unpacks to gigabytes, an extended header of any length is read whole, and a damaged header
in the middle ends the archive silently. Here, every header moves forward, names are short, sparse
files are refused, and damage is an error.

Source: POSIX.1-2001, "pax Interchange Format" and "ustar Interchange Format"; the GNU tar manual,
"Basic Tar Format", for long names (type L) and numbers in base 256.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

BLOCK = 512
LONGEST_HEADER = 2**20
"""Maximum bytes of an extended header; real ones have a few hundred."""
LONGEST_NAME = 4096
MOST_ZEROS = 2048
"""Consecutive empty blocks that end an archive; tar writes 2 to 20."""

_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_FOLDER = b"5"
_EMPTY = (b"1", b"2", b"3", b"4", _FOLDER, b"6")
"""Links, devices, folders and pipes, which have no content whatever their size."""


class TarError(ValueError):
    """A tar file that is damaged, truncated or malicious."""


class Member(NamedTuple):
    """A file of the archive: its path and the offset of its content; None for links and devices."""

    name: str
    offset: int | None
    size: int


def members(file: IO[bytes], end: int) -> Iterator[Member]:
    """The files of an archive, in order; concatenated archives are read to the end.

    Args:
        file: seekable, at least forward; its position may change between two members.
        end: its maximum size in bytes.

    Raises:
        TarError: a header is damaged, sparse or too long; the file is truncated or longer than
            `end`.
    """
    position = zeros = 0
    extended: dict[str, bytes] = {}
    while zeros <= MOST_ZEROS and (block := _read(file, position, BLOCK, may_end=position > 0)):
        position += BLOCK
        if block == bytes(BLOCK):
            zeros += 1
            continue
        zeros = 0
        _check_sum(block)
        kind = block[156:157]
        size = _octal(block[124:136])
        if "size" in extended:  # For a file whose size has more digits than its header can hold.
            size = _decimal(extended["size"])
        if kind == _SPARSE:
            raise TarError("it holds a sparse file")
        start, position = position, position + (0 if kind in _EMPTY else -(-size // BLOCK) * BLOCK)
        if position > end:
            raise TarError("it is truncated")
        if kind in (_EXTENDED, _GLOBAL, _LONG_NAME, _LONG_LINK):
            if size > LONGEST_HEADER:
                raise TarError(f"it has an extended header of {size:,} bytes")
            if kind == _LONG_NAME:
                extended["path"] = _read(file, start, size).rstrip(b"\0")
            elif kind == _EXTENDED:
                extended |= _records(_read(file, start, size))
            continue
        name = _text(extended.get("path") or _name(block))
        if kind != _FOLDER and not name.endswith("/"):
            yield Member(name, None if kind in _EMPTY else start, size)
        extended = {}


def content(file: IO[bytes], member: Member) -> bytes:
    """A member's bytes; a link has none.

    Raises:
        TarError: the file is truncated.
    """
    return b"" if member.offset is None else _read(file, member.offset, member.size)


def _read(file: IO[bytes], offset: int, size: int, may_end: bool = False) -> bytes:
    file.seek(offset)
    found = file.read(size)
    if len(found) != size and (found or not may_end):
        raise TarError("it is truncated")
    return found


def _check_sum(block: bytes) -> None:
    """Verify a header's checksum, which itself counts as eight spaces."""
    plain = block[:148] + b" " * 8 + block[156:]
    stated, unsigned = _octal(block[148:156]), sum(plain)
    # Some old writers summed signed bytes.
    if stated != unsigned and stated != unsigned - 256 * sum(byte > 127 for byte in plain):
        raise TarError("a header is damaged")


def _octal(field: bytes) -> int:
    """A number in octal digits, or in base 256 if the first bit is set."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise TarError("it holds a file of a negative size")
        return int.from_bytes(field, "big") - (1 << 8 * len(field) - 1)
    digits = field.partition(b"\0")[0].strip() or b"0"
    if digits.startswith(b"-"):
        raise TarError("it holds a file of a negative size")
    try:
        return int(digits, 8)
    except ValueError:
        raise TarError("a header is damaged") from None


def _records(extended: bytes) -> dict[str, bytes]:
    """Path and size in an extended header: lines `LENGTH KEY=VALUE`; the length includes itself."""
    records: dict[str, bytes] = {}
    start = 0
    while start < len(extended):
        digits = extended[start : start + 20].partition(b" ")[0]
        end = start + _decimal(digits)
        key, equals, value = extended[start + len(digits) + 1 : end].partition(b"=")
        if not equals or end > len(extended) or not value.endswith(b"\n"):
            raise TarError("an extended header is damaged")
        if key.startswith(b"GNU.sparse."):
            raise TarError("it holds a sparse file")
        if key in (b"path", b"size"):
            records[key.decode()] = value[:-1]
        start = end
    return records


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise TarError("an extended header is damaged")
    return int(digits)


def _name(block: bytes) -> bytes:
    name, prefix = (block[a:b].partition(b"\0")[0] for a, b in ((0, 100), (345, 500)))
    posix = block[257:263] == b"ustar\0"  # The GNU format has times in place of a prefix.
    return prefix + b"/" + name if posix and prefix else name


def _text(name: bytes) -> str:
    if len(name) > LONGEST_NAME:
        raise TarError(f"it holds a name of {len(name):,} bytes")
    return name.decode("utf-8", "surrogateescape")
