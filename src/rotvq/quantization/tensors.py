"""Input checks and layout conversions shared by all quantizers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from rotvq.errors import UserError


def channels_last(
    z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None, d: int, channel_dim: int
) -> tuple[Float[Tensor, "... d"], Bool[Tensor, " n"] | None]:
    """Move the channels of z to the end, and flatten the mask.

    Raises:
        UserError: as in `check_input`.
    """
    check_input(z, mask, d, channel_dim)
    z = z.movedim(channel_dim % z.ndim, z.ndim - 1)
    return z, None if mask is None else mask.flatten()


def check_input(
    z: Float[Tensor, "..."], mask: Bool[Tensor, "..."] | None, d: int, channel_dim: int
) -> None:
    """Check that z has d channels at `channel_dim`, and the mask the shape of the rest.

    Raises:
        UserError: z or mask has the wrong shape or dtype.
    """
    if not z.is_floating_point():
        raise UserError(f"z: expected a floating dtype; got {z.dtype}. Use z.float().")
    if not -z.ndim <= channel_dim < z.ndim or z.ndim < 2:
        raise UserError(
            f"z: expected 2 or more dimensions with channels at {channel_dim}; "
            f"got shape {tuple(z.shape)}. Set channel_dim of the quantizer."
        )
    if z.shape[channel_dim] != d:
        raise UserError(
            f"z: expected {d} channels at dimension {channel_dim}; got shape "
            f"{tuple(z.shape)}. Set dim or channel_dim of the quantizer."
        )
    if mask is None:
        return
    shape = z.shape[: channel_dim % z.ndim] + z.shape[channel_dim % z.ndim + 1 :]
    if mask.dtype != torch.bool or mask.shape != shape:
        raise UserError(
            f"mask: expected bool of shape {tuple(shape)}; got {mask.dtype} of shape "
            f"{tuple(mask.shape)}. Use True for tokens that count."
        )


def look_up(
    indices: Int64[Tensor, "..."], e: Float[Tensor, "k d"], channel_dim: int
) -> Float[Tensor, "..."]:
    """The codes of indices, with the channels at `channel_dim`; zeros for −1.

    Raises:
        UserError: as in `checked_indices`.
    """
    checked_indices(indices, len(e))
    return codes_of(indices, e, channel_dim)


def codes_of(
    indices: Int64[Tensor, "..."], e: Float[Tensor, "k d"], channel_dim: int
) -> Float[Tensor, "..."]:
    """As `look_up`, unchecked, for indices that were just found: a check waits for a GPU."""
    codes = F.embedding(indices.clamp_min(0), e)
    return channels_at(codes.where((indices >= 0).unsqueeze(-1), 0.0), channel_dim)


def channels_at(codes: Float[Tensor, "... d"], channel_dim: int) -> Float[Tensor, "..."]:
    """Codes with their last dimension moved to `channel_dim`."""
    # The legacy ONNX exporter keeps a negative dimension, which no runtime accepts.
    return codes.movedim(codes.ndim - 1, channel_dim % codes.ndim)


def mean_square(
    z: Float[Tensor, "n d"], q: Float[Tensor, "n d"], kept: Bool[Tensor, " n"] | None
) -> Float[Tensor, ""]:
    """Mean of (z − q)² over the elements of the vectors that are kept, float32; 0 for none."""
    z, q = z.float(), q.float()
    if kept is None:
        return F.mse_loss(z, q, reduction="sum") / max(1, z.numel())
    kept_too = kept.unsqueeze(1)
    total = F.mse_loss(z.where(kept_too, 0.0), q.where(kept_too, 0.0), reduction="sum")
    return total / (kept.sum() * z.shape[1]).clamp_min(1)


def checked_indices(indices: Int64[Tensor, "..."], size: int) -> Bool[Tensor, "..."]:
    """Check indices; True for those of a code, False for −1.

    Raises:
        UserError: indices have the wrong dtype, or are outside [−1, size).
    """
    if not isinstance(indices, Tensor):
        raise UserError(
            f"indices: expected a tensor; got a {type(indices).__name__}. Use "
            "torch.from_numpy(indices), or rotvq.decode_images for tokens of images."
        )
    if indices.dtype != torch.int64:
        raise UserError(f"indices: expected int64; got {indices.dtype}. Use indices.long().")
    if readable() and indices.numel():
        low, high = (int(i) for i in indices.aminmax())
        if low < -1 or high >= size:
            raise UserError(
                f"indices: expected values from 0 to {size - 1} (-1 for a masked "
                f"token); got {low} to {high}. Use the codebook that encoded them."
            )
    return indices >= 0


def whole_precision(like: Tensor) -> AbstractContextManager[object]:
    """Without autocast, so that sums and indices are those of float32."""
    device = like.device.type
    # A meta tensor has no autocast, and an exported program cannot hold one that does nothing.
    if like.is_meta or not torch.is_autocast_enabled(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def at_least_float32(z: Tensor) -> Tensor:
    """z in float32, or float64 if it is."""
    return z if z.dtype == torch.float64 else z.float()


def added(codes: Sequence[Tensor]) -> Tensor:
    """Their sum, always in the same order, so that it has the same bits."""
    return sum(codes[1:], codes[0])


def norm(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n 1"]:
    """‖x‖, summed in float64, where squares of 1e±38 are safe.

    Beyond the range of x's dtype it is the largest value: x / ‖x‖ is then too long, but finite.
    """
    wide = x.dtype if x.device.type == "mps" else torch.float64
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return length.clamp_max(torch.finfo(x.dtype).max).to(x.dtype)


def nonzero(lengths: Float[Tensor, "*n 1"]) -> Float[Tensor, "*n 1"]:
    """Lengths to divide by: 1 for 0."""
    return torch.where(lengths == 0, 1.0, lengths)


def readable() -> bool:
    """Whether code may branch on tensor values: not in a graph, nor under `torch.func`."""
    return not (torch.compiler.is_compiling() or exporting() or transformed())


def exporting() -> bool:
    """Whether `torch.export` or a trace is recording a program, which must work for any batch."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return torch.compiler.is_exporting() or tracing


def transformed() -> bool:
    """Whether a transform of `torch.func` is active: vmap, grad, jacrev."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
