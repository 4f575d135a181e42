"""Where vectors and codes are compared: in the whole space, or on the unit sphere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rotvq.errors import UserError
from rotvq.names import MetricName
from rotvq.quantization.estimators import BLOCK
from rotvq.quantization.tensors import nonzero, norm, readable

Metric = Callable[[Tensor], Tensor]
"""Maps vectors (..., d) to where they are compared by their Euclidean distance."""


def euclidean(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """x itself."""
    return x


def cosine(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """x at unit length, where the nearest code is the one with the largest cosine.

    Used for codes and vectors alike by ViT-VQGAN (Yu et al., arXiv 2110.04627, §3.2) and LlamaGen
    (arXiv 2406.06525). A vector of zeros, which has no direction, becomes the first axis, and gets
    no gradient.

    Args:
        x: any floating dtype.

    Returns:
        Float32 (float64 for float64), with the gradient of the normalization.
    """
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    unit: Tensor = _Unit.apply(x.to(work))[0]
    return unit


METRICS: dict[str, Metric] = {name: globals()[name] for name in get_args(MetricName)}


def metric_named(name: str) -> Metric:
    """The metric with that name.

    Raises:
        UserError: there is none.
    """
    if name not in METRICS:
        raise UserError(f"metric: expected {' or '.join(METRICS)}; got {name!r}.")
    return METRICS[name]


class _Unit(torch.autograd.Function):
    """x / ‖x‖ in one pass, and its gradient (g − x̂ (x̂·g)) / ‖x‖ from x̂ alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        length = norm(x)
        # The inverse of a subnormal length is infinite.
        length = length.masked_fill(length < torch.finfo(length.dtype).tiny, 0.0)
        unit = (x / nonzero(length)).masked_fill(length == 0, 0.0)
        unit[..., :1] += length == 0
        return unit, length

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor) -> Tensor:
        unit, norm = ctx.saved_tensors
        scale = torch.where(norm == 0, 0.0, 1 / norm)
        # With gradients on, this backward pass is differentiated too.
        if not (unit.is_cpu and unit.ndim == 2 and readable()) or torch.is_grad_enabled():
            along = (unit * g).sum(-1, keepdim=True)
            return torch.addcmul(g, unit, along, value=-1) * scale
        # A few rows at a time stay in the cache.
        out = torch.empty_like(unit)
        rows = max(1, BLOCK // unit.shape[1])
        for u, s, arrived, result in zip(
            *(t.split(rows) for t in (unit, scale, g, out)), strict=True
        ):
            along = (u * arrived).sum(1, keepdim=True).mul_(s)
            torch.mul(arrived, s, out=result).addcmul_(u, along, value=-1)
        return out
