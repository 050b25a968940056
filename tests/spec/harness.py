"""How the tests of the clauses drive the adapters: with the scripted servers of `support`, each for one request.

What a WSGI server gives an app here is the least that PEP 3333 promises: `wsgi.input` and `wsgi.errors` have its
methods and nothing else. Every wait is bounded by `PATIENCE` seconds.
"""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from bridge import WsgiToAsgi
from support import scripted_asgi_server
from support.asgi_apps import reply
from support.plain_servers import Environ, environ_for
from support.scripted_asgi_server import Request, Scope, Sent, get
from support.scripted_wsgi_server import Call, adapted, ask
from support.waiting import PATIENCE, Flag

Result = TypeVar("Result")


# --- WsgiToAsgi, on an ASGI server --------------------------------------------------------------------------------


def play(app: Any, story: Callable[[WsgiToAsgi], Awaitable[Result]], **options: Any) -> Result:
    """Adapt a WSGI app, and play `story` with it on a new event loop, within `PATIENCE` seconds."""

    async def limited(adapter: WsgiToAsgi) -> Result:
        async with asyncio.timeout(PATIENCE):
            return await story(adapter)

    options.setdefault("shutdown_timeout", 2.0)
    with WsgiToAsgi(app, **options) as adapter:
        return asyncio.run(limited(adapter))


def serve_on_asgi(app: Any, sent: Sent | None = None, *, fails: bool = False, **options: Any) -> Request:
    """Serve one request with a WSGI app from its beginning to its end."""

    async def story(adapter: WsgiToAsgi) -> Request:
        return await scripted_asgi_server.serve(adapter, *(sent or get()), fails=fails)

    return play(app, story, **options)


def environ_of(sent: Sent | None = None, **options: Any) -> Environ:
    """The environ that a WSGI app gets for a request."""
    environs: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("200 OK", [])
        return []

    serve_on_asgi(app, sent, **options)
    return environs[0]


# --- AsgiToWsgi, on a WSGI server ---------------------------------------------------------------------------------


class StrictInput:
    """A `wsgi.input` with nothing but the methods of PEP 3333, strict about who reads and how much.

    It ends after `data`; where `declared` is larger, that is how a client that left looks on most servers. `hold` makes
    each read wait for the flag first.
    """

    def __init__(self, data: bytes, declared: int | None = None, hold: Flag | None = None) -> None:
        self._data = data
        self._position = 0
        self._declared = len(data) if declared is None else declared
        self._hold = hold
        self.reading = Flag()
        self.reads: list[int] = []
        self.threads: set[int] = set()

    def read(self, size: int, /) -> bytes:
        assert isinstance(size, int)
        assert size >= 0, "PEP 3333 lets an application read without a size; not every server can"
        assert self._position + size <= self._declared, "the application reads more than Content-Length"
        self.threads.add(threading.get_ident())
        self.reads.append(size)
        self.reading.set()
        if self._hold is not None:
            self._hold.wait()
        piece = self._data[self._position : self._position + size]
        self._position += len(piece)
        return piece

    def readline(self, size: int = -1, /) -> bytes:
        raise AssertionError("not expected of this adapter")

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        raise AssertionError("not expected of this adapter")

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("not expected of this adapter")


class EndlessInput(StrictInput):
    """A `wsgi.input` that ends by itself (`wsgi.input_terminated`), as servers give it for a chunked body."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, sys.maxsize)


class Errors:
    """A `wsgi.errors` with nothing but the methods of PEP 3333."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str, /) -> None:
        self.text += text

    def writelines(self, lines: Iterable[str], /) -> None:
        self.text += "".join(lines)

    def flush(self) -> None:
        pass


def wsgi_environ(
    method: str = "GET",
    path: str = "/",
    body: bytes | StrictInput = b"",
    headers: dict[str, str] | None = None,
    **changes: Any,
) -> Environ:
    """The environ of an HTTP/1.1 request, as strict as can be; `changes` as of `environ_for`."""
    fields = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in (headers or {}).items()}
    if isinstance(body, bytes) and body:
        fields["CONTENT_LENGTH"] = str(len(body))
    stream = body if isinstance(body, StrictInput) else StrictInput(body)
    path = path.encode().decode("latin-1")
    return environ_for(method, path, **{"wsgi__input": stream, "wsgi__errors": Errors(), **fields, **changes})


def serve_on_wsgi(app: Any, environ: Environ | None = None, *, fails: bool = False, **options: Any) -> Call:
    """Serve one request with an ASGI app, in one thread, from its beginning to its end."""
    with adapted(app, **options) as adapter:
        return ask(adapter, environ or wsgi_environ(), fails=fails)


def scope_of(environ: Environ | None = None, **options: Any) -> Scope:
    """The scope that an ASGI app gets for a request."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await reply(send)

    serve_on_wsgi(app, environ, **options)
    return scopes[0]
