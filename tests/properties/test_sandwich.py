"""The sandwich: an app between both adapters, with a validator at each seam, behaves as the app alone.

    server -> validator -> AsgiToWsgi -> asgi_validator -> WsgiToAsgi -> validator -> WSGI app
    server -> asgi_validator -> WsgiToAsgi -> validator -> AsgiToWsgi -> asgi_validator -> ASGI app

Hypothesis draws requests, how their bodies arrive, and what the app does. The client must see what it would see without
us, and so must the app; and a request that crosses twice comes home, to the thread or the loop that it came from.
"""

import io
import reprlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from wsgiref.validate import validator

import anyio
import anyio.lowlevel
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge import AsgiToWsgi, WsgiToAsgi
from support.asgi_validate import asgi_validator
from support.plain_servers import (
    PiecemealInput,
    Seen,
    body_events,
    call_asgi,
    call_wsgi,
    environ_for,
    scope_for,
    status_line,
)

BODYLESS = (204, 304)
MODEST = settings(deadline=None, max_examples=150)


class Planned(Exception):
    """What a planned app raises."""


# --- what is drawn --------------------------------------------------------------------------------------------------

tokens = st.from_regex(r"\A[A-Za-z][A-Za-z0-9]{0,8}(-[A-Za-z0-9]{1,8})?\Z").map(lambda name: f"X-{name}")
printable = st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")
values = st.text(printable, max_size=20).map(lambda value: value.strip(" "))
header_lists = st.lists(st.tuples(tokens, values), max_size=4)
bodies = st.one_of(st.binary(max_size=40), st.integers(1, 3).map(lambda size: b"line\nand\r\nmore" * 20_000 * size))
paths = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12).map("/{}".format)
queries = st.from_regex(r"\A[!-\"$-~]{0,20}\Z")
sizes = st.one_of(st.just(-1), st.integers(0, 12), st.integers(0, 100_000))
read_calls = st.one_of(
    st.tuples(st.just("read"), sizes),
    st.tuples(st.just("readline")),
    st.tuples(st.just("readline"), sizes),
    st.tuples(st.just("readlines")),
    st.tuples(st.just("readlines"), sizes),
    st.tuples(st.just("__iter__")),
)


@st.composite
def cut(draw: st.DrawFn, body: bytes) -> list[bytes]:
    """The body in pieces, some of them empty."""
    marks = sorted(draw(st.lists(st.integers(0, len(body)), max_size=5)))
    return [body[start:end] for start, end in zip([0, *marks], [*marks, len(body)], strict=True)]


class Short:
    """Shown in few words, also by Hypothesis, though bodies are long."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{key}={reprlib.repr(value)}' for key, value in vars(self).items())})"
        )


@dataclass(repr=False)
class Plan(Short):
    """What an app does. `fails` is the number of chunks before it raises; -1 is before the headers."""

    status: int
    headers: list[tuple[str, str]]
    chunks: list[bytes]
    declared: int | None = None
    fails: int | None = None
    shape: str = "generator"
    replaces: bool = False
    calls: list[Any] = field(default_factory=list)

    def ends_early(self, method: str) -> bool:
        """Whether a server may leave off before the app is through: where there is no body, and at Content-Length.

        PEP 3333, Handling the Content-Length Header: it "should stop iterating when enough data has been sent".
        """
        return method == "HEAD" or self.status in BODYLESS or self.declared is not None

    def matters_for(self, method: str) -> bool:
        """Whether all servers must see it fail where it does."""
        return self.fails in (None, -1) or not self.ends_early(method)

    def head(self) -> list[tuple[str, str]]:
        """The response headers; PEP 3333's validator wants a Content-Type just where there is a body."""
        kind = [] if self.status in BODYLESS else [("Content-Type", "text/plain")]
        length = [] if self.declared is None else [("Content-Length", str(self.declared))]
        return [*kind, *length, *self.headers]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    status = draw(st.sampled_from([200, 200, 200, 201, 204, 304, 404, 500]))
    headers = draw(header_lists)
    chunks = draw(st.lists(st.one_of(st.just(b""), st.binary(max_size=20), st.just(b"block" * 30_000)), max_size=5))
    plan = Plan(status, headers, chunks, calls=draw(st.lists(read_calls, max_size=6)))
    plan.shape = draw(st.sampled_from(["list", "tuple", "generator", "iterator", "write"]))
    plan.replaces = draw(st.booleans())
    ending = draw(st.sampled_from(["whole", "whole", "declared", "declared", "fails"]))
    if ending == "declared" and status not in BODYLESS:
        plan.declared = len(b"".join(chunks))
    if ending == "fails":
        plan.fails = draw(st.integers(-1, len(chunks)))
    return plan


class WsgiPlanned:
    """A WSGI app that follows its plan and notes what it sees; an `iterator` is the app's own iterable."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.environ: dict[str, Any] = {}
        self.read: list[object] = []
        self.threads: set[int] = set()
        self.closed = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environ = dict(environ)
        return getattr(self, f"_as_{self.plan.shape}")(environ["wsgi.input"], start_response)

    def _as_list(self, body: Any, start_response: Any) -> list[bytes]:
        self._start(body, start_response)
        return list(self._chunks(body))

    def _as_tuple(self, body: Any, start_response: Any) -> tuple[bytes, ...]:
        return tuple(self._as_list(body, start_response))

    def _as_generator(self, body: Any, start_response: Any) -> Iterator[bytes]:
        try:
            self._start(body, start_response)
            yield from self._chunks(body)
        finally:
            self._close()

    def _as_iterator(self, body: Any, start_response: Any) -> "_Iterator":
        self._start(body, start_response)
        return _Iterator(self._chunks(body), self._close)

    def _as_write(self, body: Any, start_response: Any) -> list[bytes]:
        write = self._start(body, start_response)
        for chunk in self._chunks(body):
            write(chunk)
        return []

    def _start(self, body: Any, start_response: Any) -> Any:
        self.threads.add(threading.get_ident())
        plan = self.plan
        self._next_call(body)
        if plan.fails == -1:
            raise Planned("before the headers")
        if plan.replaces:
            start_response("500 Internal Server Error", [("Content-Type", "text/plain"), ("X-Replaced", "1")])
            try:
                raise Planned("handled")
            except Planned:
                return start_response(status_line(plan.status), plan.head(), sys.exc_info())
        return start_response(status_line(plan.status), plan.head())

    def _chunks(self, body: Any) -> Iterator[bytes]:
        for number, chunk in enumerate(self.plan.chunks):
            if number == self.plan.fails:
                raise Planned(f"after {number} chunks")
            self._next_call(body)
            yield chunk
        while len(self.read) < len(self.plan.calls):
            self._next_call(body)
        if self.plan.fails == len(self.plan.chunks):
            raise Planned("after all chunks")

    def _next_call(self, body: Any) -> None:
        if len(self.read) < len(self.plan.calls):
            method, *arguments = self.plan.calls[len(self.read)]
            result = getattr(body, method)(*arguments)
            self.read.append(result if isinstance(result, bytes | list) else list(result))

    def _close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class _Iterator:
    def __init__(self, chunks: Iterator[bytes], close: Any) -> None:
        self._chunks = chunks
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


@dataclass(repr=False)
class WsgiRequest(Short):
    """A request as an environ, and the pieces in which its body is there."""

    environ: dict[str, Any]
    body: bytes
    pieces: list[bytes]

    def made(self, body: Any) -> dict[str, Any]:
        """A new environ, with `body` as its input."""
        return self.environ | {"wsgi.input": body, "wsgi.errors": io.StringIO()}


@st.composite
def wsgi_requests(draw: st.DrawFn) -> WsgiRequest:
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]))
    environ = environ_for(method, draw(paths).encode().decode("latin-1"), QUERY_STRING=draw(queries))
    environ["SCRIPT_NAME"] = draw(st.sampled_from(["", "/mount", "/m\xc3\xbcnt/two"]))
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in draw(header_lists)}
    if draw(st.booleans()):
        environ["CONTENT_TYPE"] = "text/plain; charset=utf-8"
    body = draw(bodies) if method in ("POST", "PUT", "PATCH") else b""
    if method in ("POST", "PUT", "PATCH"):
        environ |= draw(
            st.sampled_from(
                [
                    {"CONTENT_LENGTH": str(len(body))},
                    {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True},
                    {"SERVER_PROTOCOL": "HTTP/2", "wsgi.input_terminated": True},
                ]
            )
        )
    return WsgiRequest(environ, body, draw(cut(body)))


# --- a WSGI app, at home in the server's thread -----------------------------------------------------------------------


def app_of(environ: dict[str, Any], start_response: Any) -> Any:
    """Call the app that the server's own environ names, which is reached through both adapters."""
    return environ["asgi.scope"]["wsgi_environ"]["test.app"](environ, start_response)


class WsgiSandwich:
    """Both adapters and three validators around the app that a request brings along."""

    def __init__(self) -> None:
        self.outer = WsgiToAsgi(validator(app_of), collect=50_000)
        self.seam = asgi_validator(self.outer)
        self.inner = AsgiToWsgi(self.seam)

    def __call__(self, app: Any, environ: dict[str, Any]) -> Seen:
        return call_wsgi(validator(self.inner), environ | {"test.app": app})

    def __enter__(self) -> "WsgiSandwich":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.inner.close()
        self.outer.close()


def alone(app: WsgiPlanned, request: WsgiRequest) -> Seen:
    """What the client sees where no adapter is: the server itself drops bodies that there must not be."""
    seen = call_wsgi(app, request.made(io.BytesIO(request.body)))
    if request.environ["REQUEST_METHOD"] == "HEAD" or seen.status in BODYLESS:
        seen.body = b""
    return seen


def added_length(headers: dict[str, list[str]], expected: dict[str, list[str]], length: int) -> dict[str, list[str]]:
    """The headers without a Content-Length that the app did not set but that is right: a server may add it."""
    if "content-length" not in expected and headers.get("content-length") == [str(length)]:
        return {name: header for name, header in headers.items() if name != "content-length"}
    return headers


def test_the_client_sees_what_it_would_see_without_us() -> None:
    """Status, headers, body and failure of a WSGI app are the same through both adapters and three validators."""
    with WsgiSandwich() as sandwich:

        @MODEST
        @given(plans(), wsgi_requests())
        def same(plan: Plan, request: WsgiRequest) -> None:
            assume(plan.matters_for(request.environ["REQUEST_METHOD"]))
            expected = alone(WsgiPlanned(plan), request)
            actual = sandwich(WsgiPlanned(plan), request.made(PiecemealInput(request.pieces)))
            headers = added_length(actual.by_name(), expected.by_name(), len(b"".join(plan.chunks)))

            assert expected.failure() == actual.failure()
            assert (expected.status, expected.by_name(), expected.body) == (actual.status, headers, actual.body)
            assert [] == sandwich.seam.complaints

        same()


def test_the_app_sees_what_it_would_see_without_us() -> None:
    """Its environ, its reads, its thread and its close() are those of the server."""
    with WsgiSandwich() as sandwich:

        @MODEST
        @given(plans(), wsgi_requests())
        def same(plan: Plan, request: WsgiRequest) -> None:
            assume(plan.matters_for(request.environ["REQUEST_METHOD"]))
            expected, actual = WsgiPlanned(plan), WsgiPlanned(plan)
            alone(expected, request)
            sandwich(actual, request.made(PiecemealInput(request.pieces)))

            assert request_in(expected.environ, request.body) == request_in(actual.environ, request.body)
            assert expected.read[: len(actual.read)] == actual.read
            assert plan.ends_early(request.environ["REQUEST_METHOD"]) or len(expected.read) == len(actual.read)
            assert expected.closed == actual.closed
            assert {threading.get_ident()} == actual.threads

        same()


def request_in(environ: dict[str, Any], body: bytes) -> dict[str, str]:
    """What an environ says of the request, but for what an adapter may add: the URI, and the length of the body."""
    added = ("REQUEST_URI", "RAW_URI", "HTTP_TRANSFER_ENCODING", "CONTENT_LENGTH")
    assert environ.get("CONTENT_LENGTH", str(len(body))) == str(len(body))
    return {key: value for key, value in environ.items() if key.isupper() and key not in added}


@pytest.mark.parametrize("shape", ["list", "generator", "iterator", "write"])
@pytest.mark.parametrize("by", [-3, 3])
def test_a_wrong_length_is_never_sent(shape: str, by: int) -> None:
    """A body longer than its Content-Length is cut there; one that is shorter is a failure and not an end."""
    with WsgiSandwich() as sandwich:
        plan = Plan(200, [], [b"chunk", b"chunk"], declared=10 + by, shape=shape)
        actual = sandwich(WsgiPlanned(plan), environ_for("GET", "/"))

        assert (200, b"chunkchunk"[: 10 + by]) == (actual.status, actual.body)
        assert (by > 0) is (actual.error is not None)
        assert [] == sandwich.seam.complaints


def test_a_truncated_body_is_never_taken_for_whole() -> None:
    """Where the server's input ends before Content-Length, the app is not called, or its read raises."""
    with WsgiSandwich() as sandwich:

        @MODEST
        @given(bodies.filter(bool), st.data())
        def told(body: bytes, data: st.DataObject) -> None:
            left = data.draw(st.integers(0, len(body) - 1))
            pieces = data.draw(cut(body[:left]))
            app = WsgiPlanned(Plan(200, [], [], calls=[("read", -1)]))
            environ = environ_for("POST", "/", CONTENT_LENGTH=str(len(body)), wsgi__input=PiecemealInput(pieces))
            seen = sandwich(app, environ)

            assert [] == app.read
            assert seen.status == 0
            assert seen.error is not None

        told()


# --- an ASGI app, at home on the server's loop ----------------------------------------------------------------------


@dataclass
class AsgiPlanned:
    """An ASGI app that follows its plan: one event is read before each chunk, and the rest if it `drains`."""

    plan: Plan
    drains: bool
    scope: dict[str, Any] = field(default_factory=dict)
    read: bytes = b""
    read_all: bool = False
    loop: object = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "http", "no lifespan"
        self.scope = dict(scope)
        self.loop = current_loop()
        plan = self.plan
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in plan.head()]
        if plan.fails == -1:
            raise Planned("before the headers")
        await send({"type": "http.response.start", "status": plan.status, "headers": headers})
        for number, chunk in enumerate(plan.chunks):
            if number == plan.fails:
                raise Planned(f"after {number} chunks")
            await self._read_one(receive)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        while self.drains and not self.read_all:
            await self._read_one(receive)
        if plan.fails == len(plan.chunks):
            raise Planned("after all chunks")
        await send({"type": "http.response.body"})

    async def _read_one(self, receive: Any) -> None:
        if not self.read_all:
            event = await receive()
            assert event["type"] == "http.request", event
            self.read += event.get("body", b"")
            self.read_all = not event.get("more_body", False)


def current_loop() -> object:
    """What identifies the loop that runs this."""
    return anyio.lowlevel.current_token().native_token


@dataclass(repr=False)
class AsgiRequest(Short):
    """A request as a scope and the events of its body."""

    scope: dict[str, Any]
    pieces: list[bytes]

    def made(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return dict(self.scope), body_events(*self.pieces)


@st.composite
def asgi_requests(draw: st.DrawFn) -> AsgiRequest:
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]))
    root_path = draw(st.sampled_from(["", "/mount", "/münt/two"]))
    path = root_path + draw(paths)
    names = st.lists(st.tuples(tokens.map(str.lower), values), max_size=4, unique_by=lambda pair: pair[0])
    headers = [(name.encode(), value.encode("latin-1")) for name, value in draw(names)]
    body = draw(bodies) if method in ("POST", "PUT") else b""
    if method in ("POST", "PUT"):
        length = (b"content-length", b"%d" % len(body))
        headers.append(draw(st.sampled_from([length, (b"transfer-encoding", b"chunked")])))
    scope = scope_for(method, path, headers, root_path=root_path, raw_path=quote(path).encode())
    scope["query_string"] = draw(queries).encode()
    scope["state"] = {"pool": object()}
    scope["extensions"] = {}
    return AsgiRequest(scope, draw(cut(body)))


def through_both(app: Any, request: AsgiRequest, backend: str, options: Any) -> tuple[Seen, object, list[str]]:
    """One request on a new loop; what the client saw, the server's loop, and the complaints of both validators."""
    seams = asgi_validator(app), asgi_validator(None)

    async def on_the_server(outer: WsgiToAsgi) -> tuple[Seen, object]:
        seams[1].app = outer
        return await call_asgi(seams[1], *request.made(), anyio.Event), current_loop()

    with AsgiToWsgi(seams[0]) as inner, WsgiToAsgi(validator(inner), collect=50_000) as outer:
        seen, loop = anyio.run(on_the_server, outer, backend=backend, backend_options=options)
    return seen, loop, seams[0].complaints + seams[1].complaints


@pytest.mark.parametrize("drains", [True, False], ids=["reads all", "reads some"])
def test_an_asgi_app_is_the_same_behind_both(anyio_backend: Any, drains: bool) -> None:
    """Its client sees the same, it sees the same scope and body, and it runs on the server's own loop."""
    backend, options = anyio_backend

    @settings(MODEST, max_examples=60)
    @given(plans(), asgi_requests())
    def same(plan: Plan, request: AsgiRequest) -> None:
        assume(plan.matters_for(request.scope["method"]))
        expected, actual = AsgiPlanned(plan, drains), AsgiPlanned(plan, drains)
        client = anyio.run(call_asgi, expected, *request.made(), anyio.Event, backend=backend, backend_options=options)
        if request.scope["method"] == "HEAD" or client.status in BODYLESS:
            client.body = b""
        seen, loop, complaints = through_both(actual, request, backend, options)
        headers = added_length(seen.by_name(), client.by_name(), len(b"".join(plan.chunks)))

        assert [] == complaints
        assert client.failure() == seen.failure()
        assert (client.status, client.by_name(), client.body) == (seen.status, headers, seen.body)
        assert without_framing(expected.scope) == without_framing(actual.scope)
        assert expected.scope["state"] == actual.scope["state"]
        assert b"".join(request.pieces).startswith(actual.read)
        assert not actual.read_all or actual.read == b"".join(request.pieces)
        if backend == "asyncio":
            assert actual.loop is loop

    same()


def without_framing(scope: dict[str, Any]) -> dict[str, Any]:
    """The scope, headers in any order, but for those of a body whose length is known once it has been collected."""
    framing = (b"transfer-encoding", b"content-length")
    headers = {(bytes(name), bytes(value)) for name, value in scope["headers"] if name not in framing}
    keys = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "state")
    sides = {side: tuple(scope[side]) for side in ("client", "server")}
    return {key: scope[key] for key in keys} | sides | {"headers": headers}
