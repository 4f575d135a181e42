"""rotvq train: a configuration and images in, a run folder out."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from rotvq import run_folder
from rotvq.cli.options import Parser, parsed, with_configs
from rotvq.cli.progress import TrainingProgress
from rotvq.errors import UserError
from rotvq.training.config import GROUPS, Config, differing
from rotvq.training.folder import check_free, read_config
from rotvq.training.presets import PRESETS

EPILOG = """\
Every option can be set in a YAML file too (--config); options given later win. --data X is short
for --data.source X, and --from MODEL for --training.init_from MODEL: start from the weights of a
run or a saved model, with its network and codebook, on the same images or others. Examples:
  rotvq train --preset smoke
  rotvq train --preset cpu --data cifar-10-python.tar.gz --out runs/rotation
  rotvq train --preset cpu --data FOLDER --quantizer.estimator straight_through --training.seed 1
  rotvq train --out runs/rotation --resume
  rotvq train --preset best --data FOLDER --from runs/rotation --out runs/finetuned
"""


SHORT = {"--data": "--data.source", "--from": "--training.init_from"}


class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the examples' lines."""


class Options(NamedTuple):
    """What is not part of the configuration."""

    preset: str | None
    out: Path
    resume: bool
    overwrite: bool
    track: tuple[str, ...] = ()


def run(argv: Sequence[str]) -> int:
    """Parse, load the data, train, evaluate. Returns the exit status."""
    options, config = parse(argv)
    return execute(config, options, shlex.join(["rotvq", "train", *argv]))


def execute(config: Config, options: Options, command: str) -> int:
    """Train a configuration in a folder; returns the exit status.

    Raises:
        UserError: bad data, a folder in use, a loss that is not finite.
    """
    if options.resume and options.overwrite:
        raise UserError("expected --resume or --overwrite; got both. Choose one.")
    # Started by torchrun or accelerate launch, one process writes and speaks for all.
    main = os.environ.get("RANK", "0") == "0"
    resume = options.resume and run_folder.is_run(options.out)
    if resume:
        _check_same(options.out, config)
    else:
        check_free(options.out, options.overwrite)
    progress = TrainingProgress(config, quiet=not main)
    data = progress.load_data()
    # Late: torch takes its time, and bad options or data are answered before.
    from rotvq.training import tracking
    from rotvq.training.interrupt import Stopped
    from rotvq.training.trainer import Trainer

    tracking.check(options.track)
    trainer = Trainer(config, data, options.out)
    if resume:
        damage = trainer.resume()
        if damage:
            progress.say(damage)
    else:
        trainer.begin(command, overwrite=options.overwrite)
        if data.skipped:
            progress.say(f"  What was skipped is listed in {options.out / run_folder.SKIPPED}.")
    trackers = tracking.start(options.track if main else (), config, options.out)
    try:
        with progress.following(trainer) as callback:
            record = trainer.run(
                [callback, tracking.TrackerCallback(trackers, trainer, progress.say)]
            )
    except Stopped as stopped:
        progress.say(str(stopped))
        return 128 + stopped.number
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(
            f"expected room and the right to write in {options.out}; {error}. What was saved "
            f"before is whole: then go on with rotvq train --out {shlex.quote(str(options.out))} "
            "--resume"
        ) from error
    finally:
        tracking.finish(trackers)
    progress.finish(record, options.out)
    return 0


def _check_same(folder: Path, config: Config) -> None:
    before = read_config(folder)
    changed = [c for c in differing(before, config) if not c.startswith("training.epochs:")]
    if changed:
        raise UserError(
            f"{folder}: expected the configuration of the run there; got {'; '.join(changed)}. "
            "Only training.epochs may change. Choose another --out, or --overwrite."
        )


def parse(argv: Sequence[str]) -> tuple[Options, Config]:
    """The options of the verb and the configuration they make.

    Raises:
        UserError: an option that does not exist or has no such value.
    """
    words = with_configs([_in_full(word) for word in argv], GROUPS)
    parser = ArgumentParser(
        prog="rotvq train",
        description="Train a VQ-VAE on images. The defaults are the paper's.",
        epilog=EPILOG,
        formatter_class=Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    _add_options(parser)
    for group, kind in GROUPS.items():
        parser.add_class_arguments(kind, group)
    parser.add_argument("--config", action="config", help="options from a YAML file")
    options = _options(words)
    before = read_config(options.out) if options.resume and run_folder.is_run(options.out) else None
    base = PRESETS[options.preset] if options.preset else before or Config()
    start = _init_from(words)
    if start and before:
        base = replace(base, model=before.model, quantizer=before.quantizer)
    elif start:
        # Late: a saved model takes torch to read.
        from rotvq.training import starting_point

        base = starting_point.like(base, start)
    parser.set_defaults(
        {f"{group}.{k}": v for group, part in asdict(base).items() for k, v in part.items()}
    )
    made = parsed(parser, words)
    config = Config(**{group: getattr(made, group) for group in GROUPS})
    return options, config


def _options(words: Sequence[str]) -> Options:
    """What decides about the defaults, read before the rest."""
    parser = Parser(prog="rotvq train", add_help=False)
    _add_options(parser)
    known, _ = parser.parse_known_args(words)
    return _resolved(known)


def _resolved(given: Any) -> Options:
    out = Path(given.out or f"runs/{given.preset or 'train'}")
    return Options(given.preset, out, given.resume, given.overwrite, tuple(given.track or ()))


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", choices=[*PRESETS], help="where the defaults come from")
    parser.add_argument("--out", help="the run's folder (default: runs/PRESET)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, or begin it"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument(
        "--track",
        action="append",
        metavar="TRACKER",
        help="tell tensorboard, wandb, trackio or mlflow too (may be given again)",
    )


def _init_from(words: Sequence[str]) -> str | None:
    """What training begins from, which decides about the defaults too."""
    parser = Parser(prog="rotvq train", add_help=False)
    parser.add_argument("--training.init_from", dest="name")
    name: str | None = parser.parse_known_args(words)[0].name
    return None if name == "null" else name


def _in_full(word: str) -> str:
    """An option that has a short form, written out."""
    option, equals, value = word.partition("=")
    return SHORT.get(option, option) + equals + value
