"""Prepares a run folder: for a new run, to replace a run, or to resume one.

`rotvq.run_folder` describes what is in the folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rotvq import run_folder
from rotvq.errors import UserError, first_line
from rotvq.files import TEMPORARY, remove_abandoned
from rotvq.guarded import check_not_file, check_not_linked
from rotvq.training.config import Config, differing

C = TypeVar("C")

_PLACES = ("data.source:", "tokens.train:", "tokens.test:")


def check_free(folder: Path, overwrite: bool = False) -> None:
    """Check that a new run may be written to a folder.

    Args:
        folder: absent, empty, or a run that may be overwritten.
        overwrite: allow replacing a run.

    Raises:
        UserError: the folder holds a run or other files.
    """
    check_not_file(folder)
    if run_folder.is_run(folder) and not overwrite:
        raise UserError(
            f"--out: expected a new folder; {folder} already holds a run. Continue it (--resume), "
            "replace it (--overwrite) or choose another folder."
        )
    ours = run_folder.was_written(folder)
    if folder.is_dir() and not ours and any(map(_foreign, folder.iterdir())):
        raise UserError(
            f"--out: expected a new or empty folder or a run; {folder} holds other files. Choose "
            "another folder."
        )


def prepare(folder: Path, config: Any, *, overwrite: bool = False) -> None:
    """Create the folder of a new run and write its configuration.

    Args:
        folder: one that `check_free` accepts.
        config: a dataclass of groups of options, saved as config.yaml.
        overwrite: remove the files of a run in the folder, and only those.

    Raises:
        UserError: the folder holds a run or other files.
    """
    check_free(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    for name in run_folder.OUTPUTS:
        old = folder / name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    remove_abandoned(folder)
    # Last: until here the old configuration marks the folder as a run that may be overwritten.
    run_folder.write_config(folder, asdict(config))
    (folder / run_folder.RECONSTRUCTIONS).mkdir()


def prepare_resume(folder: Path, config: Any) -> None:
    """Prepare the folder of a run to be resumed, possibly for more epochs.

    Raises:
        UserError: a subfolder is a link, so the run would write outside its folder.
    """
    subfolders = [folder / name for name in run_folder.SUBFOLDERS]
    for each in subfolders:
        check_not_linked(each)
    for each in (folder, *subfolders):
        remove_abandoned(each)
    if run_folder.read_config(folder) != asdict(config):
        run_folder.write_config(folder, asdict(config))
    (folder / run_folder.RECONSTRUCTIONS).mkdir(exist_ok=True)


def read_config(folder: Path) -> Config:
    """The configuration of the run in a folder.

    Raises:
        UserError: the folder holds no run, its config.yaml is damaged, or another version of rotvq
            wrote it.
    """
    values = run_folder.read_config(folder)
    if "prior" in values:
        raise UserError(
            f"{folder}: expected the run of a tokenizer; got the run of a prior, which rotvq prior "
            "trains and rotvq sample draws from."
        )
    return parsed(folder, values, Config.from_dict)


def parsed(folder: Path, values: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], C]) -> C:
    """The configuration that a folder's config.yaml holds.

    Args:
        folder: of the run, for errors.
        values: in the file.
        parse: makes a configuration of them.

    Raises:
        UserError: it cannot.
    """
    path = folder / run_folder.CONFIG
    try:
        return parse(values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected the configuration of a run; {first_line(error)}. Start the run "
            "again with --overwrite."
        ) from None


def check_same(folder: Path, before: Any, config: Any, *, moved: bool = True) -> None:
    """Check that a run is continued with its own configuration, perhaps for more epochs.

    Args:
        folder: of the run, for errors.
        before: its configuration.
        config: the one to continue with.
        moved: its data may lie elsewhere; records hold their fingerprints.

    Raises:
        UserError: another option has changed.
    """
    free = ("training.epochs:", *(_PLACES if moved else ()))
    changed = [change for change in differing(before, config) if not change.startswith(free)]
    if changed:
        raise UserError(
            f"{folder}: expected the configuration of the run there; got {'; '.join(changed)}. "
            "Only training.epochs can change, and the place of the data. Choose another --out, or "
            "pass --overwrite."
        )


def check_same_data(folder: Path, splits: Mapping[str, Any], precision: str | None = None) -> None:
    """Check that a run was trained on the images at hand.

    Args:
        folder: the run folder.
        splits: size and fingerprint of the images, as in its record.
        precision: the one this machine resolves to, if it must be the run's.

    Raises:
        UserError: images or precision differ, or the record is damaged or of another version.
    """
    path = folder / run_folder.RUN
    record = run_folder.read_record(folder, run_folder.RUN)
    try:
        before = {name: record["data"][name] for name in splits}
        was = record["precision"]
        texts = {name: f"{s['images']} of {s['fingerprint']}" for name, s in before.items()}
    except (KeyError, TypeError):
        raise UserError(
            f"{path}: expected the record of a run; it is damaged. Start again with --overwrite."
        ) from None
    for name, split in splits.items():
        if before[name] != split:
            raise UserError(
                f"{folder}: expected the run's own {name} images, {texts[name]}; got "
                f"{split['images']} of {split['fingerprint']}. Pass the same data."
            )
    if precision not in (None, was):
        raise UserError(
            f"{folder}: expected the run's own precision {was}; got {precision} on this machine. "
            "Resume on the machine where it started, or train again with --training.precision."
        )


def _foreign(path: Path) -> bool:
    return path.name != run_folder.LOCK and not path.match(TEMPORARY)
