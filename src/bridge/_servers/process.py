"""Closes what is still open when the interpreter exits."""

import atexit
import concurrent.futures.thread  # noqa: F401  # registers its own end first, so that ours comes before it
import os
import threading
from time import monotonic
from typing import Protocol

from bridge._servers.connection import call_at_shutdown


class Closing(Protocol):
    """What is closed at exit."""

    def exit(self, timeout: float | None = None) -> None:
        """Close it, within a deadline of its own, and `timeout` seconds."""


# Held strongly: what nobody else refers to any more has still something to end.
_open: dict[Closing, None] = {}
_pid = 0


def register(closing: Closing) -> None:
    """Close `closing` at exit."""
    global _pid  # noqa: PLW0603  # state of the process, as _open is
    if _pid != os.getpid():
        # A fork inherits the registration, but not what the parent had open.
        if not _pid:
            _hook()
        _pid = os.getpid()
        _open.clear()
    _open[closing] = None


def unregister(closing: Closing) -> None:
    """It has been closed."""
    _open.pop(closing, None)


def close_all(timeout: float | None = None) -> None:
    """Close all that this process has open, in `timeout` seconds altogether where that is less than they need.

    What one leaves of its share goes to the others.
    """
    if _pid == os.getpid():
        deadline = None if timeout is None else monotonic() + timeout
        closings = list(_open)
        for number, closing in enumerate(closings):
            share = None if deadline is None else max(deadline - monotonic(), 0.0) / (len(closings) - number)
            closing.exit(share)


def _hook() -> None:
    # While executors still work, if the interpreter can call so early: an application's cleanup may need a thread, and
    # threads that are no daemons are joined before atexit.
    call_at_shutdown(close_all)
    early = getattr(threading, "_register_atexit", None)
    if early is not None:
        early(close_all)
    atexit.register(close_all)
