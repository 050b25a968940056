"""A WSGI application's answer -> the items that the response events of ASGI are made of.

An item is the `http.response.start` event, a chunk (`bytes`), an `http.response.pathsend` event, or `END`. The headers
are held back until the first non-empty chunk or the end (PEP 3333, "The start_response() Callable"), which is what
lets an application replace them when it fails late. Nothing is sent here: the caller sends.
"""

from collections.abc import Sequence
from typing import Final

from bridge._translate.headers import asgi_headers, status_code
from bridge._types import Event, ExcInfo, Write, WSGIHeaders
from bridge.errors import ApplicationProtocolError

END: Final = None
Item = Event | bytes | None
Items = Sequence[Item]

# What the application has done so far, and what it may do next. A call that a state does not list is illegal there.
IDLE, HELD, SENT, ENDED = (
    "before start_response",
    "with the headers held back",
    "after the headers left",
    "after the end",
)
START, START_EXC, CHUNK = "start_response", "start_response with exc_info", "a non-empty chunk"
CLOSE = "the end of the iterable"
ORDER: Final = {
    IDLE: {START: HELD, START_EXC: HELD},
    HELD: {START_EXC: HELD, CHUNK: SENT, CLOSE: ENDED},
    SENT: {START_EXC: SENT, CHUNK: SENT, CLOSE: ENDED},
    ENDED: {START_EXC: ENDED, CHUNK: ENDED, CLOSE: ENDED},
}
_START = "PEP 3333, The start_response() Callable"
_EXPECTED: Final = {
    START: ("one call, and exc_info in every further one", _START),
    CHUNK: ("start_response before the first bytestring", "PEP 3333, Specification Details"),
    CLOSE: ("start_response before the iterable ends", "PEP 3333, Specification Details"),
}
_DID: Final = {START: "called start_response", CHUNK: "yielded a chunk", CLOSE: "ended its iterable"}


class Response:
    """One response of a WSGI application, from `start_response` to the end of the iterable.

    `full` is true once nothing more may be sent; `overrun` once the application has tried to send more than its
    Content-Length (the surplus is cut).
    """

    __slots__ = ("_bodyless", "_head", "_head_only", "_left", "_length", "_write", "full", "overrun", "state")

    def __init__(self, *, head_only: bool, write: Write) -> None:
        self.state = IDLE
        self.full = False
        self.overrun = False
        self._head_only = head_only
        self._bodyless = head_only
        self._write = write
        self._head: Event = {}
        self._length: int | None = None
        self._left: int | None = None

    def _step(self, call: str) -> None:
        following = ORDER[self.state].get(call)
        if following is None:
            expected, clause = _EXPECTED[call]
            raise ApplicationProtocolError(_DID[call], state=self.state, expected=expected, clause=clause)
        self.state = following

    def start_response(self, status: str, headers: WSGIHeaders, exc_info: ExcInfo | None = None, /) -> Write:
        """The callable that the application is given; returns its `write`.

        Raises `ApplicationProtocolError` for what PEP 3333 forbids, and what `exc_info` holds once the headers have
        left.
        """
        try:
            if exc_info:
                if self.state in (SENT, ENDED) and exc_info[1] is not None:
                    # PEP 3333, The start_response() Callable: "start_response must raise an error, and should
                    # re-raise using the exc_info tuple".
                    raise exc_info[1].with_traceback(exc_info[2])
                self._step(START_EXC)
            else:
                self._step(START)
        finally:
            exc_info = None  # PEP 3333 asks for it: the traceback refers to this frame
        code = status_code(status)
        pairs, length = asgi_headers(headers)
        self._head = {"type": "http.response.start", "status": code, "headers": pairs}
        # RFC 9110 6.4.1 and 8.6: these carry no body, and what Content-Length says there is no promise.
        self._bodyless = self._head_only or code in (204, 304) or code < 200
        self._length = length
        self._left = 0 if self._bodyless else length
        return self._write

    def chunk(self, data: bytes) -> Items:
        """The items to send for one bytestring that the application yielded or wrote."""
        if not isinstance(data, bytes):
            raise _not_bytes(data)
        if not data:
            return ()
        held = self.state is HELD
        self._step(CHUNK)
        left = self._left
        if left is None:
            return (self._head, data) if held else (data,)
        if len(data) > left:
            self.overrun = not self._bodyless
            data = data[:left]
        ended = not self.full and len(data) == left
        self.full = self.full or ended
        self._left = left - len(data)
        items: list[Item] = [self._head] if held else []
        if data:
            items.append(data)
        if ended:
            items.append(END)
        return items

    @property
    def stop(self) -> bool:
        """Whether nothing that the application may still yield can be sent, so that there is no use in asking for
        it.
        """
        return self.overrun or (self.full and self._bodyless)

    def whole(self, chunks: Sequence[bytes]) -> Items:
        """The items of a body that is known as a whole, so that nothing leaves before all of it is right."""
        for chunk in chunks:
            if not isinstance(chunk, bytes):
                raise _not_bytes(chunk)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._step(CLOSE)
        length = self._length
        if self._bodyless:
            data = b""
        elif length is None:
            # PEP 3333, Handling the Content-Length Header: the server may supply it where it knows the whole.
            self._head["headers"].append((b"content-length", b"%d" % len(data)))
        elif len(data) < length:
            raise self._short(len(data))
        elif len(data) > length:
            self.overrun = True
            data = data[:length]
        self.full = True
        return (self._head, data, END) if data else (self._head, END)

    def file(self, path: str, size: int) -> Items | None:
        """The items that let the server send the file at `path` (`size` bytes), or None where that would be wrong.

        ASGI Extensions, "Path Send": one event after the start, nothing beside it, Content-Length from the application.
        """
        if self.state is not HELD or self._bodyless or self._length not in (None, size):
            return None
        self._step(CLOSE)
        if self._length is None:
            self._head["headers"].append((b"content-length", b"%d" % size))
        self.full = True
        return (self._head, {"type": "http.response.pathsend", "path": path}, END)

    def end(self) -> Items:
        """The items to send when the iterable is exhausted; raises `ApplicationProtocolError` for a short body."""
        held = self.state is HELD
        self._step(CLOSE)
        if self._left:
            raise self._short((self._length or 0) - self._left)
        if self.full:
            return ()
        self.full = True
        return (self._head, END) if held else (END,)

    def _short(self, seen: int) -> ApplicationProtocolError:
        return ApplicationProtocolError(
            f"ended its response after {seen} of {self._length} bytes",
            expected="as many bytes as its Content-Length says",
            clause="PEP 3333, Handling the Content-Length Header",
        )


def _not_bytes(data: object) -> ApplicationProtocolError:
    return ApplicationProtocolError(
        f"yielded {type(data).__name__} ({data!r:.60})", expected="bytes", clause="PEP 3333, A Note On String Types"
    )


def body_event(data: bytes, *, more: bool) -> Event:
    """One `http.response.body` event (ASGI HTTP, "Response Body")."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def plain_response(status: int, text: str, *extra: tuple[bytes, bytes]) -> tuple[Event, Event]:
    """The two events of a short text response of the adapter's own."""
    body = text.encode() + b"\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body)), *extra]
    return {"type": "http.response.start", "status": status, "headers": headers}, body_event(body, more=False)
