"""One call of a function in a worker thread, and its conversation with the task on the loop that made the call.

The thread asks, the loop answers: `tell` hands an item over and waits while too much is on the way, `listen` waits for
what the loop gives. Whoever asks waits; nothing is held without a bound.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Final, Protocol

import anyio
from anyio.abc import TaskGroup

from bridge import _interop
from bridge._crossing import Crossing, LoopGone
from bridge._host import Host
from bridge._stats import Counters
from bridge._threads import PoolClosed, Threads

# Bytes on the way to the loop, or to the thread, before who hands them over has to wait.
BOUND: Final = 64 * 1024
# What an item counts beside its bytes, so that very small ones are bounded as well.
_ITEM: Final = 64
# How often a thread that waits looks whether the loop is still there at all, in seconds.
_LOOP_CHECK: Final = 2.0
# A call is slow when it is older than one or two of these, in seconds.
TICK: Final = 0.1
_PUSH: Final = 0.001

_log = logging.getLogger("bridge")


# Starts a coroutine function as a task in the context given; returns what cancels it.
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]], Context], Callable[[], object]]


def spawner(group: TaskGroup) -> Spawn:
    """Starts tasks in `group`, for loops that have no tasks outside one."""

    def spawn(function: Callable[[], Coroutine[Any, Any, None]], context: Context) -> Callable[[], object]:
        scope = anyio.CancelScope()

        async def scoped() -> None:
            with scope:
                await function()

        context.run(group.start_soon, scoped)
        return scope.cancel

    return spawn


class Gone(Exception):  # not an error of the one who gets it
    """Nobody listens any more: the client left, the server gave the request up, or the loop is closed."""


class Side(Protocol):
    """What the calls of one adapter from one event loop have in common."""

    threads: Threads
    crossing: Crossing
    token: _interop.LoopToken
    slow_warning: float | None
    counters: Counters
    calls: "dict[Call, None]"
    # Starts tasks that last as long as the server does, where a loop has none outside a group.
    spawn: "Spawn | None"
    # What has to end before the loop does.
    at_shutdown: list[Callable[[], Coroutine[Any, Any, None]]]

    def submit(self, call: "Call") -> None:
        """Start a call; on the loop. Raises `RuntimeError` where no thread can be had."""


class Call:
    """What `work` does in a worker thread; made on the loop of `side`, in the context of the request.

    `error` is what it raised, once the call is `finished`. `out` holds what it told and the loop has not taken yet.
    """

    # One is made for each request: what most never need exists here only.
    error: BaseException | None = None
    finished = False
    gone = False
    # Older than a tick or two; then `on_slow` is called on the loop.
    slow = False
    on_slow: Callable[[], object] | None = None
    spawn: Spawn | None = None
    # Whether its thread may wait for the loop wherever too much is on the way (see `ease`).
    patient = True
    _host: Host | None = None
    _steps: Generator[None] | None = None
    _given: deque[bytes] | None = None
    _given_size = _heard_size = 0
    # Bytes told so far.
    told_size = 0
    _taken_size = 0
    _posted = _waiting = _full = _asking = _warned = False
    _waiter: Awaitable[None] | None = None
    _room: Awaitable[None] | None = None
    _age = 0

    def __init__(self, side: Side) -> None:
        self.side = side
        self.out: deque[Any] = deque()
        self._context: Context | None = copy_context()

    def work(self) -> Generator[None] | None:
        """Do the work, in the thread. What takes more than a moment is returned as a generator, which yields wherever
        the work can be halted, at least after each `tell`.
        """
        raise NotImplementedError

    # -- in the thread

    def run(self, host: Host) -> None:
        """Work to the end, and wait where need be; a worker calls this."""
        if self.begin(host):
            try:
                while self.advance():
                    self.ease()
            except Gone:
                self.cut()

    def begin(self, host: Host) -> bool:
        """Start the work in the thread of `host`. Returns whether there is more to do: `advance`, or `cut`."""
        self._host = host
        side, context = self.side, self._context
        if host.loop is not side:
            host.loop = side
            host.tasks = side.token.enter()
        if not self.gone and context is not None:
            try:
                if len(context):
                    context.run(_interop.rehome, context)
                self._steps = context.run(self.work)
            except BaseException as error:
                self.error = error
            if self._steps is not None:
                return True
        self._finish()
        return False

    def advance(self) -> bool:
        """Work on to where it can be halted next; False at the end."""
        assert self._context is not None
        assert self._steps is not None
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

    def cut(self) -> bool:
        """End the work where it was halted; False, as at the end."""
        assert self._context is not None
        assert self._steps is not None
        try:
            self._context.run(self._steps.close)
        except BaseException as error:
            self.error = error
        self._finish()
        return False

    def _finish(self) -> None:
        self.finished = True
        # They refer back to this call; freed now, they need not be found by the garbage collector.
        self._steps = self._context = None
        self._post()

    @property
    def stalled(self) -> bool:
        """Whether more than `BOUND` bytes are on the way to the loop."""
        return self.told_size - self._taken_size > BOUND

    @property
    def on_the_way(self) -> bool:
        """Whether anything told has not been dealt with yet."""
        return self.told_size != self._taken_size

    def dropped(self) -> None:
        """No thread came to it before the pool was closed."""
        self.error = PoolClosed("the threads were stopped before there was one for it")
        self._finish()

    def tell(self, items: Sequence[object], size: int) -> None:
        """Hand `items` (`size` bytes) to the loop. Raises `Gone`."""
        if self.gone:
            raise Gone
        # Counted first: what the loop finds in `out` must not be more than it counts as dealt with.
        self.told_size += size + _ITEM
        self.out.extend(items)
        self._post()

    def ease(self) -> None:
        """Wait while more than `BOUND` bytes are on the way to the loop. Raises `Gone`.

        Not in a thread that has to take them further itself: that one halts the work instead.
        """
        while self.stalled and self.patient:
            self._waiting = True
            if self.stalled:
                self._wait()
        if self.gone:
            raise Gone

    def settle(self) -> None:
        """Wait until all that was told has been dealt with. Raises `Gone`."""
        while self.on_the_way and self.patient:
            self._waiting = True
            if self.on_the_way:
                self._wait()

    def listen(self) -> bytes:
        """The next that the loop gives; waits for it. Raises `Gone`."""
        while not self._given:
            self._waiting = True
            if not self._given:
                if not self.patient:
                    self._asking = True
                    self._post()
                self._wait()
        data = self._given.popleft()
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
        self._given_size += len(data) + _ITEM
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
