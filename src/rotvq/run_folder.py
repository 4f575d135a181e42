"""The folder of a run: what each file is called, what it holds, how it is read and written.

| file | content |
|---|---|
| `config.yaml` | the configuration, by group |
| `run.json` | what the run was made from: data, versions, hardware, model |
| `epochs.jsonl` | one record per completed epoch |
| `epochs.csv` | the same as a table, for `pandas.read_csv` |
| `evaluation.json` | metrics over the whole test split |
| `evaluation-effort-4.json` | the same with tokens that were searched for, at effort 4 |
| `model.safetensors`, `config.json` | the weights, and the arguments that rebuild the model |
| `checkpoint.pt` | everything needed to resume |

Free of torch, so that the command line and the report start quickly. `rotvq.run_record` parses
these files; `rotvq.training.folder` decides who may write them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import yaml

from rotvq.errors import UserError
from rotvq.files import to_json, write_text
from rotvq.guarded import mapping, read_bytes, read_json, read_yaml, shown
from rotvq.names import EFFORTS

T = TypeVar("T")

FORMAT = 2
"""Version of run.json and evaluation.json, raised when an older folder can no longer be read."""

CONFIG = "config.yaml"
MODEL = "config.json"
RUN = "run.json"
EPOCHS = "epochs.jsonl"
EPOCHS_TABLE = "epochs.csv"
EVALUATION = "evaluation.json"
TRAIN_EVALUATION = "evaluation-train.json"
CHECKPOINT, CHECKPOINT_BEFORE = "checkpoint.pt", "checkpoint-before.pt"
WEIGHTS = "model.safetensors"
RECONSTRUCTIONS = "reconstructions"
BAD_STEPS = "bad_steps"
TRACKING = "tracking"
SKIPPED = "skipped.tsv"
FIGURES = "figures"
CODEBOOKS = "codebooks"
SAMPLES, TOKENIZER = "samples", "tokenizer"
"""Of a prior: pictures of samples, and the model of its tokens."""
REPORTS = ("report.html", "report.md")
MOST_CODES = 2**20
"""Codes whose use an evaluation records one by one, at most."""
LOCK = ".rotvq-lock"
"""Stays when the run has ended: a lock file that is removed can be locked twice."""


def evaluation(split: str, effort: int = 0) -> str:
    """The record of a split ("test" or "train"), with its tokens encoded at an effort."""
    name = EVALUATION if split == "test" else TRAIN_EVALUATION
    return name.replace(".json", f"-effort-{effort}.json") if effort else name


SUBFOLDERS = (RECONSTRUCTIONS, BAD_STEPS, TRACKING, FIGURES, CODEBOOKS, SAMPLES, TOKENIZER)
OUTPUTS = (
    MODEL, RUN, EPOCHS, EPOCHS_TABLE, CHECKPOINT, CHECKPOINT_BEFORE, WEIGHTS, SKIPPED, *REPORTS,
    *SUBFOLDERS,
    *(evaluation(split, effort) for split in ("test", "train") for effort in range(len(EFFORTS))),
)  # fmt: skip
"""Everything that a run writes besides its configuration and its lock."""


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, started or finished."""
    return (folder / CONFIG).is_file()


def has_tokenizer(folder: Path) -> bool:
    """Whether the model of the tokens was saved with the prior in a folder."""
    return (folder / TOKENIZER / MODEL).exists()  # its last file


def was_written(folder: Path) -> bool:
    """Whether rotvq wrote the run in a folder; other programs use the name config.yaml too."""
    own = (LOCK, RUN, EPOCHS, CHECKPOINT)
    return is_run(folder) and any((folder / name).exists() for name in own)


def forget_evaluations(folder: Path) -> None:
    """Remove what was measured of weights that are being replaced."""
    for effort in range(len(EFFORTS)):
        for name in (evaluation("test", effort), evaluation("train", effort), searched(effort)):
            (folder / name).unlink(missing_ok=True)


def reconstruction(epoch: int) -> str:
    """The picture of an epoch's reconstructions, relative to the folder; epochs count from 1."""
    return f"{RECONSTRUCTIONS}/epoch_{epoch:04d}.png"


def searched(effort: int) -> str:
    """The picture of the same images with their tokens searched for at an effort."""
    return f"{RECONSTRUCTIONS}/effort_{effort}.png"


def read_config(folder: Path) -> Mapping[str, Any]:
    """The values of config.yaml, by group; a run of another format is refused.

    Raises:
        UserError: the folder holds no run, the file is damaged, or another version wrote it.
    """
    values = _read(read_yaml, folder, CONFIG)
    if (folder / RUN).exists():
        read_record(folder, RUN)
    return mapping(values, str(folder / CONFIG))


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Write config.yaml; the values come by group."""
    write_text(folder / CONFIG, yaml.safe_dump(dict(values), sort_keys=False))


def read_record(folder: Path, name: str) -> Mapping[str, Any]:
    """A JSON record of the current format.

    Args:
        folder: of the run.
        name: `RUN`, `EVALUATION` or `TRAIN_EVALUATION`.

    Raises:
        UserError: the file is absent or damaged, or another version wrote it.
    """
    path = folder / name
    record = mapping(_read(read_json, folder, name), str(path))
    _check_format(record, path)
    return record


def read_epochs(folder: Path) -> list[bytes]:
    """The lines of epochs.jsonl that are not empty; none where no epoch is complete.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder / EPOCHS
    content = read_bytes(path, within=folder) if path.exists() else b""
    return [line for line in content.split(b"\n") if line.strip()]


def write_epochs(folder: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Replace epochs.jsonl and epochs.csv, so that they always agree with the checkpoint."""
    records = list(history)
    write_text(folder / EPOCHS, "".join(to_json(record) + "\n" for record in records))
    write_text(folder / EPOCHS_TABLE, _table(records))


def _table(history: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a line for each record; values of groups are named as in test.psnr."""
    lines = [dict(_leaves(record)) for record in history]
    names = list(dict.fromkeys(name for line in lines for name in line))
    content = StringIO()
    writer = csv.DictWriter(content, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return content.getvalue()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, part in parts:
        full = f"{name}.{key}" if name else str(key)
        if isinstance(part, Mapping | list | tuple):
            yield from _leaves(part, full)
        else:
            yield full, part


def _read(read: Callable[[Path, Path], T], folder: Path, name: str) -> T:
    """Read a file that must lie in the folder itself."""
    try:
        return read(folder / name, folder)
    except FileNotFoundError:
        raise UserError(
            f"{folder}: expected a run folder; found no {name}. Pass the folder that "
            "`rotvq train` or `rotvq prior` wrote."
        ) from None


def _check_format(record: Mapping[str, Any], path: Path) -> None:
    version = record.get("format")
    if type(version) is int and version == FORMAT:
        return
    whose = "an unknown version"
    if type(version) is int:
        whose = "an earlier version" if version < FORMAT else "a later version"
    raise UserError(
        f"{path}: expected format {FORMAT}; got {shown(version)}, written by {whose} of rotvq. "
        "Open it with the version that wrote it, or train the run again in another folder."
    )
