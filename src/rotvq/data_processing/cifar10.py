"""CIFAR-10 as its author distributes it: cifar-10-python.tar.gz, or the folder inside it.

A complete batch is unpickled only if its MD5 is the official one. A smaller file is a partial copy,
which no MD5 can vouch for: it is read all the same, as `unpickle` runs nothing that a file says.
"""

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rotvq.data_processing import tar
from rotvq.data_processing.reader import ImageSource, Reader, joined, of_arrays
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.splits import ImageData
from rotvq.data_processing.unpickle import Batch, read_batch
from rotvq.errors import UserError, first_line

FOLDER = "cifar-10-batches-py"
COMPLETE = 10_000 * 3072
"""Bytes of pixels in a complete batch."""
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"
)  # fmt: skip
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
BATCH_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# The official batches have 31 MB; a larger file is not a batch and is not read into memory.
LARGEST_BATCH = 64 * 2**20
LARGEST_ARCHIVE = 2**29
"""Bytes of an uncompressed archive; the official one has 186 MB."""
_COMPRESSIONS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open
}  # fmt: skip


def holds_batches(folder: Path) -> bool:
    """Whether a folder holds a file with the name of an official batch."""
    return any((folder / name).is_file() for name in BATCH_MD5)


def is_archive(path: Path) -> bool:
    """Whether an uncompressed tar file holds a file with the name of an official batch."""
    try:
        with path.open("rb") as file:
            found = tar.members(file, path.stat().st_size)
            first = islice(found, 2 * len(BATCH_MD5))
            return any(member.name.rpartition("/")[2] in BATCH_MD5 for member in first)
    except (tar.TarError, OSError):
        return False


def open_batches(folder: Path) -> ImageSource:
    """Open a folder `cifar-10-batches-py`.

    Raises:
        UserError: a batch is missing, or damaged (when it is read).
    """

    def read(name: str) -> bytes:
        path = folder / name
        _check_size(path.stat().st_size, str(path))
        return path.read_bytes()

    return _source([name for name in BATCH_MD5 if (folder / name).is_file()], read, folder)


def open_archive(path: Path) -> ImageSource:
    """Open `cifar-10-python.tar.gz` in place; the batches of a repacked archive are checked too.

    Raises:
        UserError: it is not an archive, truncated, or a batch is missing or damaged.
    """
    with path.open("rb") as stream:
        official = hashlib.file_digest(stream, "md5").hexdigest() == ARCHIVE_MD5
    files: dict[str, bytes] = {}
    try:
        with _unpacked(path) as stream:
            for member in tar.members(stream, LARGEST_ARCHIVE):
                name = member.name.rpartition("/")[2]
                if name in BATCH_MD5:
                    _check_size(member.size, f"{path}: {member.name}")
                    files[name] = tar.content(stream, member)
            # Read on to gzip's checksum, which follows the last block of the tar.
            for _ in range(LARGEST_ARCHIVE // 2**20):
                if not stream.read(2**20):
                    break
    except (tar.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{path}: expected cifar-10-python.tar.gz with md5 {ARCHIVE_MD5}; got a damaged or "
            f"truncated archive ({first_line(error)}). Download it again."
        ) from None
    note = "the archive's md5 is not the official one; its batches are checked instead"
    return _source([*files], files.__getitem__, path, () if official else (note,))


def _unpacked(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        start = file.read(6)
    for signature, opener in _COMPRESSIONS.items():
        if start.startswith(signature):
            return opener(path)
    return path.open("rb")


def count_notes(train: int, test: int) -> tuple[str, ...]:
    """How many images of the official splits a copy holds, for splits that are not complete."""
    counts = ((train, TRAIN_IMAGES, "training"), (test, TEST_IMAGES, "test"))
    return tuple(f"{n:,} of {all_:,} {split} images" for n, all_, split in counts if n != all_)


def _source(
    names: Collection[str], read: Callable[[str], bytes], path: Path, notes: tuple[str, ...] = ()
) -> ImageSource:
    missing = [name for name in BATCH_MD5 if name not in names]
    if missing:
        raise UserError(
            f"{path}: expected data_batch_1 to data_batch_5 and test_batch of CIFAR-10's Python "
            f"version; {', '.join(missing)} missing. Download it again."
        )

    def reader(*wanted: str) -> Reader:
        batches = {name: _checked(name, read(name), path) for name in wanted}
        return joined(
            [
                of_arrays(batch.rows.reshape(-1, 3, 32, 32), batch.labels, name, CLASSES)
                for name, batch in batches.items()
            ]
        )

    def finished(data: ImageData, target: Target) -> ImageData:
        counts = count_notes(len(data.train.images), len(data.test.images))
        return replace(data, notes=(*notes, *counts, *data.notes))

    *train, test = BATCH_MD5
    splits = {"train": partial(reader, *train), "test": partial(reader, test)}
    return ImageSource("CIFAR-10 (official batches)", splits, finished)


def _checked(name: str, content: bytes, source: Path) -> Batch:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != BATCH_MD5[name] and len(content) >= COMPLETE:
        raise UserError(
            f"{source}: {name}: expected md5 {BATCH_MD5[name]}; got {md5}. The file is damaged or "
            "was changed: download it again."
        )
    batch = read_batch(content, f"{source}: {name}")
    if not len(batch.labels):
        raise UserError(f"{source}: {name}: expected images; got none. Download it again.")
    return batch


def _check_size(size: int, name: str) -> None:
    if size > LARGEST_BATCH:
        raise UserError(f"{name}: expected at most {LARGEST_BATCH:,} bytes; got {size:,}.")
