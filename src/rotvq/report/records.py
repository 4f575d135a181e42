"""Reading and checking the records of a run folder (format version 1)."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from rotvq.errors import UserError

FORMAT = 1
_PICTURE = re.compile(r"epoch_(\d+)\.png")


@dataclass(frozen=True)
class Epoch:
    """One line of epochs.jsonl; `number` counts from 1, a null metric is read as nan.

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
    for name in ("run.json", "config.yaml"):
        if not (path / name).is_file():
            raise UserError(
                f"{path}: expected a run folder, found no {name}; give a folder that "
                "`rotvq train` wrote"
            )
    run = _json(path / "run.json")
    config = _config(path / "config.yaml")
    epochs, notes = _epochs(path / "epochs.jsonl")
    file = path / "evaluation.json"
    evaluation = _evaluation(file) if file.exists() else None
    return RunRecord(path, path.resolve().name, config, run, epochs, evaluation, notes)


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
        replace(load_run(path), label=label) for path, label in zip(paths, labels, strict=True)
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


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: expected a readable file, got {error.strerror}") from None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(_read(path))
    except UserError:
        raise
    except ValueError:  # broken JSON or broken UTF-8
        raise UserError(f"{path}: expected JSON, got a damaged file; write it again") from None
    value = _mapping(value, str(path))
    if value.get("format") != FORMAT:
        raise UserError(
            f"{path}: expected format {FORMAT}, got {value.get('format')!r}; use the version of "
            "rotvq that wrote it"
        )
    return value


def _config(path: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(_read(path))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UserError(f"{path}: expected YAML, got a damaged file; write it again") from None
    return _mapping(value, str(path))


def _epochs(path: Path) -> tuple[tuple[Epoch, ...], tuple[str, ...]]:
    lines = [line for line in _read(path).split(b"\n") if line.strip()] if path.exists() else []
    epochs: dict[int, Epoch] = {}
    notes = []
    for n, line in enumerate(lines, start=1):
        where = f"{path}: line {n}"
        try:
            value = json.loads(line)
        except ValueError:
            if n < len(lines):
                raise UserError(f"{where}: expected a JSON object, got a damaged line") from None
            notes.append("The last line of epochs.jsonl is torn and was left out.")
            continue
        epoch = _epoch(value, where)
        if epoch.number in epochs:
            notes.append(f"Epoch {epoch.number} is recorded twice; the later record is shown.")
        epochs[epoch.number] = epoch
    if not epochs:
        raise UserError(f"{path}: expected a finished epoch, found none; let the run finish one")
    return tuple(epochs[number] for number in sorted(epochs)), tuple(notes)


def _epoch(value: Any, where: str) -> Epoch:
    value = _mapping(value, where)
    number = value.get("epoch")
    if not isinstance(number, int) or number < 1:
        raise UserError(f"{where}: expected `epoch` as an integer from 1, got {number!r}")
    train, test, timing = (_numbers(value, key, where) for key in ("train", "test", "timing"))
    codebook = _mapping(value.get("codebook", {}), f"{where}: codebook")
    return Epoch(number, train, test, timing, codebook)


def _evaluation(path: Path) -> Evaluation:
    value = _json(path)
    counts = value.get("counts", [])
    if not isinstance(counts, list) or not all(isinstance(c, int) and c >= 0 for c in counts):
        raise UserError(f"{path}: expected `counts` as a list of integers from 0, got another kind")
    images = value.get("images")
    if not isinstance(images, int):
        raise UserError(f"{path}: expected `images` as an integer, got {images!r}")
    protocol = _mapping(value.get("protocol", {}), f"{path}: protocol")
    return Evaluation(
        split=str(value.get("split")),
        images=images,
        metrics=_numbers(value, "metrics", str(path)),
        protocol={topic: str(sentence) for topic, sentence in protocol.items()},
        counts=tuple(counts),
    )


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping of names, got {type(value).__name__}")
    return value


def _numbers(record: Mapping[str, Any], key: str, where: str) -> Mapping[str, float]:
    numbers = {}
    for name, value in _mapping(record.get(key), f"{where}: {key}").items():
        if not isinstance(value, int | float | None):
            raise UserError(f"{where}: expected {key}.{name} as a number, got {value!r}")
        numbers[name] = math.nan if value is None else float(value)
    return numbers
