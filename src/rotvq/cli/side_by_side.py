"""Several processes doing the same, stopped together."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable

from rotvq.cli.main import answering
from rotvq.training.interrupt import Interrupt

WAIT = 0.2
"""Seconds between two looks at the processes."""


def side_by_side(processes: int, function: Callable[[], int]) -> int:
    """Run a function in several processes at once; returns the worst of their exit statuses.

    Each gets its share of the processor's cores. A signal is passed on to all of them.

    Args:
        processes: how many.
        function: returns an exit status; must be importable and its arguments picklable.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    workers = [context.Process(target=_work, args=(function, threads)) for _ in range(processes)]
    with Interrupt() as interrupt:
        for worker in workers:
            worker.start()
        told = False
        while any(worker.is_alive() for worker in workers):
            for worker in workers:
                worker.join(WAIT / processes)
                if interrupt.signal and not told and worker.pid and worker.is_alive():
                    os.kill(worker.pid, interrupt.signal)
            told = interrupt.signal is not None
    # A worker killed by signal n has exit code -n, which a shell calls 128 + n.
    return max(
        128 - code if code < 0 else code for w in workers if (code := w.exitcode) is not None
    )


def _work(function: Callable[[], int], threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    sys.exit(answering(function))
