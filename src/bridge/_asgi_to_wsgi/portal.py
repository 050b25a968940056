"""Runs async code for a request from its thread: on the server's loop, or on the private loop.

`Portal.call` waits for a coroutine function. `Portal.iterate` waits for the chunks of an async iterable, one after the
other. While the thread waits, it runs thread-sensitive code (asgiref's word), so that such code stays in the thread of
its request.
"""

import asyncio
import weakref
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from typing import Any, Final, cast

import anyio.lowlevel

from bridge._asgi_to_wsgi.app_runner import AppRunner, AppRunners, Options, RunnerEnded
from bridge._asgi_to_wsgi.task import CLEANUP_SECONDS, ENDED, POLL_SECONDS, Task, has_left, look_at_client
from bridge._concurrency import interop
from bridge._concurrency.byte_queue import HIGH_WATER_BYTES
from bridge._concurrency.calls import PeerGone
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import Spawn, aclose
from bridge._concurrency.private_loop import LoopFactory
from bridge._servers.connection import Connection
from bridge._types import ASGIApp, ClosableIterator, Environ

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]
# What `uninstall` needs: whether `install` gave the thread a loop, and what `prepare` was before.
Installed = tuple[bool, Callable[[], None] | None]

_STARTUP_SECONDS: Final = 60.0
_SHUTDOWN_SECONDS: Final = 30.0
_SLOW_SECONDS: Final = 1.0


class Portal:
    """The way from request threads to the loops that their async code runs on; `options` as for `AsgiToWsgi`."""

    def __init__(self, options: Options) -> None:
        self._runners = AppRunners(options)
        weakref.finalize(self, self._runners.discard).atexit = False
        self.loop: LazyLoop = LazyLoop(self._runners)

    @classmethod
    def of(
        cls,
        loop_factory: LoopFactory | None,
        lifespan: ASGIApp | None = None,
        *,
        startup_timeout: float = _STARTUP_SECONDS,
        shutdown_timeout: float = _SHUTDOWN_SECONDS,
    ) -> "Portal":
        """Make a portal that cancels code at once when nothing waits for it any more. `lifespan` is the application
        whose lifespan it runs, if any.
        """
        return cls(
            Options(
                app=lifespan or _no_lifespan,
                lifespan="on" if lifespan else "off",
                startup_timeout=startup_timeout,
                shutdown_timeout=shutdown_timeout,
                disconnect_grace=0.0,
                loop_factory=loop_factory,
                slow_warning=_SLOW_SECONDS,
            )
        )

    def call(self, environ: Environ, function: AsyncFunction, /, *args: Any, **kw: Any) -> Any:
        """Wait for `function(*args, **kw)`, for the request of `environ`. Returns its result, and raises what it
        raises.

        When the client leaves, the function is cancelled, and this raises `asyncio.CancelledError`.
        """
        __traceback_hide__ = True
        interop.prepare_async()
        while True:
            runner, spawn = self._runners.here()
            try:
                return _AsyncCall(runner, spawn, Connection(environ), lambda: function(*args, **kw)).result()
            except RunnerEnded:
                continue  # closed meanwhile; nothing has been called

    def iterate(self, environ: Environ, chunks: Callable[[], AsyncIterable[bytes]]) -> ClosableIterator:
        """Return an iterator over the chunks of `chunks()`, a limited number of bytes ahead. It must be closed."""
        return PortalIterator(lambda: _Iteration(*self._runners.here(), Connection(environ), chunks))

    def install(self) -> Installed:
        """Let asgiref's `async_to_sync` run on this portal's loop, in a thread that belongs to no loop yet.

        Returns the argument for `uninstall`, which ends this.
        """
        return current.thread is None and interop.enter_lazily(self.loop), current.prepare

    def prepare(self, prepare: Callable[[], None] | None) -> None:
        """Until `uninstall`, call `prepare`, if it is given, before async code runs for this thread: it gets ready
        whatever the code may need from the thread. Not for a thread of a dispatcher, whose calls have a `prepare_async`
        of their own.
        """
        current.prepare = prepare

    def uninstall(self, installed: Installed) -> None:
        """Restore the thread to its state before `install`: it may be inside another request."""
        entered, current.prepare = installed
        if entered:
            interop.leave()

    def state(self) -> dict[str, Any]:
        """The lifespan state, if this portal has a lifespan."""
        lifespan = self._runners.here()[0].lifespan
        return {} if lifespan is None else lifespan.state

    def is_on_asyncio(self) -> bool:
        """Whether the request of this thread belongs to an asyncio loop."""
        return self._runners.here()[0].loop.is_asyncio

    def close(self) -> None:
        """End what runs, and the private loop if nothing else needs it. From a thread."""
        self._runners.close()


class LazyLoop:
    """Stands for the loop of a portal, which starts when it is first used."""

    def __init__(self, runners: AppRunners) -> None:
        self._runners = runners

    def is_running(self) -> bool:
        """Whether it can be used: always."""
        return True

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        """Like the loop's own, which is the way from a thread to the loop."""
        interop.prepare_async()
        return self.__getattr__("call_soon_threadsafe")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        handle: Any = self._runners.here()[0].loop  # an asyncio loop: this is for threads of WSGI servers
        return getattr(handle.loop, name)


async def _no_lifespan(_scope: object, _receive: object, _send: object) -> None:
    """Never called."""


class _AsyncCall(Task):
    """One call of a coroutine function."""

    _value: Any = None

    def __init__(self, runner: AppRunner, spawn: Spawn, connection: Connection, function: Callable[[], Any]) -> None:
        super().__init__(runner, spawn, connection)
        self._function = function
        # As with asgiref's async_to_sync, the waiting thread gets to see the context variables that the task sets.
        self._inside = self.context

    async def work(self) -> None:
        """Call it."""
        __traceback_hide__ = True
        self._value = await self._function()

    def result(self) -> Any:
        """Start it, wait for its end, and return its result. In the thread."""
        __traceback_hide__ = True
        thread = self.thread
        try:
            self.start()
            while not (self.finished or self.disconnected):
                thread.expect_notice()
                if not (self.finished or thread.serve_one()):
                    self.rest(POLL_SECONDS)
            self.linger(CLEANUP_SECONDS)
        finally:
            if not self.finished:
                self.disconnect()
            self.release()
        if not self.finished:
            raise asyncio.CancelledError("the client left")
        if self._inside is not None:
            interop.copy_context_back(self._inside)
        _raise_error(self)
        return self._value


class _Iteration(Task):
    """One iteration of an async iterable."""

    def __init__(
        self, runner: AppRunner, spawn: Spawn, connection: Connection, chunks: Callable[[], AsyncIterable[bytes]]
    ) -> None:
        super().__init__(runner, spawn, connection)
        self._chunks = chunks

    async def work(self) -> None:
        """Iterate, a bounded number of bytes ahead."""
        iterator = aiter(self._chunks())
        try:
            async for chunk in iterator:
                if chunk:
                    self.write((chunk,))
                    await self.drain()
        except PeerGone:
            # The thread takes nothing any more. The iterator gets one sign of that, not two: a cancellation would end
            # its cleanup. If there is one on its way, it comes here.
            if self.expiring:
                await anyio.lowlevel.checkpoint()
            self.expiring = True
        finally:
            await aclose(iterator)


def _raise_error(task: Task) -> None:
    """Raise what the task raised, in the thread."""
    __traceback_hide__ = True
    error, task.error = task.error, None
    if error is None:
        return
    try:
        # If this task's code waited for another task of the same request (an async view below async and sync middleware
        # of Django), only that one was told that the client has left.
        if isinstance(error, asyncio.CancelledError) and not (task.disconnected or has_left(task)):
            # Nothing cancels this thread: the code let a CancelledError out that it should have caught.
            raise RuntimeError("async code ended with a CancelledError, but its client has not left") from error
        raise error
    finally:
        del error  # its traceback refers to this frame


class PortalIterator:
    """Iterates over the chunks of an async iterable, and joins those that have piled up. It must be closed."""

    def __init__(self, make: Callable[[], _Iteration]) -> None:
        self._make = make
        self._closed = True  # until there is an iteration to close, because making one may raise
        self._start()
        self._closed = False

    def _start(self) -> None:
        while True:
            self._iteration = iteration = self._make()
            try:
                iteration.start()
            except RunnerEnded:
                iteration.release()
                continue
            return

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Wait for the next chunk. Raises what the iterable raises, or what tells the server that the client left."""
        iteration = self._iteration
        try:
            item = iteration.next()
        except RunnerEnded:
            # The runner was closed before the iteration began, so the next runner can do it.
            iteration.release()
            self._start()
            return next(self)
        except PeerGone:
            item = ENDED
        if item is ENDED:
            self.close()
            if iteration.disconnected:
                raise iteration.connection.departure("the client left in the middle of the response", begun=True)
            _raise_error(iteration)
            raise StopIteration
        output = iteration.output
        limit = output.acknowledged + HIGH_WATER_BYTES  # as in the responder
        chunks = [cast(bytes, item)]
        while output.items and output.acknowledged <= limit:
            chunks.append(iteration.next())
        look_at_client(iteration)
        return b"".join(chunks)

    def close(self) -> None:
        """End the iteration, if it has not ended. In the thread."""
        if not self._closed:
            self._closed = True
            try:
                if not self._iteration.finished:
                    self._iteration.disconnect()
                    self._iteration.linger(CLEANUP_SECONDS)
            finally:
                self._iteration.release()

    def __del__(self) -> None:
        if not self._closed:
            self._iteration.drop()
