"""The calls of one adapter: its threads in this process, and its side of each event loop that it serves."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from bridge._concurrency.call_side import CallSide
from bridge._concurrency.call_thread import Side
from bridge._concurrency.calls import Call
from bridge._concurrency.jobs import PoolClosed
from bridge._concurrency.loops import AsyncioCrossing, Crossing, LoopGone, TrioCrossing
from bridge._concurrency.pool import Threads
from bridge._servers.process import register, unregister
from bridge._stats import Counters, ThreadStats

_log = logging.getLogger("bridge")


class _Process:
    """What there is in one process, from its first request on."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.threads: Threads | None = None
        self._spare: Threads | None = None
        self.sides: dict[object, CallSide] = {}
        self.past = Counters()

    def spare(self) -> Threads:
        """Threads beside those that are counted: one for each response that goes on without a thread and needs one."""
        with self.lock:
            if self._spare is None or not self._spare.usable:
                self._spare = Threads(sys.maxsize, name="stream")
            return self._spare

    def detach(self) -> list[Threads]:
        """All threads; later ones are new."""
        with self.lock:
            found = [threads for threads in (self.threads, self._spare) if threads is not None]
            self.threads = self._spare = None
        return found


class Calls:
    """Finds or makes the side of the event loop that runs in this thread.

    Nothing exists before the first request, and a fork starts anew: threads, locks and loops of the parent are not
    here.
    """

    def __init__(self, limit: int, shutdown_timeout: float, slow_warning: float | None) -> None:
        self._limit = limit
        self._shutdown_timeout = shutdown_timeout
        self._slow_warning = slow_warning
        self._processes: dict[int, _Process] = {}
        self._last: CallSide | None = None

    def here(self) -> CallSide:
        """The side of the running loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._find(anyio.lowlevel.current_token().native_token, TrioCrossing)
        side = self._last
        # After a fork no loop runs until there is a new one, so that this one is of this process.
        if side is not None and side.key is loop and not side.threads.closing:
            return side
        side = self._last = self._find(loop, lambda: AsyncioCrossing(loop))
        return side

    def _find(self, key: object, cross: Callable[[], Crossing]) -> CallSide:
        process = self._process()
        with process.lock:
            side = process.sides.get(key)
            if side is not None and side.threads.usable:
                return side
            if process.threads is None or not process.threads.usable:
                process.threads = Threads(self._limit, name="wsgi")
                register(self)
            for old in [old for old, known in process.sides.items() if old is key or known.crossing.gone]:
                process.past.add(process.sides.pop(old).counters)
            side = process.sides[key] = CallSide(process.threads, process.spare, cross(), key, self._slow_warning)
        return side

    def _process(self) -> _Process:
        pid = os.getpid()
        # setdefault and not a lock: another thread may have held the lock when this process was forked.
        return self._processes.get(pid) or self._processes.setdefault(pid, _Process())

    def stats(self) -> ThreadStats:
        """Counts, for this process."""
        process = self._process()
        total = Counters()
        with process.lock:
            for counters in (process.past, *(side.counters for side in process.sides.values())):
                total.add(counters)
            threads = process.threads
        alive, busy = (threads.alive, threads.busy) if threads is not None else (0, 0)
        return ThreadStats(
            alive=alive,
            busy=busy,
            idle=max(alive - busy, 0),
            waiting=threads.waiting if threads is not None else 0,
            rejected=total.rejected,
            client_disconnects=total.client_disconnects,
            aborted=total.aborted,
            served=total.served,
        )

    def exit(self, timeout: float | None = None) -> None:
        """The process ends; in `timeout` seconds."""
        self.close(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stop the threads, and wait for them; not on a loop whose requests they work for."""
        detached = self._detach()
        for threads in detached:
            threads.close(None)
        deadline = monotonic() + min(self._shutdown_timeout, self._shutdown_timeout if timeout is None else timeout)
        for threads in detached:
            self._report(threads.join(max(deadline - monotonic(), 0.0)))

    async def drain(self, side: Side) -> None:
        """Stop the threads, and wait for them on the loop of `side`."""
        detached = self._detach()
        signals = [_Signal(side.crossing) for _ in detached]
        for threads, drained in zip(detached, signals, strict=True):
            threads.close(drained.set)
        deadline = monotonic() + self._shutdown_timeout
        for threads, drained in zip(detached, signals, strict=True):
            await drained.wait(max(deadline - monotonic(), 0.0))
            self._report(threads.join(0))

    def _detach(self) -> list[Threads]:
        unregister(self)
        return self._process().detach()

    def _report(self, left: list[str]) -> None:
        for description in left:
            _log.warning("not stopped within %.1f seconds: %s", self._shutdown_timeout, description)


class _Signal:
    """Set by a thread, once; waited for by a task."""

    def __init__(self, crossing: Crossing) -> None:
        self._crossing = crossing
        self._waiter: Any = crossing.waiter()

    def set(self) -> None:
        # Threads that ended after the deadline have nobody to tell.
        with suppress(LoopGone):
            self._crossing.post(self)

    def arrived(self) -> None:
        self._crossing.wake(self._waiter)

    async def wait(self, timeout: float) -> None:
        await self._crossing.wait_at_most(timeout, self._waiter)


class FunctionCall(Call):
    """Calls `function`; `result` is what it returned."""

    result: Any = None

    def __init__(self, side: Side, function: Callable[[], Any]) -> None:
        super().__init__(side)
        self._function = function

    def work(self) -> None:
        """Call it."""
        self.result = self._function()


async def run_in_thread(side: Side, function: Callable[[], Any]) -> Any:
    """Run `function` in a worker thread; returns what it returns, raises what it raises.

    Raises `PoolClosed` where no thread can be had.
    """
    call = FunctionCall(side, function)
    try:
        side.submit(call)
    except RuntimeError as error:
        raise PoolClosed(str(error)) from error
    try:
        while not call.finished:
            await call.arrival()
    except BaseException:
        call.abandon()
        raise
    if call.error is not None:
        raise call.error
    return call.result
