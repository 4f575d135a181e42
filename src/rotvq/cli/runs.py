"""Shared by `rotvq train` and `rotvq prior`: the options of a run, and errors in writing it."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from rotvq import run_folder
from rotvq.errors import UserError
from rotvq.paths import expanded
from rotvq.training.config import options_of


class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks in examples."""


def add_run_options(parser: argparse.ArgumentParser, presets: Iterable[str], folder: str) -> None:
    """Add the options of a run that are not part of its configuration.

    Args:
        parser: the command's parser.
        presets: names of the presets.
        folder: the default of --out, for the help.
    """
    parser.add_argument("--preset", choices=[*presets], help="configuration to start from")
    parser.add_argument("-o", "--out", help=f"run folder (default: {folder})")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in --out, or start it"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")


def add_configuration(parser: ArgumentParser, groups: Mapping[str, Any]) -> None:
    """Add an option for each field of a configuration, and --config."""
    for group, kind in groups.items():
        parser.add_class_arguments(kind, group)
        # jsonargparse adds an option for the whole group; --config replaces it.
        parser._option_string_actions[f"--{group}"].help = argparse.SUPPRESS
    parser.add_argument("--config", action="config", help="options from a YAML file")


def set_defaults(parser: ArgumentParser, base: Any) -> None:
    """Take the defaults from a configuration."""
    parser.set_defaults(options_of(base))


def is_printing() -> bool:
    """Whether this process prints: one of those that torchrun or accelerate launch start."""
    return os.environ.get("RANK", "0") == "0"


def is_resumed(folder: Path, *, resume: bool, overwrite: bool) -> bool:
    """Whether the command continues the run in a folder.

    Raises:
        UserError: resume and overwrite are both requested.
    """
    if resume and overwrite:
        raise UserError("expected --resume or --overwrite; got both. Pass only one of them.")
    return resume and run_folder.is_run(folder)


def check_apart(folder: Path, option: str, model: str | None) -> None:
    """Check that a run does not replace the model that it is made from.

    Raises:
        UserError: it does.
    """
    replaced = (folder.resolve(), (folder / run_folder.TOKENIZER).resolve())
    if model and folder.is_dir() and expanded(model).resolve() in replaced:
        raise UserError(
            f"{option} {model}: expected a model outside --out; got the run in --out itself. "
            "Choose another --out, or continue the run there with --resume."
        )


@contextmanager
def written(command: str, folder: Path) -> Iterator[None]:
    """A context in which a run is written to a folder.

    Args:
        command: the command that continues the run, such as "rotvq train".
        folder: the run folder.

    Raises:
        UserError: there is no space or no permission.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"{folder}: expected free space and write permission; got {error}. The last "
            f"checkpoint is intact. Once this is fixed, continue with {command} --out "
            f"{shlex.quote(str(folder))} --resume"
        ) from error
