"""Synchronous work in the server's thread that waits for a task of its application, which waits for the client.

The thread, which would look after the client, does the work. So the loop looks after the client meanwhile.
"""

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import wsproto.events as ws
from asgiref.current_thread_executor import CurrentThreadExecutor
from asgiref.sync import async_to_sync, sync_to_async

from bridge import WsgiToAsgi
from bridge._asgi_to_wsgi.task import changed_meanwhile
from bridge.errors import ClientDisconnected
from support.asgi_apps import read_body, reply
from support.lenient_asgi_server import opened_leniently
from support.plain_servers import environ_for, scope_for
from support.scripted_wsgi_server import Served, adapted
from support.waiting import FOREVER, Flag, bounded, eventually
from support.websocket_clients import Accepted, Client, Closed, site
from support.websocket_sessions import close_under, opened

pytestmark = pytest.mark.usefixtures("looks_often")


def by_event(told: Flag, task: "asyncio.Task[None]") -> None:
    """As with any lock, queue or future: what the thread waits for does not know that it waits."""
    told.wait()


def by_asgiref(told: Flag, task: "asyncio.Task[None]") -> None:
    async def wait() -> None:
        await task

    async_to_sync(wait)()


class Waiting:
    """An app whose work waits for a task that listens to the client. `early`: the task listens before the work begins.

    The first event of an HTTP request is that of its empty body.
    """

    def __init__(self, wait: Any, *, early: bool, accepts: bool = False, until: str = "disconnect") -> None:
        self._wait = wait
        self._early = early
        self._accepts = accepts
        self._until = until
        self.events: list[Any] = []
        self.at_work = Flag()
        self.over = Flag()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.events.append(await receive())
        if self._accepts:
            await send({"type": "websocket.accept"})
        told, listening = Flag(), asyncio.Event()

        async def listen() -> None:
            if not self._early:
                await eventually(self.at_work.is_set)
            listening.set()
            while True:
                self.events.append(await receive())
                if self.events[-1]["type"].endswith(self._until):
                    break
            told.set()

        task = asyncio.create_task(listen())
        if self._early:
            await listening.wait()
            await asyncio.sleep(0)

        def work() -> None:
            self.at_work.set()
            self._wait(told, task)

        try:
            await sync_to_async(work)()
            await task
        finally:
            self.over.set()

    @property
    def last(self) -> Any:
        self.over.wait()
        return self.events[-1]


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    with client, server:
        yield client, server


@pytest.mark.parametrize("wait", [by_event, by_asgiref])
@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
class TestRequest:
    def test_the_task_is_told_that_the_client_has_left(self, wait: Any, early: bool) -> None:
        app = Waiting(wait, early=early)
        with (
            connected() as (client, server),
            adapted(app) as adapter,
            Served(adapter, environ_for("GET", "/", werkzeug__socket=server)) as served,
        ):
            ended = served.begin()
            app.at_work.wait()
            client.close()
            with pytest.raises(ClientDisconnected):
                ended()
        assert "http.disconnect" == app.last["type"]

    def test_the_task_is_told_what_the_server_knows(self, wait: Any, early: bool) -> None:
        """Waitress can be asked."""
        app, left = Waiting(wait, early=early), Flag()
        with adapted(app) as adapter:
            environ = environ_for("GET", "/", waitress__client_disconnected=left.is_set)
            with Served(adapter, environ) as served:
                ended = served.begin()
                app.at_work.wait()
                left.set()
                with pytest.raises(ClientDisconnected):
                    ended()
        assert "http.disconnect" == app.last["type"]

    def test_the_task_is_told_of_a_shutdown(self, wait: Any, early: bool) -> None:
        """On a server that does not show its connection too."""
        app = Waiting(wait, early=early)
        with adapted(app, shutdown_timeout=0.1) as adapter, Served(adapter) as served:
            ended = served.begin()
            app.at_work.wait()
            bounded(adapter.close)
            with pytest.raises(ClientDisconnected):
                ended()
        assert "http.disconnect" == app.last["type"]


@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
def test_the_task_gets_the_body_if_the_thread_waits_in_asgiref(early: bool) -> None:
    """Then the thread can read. It does not stay in the input: the code that it waits for may need it."""
    body = bytes(range(256)) * 1000
    threads: list[int] = []

    def wait(told: Flag, task: "asyncio.Task[None]") -> None:
        async def join() -> None:
            while not task.done():
                threads.append(await sync_to_async(threading.get_ident)())
            await task

        async_to_sync(join)()

    class Reading(Waiting):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def receive_until_all() -> Any:
                event = await receive()
                return event if event["more_body"] else {**event, "type": "all"}

            await super().__call__(scope, receive_until_all, send)
            await reply(send, b"".join(event["body"] for event in self.events))

    app = Reading(wait, early=early, until="all")
    with connected() as (client, server), adapted(app) as adapter, server.makefile("rb") as stream:
        assert isinstance(stream, io.BufferedReader)
        client.sendall(body[:1])
        environ = environ_for("POST", "/", wsgi__input=stream, CONTENT_LENGTH=str(len(body)))
        with Served(adapter, environ) as served:
            ended = served.begin()
            app.at_work.wait()
            for start in range(1, len(body), 50_000):
                client.sendall(body[start : start + 50_000])
            ended()
            assert body == served.rest()
            served.close()
            assert {served.thread.ident} == set(threads)


def test_the_task_gets_the_body_if_it_has_asked_just_before_the_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread tells it, once it waits in asgiref."""
    monkeypatch.setattr("bridge._asgi_to_wsgi.task.POLL_SECONDS", FOREVER)
    looked = Flag()
    run = CurrentThreadExecutor.run_until_future

    def run_late(self: Any, future: Any) -> None:
        looked.wait()
        run(self, future)

    def note(waiting: Any) -> Any:
        looked.set()
        return changed_meanwhile(waiting)

    monkeypatch.setattr(CurrentThreadExecutor, "run_until_future", run_late)
    monkeypatch.setattr("bridge._asgi_to_wsgi.task.changed_meanwhile", note)
    body = bytes(range(256)) * 1000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        at_work = asyncio.Event()

        async def read() -> bytes:
            await at_work.wait()
            return await read_body(receive)

        async def join() -> bytes:
            at_work.set()
            return await reader

        reader = asyncio.create_task(read())
        await reply(send, await sync_to_async(async_to_sync(join))())

    with adapted(app) as adapter, Served(adapter, environ_for("POST", "/", body)) as served:
        assert body == served.run().body


@pytest.mark.parametrize("streams", [True, False])
def test_an_inner_wsgi_app_that_asks_is_told_that_the_client_has_left(streams: bool) -> None:
    """Its step runs in the server's thread, and ends when the answer is yes."""
    asked, ended = Flag(), Flag()

    def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        while not environ["bridge.client_disconnected"]():
            asked.set()
        ended.set()
        yield b"x"

    def whole(environ: Any, start_response: Any) -> list[bytes]:
        return list(wsgi(environ, start_response))

    with (
        connected() as (client, server),
        WsgiToAsgi(wsgi if streams else whole) as inner,
        adapted(inner) as adapter,
        Served(adapter, environ_for("GET", "/", werkzeug__socket=server)) as served,
    ):
        served.begin()
        asked.wait()
        client.close()
        ended.wait()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("wait", [by_event, by_asgiref])
async def test_the_task_is_told_what_the_outer_server_knows(wait: Any) -> None:
    """In a thread of `WsgiToAsgi`, the ASGI server is asked."""
    app = Waiting(wait, early=True)
    with adapted(app) as adapter, WsgiToAsgi(adapter) as outer:
        async with opened_leniently(outer, scope_for("GET", "/")) as request:
            await eventually(app.at_work.is_set)
            request.disconnect()
            await eventually(app.over.is_set)
    assert "http.disconnect" == app.last["type"]


class NoReader(asyncio.SelectorEventLoop):
    """The server's thread reads, as with TLS."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


def leave(client: Client) -> None:
    client.socket.close()


def close(client: Client) -> None:
    client.raw(client.frame(ws.CloseConnection(4001)))


@pytest.mark.parametrize("factory", [None, NoReader], ids=["loop", "thread"])
@pytest.mark.parametrize("wait", [by_event, by_asgiref])
@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
class TestWebSocket:
    @pytest.mark.parametrize(("end", "code"), [(leave, 1006), (close, 4001)])
    def test_the_task_is_told_of_the_end(
        self, end: Callable[[Client], None], code: int, wait: Any, early: bool, factory: Any
    ) -> None:
        app = Waiting(wait, early=early, accepts=True)
        with opened(app, loop_factory=factory) as (running, client):
            assert Accepted(None, {}, False) == client.open()
            app.at_work.wait()
            end(client)
            assert code == app.last["code"]
        assert [] == running.errors

    def test_the_task_gets_what_comes(self, wait: Any, early: bool, factory: Any) -> None:
        app = Waiting(wait, early=early, accepts=True, until="receive")
        with opened(app, loop_factory=factory) as (running, client):
            assert Accepted(None, {}, False) == client.open()
            app.at_work.wait()
            client.send("b" * 100_000)
            assert "b" * 100_000 == app.last["text"]
            assert Closed(1000, "") == client.receive()
        assert [] == running.errors

    def test_the_task_is_told_of_a_shutdown(self, wait: Any, early: bool, factory: Any) -> None:
        app = Waiting(wait, early=early, accepts=True)
        with (
            adapted(app, loop_factory=factory, shutdown_timeout=1.0) as adapter,
            site(adapter) as running,
            running.connect() as client,
        ):
            client.open()
            app.at_work.wait()
            assert 1012 == close_under(adapter, client)
        assert 1012 == app.last["code"]
