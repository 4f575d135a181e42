"""One way in: a source, written as one word, to images in memory."""

import os
import re
from pathlib import Path

from rotvq.data_processing import cifar10, folder, hub, parquet, photos, shards
from rotvq.data_processing.crops import KEEP
from rotvq.data_processing.decoding import Target, parse_size
from rotvq.data_processing.splits import ImageData, for_choosing
from rotvq.errors import UserError, first_line

ACCEPTED = (
    "photos, cifar10, the path of cifar-10-python.tar.gz, of a folder cifar-10-batches-py, of "
    "Parquet files (train-*.parquet), of WebDataset shards (*.tar) or of images, or a hub data set "
    "owner/name (or hub:name)"
)
HUB_NAME = r"\w[\w.-]*/\w[\w.-]*"
ARCHIVES = {".tar", ".gz", ".tgz", ".bz2", ".xz"}
FILE_SUFFIXES = folder.SUFFIXES | ARCHIVES | {".zip", ".parquet"}


def load(
    source: str,
    *,
    size: int | str | None = None,
    channels: int = 3,
    validation: int = 0,
    crops: bool = False,
) -> ImageData:
    """Load a data set into memory, as uint8 splits of one shape.

    `source` is `photos` (embedded, offline), `cifar10` (downloaded from the hub and cached), a
    path, or a hub data set; an existing path goes before a hub data set of the same name. With
    `size`, a side in pixels or "HEIGHTxWIDTH", images are reduced until one side fits, and the
    centre is kept; with `channels` 1, grey.
    With `crops`, training pictures that are larger than the size are kept larger too, to take
    crops from. With `validation`, so many training images are held out to choose on.

    Raises UserError where the source is not known, damaged, or not of one shape.
    """
    if channels not in (1, 3):
        raise UserError(f"data.channels must be 1 (grey) or 3 (colour), received {channels}")
    sides = parse_size(size)
    try:
        data = _load(source, Target(sides, channels, KEEP if crops else 1))
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


def _load(source: str, target: Target) -> ImageData:
    if source == "photos":
        return photos.load_photos(target)
    if source == "cifar10":
        return hub.load_hub(hub.CIFAR10, target)
    if source.startswith("hub:"):
        return hub.load_hub(source.removeprefix("hub:"), target)
    path = Path(os.path.expanduser(source))
    if source and path.is_dir():
        return _load_folder(path, target)
    if source and path.is_file():
        if path.suffix not in ARCHIVES:
            raise UserError(f"'{source}' is a file of another kind: expected {ACCEPTED}")
        return cifar10.load_archive(path, target)
    if re.fullmatch(HUB_NAME, source) and path.suffix not in FILE_SUFFIXES:
        return hub.load_hub(source, target)
    if "/" in source or "\\" in source or path.suffix:
        raise UserError(f"the data source '{source}' does not exist: expected {ACCEPTED}")
    raise UserError(f"unknown data source '{source}': expected {ACCEPTED}")


def _load_folder(path: Path, target: Target) -> ImageData:
    for batches in (path, path / cifar10.FOLDER):
        if cifar10.holds_batches(batches):
            return cifar10.load_batches(batches, target)
    tables = parquet.find_parquet(path)
    if tables is not None:
        return parquet.load_parquet(tables, target)
    if shards.find_shards(path):
        return shards.load_shards(path, target)
    return folder.load_folder(path, target)
