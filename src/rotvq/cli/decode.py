"""rotvq decode: a token file to pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rotvq.cli.coding import (
    add_model,
    check_batch_size,
    load_model,
)
from rotvq.cli.options import Parser
from rotvq.cli.png_folder import PngFolder, check_folder
from rotvq.cli.terminal import Terminal
from rotvq.data_processing.skipped import summary
from rotvq.tokens.file import read


def run(argv: Sequence[str]) -> int:
    """Decode tokens and write the pictures. Returns the exit status."""
    parser = Parser(
        prog="rotvq decode",
        description="Turn a token file back into PNGs, with the model that wrote it.",
        epilog="example: rotvq decode photos.npz --model runs/mine -o decoded/",
    )
    parser.add_argument("tokens", type=Path, metavar="TOKENS", help="file that rotvq encode wrote")
    add_model(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures of one name")
    options = parser.parse_args(argv)
    check_batch_size(options.batch_size)
    check_folder(options.out, options.overwrite)
    tokens = read(options.tokens)
    # Late: torch takes its time, and bad options are answered before.
    from rotvq.tokens.coding import decode

    terminal = Terminal()
    model = load_model(options.model)
    pngs = PngFolder(options.out)
    since = time.perf_counter()
    with terminal.counting(len(tokens), "decoding") as advance:
        for name, pixels in decode(model, tokens, options.batch_size):
            pngs.save(name, pixels)
            advance(1)
    seconds = time.perf_counter() - since
    for line in summary(pngs.skipped):
        terminal.say(line)
    terminal.say(f"{len(tokens):,} pictures in {seconds:.1f} s, in {options.out}.")
    return 0
