"""Response events of an ASGI application -> the items from which `start_response` and the iterable of WSGI are made.

An item is a `Head`, a chunk (`bytes`), `EarlyHint`, `File` or `END`. The head is held back until the first body event,
so that a small response is handed over in one piece. `flush` returns the head without a body. Nothing is sent here: the
caller sends.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, BinaryIO, Final, NamedTuple

from bridge._translate.headers import status_line, wsgi_headers
from bridge._types import Event, WSGIHeaders
from bridge.errors import ApplicationProtocolError


class Head(NamedTuple):
    """The arguments of `start_response`."""

    status: str
    headers: WSGIHeaders


class EarlyHint(NamedTuple):
    """Link values of an `http.response.early_hint` event."""

    links: list[tuple[str, str]]


class File(NamedTuple):
    """The open file of an `http.response.pathsend` event. Whoever takes the item closes it."""

    opened: BinaryIO


END: Final = None
Item = Head | bytes | EarlyHint | File | None
Items = Sequence[Item]


class AsgiResponseState(StrEnum):
    """What the application has sent so far."""

    IDLE = "before http.response.start"
    HELD = "with the head held back"
    LEFT = "after the head left without a body"
    SENT = "after the first body event"
    ENDED = "after the end"


# As globals: CPython 3.11 looks up a member of an enum five times slower.
IDLE, HELD, LEFT, SENT, ENDED = AsgiResponseState
# What the application may send next. FLUSH is a step of the adapter.
START, BODY, PATHSEND = "http.response.start", "http.response.body", "http.response.pathsend"
EARLY_HINT = "http.response.early_hint"
MORE, LAST, FLUSH = f"{BODY} with more_body", f"{BODY} without more_body", "the head is let go"
# State x input -> state. Inputs that a state does not list are illegal in it.
ORDER: Final = {
    IDLE: {START: HELD, EARLY_HINT: IDLE},
    HELD: {MORE: SENT, LAST: ENDED, PATHSEND: ENDED, EARLY_HINT: HELD, FLUSH: LEFT},
    # The application cannot know of the flush, so the same inputs are legal. A hint comes too late and is ignored.
    LEFT: {MORE: SENT, LAST: ENDED, PATHSEND: ENDED, EARLY_HINT: LEFT},
    SENT: {MORE: SENT, LAST: ENDED, EARLY_HINT: SENT},
    # ASGI HTTP, "Response Body": messages of any type are ignored after the response is complete.
    ENDED: {START: ENDED, MORE: ENDED, LAST: ENDED, PATHSEND: ENDED, EARLY_HINT: ENDED},
}
_OFFERED: Final = frozenset((PATHSEND, EARLY_HINT))
_NOT_BODY: Final = frozenset((START, PATHSEND, EARLY_HINT))
_ORDER_CLAUSE: Final = "ASGI HTTP & WebSocket, HTTP Connection Scope, and the extensions offered in the scope"


class AsgiResponse:
    """One response of an ASGI application, from `http.response.start` to the last body event.

    `complete` is true when nothing more may be sent. `overrun` is true when the application has sent more than its
    Content-Length (the surplus is cut off). `bodyless` is true if the status or the method does not allow a body.
    `open_file` opens the path of an `http.response.pathsend` event: the application may remove the file after the event
    has been taken.
    """

    __slots__ = (
        "_extensions",
        "_head",
        "_head_only",
        "_left",
        "_length",
        "_open_file",
        "bodyless",
        "complete",
        "overrun",
        "state",
    )

    def __init__(
        self, *, head_only: bool, extensions: dict[str, Any], open_file: Callable[[str], BinaryIO] | None = None
    ) -> None:
        self.state: AsgiResponseState = IDLE
        self.complete = False
        self.overrun = False
        self._extensions = extensions
        self._open_file = open_file
        self._head_only = head_only
        self.bodyless = head_only
        self._head: Head | None = None
        self._length: int | None = None
        self._left: int | None = None

    def feed(self, event: Event) -> Items:
        """The items to pass on for one event that the application sent. Raises `ApplicationProtocolError`, and what
        `open_file` raises.

        An event that raises has no effect.
        """
        if self.complete:
            return ()
        try:
            kind = event["type"]
        except (TypeError, LookupError):
            raise self._illegal(f"{type(event).__name__} ({event!r:.60})") from None
        if kind == BODY:
            more = event.get("more_body", False)
            following = ORDER[self.state].get(MORE if more else LAST)
            if following is None:
                raise self._illegal(f"{kind!r:.80}")
            return self._body(event.get("body", b""), more, following)
        following = ORDER[self.state].get(kind) if isinstance(kind, str) and kind in _NOT_BODY else None
        if following is None or (kind in _OFFERED and kind not in self._extensions):
            raise self._illegal(f"{kind!r:.80}")
        items: Items = ()
        if kind == START:
            self._start(event)
        elif kind == PATHSEND:
            items = self._file(event.get("path"))
            self.complete = True
        else:
            hint = _early_hint(event.get("links", ()))
            items = (hint,) if self.state in (IDLE, HELD) else ()
        self.state = following
        return items

    @property
    def measured(self) -> bool:
        """Whether the client can tell where the response ends: it has a length, or no body."""
        return self.bodyless or self._length is not None

    @property
    def untold(self) -> bool:
        """Whether this is the head of a response of unknown length, so that a server must not compute one."""
        return self._head_only and self._length is None

    @property
    def filled(self) -> bool:
        """Whether all bytes that may be sent have been sent, so that only the end can follow."""
        return self._left == 0

    def flush(self) -> Items:
        """The head, if it is still held back."""
        head = self._head
        if head is None:
            return ()
        self._head = None
        self.state = ORDER[self.state][FLUSH]
        return (head,)

    def upgrade(self) -> None:
        """Note that there will be no response: another protocol takes over the connection before a response has
        begun.
        """
        self.state = ENDED
        self.complete = True

    def unfinished(self) -> ApplicationProtocolError | None:
        """What is wrong with an application that returns now, or None."""
        if self.complete:
            return None
        return ApplicationProtocolError(
            "returned",
            state=self.state.value,
            expected="a complete response: http.response.start, and a body event without more_body",
            clause="ASGI HTTP & WebSocket, Response Body",
        )

    def _start(self, event: Event) -> None:
        code = event.get("status")
        line = status_line(code)
        headers, length = wsgi_headers(event.get("headers", ()))
        # RFC 9110 6.4.1 and 8.6: these have no body, and their Content-Length is not a promise. A server that takes it
        # for one closes the connection (Waitress).
        self.bodyless = code in (204, 304) or line < "2"
        if self.bodyless and length is not None:
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
        self.bodyless |= self._head_only
        self._head = Head(line, headers)
        self._length = length
        self._left = 0 if self.bodyless else length

    def _body(self, data: Any, more: bool, following: AsgiResponseState) -> Items:
        if not isinstance(data, bytes):
            data = _as_bytes(data)
        left = self._left
        if left is not None:
            if len(data) > left:
                self.overrun = not self.bodyless
                data = data[:left]
            left -= len(data)
            if left and not more:
                raise self._short(left)
            self._left = left
        self.state = following
        head = self._head
        self._head = None
        if more:
            if head is None:
                return (data,) if data else ()
            return (head, data) if data else (head,)
        self.complete = True
        return (data, END) if head is None else (head, data, END)

    def _file(self, path: Any) -> Items:
        """ASGI Extensions, "Path Send": the file replaces all body events."""
        if not isinstance(path, str):
            raise ApplicationProtocolError(
                f"sent {PATHSEND} with a path of type {type(path).__name__}",
                expected="str",
                clause="ASGI Extensions, Path Send",
            )
        body: bytes | File = b""
        if not self.bodyless and self._open_file is not None:
            body = File(self._open_file(path))
        head, self._head = self._head, None
        heads: Items = () if head is None else (head,)
        return (*heads, body, END)

    def _short(self, left: int) -> ApplicationProtocolError:
        return ApplicationProtocolError(
            f"ended its response after {(self._length or 0) - left} of {self._length} bytes",
            expected="as many bytes as its Content-Length says",
            clause="RFC 9110 8.6",
        )

    def _illegal(self, what: str) -> ApplicationProtocolError:
        offered = [step for step in ORDER[self.state] if step not in _OFFERED or step in self._extensions]
        legal = dict.fromkeys(step.partition(" ")[0] for step in offered if step != FLUSH)
        return ApplicationProtocolError(
            f"sent {what}", state=self.state.value, expected=" or ".join(legal), clause=_ORDER_CLAUSE
        )


def _early_hint(links: Any) -> EarlyHint:
    """ASGI Extensions, "Early Hints": the links become headers, so they have to be valid headers."""
    if isinstance(links, bytes | str) or not isinstance(links, Iterable):
        raise ApplicationProtocolError(
            f"sent {EARLY_HINT} with links of type {type(links).__name__}",
            expected="an iterable of bytes",
            clause="ASGI Extensions, Early Hints",
        )
    return EarlyHint(wsgi_headers([(b"Link", link) for link in links])[0])


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise ApplicationProtocolError(
        f"sent a body of {type(data).__name__} ({data!r:.60})",
        expected="bytes",
        clause="ASGI HTTP & WebSocket, Response Body",
    )


def text_response(status: int, text: str, *extra: tuple[str, str]) -> tuple[Head, bytes]:
    """The head and the body of a short text response of the adapter, with `extra` headers."""
    body = text.encode() + b"\n"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *extra]
    return Head(status_line(status), headers), body
