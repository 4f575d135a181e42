"""What the page needs from a model: images to tokens and back, and the palette of codes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from rotvq.data_processing.decoding import decode
from rotvq.data_processing.image_formats import FORMATS, open_image
from rotvq.data_processing.resizing import Target
from rotvq.errors import UserError, first_line
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.model import VQVAE
from rotvq.tokens.coding import codec, padded

LARGEST = 50_000_000
"""Pixels of an image, at most."""

SIDE = 256
"""Pixels of the longer side of an encoded image; larger images are reduced."""

AROUND = 3
"""A code is shown by the central token of a square of so many tokens a side, all of that code."""


class Session:
    """One model, which handles one request at a time.

    Args:
        model: with a single codebook; put into evaluation mode.

    Raises:
        UserError: the model has several codebooks.
    """

    def __init__(self, model: VQVAE) -> None:
        self.model = model.eval()
        self.codec = codec(model)
        if self.codec.index_shape:
            raise UserError(
                "serve: expected a model with a single codebook, as the page paints with a palette "
                f"of its codes; got one with {len(self.codec.codebook_sizes)}. To see what its "
                "tokens keep, use rotvq reconstruct."
            )
        (self.codebook_size,) = self.codec.codebook_sizes
        self.device = next(model.parameters()).device
        self.lock = Lock()

    @cached_property
    def about(self) -> dict[str, Any]:
        """The model in numbers, with a map of its codes.

        `places` are the first two principal components of the codes, scaled to [0, 1]; `use` is how
        often each code was chosen in training, relative to the most frequent one.
        """
        quantizer = self.model.quantizer
        every = torch.arange(self.codebook_size, device=self.device)[:, None, None]
        e = quantizer.lookup(every)[:, :, 0, 0].detach().float().cpu().numpy()
        (codebook,) = quantizer.codebooks or (None,)
        counts = np.ones(len(e)) if codebook is None else codebook.cluster_size.cpu().numpy()
        return {
            **self.codec.header(),
            "codebook_size": self.codebook_size,
            "dim": e.shape[1],
            "places": _principal(e).round(4).tolist(),
            "use": (counts / max(counts.max(), 1e-12)).round(4).tolist(),
        }

    @cached_property
    def codes(self) -> bytes:
        """A PNG of the image each code decodes to, stride pixels a side, row by row in a square."""
        k, stride = self.codebook_size, self.codec.stride
        columns = _columns(k)
        tiles = np.zeros((columns * columns, self.codec.channels, stride, stride), np.uint8)
        middle = slice(AROUND // 2 * stride, (AROUND // 2 + 1) * stride)
        with self.lock, torch.no_grad():
            for part in torch.arange(k, device=self.device).split(1024):
                grid = part[:, None, None].expand(-1, AROUND, AROUND).contiguous()
                pixels = to_uint8(self.model.decode(grid))[:, :, middle, middle]
                tiles[part.cpu().numpy()] = pixels.cpu().numpy()
        rows = tiles.reshape(columns, columns, *tiles.shape[1:]).transpose(2, 0, 3, 1, 4)
        return _png(rows.reshape(len(rows), columns * stride, columns * stride))

    def encode(self, content: bytes) -> dict[str, Any]:
        """Encode an image.

        Args:
            content: of an image file, such as PNG, JPEG or WebP.

        Returns:
            height and width in pixels, rows and columns of tokens, and the indices row by row.

        Raises:
            UserError: it is not such an image, or it is too large.
        """
        # Large images take memory: one at a time.
        with self.lock, torch.no_grad():
            pixels = torch.from_numpy(_picture(content, self.codec.channels)).to(self.device)
            x = normalized(padded(pixels[None], self.codec.stride))
            indices = self.model.encode(x)[0].cpu()
        return {
            "height": pixels.shape[1],
            "width": pixels.shape[2],
            "rows": indices.shape[0],
            "columns": indices.shape[1],
            "indices": indices.flatten().tolist(),
        }

    def decode(self, height: int, width: int, indices: Sequence[int]) -> bytes:
        """Decode tokens to a PNG.

        Args:
            height: of the image in pixels.
            width: of the image in pixels.
            indices: of its tokens, row by row.

        Raises:
            UserError: the size or the indices are out of range, or do not match.
        """
        if not (1 <= height <= SIDE and 1 <= width <= SIDE):
            raise UserError(f"expected 1 to {SIDE} pixels a side; got {height}x{width}.")
        rows, columns = self.codec.grid((height, width))
        if len(indices) != rows * columns:
            raise UserError(f"expected {rows * columns} indices; got {len(indices)}.")
        if not all(0 <= index < self.codebook_size for index in indices):
            raise UserError(f"expected indices from 0 to {self.codebook_size - 1}.")
        grid = torch.tensor(indices, dtype=torch.int64, device=self.device)
        with self.lock, torch.no_grad():
            x = self.model.decode(grid.view(1, rows, columns))
        return _png(to_uint8(x)[0, :, :height, :width].cpu().numpy())


def sample() -> bytes:
    """A PNG of an embedded photograph."""
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("china.jpg")).crop((0, 0, 640, 426))
    return _png(np.asarray(photo.resize((192, 128), Image.Resampling.LANCZOS)).transpose(2, 0, 1))


def _picture(content: bytes, channels: int) -> NDArray[np.uint8]:
    try:
        with open_image(content) as opened:
            size = opened.size
        if size[0] * size[1] > LARGEST:
            raise UserError(f"expected at most {LARGEST:,} pixels; got {size[0]}x{size[1]}.")
        pixels = decode(content, Target(None, channels))
    except UserError:
        raise
    # Pillow's plug-ins raise almost anything for damaged files.
    except Exception as error:
        raise UserError(
            f"expected an image ({', '.join(FORMATS)}); got something else, or a damaged image "
            f"({first_line(error)})."
        ) from None
    image = Image.fromarray(pixels[0] if channels == 1 else pixels.transpose(1, 2, 0))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    reduced = np.array(image)
    return reduced[None] if channels == 1 else np.ascontiguousarray(reduced.transpose(2, 0, 1))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    content = BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()


def _columns(k: int) -> int:
    """Columns of the smallest square grid with k cells."""
    return int(np.ceil(np.sqrt(k)))


def _principal(e: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first two principal components (k, 2), scaled to [0, 1]."""
    centred = e - e.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(e), 2), np.float32)
    found = centred @ directions[:2].T
    places[:, : found.shape[1]] = found
    low, high = places.min(0), places.max(0)
    return (places - low) / np.where(high > low, high - low, 1)
