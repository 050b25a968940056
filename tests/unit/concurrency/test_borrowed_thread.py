"""`borrow`: the thread that waits in `async_to_sync` runs what has to run in that very thread."""

import asyncio
import threading
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from bridge._concurrency import interop
from bridge._concurrency.borrowed_thread import BorrowedThread
from bridge._concurrency.interop import borrow
from bridge._concurrency.jobs import JobThread, current
from support.waiting import PATIENCE, Flag


class Probe:
    """A job that notes where it runs, and waits until it is woken if it is to."""

    def __init__(self, *, waits: bool = False, error: Exception | None = None) -> None:
        self.ident = 0
        self.thread: JobThread | None = None
        self.woken: list[bool] = []
        self.begun, self.ended = Flag(), Flag()
        self._waits, self._error = waits, error

    def run(self, thread: JobThread) -> None:
        self.ident, self.thread = threading.get_ident(), thread
        assert current.thread is thread
        self.begun.set()
        if self._waits:
            self.woken.append(thread.wait(PATIENCE))
        thread.loop = interop.SyncToAsync.threadlocal.main_event_loop = object()
        self.ended.set()
        if self._error is not None:
            raise self._error

    def dropped(self) -> None:
        raise AssertionError("a thread was there for it")


def waiting(job: Any, then: Any) -> bool:
    """Borrow this thread for `job` from a task that it waits for; `then` is awaited there before the task ends."""

    async def task() -> bool:
        borrowed = borrow(job)
        await then()
        return borrowed

    return async_to_sync(task)()


def test_the_job_runs_in_the_thread_that_waits() -> None:
    """And that thread is afterwards what it was before: asgiref finds in it what it did."""
    job = Probe()
    before = interop.save()

    assert waiting(job, job.ended.waited)
    assert threading.get_ident() == job.ident
    assert current.thread is None
    assert before == interop.save()


def test_the_thread_is_left_as_it_was_also_by_a_job_that_raises() -> None:
    job = Probe(error=LookupError("planned"))
    before = interop.save()

    assert waiting(job, job.ended.waited)
    assert current.thread is None
    assert before == interop.save()


def test_a_job_waits_in_it_until_it_is_woken() -> None:
    """From the loop, which goes on meanwhile; and it can be asked where it is."""
    job = Probe(waits=True)
    described = []

    async def then() -> None:
        await job.begun.waited()
        thread = job.thread
        assert isinstance(thread, BorrowedThread)
        described.append(thread.describe())
        thread.wake()
        await job.ended.waited()

    assert waiting(job, then)
    assert [True] == job.woken
    assert f"thread {threading.current_thread().name} is at\n" in described[0]


def test_a_wait_ends_with_its_time() -> None:
    """False says that nobody has called; a call that came first is not lost."""
    thread = BorrowedThread(Probe())

    assert not thread.wait(0.001)
    thread.wake()
    assert thread.wait(PATIENCE)


def test_where_nobody_waits_nothing_is_borrowed() -> None:
    """A task of a loop's own, whose caller has to find a thread elsewhere."""

    async def task() -> bool:
        return borrow(Probe())

    assert not asyncio.run(asyncio.wait_for(task(), PATIENCE))


def test_a_thread_that_waits_no_longer_is_not_borrowed() -> None:
    """The task has outlived the call that it was made in."""
    left, outcome = Flag(), []

    async def outlives() -> None:
        await left.waited()
        outcome.append(borrow(Probe()))

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []

        async def makes() -> None:
            tasks.append(asyncio.ensure_future(outlives()))

        await sync_to_async(async_to_sync(makes))()
        left.set()
        await tasks[0]

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert [False] == outcome
