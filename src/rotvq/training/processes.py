"""The processes of one run: how they share a batch, and what they agree on."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn

from rotvq.errors import UserError
from rotvq.training import environment
from rotvq.training.config import OptimizationConfig
from rotvq.training.interrupt import Interrupt

AGREE_EVERY = 16
"""Steps after which several processes agree on whether to stop."""


def make_accelerator(options: OptimizationConfig) -> Accelerator:
    """This process's accelerator, which chooses the device."""
    # An earlier run of this program may have been on another device.
    AcceleratorState._reset_state(reset_partial_state=not dist.is_initialized())
    # All processes update their codebooks identically, so no buffer has to be broadcast.
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False)]
    # Without a GPU, accelerate joins the processes only with an explicit request for the CPU.
    cpu = options.device == "cpu" or environment.default_device().type == "cpu"
    # The loop has an autocast of its own: accelerate's would wrap the model's evaluation too.
    return Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)


def wrap(accelerator: Accelerator, model: nn.Module) -> nn.Module:
    """The model, wrapped so that processes exchange gradients; a single one needs no wrapper."""
    with warnings.catch_warnings():
        # Newer versions of torch rename the argument; older ones do not know the new name.
        warnings.filterwarnings("ignore", ".broadcast_buffers. is deprecated", FutureWarning)
        return accelerator.prepare_model(model)


def accumulate(
    accelerator: Accelerator, wrapped: nn.Module, last: bool
) -> AbstractContextManager[Any]:
    """Exchange gradients in the backward pass of the last micro-batch alone."""
    return nullcontext() if last else accelerator.no_sync(wrapped)


def share(options: OptimizationConfig, processes: int) -> int:
    """Number of images of each batch that one process gets.

    Raises:
        UserError: the batch does not divide into processes and micro-batches.
    """
    size, rest = divmod(options.batch_size, processes)
    if rest or size % (options.micro_batch_size or size):
        raise UserError(
            f"training.batch_size: expected a multiple of the micro-batch size times the number of "
            f"processes; got {options.batch_size} for {processes} processes and micro-batches of "
            f"{options.micro_batch_size or 'any size'}. Choose another batch size."
        )
    return size


def check_shared(accelerator: Accelerator, folder: Path, seen: int) -> None:
    """Check that all processes found the same content in a folder; waits for all of them.

    Args:
        accelerator: this process's accelerator.
        folder: the run folder.
        seen: a number that stands for what this process found.

    Raises:
        UserError: another process found something else.
    """
    found = accelerator.gather(torch.tensor([seen], device=accelerator.device))
    if (found != found[0]).any():
        raise UserError(
            f"{folder}: expected one folder that all processes see; some found a run or a "
            "checkpoint in it and others none. Give --out in a file system that all machines "
            "share."
        )


def agree_to_stop(accelerator: Accelerator, interrupt: Interrupt, step: int) -> bool:
    """Whether any process received a signal; several processes ask every `AGREE_EVERY` steps."""
    if accelerator.num_processes == 1:
        return interrupt.signal is not None
    if step % AGREE_EVERY:
        return False
    received = torch.tensor([interrupt.signal or 0], device=accelerator.device)
    received = accelerator.gather(received).max()
    if received and interrupt.signal is None:
        interrupt.signal = signal.Signals(int(received))
    return bool(received)


def hold_equal_models(accelerator: Accelerator, models: Sequence[nn.Module]) -> bool:
    """Whether the models of all processes are bit-identical."""
    if accelerator.num_processes == 1:
        return True
    values = [t.double().sum() for model in models for t in model.state_dict().values()]
    sums = accelerator.gather(torch.stack(values).view(torch.int64).unsqueeze(0))
    return not bool((sums != sums[0]).any())
