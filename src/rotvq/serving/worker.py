"""A worker thread, which keeps the event loop free for new requests and Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import Any, TypeVar

from rotvq.errors import UserError

T = TypeVar("T")

MOST = 100
"""Calls in the queue, at most."""


class Worker:
    """Runs one call after another. The process does not wait for its thread to end."""

    def __init__(self) -> None:
        self._calls: Queue[tuple[Callable[[], Any], asyncio.Future[Any] | None]] = Queue()
        Thread(target=self._work, name="worker", daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether a call is running or in the queue."""
        return self._calls.unfinished_tasks > 0

    def prepare(self, call: Callable[[], object]) -> None:
        """Run a call whose result nobody waits for."""
        self._calls.put((call, None))

    async def do(self, call: Callable[[], T]) -> T:
        """Run a call in the thread and return its result.

        Raises:
            UserError: the queue is full.
        """
        if self._calls.qsize() >= MOST:
            raise UserError("expected fewer requests at a time; too many are waiting. Try again.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((call, future))
        return await future

    def _work(self) -> None:
        while True:
            call, future = self._calls.get()
            result, error = None, None
            try:
                if future is None or not future.cancelled():
                    result = call()
            except BaseException as raised:
                error = raised
            self._calls.task_done()
            if future is None:
                continue
            with suppress(RuntimeError):  # the loop is closed: nobody is waiting
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(result)
