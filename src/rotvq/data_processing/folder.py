"""Any folder of images, with or without train/ and test/ inside."""

import os
from collections import deque
from functools import partial
from pathlib import Path, PurePosixPath

from rotvq import run_folder
from rotvq.data_processing.arrow import TEST_NAMES
from rotvq.data_processing.image_formats import why_not
from rotvq.data_processing.reader import ImageSource, Reader, of_files
from rotvq.data_processing.skipped import Skipped

_OF_A_RUN = {
    run_folder.RUN, run_folder.EPOCHS, run_folder.CHECKPOINT, run_folder.RECONSTRUCTIONS,
}  # fmt: skip


def open_folder(folder: Path) -> ImageSource:
    """The images below a folder, recursively; labels are None.

    The splits are train/ and test/ (or validation/, valid/, val/); otherwise a tenth of the
    files is held out by a hash of the path inside the folder.
    """
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    parts = {"all": folder}
    if test is not None and (folder / "train").is_dir():
        parts = {"train": folder / "train", "test": test}
    splits = {split: partial(_reader, folder, part) for split, part in parts.items()}
    return ImageSource(folder.resolve().name, splits)


def _reader(folder: Path, part: Path) -> Reader:
    paths, skipped = images_below(part)
    inside = _name(part, folder)
    return of_files(
        [(_name(path, folder), path) for path in paths],
        [each._replace(path=PurePosixPath(inside, each.path).as_posix()) for each in skipped],
    )


def images_below(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """The image files in a folder and its folders, in order, and what is passed over there.

    Links are followed. Each folder is read once: under its own name where it lies inside,
    otherwise under its first link. Hidden files and folders and the folders of runs are passed
    over; one that is hidden, closed or of a run is one entry, whatever it holds.
    """
    paths: list[Path] = []
    skipped: list[Skipped] = []
    seen: set[tuple[int, int]] = set()
    # Links come after all folders that lie inside, in order.
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
            skipped.append(Skipped(name, "link to a folder that is read already"))
            continue
        seen.add((status.st_dev, status.st_ino))
        if _is_run({entry.name for entry in entries}):
            skipped.append(Skipped(name, "folder of a run"))
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
    """Why a folder's entry is passed over by what it is; None where it is not."""
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


def _is_run(names: set[str]) -> bool:
    return run_folder.CONFIG in names and not names.isdisjoint(_OF_A_RUN)


def _unreadable(error: OSError) -> str:
    return "no permission" if isinstance(error, PermissionError) else "cannot be read"


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
