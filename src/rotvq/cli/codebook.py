"""rotvq codebook: a picture of every code of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rotvq.cli.coding import add_positional_model, load_model
from rotvq.cli.options import Parser, add_out
from rotvq.cli.png_folder import check_png
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.files import write_atomically
from rotvq.text import printable


def run(argv: Sequence[str]) -> int:
    """Decode every code and write the picture. Returns the exit status."""
    parser = Parser(
        prog="rotvq codebook",
        description="Draw every code of a model, decoded in the middle of a mid-gray image; "
        "similar codes are side by side.",
        epilog="example: rotvq codebook runs/mine -o codebook.png",
    )
    add_positional_model(parser)
    add_out(parser, "PNG to write", Path("codebook.png"))
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    options = parser.parse_args(argv)
    if options.out.suffix.lower() != ".png":
        raise UserError(f"--out: expected a file ending in .png; got {options.out}.")
    check_png(options.out, options.overwrite)
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq.plotting import plot_codebook

    terminal = Terminal()
    model = load_model(options.model)
    with terminal.console.status("Decoding"):
        picture = plot_codebook(model, printable(options.model))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out, partial(picture.save, format="PNG"))
    sizes = model.quantizer.codebook_sizes
    codes = f"{sum(sizes):,} codes"
    if len(sizes) > 1:
        codes += f" in {len(sizes)} codebooks"
    terminal.say(f"Drew {codes} of {options.model} in {options.out}.")
    return 0
