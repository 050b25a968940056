"""Middleware of either style around apps of either style, with the middleware that people have.

Between two adapters there is one loop and one thread for a request, however many layers there are.
"""

import asyncio
import contextlib
import contextvars
import io
import json
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.sessions import SessionMiddleware
from werkzeug.middleware.profiler import ProfilerMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from whitenoise import WhiteNoise

from bridge import AsgiToWsgi, WsgiToAsgi
from support import frameworks
from support.asgi_apps import chunk, end, reply, start
from support.lenient_asgi_server import LenientRequest, fetch, opened_leniently
from support.paths import TESTS
from support.plain_servers import Environ, environ_for, scope_for
from support.scripted_asgi_server import get as get_sent
from support.scripted_asgi_server import opened
from support.scripted_wsgi_server import Call, Served, ask
from support.waiting import Flag, bounded

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_waits_by_the_clock")]

asyncio_only = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"debug": True}), ("asyncio", {"use_uvloop": True})]
)
FORWARDED = {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https", "x-forwarded-host": "shop.example"}
request_name: contextvars.ContextVar[str] = contextvars.ContextVar("request_name", default="nobody")


# --- the middleware ---------------------------------------------------------------------------------------------------


def proxy_fix(app: Any) -> Any:
    return ProxyFix(app, x_for=1, x_proto=1, x_host=1)


def profiler(app: Any) -> Any:
    return ProfilerMiddleware(app, stream=io.StringIO())


def whitenoise(app: Any) -> Any:
    return WhiteNoise(app, root=str(TESTS / "types"), prefix="static/")


def gzip(app: Any) -> Any:
    return GZipMiddleware(app, minimum_size=1)


def cors(app: Any) -> Any:
    return CORSMiddleware(app, allow_origins=["https://shop.example"], expose_headers=["X-Name"])


def sessions(app: Any) -> Any:
    return SessionMiddleware(app, secret_key="not a secret")


def base_http(app: Any) -> Any:
    async def dispatch(request: Any, call_next: Any) -> Any:
        request.state.passed = True
        response = await call_next(request)
        response.headers["x-passed"] = "1"
        return response

    return BaseHTTPMiddleware(app, dispatch=dispatch)


def correlation(app: Any) -> Any:
    return CorrelationIdMiddleware(app)


WSGI_MIDDLEWARE = {"ProxyFix": proxy_fix, "ProfilerMiddleware": profiler, "WhiteNoise": whitenoise}
# They hand on each chunk as it comes; the profiler makes a list of all of them first.
STREAMING_WSGI_MIDDLEWARE = {"ProxyFix": proxy_fix, "WhiteNoise": whitenoise}
ASGI_MIDDLEWARE = {
    "GZipMiddleware": gzip,
    "CORSMiddleware": cors,
    "SessionMiddleware": sessions,
    "BaseHTTPMiddleware": base_http,
    "CorrelationIdMiddleware": correlation,
}
every_wsgi_middleware = pytest.mark.parametrize("middleware", WSGI_MIDDLEWARE.values(), ids=WSGI_MIDDLEWARE)
every_streaming_wsgi_middleware = pytest.mark.parametrize(
    "middleware", STREAMING_WSGI_MIDDLEWARE.values(), ids=STREAMING_WSGI_MIDDLEWARE
)
every_asgi_middleware = pytest.mark.parametrize("middleware", ASGI_MIDDLEWARE.values(), ids=ASGI_MIDDLEWARE)


@contextlib.contextmanager
def on_asgi(app: Any, middleware: Callable[[Any], Any], *, pathsend: bool = False) -> Iterator[Any]:
    """`WsgiToAsgi(middleware(AsgiToWsgi(app)))`."""
    inner = AsgiToWsgi(app, lifespan="off", shutdown_timeout=3.0)
    outer = WsgiToAsgi(middleware(inner), shutdown_timeout=3.0, pathsend=pathsend)
    try:
        yield outer
    finally:
        bounded(outer.close)
        bounded(inner.close)


@contextlib.contextmanager
def on_wsgi(app: Any, middleware: Callable[[Any], Any]) -> Iterator[Any]:
    """`AsgiToWsgi(middleware(WsgiToAsgi(app)))`."""
    inner = WsgiToAsgi(app, shutdown_timeout=3.0)
    outer = AsgiToWsgi(middleware(inner), lifespan="off", shutdown_timeout=3.0)
    try:
        yield outer
    finally:
        bounded(outer.close)
        bounded(inner.close)


def get(path: str = "/", **headers: str) -> dict[str, Any]:
    return scope_for(
        "GET", path, [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    )


def header(exchange: LenientRequest, name: str) -> list[str]:
    return [value.decode() for key, value in exchange.sent[0]["headers"] if key.decode().lower() == name]


# --- WSGI middleware around an ASGI app, on an ASGI server ------------------------------------------------------------


class TestWsgiMiddlewareAroundAnAsgiApp:
    @every_wsgi_middleware
    async def test_a_small_response(self, middleware: Any) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((threading.get_ident(), anyio.lowlevel.current_token()))
            await reply(send, b"home")

        with on_asgi(app, middleware) as outer:
            exchange = await fetch(outer)

        assert (200, b"home") == (exchange.status, exchange.body)
        assert [(threading.get_ident(), anyio.lowlevel.current_token())] == seen, "the loop is the server's"

    @every_streaming_wsgi_middleware
    async def test_each_chunk_is_there_before_the_next_is_made(self, middleware: Any) -> None:
        gates = [anyio.Event() for _ in range(3)]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            for number, gate in enumerate(gates):
                await chunk(send, b"%d" % number)
                await gate.wait()
            await end(send)

        with on_asgi(app, middleware) as outer:
            async with opened_leniently(outer) as exchange:
                for number, gate in enumerate(gates):
                    await exchange.until(lambda: exchange.body.endswith(b"%d" % number))  # noqa: B023
                    gate.set()
                await exchange.ended()

        assert (b"012", True) == (exchange.body, exchange.complete)

    @every_wsgi_middleware
    async def test_a_client_that_leaves_reaches_the_app(self, middleware: Any) -> None:
        begun, over = Flag(), Flag()
        kinds: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            begun.set()
            kinds.append((await receive())["type"])
            over.set()

        with on_asgi(app, middleware) as outer:
            async with opened_leniently(outer) as exchange:
                await begun.waited()
                exchange.disconnect()
                await over.waited()
                await exchange.until(lambda: exchange.over)

        assert ["http.disconnect"] == kinds
        assert not exchange.complete or 499 == exchange.status  # of the profiler, nothing has come before that

    @every_wsgi_middleware
    async def test_an_exception_reaches_the_server(self, middleware: Any) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise LookupError("of the app")

        with on_asgi(app, middleware) as outer, pytest.raises(LookupError, match="of the app"):
            await fetch(outer)

    @every_wsgi_middleware
    async def test_context_and_state_of_the_server(self, middleware: Any) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((request_name.get(), scope["state"]["pool"]))
            await reply(send)

        pool = object()
        request_name.set("alice")
        with on_asgi(app, middleware) as outer:
            await fetch(outer, get() | {"state": {"pool": pool}})

        assert [("alice", pool)] == seen

    async def test_proxy_fix_tells_where_the_client_is(self) -> None:
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await reply(send)

        with on_asgi(app, proxy_fix) as outer:
            await fetch(outer, get(**FORWARDED))

        assert ("203.0.113.7", "https") == (scopes[0]["client"][0], scopes[0]["scheme"])
        assert ("shop.example", 8000) == scopes[0]["server"]
        assert [b"shop.example"] == [value for name, value in scopes[0]["headers"] if name == b"host"]

    async def test_the_profiler_profiles(self) -> None:
        out = io.StringIO()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"profiled")

        with on_asgi(app, lambda app: ProfilerMiddleware(app, stream=out)) as outer:
            assert b"profiled" == (await fetch(outer, get("/p"))).body

        assert "PATH: '/p'" in out.getvalue()
        assert "function calls" in out.getvalue()

    @pytest.mark.parametrize("pathsend", [True, False])
    async def test_whitenoise_serves_its_files(self, pathsend: bool) -> None:
        """By path, where the project asks for that and the server can; and the app has the rest."""
        page = TESTS / "types" / "public_api.py"
        extensions: dict[str, Any] = {"http.response.pathsend": {}}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"the app")

        with on_asgi(app, whitenoise, pathsend=pathsend) as outer:
            found = await fetch(outer, get("/static/public_api.py") | {"extensions": extensions})
            other = await fetch(outer, get("/static/nothing") | {"extensions": extensions})

        sent_by_path = [event["path"] for event in found.sent if event["type"] == "http.response.pathsend"]
        assert ([str(page)] if pathsend else []) == sent_by_path
        assert (b"" if pathsend else page.read_bytes()) == found.body
        assert b"the app" == other.body

    @asyncio_only
    @pytest.mark.parametrize("name", frameworks.ASGI)
    async def test_around_frameworks(self, name: str) -> None:
        with on_asgi(frameworks.MAKE[name](), lambda app: whitenoise(proxy_fix(app))) as outer:
            exchange = await fetch(outer, get("/where", **FORWARDED))
            echoed = scope_for("POST", "/echo", [(b"content-length", b"4")])
            echo = await fetch(outer, echoed, {"type": "http.request", "body": b"body"})

        assert (b"|/where", b"body") == (exchange.body, echo.body)


# --- ASGI middleware around a WSGI app, on a WSGI server --------------------------------------------------------------


def wsgi_hello(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Name", "hello")])
    return [b"hello"]


def unpacked(served: Served) -> bytes:
    return zlib.decompress(served.body, 31) if served.header("content-encoding") == ["gzip"] else served.body


class TestAsgiMiddlewareAroundAWsgiApp:
    @pytest.fixture
    def anyio_backend(self) -> object:
        return "asyncio"

    @every_asgi_middleware
    @pytest.mark.parametrize("accepted", ["gzip", ""])
    def test_a_small_response(self, middleware: Any, accepted: str) -> None:
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            return wsgi_hello(environ, start_response)

        with on_wsgi(app, middleware) as outer:
            served = ask(outer, environ_for("GET", "/", HTTP_ACCEPT_ENCODING=accepted))
            ours = [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]

        assert ("200 OK", b"hello", ["hello"]) == (served.status, unpacked(served), served.header("x-name"))
        assert ([served.thread.ident], ["bridge-loop"]) == (threads, ours), "the thread is the server's"

    @every_asgi_middleware
    def test_each_chunk_is_there_before_the_next_is_made(self, middleware: Any) -> None:
        taken = [Flag() for _ in range(3)]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            for number, flag in enumerate(taken):
                yield b"%d" % number
                flag.wait()

        with on_wsgi(app, middleware) as outer, Served(outer) as served:
            served.call()
            for number, flag in enumerate(taken):
                assert b"%d" % number == served.next()
                flag.set()
            assert b"" == served.rest()
            served.close()

    def test_no_chunk_is_kept_back_by_queues_in_between(self) -> None:
        """BaseHTTPMiddleware puts each into one, which the loop has to empty while the thread waits."""
        taken = [Flag() for _ in range(50)]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            for flag in taken:
                yield b"x"
                flag.wait()

        with on_wsgi(app, lambda app: base_http(base_http(base_http(app)))) as outer, Served(outer) as served:
            served.call()
            for flag in taken:
                assert b"x" == served.next()
                flag.set()
            assert b"" == served.rest()
            served.close()

    def test_compressed_chunks_are_all_of_the_response(self) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            for number in range(100):
                yield b"%d " % number * 500

        with on_wsgi(app, gzip) as outer:
            served = ask(outer, environ_for("GET", "/", HTTP_ACCEPT_ENCODING="gzip"))

        assert ["gzip"] == served.header("content-encoding")
        assert b"".join(b"%d " % number * 500 for number in range(100)) == unpacked(served)

    @every_asgi_middleware
    def test_a_server_that_closes_early_closes_the_iterable_in_its_thread(self, middleware: Any) -> None:
        closed: list[int] = []
        over = Flag()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            try:
                while True:
                    yield b"x" * 10_000
            finally:
                closed.append(threading.get_ident())
                over.set()

        with on_wsgi(app, middleware) as outer, Served(outer) as served:
            served.call()
            assert served.next()
            served.close()
            over.wait()
            assert [served.thread.ident] == closed

    @every_asgi_middleware
    def test_an_exception_reaches_the_server(self, middleware: Any) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            raise LookupError("of the app")

        with on_wsgi(app, middleware) as outer, pytest.raises(LookupError, match="of the app"):
            ask(outer)

    @every_asgi_middleware
    def test_the_request_body_passes(self, middleware: Any) -> None:
        data = bytes(range(256)) * 1000

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            while piece := environ["wsgi.input"].read(50_000):
                yield piece

        with on_wsgi(app, middleware) as outer:
            assert data == ask(outer, environ_for("POST", "/", data)).body

    @every_asgi_middleware
    def test_context_of_the_server(self, middleware: Any) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [request_name.get().encode()]

        def serve() -> bytes:
            request_name.set("alice")
            with Served(outer) as served:
                Call.call(served)  # in this thread, which has the context
                return b"".join(served.result)

        with on_wsgi(app, middleware) as outer:
            assert b"alice" == bounded(lambda: contextvars.copy_context().run(serve))

    def test_cors_allows_its_origin(self) -> None:
        with on_wsgi(wsgi_hello, cors) as outer:
            served = ask(outer, environ_for("GET", "/", HTTP_ORIGIN="https://shop.example"))
            asked = {"HTTP_ORIGIN": "https://shop.example", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}
            preflight = ask(outer, environ_for("OPTIONS", "/", **asked))

        assert ["https://shop.example"] == served.header("access-control-allow-origin")
        assert ("200 OK", b"OK") == (preflight.status, preflight.body), "the middleware answers for the app"

    def test_a_session_is_the_apps_too(self) -> None:
        """It is in the scope, which the environ of the app leads to."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            session = environ["asgi.scope"]["session"]
            session["count"] = session.get("count", 0) + 1
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [json.dumps(session).encode()]

        with on_wsgi(app, sessions) as outer:
            first = ask(outer)
            cookie = first.header("set-cookie")[0].partition(";")[0]
            second = ask(outer, environ_for("GET", "/", HTTP_COOKIE=cookie))

        assert (b'{"count": 1}', b'{"count": 2}') == (first.body, second.body)

    def test_state_that_middleware_sets_is_the_apps_too(self) -> None:
        states: list[Any] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            states.append(environ["bridge.state"])
            return wsgi_hello(environ, start_response)

        with on_wsgi(app, base_http) as outer:
            served = ask(outer)

        assert [{"passed": True}] == states
        assert ["1"] == served.header("x-passed")

    def test_a_correlation_id_is_known_in_the_apps_thread(self) -> None:
        """It is a context variable, which the log format of the app reads; and each request has its own."""
        given = str(uuid.uuid4())

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(correlation_id.get()).encode()]

        with on_wsgi(app, correlation) as outer:
            served = ask(outer, environ_for("GET", "/", HTTP_X_REQUEST_ID=given))
            other = ask(outer)

        assert (given.encode(), [given]) == (served.body, served.header("x-request-id"))
        assert ([other.body.decode()], True) == (other.header("x-request-id"), other.body != served.body)

    @pytest.mark.parametrize("name", frameworks.WSGI)
    def test_around_frameworks(self, name: str) -> None:
        def all_of_them(app: Any) -> Any:
            return gzip(cors(sessions(base_http(correlation(app)))))

        with on_wsgi(frameworks.MAKE[name](), all_of_them) as outer:
            served = ask(outer, environ_for("GET", "/where", HTTP_ACCEPT_ENCODING="gzip"))
            echoed = ask(outer, environ_for("POST", "/echo", b"body"))

        assert (b"|/where", b"body") == (unpacked(served), echoed.body)


# --- ASGI middleware around a WSGI app, on an ASGI server -------------------------------------------------------------


async def test_a_client_that_leaves_is_no_error_of_middleware() -> None:
    """BaseHTTPMiddleware, as in `@app.middleware("http")` of FastAPI, raises one if it gets no response at all."""
    entered, go = Flag(), Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        entered.set()
        go.wait()
        return []

    inner = WsgiToAsgi(app, shutdown_timeout=3.0)
    async with opened(base_http(inner), *get_sent()) as request:
        await entered.waited()
        await request.asked()
        await anyio.sleep(0.02)  # a server that says it at once is not believed
        request.leave()
        await request.ended()
        go.set()
    await anyio.to_thread.run_sync(inner.close)

    assert 1 == inner.stats().client_disconnects
    assert (499, [b"1"]) == (request.status, request.header(b"x-passed"))


# --- up to depth four -------------------------------------------------------------------------------------------------


class Layers:
    """Notes in which thread each WSGI layer of a request runs, and on which loop each ASGI layer."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.loops: list[Any] = []

    def wsgi(self, app: Any) -> Any:
        def run(environ: Environ, start_response: Any) -> Any:
            self.threads.append(threading.get_ident())
            return app(environ, start_response)

        return ProxyFix(run)

    def asgi(self, app: Any) -> Any:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            self.loops.append((threading.get_ident(), anyio.lowlevel.current_token()))
            await app(scope, receive, send)

        return CORSMiddleware(run, allow_origins=["*"])

    @contextlib.contextmanager
    def stack(self, depth: int, outer: str) -> Iterator[Any]:
        """`depth` adapters, with middleware between all of them; `outer` is what the outermost one speaks."""
        kinds = [outer]
        while len(kinds) <= depth:
            kinds.append("asgi" if kinds[-1] == "wsgi" else "wsgi")
        app: Any = self.wsgi(wsgi_ticks) if kinds[-1] == "wsgi" else self.asgi(asgi_ticks)
        adapters: list[Any] = []
        for kind in kinds[-2::-1]:
            adapters.append(WsgiToAsgi(app) if kind == "asgi" else AsgiToWsgi(app, lifespan="off"))
            app = self.asgi(adapters[-1]) if kind == "asgi" else self.wsgi(adapters[-1])
        try:
            yield app
        finally:
            for adapter in adapters[::-1]:
                bounded(adapter.close)


def wsgi_ticks(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(5):
        yield b"%d" % number


async def asgi_ticks(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    for number in range(5):
        await chunk(send, b"%d" % number)
    await end(send)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
class TestDepth:
    async def test_on_an_asgi_server(self, depth: int) -> None:
        layers = Layers()
        with layers.stack(depth, "asgi") as app:
            exchange = await fetch(app)

        assert b"01234" == exchange.body
        assert {(threading.get_ident(), anyio.lowlevel.current_token())} == set(layers.loops)
        assert 1 == len(set(layers.threads))
        assert depth + 1 == len(layers.loops) + len(layers.threads)

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_on_a_wsgi_server(self, depth: int) -> None:
        layers = Layers()

        def serve() -> Served:
            with layers.stack(depth, "wsgi") as app:
                return ask(app)

        served = await asyncio.to_thread(serve)

        assert b"01234" == served.body
        assert {served.thread.ident} == set(layers.threads)
        assert 1 == len(set(layers.loops))
        assert depth + 1 == len(layers.loops) + len(layers.threads)
