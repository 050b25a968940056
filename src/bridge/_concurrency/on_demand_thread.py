"""A thread for the thread-sensitive work of one request whose own thread has left it."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from bridge._concurrency.interop import run_in_fallback_thread
from bridge._concurrency.jobs import Job, JobThread
from bridge._concurrency.pool import ThreadPool

# A wake-up cannot be lost: this only bounds the wait.
_LOOK_SECONDS: Final = 30.0

_log = logging.getLogger("bridge")


class OnDemandThread:
    """Takes a thread at the first work, and keeps it until `end`.

    Thread-sensitive code (asgiref's word, for example code with a database connection) then stays in one thread, which
    nothing else uses meanwhile. `enter` is called in it first. This is a `RequestExecutor` and a `Job`. All its state
    is changed under one lock.
    """

    # What the thread works for (a calls.OuterCall): what is called from the thread belongs to the same loop.
    call: object = None
    kind = None

    def __init__(self, pool: Callable[[], ThreadPool], enter: Callable[[], object] | None = None) -> None:
        self._pool = pool
        self._enter = enter
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._thread: JobThread | None = None
        self._taken = self._ended = False

    def submit(self, function: Callable[[], None]) -> bool:
        """Let the thread call `function`. Returns False after the end."""
        return self._put(function, last=False)

    @property
    def taken(self) -> bool:
        """Whether a thread was needed."""
        return self._taken

    def run_call(self, job: Job) -> bool:  # noqa: ARG002
        """Refuse: calls of applications get threads of their own."""
        return False

    def end(self, function: Callable[[], None]) -> bool:
        """Let the thread call `function` as its last work. Returns False if no thread was taken."""
        with self._lock:
            if not self._taken:
                self._ended = True
                return False
        return self._put(function, last=True)

    def _put(self, function: Callable[[], None], *, last: bool) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._ended = last
            self._jobs.append(function)
            first, self._taken = not self._taken, True
            thread = self._thread
        if first:
            try:
                self._pool().submit(self, eager=True)
            except RuntimeError:  # the threads are being stopped, or none can be started
                self.dropped()
        elif thread is not None:
            thread.wake()
        return True

    # -- in the thread

    def run(self, thread: JobThread) -> None:
        """Do the work as it comes."""
        with self._lock:
            self._thread = thread
        if self._enter is not None:
            try:
                self._enter()
            except BaseException:
                # The code that asked for the work waits for it, and will see whether it can be done.
                _log.exception("preparing a thread for the rest of a request raised")
        while True:
            with self._lock:
                function = self._jobs.popleft() if self._jobs else None
                if function is None and self._ended:
                    return
            if function is not None:
                function()
            else:
                thread.wait(_LOOK_SECONDS)

    def dropped(self) -> None:
        """Do the work in the fallback thread: there is no thread for it, for example because the pool was stopped."""
        with self._lock:
            self._ended = True
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:
            run_in_fallback_thread(job)
