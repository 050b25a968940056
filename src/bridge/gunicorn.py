"""Server hooks for Gunicorn, so that live streams do not keep a worker from its shutdown until it is killed.

In the configuration file (`gunicorn.conf.py`):

    from bridge.gunicorn import post_worker_init, worker_exit

Without them, a worker that is told to stop waits all of `graceful_timeout` for live requests, and is killed at the end
of that same time: an endless stream then costs the app its lifespan shutdown. With them the worker waits two thirds of
it. In the last third the streams see that their client has left, and the app's lifespan shutdown is run. (Not for the
sync worker, which serves in the very thread that would wait.)

WebSockets are closed with 1012 at the signal itself, with every worker: their clients connect again anyway. (Without
the hooks the adapter looks for the stop four times a second.)
"""

import signal
from types import FrameType
from typing import Any

from bridge._servers import process

# Of the reserve, what exiting itself may take.
_EXIT_SHARE = 0.25

__all__ = ["post_worker_init", "worker_exit"]


def post_worker_init(worker: Any) -> None:
    """Gunicorn's hook of that name: keep a third of `graceful_timeout` (seconds) for the end of what is still live.

    SIGTERM then closes WebSockets as well, before Gunicorn's own handler is called.
    """
    grace = worker.cfg.graceful_timeout
    reserve = grace / 3
    worker.bridge_reserve = reserve
    # That of this process only: the arbiter, which kills, keeps to what was configured.
    worker.cfg.set("graceful_timeout", int(grace - reserve))
    if getattr(worker.cfg, "worker_class_str", "") == "gthread":
        process.tell_threads(worker.cfg.threads)
    process.tell_stop(lambda: not worker.alive)
    _close_websockets_on_sigterm()


def _close_websockets_on_sigterm() -> None:
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return  # the ASGI worker has its own way to take signals

    def handler(number: int, frame: FrameType | None) -> None:
        process.begin_stop()
        before(number, frame)

    signal.signal(signal.SIGTERM, handler)
    # As Gunicorn has it: the signal interrupts no request.
    signal.siginterrupt(signal.SIGTERM, False)


def worker_exit(server: Any, worker: Any) -> None:
    """Gunicorn's hook of that name: end what is still live, and run the shutdown of the apps, within the reserve."""
    del server
    reserve = getattr(worker, "bridge_reserve", None)
    # Without one the worker has not been started: there is nothing to end.
    if reserve is not None:
        process.close_all(reserve * (1 - _EXIT_SHARE))
