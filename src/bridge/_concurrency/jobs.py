"""The thread that something is done in: what is done, who waits there, and who can lend it."""

import sys
import threading
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol


class Job(Protocol):
    """What a worker runs."""

    def run(self, host: "Host") -> None:
        """Runs in the host's thread; must not raise."""

    def dropped(self) -> None:
        """Called instead of `run` where the pool was closed for good before a worker was free."""


class Host(Protocol):
    """The thread that a job runs in, as the job sees it."""

    job: Job | None
    since: float
    # The loop whose thread-locals are set in this thread (see _interop), and the tasks there that the thread waits for.
    loop: object
    tasks: list[Any]

    def nudge(self) -> None:
        """End the wait of the thread, if it is in one; from any thread. One too many is harmless."""

    def wait(self, timeout: float) -> bool:
        """Wait for a nudge; False after `timeout` seconds without one. In the thread itself."""
        ...

    def describe(self) -> str:
        """The name of the thread and where it is now."""
        ...


class Lender(Protocol):
    """A task for which a thread waits anyway, and which can lend that thread."""

    def lend(self, job: "Job") -> bool:
        """Run `job` in the waiting thread; False where that thread has something else to do."""
        ...

    def run_here(self, job: Callable[[], None]) -> bool:
        """Call `job` in the waiting thread, whatever else it does; False where it waits no longer."""
        ...


# Set in the context of a task that can lend its thread (crossing twice comes home).
lender: ContextVar[Lender | None] = ContextVar("bridge_lender", default=None)


class _Current(threading.local):
    host: Host | None = None


# The host whose thread this is.
current = _Current()


def thread_name(ident: int) -> str:
    """The name of the thread with this identity."""
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), str(ident))


def describe(name: str, ident: int | None) -> str:
    """The name of a thread and where it is now."""
    frame = sys._current_frames().get(ident or 0)
    stack = "".join(traceback.format_stack(frame)) if frame else "  (it has ended)\n"
    return f"thread {name} is at\n{stack}"


class PoolClosed(RuntimeError):
    """The threads are being stopped, or were before there was one for the job."""
