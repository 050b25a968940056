"""One worker of a pool: what its thread does, and how it waits."""

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol

from bridge._host import Job, current, describe

_log = logging.getLogger("bridge")

# Called in each thread of ours at its end, to close what belongs to a thread: database connections, say.
at_end: set[Callable[[], object]] = set()


class Employer(Protocol):
    """Where a worker gets its jobs."""

    def start(self, workers: "list[Worker]") -> object:
        """Start the threads of new workers; those that cannot be started are forgotten."""

    def next_job(self, worker: "Worker", now: float, *, done: bool) -> Job | None:
        """The next job for `worker`, which waits for one; None when it has to end."""


class Worker:
    """One thread of a pool."""

    def __init__(self, threads: "Employer") -> None:
        self.job: Job | None = None
        self.since = 0.0
        self.looked = self.computed = 0.0
        self.loop: object = None
        self.tasks: list[Any] = []
        # Workers whose threads this one is to start.
        self.siblings: list[Worker] = []
        self.inbox: SimpleQueue[None] = SimpleQueue()
        self._threads = threads
        self.thread: threading.Thread

    def wake(self) -> None:
        """Let it look for work (or start it). Raises `RuntimeError` where no thread can be started."""
        if self.thread.ident is None:
            self.thread.start()
        else:
            self.inbox.put(None)

    def nudge(self) -> None:
        """End the wait of the thread."""
        self.inbox.put(None)

    def wait(self, timeout: float) -> bool:
        """Wait for a nudge."""
        try:
            self.inbox.get(timeout=timeout)
        except Empty:
            return False
        return True

    def describe(self) -> str:
        """The thread's name, and where it is now."""
        return describe(self.thread.name, self.thread.ident)

    def main(self) -> None:
        """What its thread does."""
        current.host = self
        threads = self._threads
        if self.siblings:
            threads.start(self.siblings)
            self.siblings = []
        job = threads.next_job(self, monotonic(), done=False)
        while job is not None:
            try:
                job.run(self)
            except BaseException:
                # A mistake of ours; it must not cost the pool a thread for good.
                _log.exception("%s goes on after a job that has broken off", self.thread.name)
            self.job = job = None  # the job's objects must not live until the next one comes
            job = threads.next_job(self, monotonic(), done=True)
        for function in tuple(at_end):
            try:
                function()
            except BaseException:
                _log.exception("the end of %s raised", self.thread.name)
