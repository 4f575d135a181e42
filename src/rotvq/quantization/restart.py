"""Restart of dead codes: which codes are dead, and where they move.

Symbols as in `updates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError
from rotvq.quantization.processes import drawn
from rotvq.quantization.statistics import first_of_equals, squared_error
from rotvq.quantization.updates import State

_SAME = 2.0**-18
"""Distance from its code, relative to its length, within which a vector is that code: a moving
average of equal vectors comes no closer in float32."""


@dataclass(frozen=True)
class Restart:
    """Dead codes move to encoder outputs of the current step, all equally likely.

    A code is dead when its N is below `threshold` times the mean N. It restarts with three times
    the N at which a code counts as dead, and m = N·e, so it survives about log(3)/(1−γ) steps
    without a vector (110 at γ = 0.99).

    Args:
        threshold: share of the mean N, in (0, 1/3).

    Raises:
        UserError: threshold outside that range.
    """

    threshold: float = 0.03
    grace: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 / self.grace:
            raise UserError(
                "restart threshold: expected a share of the mean count between 0 and 1/3; got "
                f"{self.threshold}. 0.03 is a good start."
            )

    def dead(self, cluster_size: Float[Tensor, " k"]) -> Bool[Tensor, " k"]:
        """Which codes are dead."""
        return self.threshold * cluster_size.mean() > cluster_size

    def step(
        self,
        codes: Float[Tensor, "k d"],
        cluster_size: Float[Tensor, " k"],
        embed_sum: Float[Tensor, "k d"],
        n: Float[Tensor, " k"],
        candidates: Float[Tensor, "k d"],
        priority: Float[Tensor, " k"],
    ) -> tuple[State, Bool[Tensor, " k"]]:
        """Move dead codes to candidates, as far as there are any. Changes none of its arguments.

        Args:
            codes: e.
            cluster_size: N.
            embed_sum: m.
            n: number of the step's vectors that chose each code.
            candidates: vectors of the step, as `candidates_of` selects them.
            priority: −∞ for places without a candidate.

        Returns:
            The new (codes, cluster_size, embed_sum), and which codes have moved.
        """
        dead = self.dead(cluster_size)
        rank = dead.cumsum(0) - 1
        # Different micro-batches and processes may have drawn equal vectors.
        fresh = first_of_equals(candidates, priority > -torch.inf)
        candidates = candidates[fresh.logical_not().byte().argsort(stable=True)]
        move = dead & (rank < fresh.sum())
        e = torch.where(move.unsqueeze(1), candidates[rank.clamp(0, len(codes) - 1)], codes)
        # The mean N tends to the mean n, but early on it is still far below.
        steady = torch.maximum(cluster_size.mean(), n.mean())
        N = torch.where(move, self.grace * self.threshold * steady, cluster_size)
        m = torch.where(move.unsqueeze(1), N.unsqueeze(1) * e, embed_sum)
        return (e, N, m), move


def candidates_of(
    z: Float[Tensor, "n d"],
    codes: Float[Tensor, "k d"],
    indices: Int64[Tensor, " n"],
    valid: Bool[Tensor, " n"],
    candidates: Float[Tensor, "k d"],
    priority: Float[Tensor, " k"],
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Add a micro-batch to a uniform sample, without replacement, of a step's vectors.

    Vectors that equal a code or each other are left out, so that no two codes become equal.

    Args:
        z: vectors, float32.
        codes: e.
        indices: the code that each vector chose.
        valid: False for vectors to leave out.
        candidates: the sample so far.
        priority: a random number for each candidate; the highest stay. −∞ where there is none.

    Returns:
        The new candidates and priorities.
    """
    fresh_priority = drawn(len(z), z.device)
    apart = valid & (squared_error(z, codes, indices) > _SAME**2 * z.square().sum(1))
    fresh_priority = fresh_priority.where(apart, -torch.inf)
    # Comparing twice as many as can be kept is quick, and leaves enough that differ.
    fresh_priority, sample = fresh_priority.topk(min(len(z), 2 * len(codes)))
    z = z[sample]
    fresh = first_of_equals(z, fresh_priority > -torch.inf)
    priority = torch.cat([priority, fresh_priority.where(fresh, -torch.inf)])
    highest, kept = priority.topk(len(codes))
    return torch.cat([candidates, z])[kept], highest
