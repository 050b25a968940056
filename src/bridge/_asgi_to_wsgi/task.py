"""One task on a loop, and its conversation with the server's thread that waits for it.

The task asks, the thread answers (`_task_thread.py`): `tell` and `ease` hand items over and wait while too much is on
the way, `listen` waits for the next event of the request body.
"""

from collections.abc import Awaitable, Sequence
from contextvars import copy_context
from time import monotonic

from bridge._asgi_to_wsgi.task_thread import ITEM, TaskThread
from bridge._concurrency import interop
from bridge._concurrency.call_thread import Gone
from bridge._types import Event


class Task(TaskThread):
    """A task as the loop sees it that runs it."""

    def arrived(self) -> None:
        """Something came from the thread: the start, an event, room for more, or the news that the client left."""
        self._posted = False
        if self.cancel is None and not self.finished:
            assert self._context is not None
            self.side.live.add(self)
            try:
                self.cancel = self._spawn(self._run, self._context)
            except (RuntimeError, MemoryError) as error:
                # The group that it would belong to is closed: the request is over, and so is this.
                self.gone = isinstance(error, RuntimeError)
                self.error = error
                self.finished = True
                self.side.task_ended(self)
                self._nudge()
                return
        else:
            if self._impatient and not self.finished:
                self.flush()
            self._wake()
        if (self.gone or self.dismissed) and not self._expiring and not self.finished:
            self._expiring = True
            self._spawn(self._expire, copy_context())

    async def _run(self) -> None:
        # As asgiref does it: debug pages then leave this frame out, and with it the environ that they would print.
        __traceback_hide__ = True
        if self._inherits and self._context is not None:
            interop.rehome(self._context)
        try:
            await self.work()
        except BaseException as error:
            self.error = error
        self.finished = True
        self.side.task_ended(self)
        # They refer back to this task; freed now, they need not be found by the garbage collector.
        self.cancel = self._context = None
        self._nudge()
        self._wake()

    async def _expire(self) -> None:
        """After a disconnect the task may end by itself for a while; then it is cancelled.

        Where nobody wants its response, but nobody has left, ending that is enough.
        """
        limit = monotonic() + self.side.disconnect_grace
        while not self.finished and (self.gone or not self.over) and (left := limit - monotonic()) > 0:
            await self.side.crossing.wait_at_most(left, self._arrival())
        self.gone = self.gone or not self.over
        if self.gone and self.cancel is not None:
            self.cancel()

    def tell(self, items: Sequence[object]) -> None:
        """Hand `items` to the thread. Raises `Gone`."""
        if self.satisfied:
            return
        if self.gone or self._released:
            raise Gone
        for item in items:
            if isinstance(item, bytes):
                self._told_size += len(item) + ITEM
        self.out.extend(items)
        self._nudge()

    async def ease(self) -> None:
        """Wait while more than `BOUND` bytes are on the way. Raises `Gone`."""
        while self.stalled and not (self.gone or self._released):
            self._full = True
            if self.stalled:
                await self._arrival()
        self._full = False
        if self.gone or self._released:
            raise Gone

    async def listen(self) -> Event | None:
        """The next event of the request body; None when there will be none, since the request is over."""
        while not self._given:
            if self.gone or self.over or self._released:
                return None
            if self._all_given:
                await self._arrival()
                continue
            self._wanted = True
            self._nudge()
            await self._arrival()
        return self._given.popleft()

    async def end(self) -> None:
        """Wait until the request is over: answered, or the client left."""
        while not (self.gone or self.over or self._released):
            await self._arrival()

    def finish_response(self) -> None:
        """The response is complete."""
        self.over = True
        self._wake()

    def _arrival(self) -> Awaitable[None]:
        waiter = self.side.crossing.waiter()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                self.side.crossing.wake(waiter)
