"""The health of a codebook from its statistics: dead codes, idle times, perplexity."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from rotvq.quantization.codebook import Codebook
from rotvq.quantization.grid import Grid
from rotvq.quantization.restart import Restart

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Health(NamedTuple):
    """Statistics of a codebook at one moment.

    Attributes:
        dead: number of codes whose N is below a fraction of the mean N: the threshold of the
            codebook's `Restart`, or 3 % without one.
        oldest: steps since the least recently chosen code was chosen.
        perplexity: exp of the entropy of N / ΣN, 1 to k.
        spread: N / mean N at the quantiles 0, 5, 25, 50, 75, 95 and 100 % of the codes.
    """

    dead: int
    oldest: int
    perplexity: float
    spread: tuple[float, ...]


@torch.no_grad()
def health(codebook: Codebook | Grid) -> Health:
    """The health of a codebook, which is not modified.

    The codes of a grid (finite scalar or binary) are fixed, so none can die, and their usage is not
    tracked: `perplexity` and `spread` are nan.
    """
    if isinstance(codebook, Grid):
        return Health(dead=0, oldest=0, perplexity=math.nan, spread=(math.nan,) * len(_QUANTILES))
    share = codebook.cluster_size / codebook.cluster_size.sum().clamp_min(
        torch.finfo(codebook.cluster_size.dtype).tiny
    )
    at = torch.tensor(_QUANTILES, device=share.device)
    return Health(
        dead=int((codebook.restart or Restart()).dead(codebook.cluster_size).sum()),
        oldest=int(codebook.idle.max()),
        perplexity=torch.special.entr(share).sum().exp().item(),
        spread=tuple((share * len(codebook)).quantile(at).tolist()),
    )
