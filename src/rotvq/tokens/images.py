"""Encodes Pillow images, NumPy arrays and image files to tokens, and decodes tokens to images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.decoding import convert
from rotvq.data_processing.decoding import decode as decode_file
from rotvq.data_processing.resizing import Pixels, Target
from rotvq.errors import UserError, first_line
from rotvq.model import VQVAE
from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.model.objective import Rate, free_of_charge
from rotvq.paths import expanded
from rotvq.tokens.coding import decode, encode
from rotvq.tokens.collection import Tokens

AnyImage = Image.Image | str | PathLike[str] | NDArray[np.uint8]
"""A Pillow image, a path, or uint8 (h, w) or (h, w, c) with 1 to 4 channels."""


def encode_images(
    model: VQVAE,
    images: Iterable[AnyImage],
    batch_size: int = 128,
    *,
    effort: int = 0,
    error: ErrorFunction = squared_error,
    rate: Rate = free_of_charge,
    levels: int | None = None,
) -> Tokens:
    """Encode images of any size, as `rotvq encode` does.

    EXIF orientation is applied, colors are converted to sRGB (or to gray, if the model has one
    channel), and transparency is composited over white. Images are padded to a multiple of the
    model's stride; consecutive images of one size share a batch, and large images are processed in
    tiles.

    Args:
        model: on any device; put in evaluation mode during the call.
        images: Pillow images, paths of image files, or uint8 arrays (h, w), (h, w, 1) or (h, w, 3);
            with transparency (h, w, 2) or (h, w, 4).
        batch_size: images per batch.
        effort: 0 to 9. 0 takes the codes nearest to the encoder's output; higher efforts search
            for tokens that decode to a smaller error, and take more time. No image gets worse.
        error: what a search lowers, as in `VQVAE.encode`, such as `structural_error`, which also
            counts the SSIM. For large images, see `rotvq.tokens.coding.encode`.
        rate: what tokens cost, which a search lowers together with the error, such as a
            `rotvq.generation.PriorRate`; by default nothing.
        levels: how many levels of a residual quantizer to use; None for all.

    Returns:
        The tokens in order. `tokens[i]` is an int64 array (rows, columns), followed by the
        quantizer's `index_shape`; `tokens.sizes[i]` is the height and width of the image.

    Raises:
        UserError: an image is damaged, too small or too large, or is not an image; an effort
            outside 0 to 9, or of 0 with an error or a rate; or more levels than there are.

    Examples:
        >>> model = VQVAE(width=8, dim=8)
        >>> images = [Image.new("RGB", (32, 32), "teal"), np.zeros((20, 30), np.uint8)]
        >>> tokens = encode_images(model, images)
        >>> [each.shape for each in tokens]
        [(8, 8), (5, 8)]
        >>> decode_images(model, tokens)[1].size
        (30, 20)
    """
    if isinstance(images, str | PathLike | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim < 4
    ):
        raise UserError("images: expected a list of images; got a single one. Put it in a list.")
    pixels = _pixels(images, model.channels)
    return encode(model, pixels, batch_size, effort=effort, error=error, rate=rate, levels=levels)


def decode_images(
    model: VQVAE, tokens: Tokens, batch_size: int = 128, *, levels: int | None = None
) -> list[Image.Image]:
    """Decode tokens to images at their original sizes, as `rotvq decode` does.

    Args:
        model: the model that encoded the images; put in evaluation mode during the call.
        tokens: the result of `encode_images` or `load_tokens`, or a slice of it.
        batch_size: images per batch.
        levels: how many levels of a residual quantizer to use; None for all that the tokens have.

    Returns:
        Pillow images in order, RGB or, if the model has one channel, L.

    Raises:
        UserError: the tokens belong to another model, are damaged or have fewer levels.
    """
    return [
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        for _, pixels in decode(model, tokens, batch_size, levels=levels)
    ]


def _pixels(images: Iterable[AnyImage], channels: int) -> Iterator[tuple[str, Pixels]]:
    for number, image in enumerate(images):
        try:
            yield "", _converted(image, Target(None, channels))
        except UserError as error:
            raise UserError(f"images[{number}]: {error}") from None
        # Pillow's plug-ins raise almost anything for damaged files.
        except Exception as error:
            path = f"{image}: " if isinstance(image, str | PathLike) else ""
            raise UserError(
                f"images[{number}]: expected a readable image; {path}{first_line(error)}."
            ) from None


def _converted(image: Any, target: Target) -> Pixels:
    if isinstance(image, str | PathLike):
        return decode_file(expanded(image), target)
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    if not isinstance(image, Image.Image):
        raise UserError(
            f"expected a Pillow image, a path or a uint8 array; got {type(image).__name__}."
        )
    return convert(image, target)


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if array.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and 2 <= shape[2] <= 4)):
        raise UserError(
            "expected uint8 of shape (height, width) or (height, width, channels); got "
            f"{array.dtype} {array.shape}. Convert (channels, height, width) with "
            "array.transpose(1, 2, 0), and floats in [0, 1] with (255 * array).round()."
            "astype(np.uint8)."
        )
    return Image.fromarray(array.reshape(shape))
