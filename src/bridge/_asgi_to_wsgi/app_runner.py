"""Runs the application of one adapter in this process: its tasks and its lifespan on each loop, and their end."""

import functools
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from bridge._asgi_to_wsgi.lifespan import LifespanRun
from bridge._concurrency import private_loop
from bridge._concurrency.calls import OuterCall, call_of
from bridge._concurrency.greenlets import new_lock
from bridge._concurrency.jobs import current, request_executor
from bridge._concurrency.loops import AsyncioLoop, LoopClosed, LoopHandle, Posted, Spawn, refuse_on_loop
from bridge._concurrency.per_process import PerProcess
from bridge._concurrency.private_loop import LoopFactory, MeasuredLoop, PrivateLoop
from bridge._servers.connection import Connection
from bridge._servers.process import register, unregister, why_threads_stand_still
from bridge._stats import Counters, LoopStats
from bridge._types import ASGIApp

# The time for an application's shutdown, even if its tasks have used up all the time.
_LAST_SECONDS: Final = 1.0
# Added to a timeout, this is longer than any wait on the loop. Only a blocked loop takes longer.
_END_MARGIN_SECONDS: Final = 4 * _LAST_SECONDS
# How many requests a log line names.
_NAMED_TASKS: Final = 3

# How often to check whether a server has been told to stop.
_STOP_LOOK_SECONDS: Final = 0.25

_log = logging.getLogger("bridge")


class Options(NamedTuple):
    """The application and the options of one `AsgiToWsgi`, as its constructor describes them."""

    app: ASGIApp
    lifespan: str
    startup_timeout: float
    shutdown_timeout: float
    disconnect_grace: float
    loop_factory: LoopFactory | None
    slow_warning: float | None
    background: str = "after"


class RunnerEnded(Exception):  # not an error: the caller asks for the next runner
    """The adapter was closed after a thread had found this runner, and before anything began there."""


class SharedCount:
    """A count that any thread may increase. With a plain number, `+=` could lose some if threads run at once."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = new_lock()

    def add(self) -> None:
        """Add one."""
        with self._lock:
            self.value += 1


class LiveTask(Protocol):
    """A task that has not ended, as its runner sees it."""

    complete: bool
    upgraded: bool
    cancel: Callable[[], object] | None
    connection: Connection
    server_stops: Callable[[], bool] | None

    def disconnect(self) -> None:
        """Tell the task that its client has left."""


def give_up(task: LiveTask) -> None:
    """Cancel a task, unless that has been done: a second time would end its cleanup. The end of the client's grace and
    that of a shutdown may come at once.
    """
    cancel = task.cancel
    if cancel is not None:
        task.cancel = _done_already
        cancel()


def _done_already() -> None:
    """Takes the place of the `cancel` of a task that has been cancelled."""


class AppRunner:
    """Runs the application of one adapter on one loop. `private` is the loop if it is the private one, and None if it
    is the server's.

    It is used on its loop, except where a method says otherwise. `started` and `closed` are set in threads.

    A thread may find the runner just before it is closed. No lock prevents that: `closing` is set on the loop, and
    decides there. If the task begins before it is set, the close waits for the task. Otherwise its thread gets
    `RunnerEnded` and starts again with the next runner. So no task is lost, and each is counted once.
    """

    # It is being closed: no further task begins here. Set on the loop, never cleared.
    closing = False

    def __init__(
        self,
        options: Options,
        loop: LoopHandle,
        private: PrivateLoop | None,
        lasting: Callable[[], Spawn | None] | None = None,
        *,
        rejected: SharedCount,
    ) -> None:
        self.loop = loop
        self.private = private
        self.disconnect_grace = options.disconnect_grace
        # How long the server's thread stays for work after the response, in seconds; None for not at all.
        self.background_timeout = options.shutdown_timeout if options.background == "before" else None
        # Changed on the loop. Refused requests never get there, so their threads count them, in `rejected`.
        self.counters = Counters()
        self.rejected = rejected
        self.live: set[LiveTask] = set()
        self.lifespan: LifespanRun | None = None
        # What the private loop knows this runner by.
        self.user: object = None
        # Exists while the runner is being closed. Set once it has been closed.
        self.closed: threading.Event | None = None
        # The application is ready for requests.
        self.started = False
        if options.lifespan != "off":
            # On trio, a lasting task needs a lasting nursery: that of the server's lifespan, if the server has one.
            if lasting is None or loop.is_asyncio:
                lasting = self._own_spawn
            self.lifespan = LifespanRun(options.app, loop, lasting, demanded=options.lifespan == "on")
        self._slow_warning = options.slow_warning
        # The block that was logged last, by its beginning. Set by any thread that waits. Two threads may both log it at
        # the same moment; that is not worth a lock.
        self._warned_of: float | None = None
        # There is a timer for `_look_after_sessions`.
        self._watching = False
        self._emptied: Any = None

    @property
    def usable(self) -> bool:
        """Whether tasks can be started here."""
        return not (self.loop.closed or self.closing) if self.private is None else self.private.usable

    def _own_spawn(self) -> Spawn:
        return self.spawn

    @property
    def over(self) -> bool:
        """Whether nothing runs on the loop of a server any more, and nothing will."""
        return self.private is None and (self.loop.closed or (self.closing and not self.live))

    @property
    def has_failed(self) -> bool:
        """Whether the private loop cannot continue."""
        return isinstance(self.loop, MeasuredLoop) and self.loop.lost

    @property
    def failed(self) -> int:
        """How many responses have failed with the private loop. They still count as live."""
        return sum(not task.complete for task in list(self.live)) if self.has_failed else 0

    def start(self, timeout: float) -> None:
        """Run the startup of the lifespan, once, from a thread. Raises `LifespanFailed` and `RunnerEnded`."""
        if self.lifespan is not None:
            try:
                self.lifespan.start(timeout)
            except LoopClosed:
                if self.private is None and not self.closing:
                    raise
                raise RunnerEnded from None
        self.started = True

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]], context: Context) -> Callable[[], object]:
        """Start a task on an asyncio loop. Call this on that loop."""
        assert isinstance(self.loop, AsyncioLoop)
        return self.loop.spawn(function(), context).cancel

    def run_on_loop(self) -> None:
        """Do nothing. A loop that gets here is not blocked (see `log_if_blocked`)."""

    def log_if_blocked(self) -> None:
        """Log the stack of a loop that is blocked by a callback. The threads that wait for the loop call this
        regularly.
        """
        if self.private is None or self._slow_warning is None or not isinstance(self.loop, MeasuredLoop):
            return
        since = self.loop.unnoticed_since
        if since is None:
            with suppress(LoopClosed):  # which `Task.rest` finds out
                self.loop.post(self)
        elif since != self._warned_of and (blocked := monotonic() - since) > self._slow_warning:
            self._warned_of = since
            _log.warning(
                "the event loop has been blocked for %.1f seconds%s; its %s",
                blocked,
                self._blamed(self.private.running()),
                self.private.describe(),
            )

    def _blamed(self, running: Any) -> str:
        """Say whose code blocks the loop, as far as is known. `running` is the loop's current task, if there is one."""
        live = list(self.live)
        for task in live:
            if running is not None and getattr(task.cancel, "__self__", None) is running:
                return f" by {task.connection.title}"
        # A task that a request started has a copy of the request's context. Python 3.12 and newer can show it.
        context: Context = getattr(running, "get_context", Context)()
        owner: Any = getattr(context.get(request_executor), "owner", None)
        if owner is not None:
            return f" by {owner.connection.title}"
        named = ", ".join(task.connection.title for task in live[:_NAMED_TASKS])
        more = f" and {len(live) - _NAMED_TASKS} more" if len(live) > _NAMED_TASKS else ""
        return f", with {named}{more} in progress" if live else ""

    def task_ended(self, task: LiveTask) -> None:
        """Forget a task."""
        self.live.discard(task)
        if self._emptied is not None and not self.live:
            self.loop.wake(self._emptied)

    async def end(self, timeout: float, *, at_exit: bool = False) -> None:
        """Within `timeout` seconds, let requests end, and then end the lifespan.

        Applications whose responses are not complete shortly before the end of this time receive `http.disconnect`. At
        the exit of the process they receive it at once, because the server has already waited for them.
        """
        deadline = monotonic() + timeout
        self.closing = True
        if not at_exit:
            await self._empty(timeout - min(self.disconnect_grace, timeout / 2))
        for task in list(self.live):
            if not task.complete:
                task.disconnect()
        await self._empty(deadline - monotonic())
        if self.live:
            _log.warning("cancelling %d tasks of the application that do not end", len(self.live))
        for task in list(self.live):
            give_up(task)
        await self._empty(_LAST_SECONDS)  # their cleanup may need what the lifespan's shutdown removes
        if self.lifespan is not None:
            await self.lifespan.stop(max(deadline - monotonic(), _LAST_SECONDS))

    def end_sessions(self) -> None:
        """Tell the connections that are no longer HTTP to end now. A server would wait for them forever."""
        for task in self._sessions():
            task.disconnect()

    def watch_sessions(self) -> None:
        """From now on, tell each of them to end once its server has been told to stop, if the loop has timers."""
        if not self._watching:
            self._look_after_sessions()

    def _look_after_sessions(self) -> None:
        asked = [(task, task.server_stops) for task in self._sessions() if task.server_stops is not None]
        for task, stops in asked:
            if stops():
                task.disconnect()
        self._watching = bool(asked)
        if asked and isinstance(self.loop, AsyncioLoop):
            self.loop.call_later(_STOP_LOOK_SECONDS, self._look_after_sessions)

    def _sessions(self) -> list[LiveTask]:
        return [task for task in self.live if task.upgraded and not task.complete]

    async def _empty(self, timeout: float) -> None:
        """Wait until nothing runs, for at most `timeout` seconds."""
        if self.live:
            self._emptied = self.loop.waiter()
            await self.loop.wait_at_most(timeout, self._emptied)

    def discard(self, timeout: float, on_end: Callable[[], None]) -> None:
        """Like `close`, but for a finalizer: neither waits nor locks. Calls `on_end` when it is done."""
        private = self.private
        assert private is not None
        closed = self.closed = threading.Event()

        async def end() -> None:
            try:
                await self.end(timeout)
            finally:
                closed.set()
                on_end()
                private_loop.release(private, self.user, wait=False)

        if private.usable:
            with suppress(LoopClosed):
                self.loop.post(Posted(lambda: self.spawn(end, Context())))
                return
        closed.set()
        on_end()

    def close(self, timeout: float, *, at_exit: bool) -> None:
        """End what runs on the private loop, and release the loop. From a thread."""
        private = self.private
        assert private is not None
        if not private.usable:
            return
        done = threading.Event()

        async def end() -> None:
            try:
                await self.end(timeout, at_exit=at_exit)
            finally:
                done.set()

        try:
            self.loop.post(Posted(lambda: self.spawn(end, Context())))
        except LoopClosed:
            return
        if not done.wait(timeout + _END_MARGIN_SECONDS):
            _log.warning("the event loop does not answer at shutdown; its %s", private.describe())
        private_loop.release(private, self.user)


class _Runners:
    """The runners of one process, from its first request on. Changed under `lock`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.all: list[AppRunner] = []
        # The runners on loops of servers.
        self.by_loop: dict[object, AppRunner] = {}
        self.private: AppRunner | None = None
        self.rejected = SharedCount()
        self.past = Counters()
        self.past_block = 0.0

    def retire(self, runner: AppRunner) -> None:
        """Forget a runner, but not its counts. With the lock held."""
        self.all.remove(runner)
        self.past.add(runner.counters)
        self.past.aborted += runner.failed
        if isinstance(runner.loop, MeasuredLoop):
            self.past_block = max(self.past_block, runner.loop.longest_block)


class AppRunners:
    """Finds or makes the runner for the loop of this thread's request."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._runners = PerProcess(_Runners)

    def here(self) -> tuple[AppRunner, Spawn]:
        """Return the runner for the loop to use in this thread, with its application started, and the function that
        starts a task there.

        If the thread works for an event loop, it is that loop. Otherwise it is the private loop of the process. Raises
        `LifespanFailed`, and `RuntimeError` on an event loop.
        """
        refuse_on_loop("AsgiToWsgi was called", "call it in a thread (asyncio.to_thread)")
        call = call_of(current.thread)
        if call is not None and not call.dispatcher.loop.closed:
            return self._start_on_server_loop(call)
        runners = self._runners.here()
        private = runners.private
        if private is None or not private.started or private.private is None or private.private.ended:
            private = self._start_private(runners)
        return private, private.spawn

    def _start_on_server_loop(self, call: OuterCall) -> tuple[AppRunner, Spawn]:
        while True:
            runner = self._for_server_loop(call)
            # A hook of the server's lifespan belongs to no request.
            spawn = runner.spawn if runner.loop.is_asyncio else call.spawn or call.dispatcher.serving.spawn
            if spawn is None:
                raise RuntimeError("an ASGI application was called outside a request, and the server runs no lifespan")
            try:
                if not runner.started:
                    runner.start(self._options.startup_timeout)
            except RunnerEnded:
                continue  # its lifespan was ended meanwhile
            return runner, spawn

    def _start_private(self, runners: _Runners) -> AppRunner:
        while True:
            runner = self._for_private_loop(runners)
            try:
                if not runner.started:
                    runner.start(self._options.startup_timeout)
            except RunnerEnded:
                continue  # closed meanwhile; there will be another one
            return runner

    def _for_private_loop(self, runners: _Runners) -> AppRunner:
        with runners.lock:
            runner = runners.private
            if runner is None or not runner.usable:
                user = object()
                private = private_loop.acquire(self._options.loop_factory, user)
                runner = AppRunner(self._options, private.loop, private, rejected=runners.rejected)
                runner.user = user
                runners.all.append(runner)
                register(self, self.begin_stop)
                if (reason := why_threads_stand_still()) is not None:
                    _log.warning("timers, and work after responses, run only while requests are served: %s", reason)
                # Last, because others read it without the lock. A signal may also end this half-way, and what serves
                # requests must be known to those that close it.
                runners.private = runner
        return runner

    def _for_server_loop(self, call: OuterCall) -> AppRunner:
        runners = self._runners.here()
        loop, serving = call.dispatcher.loop, call.dispatcher.serving
        runner = runners.by_loop.get(loop)
        if runner is None or runner.closing:
            with runners.lock:
                for old in [old for old in runners.by_loop.values() if not old.usable]:
                    del runners.by_loop[old.loop]
                for old in [old for old in runners.all if old.over]:
                    runners.retire(old)
                runner = runners.by_loop.get(loop)
                if runner is None:
                    runner = AppRunner(self._options, loop, None, lambda: serving.spawn, rejected=runners.rejected)
                    runners.all.append(runner)
                    runners.by_loop[loop] = runner
                    if runner.lifespan is not None:
                        serving.at_shutdown.append(functools.partial(runner.end, self._options.shutdown_timeout))
        return runner

    def begin_stop(self) -> None:
        """End the sessions on the private loop. From any thread, even in a signal handler."""
        runners = self._runners.known()
        runner = None if runners is None else runners.private
        if runner is not None and runner.usable:
            with suppress(LoopClosed):
                runner.loop.post(Posted(runner.end_sessions))

    def exit(self, timeout: float | None = None) -> None:
        """Like `close`, when the process ends, within `timeout` seconds."""
        self.close(at_exit=True, timeout=timeout)

    def close(self, *, at_exit: bool = False, timeout: float | None = None) -> None:
        """End the requests, the lifespan, and the private loop if nobody else needs it. From a thread.

        Raises `RuntimeError` on an event loop, if there is something to end.
        """
        seconds = self._options.shutdown_timeout if timeout is None else min(timeout, self._options.shutdown_timeout)
        runners = self._runners.here()
        with runners.lock:
            # The runners on servers' loops end with their loops.
            ours = [runner for runner in runners.all if runner.private is not None]
            if ours:
                refuse_on_loop("AsgiToWsgi.close() was called", "call it in a thread (asyncio.to_thread)")
            runners.private = None
            unregister(self)
            first = [runner for runner in ours if runner.closed is None]
            for runner in first:
                runner.closed = threading.Event()
        for runner in first:
            assert runner.closed is not None
            try:
                runner.close(seconds, at_exit=at_exit)
            finally:  # Ctrl-C may end the wait, and another close must not wait for this one then
                with runners.lock:
                    runners.retire(runner)
                runner.closed.set()
        for runner in ours:
            # Another thread may have begun to close it.
            if runner.closed is not None and not runner.closed.wait(seconds + _END_MARGIN_SECONDS):
                return

    def discard(self) -> None:
        """End what runs on private loops. For a finalizer, so it neither waits nor locks."""
        runners = self._runners.known()
        if runners is None:
            return
        left = [runner for runner in list(runners.all) if runner.private is not None and runner.closed is None]

        def ended(runner: AppRunner) -> None:
            left.remove(runner)
            if not left:
                unregister(self)

        # If any has not ended when the process exits, `close` waits for it then.
        for runner in list(left):
            runner.discard(self._options.shutdown_timeout, functools.partial(ended, runner))

    def stats(self) -> LoopStats:
        """Counts, for this process."""
        runners = self._runners.here()
        total = Counters()
        block, tasks, busy = runners.past_block, 0, 0
        with runners.lock:
            total.add(runners.past)
            for runner in runners.all:
                total.add(runner.counters)
                total.aborted += runner.failed
                busy += 0 if runner.has_failed else len(runner.live)
                if runner.private is not None and isinstance(runner.loop, MeasuredLoop):
                    tasks += runner.private.tasks()
                    block = max(block, runner.loop.longest_block, runner.loop.blocked_for)
        return LoopStats(
            tasks=tasks,
            longest_block=block,
            busy=busy,
            rejected=runners.rejected.value,
            client_disconnects=total.client_disconnects,
            aborted=total.aborted,
            served=total.served,
        )
