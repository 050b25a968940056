"""The client of the lifespan protocol: the server's side for an ASGI application (ASGI Lifespan)."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from bridge._concurrency.interrupts import may_pass
from bridge._translate.lifespan import FAILED, RUNNING, STARTING, STOPPED, STOPPING, LifespanOrder, LifespanState
from bridge._types import ASGIApp, Event, Scope
from bridge.errors import ApplicationProtocolError, LifespanFailed

# What the log calls an application if there is only one.
THE_APP: Final = "the application"

_log = logging.getLogger("bridge")


def lifespan_scope(state: dict[str, Any]) -> Scope:
    """The scope of a lifespan. `state` is what the application puts there for its requests (ASGI, "Lifespan State")."""
    return {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}


class LifespanClient:
    """One lifespan of `app`, in the task that awaits `run`, on asyncio or trio. Everything here happens on that loop.

    `started` is set when the startup has succeeded or failed. `stopped` is set when the application has said that it
    has stopped, or can no longer say it. `ended` is set when its call has ended. After that:

    * `failure`: the application has said that its startup or shutdown failed, or it raised in its shutdown, or its
    startup was cancelled or raised something that is not an `Exception` (which says nothing about what it supports).
    * `unsupported`: its call ended before it had answered the startup, or it answered with events that do not belong to
    lifespan. It has no lifespan, and is served without (ASGI Lifespan, "Scope").
    * `error`: what its call raised, or what is wrong with such an event.
    * `broken`: what was wrong with the first event that was out of order. `received`: whether it has received the
    startup.

    `name` is for the log. `on_started()` is called when `started` is set.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        *,
        name: str = THE_APP,
        on_started: Callable[[], object] | None = None,
    ) -> None:
        self.failure: LifespanFailed | None = None
        self.error: BaseException | None = None
        self.broken: ApplicationProtocolError | None = None
        self.unsupported = self.received = False
        self.started, self.stopped, self.ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._app = app
        self._scope = scope
        self._name = name
        self._on_started = on_started
        self._order = LifespanOrder()
        self._asked = anyio.Event()
        # The task was cancelled, or its loop has ended.
        self._cut_off = False

    @property
    def state(self) -> LifespanState:
        """The current phase of the lifespan."""
        return self._order.state

    async def run(self) -> None:
        """Call the application. Raises nothing: what the application raised is `error`, even if this task was
        cancelled.
        """
        try:
            await self._app(self._scope, self._receive, self._send)
        except BaseException as error:
            # A cancellation too: if the application raised it itself, raising it would cancel the surrounding code.
            self.error = self.error or error
            self._judge(error, from_outside=_is_from_outside(error))
        else:
            self._judge(None, from_outside=False)
        self.ended.set()
        self.stopped.set()
        self._start_is_over()

    def ask_shutdown(self) -> None:
        """Ask the application to shut down, through its next `receive()`."""
        self._asked.set()

    def _judge(self, error: BaseException | None, *, from_outside: bool) -> None:
        """Decide what it means that the application has returned or raised."""
        state = self._order.state
        if self.unsupported:
            pass  # already known
        elif state is STARTING:
            if from_outside or isinstance(error, asyncio.CancelledError) or _is_outcome(error):
                self._fail(f"the application ended its lifespan before its startup was complete: {error!r}", error)
            else:
                self.unsupported = True
        elif from_outside or (self._cut_off and state is RUNNING):
            pass  # whoever cancelled it knows why, and the end of a loop is nobody's fault
        elif state is RUNNING:
            _log.error("%s ended its lifespan before it was asked to shut down", self._name, exc_info=error)
        elif state is STOPPING and error is not None:
            said = f"the application's shutdown raised {type(error).__name__}: {error}"
            self._fail(said, error)
            _log.error("%s", said if self._name == THE_APP else f"{self._name}: {said}", exc_info=error)

    def _fail(self, said: str, error: BaseException | None) -> None:
        self.failure = LifespanFailed(said)
        self.failure.__cause__ = error

    def _start_is_over(self) -> None:
        if not self.started.is_set():
            self.started.set()
            if self._on_started is not None:
                self._on_started()

    async def _receive(self) -> Event:
        if not self.received:
            self.received = True
            return {"type": "lifespan.startup"}
        try:
            await self._asked.wait()
        except BaseException as error:
            self._cut_off = _is_from_outside(error)
            raise
        return self._order.ask_shutdown()

    async def _send(self, event: Event) -> None:
        try:
            self._order.answer(event)
        except ApplicationProtocolError as error:
            if self._cut_off and self._order.state is RUNNING:
                return  # frameworks answer a cancellation with "failed", to nobody
            if self._order.state is STARTING and not _is_of_lifespan(event):
                # It ignores the type of its scope, and answers as to a request.
                self.error = self.error or error
                self.unsupported = True
                self._start_is_over()
            else:
                self.broken = self.broken or error
                if self._order.state is not STARTING:
                    _log.exception("%s broke the lifespan protocol", self._name)
            raise
        self.failure = self._order.failure
        if self._order.state in (STOPPED, FAILED):
            self.stopped.set()
        self._start_is_over()


def _is_of_lifespan(event: object) -> bool:
    return isinstance(event, Mapping) and str(event.get("type")).startswith("lifespan.")


def _is_outcome(error: BaseException | None) -> bool:
    """Whether the error is meant for the caller of the application, for example the outcome of a test."""
    return error is not None and not isinstance(error, Exception) and may_pass(error)


def _is_from_outside(error: BaseException) -> bool:
    """Whether the error comes from a cancelled task or an ended loop, not from the application's own code."""
    if isinstance(error, Exception):
        return False
    if isinstance(error, GeneratorExit):
        return True
    if not isinstance(error, anyio.get_cancelled_exc_class()):
        return False
    if not isinstance(error, asyncio.CancelledError):
        return True  # only trio itself can raise trio's
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
