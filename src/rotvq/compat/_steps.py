"""How a pass moves the codes: not at all, or each with a weight of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from rotvq.quantization import Quantizer, ResidualQuantizer, VectorQuantizer
from rotvq.quantization.codebook import StepWeight

Weight = Tensor | Callable[[Tensor, Tensor], Tensor]
"""(k,) or (heads, k); or a function of sums (1, k, d) and counts (1, k) that returns it."""


@contextmanager
def frozen(quantizer: Quantizer, z: Tensor, mask: Tensor | None) -> Iterator[None]:
    """Quantize as in evaluation inside; codes that still wait for data are first placed over z."""
    training = quantizer.training
    waiting = [codebook for codebook in quantizer.codebooks if not codebook.ready]
    if training and waiting:
        if isinstance(quantizer, ResidualQuantizer):  # dropout may have placed the first levels
            quantizer.place(waiting, z, mask)
        else:
            quantizer.initialize_codebook(z, mask)
    quantizer.eval()
    try:
        yield
    finally:
        quantizer.train(training)


@contextmanager
def step_afterwards(levels: Sequence[VectorQuantizer], weight: Weight | None) -> Iterator[None]:
    """Let the codebooks take their step at the end, perhaps scaled by a weight for each code."""
    if not levels[0].training:
        yield
        return
    for level in levels:
        level.defer_update = True
    try:
        yield
    finally:
        for level in levels:
            level.defer_update = False
    for head, level in enumerate(levels):
        level.update_codebook(None if weight is None else _own(weight, head))


def _own(weight: Weight, head: int) -> StepWeight:
    """The weight of the codes of one codebook, or a function of its counts and sums."""
    if callable(weight):
        return lambda n, s: weight(s.unsqueeze(0), n.unsqueeze(0)).reshape(-1)
    return weight if weight.ndim == 1 else weight[head]
