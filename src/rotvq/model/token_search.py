"""Search for tokens that the decoder turns into a better image: analysis by synthesis.

The encoder's nearest codes are a first guess. Each iteration proposes other codes for half of the
tokens, in a checkerboard, from a second-order model of the error; decodes them; and takes back
those that raised the error.

Symbols: q, the codes of a grid of tokens; g, the gradient of the error with respect to q; H, the
curvature of the squared error at random codes (see `curvature`); c, the curvature of an image along
the steps taken so far, in units of H; λ, the damping of a token, which multiplies H in its
proposals and doubles when one fails (Levenberg-Marquardt).

Between two grids, token t raised the error by ½(g + g')_t · (q' − q)_t. Over all tokens this adds
up to the whole difference if the error is quadratic in q. So an iteration takes one forward and one
backward pass of the decoder, whatever its receptive field and the error. Tokens may have a cost
besides (see `Rate`): a step raised it by the mean over what it costs before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.model.curvature import curvature
from rotvq.model.error_functions import ErrorFunction, checked, relative_curvature, squared_error
from rotvq.model.levels import of_first_levels
from rotvq.model.objective import Costs, Objective, Rate, free_of_charge
from rotvq.model.token_grid import Grid, better, dearer, dot
from rotvq.processor import has_bf16
from rotvq.quantization import Quantizer

_DAMPING = 0.9
"""λ of the first proposals."""
_PRIOR = 0.3
"""Weight of c = 1, in first steps."""
_NOISE = 0.1
"""Standard deviation of the noise, in pixels of [-1, 1], that g is perturbed by after a stall."""
_RANDOM_GRIDS, _SIDE = 16, 8
"""Grids of random codes that the curvature is measured at, if they fit, and tokens of a side."""
PIXELS, _SCORES = 2**18, 2**24
"""Pixels of images, and scores of codes, in memory at a time."""
_MOST_CODES = 2**20


class Model(Protocol):
    """What a search needs of a model."""

    @property
    def decoder(self) -> nn.Module: ...

    @property
    def quantizer(self) -> Quantizer: ...

    @property
    def stride(self) -> int: ...

    def decode(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "b c i j"]: ...


class TokenSearch:
    """A search with the curvature of one decoder, measured once.

    Args:
        model: with weights that do not change as long as the search is used.
        levels: of a residual quantizer, from the first one. Tokens of the last of them change.

    Raises:
        UserError: the quantizer has too many codes to compare, or weights are not finite.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, model: Model, levels: int = 1) -> None:
        self.model = model
        self.dtype = next(model.decoder.parameters()).dtype
        if max(model.quantizer.codebook_sizes) > _MOST_CODES:
            raise UserError(
                f"effort: expected at most {_MOST_CODES:,} codes for each index; got "
                f"{max(model.quantizer.codebook_sizes):,}. Use effort 0, or train with a "
                "GroupedQuantizer of several grids."
            )
        tables = of_first_levels(model.quantizer, model.quantizer.tables, levels)
        self.tables = tuple(table.detach() for table in tables)
        self.changing = range(levels - 1, len(tables), levels)
        with torch.autocast(self.tables[0].device.type, enabled=False):
            self._measure()

    def _measure(self) -> None:
        generator = torch.Generator().manual_seed(0)
        fitting = max(1, PIXELS // (_SIDE * self.model.stride) ** 2)
        shape = (min(_RANDOM_GRIDS, fitting), _SIDE, _SIDE)
        random = [torch.randint(len(table), shape, generator=generator) for table in self.tables]
        codes = self._codes(torch.stack(random, 1).to(self.tables[0].device))
        self.H = curvature(self._decode, codes, generator)
        if not self.H.isfinite().all():
            raise UserError(
                "model: expected a finite decoder and codes; got nan or infinity. The weights are "
                "damaged or diverged in training: load an earlier checkpoint."
            )
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
        error: ErrorFunction = squared_error,
        free: Bool[Tensor, "h w"] | None = None,
        rate: Rate = free_of_charge,
    ) -> Int64[Tensor, "b h w *levels"]:
        """Tokens with a smaller error and cost, or the same ones where none are found.

        Args:
            x: images.
            indices: where to start.
            iterations: number of forward and backward passes, after the first.
            error: of each image.
            free: which tokens may change; None for all.
            rate: of the tokens, which is added to the error.

        Raises:
            UserError: the error is not one number for each image, or has no gradient.
        """
        if free is None:
            free = torch.ones(indices.shape[1:3], dtype=torch.bool)
        some = PIXELS // (x.shape[2] * x.shape[3])
        if rate is not free_of_charge:
            some = min(some, _SCORES // (free.numel() * sum(map(len, self.tables))))
        some, objective = max(1, some), Objective(checked(error), rate)
        parts = zip(x.clone().split(some), indices.clone().split(some), strict=True)
        return torch.cat([self._improved(*part, iterations, objective, free) for part in parts])

    def _improved(
        self, x: Tensor, first: Tensor, iterations: int, objective: Objective, free: Tensor
    ) -> Int64[Tensor, "b h w *levels"]:
        x = x.float()
        rows = first.flatten(3).movedim(3, 1) if first.ndim > 3 else first.unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            found = self._search(x, rows, iterations, objective, free)
        # Compared as the model decodes them: the search is less precise.
        before, after = (
            objective(self.model.decode(self._shaped(each, first)).float(), x, each)
            for each in (rows, found)
        )
        less = (after < before).view(-1, *[1] * (first.ndim - 1))
        return torch.where(less, self._shaped(found, first), first)

    def _search(
        self, x: Tensor, indices: Tensor, iterations: int, objective: Objective, free: Tensor
    ) -> Int64[Tensor, "b s h w"]:
        """The best tokens that the iterations come upon."""
        generator = torch.Generator().manual_seed(0)
        h, w = free.shape
        odd = (torch.arange(h)[:, None] + torch.arange(w)) % 2 == 1
        turns = (free & ~odd, free & odd)
        scale = relative_curvature(objective.error, self._decode(self._codes(indices)), x)
        last = base = self._decoded(x, indices, objective, scale)
        best, least = indices, last.objective
        damping = torch.full_like(last.q[:, 0], _DAMPING)
        measured = expected = torch.zeros_like(scale)
        c = torch.ones_like(scale)
        stalled = torch.zeros_like(scale, dtype=torch.bool)
        for i in range(iterations):
            noise = torch.randn(base.q.shape[1:], generator=generator).to(base.q)
            noise = 2 * _NOISE * torch.einsum("de,ehw->dhw", self._root, noise)
            g = base.g / c
            g = torch.where(stalled, g + noise, g)
            costs = tuple(each / c for each in base.costs)
            proposals = self._proposals(base.indices, g, costs, damping, turns[i % 2])
            new = self._decoded(x, proposals, objective, scale)
            change = new.q - last.q
            bend, prior = self._bend(change), _PRIOR if i == 0 else 0
            expected = expected + (1 + prior) * dot(bend, change)
            measured = measured + dot(new.g - last.g + prior * bend, change)
            c = torch.where(expected > 0, measured / expected, 1).clamp(0.2, 5)
            failed = ((last.g + new.g) * change).sum(1) + dearer(last, new) > 0
            tried = (new.indices != base.indices).any(1)
            damping = torch.where(failed & tried, 2 * damping, damping)
            # When no proposal is left for an image, start over, with noise.
            none_left = ~tried.flatten(1).any(1)[:, None, None]
            stalled = stalled | none_left.unsqueeze(1)
            damping = torch.where(none_left, _DAMPING, damping)
            best, least = better(new.indices, new.objective, best, least)
            base = self._reverted(new, last, failed, c)
            last = new
        reached = objective(self._decode(base.q), x, base.indices)
        return better(base.indices, reached, best, least)[0]

    def _shaped(self, rows: Tensor, like: Tensor) -> Tensor:
        return rows.movedim(1, 3).reshape(like.shape)

    def _decode(self, codes: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c i j"]:
        device = codes.device.type
        fast = has_bf16() if device == "cpu" else device == "cuda"
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            decoded: Tensor = self.model.decoder(codes.to(self.dtype))
            return decoded.float()

    def _codes(self, indices: Int64[Tensor, "b s h w"]) -> Float[Tensor, "b d h w"]:
        pairs = zip(indices.unbind(1), self.tables, strict=True)
        codes = [F.embedding(rows, table) for rows, table in pairs]
        return sum(codes[1:], codes[0]).movedim(-1, 1)

    def _decoded(
        self, x: Tensor, indices: Tensor, objective: Objective, scale: Float[Tensor, "b 1 1 1"]
    ) -> Grid:
        with torch.enable_grad():
            q = self._codes(indices).requires_grad_()
            errors = objective.error(self._decode(q), x)
            (g,) = torch.autograd.grad(errors.sum(), q)
        cost, costs = objective.rate(indices)
        reached = errors.detach() + cost
        return Grid(indices, q.detach(), reached, g / scale, tuple(c / scale for c in costs))

    def _proposals(
        self,
        indices: Int64[Tensor, "b s h w"],
        g: Float[Tensor, "b d h w"],
        costs: Costs,
        damping: Float[Tensor, "b h w"],
        turn: Bool[Tensor, "h w"],
    ) -> Int64[Tensor, "b s h w"]:
        """The codes of lowest predicted error and cost for the tokens whose turn it is.

        Tokens three rows or columns apart do not interact in the model of the error, so they are
        decided together, and the others see their gradient as it is after that.
        """
        h, w = g.shape[2:]
        indices, g = indices.clone(), F.pad(g, (1, 1, 1, 1))
        inner = g[:, :, 1:-1, 1:-1]
        for top in range(min(3, h)):
            for left in range(min(3, w)):
                rows, columns = slice(top, None, 3), slice(left, None, 3)
                chosen = turn[rows, columns]
                here = indices[:, :, rows, columns]
                slopes = inner[:, :, rows, columns]
                change = torch.zeros_like(slopes)
                picked, change[:, :, chosen] = self._picked(
                    here[:, :, chosen],
                    slopes[:, :, chosen],
                    [each[:, rows, columns][:, chosen].flatten(0, 1) for each in costs],
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
        costs: Sequence[Float[Tensor, "bn k"]],
        damping: Float[Tensor, "b n"],
    ) -> tuple[Int64[Tensor, "b s n"], Float[Tensor, "b d n"]]:
        """New rows for each table, one table after the other, and the change of the codes."""
        slope, weight = g.transpose(1, 2).flatten(0, 1), damping.reshape(-1, 1)
        total = torch.zeros_like(slope)
        picked = [rows.flatten() for rows in indices.unbind(1)]
        for i in self.changing:
            table, now = self.tables[i], picked[i]
            target = slope - 2 * weight * self._bent[i][now]
            terms = (target, weight, *costs[i : i + 1])
            parts = (t.split(max(1, _SCORES // len(table))) for t in terms)
            scores = (
                torch.addmm(sum(cost, w * self._squares[i]), t, table.T)
                for t, w, *cost in zip(*parts, strict=True)
            )
            picked[i] = torch.cat([each.argmin(1) for each in scores])
            change = table[picked[i]] - table[now]
            slope = slope + 2 * change @ self.H[:, :, 1, 1]
            total += change
        shape = indices[:, 0].shape
        rows = torch.stack([rows.view(shape) for rows in picked], 1)
        return rows, total.unflatten(0, shape).transpose(1, 2)

    def _bend(self, change: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """How a change of the codes changes g where the curvature is H."""
        return F.conv_transpose2d(change, 2 * self.H, padding=1)

    def _reverted(
        self, new: Grid, last: Grid, failed: Bool[Tensor, "b h w"], c: Float[Tensor, "b 1 1 1"]
    ) -> Grid:
        """The new grid with failed tokens taken back, its gradient predicted; all else is kept."""
        failed = failed.unsqueeze(1)
        q = torch.where(failed, last.q, new.q)
        g = new.g + c * self._bend(q - new.q)
        indices = torch.where(failed, last.indices, new.indices)
        return Grid(indices, q, new.objective, g, new.costs)
