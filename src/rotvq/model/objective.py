"""What a search for tokens minimizes: the error of an image plus the cost of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.model.error_functions import ErrorFunction

Costs = tuple[Float[Tensor, "b h w k"], ...]
"""The cost of each code at each position, up to a constant, with all other tokens as they are; one
for each index of a token, none where tokens cost nothing."""

Rate = Callable[[Int64[Tensor, "b s h w"]], tuple[Float[Tensor, " b"] | int, Costs]]
"""Maps tokens to the cost of each image, in units of the error, and to the costs of all codes."""


def free_of_charge(indices: Int64[Tensor, "b s h w"]) -> tuple[int, Costs]:
    """The rate of tokens that cost nothing."""
    return 0, ()


def own(costs: Costs, indices: Int64[Tensor, "b s h w"]) -> Float[Tensor, "b h w"] | int:
    """The costs of the tokens at their positions."""
    if not costs:
        return 0
    pairs = zip(costs, indices.unbind(1), strict=True)
    return sum(each.gather(3, rows.unsqueeze(3)).squeeze(3) for each, rows in pairs)


@dataclass(frozen=True)
class Objective:
    """The sum of an error and a rate."""

    error: ErrorFunction
    rate: Rate

    def __call__(
        self,
        y: Float[Tensor, "b c i j"],
        x: Float[Tensor, "b c i j"],
        indices: Int64[Tensor, "b s h w"],
    ) -> Float[Tensor, " b"]:
        """Evaluate it for reconstructions y of images x with these tokens."""
        return self.error(y, x) + self.rate(indices)[0]
