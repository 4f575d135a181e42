"""The part of rotvq encode that writes a folder of shards."""

from __future__ import annotations

import os
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rotvq.cli.coding import Source, load_model
from rotvq.cli.options import Parser, tuned_error
from rotvq.cli.terminal import Terminal
from rotvq.data_processing import skipped
from rotvq.data_processing.decoding import Findings
from rotvq.errors import UserError
from rotvq.text import counted
from rotvq.tokens import shards as token_shards
from rotvq.tokens.file import KINDS
from rotvq.tokens.shards import Shards

if TYPE_CHECKING:
    from rotvq.tokens.bulk import Totals

MOST_WORKERS = 8
"""Maximum number of worker processes per process, unless the number is given."""


def add_shards(parser: Parser) -> None:
    """Add the options for shards."""
    group = parser.add_argument_group(
        "shards",
        "With --shard-size, images are encoded to a folder of files. Run the same command again to "
        "continue after an interruption. Under torchrun or accelerate launch, the processes share "
        "the work.",
    )
    group.add_argument("--shard-size", type=int, metavar="N", help="images of the source per file")
    group.add_argument(
        "--format",
        choices=[suffix[1:] for suffix in KINDS],
        help="safetensors (default), which rotvq.TokenDataset maps to memory; parquet; or npz",
    )
    group.add_argument(
        "--workers", type=int, help="processes that decode images (default: one per core, up to 8)"
    )


def encode_to_shards(options: Any) -> int:
    """Encode images to a folder of shards. Returns the exit status."""
    suffix = f".{options.format or 'safetensors'}"
    if options.out.suffix in KINDS:
        raise UserError(
            f"--out: expected a folder, with --shard-size; got the name of a file, {options.out}."
        )
    if options.workers is not None and options.workers < 0:
        raise UserError(f"--workers: expected 0 or more; got {options.workers}.")
    if suffix == ".parquet":
        import_module("pyarrow")  # if missing, report it before encoding
    processes = _number("WORLD_SIZE", 1)
    process = _number("RANK", 0) % processes
    # Imported late, because torch is slow to import: bad options are reported first.
    import torch

    from rotvq.model.levels import check_levels
    from rotvq.tokens.bulk import Totals, encode_shards, pending
    from rotvq.tokens.model_codec import codec

    if (devices := torch.accelerator.device_count()) > 1:
        torch.accelerator.set_device_index(_number("LOCAL_RANK", 0) % devices)
    terminal = Terminal(quiet=process > 0)
    model = load_model(options.model)
    check_levels(model.quantizer, options.levels)
    meaning = codec(model, options.levels)
    source = Source(options.images, options.split, model.channels, options.bits, options.size)
    recipe = token_shards.recipe(
        meaning,
        options.effort,
        source.count,
        source.fingerprint,
        options.shard_size,
        suffix,
        source.reader.classes,
        options.tune or "psnr",
    )
    shards = Shards(options.out, recipe)
    token_shards.prepare(shards, options.overwrite)
    numbers = pending(shards, process, processes)
    mine = range(process, len(shards), processes)
    if len(numbers) < len(mine):
        terminal.say(f"{len(mine) - len(numbers):,} of {len(mine):,} shards are done already.")
    doing = f"encoding, process 1 of {processes}" if processes > 1 else "encoding"
    totals = Totals()
    since = time.perf_counter()
    images = sum(len(shards.rows(number)) for number in numbers)
    with terminal.counting(images, doing, lambda: f"{totals.rate:.3f} bits per pixel") as advance:
        encode_shards(
            model,
            source.reader,
            source.target,
            shards,
            numbers,
            totals,
            batch_size=options.batch_size,
            effort=options.effort,
            error=tuned_error(options),
            levels=options.levels,
            workers=_workers() if options.workers is None else options.workers,
            progress=advance,
        )
    seconds = time.perf_counter() - since
    terminal.say(
        f"Encoded {counted(totals.images, 'image')} in {seconds:.1f} s "
        f"({totals.images / seconds:,.0f} images/s), {meaning.bits} bits per token."
    )
    _finish(terminal, source, shards, totals)
    return 0


def _finish(terminal: Terminal, source: Source, shards: Shards, totals: Totals) -> None:
    """Sum up the folder, if all of its shards are done."""
    headers = [shards.header(number) for number in range(len(shards))]
    left = headers.count(None)
    if left:
        terminal.say(f"Other processes are at work on {left:,} of {len(shards):,} shards.")
        return
    lists = [path for path in map(shards.skipped, range(len(shards))) if path.exists()]
    every = [each for path in lists for each in skipped.read(path)]
    source.findings = Findings(every, totals.used_bits)
    images = sum(int(header["images"]) for header in headers if header is not None)
    source.check_any(images)
    for note in source.notes:
        terminal.say(note)
    if lists:
        terminal.say(f"Skipped images are listed in {shards.folder}/*.skipped.tsv.")
    size = sum(shards.path(number).stat().st_size for number in range(len(shards)))
    terminal.say(
        f"{shards.folder} holds {counted(images, 'image')} in "
        f"{counted(len(shards), 'shard')} ({size:,} bytes)."
    )


def _workers() -> int:
    """Processes that decode images for this one; processes of a machine share its cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(MOST_WORKERS, (cores or 1) // _number("LOCAL_WORLD_SIZE", 1)))


def _number(variable: str, default: int) -> int:
    """What torchrun or accelerate launch set in each process; otherwise the default."""
    value = os.environ.get(variable, "")
    return int(value) or default if value.isdigit() else default
