"""Images of any size to tokens and back, with a model.

An image whose sides the model's stride does not divide is continued to the right and below with the
pixels of its edge, and cropped again after decoding. Large images are computed in tiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TypeVar

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
from rotvq.tokens import tiles
from rotvq.tokens.collection import Codec, Packer, Picture, Tokens

Named = tuple[str, NDArray[np.uint8]]
"""Name of an image, "" where it has none, and its pixels (c, h, w)."""
N = TypeVar("N", bound=Named | Picture)

PIXELS = 2**22
"""Of a batch, about; larger images are coded one by one, in tiles."""

ATTENDED = 2**16
"""Tokens of an image at most where each attends to all others, on a processor; a GPU takes more."""
ATTENDED_GPU = 2**20


def fingerprint(model: VQVAE) -> str:
    """16 hex digits of the SHA-256 of everything that decides what tokens mean.

    Encoder, decoder and codes; not the statistics that only training needs.
    """
    parts = {
        **{f"encoder.{name}": t for name, t in model.encoder.state_dict().items()},
        **{f"decoder.{name}": t for name, t in model.decoder.state_dict().items()},
        "codebook": model.quantizer.codebook.embeddings,
    }
    digest = hashlib.sha256()
    for name in sorted(parts):
        content = parts[name].detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)} ".encode())
        digest.update(content.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def codec(model: VQVAE) -> Codec:
    """What the tokens of a model mean."""
    size = len(model.quantizer.codebook.embeddings)
    return Codec(fingerprint(model), size, model.stride, model.channels)


@torch.no_grad()
def encode(
    model: VQVAE,
    images: Iterable[Named | Picture],
    batch_size: int = 128,
    progress: Callable[[int], object] = lambda images: None,
) -> Tokens:
    """The tokens of images, in order; neighbours of one size are encoded together.

    Args:
        model: on any device; used in evaluation mode.
        images: names and uint8 pixels (c, h, w), with the model's number of channels; or
            `Picture`s, which have labels and captions too.
        batch_size: images at a time.
        progress: told how many images each batch had.

    Raises:
        UserError: an image of another dtype, of other channels, or too large: see `codable`.
    """
    packer = Packer(codec(model))
    with evaluating(model):
        for some in _batches(_checked(model, images), batch_size):
            names, arrays, labels, captions = zip(*some, strict=True)
            size = arrays[0].shape[1], arrays[0].shape[2]
            packer.add(_indices(model, arrays), size, names, labels, captions)
            progress(len(names))
    return packer.tokens()


def _indices(model: VQVAE, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    around = tiles.reach(model.encoder) if _is_large(images[0].shape[1:]) else None
    if around is not None:
        return tiles.encode(model, images[0], around)
    x = torch.from_numpy(np.stack(images)).to(next(model.parameters()).device)
    return model.encode(normalized(padded(x, model.stride))).cpu().numpy()


def codable(model: VQVAE, images: Iterable[N], skipped: list[Skipped]) -> Iterator[N]:
    """Those of the images that the model can take; the list grows by the others.

    Networks with attention compare every token with every other: ATTENDED bounds their number.
    """
    for image in images:
        try:
            _check(model, image[0], image[1])
        except TooLarge as error:
            skipped.append(Skipped(image[0], "too large for attention", str(error)))
        else:
            yield image


class TooLarge(UserError):
    """An image of more tokens than a network with attention takes."""


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
            "pixels to that range, then pixels.astype(np.uint8)."
        )
    if pixels.ndim != 3 or len(pixels) != model.channels or not pixels.size:
        raise UserError(
            f"{named}expected pixels ({model.channels}, height, width); got {pixels.shape}. "
            "Pixels (height, width, channels) become so by pixels.transpose(2, 0, 1)."
        )
    rows, columns = (-(-side // model.stride) for side in pixels.shape[1:])
    if rows * columns <= ATTENDED or tiles.reach(model.encoder) is not None:
        return
    most = ATTENDED if next(model.parameters()).device.type == "cpu" else ATTENDED_GPU
    if rows * columns > most:
        raise TooLarge(f"expected at most {most:,} tokens; got {rows}x{columns}")


def _is_large(size: tuple[int, ...]) -> bool:
    return size[0] * size[1] > PIXELS


@torch.no_grad()
def decode(model: VQVAE, tokens: Tokens, batch_size: int = 128) -> Iterator[Named]:
    """Images of tokens, in order, each at its own size.

    Args:
        model: the one that wrote the tokens.
        tokens: of any number of images.
        batch_size: images at a time.

    Raises:
        UserError: tokens of another model, or damaged ones.
    """
    own = codec(model)
    if tokens.codec != own:
        raise UserError(
            f"tokens: expected those of this model ({own.model}); got tokens that the model "
            f"{tokens.codec.model} wrote. Decode them with that one, or encode the images again."
        )
    with evaluating(model):
        for these, indices in tokens.batches(batch_size, PIXELS):
            pixels = _pixels(model, indices, tokens.sizes[these.start])
            names = [""] * len(pixels) if tokens.names is None else tokens.names[these]
            yield from zip(names, pixels, strict=True)


def _pixels(model: VQVAE, indices: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.uint8]:
    around = tiles.reach(model.decoder) if _is_large(size) else None
    if around is not None:
        return tiles.decode(model, indices, size, around)
    x = model.decode(torch.from_numpy(indices).to(next(model.parameters()).device))
    return to_uint8(x)[:, :, : size[0], : size[1]].cpu().numpy()


def padded(images: UInt8[Tensor, "b c h w"], stride: int) -> UInt8[Tensor, "b c i j"]:
    """Images continued to the right and below with their edge, to multiples of the stride."""
    right, below = -images.shape[3] % stride, -images.shape[2] % stride
    if not (right or below):
        return images
    return F.pad(images.float(), (0, right, 0, below), mode="replicate").to(images.dtype)


def within(images: Iterator[N], most: int, pixels: int) -> list[N]:
    """The next images: so many at most, and no more once they have so many pixels together."""
    some: list[N] = []
    for named in islice(images, most):
        some.append(named)
        pixels -= named[1][0].size
        if pixels <= 0:
            break
    return some


def _batches(images: Iterable[Named | Picture], batch_size: int) -> Iterator[list[Picture]]:
    """Neighbours of one size."""
    pictures = (Picture(*named) for named in images)
    for _, same in groupby(pictures, lambda picture: picture.pixels.shape):
        while some := within(same, batch_size, PIXELS):
            yield some
