"""Datasets on the Hugging Face Hub, downloaded on first use and cached."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rotvq import telemetry
from rotvq.data_processing.arrow import (
    TEST_NAMES,
    Columns,
    class_names,
    columns_of,
    encoded,
    inside,
    recognized,
)
from rotvq.data_processing.decoding import Encoded
from rotvq.data_processing.reader import ImageSource, Reader, Rows, digest
from rotvq.errors import UserError, first_line

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

CIFAR10 = "uoft-cs/cifar10"
ANSWER_SECONDS = 10.0
ROWS_AT_A_TIME = 256


def open_hub(identifier: str) -> ImageSource:
    """Open a Hub dataset `owner/name`; its features say which column holds images.

    Raises:
        UserError: it cannot be reached, or has no column of images.
    """
    telemetry.switch_off()
    import datasets

    reachable = _is_reachable(identifier)
    try:
        with nullcontext() if reachable else _cache_only():
            splits = datasets.load_dataset(identifier)
    # Network, cache, permission and format errors share no base class.
    except Exception as error:
        reason = "the Hub cannot be reached, and the dataset is not cached"
        if reachable:
            reason = first_line(error)
        raise UserError(
            f"{identifier}: expected a dataset on the Hub; {reason}. Check the name and the "
            "connection, or pass the path of a local copy"
            + (" (cifar-10-python.tar.gz or Parquet files)." if identifier == CIFAR10 else ".")
        ) from None
    if "train" not in splits:
        raise UserError(
            f"{identifier}: expected a train split; the dataset has only {', '.join(splits)}."
        )
    columns = _columns(identifier, splits["train"].features)
    test = next((name for name in TEST_NAMES if name in splits), None)
    names = {"train": "train", "test": test} if test else {"all": "train"}
    readers = {
        split: partial(_reader, splits[name], identifier, name) for split, name in names.items()
    }
    return ImageSource(identifier, readers, partial(recognized, columns, "CIFAR-10"))


def _is_reachable(identifier: str) -> bool:
    """Ask the Hub once: offline, `datasets` would retry for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(identifier, timeout=ANSWER_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return True  # load_dataset reports the error
    # Connection and offline errors; their classes depend on the HTTP library.
    except Exception:
        return False
    return True


@contextmanager
def _cache_only() -> Iterator[None]:
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _columns(identifier: str, features: "datasets.Features") -> Columns:
    import datasets

    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    if not images:
        raise UserError(
            f"{identifier}: expected a column of images; the columns are {', '.join(features)}."
        )
    return columns_of(images[0], {field.name: field.type for field in features.arrow_schema})


def _reader(split: "datasets.Dataset", identifier: str, name: str) -> Reader:
    columns = _columns(identifier, split.features)
    # The arrow format gives encoded bytes; any other would decode the images.
    names = [name for name in columns if name is not None]
    table = split.select_columns(names).with_format("arrow")
    checksums = sorted((split.info.download_checksums or {}).items())
    return Reader(
        len(table),
        partial(_items, table, columns, identifier, name),
        lambda: [*map(str, range(len(table)))],
        lambda: digest([identifier, name, len(table), repr(checksums)]),
        classes=class_names(split.features.arrow_schema, columns.label),
    )


def _items(
    table: "datasets.Dataset", columns: Columns, identifier: str, name: str, rows: Rows | None
) -> Iterator[Encoded]:
    blocks = range(-(-len(table) // ROWS_AT_A_TIME))
    used = blocks if rows is None else np.unique(rows // ROWS_AT_A_TIME).tolist()
    batches = (numbered for block in used for numbered in _batches(table, block * ROWS_AT_A_TIME))
    return encoded(batches, columns, name, rows, partial(_downloaded, identifier))


def _batches(table: "datasets.Dataset", start: int) -> "Iterator[tuple[int, pa.RecordBatch]]":
    for batch in table[start : start + ROWS_AT_A_TIME].to_batches():
        yield start, batch
        start += len(batch)


def _downloaded(identifier: str, path: str) -> Path | None:
    """The downloaded file that a row names, or None: a row could name any file on this machine."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    own = Path(HF_HUB_CACHE, f"datasets--{identifier.replace('/', '--')}")
    roots = (own, Path(datasets.config.EXTRACTED_DATASETS_PATH))
    return next((found for root in roots if (found := inside(root, path))), None)
