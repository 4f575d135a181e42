"""Tar files in the WebDataset layout: 000042.jpg next to 000042.cls and 000042.txt."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from rotvq.data_processing import tar
from rotvq.data_processing.arrow import TEST_NAMES
from rotvq.data_processing.decoding import Encoded
from rotvq.data_processing.folder import images_below
from rotvq.data_processing.image_formats import SUFFIXES, Unreadable
from rotvq.data_processing.reader import (
    LONGEST_CAPTION,
    ImageSource,
    Reader,
    Rows,
    digest,
    portions,
)
from rotvq.data_processing.tar import Member
from rotvq.errors import UserError, first_line
from rotvq.text import encodable

LABEL, CAPTION = ".cls", ".txt"
DIGITS = 18
"""Maximum digits of a class, so that it fits in int64."""
LARGEST = 2**30
"""Maximum bytes of an image."""

Files = dict[str, Member]
"""The files of a sample by field: .jpg, .cls, .txt."""


def _of(split: str) -> re.Pattern[str]:
    """Matches the names of shards of a split."""
    return re.compile(rf"(?:^|[-_.])({split})(?![A-Za-z])")


_TEST = _of("|".join(TEST_NAMES))


def find_shards(folder: Path) -> list[Path]:
    """The folder's tar files, in order."""
    return sorted(path for path in folder.glob("*.tar") if path.is_file())


def holds_shards(folder: Path) -> bool:
    """Whether a folder is a dataset of shards: it holds tar files and no images."""
    return bool(find_shards(folder)) and not images_below(folder)[0]


def open_shards(paths: Sequence[Path], name: str) -> ImageSource:
    """Open shards; names with "test" are the test split, or else "validation", "valid" or "val".

    A sample is a run of files with the same key (the name up to the first dot). Its class is the
    number in its .cls file, its caption the text in its .txt file. Without a test split, a hash of
    each key decides which tenth is held out.
    """
    train = [path for path in paths if not _TEST.search(path.name)]
    named = ([path for path in paths if _of(name).search(path.name)] for name in TEST_NAMES)
    test = next(filter(None, named), [])
    splits: dict[str, Callable[[], Reader]] = {}
    if train:
        splits["train" if test else "all"] = partial(_reader, train)
    if test:
        splits["test"] = partial(_reader, test)
    return ImageSource(name, splits)


def _reader(shards: Sequence[Path]) -> Reader:
    """The images of shards; opening them reads only the headers."""
    counts = [sum(1 for _ in _images(shard)) for shard in shards]
    return Reader(
        sum(counts),
        partial(_items, shards, counts),
        lambda: [key for shard in shards for key, _, _ in _images(shard)],
        lambda: digest(str(each) for shard in shards for each in _images(shard)),
    )


def _items(shards: Sequence[Path], counts: Sequence[int], rows: Rows | None) -> Iterator[Encoded]:
    for part, its_rows in portions(counts, rows):
        shard, images = shards[part], enumerate(_images(shards[part]))
        name = encodable(shard.name)
        with _opened(shard) as file:
            for wanted in range(counts[part]) if its_rows is None else its_rows:
                for row, (_, image, files) in images:
                    if row == wanted:
                        yield _encoded(file, f"{name}/{_plain(image.name)}", image, files)
                        break


def _images(shard: Path) -> Iterator[tuple[str, Member, Files]]:
    """The images in order, with key and sample; for a sample without one, its first file."""
    for key, files in _samples(shard):
        for image in _pictures(files) or [next(iter(files.values()))]:
            yield f"{shard.name}/{key}", image, files


def _samples(shard: Path) -> Iterator[tuple[str, Files]]:
    """Adjacent files with the same key; a hidden file is a sample of its own."""
    key, files = "", dict[str, Member]()
    with _opened(shard) as file:
        for member in tar.members(file, os.fstat(file.fileno()).st_size):
            its_key, field = _split(member.name)
            if _is_hidden(member):  # such as macOS's ._000.jpg between the files of a sample
                yield member.name, {field: member}
                continue
            if files and (its_key != key or field in files):
                yield key, files
                files = {}
            key = its_key
            files[field] = member
    if files:
        yield key, files


def _pictures(files: Files) -> list[Member]:
    """The image files: .jpg, and .mask.png only if there is no plain one."""
    plain = [each for field, each in files.items() if field in SUFFIXES]
    return plain or [each for each in files.values() if _is_image(each)]


def _encoded(file: IO[bytes], name: str, image: Member, files: Files) -> Encoded:
    def text(field: str) -> bytes:
        member = files.get(field)
        if member is None:
            return b""
        return tar.content(file, member._replace(size=min(member.size, LONGEST_CAPTION)))

    digits = text(LABEL).strip()
    label = int(digits) if digits.isdigit() and len(digits) <= DIGITS else None
    caption = text(CAPTION).decode("utf-8", "replace") if CAPTION in files else None
    content: bytes | Unreadable
    if _is_hidden(image):
        content = Unreadable("hidden")
    elif not _is_image(image):
        content = Unreadable("no image in the sample", f"only {', '.join(sorted(files))}")
    elif image.offset is None:
        content = Unreadable("a link instead of an image")
    elif image.size > LARGEST:
        content = Unreadable("too large", f"{image.size:,} bytes, more than {LARGEST:,}")
    else:
        content = tar.content(file, image)
    return Encoded(name, content, label, caption)


@contextmanager
def _opened(shard: Path) -> Iterator[IO[bytes]]:
    try:
        with shard.open("rb") as file:
            yield file
    except (tar.TarError, OSError) as error:
        with suppress(OSError):
            if _is_compressed(shard):
                raise UserError(
                    f"{shard}: expected a plain tar file; got a compressed one. Decompress it: "
                    "its images are compressed already."
                ) from None
        raise UserError(
            f"{shard}: expected a tar file; got a damaged or truncated one ({first_line(error)})."
        ) from None


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _is_hidden(member: Member) -> bool:
    return PurePosixPath(member.name).name.startswith(".")


def _is_image(member: Member) -> bool:
    return PurePosixPath(member.name).suffix.lower() in SUFFIXES


def _split(name: str) -> tuple[str, str]:
    """A file's key and field: "./a/000.jpg" gives "a/000" and ".jpg"."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, dot, field = file.partition(".")
    return folder + slash + stem, (dot + field).lower()


def _plain(name: str) -> str:
    """The name as a relative path that is valid text."""
    inside = (part for part in PurePosixPath(name).parts if part not in ("/", "//", ".."))
    return encodable("/".join(inside))
