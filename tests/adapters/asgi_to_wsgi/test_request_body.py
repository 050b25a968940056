"""The request body: read in the server's thread as the app asks for it; and answers that do not wait for it."""

import asyncio
import io
import socket
from pathlib import Path
from typing import Any

import pytest

import servers
from bridge.errors import ClientDisconnected
from support.asgi_apps import Recorder, chunk, echo, end, hello, read_body, reply, start
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Input, Served, adapted, ask, upload
from support.waiting import Flag, LogWatch

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


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

    @pytest.mark.parametrize("changes", [{}, {"CONTENT_LENGTH": ""}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
    def test_an_input_that_ends_by_itself_is_read_to_its_end(self, changes: dict[str, str]) -> None:
        """Test clients and servers that have decoded a chunked body give it in memory, and do not say that it ends."""
        environ = environ_for("POST", "/", wsgi__input=io.BytesIO(b"x" * 100_000), **changes)
        if not changes:
            environ.pop("CONTENT_LENGTH", None)
        environ.pop("wsgi.input_terminated", None)
        with adapted(echo) as adapter:
            assert b"x" * 100_000 == ask(adapter, environ).body

    def test_a_length_that_is_a_number_is_taken_for_it(self) -> None:
        """A server gives an int."""
        with adapted(echo) as adapter:
            assert b"body" == ask(adapter, upload(io.BytesIO(b"body"), 4) | {"CONTENT_LENGTH": 4}).body

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
