"""Work in a worker thread for a task on an event loop, and both ends of their hand-over.

The thread asks, the loop answers: `write` hands over items, `drain` waits while too much is in flight, and `read` waits
for what the loop feeds. The side that asks waits, so nothing is held without a limit (see `wait_for_room`).
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Sequence
from contextvars import Context, copy_context
from math import inf
from time import monotonic
from typing import Any, Final, Protocol

import anyio
import anyio.lowlevel

from bridge._concurrency import interop
from bridge._concurrency.byte_queue import HIGH_WATER_BYTES, ITEM_OVERHEAD_BYTES, ByteQueue
from bridge._concurrency.interrupts import may_pass
from bridge._concurrency.jobs import JobThread, PoolClosed, current, request_executor
from bridge._concurrency.loops import AsyncioLoop, LoopClosed, LoopHandle, Spawn, refuse_on_loop, spawner
from bridge._concurrency.per_process import end_child, forks
from bridge._concurrency.pool import ThreadPool
from bridge._stats import Counters

# How often a thread that waits checks whether the loop still exists.
_LOOP_CHECK_SECONDS: Final = 2.0
# A call is slow when it is older than one or two of these.
TICK_SECONDS: Final = 0.1
_TICKS_UNTIL_SLOW: Final = 2
# How long the queue of the pool may stand still before `grow` is called.
_GROW_SECONDS: Final = 0.001
# How long a thread that writes may take nothing of up to so many bytes until it is fed one more item. If twice as many
# wait, it is twice as long.
_UNREAD_SECONDS: Final = 1.0
_UNREAD_BYTES: Final = 2**20
# How many turns of the loop middleware may take to pass on an event after its `send` has returned. BaseHTTPMiddleware
# takes two.
_MIDDLEWARE_TURNS: Final = 12

# freezegun replaces the functions of `time` in all modules, asyncio's too, but not within a tuple.
_STEADY_CLOCK: Final = (monotonic,)

_log = logging.getLogger("bridge")


class PeerGone(Exception):  # not an error of the side that gets it
    """The other end does not wait any more: the client left, the server gave up the request, or the loop is closed."""


class Call:
    """One piece of work in a worker thread. Made on the loop of `dispatcher`, in the context of the request.

    Subclasses implement `work`. `error` is what it raised, when the call is `finished`. `output` holds what it has
    written and the loop has not taken yet. The first write makes this queue.

    Memory order. The two ends do not share a lock. An end that is about to sleep first says so in a flag, then looks at
    the condition once more, and then sleeps. An end that changes the condition changes it first, and then looks at the
    flag. Whichever comes first, one of the two sees the other, so no wake-up is lost. A needless wake-up is harmless:
    every wait is in a loop that looks again. (Others have to see a store before the same thread does its next load.
    Processors do not promise that. With the interpreter lock, Python does. Without it, each store of an attribute, and
    each change of a deque, releases the lock of that object by a compare-and-exchange, which is a full barrier.)

    | field | set by | cleared by | looked at by |
    |---|---|---|---|
    | `finished` | the thread, at the end (the loop, if no thread took it) | never | the loop |
    | `abandoned` | the loop; the thread, if the loop is closed | never | the thread, before it waits or writes |
    | `_posted` | the thread, before the post | the loop, before it looks | the thread: one post serves many changes |
    | `_thread_waits` | the thread, before it looks again | the loop, when it wakes it | the loop, after each change |
    | `_room_wanted` | the loop, before it looks again | the thread, once there is room | the thread, after each read |
    | `_read_wanted` | the thread, before it posts | the loop, when it feeds | the loop |
    | `_waiter`, `_room_waiter` | the loop | the loop | the loop: they are futures, which no thread touches |
    """

    # One instance is made for each request. Attributes that most requests never need exist only on the class. What is
    # read often is set in each instance, because CPython 3.11 finds it there in a fraction of the time.
    error: BaseException | None = None
    output: ByteQueue | None = None
    input: ByteQueue | None = None
    thread: JobThread | None = None
    # The call is older than a tick or two. When this is set, `on_slow` is called on the loop.
    slow = False
    on_slow: Callable[[], object] | None = None
    spawn: Spawn | None = None
    # Called in the thread at the end, before the loop is told.
    on_finish: Callable[[], object] | None = None
    # Whether its thread may wait for the loop while too much is in flight (see `drain`). A call in the thread of an
    # outer request must not wait: that thread has to pass on what the call writes.
    may_block = True
    # Whether it belongs to a thread that waits, in asgiref's async_to_sync, for the task that made it.
    thread_sensitive = False
    # Whether it is fed only when it asks, so that the client does not send what nobody wants.
    fed_on_demand = False
    _steps: Generator[None] | None = None
    _thread_waits = _room_wanted = _read_wanted = False
    _waiter: Awaitable[None] | None = None
    _room_waiter: Awaitable[None] | None = None

    def __init__(self, dispatcher: "Dispatcher") -> None:
        self.dispatcher = dispatcher
        self.context: Context | None = copy_context()
        self.finished = self.abandoned = self._posted = False

    @property
    def kind(self) -> Hashable:
        """What it has in common with other calls that take about as long, or None if that is not known."""
        return None

    def work(self) -> Generator[None] | None:
        """Do the work, in the thread. Longer work is returned as a generator, which yields wherever the work can be
        halted, at least after each `write`.
        """
        raise NotImplementedError

    # -- in the thread

    def run(self, thread: JobThread) -> None:
        """Work to the end, and wait where necessary. A worker calls this."""
        try:
            if self.start_in(thread):
                while self.step():
                    self.drain()
        except PeerGone:
            self.close()
        except BaseException as error:
            # Not an error of the work, but of its hand-over, for example no memory. The loop must be told.
            self.error = self.error or error
            self.close()
            raise

    def start_in(self, thread: JobThread) -> bool:
        """Start the work in `thread`, the current thread. Returns whether there is more to do: `step`, or `close`."""
        self.thread = thread
        dispatcher, context = self.dispatcher, self.context
        if thread.loop is not dispatcher:
            thread.loop = dispatcher
            thread.tasks = dispatcher.token.enter()
        if not self.abandoned and context is not None:
            before = forks.count
            try:
                if len(context):
                    context.run(interop.restore_context, context)
                self._steps = context.run(self.work)
            except BaseException as error:
                self.error = error
            if forks.count != before:
                end_child(self.error)
            if self._steps is not None:
                return True
        self._finish()
        return False

    def step(self) -> bool:
        """Work until it can be halted next. Returns False at the end."""
        assert self.context is not None
        assert self._steps is not None
        before = forks.count
        more = False
        try:
            self.context.run(next, self._steps)
            more = True
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        if forks.count != before:
            end_child(self.error)
        if not more:
            self._finish()
        return more

    def close(self) -> None:
        """End the work where it was halted. The handler of a signal may have halted it before it began, or at its
        end.
        """
        if self.context is not None and self._steps is not None:
            try:
                self.context.run(self._steps.close)
            except BaseException as error:
                self.error = error
        self._finish()

    def prepare_async(self) -> None:
        """Wait, in the thread, for everything that async code on the loop may need, because it could not wait there."""

    def dropped(self) -> None:
        """Note that no thread took it before the pool was closed, or that no thread could be started."""
        self.error = PoolClosed("no thread could be started for it")
        self._finish()

    def write(self, items: Sequence[object], size: int) -> None:
        """Hand `items` (`size` bytes) to the loop. Raises `PeerGone`."""
        if self.abandoned:
            raise PeerGone
        output = self.output
        if output is None:
            output = self.output = ByteQueue()
        # As `ByteQueue.put_marked`, whose call would cost 0.06 us an item.
        output.written = written = output.written + size + ITEM_OVERHEAD_BYTES
        output.items.extend((*items, written))
        self._post()

    def drain(self) -> None:
        """Wait while too many bytes are in flight. Raises `PeerGone`."""
        output = self.output
        if output is not None and output.written - output.acknowledged > HIGH_WATER_BYTES:
            self.wait_while(lambda: output.full)
        if self.abandoned:
            raise PeerGone

    def read(self) -> bytes:
        """Wait for the next item that the loop feeds, and return it. Raises `PeerGone`."""
        queue = self.input
        while queue is None or not queue.items:
            self._thread_waits = True
            queue = self.input
            if queue is None or not queue.items:
                if not self.may_block or self.fed_on_demand:
                    self._read_wanted = True
                    self._post()
                self._wait()
                queue = self.input
        data: bytes = queue.items.popleft()
        queue.acknowledged += len(data) + ITEM_OVERHEAD_BYTES
        if self._room_wanted and not queue.full:
            self._room_wanted = False
            self._post()
        return data

    def wait_while(self, blocked: Callable[[], bool]) -> None:
        """Wait while `blocked()` is true, if this thread may wait. Raises `PeerGone`."""
        while self.may_block and blocked():
            self._thread_waits = True
            if blocked():
                self._wait()

    def _wait(self) -> None:
        if self.abandoned:
            raise PeerGone
        if current.thread is not self.thread:
            # A loop that runs in the call's own thread belongs to the application.
            refuse_on_loop(
                "a request body was read, or a response written,",
                "do it before the async code begins, or in the thread of the request (asgiref's sync_to_async)",
            )
        assert self.thread is not None  # only its own thread waits
        if not self.thread.wait(_LOOP_CHECK_SECONDS) and self.dispatcher.loop.closed:
            self.abandoned = True
            raise PeerGone

    def _finish(self) -> None:
        self.finished = True
        # They refer back to this call. Freed now, they need no garbage collection.
        self._steps = self.context = None
        if self.on_finish is not None:
            self.on_finish()
            self.on_finish = None
        self._post()

    def _post(self) -> None:
        if not self._posted:
            self._posted = True
            try:
                self.dispatcher.loop.post(self)
            except LoopClosed:
                self.abandoned = True
            except BaseException:
                self._posted = False
                raise

    # -- on the loop

    def run_on_loop(self) -> None:
        """Handle what came from the thread: items, room for more, or the end."""
        self._posted = False
        if self.finished:
            self.dispatcher.forget(self)
        self.wake()

    def wake(self) -> None:
        """Wake the task that made the call, and the task that feeds it, so that they look again."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self.dispatcher.loop.wake(waiter)
        room = self._room_waiter
        if room is not None:
            self._room_waiter = None
            self.dispatcher.loop.wake(room)

    def changed(self) -> Awaitable[None]:
        """Wait for `wake`. Only the task that made the call does this."""
        self._waiter = waiter = self.dispatcher.loop.waiter()
        return waiter

    async def yield_to_middleware(self) -> None:
        """If the thread itself has to pass on what was written, wait until it can.

        Middleware may put it into a queue (Starlette's BaseHTTPMiddleware does), and send it when its task has its
        turn. If the thread made the next piece first, this piece would be held back (PEP 3333, "Buffering and
        Streaming").
        """
        if not self.may_block:
            for _ in range(_MIDDLEWARE_TURNS):
                await anyio.lowlevel.checkpoint()

    def acknowledge(self, written: int) -> None:
        """Note that everything written until `output.written` had this value has been dealt with: the thread may
        continue.
        """
        assert self.output is not None
        self.output.acknowledged = written
        if not self.may_block and self.thread is not None:
            self.thread.wake()  # its thread has halted the call, and waits for something else
        else:
            self._wake_thread()

    def feed(self, data: bytes) -> None:
        """Give the thread the item that it waits for in `read`."""
        queue = self.input
        if queue is None:
            queue = self.input = ByteQueue()
        self._read_wanted = False
        # As `ByteQueue.put`, and then `_wake_thread`, whose calls would cost as much as the rest.
        queue.written += len(data) + ITEM_OVERHEAD_BYTES
        queue.items.append(data)
        if self._thread_waits:
            self._wake_thread()

    async def wait_for_room(self) -> None:
        """Wait until the thread has taken most of what it was fed, or, if it is fed on demand, until it asks.

        A thread that writes may never do so. That its client has left would then not be noticed, because this is
        received after what the client has sent. So while it writes, this ends now and then without room or demand.
        """
        loop, queue = self.dispatcher.loop, self.input
        if not self.may_block or self.fed_on_demand:
            # While the head is on its way, the server is not asked for what nobody may want. Unless a send hangs.
            stuck = inf
            while not (self._read_wanted or self.finished or self.abandoned):
                if self.may_block and self.output is not None:
                    if self.output.acknowledged or monotonic() > stuck:
                        break
                    stuck = min(stuck, monotonic() + _UNREAD_SECONDS)
                self._room_waiter = waiter = loop.waiter()
                await loop.wait_at_most(_UNREAD_SECONDS, waiter)
            self._read_wanted = False
            if self.may_block and not self.finished:
                self.fed_on_demand = False  # once it has asked, the rest may be fed ahead of it
            return
        if queue is None or not queue.full:
            return
        # The more waits, the less often, so that it does not grow fast.
        waiting = queue.written - queue.acknowledged
        limit = monotonic() + _UNREAD_SECONDS * max(waiting / _UNREAD_BYTES, 1.0)
        # What it has written may be on its way: a server may let a send wait for ever, although the client has left.
        while queue.full and not (self.finished or self.abandoned or (self.output is not None and monotonic() > limit)):
            self._room_wanted = True
            if queue.full:
                self._room_waiter = waiter = loop.waiter()
                await loop.wait_at_most(_UNREAD_SECONDS, waiter)

    def abandon(self) -> None:
        """Give up the work: if it waits, it is never run. If it runs, it gets `PeerGone` when it next asks."""
        if self.abandoned or self.finished:
            return
        self.abandoned = True
        if self.dispatcher.pool.withdraw(self):
            self.dispatcher.forget(self)
            self.finished = True
            self.context = None
        thread = self.thread
        if thread is not None and thread.job is self:
            for task in thread.tasks:
                task.cancel()  # what asgiref's async_to_sync runs on this loop for the thread
            thread.wake()
        self.wake()

    def _wake_thread(self) -> None:
        if self._thread_waits and self.thread is not None:
            self._thread_waits = False
            self.thread.wake()


class Serving:
    """What lasts as long as the server of one event loop. All dispatchers of one adapter for that loop share it."""

    def __init__(self) -> None:
        # Starts tasks there, if the loop has no tasks outside a group. Of several that overlap, the newest.
        self.spawn: Spawn | None = None
        self._spawns: list[Spawn] = []
        # What has to end before the loop: coroutine functions.
        self.at_shutdown: list[Callable[[], Coroutine[Any, Any, None]]] = []
        # Its last shutdown needs no threads any more.
        self.ended = False

    async def run(self, function: Callable[[], Coroutine[Any, Any, None]], *, grouped: bool) -> None:
        """Run `function`, which lasts as long as the server, so that other tasks can too. `grouped`: they need a
        group.
        """
        if not grouped:
            await function()
            return
        failure: BaseException | None = None
        async with anyio.create_task_group() as group:
            self.spawn = spawn = spawner(group)
            self._spawns.append(spawn)
            try:
                await function()
            except BaseException as error:
                if not may_pass(error):
                    raise
                failure = error  # raised outside, so that it does not become a group
            finally:
                self._spawns.remove(spawn)
                self.spawn = self._spawns[-1] if self._spawns else None
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def end(self, timeout: float) -> None:
        """Run what has to end before the loop, the latest first, and what is added meanwhile. After `timeout` seconds,
        nothing that is added later: requests that go on coming must not keep this from ending.
        """
        deadline = monotonic() + timeout
        while self.at_shutdown:
            ending, self.at_shutdown = self.at_shutdown, []
            while ending:
                await ending.pop()()
            if monotonic() > deadline:
                return


class Dispatcher:
    """Submits the calls of one event loop, grows the pool, and looks after slow calls.

    It is used only on its loop, except `spare`, which threads call too.
    """

    def __init__(
        self,
        pool: ThreadPool,
        spare: Callable[[], ThreadPool],
        loop: LoopHandle,
        key: object,
        slow_warning: float | None,
    ) -> None:
        self.pool = pool
        # Threads for requests whose own thread has left.
        self.spare = spare
        self.loop = loop
        self.key = key
        self.token = interop.LoopToken(loop)
        self.slow_warning = slow_warning
        self.counters = Counters()
        # Responses that continue without a thread (`LoopResponse`), until they are closed.
        self.streams: set[Any] = set()
        # How often the other side has said at once that a client had left, but the response was ready anyway. None when
        # the other side was seen to wait before it said it.
        self.hasty: int | None = 0
        self.serving = Serving()
        # Calls and streams that a shutdown does not wait for any longer.
        self.left_behind: set[Any] = set()
        # How many ticks old each call is.
        self._calls: dict[Any, int] = {}
        self._logged: set[Any] = set()
        self._growing = self._ticking = False

    @property
    def live(self) -> list[Any]:
        """The calls that have not finished. A loop that is closed hears of no end."""
        return [call for call in list(self._calls) if not call.finished]

    def submit(self, call: Call) -> None:
        """Start a call. On the loop. Raises `RuntimeError` if no thread can be started."""
        loop = self.loop
        executor = request_executor.get()
        if executor is not None:
            # If it runs in that thread, the same thread has to pass on what it writes.
            call.may_block = False
            if not executor.run_call(call):
                call.may_block = True
        if call.may_block and not (call.thread_sensitive and executor is None and interop.borrow(call)):
            # If the loop has no timers, or its clock stands still, as in a test, nothing could grow the pool later.
            grow = self.pool.submit(call, eager=not loop.is_asyncio or monotonic is not _STEADY_CLOCK[0])
            if grow and not self._growing and isinstance(loop, AsyncioLoop):
                self._growing = True
                loop.call_later(_GROW_SECONDS, self._grow)
        self.watch(call)

    def watch(self, call: Any) -> None:
        """Call `tick` for `call` on every tick, until `forget`. Not on trio, where the call's own task does this."""
        self._calls[call] = 0
        if not self._ticking and isinstance(self.loop, AsyncioLoop):
            self._ticking = True
            self.loop.call_later(TICK_SECONDS, self._tick)

    def forget(self, call: Any) -> None:
        """Note that the call has finished."""
        self._calls.pop(call, None)
        if self._logged:
            self._logged.discard(call)

    def tick(self, call: Any) -> None:
        """Note that `TICK_SECONDS` have passed. Mark the call slow at the second tick. After `slow_warning` seconds,
        log its stack once.

        A watched object has `slow`, `on_slow`, `wake` and `thread`. Its `str()` says what it is.
        """
        age = self._calls.get(call, 0) + 1
        if call in self._calls:
            self._calls[call] = age
        if age == _TICKS_UNTIL_SLOW:
            call.slow = True
            if call.on_slow is not None:
                call.on_slow()
            call.wake()
        thread, bound = call.thread, self.slow_warning
        if bound is None or thread is None or thread.job is not call or call in self._logged:
            return
        seconds = monotonic() - thread.since
        if seconds > bound:
            self._logged.add(call)
            _log.warning("%s has taken %.1f seconds so far; its %s", call, seconds, thread.describe())

    def _grow(self) -> None:
        self._growing = self.pool.grow()
        if self._growing and isinstance(self.loop, AsyncioLoop):
            self.loop.call_later(_GROW_SECONDS, self._grow)

    def _tick(self) -> None:
        for call in list(self._calls):
            self.tick(call)
        self._ticking = bool(self._calls)
        if self._ticking and isinstance(self.loop, AsyncioLoop):
            self.loop.call_later(TICK_SECONDS, self._tick)


class FunctionCall(Call):
    """Calls `function`. `result` is what it returned."""

    result: Any = None

    def __init__(self, dispatcher: Dispatcher, function: Callable[[], Any]) -> None:
        super().__init__(dispatcher)
        self._function = function

    def __str__(self) -> str:
        return f"the call of {self._function!r}"

    def work(self) -> None:
        """Call it."""
        self.result = self._function()


async def run_in_thread(dispatcher: Dispatcher, function: Callable[[], Any]) -> Any:
    """Run `function` in a worker thread. Returns its result, and raises what it raises.

    Raises `PoolClosed` if no thread can be started.
    """
    call = FunctionCall(dispatcher, function)
    try:
        dispatcher.submit(call)
    except RuntimeError as error:
        raise PoolClosed(str(error)) from error
    try:
        while not call.finished:
            await call.changed()
    except BaseException:
        call.abandon()
        raise
    if call.error is not None:
        raise call.error
    return call.result


class OuterCall(Protocol):
    """What a thread works for, as nested adapters see it. Their own work belongs to the same loop, and ends when this
    call is abandoned.
    """

    dispatcher: Dispatcher
    spawn: Spawn | None
    abandoned: bool


def call_of(thread: JobThread | None) -> OuterCall | None:
    """Return what `thread` works for, if that came from an event loop."""
    job: Any = None if thread is None else thread.job
    outer: OuterCall | None = job if isinstance(job, Call) else getattr(job, "call", None)
    return outer
