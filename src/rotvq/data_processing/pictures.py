"""Images at their own sizes, by path; for encoding, while training needs one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from rotvq.data_processing import cifar10, parquet, shards, sources
from rotvq.data_processing.folder import (
    classes_in,
    images_below,
    of_classes,
    parts_of,
    test_folders,
)
from rotvq.data_processing.image_formats import SUFFIXES, why_not
from rotvq.data_processing.reader import Reader, joined, of_files
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.skipped import Skipped, summary
from rotvq.errors import UserError
from rotvq.paths import expanded
from rotvq.text import encodable

Picture = tuple[str, Path]
"""An image's name, with / between folders, and its file."""


def open_pictures(words: Sequence[str], split: str | None, target: Target) -> Reader:
    """Open image files, folders of them, or data sources as for `load`.

    Args:
        words: paths, or names of data sources.
        split: "train", "test" or "all"; None for the test split of data sources, if they have one,
            and for all images in folders.
        target: what to convert the images to.

    Raises:
        UserError: a word names nothing, there are no images, a source is damaged, or image files
            or several folders are to be split.
    """
    are_sources, divided = all(map(is_source, words)), split in ("train", "test")
    if divided and not are_sources and (len(words) > 1 or not expanded(words[0]).is_dir()):
        raise UserError(
            f"--split {split}: expected one folder of images, or data sources; got "
            f"{', '.join(words)}. Leave out --split, or pass one folder."
        )
    if are_sources or divided:
        opened = [sources.open_source(word, target).reader(split) for word in words]
        return joined(opened) if len(opened) > 1 else opened[0]
    skipped: list[Skipped] = []
    found = find(words, skipped)
    reader, folder = of_files(found, skipped), expanded(words[0])
    if len(words) > 1 or not folder.is_dir():
        return reader
    parts = {*parts_of(folder).values()}
    if len(parts) > 1:
        parts |= {*test_folders(folder)}
    subfolders = [_inside(parts, path.parent) for _, path in found]
    return of_classes(reader, subfolders, classes_in(parts))


def _inside(parts: Iterable[Path], folder: Path) -> str:
    """The path of a folder inside the part of a dataset that holds it; "." outside of all."""
    inside = (folder.relative_to(part) for part in parts if folder.is_relative_to(part))
    return next(inside, Path()).as_posix()


def find(words: Sequence[str], skipped: list[Skipped]) -> list[Picture]:
    """Find images in files and folders.

    An image's name is its path inside the folder, prefixed by the folder's name if there are
    several. Bytes of a path that are not UTF-8 are written as %XX.

    Args:
        words: paths.
        skipped: receives the skipped entries: other files, unreadable folders, broken links.

    Raises:
        UserError: there are no images, a path does not exist, or two images have the same name.
    """
    found: list[Picture] = []
    passed_over: list[Skipped] = []
    for word in words:
        path = expanded(word)
        if path.is_dir():
            paths, others = images_below(path)
            first = f"{path.resolve().name}/" if len(words) > 1 else ""
            found += [(first + each.relative_to(path).as_posix(), each) for each in paths]
            passed_over += [
                each._replace(path=PurePosixPath(first, each.path).as_posix()) for each in others
            ]
        elif not path.exists():
            raise UserError(
                f"{word}: expected an image or a folder of images; there is no such file."
            )
        elif (reason := why_not(path.suffix)) is not None:  # as the shell's * names all files
            passed_over.append(Skipped(path.name, reason))
        else:
            found.append((path.name, path))
    if not found:
        reasons = "".join(f"; {line}" for line in summary(passed_over))
        raise UserError(f"{', '.join(words)}: expected images; found none{reasons}.")
    skipped += passed_over
    found = [(encodable(name), path) for name, path in found]
    ((name, times),) = Counter(name for name, _ in found).most_common(1)
    if times > 1:
        raise UserError(
            f"{name}: expected images with different names; got {times} with this one. Pass the "
            "folder that contains them all."
        )
    return found


def is_source(word: str) -> bool:
    """Whether a word names a data source instead of images or a folder of them.

    Raises:
        UserError: it names nothing.
    """
    if why_not(Path(word).suffix) is None and not expanded(word).exists():
        return False
    path = sources.resolve(word).path
    if path is None:
        return True
    if path.is_file():
        return path.suffix.lower() in sources.FILE_SUFFIXES - SUFFIXES
    batches = (path, path / cifar10.FOLDER)
    if any(map(cifar10.holds_batches, batches)) or parquet.find_parquet(path):
        return True
    return shards.holds_shards(path)
