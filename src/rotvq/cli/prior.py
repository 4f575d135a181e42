"""rotvq prior: train a prior over tokens and write a run folder."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from rotvq import run_folder
from rotvq.cli import runs
from rotvq.cli.coding import load_model
from rotvq.cli.options import Parser, parsed, with_configs
from rotvq.cli.prior_progress import PriorProgress
from rotvq.errors import UserError
from rotvq.generation.config import GROUPS, PRESETS, PriorConfig
from rotvq.generation.folder import read_config
from rotvq.paths import expanded
from rotvq.training.folder import check_free, check_same

if TYPE_CHECKING:
    from rotvq.model import VQVAE

EPILOG = """\
TOKENS is short for --tokens.train TOKENS. You can also set options in a YAML file (--config).
With --model, the model of the tokens is saved with the prior, so that its folder is all that
sampling needs. Examples:
  rotvq encode cifar10 --split train --model runs/mine -o train.npz
  rotvq encode cifar10 --split test --model runs/mine -o test.npz
  rotvq prior train.npz --tokens.test test.npz --model runs/mine --preset cpu --out runs/prior
  rotvq prior --out runs/prior --resume
  rotvq sample runs/prior -n 64 -o samples
"""


def run(argv: Sequence[str]) -> int:
    """Train a prior and evaluate it; returns the exit status."""
    options, config = parse(argv)
    resume = runs.is_resumed(options.out, resume=options.resume, overwrite=options.overwrite)
    if resume:
        check_same(options.out, read_config(options.out), config)
    else:
        runs.check_apart(options.out, "--model", options.model)
        check_free(options.out, options.overwrite)
    progress = PriorProgress(config, quiet=not runs.is_printing())
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq.generation.data import load
    from rotvq.generation.trainer import PriorTrainer
    from rotvq.training.interrupt import Stopped

    data = load(config.tokens)
    progress.describe(data)
    trainer = PriorTrainer(config, data, options.out, _tokenizer(options))
    if resume:
        damage = trainer.resume()
        if damage:
            progress.say(damage)
    else:
        trainer.begin(shlex.join(["rotvq", "prior", *argv]), overwrite=options.overwrite)
    try:
        with runs.written("rotvq prior", options.out), progress.following(trainer) as callback:
            record = trainer.run([callback])
    except Stopped as stopped:
        progress.say(str(stopped))
        return 128 + stopped.number
    progress.finish(record, options.out)
    return 0


def parse(argv: Sequence[str]) -> tuple[Any, PriorConfig]:
    """The options of the command and the configuration.

    Raises:
        UserError: an option does not exist, or its value is not allowed.
    """
    words = with_configs(argv, GROUPS)
    parser = ArgumentParser(
        prog="rotvq prior",
        description="Train a transformer that predicts the tokens of images, one after the other. "
        "It draws new images and completes others (rotvq sample), and says how many bits the "
        "tokens take. The defaults are the preset cpu.",
        epilog=EPILOG,
        formatter_class=runs.Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    _add_options(parser)
    runs.add_configuration(parser, GROUPS)
    options = _options(words)
    before = read_config(options.out) if options.resume and run_folder.is_run(options.out) else None
    base = PRESETS[options.preset] if options.preset else before or PriorConfig()
    if before and options.preset:
        base = replace(base, tokens=before.tokens)
    runs.set_defaults(parser, base)
    made = parsed(parser, words)
    config = PriorConfig(**{group: getattr(made, group) for group in GROUPS})
    if made.file:
        config = replace(config, tokens=replace(config.tokens, train=made.file))
    return options, config


def _options(words: Sequence[str]) -> Any:
    """The options that determine the defaults; parsed before the rest."""
    parser = Parser(prog="rotvq prior", add_help=False)
    _add_options(parser)
    known, _ = parser.parse_known_args(words)
    known.out = expanded(known.out or f"runs/prior-{known.preset or 'cpu'}")
    return known


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        nargs="?",
        metavar="TOKENS",
        help="token file or folder of shards, written by rotvq encode from training images",
    )
    runs.add_run_options(parser, PRESETS, "runs/prior-PRESET")
    parser.add_argument(
        "--model", help="the model that encoded the tokens; a copy is saved with the prior"
    )


def _tokenizer(options: Any) -> VQVAE | None:
    """The model of the tokens: the given one, or that of the run being resumed."""
    if options.model:
        return load_model(options.model)
    saved = options.out / run_folder.TOKENIZER
    if not options.resume or not saved.is_dir():
        return None
    if not run_folder.has_tokenizer(options.out):
        raise UserError(
            f"{saved}: expected the model of the tokens; it was not saved to the end. Pass --model."
        )
    return load_model(str(saved))
