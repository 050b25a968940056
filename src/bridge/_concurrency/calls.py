"""One call of a function in a worker thread, and its conversation with the task on the loop that made the call.

The thread asks (`_call_thread.py`), the loop answers: it takes what the thread tells, and gives what it listens for.
Whoever asks waits; nothing is held without a bound.
"""

import logging
from collections import deque
from collections.abc import Awaitable
from time import monotonic
from typing import Final

import anyio
import anyio.lowlevel

from bridge._concurrency.call_thread import BOUND, ITEM, CallThread

# A call is slow when it is older than one or two of these, in seconds.
TICK: Final = 0.1
# How many turns of the loop middleware may take to hand on what its `send` has already returned for; BaseHTTPMiddleware
# takes two.
_TURNS: Final = 12

_log = logging.getLogger("bridge")


class Call(CallThread):
    """A call as the loop sees it that made it."""

    def arrived(self) -> None:
        """Something came from the thread: items, room for more, or the end."""
        self._posted = False
        if self.finished:
            self.side.calls.pop(self, None)
        self.wake()

    def wake(self) -> None:
        """Let the task and the giver look again."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.side.crossing.wake(waiter)
        room = self._room
        if room is not None:
            self._room = None
            self.side.crossing.wake(room)

    def arrival(self) -> Awaitable[None]:
        """Wait for `wake`; only the task that made the call does."""
        self._waiter = waiter = self.side.crossing.waiter()
        return waiter

    async def handed_on(self) -> None:
        """Wait until what was told is where the thread itself has to take it further, if it has to.

        Middleware may put it into a queue (Starlette's BaseHTTPMiddleware does), and send it when that task has its
        turn. A thread that went on to make the next piece would keep this one back (PEP 3333, "Buffering and
        Streaming").
        """
        if not self.patient:
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()

    def took(self, told_size: int) -> None:
        """All that was told until `told_size` had this value has been dealt with, so that the thread may go on."""
        self._taken_size = told_size
        if not self.patient and self._host is not None:
            self._host.nudge()  # its thread has halted the call, and waits for something else
        else:
            self._nudge()

    def give(self, data: bytes) -> None:
        """Give the thread what it waits for in `listen`."""
        if self._given is None:
            self._given = deque()
        self._given_size += len(data) + ITEM
        self._asking = False
        self._given.append(data)
        self._nudge()

    async def room(self) -> None:
        """Wait until the thread has taken most of what it was given; or asks, where it would have to get it itself."""
        if not self.patient:
            while not (self._asking or self.finished or self.gone):
                self._room = self.side.crossing.waiter()
                await self._room
            self._asking = False
            return
        while self._given_size - self._heard_size > BOUND and not (self.finished or self.gone):
            self._full = True
            if self._given_size - self._heard_size > BOUND:
                self._room = self.side.crossing.waiter()
                await self._room

    def abandon(self) -> None:
        """Nobody listens any more: a waiting call is never run, a running one gets `Gone` when it next asks."""
        if self.gone or self.finished:
            return
        self.gone = True
        if self.side.threads.withdraw(self):
            self.side.calls.pop(self, None)
            self.finished = True
            self._context = None
        host = self._host
        if host is not None and host.job is self:
            for task in host.tasks:
                task.cancel()  # what asgiref's async_to_sync runs on this loop for the thread
            host.nudge()
        self.wake()

    def tick(self) -> None:
        """A tenth of a second has passed."""
        self._age += 1
        if self._age == 2:
            self.slow = True
            if self.on_slow is not None:
                self.on_slow()
            self.wake()
        host, bound = self._host, self.side.slow_warning
        if bound is None or host is None or self._warned or host.job is not self:
            return
        seconds = monotonic() - host.since
        if seconds > bound:
            self._warned = True
            _log.warning("one request has taken %.1f seconds so far; its %s", seconds, host.describe())

    async def tick_until_finished(self) -> None:
        """Tick, on a loop that has no timers of its own."""
        while not self.finished:
            await anyio.sleep(TICK)
            self.tick()

    def _nudge(self) -> None:
        if self._waiting and self._host is not None:
            self._waiting = False
            self._host.nudge()
