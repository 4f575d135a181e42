"""One way in: a source, written as one word, to images in memory."""

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

ACCEPTED = (
    "embedded:photos (or photos), cifar10, the path of cifar-10-python.tar.gz, of a folder "
    "cifar-10-batches-py, of Parquet files (train-*.parquet), of WebDataset shards (*.tar), of one "
    "of these or of images, or a hub data set hub:owner/name (or owner/name)"
)
HUB_NAME = r"\w[\w.-]*/\w[\w.-]*"
ARCHIVES = {".tar", ".gz", ".tgz", ".bz2", ".xz"}
FILE_SUFFIXES = SUFFIXES | ARCHIVES | {".zip", ".parquet"}


class Place(NamedTuple):
    """What a source word names: one of these is set."""

    path: Path | None = None
    hub: str | None = None
    embedded: str | None = None


def resolve(source: str) -> Place:
    """What a word names, for every command alike: a path that exists, else a name.

    `embedded:photos` and `hub:owner/name` name the others whatever paths there are; `photos`,
    `cifar10` and `owner/name` are short for them where there is no such path.

    Raises UserError for a word that names nothing.
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
    if kind == "embedded" or not ("/" in source or "\\" in source or suffix):
        raise UserError(f"unknown data source '{source}': expected {ACCEPTED}")
    raise UserError(f"the data source '{source}' does not exist: expected {ACCEPTED}")


def load(
    source: str,
    *,
    size: int | str | None = None,
    channels: int = 3,
    validation: int = 0,
    bits: int | None = None,
    crops: bool = False,
) -> ImageData:
    """Load a data set into memory, as uint8 splits of one shape.

    `source` is a path that exists, `embedded:photos` (offline), `cifar10` (downloaded from the
    hub and cached) or another data set of the hub: see `resolve`. With `size`, a side in pixels
    or "HEIGHTxWIDTH", images are reduced until one side fits, and the centre is kept; with
    `channels` 1, grey. `bits` are those of grey images that are stored in 16 bits.
    With `crops`, training images that are larger than the size are kept larger too, to take crops
    from. With `validation`, so many training images are held out to choose on.

    Raises UserError where the source is not known, damaged, or not of one shape.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels must be 1 (grey) or 3 (colour), received {channels}")
    sides = parse_size(size)
    try:
        target = Target(sides, channels, bits, KEEP if crops and sides else 1)
        data = open_source(source, target).load(target)
    except OSError as error:
        raise UserError(f"cannot read the data source '{source}': {first_line(error)}") from None
    except MemoryError:
        raise UserError(
            f"the images of '{source}' do not fit into memory: pass a smaller --data.size"
        ) from None
    train, test = data.train.images.shape[1:], data.test.images.shape[1:]
    if train != test:
        raise UserError(
            f"training images are {train[1]}x{train[2]} and test images {test[1]}x{test[2]}: "
            "pass --data.size to resize and crop them"
        )
    return for_choosing(data, validation) if validation else data


def open_source(source: str, target: Target) -> ImageSource:
    """Open a data set, of which only what is asked for is read.

    Args:
        source: as for `load`.
        target: what its images will become, which decides how photographs are cut.

    Raises:
        UserError: the source is not known, or damaged.
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
    raise UserError(f"'{path}' is a file of another kind: expected {ACCEPTED}")


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
