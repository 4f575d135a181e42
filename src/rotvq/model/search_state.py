"""The state of a search, and comparisons of two states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.model.objective import Costs, Objective, own


@dataclass
class SearchState:
    """Tokens (as rows of the tables), their codes, each image's objective and the error's gradient.

    Gradient and costs are in units in which the error has the curvature of the squared error.
    """

    indices: Int64[Tensor, "b s h w"]
    q: Float[Tensor, "b d h w"]
    objective: Float[Tensor, " b"]
    g: Float[Tensor, "b d h w"]
    costs: Costs


class Decodes(Protocol):
    """A model that decodes tokens."""

    def decode(self, indices: Int64[Tensor, "..."]) -> Float[Tensor, "b c i j"]: ...


def as_rows(indices: Int64[Tensor, "b h w *levels"]) -> Int64[Tensor, "b s h w"]:
    """Tokens as rows of the tables, one for each of their s indices."""
    each = indices.flatten(3) if indices.ndim > 3 else indices.unsqueeze(3)
    return each.movedim(3, 1)


def improved(
    model: Decodes,
    objective: Objective,
    x: Float[Tensor, "b c i j"],
    found: Int64[Tensor, "b h w *levels"],
    first: Int64[Tensor, "b h w *levels"],
) -> Int64[Tensor, "b h w *levels"]:
    """The tokens found, where they lower the objective as the model decodes them, or the first."""
    after, before = (
        objective(model.decode(each).float(), x.float(), as_rows(each)) for each in (found, first)
    )
    return torch.where((after < before).view(-1, *[1] * (first.ndim - 1)), found, first)


def added_cost(last: SearchState, new: SearchState) -> Float[Tensor, "b h w"] | int:
    """Twice the cost that each token's step adds: at prices before it plus at those after it."""
    return sum(own(each.costs, new.indices) - own(each.costs, last.indices) for each in (last, new))


def dot(a: Tensor, b: Tensor) -> Float[Tensor, "b 1 1 1"]:
    """The scalar product of two maps, for each image."""
    return (a * b).sum((1, 2, 3), keepdim=True)


def better(
    indices: Tensor, objective: Tensor, best: Tensor, best_objective: Tensor
) -> tuple[Tensor, Tensor]:
    """The tokens with the lower objective, and that objective, for each image."""
    less = objective < best_objective
    found = torch.where(less[:, None, None, None], indices, best)
    return found, objective.where(less, best_objective)
