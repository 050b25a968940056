"""The tasks of one adapter: its side of each loop that they run on, in this process, with the application's
lifespan.
"""

import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final

from bridge._asgi_to_wsgi.task_side import LAST_SECOND, Options, TaskSide
from bridge._concurrency import private_loop
from bridge._concurrency.calls import Call
from bridge._concurrency.greenlets import new_event
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import LoopGone, Spawn
from bridge._concurrency.on_demand_thread import call_of
from bridge._concurrency.private_loop import TimedCrossing
from bridge._servers.connection import why_threads_stand_still
from bridge._servers.process import register, unregister
from bridge._stats import Counters, LoopStats

# With this, longer than all that is waited for on the loop, in seconds; only a blocked loop takes longer.
END_MARGIN: Final = 4 * LAST_SECOND

_log = logging.getLogger("bridge")


class _Process:
    """What there is in one process, from its first request on."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sides: list[TaskSide] = []
        # Those on loops of servers.
        self.homes: dict[object, TaskSide] = {}
        self.private: TaskSide | None = None
        self.past = Counters()
        self.past_block = 0.0


class Tasks:
    """Finds or makes the side of the loop that this thread's request belongs to."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._processes: dict[int, _Process] = {}

    def here(self) -> tuple[TaskSide, Spawn]:
        """The side of the loop to use in this thread, with its application started, and what starts a task there.

        In a thread that works for an event loop, that one; else the private loop of the process. Raises
        `LifespanFailed`.
        """
        call = call_of(current.host)
        if call is not None and not call.side.crossing.gone:
            side = self._home_side(call)
            return side, call.spawn or side.spawn
        process = self._process()
        private = process.private
        if private is None or private.private is None or private.private.ended:
            if private_loop.is_here(self._options.loop_factory):
                raise _would_wait_for_itself("AsgiToWsgi was called")
            private = self._private_side(process)
        if private.private is not None and private.private.is_here:
            raise _would_wait_for_itself("AsgiToWsgi was called")
        if not private.started:
            self._start(private)
        return private, private.spawn

    def _private_side(self, process: _Process) -> TaskSide:
        with process.lock:
            side = process.private
            if side is None or not side.usable:
                tenant = object()
                loop = private_loop.rent(self._options.loop_factory, tenant)
                side = process.private = TaskSide(self._options, loop.crossing, loop)
                side.tenant = tenant
                process.sides.append(side)
                register(self)
                if (reason := why_threads_stand_still()) is not None:
                    _log.warning("timers, and work after responses, go on only while requests are served: %s", reason)
        return side

    def _start(self, side: TaskSide) -> None:
        if side.lifespan is not None:
            side.lifespan.start(self._options.startup_timeout)
        side.started = True

    def _home_side(self, call: Call) -> TaskSide:
        process = self._process()
        crossing = call.side.crossing
        side = process.homes.get(crossing)
        if side is None:
            with process.lock:
                for old in [old for old in process.homes.values() if not old.usable]:
                    del process.homes[old.crossing]
                    self._retire(process, old)
                side = process.homes.get(crossing)
                if side is None:
                    side = process.homes[crossing] = TaskSide(self._options, crossing, None, call.side.spawn)
                    process.sides.append(side)
                    if side.lifespan is not None:
                        call.side.at_shutdown.append(functools.partial(side.end, self._options.shutdown_timeout))
        if not side.started:
            self._start(side)
        return side

    def _process(self) -> _Process:
        pid = os.getpid()
        # setdefault and not a lock: another thread may have held the lock when this process was forked.
        return self._processes.get(pid) or self._processes.setdefault(pid, _Process())

    def _retire(self, process: _Process, side: TaskSide) -> None:
        """Forget a side, but not what it counted; with the lock held."""
        process.sides.remove(side)
        process.past.add(side.counters)
        if isinstance(side.crossing, TimedCrossing):
            process.past_block = max(process.past_block, side.crossing.longest_block)

    def exit(self, timeout: float | None = None) -> None:
        """As `close`, when the process ends, within `timeout` seconds."""
        self.close(at_exit=True, timeout=timeout)

    def close(self, *, at_exit: bool = False, timeout: float | None = None) -> None:
        """End the requests, the lifespan, and the private loop if nobody else needs it; from a thread."""
        seconds = self._options.shutdown_timeout if timeout is None else min(timeout, self._options.shutdown_timeout)
        process = self._process()
        with process.lock:
            # The sides of servers' loops end with those.
            ours = [side for side in process.sides if side.private is not None]
            if any(side.private.is_here for side in ours if side.private is not None):
                raise _would_wait_for_itself("AsgiToWsgi.close() was called")
            process.private = None
            unregister(self)
            first = [side for side in ours if side.closed is None]
            for side in first:
                side.closed = threading.Event()
        for side in first:
            self._end(side, seconds, at_exit=at_exit)
            with process.lock:
                self._retire(process, side)
            assert side.closed is not None
            side.closed.set()
        for side in ours:
            # Another thread may have come first.
            if side.closed is not None and not side.closed.wait(seconds + END_MARGIN):
                return

    def _end(self, side: TaskSide, timeout: float, *, at_exit: bool) -> None:
        private = side.private
        assert private is not None
        if not private.usable:
            return
        done = new_event()

        async def end() -> None:
            try:
                await side.end(timeout, at_exit=at_exit)
            finally:
                done.set()

        try:
            side.crossing.post(_Starting(side, end))
        except LoopGone:
            return
        if not done.wait(timeout + END_MARGIN):
            _log.warning("the event loop does not answer at shutdown; its %s", private.describe())
        private_loop.give_up(private, side.tenant)

    def stats(self) -> LoopStats:
        """Counts, for this process."""
        process = self._process()
        total = Counters()
        block, tasks, busy = process.past_block, 0, 0
        with process.lock:
            total.add(process.past)
            for side in process.sides:
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


def _would_wait_for_itself(what: str) -> RuntimeError:
    return RuntimeError(f"{what} in a callback of its own event loop, which would wait for itself")


class _Starting:
    """A coroutine function, to be posted."""

    def __init__(self, side: TaskSide, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._side = side
        self._function = function

    def arrived(self) -> None:
        """Start it."""
        self._side.spawn(self._function, Context())
