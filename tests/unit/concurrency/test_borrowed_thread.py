"""The thread that waits in asgiref's `async_to_sync`: jobs run there, and it is left as it was."""

import asyncio
import threading
from typing import Any

from asgiref.sync import SyncToAsync, async_to_sync

from bridge._concurrency.borrowed_thread import borrow
from bridge._concurrency.jobs import JobThread, current
from support.waiting import Flag, bounded


class Noting:
    """A job that notes where it runs, leaves something behind there, and waits for a wake-up."""

    def __init__(self) -> None:
        self.ended = Flag()
        self.ident = 0
        self.seen: list[Any] = []

    def run(self, thread: JobThread) -> None:
        self.ident = threading.get_ident()
        self.seen = [current.thread is thread, thread.wait(0.0), "test_borrowed_thread" in thread.describe()]
        thread.wake()
        self.seen.append(thread.wait(5.0))
        SyncToAsync.threadlocal.main_event_loop = "left behind"
        self.ended.set()

    def dropped(self) -> None:
        raise AssertionError("the thread was there")


def test_a_job_runs_in_the_thread_that_waits() -> None:
    """It can wait there, and what it leaves in the thread is taken away."""
    job = Noting()
    found: list[Any] = []

    async def main() -> bool:
        borrowed = borrow(job)
        await job.ended.waited()
        return borrowed

    def test() -> None:
        found.append(async_to_sync(main)())
        found.append(threading.get_ident() == job.ident)
        found.append(getattr(SyncToAsync.threadlocal, "main_event_loop", None))
        found.append(current.thread)

    bounded(test)

    assert found == [True, True, None, None]
    assert job.seen == [True, False, True, True]


def test_where_no_thread_waits_none_is_borrowed() -> None:
    """The loop runs by itself; the job is somebody else's to run."""

    async def main() -> bool:
        return borrow(Noting())

    assert bounded(lambda: asyncio.run(main())) is False
