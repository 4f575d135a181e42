"""Run one function in several processes and stop them together."""

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
"""Seconds between checks of the processes."""


def side_by_side(processes: int, function: Callable[[], int]) -> int:
    """Run a function in several processes; return the highest of their exit statuses.

    Each process gets an equal share of the cores. Signals are passed on to all of them, and an
    error that several of them report is printed once.

    Args:
        processes: number of processes.
        function: returns an exit status; must be picklable.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    reported = context.SimpleQueue()
    arguments = (function, threads, reported.put)
    workers = [context.Process(target=_work, args=arguments) for _ in range(processes)]
    signalled: set[int] = set()
    printed: set[str] = set()
    with Interrupt() as interrupt:
        _block_signals(True)
        try:
            for worker in workers:
                worker.start()
        finally:
            _block_signals(False)
        while any(worker.is_alive() for worker in workers):
            for worker in workers:
                worker.join(WAIT / processes)
                number, process = interrupt.signal, worker.pid
                if number and process and process not in signalled and worker.is_alive():
                    os.kill(process, number)
                    signalled.add(process)
            _print_new(reported, printed)
    _print_new(reported, printed)
    # A worker killed by signal n has exit code -n; in a shell it would be 128 + n.
    return max(
        128 - code if code < 0 else code for w in workers if (code := w.exitcode) is not None
    )


def _print_new(reported: SimpleQueue[str], printed: set[str]) -> None:
    """Print the lines that no process has reported before."""
    while not reported.empty():
        line = reported.get()
        if line not in printed:
            printed.add(line)
            complain(line)


def _work(function: Callable[[], int], threads: int, report: Callable[[str], object]) -> None:
    def run() -> int:
        import torch

        _block_signals(False)
        torch.set_num_threads(threads)
        return function()

    sys.exit(answering(run, report))


def _block_signals(block: bool) -> None:
    """Block or unblock signals; a process started meanwhile starts with them blocked.

    A Ctrl-C during an import would leave tracebacks or abort the process.
    """
    if hasattr(signal, "pthread_sigmask"):  # absent on Windows
        how = signal.SIG_BLOCK if block else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, (signal.SIGINT, signal.SIGTERM))
