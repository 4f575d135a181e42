"""Search for the tokens of one scale of a multi-scale quantizer, with those before it fixed."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from rotvq.model.error_functions import ErrorFunction, squared_error
from rotvq.model.objective import Rate, free_of_charge
from rotvq.model.token_search import PIXELS, Model, TokenSearch
from rotvq.quantization import MultiScaleQuantizer


class ScaleSearch:
    """A `TokenSearch` whose decoder enlarges the codes of a map, adds them, and decodes.

    Args:
        model: with a `MultiScaleQuantizer`, and weights that do not change as long as the search
            is used.
        levels: scales, from the first one. Tokens of the last of them change.

    Raises:
        UserError: as `TokenSearch`.
    """

    def __init__(self, model: Model, levels: int) -> None:
        self.model, self.level = model, levels - 1
        self.quantizer = cast(MultiScaleQuantizer, model.quantizer)
        self.view = _View(model, self.quantizer, self.level)
        self.search = TokenSearch(self.view)

    def __call__(
        self,
        x: Float[Tensor, "b c i j"],
        indices: Int64[Tensor, "b h w s"],
        iterations: int,
        error: ErrorFunction = squared_error,
        free: Bool[Tensor, "h w"] | None = None,
        rate: Rate = free_of_charge,
    ) -> Int64[Tensor, "b h w s"]:
        """As `TokenSearch`, for tokens that cost nothing; `free` counts where a token stands."""
        some = max(1, PIXELS // (x.shape[2] * x.shape[3]))
        parts = zip(x.split(some), indices.split(some), strict=True)
        return torch.cat([self._searched(*part, iterations, error, free) for part in parts])

    def _searched(
        self,
        x: Tensor,
        indices: Tensor,
        iterations: int,
        error: ErrorFunction,
        free: Tensor | None,
    ) -> Int64[Tensor, "b h w s"]:
        before = indices[..., : self.level]
        self.view.base = self.quantizer.lookup(before) if self.level else None
        self.view.grid = grid = indices.shape[1], indices.shape[2]
        tokens = self.quantizer.tokens(indices, self.level)
        if free is not None:
            free = self.quantizer.gathered(free, self.level)
        found = self.search(x, tokens, iterations, error, free)
        own = self.quantizer.placed(found, grid, self.level)
        return torch.cat([before, own.unsqueeze(3)], 3)


class _View(nn.Module):
    """A model whose tokens are those of one scale."""

    base: Float[Tensor, "b d h w"] | None = None
    """What the scales before add up to; None for nothing."""
    grid: tuple[int, int] | None = None
    """Positions of the images; None to cover the map, whatever its size."""

    def __init__(self, model: Model, quantizer: MultiScaleQuantizer, level: int) -> None:
        super().__init__()
        self.whole, self.scales, self.level = quantizer, quantizer.scales, level
        self.quantizer, self.network = quantizer.of(level), model.decoder
        self.stride = model.stride * self.scales[-1] // self.scales[level]

    @property
    def decoder(self) -> nn.Module:
        return self

    def forward(self, codes: Float[Tensor, "b d*g*g r c"]) -> Float[Tensor, "b k i j"]:
        rows, columns = (n * self.scales[-1] // self.scales[self.level] for n in codes.shape[2:])
        with torch.autocast(codes.device.type, enabled=False):
            grid = self.grid or (rows, columns)
            own = self.whole.placed(codes.float(), grid, self.level, 0.0)
            z = self.whole.added(own, self.level)
            z = z if self.base is None else self.base + z
        decoded: Tensor = self.network(z.to(codes.dtype))
        return decoded

    def decode(self, indices: Int64[Tensor, "b r c"]) -> Float[Tensor, "b k i j"]:
        """Indices to images."""
        codes = self.quantizer.lookup(indices)
        return self(codes.to(next(self.network.parameters()).dtype))
