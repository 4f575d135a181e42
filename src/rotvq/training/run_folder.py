"""A run's folder: what lies where, and who may write into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from rotvq.errors import UserError, first_line
from rotvq.files import TEMPORARY, remove_abandoned, to_json, write_text
from rotvq.guarded import check_not_linked, read_json, read_yaml
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
FIGURES = "figures"
CODEBOOKS = "codebooks"
_SUBFOLDERS = (RECONSTRUCTIONS, BAD_STEPS, TRACKING, FIGURES, CODEBOOKS)
_OURS = (
    MODEL, RUN, EPOCHS, EVALUATION, TRAIN_EVALUATION, CHECKPOINT, CHECKPOINT_BEFORE, WEIGHTS,
    SKIPPED, "report.html", "report.md", *_SUBFOLDERS,
)  # fmt: skip
LOCK = ".rotvq-lock"
"""Stays when the run has ended: a lock file that is removed can be locked twice."""


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
    for name in _OURS:
        remains = folder / name
        if remains.is_dir() and not remains.is_symlink():
            shutil.rmtree(remains)
        else:
            remains.unlink(missing_ok=True)
    remove_abandoned(folder)
    # Until here the folder counts as that of the old run, which nothing is left of but its name.
    _write_config(folder, config)
    (folder / RECONSTRUCTIONS).mkdir()


def take_up(folder: Path, config: Config) -> None:
    """Make the folder of a run ready to go on, perhaps for more epochs.

    Raises:
        UserError: what the run writes would land elsewhere, as one of its subfolders is a link.
    """
    places = [folder / name for name in _SUBFOLDERS]
    for place in places:
        check_not_linked(place)
    # What processes that were killed left half-written.
    for place in (folder, *places):
        remove_abandoned(place)
    if read_config(folder) != config:
        _write_config(folder, config)
    (folder / RECONSTRUCTIONS).mkdir(exist_ok=True)


def _write_config(folder: Path, config: Config) -> None:
    write_text(folder / CONFIG, yaml.safe_dump(asdict(config), sort_keys=False))


def _foreign(path: Path) -> bool:
    return path.name != LOCK and not path.match(TEMPORARY)


def read_config(folder: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
        UserError: the folder holds no run, or its config.yaml is not one of ours.
    """
    path = folder / CONFIG
    try:
        values = read_yaml(path)
    except FileNotFoundError:
        raise UserError(
            f"expected a run folder with {CONFIG}; found none in {folder}. Give the folder that "
            "`rotvq train --out` wrote."
        ) from None
    try:
        return Config(**{group: kind(**values[group]) for group, kind in GROUPS.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
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
        record = read_json(path)
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
