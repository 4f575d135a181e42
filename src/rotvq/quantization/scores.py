"""Scores of codes by one matrix product in the vectors' own precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GROUP = 64
"""Scores whose least is found at once: far quicker than to follow the index of every score."""

Search = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Vectors (n, d) to the least score (n,) and the lowest index that has it (n,)."""


def plain(e: Float[Tensor, "k d"], offset: Float[Tensor, " k"]) -> Search:
    """The search for the least score offset_j − z·e_j.

    Args:
        e: codes.
        offset: of each code.
    """
    size, rest = len(e), -len(e) % GROUP
    if rest:
        e, offset = F.pad(e, (0, 0, 0, rest)), F.pad(offset, (0, rest), value=torch.inf)

    def search(z: Tensor) -> tuple[Tensor, Tensor]:
        groups = torch.addmm(offset, z, e.T, alpha=-1).unflatten(1, (-1, GROUP))
        group = groups.amin(2).argmin(1)
        scores = groups.gather(1, group[:, None, None].expand(-1, 1, GROUP)).squeeze(1)
        least, place = scores.min(1)
        return least, (group * GROUP + place).clamp_max(size - 1)

    return search
