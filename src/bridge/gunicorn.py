"""Server hooks for Gunicorn, so that a worker with open streams runs its shutdown before it is killed.

In the configuration file (`gunicorn.conf.py`):

    from bridge.gunicorn import post_worker_init, worker_exit

Without them, a worker that is told to stop waits for open requests during the whole `graceful_timeout`, and is killed
at the end of this time. So with an endless stream, the app's lifespan shutdown does not run. With them, the worker
waits for two thirds of the time. In the last third, the streams see that their client has left, and the app's lifespan
shutdown runs. (This does not work for the sync worker, which serves in the thread that would have to wait.)

With every worker class, WebSockets are closed with 1012 as soon as the worker is told to stop: their clients connect
again anyway. (Without the hooks, the adapter looks for the stop four times a second.)
"""

import signal
from types import FrameType
from typing import Any

from bridge._servers import process

# The part of the last third that the exit itself may take.
_EXIT_SHARE = 0.25

__all__ = ["post_worker_init", "worker_exit"]


def post_worker_init(worker: Any) -> None:
    """The Gunicorn hook of this name: keep a third of `graceful_timeout` (seconds) to end open requests.

    SIGTERM then closes WebSockets as well, before Gunicorn's own handler is called.
    """
    grace = worker.cfg.graceful_timeout
    reserve = grace / 3
    worker.bridge_reserve = reserve
    # Only in this process: the arbiter, which kills workers, uses the configured value.
    worker.cfg.set("graceful_timeout", int(grace - reserve))
    if (threads := process.threads_of_gunicorn(worker)) is not None:
        process.tell_threads(threads)  # told here, since the adapter finds the worker through its handler of SIGTERM
    process.tell_stop(lambda: not worker.alive)
    _close_websockets_on_sigterm()


def _close_websockets_on_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return  # the ASGI worker handles signals in its own way

    def handler(number: int, frame: FrameType | None) -> None:
        process.begin_stop()
        before(number, frame)

    signal.signal(signal.SIGTERM, handler)
    # As in Gunicorn: the signal does not interrupt requests.
    signal.siginterrupt(signal.SIGTERM, False)


def worker_exit(server: Any, worker: Any) -> None:
    """The Gunicorn hook of this name: end open requests, and run the shutdown of the apps, within the last third."""
    del server
    reserve = getattr(worker, "bridge_reserve", None)
    # Without a value, the worker has not been started, and there is nothing to end.
    if reserve is not None:
        process.close_all(reserve * (1 - _EXIT_SHARE))
