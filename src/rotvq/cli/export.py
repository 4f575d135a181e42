"""rotvq export: export a trained model for use elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rotvq.cli.coding import add_positional_model, load_model
from rotvq.cli.options import Parser, add_out
from rotvq.cli.png_folder import check_folder
from rotvq.cli.terminal import Terminal
from rotvq.data_processing import load
from rotvq.errors import UserError
from rotvq.paths import expanded

CHECKED, SIDE, PATCH = 64, 32, 160
"""The number of images for the check, and their minimum and maximum side in pixels."""


def run(argv: Sequence[str]) -> int:
    """Export a model and check the result. Returns the exit status."""
    parser = Parser(
        prog="rotvq export",
        description="Export a trained model as ONNX or torch.export programs (images to indices, "
        "indices to images), or as a folder for VQVAE.from_pretrained and the Hub.",
        epilog="example: rotvq export runs/mine --to onnx -o mine-onnx/",
    )
    add_positional_model(parser)
    parser.add_argument(
        "--to",
        choices=["onnx", "torch", "model"],
        required=True,
        help="ONNX programs, torch.export programs, or a folder for VQVAE.from_pretrained",
    )
    add_out(parser, "output folder", required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names")
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="upload to the Hub; requires --to model"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    options = parser.parse_args(argv)
    if options.private and not options.push:
        raise UserError("--private: expected --push with it; got none. Pass --push OWNER/NAME.")
    if options.push and options.to != "model":
        raise UserError(
            f"--push: expected --to model with it; got --to {options.to}. Pass --to model."
        )
    check_folder(options.out, options.overwrite)
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq import export
    from rotvq.files import write_text
    from rotvq.tokens.coding import padded
    from rotvq.training.card import card

    terminal = Terminal()
    model = load_model(options.model).cpu()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.to == "model":
        text = card(model, expanded(options.model), options.push or "owner/name")
        model.save_pretrained(options.out)
        write_text(options.out / "README.md", text)
        terminal.say(
            f'Saved in {options.out}. Load it with VQVAE.from_pretrained("{options.out}").'
        )
        if options.push:
            terminal.say(model.push_to_hub(options.push, private=options.private, card=text))
        return 0
    write, read = {
        "onnx": (export.to_onnx, export.load_onnx),
        "torch": (export.to_torch, export.load_torch),
    }[options.to]
    with terminal.console.status("Exporting"), TemporaryDirectory(dir=options.out) as place:
        paths = write(model, Path(place))
        side = str(min(PATCH, 2 * model.stride * -(-SIDE // (2 * model.stride))))
        images, what = _checked_on(side, model.channels)
        images = padded(images, 2 * model.stride)
        encode, decode = (read(path) for path in paths)
        share, largest = export.differences(model, encode, decode, images)
        # Moved to their final place only after the check.
        written = [str(path.replace(options.out / path.name)) for path in paths]
    terminal.say(
        f"Wrote {' and '.join(written)}. On {len(images)} {what}, {share:.2%} of the "
        f"indices differ from the model's, and pixels in [-1, 1] differ by at most {largest:.1g}."
    )
    return 0


def _checked_on(side: str, channels: int) -> tuple[Any, str]:
    """Images to compare outputs on, and what they are."""
    import torch

    from rotvq.training.images import on_device

    try:
        data = load("embedded:photos", size=side, channels=channels)
        return on_device(data.test, CHECKED, "cpu"), "photographs"
    except ModuleNotFoundError:  # of the extra train
        drawn = torch.Generator().manual_seed(0)
        shape = (CHECKED, channels, int(side), int(side))
        return torch.randint(256, shape, dtype=torch.uint8, generator=drawn), "random images"
