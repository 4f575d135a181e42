"""Images of any size to tokens and back, with a model.

Images are padded on the right and below to a multiple of the model's stride by repeating the edge,
and cropped after decoding. Large images are processed in tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from rotvq.data_processing.skipped import Skipped
from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluating
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.model import VQVAE
from rotvq.model.effort import check_searched
from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.model.error_functions import within as error_within
from rotvq.model.level_search import LevelSearch
from rotvq.model.levels import check_levels, first_levels
from rotvq.model.objective import Rate, free_of_charge
from rotvq.quantization import MultiScaleQuantizer
from rotvq.tokens import tiles
from rotvq.tokens.batching import N, Named, batches
from rotvq.tokens.collection import Packer, Picture, Tokens
from rotvq.tokens.model_codec import check_model, codec

PIXELS = 2**22
"""Approximate number of pixels in a batch; larger images are coded one at a time, in tiles."""
SEARCHED = 2**19
"""Maximum number of pixels of an image that is searched as a whole, without tiles."""

ATTENDED, ATTENDED_GPU = 2**16, 2**20
"""Maximum number of tokens of an image for a network with attention, on a CPU and on a GPU."""


@torch.no_grad()
def encode(
    model: VQVAE,
    images: Iterable[Named | Picture],
    batch_size: int = 128,
    progress: Callable[[int], object] = lambda images: None,
    *,
    effort: int = 0,
    error: ErrorFunction = squared_error,
    rate: Rate = free_of_charge,
    levels: int | None = None,
    classes: tuple[str, ...] = (),
) -> Tokens:
    """Encode images in order; consecutive images of one size share a batch.

    Args:
        model: on any device; put in evaluation mode during the call.
        images: names and uint8 pixels (c, h, w), with the model's number of channels; or
            `Picture`s, which also have labels and captions.
        batch_size: images per batch.
        progress: called after each batch with its number of images.
        effort: 0 to 9, as in `VQVAE.encode`.
        error: what a search lowers, before pixels are rounded and without the padding. For large
            images, which are searched in tiles, it must be a sum or mean of terms that depend on
            pixels at most 5 away, as `squared_error` and `structural_error` are.
        rate: what tokens cost, as in `VQVAE.encode`; with a rate, no image is searched in tiles.
        levels: how many levels of a residual quantizer to use; None for all.
        classes: names of the classes by label; empty if they have none.

    Raises:
        UserError: an image has another dtype, other channels, or is too large (see `codable`); a
            batch size below 1; an effort outside 0 to 9, or of 0 with an error or a rate; or more
            levels than there are.
    """
    _check_batch_size(batch_size)
    check_levels(model.quantizer, levels)
    _check_precision(model)
    check_searched(effort, error is not squared_error or rate is not free_of_charge)
    packer = Packer(codec(model, levels), classes)
    with evaluating(model):
        search = LevelSearch(model, effort, levels)
        for some in batches(_checked(model, images), batch_size, PIXELS):
            names, arrays, labels, captions = zip(*some, strict=True)
            size = arrays[0].shape[1], arrays[0].shape[2]
            batch = cache(partial(_batch, model, arrays))
            indices = first_levels(model.quantizer, _indices(model, arrays, batch), levels)
            if effort:
                indices = _searched(search, model, arrays, batch, indices, error, rate)
            packer.add(indices, size, names, labels, captions)
            progress(len(names))
    return packer.tokens()


def _indices(
    model: VQVAE, images: Sequence[NDArray[np.uint8]], batch: Callable[[], Tensor]
) -> NDArray[np.int64]:
    around = tiles.margin(model, model.encoder) if _is_large(images[0].shape[1:]) else None
    if around is not None:
        return tiles.encode(model, images[0], around)
    return model.encode(batch()).cpu().numpy()


def _searched(
    search: LevelSearch,
    model: VQVAE,
    images: Sequence[NDArray[np.uint8]],
    batch: Callable[[], Tensor],
    indices: NDArray[np.int64],
    error: ErrorFunction,
    rate: Rate,
) -> NDArray[np.int64]:
    height, width = images[0].shape[1:]
    # The cost of a token may depend on all others.
    whole = height * width <= SEARCHED or rate is not free_of_charge
    around = None if whole else tiles.margin(model, model.decoder)
    if around is not None:
        pairs = zip(images, indices, strict=True)
        return np.stack([tiles.search(search, model, *pair, around, error) for pair in pairs])
    x, first = batch(), torch.from_numpy(indices)
    unpadded = error_within(slice(height), slice(width), error)
    return search(x, first.to(x.device), unpadded, rate=rate).cpu().numpy()


def _batch(model: VQVAE, images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """The images, padded, as the model sees them."""
    x = torch.from_numpy(np.stack(images)).to(next(model.parameters()).device)
    return normalized(padded(x, model.stride))


def codable(model: VQVAE, images: Iterable[N], skipped: list[Skipped]) -> Iterator[N]:
    """Yield the images that the model can encode, and append the others to `skipped`.

    Networks with attention compare every token with every other, so `ATTENDED` limits their number.
    Several scales need the whole image at once.
    """
    for image in images:
        try:
            _check(model, image[0], image[1])
        except TooLarge as error:
            skipped.append(Skipped(image[0], "too large", str(error)))
        else:
            yield image


class TooLarge(UserError):
    """An image with too many tokens for attention, or too many pixels for several scales."""


def _checked(model: VQVAE, images: Iterable[N]) -> Iterator[N]:
    for image in images:
        _check(model, image[0], image[1])
        yield image


def _check(model: VQVAE, name: str, pixels: NDArray[np.uint8]) -> None:
    named = f"images: {name}: " if name else "images: "
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = getattr(pixels, "dtype", type(pixels).__name__)
        raise UserError(
            f"{named}expected NumPy arrays of uint8, 0 to 255; got {kind}. Scale and round the "
            "pixels to that range, then call pixels.astype(np.uint8)."
        )
    if pixels.ndim != 3 or len(pixels) != model.channels or not pixels.size:
        raise UserError(
            f"{named}expected pixels ({model.channels}, height, width); got {pixels.shape}. "
            "Convert pixels (height, width, channels) with pixels.transpose(2, 0, 1)."
        )
    if isinstance(model.quantizer, MultiScaleQuantizer) and _is_large(pixels.shape[1:]):
        raise TooLarge(
            f"expected at most {PIXELS:,} pixels, because tokens of coarse scales cover large "
            f"areas; got {pixels.shape[1]}x{pixels.shape[2]}. Resize the image."
        )
    rows, columns = (-(-side // model.stride) for side in pixels.shape[1:])
    if rows * columns <= ATTENDED or tiles.reach(model.encoder) is not None:
        return
    most = ATTENDED if next(model.parameters()).device.type == "cpu" else ATTENDED_GPU
    if rows * columns > most:
        raise TooLarge(
            f"expected at most {most:,} tokens, because every one is compared with all others; got "
            f"{rows}x{columns}. Resize the image, or use a model without attention."
        )


def _check_precision(model: VQVAE) -> None:
    dtype = next(model.parameters()).dtype
    if dtype != torch.float32:
        raise UserError(
            "model: expected weights in float32, because rounded ones give other tokens; got "
            f"{dtype}. Call model.float(), or encode inside torch.autocast."
        )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size: expected 1 or more; got {batch_size}.")


def _is_large(size: tuple[int, ...]) -> bool:
    return size[0] * size[1] > PIXELS


@torch.no_grad()
def decode(
    model: VQVAE, tokens: Tokens, batch_size: int = 128, *, levels: int | None = None
) -> Iterator[Named]:
    """Decode tokens to images, in order, each at its original size.

    Args:
        model: the one that encoded the images.
        tokens: tokens of any number of images.
        batch_size: images per batch.
        levels: how many levels of a residual quantizer to use; None for all that the tokens have.

    Raises:
        UserError: the tokens belong to another model, are damaged or have fewer levels; or a batch
            size below 1.
    """
    _check_batch_size(batch_size)
    check_model(model, tokens.codec)
    with evaluating(model):
        for these, indices in tokens.batches(batch_size, PIXELS):
            indices = first_levels(model.quantizer, indices, levels)
            pixels = _pixels(model, indices, tokens.sizes[these.start])
            names = [""] * len(pixels) if tokens.names is None else tokens.names[these]
            yield from zip(names, pixels, strict=True)


def _pixels(model: VQVAE, indices: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.uint8]:
    around = tiles.margin(model, model.decoder) if _is_large(size) else None
    if around is not None:
        return tiles.decode(model, indices, size, around)
    x = model.decode(torch.from_numpy(indices).to(next(model.parameters()).device))
    return to_uint8(x)[:, :, : size[0], : size[1]].cpu().numpy()


def padded(images: UInt8[Tensor, "b c h w"], stride: int) -> UInt8[Tensor, "b c i j"]:
    """Images padded on the right and below to multiples of the stride, by repeating the edge."""
    right, below = -images.shape[3] % stride, -images.shape[2] % stride
    if not (right or below):
        return images
    return F.pad(images.float(), (0, right, 0, below), mode="replicate").to(images.dtype)
