"""Threads and locks of the operating system, and ways to wait for them, even if gevent has patched `threading` so that
threads are greenlets.

The private loop has to run in a thread of the operating system: in a greenlet it would appear to be running in each
request. Such a thread cannot wake a greenlet through the patched queue, but it can through a watcher of gevent's hub.
"""

import queue
import select
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Protocol, cast

# A lock that any thread may take, held for a moment only.
Lock = AbstractContextManager[Any]


def threads_are_greenlets() -> bool:
    """Whether gevent has patched `threading` so that threads are greenlets."""
    return _gevent() is not None


class Inbox(Protocol):
    """Where one thread or greenlet waits for a token from any thread. A needless token is harmless."""

    def put(self, item: None) -> None: ...
    def get(self, *, timeout: float) -> None: ...
    def empty(self) -> bool: ...


def _gevent() -> Any:
    """Gevent's `monkey` if it has patched `threading`, otherwise None."""
    is_patched: Any = getattr(sys.modules.get("gevent.monkey"), "is_module_patched", None)
    return sys.modules["gevent.monkey"] if is_patched is not None and is_patched("threading") else None


def new_lock() -> Lock:
    """A lock of the operating system."""
    if monkey := _gevent():
        return cast(Lock, monkey.get_original("_thread", "allocate_lock")())
    return threading.Lock()


def new_inbox() -> Inbox:
    """An inbox for the thread or greenlet that calls this."""
    return _GeventInbox() if _gevent() else queue.SimpleQueue()


class _GeventInbox:
    """A watcher of gevent's hub, the only part of the hub that other threads may use."""

    def __init__(self) -> None:
        from gevent import get_hub  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
        from gevent.event import Event  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

        self._event = Event()
        # As `_event`, which the hub sets, and that only when this greenlet does not run.
        self._put = False
        self._lock = new_lock()
        self._thread = _thread_ident()
        self._loop = get_hub().loop
        self._watcher = self._loop.async_()
        self._watcher.start(self._event.set)

    def put(self, item: None) -> None:
        del item
        self._put = True
        with self._lock:
            if self._watcher is not None:
                self._watcher.send()

    def get(self, *, timeout: float) -> None:
        if not (self._put or self._event.wait(timeout)):
            raise queue.Empty
        self._put = False
        self._event.clear()

    def empty(self) -> bool:
        return not (self._put or self._event.is_set())

    def close(self) -> None:
        """Stop the watcher. The greenlet does not wait any more.

        The garbage collector may call this in any thread, and only the hub's own may stop a watcher.
        """
        with self._lock:
            watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        if _thread_ident() == self._thread:
            _stop(watcher)
        else:
            self._loop.run_callback_threadsafe(_stop, watcher)


def _stop(watcher: Any) -> None:
    watcher.stop()
    watcher.close()


def _thread_ident() -> object:
    """The identity of this thread of the operating system, under gevent."""
    return _gevent().get_original("_thread", "get_ident")()


def start_thread(main: Callable[[], None], name: str) -> object:
    """Start a thread of the operating system that runs `main`, as a daemon if daemon threads are allowed."""
    if _gevent():
        from gevent.threadpool import ThreadPool  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

        pool = ThreadPool(1)
        pool.spawn(main)
        return pool
    try:
        thread = threading.Thread(target=main, name=name, daemon=True, **in_empty_context())
        thread.start()
    except RuntimeError:
        # A sub-interpreter with its own lock allows no daemon threads. Stopping the loop at exit ends this thread.
        thread = threading.Thread(target=main, name=name, daemon=False, **in_empty_context())
        thread.start()
    return thread


def in_empty_context() -> dict[str, Any]:
    """Return extra arguments for `threading.Thread`, so that the thread begins in an empty context.

    Since Python 3.14 a thread may inherit the context of the code that starts it (`thread_inherit_context`). It would
    keep that for life, for example the user of the request that happened to need a thread.
    """
    return {"context": Context()} if sys.version_info >= (3, 14) else {}


def wait_for_input(descriptors: Sequence[int], timeout: float, outputs: Sequence[int] = ()) -> list[int]:
    """Wait until one of `descriptors` has something to read, if only the end, or one of `outputs` has room to write.
    Returns all that are ready: none after `timeout` seconds.

    Other greenlets, if there are any, can run meanwhile.
    """
    poll = select.poll()
    events = dict.fromkeys(descriptors, select.POLLIN | getattr(select, "POLLRDHUP", 0))
    for descriptor in outputs:
        events[descriptor] = events.get(descriptor, 0) | select.POLLOUT
    for descriptor, wanted in events.items():
        poll.register(descriptor, wanted)
    return [number for number, _ in poll.poll(timeout * 1000)]


def events_now(descriptor: int, events: int) -> int:
    """Return which of `events` (flags of `select.poll`) are there now. gevent's own poll does not know all of them."""
    monkey = _gevent()
    poll = (monkey.get_original("select", "poll") if monkey else select.poll)()
    poll.register(descriptor, events)
    found: list[tuple[int, int]] = poll.poll(0)
    return found[0][1] if found else 0
