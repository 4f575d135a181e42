"""Gradient estimators: how the gradient crosses the quantizer, one function (z, q) -> q̃ each.

Symbols: z an encoder vector (the paper's z_e), q its code, g the gradient with respect to q̃, hats
for unit vectors, λ = ‖q‖/‖z‖. Forward, every discrete estimator returns q exactly. Backward, each
is a linear map of g that treats z and q as constants (sg[·] in the paper):

    straight_through           g                          (van den Oord et al. 2017; eq. 8)
    rescaling                  λ g
    rotation_without_rescaling Rᵀ g
    rotation                   λ Rᵀ g                     (Fifty et al., arXiv 2410.06424, §4.2)
    lifted_rotation            the same in d + 1 dimensions, where z and q share a last coordinate

    R = I − 2 r rᵀ + 2 q̂ ẑᵀ,   r = (ẑ + q̂) / ‖ẑ + q̂‖     rotates ẑ onto q̂ within their plane

Where that is undefined:

- z = 0 or q = 0 has no direction: R = I. For z = 0, λ = 1; for q = 0 and z ≠ 0, λ = 0.
- ẑ = −q̂ defines no plane. Where ‖ẑ + q̂‖ < ANTIPARALLEL, r is set to 0, which leaves
  R = I + 2 q̂ ẑᵀ: at exact opposition the reflection I − 2 ẑ ẑᵀ, orthogonal and still ẑ ↦ q̂.
  Above the threshold, float32 computes r to within 1e-4. The same rule covers d = 1.
- λ is at most LAMBDA_MAX, and for a finite g the gradient is clamped to the finite range of z's
  dtype.

Everything is computed in float32 (float64 for float64 inputs), under autocast too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rotvq.errors import UserError
from rotvq.names import EstimatorName
from rotvq.quantization.backend import kernels_for
from rotvq.quantization.tensors import nonzero, norm, readable

BLOCK = 1 << 17
"""Elements that a CPU processes at a time in the backward pass: 512 KiB in float32."""

LIFT = 2.0
"""Distance of the lifted rotation's origin from the space of the codes, in lengths of the code."""

_SAFE = (1e-15, 1e15)
"""Norms that a sum of squares in float32 gives with full precision."""

Estimator = Callable[[Tensor, Tensor], Tensor]
GradientMap = Callable[[Tensor, Tensor, Tensor], Tensor]

LAMBDA_MAX = 1e4
"""Largest λ: a vector 10,000 times shorter than its code has hardly a direction of its own."""

ANTIPARALLEL = 1e-3
"""‖ẑ + q̂‖ below which float32 no longer resolves the plane of the rotation (0.06° from π)."""


def straight_through(z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Copy the gradient past the quantizer (van den Oord et al. 2017).

    Args:
        z: encoder vectors, any floating dtype.
        q: their codes.

    Returns:
        q in z's dtype, with gradient g for z and none for q.
    """
    return _Discrete.apply(z, q, _identity)


def rotation(z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Rotate and rescale the gradient as z is rotated and rescaled onto q (arXiv 2410.06424, §4.2).

    Args:
        z: encoder vectors, any floating dtype.
        q: their codes.

    Returns:
        q in z's dtype, with gradient λRᵀg for z and none for q. The top of the module lists the
        fallbacks.
    """
    return _Discrete.apply(z, q, _rotate_and_rescale)


def rotation_without_rescaling(
    z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n d"]:
    """The rotation alone: q in z's dtype, with gradient Rᵀg for z and none for q."""
    return _Discrete.apply(z, q, _rotate)


def rescaling(z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """The rescaling alone: q in z's dtype, with gradient λg for z and none for q."""
    return _Discrete.apply(z, q, _rescale)


def lifted_rotation(z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """The rotation as seen from a point outside the space of the codes.

    z and q get one more coordinate, LIFT·‖q‖, so the angle between them shrinks with their
    distance. A lift of 0 gives the rotation, an infinite one straight-through.

    Args:
        z: encoder vectors, any floating dtype.
        q: their codes.

    Returns:
        q in z's dtype, with the first d elements of λRᵀ(g, 0) for z and none for q.
    """
    return _Discrete.apply(z, q, _lift_and_rotate)


def reflection(z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """The transform of the paper's released code: not discrete, kept as a baseline.

    A Householder reflection maps z onto the direction of q without rescaling; the gradient is
    straight-through. The value is ‖z‖ q̂, not q: the norm of z leaks past the codebook, so decoding
    the indices differs from the forward pass.

    Args:
        z: encoder vectors, any floating dtype.
        q: their codes.

    Returns:
        ‖z‖ q̂ in z's dtype, with gradient g for z and none for q.
    """
    return _Reflect.apply(z, q)


ESTIMATORS: dict[str, Estimator] = {name: globals()[name] for name in get_args(EstimatorName)}


def by_name(name: str) -> Estimator:
    """The estimator with that name.

    Raises:
        UserError: there is none.
    """
    if name not in ESTIMATORS:
        raise UserError(
            f"estimator: expected one of {', '.join(ESTIMATORS)}; got {name!r}. Choose one of them "
            "or pass a function (z, q) -> q̃."
        )
    return ESTIMATORS[name]


class _Discrete(torch.autograd.Function):
    """Forward, the code itself; backward, a linear map of the gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, q: Tensor, gradient_map: GradientMap) -> Tensor:
        return q.to(z.dtype, copy=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, GradientMap], output: Tensor) -> None:
        z, q, ctx.gradient_map = inputs
        if ctx.gradient_map is not _identity:
            ctx.save_for_backward(z, q)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        if ctx.gradient_map is _identity:
            return g, None, None
        z, q = (t.detach() for t in ctx.saved_tensors)
        with torch.autocast(device_type=z.device.type, enabled=False):
            return _in_blocks(ctx.gradient_map, z, q, g), None, None


class _Reflect(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, q: Tensor) -> Tensor:
        work = torch.float64 if z.dtype == torch.float64 else torch.float32
        z_work, q_work = z.to(work), q.to(work)
        return (norm(z_work) * (q_work / nonzero(norm(q_work)))).to(z.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return g, None


def _in_blocks(gradient_map: GradientMap, z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    """Apply the map in float32, on a CPU a few rows at a time, so that they stay in its cache."""
    kernels = kernels_for(z)
    if kernels is not None and gradient_map in _WITH_KERNEL and z.numel():
        flat = (t.reshape(-1, z.shape[-1]).contiguous() for t in (z, q, g))
        return kernels.rotate(*flat, ANTIPARALLEL, _WITH_KERNEL[gradient_map]).view_as(z)
    work = torch.float64 if z.dtype == torch.float64 else torch.float32
    finite = torch.finfo(z.dtype)

    # With gradients on, this backward pass is differentiated too.
    eager = z.device.type == "cpu" and readable() and not torch.is_grad_enabled()

    def mapped(z: Tensor, q: Tensor, g: Tensor) -> Tensor:
        out = gradient_map(z.to(work), q.to(work), g.to(work))
        if eager and (done := out.to(z.dtype)).sum(dtype=work).isfinite():
            return done
        # A gradient that has overflowed must stay so, for a loss scaler to see it.
        return out.clamp(finite.min, finite.max).where(g.isfinite(), g).to(z.dtype)

    if not eager or z.ndim != 2:
        return mapped(z, q, g)
    rows = max(1, BLOCK // z.shape[1])
    result = z.new_empty(z.shape)
    for out, *block in zip(*(t.split(rows) for t in (result, z, q, g)), strict=True):
        out.copy_(mapped(*block))
    return result


def _identity(z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    return g


def _rescale(z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    return _lambda(norm(z), norm(q)) * g


def _rotate(z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    return _turn(z, q, g, _quick_norm(z), _quick_norm(q))


def _rotate_and_rescale(z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    z_norm, q_norm = _quick_norm(z), _quick_norm(q)
    return _turn(z, q, g, z_norm, q_norm).mul_(_lambda(z_norm, q_norm))


_WITH_KERNEL: dict[GradientMap, float] = {_rotate: 0.0, _rotate_and_rescale: LAMBDA_MAX}
"""Maps that a kernel computes too, and its bound on λ."""


def _lift_and_rotate(z: Tensor, q: Tensor, g: Tensor) -> Tensor:
    last = (LIFT * norm(q)).clamp_max(torch.finfo(q.dtype).max)
    z, q, g = (torch.cat([t, end], -1) for t, end in ((z, last), (q, last), (g, 0 * last)))
    return _rotate_and_rescale(z, q, g)[..., :-1]


def _turn(z: Tensor, q: Tensor, g: Tensor, z_norm: Tensor, q_norm: Tensor) -> Tensor:
    """Rᵀg = g − 2 r (r·g) + 2 ẑ (q̂·g), with r = s / ‖s‖ and s = ẑ + q̂."""
    z_hat, q_hat = z / nonzero(z_norm), q / nonzero(q_norm)
    s = z_hat + q_hat
    s_norm = _quick_norm(s)
    directed = (z_norm > 0) & (q_norm > 0)
    along_s = _dot(s, g) / s_norm.clamp_min(ANTIPARALLEL).square()
    along_s = torch.where(directed & (s_norm >= ANTIPARALLEL), along_s, 0.0)
    along_q = torch.where(directed, _dot(q_hat, g), 0.0)
    return torch.addcmul(torch.addcmul(g, s, along_s, value=-2), z_hat, along_q, value=2)


def _lambda(z_norm: Tensor, q_norm: Tensor) -> Tensor:
    return torch.where(z_norm == 0, 1.0, (q_norm / nonzero(z_norm)).clamp_max(LAMBDA_MAX))


def _quick_norm(x: Tensor) -> Tensor:
    """`norm` to a few roundings, in a fifth of its time where squares are safe in float32."""
    if x.is_cpu and x.numel() and readable():
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        least, most = length.aminmax()
        if _SAFE[0] < least and most < _SAFE[1]:
            return length
    return norm(x)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)
