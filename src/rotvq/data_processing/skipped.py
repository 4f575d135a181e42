"""What a data source skipped, and why: a summary for the user, a list in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rotvq.errors import UserError
from rotvq.files import write_text
from rotvq.text import printable


class Skipped(NamedTuple):
    """A file, row or sample that was skipped.

    Args:
        path: its name in the source: a path inside the folder, `shard.tar/key` or
            `file.parquet/row`.
        reason: a few words shared by many, such as "damaged image" or "no permission"; skipped
            items are counted by reason.
        detail: details of this one, such as the decoder's message; may be empty.
    """

    path: str
    reason: str
    detail: str = ""


def summary(skipped: Sequence[Skipped]) -> list[str]:
    """One line per reason: the count and the first item."""
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


def read(path: Path) -> list[Skipped]:
    """The list in a file that `write` wrote, with its escapes.

    Raises:
        UserError: the file is damaged.
    """
    rows = [line.split("\t") for line in path.read_text("utf-8", "replace").splitlines()[1:]]
    if any(len(row) != len(Skipped._fields) for row in rows):
        raise UserError(f"{path}: expected a list of skipped images; it is damaged. Remove it.")
    return [Skipped(*row) for row in rows]


def write(path: Path, skipped: Sequence[Skipped]) -> bool:
    """Write the list to a file; if nothing was skipped, remove a previous list.

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
