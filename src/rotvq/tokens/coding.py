"""Images of any size to tokens and back, with a model.

An image whose sides the model's stride does not divide is continued to the right and below with the
pixels of its edge, and cropped again after decoding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from rotvq.errors import UserError
from rotvq.evaluation.evaluate import evaluating
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.model import VQVAE
from rotvq.tokens.collection import Codec, Packer, Picture, Tokens

Named = tuple[str, NDArray[np.uint8]]
"""Name of an image, "" where it has none, and its pixels (c, h, w)."""
N = TypeVar("N", bound=Named | Picture)

PIXELS = 2**22
"""Of a batch, about; large images are coded one by one."""


def fingerprint(model: VQVAE) -> str:
    """16 hex digits of the SHA-256 of everything that decides what tokens mean.

    Encoder, decoder and codes; not the statistics that only training needs.
    """
    parts = {
        **{f"encoder.{name}": t for name, t in model.encoder.state_dict().items()},
        **{f"decoder.{name}": t for name, t in model.decoder.state_dict().items()},
        "codebook": model.quantizer.codebook.e,
    }
    digest = hashlib.sha256()
    for name in sorted(parts):
        content = parts[name].detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)} ".encode())
        digest.update(content.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def codec(model: VQVAE) -> Codec:
    """What the tokens of a model mean."""
    size = len(model.quantizer.codebook.e)
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
        images: of the model's channels; name and pixels, or a `Picture` with label and caption.
        batch_size: images at a time.
        progress: told how many images each batch had.

    Raises:
        UserError: an image of other channels.
    """
    packer = Packer(codec(model))
    device = next(model.parameters()).device
    with evaluating(model):
        for some in _batches(images, batch_size):
            names, arrays, labels, captions = zip(*some, strict=True)
            pixels = np.stack(arrays)
            x = torch.from_numpy(pixels).to(device)
            indices = model.encode(normalized(padded(x, model.stride)))
            size = pixels.shape[2], pixels.shape[3]
            packer.add(indices.cpu().numpy(), size, names, labels, captions)
            progress(len(names))
    return packer.tokens()


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
    device = next(model.parameters()).device
    with evaluating(model):
        for these, indices in tokens.batches(batch_size, PIXELS):
            height, width = tokens.sizes[these.start]
            x = model.decode(torch.from_numpy(indices).to(device))
            pixels = to_uint8(x)[:, :, :height, :width].cpu().numpy()
            names = [""] * len(pixels) if tokens.names is None else tokens.names[these]
            yield from zip(names, pixels, strict=True)


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
