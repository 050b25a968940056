"""A server's thread, which waits for a task on a loop, and meanwhile runs code that belongs to the same request.

That code is thread-sensitive code (asgiref's word), and the call of a nested application.
"""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Protocol

from bridge._concurrency import interop
from bridge._concurrency.calls import Call
from bridge._concurrency.greenlets import Inbox, Lock, new_inbox, new_lock, wait_for_input
from bridge._concurrency.interrupts import is_interrupt
from bridge._concurrency.jobs import Job, JobThread, current, describe, thread_name

# All wake-ups in the pipe are read at once, however many there were.
_PIPE_READ_BYTES: Final = 4096


class Waits(Protocol):
    """The task that the thread waits for. `room_wanted`: it waits until the thread has taken something."""

    room_wanted: bool

    def serve(self) -> bool:
        """Do one piece of work that the task needs from this thread. Returns False if there is nothing to do."""
        ...

    def wake_task(self) -> None:
        """Have it look again at what it waits for."""
        ...

    def rest(self, timeout: float) -> bool:
        """Wait for `wake`. Returns False after `timeout` seconds without one."""
        ...


class ServerThread:
    """A thread that waits for `owner`, and runs jobs of the same request meanwhile. Made in the thread itself. (The
    server may go on in another one: Tornado asks for each piece in any of its threads.)

    It is the `JobThread` of these jobs, and the `RequestExecutor` that takes them. `owner` is set before it waits, and
    None once it has left. The thread is that of a server, and then has its own inbox, or a worker of ours (nested
    adapters), and then uses the worker's inbox.

    Memory order. The inbox is a queue: a token that is put before the thread waits ends that wait.

    * `wake` always puts a token: a call that runs here looks at its own condition before it comes to `wait`.
    * `notify` puts one token for many changes, until the thread clears `_notified`. The thread does so before it looks
      for something to do. So a change after that look finds the flag cleared, and puts a token.
    * `_jobs` and `left`: `_put` appends a job and then looks at `left`; `leave` sets `left` and then takes jobs. So at
      least one of them looks for the job, and `deque` gives it to one only. They take no lock: the garbage collector
      may call `leave` for a response that was dropped, in any thread, and within any step of another `_put`.
    * `_busy`, with `awaited` and `room_wanted`: the thread sets `_busy` and then looks at the others. The task sets one
      of these and then looks at `_busy`. So either the thread has it look again, or it finds that the thread works.
    * `_pipe` is written to under `_pipe_lock`, and only while the thread polls: later, the number of the closed
      descriptor may be that of another file. A write does not block: a full pipe wakes the thread too.

    The other fields are the thread's own.
    """

    # One instance is made for each request. What most requests never need exists only on the class.
    # Thread-sensitive work was submitted, and more may come until the task ends. Set on the loop, never cleared.
    sensitive = False
    # The task waits for the client, which the thread looks after, unless it works. Set on the loop, cleared here.
    awaited = False
    owner: Waits | None = None
    job: Job | None = None
    since = 0.0
    loop: object = None
    tasks: list[Any] = []  # noqa: RUF012  # a list of its own is set with `loop`
    _jobs: deque[Callable[[], None] | Call] | None = None
    left = False
    _call: Call | None = None
    _reserved = _busy = _notified = False
    # The server's own thread-locals, while ours replace them, and the thread whose they are: a server may call for the
    # response in one thread, and close it in another.
    _saved: Sequence[object] | None = None
    _saved_of = 0
    _pipe: tuple[int, int] | None = None
    _pipe_lock: Lock
    _polling = False

    def __init__(self) -> None:
        outer = current.thread
        self.outer: JobThread | None = outer
        self._ident = threading.get_ident()
        if outer is None:
            self._inbox: Inbox = new_inbox()

    # -- in the thread

    def wait(self, timeout: float) -> bool:
        """Wait for `wake`, and meanwhile do other work of the request. A call that runs here uses this."""
        self._notified = False
        owner = self.owner
        assert owner is not None
        return owner.serve() or self.run_job() or owner.rest(timeout)

    def await_wake(self, timeout: float) -> bool:
        """Wait only for `wake`. Returns False after `timeout` seconds without it."""
        if self.outer is not None:
            return self.outer.wait(timeout)
        try:
            self._inbox.get(timeout=timeout)
        except queue.Empty:
            return False
        return True

    def await_readable(self, descriptor: int, timeout: float, *, readable: bool = True, writable: bool = False) -> bool:
        """Wait for `wake`, or until there is something to read, if only the end. Returns False after `timeout` seconds.

        With `writable`, room to write ends the wait too. Without `readable`, something to read does not. Only in a
        thread with its own inbox.
        """
        if self._pipe is None:
            self._pipe_lock = new_lock()
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
        self._polling = True
        try:
            empty = self._inbox.empty()
            inputs = [descriptor, self._pipe[0]] if readable else [self._pipe[0]]
            ready = wait_for_input(inputs, timeout, [descriptor] if writable else []) if empty else [-1]
        finally:
            with self._pipe_lock:
                self._polling = False
        while not self._inbox.empty():
            self._inbox.get(timeout=0)
        if self._pipe[0] in ready:
            os.read(self._pipe[0], _PIPE_READ_BYTES)
        return bool(ready)

    def close_pipe(self) -> None:
        """Hold no descriptors for `await_readable`, which may not be called for long. In the thread."""
        pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            os.close(end)

    def expect_notice(self) -> None:
        """Let the next `notify` put a token. Call this before looking for something to do."""
        self._notified = False

    @property
    def has_jobs(self) -> bool:
        """Whether there is work of the request to do."""
        return bool(self._jobs)

    @property
    def works(self) -> bool:
        """Whether it does work of the request now. From any thread."""
        return self._busy

    def submit_meanwhile(self, function: Callable[[], object], *, for_others: bool = False) -> Future[object] | None:
        """Let the thread call `function` while it waits, in asgiref's `async_to_sync`, for the running task, or with
        `for_others` for any task. Returns None if it does not wait there. On the loop.
        """
        return interop.submit_to_waiting(self._ident, function, for_others=for_others) if self._busy else None

    def serve_one(self, first: Sized = ()) -> bool:
        """Do one job of the request, or let the call that runs here take a step. Returns False if it did neither:
        there is nothing to do, or by now there is something in `first`, which the server has to get before.
        """
        # What the task hands over is in `first` before it submits a job, or acknowledges it to the call. So this looks
        # at `first` last.
        if self._jobs and not first:
            return self.run_job()
        call = self._call
        # Each piece goes to the server before the next is made (PEP 3333, "Buffering and Streaming").
        if call is None or (call.output is not None and call.output.in_flight and not call.abandoned) or first:
            return False
        self._go_on(call.close if call.abandoned else call.step)
        return True

    def run_job(self) -> bool:
        """Do one job of the request, but no step of the call, because the call itself asks for this. Returns
        False if there is none.
        """
        if not self._jobs:
            return False
        here = self._ident = threading.get_ident()  # a server may ask for each piece in another thread
        if self._saved is None or self._saved_of != here:
            self._saved, self._saved_of = interop.save(), here
        job = self._jobs[0]
        if isinstance(job, Call):
            self.job = self._call = job  # first, because the handler of a signal may raise once it is taken
            self._jobs.popleft()
            self._start(job)
            return True
        self._jobs.popleft()
        before, self._busy = self._busy, True
        try:
            self.tell_owner()
            job()
        finally:
            self._busy = before
        return True

    def tell_owner(self) -> None:
        """Have the task look again, if it waits for this thread, which begins to work or to wait in `async_to_sync`.

        The work may wait for the task.
        """
        owner = self.owner
        if owner is not None and (owner.room_wanted or self.awaited):
            self.awaited = False  # from now on, the task looks after the client itself
            owner.wake_task()

    def _start(self, call: Call) -> None:
        self.since = monotonic()
        call.on_finish = self._forget
        self._go_on(lambda: call.start_in(self))

    def _go_on(self, step: Callable[[], object]) -> None:
        """Let the call take a step. Raises what a signal handler has raised meanwhile: that is for the server."""
        self._ident = threading.get_ident()  # as in `run_job`; here, since the handler of a signal may raise after it
        before, current.thread = current.thread, self
        call, self._busy = self._call, True
        try:
            self.tell_owner()
            step()
        finally:
            self._busy = False
            current.thread = before
        if call is not None and call.error is not None and is_interrupt(call.error):
            raise call.error

    def _forget(self) -> None:
        """Forget the call, before it tells the loop that it has ended. The loop may then run another one here."""
        self._call = self.job = None
        self._busy = self._reserved = False

    def leave(self) -> None:
        """End the thread's part. Jobs that are not done yet go to another thread. A call that has begun is closed."""
        self.left = True
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:
                break  # `_put` has taken it back
            if isinstance(job, Call):
                _give_to_worker(job)
            else:
                interop.run_in_fallback_thread(job)
        try:
            if self._call is not None:
                self._call.abandoned = True
                self._go_on(self._call.close)
        finally:
            if self._saved is not None:
                if self._saved_of == threading.get_ident():
                    interop.restore(self._saved)
                self._saved = None
            self.owner = None  # it refers to this object; freed now, it needs no garbage collection
            if self._pipe is not None:
                self.close_pipe()
            if self.outer is None and (close := getattr(self._inbox, "close", None)) is not None:
                close()

    def forget_saved(self) -> None:
        """Keep `leave` from restoring thread-locals, because it is about to be called in another thread."""
        self._saved = None

    # -- from any thread, usually on the loop

    def wake(self) -> None:
        """End the wait of the thread."""
        if self.outer is not None:
            self.outer.wake()
            return
        self._inbox.put(None)
        if self._polling:
            with self._pipe_lock:
                if self._polling and self._pipe is not None:
                    with suppress(BlockingIOError):
                        os.write(self._pipe[1], b"\0")

    def notify(self) -> None:
        """End the wait of the thread, unless this was done since it last looked for something to do."""
        if not self._notified:
            self._notified = True
            self.wake()

    def submit(self, function: Callable[[], None]) -> bool:
        """Let the thread call `function`. Returns False if it does not wait any more."""
        self.sensitive = True
        return self._put(function)

    def run_call(self, job: Job) -> bool:
        """Let the thread run a call. Returns False if it has something else to do."""
        if self._busy or self._reserved or not isinstance(job, Call):
            return False
        self._reserved = True
        return self._put(job)

    def _put(self, job: Callable[[], None] | Call) -> bool:
        jobs = self._jobs
        if jobs is None:
            jobs = self.__dict__.setdefault("_jobs", deque())  # another thread may do the same
        jobs.append(job)
        if self.left:
            try:
                jobs.remove(job)
            except ValueError:
                return True  # `leave` has found it
            return False
        self.notify()
        return True

    def describe(self) -> str:
        """Return the name of the thread and its current stack."""
        if self.outer is not None:
            return self.outer.describe()
        return describe(thread_name(self._ident), self._ident)


def _give_to_worker(call: Call) -> None:
    call.may_block = True
    try:
        call.dispatcher.pool.submit(call, eager=True)
    except RuntimeError:
        call.dropped()
