"""The second-order model of the error that a search proposes tokens from.

Symbols as in `rotvq.model.token_search`: changes δ of the codes add g·δ + Σ_t Σ_u δ_tᵀ H_tu δ_u to
the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.model.objective import Costs

SCORES = 2**24
"""Maximum number of scores of codes in memory at a time."""


class SecondOrderModel:
    """The error as a quadratic function of the codes, with the same curvature at every token.

    Args:
        H: the curvature (see `rotvq.model.curvature`).
        tables: the codes of each index of a token; the code of a token is the sum of its rows.
        changing: which indices of a token may change.
    """

    def __init__(
        self,
        H: Float[Tensor, "d d 3 3"],
        tables: Sequence[Float[Tensor, "k d"]],
        changing: Sequence[int],
    ) -> None:
        self.H, self.tables, self.changing = H, tables, changing
        own = H[:, :, 1, 1]
        self._bent = [table @ own for table in tables]
        self._squares = [(a * b).sum(1) for a, b in zip(self._bent, tables, strict=True)]
        values, vectors = torch.linalg.eigh(own)
        self._root = vectors * values.clamp_min(0).sqrt()

    def bend(self, change: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """How a change of the codes changes g where the curvature is H."""
        return F.conv_transpose2d(change, 2 * self.H, padding=1)

    def pixel_noise(self, noise: Float[Tensor, "d h w"]) -> Float[Tensor, "d h w"]:
        """White noise of variance 1 as the change of g that noise in the pixels would cause."""
        return 2 * torch.einsum("de,ehw->dhw", self._root, noise)

    def proposals(
        self,
        indices: Int64[Tensor, "b s h w"],
        g: Float[Tensor, "b d h w"],
        costs: Costs,
        damping: Float[Tensor, "b h w"],
        turn: Sequence[Int64[Tensor, " n"]],
    ) -> Int64[Tensor, "b s h w"]:
        """The codes of lowest predicted error and cost for the tokens whose turn it is.

        Tokens three rows or columns apart do not interact in the model of the error, so they are
        chosen together; the tokens that follow see the gradient that this leaves.

        Args:
            indices: the present rows of the tables.
            g: the gradient of the error.
            costs: of each row.
            damping: λ.
            turn: from `turn_of`.
        """
        indices, g = indices.clone(), F.pad(g, (1, 1, 1, 1))
        inner = g[:, :, 1:-1, 1:-1]
        for (top, left), at in zip(_corners(*indices.shape[2:]), turn, strict=True):
            lattice = slice(None), slice(None), slice(top, None, 3), slice(left, None, 3)
            slopes, here = inner[lattice], indices[lattice].flatten(2)
            picked, change = self._picked(
                here[:, :, at],
                slopes.flatten(2)[:, :, at],
                [each[lattice[1:]].flatten(1, 2)[:, at].flatten(0, 1) for each in costs],
                damping[lattice[1:]].flatten(1)[:, at],
            )
            indices[lattice] = here.index_copy(2, at, picked).unflatten(2, slopes.shape[2:])
            change = torch.zeros_like(slopes).flatten(2).index_copy(2, at, change)
            effect = F.conv_transpose2d(change.unflatten(2, slopes.shape[2:]), 2 * self.H, stride=3)
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
            parts = (t.split(max(1, SCORES // len(table))) for t in terms)
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


def turn_of(tokens: Bool[Tensor, "h w"], device: torch.device) -> list[Int64[Tensor, " n"]]:
    """Which tokens to choose, for each lattice of tokens three rows and columns apart.

    Args:
        tokens: which tokens' turn it is, on the CPU: a GPU would have to wait for their number.
        device: where the search runs.
    """
    lattices = (tokens[top::3, left::3] for top, left in _corners(*tokens.shape))
    return [lattice.flatten().nonzero().squeeze(1).to(device) for lattice in lattices]


def _corners(h: int, w: int) -> Iterator[tuple[int, int]]:
    """The first token of each lattice."""
    return itertools.product(range(min(3, h)), range(min(3, w)))
