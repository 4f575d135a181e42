"""How the codes of a codebook move: pure steps from its state and a step's statistics to the next.

Symbols (the paper's, eqs. 3-5): e (k, d) the codes; N (k,) and m (k, d) the moving averages of the
number and the sum of the vectors that chose each code (`embeddings`, `cluster_size` and `embed_sum`
of a `Codebook`); n (k,) and s (k, d) that number and sum in one step; γ the decay. All float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rotvq.errors import UserError
from rotvq.names import UpdateName
from rotvq.quantization._storage import MappedStorage, ParameterStorage, Storage
from rotvq.quantization.backend import kernels_for

State = tuple[Float[Tensor, "k d"], Float[Tensor, " k"], Float[Tensor, "k d"]]
"""(codes, cluster_size, embed_sum): e, N and m."""

_NEVER_USED = 1e-20
"""N below which a code counts as never used: m / N would divide rounding errors."""

_BEYOND_UNIFORM = 1.01
"""Elements above this many times 1/k are not from the uniform start, even rounded to bfloat16."""


@dataclass(frozen=True)
class Update:
    """Base class of codebook updates; on its own, it tracks N and m and moves no code.

    Args:
        decay: γ of the moving averages in the first step, in [0, 1). `Codebook.decay` changes it
            later.

    Raises:
        UserError: decay outside [0, 1).
    """

    decay: float = 0.99

    learned: ClassVar[bool] = False
    """Whether the optimizer moves the codes, by the gradient of the codebook loss."""
    can_restart: ClassVar[bool] = True
    """Whether a single code can be moved on its own."""
    storage: ClassVar[Storage] = Storage()
    """How the codebook holds the codes."""

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def step(
        self,
        codes: Float[Tensor, "k d"],
        cluster_size: Float[Tensor, " k"],
        embed_sum: Float[Tensor, "k d"],
        n: Float[Tensor, " k"],
        s: Float[Tensor, "k d"],
        rate: Float[Tensor, ""],
    ) -> State:
        """N ← γN + (1−γ)n;  m ← γm + (1−γ)s.  Changes none of its arguments.

        Args:
            codes: e.
            cluster_size: N.
            embed_sum: m.
            n: number of the step's vectors that chose each code.
            s: their sum.
            rate: 1 − γ.

        Returns:
            The new (codes, cluster_size, embed_sum).
        """
        return codes, cluster_size.lerp(n, rate), embed_sum.lerp(s, rate)


@dataclass(frozen=True)
class EMA(Update):
    """Codes are moving averages of the vectors that choose them (eqs. 3-5, 9-11).

    e = m / N. A code whose N has decayed to nothing stays where it is.

    N and m start at 0, so the first vectors of a code move it all the way to their mean: right for
    the uniform start, whose codes carry no information. Codes written from outside (assigned to
    `codebook.embeddings`, or loaded without counts) are kept instead: the first step takes N = n
    (the mean of n for a code without vectors), so that γ means γ from the first step on. They are
    recognized by an element outside the ±1/k of the uniform start; for smaller codes, or for a
    weight of your own, use `Codebook.set_codes`. Codes overwritten later keep their N. Cosine codes
    start at unit length, so they count as written from outside: use `init="data"` with them.

    Args:
        decay: γ in the first step, in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    def step(
        self,
        codes: Float[Tensor, "k d"],
        cluster_size: Float[Tensor, " k"],
        embed_sum: Float[Tensor, "k d"],
        n: Float[Tensor, " k"],
        s: Float[Tensor, "k d"],
        rate: Float[Tensor, ""],
    ) -> State:
        """As `Update.step`, then e ← m / N."""
        kernels = kernels_for(codes)
        if kernels is not None:
            start = _BEYOND_UNIFORM / len(codes)
            moved: State = kernels.average(
                codes, cluster_size, embed_sum, n, s, rate, _NEVER_USED, start
            )
            return moved
        N, m = _follow_codes(codes, cluster_size, embed_sum, n)
        codes, N, m = super().step(codes, N, m, n, s, rate)
        used = (N > _NEVER_USED).unsqueeze(1)
        return torch.where(used, m / N.unsqueeze(1), codes), N, m


@dataclass(frozen=True)
class GradientLearned(Update):
    """Codes are a parameter that the codebook loss moves (van den Oord et al. 2017, eq. 3).

    Like any parameter, it follows the dtype of the model. N and m are tracked too, for usage and
    for the restart of dead codes.

    Args:
        decay: γ in the first step, in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    learned: ClassVar[bool] = True
    storage: ClassVar[Storage] = ParameterStorage()


@dataclass(frozen=True)
class LinearMap(Update):
    """The codebook moves as a whole: e = b W over a frozen basis b (SimVQ, arXiv 2411.02038).

    The codebook loss moves W (d, d), which starts as the identity, so codes that no vector chose
    move too. N and m are tracked for usage. Single codes cannot restart.

    Args:
        decay: γ in the first step, in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    learned: ClassVar[bool] = True
    can_restart: ClassVar[bool] = False
    storage: ClassVar[Storage] = MappedStorage()


UPDATES: dict[str, type[Update]] = dict(
    zip(get_args(UpdateName), (EMA, GradientLearned, LinearMap), strict=True)
)
"""Updates by their names in configurations and files."""


def check_decay(decay: float) -> None:
    """Refuse a decay that is none.

    Raises:
        UserError: it is outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise UserError(f"decay: expected 0 <= decay < 1; got {decay}. The paper uses 0.99.")


def _follow_codes(e: Tensor, N: Tensor, m: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """N and m of codes that may have been written from outside."""
    given = (N == 0).all() & (e.abs().amax() > _BEYOND_UNIFORM / len(e))
    N = torch.where(given, torch.where(n > 0, n, n.mean()), N)
    # e equals m / N to the last bit unless someone else has written it.
    moved = (N > _NEVER_USED).unsqueeze(1) & (e != m / N.unsqueeze(1))
    return N, torch.where(moved, N.unsqueeze(1) * e, m)
