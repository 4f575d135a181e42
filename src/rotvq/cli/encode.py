"""rotvq encode: pictures to a token file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from rotvq.cli.coding import Source, add_model, add_pictures, check_batch_size, load_model
from rotvq.cli.options import Parser
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.tokens.file import KINDS, write


def run(argv: Sequence[str]) -> int:
    """Encode pictures and write their tokens. Returns the exit status."""
    parser = Parser(
        prog="rotvq encode",
        description="Turn pictures of any size into a file of tokens, as small as their bits.",
        epilog="example: rotvq encode photos/ --model runs/mine -o photos.npz",
    )
    add_pictures(parser)
    add_model(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help=f"file; ends in {', '.join(KINDS)}"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    options = parser.parse_args(argv)
    check_batch_size(options.batch_size)
    if options.out.suffix not in KINDS:
        raise UserError(f"--out: expected a name in {', '.join(KINDS)}; got {options.out}.")
    if options.out.exists() and not options.overwrite:
        raise UserError(f"--out: {options.out} exists already. Choose another, or --overwrite it.")
    if options.out.suffix == ".parquet":
        import_module("pyarrow")  # missing, it is reported before the images are encoded
    # Late: torch takes its time, and bad options are answered before.
    from rotvq.tokens.coding import codable, encode

    terminal = Terminal()
    model = load_model(options.model)
    source = Source(options.images, options.split, model.channels, options.bits)
    since = time.perf_counter()
    with terminal.counting(source.count, "encoding") as advance:
        images = codable(model, source, source.findings.skipped)
        tokens = encode(model, images, options.batch_size, advance)
    source.report(terminal, len(tokens), options.out)
    write(options.out, tokens)
    size, packed = options.out.stat().st_size, len(tokens.packed)
    terminal.say(
        f"{len(tokens):,} pictures in {time.perf_counter() - since:.1f} s, "
        f"{tokens.codec.bits} bits a token: {packed:,} bytes of tokens in {options.out} "
        f"({size:,} bytes)."
    )
    return 0
