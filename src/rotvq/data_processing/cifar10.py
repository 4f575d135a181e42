"""CIFAR-10 as its author ships it: cifar-10-python.tar.gz, or the folder inside it."""

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from rotvq.data_processing.decoding import Target, conform
from rotvq.data_processing.splits import ImageData, ImageSplit
from rotvq.data_processing.unpickle import Batch, read_batch
from rotvq.errors import UserError, first_line

FOLDER = "cifar-10-batches-py"
ROWS = 10_000
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
BATCH_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
# The official batches have 31 MB; a larger file is something else and is not read into memory.
LARGEST_BATCH = 64 * 2**20


def holds_batches(folder: Path) -> bool:
    """Tell whether a folder holds any official batch file."""
    return any((folder / name).is_file() for name in BATCH_MD5)


def load_batches(folder: Path, target: Target) -> ImageData:
    """Read a folder `cifar-10-batches-py`.

    Raises UserError for a missing or damaged batch; a batch of fewer rows is a partial copy.
    """
    files: dict[str, bytes] = {}
    for name in BATCH_MD5:
        path = folder / name
        if path.is_file():
            _check_size(path.stat().st_size, str(path))
            files[name] = path.read_bytes()
    return _assemble(files, folder, target)


def load_archive(path: Path, target: Target) -> ImageData:
    """Read `cifar-10-python.tar.gz` in place; a re-packed archive is judged by its batches.

    Raises UserError for a file that is no archive, is cut short, or holds no or damaged batches.
    """
    with path.open("rb") as stream:
        official = hashlib.file_digest(stream, "md5").hexdigest() == ARCHIVE_MD5
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in BATCH_MD5 and member.isfile():
                    _check_size(member.size, f"{path}: {member.name}")
                    extracted = archive.extractfile(member)
                    assert extracted is not None
                    files[name] = extracted.read()
            # gzip's checksum stands behind the last block of the tar, where tarfile stops.
            assert archive.fileobj is not None
            while archive.fileobj.read(2**20):
                pass
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{path} is not a whole tar archive ({first_line(error)}): expected "
            f"cifar-10-python.tar.gz with md5 {ARCHIVE_MD5}; download it again"
        ) from None
    data = _assemble(files, path, target)
    note = "the archive is not the official file byte for byte; its batches were checked instead"
    return data if official else replace(data, notes=(note, *data.notes))


def count_notes(train: int, test: int) -> tuple[str, ...]:
    """Say how many images of the official splits a copy holds, where some are missing."""
    counts = ((train, TRAIN_IMAGES, "training"), (test, TEST_IMAGES, "test"))
    return tuple(f"{n:,} of {all_:,} {split} images" for n, all_, split in counts if n != all_)


def _assemble(files: Mapping[str, bytes], source: Path, target: Target) -> ImageData:
    missing = [name for name in BATCH_MD5 if name not in files]
    if missing:
        raise UserError(
            f"{source} lacks {', '.join(missing)}: expected data_batch_1 to data_batch_5 and "
            "test_batch of CIFAR-10's Python version"
        )
    batches = [_checked(name, files[name], source) for name in BATCH_MD5]
    train, test = _split(batches[:5], target), _split(batches[5:], target)
    notes = count_notes(len(train.images), len(test.images))
    return ImageData("CIFAR-10 (official batches)", train, test, notes)


def _checked(name: str, content: bytes, source: Path) -> Batch:
    batch = read_batch(content, f"{source}: {name}")
    n = len(batch.labels)
    if not 0 < n <= ROWS:
        raise UserError(f"{source}: {name} holds {n:,} images, expected 1 to {ROWS:,}")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if n == ROWS and md5 != BATCH_MD5[name]:
        raise UserError(
            f"{source}: {name} is damaged: expected md5 {BATCH_MD5[name]}, received {md5}; "
            "download it again"
        )
    return batch


def _split(batches: list[Batch], target: Target) -> ImageSplit:
    images = np.concatenate([batch.rows for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch.labels for batch in batches])
    if target.sides not in (None, (32, 32)) or target.channels != 3:
        pillow = (Image.fromarray(pixels) for pixels in images.transpose(0, 2, 3, 1))
        images = np.ascontiguousarray([conform(image, target) for image in pillow])
    return ImageSplit(images, labels)


def _check_size(size: int, name: str) -> None:
    if size > LARGEST_BATCH:
        raise UserError(f"{name} has {size:,} bytes, expected at most {LARGEST_BATCH:,}")
