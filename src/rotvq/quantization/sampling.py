"""Choosing codes at random, nearer ones more often, as RQ-VAE does in training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization.search import BLOCK, nearest

Search = Callable[[Tensor, Tensor], Tensor]
"""From vectors (n, d) and codes (k, d) to the index of a code for each vector, int64 (n,)."""


def sampled(temperature: float) -> Search:
    """A search that draws code j with probability ∝ exp(−‖z − e_j‖² / τ).

    Lee et al., RQ-VAE (arXiv 2203.01941, §3.4). A random number is drawn for each vector and code
    from torch's global generator.

    Args:
        temperature: τ, 0 or more; 0 chooses the nearest code.

    Raises:
        UserError: a negative temperature.
    """
    if not 0 <= temperature < float("inf"):
        raise UserError(f"temperature: expected 0 or more; got {temperature}.")
    return partial(_search, temperature=temperature) if temperature else nearest


@torch.no_grad()
def _search(z: Tensor, e: Tensor, temperature: float) -> Tensor:
    with torch.autocast(z.device.type, enabled=False):
        # Far from the origin, squared lengths would hide the differences between distances.
        center = e.float().mean(0)
        e = e.float() - center
        blocks = z.float().split(max(1, BLOCK // len(e)))
        return torch.cat([_draw(block - center, e, temperature) for block in blocks])


def _draw(z: Tensor, e: Tensor, temperature: float) -> Tensor:
    """By the Gumbel-max trick, which needs no normalized probabilities."""
    score = torch.addmm(-e.square().sum(1), z, e.T, alpha=2) / temperature
    # Of exponential numbers, whose logarithm is finite, unlike that of a uniform 0.
    noise = torch.empty_like(score).exponential_().clamp_min_(torch.finfo(score.dtype).tiny)
    return (score - noise.log_()).argmax(1)
