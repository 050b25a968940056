"""Runs the lifespan of the application for a check (ASGI Lifespan)."""

import asyncio
from typing import Any, Final

import anyio

from bridge._check.findings import Finding, Outcome, of_error
from bridge._lifespan_client import LifespanClient, lifespan_scope
from bridge._translate.lifespan import FAILED, RUNNING, STARTING, STOPPED
from bridge._types import ASGIApp

_CLAUSE: Final = "ASGI Lifespan"
# How long to wait for an answer, and after that for the end of the call.
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 1.0


class LifespanCheck:
    """Starts and stops `app` on the running loop. `state` is what it puts there for its requests."""

    def __init__(self, app: ASGIApp, outcome: Outcome) -> None:
        self.state: dict[str, Any] = {}
        self._client = LifespanClient(app, lifespan_scope(self.state))
        self._outcome = outcome
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Run the startup. Returns whether requests can be made."""
        client, outcome = self._client, self._outcome
        self._task = asyncio.ensure_future(client.run())
        await _wait(client.started)
        self._judge()
        if client.state is RUNNING:
            outcome.ended = "started"
            return True
        if client.state is FAILED:
            outcome.note(Finding(str(client.failure), "an application that starts", _CLAUSE))
        elif client.unsupported and not outcome.findings:
            outcome.ended = "not supported"
            return True
        elif not client.started.is_set():
            self._note_silence("startup")
        return False

    async def stop(self) -> None:
        """Run the shutdown."""
        client, outcome = self._client, self._outcome
        if client.state is RUNNING and client.ended.is_set():
            self._judge()
            outcome.note(
                Finding("ended its lifespan while requests were served", "an end after lifespan.shutdown", _CLAUSE)
            )
        elif client.state is RUNNING:
            await self._shut_down()
        await self._end()

    async def _shut_down(self) -> None:
        client, outcome = self._client, self._outcome
        client.ask_shutdown()
        await _wait(client.stopped)
        if not client.stopped.is_set():
            self._note_silence("shutdown")
        elif not client.ended.is_set():
            await _wait(client.ended, _END_SECONDS)
        self._judge()
        if client.state is FAILED:
            outcome.note(Finding(str(client.failure), "an application that stops", _CLAUSE))
        elif client.state is STOPPED:
            outcome.ended = "started and stopped"
        elif client.ended.is_set() and not outcome.findings:
            outcome.note(Finding("ended at lifespan.shutdown", "lifespan.shutdown.complete or .failed", _CLAUSE))

    async def _end(self) -> None:
        if self._task is not None and not self._client.ended.is_set():
            self._task.cancel()
            await _wait(self._client.ended, _END_SECONDS)

    def _judge(self) -> None:
        """Note events of the application that are not answers."""
        client = self._client
        if client.broken is not None:
            self._outcome.note(of_error(client.broken))
        # Before the startup is complete, an exception says that the application does not support lifespan, which is
        # allowed.
        allowed = isinstance(client.error, Exception) and client.state is STARTING
        if client.error is not None and not allowed and client.state is not FAILED:
            self._outcome.note(Finding(f"raised {client.error!r:.200} in its lifespan", "no exception", _CLAUSE))

    def _note_silence(self, phase: str) -> None:
        did = f"has not answered lifespan.{phase} within {_ANSWER_SECONDS:.0f} seconds"
        self._outcome.note(Finding(did, f"lifespan.{phase}.complete or .failed", _CLAUSE))


async def _wait(event: anyio.Event, seconds: float = _ANSWER_SECONDS) -> None:
    with anyio.move_on_after(seconds):
        await event.wait()
