"""Loads the images of a configuration, and prints a summary."""

from __future__ import annotations

from rich.markup import escape

from rotvq.cli.terminal import Terminal
from rotvq.data_processing import ImageData, load
from rotvq.text import printable
from rotvq.training.config import Config


def load_images(config: Config, quiet: bool = False) -> ImageData:
    """Load the images of a run, and print how many there are.

    Args:
        config: the configuration of the run.
        quiet: print nothing.

    Raises:
        UserError: there are no such images.
    """
    terminal, options = Terminal(quiet), config.data
    with terminal.console.status(escape(f"Loading images from {printable(options.source)}")):
        data = load(
            options.source,
            size=options.size,
            channels=config.model.channels,
            validation=options.validation,
            crops=options.crops == "random",
            bits=options.bits,
        )
    _, c, h, w = data.train.images.shape
    train = min(len(data.train.images), options.train_images or len(data.train.images))
    test = min(len(data.test.images), options.test_images or len(data.test.images))
    held_out = f", {options.validation:,} validation" if options.validation else ""
    terminal.say(
        f"{data.name}: {train:,} training{held_out} and {test:,} test images, {c}x{h}x{w}."
    )
    for note in data.notes:
        terminal.say(f"  {note}")
    return data
