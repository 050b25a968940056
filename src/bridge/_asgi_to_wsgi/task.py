"""A task on a loop for which a server's thread waits, and both ends of their hand-over.

The task asks, the thread answers: `write` hands over items, and `drain` waits while too much is in flight. For an event
of the request body the task asks `body`, and the thread reads it.
"""

import asyncio
import enum
import logging
from collections.abc import Awaitable, Callable, Sequence, Sized
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Final

from bridge._asgi_to_wsgi.app_runner import AppRunner, RunnerEnded, give_up
from bridge._asgi_to_wsgi.request_events import AWAITING_CLIENT, IDLE, WANTED, RequestEvents
from bridge._concurrency import interop
from bridge._concurrency.byte_queue import ITEM_OVERHEAD_BYTES, ByteQueue
from bridge._concurrency.calls import PeerGone, call_of
from bridge._concurrency.jobs import request_executor
from bridge._concurrency.loops import LoopClosed, Posted, Spawn, ThreadEvent, refuse_on_loop
from bridge._concurrency.per_process import end_child, forks
from bridge._concurrency.server_thread import ServerThread
from bridge._servers.connection import Connection
from bridge._types import Event

# How often a waiting thread checks the client and the loop.
POLL_SECONDS: Final = 0.5
# How long the thread stays while cancelled code cleans up, for which that may need the thread.
CLEANUP_SECONDS: Final = 3.0
# How long the thread waits for a whole small response before it takes what has arrived.
_HEAD_DELAY_SECONDS: Final = 0.02
ENDED: Final = object()

_log = logging.getLogger("bridge")


class Demand(enum.Enum):
    """What the server still takes of a response. Set in its thread when it closes the response.

    | state | becomes |
    |---|---|
    | ALL | NOTHING: it has got all of it; HEAD_ONLY: it has got the head of a response without a body |
    """

    ALL = "all of it"
    NOTHING = "nothing more, and the application is about to end"
    HEAD_ONLY = "nothing more, and the application may go on without end"


# Globals, because CPython 3.11 looks up a member of an enum slowly.
ALL, NOTHING, HEAD_ONLY = Demand


class Task:
    """One task on the loop of `runner`, in a copy of the thread's context. Made in the thread.

    Subclasses implement `work`, and `flush_head` if they hold something back. `error` is what the task raised, when it
    is `finished`. `output` holds what it has written and the thread has not taken yet.

    Memory order. The two ends do not share a lock. An end that is about to sleep first says so in a flag, then looks at
    the condition once more, and then sleeps. An end that changes the condition changes it first, and then looks at the
    flag. Whichever comes first, one of the two sees the other, so no wake-up is lost.

    | field | set by | cleared by | looked at by |
    |---|---|---|---|
    | `finished` | the loop, at the end | never | the thread |
    | `complete` | the loop: nothing of the response will follow | never | the thread |
    | `disconnected` | the thread: the client left; the loop, at a shutdown | never | both |
    | `demand` | the thread | never | the loop |
    | `_posted` | the thread, before the post | the loop, before it looks | the thread: one post serves many changes |
    | `room_wanted` | the loop, before it looks again | the loop | the thread, while the queue is `low` |
    | `overdue` | the thread, before it posts | the loop, when the task begins | the loop, which flushes the head |
    | `expiring` | the loop: the task is about to be cancelled, has been, or need not be | never | the loop |
    | `_waiters` | the loop | the loop | the loop: they are futures, which no thread touches |

    The thread sleeps in `ServerThread`: it clears `_notified`, looks at all of the above, and then sleeps.
    """

    # One instance is made for each request. Attributes that most requests never need exist only on the class.
    error: BaseException | None = None
    finished = complete = disconnected = False
    # The connection is no longer HTTP. Set on the loop, never cleared.
    upgraded = False
    # Says whether the server has been told to stop. None if that cannot be known.
    server_stops: Callable[[], bool] | None = None
    demand: Demand = ALL
    body: RequestEvents | None = None
    cancel: Callable[[], object] | None = None
    _waiters: list[Awaitable[None]] | None = None
    _posted = room_wanted = expiring = overdue = False

    def __init__(self, runner: AppRunner, spawn: Spawn, connection: Connection) -> None:
        self.runner = runner
        self.connection = connection
        self.output = ByteQueue()
        self.thread = thread = ServerThread()
        thread.owner = self
        self._spawn = spawn
        self.context: Context | None = copy_context()
        self._inherits = len(self.context) > 0
        self.context.run(_enter, thread, inherits=self._inherits)

    async def work(self) -> None:
        """Do the work. On the loop."""
        raise NotImplementedError

    def flush_head(self) -> None:
        """Write the head, if it is held back. On the loop."""

    # -- in the thread

    def start(self) -> None:
        """Start the task. If the loop is closed, raises `LoopClosed`, or `RunnerEnded` if it was the private loop.

        `next` may also raise `RunnerEnded`. Then the request can start again with the next runner.
        """
        self._posted = True
        try:
            self.runner.loop.post(self)
        except LoopClosed:
            if self.runner.private is None:
                raise
            raise RunnerEnded from None

    def next(self) -> Any:
        """Return the next item that the task writes, or `ENDED`. Does the work of the request while it waits.

        Raises `PeerGone` when the client has left and nothing has to be done in this thread any more.
        """
        thread, output, body = self.thread, self.output, self.body
        items = output.items
        stays_until: float | None = None
        while not items:
            if (body and body.reading is WANTED and self.serve(items)) or thread.serve_one(items):
                continue
            if self.finished:
                if items:
                    break
                return _end_of(self)
            if self.disconnected:
                stays_until = _stay(self, stays_until)
            thread.expect_notice()
            if not (items or self.finished or thread.has_jobs or (body and body.reading is WANTED)):
                self._await_item()
        item = items.popleft()
        if isinstance(item, bytes):
            output.acknowledged += len(item) + ITEM_OVERHEAD_BYTES
            if self.room_wanted and output.low:
                self.wake_task()
        return item

    def _await_item(self) -> None:
        if self.overdue:
            self.rest(POLL_SECONDS)
        elif not self.rest(_HEAD_DELAY_SECONDS):
            self.overdue = True
            self.wake_task()

    def serve(self, first: Sized = ()) -> bool:
        """Read from the request body what the task has asked for. Returns False if there is nothing to do, or if by
        now there is something in `first`, which the server has to get before: the client may wait for it.
        """
        body = self.body
        if body is None or body.reading is not WANTED or first or not body.serve():
            return False
        self.disconnected = self.disconnected or body.disconnected
        self.wake_task()
        return True

    def rest(self, timeout: float) -> bool:
        """Wait for the task, and meanwhile check the client and the loop. Returns False after `timeout` seconds.

        Raises `LoopClosed`, and `RuntimeError` on an event loop.
        """
        refuse_on_loop("a response was waited for", "iterate over it, and close it, in a thread (asyncio.to_thread)")
        thread, body = self.thread, self.body
        timeout = min(timeout, POLL_SECONDS)
        awaits_client = body is not None and body.reading is AWAITING_CLIENT
        if awaits_client and thread.outer is None and (number := self.connection.descriptor) is not None:
            timely = thread.await_readable(number, timeout)
        else:
            timely = thread.await_wake(timeout)
        if awaits_client and body is not None:
            body.reading = WANTED
        if thread.outer is not None and not self.disconnected and _given_up(thread):
            self.disconnect()
        if not timely:
            if not (self.disconnected or self.complete) and self.connection.has_left():
                self.disconnect()
            self.runner.log_if_blocked()
            if _is_done(self.cancel) and not self.finished:
                with suppress(LoopClosed):
                    self.runner.loop.post(Posted(lambda: _end_unbegun(self)))
            if self.runner.loop.closed and not _turned_away(self):
                raise LoopClosed("the event loop was closed in the middle of a request")
        return timely

    def linger(self, timeout: float) -> None:
        """Do the work of the request until the task ends, or for `timeout` seconds."""
        thread = self.thread
        limit = monotonic() + timeout
        while not self.finished and (left := limit - monotonic()) > 0:
            thread.expect_notice()
            if not (self.finished or self.serve() or thread.serve_one()):
                self.rest(left)

    def disconnect(self) -> None:
        """Note that the client has left, or is treated as gone. From any thread."""
        self.disconnected = True
        self.wake_task()
        self.thread.notify()

    def drop(self) -> None:
        """Like `release`, if the response was dropped and not closed: an incomplete one ends. From any thread."""
        self.thread.forget_saved()
        if not self.complete:
            self.disconnect()
        self.release()

    def release(self) -> None:
        """End the thread's part. Jobs that are not done yet go to another thread."""
        self.thread.leave()
        if not (self.finished or self.complete):
            self.wake_task()

    def wake_task(self) -> None:
        """Have the task look again at what it waits for; from any thread."""
        if not self._posted:
            self._posted = True
            try:
                self.runner.loop.post(self)
            except LoopClosed:
                self.disconnected = True
            except BaseException:
                self._posted = False
                raise

    # -- on the loop

    def run_on_loop(self) -> None:
        """Handle what came from the thread: the start, an event, room for more, or a disconnect."""
        self._posted = False
        if self.cancel is None and not self.finished:
            if self.runner.closing:
                self.turn_away()
                return
            assert self.context is not None
            self.runner.live.add(self)
            if self.overdue:
                # The thread has waited for the loop. The application has its time from now on.
                self.overdue = False
                self.thread.notify()
            try:
                cancel = self._spawn(self._run, self.context)
                # On newer Pythons the task may have ended by now.
                self.cancel = None if self.finished else cancel
            except (RuntimeError, MemoryError) as error:
                # RuntimeError: the task group that it would belong to is closed, so the request is over.
                self.disconnected = isinstance(error, RuntimeError)
                self.error = error
                self.finished = True
                self.runner.task_ended(self)
                self.thread.notify()
                return
        else:
            if self.overdue and not self.finished:
                self.flush_head()
            self._wake()
        if (self.disconnected or self.demand is HEAD_ONLY) and not self.expiring and not self.finished:
            self.expiring = True
            self._spawn(self._expire, copy_context())

    def turn_away(self) -> None:
        """Note that the loop does not start this task any more, or was closed before it handled what was posted.

        On the loop or, if the loop is closed, in a thread that posts.
        """
        runner = self.runner
        another = runner.private is not None or not runner.loop.closed
        if another and self.cancel is None and not self.finished:
            self.error = RunnerEnded()
            self.finished = True
        else:
            self.disconnected = True
        self.thread.notify()

    async def _run(self) -> None:
        # As in asgiref: debug pages leave this frame out, so they do not print the environ.
        __traceback_hide__ = True
        if self._inherits and self.context is not None:
            interop.restore_context(self.context)
        before = forks.count
        try:
            await self.work()
        except BaseException as error:
            self.error = error
        if forks.count != before:
            # It shares the descriptors of the loop. If it ran the loop, the parent's would no longer wake up.
            end_child(self.error)
        _end(self)

    async def _expire(self) -> None:
        """After a disconnect, give the task some time to end by itself. Then cancel it.

        If only the head is wanted and the client has not left, it is enough that the response is complete by then.
        """
        limit = monotonic() + self.runner.disconnect_grace
        while not self.finished and (self.disconnected or not self.complete) and (left := limit - monotonic()) > 0:
            await self.runner.loop.wait_at_most(left, self.changed())
        self.disconnected = self.disconnected or not self.complete
        if self.disconnected:
            give_up(self)

    @property
    def over(self) -> bool:
        """Whether the request is over for the task: answered, or the client or the thread has left."""
        return self.disconnected or self.complete or self.thread.left

    def write(self, items: Sequence[object]) -> bool:
        """Hand `items` to the thread. Returns False if it takes nothing more. Raises `PeerGone`."""
        gone = self.disconnected or self.thread.left
        if self.demand is not ALL:  # looked at last: the thread says first that it wants no more, and then leaves
            return False
        if gone:
            raise PeerGone
        output = self.output
        for item in items:
            if isinstance(item, bytes):
                output.written += len(item) + ITEM_OVERHEAD_BYTES
        output.items.extend(items)
        self.thread.notify()
        return True

    async def drain(self) -> None:
        """Wait while too many bytes are in flight. Raises `PeerGone`.

        While the thread runs code of the application, this does not wait: that code may be what sends, and would then
        wait for itself.
        """
        thread, output = self.thread, self.output
        while output.full and not (self.disconnected or thread.left):
            self.room_wanted = True
            if thread.works:
                break
            if output.full:
                await self.changed()
        self.room_wanted = False
        if self.disconnected or (thread.left and self.demand is ALL):
            raise PeerGone

    async def next_event(self) -> Event | None:
        """Return the next event of the request body, or None if there will be none because the request is over."""
        body = self.body
        assert body is not None
        while (event := body.take()) is None:
            if self.over:
                return None
            if body.wanted:
                self.thread.notify()
            await _wait_for_client(self)
        return event

    async def wait_until_over(self) -> None:
        """Wait until the request is over: answered, or the client left."""
        while not self.over:
            await _wait_for_client(self)

    def finish_response(self) -> None:
        """Note that the response is complete."""
        self.complete = True
        self._wake()

    def changed(self) -> Awaitable[None]:
        """Return an awaitable that ends when something may have changed. The caller then checks its own condition."""
        waiter = self.runner.loop.waiter()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        return waiter

    def _wake(self) -> None:
        if self._waiters:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                self.runner.loop.wake(waiter)


def look_at_client(task: Task) -> None:
    """Check the client, from time to time. Call this for each piece that the server gets, even while there is more to
    send: a server that stops may have shut down only the reading side of the connection, and then waits for this
    thread.
    """
    if not (task.disconnected or task.complete) and task.connection.has_left_lately(POLL_SECONDS):
        task.disconnect()


def _enter(thread: ServerThread, *, inherits: bool) -> None:
    request_executor.set(thread)
    interop.serve_sensitive(inherits=inherits)


def _end_of(task: Task) -> object:
    if isinstance(task.error, RunnerEnded):
        raise task.error
    return ENDED


def _end_unbegun(task: Task) -> None:
    """Note that the task was cancelled before its first step, by code that cancels all tasks. On the loop."""
    if not task.finished:
        task.error = asyncio.CancelledError()
        _end(task)


def _end(task: Task) -> None:
    """Note that the task has ended. On the loop."""
    task.finished = True
    task.runner.task_ended(task)
    # They refer back to this task. Freed now, they need no garbage collection.
    task.cancel = task.context = None
    task.thread.notify()
    task._wake()


def _stay(task: Task, until: float | None) -> float:
    """Return until when the thread stays, once the client has left, for work that the task may still have for it: the
    task is cancelled, and cleans up. `until` is what this has returned before, if anything.

    Raises `PeerGone` after that time, or if there is no such work.
    """
    if not task.thread.sensitive:
        raise PeerGone
    now = monotonic()
    until = until or now + task.runner.disconnect_grace + CLEANUP_SECONDS
    if now >= until:
        _log.warning(
            "%s still runs long after its client left; its thread no longer waits for it", task.connection.title
        )
        raise PeerGone
    return until


def _is_done(cancel: Callable[[], object] | None) -> bool:
    """Whether the asyncio task that `cancel` belongs to is over."""
    task = getattr(cancel, "__self__", None)
    return isinstance(task, asyncio.Future) and task.done()


def _turned_away(task: Task) -> bool:
    """Whether the private loop, which is closed, has not begun `task`. Then the request starts again."""
    private = task.runner.private
    if private is None or task.cancel is not None:
        return False
    private.loop.drop_posted()
    # Another thread, which drops what was posted too, may have the task in its hands.
    return task.finished or (task.thread.await_wake(POLL_SECONDS) and task.finished)


def has_left(task: Task) -> bool:
    """Whether the client is known to have left, or is treated as gone, although the task may not know it yet."""
    return _given_up(task.thread) or task.connection.has_left()


def _given_up(thread: ServerThread) -> bool:
    """Whether `thread` works for an event loop, and the task that waits for it there has given up the request."""
    outer = None if thread.outer is None else call_of(thread.outer)
    return outer is not None and outer.abandoned


async def _wait_for_client(task: Task) -> None:
    """Wait for an event of the client."""
    # Set before the look at what the thread does: if that changes after the look, the thread finds this.
    task.thread.awaited = True
    if not (task.thread.works and await _serve_meanwhile(task)):
        await changed_meanwhile(task)


async def _serve_meanwhile(task: Task) -> bool:
    """If the thread, while it works, waits for the running task, let it do now what it does in `next`. If it waits for
    another one, which may need this one, let it only read what is there. Returns whether it has done something.
    """
    thread, body = task.thread, task.body

    def serve_or_rest() -> None:
        thread.expect_notice()
        if not (task.serve() or task.over):
            task.rest(POLL_SECONDS)

    served = thread.submit_meanwhile(serve_or_rest)
    if served is not None:
        await end_of(served, task)
        return True
    if body is None or body.reading is IDLE or not task.connection.never_waits:
        return False

    def read_again() -> None:
        if body.reading is AWAITING_CLIENT:
            body.reading = WANTED
        task.serve()

    served = thread.submit_meanwhile(read_again, for_others=True)
    if served is not None:
        await end_of(served, task)
    return body.reading is IDLE


async def changed_meanwhile(task: Task) -> None:
    """Wait for `task.changed`. While the thread runs code of the application, it does not look after the client. This
    does it then, from time to time: that code may wait for what the caller is about to hear.
    """
    thread, waiter = task.thread, task.changed()
    thread.awaited = True
    if not thread.works:
        await waiter
        return
    await task.runner.loop.wait_at_most(POLL_SECONDS, waiter)
    if task._waiters and waiter in task._waiters:
        task._waiters.remove(waiter)
    # Once the thread has left, the descriptor may be that of another connection.
    if not (task.over or task.upgraded) and has_left(task) and not thread.left:
        task.disconnect()


async def end_of(served: Future[object], task: Task) -> None:
    """Wait for what the thread of `task` does while it waits for the running task. Raises what it raises."""
    ended = ThreadEvent(task.runner.loop)
    served.add_done_callback(lambda _: ended.set())
    try:
        await ended.wait()
    except BaseException:
        served.cancel()
        task.thread.notify()  # it need not wait for a task that is gone
        raise
    served.result()
