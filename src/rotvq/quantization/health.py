"""How a codebook is doing, from its own statistics: who is used, who is not, and for how long."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from rotvq.quantization.codebook import Codebook
from rotvq.quantization.fsq import Grid
from rotvq.quantization.restart import Restart

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


class Health(NamedTuple):
    """A codebook at one moment.

    Attributes:
        dead: codes whose N is below a share of the mean N: that of the codebook's `Restart`, or
            else the 3 % of its default.
        oldest: steps for which the longest unused code has not been chosen.
        perplexity: exp of the entropy of N / ΣN, 1 to k.
        spread: N over its mean at the quantiles 0, 5, 25, 50, 75, 95 and 100 % of the codes.
    """

    dead: int
    oldest: int
    perplexity: float
    spread: tuple[float, ...]


@torch.no_grad()
def health(codebook: Codebook | Grid) -> Health:
    """Look at a codebook; it is not changed.

    The codes of a finite scalar quantizer do not move, so none can die, and no use is counted:
    `perplexity` and `spread` are nan.
    """
    if isinstance(codebook, Grid):
        return Health(dead=0, oldest=0, perplexity=math.nan, spread=(math.nan,) * len(QUANTILES))
    share = codebook.cluster_size / codebook.cluster_size.sum().clamp_min(
        torch.finfo(codebook.cluster_size.dtype).tiny
    )
    at = torch.tensor(QUANTILES, device=share.device)
    return Health(
        dead=int((codebook.restart or Restart()).dead(codebook.cluster_size).sum()),
        oldest=int(codebook.idle.max()),
        perplexity=torch.special.entr(share).sum().exp().item(),
        spread=tuple((share * len(codebook)).quantile(at).tolist()),
    )
