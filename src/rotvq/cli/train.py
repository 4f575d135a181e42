"""rotvq train: train a model on images and write a run folder."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from jsonargparse import ArgumentParser

from rotvq import run_folder
from rotvq.cli import runs
from rotvq.cli.images import load_images
from rotvq.cli.options import Parser, parsed, with_configs
from rotvq.cli.progress import TrainingProgress
from rotvq.paths import expanded
from rotvq.training.config import GROUPS, Config
from rotvq.training.folder import check_free, check_same, read_config
from rotvq.training.presets import FINETUNE, PRESETS

EPILOG = """\
You can also set options in a YAML file (--config); later options override earlier ones.
--data X is short for --data.source X. --from MODEL is short for --training.init_from MODEL, which
starts from the network, codebook and weights of a run, a saved or a bundled model; without
--preset, the other defaults then suit fine-tuning. Examples:
  rotvq train --preset smoke
  rotvq train --preset cpu --data cifar-10-python.tar.gz --out runs/rotation
  rotvq train --preset cpu --data FOLDER --quantizer.estimator straight_through --training.seed 1
  rotvq train --out runs/rotation --resume
  rotvq train --from runs/rotation --data FOLDER --data.size 64 --out runs/finetuned
"""


SHORT = {"--data": "--data.source", "--from": "--training.init_from"}


class Options(NamedTuple):
    """The options that are not part of the configuration."""

    preset: str | None
    out: Path
    resume: bool
    overwrite: bool
    track: tuple[str, ...] = ()


def run(argv: Sequence[str]) -> int:
    """Train and evaluate; returns the exit status."""
    options, config = parse(argv)
    return execute(config, options, shlex.join(["rotvq", "train", *argv]))


def execute(config: Config, options: Options, command: str) -> int:
    """Train a configuration and write the run folder; returns the exit status.

    Raises:
        UserError: the data or the folder cannot be used, or the loss is not finite.
    """
    main = runs.is_printing()
    resume = runs.is_resumed(options.out, resume=options.resume, overwrite=options.overwrite)
    if resume:
        check_same(options.out, read_config(options.out), config)
    else:
        runs.check_apart(options.out, "--from", config.training.init_from)
        check_free(options.out, options.overwrite)
    progress = TrainingProgress(config, quiet=not main)
    data = load_images(config, quiet=not main)
    # Imported late, because torch is slow to import: bad options or data are reported first.
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
            progress.say(f"  Skipped images are listed in {options.out / run_folder.SKIPPED}.")
    trackers = tracking.start(options.track if main else (), config, options.out)
    try:
        tracked = tracking.TrackerCallback(trackers, trainer, progress.say)
        with runs.written("rotvq train", options.out), progress.following(trainer) as callback:
            record = trainer.run([callback, tracked])
        tracked.on_end(record)
    except Stopped as stopped:
        progress.say(str(stopped))
        return 128 + stopped.number
    finally:
        tracking.finish(trackers)
    progress.finish(record, options.out)
    return 0


def parse(argv: Sequence[str]) -> tuple[Options, Config]:
    """The options of the command and the configuration.

    Raises:
        UserError: an option does not exist, or its value is not allowed.
    """
    words = with_configs([_in_full(word) for word in argv], GROUPS)
    parser = ArgumentParser(
        prog="rotvq train",
        description="Train a VQ-VAE on images. The defaults are the paper's settings.",
        epilog=EPILOG,
        formatter_class=runs.Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    _add_options(parser)
    runs.add_configuration(parser, GROUPS)
    options = _options(words)
    before = read_config(options.out) if options.resume and run_folder.is_run(options.out) else None
    start = _init_from(words)
    usual = FINETUNE if start else Config()
    base = PRESETS[options.preset] if options.preset else before or usual
    if start and before:
        base = replace(base, model=before.model, quantizer=before.quantizer)
    elif start:
        # Imported late, because torch is slow to import.
        from rotvq.training import starting_point

        base = starting_point.like(base, start)
    runs.set_defaults(parser, base)
    made = parsed(parser, words)
    config = Config(**{group: getattr(made, group) for group in GROUPS})
    return options, config


def _options(words: Sequence[str]) -> Options:
    """The options that determine the defaults; parsed before the rest."""
    parser = Parser(prog="rotvq train", add_help=False)
    _add_options(parser)
    known, _ = parser.parse_known_args(words)
    out = expanded(known.out or f"runs/{known.preset or 'train'}")
    return Options(known.preset, out, known.resume, known.overwrite, tuple(known.track or ()))


def _add_options(parser: argparse.ArgumentParser) -> None:
    runs.add_run_options(parser, PRESETS, "runs/PRESET")
    parser.add_argument(
        "--track",
        action="append",
        metavar="TRACKER",
        help="log to tensorboard, wandb, trackio or mlflow (repeatable)",
    )


def _init_from(words: Sequence[str]) -> str | None:
    """The model to start from, which also determines the defaults."""
    parser = Parser(prog="rotvq train", add_help=False)
    parser.add_argument("--training.init_from", dest="name")
    name: str | None = parser.parse_known_args(words)[0].name
    return None if name == "null" else name


def _in_full(word: str) -> str:
    """Expand a short option to its full form."""
    option, equals, value = word.partition("=")
    return SHORT.get(option, option) + equals + value
