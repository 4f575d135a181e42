"""What the page asks of a model: pictures to tokens, tokens to pictures, the codes to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
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
from rotvq.quantization import Codebook
from rotvq.tokens.coding import codec, padded

LARGEST = 50_000_000
"""Pixels of a picture that is accepted."""

SIDE = 256
"""Pixels of the longer side of what is encoded; larger pictures are reduced."""

AROUND = 3
"""A code's picture is the middle of so many tokens of it a side."""


class Session:
    """One model, one request at a time.

    Args:
        model: in evaluation mode from now on.
    """

    def __init__(self, model: VQVAE) -> None:
        self.model = model.eval()
        self.codec = codec(model)
        self.device = next(model.parameters()).device
        self.lock = Lock()

    @cached_property
    def about(self) -> dict[str, Any]:
        """The model in numbers, and where its codes lie.

        `places` are the codes' first two principal components, each in [0, 1]; `use` is the share
        of the training's vectors that chose a code, of the most chosen one.
        """
        codebook = self.model.quantizer.codebook
        e = codebook.embeddings.detach().float().cpu().numpy()
        counts = (
            codebook.cluster_size.cpu().numpy()
            if isinstance(codebook, Codebook)
            else np.ones(len(e))
        )
        return {
            **asdict(self.codec),
            "bits": self.codec.bits,
            "dim": e.shape[1],
            "places": _principal(e).round(4).tolist(),
            "use": (counts / max(counts.max(), 1e-12)).round(4).tolist(),
        }

    @cached_property
    def codes(self) -> bytes:
        """A PNG of what each code decodes to, stride pixels a side, row by row in a square."""
        k, stride = self.codec.codebook_size, self.codec.stride
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
        """The tokens of a picture.

        Args:
            content: of a PNG, JPEG, WebP, BMP, GIF or TIFF file.

        Returns:
            height and width in pixels, rows and columns of tokens, and the indices row by row.

        Raises:
            UserError: it is no such picture, or too large a one.
        """
        # Large pictures take room: one at a time.
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
        """A PNG of tokens.

        Args:
            height: in pixels, of the picture.
            width: likewise.
            indices: row by row.

        Raises:
            UserError: sizes beyond what the page sends, or indices that are not the model's.
        """
        if not (1 <= height <= SIDE and 1 <= width <= SIDE):
            raise UserError(f"expected 1 to {SIDE} pixels a side; got {height}x{width}.")
        rows, columns = self.codec.grid((height, width))
        if len(indices) != rows * columns:
            raise UserError(f"expected {rows * columns} indices; got {len(indices)}.")
        if not all(0 <= index < self.codec.codebook_size for index in indices):
            raise UserError(f"expected indices from 0 to {self.codec.codebook_size - 1}.")
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
    # Damaged files raise almost anything in Pillow's plug-ins.
    except Exception as error:
        raise UserError(
            f"expected a picture ({', '.join(FORMATS)}); got something else or a damaged one "
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
    """Columns of the least square that holds so many."""
    return int(np.ceil(np.sqrt(k)))


def _principal(e: NDArray[np.float32]) -> NDArray[np.float32]:
    """(k, 2) in [0, 1]: the first two principal components."""
    centred = e - e.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((len(e), 2), np.float32)
    found = centred @ directions[:2].T
    places[:, : found.shape[1]] = found
    low, high = places.min(0), places.max(0)
    return (places - low) / np.where(high > low, high - low, 1)
