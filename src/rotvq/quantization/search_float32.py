"""The float32 search: scores of all codes from one matrix product in the dtype of the vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_GROUP = 64
"""Scores reduced at a time: far quicker than tracking the index of every score."""

Search = Callable[[Tensor], Tensor]
"""From vectors (n, d) to the lowest index with the lowest score (n,)."""


def float32_search(e: Float[Tensor, "k d"], offset: Float[Tensor, " k"]) -> Search:
    """The search for the code with the lowest score offset_j − z·e_j.

    Args:
        e: codes.
        offset: one number for each code.
    """
    size, rest = len(e), -len(e) % _GROUP
    if rest:
        e, offset = F.pad(e, (0, 0, 0, rest)), F.pad(offset, (0, rest), value=torch.inf)

    def search(z: Tensor) -> Tensor:
        groups = torch.addmm(offset, z, e.T, alpha=-1).unflatten(1, (-1, _GROUP))
        group = groups.amin(2).argmin(1)
        scores = groups.gather(1, group[:, None, None].expand(-1, 1, _GROUP)).squeeze(1)
        return (group * _GROUP + scores.argmin(1)).clamp_max(size - 1)

    return search
