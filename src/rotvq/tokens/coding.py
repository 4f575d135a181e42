"""Images of any size to tokens and back, with a model.

Images are padded on the right and below to a multiple of the model's stride by repeating the edge,
and cropped after decoding. Large images are processed in tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import cast

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
from rotvq.model.error_functions import within as error_within
from rotvq.model.level_search import LevelSearch
from rotvq.model.levels import check_levels, first_levels, sizes_of_token
from rotvq.model.objective import Rate, free_of_charge
from rotvq.model.quantizers import leaves
from rotvq.quantization import MultiScaleQuantizer, VectorQuantizer
from rotvq.quantization.grid import Grid
from rotvq.tokens import tiles
from rotvq.tokens.batching import N, Named, batches
from rotvq.tokens.collection import Codec, Packer, Picture, Tokens

PIXELS = 2**22
"""Approximate number of pixels in a batch; larger images are coded one at a time, in tiles."""
SEARCHED = 2**19
"""Maximum number of pixels of an image that is searched as a whole, without tiles."""

ATTENDED, ATTENDED_GPU = 2**16, 2**20
"""Maximum number of tokens of an image for a network with attention, on a CPU and on a GPU."""


def fingerprint(model: VQVAE) -> str:
    """16 hex digits of the SHA-256 of everything that gives tokens their meaning.

    This includes encoder, decoder and codes, but not the statistics that only training needs.
    """
    parts = {
        **{f"encoder.{name}": t for name, t in model.encoder.state_dict().items()},
        **{f"decoder.{name}": t for name, t in model.decoder.state_dict().items()},
    }
    if isinstance(model.quantizer, MultiScaleQuantizer):
        parts["scales"] = torch.tensor(model.quantizer.scales)
    found = leaves(model.quantizer)
    for number, quantizer in enumerate(found):
        name = f"codebook.{number}" if len(found) > 1 else "codebook"
        if isinstance(quantizer, VectorQuantizer):
            parts[name] = quantizer.codebook.embeddings
        else:
            grid = cast(Grid, quantizer.codebook)
            parts[name] = torch.tensor(grid.levels)
            if grid.symmetric or grid.scale != 1:
                parts[f"{name}.places"] = torch.tensor([grid.symmetric, grid.scale])
    digest = hashlib.sha256()
    for name in sorted(parts):
        content = parts[name].detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)} ".encode())
        digest.update(content.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def codec(model: VQVAE, levels: int | None = None) -> Codec:
    """The codec of a model's tokens, with the first levels of a residual quantizer or all."""
    quantizer, shape = model.quantizer, model.quantizer.index_shape
    return Codec(
        fingerprint(model),
        sizes_of_token(quantizer, levels),
        model.stride,
        model.channels,
        shape if levels is None or quantizer.residual_levels == 1 else (*shape[:-1], levels),
        quantizer.scales if isinstance(quantizer, MultiScaleQuantizer) else (),
    )


def is_of(model: VQVAE, tokens: Codec) -> bool:
    """Whether tokens come from a model, with all levels of its quantizer or the first ones."""
    most, shape = model.quantizer.residual_levels, tokens.index_shape
    return tokens == codec(model, min(shape[-1], most) if shape and most > 1 else None)


def check_model(model: VQVAE, tokens: Codec, name: str = "model") -> None:
    """Check that tokens come from a model.

    Args:
        model: the model.
        tokens: what the tokens mean.
        name: what the error calls the model.

    Raises:
        UserError: they come from another one.
    """
    if not is_of(model, tokens):
        raise UserError(
            f"{name}: expected the model of these tokens ({tokens.model}); got model "
            f"{fingerprint(model)}. Pass the model that encoded them, or encode the images again."
        )


@torch.no_grad()
def encode(
    model: VQVAE,
    images: Iterable[Named | Picture],
    batch_size: int = 128,
    progress: Callable[[int], object] = lambda images: None,
    *,
    effort: int = 0,
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
        effort: 0 to 9, as in `VQVAE.encode`; the error is the squared error before pixels are
            rounded, without the padding.
        rate: what tokens cost, as in `VQVAE.encode`; with a rate, no image is searched in tiles.
        levels: how many levels of a residual quantizer to use; None for all.
        classes: names of the classes by label; empty if they have none.

    Raises:
        UserError: an image has another dtype, other channels, or is too large (see `codable`); a
            batch size below 1; an effort outside 0 to 9; or more levels than there are.
    """
    _check_batch_size(batch_size)
    check_levels(model.quantizer, levels)
    packer = Packer(codec(model, levels), classes)
    with evaluating(model):
        search = LevelSearch(model, effort, levels)
        for some in batches(_checked(model, images), batch_size, PIXELS):
            names, arrays, labels, captions = zip(*some, strict=True)
            size = arrays[0].shape[1], arrays[0].shape[2]
            batch = cache(partial(_batch, model, arrays))
            indices = first_levels(model.quantizer, _indices(model, arrays, batch), levels)
            if effort:
                indices = _searched(search, model, arrays, batch, indices, rate)
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
    rate: Rate,
) -> NDArray[np.int64]:
    height, width = images[0].shape[1:]
    # The cost of a token may depend on all others.
    whole = height * width <= SEARCHED or rate is not free_of_charge
    around = None if whole else tiles.margin(model, model.decoder)
    if around is not None:
        pairs = zip(images, indices, strict=True)
        return np.stack([tiles.search(search, model, *pair, around) for pair in pairs])
    x, first = batch(), torch.from_numpy(indices)
    error = error_within(slice(height), slice(width))
    return search(x, first.to(x.device), error, rate=rate).cpu().numpy()


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
            f"areas; got {pixels.shape[1]}x{pixels.shape[2]}"
        )
    rows, columns = (-(-side // model.stride) for side in pixels.shape[1:])
    if rows * columns <= ATTENDED or tiles.reach(model.encoder) is not None:
        return
    most = ATTENDED if next(model.parameters()).device.type == "cpu" else ATTENDED_GPU
    if rows * columns > most:
        raise TooLarge(f"expected at most {most:,} tokens; got {rows}x{columns}")


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
