"""The application's side of one request, on the loop: its `receive` and `send` (ASGI HTTP & WebSocket)."""

import logging
from contextlib import suppress
from typing import Final

import anyio.lowlevel

from bridge._asgi_to_wsgi.task import Task
from bridge._asgi_to_wsgi.task_thread import Side
from bridge._concurrency.call_thread import Gone
from bridge._concurrency.loops import Spawn
from bridge._servers.connection import Connection
from bridge._translate.events_to_response import SENT, AsgiResponse
from bridge._translate.input_to_events import DISCONNECT, EMPTY, BodyEvents
from bridge._types import ASGIApp, Environ, Event, Scope
from bridge.errors import ClientDisconnected

# Bytes of the request body that are read at once.
STEP: Final = 64 * 1024

_log = logging.getLogger("bridge")


class Conversation(Task):
    """One call of an ASGI application."""

    # Nothing of the body is left to be received; until then, `receive` gives http.request events.
    _received_all = False
    # The connection ends with a reset if the process is killed.
    _guarded = False

    def __init__(
        self, side: Side, spawn: Spawn, app: ASGIApp, environ: Environ, scope: Scope, body: BodyEvents
    ) -> None:
        super().__init__(side, spawn, Connection(environ))
        self._app = app
        self._scope = scope
        self._body = body
        self._empty = body.left == 0
        self.response = AsgiResponse(head_only=scope["method"] == "HEAD", extensions=scope["extensions"])

    # -- in the server's thread

    def read_ahead(self) -> Event | None:
        """The next event of the request body if it is known to be there, so that nobody has to wait for it."""
        return self.read() if self._body.left != 0 and self._connection.at_hand(self._body.size(STEP)) else None

    def read(self) -> Event | None:
        """The next event of the request body; None where the client has to be waited for."""
        body = self._body
        try:
            data = self._connection.read(body.size(STEP))
        except Exception as error:
            _log.info("reading the request body failed", exc_info=error)
            data = b""
            body.left = body.left or 1  # a body that ends by itself has not ended so
        if data is None:
            return None
        event = body.event(data)
        if event is DISCONNECT:
            _log.info("the request body broke off")
            self.disconnect()
        return event

    def leave(self) -> bool:
        """The server closes the response. Returns whether it has got all of it; else its client has left."""
        response = self.response
        self.dismissed = response.bodyless
        # A server may stop at Content-Length, before the application has said that this was all.
        self.satisfied = self.dismissed or (response.filled and not self.out)
        if self.satisfied or self.over or self.finished:
            return True
        self.disconnect()
        return False

    def failure(self) -> Exception:
        """What the server is to see of an application that ended before its response did."""
        if self.gone:
            return ClientDisconnected("the client left, or the adapter was closed, before the response was complete")
        error = self.error or self.response.unfinished()
        if isinstance(error, Exception):
            return error
        failure = RuntimeError(f"the application ended its task with {error!r}")
        failure.__cause__ = error
        return failure

    def guard(self) -> None:
        """Until `unguard`, a response without a length must not look whole if this process is killed."""
        self._guarded = not self.response.measured
        if self._guarded:
            self._connection.end_with_reset(True)

    def unguard(self) -> None:
        """The response is whole, or whoever closes it does so on purpose."""
        if self._guarded:
            self._guarded = False
            self._connection.end_with_reset(False)

    def broken(self) -> Exception:
        """As `failure`, of a response that has begun: it breaks off, and must not look complete."""
        self._guarded = False
        self._connection.end_with_reset(True)
        return self.failure()

    def release(self) -> None:
        self.unguard()
        super().release()

    # -- on the loop

    async def work(self) -> None:
        counters, response = self.side.counters, self.response
        try:
            await self._app(self._scope, self._receive, self._send)
            unfinished = response.unfinished()
            if unfinished is not None:
                raise unfinished
        except BaseException as error:
            if self.gone:
                _log.info("%s ended after its client had left", self.request(), exc_info=error)
            else:
                after = " after its response was complete" if response.complete else ""
                _log.error("%s raised%s", self.request(), after, exc_info=error)
            if not (response.complete or self.gone):
                counters.aborted += 1
                raise
        if self.gone and not response.complete:
            counters.client_disconnects += 1

    async def _receive(self) -> Event:
        if self.over or self.gone:
            return dict(DISCONNECT)
        if self._empty and not self._received_all:
            self._received_all = True
            return dict(EMPTY)
        if self._received_all:
            await self.end()
            return dict(DISCONNECT)
        event = await self.listen()
        if event is None:
            return dict(DISCONNECT)
        if event is DISCONNECT:
            self._received_all = True
            return dict(event)
        self._received_all = not event["more_body"]
        return event

    async def _send(self, event: Event) -> None:
        response = self.response
        over = response.complete
        items = response.feed(event)
        if response.complete and not over:
            self.side.counters.served += 1
            if response.overrun:
                _log.error("%s sent more than its Content-Length; the surplus was cut", self.request())
            self.finish_response()
        try:
            if items:
                self.tell(items)
                if self.stalled and not response.complete:
                    await self.ease()
            elif self._impatient:
                self.flush()
            if response.state is SENT and (self.satisfied or not items):
                # Nobody takes it, so that nobody makes it wait: without this it would keep the loop from all others.
                await anyio.lowlevel.checkpoint()
        except Gone:
            raise ClientDisconnected("the client left before the response was complete") from None

    def flush(self) -> None:
        """Let the head go without a body: the thread has waited for one long enough.

        Most applications send both at once, and then one wake-up of the thread serves for both.
        """
        items = self.response.flush()
        if items:
            with suppress(Gone):
                self.tell(items)

    def request(self) -> str:
        """The request, for log lines."""
        return f"the application, asked for {self._scope['method']} {self._scope['path']!r:.200},"
