"""`AsgiToWsgi`, as a WSGI server sees it and as its application does: one request, from the first to the last."""

import asyncio
import contextvars
import gc
import socket
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import servers
from bridge import AsgiToWsgi, WsgiToAsgi
from bridge.errors import ApplicationProtocolError, ClientDisconnected
from support.asgi_apps import chunk, end, hello, read_body, reply, start
from support.plain_servers import environ_for
from support.python_process import run_script
from support.scripted_wsgi_server import Input, Served, adapted, ask, upload
from support.waiting import FOREVER, Flag, LogWatch, Work, bounded, until

BOUND = 2**16  # bytes on the way that an application has to wait for
pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


# --- construction -----------------------------------------------------------------------------------------------------


class TestConstruction:
    """Not an application, or not an option: told at once, and by name."""

    @pytest.mark.parametrize(
        ("app", "seen"),
        [
            (None, "None"),
            (7, "7"),
            (lambda environ, start_response: [], "two arguments of a WSGI application"),
            (lambda scope: None, "one argument, as ASGI 2 did"),
            (lambda: None, "()"),
            (type("App", (), {}), "class App"),
        ],
    )
    def test_what_is_no_asgi_app_is_a_type_error_that_says_what_it_is(self, app: Any, seen: str) -> None:
        with pytest.raises(TypeError, match="ASGI 3 application") as raised:
            AsgiToWsgi(app)

        assert seen in str(raised.value)

    @pytest.mark.parametrize(
        ("option", "value", "kind"),
        [
            ("lifespan", "maybe", ValueError),
            ("lifespan", None, ValueError),
            ("startup_timeout", 0, ValueError),
            ("startup_timeout", -1.0, ValueError),
            ("startup_timeout", float("inf"), ValueError),
            ("startup_timeout", float("nan"), ValueError),
            ("startup_timeout", None, TypeError),
            ("shutdown_timeout", "30", TypeError),
            ("shutdown_timeout", True, TypeError),
            ("disconnect_grace", 0.0, ValueError),
            ("disconnect_grace", [], TypeError),
            ("loop_factory", "uvloop", TypeError),
            ("loop_factory", lambda name: None, TypeError),
            ("slow_warning", 0, ValueError),
            ("slow_warning", "1", TypeError),
        ],
    )
    def test_a_bad_option_is_an_error_that_names_it(self, option: str, value: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind, match=option):
            AsgiToWsgi(hello, **{option: value})

    def test_options_are_keywords(self) -> None:
        with pytest.raises(TypeError, match="positional"):
            AsgiToWsgi(hello, "off")  # type: ignore[misc]

    def test_slow_warning_may_be_turned_off(self) -> None:
        with adapted(hello, slow_warning=None) as adapter:
            assert b"hello" == ask(adapter).body

    def test_an_object_with_a_call_method_is_an_app(self) -> None:
        class App:
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await reply(send, b"object")

        with adapted(App()) as adapter:
            assert b"object" == ask(adapter).body

    def test_nothing_runs_before_the_first_request(self) -> None:
        before = threading.enumerate()

        adapter = AsgiToWsgi(hello)

        assert before == threading.enumerate()
        assert hello is adapter.app
        adapter.close()


# --- small responses --------------------------------------------------------------------------------------------------


class TestSmallResponse:
    """Start and last body event arrive together and go back together."""

    def test_it_is_a_list_of_one_bytestring(self) -> None:
        """Servers have a short way for it, and set Content-Length (PEP 3333, "Handling the Content-Length Header")."""
        with adapted(hello) as adapter, Served(adapter) as served:
            served.call()

            assert list is type(served.result)
            assert [b"hello"] == served.result
            assert "200 OK" == served.status

    def test_an_empty_body_is_one_empty_bytestring(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send)

        with adapted(app) as adapter:
            assert [b""] == ask(adapter).result

    @pytest.mark.parametrize(("method", "status"), [("GET", 204), ("GET", 304), ("HEAD", 200), ("HEAD", 404)])
    @pytest.mark.parametrize("body", [b"", b"surplus"])
    def test_what_has_no_body_is_an_empty_list(self, method: str, status: int, body: bytes) -> None:
        """RFC 9110 6.4.1: the bytes would be taken for the next response."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, status, [(b"content-length", b"7")])
            await chunk(send, body, more=False)

        with adapted(app) as adapter:
            served = ask(adapter, environ_for(method, "/"))

        assert [] == served.result
        assert ["7"] == served.header("content-length")

    @pytest.mark.parametrize(("method", "status"), [("GET", 204), ("HEAD", 200)])
    def test_what_has_no_body_has_none_as_a_stream_either(self, method: str, status: int) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, status)
            for _ in range(3):
                await chunk(send, b"x" * 1000)
                await asyncio.sleep(0)
            await end(send)

        with adapted(app) as adapter:
            assert b"" == ask(adapter, environ_for(method, "/")).body

    def test_headers_are_native_strings_without_hop_by_hop_ones(self) -> None:
        """PEP 3333, "Other HTTP Features": an application must not send those, though ASGI applications do."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"x-name", b"caf\xe9"), (b"connection", b"close"), (b"transfer-encoding", b"chunked")]
            await start(send, 201, [*headers, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
            await end(send)

        with adapted(app) as adapter:
            served = ask(adapter)

        assert "201 Created" == served.status
        assert [("x-name", "caf\xe9"), ("set-cookie", "a=1"), ("set-cookie", "b=2")] == served.headers

    def test_headers_may_be_missing(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            await end(send)

        with adapted(app) as adapter:
            assert [] == ask(adapter).headers

    def test_a_status_without_a_name_gets_a_reason(self) -> None:
        """PEP 3333 wants one."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, status=799)

        with adapted(app) as adapter:
            assert "799 Unknown" == ask(adapter).status


class TestNoBodyIsWanted:
    """To HEAD, and for a 204, the head is all of the response: it leaves at once, whatever the app goes on with."""

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204)])
    def test_an_endless_body_is_not_waited_for(self, method: str, status: int) -> None:
        """The application is told that its client is satisfied in the way that it knows: http.disconnect."""
        told = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, status)
            await chunk(send, b"tick")
            while (await receive())["type"] != "http.disconnect":
                pass
            told.set()

        with adapted(app, disconnect_grace=FOREVER) as adapter:
            served = ask(adapter, environ_for(method, "/"))
            told.wait()

        assert (b"", status) == (served.body, int(served.status[:3]))

    def test_an_app_that_only_sends_is_cancelled(self, log: LogWatch) -> None:
        """After the grace; until then it does not keep the loop from others, though no `send` waits for anything."""
        ended = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/other":
                await reply(send, b"other")
                return
            try:
                await start(send)
                while True:
                    await chunk(send, b"tick")
            finally:
                ended.set()

        with adapted(app, disconnect_grace=0.01) as adapter:
            assert b"" == ask(adapter, environ_for("HEAD", "/")).body
            assert b"other" == ask(adapter, environ_for("GET", "/other")).body
            ended.wait()
            assert b"other" == ask(adapter, environ_for("GET", "/other")).body
        assert [] == log.complaints()

    def test_a_body_that_ends_is_left_to_its_end(self, log: LogWatch) -> None:
        """And so is what the application does afterwards, however long that takes."""
        go_on, done = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            for _ in range(3):
                await chunk(send, b"x" * 100_000)
            await end(send)
            await go_on.waited()
            done.set()

        with adapted(app, disconnect_grace=0.001) as adapter:
            assert b"" == ask(adapter, environ_for("HEAD", "/")).body
            until(lambda: adapter.stats().served)
            assert b"" == ask(adapter, environ_for("HEAD", "/")).body
            go_on.set()
            done.wait()
        assert [] == log.complaints()

    def test_through_both_adapters(self) -> None:
        """Of a server's loop neither keeps anything."""
        told = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"tick")
            while (await receive())["type"] != "http.disconnect":
                pass
            told.set()

        with adapted(app, disconnect_grace=FOREVER) as inner, adapted(WsgiToAsgi(inner)) as outer:
            assert b"" == ask(outer, environ_for("HEAD", "/")).body
            told.wait()

    def test_an_app_that_goes_on_beyond_its_length_leaves_the_loop_to_others(self) -> None:
        """Nothing of that is sent, so that no `send` waits for the server."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/other":
                await reply(send, b"other")
                return
            await start(send, 200, [(b"content-length", b"4")])
            while True:
                await chunk(send, b"tick")

        with adapted(app, shutdown_timeout=0.01) as adapter, Served(adapter) as served:
            served.call()
            assert b"tick" == served.next()
            assert b"other" == ask(adapter, environ_for("GET", "/other")).body
            served.close()


# --- streams ----------------------------------------------------------------------------------------------------------


class TestStream:
    """Chunk by chunk, when they are there, and no more of them than are taken."""

    def test_each_chunk_is_there_before_the_next_is_made(self) -> None:
        taken = [Flag() for _ in range(3)]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            for number, flag in enumerate(taken):
                await chunk(send, b"%d" % number)
                await flag.waited()
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            for number, flag in enumerate(taken):
                assert b"%d" % number == served.next()
                flag.set()
            assert served.next() is None
            served.close()

    @pytest.mark.parametrize(
        ("headers", "resets"), [([], [True, False, False]), ([(b"content-length", b"2")], [False] * 3)]
    )
    def test_a_process_that_dies_resets_a_stream_without_a_length(
        self, headers: list[tuple[bytes, bytes]], resets: list[bool]
    ) -> None:
        """On uWSGI, where the end of the connection is else that of the response; once that is whole it ends as ever.

        Twice in the middle, the second time when the server has closed the response, and once behind its end.
        """
        seen = []
        for chunks_taken, closed in ((1, False), (1, True), (3, False)):
            go_on = Flag()

            async def app(scope: Any, receive: Any, send: Any, go_on: Flag = go_on) -> None:
                await start(send, 200, headers)
                await chunk(send, b"1")
                await go_on.waited()
                await chunk(send, b"2", more=False)

            with socket.create_server(("127.0.0.1", 0)) as listening:
                client = socket.create_connection(listening.getsockname(), timeout=10)
                connection, _ = listening.accept()
            environ = environ_for("GET", "/", uwsgi__version=b"2.0.31", wsgi__input=connection)
            with client, connection, adapted(app) as adapter, Served(adapter, environ) as served:
                served.call()
                assert b"1" == served.next()
                if chunks_taken > 1:
                    go_on.set()
                    assert b"2" == served.rest()
                if closed:
                    served.close()
                linger = connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
                seen.append(linger == b"\1\0\0\0\0\0\0\0")
                go_on.set()
                served.close()

        assert resets == seen

    def test_start_response_is_called_though_only_the_start_was_sent(self) -> None:
        """The server has status and headers when the call returns; Granian uses them at once."""
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 202, [(b"x-head", b"first")])
            await go_on.waited()
            await chunk(send, b"body", more=False)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()

            assert ("202 Accepted", ["first"]) == (served.status, served.header("x-head"))
            go_on.set()
            assert b"body" == served.rest()
            served.close()

    def test_the_iterable_has_no_length(self) -> None:
        """A server would take a length of one for that of the body (PEP 3333)."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"one")
            await asyncio.sleep(0)
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            with pytest.raises(TypeError, match="len"):
                len(served.result)
            assert b"one" == served.rest()
            served.close()

    def test_after_the_end_it_stays_at_its_end(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await asyncio.sleep(0)
            await chunk(send, b"all", more=False)

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"all" == served.call().rest()
            assert [None, None] == [served.next(), served.next()]
            served.close()

    @pytest.mark.parametrize("size", [1, 100, 1000, 5000, BOUND, 3 * BOUND])
    def test_the_app_runs_ahead_by_no_more_than_the_bound_and_one_chunk(self, size: int) -> None:
        """What is on the way is counted in bytes, and very small chunks count as more than they are."""
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            if scope["path"] == "/barrier":
                await hello(scope, receive, send)
                return
            await start(send)
            while True:
                await chunk(send, b"x" * size)
                sent += size

        with adapted(app, disconnect_grace=0.01) as adapter, Served(adapter) as served:

            def settle() -> int:
                # `send` suspends the app only where it has to wait, so once another request is served, it waits.
                ask(adapter, environ_for("GET", "/barrier"))
                return sent

            served.call()
            ahead = settle()
            assert 0 <= ahead <= BOUND
            taken = 0
            for _ in range(5):
                taken += len(served.next() or b"")
                assert ahead <= settle()
                assert sent - taken <= BOUND
                assert taken <= sent + size
                ahead = sent
            served.close()

    def test_no_byte_is_lost_or_turned_around_under_backpressure(self) -> None:
        pieces = [bytes([number % 251]) * (number * 37 % 4000) for number in range(1500)]

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            for piece in pieces:
                await chunk(send, piece)
            await end(send)

        with adapted(app) as adapter:
            served = ask(adapter)

        assert b"".join(pieces) == served.body
        assert b"" not in served.chunks

    def test_a_chunk_is_not_held_back_for_the_next_one(self) -> None:
        """The loop may be busy with something else, but the chunk is on its way."""
        blocked, go_on = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"now")
            blocked.set()
            go_on.wait()  # blocks the loop
            await end(send)

        with adapted(app, slow_warning=None) as adapter, Served(adapter) as served:
            first = served.call().begin_next()
            blocked.wait()
            assert b"now" == first()
            go_on.set()
            assert b"" == served.rest()
            served.close()


# --- the request body -------------------------------------------------------------------------------------------------


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, await read_body(receive))


class Recorder:
    """An app that keeps what it received, and asks again after a disconnect."""

    def __init__(self, asks: int = 100) -> None:
        self.events: list[Any] = []
        self.over = Flag()
        self._asks = asks

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for _ in range(self._asks):
            event = await receive()
            self.events.append(event)
            if event["type"] == "http.disconnect":
                self.events.append(await receive())
                break
            if not event["more_body"]:
                break
        self.over.set()
        await reply(send)

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


class TestRequestBody:
    """Read in the server's thread, when it is asked for, and never more than Content-Length."""

    def test_it_is_read_in_the_servers_thread_in_modest_steps(self) -> None:
        body = Input(bytes(range(256)) * 2000)
        with adapted(echo) as adapter, Served(adapter, upload(body, 512000)) as served:
            served.run()

            assert bytes(range(256)) * 2000 == served.body
            assert {served.thread.ident} == body.threads
            assert 512000 == sum(body.asked)
            assert max(body.asked) <= 2**16

    def test_no_more_is_read_than_was_asked_for(self) -> None:
        """An app that takes one event and answers leaves the rest with the server."""
        body = Input(b"x" * 2**20)
        with adapted(Recorder(asks=1)) as adapter:
            ask(adapter, upload(body, 2**20))

        assert 1 == len(body.asked)

    def test_it_ends_at_content_length(self) -> None:
        """Werkzeug's input goes on with the next request."""
        body = Input(b"body of this requestGET / HTTP/1.1")
        with adapted(echo) as adapter:
            assert b"body of this request" == ask(adapter, upload(body, 20)).body

        assert 20 == body.taken

    @pytest.mark.parametrize("length", ["", "0"])
    def test_without_a_length_there_is_nothing_to_read(self, length: str) -> None:
        """RFC 3875 4.1.2."""
        body = Input(b"not for us")
        with adapted(echo) as adapter:
            assert b"" == ask(adapter, environ_for("POST", "/", wsgi__input=body, CONTENT_LENGTH=length)).body

        assert [] == body.asked

    @pytest.mark.parametrize("given", [b"", b"short", b"x" * 99])
    @pytest.mark.parametrize("error", [None, OSError("reset"), ValueError("framing")])
    def test_a_body_that_breaks_off_is_a_disconnect_and_never_whole(
        self, given: bytes, error: Exception | None, log: LogWatch
    ) -> None:
        """Most servers give an empty read there, some raise."""
        app = Recorder()
        body = Input(given, error=error)
        with adapted(app) as adapter, Served(adapter, upload(body, 100)) as served:
            with pytest.raises(ClientDisconnected):
                served.call()
            app.over.wait()

        assert ["http.disconnect", "http.disconnect"] == app.kinds[-2:]
        assert all(event["more_body"] for event in app.events[:-2])
        assert [] == log.complaints()

    def test_a_chunked_body_is_read_to_its_end(self) -> None:
        body = Input(b"piece" * 50000)
        with adapted(echo) as adapter:
            served = ask(adapter, upload(body, None, HTTP_TRANSFER_ENCODING="chunked"))

        assert b"piece" * 50000 == served.body

    def test_a_chunked_body_that_breaks_off_is_a_disconnect(self) -> None:
        class Breaking(Input):
            def read(self, size: int = -1, /) -> bytes:
                data = super().read(size)
                if not data:
                    raise OSError("the chunked framing broke off")
                return data

        app = Recorder()
        environ = upload(Breaking(b"half a body"), None, HTTP_TRANSFER_ENCODING="chunked")
        with adapted(app) as adapter, Served(adapter, environ) as served:
            with pytest.raises(ClientDisconnected):
                served.call()
            app.over.wait()

        assert ["http.request", "http.disconnect", "http.disconnect"] == app.kinds

    def test_after_the_body_receive_waits_for_the_end_of_the_request(self) -> None:
        """Anything but a disconnect would be an error to Django."""
        asked, events = Flag(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await read_body(receive)
            waiting = asyncio.ensure_future(receive())
            asyncio.get_running_loop().call_soon(asked.set)
            await asyncio.sleep(0)
            assert not waiting.done()
            await reply(send, b"ok")
            events.append(await waiting)
            events.append(await receive())

        with adapted(app) as adapter:
            served = ask(adapter, environ_for("POST", "/", b"body"))
            assert b"ok" == served.body
            asked.wait()

        assert [{"type": "http.disconnect"}] * 2 == events

    def test_several_may_wait_in_receive_at_once(self) -> None:
        """As Starlette's middlewares do."""
        events: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await read_body(receive)
            waiting = [asyncio.ensure_future(receive()) for _ in range(3)]
            await asyncio.sleep(0)
            await reply(send)
            events.extend(await asyncio.gather(*waiting))

        with adapted(app) as adapter:
            ask(adapter, environ_for("POST", "/", b"body"))

        assert [{"type": "http.disconnect"}] * 3 == events

    def test_a_receive_that_was_cancelled_loses_no_event(self) -> None:
        hold = Flag()
        body = Input(b"0123456789", hold=hold)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            impatient = asyncio.ensure_future(receive())
            await asyncio.to_thread(body.reading.wait)
            impatient.cancel()
            hold.set()
            await reply(send, await read_body(receive))

        with adapted(app) as adapter:
            assert b"0123456789" == ask(adapter, upload(body, 10)).body

    def test_app_and_server_may_change_the_events_they_got(self) -> None:
        """The events are this request's own."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            event = await receive()
            assert b"" == event["body"]
            event["body"] = b"mine"
            event["more_body"] = True
            await reply(send)
            (await receive())["type"] = "mine"

        with adapted(app) as adapter:
            ask(adapter)
            assert "200 OK" == ask(adapter).status

    def test_a_large_body_and_a_large_response_at_once(self) -> None:
        """Both directions full: neither waits for the other for ever."""
        data = bytes(range(256)) * 8192

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            more = True
            while more:
                event = await receive()
                more = event["more_body"]
                await chunk(send, event["body"])
                await chunk(send, event["body"])
            await end(send)

        with adapted(app) as adapter:
            served = ask(adapter, upload(Input(data), len(data)))

        assert 2 * len(data) == len(served.body)


class TestEarlyAnswer:
    """An application that answers before it has read everything is not stalled by a slow upload."""

    def test_an_app_that_reads_nothing_never_touches_the_body(self) -> None:
        body = Input(b"late", hold=Flag())
        with adapted(hello) as adapter:
            assert b"hello" == ask(adapter, upload(body, 4)).body

        assert [] == body.asked

    def test_an_app_that_has_read_some_streams_its_answer(self) -> None:
        """With what a socket gives, as wsgiref's servers do: what is there is enough for one event."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            event = await receive()
            await start(send)
            await chunk(send, event["body"])
            await asyncio.sleep(0)
            await chunk(send, b", that is enough", more=False)

        client, server = socket.socketpair()
        with client, server, server.makefile("rb") as body, adapted(app) as adapter:
            client.sendall(b"first of many")
            assert b"first of many, that is enough" == ask(adapter, upload(body, 1000)).body

    def test_gunicorn_streams_while_the_app_waits_for_more(self, tmp_path: Path) -> None:
        """A `receive()` that waits for the client does not keep the chunks from it."""
        (tmp_path / "early.py").write_text(
            "import asyncio\n"
            "from support import apps\n"
            "async def app(scope, receive, send):\n"
            "    if scope['path'] != '/early':\n"
            "        return await apps.asgi_site(scope, receive, send)\n"
            "    event = await receive()\n"
            "    waiting = asyncio.ensure_future(receive())\n"
            "    await apps.start(send)\n"
            "    await apps.chunk(send, event['body'])\n"
            "    await apps.chunk(send, b', and waiting')\n"
            "    event = await waiting\n"
            "    await apps.chunk(send, event['body'], more=event['more_body'])\n"
        )
        app = "bridge.AsgiToWsgi(__import__('early').app)"
        with servers.gunicorn_gthread(tmp_path, app) as server, server.connect() as connection:
            connection.head("POST", "/early", {"Content-Length": 10})
            connection.send(b"first")
            response = connection.response()
            assert b"first, and waiting" == response.read(18)
            connection.send(b"other")
            assert b"other" == response.read()


# --- applications that break the contract -----------------------------------------------------------------------------


async def returns_nothing(scope: Any, receive: Any, send: Any) -> None:
    pass


async def returns_after_start(scope: Any, receive: Any, send: Any) -> None:
    await start(send)


async def sends_body_first(scope: Any, receive: Any, send: Any) -> None:
    await chunk(send, b"body")


async def sends_two_starts(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await start(send)


async def sends_text(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await send({"type": "http.response.body", "body": "text"})


async def sends_an_unknown_event(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.trailers", "headers": []})


async def sends_text_for_a_status(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": "200 OK"})


async def sends_a_header_that_is_two(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 200, [(b"x-a", b"1\r\nset-cookie: b=2")])
    await end(send)


async def is_too_short_at_once(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 200, [(b"content-length", b"10")])
    await chunk(send, b"short", more=False)


PROTOCOL_FAULTS = [
    (returns_nothing, "returned"),
    (returns_after_start, "returned"),
    (sends_body_first, "sent 'http.response.body'"),
    (sends_two_starts, "sent 'http.response.start'"),
    (sends_text, "body of str"),
    (sends_an_unknown_event, "http.response.trailers"),
    (sends_text_for_a_status, "200 OK"),
    (sends_a_header_that_is_two, "control characters"),
    (is_too_short_at_once, "after 5 of 10 bytes"),
]


class Impolite(BaseException):
    """Not an `Exception`."""


class TestMisbehaviour:
    """Each ends at once, is logged, and harms no other request."""

    @pytest.mark.parametrize(("sinner", "what"), PROTOCOL_FAULTS, ids=lambda value: getattr(value, "__name__", ""))
    def test_a_broken_protocol_before_the_body_is_raised_and_logged(
        self, sinner: Callable[..., Any], what: str, log: LogWatch
    ) -> None:
        """The server answers 500; middleware around us sees the exception."""
        with adapted(sinner) as adapter, Served(adapter, environ_for("GET", "/sin")) as served:
            with pytest.raises(ApplicationProtocolError) as raised:
                served.call()

            assert not served.started.is_set()
            assert 1 == adapter.stats().aborted
        assert what in str(raised.value)
        assert 1 == len(log.having("ERROR", "GET", "'/sin'", "raised", what))

    @pytest.mark.parametrize("awaits", [False, True])
    def test_an_error_before_the_body_is_raised_with_the_apps_traceback(self, awaits: bool, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if awaits:
                await asyncio.sleep(0)
            raise LookupError("of the app")

        with adapted(app) as adapter, Served(adapter) as served:
            with pytest.raises(LookupError, match="of the app") as raised:
                served.call()

            assert not served.started.is_set()
        assert "app" == traceback.extract_tb(raised.value.__traceback__)[-1].name
        assert log.having("ERROR", "raised", "Traceback", "LookupError: of the app")

    def test_an_error_right_after_the_start_is_still_a_500(self) -> None:
        """The head has not left, so that the server can answer."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            raise LookupError("of the app")

        with adapted(app) as adapter, Served(adapter) as served:
            with pytest.raises(LookupError):
                served.call()
            assert not served.started.is_set()

    def test_an_error_within_the_body_is_raised_from_the_iterator(self, log: LogWatch) -> None:
        """So that the server breaks the response off, instead of ending it as if it were whole."""
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"half")
            await go_on.waited()
            raise LookupError("of the app")

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"half" == served.call().next()
            go_on.set()
            with pytest.raises(LookupError, match="of the app"):
                served.next()
            served.close()
            assert 1 == adapter.stats().aborted
            assert 0 == adapter.stats().client_disconnects
        assert 1 == len(log.having("ERROR", "LookupError"))

    def test_chunks_before_an_error_are_handed_over_first(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await asyncio.sleep(0)
            await chunk(send, b"said")
            raise LookupError("and done")

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"said" == served.call().next()
            with pytest.raises(LookupError):
                served.next()
            served.close()

    @pytest.mark.parametrize("streams", [False, True])
    def test_half_a_response_is_an_error(self, streams: bool) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"half")
            if streams:
                await asyncio.sleep(0)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call()
            with pytest.raises(ApplicationProtocolError, match="returned"):
                served.rest()
            served.close()

    @pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit, Impolite])
    @pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def test_what_is_no_exception_ends_the_request_and_nothing_else(
        self, kind: type[BaseException], factory: Any, log: LogWatch
    ) -> None:
        """The server gets an `Exception`: the others would end its thread or its process."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/sin":
                raise kind("of the app")
            await hello(scope, receive, send)

        with adapted(app, loop_factory=factory) as adapter:
            with Served(adapter, environ_for("GET", "/sin")) as served, pytest.raises(RuntimeError) as raised:
                served.call()
            assert b"hello" == ask(adapter).body

        assert isinstance(raised.value.__cause__, kind)
        assert log.having("ERROR", kind.__name__)

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize("factory", [None, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def test_an_exit_in_a_task_of_the_app_does_not_stop_the_loop(
        self, kind: type[BaseException], factory: Any, log: LogWatch
    ) -> None:
        """asyncio lets these two out of its loop; the requests at work go on."""
        exited, loops = Flag(), []

        async def exits() -> None:
            raise kind("of a task")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            if scope["path"] == "/sin":
                with pytest.raises(kind):
                    await asyncio.create_task(exits())
                exited.set()
                await reply(send, b"sinned")
                return
            await start(send)
            await chunk(send, b"before")
            await exited.waited()
            await chunk(send, b"after", more=False)

        with adapted(app, loop_factory=factory) as adapter, Served(adapter) as other:
            assert b"before" == other.call().next()
            assert b"sinned" == ask(adapter, environ_for("GET", "/sin")).body
            assert b"after" == other.rest()
            other.close()
            assert b"before" == ask(adapter).chunks[0][:6]

        assert 1 == len(set(loops))
        assert log.having("ERROR", kind.__name__, "of a task")

    def test_an_app_that_stops_the_loop_does_not_stop_it(self, log: LogWatch) -> None:
        """As with an exit: the loop is not the application's."""
        stopped, loops = Flag(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            if scope["path"] == "/sin":
                loops[0].stop()
                stopped.set()
                await asyncio.sleep(0.001)
                await reply(send, b"sinned")
                return
            await start(send)
            await chunk(send, b"before")
            await stopped.waited()
            await chunk(send, b"after", more=False)

        with adapted(app) as adapter, Served(adapter) as other:
            assert b"before" == other.call().next()
            assert b"sinned" == ask(adapter, environ_for("GET", "/sin")).body
            assert b"after" == other.rest()
            other.close()

        assert 1 == len(set(loops))
        assert log.complaints()

    def test_a_sync_app_fails_its_requests(self, log: LogWatch) -> None:
        sync = lambda scope, receive, send: None  # noqa: E731
        with adapted(sync) as adapter, Served(adapter) as served, pytest.raises(TypeError, match="await"):
            served.call()

        assert log.having("ERROR", "TypeError")

    def test_what_exceeds_content_length_is_cut_and_logged(self, log: LogWatch) -> None:
        """RFC 9110 8.6: the surplus would be taken for the next response."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"5")])
            await chunk(send, b"hel")
            await chunk(send, b"lo, wor")
            await chunk(send, b"ld", more=False)

        with adapted(app) as adapter:
            assert b"hello" == ask(adapter).body
            assert 1 == adapter.stats().served

        assert 1 == len(log.having("ERROR", "more than its Content-Length"))

    def test_a_stream_that_is_too_short_is_broken_off(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, 200, [(b"content-length", b"10")])
            await chunk(send, b"short")
            await asyncio.sleep(0)
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"short" == served.call().next()
            with pytest.raises(ApplicationProtocolError, match="5 of 10 bytes"):
                served.next()
            served.close()

        assert log.having("ERROR", "5 of 10 bytes")

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "http.response.start", "status": 500, "headers": []},
            {"type": "http.response.body", "body": b"again"},
            {"type": "http.response.body", "body": b"again", "more_body": True},
        ],
    )
    def test_events_after_the_end_are_ignored(self, event: Any) -> None:
        """ASGI HTTP, "Response Body"."""
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"all")
            for _ in range(100):
                await send(event)
            over.set()

        with adapted(app) as adapter:
            served = ask(adapter)
            over.wait()
            assert 1 == adapter.stats().served

        assert ("200 OK", b"all") == (served.status, served.body)

    def test_an_error_after_the_end_is_logged_and_harms_nobody(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"all")
            raise LookupError("too late")

        with adapted(app) as adapter:
            assert b"all" == ask(adapter).body
            log.wait_for("ERROR", "after its response was complete", "LookupError: too late")
            assert (1, 0) == (adapter.stats().served, adapter.stats().aborted)

    def test_an_error_of_the_servers_start_response_reaches_the_app_as_a_disconnect(self) -> None:
        """The server has failed; the app must not wait for it."""
        app = Recorder()

        async def streams(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await start(send)
            await chunk(send, b"x")
            await app(scope, receive, send)

        def fail() -> None:
            raise AssertionError("the server does not like these headers")

        with adapted(streams) as adapter, Served(adapter) as served:
            served.on_start = fail
            with pytest.raises(AssertionError, match="does not like"):
                served.call()
            app.over.wait()

        assert ["http.disconnect"] * 2 == app.kinds


# --- clients that leave -----------------------------------------------------------------------------------------------


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


# --- after the response -----------------------------------------------------------------------------------------------


class TestBackgroundTask:
    """What the application does after its last event delays nobody."""

    @pytest.mark.parametrize("streams", [False, True])
    def test_the_response_does_not_wait_for_it(self, streams: bool) -> None:
        go_on, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            if streams:
                await asyncio.sleep(0)
            await chunk(send, b"answer", more=False)
            await go_on.waited()
            over.set()

        with adapted(app) as adapter:
            assert b"answer" == ask(adapter).body
            assert not over.is_set()
            assert 1 == adapter.stats().busy
            go_on.set()
            over.wait()

    def test_the_server_may_close_while_it_runs(self) -> None:
        """A response that is complete cannot be disconnected from."""
        events: list[str] = []
        go_on, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"answer")
            await end(send)
            await go_on.waited()
            events.append((await receive())["type"])
            await asyncio.sleep(0.02)
            over.set()

        with adapted(app, disconnect_grace=0.001) as adapter:
            ask(adapter)
            go_on.set()
            over.wait()
            assert 0 == adapter.stats().client_disconnects

        assert ["http.disconnect"] == events


# --- thread-sensitive work --------------------------------------------------------------------------------------------


class TestThreadSensitive:
    """What asgiref calls so runs in the thread that waits for the request, as in a plain WSGI application."""

    def test_it_runs_in_the_servers_thread(self) -> None:
        from asgiref.sync import sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen = {await sync_to_async(threading.get_ident)() for _ in range(3)}
            seen.add(await asyncio.create_task(sync_to_async(threading.get_ident)()))
            await reply(send, repr(seen).encode())

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
            assert repr({served.thread.ident}).encode() == served.body

    def test_it_runs_there_after_the_last_body_event_too(self) -> None:
        """Django's request_finished comes then, and closes the connections of that thread."""
        from asgiref.sync import sync_to_async

        threads: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            threads.append(await sync_to_async(threading.get_ident)())
            await reply(send, b"ok")
            await asyncio.sleep(0.01)
            threads.append(await sync_to_async(threading.get_ident)())

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"ok" == served.run().body
            assert [served.thread.ident] * 2 == threads

    def test_it_runs_there_when_the_server_stops_at_content_length(self) -> None:
        """close() without having asked for the end (PEP 3333 demands no more of a server)."""
        from asgiref.sync import sync_to_async

        threads: list[int] = []
        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            threads.append(await sync_to_async(threading.get_ident)())
            await reply(send, b"ok")
            await asyncio.sleep(0.01)
            threads.append(await sync_to_async(threading.get_ident)())
            over.set()

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"ok" == served.call().next()
            served.close()
            over.wait()
            assert [served.thread.ident] * 2 == threads

    def test_the_chunk_is_out_before_the_thread_stays_for_more(self) -> None:
        from asgiref.sync import sync_to_async

        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")
            await go_on.waited()
            await sync_to_async(int)()

        with adapted(app, disconnect_grace=FOREVER) as adapter, Served(adapter) as served:
            assert b"ok" == served.call().next()
            go_on.set()
            assert served.next() is None
            served.close()

    def test_the_thread_does_not_stay_for_ever(self) -> None:
        """A background task must not keep a server's thread: after the grace it is let go."""
        from asgiref.sync import sync_to_async

        over = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")
            await over.waited()

        with adapted(app, disconnect_grace=0.02) as adapter:
            assert b"ok" == ask(adapter).body
            assert not over.is_set()
            over.set()

    def test_what_comes_after_the_thread_has_left_runs_elsewhere(self) -> None:
        """Not in the thread, which may be in another request by then; and one after the other."""
        from asgiref.sync import sync_to_async

        gone, over = Flag(), Flag()
        results: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, b"ok")
            await gone.waited()
            results.extend(await asyncio.gather(*[sync_to_async(threading.get_ident)() for _ in range(5)]))
            over.set()

        with adapted(app) as adapter, Served(adapter) as served:
            assert b"ok" == served.run().body
            gone.set()
            over.wait()
            assert 1 == len(set(results))
            assert served.thread.ident not in results

    def test_its_errors_reach_the_app(self) -> None:
        from asgiref.sync import sync_to_async

        def fails() -> None:
            raise LookupError("of the work")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(LookupError, match="of the work"):
                await sync_to_async(fails)()
            await reply(send, b"caught")

        with adapted(app) as adapter:
            assert b"caught" == ask(adapter).body

    def test_async_code_called_from_it_runs_on_the_loop(self) -> None:
        from asgiref.sync import async_to_sync, sync_to_async

        loops: list[object] = []

        async def inner() -> int:
            loops.append(asyncio.get_running_loop())
            return await sync_to_async(threading.get_ident)()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            ident = await sync_to_async(async_to_sync(inner))()
            await reply(send, str(ident).encode())

        with adapted(app) as adapter, Served(adapter) as served:
            assert str(served.thread.ident).encode() == served.run().body

        assert loops[0] is loops[1]

    def test_contextvars_go_there_and_back(self) -> None:
        from asgiref.sync import sync_to_async

        seen: list[str] = []

        def work() -> None:
            seen.append(user.get())
            user.set("set in the thread")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            user.set("set on the loop")
            await sync_to_async(work)()
            await reply(send, user.get().encode())

        with adapted(app) as adapter:
            assert b"set in the thread" == ask(adapter).body

        assert ["set on the loop"] == seen
        assert "nobody" == user.get("nobody")

    def test_requests_at_once_use_their_own_threads(self) -> None:
        from asgiref.sync import sync_to_async

        together = threading.Barrier(4, timeout=8)

        def meet() -> int:
            together.wait()
            return threading.get_ident()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, str(await sync_to_async(meet)()).encode())

        with adapted(app) as adapter:
            requests = [Served(adapter) for _ in range(4)]
            for ended in [served.begin() for served in requests]:
                ended()
            for served in requests:
                assert str(served.thread.ident).encode() == served.rest()
                served.close()
                served.thread.end()

    @pytest.mark.usefixtures("looks_often")
    def test_work_in_progress_ends_before_the_thread_leaves(self) -> None:
        """A transaction must not be left in the middle because the client has left."""
        from asgiref.sync import sync_to_async

        events: list[str] = []
        at_work = Flag()
        client, server = socket.socketpair()

        def transaction() -> None:
            events.append("begin")
            at_work.set()
            left.wait()
            events.append("commit")

        left = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(transaction)()
            await reply(send)

        environ = environ_for("GET", "/", werkzeug__socket=server)
        with client, server, adapted(app) as adapter, Served(adapter, environ) as served:
            ended = served.begin()
            at_work.wait()
            client.close()
            left.set()
            ended()
            served.close()

        assert ["begin", "commit"] == events

    def test_a_server_thread_within_async_to_sync_does_not_wait_for_itself(self) -> None:
        """asgiref would send the work to the outer call's thread, which is the one that waits for the response."""
        from asgiref.sync import async_to_sync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await reply(send, b"ok")

        with adapted(app) as adapter:

            def request() -> bytes:
                body = adapter(environ_for("GET", "/"), lambda *_: None)
                return b"".join(body)

            async def outer() -> bytes:
                return await sync_to_async(request)()

            assert b"ok" == Work(lambda: async_to_sync(outer)()).result()

    def test_it_leaves_no_trace_in_the_servers_thread(self) -> None:
        """Another application may use that thread next, and its async code has nothing to do with our loop."""
        from asgiref.sync import async_to_sync, sync_to_async

        loops: list[asyncio.AbstractEventLoop] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await sync_to_async(int)()
            await reply(send)

        async def running_loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
            assert served.thread.run(async_to_sync(running_loop)) is not loops[0]

    def test_a_second_close_changes_nothing_in_the_thread(self) -> None:
        """The thread may be at something else by then, with thread-locals of its own."""
        from asgiref.sync import SyncToAsync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await sync_to_async(int)()
            await start(send)
            await asyncio.sleep(0)
            await end(send)

        def set_of_somebody_else() -> None:
            SyncToAsync.threadlocal.main_event_loop = "of somebody else"

        with adapted(app) as adapter, Served(adapter) as served:
            served.run()
            served.thread.run(set_of_somebody_else)
            served.close()
            assert "of somebody else" == served.thread.run(lambda: SyncToAsync.threadlocal.main_event_loop)

    def test_django_runs_signals_and_view_in_the_servers_thread(self) -> None:
        """Its ASGI handler makes a thread per request elsewhere; persistent database connections need this one."""
        lines = run_script(DJANGO)

        assert ["started True", "middleware True", "view True", "finished True", "200 OK", "b'from the view'"] == lines[
            :6
        ]
        assert ["finished True", "200 OK", "b'streamed'"] == lines[-3:]

    def test_sync_endpoints_of_starlette_share_few_threads(self) -> None:
        """anyio makes and ends a thread for each, unless the loop is run through a root task."""
        lines = run_script(STARLETTE)

        assert "300 served" == lines[0]
        assert int(lines[1]) < 20, "a new thread for nearly each"


DJANGO = """
import threading
import django
from asgiref.sync import iscoroutinefunction
from django.conf import settings
settings.configure(
    SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True,
    MIDDLEWARE=["__main__.middleware", "django.middleware.common.CommonMiddleware"],
)
django.setup()
from django.core import signals
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from bridge import AsgiToWsgi, WsgiToAsgi
from support.scripted_wsgi_server import Served, environ_for

def tell(what):
    print(what, threading.get_ident() == served.thread.ident)

def middleware(get_response):
    def run(request):
        tell("middleware")
        return get_response(request)
    return run

def view(request):
    tell("view")
    return HttpResponse(b"from the view")

async def stream(request):
    async def pieces():
        yield b"stre"
        yield b"amed"
    return StreamingHttpResponse(pieces())

urlpatterns = [path("", view), path("stream", stream)]
signals.request_started.connect(lambda **_: tell("started"), weak=False)
signals.request_finished.connect(lambda **_: tell("finished"), weak=False)
with AsgiToWsgi(get_asgi_application()) as adapter:
    for where in "/", "/stream":
        with Served(adapter, environ_for("GET", where)) as served:
            served.run()
            print(served.status)
            print(served.body)
"""

STARLETTE = """
import threading
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from bridge import AsgiToWsgi, WsgiToAsgi
from support.scripted_wsgi_server import ask, environ_for

seen = set()
def endpoint(request):
    seen.add(threading.get_native_id())
    return PlainTextResponse("ok")

with AsgiToWsgi(Starlette(routes=[Route("/", endpoint)])) as adapter:
    served = sum(ask(adapter).body == b"ok" for _ in range(300))
print(served, "served")
print(len(seen))
"""


# --- extensions -------------------------------------------------------------------------------------------------------


class Wrapper:
    """A `wsgi.file_wrapper`."""

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        self.file = file
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.file.read(self.block_size), b"")

    def close(self) -> None:
        self.file.close()


@pytest.fixture(name="file")
def file_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content of the file" * 10000)
    return path


def sends_path(file: Path, *, pauses: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send, 200, [(b"content-length", b"%d" % file.stat().st_size)])
        if pauses:
            await asyncio.sleep(0.001)
        await send({"type": "http.response.pathsend", "path": str(file)})

    return app


class TestPathSend:
    """`http.response.pathsend` through `wsgi.file_wrapper` (PEP 3333, "Optional ... File Handling")."""

    def test_the_wrapper_of_the_server_is_returned_itself(self, file: Path) -> None:
        """Servers look for its type, and send the file by themselves."""
        with adapted(sends_path(file)) as adapter:
            served = ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper))

            assert Wrapper is type(served.result)
            assert file.read_bytes() == served.body
            assert served.result.file.closed
            assert 1 == adapter.stats().served

    def test_after_the_head_has_left_the_bytes_of_the_file_are_sent(self, file: Path) -> None:
        """A middleware between the app and us may pause after the start."""
        with adapted(sends_path(file, pauses=True)) as adapter:
            assert file.read_bytes() == ask(adapter, environ_for("GET", "/", wsgi__file_wrapper=Wrapper)).body

    @pytest.mark.parametrize("pauses", [False, True])
    def test_a_head_request_gets_no_file(self, file: Path, pauses: bool) -> None:
        with adapted(sends_path(file, pauses=pauses)) as adapter:
            served = ask(adapter, environ_for("HEAD", "/", wsgi__file_wrapper=Wrapper))

        assert b"" == served.body
        assert ["190000"] == served.header("content-length")

    def test_a_file_that_is_not_there_is_an_error_before_the_head(self, tmp_path: Path, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await send({"type": "http.response.pathsend", "path": str(tmp_path / "missing")})

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(app) as adapter, Served(adapter, environ) as served:
            with pytest.raises(FileNotFoundError):
                served.call()
            assert not served.started.is_set()

        assert log.having("ERROR", "missing")

    def test_a_server_that_fails_at_the_head_leaves_no_open_file(self, file: Path) -> None:
        def fail() -> None:
            raise AssertionError("no")

        environ = environ_for("GET", "/", wsgi__file_wrapper=Wrapper)
        with adapted(sends_path(file)) as adapter, Served(adapter, environ) as served:
            served.on_start = fail
            with pytest.raises(AssertionError, match="no"):
                served.call()

    def test_it_is_not_offered_where_the_server_has_no_wrapper(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, repr(sorted(scope["extensions"])).encode())

        with adapted(app) as adapter:
            assert b"[]" == ask(adapter).body


class TestEarlyHint:
    """`http.response.early_hint` through `wsgi.early_hints`, which Gunicorn has."""

    def test_links_are_sent_before_the_response(self) -> None:
        events: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert {} == scope["extensions"]["http.response.early_hint"]
            await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]})
            await reply(send, b"ok")

        environ = environ_for("GET", "/", wsgi__early_hints=events.append)
        with adapted(app) as adapter, Served(adapter, environ) as served:
            served.on_start = lambda: events.append("head")
            served.run()

        assert [[("Link", "</a>; rel=preload"), ("Link", "</b>")], "head"] == events

    def test_they_are_sent_while_the_app_works(self) -> None:
        hinted = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            await hinted.waited()
            await reply(send, b"ok")

        with adapted(app) as adapter:
            assert b"ok" == ask(adapter, environ_for("GET", "/", wsgi__early_hints=lambda _: hinted.set())).body

    @pytest.mark.parametrize("pauses", [False, True])
    def test_after_the_start_they_do_not_get_into_the_body(self, pauses: bool) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            if pauses:
                await asyncio.sleep(0.001)
            await send({"type": "http.response.early_hint", "links": [b"</a>"]})
            await chunk(send, b"ok", more=False)

        with adapted(app) as adapter:
            assert b"ok" == ask(adapter, environ_for("GET", "/", wsgi__early_hints=lambda _: None)).body


# --- what is around a request -----------------------------------------------------------------------------------------

user: contextvars.ContextVar[str] = contextvars.ContextVar("user")


class TestContext:
    """The app runs in a copy of the caller's context."""

    def test_contextvars_of_the_caller_are_seen_and_stay_as_they_are(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen = user.get()
            user.set("mallory")
            await reply(send, seen.encode())

        with adapted(app) as adapter, Served(adapter) as served, Served(adapter) as another:

            def enter() -> None:
                user.set("alice")

            served.thread.run(enter)
            served.run()
            assert b"alice" == served.body
            assert "alice" == served.thread.run(user.get)
            with pytest.raises(LookupError):
                another.call()

    def test_locals_of_asgiref_are_seen_on_the_loop_and_in_the_thread(self) -> None:
        """Django keeps the active language in one, for instance."""
        from asgiref.local import Local
        from asgiref.sync import sync_to_async

        local = Local()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen = [local.language, await sync_to_async(lambda: local.language)()]
            await reply(send, repr(seen).encode())

        with adapted(app) as adapter, Served(adapter) as served:
            served.thread.run(lambda: setattr(local, "language", "la"))
            assert b"['la', 'la']" == served.run().body

    def test_contextvars_of_one_request_are_not_seen_in_the_next(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            before = user.get("nobody")
            user.set("somebody")
            await reply(send, before.encode())

        with adapted(app) as adapter:
            assert [b"nobody"] * 3 == [ask(adapter).body for _ in range(3)]

    def test_the_environ_is_in_the_scope(self) -> None:
        scopes: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await reply(send)

        environ = environ_for("GET", "/")
        with adapted(app) as adapter:
            ask(adapter, environ)

        assert environ is scopes[0]["wsgi_environ"]
        assert {} == scopes[0]["state"]

    @pytest.mark.parametrize(
        ("key", "value"), [("CONTENT_LENGTH", "-1"), ("CONTENT_LENGTH", "1, 2"), ("HTTP_X", "a\nb")]
    )
    def test_a_request_that_must_be_refused_never_reaches_the_app(self, key: str, value: str) -> None:
        with adapted(returns_nothing) as adapter:
            served = ask(adapter, environ_for("POST", "/", **{key: value}))

            assert "400 Bad Request" == served.status
            assert [str(len(served.body))] == served.header("content-length")
            assert 1 == adapter.stats().rejected


class TestManyAtOnce:
    """One loop serves all callers."""

    def test_eight_caller_threads(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = await read_body(receive)
            await asyncio.sleep(0)
            if len(body) % 2:
                await start(send)
                for at in range(0, len(body), 1000):
                    await chunk(send, body[at : at + 1000])
                await end(send)
            else:
                await reply(send, body)

        def caller(number: int) -> Callable[[], int]:
            def run() -> int:
                good = 0
                for turn in range(25):
                    body = bytes([number]) * (turn * 307 % 5000)
                    seen: list[bytes] = []
                    iterable = adapter(environ_for("POST", "/", body), lambda *_: None)
                    seen.extend(iterable)
                    if hasattr(iterable, "close"):
                        iterable.close()
                    good += b"".join(seen) == body
                return good

            return run

        with adapted(app) as adapter:
            callers = [Work(caller(number)) for number in range(8)]
            assert [25] * 8 == [work.result() for work in callers]
            assert 200 == adapter.stats().served

    def test_two_hundred_requests_meet_on_one_loop(self) -> None:
        """None waits for another to be answered first."""
        count = 200
        waiting = 0
        everybody: asyncio.Event | None = None

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal waiting, everybody
            everybody = everybody or asyncio.Event()
            waiting += 1
            if waiting == count:
                everybody.set()
            await everybody.wait()
            await reply(send, scope["path"].encode())

        with adapted(app) as adapter:

            def caller(number: int) -> Callable[[], bytes]:
                return lambda: b"".join(adapter(environ_for("GET", f"/{number}"), lambda *_: None))

            callers = [Work(caller(number)) for number in range(count)]
            assert [f"/{number}".encode() for number in range(count)] == [work.result() for work in callers]
            assert (count, 0) == (adapter.stats().served, adapter.stats().busy)

    def test_a_caller_whose_thread_runs_a_loop_of_its_own(self) -> None:
        """A WSGI test client within an async test, say."""
        loops: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await reply(send, b"ok")

        async def caller() -> None:
            loops.append(asyncio.get_running_loop())
            assert b"ok" == b"".join(adapter(environ_for("GET", "/"), lambda *_: None))

        with adapted(app) as adapter:
            bounded(lambda: asyncio.run(caller()))

        assert loops[0] is not loops[1]

    def test_a_call_on_the_private_loop_itself_is_refused(self) -> None:
        """Its thread would wait for itself, and every other request for it."""
        script = """
from bridge import AsgiToWsgi, WsgiToAsgi
from support.plain_servers import environ_for
from support.asgi_apps import reply
from support.scripted_wsgi_server import ask

async def app(scope, receive, send):
    if scope["path"] == "/":
        try:
            adapter(environ_for("GET", "/inner"), lambda *_: None)
        except RuntimeError as error:
            print("refused", "loop" in str(error))
    await reply(send, b"ok")

with AsgiToWsgi(app, lifespan="off") as adapter:
    print(ask(adapter).body)
"""
        assert ["refused True", "b'ok'"] == run_script(script)

    @pytest.mark.parametrize("streams", [False, True])
    def test_a_request_leaves_no_garbage(self, streams: bool) -> None:
        """What refers to itself stays until the collector comes, which costs every request a little."""

        class Tracer:
            pass

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await read_body(receive)
            await start(send)
            if streams:
                await chunk(send, b"x")
                await asyncio.sleep(0)
            await chunk(send, b"y", more=False)

        def request() -> "weakref.ref[Tracer]":
            tracer = Tracer()
            environ = environ_for("POST", "/", b"body") | {"tracer": tracer}
            iterable = adapter(environ, lambda *_: None)
            assert b"".join(iterable)
            if hasattr(iterable, "close"):
                iterable.close()
            return weakref.ref(tracer)

        with adapted(app) as adapter:
            gc.collect()
            gc.disable()
            try:
                tracers = [bounded(request) for _ in range(3)]
                # The task may have had its last step to take when the thread had left already.
                bounded(request)
                assert [None, None] == [tracer() for tracer in tracers[:2]]
            finally:
                gc.enable()

    @pytest.mark.parametrize("mode", ["debug", *(["eager"] if hasattr(asyncio, "eager_task_factory") else [])])
    def test_modes_of_the_loop(self, mode: str) -> None:
        """The debug mode checks, for one, that other threads make threadsafe calls alone; eager tasks begin at once."""

        def factory() -> asyncio.AbstractEventLoop:
            loop = asyncio.new_event_loop()
            if mode == "debug":
                loop.set_debug(True)
            else:
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
            return loop

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/sin":
                raise LookupError("at once")
            body = await read_body(receive)
            await start(send)
            await chunk(send, body)
            await chunk(send, body, more=False)

        with adapted(app, loop_factory=factory) as adapter:
            data = b"x" * 200_000
            assert 2 * data == ask(adapter, upload(Input(data), len(data))).body
            assert b"" == ask(adapter).body
            with Served(adapter, environ_for("GET", "/sin")) as served, pytest.raises(LookupError):
                served.call()
            assert 0 == adapter.stats().busy

    def test_uvloop(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
            await reply(send, await read_body(receive))

        with adapted(app, loop_factory=uvloop.new_event_loop) as adapter:
            assert b"body" == ask(adapter, environ_for("POST", "/", b"body")).body


class TestWebSocket:
    """A WSGI server cannot hand one over."""

    def test_an_upgrade_is_plain_http_and_warned_of_once(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await reply(send, scope["type"].encode())

        environ = {"HTTP_UPGRADE": "WebSocket", "HTTP_CONNECTION": "Upgrade", "SERVER_SOFTWARE": "AncientServer/1.0"}
        with adapted(app) as adapter:
            bodies = [ask(adapter, environ_for("GET", "/", **environ)).body for _ in range(3)]

        assert [b"http"] * 3 == bodies
        assert 1 == len(log.having("WARNING", "AncientServer/1.0", "WebSocket"))


class TestObservability:
    """What the adapter tells of itself."""

    @pytest.mark.usefixtures("looks_often")
    def test_a_blocked_loop_is_logged_with_its_stack(self, log: LogWatch) -> None:
        go_on = Flag()

        def the_culprit() -> None:
            go_on.wait()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            the_culprit()
            await reply(send)

        with adapted(app, slow_warning=0.01) as adapter, Served(adapter) as served:
            ended = served.begin()
            log.wait_for("WARNING", "the event loop has been blocked", "the_culprit")
            assert adapter.stats().longest_block > 0.01
            go_on.set()
            ended()
            served.close()

        assert 1 == len(log.having("has been blocked"))
        assert adapter.stats().longest_block > 0.01

    @pytest.mark.usefixtures("looks_often")
    def test_slow_requests_on_a_free_loop_are_no_warning(self, log: LogWatch) -> None:
        looked = Flag()

        def client_disconnected() -> bool:
            looked.set()  # the thread looks after the client and after the loop in one go
            return False

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await looked.waited()
            await asyncio.sleep(0.05)
            await reply(send)

        with adapted(app, slow_warning=0.01) as adapter:
            ask(adapter, environ_for("GET", "/", waitress__client_disconnected=client_disconnected))

        assert [] == log.complaints()

    def test_stats_are_a_frozen_record_of_counts(self) -> None:
        with adapted(hello) as adapter:
            stats = adapter.stats()
            assert (0, 0, 0) == (stats.tasks, stats.busy, stats.served)
            ask(adapter)
            with pytest.raises(AttributeError):
                stats.served = 7  # type: ignore[misc]
            assert (1, 0) == (adapter.stats().served, adapter.stats().busy)
        assert (1, 0) == (adapter.stats().served, adapter.stats().tasks)

    def test_tasks_and_busy_requests_are_counted(self) -> None:
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"x")
            await go_on.waited()
            await end(send)

        with adapted(app) as adapter, Served(adapter) as served:
            served.call().next()
            assert (1, 1, 0) == (adapter.stats().tasks, adapter.stats().busy, adapter.stats().served)
            go_on.set()
            assert served.next() is None
            served.close()
