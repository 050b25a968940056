"""Runs the lifespan of an ASGI application on a loop, for servers that have no lifespan (ASGI Lifespan)."""

import logging
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

import anyio

from bridge._concurrency.interrupts import may_pass
from bridge._concurrency.loops import GroupClosed, LoopClosed, LoopHandle, Spawn, refuse_on_loop
from bridge._lifespan_client import LifespanClient, lifespan_scope
from bridge._translate.lifespan import FAILED, STARTING
from bridge._types import ASGIApp
from bridge.errors import LifespanFailed

# How long the application may take to end once it is cancelled.
_CANCEL_SECONDS: Final = 1.0

_log = logging.getLogger("bridge")


class LifespanRun:
    """The lifespan of `app` on the loop of `loop`. `state` is what `app` puts there for its requests.

    `lasting()` returns what starts a task that lasts, or None if there is nothing now that could. Called on the loop.
    `demanded` (lifespan="on"): it is a failure if the application does not support lifespan.
    """

    def __init__(self, app: ASGIApp, loop: LoopHandle, lasting: Callable[[], Spawn | None], *, demanded: bool) -> None:
        self.state: dict[str, Any] = {}
        self.failure: LifespanFailed | None = None
        self._app = app
        self._loop = loop
        self._lasting = lasting
        self._demanded = demanded
        self._client: LifespanClient | None = None
        # It was stopped before it began. Set on the loop.
        self._stopped = False
        self._started = threading.Event()
        # The application's call has ended, or nothing waits for it any longer.
        self._over = threading.Event()
        self._late: LifespanFailed | None = None
        self._cancel: Callable[[], object] | None = None

    def start(self, timeout: float) -> None:
        """Start it, unless that has been done, and wait until the application is ready. For any number of threads.

        Raises `LifespanFailed` if the application is not ready within `timeout` seconds, or has failed. Its cause is
        what the application has raised, if anything. The outcome of a test, which is not an `Exception`, is raised
        itself. Raises `RuntimeError` on an event loop, and `LoopClosed` if it was stopped before it began.
        """
        refuse_on_loop("an application's startup was waited for", "do it in a thread (asyncio.to_thread)")
        self._loop.post(self)
        if not self._started.wait(timeout):
            self._late = LifespanFailed(f"the application's startup has not been completed within {timeout} seconds")
            self._loop.post(self)
            self._started.wait(_CANCEL_SECONDS)
            self.failure = self.failure or self._late
        if self._client is None:
            raise LoopClosed("the application was shut down before its startup began")
        if self.failure is not None:
            raise self._reason(self.failure)

    def _reason(self, failure: LifespanFailed) -> BaseException:
        """Return the exception for `failure` in this thread. Several threads may raise it, and each needs its own
        exception and traceback.
        """
        # Applications first send that they have failed, and then raise the reason.
        if not self._over.wait(_CANCEL_SECONDS):
            self._over.set()
        error = None if self._client is None else self._client.error
        if error is not None and not may_pass(error):
            error = None
        if error is not None and not isinstance(error, Exception):
            return error
        reason = LifespanFailed(str(failure))
        reason.__cause__ = failure.__cause__ or error
        return reason

    def run_on_loop(self) -> None:
        """On the loop: start the task, or cancel it if the startup has taken too long."""
        client = self._client
        if client is None:
            if self._stopped:
                return
            self._client = client = LifespanClient(self._app, lifespan_scope(self.state), on_started=self._settle)
            spawn = self._lasting()
            try:
                if spawn is None:
                    raise GroupClosed("the server runs no lifespan now")
                self._cancel = spawn(self._run, Context())
            except GroupClosed as error:
                self._over.set()
                self._go_without(error)
                self._started.set()
            else:
                self._end_unsupported()
        elif self._late is not None and self.failure is None and client.state is STARTING:
            self.failure = self._late
            _log.error("%s; it is cancelled", self.failure)
            if self._cancel is not None:
                self._cancel()

    async def _run(self) -> None:
        assert self._client is not None
        try:
            await self._client.run()
        finally:
            self._over.set()

    async def stop(self, timeout: float) -> None:
        """Ask the application to shut down, and wait for at most `timeout` seconds. On the loop."""
        client = self._client
        if client is None:
            self._stopped = True
            self._started.set()
        if client is None or client.ended.is_set():
            return
        if self.failure is None:
            client.ask_shutdown()
            with anyio.move_on_after(timeout):
                await client.ended.wait()
        if not client.ended.is_set():
            if self.failure is None:
                _log.error("the application's shutdown has not been completed within %.1f seconds", timeout)
            await self._end()
        if self.failure is None and client.state is FAILED:
            _log.error("%s", client.failure)

    async def _end(self) -> None:
        """Cancel the task, and wait a short time for its end."""
        if self._client is not None and self._cancel is not None:
            self._cancel()
            with anyio.move_on_after(_CANCEL_SECONDS):
                await self._client.ended.wait()

    def _settle(self) -> None:
        """Find out, after the startup, whether the application is ready."""
        client = self._client
        assert client is not None
        if self.failure is not None:
            pass  # it was cancelled because it took too long
        elif client.unsupported:
            self._go_without(client.error)
            self._end_unsupported()
        elif client.failure is not None:
            self.failure = client.failure
            _log.error("%s", self.failure)
        self._started.set()

    def _end_unsupported(self) -> None:
        """Cancel the task of an application that does not support lifespan but still runs: it may wait forever."""
        client = self._client
        if client is not None and client.unsupported and not client.ended.is_set() and self._cancel is not None:
            self._cancel()

    def _go_without(self, error: BaseException | None) -> None:
        """Note that the application has no lifespan, as `error` says."""
        if isinstance(error, GroupClosed):
            # On trio. On asyncio a task needs no group.
            if self._demanded:
                self.failure = LifespanFailed(f"the application's lifespan runs within that of the server: {error}")
            else:
                _log.info("the application is served without lifespan, which runs within that of the server: %s", error)
        elif self._demanded:
            self.failure = LifespanFailed("the application ended its lifespan before its startup was complete")
            self.failure.__cause__ = error
        elif error is not None:
            # ASGI Lifespan: an exception here means that the application does not support lifespan. Continue without.
            _log.info("the application does not support lifespan: %s: %s", type(error).__name__, error)
