"""A thread for the thread-sensitive work of one request whose own thread has left it."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from bridge._concurrency.calls import Call
from bridge._concurrency.interop import run_elsewhere
from bridge._concurrency.jobs import Host, Job
from bridge._concurrency.pool import Threads

# One nudge too few cannot be: this only bounds the wait.
_LOOK: Final = 30.0

_log = logging.getLogger("bridge")


class Lease:
    """Takes a thread at the first work, and keeps it until `end`.

    What asgiref calls thread-sensitive (a database connection, say) then stays in one thread, and is nobody else's
    meanwhile. `enter` is called in it before all else. It is a `Lender` and a `Job`.
    """

    # The call that the request was: what is called from the thread belongs to the same loop.
    call: object = None

    def __init__(self, threads: Callable[[], Threads], enter: Callable[[], object] | None = None) -> None:
        self._threads = threads
        self._enter = enter
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._host: Host | None = None
        self._taken = self._ended = False

    def run_here(self, job: Callable[[], None]) -> bool:
        """Have the thread call `job`; False after the end."""
        return self._put(job, last=False)

    @property
    def taken(self) -> bool:
        """Whether a thread was needed."""
        return self._taken

    def lend(self, job: Job) -> bool:  # noqa: ARG002
        """Calls of WSGI applications get threads of their own."""
        return False

    def end(self, job: Callable[[], None]) -> bool:
        """Have the thread call `job` as its last work; False where none was taken."""
        with self._lock:
            if not self._taken:
                self._ended = True
                return False
        return self._put(job, last=True)

    def _put(self, job: Callable[[], None], *, last: bool) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._ended = last
            self._jobs.append(job)
            first, self._taken = not self._taken, True
            host = self._host
        if first:
            try:
                self._threads().submit(self, eager=True)
            except RuntimeError:  # the threads are being stopped, or none can be started
                self.dropped()
        elif host is not None:
            host.nudge()
        return True

    # -- in the thread

    def run(self, host: Host) -> None:
        """Do the work as it comes."""
        with self._lock:
            self._host = host
        if self._enter is not None:
            try:
                self._enter()
            except BaseException:
                # Whoever asked for the work waits for it, and will see whether it can be done.
                _log.exception("preparing a thread for the rest of a request raised")
        while True:
            with self._lock:
                job = self._jobs.popleft() if self._jobs else None
                if job is None and self._ended:
                    return
            if job is not None:
                job()
            else:
                host.wait(_LOOK)

    def dropped(self) -> None:
        """There is no thread for it, since the threads were stopped, say: its work is done elsewhere."""
        with self._lock:
            self._ended = True
            jobs = list(self._jobs)
            self._jobs.clear()
        for job in jobs:
            run_elsewhere(job)


def call_of(host: Host | None) -> Call | None:
    """The call that the thread of `host` works for, where there is one."""
    job = None if host is None else host.job
    call = job.call if isinstance(job, Lease) else job
    return call if isinstance(call, Call) else None
