"""What one event loop does for the calls that it has made: starts them, pushes the threads, looks after slow ones."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio

from bridge._concurrency import interop
from bridge._concurrency.calls import TICK, Call
from bridge._concurrency.jobs import lender
from bridge._concurrency.loops import AsyncioCrossing, Crossing, Spawn, spawner
from bridge._concurrency.pool import Threads
from bridge._stats import Counters

_PUSH: Final = 0.001


class CallSide:
    """What one event loop does for the calls that it has made: starts them, pushes the threads, looks after slow
    ones.
    """

    def __init__(
        self,
        threads: Threads,
        spare: Callable[[], Threads],
        crossing: Crossing,
        key: object,
        slow_warning: float | None,
    ) -> None:
        self.threads = threads
        self.spare = spare
        # Responses that go on without a thread.
        self.streams: set[object] = set()
        self.crossing = crossing
        self.key = key
        self.token = interop.LoopToken(crossing)
        self.slow_warning = slow_warning
        self.counters = Counters()
        self.spawn: Spawn | None = None
        # What has to end before the loop does: coroutine functions.
        self.at_shutdown: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.calls: dict[Call, None] = {}
        self._pushing = False
        self._ticking = False

    def submit(self, call: Call) -> None:
        """Start a call; on the loop. Raises `RuntimeError` where no thread can be had."""
        crossing = self.crossing
        lent = lender.get()
        if lent is not None:
            # What it tells has to be taken on by the very thread it runs in.
            call.patient = False
            if not lent.lend(call):
                call.patient = True
        if call.patient:
            push = self.threads.submit(call, eager=not crossing.is_asyncio)
            if push and not self._pushing and isinstance(crossing, AsyncioCrossing):
                self._pushing = True
                crossing.call_later(_PUSH, self._push)
        self.look_after(call)

    def look_after(self, call: Call) -> None:
        """Tell a call every tick that it grows older, until it ends; not on trio, where its task does so."""
        self.calls[call] = None
        if not self._ticking and isinstance(self.crossing, AsyncioCrossing):
            self._ticking = True
            self.crossing.call_later(TICK, self._tick)

    async def while_serving(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `function`, which lasts as long as the server does, so that other tasks can (see `spawn`)."""
        if self.crossing.is_asyncio:
            await function()
            return
        async with anyio.create_task_group() as group:
            self.spawn = spawner(group)
            await function()
            self.spawn = None
            group.cancel_scope.cancel()

    async def shut_down(self) -> None:
        """Run what has to end before the loop does, the latest first."""
        while self.at_shutdown:
            await self.at_shutdown.pop()()

    def _push(self) -> None:
        self._pushing = self.threads.push()
        if self._pushing and isinstance(self.crossing, AsyncioCrossing):
            self.crossing.call_later(_PUSH, self._push)

    def _tick(self) -> None:
        for call in self.calls:
            call.tick()
        self._ticking = bool(self.calls)
        if self._ticking and isinstance(self.crossing, AsyncioCrossing):
            self.crossing.call_later(TICK, self._tick)
