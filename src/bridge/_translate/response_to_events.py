"""The response of a WSGI application -> the items from which the response events of ASGI are made.

An item is the `http.response.start` event, a chunk (`bytes`), an `http.response.pathsend` event, or `END`. The headers
are held back until the first non-empty chunk or the end (PEP 3333, "The start_response() Callable"), so that an
application that fails late can replace them. Nothing is sent here: the caller sends.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from bridge._translate.headers import asgi_headers, status_code
from bridge._types import Event, ExcInfo, Write, WSGIHeaders
from bridge.errors import ApplicationProtocolError

END: Final = None
Item = Event | bytes | None
Items = Sequence[Item]


class WsgiResponseState(StrEnum):
    """What the application has done so far."""

    IDLE = "before start_response"
    REFUSED = "after a start_response that raised"
    HELD = "with the headers held back"
    SENT = "after the headers left"
    FULL = "after the last byte that Content-Length allows"
    ENDED = "after the end of the iterable"


# As globals: CPython 3.11 looks up a member of an enum five times slower.
IDLE, REFUSED, HELD, SENT, FULL, ENDED = WsgiResponseState
# What the application may do next. A response that has no body (HEAD, 204, 304) is treated as if its Content-Length
# were 0.
START, START_EXC = "start_response", "start_response with exc_info"
INVALID = "start_response with an invalid status or header"
CHUNK, LAST = "a non-empty chunk", "a chunk that reaches Content-Length"
CLOSE = "the end of the iterable"
FLUSH = "the head is let go"  # a step of the adapter, not of the application
# State x input -> state. Inputs that a state does not list are illegal in it. If START_EXC does not lead to HELD, it
# raises what exc_info holds. Bytes beyond Content-Length are cut off.
ORDER: Final = {
    IDLE: {START: HELD, START_EXC: HELD, INVALID: REFUSED},
    REFUSED: {START_EXC: HELD, INVALID: REFUSED},
    HELD: {START_EXC: HELD, INVALID: REFUSED, CHUNK: SENT, LAST: FULL, CLOSE: ENDED, FLUSH: SENT},
    SENT: {START_EXC: SENT, CHUNK: SENT, LAST: FULL, CLOSE: ENDED},
    FULL: {START_EXC: FULL, LAST: FULL, CLOSE: ENDED},
    ENDED: {START_EXC: ENDED},
}
_START_CLAUSE: Final = "PEP 3333, The start_response() Callable"
_DETAILS_CLAUSE: Final = "PEP 3333, Specification Details"
_DID: Final = {
    START: "called start_response",
    START_EXC: "called start_response with an exc_info that holds no exception",
    CHUNK: "yielded or wrote a chunk",
    LAST: "yielded or wrote a chunk",
    CLOSE: "ended its iterable",
}
_ONE_START: Final = ("one call, and an exception in exc_info in every further one", _START_CLAUSE)
_ONE_FIRST: Final = ("start_response before the first bytestring", _DETAILS_CLAUSE)
_EXPECTED: Final = {
    START: _ONE_START,
    START_EXC: _ONE_START,
    CHUNK: _ONE_FIRST,
    LAST: _ONE_FIRST,
    CLOSE: ("start_response before the iterable ends", _DETAILS_CLAUSE),
}
# The states after start_response, and after a whole body at once. Looked up here, because most responses get there.
_STARTED: Final = ORDER[IDLE][START]
_COMPLETE: Final = ORDER[HELD][CLOSE]
_NOTHING: Final = ("nothing more", "PEP 3333, The write() Callable")


def _too_late(_data: bytes) -> object:
    raise ApplicationProtocolError("called write()", state=ENDED.value, expected=_NOTHING[0], clause=_NOTHING[1])


class WsgiResponse:
    """One response of a WSGI application, from `start_response` to the end of the iterable.

    `overrun` is true when the application has tried to send more than its Content-Length (the surplus is cut off).
    `dropped` has the names of hop-by-hop headers that it gave, which are not sent to the server.
    """

    __slots__ = ("_bodyless", "_head", "_head_only", "_left", "_length", "_write", "dropped", "overrun", "state")

    def __init__(self, *, head_only: bool, write: Write) -> None:
        self.state: WsgiResponseState = IDLE
        self.overrun = False
        self.dropped: Sequence[str] = ()
        self._head_only = head_only
        self._bodyless = head_only
        self._write = write
        self._head: Event = {}
        self._length: int | None = None
        self._left: int | None = None

    def _after(self, call: str) -> WsgiResponseState:
        """The state after `call`. Raises `ApplicationProtocolError` if the call is illegal."""
        following = ORDER[self.state].get(call)
        if following is None:
            raise self._illegal(call)
        return following

    def forget_write(self) -> None:
        """Drop the reference to `write` after the end: it usually belongs to the owner of this response."""
        self._write = _too_late

    def start_response(self, status: str, headers: WSGIHeaders, exc_info: ExcInfo | None = None) -> Write:
        """The callable that the application gets. It returns `write`. PEP 3333 wants positional arguments, but servers
        also accept keywords with these names.

        Raises `ApplicationProtocolError` for what PEP 3333 forbids. Raises what `exc_info` holds if the headers have
        been sent.
        """
        try:
            if exc_info:
                following = self._after(START_EXC)
                if following is not HELD:
                    # PEP 3333, The start_response() Callable: "start_response must raise an error, and should
                    # re-raise using the exc_info tuple".
                    if not _holds_exception(exc_info) or exc_info[1] is None:
                        raise self._illegal(START_EXC)
                    raise exc_info[1].with_traceback(exc_info[2])
            elif self.state is IDLE:
                following = _STARTED
            else:
                raise self._illegal(START)
        finally:
            exc_info = None  # PEP 3333 asks for it: the traceback refers to this frame
        try:
            code = status_code(status)
            pairs, length, self.dropped = asgi_headers(headers)
        except BaseException:
            self.state = ORDER[self.state][INVALID]
            raise
        # RFC 9110 6.4.1 and 8.6: these have no body, and their Content-Length is not a promise. A server that takes it
        # for one closes the connection (Uvicorn with httptools).
        self._bodyless = code in (204, 304) or code < 200
        if self._bodyless and length is not None:
            pairs = [pair for pair in pairs if pair[0] != b"content-length"]
        self._bodyless |= self._head_only
        self._head = {"type": "http.response.start", "status": code, "headers": pairs}
        self._length = length
        self._left = 0 if self._bodyless else length
        self.state = following
        return self._write

    def chunk(self, data: bytes) -> Items:
        """The items to send for one bytestring that the application yielded or wrote."""
        if not isinstance(data, bytes):
            raise _not_bytes(data)
        if not data:
            return ()
        before = self.state
        left = self._left
        # A chunk of a stream, after the first and before the last, does not change the state.
        if left is None:
            if before is SENT:
                return (data,)
            self.state = self._after(CHUNK)
            return (self._head, data)
        rest = left - len(data)
        if rest > 0 and before is SENT:
            self._left = rest
            return (data,)
        self.state = self._after(CHUNK if rest > 0 else LAST)
        if rest < 0:
            self.overrun = not self._bodyless
            data = data[:left]
            rest = 0
        self._left = rest
        items: list[Item] = [self._head] if before is HELD else []
        if data:
            items.append(data)
        if not rest and before is not FULL:
            items.append(END)
        return items

    @property
    def full(self) -> bool:
        """Whether nothing that the application may still yield can be sent, so that the iteration can stop (PEP 3333,
        "Handling the Content-Length Header": the server may cease iterating).
        """
        return self.state is FULL or self.state is ENDED

    @property
    def bodyless(self) -> bool:
        """Whether the response has no body, whatever the application yields (RFC 9110 6.4.1)."""
        return self._bodyless

    def whole(self, chunks: Sequence[bytes]) -> tuple[Event, bytes]:
        """The head and the body of a response that is known completely, so that nothing is sent before all of it is
        checked. Only while the headers are held back.

        Raises `ApplicationProtocolError` for a body shorter than Content-Length, for chunks that are not bytes, and if
        there are no headers. Raises `ValueError` if the headers have been sent: use `chunk` and `end` then.
        """
        for chunk in chunks:
            if not isinstance(chunk, bytes):
                raise _not_bytes(chunk)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self.state is not HELD:
            self._after(CLOSE)  # raises if there are no headers
            raise ValueError("the headers have been sent")
        self.state = _COMPLETE
        length = self._length
        if self._bodyless:
            data = b""
        elif length is None:
            # PEP 3333, Handling the Content-Length Header: the server may add it if it knows the whole body.
            self._head["headers"].append((b"content-length", b"%d" % len(data)))
        elif len(data) < length:
            raise self._short(len(data))
        elif len(data) > length:
            self.overrun = True
            data = data[:length]
        return self._head, data

    def file(self, path: str, size: int) -> Items | None:
        """The items that let the server send the file at `path` (`size` bytes), or None if that would be wrong.

        ASGI Extensions, "Path Send": one event after the start and no other, with the Content-Length of the
        application.
        """
        if self.state is not HELD or self._bodyless or self._length not in (None, size):
            return None
        self.state = _COMPLETE
        if self._length is None:
            self._head["headers"].append((b"content-length", b"%d" % size))
        return (self._head, {"type": "http.response.pathsend", "path": path}, END)

    def flush(self) -> Items:
        """The head, if it is still held back: when a loop makes the body, the application cannot replace the head any
        more.
        """
        if self.state is not HELD:
            return ()
        self.state = ORDER[HELD][FLUSH]
        return (self._head,)

    def end(self) -> Items:
        """The items to send when the iterable is exhausted. Raises `ApplicationProtocolError` for a body that is too
        short.
        """
        before = self.state
        self.state = self._after(CLOSE)
        if self._left:
            raise self._short((self._length or 0) - self._left)
        if before is FULL:
            return ()
        return (self._head, END) if before is HELD else (END,)

    def _illegal(self, call: str) -> ApplicationProtocolError:
        # After the end, only write() and the adapter itself can pass a chunk or an end.
        late = self.state is ENDED and call in (CHUNK, LAST, CLOSE)
        expected, clause = _NOTHING if late else _EXPECTED[call]
        return ApplicationProtocolError(_DID[call], state=self.state.value, expected=expected, clause=clause)

    def _short(self, seen: int) -> ApplicationProtocolError:
        return ApplicationProtocolError(
            f"ended its response after {seen} of {self._length} bytes",
            expected="as many bytes as its Content-Length says",
            clause="PEP 3333, Handling the Content-Length Header",
        )


def _holds_exception(exc_info: object) -> bool:
    return isinstance(exc_info, tuple) and len(exc_info) == 3 and isinstance(exc_info[1], BaseException)


def _not_bytes(data: object) -> ApplicationProtocolError:
    return ApplicationProtocolError(
        f"yielded {type(data).__name__} ({data!r:.60})", expected="bytes", clause="PEP 3333, A Note On String Types"
    )


def body_event(data: bytes, *, more: bool) -> Event:
    """One `http.response.body` event (ASGI HTTP, "Response Body")."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def text_events(status: int, text: str, *extra: tuple[bytes, bytes]) -> tuple[Event, Event]:
    """The two events of a short text response of the adapter."""
    body = text.encode() + b"\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)), *extra]
    return {"type": "http.response.start", "status": status, "headers": headers}, body_event(body, more=False)
