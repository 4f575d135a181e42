"""Loads a data source, given as a single string, into memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from rotvq.data_processing import cifar10, folder, hub, parquet, photos, shards
from rotvq.data_processing.crops import KEEP
from rotvq.data_processing.image_formats import SUFFIXES
from rotvq.data_processing.reader import ImageSource
from rotvq.data_processing.resizing import Target, parse_size
from rotvq.data_processing.splits import ImageData, for_choosing
from rotvq.errors import UserError, first_line

PATHS = (
    "cifar-10-python.tar.gz, a folder cifar-10-batches-py, a folder of images, Parquet files "
    "(train-*.parquet) or WebDataset shards (*.tar)"
)
"""What a path may lead to."""
HUB_NAME = r"\w[\w.-]*/\w[\w.-]*"
ARCHIVES = {".tar", ".gz", ".tgz", ".bz2", ".xz"}
FILE_SUFFIXES = SUFFIXES | ARCHIVES | {".zip", ".parquet"}


class Place(NamedTuple):
    """What a source names; exactly one field is set."""

    path: Path | None = None
    hub: str | None = None
    embedded: str | None = None


def resolve(source: str) -> Place:
    """What a source names, in every command: an existing path, otherwise a name.

    `embedded:photos` and `hub:owner/name` are never paths; `photos`, `cifar10` and `owner/name` are
    short for them unless such a path exists.

    Raises:
        UserError: it names nothing.
    """
    kind, _, name = source.partition(":")
    if kind == "hub" and name:
        return Place(hub=name)
    if source == "embedded:photos":
        return Place(embedded=name)
    expanded = os.path.expanduser(source)
    if source and os.path.exists(expanded):
        return Place(path=Path(expanded))
    if source == "photos":
        return Place(embedded=source)
    if source == "cifar10":
        return Place(hub=hub.CIFAR10)
    suffix = Path(source).suffix
    if re.fullmatch(HUB_NAME, source) and suffix.lower() not in FILE_SUFFIXES:
        return Place(hub=source)
    raise UserError(
        "data: expected an existing path, cifar10, embedded:photos or hub:OWNER/NAME; got "
        f"'{source}'. A path can lead to {PATHS}."
    )


def load(
    source: str,
    *,
    size: int | str | None = None,
    channels: int = 3,
    validation: int = 0,
    bits: int | None = None,
    crops: bool = False,
) -> ImageData:
    """Load a dataset into memory, as uint8 splits of one shape.

    Args:
        source: an existing path, `embedded:photos` (offline), `cifar10` (downloaded from the Hub
            and cached) or another dataset on the Hub; see `resolve`.
        size: a side in pixels or "HEIGHTxWIDTH"; images are resized until one side fits, and
            cropped at the center.
        channels: 3 for RGB, 1 for gray.
        validation: number of training images to hold out for validation.
        bits: bits used by gray images that are stored in 16 bits.
        crops: also keep larger training images, to take crops from.

    Raises:
        UserError: the source is unknown or damaged, or its images differ in shape.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels: expected 1 (gray) or 3 (RGB); got {channels}.")
    sides = parse_size(size)
    try:
        target = Target(sides, channels, bits, KEEP if crops and sides else 1)
        data = open_source(source, target).load(target)
    except OSError as error:
        raise UserError(
            f"{source}: expected a readable data source; got {first_line(error)}."
        ) from None
    except MemoryError:
        raise UserError(
            f"{source}: expected images that fit in memory; they do not. Pass a smaller "
            "--data.size."
        ) from None
    train, test = data.train.images.shape[1:], data.test.images.shape[1:]
    if train != test:
        raise UserError(
            f"{source}: expected images of one size; training images are {train[1]}x{train[2]} and "
            f"test images {test[1]}x{test[2]}. Pass --data.size, or --size in "
            "commands that have it, to resize and crop them."
        )
    return for_choosing(data, validation) if validation else data


def open_source(source: str, target: Target) -> ImageSource:
    """Open a dataset to be read on demand.

    Args:
        source: as for `load`.
        target: what images will be converted to; determines how the bundled photos are cut.

    Raises:
        UserError: the source is unknown or damaged.
    """
    place = resolve(source)
    if place.embedded is not None:
        return photos.open_photos(target)
    if place.hub is not None:
        return hub.open_hub(place.hub)
    assert place.path is not None
    return _open_folder(place.path) if place.path.is_dir() else _open_file(place.path)


def _open_file(path: Path) -> ImageSource:
    suffix = path.suffix.lower() if path.is_file() else ""  # a pipe may never end
    if suffix == ".parquet":
        return parquet.open_parquet(path)
    if suffix == ".tar" and not cifar10.is_archive(path):
        return shards.open_shards([path], path.name)
    if suffix in ARCHIVES:
        return cifar10.open_archive(path)
    raise UserError(f"{path}: expected {PATHS}; got another kind of file.")


def _open_folder(path: Path) -> ImageSource:
    for batches in (path, path / cifar10.FOLDER):
        if cifar10.holds_batches(batches):
            return cifar10.open_batches(batches)
    tables = parquet.find_parquet(path)
    if tables is not None:
        return parquet.open_parquet(tables)
    if shards.holds_shards(path):
        return shards.open_shards(shards.find_shards(path), path.resolve().name)
    return folder.open_folder(path)
