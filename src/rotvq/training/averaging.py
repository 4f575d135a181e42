"""An exponential moving average of the weights, and of the codes that belong to them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

_Tensors = tuple[Tensor, ...] | list[Tensor]


def moving_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """An average that follows the model; None for a decay of 0.

    Codes that are buffers are averaged too: those of the last step would belong to another
    encoder and decoder than the averaged ones. Integer buffers, such as the levels of a fixed grid,
    follow the model as they are. The first update copies the model.

    Args:
        model: the model whose parameters and floating-point buffers are averaged.
        decay: decay of the average per step, 0 to below 1.
    """
    if not decay:
        return None
    mean = get_ema_multi_avg_fn(decay)

    def update(averages: _Tensors, values: _Tensors, updates: Tensor | int) -> None:
        """Update tensors of one dtype; torch's own function truncates integers."""
        if averages[0].is_floating_point():
            mean(averages, values, updates)
            return
        for average, value in zip(averages, values, strict=True):
            average.copy_(value)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
