"""rotvq encode: encode images to a token file, or to a folder of shards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import import_module

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
from rotvq.cli.rate import add_rate, check_rate, load_rate, modeled
from rotvq.cli.shards import add_shards, encode_to_shards
from rotvq.cli.terminal import Terminal
from rotvq.errors import UserError
from rotvq.text import counted
from rotvq.tokens.file import KINDS, save_tokens


def run(argv: Sequence[str]) -> int:
    """Encode images and write their tokens. Returns the exit status."""
    parser = Parser(
        prog="rotvq encode",
        description="Encode images of any size to a compact token file.",
        epilog="examples: rotvq encode photos/ -o photos.npz; rotvq encode imagenet/ --split train "
        "-o tokens/ --shard-size 10000",
    )
    add_pictures(parser)
    add_model(parser)
    add_effort(parser)
    add_levels(parser)
    what = f"file, ending in {', '.join(KINDS)}; or, with --shard-size, a folder"
    add_out(parser, what, required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace the file or the shards")
    add_rate(parser)
    add_shards(parser)
    options = parser.parse_args(argv)
    check_positive(options, "batch_size")
    check_tune(options)
    check_rate(options)
    if options.shard_size is not None:
        return encode_to_shards(options)
    if options.format is not None or options.workers is not None:
        raise UserError(
            "--format, --workers: expected together with --shard-size; got no --shard-size."
        )
    if options.out.suffix not in KINDS:
        raise UserError(
            f"--out: expected a file ending in {', '.join(KINDS)}; got {options.out}. To write a "
            "folder of shards, pass --shard-size."
        )
    if options.out.exists() and not options.overwrite:
        raise UserError(
            f"--out: expected a new file; {options.out} exists. Choose another name or pass "
            "--overwrite."
        )
    if options.out.suffix == ".parquet":
        import_module("pyarrow")  # if missing, report it before encoding
    # Imported late, because torch is slow to import: bad options are reported first.
    from rotvq.model.objective import free_of_charge
    from rotvq.tokens.coding import codable, encode

    terminal = Terminal()
    model = load_model(options.model)
    rate = load_rate(options, model) if options.prior else None
    source = Source(options.images, options.split, model.channels, options.bits, options.size)
    since = time.perf_counter()
    with terminal.counting(source.count, "encoding") as advance:
        images = codable(model, source, source.findings.skipped)
        images = modeled(images, rate) if rate else images
        tokens = encode(
            model,
            images,
            options.batch_size,
            advance,
            effort=options.effort,
            error=tuned_error(options),
            rate=rate if rate and options.effort else free_of_charge,
            levels=options.levels,
            classes=source.reader.classes,
        )
    source.report(terminal, len(tokens), options.out)
    save_tokens(tokens, options.out)
    size, packed = options.out.stat().st_size, len(tokens.packed)
    terminal.say(
        f"Encoded {counted(len(tokens), 'image')} in {time.perf_counter() - since:.1f} s, "
        f"{tokens.codec.bits} bits per token: {packed:,} bytes of tokens in {options.out} "
        f"({size:,} bytes)."
    )
    if rate is not None:
        bits = rate.bits(tokens, options.batch_size)
        terminal.say(f"  {bits:.1f} bits per image under the prior, no class given")
    return 0
