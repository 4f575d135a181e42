"""rotvq sample: draw images from a prior, or complete a picture."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotvq import run_folder
from rotvq.cli.coding import Source, load_model
from rotvq.cli.images import load_images
from rotvq.cli.options import Parser, add_batch_size, add_out, check_positive
from rotvq.cli.png_folder import PngFolder, check_folder
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.generation.config import Sampling
from rotvq.paths import expanded
from rotvq.text import counted
from rotvq.training.config import Config, DataConfig

if TYPE_CHECKING:
    from rotvq.generation.prior import Prior
    from rotvq.model import VQVAE
    from rotvq.tokens.collection import Tokens

TOKENS, GRID, RECORD = "tokens.npz", "grid.png", "samples.json"
IN_GRID = 64
"""Maximum number of images in the picture of all samples."""


def run(argv: Sequence[str]) -> int:
    """Draw images and write them. Returns the exit status."""
    options = _parse(argv)
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq.files import write_json
    from rotvq.generation.pictures import save_grid
    from rotvq.generation.prior import Prior
    from rotvq.generation.sampling import sample
    from rotvq.tokens.coding import decode
    from rotvq.tokens.file import save_tokens
    from rotvq.training.environment import default_device

    terminal = Terminal()
    prior = Prior.from_pretrained(options.prior).to(default_device())
    model = _tokenizer(options, prior)
    labels = _labels(prior, options)
    grid, size, given = _start(prior, model, options, len(labels))
    if options.measure:  # what may be refused, before anything is drawn
        if model.channels != 3:
            raise UserError(
                "--measure: expected a prior over color images, which the classifier takes; got "
                "one over grayscale images. Leave out --measure."
            )
        rows, columns = grid or prior.vocabulary.grids[0]
        shape = f"{rows * model.stride}x{columns * model.stride}"
        data = load_images(Config(data=DataConfig(options.measure, shape)))
        networks = _networks(options, prior)
    since = time.perf_counter()
    with terminal.counting(len(labels), "sampling") as advance:
        tokens = sample(
            prior,
            labels,
            options.sampling,
            grid=grid,
            size=size,
            given=given,
            batch_size=options.batch_size,
            progress=advance,
        )
    seconds = round(time.perf_counter() - since, 2)
    images = [pixels for _, pixels in decode(model, tokens, options.batch_size)]
    pngs = PngFolder(options.out / "images")
    for pixels in images:
        pngs.save("", pixels)
    save_grid(options.out / GRID, images[:IN_GRID])
    save_tokens(tokens, options.out / TOKENS)
    record: dict[str, Any] = {
        "prior": str(options.prior),
        "images": len(images),
        "sampling": vars(options.sampling) | {"batch_size": options.batch_size},
        "sampling_seconds": seconds,
    }
    if options.measure:
        record |= _measured(options, networks, data, tokens, images, terminal)
    write_json(options.out / RECORD, record)
    terminal.say(
        f"Drew {counted(len(images), 'image')} in {seconds:.1f} s: {options.out}/images, "
        f"{GRID} with the first {min(IN_GRID, len(images))}, and {TOKENS}."
    )
    return 0


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Parser(
        prog="rotvq sample",
        description="Draw new images from a prior, or complete an image from its top rows.",
        epilog="examples: rotvq sample runs/prior -n 64 --label cat --guidance 3 -o cats; "
        "rotvq sample runs/prior --complete picture.png --keep-rows 4 -n 8 -o completed",
    )
    parser.add_argument("prior", type=expanded, help="folder written by rotvq prior")
    parser.add_argument("-n", "--number", type=int, default=64, help="images (default: 64)")
    parser.add_argument(
        "--label",
        help="class, by name or number; none: unconditional (default: each class in turn; with "
        "--complete: none)",
    )
    parser.add_argument(
        "--guidance", type=float, default=1.0, help="classifier-free guidance (default: 1, none)"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1 favors likely codes (default: 1)"
    )
    parser.add_argument(
        "--top-k",
        type=int,
        default=0,
        help="sample only from the K most likely codes (default: 0, all)",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="sample only from the smallest set of codes whose total probability reaches this "
        "value (default: 1, all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument(
        "--grid",
        metavar="ROWSxCOLUMNS",
        help="size of the token grid (default: the most frequent)",
    )
    parser.add_argument(
        "--complete", metavar="PICTURE", help="keep the top of this image and draw the rest"
    )
    parser.add_argument(
        "--keep-rows", type=int, metavar="ROWS", help="rows of tokens to keep (default: half)"
    )
    parser.add_argument(
        "--model", help="the model of the tokens (default: the one saved with the prior)"
    )
    add_batch_size(parser, 256)
    parser.add_argument(
        "--measure", metavar="DATA", help="compare with the test split of this data source"
    )
    parser.add_argument(
        "--classifier",
        type=expanded,
        default=Path("classifier"),
        help="with --measure: folder written by rotvq classifier (default: classifier)",
    )
    parser.add_argument(
        "--gfid",
        nargs="?",
        const="",
        metavar="FILE",
        help="with --measure: also the gFID with the Inception network in FILE (default: download)",
    )
    add_out(parser, "folder to write to", required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same name")
    options = parser.parse_args(argv)
    if options.grid:
        options.grid = _grid(options.grid)
    _check(options)
    return options


def _grid(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text)
    if not match:
        raise UserError(f"--grid: expected ROWSxCOLUMNS, such as 8x8; got {text}.")
    return int(match[1]), int(match[2])


def _check(options: Namespace) -> None:
    check_positive(options, "number", "batch_size")
    if options.grid and options.complete:
        raise UserError("--grid: expected no grid with --complete, which sets it. Pass only one.")
    if options.keep_rows is not None and not options.complete:
        raise UserError("--keep-rows: expected --complete PICTURE with it; got none.")
    if options.gfid is not None and not options.measure:
        raise UserError("--gfid: expected --measure DATA with it; got none.")
    if options.measure and options.complete:
        raise UserError("--measure: expected new images; got --complete. Pass only one of them.")
    if options.measure and options.number < 2:
        raise UserError("--measure: expected at least 2 images, whose spread is measured; got 1.")
    check_folder(options.out, options.overwrite)
    if not options.prior.is_dir():
        raise UserError(
            f"{options.prior}: expected the folder of a prior, which rotvq prior trains; there is "
            "no such folder."
        )
    options.sampling = Sampling(
        options.guidance, options.temperature, options.top_k, options.top_p, options.seed
    )


def _tokenizer(options: Namespace, prior: Prior) -> VQVAE:
    from rotvq.tokens.model_codec import check_model

    saved = options.prior / run_folder.TOKENIZER
    if not options.model and not run_folder.has_tokenizer(options.prior):
        raise UserError(
            f"{options.prior}: expected the model of its tokens "
            f"({prior.vocabulary.codec.model}); none was saved with the prior. Pass --model."
        )
    model = load_model(options.model or str(saved))
    check_model(model, prior.vocabulary.codec, "--model")
    return model


def _labels(prior: Prior, options: Namespace) -> list[int | None]:
    classes, n = len(prior.vocabulary.classes), options.number
    if options.label == "none":
        return [None] * n
    if options.label is not None:
        return [prior.vocabulary.label(options.label)] * n
    # The class of a picture to be completed is not known.
    return [i % classes if classes and not options.complete else None for i in range(n)]


def _start(prior: Prior, model: VQVAE, options: Namespace, number: int) -> tuple[Any, Any, Any]:
    """The grid of the images, their size, and the tokens that are given."""
    import numpy as np

    from rotvq.tokens.coding import encode

    if not options.complete:
        return options.grid, None, None
    if prior.vocabulary.codec.scales:
        raise UserError(
            "--complete: expected a prior of tokens row by row; got one of maps of rising "
            "resolution, whose first tokens cover the whole picture. Draw without --complete."
        )
    source = Source([options.complete], None, model.channels)
    tokens = encode(model, islice(source, 2))
    if len(tokens) != 1:
        raise UserError(
            f"--complete: expected one picture; {options.complete} holds "
            f"{'several' if tokens else 'none'}. Pass the path of an image file."
        )
    shape = prior.vocabulary.codec.index_shape
    indices = tokens[0][..., : shape[-1]] if shape else tokens[0]  # of the levels of the prior
    rows, columns = indices.shape[:2]
    prior.vocabulary.check_grid((rows, columns))
    keep = rows // 2 if options.keep_rows is None else options.keep_rows
    if not 0 <= keep <= rows:
        raise UserError(f"--keep-rows: expected 0 to {rows}, the picture's rows; got {keep}.")
    given = indices[:keep].reshape(1, keep * columns, prior.vocabulary.indices_of_token)
    return (rows, columns), tokens.sizes[0], np.repeat(given, number, 0)


def _networks(options: Namespace, prior: Prior) -> tuple[Any, bool, Any]:
    """The classifier, whether its classes are the prior's, and the Inception network, if any."""
    from rotvq.evaluation import perceptual
    from rotvq.evaluation.classifier import has_classes, load_classifier

    inception = None if options.gfid is None else perceptual.network("rfid", options.gfid)
    classifier, vocabulary = load_classifier(options.classifier), prior.vocabulary
    same = has_classes(options.classifier, len(vocabulary.classes), vocabulary.names)
    return classifier, same, inception


def _measured(
    options: Namespace,
    networks: tuple[Any, bool, Any],
    data: Any,
    tokens: Tokens,
    images: list[Any],
    terminal: Terminal,
) -> dict[str, Any]:
    import numpy as np
    import torch

    from rotvq.generation.measures import measure, save_nearest

    classifier, same_classes, inception = networks
    samples, reference, train = (
        torch.from_numpy(each) for each in (np.stack(images), data.test.images, data.train.images)
    )
    labels = torch.tensor(tokens.labels) if tokens.labels and same_classes else None
    total = len(samples) + len(reference) + len(train)
    with terminal.counting(total, "measuring") as advance:
        record = measure(
            samples, labels, reference, train, classifier, inception=inception, progress=advance
        )
    save_nearest(options.out / "nearest.png", record, samples, train)
    for name, value in record["metrics"].items():
        terminal.say(f"  {name} {value:.4f}")
    return record | {"data": data.name}
