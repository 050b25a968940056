"""An app between two adapters comes home: to the server's loop, or to the server's thread for its request.

ASGI server -> WsgiToAsgi -> WSGI middleware -> AsgiToWsgi -> ASGI app    on the loop of the server
WSGI server -> AsgiToWsgi -> ASGI middleware -> WsgiToAsgi -> WSGI app    in the thread of the server
"""

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from asgiref.sync import async_to_sync, sync_to_async

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._concurrency.call_thread import CallThread
from bridge.errors import LifespanFailed
from support.asgi_apps import chunk, end, hello, read_body, reply, start
from support.lenient_asgi_server import Exchange, fetch, living, opened
from support.plain_servers import Environ, Event, environ_for, scope_for
from support.scripted_wsgi_server import Input, Served, ask, upload
from support.waiting import PATIENCE, Flag, LogWatch, Work, bounded
from support.wsgi_apps import Chunks

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")
BOUND = 2**16  # what may be on the way at each of the adapters
MUCH = 2**21  # more than all of them together can hold
user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


def adapters_own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("bridge-")]


@contextlib.contextmanager
def outer_and_inner(app: Any, middleware: Any = None, **options: Any) -> Iterator[WsgiToAsgi]:
    """An ASGI app within WSGI middleware, for an ASGI server."""
    options.setdefault("lifespan", "off")
    inner = AsgiToWsgi(app, shutdown_timeout=3.0, **options)
    outer = WsgiToAsgi(inner if middleware is None else middleware(inner), shutdown_timeout=3.0)
    try:
        yield outer
    finally:
        bounded(outer.close)
        bounded(inner.close)
        # A request's objects refer to each other and to the loop of the test, which ends before they are looked for.
        gc.collect()


@pytest.mark.anyio
class TestAsgiAppOnAnAsgiServer:
    """`WsgiToAsgi(middleware(AsgiToWsgi(app)))`: there is one loop."""

    async def test_the_app_runs_on_the_servers_loop(self) -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((threading.get_ident(), anyio.lowlevel.current_token()))
            await reply(send, b"home")

        with outer_and_inner(app) as outer:
            exchange = await fetch(outer)

            assert (200, b"home") == (exchange.status, exchange.body)
            assert [(threading.get_ident(), anyio.lowlevel.current_token())] == seen
            assert not [name for name in adapters_own_threads() if "loop" in name]

    async def test_a_small_response_is_small_for_the_middleware_and_the_server(self) -> None:
        results: list[Any] = []

        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                results.append(inner(environ, start_response))
                return results[0]

            return run

        with outer_and_inner(hello, middleware) as outer:
            exchange = await fetch(outer)

        assert [[b"hello"]] == results
        assert 2 == len(exchange.sent)

    async def test_what_the_server_said_comes_home(self) -> None:
        scopes: list[Any] = []
        pool = object()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            scope["state"]["mine"] = True
            await reply(send)

        scope = scope_for("GET", "/a/b", [(b"x-a", b"1")])
        tls = {"tls_version": 0x0304, "cipher_suite": 0x1301, "client_cert_chain": []}
        scope |= {"asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {"pool": pool}, "scheme": "https"}
        scope |= {"extensions": {"tls": tls, "http.response.trailers": {}, "x.own": {"a": 1}}, "http_version": "2"}
        scope |= {"server": ("/run/server.sock", None), "client": None, "query_string": b"q=%20"}
        with outer_and_inner(app) as outer:
            await fetch(outer, scope, {"type": "http.request"})

        for key in ("asgi", "http_version", "scheme", "server", "client", "path", "raw_path", "query_string"):
            assert scope[key] == scopes[0][key], key
        assert pool is scopes[0]["state"]["pool"]
        assert {"pool": pool} == scope["state"], "each request has a state of its own"
        assert tls == scopes[0]["extensions"]["tls"]
        assert {"a": 1} == scopes[0]["extensions"]["x.own"]
        assert "http.response.trailers" not in scopes[0]["extensions"], "WSGI is in between"
        assert (b"x-a", b"1") in scopes[0]["headers"]

    async def test_what_the_middleware_changed_wins(self) -> None:
        scopes: list[Any] = []

        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                changed = {"SCRIPT_NAME": "/a", "PATH_INFO": "/b", "HTTP_X_USER": "alice", "REMOTE_ADDR": "192.0.2.99"}
                return inner({**environ, **changed}, start_response)

            return run

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await reply(send)

        with outer_and_inner(app, middleware) as outer:
            await fetch(outer, scope_for("GET", "/a/b", [(b"x-user", b"mallory")]))

        assert ("/a", "/a/b") == (scopes[0]["root_path"], scopes[0]["path"])
        assert [(b"x-user", b"alice")] == [header for header in scopes[0]["headers"] if header[0] == b"x-user"]
        assert "192.0.2.99" == scopes[0]["client"][0]

    async def test_a_stream_passes_chunk_by_chunk(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            for number in range(3):
                await chunk(send, b"%d" % number)
                await gates[number].wait()
            await end(send)

        gates = [anyio.Event() for _ in range(3)]
        with outer_and_inner(app) as outer:
            async with opened(outer) as exchange:
                for number, gate in enumerate(gates):
                    await exchange.until(lambda: exchange.body.endswith(b"%d" % number))  # noqa: B023
                    gate.set()
                await exchange.ended()

        assert (b"012", True) == (exchange.body, exchange.complete)

    async def test_backpressure_passes(self) -> None:
        """Each of the two adapters holds its bound and a chunk, and so does the way between them, but no more."""
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await start(send)
            while sent < MUCH:
                await chunk(send, b"x" * 10_000)
                sent += 10_000
            await end(send)

        with outer_and_inner(app) as outer:
            async with opened(outer) as exchange:
                exchange.hold = anyio.Event()
                before = -1
                while sent != before:
                    # Nothing but the adapters is at work here; when they have had their turns, all is full.
                    before = sent
                    for _ in range(20):
                        await anyio.sleep(0.002)
                assert 0 < sent <= 4 * BOUND + 40_000
                exchange.hold.set()
                await exchange.ended()

        assert sent == len(exchange.body)

    @pytest.mark.parametrize("framing", ["content-length", "transfer-encoding"])
    async def test_the_request_body_passes(self, framing: str) -> None:
        data = bytes(range(256)) * (MUCH // 256)
        pieces = [data[at : at + 50_000] for at in range(0, len(data), 50_000)]
        events = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        value = b"%d" % len(data) if framing == "content-length" else b"chunked"

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, await read_body(receive))

        with outer_and_inner(app) as outer:
            scope = scope_for("POST", "/", [(framing.encode(), value)])
            exchange = await fetch(outer, scope, *events, {"type": "http.request"})

        assert data == exchange.body

    async def test_both_bodies_stream_at_once(self) -> None:
        """Each piece of the body is answered before the next one is sent."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            more = True
            while more:
                event = await receive()
                more = event["more_body"]
                await chunk(send, event["body"])
            await end(send)

        inner = AsgiToWsgi(app, lifespan="off")
        outer = WsgiToAsgi(inner, collect=0)
        with outer, inner:
            async with opened(outer, scope_for("POST", "/", [(b"content-length", b"6")])) as exchange:
                for number, piece in enumerate((b"a", b"bc", b"def")):
                    exchange.feed({"type": "http.request", "body": piece, "more_body": number < 2})
                    await exchange.until(lambda: exchange.body.endswith(piece))  # noqa: B023
                await exchange.ended()

        assert b"abcdef" == exchange.body

    async def test_a_client_that_leaves_reaches_the_app(self) -> None:
        events: list[Any] = []
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await receive()
                await start(send)
                await chunk(send, b"x")
                events.append(await receive())
                await anyio.sleep(0.01)
                events.append("saved")
            finally:
                over.set()

        with outer_and_inner(app) as outer:
            async with opened(outer) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await exchange.until(lambda: exchange.over)
            await over.waited()

        assert [{"type": "http.disconnect"}, "saved"] == events
        assert not exchange.complete

    @pytest.mark.parametrize("collect", [0, 2**20])
    async def test_a_client_that_leaves_in_its_upload_reaches_the_app(self, collect: int) -> None:
        kinds: list[str] = []
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] == "GET":
                await hello(scope, receive, send)
                return
            kinds.extend([(await receive())["type"] for _ in range(3)])
            over.set()

        inner = AsgiToWsgi(app, lifespan="off", shutdown_timeout=3.0)
        outer = WsgiToAsgi(inner, collect=collect, shutdown_timeout=3.0)
        with outer, inner:
            half = {"type": "http.request", "body": b"half", "more_body": True}
            with contextlib.suppress(OSError):
                await fetch(
                    outer, scope_for("POST", "/", [(b"content-length", b"8")]), half, {"type": "http.disconnect"}
                )
            await over.waited()
            assert b"hello" == (await fetch(outer)).body

        assert ["http.disconnect"] * 2 == kinds[-2:]

    @pytest.mark.parametrize("how", ["disconnect", "cancel"])
    async def test_middleware_that_comes_to_the_app_too_late_harms_nobody(self, how: str) -> None:
        """The request was over while it was at work: if the app is called at all, it hears of that."""
        entered, go_on, through = Flag(), Flag(), Flag()
        kinds: list[str] = []

        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                if environ["REQUEST_METHOD"] == "GET":
                    return inner(environ, start_response)
                entered.set()
                go_on.wait()
                try:
                    return inner(environ, start_response)
                finally:
                    through.set()

            return run

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] == "GET":
                await hello(scope, receive, send)
                return
            while not kinds or kinds[-1] == "http.request":
                kinds.append((await receive())["type"])

        with outer_and_inner(app, middleware) as outer:
            async with opened(outer, scope_for("POST", "/"), {"type": "http.request"}) as exchange:
                await entered.waited()
                exchange.disconnect() if how == "disconnect" else exchange.cancel_scope.cancel()
                if how == "cancel":
                    await anyio.sleep(0.01)
                go_on.set()
                await through.waited()
                await exchange.until(lambda: exchange.over)
            assert b"hello" == (await fetch(outer)).body

        assert kinds in ([], ["http.disconnect"], ["http.request", "http.disconnect"])

    async def test_a_request_that_the_server_cancels_ends_for_the_app(self) -> None:
        """By a disconnect, or where tasks belong to a scope (trio) by its cancellation."""
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await receive()
                await start(send)
                await chunk(send, b"x")
                await receive()
            finally:
                over.set()

        with outer_and_inner(app) as outer:
            async with opened(outer) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.cancel_scope.cancel()
                await exchange.until(lambda: exchange.over)
            await over.waited()

        assert not exchange.complete

    async def test_an_app_that_does_not_listen_is_cancelled_on_the_loop(self) -> None:
        cleaned = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"x")
            try:
                await anyio.sleep_forever()
            finally:
                cleaned.set()

        with outer_and_inner(app, disconnect_grace=0.01) as outer:
            async with opened(outer) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await exchange.until(lambda: exchange.over)
            await cleaned.waited()

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_an_exception_reaches_the_server(self, when: str, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if when == "after":
                await start(send)
                await chunk(send, b"half")
                await anyio.lowlevel.checkpoint()
            raise LookupError("of the app")

        with outer_and_inner(app) as outer, pytest.raises(LookupError, match="of the app"):
            await fetch(outer)

        assert log.having("ERROR", "LookupError: of the app")

    async def test_middleware_may_answer_for_an_app_that_failed(self) -> None:
        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                try:
                    return inner(environ, start_response)
                except LookupError as error:
                    start_response("418 I'm a Teapot", [])
                    return [str(error).encode()]

            return run

        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise LookupError("of the app")

        with outer_and_inner(app, middleware) as outer:
            exchange = await fetch(outer)

        assert (418, b"of the app") == (exchange.status, exchange.body)

    async def test_contextvars_of_server_and_middleware_reach_the_app(self) -> None:
        seen: list[str] = []

        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                seen.append(user.get())
                user.set("of the middleware")
                return inner(environ, start_response)

            return run

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(user.get())
            user.set("of the app")
            await reply(send)

        user.set("of the server")
        with outer_and_inner(app, middleware) as outer:
            await fetch(outer)

        assert ["of the server", "of the middleware"] == seen
        assert "of the server" == user.get()

    async def test_the_lifespan_runs_within_that_of_the_server(self) -> None:
        """Started by the first request, and shut down before the server says that it is."""
        events: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                await reply(send, scope["state"]["greeting"])
                return
            await receive()
            events.append(("startup", threading.get_ident(), anyio.lowlevel.current_token()))
            scope["state"]["greeting"] = b"from the lifespan"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            events.append(("shutdown", threading.get_ident(), anyio.lowlevel.current_token()))
            await send({"type": "lifespan.shutdown.complete"})

        here = threading.get_ident(), anyio.lowlevel.current_token()
        with outer_and_inner(app, lifespan="on") as outer:
            async with living(outer) as life:
                assert b"from the lifespan" == (await fetch(outer)).body
                assert b"from the lifespan" == (await fetch(outer)).body
                assert [("startup", *here)] == events
            assert [("startup", *here), ("shutdown", *here)] == events
            assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == life.sent

    async def test_a_startup_that_fails_fails_the_requests(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        with outer_and_inner(app, lifespan="on") as outer:
            async with living(outer):
                for _ in range(2):
                    with pytest.raises(LifespanFailed, match="no database"):
                        await fetch(outer)

    async def test_state_of_server_and_app_are_put_together(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                scope["state"]["app"] = b"app"
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await reply(send, scope["state"]["server"] + b" and " + scope["state"]["app"])

        with outer_and_inner(app, lifespan="on") as outer:
            async with living(outer):
                scope = scope_for("GET", "/", state={"server": b"server"})
                assert b"server and app" == (await fetch(outer, scope)).body

    async def test_many_at_once_share_the_loop(self) -> None:
        waiting = 0
        everybody = anyio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal waiting
            waiting += 1
            if waiting == 20:
                everybody.set()
            await everybody.wait()
            await reply(send, scope["path"].encode())

        exchanges: list[Exchange] = []
        with outer_and_inner(app) as outer, anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    exchanges.append(Exchange(outer, scope_for("GET", f"/{number}")))
                    group.start_soon(exchanges[-1].run)

        assert [f"/{number}".encode() for number in range(20)] == [exchange.body for exchange in exchanges]

    async def test_a_file_is_sent_by_the_server(self, tmp_path: Path) -> None:
        """`pathsend` of the app becomes `wsgi.file_wrapper`, and that becomes `pathsend` for the server."""
        file = tmp_path / "file"
        file.write_bytes(b"content" * 1000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"7000")])
            await send({"type": "http.response.pathsend", "path": str(file)})

        with outer_and_inner(app) as outer:
            offered = await fetch(outer, scope_for("GET", "/", extensions={"http.response.pathsend": {}}))
            read = await fetch(outer, scope_for("GET", "/"))

        assert {"type": "http.response.pathsend", "path": str(file)} == offered.sent[1]
        assert b"content" * 1000 == read.body

    async def test_two_layers_more_are_at_home_too(self) -> None:
        """`WsgiToAsgi(AsgiToWsgi(WsgiToAsgi(AsgiToWsgi(app))))`, in full duplex, with more than all can hold."""
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((threading.get_ident(), scope["state"]["server"]))
            await start(send)
            more = True
            while more:
                event = await receive()
                more = event["more_body"]
                await chunk(send, event["body"])
                await chunk(send, event["body"])
            await end(send)

        data = bytes(range(256)) * (MUCH // 256)
        events = [
            {"type": "http.request", "body": data[at : at + 100_000], "more_body": at + 100_000 < len(data)}
            for at in range(0, len(data), 100_000)
        ]
        deep = AsgiToWsgi(app, lifespan="off")
        middle = WsgiToAsgi(deep)
        with deep, middle, outer_and_inner(middle) as outer:
            length = (b"content-length", b"%d" % len(data))
            exchange = await fetch(outer, scope_for("POST", "/", [length], state={"server": "here"}), *events)
            assert 2 * len(data) == len(exchange.body)
            assert [(threading.get_ident(), "here")] == seen
            assert ["bridge-wsgi-1"] == adapters_own_threads()

    async def test_two_layers_more_hear_of_a_disconnect(self) -> None:
        events: list[str] = []
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            events.append((await receive())["type"])
            over.set()

        deep = AsgiToWsgi(app, lifespan="off")
        middle = WsgiToAsgi(deep)
        with deep, middle, outer_and_inner(middle) as outer:
            async with opened(outer) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await exchange.until(lambda: exchange.over)
            await over.waited()

        assert ["http.disconnect"] == events


@pytest.mark.anyio
@pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"debug": True}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio-debug", "uvloop"],
)
class TestThreadSensitiveOnAnAsgiServer:
    """asgiref works on asyncio."""

    async def test_it_runs_in_the_thread_of_the_middleware(self) -> None:
        threads: list[int] = []

        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                threads.append(threading.get_ident())
                return inner(environ, start_response)

            return run

        async def app(scope: Any, receive: Any, send: Any) -> None:
            threads.append(await sync_to_async(threading.get_ident)())
            await reply(send)
            threads.append(await sync_to_async(threading.get_ident)())

        with outer_and_inner(app, middleware) as outer:
            await fetch(outer)

        assert 3 == len(threads)
        assert 1 == len(set(threads))

    async def test_an_adapter_serves_its_own_loop_too(self) -> None:
        """The same `AsgiToWsgi` within the server and called by another thread: each at its own home."""
        loops: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await reply(send)

        inner = AsgiToWsgi(app, lifespan="off")
        outer = WsgiToAsgi(inner)
        with outer, inner:
            await fetch(outer)
            await anyio.to_thread.run_sync(ask, inner)
            await fetch(outer)
            assert 3 == inner.stats().served

        assert asyncio.get_running_loop() is loops[0] is loops[2]
        assert loops[1] is not loops[0]

    async def test_a_response_of_the_middleware_itself_leaves_no_task(self) -> None:
        """It throws the app's response away, as PEP 3333 allows, after having closed it."""
        ended = Flag()

        def middleware(inner: Any) -> Any:
            def run(environ: Environ, start_response: Any) -> Any:
                inner(environ, lambda *_: None).close()
                start_response("200 OK", [])
                return [b"my own"]

            return run

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await start(send)
                await chunk(send, b"x")
                await asyncio.Event().wait()
            finally:
                ended.set()

        with outer_and_inner(app, middleware, disconnect_grace=0.01) as outer:
            assert b"my own" == (await fetch(outer)).body
            await ended.waited()


# --- a WSGI server ----------------------------------------------------------------------------------------------------


class Sandwich:
    """A WSGI app within ASGI middleware, for a WSGI server."""

    def __init__(self, app: Any, middleware: Any = None, **options: Any) -> None:
        self.inner = WsgiToAsgi(app, shutdown_timeout=3.0, **options)
        wrapped = self.inner if middleware is None else middleware(self.inner)
        self.outer = AsgiToWsgi(wrapped, lifespan="off", shutdown_timeout=3.0)

    def __enter__(self) -> "Sandwich":
        return self

    def __exit__(self, *exc_info: object) -> None:
        bounded(self.outer.close)
        bounded(self.inner.close)

    def serve(self, environ: Environ | None = None) -> Served:
        return Served(self.outer, environ)


def wsgi_echo(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Full duplex: each piece is answered before the next one is read."""
    start_response("200 OK", [])
    while piece := environ["wsgi.input"].read(30_000):
        yield piece
        yield piece


class TestWsgiAppOnAWsgiServer:
    """`AsgiToWsgi(middleware(WsgiToAsgi(app)))`: there is one thread."""

    def test_the_app_runs_in_the_servers_thread(self) -> None:
        threads: list[Any] = []
        iterable = Chunks([b"one", b"two"])

        def app(environ: Environ, start_response: Any) -> Chunks:
            threads.append(threading.get_ident())
            start_response("200 OK", [("X-A", "1")])
            return iterable

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            served.run()
            assert (b"onetwo", ["1"]) == (served.body, served.header("x-a"))
            assert [served.thread.ident] * 2 == threads + iterable.closings
            assert ["bridge-loop"] == adapters_own_threads()

    def test_each_chunk_is_there_before_the_next_is_made(self) -> None:
        """PEP 3333, "Buffering and Streaming": no block is delayed, though the one thread makes it and takes it on."""
        taken = [Flag() for _ in range(3)]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for number, flag in enumerate(taken):
                yield b"%d" % number
                flag.wait()

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            served.call()
            for number, flag in enumerate(taken):
                assert b"%d" % number == served.next()
                flag.set()
            assert b"" == served.rest()
            served.close()

    def test_each_piece_of_the_body_is_answered_before_the_next_is_there(self) -> None:
        pieces = [b"first", b"other", b"third"]
        answered = [Flag() for _ in pieces]

        class Waiting(Input):
            def read(self, size: int = -1, /) -> bytes:
                if self.asked:
                    answered[len(self.asked) - 1].wait()
                super().read(0)
                return pieces[len(self.asked) - 1]

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            for _ in pieces:
                yield environ["wsgi.input"].read(5)

        with Sandwich(app, collect=0) as sandwich, sandwich.serve(upload(Waiting(), 15)) as served:
            served.call()
            for piece, flag in zip(pieces, answered, strict=True):
                assert piece == served.next()
                flag.set()
            assert b"" == served.rest()
            served.close()

    def test_a_list_is_a_list_again(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Length", "5")])
            return [b"he", b"llo"]

        with Sandwich(app) as sandwich:
            assert [b"hello"] == ask(sandwich.outer).result

    def test_many_requests_need_no_thread_of_ours(self) -> None:
        threads: set[int] = set()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            together.wait()
            threads.add(threading.get_ident())
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode()]

        together = threading.Barrier(6, timeout=PATIENCE)
        with Sandwich(app) as sandwich:
            requests = [sandwich.serve(environ_for("GET", f"/{number}")) for number in range(6)]
            for ended in [served.begin() for served in requests]:
                ended()
            assert [f"/{number}".encode() for number in range(6)] == [served.rest() for served in requests]
            assert {served.thread.ident for served in requests} == threads
            assert ["bridge-loop"] == adapters_own_threads()
            for served in requests:
                served.close()
                served.thread.end()

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    @pytest.mark.parametrize("options", [{}, {"collect": 0}, {"stream_chunked": True}], ids=str)
    def test_large_streams_in_both_directions_do_not_wait_for_each_other(
        self, framing: str, options: dict[str, Any]
    ) -> None:
        data = bytes(range(256)) * (MUCH // 256)
        length, chunked = (len(data), {}) if framing == "length" else (None, {"HTTP_TRANSFER_ENCODING": "chunked"})
        with Sandwich(wsgi_echo, **options) as sandwich:
            served = ask(sandwich.outer, upload(Input(data), length, **chunked))

        assert 2 * len(data) == len(served.body)
        assert data[:30_000] * 2 + data[30_000:60_000] == served.body[:90_000]

    def test_a_large_response_to_a_body_that_nobody_reads(self) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            return iter([b"x" * 50_000] * 60)

        with Sandwich(app) as sandwich:
            served = ask(sandwich.outer, upload(Input(b"y" * MUCH), MUCH))

        assert 3_000_000 == len(served.body)

    def test_a_large_body_before_any_response(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            size = sum(map(len, iter(lambda: environ["wsgi.input"].read(10_000), b"")))
            start_response("200 OK", [])
            return [str(size).encode()]

        with Sandwich(app) as sandwich:
            body = Input(b"y" * MUCH)
            assert str(MUCH).encode() == ask(sandwich.outer, upload(body, MUCH)).body
            assert max(body.asked) <= 2**16

    def test_write_streams_through(self) -> None:
        """More than all buffers hold, while the one thread is in the app: it must deliver what it writes itself."""

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            for number in range(60):
                write(bytes([number]) * 50_000)
            return [b"and the rest"]

        with Sandwich(app) as sandwich:
            served = ask(sandwich.outer)

        assert b"".join(bytes([number]) * 50_000 for number in range(60)) + b"and the rest" == served.body

    def test_write_and_read_in_turns(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            write = start_response("200 OK", [])
            while piece := environ["wsgi.input"].read(50_000):
                write(piece)
                write(piece)
            return []

        with Sandwich(app, collect=0) as sandwich:
            served = ask(sandwich.outer, upload(Input(b"z" * MUCH), MUCH))

        assert 2 * MUCH == len(served.body)

    def test_lines_of_the_body(self) -> None:
        body = b"first\nsecond\n" + b"x" * 200_000 + b"\nlast"

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            lines = [environ["wsgi.input"].readline(), *environ["wsgi.input"]]
            start_response("200 OK", [])
            return [repr([len(line) for line in lines]).encode()]

        with Sandwich(app, collect=0) as sandwich:
            assert b"[6, 7, 200001, 4]" == ask(sandwich.outer, upload(Input(body), len(body))).body

    def test_a_body_that_breaks_off_raises_in_the_app(self) -> None:
        errors: list[BaseException] = []
        raised = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                errors.append(error)
                raised.set()
                raise
            raise AssertionError("it looked whole")

        with Sandwich(app, collect=0) as sandwich, sandwich.serve(upload(Input(b"half"), 1000)) as served:
            with pytest.raises(OSError, match="left"):
                served.call()
            served.close()
            # The thread may have left before the app was called; then the app is not called at all.
            assert raised.is_set() == bool(errors)

    @pytest.mark.parametrize("when", ["before", "start", "middle"])
    def test_an_exception_reaches_the_server(self, when: str) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            if when != "before":
                start_response("200 OK", [])
            if when == "middle":
                yield b"half"
            raise LookupError("of the app")

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            with pytest.raises(LookupError, match="of the app"):
                served.run()
            assert (b"half" if when == "middle" else b"") == served.body

    def test_a_server_that_closes_early_closes_the_iterable_in_its_thread(self) -> None:
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            assert served.call().next()
            served.close()
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_a_server_that_closes_at_once_closes_the_iterable(self) -> None:
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            served.call()
            served.close()
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_middleware_that_answers_itself_closes_the_iterable(self) -> None:
        """The app is at work in the thread while the response is made on the loop."""
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        class Enough(Exception):
            pass

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                async def first_only(event: Event) -> None:
                    if event["type"] == "http.response.body":
                        raise Enough

                with contextlib.suppress(Enough):
                    await inner(scope, receive, first_only)
                await reply(send, b"my own")

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"my own" == served.run().body
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_two_calls_at_once_within_one_request(self) -> None:
        """The thread can be in one of them only; the other gets a worker thread, and they do meet."""
        together = threading.Barrier(2, timeout=PATIENCE)
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            together.wait()
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return [environ["PATH_INFO"].encode()]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                parts = [Exchange(inner, scope_for("GET", f"/{number}")) for number in range(2)]
                await asyncio.gather(*[part.run() for part in parts])
                await reply(send, b"".join(part.body for part in parts))

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"/0/1" == served.run().body
            assert served.thread.ident in threads
            assert 2 == len(set(threads))

    def test_calls_one_after_the_other_are_all_in_the_thread(self) -> None:
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            yield environ["PATH_INFO"].encode()

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                parts = [await fetch(inner, scope_for("GET", f"/{number}")) for number in range(3)]
                await reply(send, b"".join(part.body for part in parts))

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"/0/1/2" == served.run().body
            assert [served.thread.ident] * 3 == threads

    def test_the_thread_is_free_before_the_loop_hears_of_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The loop may make the next call at once, and would else look for another thread."""
        states: list[Any] = []
        post = CallThread._post

        def watched(call: Any) -> None:
            if call.finished:
                states.append((call._host._busy, call._host._lent))
            post(call)

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"x"

        monkeypatch.setattr(CallThread, "_post", watched)
        with Sandwich(app) as sandwich, sandwich.serve() as served:
            assert b"x" == served.run().body

        assert [(False, False)] == states

    def test_a_call_that_is_given_up_frees_the_thread_for_the_next(self) -> None:
        threads: list[int] = []
        at_work = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            if environ["PATH_INFO"] == "/slow":
                at_work.set()
                environ["wsgi.input"].read()
            start_response("200 OK", [])
            return [b"next"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                async with opened(inner, scope_for("POST", "/slow", [(b"content-length", b"9")])) as slow:
                    slow.feed({"type": "http.request", "body": b"some", "more_body": True})
                    await at_work.waited()
                    slow.cancel_scope.cancel()
                await reply(send, (await fetch(inner)).body)

            return run

        with Sandwich(app, middleware, collect=0) as sandwich, sandwich.serve() as served:
            assert b"next" == served.run().body
            assert served.thread.ident == threads[0]

    def test_a_call_from_thread_sensitive_work_is_served(self) -> None:
        """The thread is in that work, and waits for it: the app gets a worker thread."""
        threads: list[int] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            start_response("200 OK", [])
            return [b"nested"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                def work() -> bytes:
                    threads.append(threading.get_ident())
                    return async_to_sync(fetch)(inner).body  # type: ignore[no-any-return]

                await reply(send, await sync_to_async(work)())

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            assert b"nested" == served.run().body
            assert served.thread.ident == threads[0]

    def test_thread_sensitive_work_runs_beside_a_call(self) -> None:
        """While the app in the thread waits for its body, the thread does what else the request needs."""
        threads: list[int] = []
        reading = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            threads.append(threading.get_ident())
            reading.set()
            body = environ["wsgi.input"].read()
            start_response("200 OK", [])
            return [body]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                async with opened(inner, scope_for("POST", "/", [(b"content-length", b"4")])) as call:
                    call.feed({"type": "http.request", "body": b"bo", "more_body": True})
                    await reading.waited()
                    threads.append(await sync_to_async(threading.get_ident)())
                    call.feed({"type": "http.request", "body": b"dy", "more_body": False})
                    await call.ended()
                await reply(send, call.body)

            return run

        with Sandwich(app, middleware, collect=0) as sandwich, sandwich.serve() as served:
            assert b"body" == served.run().body
            assert [served.thread.ident] * 2 == threads

    def test_async_code_of_the_app_runs_on_the_private_loop(self) -> None:
        loops: list[Any] = []

        async def coroutine() -> None:
            loops.append(asyncio.get_running_loop())

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            async_to_sync(coroutine)()
            start_response("200 OK", [])
            return [b"ok"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                loops.append(asyncio.get_running_loop())
                await inner(scope, receive, send)

            return run

        with Sandwich(app, middleware) as sandwich:
            assert b"ok" == ask(sandwich.outer).body

        assert loops[0] is loops[1]

    def test_a_lent_call_leaves_no_trace_in_the_servers_thread(self) -> None:
        """Another application may use that thread next, and its async code has nothing to do with our loop."""
        loops: list[Any] = []

        async def coroutine() -> None:
            loops.append(asyncio.get_running_loop())

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            async_to_sync(coroutine)()
            start_response("200 OK", [])
            return [b"ok"]

        async def run_from_anyio() -> str:
            return "ran"

        with Sandwich(app) as sandwich, sandwich.serve() as served:
            assert b"ok" == served.run().body
            served.thread.run(async_to_sync(coroutine))
            assert loops[0] is not loops[1]
            with pytest.raises(RuntimeError):
                served.thread.run(lambda: anyio.from_thread.run(run_from_anyio))

    def test_a_call_after_the_response_is_served(self) -> None:
        """As background work: the thread has left, or is about to."""
        ran = Flag()

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            ran.set()
            return [b"in the background"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                await reply(send, b"answer")
                await fetch(inner)

            return run

        with Sandwich(app, middleware) as sandwich:
            assert b"answer" == ask(sandwich.outer).body
            ran.wait()

    def test_a_call_that_comes_as_the_thread_leaves_is_served(self) -> None:
        """It was lent the thread, which then had no turn for it any more."""
        lent, over = Flag(), Flag()
        bodies: list[bytes] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [b"in the background"]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                await reply(send, b"answer")
                asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, lent.set)
                bodies.append((await fetch(inner)).body)
                over.set()

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            served.on_start = lent.wait
            assert b"answer" == served.run().body
            over.wait()

        assert [b"in the background"] == bodies

    def test_contextvars_reach_the_app(self) -> None:
        def app(environ: Environ, start_response: Any) -> list[bytes]:
            seen = user.get()
            user.set("of the app")
            start_response("200 OK", [])
            return [seen.encode()]

        def middleware(inner: Any) -> Any:
            async def run(scope: Any, receive: Any, send: Any) -> None:
                user.set(user.get() + ", middleware")
                await inner(scope, receive, send)

            return run

        with Sandwich(app, middleware) as sandwich, sandwich.serve() as served:
            served.thread.run(lambda: user.set("server"))
            assert b"server, middleware" == served.run().body
            assert "server" == served.thread.run(user.get)

    def test_the_environ_of_the_server_can_be_reached(self) -> None:
        environs: list[Environ] = []

        def app(environ: Environ, start_response: Any) -> list[bytes]:
            environs.append(environ["asgi.scope"]["wsgi_environ"])
            start_response("200 OK", [])
            return [b""]

        environ = environ_for("GET", "/", mod_wsgi__version=(6, 1))
        with Sandwich(app) as sandwich:
            ask(sandwich.outer, environ)

        assert environ is environs[0]

    def test_two_layers_more_are_at_home_too(self) -> None:
        """`AsgiToWsgi(WsgiToAsgi(AsgiToWsgi(WsgiToAsgi(app))))`, in full duplex, with more than all can hold."""
        threads: set[int] = set()

        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            threads.add(threading.get_ident())
            return wsgi_echo(environ, start_response)

        data = bytes(range(256)) * (MUCH // 256)
        environ = upload(Input(data), len(data))
        with Sandwich(app) as deep, Sandwich(deep.outer) as sandwich, sandwich.serve(environ) as served:
            assert 2 * len(data) == len(served.run().body)
            assert {served.thread.ident} == threads
            assert ["bridge-loop"] == adapters_own_threads()

    def test_two_layers_more_are_closed_early(self) -> None:
        iterable = Chunks(iter(lambda: b"tick" * 10_000, b""))

        def app(environ: Environ, start_response: Any) -> Chunks:
            start_response("200 OK", [])
            return iterable

        with Sandwich(app) as deep, Sandwich(deep.outer) as sandwich, sandwich.serve() as served:
            assert served.call().next()
            served.close()
            iterable.closed.wait()
            assert [served.thread.ident] == iterable.closings

    def test_middleware_and_app_of_several_callers_do_not_mix(self) -> None:
        def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("X-Thread", str(threading.get_ident()))])
            while piece := environ["wsgi.input"].read(1000):
                yield environ["PATH_INFO"].encode() + piece

        with Sandwich(app) as sandwich:

            def caller(number: int) -> Callable[[], bool]:
                def run() -> bool:
                    good = True
                    for turn in range(10):
                        body, head = bytes([number]) * turn * 700, list[Any]()
                        environ = environ_for("POST", f"/{number}", body)
                        iterable = sandwich.outer(environ, lambda *given, head=head: head.extend(given))
                        got = b"".join(iterable)
                        if hasattr(iterable, "close"):
                            iterable.close()
                        good &= got.replace(f"/{number}".encode(), b"") == body
                        good &= head[1] == [("x-thread", str(threading.get_ident()))]
                    return good

                return run

            assert [True] * 6 == [work.result() for work in [Work(caller(number)) for number in range(6)]]
