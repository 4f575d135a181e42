"""Any folder of images, with or without train/ and test/ inside."""

from pathlib import Path

from rotvq.data_processing.arrow import TEST_NAMES
from rotvq.data_processing.decoding import Encoded, Target, decode_split
from rotvq.data_processing.splits import ImageData, held_out
from rotvq.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def load_folder(folder: Path, target: Target) -> ImageData:
    """Read the images below a folder, recursively; hidden files are passed over, labels are None.

    The splits are train/ and test/ (or validation/, valid/, val/); otherwise a tenth of the
    files is held out by a hash of the path inside the folder.

    Raises UserError where a split has no readable image or the shapes differ.
    """
    train, test, notes = _splits(folder)
    items = {
        split: [Encoded(path.relative_to(folder).as_posix(), path) for path in paths]
        for split, paths in (("training", train), ("test", test))
    }
    train_split, train_notes = decode_split(items["training"], len(train), target, "training")
    test_split, test_notes = decode_split(items["test"], len(test), target._replace(keep=1), "test")
    return ImageData(
        folder.resolve().name, train_split, test_split, notes + train_notes + test_notes
    )


def _splits(folder: Path) -> tuple[list[Path], list[Path], tuple[str, ...]]:
    test = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if test is not None and (folder / "train").is_dir():
        return images_below(folder / "train"), images_below(test), ()
    paths = images_below(folder)
    if len(paths) < 2:
        raise UserError(
            f"{folder} holds {len(paths)} images: expected at least two files ending in "
            f"{', '.join(sorted(SUFFIXES))}, or train-*.parquet"
        )
    held = held_out([path.relative_to(folder).as_posix() for path in paths])
    return (
        [path for path, out in zip(paths, held, strict=True) if not out],
        [path for path, out in zip(paths, held, strict=True) if out],
        ("no test split found: 10 % of the images held out",),
    )


def images_below(folder: Path) -> list[Path]:
    """Image files in a folder and its folders, in order; hidden ones are passed over."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
