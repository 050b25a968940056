"""The end of a process: what servers say about it, and closing what is still open."""

import atexit
import concurrent.futures.thread  # noqa: F401  # registers its own end first, so that ours comes before it
import functools
import signal
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from bridge._concurrency.per_process import PerProcess
from bridge._types import Environ


class Closing(Protocol):
    """What is closed at exit."""

    def exit(self, timeout: float | None = None) -> None:
        """Close it, within a deadline of its own, and `timeout` seconds."""


# Held strongly: what nobody else refers to any more has still something to end. Any thread puts and takes, a signal
# handler looks: each is one step of a dict's own, also without the interpreter lock, and no lock is needed.
_open: Final[PerProcess[dict[Closing, Callable[[], None] | None]]] = PerProcess(dict)
# What the hooks of a server tell.
_threads: Final[PerProcess[dict[str, int]]] = PerProcess(dict)
_stops: Final[PerProcess[dict[str, Callable[[], bool]]]] = PerProcess(dict)


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
    _threads.here()["all"] = count


def server_threads() -> int | None:
    """How many requests the server of this thread or greenlet handles at once in this process; None if unknown."""
    if (told := _threads.here().get("all")) is not None:
        return told
    settings: Any = getattr(_gunicorn_worker(), "cfg", None)
    kind = getattr(settings, "worker_class_str", "")
    if kind == "gthread":
        return whole(settings.threads)
    if kind.startswith("gevent"):
        return whole(settings.worker_connections)
    return whole(getattr(getattr(_gevent_server(), "pool", None), "size", None))


def whole(value: Any) -> int | None:
    """The whole number that a setting of a server is; None where it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def tell_stop(stops: Callable[[], bool]) -> None:
    """`stops` says whether the server of this process has been told to stop; called by its hooks."""
    _stops.here()["all"] = stops


def stop_of(environ: Environ) -> Callable[[], bool] | None:
    """What says whether the server of this request has been told to stop, and waits for it; None where nothing does.

    It is made in the thread of the request, and may be called in any.
    """
    channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
    if channel is not None:
        dispatcher = getattr(getattr(channel, "server", None), "task_dispatcher", None)
        return lambda: getattr(dispatcher, "stop_count", 0) > 0
    pooled: Any = getattr(threading.current_thread(), "server", None)  # a worker of Cheroot's
    if hasattr(pooled, "ready"):
        return lambda: not pooled.ready
    if (stops := _stops.here().get("all")) is not None:
        return stops
    if (worker := _gunicorn_worker()) is not None:
        return lambda: not worker.alive  # which it is not after `max_requests` either, without a signal
    server = _gevent_server()
    return (lambda: bool(server.closed)) if hasattr(server, "closed") else None


def _gunicorn_worker() -> Any:
    """The worker of this process: its own handler of SIGTERM is a method of it. None where there is no such."""
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") else None


def _gevent_server() -> Any:
    """The server of this greenlet, whose first argument is a method of it; None where there is no such."""
    current: Any = getattr(sys.modules.get("gevent"), "getcurrent", lambda: None)()
    handle = next(iter(getattr(current, "args", None) or ()), None)
    return getattr(handle, "__self__", None)


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
    """Let a server call `function` at its shutdown, if it announces that to Python.

    mod_wsgi 6.1 does, while threads still run. When atexit functions are called in a sub-interpreter, the state of its
    other threads has been deleted: one of them that wakes up then ends the process with a segmentation fault.
    """
    subscribe = getattr(sys.modules.get("mod_wsgi"), "subscribe_shutdown", None)
    if subscribe is not None:
        subscribe(lambda *_, **__: function())


def why_threads_stand_still() -> str | None:
    """Why no Python thread runs between requests, or None.

    uWSGI before 2.0.27 holds the interpreter lock then, unless it was given `--enable-threads`: of a ticker of 50 ms,
    one tick was seen in a second between two requests, with 2.0.21.
    """
    if getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return None
    return "uWSGI lets no thread run between requests; start it with --enable-threads"
