"""rotvq classifier: train the classifier behind the classifier metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rotvq.cli.images import load_images
from rotvq.cli.options import Parser, add_out, add_size
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.guarded import check_not_file
from rotvq.training.config import Config, DataConfig

LARGEST_WIDTH = 64
"""Takes 7 MiB of weights; a classifier that measures need not be better than this."""


def run(argv: Sequence[str]) -> int:
    """Train, test and save a classifier. Returns the exit status."""
    parser = Parser(
        prog="rotvq classifier",
        description="Train a small classifier on labeled images (CIFAR-10: a few minutes on 2 "
        "cores). `rotvq reproduce estimators` uses it to measure reconstructions, and trains it if "
        "it is missing.",
    )
    parser.add_argument(
        "--data", default="cifar10", help="source of labeled images (default: cifar10)"
    )
    add_size(parser)
    add_out(parser, "output folder", Path("classifier"))
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument(
        "--width",
        type=int,
        default=32,
        help="channels of the first stage (default: 32); a perceptual loss (rotvq train) needs a "
        "classifier of another seed and width than the one that evaluates",
    )
    options = parser.parse_args(argv)
    if not 0 <= options.seed < 2**31:
        raise UserError(f"--seed: expected 0 to 2147483647; got {options.seed}.")
    if not 1 <= options.width <= LARGEST_WIDTH:
        raise UserError(f"--width: expected 1 to {LARGEST_WIDTH}; got {options.width}.")
    check_not_file(options.out)
    terminal = Terminal()
    data = load_images(Config(data=DataConfig(source=options.data, size=options.size)))
    # Imported late, because torch is slow to import: bad options or data are reported first.
    from rotvq.evaluation.classifier import RECORD
    from rotvq.studies.classifier import images_to_see, obtain
    from rotvq.training.environment import default_device

    with terminal.counting(images_to_see(data), "training") as advance:
        obtain(
            data,
            options.out,
            default_device(),
            seed=options.seed,
            width=options.width,
            progress=advance,
        )
    record = json.loads((options.out / RECORD).read_text(encoding="utf-8"))
    for name, got in (("seed", record["seed"]), ("width", record["widths"][0])):
        wanted = getattr(options, name)
        if got != wanted:
            raise UserError(
                f"{options.out}: expected a classifier trained with {name} {wanted}; got one with "
                f"{name} {got}. Choose another --out, or remove the folder."
            )
    terminal.say(
        f"Test accuracy {record['accuracy']:.2%} after {record['epochs']} epochs "
        f"({record['seconds']:.0f} s, seed {record['seed']}). Saved to {options.out}."
    )
    return 0
