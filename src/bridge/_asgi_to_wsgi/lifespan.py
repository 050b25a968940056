"""Runs the lifespan of an ASGI application on a loop, for servers that have none to run (ASGI Lifespan)."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Final

from bridge._concurrency.loops import LoopHandle, Spawn
from bridge._translate.lifespan import RUNNING, STARTING, STOPPED, Lifespan
from bridge._types import ASGIApp, Event
from bridge.errors import ApplicationProtocolError, LifespanFailed

_STARTUP: Final = {"type": "lifespan.startup"}

# How long the application may take to end once it is cancelled, in seconds.
_CANCEL_GRACE: Final = 1.0

_ENDED_FROM_OUTSIDE: Final = (asyncio.CancelledError, GeneratorExit)

_log = logging.getLogger("bridge")


class LifespanRun:
    """The lifespan of `app` on the loop of `loop`; `state` is what it puts there for its requests.

    `demanded` (lifespan="on"): an application that does not support lifespan is a failure, and not just one without.
    """

    def __init__(self, app: ASGIApp, loop: LoopHandle, spawn: Spawn | None, *, demanded: bool) -> None:
        self.state: dict[str, Any] = {}
        self.failure: LifespanFailed | None = None
        self._app = app
        self._loop = loop
        self._spawn = spawn
        self._demanded = demanded
        self._order = Lifespan()
        self._received = False
        self._asked = False
        self._shutdown: Awaitable[None] | None = None
        self._started = threading.Event()
        self._late: LifespanFailed | None = None
        self._cancel: Callable[[], object] | None = None
        self._over: Any = None

    def start(self, timeout: float) -> None:
        """Start it if nobody has, and wait until the application is ready; from a thread, by any number at once.

        Raises `LifespanFailed` where it is not ready within `timeout` seconds, or will never be.
        """
        self._loop.post(self)
        if not self._started.wait(timeout):
            self._late = LifespanFailed(f"the application's startup has not been completed within {timeout} seconds")
            self._loop.post(self)
            self._started.wait(_CANCEL_GRACE)
            self.failure = self.failure or self._late
        if self.failure is not None:
            # Raised in several threads: each needs an exception, and traceback, of its own.
            raise LifespanFailed(str(self.failure)) from self.failure.__cause__

    def run_on_loop(self) -> None:
        """On the loop: start the task; or cancel it, if the startup has taken too long."""
        if self._over is None:
            self._over = self._loop.waiter()
            if self._spawn is not None:
                self._cancel = self._spawn(self._run, Context())
            else:
                self._ended(RuntimeError("the server runs no lifespan within which it could last"))
                self._started.set()
        elif self._late is not None and self.failure is None and self._order.state is STARTING:
            self.failure = self._late
            _log.error("%s; it is cancelled", self.failure)
            if self._cancel is not None:
                self._cancel()

    async def stop(self, timeout: float) -> None:
        """Ask the application to shut down, and wait `timeout` seconds at most; on the loop."""
        if self._cancel is None:
            return
        self._asked = True
        if self._shutdown is not None:
            self._loop.wake(self._shutdown)
        await self._loop.wait_at_most(timeout, self._over)
        if self._cancel is not None:
            _log.error("the application's shutdown has not been completed within %.1f seconds", timeout)
            self._cancel()
            self._over = self._loop.waiter()
            await self._loop.wait_at_most(_CANCEL_GRACE, self._over)
        if self._order.failure is not None:
            _log.error("%s", self._order.failure)

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:
            self._ended(error)
        else:
            self._ended(None)
        self._cancel = None
        self._started.set()
        self._loop.wake(self._over)

    def _ended(self, error: BaseException | None) -> None:
        """The application has returned or raised: what does that say?"""
        state = self._order.state
        if state is STARTING:
            if self.failure is not None:
                pass  # it was cancelled for being late
            elif self._demanded or isinstance(error, _ENDED_FROM_OUTSIDE):
                self.failure = LifespanFailed("the application ended its lifespan before its startup was complete")
                self.failure.__cause__ = error
            elif error is not None:
                # ASGI Lifespan: an exception here means that the application does not support it; go on without.
                _log.info("the application does not support lifespan: %s: %s", type(error).__name__, error)
        elif state is RUNNING and not isinstance(error, _ENDED_FROM_OUTSIDE):
            _log.error("the application ended its lifespan before it was asked to shut down", exc_info=error)
        elif error is not None and state is not STOPPED and self.failure is None:
            _log.error("the application's shutdown raised", exc_info=error)

    async def _receive(self) -> Event:
        if not self._received:
            self._received = True
            return dict(_STARTUP)
        while not self._asked:
            self._shutdown = self._loop.waiter()
            await self._shutdown
        return self._order.ask_shutdown()

    async def _send(self, event: Event) -> None:
        try:
            self._order.answer(event)
        except ApplicationProtocolError:
            if self._order.state is not STARTING:
                _log.exception("the application broke the lifespan protocol")
            raise
        if self._order.failure is not None and not self._started.is_set():
            self.failure = self._order.failure
        self._started.set()
