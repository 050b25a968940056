"""The server's thread of one request, as the host of what is done in it while it waits."""

import os
import queue
import threading
from typing import Any

from bridge._concurrency.greenlets import Lock, new_inbox, new_lock, wait_for_input
from bridge._concurrency.jobs import Job, describe, thread_name


class ServerThread:
    """Waits for nudges, or for nudges and the client's connection at once."""

    # It never is the host of a job itself: the task that waits in it is.
    job: Job | None = None
    since = 0.0
    loop: object = None
    tasks: list[Any] = []  # noqa: RUF012  # for the same reason it stays empty
    _pipe: tuple[int, int] | None = None
    _polling = False
    _lock: Lock

    def __init__(self) -> None:
        self._inbox = new_inbox()
        self._ident = threading.get_ident()

    def nudge(self) -> None:
        """End the wait of the thread; from any thread."""
        self._inbox.put(None)
        if self._polling:
            with self._lock:
                # Not once the thread has left: the number of a closed descriptor may be that of another one by then.
                if self._polling and self._pipe is not None:
                    os.write(self._pipe[1], b"\0")

    def wait(self, timeout: float) -> bool:
        """Wait for a nudge; False after `timeout` seconds without one."""
        try:
            self._inbox.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    def wait_readable(self, descriptor: int, timeout: float) -> bool:
        """Wait for a nudge, or until there is something to read, if only the end; False after `timeout` seconds."""
        if self._pipe is None:
            self._lock = new_lock()
            self._pipe = os.pipe()
        self._polling = True
        try:
            empty = self._inbox.empty()
            ready = wait_for_input([descriptor, self._pipe[0]], timeout) if empty else [-1]
        finally:
            with self._lock:
                self._polling = False
        while not self._inbox.empty():
            self._inbox.get(timeout=0)
        if self._pipe[0] in ready:
            os.read(self._pipe[0], 4096)
        return bool(ready)

    def release(self) -> None:
        """The thread leaves the request."""
        if self._pipe is not None:
            for end in self._pipe:
                os.close(end)
            self._pipe = None
        close = getattr(self._inbox, "close", None)
        if close is not None:
            close()

    def describe(self) -> str:
        """The thread's name, and where it is now."""
        return describe(thread_name(self._ident), self._ident)
