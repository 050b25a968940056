"""The client and server of one request of a check."""

import asyncio
from time import monotonic
from typing import Any, Final

from bridge._check.progress import Interrupted
from bridge._check.requests import CheckRequest
from bridge._concurrency.per_process import EndsChildren
from bridge._types import ASGIApp, Event
from bridge.errors import ClientDisconnected

# How many bytes of a response are read before the client leaves.
_ENOUGH_BYTES: Final = 2**20
# How long to wait for a response, how long to watch one that has begun, and how long an application may continue after
# its client has left.
RESPONSE_SECONDS: Final = 15.0
_WATCH_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 5.0


def was_cancelled(error: BaseException) -> bool:
    """Whether `error` is there because somebody cancelled the task, and not because its own code raised it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class CheckClient:
    """One request as an ASGI server makes it. `error` is what the application raised."""

    def __init__(self, request: CheckRequest, state: dict[str, Any] | None) -> None:
        self.status: int | None = None
        self.size = 0
        self.complete = False
        self.left = False
        self.error: BaseException | None = None
        self.stuck = self.silent = False
        self._request = request
        self._scope = request.scope(state)
        self._events = list(self._body())
        self._began: float | None = None  # when its response began
        self._over = asyncio.Event()
        self._news = asyncio.Event()

    async def run(self, app: ASGIApp) -> None:
        """Run the request from beginning to end, within a limited time unless the application blocks the loop."""
        task = asyncio.ensure_future(self._call(app))
        # An interruption ends the loop, so nobody else retrieves it from the task, and asyncio would print it.
        task.add_done_callback(_retrieve)
        started = monotonic()
        while not task.done() and (left := self._limit(started) - monotonic()) > 0:
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            await asyncio.wait({task, news}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
        if not task.done():
            self.silent = self.status is None and not self.left
            self._leave()
            await asyncio.wait({task}, timeout=GRACE_SECONDS)
        if not task.done():
            self.stuck = True
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)

    async def _call(self, app: ASGIApp) -> None:
        try:
            # A child that the application has forked would make the rest of the check too.
            with EndsChildren():
                await app(self._scope, self._receive, self._send)
        except BaseException as error:
            # Any exception: a SystemExit would end the check before the report.
            self.error = error
            if was_cancelled(error) or isinstance(error, Interrupted):
                raise

    def _limit(self, started: float) -> float:
        if self.left:
            return 0.0
        return started + RESPONSE_SECONDS if self._began is None else self._began + _WATCH_SECONDS

    def _body(self) -> list[Event]:
        pieces = self._request.pieces
        if self._request.leaves == "in the request":
            pieces = pieces[:-1]
            return [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        return [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
            for number, piece in enumerate(pieces or (b"",), 1)
        ]

    async def _receive(self) -> Event:
        if self._events:
            return self._events.pop(0)
        if self._request.leaves == "in the request":
            self._leave()
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: Event) -> None:
        if self.left:
            # ASGI HTTP & WebSocket, "Disconnected Client": raise, since version 2.4 of the specification.
            raise ClientDisconnected
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self._began = monotonic()
            if self._request.leaves == "in the response":
                self._leave()
        elif event["type"] == "http.response.body":
            self.size += len(event.get("body", b""))
            self.complete = not event.get("more_body", False)
            if self.complete:
                self._over.set()
            elif self.size >= _ENOUGH_BYTES:
                self._leave()
        self._news.set()
        await asyncio.sleep(0)  # as a server would while it writes: an app that sends for ever must not block the loop

    def _leave(self) -> None:
        self.left = True
        self._over.set()
        self._news.set()


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
