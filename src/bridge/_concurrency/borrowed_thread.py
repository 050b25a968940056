"""The thread of somebody who waits in asgiref's `async_to_sync`, for what has to run in that very thread.

An async test of Django's `TestCase` is one: its rows are in the transaction of that thread's connection.
"""

import threading
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from bridge._concurrency import interop
from bridge._concurrency.jobs import Job, JobThread, current, describe, thread_name


class BorrowedThread:
    """A `JobThread` for one job. Made in the thread; the inbox is a queue, so that no wake-up is lost."""

    loop: object = None

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        self.since = monotonic()
        self.tasks: list[Any] = []
        self._inbox: SimpleQueue[None] = SimpleQueue()
        self._ident = threading.get_ident()

    def wake(self) -> None:
        """End the wait of the thread."""
        self._inbox.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait for `wake`; False after `timeout` seconds without one."""
        try:
            self._inbox.get(timeout=timeout)
        except Empty:
            return False
        return True

    def describe(self) -> str:
        """Return the name of the thread and the stack that it is at now."""
        return describe(thread_name(self._ident), self._ident)


def borrow(job: Job) -> bool:
    """Run `job` in the thread that waits in `async_to_sync` for the running task; False where there is none.

    Called on the loop. The thread is left as it was.
    """
    executor = interop.enclosing_executor()
    if executor is None:
        return False
    try:
        executor.submit(_run, job)
    except RuntimeError:  # it waits no longer
        return False
    return True


def _run(job: Job) -> None:
    before: JobThread | None = current.thread
    saved = interop.save()
    current.thread = thread = BorrowedThread(job)
    try:
        job.run(thread)
    finally:
        current.thread = before
        interop.restore(saved)
