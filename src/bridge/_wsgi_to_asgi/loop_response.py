"""What a request does on its event loop without a thread: the rest of a response, or all of one."""

import asyncio
import logging
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, Protocol

from bridge._concurrency import interop
from bridge._concurrency.call_thread import ITEM, Side
from bridge._concurrency.jobs import lender
from bridge._concurrency.loops import LoopGone
from bridge._concurrency.on_demand_thread import Lease
from bridge._translate.response_to_events import Items, Response
from bridge._wsgi_to_asgi.dispatchers import FunctionCall
from bridge._wsgi_to_asgi.loop_body import LoopBody

_log = logging.getLogger("bridge")

# How long the head of a response waits for the first chunk, in seconds.
_SOON: Final = 0.05


class Taker(Protocol):
    """Who sends what is made."""

    side: Side
    out: Any
    told_size: int
    gone: bool

    def fail(self, error: BaseException) -> None:
        """The application raised `error`."""

    def wake(self) -> None:
        """There is something in `out`, or all is made."""

    @property
    def stalled(self) -> bool:
        """Whether more than a bound of what was told has not been sent yet."""
        ...


class LoopWork:
    """A task that makes a response, a bounded number of bytes ahead of what `taker` has sent.

    It runs in `context`, which nothing else does; the taker sends from a task of its own, so that what the application
    sets there is not seen by the connection's next request. Thread-sensitive work takes a thread when it comes, in
    which `enter` is called first. The owner of the context may make this in a thread; it is used on the loop.
    """

    def __init__(self, taker: Taker, response: Response, context: Context, enter: Callable[[], object]) -> None:
        self.taker = taker
        self.response = response
        self.context = context
        self.lease = Lease(taker.side.spare, enter)
        self.lease.call = taker
        self.done = self.closed = False
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def work(self) -> None:
        """Make the response; in the task."""
        raise NotImplementedError

    def end(self) -> None:
        """Called in a thread at the very end, however that came (PEP 3333, "Specification Details": close())."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the task, if that has not been done."""
        if self._task is not None or self.done:
            return
        # Made in its own context, too: tracers hand on what is active there.
        make = asyncio.get_running_loop().create_task
        self._task = task = self.context.run(lambda: make(self._run(), context=self.context))
        self.taker.side.streams.add(self)  # a loop holds its tasks weakly
        task.add_done_callback(self._finish)

    def abandon(self) -> None:
        """Nobody wants the rest."""
        if self._task is not None:
            self._task.cancel()
        elif not self.done:
            self.done = True
            self.close()

    def took(self) -> None:
        """Something was sent."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def arrived(self) -> None:
        """On the loop, when all is over."""
        self.closed = True
        self.taker.wake()

    async def _run(self) -> None:
        interop.rehome(self.context)
        lender.set(self.lease)
        interop.serve_sensitive(inherits=True)
        await self.work()

    async def send(self, chunks: AsyncIterable[bytes]) -> None:
        """Tell the whole body."""
        if not self.response.bodyless:
            iterator = aiter(chunks)
            # Clients wait for the head of a feed that has nothing to say yet; but one that fails at once is an error.
            flush = asyncio.get_running_loop().call_later(_SOON, self._flush)
            try:
                async for chunk in iterator:
                    await self._tell(self.response.chunk(chunk), len(chunk))
                    if self.response.full:
                        return
            finally:
                flush.cancel()
                aclose = getattr(iterator, "aclose", None)
                if aclose is not None:
                    await aclose()
        await self._tell(self.response.end(), 0)

    def _flush(self) -> None:
        self.taker.out.extend(self.response.flush())
        self.taker.wake()

    async def _tell(self, items: Items, size: int) -> None:
        if not items:
            return
        taker = self.taker
        taker.told_size += size + ITEM
        taker.out.extend(items)
        taker.wake()
        while taker.stalled:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _finish(self, task: asyncio.Task[None]) -> None:
        # Not at the end of the task itself: one that is cancelled before its first step has none.
        self.taker.side.streams.discard(self)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self.taker.gone:
            self.taker.fail(error)
        self.done = True
        self.taker.wake()
        self.close()

    def close(self) -> None:
        """Have `end` called: in the thread that has done the thread-sensitive work, if there was any."""
        side = self.taker.side
        if self.lease.end(lambda: self.context.run(self.end_here)):
            return
        try:
            side.submit(self.context.run(FunctionCall, side, self.end_here))
        except RuntimeError:  # the threads are being stopped
            interop.run_elsewhere(lambda: self.context.run(self.end_here))

    def end_here(self) -> None:
        """Call `end`, and tell the loop."""
        try:
            interop.rehome(self.context)
            self.end()
        except BaseException:
            _log.exception("closing a response raised")
        finally:
            with suppress(LoopGone):
                self.taker.side.crossing.post(self)


class LoopStream(LoopWork):
    """The rest of a response whose thread has left: iterates over `body`, and calls `on_end` after all."""

    def __init__(self, taker: Taker, response: Response, context: Context, body: LoopBody, on_end: Callable[[], None]):
        super().__init__(taker, response, context, body.between)
        self._body = body
        self._on_end = on_end

    async def work(self) -> None:
        await self.send(self._body.chunks())

    def end(self) -> None:
        self._on_end()
