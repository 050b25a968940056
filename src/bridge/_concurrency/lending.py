"""A thread that waits for a task, and meanwhile does what belongs to the same request.

That is what asgiref calls thread-sensitive, and a WSGI application further in: crossing twice comes home.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from bridge._concurrency import interop
from bridge._concurrency.calls import Call
from bridge._concurrency.greenlets import Lock
from bridge._concurrency.interrupts import is_interrupt
from bridge._concurrency.jobs import Host, Job, current


class LendingThread:
    """The thread of `_host`, and as the host of what it does meanwhile: a `Host` and a `Lender`."""

    # One is made for each request: what most never need exists here only.
    # Work of the request was done in the thread, and more may come until the task ends.
    sensitive = False
    job: Job | None = None
    since = 0.0
    loop: object = None
    tasks: list[Any] = []  # noqa: RUF012  # a list of its own is set with `loop`
    _jobs: deque[Callable[[], None] | Call] | None = None
    _released = False
    _call: Call | None = None
    _lent = _busy = _nudged = False
    # The thread-locals of the server's own, while there are others.
    _before: Sequence[object] | None = None

    _host: Host
    _lock: Lock

    # -- in the thread

    def wait(self, timeout: float) -> bool:
        """Wait for a nudge, and do what else the request needs meanwhile; a call that runs here does so."""
        self._nudged = False
        return self._serve_task() or self._rest(timeout)

    def describe(self) -> str:
        """The thread's name, and where it is now."""
        return self._host.describe()

    def _rest(self, timeout: float) -> bool:
        return self._host.wait(timeout)

    def _serve(self) -> bool:
        """Do one piece of work of the request, if there is any."""
        if self._serve_task():
            return True
        call = self._call
        # Each piece goes to the server before the next is made (PEP 3333, "Buffering and Streaming").
        if call is None or (call.on_the_way and not call.gone):
            return False
        self._go_on(call.cut if call.gone else call.advance)
        return True

    def _serve_task(self) -> bool:
        """As `_serve`, but nothing of the call, which is what asks."""
        if not self._jobs:
            return False
        if self._before is None:
            self._before = interop.save()
        job = self._jobs.popleft()
        if isinstance(job, Call):
            self._begin(job)
            return True
        before, self._busy = self._busy, True
        try:
            job()
        finally:
            self._busy = before
        return True

    def _begin(self, call: Call) -> None:
        self.job = self._call = call
        self.since = monotonic()
        call.on_finish = self._forget
        self._go_on(lambda: call.begin(self))

    def _go_on(self, step: Callable[[], object]) -> None:
        """Let the call take a step. Raises what a signal has raised meanwhile, which is for the server."""
        host, current.host = current.host, self
        call, self._busy = self._call, True
        try:
            step()
        finally:
            self._busy = False
            current.host = host
        if call is not None and call.error is not None and is_interrupt(call.error):
            raise call.error

    def _forget(self) -> None:
        """The call is about to tell the loop that it has ended, which may lend this thread again at once."""
        self._call = self.job = None
        self._busy = self._lent = False

    def _leave(self) -> None:
        """The thread leaves: what it would have done later is done elsewhere, what it has begun is ended."""
        self._released = True
        if self._jobs is not None:
            with self._lock:
                jobs, self._jobs = self._jobs, None
            for job in jobs or ():
                if isinstance(job, Call):
                    _give_to_worker(job)
                else:
                    interop.run_elsewhere(job)
        try:
            if self._call is not None:
                self._call.gone = True
                self._go_on(self._call.cut)
        finally:
            if self._before is not None:
                interop.restore(self._before)
                self._before = None

    # -- from any thread, on the loop as a rule

    def nudge(self) -> None:
        """End the wait of the thread."""
        self._host.nudge()

    def run_here(self, job: Callable[[], None]) -> bool:
        """Have the thread run `job`; False where it waits no longer."""
        self.sensitive = True
        return self._put(job)

    def lend(self, job: Job) -> bool:
        """Have the thread run a call; False where it has something else to do."""
        if self._busy or self._lent or not isinstance(job, Call):
            return False
        self._lent = True
        return self._put(job)

    def _put(self, job: Callable[[], None] | Call) -> bool:
        with self._lock:
            if self._jobs is None:
                self._jobs = deque()
            self._jobs.append(job)
            if self._released:
                # The thread has left, and looks for jobs once after it has said so; not for this one.
                self._jobs.pop()
                return False
        self._nudge()
        return True

    def _nudge(self) -> None:
        if not self._nudged:
            self._nudged = True
            self._host.nudge()


def _give_to_worker(call: Call) -> None:
    call.patient = True
    try:
        call.side.threads.submit(call, eager=True)
    except RuntimeError:
        call.dropped()
