"""Encodes a source of any size to shards; an interrupted run continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rotvq.data_processing import skipped
from rotvq.data_processing.decoding import Findings
from rotvq.data_processing.reader import Reader
from rotvq.data_processing.resizing import Target
from rotvq.data_processing.workers import DecodedImage, Decoders
from rotvq.model import VQVAE
from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.tokens.coding import codable, encode
from rotvq.tokens.collection import Codec, Picture
from rotvq.tokens.file import save_tokens
from rotvq.tokens.model_codec import codec
from rotvq.tokens.shards import Shards

AT_A_TIME = 2**20
"""Approximate number of images given to the workers at a time; longer lists take long to send."""


@dataclass
class Totals:
    """What was encoded so far."""

    images: int = 0
    pixels: int = 0
    bits: int = 0
    used_bits: int = 0
    """The bits that the values of all 16-bit images use."""

    @property
    def rate(self) -> float:
        """Bits per pixel."""
        return self.bits / max(1, self.pixels)


def pending(shards: Shards, process: int, processes: int) -> list[int]:
    """The shards of a process that are not done: every `processes`-th from `process` on."""
    mine = range(process, len(shards), processes)
    return [number for number in mine if shards.header(number) is None]


def encode_shards(
    model: VQVAE,
    reader: Reader,
    target: Target,
    shards: Shards,
    numbers: Sequence[int],
    totals: Totals,
    *,
    batch_size: int = 128,
    effort: int = 0,
    error: ErrorFunction = squared_error,
    levels: int | None = None,
    workers: int = 1,
    progress: Callable[[int], object] = lambda images: None,
) -> None:
    """Encode shards one after the other; each is written atomically when it is done.

    Batches never cross shards, so the bytes of a shard do not depend on the others.

    Args:
        model: on any device; put in evaluation mode during the call.
        reader: reader of the images.
        target: what to convert images to.
        shards: the shards, prepared.
        numbers: numbers of the shards to encode, ascending.
        totals: receives what is encoded.
        batch_size: images per batch.
        effort: 0 to 9, as in `VQVAE.encode`.
        error: what a search lowers, as in `coding.encode`.
        levels: how many levels of a residual quantizer to use; None for all.
        workers: processes that decode images; 0 decodes in this one.
        progress: called after each batch with its number of images.

    Raises:
        UserError: the source is damaged, a worker ended, or a batch size or effort is not allowed.
    """
    meaning = codec(model, levels)

    def encode_shard(number: int, images: Iterator[DecodedImage], findings: Findings) -> None:
        pictures = codable(model, _pictures(images, meaning, totals), findings.skipped)
        tokens = encode(
            model,
            pictures,
            batch_size,
            progress,
            effort=effort,
            error=error,
            levels=levels,
            classes=reader.classes,
        )
        totals.images += len(tokens)
        totals.used_bits = max(totals.used_bits, findings.used_bits)
        skipped.write(shards.skipped(number), findings.skipped)
        save_tokens(tokens, shards.path(number), recipe=shards.id)

    at_a_time = max(1, AT_A_TIME // shards.recipe["shard_size"])
    for start in range(0, len(numbers), at_a_time):
        some = numbers[start : start + at_a_time]
        with Decoders(reader.items, target, [*map(shards.rows, some)], workers) as decoders:
            for number in some:
                # The first shard lists what was skipped before any image was opened.
                findings = Findings([*reader.skipped] if number == 0 else [])
                images = decoders.images(shards.rows(number), findings)
                encode_shard(number, images, findings)


def _pictures(images: Iterator[DecodedImage], codec: Codec, totals: Totals) -> Iterator[Picture]:
    """Images to encode; adds their pixels and bits to the totals."""
    for image in images:
        height, width = image.pixels.shape[1:]
        totals.pixels += height * width
        totals.bits += codec.bits_of((height, width))
        yield Picture(*image)
