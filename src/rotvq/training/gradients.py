"""Gradients between the backward pass and the optimizer: their norm, and whether they are any."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def clip(model: nn.Module, largest: float) -> Tensor:
    """The norm of all gradients together; they are shortened to `largest`, where that is not 0."""
    if largest:
        return nn.utils.clip_grad_norm_(model.parameters(), largest)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return nn.utils.get_total_norm(gradients)


def scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """What leaves a step out where gradients are not finite, without asking the device for it.

    It scales the loss for fp16 alone: elsewhere its scale is 1, never grows in any run's time, and
    a factor this close to 1 rounds to no change.
    """
    if precision == "fp16":
        return torch.amp.GradScaler(device.type)
    return torch.amp.GradScaler(
        device.type, init_scale=1.0, growth_interval=2**31 - 1, backoff_factor=1 - 1e-12
    )
