"""The tokens that a search is at, and steps from one grid of tokens to another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rotvq.model.objective import Costs, own


@dataclass
class Grid:
    """Tokens as rows of the tables, their codes, the objective of each image, the error's gradient.

    Gradient and costs are in units in which the error has the curvature of the squared error.
    """

    indices: Int64[Tensor, "b s h w"]
    q: Float[Tensor, "b d h w"]
    objective: Float[Tensor, " b"]
    g: Float[Tensor, "b d h w"]
    costs: Costs


def dearer(last: Grid, new: Grid) -> Float[Tensor, "b h w"] | int:
    """Twice what each token's step costs: the sum of what it costs before and after the step."""
    return sum(own(each.costs, new.indices) - own(each.costs, last.indices) for each in (last, new))


def dot(a: Tensor, b: Tensor) -> Float[Tensor, "b 1 1 1"]:
    """The scalar product of two maps of each image."""
    return (a * b).sum((1, 2, 3), keepdim=True)


def better(
    indices: Tensor, objective: Tensor, best: Tensor, best_objective: Tensor
) -> tuple[Tensor, Tensor]:
    """The tokens with the lower objective, and that objective, for each image."""
    less = objective < best_objective
    found = torch.where(less[:, None, None, None], indices, best)
    return found, objective.where(less, best_objective)
