"""A task as the server's thread sees it that waits for it: the answering side of its conversation with the loop.

The task asks, the thread answers: `tell` and `ease` hand items over and wait while too much is on the way, `listen`
waits for the next event of the request body.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from time import monotonic
from typing import Any, Final, Protocol

from bridge._concurrency import interop
from bridge._concurrency.call_thread import Gone
from bridge._concurrency.greenlets import Lock
from bridge._concurrency.jobs import Host, current, lender
from bridge._concurrency.lending import LendingThread
from bridge._concurrency.loops import Crossing, LoopGone, Spawn
from bridge._concurrency.on_demand_thread import call_of
from bridge._concurrency.server_thread import ServerThread
from bridge._servers.connection import Connection
from bridge._stats import Counters
from bridge._types import Event

# Bytes on the way to the thread before the task has to wait.
BOUND: Final = 64 * 1024
# What an item counts beside its bytes, so that very small ones are bounded as well.
ITEM: Final = 64
# How many events of a request body may go along with one that was asked for, if that takes no waiting.
_AHEAD: Final = 4
# How often a waiting thread looks after the client and the loop, in seconds.
POLL: Final = 0.5
# How long it waits for all of a small response before it takes what there is, in seconds.
_PATIENCE: Final = 0.02
ENDED: Final = object()


class Side(Protocol):
    """What the tasks of one adapter on one loop have in common."""

    crossing: Crossing
    counters: Counters
    lock: Lock
    live: "set[Any]"
    disconnect_grace: float

    def task_ended(self, task: Any) -> None:
        """Forget a task that was in `live`."""

    def look_after(self) -> None:
        """Called by a thread that has waited for `POLL` seconds."""


class TaskThread(LendingThread):
    """What `work` does on the loop of `side`, in a copy of the thread's context.

    `error` is what it raised, once the task is `finished`. `out` holds what it told and the thread has not taken yet.
    """

    error: BaseException | None = None
    finished = False
    # The client left, or the server closed the response before its end.
    gone = False
    # The response is complete, so that nothing of it is of interest any more; set on the loop.
    over = False
    # The server has got all that it wants, and left; what may still be told is of no use.
    satisfied = False
    # And that is no part of the body: what the task still makes may be without end.
    dismissed = False
    cancel: Callable[[], object] | None = None
    _given: deque[Event] | None = None
    _all_given = False
    _waiters: list[Awaitable[None]] | None = None
    _told_size = _taken_size = 0
    _looked = 0.0
    _posted = _wanted = _unreadable = _full = _expiring = _impatient = False

    def __init__(self, side: Side, spawn: Spawn, connection: Connection) -> None:
        self.side = side
        self.out: deque[Any] = deque()
        self._lock = side.lock
        self._spawn = spawn
        self._connection = connection
        host = current.host
        self._host: Host = ServerThread() if host is None else host
        # Where the thread works for an event loop: the task that waits for it there may give the request up.
        self._outer = None if host is None else call_of(host)
        self._context: Context | None = copy_context()
        self._inherits = len(self._context) > 0
        self._context.run(self._enter)

    def _enter(self) -> None:
        lender.set(self)
        interop.serve_sensitive(inherits=self._inherits)

    async def work(self) -> None:
        """The work, on the loop."""
        raise NotImplementedError

    def flush(self) -> None:
        """Tell what is held back; on the loop."""
        raise NotImplementedError

    def read(self) -> Event | None:
        """The next event of the request body, in the thread; None where the client has to be waited for."""
        raise NotImplementedError

    def read_ahead(self) -> Event | None:
        """As `read`, for what is known to be there; in the thread. None where nothing is."""
        return None

    def arrived(self) -> None:
        """On the loop, after a post; what the loop's side is."""
        raise NotImplementedError

    @property
    def stalled(self) -> bool:
        """Whether more than `BOUND` bytes are on the way to the thread."""
        return self._told_size - self._taken_size > BOUND

    # -- in the thread

    def start(self) -> None:
        """Start the task. Raises `LoopGone`."""
        self._posted = True
        self.side.crossing.post(self)

    def give(self, event: Event) -> None:
        """Give the task an event of the request body."""
        if self._given is None:
            self._given = deque()
        self._given.append(event)
        self._all_given = not event.get("more_body", False)

    def next(self) -> Any:
        """The next item that the task tells, or `ENDED`; does the work of the request while it waits.

        Raises `Gone` when the client has left and nothing has to be done in this thread any more.
        """
        out = self.out
        while not out:
            if self._serve():
                continue
            if self.finished:
                if out:
                    break
                return ENDED
            if self.gone and not self.sensitive:
                raise Gone
            self._nudged = False
            if not (out or self._jobs or self.finished or (self._wanted and not self._unreadable)):
                self._await_item()
        item = out.popleft()
        if isinstance(item, bytes):
            self._taken_size += len(item) + ITEM
            if self._full and not self.stalled:
                self._post()
            self._look_round()
        return item

    def _look_round(self) -> None:
        """Look after the client also while there is something to send.

        A server that stops may have shut the connection for reading only, and then waits for this thread.
        """
        now = monotonic()
        if now - self._looked > POLL:
            self._looked = now
            if not (self.gone or self.over) and self._connection.left():
                self.disconnect()

    def _await_item(self) -> None:
        if self._impatient:
            self._rest(POLL)
        elif not self._rest(_PATIENCE):
            self._impatient = True
            self._post()

    def linger(self, timeout: float) -> None:
        """Do the work of the request until the task ends, or for `timeout` seconds."""
        limit = monotonic() + timeout
        while not self.finished and (left := limit - monotonic()) > 0:
            self._nudged = False
            if not (self.finished or self._serve()):
                self._rest(min(left, POLL))

    def disconnect(self) -> None:
        """The client left."""
        self.gone = True
        self._post()

    def drop(self) -> None:
        """As `release`, where the thread has gone without a word: an incomplete response ends. From any thread."""
        self._before = None
        if not self.over:
            self.disconnect()
        self.release()

    def release(self) -> None:
        """The thread leaves."""
        self._leave()
        if isinstance(self._host, ServerThread):
            self._host.release()
        if not (self.finished or self.over):
            self._post()

    def _serve_task(self) -> bool:
        if self._wanted and not self._unreadable:
            event = self.read()
            if event is not None:
                self._wanted = False
                self.give(event)
                # What is there already can go along: the loop is woken once for all of it.
                for _ in range(_AHEAD):
                    if self._all_given or (event := self.read_ahead()) is None:
                        break
                    self.give(event)
                self._post()
                return True
            self._unreadable = True
        return self._jobs is not None and super()._serve_task()

    def _rest(self, timeout: float) -> bool:
        host = self._host
        if self._unreadable and isinstance(host, ServerThread) and (number := self._connection.descriptor) is not None:
            self._unreadable = False
            timely = host.wait_readable(number, min(timeout, POLL))
        else:
            timely = host.wait(min(timeout, POLL))
        if self._outer is not None and self._outer.gone and not self.gone:
            self.disconnect()
        if not timely:
            if not (self.gone or self.over) and self._connection.left():
                self.disconnect()
            self.side.look_after()
            if self.side.crossing.gone:
                raise LoopGone("the event loop was closed in the middle of a request")
        return timely

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
