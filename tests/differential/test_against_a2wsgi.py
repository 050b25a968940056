"""The same requests through a2wsgi and through us: where a2wsgi is right, so are we, and a change of import is enough.

Left out is what a2wsgi does otherwise, on purpose or by mistake: names with `_`, repeated headers and cookies, chunked
bodies, `SCRIPT_NAME` from the process environment, response headers that leave too early, and the like.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, cast

import a2wsgi
import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from support import apps
from support.plain_servers import Seen, body_events, call_asgi, call_wsgi, environ_for, scope_for

BODY = b"first line\nsecond line\n" * 5000


@dataclass(frozen=True)
class Case:
    """One request: what is asked, and what is peculiar about it."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    root_path: str = ""
    http_version: str = "1.1"
    scheme: str = "http"

    def __str__(self) -> str:
        return " ".join(str(value) for value in (self.method, self.path, self.query, len(self.body), *self.headers))

    def scope(self) -> dict[str, Any]:
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers]
        if self.body:
            raw.append((b"content-length", b"%d" % len(self.body)))
        scope = scope_for(self.method, self.root_path + self.path, raw, query_string=self.query.encode("latin-1"))
        return scope | {"root_path": self.root_path, "http_version": self.http_version, "scheme": self.scheme}

    def environ(self) -> dict[str, Any]:
        environ = environ_for(self.method, self.path.encode().decode("latin-1"), self.body, QUERY_STRING=self.query)
        environ["SCRIPT_NAME"] = self.root_path.encode().decode("latin-1")
        environ["SERVER_PROTOCOL"] = f"HTTP/{self.http_version}"
        environ["wsgi.url_scheme"] = self.scheme
        for name, value in self.headers:
            environ[name if name == "CONTENT_TYPE" else f"HTTP_{name.upper().replace('-', '_')}"] = value
        if kind := environ.pop("HTTP_CONTENT_TYPE", None):
            environ["CONTENT_TYPE"] = kind
        return environ


CASES = [
    Case("GET", "/hello"),
    Case("HEAD", "/nowhere"),
    Case("DELETE", "/hello", "a=1&b=%20+%ff&c"),
    Case("GET", "/h\u00e9llo/\u65e5\u672c"),
    Case("GET", "/with space/%25"),
    Case("GET", "//twice"),
    Case("OPTIONS", "/hello", headers=(("Accept", "*/*"), ("X-Custom", "caf\u00e9"), ("X-Empty", ""))),
    Case("GET", "/hello", headers=(("Cookie", "a=1; b=2"), ("Authorization", "Basic eDp5"))),
    Case("GET", "/hello", root_path="/mount"),
    Case("GET", "/hello", root_path="/m\u00fcnt"),
    Case("GET", "/hello", http_version="1.0", scheme="https"),
    Case("POST", "/echo", body=b"x"),
    Case("POST", "/echo", body=BODY, headers=(("Content-Type", "text/plain; charset=utf-8"),)),
    Case("PUT", "/echo-in-pieces", body=BODY),
    Case("POST", "/upload", body=BODY * 20),
    Case("GET", "/download", "mib=1"),
    Case("GET", "/no-content"),
    Case("GET", "/not-modified"),
    Case("GET", "/tagged", "id=7&stream=1&repeat=50"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def kept(seen: Seen) -> dict[str, list[str]]:
    """The headers of a2wsgi's response that we send too: all, but for the length of a 304, which has no body."""
    headers = seen.by_name()
    if seen.status == 304:
        assert ["10"] == headers.pop("content-length")
    return headers


# --- WSGI apps -------------------------------------------------------------------------------------------------------


class NotingWsgi:
    """`wsgi_site`, and the environ it was called with."""

    def __init__(self) -> None:
        self.environ: dict[str, Any] = {}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.environ = dict(environ)
        return apps.wsgi_site(environ, start_response)


def from_asgi(case: Case) -> tuple[tuple[Seen, NotingWsgi], tuple[Seen, NotingWsgi]]:
    """The response and what the app saw: through a2wsgi, and through us."""
    theirs, ours = NotingWsgi(), NotingWsgi()
    pieces = [case.body[at : at + 10_000] for at in range(0, len(case.body), 10_000)] or [b""]

    async def ask(adapter: Any) -> Seen:
        return await call_asgi(adapter, case.scope(), body_events(*pieces))

    peer: Any = a2wsgi.WSGIMiddleware(cast(Any, theirs))
    with closing(WsgiToAsgi(ours)) as adapter:
        results = asyncio.run(ask(peer)), asyncio.run(ask(adapter))
    peer.executor.shutdown()
    return (results[0], theirs), (results[1], ours)


@each_case
def test_a_wsgi_app_answers_alike(case: Case) -> None:
    """Status, headers and body; the bodies that must not be are dropped by us and by a2wsgi's server."""
    (expected, _), (actual, _) = from_asgi(case)

    assert (None, None) == (expected.error, actual.error)
    assert (expected.status, kept(expected)) == (actual.status, actual.by_name())
    assert (b"" if case.method == "HEAD" else expected.body) == actual.body


@each_case
def test_a_wsgi_app_is_asked_alike(case: Case) -> None:
    """Every key of a2wsgi's environ that is a string is there with the same value."""
    (_, expected), (_, actual) = from_asgi(case)
    strings = {key: value for key, value in expected.environ.items() if type(value) is str}

    assert strings == {key: actual.environ.get(key) for key in strings}


@each_case
def test_the_scope_is_reached_alike(case: Case) -> None:
    """`environ["asgi.scope"]`, under the name that apps know from a2wsgi, has the same keys and values."""
    (_, expected), (_, actual) = from_asgi(case)

    assert dict(expected.environ["asgi.scope"]) == dict(actual.environ["asgi.scope"])


# --- ASGI apps -------------------------------------------------------------------------------------------------------


class NotingAsgi:
    """`asgi_site`, and the scope it was called with."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.scope = dict(scope)
        await apps.asgi_site(scope, receive, send)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for a2wsgi, which never ends the one that it makes itself."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def from_wsgi(case: Case, loop: asyncio.AbstractEventLoop) -> tuple[tuple[Seen, NotingAsgi], tuple[Seen, NotingAsgi]]:
    """The response and what the app saw: through a2wsgi, and through us."""
    theirs, ours = NotingAsgi(), NotingAsgi()
    expected = call_wsgi(a2wsgi.ASGIMiddleware(theirs, loop=loop), case.environ())
    with closing(AsgiToWsgi(ours, lifespan="off")) as adapter:
        actual = call_wsgi(adapter, case.environ())
    return (expected, theirs), (actual, ours)


@each_case
def test_an_asgi_app_answers_alike(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    """Status, headers and body; we drop the bodies that must not be, since not every server does."""
    (expected, _), (actual, _) = from_wsgi(case, loop)

    assert (None, None) == (expected.error, actual.error)
    assert (expected.status, kept(expected)) == (actual.status, actual.by_name())
    assert (b"" if case.method == "HEAD" else expected.body) == actual.body


@each_case
def test_an_asgi_app_is_asked_alike(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    """Every key of a2wsgi's scope is there with the same value, the headers in any order."""
    (_, expected), (_, actual) = from_wsgi(case, loop)
    special = ("headers", "wsgi_environ", "asgi", "extensions", "client", "server")
    plain = [key for key in expected.scope if key not in special]

    assert {key: expected.scope[key] for key in plain} == {key: actual.scope.get(key) for key in plain}
    for side in ("client", "server"):
        assert tuple(expected.scope[side]) == tuple(actual.scope[side])
    assert sorted(map(tuple, expected.scope["headers"])) == sorted(map(tuple, actual.scope["headers"]))


@each_case
def test_the_environ_is_reached_alike(case: Case, loop: asyncio.AbstractEventLoop) -> None:
    """`scope["wsgi_environ"]`, under the name that apps know from a2wsgi, is the server's environ."""
    (_, expected), (_, actual) = from_wsgi(case, loop)
    strings = {key: value for key, value in expected.scope["wsgi_environ"].items() if type(value) is str}

    assert strings == {key: actual.scope["wsgi_environ"].get(key) for key in strings}
