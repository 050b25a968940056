"""The private event loop: one in each process, in its own thread, started by its first user and stopped by its last.

It knows nothing about what runs on it. Loops are kept by process id, because some servers fork without telling Python:
then the loop of the parent looks alive in the child, but never answers.
"""

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from bridge._concurrency.greenlets import start_thread, threads_are_greenlets
from bridge._concurrency.jobs import describe
from bridge._concurrency.loops import AsyncioLoop, LoopClosed, Posted, refuse_on_loop
from bridge._concurrency.per_process import PerProcess, end_child

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
# How long the tasks that are left may take to end once they are cancelled, in seconds.
_CANCEL_GRACE_SECONDS: Final = 5.0
# How long a `loop_factory`, and the thread for its loop, may take.
_START_SECONDS: Final = 30.0
# How long a signal may wait until it is handled.
_SIGNAL_SECONDS: Final = 0.5
# More signals than are ever on their way at once.
_SIGNALS_READ_BYTES: Final = 4096

_log = logging.getLogger("bridge")


class MeasuredLoop(AsyncioLoop):
    """The way to a loop. It measures how long the loop takes to notice what is posted.

    On asyncio's own loop it has a pair of sockets to wake the loop with. `call_soon_threadsafe` does the same, and in
    addition makes a handle and a copy of the context, and reads its socket until there is an error.

    Memory order, besides that of `AsyncioLoop`. `unnoticed_since` is set by the thread that has set the flag, before it
    signals. The loop clears `unnoticed_since` before it clears the flag. So no thread sets it in between. If two
    threads set the flag at once, their values are so close that it does not matter which one stays. `close` follows
    after the loop is closed, and `drop_posted` after that: a thread whose signal came too late has appended its item by
    then, and one that finds the socket closed drops its item itself.
    """

    # Code that closes all descriptors, as daemons do, has closed the loop's. Set in any thread, never cleared.
    lost = False
    _sender: socket.socket | None = None
    _receiver: socket.socket | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.longest_block = 0.0
        # When something was posted that the loop has not noticed yet.
        self.unnoticed_since: float | None = None
        self._opened: dict[socket.socket, tuple[int, int] | None] = {}

    def open(self) -> None:
        """Make the sockets, if the loop is asyncio's own. In its thread, before it runs."""
        if isinstance(self.loop, asyncio.SelectorEventLoop) and not threads_are_greenlets():
            receiver, sender = socket.socketpair()
            receiver.setblocking(False)
            sender.setblocking(False)
            self._opened = {end: _file_of(end) for end in (receiver, sender)}
            self._receiver, self._sender = receiver, sender
            try:
                self.loop.add_reader(receiver, self._read_signals, receiver)
            except NotImplementedError:
                self.close()

    def close(self) -> None:
        """Close what belongs to this object. The loop is closed already, or cannot continue."""
        for end in (self._sender, self._receiver):
            if end is None:
                continue
            if self._is_open(end):
                end.close()
            else:
                end.detach()  # its number may be that of somebody else's file by now
        self._sender = self._receiver = None

    def _is_open(self, end: socket.socket) -> bool:
        return (file := _file_of(end)) is not None and file == self._opened[end]

    def lose(self, why: str) -> None:
        """Note that the loop cannot continue, because its descriptors are closed. From any thread."""
        if not self.lost:
            self.lost = True
            _log.error("the private event loop cannot continue, the next request starts another one: %s", why)

    @property
    def closed(self) -> bool:
        """Whether the loop is closed, or cannot continue."""
        return self.lost or super().closed

    def signal(self) -> None:
        """Have the loop notice what was posted. From any thread. Raises `RuntimeError` if the loop is closed."""
        self.unnoticed_since = monotonic()
        sender = self._sender
        if sender is not None:
            try:
                sender.send(b"\0")
            except BlockingIOError:
                return  # so much is there to read that the loop wakes up anyway
            except OSError as error:
                # Closed: with the loop, which is then found out; or by code of the application. If that has closed both
                # ends, it has closed the loop's own descriptors too, and nothing wakes a loop that waits.
                if not (self.loop.is_closed() or any(map(self._is_open, self._opened))):
                    self.lose(repr(error))
                    raise RuntimeError("the descriptors of the event loop are closed") from error
            else:
                return
        super().signal()

    def _read_signals(self, receiver: socket.socket) -> None:
        # Once: if more is there, the loop calls this again.
        with suppress(OSError):
            if not receiver.recv(_SIGNALS_READ_BYTES):
                self.loop.remove_reader(receiver)  # code of the application has closed the other end
        self.deliver()

    def deliver(self) -> None:
        """Run what was posted; on the loop."""
        since, self.unnoticed_since = self.unnoticed_since, None
        if since is not None and (block := monotonic() - since) > self.longest_block:
            self.longest_block = block
        super().deliver()

    @property
    def blocked_for(self) -> float:
        """For how many seconds the loop has not noticed what was posted. 0 if it will never notice anything."""
        since = self.unnoticed_since
        return 0.0 if since is None or self.closed else monotonic() - since


def _file_of(end: socket.socket) -> tuple[int, int] | None:
    """What tells an open socket from another file with the same number. None if it is closed."""
    try:
        found = os.fstat(end.fileno())
    except OSError:
        return None
    return found.st_dev, found.st_ino


class PrivateLoop:
    """An event loop in its own thread of the operating system, even if a library has patched `threading` to make
    greenlets.
    """

    def __init__(self, factory: LoopFactory | None) -> None:
        refuse_on_loop("the private event loop was started", "do it in a thread (asyncio.to_thread)")
        self.pid = os.getpid()
        self.users: set[object] = set()
        self._factory = factory or asyncio.new_event_loop
        self._ready = threading.Event()
        self._end = threading.Event()
        self._over = False
        self._failure: BaseException | None = None
        # Nobody waits for it any more, so it ends as soon as it starts. Set before the look at `_ready`.
        self._given_up = False
        self._ident: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        try:
            self._thread = start_thread(self._main, "bridge-loop")
            deadline = monotonic() + _START_SECONDS
            # In parts: Python handles a signal that comes just before such a wait only after it.
            while not self._ready.wait(min(_SIGNAL_SECONDS, max(deadline - monotonic(), 0.0))):
                if monotonic() >= deadline:
                    late = f"the private event loop has not started in {_START_SECONDS} seconds: {self.describe()}"
                    raise RuntimeError(late)
        except BaseException:  # perhaps from the handler of a signal
            self._given_up = True
            if self._ready.is_set() and not self.ended:
                self.stop(wait=False)
            raise
        if self._failure is not None:
            raise RuntimeError("the private event loop could not be started") from self._failure
        self.loop: MeasuredLoop

    @property
    def ended(self) -> bool:
        """Whether the loop has ended, or cannot continue."""
        return self._over or self.loop.lost

    @property
    def usable(self) -> bool:
        """Whether the loop runs, in this process."""
        return self.pid == os.getpid() and not self.ended

    def tasks(self) -> int:
        """How many tasks there are on the loop, without the one that keeps it running."""
        return len(asyncio.all_tasks(self._loop)) - 1 if self.usable else 0

    def running(self) -> "asyncio.Task[Any] | None":
        """The task that the loop runs now, if it runs one. From any thread."""
        return asyncio.current_task(self._loop)

    def describe(self) -> str:
        """Return the name of the loop's thread and its current stack."""
        return describe("bridge-loop", self._ident)

    def stop(self, *, wait: bool) -> None:
        """Cancel what is left, and end the thread. With `wait`, wait a limited time for its end. This raises
        `RuntimeError` on an event loop.
        """
        if wait:
            refuse_on_loop("the private event loop was stopped", "do it in a thread (asyncio.to_thread)")
        try:
            self.loop.post(Posted(self._set_stop))
        except LoopClosed:
            return
        if wait and not self._end.wait(2 * _CANCEL_GRACE_SECONDS):
            _log.warning("the private event loop does not stop: %s", self.describe())

    def _set_stop(self) -> None:
        assert self._stop is not None
        self._stop.set()

    def _main(self) -> None:
        self._ident = threading.get_ident()
        try:
            self._loop = loop = self._factory()
            self.loop = MeasuredLoop(loop)
        except BaseException as error:
            self._failure = error
            self._over = True
            self._say_ready()
            return
        try:
            self._run(loop)
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                raise
        finally:
            self._over = True
            if not loop.is_running():
                _close(loop, lost=self.loop.lost)
                self.loop.close()
                self.loop.drop_posted()
            self._say_ready()
            self._end.set()

    def _say_ready(self) -> None:
        # A signal that ends the wait for it may leave the lock inside the event held. Then `set` would never return.
        if not (self._given_up or self._ready.is_set()):
            self._ready.set()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.is_closed() or loop.is_running():
            raise RuntimeError("the loop that loop_factory gave is closed, or runs in another thread")
        self.loop.open()
        # A root task, and not run_forever: without one, anyio makes and ends a worker thread for each request.
        root: Any = loop.create_task(self._root())
        while not root.done():
            try:
                loop.run_until_complete(root)
            except (OSError, ValueError) as error:
                # Of the loop itself, since asyncio catches those of tasks and callbacks: code that closes all
                # descriptors, as daemons do, has closed the loop's too.
                root._log_destroy_pending = False  # it never ends
                # As text: the traceback of the exception would keep the tasks of the loop alive.
                self.loop.lose(repr(error))
                return
            except BaseException as error:
                if os.getpid() != self.pid:
                    # It shares the descriptors of the loop. If it ran the loop, the parent's would no longer wake up.
                    end_child(error)
                # asyncio lets SystemExit and KeyboardInterrupt out of any task or callback, and stops when any code
                # calls stop(). This thread obeys neither: the process belongs to the server, and the loop to us.
                _log.exception(
                    "code on the private event loop tried to end the process or the loop; the loop continues"
                )

    async def _root(self) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._say_ready()
        if self._given_up:
            self._stop.set()
        while not self._stop.is_set():
            try:
                await self._stop.wait()
            except asyncio.CancelledError:
                _log.exception(
                    "code on the private event loop has cancelled the task that keeps it running; the loop continues"
                )
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=_CANCEL_GRACE_SECONDS)
        await loop.shutdown_asyncgens()
        try:
            await asyncio.wait_for(loop.shutdown_default_executor(), _CANCEL_GRACE_SECONDS)
        except TimeoutError:
            _log.warning("threads of the private event loop's default executor do not end")
        except RuntimeError:
            # Python 3.12.0 to 3.12.2 start no thread while the interpreter ends (gh-113964), and asyncio needs one for
            # this. The interpreter then ends the executor's threads itself.
            _log.debug("the private event loop's default executor is left to the interpreter", exc_info=True)


# Loops that have lost their descriptors. If one were freed, it would close them again, and the numbers may be those of
# somebody else's files by now.
_lost: Final[list[asyncio.AbstractEventLoop]] = []


def _close(loop: asyncio.AbstractEventLoop, *, lost: bool) -> None:
    try:
        if not lost:
            loop.close()
            return
    except OSError:
        pass  # it has lost them, and has not noticed
    _lost.append(loop)
    if isinstance(loop, asyncio.BaseEventLoop):
        asyncio.BaseEventLoop.close(loop)  # all but the descriptors


class _Loops:
    """The loops of one process, by the factory that made them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_factory: dict[LoopFactory | None, PrivateLoop] = {}


_loops: Final = PerProcess(_Loops)


def acquire(factory: LoopFactory | None, user: object) -> PrivateLoop:
    """Return the loop of this process, which runs until each `user` has released it.

    Raises `RuntimeError` if a new one cannot be started, for example on an event loop.
    """
    loops = _loops.here()
    with loops.lock:
        loop = loops.by_factory.get(factory)
        if loop is None or not loop.usable:
            loop = loops.by_factory[factory] = PrivateLoop(factory)
        loop.users.add(user)
        return loop


def release(loop: PrivateLoop, user: object, *, wait: bool = True) -> None:
    """Note that `user` does not need the loop any more. The last user stops it, and with `wait` also waits for its
    end.
    """
    if loop.pid != os.getpid():
        return
    loops = _loops.here()
    with loops.lock:
        loop.users.discard(user)
        if loop.users:
            return
        for factory in [factory for factory, known in loops.by_factory.items() if known is loop]:
            del loops.by_factory[factory]
    loop.stop(wait=wait)
