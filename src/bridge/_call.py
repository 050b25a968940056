"""One call of a function in a worker thread, and its conversation with the task on the loop that made the call.

The thread asks, the loop answers: `tell` hands an item over and waits while too much is on the way, `listen` waits for
what the loop gives. Whoever asks waits; nothing is held without a bound.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Final

import anyio

from bridge import _interop
from bridge._crossing import AsyncioCrossing, Crossing, LoopGone, TrioCrossing
from bridge._stats import Counters
from bridge._threads import Host, Threads, lender

# Bytes on the way to the loop, or to the thread, before who hands them over has to wait.
BOUND: Final = 64 * 1024
# What an item counts beside its bytes, so that very small ones are bounded as well.
_ITEM: Final = 64
# How often a thread that waits looks whether the loop is still there at all, in seconds.
_LOOP_CHECK: Final = 2.0
# A call is slow when it is older than one or two of these, in seconds.
TICK: Final = 0.1
_PUSH: Final = 0.001

_NO_STEPS: Final[Generator[None]] = (None for _ in ())
_log = logging.getLogger("bridge")


# Starts a coroutine function as a task in the context given; returns what cancels it.
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]], Context], Callable[[], object]]


class Gone(Exception):  # not an error of the one who gets it
    """Nobody listens any more: the client left, the server gave the request up, or the loop is closed."""


class Side:
    """What one event loop does for the calls that it has made: starts them, pushes the threads, looks after slow
    ones.
    """

    def __init__(self, threads: Threads, crossing: Crossing, key: object, slow_warning: float | None) -> None:
        self.threads = threads
        self.crossing = crossing
        self.key = key
        self.token = _interop.LoopToken(crossing)
        self.slow_warning = slow_warning
        self.counters = Counters()
        # What has to end before the loop does: coroutine functions.
        self.at_shutdown: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.calls: dict[Call, None] = {}
        self._pushing = False
        self._ticking = False

    def submit(self, call: "Call") -> None:
        """Start a call; on the loop. Raises `RuntimeError` where no thread can be had."""
        crossing = self.crossing
        lent = lender.get()
        if lent is None or not lent.lend(call):
            push = self.threads.submit(call, eager=not crossing.is_asyncio)
            if push and not self._pushing and isinstance(crossing, AsyncioCrossing):
                self._pushing = True
                crossing.call_later(_PUSH, self._push)
        self.calls[call] = None
        if isinstance(crossing, TrioCrossing):
            return
        if not self._ticking:
            self._ticking = True
            crossing.call_later(TICK, self._tick)

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


class Call:
    """`function(call)` in a worker thread, a generator that yields wherever it can be halted: after each `tell`.

    `error` is what it raised, once the call is `finished`. `out` holds what it told and the loop has not taken yet.
    """

    __slots__ = (
        "_age", "_context", "_full", "_function", "_given", "_given_size", "_heard_size", "_host", "_posted", "_room",
        "_steps", "_taken_size", "_tasks", "_told_size", "_waiter", "_waiting", "_warned", "error", "finished", "gone",
        "on_slow", "out", "side", "spawn",
    )  # fmt: skip

    def __init__(self, side: Side, function: "Callable[[Call], Generator[None]]") -> None:
        self.side = side
        self.out: deque[Any] = deque()
        self.error: BaseException | None = None
        self.finished = False
        self.gone = False
        # Called on the loop once the call has taken longer than a tick or two.
        self.on_slow: Callable[[], object] | None = None
        self.spawn: Spawn | None = None
        self._function = function
        self._context = copy_context()
        self._host: Host | None = None
        self._steps = _NO_STEPS
        self._tasks: list[Any] = []
        self._given: deque[bytes] = deque()
        self._given_size = self._heard_size = 0
        self._told_size = self._taken_size = 0
        self._posted = False
        self._waiting = False
        self._full = False
        self._waiter: Awaitable[None] | None = None
        self._room: Awaitable[None] | None = None
        self._age = 0
        self._warned = False

    # -- in the thread

    def run(self, host: Host) -> None:
        """Run the function to its end, and wait where it has to; a worker calls this."""
        self.begin(host)
        try:
            while self.advance():
                self.ease()
        except Gone:
            self.cut()

    def begin(self, host: Host) -> None:
        """Make the thread of `host` the one of this call."""
        self._host = host
        if host.loop is not self.side:
            host.loop = self.side
            self.side.token.enter()
        self._tasks = _interop.begin()
        self._steps = self._main()

    def advance(self) -> bool:
        """Run the function to where it can be halted next; False once it is at its end."""
        try:
            self._context.run(next, self._steps)
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        else:
            return True
        self._finish()
        return False

    def cut(self) -> None:
        """End the function where it was halted."""
        try:
            self._context.run(self._steps.close)
        except BaseException as error:
            self.error = error
        self._finish()

    def _main(self) -> Generator[None]:
        if self.gone:
            return
        if len(self._context):
            _interop.rehome(self._context)
        yield from self._function(self)

    def _finish(self) -> None:
        self.finished = True
        self._steps = _NO_STEPS  # it refers to this call
        self._post()

    @property
    def stalled(self) -> bool:
        """Whether more than `BOUND` bytes are on the way to the loop."""
        return self._told_size - self._taken_size > BOUND

    def dropped(self) -> None:
        """No thread came to it before the pool was closed."""
        self.gone = True
        self._finish()

    def tell(self, items: Sequence[object]) -> None:
        """Hand `items` to the loop. Raises `Gone`."""
        if self.gone:
            raise Gone
        self.hold(items)
        self._post()

    def hold(self, items: Sequence[object]) -> None:
        """Hand `items` to the loop together with what comes next: more items, or the end."""
        self.out.extend(items)
        for item in items:
            self._told_size += len(item) + _ITEM if isinstance(item, bytes) else _ITEM

    def ease(self) -> None:
        """Wait while more than `BOUND` bytes are on the way to the loop. Raises `Gone`."""
        while self._told_size - self._taken_size > BOUND:
            self._waiting = True
            if self.stalled:
                self._wait()
        if self.gone:
            raise Gone

    def listen(self) -> bytes:
        """The next that the loop gives; waits for it. Raises `Gone`."""
        given = self._given
        while not given:
            self._waiting = True
            if not given:
                self._wait()
        data = given.popleft()
        self._heard_size += len(data) + _ITEM
        if self._full and self._given_size - self._heard_size <= BOUND:
            self._full = False
            self._post()
        return data

    def _wait(self) -> None:
        if self.gone:
            raise Gone
        assert self._host is not None  # only its own thread waits
        if not self._host.wait(_LOOP_CHECK) and self.side.crossing.gone:
            self.gone = True
            raise Gone

    def _post(self) -> None:
        if not self._posted:
            self._posted = True
            try:
                self.side.crossing.post(self)
            except LoopGone:
                self.gone = True

    # -- on the loop

    def arrived(self) -> None:
        """Something came from the thread: an item, room for more, or the end."""
        self._posted = False
        if self.finished:
            self.side.calls.pop(self, None)
        self.wake()

    def wake(self) -> None:
        """Let the task and the giver look again."""
        crossing = self.side.crossing
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            crossing.wake(waiter)
        room, self._room = self._room, None
        if room is not None:
            crossing.wake(room)

    def arrival(self) -> Awaitable[None]:
        """Wait for `wake`; only the task that made the call does."""
        self._waiter = waiter = self.side.crossing.waiter()
        return waiter

    def took(self, size: int, items: int) -> None:
        """`items` items of `size` bytes in all have been dealt with, so that the thread may go on."""
        self._taken_size += size + items * _ITEM
        self._nudge()

    def give(self, data: bytes) -> None:
        """Give the thread what it waits for in `listen`."""
        self._given_size += len(data) + _ITEM
        self._given.append(data)
        self._nudge()

    async def room(self) -> None:
        """Wait until the thread has taken most of what it was given."""
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
            self.finished = True
            self.side.calls.pop(self, None)
        for task in self._tasks:
            task.cancel()  # what asgiref's async_to_sync runs on this loop for the thread
        if self._host is not None:
            self._host.nudge()
        self.wake()

    def tick(self) -> None:
        """A tenth of a second has passed."""
        self._age += 1
        if self._age == 2 and self.on_slow is not None:
            self.on_slow()
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
