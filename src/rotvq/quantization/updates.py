"""How codes move: the rules of a step, and when a dead code starts again.

Symbols: n (k,) and s (k, d) the counts and sums of a step's vectors by code; N, m their moving
averages; e the codes; γ the decay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rotvq.errors import UserError
from rotvq.quantization.processes import put, whole

if TYPE_CHECKING:
    from rotvq.quantization.state import CodebookState

Draw = Literal["uniform", "error"]

EMPTY = 1e-20
"""N below which a code counts as never used: m / N would divide rounding errors."""

BEYOND = 1.01
"""Elements above this many times 1/k are none of the uniform start, rounded to bfloat16 or not."""


@dataclass(frozen=True)
class Update:
    """How the codes follow the vectors that chose them. This one keeps N and m and moves nothing.

    Args:
        decay: γ of the moving averages, in [0, 1).

    Raises:
        UserError: decay outside [0, 1).
    """

    decay: float = 0.99
    learned: ClassVar[bool] = False
    """Whether the codebook loss moves the codes."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise UserError(
                f"decay: expected 0 <= decay < 1; got {self.decay}. The paper has 0.99."
            )

    def hold(self, codebook: CodebookState, e: Tensor) -> None:
        """Give a new codebook its codes e (k, d), as `codebook.embeddings`."""
        codebook.register_buffer("embeddings", e)

    def place(self, codebook: CodebookState, e: Tensor) -> None:
        """Put all codes at e (k, d)."""
        put(codebook.embeddings, e)

    def step(self, codebook: CodebookState, n: Tensor, s: Tensor) -> None:
        """Take in a step's counts n (k,) and sums s (k, d): N ← γN + (1−γ)n;  m ← γm + (1−γ)s."""
        codebook.cluster_size.lerp_(n, 1 - self.decay)
        codebook.embed_sum.lerp_(s, 1 - self.decay)


@dataclass(frozen=True)
class EMA(Update):
    """Codes are moving averages of their vectors (eqs. 3-5, 9-11).

    N ← γN + (1−γ)n;  m ← γm + (1−γ)s;  e = m / N. A code whose N has decayed to nothing stays
    where it is.

    N and m start at 0, so that the first vectors of a code take it to their mean: right for the
    uniform start, which means nothing. Codes that were written from outside, to
    `codebook.embeddings` or by a state without counts, are kept: the first step takes N = n (the
    mean n, where no vector came), so that γ means γ from the first step. They are known by an
    element beyond the uniform start's ±1/k; for smaller ones, and for a weight of your own, use
    `Codebook.set_codes`. Codes written over later keep their N. Arguments
    and errors as of `Update`.
    """

    def step(self, codebook: CodebookState, n: Tensor, s: Tensor) -> None:
        _follow_codes(codebook, n)
        super().step(codebook, n, s)
        used = (codebook.cluster_size > EMPTY).unsqueeze(1)
        codebook.embeddings.copy_(
            torch.where(
                used, codebook.embed_sum / codebook.cluster_size.unsqueeze(1), codebook.embeddings
            )
        )


def _follow_codes(codebook: CodebookState, n: Tensor) -> None:
    """Let N and m be those of the codes where these were written from outside."""
    e, N, m = codebook.embeddings, codebook.cluster_size, codebook.embed_sum
    given = (N == 0).all() & (e.abs().amax() > BEYOND / len(e))
    N.copy_(torch.where(given, torch.where(n > 0, n, n.mean()), N))
    # e is m / N to the last bit as long as nobody else writes it.
    moved = (N > EMPTY).unsqueeze(1) & (e != m / N.unsqueeze(1))
    m.copy_(torch.where(moved, N.unsqueeze(1) * e, m))


@dataclass(frozen=True)
class GradientLearned(Update):
    """Codes are parameters that the codebook loss moves (van den Oord et al. 2017, eq. 3).

    N and m are kept too, for usage and the restart of dead codes. Arguments and errors as of
    `Update`.
    """

    learned: ClassVar[bool] = True

    def hold(self, codebook: CodebookState, e: Tensor) -> None:
        codebook.embeddings = nn.Parameter(e)

    def place(self, codebook: CodebookState, e: Tensor) -> None:
        put(codebook.embeddings, e)
        # Within a forward pass FSDP2 holds them whole, and forgets that again.
        if codebook.shard is not None and codebook.shard is not codebook.embeddings:
            put(codebook.shard, e)


@dataclass(frozen=True)
class LinearMap(Update):
    """The codebook moves as a whole: e = b W over a frozen basis b (SimVQ, arXiv 2411.02038).

    The codebook loss moves W (d, d), which starts as the identity, so a code that no vector chose
    moves with the others. N and m are kept for usage. Such codes do not restart one by one.
    Arguments and errors as of `Update`.
    """

    learned: ClassVar[bool] = True

    def hold(self, codebook: CodebookState, e: Tensor) -> None:
        codebook.register_buffer("embeddings", e)
        parametrize.register_parametrization(codebook, "embeddings", _Map(e.shape[1]))

    def place(self, codebook: CodebookState, e: Tensor) -> None:
        # In place, as a compiled graph cannot follow an assignment to `codebook.embeddings`.
        held: Any = codebook.get_submodule("parametrizations.embeddings")
        put(held.original, held[0].right_inverse(e))


class _Map(nn.Module):
    """Basis (k, d) to codes (k, d)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(dim))

    def forward(self, basis: Tensor) -> Tensor:
        weight = whole(self.weight).float()
        # A meta tensor has no autocast, and an exported program cannot hold one that does nothing.
        if basis.is_meta or not torch.is_autocast_enabled(basis.device.type):
            return basis.float() @ weight
        with torch.autocast(basis.device.type, enabled=False):
            return basis.float() @ weight

    @torch.no_grad()
    def right_inverse(self, e: Tensor) -> Tensor:
        """Those codes become the basis itself."""
        put(self.weight, torch.eye(len(self.weight)).to(e))
        return e


@dataclass(frozen=True)
class Restart:
    """Dead codes move to encoder outputs of the current step.

    A code is dead when its N is below `threshold` times the mean N. It restarts with three times
    the N that is dead at a steady state, and m = N·e, so that it survives about log(3)/(1−γ) idle
    steps (110 at γ = 0.99).

    Args:
        threshold: share of the mean N, in (0, 1/3).
        draw: outputs to move to: "uniform", each with the same chance, or "error", with a chance
            that grows with its squared distance to its code, as k-means++ draws its seeds.

    Raises:
        UserError: threshold outside that range, or another draw.
    """

    threshold: float = 0.03
    draw: Draw = "uniform"
    grace: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 / self.grace:
            raise UserError(
                f"restart threshold: expected a share of the mean count between 0 and 1/3; "
                f"got {self.threshold}. 0.03 is a good start."
            )
        if self.draw not in get_args(Draw):
            raise UserError(
                f"restart draw: expected {' or '.join(get_args(Draw))}; got {self.draw!r}."
            )

    def dead(self, N: Tensor) -> Tensor:
        """Which codes are dead, (k,) bool: the one meaning of the word, for `health` too."""
        return self.threshold * N.mean() > N


UPDATES: dict[str, type[Update]] = {"ema": EMA, "gradient": GradientLearned, "linear": LinearMap}
"""Rules by the names they have in configurations and files."""
