"""The worker computes outside the event loop, which stays free meanwhile."""

import asyncio
import threading

import pytest

from rotvq.errors import UserError
from rotvq.serving import worker
from rotvq.serving.worker import Worker


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def test_the_event_loop_runs_while_a_call_computes():
    free = threading.Event()

    async def both():
        call = asyncio.ensure_future(Worker().do(lambda: free.wait(10)))
        await asyncio.sleep(0)  # the call is in the worker now
        free.set()
        return await call

    assert run(both()), "the call waited for the loop, and the loop for the call"


def test_calls_run_one_after_another_in_order():
    async def several():
        work, order = Worker(), []
        await asyncio.gather(*(work.do(lambda i=i: order.append(i)) for i in range(20)))
        return order

    assert run(several()) == [*range(20)]


def test_an_error_reaches_the_caller_and_the_worker_goes_on():
    async def failing():
        work = Worker()
        with pytest.raises(ZeroDivisionError, match="by zero"):
            await work.do(lambda: 1 // 0)
        return await work.do(lambda: 7)

    assert run(failing()) == 7


def test_a_full_queue_is_refused(monkeypatch):
    monkeypatch.setattr(worker, "MOST", 2)
    free = threading.Event()

    async def many():
        work = Worker()
        waiting = [asyncio.ensure_future(work.do(lambda: free.wait(10))) for _ in range(5)]
        await asyncio.sleep(0.1)
        free.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    refused = [each for each in run(many()) if isinstance(each, UserError)]
    assert refused and all("too many are waiting" in str(each) for each in refused)


def test_it_is_busy_from_the_call_to_its_end():
    async def once():
        work, free = Worker(), threading.Event()
        call = asyncio.ensure_future(work.do(lambda: free.wait(10)))
        await asyncio.sleep(0.05)
        during = work.busy
        free.set()
        await call
        return during, work.busy

    assert run(once()) == (True, False)


def test_what_is_prepared_is_done_before_the_next_call_and_its_errors_are_dropped():
    done = []

    async def prepared():
        worker = Worker()
        worker.prepare(lambda: 1 // 0)
        worker.prepare(lambda: done.append(1))
        return await worker.do(lambda: [*done, 2])

    assert run(prepared()) == [1, 2]
