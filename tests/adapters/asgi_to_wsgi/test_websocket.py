"""WebSockets through `AsgiToWsgi`, on a server of the standard library: what the client sees, and what the app does."""

import asyncio
import contextlib
import http.client
import os
import socket
import struct
import threading
from typing import Any

import pytest
import uvloop
import wsproto.events as ws

from bridge._servers import takeover
from bridge.errors import ClientDisconnected
from support.asgi_apps import reply
from support.patience import PATIENCE
from support.scripted_wsgi_server import adapted
from support.waiting import Flag, LogWatch, Work, until
from support.websocket_clients import Accepted, Client, Closed, Rejected, Site, site
from support.websocket_sessions import Recording, accept, close_under, opened


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await reply(send, b"plain")
        return
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        kept = {key: event[key] for key in ("text", "bytes") if event.get(key) is not None}
        await send({"type": "websocket.send", **kept})


def plain(running: Site) -> bytes:
    """What a plain request gets."""
    connection = http.client.HTTPConnection(*running.address, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read()


class TestMessages:
    @pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
    def test_text_and_bytes_come_back_as_they_were_sent(self, deflate: bool) -> None:
        """Of any size; and the next request on the same server is answered."""
        with opened(echo) as (running, client):
            assert Accepted(None, {}, deflate) == client.open(deflate=deflate)
            for message in ("héllo", "", b"\0\xff", b"", "x" * 200_000, b"y" * 200_000):
                client.send(message)
                assert message == client.receive()
            assert Closed(1000, "") == client.close()
            assert b"plain" == plain(running)
            assert [] == running.errors

    @pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
    def test_fragments_are_one_message(self, deflate: bool) -> None:
        """Also where a character is cut in two, and a ping comes in between."""
        app = Recording()
        with opened(app) as (_, client):
            client.open(deflate=deflate)
            client.send("a", finished=False)
            client.ping(b"now")
            client.send("", finished=False)
            client.send("b")
            client.send(b"1", finished=False)
            client.send(b"2")
            client.close()
            app.ended.wait()
            assert ["ab", b"12"] == [event.get("text", event.get("bytes")) for event in app.events[:2]]
            assert [b"now"] == client.pongs

    def test_frames_sent_with_the_handshake_are_not_lost(self) -> None:
        """The server has read them with the head."""
        app = Recording()
        with opened(app) as (_, client):
            client.open(early=bytes.fromhex("8182") + b"\0\0\0\0hi" + bytes.fromhex("8181") + b"\0\0\0\0!")
            client.close()
            app.ended.wait()
            assert ["hi", "!"] == [event["text"] for event in app.events[:2]]

    def test_a_large_message_waits_for_a_slow_reader(self) -> None:
        """`send` returns when the bytes are with the kernel, and messages of several tasks stay whole."""
        sent = threading.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await send({"type": "websocket.send", "bytes": b"z" * 16 * 2**20})
            sent.set()
            await send({"type": "websocket.send", "text": "done"})

        with opened(app) as (_, client):
            client.open()
            client.ping(b"1")
            client.ping(b"2")
            assert not sent.wait(0.2)
            assert b"z" * 16 * 2**20 == client.receive()
            assert "done" == client.receive()
            client.answer_close(client.receive())  # type: ignore[arg-type]
            assert client.pongs[-1:] == [b"2"]  # of what it could not answer yet, the latest

    def test_a_client_is_not_read_while_the_app_does_not_receive(self) -> None:
        """What it sends is bounded by buffers, and all of it arrives once the app goes on."""
        go_on, got = Flag(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await go_on.waited()
            while (event := await receive())["type"] == "websocket.receive":
                got.append(len(event["bytes"]))

        with opened(app) as (_, client):
            client.open()
            client.socket.settimeout(0.3)
            frame = client.frame(ws.BytesMessage(b"." * 60_000))
            sent, rest = 0, b""
            with contextlib.suppress(TimeoutError):
                while sent < 64 * 2**20:
                    rest = rest or frame
                    sent += (count := client.socket.send(rest))
                    rest = rest[count:]
            assert sent < 64 * 2**20
            go_on.set()
            client.socket.settimeout(PATIENCE)
            client.socket.sendall(rest)
            client.close()
        assert {60_000} == set(got)
        assert (sent + len(rest)) // len(frame) == len(got)

    def test_a_message_that_is_too_large_closes_with_1009(self) -> None:
        """Its fragments count together, and deflate does not get around it."""
        for deflate, parts in ((False, [b"a" * 60, b"b" * 60]), (False, ["é" * 51]), (True, [b"0" * 2**20])):
            app = Recording()
            with opened(app, max_message=100) as (_, client):
                client.open(deflate=deflate)
                for part in parts[:-1]:
                    client.send(part, finished=False)
                client.send(parts[-1])
                closed = client.receive()
                assert isinstance(closed, Closed)
                assert 1009 == closed.code
                client.see_the_end()
                assert 1009 == app.departure[0]


class TestHandshake:
    def test_the_scope_tells_what_the_client_asked_for(self) -> None:
        app = Recording()
        with opened(app) as (_, client):
            accepted = client.open("/room/%C3%A9?a=b", subprotocols=["one", "two"], headers=[(b"x-thing", b"1")])
            assert Accepted(None, {}, False) == accepted
            client.close()
        scope = app.scope
        assert ("websocket", "ws", "/room/é", b"a=b") == tuple(
            scope[key] for key in ("type", "scheme", "path", "query_string")
        )
        assert ["one", "two"] == scope["subprotocols"]
        assert (b"x-thing", b"1") in scope["headers"]
        assert {"websocket.http.response": {}} == scope["extensions"]
        assert "method" not in scope

    def test_a_subprotocol_and_headers_are_sent_with_the_accept(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send, subprotocol="two", headers=[(b"set-cookie", b"a=b")])

        with opened(app) as (_, client):
            assert Accepted("two", {"set-cookie": "a=b"}, False) == client.open(subprotocols=["one", "two"])
            assert Closed(1000, "") == client.receive()

    def test_a_close_before_the_accept_is_a_403(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.close", "code": 4000})
            assert "websocket.disconnect" == (await receive())["type"]

        with opened(app) as (running, client):
            rejected = client.open()
            assert isinstance(rejected, Rejected)
            assert (403, b"") == (rejected.status, rejected.body)
            assert [] == running.errors

    def test_a_denial_is_a_response_of_the_app(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            headers = [(b"x-why", b"because"), (b"content-length", b"10")]
            await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"first", "more_body": True})
            await send({"type": "websocket.http.response.body", "body": b" last"})

        with opened(app) as (running, client):
            rejected = client.open()
            assert isinstance(rejected, Rejected)
            assert (401, "because", b"first last") == (rejected.status, rejected.headers["x-why"], rejected.body)
            assert [] == running.errors

    def test_another_version_gets_426_and_the_one_that_is_spoken(self) -> None:
        with opened(echo) as (running, _):
            connection = http.client.HTTPConnection(*running.address, timeout=PATIENCE)
            with contextlib.closing(connection):
                headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "a" * 24}
                connection.request("GET", "/", headers={**headers, "Sec-WebSocket-Version": "8"})
                response = connection.getresponse()
                response.read()
            assert (426, "13") == (response.status, response.getheader("Sec-WebSocket-Version"))

    def test_an_app_that_raises_before_the_accept_is_the_servers_500(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise ZeroDivisionError

        with opened(app) as (running, client):
            assert 500 == client.open().status  # type: ignore[union-attr]
            assert [ZeroDivisionError] == list(map(type, running.errors))

    def test_an_app_that_returns_before_the_accept_is_told_so(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()

        with opened(app) as (running, client):
            assert 500 == client.open().status  # type: ignore[union-attr]
            assert "before it had accepted" in str(running.errors[0])

    def test_a_client_that_leaves_before_the_accept_is_noticed(self, looks_often: None) -> None:
        seen, ready = [], Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            ready.set()
            seen.append(await receive())
            with pytest.raises(OSError, match="left"):
                await send({"type": "websocket.accept"})

        with opened(app) as (running, client):
            client.socket.sendall(client.frame(ws.Request("localhost", "/")))
            ready.wait()
            client.socket.close()
            until(lambda: running.errors)
        assert [{"type": "websocket.disconnect", "code": 1006, "reason": ""}] == seen


class TestClose:
    def test_the_app_is_told_how_the_client_closed(self) -> None:
        app = Recording()
        with opened(app) as (_, client):
            client.open()
            assert Closed(4001, "bye") == client.close(4001, "bye")
        assert (4001, "bye") == app.departure

    def test_a_close_without_a_code_is_1005(self) -> None:
        app = Recording()
        with opened(app) as (_, client):
            client.open()
            client.raw(bytes.fromhex("8880") + b"\0\0\0\0")
            assert Closed(1005, "") == client.receive()
        assert (1005, "") == app.departure

    def test_a_client_that_closes_while_the_loop_begins_to_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The thread does not close the descriptor under the loop's hands: its number may be another connection's."""
        app, ended, closing = Recording(), Flag(), Flag()
        twin, end = takeover._PlainWire.twin, takeover._PlainWire.end

        def late_twin(wire: Any) -> Any:
            closing.set()
            assert not ended.comes()
            return twin(wire)

        def told_end(wire: Any) -> None:
            ended.set()
            end(wire)

        monkeypatch.setattr(takeover._PlainWire, "twin", late_twin)
        monkeypatch.setattr(takeover._PlainWire, "end", told_end)
        with opened(app) as (_, client):
            client.open()
            closing.wait()
            assert Closed(4001, "bye") == client.close(4001, "bye")
            assert (4001, "bye") == app.departure

    def test_an_abrupt_client_is_1006(self) -> None:
        app = Recording()
        with opened(app) as (_, client):
            client.open()
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()
            assert (1006, "") == app.departure

    def test_the_client_is_told_how_the_app_closed(self) -> None:
        """And the app goes on, and is told how the client answered."""
        events = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await send({"type": "websocket.close", "code": 3005, "reason": "enough"})
            events.append(await receive())

        with opened(app) as (_, client):
            client.open()
            closed = client.receive()
            assert Closed(3005, "enough") == closed
            client.answer_close(closed)
        assert [{"type": "websocket.disconnect", "code": 3005, "reason": "enough"}] == events

    def test_a_client_that_does_not_answer_the_close_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not for ever."""
        monkeypatch.setattr("bridge._asgi_to_wsgi.websocket._CLOSE_SECONDS", 0.2)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await send({"type": "websocket.close"})

        with opened(app) as (_, client):
            client.open()
            assert Closed(1000, "") == client.receive()
            client.see_the_end()

    def test_an_app_that_returns_has_closed(self) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)

        with opened(app) as (_, client):
            client.open()
            closed = client.receive()
            assert Closed(1000, "") == closed
            client.answer_close(closed)

    def test_an_app_that_raises_is_a_1011(self, log: LogWatch) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            raise ZeroDivisionError

        with opened(app) as (running, client):
            client.open()
            closed = client.receive()
            assert Closed(1011, "internal error") == closed
            client.answer_close(closed)
            assert [] == running.errors
        assert log.having("ERROR", "raised")

    @pytest.mark.parametrize("event", [{"type": "websocket.send", "text": "late"}, {"type": "websocket.close"}])
    def test_sending_to_a_client_that_left_is_an_os_error(self, event: Any, log: LogWatch) -> None:
        """Which is no error in the log where the app lets it pass."""
        raised = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            assert "websocket.disconnect" == (await receive())["type"]
            try:
                await send(event)
            except OSError:
                raised.set()
                raise

        with opened(app) as (_, client):
            client.open()
            client.close()
            raised.wait()
        assert [] == log.having("ERROR", "")

    def test_a_close_in_the_middle_of_sending_is_an_os_error_too(self, log: LogWatch) -> None:
        """From the moment that the close frame has been read."""
        raised = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            try:
                while True:
                    await send({"type": "websocket.send", "text": "."})
            except BaseException as error:
                raised.append(type(error))
                raise

        with adapted(app) as adapter, site(adapter) as running:
            for _ in range(10):
                with running.connect() as client:
                    client.open()
                    client.receive()
                    client.close()
            until(lambda: len(raised) == 10)
        assert {ClientDisconnected} == set(raised)
        assert [] == log.having("ERROR", "")

    def test_an_app_that_does_not_listen_is_cancelled(self) -> None:
        cancelled, never = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            try:
                await never.waited()
            finally:
                cancelled.set()

        with opened(app, disconnect_grace=0.05) as (_, client):
            client.open()
            client.close()
            cancelled.wait()

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ("83 80 00000000", 1002),  # an opcode that is none
            ("01 00", 1002),  # not masked
            ("c1 80 00000000", 1002),  # a bit of an extension that was not agreed on
            ("80 80 00000000", 1002),  # nothing to continue
            ("89 fe 0080 00000000", 1002),  # a ping that is too long
            ("81 81 00000000 ff", 1007),  # no UTF-8
            ("88 81 00000000 03", 1002),  # half a close code
            ("88 82 00000000 03ee", 1002),  # a close code that is never sent
        ],
    )
    def test_a_bad_frame_closes_with_the_code_of_the_rfc(self, frame: str, code: int) -> None:
        app = Recording()
        with opened(app) as (running, client):
            client.open()
            client.raw(bytes.fromhex(frame) + b"\x81\x80\0\0\0\0" * 1000)
            closed = client.receive()
            assert isinstance(closed, Closed)
            assert code == closed.code
            client.see_the_end()
            assert code == app.departure[0]
            assert [] == running.errors


class TestPings:
    def test_a_client_that_answers_stays(self) -> None:
        with opened(echo, ping_interval=0.05, ping_timeout=1.0) as (_, client):
            client.open()
            client.receive_pings(3)
            client.send("there")
            assert "there" == client.receive()
            client.close()

    def test_a_client_that_does_not_answer_is_left(self) -> None:
        """With 1011 on the wire, as other servers do; to the app it is one that has vanished."""
        app = Recording()
        with opened(app, ping_interval=0.05, ping_timeout=0.1, disconnect_grace=0.1) as (_, client):
            client._answers_pings = False
            client.open()
            assert Closed(1011, "keepalive ping timeout") == client.receive()
            client.see_the_end()
        assert 1006 == app.departure[0]

    def test_a_client_that_takes_nothing_is_left(self) -> None:
        """No ping can reach it behind what it does not read."""
        left = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            try:
                while True:
                    await send({"type": "websocket.send", "bytes": b"z" * 2**20})
            except OSError:
                left.set()

        with opened(app, ping_interval=0.1, ping_timeout=0.1, disconnect_grace=0.1) as (_, client):
            client.open()
            left.wait()

    def test_an_app_that_does_not_receive_costs_no_client_its_connection(self) -> None:
        """Its answers to pings wait behind what the app has not taken."""
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await go_on.waited()
            await echo_on(receive, send)

        async def echo_on(receive: Any, send: Any) -> None:
            while (event := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": str(len(event["bytes"]))})

        with opened(app, ping_interval=0.05, ping_timeout=1.0) as (_, client):
            client.open()
            client.send(b"." * 100_000)
            for _ in range(10):
                assert not go_on.comes()  # longer than the timeout
            received = Work(client.receive)  # answers pings from now on
            go_on.set()
            assert "100000" == received.result()
            client.close()


class TestEnd:
    def test_closing_the_adapter_closes_sessions_with_1012(self) -> None:
        app = Recording()
        with adapted(app, shutdown_timeout=2.0) as adapter, site(adapter) as running, running.connect() as client:
            client.open()
            assert 1012 == close_under(adapter, client)
            assert 1012 == app.departure[0]

    def test_one_too_many_gets_503(self) -> None:
        with opened(echo, max_websockets=1) as (running, client):
            client.open()
            with running.connect() as second:
                rejected = second.open()
                assert isinstance(rejected, Rejected)
                assert (503, "1") == (rejected.status, rejected.headers["retry-after"])
            client.close()
            until(lambda: _opens(running))

    def test_all_adapters_of_a_process_count_together(self) -> None:
        """They have the same threads of the server."""
        with opened(echo, max_websockets=2) as (_, one), opened(echo, max_websockets=2) as (running, other):
            one.open()
            other.open()
            with running.connect() as third:
                assert 503 == third.open().status  # type: ignore[union-attr]
            one.close()
            until(lambda: _opens(running))

    def test_what_is_thread_sensitive_runs_in_the_servers_thread(self) -> None:
        """Also behind the end of the connection, while the app still cleans up."""
        from asgiref.sync import sync_to_async

        names = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            while (await receive())["type"] == "websocket.receive":
                names.append(await sync_to_async(lambda: threading.current_thread().name)())
                await send({"type": "websocket.send", "text": "done"})
            names.append(await sync_to_async(lambda: threading.current_thread().name)())

        with opened(app) as (_, client):
            client.open()
            client.send("x")
            client.receive()
            client.close()
            until(lambda: len(names) == 2)
        assert 1 == len(set(names))
        assert "process_request_thread" in names[0]

    def test_thread_sensitive_code_that_accepts_sends_and_closes(self) -> None:
        """The server's thread waits for it, so that it must not wait for that thread: Channels' sync consumers."""
        from asgiref.sync import async_to_sync, sync_to_async

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()

            def work() -> None:
                async_to_sync(send)({"type": "websocket.accept"})
                async_to_sync(send)({"type": "websocket.send", "text": "early"})

            def more() -> None:
                for _ in range(3):
                    async_to_sync(send)({"type": "websocket.send", "bytes": b"z" * 4 * 2**20})
                async_to_sync(send)({"type": "websocket.close", "code": 3007})

            await sync_to_async(work)()
            assert "go on" == (await receive())["text"]
            await sync_to_async(more)()

        with opened(app) as (running, client):
            assert Accepted(None, {}, False) == client.open()
            assert "early" == client.receive()
            client.send("go on")
            assert [b"z" * 4 * 2**20] * 3 == [client.receive() for _ in range(3)]
            closed = client.receive()
            assert Closed(3007, "") == closed
            client.answer_close(closed)
            assert [] == running.errors

    def test_many_sessions_at_once(self) -> None:
        with adapted(echo) as adapter, site(adapter) as running, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(running.connect()) for _ in range(20)]
            for client in clients:
                client.open()
            for number, client in enumerate(clients):
                client.send(str(number))
            assert list(map(str, range(20))) == [client.receive() for client in clients]
            for client in clients:
                client.close()


def _break_the_protocol(client: Client) -> None:
    client.raw(bytes.fromhex("8300"))
    client.receive()
    client.see_the_end()


def _send_too_much(client: Client) -> None:
    client.send(b"." * 2**17)
    client.receive()


END = {
    "client": lambda client: client.close(),
    "app": lambda client: client.answer_close(client.receive()),
    "abrupt": lambda client: None,
    "bad": _break_the_protocol,
    "full": _send_too_much,
}


class _NoReader(asyncio.SelectorEventLoop):
    """As Windows' loop is."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


class TestReading:
    """The loop reads where it can, else the server's thread."""

    @pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop, _NoReader])
    def test_loops_of_each_kind(self, factory: Any) -> None:
        app = Recording()
        with opened(app, loop_factory=factory) as (_, client):
            client.open(early=bytes.fromhex("8182") + b"\0\0\0\0hi")
            for message in ("a", "b" * 200_000, b"c"):
                client.send(message)
            client.ping(b"!")
            assert Closed(4001, "bye") == client.close(4001, "bye")
            assert (4001, "bye") == app.departure
        assert ["hi", "a", "b" * 200_000, b"c"] == [event.get("text", event.get("bytes")) for event in app.events[:-1]]
        assert [b"!"] == client.pongs

    def test_a_quiet_one_holds_three_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the client one, which is here too. What the thread needed until the loop reads, it has given back."""
        monkeypatch.setattr("bridge._asgi_to_wsgi.websocket._LOOK_SECONDS", 0.1)
        with adapted(Recording(), ping_interval=None) as adapter, site(adapter) as running:
            with running.connect() as first:
                first.open()
                first.close()
            before = len(os.listdir("/proc/self/fd"))
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(running.connect()) for _ in range(20)]
                for client in clients:
                    client.open()
                    client.send("x")
                until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4 * len(clients))
                for client in clients:
                    client.close()

    @pytest.mark.parametrize("how", list(END))
    def test_no_descriptor_is_left(self, how: str) -> None:
        """However the connection has ended."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await receive()
            if how == "full":
                await asyncio.sleep(0.1)  # more has come than is held by now, so that nobody reads
            if how in ("app", "full"):
                return
            while (await receive())["type"] == "websocket.receive":
                pass

        def run(running: Site) -> None:
            with running.connect() as client:
                client.open()
                client.send("x")
                END[how](client)

        with adapted(app, disconnect_grace=0.2) as adapter, site(adapter) as running:
            run(running)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(12):
                run(running)
            # No more than one session may have had when they were counted.
            until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def _opens(running: Site) -> bool:
    with running.connect() as client:
        if isinstance(client.open(), Rejected):
            return False
        client.close()
        return True
