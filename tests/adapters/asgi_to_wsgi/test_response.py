"""The response of an ASGI app as a WSGI server sees it: whole, without a body, or as a stream."""

import asyncio
import socket
from typing import Any

import pytest

from bridge import WsgiToAsgi
from support.asgi_apps import chunk, end, hello, reply, start
from support.patience import PATIENCE
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.sizes import BOUND
from support.waiting import FOREVER, Flag, LogWatch, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


@pytest.mark.usefixtures("heads_wait_for_bodies")
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
    def test_what_has_no_body_is_one_empty_bytestring(self, method: str, status: int, body: bytes) -> None:
        """RFC 9110 6.4.1: the bytes would be taken for the next response. There are servers that fail at no chunk, and
        servers that wait for as many bytes as the header says, but for HEAD.
        """

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, status, [(b"content-length", b"7")])
            await chunk(send, body, more=False)

        with adapted(app) as adapter:
            served = ask(adapter, environ_for(method, "/"))

        assert [b""] == served.result
        assert (["7"] if method == "HEAD" else []) == served.header("content-length")

    def test_no_length_is_worked_out_for_head(self) -> None:
        """RFC 9110 8.6: that of a list of one bytestring would be 0, and GET may say another one."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"as long as GET says", more=False)

        with adapted(app) as adapter:
            served = ask(adapter, environ_for("HEAD", "/"))

        assert [b""] == served.chunks
        assert not hasattr(served.result, "__len__")
        assert [] == served.header("content-length")

    def test_a_stream_of_nothing_is_one_empty_bytestring(self) -> None:
        begun = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"")
            await begun.waited()
            await chunk(send, b"", more=False)

        with adapted(app) as adapter, Served(adapter) as served:
            served.on_start = begun.set
            assert [b""] == served.run().chunks

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
                client = socket.create_connection(listening.getsockname(), timeout=PATIENCE)
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
