"""Single pictures at their own sizes, by path; for coding, where training wants one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rotvq.data_processing import cifar10, parquet, shards
from rotvq.data_processing.decoding import Encoded, Pixels, Target, decoded
from rotvq.data_processing.folder import SUFFIXES, images_below
from rotvq.errors import UserError, first_line

Picture = tuple[str, Path]
"""Its name, with / between folders, and its file."""


def find(words: Sequence[str]) -> list[Picture] | None:
    """Pictures of files and folders; None where one word names a data source instead.

    The names are paths inside a folder, and begin with the folder's own where there are several.

    Raises:
        UserError: a file that is no picture, a folder without any, or two of one name.
    """
    if len(words) == 1 and _is_source(words[0]):
        return None
    found: list[Picture] = []
    for word in words:
        path = Path(word).expanduser()
        if path.is_dir():
            inside = [(each.relative_to(path).as_posix(), each) for each in images_below(path)]
            first = f"{path.resolve().name}/" if len(words) > 1 else ""
            found += [(first + name, each) for name, each in inside]
        elif path.is_file() and path.suffix.lower() in SUFFIXES:
            found.append((path.name, path))
        else:
            raise UserError(
                f"{word}: expected a picture ({', '.join(sorted(SUFFIXES))}) or a folder of them; "
                + ("got another file." if path.exists() else "there is no such file.")
            )
    if not found:
        raise UserError(f"{', '.join(words)}: expected pictures; found none.")
    for name, _ in found:
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # bytes that are no UTF-8
            raise UserError(
                f"{name!r}: expected names that are text, to write them down with the tokens. "
                "Rename the file."
            )
    ((name, times),) = Counter(name for name, _ in found).most_common(1)
    if times > 1:
        raise UserError(
            f"{name}: expected pictures of different names; got {times} of this one. Give the "
            "folder that holds them all."
        )
    return found


def read(
    pictures: Sequence[Picture], channels: int, skip: Callable[[str], object]
) -> Iterator[tuple[str, Pixels]]:
    """Names and pixels (c, h, w) in order; a damaged one is passed over.

    Args:
        pictures: names and files.
        channels: 1 for grey, 3 for colour.
        skip: told the name and the reason of each that is passed over.
    """
    items = (Encoded(name, path) for name, path in pictures)
    for item, pixels in decoded(items, Target(None, channels)):
        if isinstance(pixels, Exception):
            skip(f"{item.name} ({first_line(pixels)})")
        else:
            yield item.name, pixels


def _is_source(word: str) -> bool:
    path = Path(word).expanduser()
    if not path.exists():
        return path.suffix.lower() not in SUFFIXES
    if path.is_file():
        return path.suffix.lower() not in SUFFIXES
    batches = (path, path / cifar10.FOLDER)
    if any(map(cifar10.holds_batches, batches)) or parquet.find_parquet(path):
        return True
    return shards.holds_shards(path)
