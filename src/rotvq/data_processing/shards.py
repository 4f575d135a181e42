"""Tar files of images in the layout of WebDataset: 000042.png beside 000042.cls."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from rotvq.data_processing.arrow import TEST_NAMES
from rotvq.data_processing.decoding import Encoded, Findings, Target, decode_split
from rotvq.data_processing.image_formats import SUFFIXES
from rotvq.data_processing.splits import ImageData, ImageSplit, held_out
from rotvq.errors import UserError, first_line

DIGITS = 18
"""Of a class: what int64 holds."""


def find_shards(folder: Path) -> list[Path]:
    """The folder's tar files, in order."""
    return sorted(path for path in folder.glob("*.tar") if path.is_file())


def holds_shards(folder: Path) -> bool:
    """Whether the folder is a data set of shards: tar files, and no pictures beside them."""
    if not find_shards(folder):
        return False
    return not any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def load_shards(folder: Path, target: Target) -> ImageData:
    """Read *.tar; test-*.tar (or validation-, valid-, val-) are the test split, or a tenth is.

    A sample's class is the number in its .cls, if all have one. What is held out is decided by a
    hash of each sample's name.

    Raises UserError where a file is damaged or a split has no readable image.
    """
    test = [path for path in find_shards(folder) if path.name.startswith(TEST_NAMES)]
    train = [path for path in find_shards(folder) if path not in test]
    if not train:
        raise UserError(f"{folder} holds no training shards: expected *.tar beside test-*.tar")
    notes: tuple[str, ...] = ()
    wanted: dict[str, set[str] | None] = {"training": None, "test": None}
    if not test:
        keys = [item.name for item in _samples(train, None)]
        if len(keys) < 2:
            raise UserError(f"{folder} holds {len(keys)} images: expected at least two")
        held = held_out(keys)
        out = {key for key, is_out in zip(keys, held, strict=True) if is_out}
        wanted = {"training": set(keys) - out, "test": out}
        test, notes = train, ("no test split found: 10 % of the images held out",)
    splits: list[ImageSplit] = []
    findings = Findings()
    for split, shards in (("training", train), ("test", test)):
        count = sum(1 for _ in _samples(shards, wanted[split]))
        samples = _samples(shards, wanted[split])
        splits.append(decode_split(samples, count, target, split, findings))
    notes += findings.notes
    skipped = tuple(findings.skipped)
    return ImageData(folder.resolve().name, splits[0], splits[1], notes, skipped=skipped)


def _samples(shards: Sequence[Path], wanted: set[str] | None) -> Iterator[Encoded]:
    """The images in order, each with the class that stands before or after it."""
    for shard in shards:
        image: Encoded | None = None
        label: tuple[str, int | None] = ("", None)
        for name, suffix, content in _members(shard):
            key = f"{shard.name}/{name}"
            if image is not None and (image.name != key or suffix != ".cls"):
                yield image
                image = None
            if suffix == ".cls":
                digits = content.strip()
                label = key, int(digits) if digits.isdigit() and len(digits) <= DIGITS else None
                if image is not None:
                    image = image._replace(label=label[1])
            elif wanted is None or key in wanted:
                image = Encoded(key, content, label[1] if label[0] == key else None)
        if image is not None:
            yield image


def _members(shard: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name, ending and content of images and classes."""
    try:
        # Not compressed: pictures are, and what unfolds has no limit.
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                first, dot, rest = path.name.partition(".")
                suffix = f"{dot}{rest}".lower()
                if not member.isfile() or suffix not in SUFFIXES | {".cls"} or not first:
                    continue
                file = archive.extractfile(member)
                assert file is not None
                yield str(path.with_name(first)), suffix, file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"{shard} is not a whole tar file: {first_line(error)}") from None
