"""Thread and loop share a WebSocket of `AsgiToWsgi` without waiting for each other: here each comes at a bad moment.

Threads look around now and then; here they do not, so that a wake-up that is lost is a test that hangs.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import wsproto.events as ws
from asgiref.sync import async_to_sync, sync_to_async

from bridge._asgi_to_wsgi import websocket, websocket_wire
from bridge._asgi_to_wsgi.websocket_protocol import Closed as ClosedByClient
from bridge._asgi_to_wsgi.websocket_protocol import WebSocketProtocol
from bridge._concurrency import server_thread
from bridge._concurrency.byte_queue import HIGH_WATER_BYTES, ByteQueue
from bridge._concurrency.server_thread import ServerThread
from bridge._servers import process, takeover
from bridge.errors import ClientDisconnected
from support.patience import PATIENCE
from support.scripted_wsgi_server import adapted
from support.waiting import FOREVER, Flag, LogWatch, bounded, until
from support.websocket_clients import Accepted, Closed, Rejected, site
from support.websocket_sessions import Recording, accept, opened

pytestmark = pytest.mark.usefixtures("never_looks")
MORE_THAN_HALF = HIGH_WATER_BYTES * 2 // 3


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch, nothing_waits_by_the_clock: None) -> None:
    monkeypatch.setattr(websocket, "POLL_SECONDS", FOREVER)
    monkeypatch.setattr(websocket, "_LOOK_SECONDS", FOREVER)


class _NoReader(asyncio.SelectorEventLoop):
    """The server's thread reads, as with TLS."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


def called(function: Callable[..., Any], before: Callable[[], object], after: Callable[[], object]) -> Any:
    def call(*args: Any) -> Any:
        before()
        result = function(*args)
        after()
        return result

    return call


class TestPing:
    def test_the_answer_comes_before_the_thread_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between the ping and the next step of the thread that has sent it: it is an answer all the same."""
        pinged, fed = Flag(), Flag()

        class Lock:
            def __init__(self) -> None:
                self._lock = threading.Lock()

            def __enter__(self) -> None:
                self._lock.acquire()

            def __exit__(self, *_: object) -> None:
                self._lock.release()
                if pinged.is_set() and threading.current_thread().name.startswith("Thread"):
                    fed.wait()

        monkeypatch.setattr(websocket_wire, "new_lock", Lock)
        monkeypatch.setattr(WebSocketProtocol, "ping", called(WebSocketProtocol.ping, pinged.set, int))
        feed = websocket.WebSocketSession._feed
        monkeypatch.setattr(websocket.WebSocketSession, "_feed", called(feed, int, fed.set))
        with opened(Recording(), ping_interval=0.4, ping_timeout=0.2) as (_, client):
            client.open()
            client.receive_pings(2)

    def test_the_answer_waits_while_the_loop_is_blocked(self) -> None:
        """The client has answered in time; that nobody has read it yet is not its fault."""
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            go_on.wait()
            await send({"type": "websocket.send", "text": (await receive())["text"]})

        with opened(app, ping_interval=0.1, ping_timeout=0.1, slow_warning=None) as (_, client):
            client.open()
            client.receive_pings(1)
            assert not go_on.comes()  # longer than the timeout
            go_on.set()
            client.send("there")
            assert "there" == client.receive()


class TestClose:
    def test_the_app_sends_behind_a_close_frame_of_the_thread(
        self, monkeypatch: pytest.MonkeyPatch, log: LogWatch
    ) -> None:
        """It gets the `OSError` of the specification, not one of the protocol's."""
        closing, tried, raised = Flag(), Flag(), []
        depart = websocket.WebSocketSession._depart

        def late(*args: Any) -> None:
            closing.set()
            tried.comes()
            depart(*args)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await closing.waited()
            try:
                await send({"type": "websocket.send", "text": "late"})
            except Exception as error:
                raised.append(type(error))
                tried.set()
                raise

        monkeypatch.setattr(websocket.WebSocketSession, "_depart", late)
        with opened(app, ping_interval=0.05, ping_timeout=0.05, disconnect_grace=0.5) as (_, client):
            client._answers_pings = False
            client.open()
            assert 1011 == client.receive().code  # type: ignore[union-attr]
            tried.wait()
        assert [ClientDisconnected] == raised
        assert [] == log.having("ERROR")

    def test_a_ping_waits_for_its_answer_when_the_thread_closes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Behind much that the client has not read yet. Nothing follows the close frame."""
        sending, pinged, closing = Flag(), Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            asyncio.get_running_loop().call_soon(sending.set)
            await send({"type": "websocket.send", "bytes": b"z" * 16 * 2**20})

        session, output = websocket.WebSocketSession, websocket_wire.Output
        monkeypatch.setattr(output, "answer", called(output.answer, int, pinged.set))
        monkeypatch.setattr(session, "_close", called(session._close, int, closing.set))
        with adapted(app, disconnect_grace=PATIENCE) as adapter, site(adapter) as running, running.connect() as client:
            client.open()
            sending.wait()
            client.ping(b"!")
            pinged.wait()
            process.begin_stop()
            closing.wait()
            assert b"z" * 16 * 2**20 == client.receive()
            closed = client.receive()
            assert isinstance(closed, Closed)
            assert 1012 == closed.code
            client.answer_close(closed)

    def test_the_loop_ends_before_a_client_has_answered(self) -> None:
        """Nobody needs the loop for that, and the server is not told of an error."""
        with adapted(Recording(), disconnect_grace=1.0) as adapter, site(adapter) as running:
            with running.connect() as client:
                client.open()
                bounded(adapter.close)
                assert 1012 == client.receive().code  # type: ignore[union-attr]
                client.see_the_end()
            assert [] == running.errors

    def test_a_close_that_the_loop_has_read_is_no_1006_for_the_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Which was about to read, and finds that the client has gone since."""
        app, about_to_read, goes_on = Recording(), Flag(), Flag()
        read, loop_reader = websocket.WebSocketSession._read, websocket.loop_reader

        def late(session: websocket.WebSocketSession, output: Any) -> bool:
            about_to_read.set()
            goes_on.wait()
            return read(session, output)

        def reader(*args: Any) -> Any:
            about_to_read.wait()
            return loop_reader(*args)

        monkeypatch.setattr(websocket.WebSocketSession, "_read", late)
        monkeypatch.setattr(websocket, "loop_reader", reader)
        with opened(app) as (_, client):
            client.open()
            client.raw(client.frame(ws.CloseConnection(4001, "bye")))
            assert Closed(4001, "bye") == client.receive()
            client.socket.close()
            goes_on.set()
            assert (4001, "bye") == app.departure

    def test_a_close_that_cannot_be_answered_is_no_1006(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The thread notices that nothing can be sent before the loop has noted what it has read."""
        app, departed = Recording(), Flag()
        push, depart = websocket_wire.Output.push, websocket.WebSocketSession._depart
        sessions: list[websocket.WebSocketSession] = []

        def broken(output: websocket_wire.Output, data: bytes, *, last: bool = False) -> None:
            push(output, data, last=last)
            if last and sessions and not output.broken:
                output.broken = True
                sessions[0].responder.thread.notify()
                assert not departed.comes()

        def told(session: websocket.WebSocketSession, code: int, reason: str) -> None:
            depart(session, code, reason)
            departed.set()

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            sessions.append(receive.__self__)
            await app(scope, receive, send)

        monkeypatch.setattr(websocket_wire.Output, "push", broken)
        monkeypatch.setattr(websocket.WebSocketSession, "_depart", told)
        with opened(noted) as (_, client):
            client.open()
            client.send("read by the loop")
            until(lambda: app.events)
            client.close(4001, "bye")
            assert (4001, "bye") == app.departure


class TestAccept:
    def test_the_thread_ends_its_work_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The loop sees it at work, looks again, and the thread has not taken the connection yet."""
        accepting, working, go_on, failed = Flag(), Flag(), Flag(), Flag()
        take = takeover.Takeover.take

        def works(thread: Any) -> bool:
            busy: bool = thread._busy
            if busy and accepting.is_set():
                go_on.set()
                until(lambda: not thread._busy)
            return busy

        def work() -> None:
            working.set()
            go_on.wait()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            job = asyncio.create_task(sync_to_async(work)())
            await working.waited()
            accepting.set()
            try:
                await send({"type": "websocket.accept"})
            except OSError:
                failed.set()
                raise
            await job
            await send({"type": "websocket.send", "text": "here"})

        monkeypatch.setattr(ServerThread, "works", property(works))
        monkeypatch.setattr(takeover.Takeover, "take", called(take, failed.comes, int))
        with opened(app) as (_, client):
            assert Accepted(None, {}, False) == client.open()
            assert "here" == client.receive()
            client.answer_close(client.receive())  # type: ignore[arg-type]
        assert not failed.is_set()

    def test_the_thread_begins_work_that_waits_for_the_accept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the loop has looked whether it works: else each would wait for the other."""
        begin, held, tasks = Flag(), Flag(), []
        save = server_thread.interop.save

        def late_save() -> Any:
            held.set()
            begin.wait()
            return save()

        def works(thread: Any) -> bool:
            busy: bool = thread._busy
            if tasks and not begin.is_set():
                begin.set()
                until(lambda: thread._busy)
            return busy

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            job = asyncio.create_task(sync_to_async(lambda: async_to_sync(asyncio.wait)(tasks))())
            await held.waited()
            tasks.append(asyncio.create_task(send({"type": "websocket.accept"})))
            await job
            await send({"type": "websocket.send", "text": "here"})

        monkeypatch.setattr(server_thread.interop, "save", late_save)
        monkeypatch.setattr(ServerThread, "works", property(works))
        with opened(app) as (_, client):
            assert Accepted(None, {}, False) == client.open()
            assert "here" == client.receive()
            client.answer_close(client.receive())  # type: ignore[arg-type]

    def test_what_an_app_does_with_a_client_that_has_left(self, looks_often: None) -> None:
        """Whatever it tries after that, it is told at once."""
        ready, said = Flag(), []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            ready.set()
            await receive()
            for event in ({"type": "websocket.accept"}, {"type": "websocket.send", "text": "x"}):
                with pytest.raises(OSError, match=r"left|closed"):
                    await send(event)
            said.append(await receive())

        with opened(app, disconnect_grace=FOREVER) as (running, client):
            client.socket.sendall(client.frame(ws.Request("localhost", "/")))
            ready.wait()
            client.socket.close()
            until(lambda: running.errors)
            until(lambda: said)
        assert [1006] == [event["code"] for event in said]


class TestReading:
    @pytest.mark.parametrize("factory", [None, _NoReader], ids=["loop", "thread"])
    def test_what_has_come_cannot_be_read(self, factory: Any, monkeypatch: pytest.MonkeyPatch, log: LogWatch) -> None:
        """No memory, say. Neither side waits for what will not come."""
        feed = WebSocketProtocol.feed

        def failing(protocol: Any, data: bytes) -> Any:
            yield from feed(protocol, data)
            raise MemoryError

        app = Recording()
        monkeypatch.setattr(WebSocketProtocol, "feed", failing)
        with opened(app, loop_factory=factory) as (running, client):
            client.open()
            client.send("x")
            assert Closed(1011, "internal error") == client.receive()
            client.see_the_end()
            assert (1011, "internal error") == app.departure
            assert [] == running.errors
        assert 1 == len(log.having("ERROR", "MemoryError"))
        assert ["websocket.receive", "websocket.disconnect"] == [event["type"] for event in app.events]

    def test_room_is_made_when_the_thread_has_looked_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It looks again before it waits for a descriptor that does not show what TLS holds."""
        go_on, taken, received = Flag(), Flag(), []
        expect = ServerThread.expect_notice

        class Tls(takeover._PlainWire):
            _held, _ended = b"", False

            def twin(self) -> None:
                return None

            def receive(self, size: int) -> bytes | None:
                while more := super().receive(2**20):
                    self._held += more
                self._ended = self._ended or more == b""
                data, self._held = self._held[:50_000], self._held[50_000:]
                return data or (b"" if self._ended else None)

        def late(thread: Any) -> None:
            if thread.owner._app._inbox.full and not go_on.is_set():
                thread._notified = True  # of something that it has seen to
                go_on.set()
                taken.wait()
            expect(thread)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            await go_on.waited()
            received.append(await receive())
            taken.set()
            received.append(await receive())

        monkeypatch.setattr(takeover, "_PlainWire", Tls)
        monkeypatch.setattr(ServerThread, "expect_notice", late)
        with opened(app, ping_interval=None) as (_, client):
            client.open()
            client.raw(client.message(b"1" * 100_000) + client.message(b"2" * 60_000))
            client.answer_close(client.receive())  # type: ignore[arg-type]
        assert [100_000, 60_000] == [len(event["bytes"]) for event in received]

    def test_the_thread_fills_what_the_loop_empties(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At the same moment: it is told that there is room again."""
        accepted, first, asleep, received = Flag(), Flag(), Flag(), []
        full, sleep = ByteQueue.full.fget, ServerThread.await_wake  # type: ignore[attr-defined]

        def late(queue: Any) -> bool:
            value: bool = full(queue)
            if accepted.is_set() and not first.is_set() and threading.current_thread().name == "bridge-loop":
                first.set()
                asleep.wait()
            return value

        def sleeping(thread: Any, timeout: float) -> bool:
            if full(thread.owner._app._inbox):
                asleep.set()
            return sleep(thread, timeout)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await accept(receive, send)
            accepted.set()
            for _ in range(3):
                received.append((await receive())["bytes"])
                first.set()

        monkeypatch.setattr(ByteQueue, "full", property(late))
        monkeypatch.setattr(ServerThread, "await_wake", sleeping)
        with opened(app, ping_interval=None, loop_factory=_NoReader) as (_, client):
            client.open()
            accepted.wait()
            messages = [bytes([number]) * MORE_THAN_HALF for number in range(3)]
            client.send(messages[0])
            first.wait()
            client.send(messages[1])
            asleep.comes()
            client.send(messages[2])
            client.answer_close(client.receive())  # type: ignore[arg-type]
        assert messages == received


class TestDescriptors:
    """There are no more of them."""

    @pytest.fixture
    def fails(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        def fail(at: int) -> None:
            calls: list[int] = []

            def dup(number: int) -> int:
                calls.append(number)
                if len(calls) == at:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return os.dup(number)

            monkeypatch.setattr(takeover, "dup", dup)

        return fail

    def test_for_the_connection(self, fails: Callable[[int], None], log: LogWatch) -> None:
        """The client is refused as where all places are taken."""
        fails(1)
        raised = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await accept(receive, send)
            except OSError as error:
                raised.append(type(error))
                raise

        with opened(app) as (running, client):
            rejected = client.open()
            assert isinstance(rejected, Rejected)
            assert (503, "1") == (rejected.status, rejected.headers["retry-after"])
            assert [] == running.errors
        assert [ClientDisconnected] == raised
        assert 1 == len(log.having("WARNING", os.strerror(errno.EMFILE)))

    def test_for_the_loop(self, fails: Callable[[int], None]) -> None:
        """The server's thread reads."""
        fails(2)
        app = Recording()
        with opened(app) as (_, client):
            client.open()
            client.send("x")
            client.close()
        assert "x" == app.events[0]["text"]
        assert 1000 == app.departure[0]


def test_a_close_that_the_thread_takes_while_the_loop_looks_at_it() -> None:
    """The thread takes it without the lock, perhaps just after the loop has seen it."""

    class Taken(websocket.WebSocketSession):
        looks = 0

        @property
        def _closed(self) -> Any:  # type: ignore[override]
            self.looks += 1
            return ClosedByClient(1001, "gone", b"", failed=False) if self.looks == 1 else None

    session: Any = object.__new__(Taken)
    told: list[Any] = []
    session._opened, session._phase, session._fed_all = True, websocket.Phase.OPEN, True
    session._inbox = ByteQueue()
    session._depart = lambda *departure: told.append(departure)
    websocket._catch_up(session, websocket_wire.Output())
    assert [(1001, "gone")] == told
