"""Several processes doing the same, stopped together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue

from rotvq.cli.main import answering, complain
from rotvq.training.interrupt import Interrupt

WAIT = 0.2
"""Seconds between two looks at the processes."""


def side_by_side(processes: int, function: Callable[[], int]) -> int:
    """Run a function in several processes at once; returns the worst of their exit statuses.

    Each gets its share of the processor's cores. A signal is passed on to all of them, and what
    several of them complain of is said once.

    Args:
        processes: how many.
        function: returns an exit status; must be importable and its arguments picklable.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    said = context.SimpleQueue()
    arguments = (function, threads, said.put)
    workers = [context.Process(target=_work, args=arguments) for _ in range(processes)]
    told: set[int] = set()
    heard: set[str] = set()
    with Interrupt() as interrupt:
        _hold_signals(True)
        try:
            for worker in workers:
                worker.start()
        finally:
            _hold_signals(False)
        while any(worker.is_alive() for worker in workers):
            for worker in workers:
                worker.join(WAIT / processes)
                number, process = interrupt.signal, worker.pid
                if number and process and process not in told and worker.is_alive():
                    os.kill(process, number)
                    told.add(process)
            _repeat(said, heard)
    _repeat(said, heard)
    # A worker killed by signal n has exit code -n, which a shell calls 128 + n.
    return max(
        128 - code if code < 0 else code for w in workers if (code := w.exitcode) is not None
    )


def _repeat(said: SimpleQueue[str], heard: set[str]) -> None:
    """Print what no process has said before."""
    while not said.empty():
        line = said.get()
        if line not in heard:
            heard.add(line)
            complain(line)


def _work(function: Callable[[], int], threads: int, say: Callable[[str], object]) -> None:
    def run() -> int:
        import torch

        _hold_signals(False)
        torch.set_num_threads(threads)
        return function()

    sys.exit(answering(run, say))


def _hold_signals(hold: bool) -> None:
    """Let signals wait, or come again; a process started meanwhile begins with them waiting.

    A Ctrl-C in the midst of an import would leave tracebacks, or abort the process.
    """
    if hasattr(signal, "pthread_sigmask"):  # Windows has it not.
        how = signal.SIG_BLOCK if hold else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, (signal.SIGINT, signal.SIGTERM))
