"""What one adapter has on one loop: the tasks of its application, and their end."""

import logging
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from bridge._asgi_to_wsgi.lifespan import LifespanRun
from bridge._asgi_to_wsgi.task import Task
from bridge._concurrency.greenlets import new_lock
from bridge._concurrency.loops import AsyncioCrossing, Crossing, Spawn
from bridge._concurrency.private_loop import LoopFactory, PrivateLoop, TimedCrossing
from bridge._stats import Counters
from bridge._types import ASGIApp

# What an application's shutdown gets even where its tasks have used up all the time, in seconds.
LAST_SECOND: Final = 1.0

_log = logging.getLogger("bridge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The application and the options of one `AsgiToWsgi`, as its constructor describes them."""

    app: ASGIApp
    lifespan: str
    startup_timeout: float
    shutdown_timeout: float
    disconnect_grace: float
    loop_factory: LoopFactory | None
    slow_warning: float | None


class TaskSide:
    """What one adapter has on one loop. `private` is the loop where it is ours, None where it is the server's."""

    def __init__(
        self, options: Options, crossing: Crossing, private: PrivateLoop | None, spawn: Spawn | None = None
    ) -> None:
        self.crossing = crossing
        self.private = private
        self.disconnect_grace = options.disconnect_grace
        self.counters = Counters()
        self.lock = new_lock()
        self.live: set[Task] = set()
        self.lifespan: LifespanRun | None = None
        # Set once it has been closed; there while it is being closed.
        self.closed: threading.Event | None = None
        # By which the private loop knows this side.
        self.tenant: object = None
        # The application is ready for requests.
        self.started = False
        if options.lifespan != "off":
            # On trio, a task that is to last needs a nursery that does: that of the server's lifespan, if it has one.
            lasting = self.spawn if isinstance(crossing, AsyncioCrossing) else spawn
            self.lifespan = LifespanRun(options.app, crossing, lasting, demanded=options.lifespan == "on")
        self._slow_warning = options.slow_warning
        self._warned = False
        self._emptied: Any = None

    @property
    def usable(self) -> bool:
        """Whether tasks can be started here."""
        return not self.crossing.gone if self.private is None else self.private.usable

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]], context: Context) -> Callable[[], object]:
        """Start a task on an asyncio loop; on that loop."""
        assert isinstance(self.crossing, AsyncioCrossing)
        return self.crossing.spawn(function(), context).cancel

    def arrived(self) -> None:
        """The loop still runs its callbacks (see `look_after`)."""

    def look_after(self) -> None:
        """Log the stack of a loop that a callback blocks. Called by the threads that wait for it, now and then."""
        if self.private is None or self._slow_warning is None or not isinstance(self.crossing, TimedCrossing):
            return
        blocked = self.crossing.blocked_for
        if blocked <= self._slow_warning:
            self._warned = False
            if not blocked:
                self.crossing.post(self)
        elif not self._warned:
            self._warned = True
            _log.warning("the event loop has been blocked for %.1f seconds; its %s", blocked, self.private.describe())

    def task_ended(self, task: Task) -> None:
        """Forget a task; on the loop."""
        self.live.discard(task)
        if self._emptied is not None and not self.live:
            self.crossing.wake(self._emptied)

    async def end(self, timeout: float, *, at_exit: bool = False) -> None:
        """Within `timeout` seconds, let what runs end, and then the lifespan; on the loop.

        Responses that are not complete shortly before the end of that time see `http.disconnect`; at the exit of the
        process they do so at once, since then the server has already waited for them as long as it wants to.
        """
        deadline = monotonic() + timeout
        if not at_exit:
            await self._empty(timeout - min(self.disconnect_grace, timeout / 2))
        for task in list(self.live):
            if not task.over:
                task.disconnect()
        await self._empty(deadline - monotonic())
        if self.live:
            _log.warning("cancelling %d tasks of the application that do not end", len(self.live))
        for task in list(self.live):
            if task.cancel is not None:
                task.cancel()
        await self._empty(LAST_SECOND)  # their cleanup may need what the lifespan takes down
        if self.lifespan is not None:
            await self.lifespan.stop(max(deadline - monotonic(), LAST_SECOND))

    async def _empty(self, timeout: float) -> None:
        """Wait until nothing runs, `timeout` seconds at most."""
        if self.live:
            self._emptied = self.crossing.waiter()
            await self.crossing.wait_at_most(timeout, self._emptied)
