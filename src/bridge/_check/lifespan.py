"""The lifespan of the application, as a check runs it (ASGI Lifespan)."""

import asyncio
from typing import Any, Final

from bridge._check.client import was_cancelled
from bridge._check.findings import Finding, Outcome, of_error
from bridge._translate.lifespan import RUNNING, STARTING, STOPPED, Lifespan
from bridge._types import ASGIApp, Event
from bridge.errors import ApplicationProtocolError

_CLAUSE: Final = "ASGI Lifespan"
_PATIENCE: Final = 60.0


class LifespanCheck:
    """Starts and stops `app` on the running loop; `state` is what it puts there for its requests."""

    def __init__(self, app: ASGIApp, outcome: Outcome) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._outcome = outcome
        self._order = Lifespan()
        self._events: list[Event] = [{"type": "lifespan.startup"}]
        self._asked = asyncio.Event()
        self._answered = asyncio.Event()
        self._task: asyncio.Future[None] | None = None

    async def start(self) -> bool:
        """Whether requests can be made."""
        self._task = asyncio.ensure_future(self._call())
        await self._answer("startup")
        outcome = self._outcome
        if self._order.state is RUNNING:
            outcome.ended = "started"
            return True
        if self._order.failure is not None:
            outcome.note(Finding(str(self._order.failure), "an application that starts", _CLAUSE))
        elif self._task.done() and not outcome.findings:
            outcome.ended = "not supported"
            return True
        return False

    async def stop(self) -> None:
        """Ask for the shutdown."""
        task, outcome = self._task, self._outcome
        assert task is not None
        if self._order.state is not RUNNING:
            task.cancel()
            return
        if task.done():
            outcome.note(Finding("ended its lifespan while it was served", "an end after lifespan.shutdown", _CLAUSE))
            return
        self._answered.clear()
        self._events.append(self._order.ask_shutdown())
        self._asked.set()
        await self._answer("shutdown")
        await asyncio.wait({task}, timeout=1.0)
        if self._order.failure is not None:
            outcome.note(Finding(str(self._order.failure), "an application that stops", _CLAUSE))
        elif self._order.state is STOPPED:
            outcome.ended = "started and stopped"
        elif task.done() and not outcome.findings:
            outcome.note(Finding("ended at lifespan.shutdown", "lifespan.shutdown.complete or .failed", _CLAUSE))
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)

    async def _answer(self, phase: str) -> None:
        assert self._task is not None
        answered = asyncio.ensure_future(self._answered.wait())
        waiting: set[asyncio.Future[Any]] = {self._task, answered}
        done, _ = await asyncio.wait(waiting, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        answered.cancel()
        if not done:
            did = f"has not answered lifespan.{phase} within {_PATIENCE:.0f} seconds"
            self._outcome.note(Finding(did, f"lifespan.{phase}.complete or .failed", _CLAUSE))

    async def _call(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
        except BaseException as error:
            if was_cancelled(error):
                raise
            # Before the startup is complete an exception says that lifespan is not supported, which is allowed.
            allowed = isinstance(error, Exception) and self._order.state is STARTING
            if not allowed and self._order.failure is None:
                self._outcome.note(Finding(f"raised {error!r:.200} in its lifespan", "no exception", _CLAUSE))

    async def _receive(self) -> Event:
        if not self._events:
            self._asked.clear()
            await self._asked.wait()
        return self._events.pop(0)

    async def _send(self, event: Event) -> None:
        try:
            self._order.answer(event)
        except ApplicationProtocolError as error:
            # An application for requests only may answer anything: it does not look at the type of its scope.
            if self._order.state is not STARTING or str(event.get("type")).startswith("lifespan."):
                self._outcome.note(of_error(error))
            raise
        self._answered.set()
