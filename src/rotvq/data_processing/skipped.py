"""What a data source passed over, and why: counted for people, listed in a file for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rotvq.files import write_text
from rotvq.text import printable


class Skipped(NamedTuple):
    """One file, row or sample that was passed over.

    Args:
        path: as the source names it: a path inside the folder, or `shard.tar/key`, or
            `file.parquet/row`.
        reason: a few words that many share, such as "damaged image" or "no permission"; skipped
            items are counted by it.
        detail: what is known of this one, such as the decoder's message; may be empty.
    """

    path: str
    reason: str
    detail: str = ""


def summary(skipped: Sequence[Skipped]) -> list[str]:
    """One line for each reason: how many, and the first of them."""
    first = {each.reason: each for each in reversed(skipped)}
    counts = Counter(each.reason for each in skipped)
    return [
        f"{n:,} skipped: {reason}, first {_told(first[reason])}" for reason, n in counts.items()
    ]


def to_tsv(skipped: Iterable[Skipped]) -> str:
    """The list as tab-separated text with a header: path, reason, detail.

    Control characters, and bytes of a path that are not UTF-8, are written as backslash escapes.
    """
    rows = [Skipped("path", "reason", "detail"), *skipped]
    return "".join("\t".join(printable(part) for part in row) + "\n" for row in rows)


def write(path: Path, skipped: Sequence[Skipped]) -> bool:
    """Write the list to a file, if anything was skipped; one of an earlier time does not stay.

    Returns:
        Whether there is a list.
    """
    if skipped:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, to_tsv(skipped))
    else:
        path.unlink(missing_ok=True)
    return bool(skipped)


def _told(each: Skipped) -> str:
    return f"{each.path} ({each.detail})" if each.detail else each.path
