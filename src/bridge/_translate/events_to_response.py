"""Response events of an ASGI application -> what `start_response` and the iterable of WSGI are made of.

An item is a `Head`, a chunk (`bytes`), `EarlyHint`, `File` or `END`. The head is held back until the first body event,
so that a small response goes over as one; `flush` lets it go without one. Nothing is sent here: the caller sends.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bridge._translate.headers import status_line, wsgi_headers
from bridge._types import Event, WSGIHeaders
from bridge.errors import ApplicationProtocolError


class Head(NamedTuple):
    """What `start_response` is called with."""

    status: str
    headers: WSGIHeaders


class EarlyHint(NamedTuple):
    """Link values of an `http.response.early_hint` event."""

    links: list[tuple[str, str]]


class File(NamedTuple):
    """The path of an `http.response.pathsend` event."""

    path: str


END: Final = None
Item = Head | bytes | EarlyHint | File | None
Items = Sequence[Item]

# What the application has sent so far, and which events may follow. An event that a state does not list is illegal
# there.
IDLE, HELD, SENT, ENDED = (
    "before http.response.start",
    "with the head held back",
    "after the head left",
    "after the end",
)
START, BODY, PATHSEND = "http.response.start", "http.response.body", "http.response.pathsend"
EARLY_HINT = "http.response.early_hint"
ORDER: Final = {
    IDLE: {START: HELD, EARLY_HINT: IDLE},
    HELD: {BODY: SENT, PATHSEND: ENDED, EARLY_HINT: HELD},
    SENT: {BODY: SENT},
    # ASGI HTTP, "Response Body": messages after the response is complete are ignored.
    ENDED: {START: ENDED, BODY: ENDED, PATHSEND: ENDED, EARLY_HINT: ENDED},
}
_OFFERED: Final = {PATHSEND, EARLY_HINT}


class Response:
    """One response of an ASGI application, from `http.response.start` to the last body event.

    `complete` is true once nothing more may be sent; `overrun` once the application has sent more than its
    Content-Length (the surplus is cut); `bodyless` where the status or the method allows no body.
    """

    __slots__ = ("_extensions", "_head", "_head_only", "_left", "_length", "bodyless", "complete", "overrun", "state")

    def __init__(self, *, head_only: bool, extensions: dict[str, Any]) -> None:
        self.state = IDLE
        self.complete = False
        self.overrun = False
        self._extensions = extensions
        self._head_only = head_only
        self.bodyless = head_only
        self._head: Head | None = None
        self._length: int | None = None
        self._left: int | None = None

    def feed(self, event: Event) -> Items:
        """The items to hand on for one event that the application sent; raises `ApplicationProtocolError`."""
        kind = event["type"]
        following = ORDER[self.state].get(kind)
        if following is None or (kind in _OFFERED and kind not in self._extensions):
            raise self._illegal(kind)
        if self.complete:
            return ()
        if kind is BODY or kind == BODY:
            return self._body(event.get("body", b""), event.get("more_body", False))
        self.state = following
        if kind == START:
            self._start(event)
            return ()
        if kind == EARLY_HINT:
            return (EarlyHint([("Link", bytes(link).decode("latin-1")) for link in event.get("links", ())]),)
        self.complete = True
        return (*self.flush(), File(event["path"]), END)

    def flush(self) -> Items:
        """The head, if it is still held back."""
        head, self._head = self._head, None
        return (head,) if head is not None else ()

    def unfinished(self) -> ApplicationProtocolError | None:
        """What is wrong with an application that returns now, or None."""
        if self.complete:
            return None
        return ApplicationProtocolError(
            "returned",
            state=self.state,
            expected="a complete response: http.response.start, and a body event without more_body",
            clause="ASGI HTTP & WebSocket, Response Body",
        )

    def _start(self, event: Event) -> None:
        code = event.get("status")
        line = status_line(code)
        headers, length = wsgi_headers(event.get("headers", ()))
        self._head = Head(line, headers)
        # RFC 9110 6.4.1 and 8.6: these carry no body, and what Content-Length says there is no promise.
        self.bodyless = self._head_only or code in (204, 304) or line < "2"
        self._length = length
        self._left = 0 if self.bodyless else length

    def _body(self, data: Any, more: bool) -> Items:
        if not isinstance(data, bytes):
            data = _as_bytes(data)
        left = self._left
        if left is not None:
            if len(data) > left:
                self.overrun = not self.bodyless
                data = data[:left]
            self._left = left = left - len(data)
            if left and not more:
                raise self._short(left)
        if more:
            self.state = SENT
            return (*self.flush(), data) if data else self.flush()
        self.state = ENDED
        self.complete = True
        return (*self.flush(), data, END)

    def _short(self, left: int) -> ApplicationProtocolError:
        return ApplicationProtocolError(
            f"ended its response after {(self._length or 0) - left} of {self._length} bytes",
            expected="as many bytes as its Content-Length says",
            clause="RFC 9110 8.6",
        )

    def _illegal(self, kind: object) -> ApplicationProtocolError:
        legal = [event for event in ORDER[self.state] if event not in _OFFERED or event in self._extensions]
        return ApplicationProtocolError(
            f"sent {kind!r}",
            state=self.state,
            expected=" or ".join(legal),
            clause="ASGI HTTP & WebSocket, HTTP Connection Scope, and the extensions offered in the scope",
        )


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise ApplicationProtocolError(
        f"sent a body of {type(data).__name__} ({data!r:.60})",
        expected="bytes",
        clause="ASGI HTTP & WebSocket, Response Body",
    )
