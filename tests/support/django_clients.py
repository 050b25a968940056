"""The two kinds of server that a Django project meets, in process, with one way for a test to ask either.

`Asgi` has its own event loop in a thread, and plays the server of `scripted_asgi_server`; `Wsgi` has a thread for each
request, and plays that of `scripted_wsgi_server`. Every wait is bounded.
"""

import asyncio
import contextlib
import io
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connections

from bridge._asgi_to_wsgi.portal import Portal
from support import scripted_asgi_server, scripted_wsgi_server
from support.plain_servers import environ_for, scope_for
from support.waiting import PATIENCE


@dataclass
class Reply:
    """What the client saw, and what the server was told. `thread` is the server's thread on a WSGI server."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    error: BaseException | None = None
    thread: int = 0

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def json(self) -> Any:
        assert self.status == 200, (self.status, self.body, self.error)
        return json.loads(self.body)


@dataclass
class Ask:
    """One request. `pieces` are those of a body; `length` is its Content-Length (-1: the right one, None: chunked)."""

    path: str = "/"
    method: str = ""
    pieces: Sequence[bytes] = ()
    length: int | None = -1
    headers: Sequence[tuple[str, str]] = ()
    breaks_off: bool = False
    root: str = ""

    def __post_init__(self) -> None:
        self.method = self.method or ("POST" if self.pieces else "GET")
        if self.length == -1:
            self.length = sum(map(len, self.pieces))

    def scope(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        path, _, query = self.path.partition("?")
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers]
        if self.pieces or self.method == "POST":
            framing = (b"transfer-encoding", b"chunked")
            headers.append(framing if self.length is None else (b"content-length", b"%d" % self.length))
        scope = scope_for(self.method, self.root + path, headers, query_string=query.encode(), root_path=self.root)
        pieces = self.pieces or [b""]
        last = len(pieces) - 1
        events = [
            scripted_asgi_server.piece_event(piece, more=at < last or self.breaks_off)
            for at, piece in enumerate(pieces)
        ]
        return scope, [*events, scripted_asgi_server.DISCONNECT] if self.breaks_off else events

    def environ(self) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ = environ_for(self.method, path, b"".join(self.pieces))
        environ |= {"QUERY_STRING": query, "SCRIPT_NAME": self.root, "wsgi.input": io.BytesIO(b"".join(self.pieces))}
        environ.pop("CONTENT_LENGTH", None)
        for name, value in self.headers:
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        if self.length is None:
            environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        elif self.pieces or self.method == "POST":
            environ["CONTENT_LENGTH"] = str(self.length)
        return environ


class Asgi:
    """An ASGI server with `app`."""

    name = "asgi"

    def __init__(self, app: Any, *, djangos_own: bool = False) -> None:
        self.app = app
        # Its handler sends from another task, and names of headers that are not in lower case.
        self._allowed = ("from another task", "not a lower-case token") if djangos_own else ()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        """Run it on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(2 * PATIENCE)

    def ask(self, path: str = "/", **details: Any) -> Reply:
        """One request, whole."""

        async def serve() -> scripted_asgi_server.Request:
            scope, events = Ask(path, **details).scope()
            request = scripted_asgi_server.Request(self.app, scope, events)
            task = asyncio.ensure_future(request.run())
            await request.ended()
            await task
            return request

        return self._reply(self.run(serve()))

    @contextlib.contextmanager
    def open(self, path: str = "/", **details: Any) -> Iterator["AsgiOpen"]:
        """A request that is under way."""
        scope, events = Ask(path, **details).scope()
        opened = AsgiOpen(self, scripted_asgi_server.Request(self.app, scope, events))
        try:
            yield opened
        finally:
            opened.leave()

    def _reply(self, request: scripted_asgi_server.Request) -> Reply:
        assert [] == [each for each in request.broken if not any(text in each for text in self._allowed)]
        headers = request.sent[0]["headers"] if request.sent else []
        native = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        return Reply(request.status, native, request.body, request.error)

    def close(self) -> None:
        self.app.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class AsgiOpen:
    """A request that is under way on an ASGI server."""

    def __init__(self, server: Asgi, request: scripted_asgi_server.Request) -> None:
        self._server = server
        self._request = request
        self._seen = 0

        async def start() -> Any:
            return asyncio.ensure_future(request.run())

        self._task = server.run(start())

    def next(self) -> bytes:
        """The next body bytes."""

        async def wait() -> bytes:
            await self._request.until(lambda: len(self._request.body) > self._seen)
            return self._request.body

        body: bytes = self._server.run(wait())
        new, self._seen = body[self._seen :], len(body)
        return new

    def leave(self) -> None:
        """The client goes away; waits until the app has ended."""

        async def leave() -> None:
            self._request.leave()
            await self._request.ended()
            await self._task

        self._server.run(leave())


class Wsgi:
    """A WSGI server with `app`."""

    name = "wsgi"

    def __init__(self, app: Any) -> None:
        self.app = app

    def ask(self, path: str = "/", **details: Any) -> Reply:
        """One request, whole."""
        with self._served(path, details) as served:
            error: BaseException | None = None
            try:
                served.run()
            except BaseException as raised:
                error = raised
            status = int(served.status[:3]) if served.status else 0
            return Reply(status, served.headers, served.body, error, served.thread.ident)

    @contextlib.contextmanager
    def open(self, path: str = "/", **details: Any) -> Iterator["WsgiOpen"]:
        """A request that is under way."""
        with self._served(path, details) as served:
            opened = WsgiOpen(served)
            try:
                yield opened
            finally:
                opened.leave()

    @contextlib.contextmanager
    def _served(self, path: str, details: dict[str, Any]) -> Iterator[scripted_wsgi_server.Served]:
        with scripted_wsgi_server.Served(self.app, Ask(path, **details).environ()) as served:
            try:
                yield served
            finally:
                served.thread.run(connections.close_all)  # this server's thread ends with its request

    def close(self) -> None:
        self.app.close()


class WsgiOpen:
    """A response that is being given out by a WSGI server."""

    def __init__(self, served: scripted_wsgi_server.Served) -> None:
        self._served = served
        self._left = False
        served.call()

    def next(self) -> bytes:
        """The next body bytes."""
        chunk = self._served.next()
        assert chunk is not None
        return chunk

    def leave(self) -> None:
        """The client goes away, and the server closes the response."""
        if not self._left:
            self._left = True
            self._served.close()


class Plain:
    """An adapter that has nothing to be closed."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, *arguments: Any) -> Any:
        return self._app(*arguments)

    def close(self) -> None: ...


@contextlib.contextmanager
def portals_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the portals that are made within: what `BridgeMiddleware` opens, the exit of the process would close."""
    portals: list[Portal] = []
    original = Portal.__init__

    def init(self: Portal, options: Any) -> None:
        original(self, options)
        portals.append(self)

    monkeypatch.setattr(Portal, "__init__", init)
    yield
    for portal in portals:
        portal.close()
