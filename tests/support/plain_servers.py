"""A WSGI server and an ASGI server in process, as plain as they come: one request in, what the client saw out."""

import asyncio
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

Environ = dict[str, Any]
Event = dict[str, Any]
MISSING: Any = object()


@dataclass
class Seen:
    """What the client of one request saw, and how the call of the app ended.

    `status` is 0 where no response began, and then nothing else can have been seen.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    error: BaseException | None = None

    def by_name(self) -> dict[str, list[str]]:
        """The headers, in their order where they have one name (RFC 9110 section 5.3: otherwise it has no meaning)."""
        names: dict[str, list[str]] = {}
        for name, value in self.headers:
            names.setdefault(name.lower(), []).append(value)
        return names

    def failure(self) -> tuple[str, str] | None:
        return None if self.error is None else (type(self.error).__name__, str(self.error))


class PiecemealInput(io.RawIOBase):
    """A request body that arrives in pieces: a read returns what is there, which may be less than asked for."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._pieces.pop(0) if self._pieces else b""
        size = min(len(buffer), len(piece))
        buffer[:size] = piece[:size]
        if piece[size:]:
            self._pieces.insert(0, piece[size:])
        return size


def environ_for(method: str, path: str, body: bytes = b"", **changed: Any) -> Environ:
    """The environ of an HTTP/1.1 request; `changed` has `__` in place of a `.`, and what is `MISSING` is taken away."""
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    environ |= {key.replace("__", "."): value for key, value in changed.items()}
    return {key: value for key, value in environ.items() if value is not MISSING}


def call_wsgi(app: Any, environ: Environ) -> Seen:
    """One request as PEP 3333's own gateway does it: headers leave with the first bytes, `close()` always runs."""
    seen, head, pieces = Seen(), list[tuple[int, list[tuple[str, str]]]](), list[bytes]()

    def write(piece: bytes) -> None:
        assert head, "write() before start_response()"
        if piece:
            seen.status, seen.headers = head[-1]
            pieces.append(piece)

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        try:
            if exc_info and pieces:
                raise exc_info[1].with_traceback(exc_info[2])
            assert exc_info or not head, "start_response() again without exc_info"
        finally:
            exc_info = None
        head.append((int(status[:3]), headers))
        return write

    try:
        result = app(environ, start_response)
        try:
            for piece in result:
                write(piece)
            seen.status, seen.headers = head[-1]
        finally:
            if hasattr(result, "close"):
                result.close()
    except Exception as error:
        seen.error = error
    seen.body = b"".join(pieces)
    return seen


def scope_for(
    method: str,
    path: str,
    headers: Sequence[tuple[bytes, bytes]] = (),
    host: bytes | None = b"127.0.0.1:8000",
    **changed: Any,
) -> dict[str, Any]:
    """The scope of an HTTP/1.1 request; a change to `MISSING` takes the key away."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*([] if host is None else [(b"host", host)]), *headers],
        "client": ("192.0.2.1", 50000),
        "server": ("127.0.0.1", 8000),
        **changed,
    }
    return {key: value for key, value in scope.items() if value is not MISSING}


def body_events(*pieces: bytes) -> list[Event]:
    """The events of a request body that is sent in `pieces`."""
    last = len(pieces) - 1
    return [{"type": "http.request", "body": piece, "more_body": at < last} for at, piece in enumerate(pieces)]


async def call_asgi(app: Any, scope: dict[str, Any], events: Sequence[Event], new_event: Any = asyncio.Event) -> Seen:
    """One request as a server does it: after the body, `receive()` waits for the end of the response.

    `new_event` makes an event of the loop in use: `asyncio.Event`, `trio.Event` or `anyio.Event`.
    """
    seen, waiting, over, pieces = Seen(), list(events), new_event(), list[bytes]()

    async def receive() -> Event:
        if waiting:
            return waiting.pop(0)
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(event: Event) -> None:
        if event["type"] == "http.response.start":
            seen.status = event["status"]
            seen.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event["headers"]]
        if event["type"] == "http.response.body":
            pieces.append(event.get("body", b""))
            if not event.get("more_body", False):
                over.set()

    try:
        await app(scope, receive, send)
    except Exception as error:
        seen.error = error
    finally:
        over.set()
    seen.body = b"".join(pieces)
    if not any(pieces) and seen.error is not None:
        seen.status, seen.headers = 0, []  # the server can still answer 500
    return seen


def status_line(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
