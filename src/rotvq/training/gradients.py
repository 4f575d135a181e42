"""Gradients between the backward pass and the optimizer: clipping and loss scaling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def clip(modules: Sequence[nn.Module], largest: float) -> Tensor:
    """Clip the gradient norm of the first module to `largest`, unless that is 0.

    The others are discriminators: only Adam updates them, and clipping would undo the
    gradient penalty, which is large but comes in few steps.

    Returns:
        The norm before, plus those of the other modules.
    """
    model, *others = modules
    norm = nn.utils.clip_grad_norm_(model.parameters(), largest) if largest else _norm(model)
    for module in others:
        norm = norm + _norm(module)
    return norm


def _norm(module: nn.Module) -> Tensor:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """A loss scaler that skips steps with non-finite gradients, without waiting for the device.

    Only fp16 needs the scaling. In other precisions the scale is 1: it would grow after more steps
    than any run has, and the backoff factor is so close to 1 that the product rounds to 1.
    """
    if precision == "fp16":
        return torch.amp.GradScaler(device.type)
    return torch.amp.GradScaler(
        device.type, init_scale=1.0, growth_interval=2**31 - 1, backoff_factor=1 - 1e-12
    )
