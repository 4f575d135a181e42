"""Search for tokens that the decoder turns into a better image: analysis by synthesis.

The encoder's nearest codes are a first guess. Each iteration proposes other codes for half of the
tokens, in a checkerboard, from a second-order model of the error; decodes them; and reverts those
that raised the error.

Symbols: q, the codes of a grid of tokens; g, the gradient of the error with respect to q; H, the
curvature of the squared error at random codes (see `curvature`); c, the curvature of an image along
the steps taken so far, in units of H; λ, the damping of a token, which multiplies H in its
proposals and doubles when one fails (Levenberg-Marquardt).

Between two grids, token t raised the error by ½(g + g')_t · (q' − q)_t. Over all tokens this adds
up to the whole difference if the error is quadratic in q. So an iteration takes one forward and one
backward pass of the decoder, whatever its receptive field and the error. Tokens may also have a
cost (see `Rate`): a step changes it by the mean of the prices before and after the step.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.errors import UserError
from rotvq.model.curvature import curvature
from rotvq.model.error_functions import ErrorFunction, checked, relative_curvature, squared_error
from rotvq.model.levels import of_first_levels
from rotvq.model.objective import Objective, Rate, free_of_charge
from rotvq.model.search_state import (
    Decodes,
    SearchState,
    added_cost,
    as_rows,
    better,
    dot,
    improved,
)
from rotvq.model.second_order import SCORES, SecondOrderModel, turn_of
from rotvq.processor import has_bf16
from rotvq.quantization import Quantizer
from rotvq.quantization.tensors import added

_DAMPING = 0.9
"""λ of the first proposals."""
_PRIOR = 0.3
"""Weight of the prior c = 1, relative to the first step."""
_NOISE = 0.1
"""Standard deviation of the noise, in pixels of [-1, 1], that g is perturbed by after a stall."""
_RANDOM_GRIDS, _SIDE = 16, 8
"""Grids of random codes to measure the curvature at, if they fit in memory, and their side."""
PIXELS, PIXELS_ON_GPU = 2**18, 2**20
"""Pixels of images in memory at a time."""
_MOST_CODES = 2**20


class Model(Decodes, Protocol):
    """What a search needs of a model."""

    @property
    def decoder(self) -> nn.Module: ...

    @property
    def quantizer(self) -> Quantizer: ...

    @property
    def stride(self) -> int: ...


class TokenSearch:
    """A search for better tokens; measures the decoder's curvature once.

    Args:
        model: a model whose weights do not change while the search is in use.
        levels: how many levels of a residual quantizer to use. Only the last one's tokens change.

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
        changing = range(levels - 1, len(tables), levels)
        with torch.autocast(self.tables[0].device.type, enabled=False):
            self.second_order = SecondOrderModel(self._curvature(), self.tables, changing)

    def _curvature(self) -> Float[Tensor, "d d 3 3"]:
        """The curvature at random codes.

        Raises:
            UserError: it is not finite.
        """
        generator = torch.Generator().manual_seed(0)
        fitting = max(1, PIXELS // (_SIDE * self.model.stride) ** 2)
        shape = (min(_RANDOM_GRIDS, fitting), _SIDE, _SIDE)
        random = [torch.randint(len(table), shape, generator=generator) for table in self.tables]
        codes = self._codes(torch.stack(random, 1).to(self.tables[0].device))
        H = curvature(self._decode, codes, generator)
        if not H.isfinite().all():
            raise UserError(
                "model: expected a finite decoder and codes; got nan or infinity. The weights are "
                "damaged or diverged in training: load an earlier checkpoint."
            )
        return H

    @torch.inference_mode(False)  # inference tensors have no gradients
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
        """Tokens with a smaller sum of error and cost, or the same ones where none are found.

        Args:
            x: images.
            indices: the tokens to start from.
            iterations: number of forward and backward passes, after the first.
            error: the error of each image.
            free: which tokens may change; None for all.
            rate: the cost of the tokens, added to the error.

        Raises:
            UserError: the error is not one number for each image, or has no gradient.
        """
        if free is None:
            free = torch.ones(indices.shape[1:3], dtype=torch.bool)
        some = (PIXELS_ON_GPU if x.is_cuda else PIXELS) // (x.shape[2] * x.shape[3])
        if rate is not free_of_charge:
            some = min(some, SCORES // (free.numel() * sum(map(len, self.tables))))
        some, objective = max(1, some), Objective(checked(error), rate)
        parts = zip(x.clone().split(some), indices.clone().split(some), strict=True)
        return torch.cat([self._improved(*part, iterations, objective, free) for part in parts])

    def _improved(
        self, x: Tensor, first: Tensor, iterations: int, objective: Objective, free: Tensor
    ) -> Int64[Tensor, "b h w *levels"]:
        with torch.autocast(x.device.type, enabled=False):
            rows = self._search(x.float(), as_rows(first), iterations, objective, free)
        # Compared as the model decodes them, because the search is less precise.
        found = rows.movedim(1, 3).reshape(first.shape)
        return improved(self.model, objective, x, found, first)

    def _search(
        self, x: Tensor, indices: Tensor, iterations: int, objective: Objective, free: Tensor
    ) -> Int64[Tensor, "b s h w"]:
        """The best tokens of all iterations."""
        generator = torch.Generator().manual_seed(0)
        h, w = free.shape
        odd = (torch.arange(h)[:, None] + torch.arange(w)) % 2 == 1
        turns = [turn_of(free.cpu() & now, x.device) for now in (~odd, odd)]
        scale = relative_curvature(objective.error, self._decode(self._codes(indices)), x)
        last = base = self._decoded(x, indices, objective, scale)
        best, least = indices, last.objective
        damping = torch.full_like(last.q[:, 0], _DAMPING)
        measured = expected = torch.zeros_like(scale)
        c = torch.ones_like(scale)
        stalled = torch.zeros_like(scale, dtype=torch.bool)
        for i in range(iterations):
            noise = torch.randn(base.q.shape[1:], generator=generator).to(base.q)
            noise = _NOISE * self.second_order.pixel_noise(noise)
            g = base.g / c
            g = torch.where(stalled, g + noise, g)
            costs = tuple(each / c for each in base.costs)
            proposals = self.second_order.proposals(base.indices, g, costs, damping, turns[i % 2])
            new = self._decoded(x, proposals, objective, scale)
            change = new.q - last.q
            bend, prior = self.second_order.bend(change), _PRIOR if i == 0 else 0
            expected = expected + (1 + prior) * dot(bend, change)
            measured = measured + dot(new.g - last.g + prior * bend, change)
            c = torch.where(expected > 0, measured / expected, 1).clamp(0.2, 5)
            failed = ((last.g + new.g) * change).sum(1) + added_cost(last, new) > 0
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

    def _decode(self, codes: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c i j"]:
        device = codes.device.type
        fast = has_bf16() if device == "cpu" else device == "cuda"
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            decoded: Tensor = self.model.decoder(codes.to(self.dtype))
            return decoded.float()

    def _codes(self, indices: Int64[Tensor, "b s h w"]) -> Float[Tensor, "b d h w"]:
        pairs = zip(indices.unbind(1), self.tables, strict=True)
        return added([F.embedding(rows, table) for rows, table in pairs]).movedim(-1, 1)

    def _decoded(
        self, x: Tensor, indices: Tensor, objective: Objective, scale: Float[Tensor, "b 1 1 1"]
    ) -> SearchState:
        with torch.enable_grad():
            q = self._codes(indices).requires_grad_()
            errors = objective.error(self._decode(q), x)
            (g,) = torch.autograd.grad(errors.sum(), q)
        cost, costs = objective.rate(indices)
        reached = errors.detach() + cost
        return SearchState(indices, q.detach(), reached, g / scale, tuple(c / scale for c in costs))

    def _reverted(
        self,
        new: SearchState,
        last: SearchState,
        failed: Bool[Tensor, "b h w"],
        c: Float[Tensor, "b 1 1 1"],
    ) -> SearchState:
        """The new state with failed tokens reverted; its gradient is predicted."""
        failed = failed.unsqueeze(1)
        q = torch.where(failed, last.q, new.q)
        g = new.g + c * self.second_order.bend(q - new.q)
        indices = torch.where(failed, last.indices, new.indices)
        return SearchState(indices, q, new.objective, g, new.costs)
