"""The way between threads and one event loop: come back in batches, wait on the loop, start a task there.

On asyncio and uvloop it is an `AsyncioCrossing`, on trio a `TrioCrossing`. Whatever is posted from a thread has its
`arrived()` called on the loop; one wake-up of the loop serves all that was posted until then.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup


class LoopGone(RuntimeError):
    """The event loop is closed."""


class Arriving(Protocol):
    """What can be posted to a loop."""

    def arrived(self) -> None:
        """Runs on the loop, soon after the post."""


class AsyncioCrossing:
    """The way to one asyncio (or uvloop) loop."""

    is_asyncio = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._posted: deque[Arriving] = deque()
        self._signalled = False
        # On the loop: something to wait for, that `wake` ends.
        self.waiter: Callable[[], Awaitable[None]] = loop.create_future
        # On the loop: run a function soon, or after some seconds.
        self.call_soon = loop.call_soon
        self.call_later = loop.call_later

    def post(self, target: Arriving) -> None:
        """Have `target.arrived()` run on the loop; from any thread. Raises `LoopGone`."""
        self._posted.append(target)
        if not self._signalled:
            self._signalled = True
            try:
                self.loop.call_soon_threadsafe(self._deliver)
            except BaseException as error:
                self._signalled = False  # else nobody would ever try again
                if isinstance(error, RuntimeError):
                    raise LoopGone("the event loop is closed") from None
                raise

    def _deliver(self) -> None:
        # Down before the first popleft: what is appended after the last one then finds it down, and signals anew.
        self._signalled = False
        posted = self._posted
        try:
            while posted:
                posted.popleft().arrived()
        except BaseException:
            self.loop.call_soon(self._deliver)  # what one cannot take is not what the others have to wait for
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

    def spawn(self, coroutine: Coroutine[Any, Any, None], context: Context | None = None) -> asyncio.Task[None]:
        """Start a task; on the loop."""
        if context is None:
            return self.loop.create_task(coroutine)
        # From inside the context as well: tracers hand on what is active where a task is made, and that is here what
        # the first of a batch of requests has.
        task: asyncio.Task[None] = context.run(functools.partial(self.loop.create_task, coroutine, context=context))
        return task

    @property
    def gone(self) -> bool:
        """Whether the loop is closed."""
        return self.loop.is_closed()


class _TrioWaiter:
    def __init__(self) -> None:
        self._event = anyio.Event()
        self.wake = self._event.set

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()


class TrioCrossing:
    """The way to one trio run."""

    is_asyncio = False
    waiter = _TrioWaiter

    def __init__(self) -> None:
        self._token: Any = anyio.lowlevel.current_token().native_token

    def post(self, target: Arriving) -> None:
        """Have `target.arrived()` run on the loop; from any thread. Raises `LoopGone`."""
        try:
            self._token.run_sync_soon(target.arrived)
        except RuntimeError:  # trio.RunFinishedError; trio itself need not be importable here
            raise LoopGone("the trio run is over") from None

    def wake(self, waiter: Any) -> None:
        """End the wait of a `waiter()`; on the loop."""
        waiter.wake()

    async def wait_at_most(self, seconds: float, waiter: Any) -> None:
        """Wait for a `waiter()`, or until the time is over; on the loop."""
        with anyio.move_on_after(seconds):
            await waiter

    @property
    def gone(self) -> bool:
        """Whether the run is over."""
        try:
            self._token.run_sync_soon(bool)
        except RuntimeError:
            return True
        return False


Crossing = AsyncioCrossing | TrioCrossing

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
