"""Clients that leave: the app hears of it, and the server's thread is free."""

import asyncio
import gc
import socket
import threading
from typing import Any

import pytest

from bridge._concurrency.byte_queue import HIGH_WATER_BYTES
from bridge.errors import ClientDisconnected
from support.asgi_apps import Recorder, chunk, end, hello, start
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.sizes import BOUND
from support.waiting import FOREVER, Flag, LogWatch, bounded

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


class TestDisconnect:
    """`close()` before the end: `http.disconnect`, a grace, and then the task is cancelled, on its loop."""

    def test_a_waiting_receive_hears_of_it(self) -> None:
        app = Recorder()

        async def streams(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            await app(scope, receive, send)

        with adapted(streams, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            assert b"x" == served.call().next()
            served.close()
            app.over.wait()

        assert ["http.disconnect"] * 2 == app.kinds

    def test_a_send_that_waits_raises(self) -> None:
        """ASGI 2.4, "Send": an `OSError`."""
        errors: list[BaseException] = []
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            for _ in range(2):
                try:
                    while True:
                        await chunk(send, b"x" * BOUND)
                except OSError as error:
                    errors.append(error)
            over.set()

        with adapted(app, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            served.call().next()
            served.close()
            over.wait()

        assert [ClientDisconnected] * 2 == [type(error) for error in errors]

    def test_an_app_that_does_not_listen_is_cancelled_and_cleans_up_on_the_loop(self, log: LogWatch) -> None:
        cleaned = Flag()
        where: list[object] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/barrier":
                await hello(scope, receive, send)
                return
            where.append((threading.get_ident(), asyncio.get_running_loop()))
            await start(send)
            await chunk(send, b"x")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                where.append((threading.get_ident(), asyncio.get_running_loop()))
                cleaned.set()

        with adapted(app, disconnect_grace=0.01) as adapter, Served(adapter) as served:
            served.call().next()
            served.close()
            cleaned.wait()
            assert b"hello" == ask(adapter, environ_for("GET", "/barrier")).body
            assert where[0] == where[1]
            assert 1 == adapter.stats().client_disconnects
        assert [] == log.complaints()

    def test_an_app_within_its_grace_is_not_cancelled(self) -> None:
        left, over, after = Flag(), Flag(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            await receive()
            left.set()
            await asyncio.sleep(0.05)
            after.append("saved")
            over.set()

        with adapted(app, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            served.call().next()
            served.close()
            left.wait()
            over.wait()

        assert ["saved"] == after

    def test_closing_before_the_first_chunk_is_a_disconnect(self) -> None:
        app = Recorder()

        async def streams(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await app(scope, receive, send)

        with adapted(streams, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            served.call()
            served.close()
            served.close()
            app.over.wait()

        assert ["http.disconnect"] * 2 == app.kinds

    def test_a_server_that_stops_at_content_length_is_no_disconnect(self, log: LogWatch) -> None:
        """It has everything, and calls close() without having asked for the end."""
        closed, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"5")])
            await asyncio.sleep(0)
            await chunk(send, b"hello", more=False)
            await closed.waited()
            await asyncio.sleep(0.02)
            over.set()

        with adapted(app, disconnect_grace=0.001) as adapter, Served(adapter) as served:
            assert b"hello" == served.call().next()
            served.close()
            closed.set()
            over.wait()
            assert (1, 0) == (adapter.stats().served, adapter.stats().client_disconnects)
        assert [] == log.complaints()

    def test_a_server_that_stops_before_the_last_event_is_no_disconnect_either(self) -> None:
        """Content-Length has been reached, though the app has not said so yet."""
        closed, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"5")])
            await chunk(send, b"hello")
            await closed.waited()
            await end(send)
            await asyncio.sleep(0.02)
            over.set()

        with adapted(app, disconnect_grace=0.001) as adapter, Served(adapter) as served:
            assert b"hello" == served.call().next()
            served.close()
            closed.set()
            over.wait()
            assert (1, 0) == (adapter.stats().served, adapter.stats().client_disconnects)

    def test_nor_if_the_app_waits_until_the_last_bytes_are_taken(self, log: LogWatch) -> None:
        """The server has closed the response before the app hears that they are."""
        loops: list[asyncio.AbstractEventLoop] = []
        held, closed, over = Flag(), Flag(), Flag()
        size = 2 * HIGH_WATER_BYTES

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await start(send, 200, [(b"content-length", b"%d" % size)])
            await chunk(send, b"x" * size)
            await end(send)
            over.set()

        def hold() -> None:
            held.set()
            closed.wait()

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            loops[0].call_soon_threadsafe(hold)
            held.wait()
            assert size == len(served.next() or b"")
            served.close()
            closed.set()
            over.wait()
            assert (1, 0) == (adapter.stats().served, adapter.stats().aborted)
        assert [] == log.complaints()

    @pytest.mark.usefixtures("looks_often")
    def test_a_client_that_the_server_knows_has_left_frees_the_thread(self) -> None:
        """Waitress can be asked while the app sends nothing."""
        app = Recorder()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await app(scope, receive, send)

        environ = environ_for("GET", "/", waitress__client_disconnected=lambda: True)
        with adapted(waits) as adapter, Served(adapter, environ) as served:
            with pytest.raises(ClientDisconnected):
                served.call()
            app.over.wait()
            assert ["http.disconnect"] * 2 == app.kinds

    @pytest.mark.usefixtures("looks_often")
    @pytest.mark.parametrize("streams", [False, True])
    def test_a_connection_that_was_closed_frees_the_thread(self, streams: bool) -> None:
        app = Recorder()

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if streams:
                await start(send)
            await app(scope, receive, send)

        client, server = socket.socketpair()
        with client, server, adapted(waits) as adapter:
            environ = environ_for("GET", "/", werkzeug__socket=server)
            with Served(adapter, environ) as served:
                ended = served.begin() if not streams else served.call().begin_next()
                client.close()
                with pytest.raises(ClientDisconnected):
                    ended()
                served.close()
                app.over.wait()

        assert ["http.disconnect"] * 2 == app.kinds

    def test_an_error_after_the_disconnect_is_no_error_in_the_log(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            await receive()
            raise LookupError("because it left")

        with adapted(app) as adapter, Served(adapter) as served:
            served.call().next()
            served.close()
            log.wait_for("INFO", "after its client had left", "LookupError: because it left")
        assert [] == log.complaints()

    def test_an_iterable_that_nobody_closes_is_a_disconnect_when_it_goes(self) -> None:
        """WSGI middleware must close what it gets, but not all does."""
        ended = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await start(send)
                while True:
                    await chunk(send, b"x" * 1000)
            finally:
                ended.set()

        with adapted(app, disconnect_grace=0.01) as adapter:

            def forget() -> None:
                next(iter(adapter(environ_for("GET", "/"), lambda *_: None)))

            bounded(forget)
            gc.collect()
            ended.wait()

    def test_one_that_nobody_closes_after_its_end_is_none(self) -> None:
        """What the application does after a complete response goes on."""
        go_on, done = Flag(), Flag()
        cancelled = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"one")
            await asyncio.sleep(0)
            await end(send)
            try:
                await go_on.waited()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            done.set()

        with adapted(app, disconnect_grace=0.001) as adapter:

            def forget() -> bytes:
                return b"".join(adapter(environ_for("GET", "/"), lambda *_: None))

            assert b"one" == bounded(forget)
            gc.collect()
            assert not cancelled.comes()
            go_on.set()
            done.wait()

    def test_twelve_clients_that_leave_an_endless_stream_leave_nothing_behind(self) -> None:
        live: list[int] = []
        all_over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/next":
                await hello(scope, receive, send)
                return
            live.append(1)
            try:
                await start(send)
                while True:
                    await chunk(send, b"tick")
                    await asyncio.sleep(0.001)
            finally:
                live.pop()
                if not live:
                    all_over.set()

        with adapted(app) as adapter:
            clients = [Served(adapter) for _ in range(12)]
            for served in clients:
                served.call().next()
            for served in clients:
                served.close()
                served.thread.end()
            all_over.wait()
            assert b"hello" == ask(adapter, environ_for("GET", "/next")).body
