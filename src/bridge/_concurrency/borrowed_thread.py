"""A thread that waits in asgiref's `async_to_sync`, for code that has to run in exactly this thread.

An async test of Django's `TestCase` is an example: its rows are in the transaction of this thread's connection.
"""

import threading
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from bridge._concurrency.jobs import Job, describe, thread_name


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
        """Wait for `wake`. Returns False after `timeout` seconds without one."""
        try:
            self._inbox.get(timeout=timeout)
        except Empty:
            return False
        return True

    def describe(self) -> str:
        """Return the name of the thread and its current stack."""
        return describe(thread_name(self._ident), self._ident)
