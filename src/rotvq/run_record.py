"""The record of a run, read from its folder and checked."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.guarded import mapping, numbers, parse_json, shown
from rotvq.names import EFFORTS
from rotvq.text import printable

MOST_EPOCHS = 10**9
_SEVERAL = ("residual", "groups", "scales")
_PICTURE = re.compile(r"epoch_([0-9]{1,9})\.png")


@dataclass(frozen=True)
class Epoch:
    """One line of epochs.jsonl.

    Args:
        number: of the epoch, from 1.
        train: means over the training images; a metric that is not finite is nan.
        test: the same of the images tested on; empty where the epoch was not tested.
        timing: seconds and images per second.
        codebook: its health at the end of the epoch; empty where that was not recorded.
    """

    number: int
    train: Mapping[str, float]
    test: Mapping[str, float]
    timing: Mapping[str, float]
    codebook: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json: metrics over a whole split, how they were measured, uses of each code.

    Of a residual quantizer also `levels`: the metrics of the first level alone, of the first two,
    and so on. With a classifier, the SHA-256 of its weights.
    """

    split: str
    images: int
    metrics: Mapping[str, float]
    protocol: Mapping[str, str]
    counts: tuple[int, ...]
    levels: tuple[Mapping[str, float], ...] = ()
    classifier: Any = None


@dataclass(frozen=True)
class RunRecord:
    """Everything recorded in a run folder.

    Args:
        path: of the folder.
        label: the folder's name, safe to print and draw.
        config: config.yaml, by group.
        run: run.json.
        epochs: at least one.
        evaluation: None until the run is evaluated.
        notes: one sentence for each irregularity that was ignored.
        efforts: evaluations of the same split with tokens searched for, by their effort.
    """

    path: Path
    label: str
    config: Mapping[str, Any]
    run: Mapping[str, Any]
    epochs: tuple[Epoch, ...]
    evaluation: Evaluation | None
    notes: tuple[str, ...]
    efforts: Mapping[int, Evaluation] = field(default_factory=dict)

    @property
    def is_prior(self) -> bool:
        """Whether the run trained a prior over tokens, rather than a tokenizer."""
        return "prior" in self.config

    @property
    def watched(self) -> str:
        """Which images its epochs are tested on and draw: "validation", if any are held out."""
        return "validation" if lookup(self.config, "data.validation") else "test"

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each code was used on the evaluated split; empty if unknown."""
        return self.evaluation.counts if self.evaluation and any(self.evaluation.counts) else ()

    @property
    def codebook_size(self) -> int | None:
        """Codes of a codebook, from the evaluated counts or the configuration."""
        several = any(lookup(self.config, f"quantizer.{n}") not in (1, None) for n in _SEVERAL)
        if self.counts and not several:
            return len(self.counts)
        size = lookup(self.config, "quantizer.codebook_size")
        return size if isinstance(size, int) else None

    @property
    def codebooks(self) -> int:
        """Number of codebooks: residual levels or scales, times groups."""
        numbers = [lookup(self.config, f"quantizer.{name}") for name in ("residual", "groups")]
        scales = lookup(self.config, "quantizer.scales")
        each = len(scales.split(",")) if isinstance(scales, str) else 1
        return each * math.prod(n for n in numbers if isinstance(n, int))

    @property
    def pictures(self) -> dict[int, Path]:
        """The picture of each epoch that has one, in order: reconstructions, or samples."""
        folder = run_folder.SAMPLES if self.is_prior else run_folder.RECONSTRUCTIONS
        files = (self.path / folder).glob("epoch_*.png")
        found = {int(m[1]): file for file in files if (m := _PICTURE.fullmatch(file.name))}
        return dict(sorted(found.items()))

    @property
    def searched(self) -> dict[int, Path]:
        """The picture of each effort at which tokens were searched for, in order."""
        names = {effort: self.path / run_folder.searched(effort) for effort in range(len(EFFORTS))}
        return {effort: path for effort, path in names.items() if path.exists()}


def load_run(path: Path) -> RunRecord:
    """Read a run folder; its label is the folder's name.

    Raises:
        UserError: the folder is not a run, no epoch is complete, a file is damaged, or another
            version of rotvq wrote it.
    """
    path = Path(path)
    run = run_folder.read_record(path, run_folder.RUN)
    config = run_folder.read_config(path)
    epochs, notes = _epochs(path)
    evaluation = load_evaluation(path) if (path / run_folder.EVALUATION).exists() else None
    efforts = {
        effort: _evaluation(path, name)
        for effort in range(1, len(EFFORTS))
        if (path / (name := run_folder.evaluation("test", effort))).exists()
    }
    label = _label(path.resolve().name)
    return RunRecord(path, label, config, run, epochs, evaluation, notes, efforts)


def load_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json of a run folder.

    Raises:
        UserError: it is absent or damaged, or another version of rotvq wrote it.
    """
    try:
        return _evaluation(path)
    except UserError as error:
        again = f"Evaluate the run again: rotvq evaluate {shlex.quote(str(path))}"
        raise UserError(f"{str(error).rstrip('.')}. {again}") from None


def load_runs(paths: Sequence[Path]) -> tuple[RunRecord, ...]:
    """Read several run folders; the labels of equal folder names include their parent folders.

    Raises:
        UserError: as `load_run`; also if there are no folders or one is given twice.
    """
    if not paths:
        raise UserError("expected one or more run folders; got none. Name a run to report on.")
    full = [Path(path).resolve() for path in paths]
    for path, times in Counter(full).items():
        if times > 1:
            raise UserError(f"{path}: expected different run folders; got it {times} times.")
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


def _epochs(folder: Path) -> tuple[tuple[Epoch, ...], tuple[str, ...]]:
    path = folder / run_folder.EPOCHS
    lines = run_folder.read_epochs(folder)
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
            notes.append("The last line of epochs.jsonl is incomplete and was ignored.")
            continue
        epoch = _epoch(value, where)
        if epoch.number in epochs:
            again.append(epoch.number)
        epochs[epoch.number] = epoch
    if again:
        more = f" (and {len(again) - 1} more)" if len(again) > 1 else ""
        notes.append(f"Epoch {again[0]}{more} is recorded twice; the later record is shown.")
    if not epochs:
        raise UserError(f"{path}: expected a completed epoch; got none. Let the run finish one.")
    return tuple(epochs[number] for number in sorted(epochs)), tuple(notes)


def _epoch(value: Any, where: str) -> Epoch:
    value = mapping(value, where)
    number = value.get("epoch")
    if not isinstance(number, int) or not 1 <= number <= MOST_EPOCHS:
        raise UserError(f"{where}: expected `epoch` as an integer from 1; got {shown(number)}")
    train, test, timing = (numbers(value, key, where) for key in ("train", "test", "timing"))
    codebook = mapping(value.get("codebook", {}), f"{where}: codebook")
    return Epoch(number, train, test, timing, codebook)


def _evaluation(folder: Path, name: str = run_folder.EVALUATION) -> Evaluation:
    path = folder / name
    value = run_folder.read_record(folder, path.name)
    counts = value.get("counts", [])
    if not isinstance(counts, list) or not all(isinstance(c, int) and c >= 0 for c in counts):
        raise UserError(f"{path}: expected `counts` as a list of integers from 0; got another kind")
    if len(counts) > run_folder.MOST_CODES:
        most = f"{run_folder.MOST_CODES:,}"
        raise UserError(f"{path}: expected `counts` of at most {most} codes; got more")
    levels = value.get("levels", [])
    if not isinstance(levels, list):
        raise UserError(f"{path}: expected `levels` as a list; got {shown(levels)}")
    images = value.get("images")
    if not isinstance(images, int):
        raise UserError(f"{path}: expected `images` as an integer; got {shown(images)}")
    protocol = mapping(value.get("protocol", {}), f"{path}: protocol")
    return Evaluation(
        split=str(value.get("split")),
        images=images,
        metrics=numbers(value, "metrics", str(path)),
        protocol={topic: str(sentence) for topic, sentence in protocol.items()},
        counts=tuple(counts),
        levels=tuple(numbers({"levels": row}, "levels", str(path)) for row in levels),
        classifier=lookup(value, "classifier.weights"),
    )
