"""The end of a process: what servers say about it, and how everything that is open gets closed."""

import atexit
import concurrent.futures.thread  # noqa: F401  # registers its exit function first, so that ours is called before it
import functools
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol

from bridge._concurrency.per_process import PerProcess
from bridge._types import Environ


class Closing(Protocol):
    """Something to close at exit."""

    def exit(self, timeout: float | None = None) -> None:
        """Close it, within its own deadline and within `timeout` seconds."""


# Strong references: something that nobody else refers to any more still has to be closed. Any thread adds and removes
# entries, and a signal handler reads them. Each is a single operation of a dict, atomic even without the interpreter
# lock, so no lock is needed.
_open: Final[PerProcess[dict[Closing, Callable[[], None] | None]]] = PerProcess(dict)
# What the server's hooks have told us.
_threads: Final[PerProcess[dict[str, int]]] = PerProcess(dict)
_stops: Final[PerProcess[dict[str, Callable[[], bool]]]] = PerProcess(dict)


def register(closing: Closing, at_stop: Callable[[], None] | None = None) -> None:
    """Close `closing` when this process exits, and call `at_stop` as soon as the server is told to stop.

    `at_stop` may be called in a signal handler, so it must neither take a lock nor wait.
    """
    _hook()
    _open.here()[closing] = at_stop


def begin_stop() -> None:
    """Note that the server was told to stop and waits for open requests. Its hooks call this, from any thread."""
    for at_stop in list(_open.here().values()):
        if at_stop is not None:
            at_stop()


def tell_threads(count: int) -> None:
    """Note that the server handles `count` requests at once in this process. Its hooks call this."""
    _threads.here()["all"] = count


def server_threads() -> int | None:
    """How many requests the server of this thread or greenlet handles at once in this process. None if unknown."""
    if (told := _threads.here().get("all")) is not None:
        return told
    if (count := threads_of_gunicorn(_gunicorn_worker())) is not None:
        return count
    return whole(getattr(getattr(_gevent_server(), "pool", None), "size", None))


def threads_of_gunicorn(worker: Any) -> int | None:
    """How many requests a worker of Gunicorn handles at once. None if unknown.

    By its class and those that it inherits from: its setting may be a name, a path, or a class of the project.
    """
    modules = {kind.__module__ for kind in type(worker).__mro__}
    settings = getattr(worker, "cfg", None)
    if "gunicorn.workers.gthread" in modules:
        return whole(getattr(settings, "threads", None))
    if "gunicorn.workers.ggevent" in modules:
        return whole(getattr(settings, "worker_connections", None))
    return None


def whole(value: Any) -> int | None:
    """The setting of a server as a whole number. None if it is not one."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def tell_stop(stops: Callable[[], bool]) -> None:
    """Note that `stops()` says whether the server of this process was told to stop. Its hooks call this."""
    _stops.here()["all"] = stops


def stop_of(environ: Environ) -> Callable[[], bool] | None:
    """A function that says whether the server was told to stop, and waits for this request. None if nothing says so.

    Called in the thread of the request. The result may be called in any thread.
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
        return lambda: not worker.alive  # `alive` is also false after `max_requests`, without a signal
    server = _gevent_server()
    return (lambda: bool(server.closed)) if hasattr(server, "closed") else None


def _gunicorn_worker() -> Any:
    """Gunicorn's worker of this process, which is found through its handler of SIGTERM. None if there is none."""
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return worker if hasattr(worker, "alive") else None


def _gevent_server() -> Any:
    """Gevent's server of this greenlet, found through the greenlet's first argument. None if there is none."""
    current: Any = getattr(sys.modules.get("gevent"), "getcurrent", lambda: None)()
    handle = next(iter(getattr(current, "args", None) or ()), None)
    return getattr(handle, "__self__", None)


def unregister(closing: Closing) -> None:
    """Forget `closing`, which has been closed."""
    _open.here().pop(closing, None)


def close_all(timeout: float | None = None) -> None:
    """Close everything that is open in this process, within `timeout` seconds altogether, if a limit is given.

    Time that one of them does not need goes to the others.
    """
    deadline = None if timeout is None else monotonic() + timeout
    closings = list(_open.here())
    for number, closing in enumerate(closings):
        share = None if deadline is None else max(deadline - monotonic(), 0.0) / (len(closings) - number)
        closing.exit(share)


@functools.cache
def _hook() -> None:
    """Have `close_all` called at exit, also in forked processes.

    Two threads may do this at the same time. That is harmless: everything is closed only once.
    """
    # Before executors are shut down, if the interpreter can call so early: an application's cleanup may need a thread.
    # Besides, threads that are not daemons are joined before atexit.
    call_at_shutdown(close_all)
    early = getattr(threading, "_register_atexit", None)
    if early is not None:
        # It raises while the interpreter waits for threads that are not daemons. These may still get requests.
        with suppress(RuntimeError):
            early(close_all)
    atexit.register(close_all)


def call_at_shutdown(function: Callable[[], None]) -> None:
    """Let a server call `function` at its shutdown, if it announces that to Python.

    mod_wsgi 6.1 does so while threads still run. When a sub-interpreter calls its atexit functions, the state of its
    other threads has already been deleted: if one of them then wakes up, the process ends with a segmentation fault.
    """
    subscribe = getattr(sys.modules.get("mod_wsgi"), "subscribe_shutdown", None)
    if subscribe is not None:
        subscribe(lambda *_, **__: function())


def why_threads_stand_still() -> str | None:
    """Why no Python thread runs between requests, or None.

    uWSGI before 2.0.27 then holds the interpreter lock, unless it has `--enable-threads`. With 2.0.21, a thread that
    ticks every 50 ms ticked once in a second between two requests.
    """
    if getattr(sys.modules.get("uwsgi"), "has_threads", True):
        return None
    return "uWSGI lets no thread run between requests; start it with --enable-threads"
