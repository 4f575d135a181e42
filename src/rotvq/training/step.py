"""One step of training; on a GPU, recorded once as a CUDA graph and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rotvq.training import gradients, processes
from rotvq.training.run import TrainingRun

EAGER_STEPS = 3
"""Steps before the recording: they compile kernels and create the moments of the optimizer."""

Outcome = tuple[list[Tensor], Tensor]
"""The losses of the micro-batches and the norm of the gradient, scalars."""


def take(run: TrainingRun[Any, Any], batch: Tensor) -> Outcome:
    """Forward, backward, optimizer and codebook."""
    options, state, scaler = run.options, run.state, run.state.scaler
    losses: list[Tensor] = []
    parts = batch.split(options.micro_batch_size or run.share)
    for number, part in enumerate(parts, start=1):
        last = number == len(parts)
        with processes.accumulate(run.accelerator, run.wrapped, last):
            loss = run.loss(part)
            scaler.scale(loss / len(parts)).backward()
        losses.append(loss.detach())

    # The scaler skips the optimizer's step if a gradient is not finite. A codebook moves anyway: it
    # ignores vectors that are not finite.
    scaler.unscale_(state.optimizer)
    norm = gradients.clip(state.trained, options.gradient_clip)
    scaler.step(state.optimizer)
    scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    run.after_step()
    return losses, norm


class Step:
    """Takes the steps of a run.

    Launching the kernels of a small model takes a GPU's host longer than running them takes the
    GPU. A graph launches all of them at once. Hooks of modules and optimizer run when it is
    recorded, not when it is replayed.

    Args:
        run: the run; its steps are recorded once they are `repeatable`.
    """

    def __init__(self, run: TrainingRun[Any, Any]) -> None:
        self.run, self.taken = run, 0
        self.replay: Callable[[], None] | None = None

    def __call__(self, batch: Tensor) -> Outcome:
        """Take a step with the samples of a batch."""
        if self.replay is None:
            self.taken += 1
            if not self.run.repeatable or self.taken <= EAGER_STEPS:
                return take(self.run, batch)
            self.batch = batch.clone()
            self.replay, self.outcome = cuda_graph(lambda: take(self.run, self.batch))
        self.batch.copy_(batch)
        self.replay()
        losses, norm = self.outcome
        return [loss.clone() for loss in losses], norm.clone()


def cuda_graph(work: Callable[[], Outcome]) -> tuple[Callable[[], None], Outcome]:
    """Record work as a CUDA graph, which runs at each replay, not now.

    Returns:
        What replays it, and the tensors that each replay fills.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outcome = work()
    return graph.replay, outcome
