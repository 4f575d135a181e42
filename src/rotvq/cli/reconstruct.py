"""rotvq reconstruct: encode and decode images, and measure the error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rotvq.cli.coding import Source, add_model, add_pictures, load_model
from rotvq.cli.options import (
    Parser,
    add_effort,
    add_levels,
    add_out,
    check_positive,
    check_tune,
    tuned_error,
)
from rotvq.cli.png_folder import PngFile, PngFolder, check_folder, check_png, default_png
from rotvq.cli.terminal import Terminal
from rotvq.data_processing.pictures import is_source
from rotvq.errors import UserError
from rotvq.paths import expanded
from rotvq.text import counted

CHUNK, PIXELS = 1024, 2**24
"""Maximum number of images in memory at a time, and of their pixels (approximate)."""


def run(argv: Sequence[str]) -> int:
    """Reconstruct images, write and measure the results. Returns the exit status."""
    parser = Parser(
        prog="rotvq reconstruct",
        description="Encode and decode images, and report the error and the bits per pixel.",
        epilog="examples: rotvq reconstruct cat.jpg; rotvq reconstruct photos/ -o reconstructed/",
    )
    add_pictures(parser)
    add_model(parser)
    add_effort(parser)
    add_levels(parser)
    add_out(
        parser,
        "folder for the PNGs, or a PNG for a single image file (default for cat.jpg: "
        "cat.rotvq.png in the working directory)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace images of the same name")
    options = parser.parse_args(argv)
    check_positive(options, "batch_size")
    check_tune(options)
    pngs = _output(options.images, options.out, options.overwrite)
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq.evaluation.metrics import psnr
    from rotvq.tokens.batching import within
    from rotvq.tokens.coding import codable, decode, encode

    terminal = Terminal()
    model, error = load_model(options.model), tuned_error(options)
    source = Source(options.images, options.split, model.channels, options.bits, options.size)
    squares = pixels = bits = coded = 0

    iterator = codable(model, source, source.findings.skipped)
    with terminal.counting(source.count, "reconstructing") as advance:
        chunk = options.batch_size if options.effort else CHUNK  # a search takes a while
        while images := within(iterator, chunk, PIXELS):
            tokens = encode(
                model,
                images,
                options.batch_size,
                effort=options.effort,
                error=error,
                levels=options.levels,
            )
            back = decode(model, tokens, options.batch_size)
            for image, (name, after) in zip(images, back, strict=True):
                squares += _squared_error(image.pixels, after)
                pixels += after[0].size
                pngs.save(name, after)
                advance(1)
            bits += sum(map(tokens.codec.bits_of, tokens.sizes))
            coded += len(images)
    source.findings.skipped += pngs.skipped
    source.report(terminal, coded, pngs.path)
    mse = squares / (pixels * model.channels) / 127.5**2
    terminal.say(
        f"Reconstructed {counted(coded, 'image')} with {options.model} in "
        f"{pngs.path}: MSE {mse:.5f} on [-1, 1], PSNR "
        f"{psnr(mse):.2f} dB after rounding to 8 bits, {bits / pixels:.3f} bits per pixel."
    )
    return 0


def _output(images: Sequence[str], out: Path | None, overwrite: bool) -> PngFile | PngFolder:
    """Where the images go: to a file if there is only one, and no folder is named.

    Raises:
        UserError: something is there already, or several images have no folder.
    """
    source = expanded(images[0])
    if len(images) == 1 and source.is_file() and not is_source(images[0]):
        path = out or default_png(source)
        if path.suffix.lower() == ".png" and not path.is_dir():
            check_png(path, overwrite)
            return PngFile(path)
    if out is None:
        raise UserError("--out: expected a folder for the images; got none. Pass -o FOLDER.")
    check_folder(out, overwrite)
    if any(expanded(each).resolve() == out.resolve() for each in images):
        raise UserError(
            f"--out: expected another folder than that of the images; got {out}. Choose another "
            "one, so that no original is replaced."
        )
    return PngFolder(out)


def _squared_error(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> int:
    """The sum of squared differences, row by row: int64 takes eight times the memory of pixels."""
    return sum(
        int(np.square(before[:, i].astype(np.int64) - after[:, i]).sum())
        for i in range(before.shape[1])
    )
