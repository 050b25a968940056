"""A call as the worker thread sees it that does its work: the asking side of its conversation with the loop.

The thread asks, the loop answers: `tell` hands an item over and waits while too much is on the way, `listen` waits for
what the loop gives. Whoever asks waits; nothing is held without a bound.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

from bridge._concurrency import interop
from bridge._concurrency.jobs import Host, PoolClosed
from bridge._concurrency.loops import Crossing, LoopGone, Spawn
from bridge._concurrency.pool import Threads
from bridge._stats import Counters

# Bytes on the way to the loop, or to the thread, before who hands them over has to wait.
BOUND: Final = 64 * 1024
# What an item counts beside its bytes, so that very small ones are bounded as well.
ITEM: Final = 64
# How often a thread that waits looks whether the loop is still there at all, in seconds.
_LOOP_CHECK: Final = 2.0


class Gone(Exception):  # not an error of the one who gets it
    """Nobody listens any more: the client left, the server gave the request up, or the loop is closed."""


class Side(Protocol):
    """What the calls of one adapter from one event loop have in common."""

    threads: Threads
    # Threads for what a request does after its own has left it.
    spare: Callable[[], Threads]
    crossing: Crossing
    token: interop.LoopToken
    slow_warning: float | None
    counters: Counters
    calls: "dict[Any, None]"
    # Responses that go on without a thread.
    streams: set[object]
    # Starts tasks that last as long as the server does, where a loop has none outside a group.
    spawn: "Spawn | None"
    # What has to end before the loop does.
    at_shutdown: list[Callable[[], Coroutine[Any, Any, None]]]

    def look_after(self, call: Any) -> None:
        """Tell a call that it grows older."""

    def submit(self, call: Any) -> None:
        """Start a call; on the loop. Raises `RuntimeError` where no thread can be had."""


class CallThread:
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
    # Called in the thread at the end, before the loop hears of it.
    on_finish: Callable[[], object] | None = None
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

    def arrived(self) -> None:
        """On the loop, after a post; what the loop's side is."""
        raise NotImplementedError

    # -- in the thread

    def run(self, host: Host) -> None:
        """Work to the end, and wait where need be; a worker calls this."""
        try:
            if self.begin(host):
                while self.advance():
                    self.ease()
        except Gone:
            self.cut()
        except BaseException as error:
            # Not the work's own, but of its conversation: there was no memory for it, say. The loop must hear of it.
            self.error = self.error or error
            if self._steps is None:
                self._finish()
            else:
                self.cut()
            raise

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
                    context.run(interop.rehome, context)
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
        if self.on_finish is not None:
            self.on_finish()
            self.on_finish = None
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
        """No thread came to it before the pool was closed, or none could be started."""
        self.error = PoolClosed("no thread could be had for it")
        self._finish()

    def tell(self, items: Sequence[object], size: int) -> None:
        """Hand `items` (`size` bytes) to the loop. Raises `Gone`."""
        if self.gone:
            raise Gone
        # Counted first: what the loop finds in `out` must not be more than it counts as dealt with.
        self.told_size += size + ITEM
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
        self._heard_size += len(data) + ITEM
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
            except BaseException:
                self._posted = False
                raise
