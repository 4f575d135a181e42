"""Data sets of the Hugging Face hub, downloaded and cached on first use."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rotvq import telemetry
from rotvq.data_processing.arrow import ROWS_AT_A_TIME, TEST_NAMES, Columns, Table, load_tables
from rotvq.data_processing.decoding import Target
from rotvq.data_processing.splits import ImageData
from rotvq.errors import UserError, first_line

if TYPE_CHECKING:
    import datasets

CIFAR10 = "uoft-cs/cifar10"
ANSWER_SECONDS = 10.0


def load_hub(identifier: str, target: Target) -> ImageData:
    """Load a hub data set `owner/name`; its image column is found from its features.

    Raises UserError where it cannot be reached, has no train split or no column of images.
    """
    telemetry.switch_off()
    import datasets

    reachable = _is_reachable(identifier)
    try:
        with nullcontext() if reachable else _cache_only():
            splits = datasets.load_dataset(identifier)
    # Network, cache, permission and format errors share no base class.
    except Exception as error:
        reason = "the hub cannot be reached and the cache does not hold it"
        if reachable:
            reason = first_line(error)
        raise UserError(
            f"could not load the hub data set '{identifier}' ({reason}): check the name and the "
            "connection, or give the path of a local copy"
            + (" (cifar-10-python.tar.gz or Parquet files)" if identifier == CIFAR10 else "")
        ) from None
    if "train" not in splits:
        raise UserError(
            f"the hub data set '{identifier}' has no train split, only {', '.join(splits)}"
        )
    test = next((splits[name] for name in TEST_NAMES if name in splits), None)
    columns = _columns(identifier, splits["train"].features)
    return load_tables(
        identifier,
        _table(splits["train"], columns),
        None if test is None else _table(test, columns),
        columns,
        target,
    )


def _is_reachable(identifier: str) -> bool:
    """Ask the hub once: without an answer, `datasets` would retry for half a minute."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().dataset_info(identifier, timeout=ANSWER_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return True  # load_dataset says what is wrong
    # Connection and offline-mode errors; their classes change with the HTTP library.
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
            f"the hub data set '{identifier}' has no column of images: its columns are "
            f"{', '.join(features)}"
        )
    return Columns(images[0], "label" if _is_label(features.get("label")) else None)


def _is_label(kind: object) -> bool:
    import datasets

    return isinstance(kind, datasets.ClassLabel) or (
        isinstance(kind, datasets.Value) and kind.dtype.startswith(("int", "uint"))
    )


def _table(split: "datasets.Dataset", columns: Columns) -> Table:
    # The arrow format gives the encoded bytes; any other would decode every image twice.
    names = [name for name in columns if name is not None]
    rows = split.select_columns(names).with_format("arrow")
    return Table(len(rows), lambda: rows.iter(ROWS_AT_A_TIME))
