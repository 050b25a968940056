"""What asgiref, anyio and sniffio have to find in a worker thread. Async code that is called from there then runs on
the loop that the request came from (asgiref.sync.async_to_sync, anyio.from_thread), and asyncio.run still works.

Each library keeps this in its own thread-locals, which do not have a public setter. Only this file knows them.
"""

import asyncio
import dataclasses
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future
from contextvars import Context, ContextVar
from typing import Any, Final

import anyio.lowlevel
from anyio._core._eventloop import threadlocals as _anyio_threadlocals
from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.local import _rehome, _Storage
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, _restore_context

from bridge._concurrency.borrowed_thread import BorrowedThread
from bridge._concurrency.interrupts import is_interrupt
from bridge._concurrency.jobs import Job, JobThread, current, request_executor
from bridge._concurrency.loops import AsyncioLoop, LoopHandle
from bridge._concurrency.per_process import EndsChildren, PerProcess
from bridge._concurrency.pool import ThreadPool

try:
    from sniffio import current_async_library_cvar
except ImportError:  # optional for anyio too
    current_async_library_cvar = None  # type: ignore[assignment]


def prepare_async() -> None:
    """Do in this thread what has to be done before async code runs for the request that it works for.

    What the loop would have to wait for must be there by then: the rest of the request body.
    """
    thread = current.thread
    prepare = current.prepare if thread is None else getattr(thread.job, "prepare_async", None)
    if prepare is not None:
        prepare()


class _PreparingLoop:
    """Stands for a loop where asgiref and anyio look for it, so that they call `prepare_async` on their way there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        """Like the loop's own, which is the way from a thread to the loop."""
        prepare_async()
        return self._loop.call_soon_threadsafe(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class _NoLoop:
    """Stands for the loop that asgiref cannot use: it calls `prepare_async`, and then has asgiref make a loop."""

    create_task = None

    def is_running(self) -> bool:
        """Whether it can be used."""
        return False

    def call_soon_threadsafe(self, *_args: object) -> None:
        """Raises `RuntimeError`, like a loop that is closed."""
        prepare_async()
        raise RuntimeError("there is no asyncio loop")


class _PreparingTrioToken:
    """Stands for the token of a trio run where trio looks for it, so that it calls `prepare_async` on its way there."""

    def __init__(self, token: Any) -> None:
        self._token = token

    def run_sync_soon(self, *args: Any, **kwargs: Any) -> None:
        """Like the token's own, which is the way from a thread to the run."""
        prepare_async()
        self._token.run_sync_soon(*args, **kwargs)


class LoopToken:
    """What has to be found in a thread that works for one loop. Made on that loop."""

    def __init__(self, loop: LoopHandle) -> None:
        token = anyio.lowlevel.current_token()
        self._trio: _PreparingTrioToken | None = None
        if isinstance(loop, AsyncioLoop):
            self._loop: Any = _PreparingLoop(loop.loop)
            token = dataclasses.replace(token, native_token=self._loop)
        else:
            self._loop = _NoLoop()
            self._trio = _PreparingTrioToken(token.native_token)
        self._anyio = token

    def enter(self) -> list["asyncio.Task[Any]"]:
        """Make this thread work for the loop, until it enters the token of another one.

        Returns the list in which asgiref keeps the tasks on the loop that the thread waits for.
        """
        tasks: list[asyncio.Task[Any]] = []
        local = SyncToAsync.threadlocal
        local.main_event_loop = self._loop
        local.main_event_loop_pid = os.getpid()
        local.task_context = tasks
        _enter_trio(self._trio)
        _anyio_threadlocals.current_token = self._anyio
        _anyio_threadlocals.current_cancel_scope = None
        return tasks


def _handle_and_restore(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Asgiref's `SyncToAsync.thread_handler`, which leaves its loop and its list of tasks in the thread.

    In a thread of ours, what async_to_sync runs there later could then no longer be cancelled.
    """
    __traceback_hide__ = True
    if current.thread is None:
        return _thread_handler(self, *args, **kwargs)
    saved = save()
    try:
        return _thread_handler(self, *args, **kwargs)
    finally:
        restore(saved)


_thread_handler: Final[Any] = SyncToAsync.thread_handler
_sync_to_async: Any = SyncToAsync
_sync_to_async.thread_handler = _handle_and_restore


def enter_lazily(loop: object) -> bool:
    """Let asgiref's `async_to_sync` find `loop` in this thread, until `leave`. False if it finds one already."""
    local = SyncToAsync.threadlocal
    pid = os.getpid()
    if getattr(local, "main_event_loop_pid", None) == pid:
        found = getattr(local, "main_event_loop", None)
        # asgiref leaves it in threads that have worked for a loop, even when the loop has ended.
        if found is not None and found.is_running():
            return False
    local.main_event_loop = loop
    local.main_event_loop_pid = pid
    local.task_context = []
    return True


def leave() -> None:
    """Let asgiref find no loop in this thread."""
    local = SyncToAsync.threadlocal
    del local.main_event_loop, local.main_event_loop_pid, local.task_context


def _enter_trio(token: object) -> None:
    """Set or remove what trio uses to find its run in a thread that is not one of trio's."""
    data = getattr(sys.modules.get("trio._threads"), "PARENT_TASK_DATA", None)
    if data is None:
        return
    if token is not None:
        data.token = token
        # This is trio's way for threads that none of its tasks waits for: what they call runs in the system nursery.
        data.abandon_on_cancel = True
    elif hasattr(data, "token"):
        del data.token, data.abandon_on_cancel


_LOCALS: Final = (
    (SyncToAsync.threadlocal, "main_event_loop"),
    (SyncToAsync.threadlocal, "main_event_loop_pid"),
    (SyncToAsync.threadlocal, "task_context"),
    (_anyio_threadlocals, "current_token"),
    (_anyio_threadlocals, "current_cancel_scope"),
)
_MISSING: Final = object()

_log = logging.getLogger("bridge")


def save() -> list[object]:
    """Return the thread-locals of asgiref and anyio in this thread, for `restore`."""
    return [getattr(local, name, _MISSING) for local, name in _LOCALS]


def restore(saved: Sequence[object]) -> None:
    """Put back the thread-locals that `save()` returned."""
    for (local, name), value in zip(_LOCALS, saved, strict=True):
        if value is not _MISSING:
            setattr(local, name, value)
        elif hasattr(local, name):
            delattr(local, name)


class SensitiveWork:
    """A piece of thread-sensitive work, to be called in the thread that does it. `future` gets its result."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._function = function

    def __call__(self) -> None:
        """Do the work. Raises what a signal has raised meanwhile, which is for the server."""
        future = self.future
        if future.set_running_or_notify_cancel():
            try:
                with EndsChildren():
                    result = self._function()
            except BaseException as error:
                if is_interrupt(error):
                    # For the server, not for the application, whose request is given up.
                    future.set_exception(CancelledError("a signal has interrupted the server's thread"))
                    raise
                future.set_exception(error)
            else:
                future.set_result(result)

    def refuse(self, error: BaseException) -> None:
        """Note that no thread can do it."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class RequestThreadExecutor(Executor):
    """Runs thread-sensitive work in the thread that waits for the request, as long as there is one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Called by asgiref in the task that needs the work done."""
        work = SensitiveWork(functools.partial(fn, *args, **kwargs))
        executor = request_executor.get()
        if executor is None or not executor.submit(work):
            run_in_fallback_thread(work)
        return work.future


class _FallbackJob:
    """A function, as a job of the pool."""

    kind = None

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function

    def run(self, thread: JobThread) -> None:  # noqa: ARG002
        self._function()

    def dropped(self) -> None:
        """Tell whoever waits for it. The pool is not closed while the process lives, but may be unable to start its
        thread.
        """
        self.refuse(RuntimeError("no thread could be started for it"))

    def refuse(self, error: RuntimeError) -> None:
        if isinstance(self._function, SensitiveWork):
            self._function.refuse(error)
        else:
            _log.error("the end of a response could not be run: %s", error)


# The variable behind `AsyncToSync.executors`, whose own lookup takes a lock.
_EXECUTOR: Final[ContextVar[Any]] = AsyncToSync.executors._storage._data
_SENSITIVE: Final = ThreadSensitiveContext()
SyncToAsync.context_to_thread_executor[_SENSITIVE] = RequestThreadExecutor()
# Such work is rare, and what its thread holds (database connections, for example) is not to be kept.
_FALLBACK_IDLE_SECONDS: Final = 0.5
# One thread, as in asgiref if it does not know a request: such jobs, which outlive their requests, must not run at
# once.
_fallback: Final = PerProcess(lambda: ThreadPool(1, name="sensitive", idle=_FALLBACK_IDLE_SECONDS))


def serve_sensitive(*, inherits: bool) -> None:
    """Let thread-sensitive work in this context go to the thread that `request_executor` names.

    `inherits`: there may be something in the context already.
    """
    if inherits and _EXECUTOR.get(None) is not None and getattr(AsyncToSync.executors, "current", None) is not None:
        # The executor of the thread that is about to wait for us; asgiref prefers it to the one set here.
        AsyncToSync.executors.current = None
    SyncToAsync.thread_sensitive_context.set(_SENSITIVE)


def enclosing_executor() -> Executor | None:
    """Return the executor of the thread that waits in `async_to_sync` for this task, or None if none waits."""
    if _EXECUTOR.get(None) is None:
        return None  # the common case; asgiref's own lookup takes a lock
    executor: Executor | None = getattr(AsyncToSync.executors, "current", None)
    return executor


# What each thread waits in now, in `async_to_sync`. Only the thread itself changes its entry. A child of a fork does
# not have those threads, but a new one of its own may get the identity of one of them.
_waiting: Final[PerProcess[dict[int, Any]]] = PerProcess(dict)


def _run_and_tell(self: Any, future: Any) -> None:
    """Asgiref's `CurrentThreadExecutor.run_until_future`, which says what the thread waits in only to its own task."""
    waiting, thread = _waiting.here(), threading.get_ident()  # the same at the end, even in a child forked meanwhile
    before = waiting.get(thread)
    waiting[thread] = self
    try:
        # What its task waits for is a step of a call, or thread-sensitive work. The task may have looked just before.
        for at_work in (current.thread, request_executor.get()):
            tell = getattr(at_work, "tell_owner", None)
            if tell is not None:
                tell()
        _run_until_future(self, future)
    finally:
        if before is None:
            del waiting[thread]
        else:
            waiting[thread] = before


_run_until_future: Final[Any] = CurrentThreadExecutor.run_until_future
_current_thread_executor: Any = CurrentThreadExecutor
_current_thread_executor.run_until_future = _run_and_tell


def submit_to_waiting(
    thread: int, function: Callable[[], object], *, for_others: bool = False
) -> Future[object] | None:
    """Run `function` in the thread with this identity, if that waits in `async_to_sync` for the running task, or with
    `for_others` for any task. If not, return None. Called on the loop.
    """
    executor: Any = _waiting.here().get(thread) if for_others else enclosing_executor()
    if executor is None or executor._work_thread.ident != thread:
        return None
    try:
        future: Future[object] = executor.submit(function)
    except RuntimeError:  # it waits no longer
        return None
    return future


def borrow(job: Job) -> bool:
    """Run `job` in the thread that waits in `async_to_sync` for the running task. Returns False if there is none.

    Called on the loop. The thread is left as it was.
    """
    executor = enclosing_executor()
    if executor is None:
        return False
    try:
        executor.submit(_run_borrowed, job)
    except RuntimeError:  # it waits no longer
        return False
    return True


def _run_borrowed(job: Job) -> None:
    before: JobThread | None = current.thread
    saved = save()
    current.thread = thread = BorrowedThread(job)
    try:
        job.run(thread)
    finally:
        current.thread = before
        restore(saved)


def run_in_fallback_thread(job: Callable[[], None]) -> None:
    """Run `job` in one of our own threads, because no request's thread waits for it any more.

    If no thread can be started, sensitive work fails with that error, and anything else is logged.
    """
    fallback = _FallbackJob(job)
    try:
        _fallback.here().submit(fallback, eager=True)
    except RuntimeError as error:
        fallback.refuse(error)


def restore_context(context: Context) -> None:
    """Make what the context holds visible in this thread; runs inside `context`, a copy of the request's."""
    if current_async_library_cvar is not None and current_async_library_cvar in context:
        # Set if anyio or trio runs the request. No loop runs in this thread.
        current_async_library_cvar.set(None)
    _restore_context(context)


# What is set in the context of a task, and only for that task.
_OURS: Final = frozenset((request_executor, SyncToAsync.thread_sensitive_context, _EXECUTOR))


def copy_context_back(context: Context) -> None:
    """Make what a task has set in `context` visible in this thread, which has waited for it."""
    for variable, value in context.items():
        if variable not in _OURS:
            before = variable.get(_MISSING)
            if isinstance(value, _Storage):
                if not isinstance(before, _Storage) or before.data is not value.data:
                    variable.set(_rehome(value))
            elif before is not value:
                variable.set(value)
