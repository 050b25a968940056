"""Responses that are made on the event loop of their request, without a thread: the rest of a response, or all of
it.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import suppress
from contextvars import Context
from typing import Final, Protocol

from bridge._concurrency import interop
from bridge._concurrency.byte_queue import ByteQueue
from bridge._concurrency.calls import FunctionCall, OuterCall
from bridge._concurrency.jobs import request_executor
from bridge._concurrency.loops import LoopClosed, aclose
from bridge._concurrency.on_demand_thread import OnDemandThread
from bridge._translate.response_to_events import Items, WsgiResponse
from bridge._types import ClosableIterator

# How long the head of a response waits for the first chunk.
_HEAD_DELAY_SECONDS: Final = 0.05

_log = logging.getLogger("bridge")


class AsyncBody:
    """An iterable of bytestrings (PEP 3333) made from an async iterable.

    `WsgiToAsgi` on asyncio takes `chunks`, and iterates on the loop of the request, without a thread. Other code
    iterates as over any iterable, and the thread waits for the loop: `iterate` makes this iterator from `chunks`.
    `on_close` is called by `close()`. `between` is called in the thread that leaves, and in a thread that is taken for
    thread-sensitive work afterwards.
    """

    def __init__(
        self,
        chunks: Callable[[], AsyncIterable[bytes]],
        iterate: Callable[[Callable[[], AsyncIterable[bytes]]], ClosableIterator],
        on_close: Callable[[], object],
        between: Callable[[], object],
    ) -> None:
        self.chunks = chunks
        self.between = between
        self._iterate = iterate
        self._on_close = on_close
        self._iterator: ClosableIterator | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self._iterator is None:
            self._iterator = self._iterate(self.chunks)
        return self._iterator

    def close(self) -> None:
        """PEP 3333, Specification Details: end the iteration if it still runs, and release what belongs to it."""
        try:
            if self._iterator is not None:
                self._iterator.close()
        finally:
            self._on_close()


class StreamOwner(OuterCall, Protocol):
    """The request of a `LoopResponse`."""

    output: ByteQueue | None
    thread_sensitive: bool

    def fail(self, error: BaseException) -> None:
        """Note that the application raised `error`."""

    def wake(self) -> None:
        """Wake the task that sends."""


class LoopResponse:
    """A task that makes a response, at most a limited number of bytes ahead of what has been sent.

    It runs in `context`, and nothing else does. `owner` sends from another task, so that what the application sets
    there is not seen by the next request of the connection. Thread-sensitive work takes a thread when it comes, and
    first calls `enter` there. This object may be made in a thread. It is used on the loop.
    """

    def __init__(
        self, owner: StreamOwner, response: WsgiResponse, context: Context, enter: Callable[[], object]
    ) -> None:
        self.owner = owner
        self.response = response
        self.context = context
        self.thread = OnDemandThread(owner.dispatcher.spare, enter)
        self.thread.call = owner
        self.done = self.closed = False
        # The task was told to stop, or takes no more of the body: it is about to end, or cleans up.
        self.stopping = False
        # `end` has been called.
        self._ended = False
        self.task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None

    async def work(self) -> None:
        """Make the response. In the task."""
        raise NotImplementedError

    def end(self) -> None:
        """Called in a thread at the very end, in any case (PEP 3333, "Specification Details": close())."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the task, if it has not been started."""
        if self.task is not None or self.done:
            return
        if self.owner.output is None:
            self.owner.output = ByteQueue()
        # It is made in its own context too: tracers pass on what is active there. In a copy, because an eager task
        # enters its context at once.
        make = asyncio.get_running_loop().create_task
        self.task = task = self.context.copy().run(make, self._run(), context=self.context)
        self.owner.dispatcher.streams.add(self)  # a loop holds its tasks weakly
        task.add_done_callback(self._finish)

    def abandon(self) -> None:
        """Stop the task: nobody wants the rest."""
        if self.task is not None:
            if not self.stopping:  # a second time would end its cleanup
                self.stopping = True
                self.task.cancel()
        elif not self.done:
            self.done = True
            self.close()

    def turn_away(self) -> None:
        """Close a response that was not started, in this thread: its loop is closed, and will not start it."""
        if self.task is None and not self.done:
            self.done = True
            self.context.run(self.end_here)

    def acknowledged(self) -> None:
        """Note that something was sent, and check again whether there is room."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def run_on_loop(self) -> None:
        """Note that the response is closed."""
        self.closed = True
        self.owner.dispatcher.streams.discard(self)
        self.owner.wake()

    async def _run(self) -> None:
        if self.task is None:
            # An eager task, because the loop has such a task factory. Nothing waits for what it writes yet.
            await asyncio.sleep(0)
        interop.restore_context(self.context)
        if not (self.owner.thread_sensitive and interop.enclosing_executor() is not None):
            request_executor.set(self.thread)
            interop.serve_sensitive(inherits=True)
        await self.work()

    async def send(self, chunks: AsyncIterable[bytes]) -> None:
        """Write the whole body."""
        if not self.response.bodyless:
            iterator = aiter(chunks)
            # Clients wait for the head of a feed that has nothing to send yet. It is not sent at once, so that a
            # response that fails at once can still become an error.
            flush = asyncio.get_running_loop().call_later(_HEAD_DELAY_SECONDS, self._flush_head)
            try:
                async for chunk in iterator:
                    if self.stopping:
                        return  # the application has caught its cancellation, and goes on
                    await self._write(self.response.chunk(chunk), len(chunk))
                    if self.response.full:
                        return
            finally:
                flush.cancel()
                self.stopping = True
                await aclose(iterator)
        await self._write(self.response.end(), 0)

    def _flush_head(self) -> None:
        self._output.items.extend(self.response.flush())
        self.owner.wake()

    async def _write(self, items: Items, size: int) -> None:
        if not items:
            return
        output = self._output
        output.put_marked(items, size)
        self.owner.wake()
        while output.full and not self.stopping:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    @property
    def _output(self) -> ByteQueue:
        assert self.owner.output is not None  # since `start`
        return self.owner.output

    def _finish(self, task: asyncio.Task[None]) -> None:
        # Not at the end of the task itself: a task that is cancelled before its first step does not get there.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None and not self.owner.abandoned:
            self.owner.fail(error)
        self.done = True
        self.owner.wake()
        self.close()

    def close(self) -> None:
        """Call `end`: in the thread that has done the thread-sensitive work, if there was any."""
        dispatcher = self.owner.dispatcher
        if self.thread.end(lambda: self.context.run(self.end_here)):
            return
        call = self.context.run(FunctionCall, dispatcher, self.end_here)
        call.on_finish = self._end_anyway
        try:
            dispatcher.submit(call)
        except RuntimeError:  # the threads are being stopped
            self._end_anyway()

    def _end_anyway(self) -> None:
        """Call `end` in the fallback thread if no other thread has taken it before the threads were stopped."""
        if not self._ended:
            interop.run_in_fallback_thread(lambda: self.context.run(self.end_here))

    def end_here(self) -> None:
        """Call `end`, and tell the loop."""
        self._ended = True
        try:
            interop.restore_context(self.context)
            self.end()
        except BaseException:
            _log.exception("closing a response raised")
        finally:
            with suppress(LoopClosed):
                self.owner.dispatcher.loop.post(self)


class LoopStream(LoopResponse):
    """The rest of a response whose thread has left: iterates over `body`, and calls `on_end` at the end."""

    def __init__(
        self, owner: StreamOwner, response: WsgiResponse, context: Context, body: AsyncBody, on_end: Callable[[], None]
    ) -> None:
        super().__init__(owner, response, context, body.between)
        self._body = body
        self._on_end = on_end

    async def work(self) -> None:
        """Send the body."""
        await self.send(self._body.chunks())

    def end(self) -> None:
        """Close the body."""
        self._on_end()
