"""Reading and checking the records of a run folder (format version 1)."""

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from rotvq.errors import UserError
from rotvq.guarded import parse_json, read_bytes, read_json, read_yaml
from rotvq.text import printable

T = TypeVar("T")

FORMAT = 1
MOST_EPOCHS, MOST_CODES = 10**9, 2**20
LARGEST_NUMBER = 1e38
"""About the largest float32: no metric is beyond it, and sums of those below it are finite."""
_PICTURE = re.compile(r"epoch_([0-9]{1,9})\.png")


@dataclass(frozen=True)
class Epoch:
    """One line of epochs.jsonl; `number` counts from 1, a metric that is not finite is nan.

    `codebook` says how it was at the epoch's end; empty where that was not recorded.
    """

    number: int
    train: Mapping[str, float]
    test: Mapping[str, float]
    timing: Mapping[str, float]
    codebook: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json: metrics over a whole split, how they were measured, uses of each code."""

    split: str
    images: int
    metrics: Mapping[str, float]
    protocol: Mapping[str, str]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class RunRecord:
    """What a run folder says: `epochs` has at least one entry, `notes` what was passed over."""

    path: Path
    label: str
    config: Mapping[str, Any]
    run: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    evaluation: Evaluation | None
    notes: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each code was used on the evaluated split; empty where that is not known."""
        return self.evaluation.counts if self.evaluation and any(self.evaluation.counts) else ()

    @property
    def codebook_size(self) -> int | None:
        """K, from the evaluated counts or the configuration."""
        if self.counts:
            return len(self.counts)
        size = lookup(self.config, "quantizer.codebook_size")
        return size if isinstance(size, int) else None

    @property
    def pictures(self) -> dict[int, Path]:
        """The reconstruction picture of each epoch that has one, in order."""
        files = (self.path / "reconstructions").glob("epoch_*.png")
        found = {int(m[1]): file for file in files if (m := _PICTURE.fullmatch(file.name))}
        return dict(sorted(found.items()))


def load_run(path: Path) -> RunRecord:
    """Read a run folder; its label is the folder's name.

    Raises UserError where the folder is no run, has no finished epoch, or a file is damaged.
    """
    path = Path(path)
    run = _record(path, "run.json")
    config = mapping(_read(read_yaml, path, "config.yaml"), str(path / "config.yaml"))
    epochs, notes = _epochs(path)
    evaluation = load_evaluation(path) if (path / "evaluation.json").exists() else None
    return RunRecord(path, _label(path.resolve().name), config, run, epochs, evaluation, notes)


def load_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json of a run folder; UserError where it is absent or damaged."""
    try:
        return _evaluation(path)
    except UserError as error:
        again = f"Evaluate the run again: rotvq evaluate {shlex.quote(str(path))}"
        raise UserError(f"{str(error).rstrip('.')}. {again}") from None


def load_runs(paths: Sequence[Path]) -> tuple[RunRecord, ...]:
    """Read several run folders; equal folder names are told apart by their parent folders.

    Raises UserError as `load_run`, and where there is no folder or one is given twice.
    """
    if not paths:
        raise UserError("expected one or more run folders, got none; name a run to report on")
    full = [Path(path).resolve() for path in paths]
    for path, times in Counter(full).items():
        if times > 1:
            raise UserError(f"{path}: expected different run folders, got it {times} times")
    labels = _unique_labels(full)
    return tuple(
        replace(load_run(path), label=_label(label))
        for path, label in zip(paths, labels, strict=True)
    )


def lookup(record: Mapping[str, Any], dotted: str) -> Any:
    """The value at a dotted path, or None where a part of it is missing."""
    value: Any = record
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _unique_labels(paths: Sequence[Path]) -> list[str]:
    depths = [1] * len(paths)
    while True:
        labels = ["/".join(p.parts[-d:]) for p, d in zip(paths, depths, strict=True)]
        times = Counter(labels)
        if max(times.values()) == 1:
            return labels
        depths = [d + (times[label] > 1) for d, label in zip(depths, labels, strict=True)]


def _label(name: str) -> str:
    """A folder's name that can be printed and drawn; the root folder has none."""
    return printable(name) or "run"


def _read(read: Callable[[Path, Path], T], folder: Path, name: str) -> T:
    """What `read` makes of a file of the run folder, in which it must lie."""
    try:
        return read(folder / name, folder)
    except FileNotFoundError:
        raise UserError(
            f"{folder}: expected a run folder, found no {name}; give a folder that `rotvq train` "
            "wrote"
        ) from None


def _record(folder: Path, name: str) -> Mapping[str, Any]:
    path = folder / name
    value = mapping(_read(read_json, folder, name), str(path))
    if value.get("format") != FORMAT:
        raise UserError(
            f"{path}: expected format {FORMAT}, got {_shown(value.get('format'))}; use the version "
            "of rotvq that wrote it"
        )
    return value


def _epochs(folder: Path) -> tuple[tuple[Epoch, ...], tuple[str, ...]]:
    path = folder / "epochs.jsonl"
    content = read_bytes(path, within=folder) if path.exists() else b""
    lines = [line for line in content.split(b"\n") if line.strip()]
    epochs: dict[int, Epoch] = {}
    again: list[int] = []
    notes = []
    for n, line in enumerate(lines, start=1):
        where = f"{path}: line {n}"
        try:
            value = parse_json(line, where)
        except UserError:
            if n < len(lines):
                raise
            notes.append("The last line of epochs.jsonl is torn and was left out.")
            continue
        epoch = _epoch(value, where)
        if epoch.number in epochs:
            again.append(epoch.number)
        epochs[epoch.number] = epoch
    if again:
        more = f" (and {len(again) - 1} more)" if len(again) > 1 else ""
        notes.append(f"Epoch {again[0]}{more} is recorded twice; the later record is shown.")
    if not epochs:
        raise UserError(f"{path}: expected a finished epoch, found none; let the run finish one")
    return tuple(epochs[number] for number in sorted(epochs)), tuple(notes)


def _epoch(value: Any, where: str) -> Epoch:
    value = mapping(value, where)
    number = value.get("epoch")
    if not isinstance(number, int) or not 1 <= number <= MOST_EPOCHS:
        raise UserError(f"{where}: expected `epoch` as an integer from 1, got {_shown(number)}")
    train, test, timing = (numbers(value, key, where) for key in ("train", "test", "timing"))
    codebook = mapping(value.get("codebook", {}), f"{where}: codebook")
    return Epoch(number, train, test, timing, codebook)


def _evaluation(folder: Path) -> Evaluation:
    path = folder / "evaluation.json"
    value = _record(folder, path.name)
    counts = value.get("counts", [])
    if not isinstance(counts, list) or not all(isinstance(c, int) and c >= 0 for c in counts):
        raise UserError(f"{path}: expected `counts` as a list of integers from 0, got another kind")
    if len(counts) > MOST_CODES:
        raise UserError(f"{path}: expected `counts` of at most {MOST_CODES:,} codes, got more")
    images = value.get("images")
    if not isinstance(images, int):
        raise UserError(f"{path}: expected `images` as an integer, got {_shown(images)}")
    protocol = mapping(value.get("protocol", {}), f"{path}: protocol")
    return Evaluation(
        split=str(value.get("split")),
        images=images,
        metrics=numbers(value, "metrics", str(path)),
        protocol={topic: str(sentence) for topic, sentence in protocol.items()},
        counts=tuple(counts),
    )


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """The value, if it is a mapping of names; UserError otherwise."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping of names, got {type(value).__name__}")
    return value


def numbers(record: Mapping[str, Any], key: str, where: str) -> Mapping[str, float]:
    """The metrics at a key of a record, nan where they are not finite; UserError otherwise."""
    values = mapping(record.get(key), f"{where}: {key}")
    return {name: _number(value, f"{where}: {key}.{name}") for name, value in values.items()}


def _number(value: Any, where: str) -> float:
    """A metric; what a run writes for one that is not finite, null, is nan, as are others."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.nan
    if not isinstance(value, int | float) or abs(value) > LARGEST_NUMBER:
        raise UserError(f"{where}: expected a number up to {LARGEST_NUMBER:g}, got {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    """A value in a message, which is a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
