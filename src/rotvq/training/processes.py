"""What the processes of one run agree on."""

from __future__ import annotations

import signal
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from rotvq.errors import UserError
from rotvq.training.config import TrainingConfig
from rotvq.training.interrupt import Interrupt

AGREE_EVERY = 16
"""Steps between the moments at which several processes agree on whether to stop."""


def share(options: TrainingConfig, processes: int) -> int:
    """Images of a batch for each process.

    Raises:
        UserError: the batch does not divide into processes and micro-batches.
    """
    size, rest = divmod(options.batch_size, processes)
    if rest or size % (options.micro_batch_size or size):
        raise UserError(
            f"training.batch_size: expected micro-batch x accumulation x processes; got "
            f"{options.batch_size} for {processes} processes and micro-batches of "
            f"{options.micro_batch_size or 'any size'}."
        )
    return size


def check_shared(accelerator: Accelerator, folder: Path, seen: int) -> None:
    """See that all processes found the same in a folder; waits for all of them.

    Args:
        accelerator: of this process.
        folder: of the run.
        seen: a number for what this process found there.

    Raises:
        UserError: others found something else.
    """
    found = accelerator.gather(torch.tensor([seen], device=accelerator.device))
    if (found != found[0]).any():
        raise UserError(
            f"{folder}: expected one folder that all processes see; some found a run or a "
            "checkpoint in it and others none. Give --out in a file system that all machines "
            "share."
        )


def agree_to_stop(accelerator: Accelerator, interrupt: Interrupt, step: int) -> bool:
    """Whether a signal came to any process; several processes ask only every AGREE_EVERY steps."""
    if accelerator.num_processes == 1:
        return interrupt.signal is not None
    if step % AGREE_EVERY:
        return False
    wish = torch.tensor(interrupt.signal or 0, device=accelerator.device)
    wish = accelerator.gather(wish.unsqueeze(0)).max()
    if wish and interrupt.signal is None:
        interrupt.signal = signal.Signals(int(wish))
    return bool(wish)


def hold_the_same(accelerator: Accelerator, model: nn.Module) -> bool:
    """Whether all processes hold the same model, to the bit."""
    if accelerator.num_processes == 1:
        return True
    values = [t.double().sum() for t in model.state_dict().values()]
    sums = accelerator.gather(torch.stack(values).view(torch.int64).unsqueeze(0))
    return not bool((sums != sums[0]).any())
