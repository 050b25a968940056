"""The threads of one adapter in this process, and its dispatcher for each event loop that it serves."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import anyio
import anyio.lowlevel

from bridge._concurrency.calls import Call, Dispatcher
from bridge._concurrency.loops import AsyncioLoop, LoopHandle, ThreadEvent, TrioLoop, refuse_on_loop, runs_loop
from bridge._concurrency.per_process import PerProcess
from bridge._concurrency.pool import ThreadPool
from bridge._servers.process import register, unregister
from bridge._stats import Counters, ThreadStats

# How often a loop that ends, while others go on, looks whether its own requests have ended.
_LOOK_SECONDS: Final = 0.02

_log = logging.getLogger("bridge")


class _Pools:
    """The pools and dispatchers of one process, from its first request on. Changed under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pool: ThreadPool | None = None
        self._spare: ThreadPool | None = None
        self.dispatchers: dict[object, Dispatcher] = {}
        self.past = Counters()

    def spare(self) -> ThreadPool:
        """Threads in addition to those that are counted: one for each response that continues without a thread and then
        needs one.
        """
        with self.lock:
            if self._spare is None or not self._spare.usable:
                self._spare = ThreadPool(sys.maxsize, name="stream")
            return self._spare

    def made(self) -> list[ThreadPool]:
        """Return the existing pools."""
        return [pool for pool in (self.pool, self._spare) if pool is not None]

    def discard(self) -> None:
        """Let all threads end when they have nothing to do."""
        for pool in self.made():
            pool.discard()

    def detach(self) -> list[ThreadPool]:
        """Detach and return both pools. The next request makes new ones."""
        with self.lock:
            found = self.made()
            self.pool = self._spare = None
        return found


class Dispatchers:
    """Finds or makes the dispatcher for the event loop of this thread.

    Nothing exists before the first request, or in a new child of a fork: it does not have the threads, locks and loops
    of the parent.
    """

    def __init__(self, limit: int, shutdown_timeout: float, slow_warning: float | None) -> None:
        self._limit = limit
        self._shutdown_timeout = shutdown_timeout
        self._slow_warning = slow_warning
        self._pools = PerProcess(_Pools)
        # The last dispatcher that `here` found, on any loop. A loop uses it only if it is its own.
        self._last: Dispatcher | None = None

    def here(self) -> Dispatcher:
        """Return the dispatcher of the running loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self._find(anyio.lowlevel.current_token().native_token, TrioLoop)
        dispatcher = self._last
        # After a fork no loop runs until a new one is made, so this loop belongs to this process.
        if dispatcher is not None and dispatcher.key is loop and not dispatcher.pool.closing:
            return dispatcher
        dispatcher = self._last = self._find(loop, lambda: AsyncioLoop(loop))
        return dispatcher

    def _find(self, key: object, handle: Callable[[], LoopHandle]) -> Dispatcher:
        pools = self._pools.here()
        with pools.lock:
            dispatcher = pools.dispatchers.get(key)
            if dispatcher is not None and dispatcher.pool.usable:
                return dispatcher
            if pools.pool is None or not pools.pool.usable:
                register(self)
                pools.pool = ThreadPool(self._limit, name="wsgi")
            for old in [old for old, known in pools.dispatchers.items() if known.loop.closed]:
                pools.past.add(pools.dispatchers.pop(old).counters)
            known = pools.dispatchers.get(key)
            loop = handle() if known is None else known.loop
            dispatcher = Dispatcher(pools.pool, pools.spare, loop, key, self._slow_warning)
            if known is not None:
                dispatcher.counters = known.counters  # its last requests may not have been counted yet
                dispatcher.serving = known.serving  # its lifespan goes on, and ends all that was started within it
                dispatcher.streams = known.streams
            pools.dispatchers[key] = dispatcher
        return dispatcher

    def stats(self) -> ThreadStats:
        """Counts, for this process."""
        pools = self._pools.here()
        total = Counters()
        with pools.lock:
            for counters in (pools.past, *(dispatcher.counters for dispatcher in pools.dispatchers.values())):
                total.add(counters)
            pool = pools.pool
        alive, busy = (pool.alive, pool.busy) if pool is not None else (0, 0)
        return ThreadStats(
            alive=alive,
            busy=busy,
            idle=max(alive - busy, 0),
            waiting=pool.waiting if pool is not None else 0,
            rejected=total.rejected,
            client_disconnects=total.client_disconnects,
            aborted=total.aborted,
            served=total.served,
        )

    def exit(self, timeout: float | None = None) -> None:
        """Like `close`, when the process ends, within `timeout` seconds."""
        self.close(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stop the threads, and wait for them. Raises `RuntimeError` on an event loop while they serve requests."""
        if any(
            dispatcher.live or (dispatcher.streams and not dispatcher.loop.closed)
            for dispatcher in list(self._pools.here().dispatchers.values())
        ):
            refuse_on_loop(
                "WsgiToAsgi.close() was called while requests were served",
                "leave it to the lifespan's shutdown, or call it in a thread (asyncio.to_thread)",
            )
        detached = self._detach()
        for pool in detached:
            pool.close(None)
        if runs_loop():
            return  # the threads have nothing to do, and end
        deadline = monotonic() + min(self._shutdown_timeout, self._shutdown_timeout if timeout is None else timeout)
        for pool in detached:
            self._report(pool.join(max(deadline - monotonic(), 0.0)))

    def discard(self) -> None:
        """Let the threads end when they have nothing to do. For a finalizer, so it neither waits nor locks."""
        pools = self._pools.known()
        if pools is not None:
            unregister(self)
            pools.discard()

    async def drain(self, dispatcher: Dispatcher, *, last: bool = False) -> None:
        """Stop the threads, and wait for them on the loop of `dispatcher`. While other loops run, whose requests need
        the threads, only wait for what they do for this loop. `last`: from now on, this loop does not need them.
        """
        deadline = monotonic() + self._shutdown_timeout
        # Their cleanup may need threads, and whatever is removed after this.
        stopping = [stream for stream in dispatcher.streams if stream.stopping]
        if stopping:
            _, left = await asyncio.wait([stream.task for stream in stopping], timeout=self._shutdown_timeout)
            self._report([f"the cleanup of {stream.owner}" for stream in stopping if stream.task in left])
            for task in left:
                task.cancel()
        dispatcher.serving.ended = last
        if self._serves_others(dispatcher):
            await self._wait_for_own(dispatcher, deadline)
            # Others may have ended meanwhile, and have left the threads to this loop.
            if not last or self._serves_others(dispatcher):
                return
        detached = self._detach()
        events = [ThreadEvent(dispatcher.loop) for _ in detached]
        for pool, drained in zip(detached, events, strict=True):
            pool.close(drained.set)
        for pool, drained in zip(detached, events, strict=True):
            await drained.wait(max(deadline - monotonic(), 0.0))
            self._report(pool.join(0))

    async def _wait_for_own(self, dispatcher: Dispatcher, deadline: float) -> None:
        """Wait until nothing runs in a thread for this loop, except what an earlier wait has given up."""
        while _in_threads(dispatcher):
            if (left := deadline - monotonic()) <= 0:
                break
            await dispatcher.loop.wait_at_most(min(left, _LOOK_SECONDS), dispatcher.loop.waiter())
        late = _in_threads(dispatcher)
        dispatcher.left_behind |= late
        threads = [call.thread for call in late if isinstance(call, Call)]
        self._report([thread.describe() for thread in threads if thread is not None])

    def _serves_others(self, dispatcher: Dispatcher) -> bool:
        pools = self._pools.here()
        with pools.lock:
            others = [known for key, known in pools.dispatchers.items() if key != dispatcher.key]
        return any(other.loop.runs and (not other.serving.ended or _in_threads(other)) for other in others)

    def _detach(self) -> list[ThreadPool]:
        unregister(self)
        return self._pools.here().detach()

    def _report(self, left: list[str]) -> None:
        for description in left:
            _log.warning("not stopped within %.1f seconds: %s", self._shutdown_timeout, description)


def _in_threads(dispatcher: Dispatcher) -> set[Any]:
    """What runs in a thread for its loop, or waits for one, and has not been given up: calls, and ends of streams."""
    calls = {call for call in dispatcher.live if isinstance(call, Call)}
    return calls.union(stream for stream in list(dispatcher.streams) if stream.done) - dispatcher.left_behind
