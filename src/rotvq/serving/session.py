"""What the page needs from a model: images to tokens and back, and the palette of codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from rotvq.errors import UserError
from rotvq.evaluation.pixels import normalized, to_uint8
from rotvq.model import VQVAE
from rotvq.model.effort import iterations
from rotvq.model.error_functions import ErrorFunction, within
from rotvq.model.token_search import TokenSearch
from rotvq.serving import palette
from rotvq.serving.pictures import SIDE, png, read
from rotvq.tokens.code_pictures import MOST_CODES
from rotvq.tokens.coding import padded
from rotvq.tokens.collection import Packer
from rotvq.tokens.file import to_npz
from rotvq.tokens.model_codec import codec

if TYPE_CHECKING:
    from rotvq.serving.drawing import Drawing


class Stopped(Exception):
    """A search was stopped, as nobody waits for its result."""


class Session:
    """One model on the page.

    Args:
        model: with a single codebook; put into evaluation mode.
        name: shown on the page.
        drawing: with a prior over the model's tokens, if there is one.

    Raises:
        UserError: the model has several codebooks, or too many codes.
    """

    def __init__(self, model: VQVAE, name: str = "model", drawing: Drawing | None = None) -> None:
        self.model, self.name, self.drawing = model.eval(), name, drawing
        self.codec = codec(model)
        if self.codec.scales:
            raise UserError(
                "serve: expected a model with tokens of a single resolution, which the page paints "
                f"with; got one with the scales {self.codec.scales}. To see what its tokens keep, "
                "use rotvq reconstruct."
            )
        if self.codec.index_shape:
            raise UserError(
                "serve: expected a model with a single codebook, as the page paints with a palette "
                f"of its codes; got one with {len(self.codec.codebook_sizes)}. To see what its "
                "tokens keep, use rotvq reconstruct."
            )
        (self.codebook_size,) = self.codec.codebook_sizes
        if self.codebook_size > MOST_CODES:
            raise UserError(
                f"serve: expected a model of at most {MOST_CODES:,} codes, as the page draws each; "
                f"got {self.codebook_size:,}. To see what its tokens keep, use rotvq reconstruct."
            )
        self.device = next(model.parameters()).device

    @cached_property
    def about(self) -> dict[str, Any]:
        """The model in numbers, with an order and a map of its codes.

        `order` are the codes as the palette shows them, row by row, and `vivid` is the most
        colorful one; `places` are the first two
        principal components of the codes, scaled to [0, 1]; `use` is how often each code was chosen
        in training, relative to the most frequent one.
        """
        quantizer = self.model.quantizer
        every = torch.arange(self.codebook_size, device=self.device)[:, None, None]
        e = quantizer.lookup(every)[:, :, 0, 0].detach().float().cpu().numpy()
        (codebook,) = quantizer.codebooks or (None,)
        features = palette.look(self._patches)
        counts = np.ones(len(e)) if codebook is None else codebook.cluster_size.cpu().numpy()
        return {
            **self.codec.header(),
            "name": self.name,
            "codebook_size": self.codebook_size,
            "dim": e.shape[1],
            "order": palette.arranged(features).tolist(),
            "vivid": int(features[:, 1:4].square().sum(1).argmax()),
            "columns": palette.columns(self.codebook_size),
            "places": _principal(e).round(4).tolist(),
            "use": (counts / max(counts.max(), 1e-12)).round(4).tolist(),
            "prior": self.drawing and self.drawing.about,
        }

    @cached_property
    def _patches(self) -> Tensor:
        return palette.patches(self.model)

    @cached_property
    def codes(self) -> bytes:
        """A PNG of the patch of each code, `columns` in a row, in the order of their numbers."""
        columns = palette.columns(self.codebook_size)
        tiles = self._patches.numpy()
        rest = np.zeros((-len(tiles) % columns, *tiles.shape[1:]), np.uint8)
        rows = np.concatenate([tiles, rest]).reshape(-1, columns, *tiles.shape[1:])
        pixels = rows.transpose(2, 0, 3, 1, 4)
        return png(pixels.reshape(len(pixels), -1, columns * self.codec.stride))

    @torch.no_grad()
    def encode(
        self, content: bytes, effort: int = 0, step: Callable[[float], object] = lambda share: None
    ) -> dict[str, Any]:
        """Encode an image.

        Args:
            content: of an image file, such as PNG, JPEG or WebP.
            effort: 0 to 9, as in `VQVAE.encode`.
            step: called after each step of a search with the share of it that is done; may raise
                Stopped.

        Returns:
            height and width in pixels, rows and columns of tokens, and the indices row by row.

        Raises:
            UserError: it is not such an image, or it is too large, or there is no such effort.
            Stopped: by `step`.
        """
        steps = iterations(effort)
        pixels = torch.from_numpy(read(content, self.codec.channels)).to(self.device)
        x = normalized(padded(pixels[None], self.codec.stride))
        indices = self.model.encode(x)
        height, width = pixels.shape[1:]
        if steps:
            error = _followed(within(slice(height), slice(width)), steps, step)
            indices = self._search(x, indices, steps, error)
        return {
            "height": height,
            "width": width,
            "rows": indices.shape[1],
            "columns": indices.shape[2],
            "indices": indices.flatten().tolist(),
        }

    @cached_property
    def _search(self) -> TokenSearch:
        return TokenSearch(self.model)

    @torch.no_grad()
    def decode(self, height: int, width: int, indices: Sequence[int]) -> bytes:
        """Decode tokens to a PNG.

        Args:
            height: of the image in pixels.
            width: of the image in pixels.
            indices: of its tokens, row by row.

        Raises:
            UserError: the size or the indices are out of range, or do not match.
        """
        x = self.model.decode(self._grid(height, width, indices))
        return png(to_uint8(x)[0, :, :height, :width].cpu().numpy())

    def token_file(self, height: int, width: int, indices: Sequence[int]) -> bytes:
        """The content of an .npz token file, which `rotvq decode` reads.

        Raises:
            UserError: as for `decode`.
        """
        packer = Packer(self.codec)
        packer.add(self._grid(height, width, indices).cpu().numpy(), (height, width))
        return to_npz(packer.tokens())

    def bits(self, height: int, width: int, indices: Sequence[int]) -> float:
        """The code length of an image's tokens under the prior.

        Raises:
            UserError: as for `decode`; there is no prior, or the prior has no such grid.
        """
        return self.prior.bits(self._grid(height, width, indices)[0].cpu().numpy())

    @property
    def prior(self) -> Drawing:
        """What draws.

        Raises:
            UserError: there is no prior.
        """
        if self.drawing is None:
            raise UserError("expected a prior; there is none. Start rotvq serve with --prior RUN.")
        return self.drawing

    def _grid(self, height: int, width: int, indices: Sequence[int]) -> Int64[Tensor, "1 h w"]:
        if not (1 <= height <= SIDE and 1 <= width <= SIDE):
            raise UserError(f"expected 1 to {SIDE} pixels a side; got {height}x{width}.")
        rows, columns = self.codec.grid((height, width))
        if len(indices) != rows * columns:
            raise UserError(f"expected {rows * columns} indices; got {len(indices)}.")
        if not all(0 <= index < self.codebook_size for index in indices):
            raise UserError(f"expected indices from 0 to {self.codebook_size - 1}.")
        return torch.tensor(indices, device=self.device).view(1, rows, columns)


def _followed(error: ErrorFunction, steps: int, step: Callable[[float], object]) -> ErrorFunction:
    """The error, which a search evaluates in each of its iterations and a few times besides."""
    done = 0

    def followed(y: Tensor, x: Tensor) -> Tensor:
        nonlocal done
        done += 1
        step(min(1.0, done / steps))
        return error(y, x)

    return followed


def _principal(e: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first two principal components (k, 2), scaled to [0, 1]."""
    centered = e - e.mean(0)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    places = np.zeros((len(e), 2), np.float32)
    found = centered @ directions[:2].T
    places[:, : found.shape[1]] = found
    low, high = places.min(0), places.max(0)
    return (places - low) / np.where(high > low, high - low, 1)
