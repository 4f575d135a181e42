"""rotvq decode: decode a token file to images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain

from rotvq.cli.coding import add_model, load_bundled, load_model
from rotvq.cli.options import Parser, add_levels, add_out, check_positive
from rotvq.cli.png_folder import PngFolder, check_folder
from rotvq.cli.terminal import Terminal
from rotvq.data_processing.skipped import summary
from rotvq.paths import expanded
from rotvq.text import counted
from rotvq.tokens.file import load_tokens, number_of_images
from rotvq.tokens.shards import finished


def run(argv: Sequence[str]) -> int:
    """Decode tokens and write the images. Returns the exit status."""
    parser = Parser(
        prog="rotvq decode",
        description="Decode a token file, or a folder of shards, to PNG images with the model that "
        "encoded it.",
        epilog="example: rotvq decode photos.npz -o decoded/",
    )
    parser.add_argument("tokens", type=expanded, metavar="TOKENS", help="written by rotvq encode")
    add_model(parser, default="")
    add_levels(parser)
    add_out(parser, "folder for the images", required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace images of the same name")
    options = parser.parse_args(argv)
    check_positive(options, "batch_size")
    check_folder(options.out, options.overwrite)
    is_folder = options.tokens.is_dir()
    found = [*finished(options.tokens)] if is_folder else []
    paths = [path for path, _ in found] if is_folder else [options.tokens]
    first = load_tokens(paths[0])
    count = sum(number_of_images(*shard) for shard in found) if is_folder else len(first)
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq.tokens.coding import decode

    terminal = Terminal()
    if options.model:
        model = load_model(options.model)
    else:
        name, model = load_bundled(first)
        terminal.say(f"Decoding with {name}, the bundled model that encoded the tokens.")
    pngs = PngFolder(options.out)
    since = time.perf_counter()
    with terminal.counting(count, "decoding") as advance:
        for tokens in chain([first], map(load_tokens, paths[1:])):
            for name, pixels in decode(model, tokens, options.batch_size, levels=options.levels):
                pngs.save(name, pixels)
                advance(1)
    seconds = time.perf_counter() - since
    for line in summary(pngs.skipped):
        terminal.say(line)
    terminal.say(f"Decoded {counted(count, 'image')} to {options.out} in {seconds:.1f} s.")
    return 0
