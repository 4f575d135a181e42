"""Implicit neural codebooks: codes that a network adapts to the levels before (QINCo)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rotvq.quantization import Quantized, VectorQuantizer
from rotvq.quantization.search import BLOCK
from rotvq.quantization.tensors import mean_square


class CodeNetwork(nn.Module):
    """Codes (..., d), given the sum of the codes of the levels before (..., d).

    Huijben et al. (arXiv 2401.14732, §4.1). The shapes may broadcast.

    Args:
        dim: length d of a code.
        dim_hidden: width of the residual blocks; by default d.
        depth: number of residual blocks.
    """

    def __init__(self, dim: int, dim_hidden: int | None = None, depth: int = 4) -> None:
        super().__init__()
        width = dim_hidden or dim
        # Two maps instead of one of both side by side, whose input would be twice as large.
        self.of_code = nn.Linear(dim, dim)
        self.of_sum = nn.Linear(dim, dim, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, dim))
            for _ in range(depth)
        )

    def forward(self, codes: Tensor, so_far: Tensor) -> Tensor:
        x = codes + self.of_code(codes) + self.of_sum(so_far.to(self.of_sum.weight.dtype))
        for block in self.blocks:
            x = x + block(x)
        return x


class ImplicitLevels(nn.Module):
    """Residual levels whose codes from the second on pass through a `CodeNetwork`.

    Args:
        levels: quantizers with learned codes; they outlive this module.
        dim_hidden: of the networks.
        depth: of the networks.
    """

    def __init__(
        self, levels: Sequence[VectorQuantizer], dim_hidden: int | None = None, depth: int = 4
    ) -> None:
        super().__init__()
        self._levels = tuple(levels)
        networks = [CodeNetwork(level.dim, dim_hidden, depth) for level in levels[1:]]
        self.networks = nn.ModuleList(networks)

    def by_level(
        self, z: Float[Tensor, "... d"], mask: Tensor | None, number: int
    ) -> tuple[Float[Tensor, "... d"], list[Quantized]]:
        """As `ResidualQuantizer.by_level`; losses have gradients for codes and networks."""
        if mask is not None:
            z = z.where(mask.unsqueeze(-1), 0.0)
        kept = None if mask is None else mask.flatten()
        shape, residual = z.shape[:-1], z.flatten(0, -2).float()
        so_far, parts = torch.zeros_like(residual), []
        for i, level in enumerate(self._levels[:number]):
            if self.training and not level.codebook.ready:
                level.codebook.initialize(residual.detach(), kept)
            indices = self._nearest(i, residual.detach(), so_far)
            code = self._code(i, indices, so_far)
            losses = (
                mean_square(residual, code.detach(), kept),
                mean_square(residual.detach(), code, kept),
            )
            found = indices if kept is None else indices.where(kept, -1)
            parts.append(
                Quantized(code, found.unflatten(0, shape), *losses, torch.zeros_like(losses[0]))
            )
            residual = residual - code.detach()
            so_far = so_far + code.detach()
        z_q = self._levels[0].estimator(z, so_far.unflatten(0, shape))
        return z_q if mask is None else z_q.where(mask.unsqueeze(-1), 0.0), parts

    def codes(self, indices: Int64[Tensor, "... q"]) -> Iterator[Float[Tensor, "... d"]]:
        """The code of each level; zeros for −1."""
        so_far = torch.zeros((), device=indices.device)
        for i, found in enumerate(indices.unbind(-1)):
            code = self._code(i, found.clamp_min(0), so_far)
            code = code.where((found >= 0).unsqueeze(-1), 0.0)
            so_far = so_far + code
            yield code

    def _code(self, level: int, indices: Tensor, so_far: Tensor) -> Tensor:
        codes = F.embedding(indices, self._levels[level].codebook.embeddings)
        code: Tensor = self.networks[level - 1](codes, so_far) if level else codes
        return code

    @torch.no_grad()
    def _nearest(self, level: int, residual: Tensor, so_far: Tensor) -> Tensor:
        """A network's codes differ from vector to vector, so a block has n × k of them."""
        codes = self._levels[level].codebook.embeddings
        rows = max(1, BLOCK // codes.numel())
        found = []
        for r, s in zip(residual.split(rows), so_far.split(rows), strict=True):
            own = self.networks[level - 1](codes, s.unsqueeze(1)) if level else codes
            found.append((r.unsqueeze(1) - own).square().sum(-1).argmin(1))
        return torch.cat(found)
