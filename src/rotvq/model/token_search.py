"""Search for tokens that the decoder turns into a better image: analysis by synthesis.

The encoder's nearest codes are a first guess. Each iteration proposes other codes for half of the
tokens, in a checkerboard, from a second-order model of the error; decodes them; and takes back
those that raised the error.

Symbols: q, the codes of a grid of tokens; g, the gradient of the error with respect to q; H, the
curvature of the squared error (see `curvature`); λ, the damping of a token, which multiplies H in
its proposals and doubles when one fails (Levenberg-Marquardt).

Between two grids, token t raised the error by ½(g + g')_t · (q' − q)_t. Over all tokens this adds
up to the whole difference if the error is quadratic in q. So an iteration takes one forward and one
backward pass of the decoder, whatever its receptive field and the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.model.curvature import curvature
from rotvq.processor import has_bf16
from rotvq.quantization import Quantizer

ErrorFunction = Callable[[Float[Tensor, "b c i j"], Float[Tensor, "b c i j"]], Float[Tensor, " b"]]
"""(reconstruction, image) to the error of each image, differentiable by the reconstruction."""

_DAMPING = 0.9
"""λ of the first proposals. H is larger at random codes, where it is measured, than at images."""
_NOISE = 0.1
"""Standard deviation of the noise, in pixels of [-1, 1], that g is perturbed by after a stall."""
_PROBE = 0.1
"""Change of the pixels, in [-1, 1], that the curvature of an error function is measured over."""
_RANDOM_GRIDS = (16, 8, 8)
_SCORES = 2**24
"""Scores of codes in memory at a time."""


def squared_error(
    reconstruction: Float[Tensor, "b c i j"], x: Float[Tensor, "b c i j"]
) -> Float[Tensor, " b"]:
    """The sum of squared differences of each image."""
    return (reconstruction - x).square().sum((1, 2, 3))


@dataclass
class _Grid:
    """Tokens as rows of the tables, their codes, the error of each image, and its gradient.

    The gradient is in units in which the error has the curvature of the squared error.
    """

    indices: Int64[Tensor, "b s h w"]
    q: Float[Tensor, "b d h w"]
    error: Float[Tensor, " b"]
    g: Float[Tensor, "b d h w"]


class TokenSearch:
    """A search with the curvature of one decoder, measured once.

    Args:
        decoder: from codes (b, d, h, w) to images; it does not change.
        quantizer: whose codes it decodes.
        error: of each image.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(
        self, decoder: nn.Module, quantizer: Quantizer, error: ErrorFunction = squared_error
    ) -> None:
        self.decoder, self.quantizer, self.error = decoder, quantizer, error
        self.tables = tuple(table.detach() for table in quantizer.tables)
        generator = torch.Generator().manual_seed(0)
        n, h, w = _RANDOM_GRIDS
        random = [
            torch.randint(len(table), (n, h, w), generator=generator) for table in self.tables
        ]
        codes = self._codes(torch.stack(random, 1).to(self.tables[0].device))
        self.H = curvature(self._decode, codes, generator)
        own = self.H[:, :, 1, 1]
        self._bent = [table @ own for table in self.tables]
        self._squares = [(a * b).sum(1) for a, b in zip(self._bent, self.tables, strict=True)]
        values, vectors = torch.linalg.eigh(own)
        self._root = vectors * values.clamp_min(0).sqrt()

    @torch.inference_mode(False)  # its tensors have no gradients
    @torch.no_grad()
    def __call__(
        self,
        x: Float[Tensor, "b c i j"],
        indices: Int64[Tensor, "b h w *levels"],
        iterations: int,
    ) -> Int64[Tensor, "b h w *levels"]:
        """Tokens with a smaller error, or the same ones where none are found.

        Args:
            x: images.
            indices: where to start.
            iterations: number of forward and backward passes, after the first.
        """
        x, first = x.float().clone(), indices.clone()
        rows = first.flatten(3).movedim(3, 1) if first.ndim > 3 else first.unsqueeze(1)
        found = self._search(x, rows, iterations).movedim(1, 3).reshape(first.shape)
        # Compared as the model decodes them: the search is less precise.
        before, after = (self._exact_error(x, each) for each in (first, found))
        better = (after < before).view(-1, *[1] * (first.ndim - 1))
        return torch.where(better, found, first)

    def _exact_error(self, x: Tensor, indices: Tensor) -> Float[Tensor, " b"]:
        codes = self.quantizer.lookup(indices).to(next(self.decoder.parameters()).dtype)
        return self.error(self.decoder(codes).float(), x)

    def _search(self, x: Tensor, indices: Tensor, iterations: int) -> Int64[Tensor, "b s h w"]:
        """The best tokens that the iterations come upon."""
        generator = torch.Generator().manual_seed(0)
        scale = self._scale(x, indices)
        last = base = self._decoded(x, indices, scale)
        best, best_error = indices, last.error
        damping = torch.full_like(last.q[:, 0], _DAMPING)
        stalled = torch.zeros_like(scale, dtype=torch.bool)
        for i in range(iterations):
            noise = torch.randn(base.q.shape[1:], generator=generator).to(base.q)
            noise = 2 * _NOISE * torch.einsum("de,ehw->dhw", self._root, noise)
            g = torch.where(stalled, base.g + noise, base.g)
            proposals = self._proposals(base.indices, g, damping, parity=i % 2)
            new = self._decoded(x, proposals, scale)
            change = new.q - last.q
            failed = ((last.g + new.g) * change).sum(1) > 0
            tried = (new.indices != base.indices).any(1)
            damping = torch.where(failed & tried, 2 * damping, damping)
            # When no proposal is left for an image, start over, with noise.
            none_left = ~tried.flatten(1).any(1)[:, None, None]
            stalled = stalled | none_left.unsqueeze(1)
            damping = torch.where(none_left, _DAMPING, damping)
            best, best_error = _better(new.indices, new.error, best, best_error)
            base = self._reverted(new, last, failed)
            last = new
        return _better(base.indices, self.error(self._decode(base.q), x), best, best_error)[0]

    def _decode(self, codes: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c i j"]:
        device, dtype = codes.device.type, next(self.decoder.parameters()).dtype
        fast = has_bf16() if device == "cpu" else device == "cuda"
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            return self.decoder(codes.to(dtype)).float()

    def _codes(self, indices: Int64[Tensor, "b s h w"]) -> Float[Tensor, "b d h w"]:
        pairs = zip(indices.unbind(1), self.tables, strict=True)
        codes = [F.embedding(rows, table) for rows, table in pairs]
        return sum(codes[1:], codes[0]).movedim(-1, 1)

    def _decoded(self, x: Tensor, indices: Tensor, scale: Float[Tensor, "b 1 1 1"]) -> _Grid:
        with torch.enable_grad():
            q = self._codes(indices).requires_grad_()
            error = self.error(self._decode(q), x)
            (g,) = torch.autograd.grad(error.sum(), q)
        return _Grid(indices, q.detach(), error.detach(), g / scale)

    def _scale(self, x: Tensor, indices: Tensor) -> Float[Tensor, "b 1 1 1"]:
        """Curvature of the error over that of the squared error, of each image's pixels."""
        y = self._decode(self._codes(indices))
        v = torch.randint(2, y.shape[1:], generator=torch.Generator().manual_seed(0)).to(y)
        v = _PROBE * (2 * v - 1)
        with torch.enable_grad():
            ends = [(y + side * v / 2).requires_grad_() for side in (-1, 1)]
            low, high = (torch.autograd.grad(self.error(end, x).sum(), end)[0] for end in ends)
        second = ((high - low) * v).sum((1, 2, 3), keepdim=True) / (2 * v.square().sum())
        return second.where(second > 0, 1.0)

    def _proposals(
        self,
        indices: Int64[Tensor, "b s h w"],
        g: Float[Tensor, "b d h w"],
        damping: Float[Tensor, "b h w"],
        parity: int,
    ) -> Int64[Tensor, "b s h w"]:
        """The codes of lowest predicted error for every second token.

        Tokens three rows or columns apart do not interact in the model of the error, so they are
        decided together, and the others see their gradient as it is after that.
        """
        h, w = g.shape[2:]
        indices, g = indices.clone(), F.pad(g, (1, 1, 1, 1))
        odd = torch.arange(h)[:, None] + torch.arange(w) & 1
        for top in range(min(3, h)):
            for left in range(min(3, w)):
                rows, columns = slice(top, None, 3), slice(left, None, 3)
                chosen = odd[rows, columns] == parity
                here = indices[:, :, rows, columns]
                change = torch.zeros_like(g[:, :, 1:-1, 1:-1][:, :, rows, columns])
                picked, change[:, :, chosen] = self._picked(
                    here[:, :, chosen],
                    g[:, :, 1:-1, 1:-1][:, :, rows, columns][:, :, chosen],
                    damping[:, rows, columns][:, chosen],
                )
                here[:, :, chosen] = picked
                effect = F.conv_transpose2d(change, 2 * self.H, stride=3)
                g[:, :, top:, left:][:, :, : effect.shape[2], : effect.shape[3]] += effect
        return indices

    def _picked(
        self,
        indices: Int64[Tensor, "b s n"],
        g: Float[Tensor, "b d n"],
        damping: Float[Tensor, "b n"],
    ) -> tuple[Int64[Tensor, "b s n"], Float[Tensor, "b d n"]]:
        """New rows for each table, one table after the other, and the change of the codes."""
        slope, weight = g.transpose(1, 2).flatten(0, 1), damping.reshape(-1, 1)
        total = torch.zeros_like(slope)
        picked = []
        for i, table in enumerate(self.tables):
            now = indices[:, i].flatten()
            target = slope - 2 * weight * self._bent[i][now]
            parts = (t.split(max(1, _SCORES // len(table))) for t in (target, weight))
            scores = (
                torch.addmm(w * self._squares[i], t, table.T) for t, w in zip(*parts, strict=True)
            )
            picked.append(torch.cat([each.argmin(1) for each in scores]))
            change = table[picked[-1]] - table[now]
            slope = slope + 2 * change @ self.H[:, :, 1, 1]
            total += change
        shape = indices[:, 0].shape
        rows = torch.stack([rows.view(shape) for rows in picked], 1)
        return rows, total.unflatten(0, shape).transpose(1, 2)

    def _reverted(self, new: _Grid, last: _Grid, failed: Bool[Tensor, "b h w"]) -> _Grid:
        """The new grid with failed tokens taken back, its gradient predicted; error as before."""
        failed = failed.unsqueeze(1)
        q = torch.where(failed, last.q, new.q)
        g = new.g + F.conv_transpose2d(q - new.q, 2 * self.H, padding=1)
        return _Grid(torch.where(failed, last.indices, new.indices), q, new.error, g)


def _better(
    indices: Tensor, error: Tensor, best: Tensor, best_error: Tensor
) -> tuple[Tensor, Tensor]:
    """The tokens with the smaller error, and that error, for each image."""
    less = error < best_error
    return torch.where(less[:, None, None, None], indices, best), error.where(less, best_error)
