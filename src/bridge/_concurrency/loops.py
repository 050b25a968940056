"""The way from threads to one event loop, and what a task waits for there.

On asyncio and uvloop it is an `AsyncioLoop`, on trio a `TrioLoop`. A thread posts an object, and the loop calls its
`run_on_loop()`. One wake-up of the loop serves everything that was posted until then.
"""

import asyncio
import functools
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from anyio.abc import TaskGroup  # on CPython 3.11, it imports typing_extensions


class LoopClosed(RuntimeError):
    """The event loop is closed."""


class GroupClosed(RuntimeError):
    """The task group that a task would belong to is closed."""


def runs_loop() -> bool:
    """Whether an event loop runs in this thread."""
    # None as well while another thread is importing trio: then there is no run of trio yet.
    in_trio_run: Any = getattr(sys.modules.get("trio.lowlevel"), "in_trio_run", None)
    # Usually no asyncio loop runs in this thread. This call says so without an exception.
    return asyncio._get_running_loop() is not None or (in_trio_run is not None and in_trio_run())


def refuse_on_loop(what: str, instead: str) -> None:
    """Raise `RuntimeError` if an event loop runs in this thread, because `what` waits and would block the loop.

    All our code that waits in a thread calls this first.
    """
    # The same as `runs_loop()`, which is a call less for most.
    if asyncio._get_running_loop() is not None or ("trio.lowlevel" in sys.modules and runs_loop()):
        raise RuntimeError(f"{what} on an event loop, which this would block; {instead}")


class Postable(Protocol):
    """What can be posted to a loop."""

    def run_on_loop(self) -> object:
        """Runs on the loop, soon after the post."""


class Posted:
    """A function without arguments that can be posted. For rare cases: the objects of a request are posted themselves,
    which saves a call.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def run_on_loop(self) -> object:
        """Call it."""
        return self._function()


class AsyncioLoop:
    """The way to one asyncio (or uvloop) loop.

    Memory order of `post` and `deliver` (see `calls.Call` for what Python promises): `post` appends first, and looks
    at the flag (`signalled`) after that; `deliver` clears the flag before it counts the items. If an item is appended
    after that, its post finds the flag cleared, and signals again. If the loop has been closed, a post may find the
    flag set by another post, which is about to find out. That other post then drops both items (see `drop_posted`).
    """

    is_asyncio = True
    # What is raised in a task that is cancelled.
    cancelled: type[BaseException] = asyncio.CancelledError

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._posted: deque[Postable] = deque()
        self.signalled = False
        # On the loop: something to wait for, until `wake`.
        self.waiter: Callable[[], Awaitable[None]] = loop.create_future
        # On the loop: run a function after some seconds. The context is empty, because a timer serves all requests. It
        # must neither see the context of the request that happens to start it, nor keep that alive.
        self.call_later = functools.partial(loop.call_later, context=Context())

    def post(self, target: Postable) -> None:
        """Have `target.run_on_loop()` called on the loop; from any thread. Raises `LoopClosed`."""
        self._posted.append(target)
        if not self.signalled:
            self.signalled = True
            try:
                self.signal()
            except BaseException as error:
                self.signalled = False  # otherwise no post would try again
                if isinstance(error, RuntimeError):
                    self.drop_posted()
                    raise LoopClosed("the event loop is closed") from None
                raise

    def signal(self) -> None:
        """Have `deliver` called on the loop. From any thread. Raises `RuntimeError` if the loop is closed."""
        self.loop.call_soon_threadsafe(self.deliver)

    def drop_posted(self) -> None:
        """The loop is closed: tell the posted items that it will not run them, if they have a `turn_away`."""
        self.signalled = False
        with suppress(IndexError):  # another thread may do the same
            while self._posted:
                turn_away = getattr(self._posted.popleft(), "turn_away", None)
                if turn_away is not None:
                    turn_away()

    def deliver(self) -> None:
        """Run what was posted; on the loop."""
        self.signalled = False
        posted = self._posted
        try:
            # Not what is posted meanwhile: its post has signalled again, and other callbacks have their turn first.
            for _ in range(len(posted)):
                posted.popleft().run_on_loop()
        except BaseException:
            self.loop.call_soon(self.deliver)  # if one item fails, the others still run
            raise

    def wake(self, waiter: Any) -> None:
        """End the wait of a `waiter()`; on the loop."""
        if not waiter.done():
            waiter.set_result(None)

    async def wait_at_most(self, seconds: float, waiter: Any) -> None:
        """Wait for a `waiter()`, or until the time is over; on the loop."""
        timer = self.loop.call_later(seconds, self.wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def spawn(self, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """Start a task; on the loop. On Python 3.12 and newer, its first step is over when this returns, which saves a
        turn of the loop. A loop with a task factory decides that for itself.
        """
        if sys.version_info >= (3, 12) and self.loop.get_task_factory() is None:
            return asyncio.Task(coroutine, loop=self.loop, context=context, eager_start=True)
        # Also make the task inside the context: tracers pass on what is active where a task is made. Outside, that
        # would belong to the first of a batch of requests. A copy, because an eager task enters its context at once.
        return context.copy().run(self.loop.create_task, coroutine, context=context)

    @property
    def closed(self) -> bool:
        """Whether the loop is closed."""
        return self.loop.is_closed()

    @property
    def runs(self) -> bool:
        """Whether the loop runs now. From any thread."""
        return self.loop.is_running()


class _TrioWaiter:
    """What a task on trio waits for, instead of a future."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.wake = self._event.set

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()


class TrioLoop:
    """The way to one trio run. Trio's own entry queue holds the order that `AsyncioLoop` describes."""

    is_asyncio = False
    waiter = _TrioWaiter

    def __init__(self) -> None:
        self._token: Any = anyio.lowlevel.current_token().native_token
        self.cancelled = anyio.get_cancelled_exc_class()

    def post(self, target: Postable) -> None:
        """Have `target.run_on_loop()` called on the loop; from any thread. Raises `LoopClosed`."""
        try:
            self._token.run_sync_soon(target.run_on_loop)
        except RuntimeError:  # trio.RunFinishedError; trio itself need not be importable here
            raise LoopClosed("the trio run is over") from None

    def wake(self, waiter: Any) -> None:
        """End the wait of a `waiter()`; on the loop."""
        waiter.wake()

    async def wait_at_most(self, seconds: float, waiter: Any) -> None:
        """Wait for a `waiter()`, or until the time is over; on the loop."""
        with anyio.move_on_after(seconds):
            await waiter

    @property
    def closed(self) -> bool:
        """Whether the run is over."""
        try:
            self._token.run_sync_soon(bool)
        except RuntimeError:
            return True
        return False

    @property
    def runs(self) -> bool:
        """Whether the run goes on. From any thread."""
        return not self.closed


LoopHandle = AsyncioLoop | TrioLoop

# Starts a coroutine function as a task in the given context. Returns a function that cancels it. Raises `GroupClosed`.
Spawn = Callable[[Callable[[], Coroutine[Any, Any, None]], Context], Callable[[], object]]


def spawner(group: "TaskGroup") -> Spawn:
    """Return a function that starts tasks in `group`, for loops that do not have tasks outside a group."""

    def spawn(function: Callable[[], Coroutine[Any, Any, None]], context: Context) -> Callable[[], object]:
        scope = anyio.CancelScope()

        async def scoped() -> None:
            with scope:
                await function()

        coroutine = scoped()
        try:
            context.run(group.start_soon, lambda: coroutine)
        except BaseException as error:
            # anyio does not close it if the group has closed but its owner has not had its turn since.
            coroutine.close()
            if isinstance(error, RuntimeError):
                raise GroupClosed("the task group is closed") from None
            raise
        return scope.cancel

    return spawn


class ThreadEvent:
    """An event that is set once, in a thread, and that one task waits for, on the loop that made it."""

    def __init__(self, loop: LoopHandle) -> None:
        self._loop = loop
        self._waiter: Any = loop.waiter()

    def set(self) -> None:
        """End the wait; from any thread."""
        # After the deadline, nothing waits for a thread's end any more.
        with suppress(LoopClosed):
            self._loop.post(self)

    def run_on_loop(self) -> None:
        """Wake the task."""
        self._loop.wake(self._waiter)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait for `set`, `timeout` seconds at most if there is a limit."""
        if timeout is None:
            await self._waiter
        else:
            await self._loop.wait_at_most(timeout, self._waiter)


async def aclose(iterator: object) -> None:
    """Close an async iterator if it can be closed: generators can, others perhaps not."""
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
