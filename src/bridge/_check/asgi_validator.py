"""Stands between an ASGI server and an application, and notes each clause of ASGI and HTTP that the application breaks.

It is stricter than the adapter, which accepts mistakes that it can correct. Other servers may not.
"""

from collections.abc import Callable
from typing import Any, Final

from bridge._check.findings import Finding, Note, of_error
from bridge._translate.events_to_response import AsgiResponse
from bridge._types import ASGIApp, Event, Receive, Scope, Send
from bridge.errors import ApplicationProtocolError

_START_CLAUSE: Final = "ASGI HTTP & WebSocket, Response Start"
_BODY_CLAUSE: Final = "ASGI HTTP & WebSocket, Response Body"
_DISCONNECT_CLAUSE: Final = "ASGI HTTP & WebSocket, Disconnect"
# How often an application may call receive() after it was told that its client has left.
_CALLS_AFTER_DISCONNECT: Final = 100


def asgi_validator(app: ASGIApp, note: Callable[[], Note]) -> ASGIApp:
    """`app`, watched. `note()` returns where to put the findings of the current request."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        watch = AsgiWatch(note(), scope, receive, send)
        await app(scope, watch.receive, watch.send)
        watch.returned()

    return watched


class AsgiWatch:
    """Watches one request of an ASGI application, and notes what breaks a clause."""

    def __init__(self, note: Note, scope: Scope, receive: Receive, send: Send) -> None:
        self._note = note
        self._receive = receive
        self._send = send
        self._response = AsgiResponse(head_only=scope["method"] == "HEAD", extensions=scope.get("extensions") or {})
        self._status: object = None
        self._asked_in_vain = 0
        self._gone = False

    async def receive(self) -> Event:
        if self._asked_in_vain > _CALLS_AFTER_DISCONNECT:
            did = f"called receive() {_CALLS_AFTER_DISCONNECT} times after http.disconnect"
            self._note(Finding(did, "that the request ends", _DISCONNECT_CLAUSE))
            raise ConnectionResetError("the client has left, as http.disconnect said")
        event: Event = await self._receive()
        if event["type"] == "http.disconnect":
            self._gone = True
            self._asked_in_vain += 1
        return event

    async def send(self, event: Any) -> None:
        try:
            self._response.feed(event)
        except ApplicationProtocolError as error:
            self._note(of_error(error))
        else:
            self._look_closely(event)
        try:
            await self._send(event)
        except OSError:
            self._gone = True  # ASGI HTTP & WebSocket, "Disconnected Client"
            raise

    def _look_closely(self, event: Event) -> None:
        """Check rules that are not in the order table."""
        if event["type"] == "http.response.start":
            self._status = event.get("status")
            if isinstance(self._status, int) and self._status < 200:
                self._note(Finding(f"sent the status {self._status}", "a final response, 2xx to 5xx", "RFC 9110 15.2"))
            for name, value in event.get("headers", ()):
                if name != name.lower():
                    self._note(Finding(f"sent the header name {name!r:.80}", "lower-case names", _START_CLAUSE))
                if value != value.strip(b" \t"):
                    did = f"sent the header {name!r:.80} with blanks around its value"
                    self._note(Finding(did, "none", "RFC 9110 5.5"))
        elif event["type"] == "http.response.body":
            body = event.get("body", b"")
            if not isinstance(body, bytes):
                self._note(Finding(f"sent a body of type {type(body).__name__}", "bytes", _BODY_CLAUSE))
            if body and self._status in (204, 304):
                did = f"sent a body of {len(body)} bytes or more with the status {self._status}"
                self._note(Finding(did, "none", "RFC 9110 6.4.1"))
        if self._response.overrun:
            self._note(
                Finding("sent more than its Content-Length", "as many bytes as Content-Length says", "RFC 9110 8.6")
            )

    def returned(self) -> None:
        """Note what is wrong when the application's call has ended."""
        if not self._gone and (error := self._response.unfinished()) is not None:
            self._note(of_error(error))
