"""A folder of images, with or without train/ and test/ subfolders."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from rotvq import run_folder
from rotvq.data_processing.arrow import TEST_NAMES
from rotvq.data_processing.decoding import Encoded
from rotvq.data_processing.image_formats import why_not
from rotvq.data_processing.reader import ImageSource, Reader, Rows, of_files
from rotvq.data_processing.skipped import Skipped
from rotvq.text import encodable, first_few

_OF_A_RUN = {
    run_folder.RUN, run_folder.EPOCHS, run_folder.CHECKPOINT, run_folder.RECONSTRUCTIONS,
}  # fmt: skip


def open_folder(folder: Path) -> ImageSource:
    """Open the images in a folder, recursively.

    The splits are train/ and test/ (or validation/, valid/, val/). Without them, a tenth of the
    files is held out, chosen by a hash of their paths inside the folder. Images have labels if they
    lie in a subfolder for each class (see `of_classes`); both splits number the classes alike.
    """
    parts = parts_of(folder)
    classes = classes_in(parts.values())
    splits = {split: partial(_reader, folder, part, classes) for split, part in parts.items()}
    return ImageSource(folder.resolve().name, splits)


def parts_of(folder: Path) -> dict[str, Path]:
    """The subfolders of the splits "train" and "test", or all images as "all"."""
    train, tests = folder / "train", test_folders(folder)
    if train.is_dir() and tests:
        return {"train": train, "test": tests[0]}
    return {"all": train if train.is_dir() and _is_alone(train) else folder}


def test_folders(folder: Path) -> list[Path]:
    """The subfolders with names of a test split; the first one is it."""
    return [folder / name for name in TEST_NAMES if (folder / name).is_dir()]


def _is_alone(part: Path) -> bool:
    """Whether no other folder, and no image, is beside a subfolder."""
    with suppress(OSError), os.scandir(part.parent) as entries:
        return not any(
            each.name != part.name and (each.is_dir() or _why_not(each) is None)
            for each in entries
            if not each.name.startswith(".")
        )
    return False


def _reader(folder: Path, part: Path, classes: Sequence[str]) -> Reader:
    paths, skipped = images_below(part)
    inside = _name(part, folder)
    reader = of_files(
        [(_name(path, folder), path) for path in paths],
        [each._replace(path=PurePosixPath(inside, each.path).as_posix()) for each in skipped],
    )
    return of_classes(reader, [_name(path.parent, part) for path in paths], classes)


def classes_in(folders: Iterable[Path]) -> list[str]:
    """Names of the subfolders that hold images and are no splits, in alphabetical order."""
    names = set()
    for folder in folders:
        with suppress(OSError):  # reading the images reports it
            with os.scandir(folder) as entries:
                names |= {entry.name for entry in entries if _holds_images(entry)}
    return sorted(names - {"train", *TEST_NAMES})


def of_classes(reader: Reader, subfolders: Sequence[str], classes: Sequence[str]) -> Reader:
    """The reader with labels, if all images are in subfolders of classes, and directly in them.

    Args:
        reader: reads image files.
        subfolders: of each image, inside the folder that holds the classes.
        classes: names of subfolders; a label is the index of one. A single one is not a class.
    """
    number = {name: index for index, name in enumerate(classes)}
    if len(classes) < 2 or not number.keys() >= {*subfolders}:
        return reader
    labels = [number[name] for name in subfolders]
    names = tuple(map(encodable, classes))
    note = f"{len(names):,} classes, one for each subfolder: {first_few(names)}"
    return replace(
        reader,
        items=partial(_labeled, reader.items, labels),
        classes=names,
        notes=(*reader.notes, note),
    )


def images_below(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """The image files in a folder and its subfolders, in order, and the skipped entries.

    Links are followed. Each folder is read once: by its own name if it is inside, otherwise by its
    first link. Hidden files and folders, unreadable folders and run folders are skipped; a skipped
    folder is a single entry.
    """
    paths: list[Path] = []
    skipped: list[Skipped] = []
    seen: set[tuple[int, int]] = set()
    # Links come after all real subfolders.
    folders, links = deque([folder]), deque[Path]()
    while folders or links:
        current = (folders or links).popleft()
        name = _name(current, folder)
        try:
            status = current.stat()
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(Skipped(name, _unreadable(error), ""))
            continue
        if (status.st_dev, status.st_ino) in seen:
            skipped.append(Skipped(name, "link to a folder that was already read"))
            continue
        seen.add((status.st_dev, status.st_ino))
        if _is_run({entry.name for entry in entries}):
            skipped.append(Skipped(name, "run folder"))
            continue
        for entry in entries:
            path = current / entry.name
            if (reason := _why_not(entry)) is not None:
                skipped.append(Skipped(_name(path, folder), reason))
            elif entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            else:
                paths.append(path)
    return sorted(paths), sorted(skipped)


def _why_not(entry: os.DirEntry[str]) -> str | None:
    """Why an entry of a folder is skipped, judging by its kind and name; None if it is not."""
    if entry.name.startswith("."):
        return "hidden"
    try:
        if entry.is_dir():
            return None
        if not entry.is_file():
            return "broken link" if entry.is_symlink() else "not a regular file"
    except OSError as error:
        return "broken link" if entry.is_symlink() else _unreadable(error)  # a link to itself
    return why_not(Path(entry.name).suffix)


# Worker processes get it: it is no closure.
def _labeled(
    items: Callable[[Rows | None], Iterator[Encoded]], labels: Sequence[int], rows: Rows | None
) -> Iterator[Encoded]:
    chosen = labels if rows is None else (labels[row] for row in rows)
    for item, label in zip(items(rows), chosen, strict=True):
        yield item._replace(label=label)


def _holds_images(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, not hidden, with an image directly in it."""
    with suppress(OSError):
        if not entry.name.startswith(".") and entry.is_dir():
            with os.scandir(entry.path) as inside:
                return any(_why_not(each) is None and not each.is_dir() for each in inside)
    return False


def _is_run(names: set[str]) -> bool:
    return run_folder.CONFIG in names and not names.isdisjoint(_OF_A_RUN)


def _unreadable(error: OSError) -> str:
    return "no permission" if isinstance(error, PermissionError) else "cannot be read"


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
