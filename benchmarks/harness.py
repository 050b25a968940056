"""One request, driven straight through an app of either style without a server, and its answer verified.

Thin on purpose: what it costs is added to every subject alike, and shown by the subject `native`.
"""

import asyncio
import io
from collections.abc import Iterable
from typing import Any

from benchmarks.apps import ASGIApp, Environ, WSGIApp

HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"benchmarks/1"),
    (b"accept", b"*/*"),
]
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 50000),
    "scheme": "http",
    "root_path": "",
    "path": "/",
    "raw_path": b"/",
}
ENVIRON: Environ = {
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_USER_AGENT": "benchmarks/1",
    "HTTP_ACCEPT": "*/*",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


class WrongAnswerError(AssertionError):
    """A subject answered something else than the app that it runs would have."""


class Exchange:
    """The server's side of one ASGI request: hands out the events of its body, and takes those of the response."""

    __slots__ = ("_complete", "_events", "_waiter", "chunks", "status")

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self._events = iter(events)
        self._complete = False
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.chunks: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        for event in self._events:
            return event
        # ASGI HTTP, "Disconnect": also what a server answers once the response has been sent.
        if not self._complete:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return {"type": "http.disconnect"}

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            return
        body = event.get("body", b"")
        if body:
            self.chunks.append(body)
        if not event.get("more_body", False):
            self._complete = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def check(self, body: bytes) -> None:
        """Raise unless the response was 200, whole, and `body`."""
        check(self.status, b"".join(self.chunks), body, complete=self._complete)


def check(status: int | str, body: bytes, expected: bytes, *, complete: bool = True) -> None:
    """Raise `WrongAnswerError` unless the response was a complete 200 with the `expected` body."""
    if not complete or status not in (200, "200 OK") or body != expected:
        raise WrongAnswerError(
            f"expected 200 with {len(expected)} bytes, got {status!r} with {len(body)} bytes"
            f"{'' if complete else ' and no end'}{'' if len(body) > 200 else f': {body!r}'}"
        )


def make_scope(method: str = "GET", query: str = "", body_length: int | None = None) -> dict[str, Any]:
    """A fresh `http` scope; with `body_length`, it has that Content-Length."""
    headers = HEADERS.copy()
    if body_length is not None:
        headers.append((b"content-type", b"application/octet-stream"))
        headers.append((b"content-length", b"%d" % body_length))
    return {**SCOPE, "method": method, "query_string": query.encode("ascii"), "headers": headers}


def make_environ(method: str = "GET", query: str = "", body: bytes | None = None) -> Environ:
    """A fresh environ; with `body`, it has that input, its Content-Length and a Content-Type."""
    environ = {**ENVIRON, "REQUEST_METHOD": method, "QUERY_STRING": query, "wsgi.input": io.BytesIO(body or b"")}
    environ["wsgi.errors"] = io.StringIO()
    if body is not None:
        environ["CONTENT_TYPE"] = "application/octet-stream"
        environ["CONTENT_LENGTH"] = str(len(body))
    return environ


async def call_asgi(app: ASGIApp, scope: dict[str, Any], body: bytes, expected: bytes) -> None:
    """One request with its body in one event; its answer must be `expected`."""
    exchange = Exchange(({"type": "http.request", "body": body, "more_body": False},))
    await app(scope, exchange.receive, exchange.send)
    exchange.check(expected)


def call_wsgi(app: WSGIApp, environ: Environ, expected: bytes) -> None:
    """One request and its answer, which must be `expected`."""
    status, chunks = take_wsgi(app, environ)
    check(status, b"".join(chunks), expected)


def take_wsgi(app: WSGIApp, environ: Environ) -> tuple[str, list[bytes]]:
    """One request, as a WSGI server makes it: call, iterate, `close()`; its status and its chunks, not verified."""
    heads: list[str] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        heads.append(status)
        return None

    chunks = app(environ, start_response)
    try:
        taken = list(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    return heads[-1] if heads else "no start", taken
