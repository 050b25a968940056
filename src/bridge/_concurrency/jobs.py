"""Interfaces between worker threads and the jobs that run in them."""

import sys
import threading
import traceback
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, Protocol


class Job(Protocol):
    """What a worker runs."""

    @property
    def kind(self) -> Hashable:
        """What it has in common with other jobs that take about as long, or None if that is not known."""

    def run(self, thread: "JobThread") -> None:
        """Run in `thread`; must not raise."""

    def dropped(self) -> None:
        """Called instead of `run` if the pool was closed for good before a worker was free."""


class JobThread(Protocol):
    """The thread that a job runs in, as the job sees it."""

    job: Job | None
    since: float
    # The loop whose thread-locals are set in this thread (see interop), and the tasks there that the thread waits for.
    loop: object
    tasks: list[Any]

    def wake(self) -> None:
        """End the wait of the thread, if it waits. From any thread. A needless call is harmless."""

    def wait(self, timeout: float) -> bool:
        """Wait for `wake`. Returns False after `timeout` seconds without one. In the thread itself."""
        ...

    def describe(self) -> str:
        """Return the name of the thread and its current stack."""
        ...


class RequestExecutor(Protocol):
    """Runs what belongs to one request in that request's own thread, which waits for it anyway."""

    def run_call(self, job: "Job") -> bool:
        """Run `job` in the waiting thread. Returns False if that thread has something else to do."""
        ...

    def submit(self, function: Callable[[], None]) -> bool:
        """Call `function` in the waiting thread, even if it has other work. Returns False if it no longer waits."""
        ...


# Set in the context of a task that a thread waits for. Nested adapters use it to return to the request's own thread.
request_executor: ContextVar[RequestExecutor | None] = ContextVar("bridge_request_executor", default=None)


class _Current(threading.local):
    """What a thread knows about itself."""

    thread: JobThread | None = None
    prepare: Callable[[], None] | None = None


# `thread`: this thread as a `JobThread`, if it is one. `prepare`: what any other thread has to call before async code
# runs for it (see interop.prepare_async).
current = _Current()


def thread_name(ident: int) -> str:
    """Return the name of the thread with this identity."""
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), str(ident))


def describe(name: str, ident: int | None) -> str:
    """Return the name of a thread and its current stack."""
    frame = sys._current_frames().get(ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else "  (it has ended)\n"
    return f"thread {name} is at\n{stack}"


class PoolClosed(RuntimeError):
    """The pool does not take jobs: it is being stopped, or was stopped before there was a thread for the job."""
