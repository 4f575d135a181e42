"""An exponential moving average of the weights, and of the codes that belong to them."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def moving_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """An average that follows the model; None for a decay of 0.

    Codes that are buffers are averaged too: those of the last step would belong to another
    encoder and decoder than the averaged ones. The first update copies the model.

    Args:
        model: whose parameters and floating-point buffers are averaged.
        decay: of the average per step, 0 to below 1.
    """
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
