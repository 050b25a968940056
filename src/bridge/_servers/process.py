"""What is done at the end of a process, and what servers tell about it; closes what is still open then."""

import atexit
import concurrent.futures.thread  # noqa: F401  # registers its own end first, so that ours comes before it
import functools
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from bridge._concurrency.per_process import PerProcess


class Closing(Protocol):
    """What is closed at exit."""

    def exit(self, timeout: float | None = None) -> None:
        """Close it, within a deadline of its own, and `timeout` seconds."""


# Held strongly: what nobody else refers to any more has still something to end. Any thread puts and takes, a signal
# handler looks: each is one step of a dict's own, also without the interpreter lock, and no lock is needed.
_open: Final[PerProcess[dict[Closing, Callable[[], None] | None]]] = PerProcess(dict)
# What the hooks of a server tell, by what it is called.
_told: Final[PerProcess[dict[str, int]]] = PerProcess(dict)


def register(closing: Closing, at_stop: Callable[[], None] | None = None) -> None:
    """Close `closing` at the exit of this process; and call `at_stop` as soon as the server is told to stop.

    That may be in a signal handler: it takes no lock, and waits for nothing.
    """
    _hook()
    _open.here()[closing] = at_stop


def begin_stop() -> None:
    """The server has been told to stop, and waits for what is in progress; called by its hooks, from any thread."""
    for at_stop in list(_open.here().values()):
        if at_stop is not None:
            at_stop()


def tell_threads(count: int) -> None:
    """The server handles so many requests at once in this process; called by its hooks."""
    _told.here()["threads"] = count


def server_threads() -> int | None:
    """How many requests the server handles at once in this process, where its hooks have told."""
    return _told.here().get("threads")


def unregister(closing: Closing) -> None:
    """Forget `closing`, which has been closed."""
    _open.here().pop(closing, None)


def close_all(timeout: float | None = None) -> None:
    """Close all that this process has open, in `timeout` seconds altogether where that is less than they need.

    What one leaves of its share goes to the others.
    """
    deadline = None if timeout is None else monotonic() + timeout
    closings = list(_open.here())
    for number, closing in enumerate(closings):
        share = None if deadline is None else max(deadline - monotonic(), 0.0) / (len(closings) - number)
        closing.exit(share)


@functools.cache
def _hook() -> None:
    """Have `close_all` called at the exit; a fork inherits that.

    Two threads that come first at once may both do it: what is closed is closed once.
    """
    # While executors still work, if the interpreter can call so early: an application's cleanup may need a thread, and
    # threads that are no daemons are joined before atexit.
    call_at_shutdown(close_all)
    early = getattr(threading, "_register_atexit", None)
    if early is not None:
        early(close_all)
    atexit.register(close_all)


def call_at_shutdown(function: Callable[[], None]) -> None:
    """Have a server that announces its shutdown to Python call `function` then.

    mod_wsgi 6.1 does, while threads still run. When atexit functions are called in a sub-interpreter, the state of its
    other threads has been deleted: one of them that wakes up then ends the process with a segmentation fault.
    """
    subscribe = getattr(sys.modules.get("mod_wsgi"), "subscribe_shutdown", None)
    if subscribe is not None:
        subscribe(lambda *_, **__: function())


def why_threads_stand_still() -> str | None:
    """Why no thread of Python runs while no request is served, where that is so.

    uWSGI before 2.0.27 holds the interpreter lock then, unless it was given `--enable-threads`: of a ticker of 50 ms,
    one tick was seen in a second between two requests, with 2.0.21.
    """
    if getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return None
    return "uWSGI lets no thread run between requests; start it with --enable-threads"
