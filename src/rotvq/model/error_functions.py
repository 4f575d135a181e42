"""Errors of reconstructions, which a search for tokens lowers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from rotvq.errors import UserError

ErrorFunction = Callable[[Float[Tensor, "b c i j"], Float[Tensor, "b c i j"]], Float[Tensor, " b"]]
"""Maps reconstructions and images to the error of each; differentiable by the reconstruction."""

_PROBE = 0.1
"""Change of the pixels, in [-1, 1], that the curvature of an error function is measured over."""


def squared_error(
    reconstruction: Float[Tensor, "b c i j"], x: Float[Tensor, "b c i j"]
) -> Float[Tensor, " b"]:
    """The sum of squared differences of each image."""
    return (reconstruction - x).square().sum((1, 2, 3))


def within(rows: slice, columns: slice, error: ErrorFunction = squared_error) -> ErrorFunction:
    """The error of some rows and columns."""
    return lambda y, x: error(y[..., rows, columns], x[..., rows, columns])


def checked(error: ErrorFunction) -> ErrorFunction:
    """Wrap an error function so that its results are checked.

    Raises:
        UserError: when called, if the error is not one number for each image, or has no gradient.
    """

    def checked_error(y: Tensor, x: Tensor) -> Tensor:
        errors = error(y, x)
        if errors.shape != x.shape[:1]:
            raise UserError(
                f"error: expected an error of each image, of shape ({len(x)},); got "
                f"{tuple(errors.shape)}. Sum over pixels and channels, not over images."
            )
        if y.requires_grad and not errors.requires_grad:
            raise UserError(
                "error: expected a function that is differentiable with respect to the "
                "reconstruction; got one without a gradient. Compute it with torch, and without "
                "detach() or no_grad()."
            )
        return errors

    return checked_error


def relative_curvature(
    error: ErrorFunction, y: Float[Tensor, "b c i j"], x: Float[Tensor, "b c i j"]
) -> Float[Tensor, "b 1 1 1"]:
    """Curvature of an error relative to that of the squared error of the same pixels.

    Args:
        error: the error of each image.
        y: reconstructions to measure at.
        x: images.

    Returns:
        1 where the curvature is not positive.
    """
    v = torch.randint(2, y.shape[1:], generator=torch.Generator().manual_seed(0)).to(y)
    v = _PROBE * (2 * v - 1)
    with torch.enable_grad():
        ends = [(y + side * v / 2).requires_grad_() for side in (-1, 1)]
        low, high = (torch.autograd.grad(error(end, x).sum(), end)[0] for end in ends)
    squares = v.square() * ((low != 0) | (high != 0))
    dims = (1, 2, 3)
    second = ((high - low) * v).sum(dims, True) / (2 * squares.sum(dims, True))
    return second.where(second > 0, 1.0)
