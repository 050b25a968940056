"""Runs async code for a request from its thread: on the server's loop, or on the private loop.

`Portal.call` waits for a coroutine function. `Portal.iterate` waits for the chunks of an async iterable, one after the
other. While the thread waits, it runs thread-sensitive code (asgiref's word), so that such code stays in the thread of
its request.
"""

import asyncio
import weakref
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from typing import Any, Final, cast

from bridge._asgi_to_wsgi.app_runner import AppRunner, AppRunners, Options, RunnerEnded
from bridge._asgi_to_wsgi.task import ENDED, POLL_SECONDS, Task
from bridge._concurrency import interop
from bridge._concurrency.calls import PeerGone
from bridge._concurrency.jobs import current
from bridge._concurrency.loops import Spawn, aclose
from bridge._concurrency.private_loop import LoopFactory
from bridge._servers.connection import Connection
from bridge._types import ASGIApp, ClosableIterator, Environ
from bridge.errors import ClientDisconnected

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]
# Whether the thread belonged to no loop before, and what was called before async code ran for it.
Installed = tuple[bool, Callable[[], None] | None]

# How long the thread stays for what cancelled code still has to clean up, in seconds.
_CLEANUP_SECONDS: Final = 3.0
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
        """One that cancels at once what nobody waits for any more, with a lifespan where an application has one."""
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

        When the client leaves, it is cancelled, and `asyncio.CancelledError` raised here.
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
        """An iterator over the chunks of `chunks()`, to be closed; it runs ahead of its user by a bounded number."""
        return PortalIterator(lambda: _Iteration(*self._runners.here(), Connection(environ), chunks))

    def install(self) -> Installed:
        """Let asgiref's `async_to_sync` run on this portal's loop, in a thread that belongs to no loop yet.

        Returns what `uninstall` is to be called with when that is to end.
        """
        return current.thread is None and interop.enter_lazily(self.loop), current.prepare

    def prepare(self, prepare: Callable[[], None]) -> None:
        """Have `prepare` called in this thread before async code runs for it, until `uninstall`: all must be there that
        the code may want of the thread. Not in a thread of a dispatcher, whose calls prepare themselves.
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
        """Whether the loop that this thread's request belongs to is one of asyncio."""
        return self._runners.here()[0].loop.is_asyncio

    def close(self) -> None:
        """End what runs, and the private loop if nobody else needs it. From a thread."""
        self._runners.close()


class LazyLoop:
    """Stands for the loop of a portal, which is started by the first who uses it."""

    def __init__(self, runners: AppRunners) -> None:
        self._runners = runners

    def is_running(self) -> bool:
        """Whether it can be used: always."""
        return True

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        """As the loop's own, which is the way from a thread to it."""
        interop.prepare_async()
        return self.__getattr__("call_soon_threadsafe")(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        handle: Any = self._runners.here()[0].loop  # of asyncio: it is for threads of WSGI servers
        return getattr(handle.loop, name)


async def _no_lifespan(_scope: object, _receive: object, _send: object) -> None:
    """Never called."""


class _AsyncCall(Task):
    """One call of a coroutine function."""

    _value: Any = None

    def __init__(self, runner: AppRunner, spawn: Spawn, connection: Connection, function: Callable[[], Any]) -> None:
        super().__init__(runner, spawn, connection)
        self._function = function
        # What the task sets is to be seen in the thread that has waited for it, as asgiref's async_to_sync has it.
        self._inside = self.context

    async def work(self) -> None:
        """Call it."""
        __traceback_hide__ = True
        self._value = await self._function()

    def result(self) -> Any:
        """Start it, and wait for its end; in the thread."""
        __traceback_hide__ = True
        thread = self.thread
        try:
            self.start()
            while not (self.finished or self.disconnected):
                thread.expect_notice()
                if not (self.finished or thread.serve_one()):
                    self.rest(POLL_SECONDS)
            self.linger(_CLEANUP_SECONDS)
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
            pass  # the thread has left, and is told nothing any more
        finally:
            await aclose(iterator)


def _raise_error(task: Task) -> None:
    """Raise what the task raised, in the thread."""
    __traceback_hide__ = True
    error, task.error = task.error, None
    if error is None:
        return
    try:
        if isinstance(error, asyncio.CancelledError) and not task.disconnected:
            # Nobody cancels this thread: it is the code itself that has let out what it should have caught.
            raise RuntimeError("async code ended with a CancelledError, but its client has not left") from error
        raise error
    finally:
        del error  # its traceback refers to this frame


class PortalIterator:
    """The chunks that an async iterable has made, joined where they have piled up. To be closed."""

    def __init__(self, make: Callable[[], _Iteration]) -> None:
        self._make = make
        self._closed = True  # until there is an iteration to close: to make one may raise
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
        """Wait for the next chunk. Raises what the iterable raises, or `ClientDisconnected`."""
        iteration = self._iteration
        try:
            item = iteration.next()
        except RunnerEnded:
            # Closed before the iteration had begun, so that it can begin with the next.
            iteration.release()
            self._start()
            return next(self)
        except PeerGone:
            item = ENDED
        if item is ENDED:
            self.close()
            if iteration.disconnected:
                raise ClientDisconnected("the client left in the middle of the response")
            _raise_error(iteration)
            raise StopIteration
        chunks = [cast(bytes, item)]
        while iteration.output.items:
            chunks.append(iteration.next())
        return b"".join(chunks)

    def close(self) -> None:
        """End the iteration, if it has not ended. In the thread."""
        if not self._closed:
            self._closed = True
            try:
                if not self._iteration.finished:
                    self._iteration.disconnect()
                    self._iteration.linger(_CLEANUP_SECONDS)
            finally:
                self._iteration.release()

    def __del__(self) -> None:
        if not self._closed:
            self._iteration.drop()
