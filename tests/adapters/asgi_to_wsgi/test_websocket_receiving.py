"""Synchronous code that waits for a WebSocket of `AsgiToWsgi`: the server's thread waits in it, and reads meanwhile."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from support.scripted_wsgi_server import adapted
from support.websocket_clients import Accepted, Client, Closed, site
from support.websocket_sessions import close_under, opened


class NoReader(asyncio.SelectorEventLoop):
    """The server's thread reads, as with TLS."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


class Echo:
    """Accepts, says back what it hears, and notes the end: in one piece of synchronous code, or after an async accept.

    Asgiref has its calls wait in the server's thread.
    """

    def __init__(self, *, accepts: bool) -> None:
        self._accepts = accepts
        self.ends: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if not self._accepts:
            await send({"type": "websocket.accept"})

        def work() -> None:
            if self._accepts:
                async_to_sync(send)({"type": "websocket.accept"})
            while (event := async_to_sync(receive)())["type"] == "websocket.receive":
                async_to_sync(send)({"type": "websocket.send", "text": event["text"]})
            self.ends.append(event["code"])

        await sync_to_async(work)()


def leave(client: Client) -> None:
    client.socket.close()


def close(client: Client) -> None:
    assert Closed(4001, "") == client.close(4001)


@pytest.mark.parametrize("factory", [None, NoReader], ids=["loop", "thread"])
@pytest.mark.parametrize("accepts", [False, True])
@pytest.mark.parametrize(("end", "code"), [(leave, 1006), (close, 4001)])
def test_it_hears_and_is_told_of_the_end(end: Any, code: int, accepts: bool, factory: Any) -> None:
    app = Echo(accepts=accepts)
    with opened(app, loop_factory=factory, ping_interval=0.2) as (running, client):
        assert Accepted(None, {}, False) == client.open()
        for message in ("a", "b" * 100_000, "c"):
            client.send(message)
            assert message == client.receive()
        client.receive_pings(1)
        end(client)
    assert [code] == app.ends
    assert [] == running.errors


@pytest.mark.parametrize("accepts", [False, True])
def test_it_is_told_of_a_shutdown(accepts: bool) -> None:
    app = Echo(accepts=accepts)
    with adapted(app) as adapter, site(adapter) as running, running.connect() as client:
        client.open()
        client.send("a")
        assert "a" == client.receive()
        assert 1012 == close_under(adapter, client)
    assert [1012] == app.ends
