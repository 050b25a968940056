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
        """End the wait of the thread, if it is in one; from any thread. A needless call is harmless."""

    def wait(self, timeout: float) -> bool:
        """Wait for `wake`; False after `timeout` seconds without one. In the thread itself."""
        ...

    def describe(self) -> str:
        """Return the name of the thread and the stack that it is at now."""
        ...


class RequestExecutor(Protocol):
    """Runs what belongs to one request in that request's own thread, which waits for it anyway."""

    def run_call(self, job: "Job") -> bool:
        """Run `job` in the waiting thread. Returns False if that thread has something else to do."""
        ...

    def submit(self, function: Callable[[], None]) -> bool:
        """Call `function` in the waiting thread, whatever else it does. Returns False if it does not wait any more."""
        ...


# Set in the context of a task for which a thread waits: the way of nested adapters back into the request's own thread.
request_executor: ContextVar[RequestExecutor | None] = ContextVar("bridge_request_executor", default=None)


class _Current(threading.local):
    """What a thread knows of itself."""

    thread: JobThread | None = None
    prepare: Callable[[], None] | None = None


# `thread`: the job thread that this thread is, where it is one. `prepare`: what has to be done in a thread that is none
# before async code runs for it (see interop.prepare_async).
current = _Current()


def thread_name(ident: int) -> str:
    """Return the name of the thread with this identity."""
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), str(ident))


def describe(name: str, ident: int | None) -> str:
    """Return the name of a thread and the stack that it is at now."""
    frame = sys._current_frames().get(ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else "  (it has ended)\n"
    return f"thread {name} is at\n{stack}"


class PoolClosed(RuntimeError):
    """The pool does not take jobs: it is being stopped, or was stopped before there was a thread for the job."""
