"""`http.request` events -> `wsgi.input`."""

import io
from collections.abc import Callable
from typing import Any, Final

from bridge._types import Environ, Event
from bridge.errors import ClientProtocolError, ServerProtocolError

# Few requests with these methods have a body, and those that do say so.
_BODILESS_METHODS: Final = ("GET", "HEAD")
_BUFFER_BYTES: Final = 64 * 1024
_NO_BYTES: Final = memoryview(b"")


def expects_body(environ: Environ) -> bool:
    """Whether the request can have a body, so that the adapter has to ask the server for it.

    HTTP/1 says it in the head (RFC 9112 6.3). Later versions do not (RFC 9113 8.1), so there the server has to be
    asked. It is also asked for every method but GET and HEAD, and for these if there is a Content-Type: hosts that turn
    an event into a scope, and scopes made by hand, have bodies without a length.
    """
    length: str | None = environ.get("CONTENT_LENGTH")
    if (length is not None and length != "0") or is_framed(environ):
        return True
    if length is not None:
        return False
    if environ["REQUEST_METHOD"] not in _BODILESS_METHODS:
        return True
    return "HTTP_TRANSFER_ENCODING" in environ or bool(environ.get("CONTENT_TYPE"))


def is_framed(environ: Environ) -> bool:
    """Whether a separate frame ends the request, whatever its Content-Length (RFC 9113 8.1).

    The response must not overtake this frame. Clients send it after the body, and Hypercorn 0.18 ends the connection,
    with all its streams, if the frame arrives after the request has been answered.
    """
    return environ["SERVER_PROTOCOL"][5] not in "01"


class BodyCounter:
    """Counts a request body, event by event. It never passes on more bytes than Content-Length, and says so if there
    are fewer.

    `length` is the Content-Length in bytes, or None if the request has none. `limit` is the size of the largest body to
    accept. `ended` is true after the last event, `truncated` if this event came too early, and `disconnected` when the
    client has left. `final` is true when the server has said that nothing follows (some servers say it in an empty
    event after the body). A body that is `framed` ends only then.
    """

    __slots__ = ("disconnected", "ended", "final", "framed", "length", "limit", "received", "truncated")

    def __init__(self, length: int | None, limit: int | None, *, framed: bool = False) -> None:
        if limit is not None and length is not None and length > limit:
            raise too_large(length, limit)
        self.length = length
        self.limit = limit
        self.framed = framed
        self.received = 0
        self.ended = self.truncated = self.disconnected = self.final = False

    def take(self, event: Event) -> bytes:
        """The bytes of one event from the server. `http.disconnect` ends the body as truncated.

        Raises `ClientProtocolError` (413) above the limit, and `ServerProtocolError` for an event that is neither
        `http.request` nor `http.disconnect` (ASGI HTTP, "Request"). After `ended`, there is nothing to take.
        """
        kind = event.get("type")
        if kind != "http.request":
            return self._disconnect(kind)
        given: Any = event.get("body", b"")
        data: bytes = given if isinstance(given, bytes) else _as_bytes(given)
        received = self.received + len(data)
        length = self.length
        if length is not None and received > length:
            data = data[: length - received]
            received = length
        self.received = received
        if self.limit is not None and received > self.limit:
            raise too_large(received, self.limit)
        self.final = final = not event.get("more_body", False)
        if received == length:
            self.ended = final or not self.framed
        elif final:
            self.ended = True
            self.truncated = length is not None
        return data

    def _disconnect(self, kind: object) -> bytes:
        if kind != "http.disconnect":
            raise ServerProtocolError(
                f"sent {kind!r:.80} in a request",
                expected="http.request or http.disconnect",
                clause="ASGI HTTP & WebSocket, Request",
            )
        # A body that was complete before stays complete.
        self.truncated = self.truncated or (not self.ended and self.received != self.length)
        self.ended = self.disconnected = True
        return b""


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise ServerProtocolError(
        f"sent a request body of type {type(data).__name__}", expected="bytes", clause="ASGI HTTP & WebSocket, Request"
    )


def too_large(size: int, limit: int) -> ClientProtocolError:
    """The error for a body of `size` bytes if at most `limit` are accepted."""
    return ClientProtocolError(
        f"sent a request body of at least {size} bytes",
        expected=f"at most {limit}",
        clause="RFC 9110 15.5.14",
        status=413,
    )


def stream_input(pull: Callable[[], bytes]) -> io.BufferedReader:
    """A `wsgi.input` that calls `pull` for the next chunk. `b""` is the end. `read()` raises what `pull` raises. Later
    reads call `pull` again, which then has to return or raise the same.

    PEP 3333, "Input and Error Streams": read, readline, readlines and iteration work as for a file object.
    """
    return _Input(_Pulled(pull), _BUFFER_BYTES)


def file_input(raw: io.RawIOBase) -> io.BufferedReader:
    """A `wsgi.input` that reads the unbuffered file `raw` from its current position."""
    return _Input(raw, _BUFFER_BYTES)


class _Input(io.BufferedReader):
    """Behaves like `io.BytesIO` where `io.BufferedReader` does not, because a collected body is an `io.BytesIO`."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(-1 if size is None or size < 0 else size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        if hint is None or hint <= 0:
            return super().readlines()
        lines: list[bytes] = []
        while hint > 0 and (line := self.readline()):
            lines.append(line)
            hint -= len(line)
        return lines


class _Pulled(io.RawIOBase):
    """The chunks from `pull`, as an unbuffered file."""

    def __init__(self, pull: Callable[[], bytes]) -> None:
        self._pull = pull
        self._rest = _NO_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # any buffer, in practice this
        rest = self._rest or memoryview(self._pull())
        count = len(rest)
        if count <= len(buffer):
            buffer[:count] = rest
            self._rest = _NO_BYTES
            return count
        count = len(buffer)
        buffer[:] = rest[:count]
        self._rest = rest[count:]
        return count

    def readall(self) -> bytes:
        """The inherited method reads in steps of a few KiB."""
        chunks = [bytes(self._rest)]
        self._rest = _NO_BYTES
        while chunk := self._pull():
            chunks.append(chunk)
        return b"".join(chunks)
