"""How codes move: the rules of a step, and when a dead code starts again.

Symbols: n (k,) and s (k, d) the counts and sums of a step's vectors by code; N, m their moving
averages; e the codes; γ the decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.errors import UserError

if TYPE_CHECKING:
    from rotvq.quantization.codebook import Codebook

EMPTY = 1e-20
"""N below which a code counts as never used: m / N would divide rounding errors."""


class Rule(Protocol):
    """How the codes follow the vectors that chose them."""

    learned: ClassVar[bool]

    def hold(self, codebook: Codebook, e: Tensor) -> None:
        """Give a new codebook its codes e (k, d), as `codebook.e`."""

    def place(self, codebook: Codebook, e: Tensor) -> None:
        """Put all codes at e (k, d)."""

    def step(self, codebook: Codebook, n: Tensor, s: Tensor) -> None:
        """Move the codebook, given this step's counts n (k,) and sums s (k, d)."""


class _Free:
    """Codes that lie where they are put, each for itself."""

    learned: ClassVar[bool]

    def hold(self, codebook: Codebook, e: Tensor) -> None:
        if self.learned:
            codebook.e = nn.Parameter(e)
        else:
            codebook.register_buffer("e", e)

    def place(self, codebook: Codebook, e: Tensor) -> None:
        codebook.e.copy_(e)


@dataclass(frozen=True)
class EMA(_Free):
    """Codes are moving averages of their vectors (eqs. 3-5, 9-11).

    N ← γN + (1−γ)n;  m ← γm + (1−γ)s;  e = m / N. A code whose N has decayed to nothing stays
    where it is.

    Args:
        decay: γ in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    decay: float = 0.99
    learned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_decay(self.decay)

    def step(self, codebook: Codebook, n: Tensor, s: Tensor) -> None:
        _average(codebook, n, s, self.decay)
        used = (codebook.N > EMPTY).unsqueeze(1)
        codebook.e.copy_(torch.where(used, codebook.m / codebook.N.unsqueeze(1), codebook.e))


@dataclass(frozen=True)
class GradientLearned(_Free):
    """Codes are parameters that the codebook loss moves (van den Oord et al. 2017, eq. 3).

    N and m are kept too, for usage and the restart of dead codes.

    Args:
        decay: γ of those statistics, in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    decay: float = 0.99
    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_decay(self.decay)

    def step(self, codebook: Codebook, n: Tensor, s: Tensor) -> None:
        _average(codebook, n, s, self.decay)


@dataclass(frozen=True)
class LinearMap:
    """The codebook moves as a whole: e = b W over a frozen basis b (SimVQ, arXiv 2411.02038).

    The codebook loss moves W (d, d), which starts as the identity, so a code that no vector chose
    moves with the others. N and m are kept for usage. Such codes do not restart one by one.

    Args:
        decay: γ of those statistics, in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    decay: float = 0.99
    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_decay(self.decay)

    def hold(self, codebook: Codebook, e: Tensor) -> None:
        codebook.register_buffer("e", e)
        parametrize.register_parametrization(codebook, "e", _Map(e.shape[1]))

    def place(self, codebook: Codebook, e: Tensor) -> None:
        codebook.e = e

    def step(self, codebook: Codebook, n: Tensor, s: Tensor) -> None:
        _average(codebook, n, s, self.decay)


class _Map(nn.Module):
    """Basis (k, d) to codes (k, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim))

    def forward(self, basis: Tensor) -> Tensor:
        with torch.autocast(basis.device.type, enabled=False):
            return basis @ self.weight

    @torch.no_grad()
    def right_inverse(self, e: Tensor) -> Tensor:
        """Those codes become the basis itself."""
        self.weight.copy_(torch.eye(len(self.weight)))
        return e


@dataclass(frozen=True)
class Restart:
    """Dead codes move to encoder outputs of the current step.

    A code is dead when its N is below `threshold` times the mean N. It restarts with three times
    the N that is dead at a steady state, and m = N·e, so that it survives about log(3)/(1−γ) idle
    steps (110 at γ = 0.99).

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
                f"restart threshold: expected a share of the mean count between 0 and 1/3; "
                f"got {self.threshold}. 0.03 is a good start."
            )


def _average(codebook: Codebook, n: Tensor, s: Tensor, decay: float) -> None:
    """N ← γN + (1−γ)n;  m ← γm + (1−γ)s (eqs. 3-4)."""
    codebook.N.lerp_(n, 1 - decay)
    codebook.m.lerp_(s, 1 - decay)


def _check_decay(decay: float) -> None:
    if not 0 <= decay < 1:
        raise UserError(f"decay: expected 0 <= decay < 1; got {decay}. The paper has 0.99.")
