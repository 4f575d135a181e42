"""A run's folder: what lies where, and who may write into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from rotvq.errors import UserError, first_line
from rotvq.files import to_json, write_text
from rotvq.training.config import GROUPS, Config

FORMAT = 1
CONFIG = "config.yaml"
MODEL = "config.json"
RUN = "run.json"
EPOCHS = "epochs.jsonl"
EVALUATION = "evaluation.json"
TRAIN_EVALUATION = "evaluation-train.json"
CHECKPOINT, CHECKPOINT_BEFORE = "checkpoint.pt", "checkpoint-before.pt"
WEIGHTS = "model.safetensors"
RECONSTRUCTIONS = "reconstructions"
BAD_STEPS = "bad_steps"
TRACKING = "tracking"
SKIPPED = "skipped.tsv"
_OURS = (
    MODEL, RUN, EPOCHS, EVALUATION, TRAIN_EVALUATION, CHECKPOINT, CHECKPOINT_BEFORE, WEIGHTS,
    RECONSTRUCTIONS, BAD_STEPS, TRACKING, SKIPPED, "report.html", "report.md", "figures",
)  # fmt: skip
PARTS = ".*.part"

LARGEST_CONFIG = 2**20
"""Characters of config.yaml that are read; a whole one has about a thousand."""


class _PlainLoader(yaml.SafeLoader):
    """Without aliases, which we do not write: a few lines of them make more than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias")
        return super().compose_node(parent, index)


def check_plain(path: Path) -> None:
    """See that a YAML file can be read: it holds no aliases and does not nest without end.

    Raises:
        UserError: it cannot.
    """
    try:
        _load(path)
    except Exception as error:
        raise UserError(f"{path}: expected YAML; {first_line(error)}.") from None


def _load(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        return yaml.load(file.read(LARGEST_CONFIG), _PlainLoader)


def is_run(folder: Path) -> bool:
    """Whether the folder holds a run, begun or finished."""
    return (folder / CONFIG).is_file()


def check_free(folder: Path, overwrite: bool = False) -> None:
    """See that a new run may be written there.

    Args:
        folder: must not exist, or be empty, or hold a run that may be overwritten.
        overwrite: whether it may.

    Raises:
        UserError: the folder holds something that would be lost or mixed.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: expected a folder; {folder} is a file. Choose another name.")
    if is_run(folder) and not overwrite:
        raise UserError(
            f"--out: {folder} holds a run already. Go on with it (--resume), replace it "
            "(--overwrite) or choose another folder."
        )
    if folder.is_dir() and not is_run(folder) and any(map(_foreign, folder.iterdir())):
        raise UserError(
            f"--out: expected a new or empty folder or a run; {folder} holds other files. Choose "
            "another folder."
        )


def prepare(folder: Path, config: Config, *, overwrite: bool = False) -> None:
    """Make a folder for a new run and write its configuration.

    Args:
        folder: one that `check_free` accepts.
        config: is saved as config.yaml.
        overwrite: remove the files of the run that lies there, and no others.

    Raises:
        UserError: the folder holds something that would be lost or mixed.
    """
    check_free(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_parts(folder)
    for name in _OURS:
        remains = folder / name
        if remains.is_dir():
            shutil.rmtree(remains)
        else:
            remains.unlink(missing_ok=True)
    # Until here the folder counts as that of the old run, which nothing is left of but its name.
    _write_config(folder, config)
    (folder / RECONSTRUCTIONS).mkdir()


def take_up(folder: Path, config: Config) -> None:
    """Make the folder of a run ready to go on, perhaps for more epochs."""
    _remove_parts(folder)
    if read_config(folder) != config:
        _write_config(folder, config)
    (folder / RECONSTRUCTIONS).mkdir(exist_ok=True)


def _write_config(folder: Path, config: Config) -> None:
    write_text(folder / CONFIG, yaml.safe_dump(asdict(config), sort_keys=False))


def _foreign(path: Path) -> bool:
    return not path.match(PARTS)


def _remove_parts(folder: Path) -> None:
    """Remove the half-written files of a process that was killed."""
    for place in (folder, folder / RECONSTRUCTIONS, folder / BAD_STEPS):
        for part in place.glob(PARTS):
            part.unlink(missing_ok=True)


def read_config(folder: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
        UserError: the folder holds no run, or its config.yaml is not one of ours.
    """
    path = folder / CONFIG
    try:
        values = _load(path)
        return Config(**{group: kind(**values[group]) for group, kind in GROUPS.items()})
    except FileNotFoundError:
        raise UserError(
            f"expected a run folder with {CONFIG}; found none in {folder}. Give the folder that "
            "`rotvq train --out` wrote."
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # A file that someone made up can make yaml raise anything.
    except Exception as error:
        raise UserError(f"{path}: expected a run's configuration; {first_line(error)}.") from None


def check_same(folder: Path, splits: Mapping[str, Any], precision: str | None = None) -> None:
    """See that a run was made from the images at hand.

    Args:
        folder: of the run.
        splits: size and fingerprint of the images, as in its record.
        precision: that of the machine at hand, if it has to be the run's.

    Raises:
        UserError: images or precision differ, or the record is damaged.
    """
    path = folder / RUN
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        before = {name: record["data"][name] for name in splits}
        was = record["precision"]
        texts = {name: f"{s['images']} of {s['fingerprint']}" for name, s in before.items()}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: expected the record of a run; it is damaged. Start again with --overwrite."
        ) from None
    for name, split in splits.items():
        if before[name] != split:
            raise UserError(
                f"{folder}: expected the run's own {name} images, {texts[name]}; got "
                f"{split['images']} of {split['fingerprint']}. Give the run's own data."
            )
    if precision not in (None, was):
        raise UserError(
            f"{folder}: expected the run's own precision {was}; got {precision} on this machine. "
            "Go on where it began, or start again elsewhere with --training.precision."
        )


def write_epochs(folder: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Write epochs.jsonl whole: it always says what the checkpoint says."""
    write_text(folder / EPOCHS, "".join(to_json(record) + "\n" for record in history))
