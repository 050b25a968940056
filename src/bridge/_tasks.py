"""The tasks of one adapter: its side of each loop that they run on, in this process, with the application's
lifespan.
"""

import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any, Final

from bridge import _at_exit, _loop
from bridge._call import Call, Spawn
from bridge._crossing import AsyncioCrossing, Crossing, LoopGone
from bridge._lifespan import LifespanRun
from bridge._loop import LoopFactory, PrivateLoop, TimedCrossing
from bridge._stats import Counters, LoopStats
from bridge._task import Task
from bridge._threads import current
from bridge._types import ASGIApp

# What an application's shutdown gets even where its tasks have used up all the time, in seconds.
_LAST_SECOND: Final = 1.0

_log = logging.getLogger("bridge")


class LoopSide:
    """What one adapter has on one loop. `private` is the loop where it is ours, None where it is the server's."""

    def __init__(self, options: "Tasks", crossing: Crossing, private: PrivateLoop | None) -> None:
        self.crossing = crossing
        self.private = private
        self.disconnect_grace = options.disconnect_grace
        self.counters = Counters()
        self.lock = threading.Lock()
        self.live: set[Task] = set()
        self.lifespan: LifespanRun | None = None
        # By which the private loop knows this side.
        self.tenant: object = None
        # The application is ready for requests.
        self.started = False
        if options.lifespan != "off" and isinstance(crossing, AsyncioCrossing):
            self.lifespan = LifespanRun(options.app, crossing, demanded=options.lifespan == "on")
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
        """Within `timeout` seconds, let what runs end, and then the lifespan; on an asyncio loop.

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
        await self._empty(_LAST_SECOND)  # their cleanup may need what the lifespan takes down
        if self.lifespan is not None:
            await self.lifespan.stop(max(deadline - monotonic(), _LAST_SECOND))

    async def _empty(self, timeout: float) -> None:
        """Wait until nothing runs, `timeout` seconds at most."""
        assert isinstance(self.crossing, AsyncioCrossing)
        if self.live:
            self._emptied = self.crossing.waiter()
            timer = self.crossing.call_later(timeout, self.crossing.wake, self._emptied)
            await self._emptied
            timer.cancel()


class _Process:
    """What there is in one process, from its first request on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sides: dict[object, LoopSide] = {}
        self.private: LoopSide | None = None
        self.past = Counters()
        self.past_block = 0.0


class Tasks:
    """Finds or makes the side of the loop that this thread's request belongs to."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifespan: str,
        startup_timeout: float,
        shutdown_timeout: float,
        disconnect_grace: float,
        loop_factory: LoopFactory | None,
        slow_warning: float | None,
    ) -> None:
        self.app = app
        self.lifespan = lifespan
        self.disconnect_grace = disconnect_grace
        self.slow_warning = slow_warning
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._loop_factory = loop_factory
        self._processes: dict[int, _Process] = {}

    def here(self) -> tuple[LoopSide, Spawn]:
        """The side of the loop to use in this thread, with its application started, and what starts a task there.

        In a thread that works for an event loop, that one; else the private loop of the process. Raises
        `LifespanFailed`.
        """
        host = current.host
        call = None if host is None else host.job
        if isinstance(call, Call) and not call.side.crossing.gone:
            side = self._home_side(call)
            return side, call.spawn or side.spawn
        process = self._process()
        private = process.private
        if private is None or private.private is None or private.private.ended:
            private = self._private_side(process)
        if not private.started:
            self._start(private)
        return private, private.spawn

    def _private_side(self, process: _Process) -> LoopSide:
        with process.lock:
            side = process.private
            if side is None or not side.usable:
                tenant = object()
                loop = _loop.rent(self._loop_factory, tenant)
                side = process.private = LoopSide(self, loop.crossing, loop)
                side.tenant = tenant
                process.sides[side.crossing] = side
                _at_exit.register(self)
        return side

    def _start(self, side: LoopSide) -> None:
        if side.lifespan is not None:
            side.lifespan.start(self._startup_timeout)
        side.started = True

    def _home_side(self, call: Call) -> LoopSide:
        process = self._process()
        crossing = call.side.crossing
        side = process.sides.get(crossing)
        if side is None:
            with process.lock:
                for old in [old for old in process.sides.values() if not old.usable]:
                    self._retire(process, old)
                side = process.sides.get(crossing)
                if side is None:
                    side = process.sides[crossing] = LoopSide(self, crossing, None)
                    if side.lifespan is not None:
                        call.side.at_shutdown.append(functools.partial(side.end, self._shutdown_timeout))
        if not side.started:
            self._start(side)
        return side

    def _process(self) -> _Process:
        pid = os.getpid()
        # setdefault and not a lock: another thread may have held the lock when this process was forked.
        return self._processes.get(pid) or self._processes.setdefault(pid, _Process())

    def _retire(self, process: _Process, side: LoopSide) -> None:
        """Forget a side, but not what it counted; with the lock held."""
        del process.sides[side.crossing]
        process.past.add(side.counters)
        if isinstance(side.crossing, TimedCrossing):
            process.past_block = max(process.past_block, side.crossing.longest_block)

    def exit(self) -> None:
        """As `close`, when the process ends."""
        self.close(at_exit=True)

    def close(self, *, at_exit: bool = False) -> None:
        """End the requests, the lifespan, and the private loop if nobody else needs it; from a thread."""
        process = self._process()
        with process.lock:
            # The sides of servers' loops end with those.
            ours = [side for side in process.sides.values() if side.private is not None]
            for side in ours:
                self._retire(process, side)
            process.private = None
            _at_exit.unregister(self)
        for side in ours:
            self._end(side, at_exit=at_exit)

    def _end(self, side: LoopSide, *, at_exit: bool) -> None:
        private = side.private
        assert private is not None
        if not private.usable:
            return
        done = threading.Event()

        async def end() -> None:
            try:
                await side.end(self._shutdown_timeout, at_exit=at_exit)
            finally:
                done.set()

        try:
            side.crossing.post(_Starting(side, end))
        except LoopGone:
            return
        # Longer than all that is waited for there; only a blocked loop takes longer.
        if not done.wait(self._shutdown_timeout + 4 * _LAST_SECOND):
            _log.warning("the event loop does not answer at shutdown; its %s", private.describe())
        _loop.give_up(private, side.tenant)

    def stats(self) -> LoopStats:
        """Counts, for this process."""
        process = self._process()
        total = Counters()
        block, tasks, busy = process.past_block, 0, 0
        with process.lock:
            total.add(process.past)
            for side in process.sides.values():
                total.add(side.counters)
                busy += len(side.live)
                if side.private is not None and isinstance(side.crossing, TimedCrossing):
                    tasks += side.private.tasks()
                    block = max(block, side.crossing.longest_block, side.crossing.blocked_for)
        return LoopStats(
            tasks=tasks,
            longest_block=block,
            busy=busy,
            rejected=total.rejected,
            client_disconnects=total.client_disconnects,
            aborted=total.aborted,
            served=total.served,
        )


class _Starting:
    """A coroutine function, to be posted."""

    def __init__(self, side: LoopSide, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._side = side
        self._function = function

    def arrived(self) -> None:
        """Start it."""
        self._side.spawn(self._function, Context())
