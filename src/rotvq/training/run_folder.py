"""A run's folder: what lies where, and who may write into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from rotvq.errors import UserError
from rotvq.training.config import GROUPS, Config
from rotvq.training.files import write_text

FORMAT = 1
CONFIG = "config.yaml"
RUN = "run.json"
EPOCHS = "epochs.jsonl"
EVALUATION = "evaluation.json"
CHECKPOINT = "checkpoint.pt"
WEIGHTS = "model.safetensors"
RECONSTRUCTIONS = "reconstructions"
_OURS = (
    CONFIG, RUN, EPOCHS, EVALUATION, CHECKPOINT, WEIGHTS, RECONSTRUCTIONS,
    "report.html", "report.md", "figures",
)  # fmt: skip


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
    if folder.is_dir() and not is_run(folder) and any(folder.iterdir()):
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
    for name in _OURS:
        remains = folder / name
        if remains.is_dir():
            shutil.rmtree(remains)
        else:
            remains.unlink(missing_ok=True)
    (folder / RECONSTRUCTIONS).mkdir(parents=True)
    write_text(folder / CONFIG, yaml.safe_dump(asdict(config), sort_keys=False))


def read_config(folder: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
        UserError: the folder holds no run, or its config.yaml is not one of ours.
    """
    path = folder / CONFIG
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Config(**{group: kind(**values[group]) for group, kind in GROUPS.items()})
    except FileNotFoundError:
        raise UserError(
            f"expected a run folder with {CONFIG}; found none in {folder}. Give the folder that "
            "`rotvq train --out` wrote."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: expected a run's configuration; {reason}.") from None


def check_same_data(path: Path, splits: Mapping[str, Any]) -> None:
    """See that a run's record names the images at hand.

    Args:
        path: the run.json of a run to go on with.
        splits: size and fingerprint of the splits, as in the record.

    Raises:
        UserError: the images are others, or the record is damaged.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["data"]
        different = [name for name in splits if before[name] != splits[name]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: expected the record of a run; it is damaged.") from None
    if different:
        name = different[0]
        raise UserError(
            f"--resume: expected the {name} images of the run, {before[name]['images']} of "
            f"fingerprint {before[name]['fingerprint']}; got {splits[name]['images']} of "
            f"{splits[name]['fingerprint']}. Give the run's own data."
        )


def write_epochs(folder: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Write epochs.jsonl whole: it always says what the checkpoint says."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in history)
    write_text(folder / EPOCHS, "".join(lines))
