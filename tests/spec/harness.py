"""A scripted ASGI server and a scripted WSGI server: the tests of the clauses drive the adapters with these alone.

Both are strict about what an adapter does to them and weak in what they offer: `receive` and `send` return awaitables
that are no coroutines, a second `receive()` after `http.disconnect` never returns, `wsgi.input` has the four methods of
PEP 3333 and nothing else. Every wait is bounded by `PATIENCE` seconds.
"""

import asyncio
import contextlib
import re
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote
from wsgiref.util import is_hop_by_hop

from bridge import AsgiToWsgi, WsgiToAsgi
from support.asgi_apps import reply
from support.waiting import PATIENCE, Flag, bounded

Event = dict[str, Any]
Scope = dict[str, Any]
Environ = dict[str, Any]
Result = TypeVar("Result")
MISSING: Any = object()


# --- the ASGI server, for WsgiToAsgi ------------------------------------------------------------------------------


class Request(NamedTuple):
    """What a client of the ASGI server sent: the scope, and the events that are there when they are asked for."""

    scope: Scope
    events: Sequence[Event]


def http_scope(
    method: str = "GET",
    path: str = "/",
    headers: Iterable[tuple[bytes, bytes]] = (),
    host: bytes | None = b"example.test",
    **changes: Any,
) -> Scope:
    """The scope of a plain HTTP/1.1 request; a change to `MISSING` takes the key away."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*([] if host is None else [(b"host", host)]), *headers],
        "client": ("192.0.2.7", 54321),
        "server": ("192.0.2.1", 8000),
        "extensions": {},
        "state": {},
    }
    scope.update(changes)
    return {key: value for key, value in scope.items() if value is not MISSING}


def get(path: str = "/", headers: Iterable[tuple[bytes, bytes]] = (), method: str = "GET", **changes: Any) -> Request:
    """A request without a body."""
    return Request(http_scope(method, path, headers, **changes), [{"type": "http.request"}])


def post(
    *pieces: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
    length: int | None = MISSING,
    ends: bool = True,
    **changes: Any,
) -> Request:
    """A request with a body in `pieces`.

    `length` is the Content-Length (default: the right one; None: none, so a chunked body); with `ends=False` the last
    piece promises more and nothing follows until the test says so.
    """
    if length is MISSING:
        length = sum(map(len, pieces))
    framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
    last = len(pieces) - 1
    events = [
        {"type": "http.request", "body": piece, "more_body": index < last or not ends}
        for index, piece in enumerate(pieces)
    ]
    return Request(http_scope("POST", "/", [framing, *headers], **changes), events)


class _Awaitable:
    """The least that ASGI promises of `receive()` and `send()`: something to await, not a coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


class Exchange:
    """One request as an ASGI server plays it: hands out events, takes events, and notes each broken rule.

    `on_send` is awaited before an event is taken; it may wait (a slow client) or raise (a client that left).
    """

    def __init__(self, app: Any, request: Request, on_send: Callable[[Event], Awaitable[None]] | None = None) -> None:
        self.app = app
        self.scope = request.scope
        self.sent: list[Event] = []
        self.broken: list[str] = []
        self.received = 0
        self.error: BaseException | None = None
        self.task: asyncio.Task[None] | None = None
        self._on_send = on_send
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._news = asyncio.Event()
        self._busy = False
        self._gone = False
        for event in request.events:
            self._queue.put_nowait(event)

    def feed(self, *events: Event) -> None:
        """Events that come from the client now."""
        for event in events:
            self._queue.put_nowait(event)

    def disconnect(self) -> None:
        """The client closes the connection."""
        self.feed({"type": "http.disconnect"})

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the events sent so far satisfy `condition`."""
        while not condition():
            assert self.task is None or not self.task.done(), f"the request ended first: {self.error!r}, {self.sent}"
            self._news.clear()
            await self._news.wait()

    @property
    def started(self) -> bool:
        return any(event["type"] == "http.response.start" for event in self.sent)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(bytes(name), bytes(value)) for name, value in self.sent[0]["headers"]]

    def header(self, name: bytes) -> list[bytes]:
        """The values of one response header."""
        return [value for key, value in self.headers if key == name]

    @property
    def body(self) -> bytes:
        return b"".join(event.get("body", b"") for event in self.sent)

    @property
    def chunks(self) -> list[bytes]:
        """The pieces of the body that are not empty."""
        return [event["body"] for event in self.sent if event.get("body")]

    @property
    def complete(self) -> bool:
        """Whether the response was ended as a whole one."""
        last = self.sent[-1] if self.sent else {"type": ""}
        if last["type"] == "http.response.pathsend":
            return True
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    async def run(self) -> None:
        """Call the app, as a server does for one request."""
        try:
            await self.app(self.scope, self._receive, self._send)
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            self.error = error
        except asyncio.CancelledError as error:
            self.error = error
            if self.task is not None and self.task.cancelling():
                raise
        finally:
            self._news.set()

    def _receive(self) -> _Awaitable:
        return _Awaitable(self._next_event())

    def _send(self, event: Event, /) -> _Awaitable:
        return _Awaitable(self._take(event))

    async def _next_event(self) -> Event:
        self.received += 1
        if self._gone:
            self.broken.append("receive() was called again after http.disconnect")
            await asyncio.Event().wait()
        event = await self._queue.get()
        self._gone = event["type"] == "http.disconnect"
        return event

    async def _take(self, event: Event) -> None:
        if asyncio.current_task() is not self.task:
            self.broken.append(f"{event['type']} was sent from another task")
        if self._busy:
            self.broken.append(f"{event['type']} was sent while another event was on its way")
        self.broken.extend(faults(event, self.sent))
        self._busy = True
        try:
            if self._on_send is not None:
                await self._on_send(event)
        finally:
            self._busy = False
        self.sent.append(event)
        if self.complete:
            self.disconnect()
        self._news.set()


def faults(event: Event, sent: Sequence[Event]) -> Iterator[str]:
    """The rules of ASGI that an event of the application breaks after those it `sent` before."""
    kind = event["type"]
    kinds = [earlier["type"] for earlier in sent]
    if any(ends(earlier) for earlier in sent):
        yield f"{kind} was sent after the end"
    if kind.endswith("http.response.start"):
        if kind in kinds:
            yield "a second start was sent"
        yield from faults_of_start(event)
    elif kind.endswith(("http.response.body", "http.response.pathsend")):
        if not any(earlier.endswith("http.response.start") for earlier in kinds):
            yield f"{kind} was sent before the start"
        if type(event.get("body", b"")) is not bytes or type(event.get("more_body", False)) is not bool:
            yield f"{event} has values of a wrong type"
    elif not kind.startswith(("lifespan.", "websocket.")):
        yield f"{kind} is none of the events that were offered"


def ends(event: Event) -> bool:
    """Whether nothing may follow this event."""
    kind = event["type"]
    whole = kind.endswith("http.response.body") and not event.get("more_body", False)
    return whole or kind in ("http.response.pathsend", "websocket.close")


def faults_of_start(event: Event) -> Iterator[str]:
    """What is wrong with the status and the headers of a start."""
    if type(event["status"]) is not int:
        yield f"the status is {event['status']!r}"
    for name, value in event["headers"]:
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            yield f"the header {name!r}: {value!r} is not of bytes"
        elif name != name.lower() or not re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name):
            yield f"the header name {name!r} is not a lower-case token"
        elif re.search(rb"[\r\n\0]", value):
            yield f"the header {name!r} has a control character in {value!r}"


@contextlib.asynccontextmanager
async def opened(
    app: Any, request: Request, on_send: Callable[[Event], Awaitable[None]] | None = None, *, fails: bool = False
) -> AsyncIterator[Exchange]:
    """A request that is under way; at the end the app must return, without an error unless `fails`."""
    exchange = Exchange(app, request, on_send)
    exchange.task = asyncio.create_task(exchange.run())
    try:
        yield exchange
        await exchange.task
    finally:
        if not exchange.task.done():
            exchange.task.cancel()
            await asyncio.wait([exchange.task], timeout=1)
    assert exchange.broken == []
    if fails:
        assert isinstance(exchange.error, Exception), f"no server survives {exchange.error!r}"
    elif exchange.error is not None:
        raise exchange.error


def play(app: Any, story: Callable[[WsgiToAsgi], Awaitable[Result]], **options: Any) -> Result:
    """Adapt a WSGI app, and play `story` with it on a new event loop, within `PATIENCE` seconds."""

    async def limited(adapter: WsgiToAsgi) -> Result:
        async with asyncio.timeout(PATIENCE):
            return await story(adapter)

    options.setdefault("shutdown_timeout", 2.0)
    with WsgiToAsgi(app, **options) as adapter:
        return asyncio.run(limited(adapter))


def serve(app: Any, request: Request | None = None, *, fails: bool = False, **options: Any) -> Exchange:
    """Serve one request with a WSGI app from its beginning to its end."""

    async def story(adapter: WsgiToAsgi) -> Exchange:
        async with opened(adapter, request or get(), fails=fails) as exchange:
            pass
        return exchange

    return play(app, story, **options)


def environ_of(request: Request | None = None, **options: Any) -> Environ:
    """The environ that a WSGI app gets for a request."""
    environs: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("200 OK", [])
        return []

    serve(app, request, **options)
    return environs[0]


# --- the WSGI server, for AsgiToWsgi ------------------------------------------------------------------------------


class Input:
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


class EndlessInput(Input):
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
    body: bytes | Input = b"",
    headers: dict[str, str] | None = None,
    **changes: Any,
) -> Environ:
    """The environ of an HTTP/1.1 request; `changes` with `__` for `.`; one to `MISSING` takes the key away."""
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "192.0.2.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "54321",
        "HTTP_HOST": "example.test",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body if isinstance(body, Input) else Input(body),
        "wsgi.errors": Errors(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if isinstance(body, bytes) and body:
        environ["CONTENT_LENGTH"] = str(len(body))
    for name, value in (headers or {}).items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ.update({key.replace("__", "."): value for key, value in changes.items()})
    return {key: value for key, value in environ.items() if value is not MISSING}


class Call:
    """One request as a WSGI server plays it; each step is the test's, `run()` is all of them."""

    def __init__(self, app: Any, environ: Environ) -> None:
        self.app = app
        self.environ = environ
        self.starts = 0
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.complete = False

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        self.starts += 1
        try:
            if exc_info and self.chunks:
                raise exc_info[1].with_traceback(exc_info[2])
            assert exc_info or self.starts == 1, "start_response was called again without exc_info"
        finally:
            exc_info = None
        check_start(status, headers)
        self.status, self.headers = status, headers
        return self._write

    def _write(self, data: bytes, /) -> None:
        raise AssertionError("applications should not use write() where they can avoid it")

    def call(self) -> None:
        """Call the app; the headers must be there when it returns."""
        self.result = self.app(self.environ, self.start_response)
        self.iterator = iter(self.result)

    def next(self) -> bytes | None:
        """The next chunk that is not empty, or None at the end."""
        for chunk in self.iterator:
            assert type(chunk) is bytes
            assert self.starts, "a chunk came before start_response"
            if chunk:
                self.chunks.append(chunk)
                return chunk
        self.complete = True
        return None

    def close(self) -> None:
        """What a server must do at the end in any case."""
        close = getattr(self.result, "close", None)
        if close is not None:
            close()

    def run(self) -> None:
        """The whole request, in the order of PEP 3333's own gateway."""
        self.call()
        try:
            while self.next() is not None:
                pass
        finally:
            self.close()

    @property
    def code(self) -> int:
        return int(self.status[:3])

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> list[str]:
        """The values of one response header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def check_start(status: Any, headers: Any) -> None:
    """What PEP 3333 says of the arguments of `start_response`."""
    assert type(status) is str
    assert re.fullmatch(r"[1-9]\d\d [^\x00-\x1f\x7f]*[^\x00-\x20\x7f]", status), status
    assert type(headers) is list
    for pair in headers:
        assert type(pair) is tuple
        name, value = pair
        assert type(name) is str
        assert type(value) is str
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), name
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value), value
        value.encode("latin-1")
        assert not is_hop_by_hop(name), name


@contextlib.contextmanager
def wsgi(app: Any, **options: Any) -> Iterator[AsgiToWsgi]:
    """An ASGI app, adapted; without lifespan unless the options say otherwise."""
    options.setdefault("lifespan", "off")
    options.setdefault("shutdown_timeout", 2.0)
    adapter = AsgiToWsgi(app, **options)
    try:
        yield adapter
    finally:
        bounded(adapter.close)


def fetch(app: Any, environ: Environ | None = None, *, fails: bool = False, **options: Any) -> Call:
    """Serve one request with an ASGI app, in one thread, from its beginning to its end."""
    with wsgi(app, **options) as adapter:
        return ask(adapter, environ, fails=fails)


def ask(adapter: Any, environ: Environ | None = None, *, fails: bool = False) -> Call:
    """One request to a WSGI app; its failure is noted where `fails`, and must come."""
    call = Call(adapter, environ or wsgi_environ())

    def run() -> None:
        try:
            call.run()
        except Exception as error:
            call.error = error

    bounded(run)
    if fails:
        assert call.error is not None
    elif call.error is not None:
        raise call.error
    return call


def scope_of(environ: Environ | None = None, **options: Any) -> Scope:
    """The scope that an ASGI app gets for a request."""
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await reply(send)

    fetch(app, environ, **options)
    return scopes[0]
