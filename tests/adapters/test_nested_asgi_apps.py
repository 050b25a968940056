"""An ASGI app between two adapters comes home, to the server's loop.

ASGI server -> WsgiToAsgi -> WSGI middleware -> AsgiToWsgi -> ASGI app    on the loop of the server
"""

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import async_to_sync, sync_to_async

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._asgi_to_wsgi import task
from bridge.errors import LifespanFailed
from support.asgi_apps import Lifespan, chunk, end, hello, read_body, reply, start
from support.lenient_asgi_server import LenientRequest, fetch, living, opened_leniently
from support.plain_servers import Environ, scope_for
from support.scripted_wsgi_server import ask
from support.sizes import BOUND
from support.waiting import PATIENCE, Flag, LogWatch, adapters_own_threads, bounded, eventually

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


MUCH = 2**21  # more than all of them together can hold


user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


@contextlib.contextmanager
def outer_and_inner(app: Any, middleware: Any = None, **options: Any) -> Iterator[WsgiToAsgi]:
    """An ASGI app within WSGI middleware, for an ASGI server."""
    options.setdefault("lifespan", "off")
    inner = AsgiToWsgi(app, shutdown_timeout=3.0, **options)
    pathsend = options.get("pathsend", False)
    outer = WsgiToAsgi(inner if middleware is None else middleware(inner), shutdown_timeout=3.0, pathsend=pathsend)
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
            async with opened_leniently(outer) as exchange:
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
            async with opened_leniently(outer) as exchange:
                exchange.hold = anyio.Event()
                before = -1
                await eventually(lambda: sent)
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
            async with opened_leniently(outer, scope_for("POST", "/", [(b"content-length", b"6")])) as exchange:
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
            async with opened_leniently(outer) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.disconnect()
                await exchange.until(lambda: exchange.over)
            await over.waited()

        assert [{"type": "http.disconnect"}, "saved"] == events
        assert not exchange.complete

    @pytest.mark.parametrize("collect", [0, 2**20])
    async def test_a_client_that_leaves_in_its_upload_reaches_the_app(self, collect: int) -> None:
        kinds: list[str] = []
        begun, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["method"] == "GET":
                await hello(scope, receive, send)
                return
            begun.set()
            kinds.extend([(await receive())["type"] for _ in range(3)])
            over.set()

        inner = AsgiToWsgi(app, lifespan="off", shutdown_timeout=3.0)
        outer = WsgiToAsgi(inner, collect=collect, shutdown_timeout=3.0)
        with outer, inner:
            half = {"type": "http.request", "body": b"half", "more_body": True}
            async with opened_leniently(outer, scope_for("POST", "/", [(b"content-length", b"8")]), half) as exchange:
                if not collect:
                    await begun.waited()  # an app whose client has left before is not called
                exchange.disconnect()
                await over.waited()
                with contextlib.suppress(OSError):
                    await exchange.ended()
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
            async with opened_leniently(outer, scope_for("POST", "/"), {"type": "http.request"}) as exchange:
                await entered.waited()
                exchange.disconnect() if how == "disconnect" else exchange.cancel_scope.cancel()
                if how == "cancel":
                    await anyio.sleep(0.01)
                go_on.set()
                await through.waited()
                await exchange.until(lambda: exchange.over)
            assert b"hello" == (await fetch(outer)).body

        assert kinds in ([], ["http.disconnect"], ["http.request", "http.disconnect"])

    async def test_a_request_that_the_server_cancels_ends_for_the_app(self, log: LogWatch) -> None:
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
            async with opened_leniently(outer) as exchange:
                await exchange.until(lambda: exchange.body)
                exchange.cancel_scope.cancel()
                await exchange.until(lambda: exchange.over)
            await over.waited()

        assert not exchange.complete
        assert [] == log.complaints()

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
            async with opened_leniently(outer) as exchange:
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

    async def test_the_lifespan_goes_on_after_a_close(self) -> None:
        """The outer adapter serves again, and the app, which has been started, is shut down with the server."""
        app = Lifespan()
        with outer_and_inner(app, lifespan="on") as outer:
            async with living(outer):
                assert b"hello" == (await fetch(outer)).body
                await anyio.to_thread.run_sync(outer.close)
                assert b"hello" == (await fetch(outer)).body
            assert ["startup", "shutdown"] == app.events

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

        exchanges: list[LenientRequest] = []
        with outer_and_inner(app) as outer, anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                for number in range(20):
                    exchanges.append(LenientRequest(outer, scope_for("GET", f"/{number}")))
                    group.start_soon(exchanges[-1].run)

        assert [f"/{number}".encode() for number in range(20)] == [exchange.body for exchange in exchanges]

    @pytest.mark.parametrize("extensions", [{}, {"http.response.pathsend": {}}])
    async def test_a_file_may_be_removed_when_it_was_sent(self, tmp_path: Path, extensions: dict[str, Any]) -> None:
        """It is open then, and is not left to the server, which would open it by its name."""
        file = tmp_path / "file"
        file.write_bytes(b"content" * 1000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"7000")])
            await send({"type": "http.response.pathsend", "path": str(file)})
            file.unlink()

        with outer_and_inner(app, pathsend=True) as outer:
            exchange = await fetch(outer, scope_for("GET", "/", extensions=extensions))

        assert b"content" * 1000 == exchange.body

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

    @pytest.mark.parametrize("late", [False, True])
    async def test_the_body_is_there_while_its_thread_waits_for_async_code(
        self, late: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A WSGI app within the ASGI app has the thread, which reads for others too while it waits, also if these have
        asked just before it does.
        """
        waits, read, looked = Flag(), Flag(), Flag()
        run, wait = CurrentThreadExecutor.run_until_future, task.changed_meanwhile

        def run_late(self: Any, future: Any) -> None:
            looked.wait()
            run(self, future)

        def note(waiting: Any) -> Any:
            looked.set()
            return wait(waiting)

        if late:
            monkeypatch.setattr(CurrentThreadExecutor, "run_until_future", run_late)
            monkeypatch.setattr(task, "changed_meanwhile", note)

        def wsgi_app(environ: Environ, start_response: Any) -> list[bytes]:
            async_to_sync(until_read)()
            start_response("200 OK", [])
            return [b"read"]

        async def until_read() -> None:
            waits.set()
            await read.waited()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def ask_inside() -> None:
                answers.append((await fetch(innermost)).body)

            answers: list[bytes] = []
            async with anyio.create_task_group() as group:
                group.start_soon(ask_inside)
                await waits.waited()
                with anyio.fail_after(PATIENCE):
                    body = await read_body(receive)
                read.set()
            await reply(send, b"%d bytes, %s" % (len(body), *answers))

        data = b"x" * (8 * BOUND)
        innermost = WsgiToAsgi(wsgi_app)
        with innermost, outer_and_inner(app) as outer:
            length = (b"content-length", b"%d" % len(data))
            whole = {"type": "http.request", "body": data, "more_body": False}
            exchange = await fetch(outer, scope_for("POST", "/", [length]), whole)
            assert b"%d bytes, read" % len(data) == exchange.body

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
        with contextlib.ExitStack() as stack:
            # In a thread: the loop may not know yet that the call is over.
            stack.callback(bounded, deep.close)
            stack.callback(bounded, middle.close)
            outer = stack.enter_context(outer_and_inner(middle))
            async with opened_leniently(outer) as exchange:
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
        with outer:
            await fetch(outer)
            await anyio.to_thread.run_sync(ask, inner)
            await fetch(outer)
            assert 3 == inner.stats().served
            await anyio.to_thread.run_sync(inner.close)

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
