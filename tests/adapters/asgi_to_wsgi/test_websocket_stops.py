"""A server that shows that it has been told to stop: its open WebSockets are closed, and others are not."""

from typing import Any

import pytest

import bridge
from bridge._asgi_to_wsgi import websocket
from support.websocket_clients import Accepted, Client, Closed, site


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


def echoes(client: Client) -> bool:
    client.send("there")
    return client.receive() == "there"


def test_its_sessions_are_closed_with_1012(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its own server; and those that come when there were none for a while."""
    stopped: set[str] = set()
    monkeypatch.setattr(websocket, "stop_of", lambda environ: lambda: environ["PATH_INFO"] in stopped)
    with bridge.AsgiToWsgi(echo, lifespan="off") as adapter, site(adapter) as running:
        for name in ("/one", "/two"):
            with running.connect() as going, running.connect() as staying:
                assert isinstance(going.open(name), Accepted)
                assert isinstance(staying.open("/stays"), Accepted)
                assert echoes(going)
                stopped.add(name)
                closed = going.receive()
                assert isinstance(closed, Closed)
                assert 1012 == closed.code
                going.answer_close(closed)
                assert echoes(staying)
                staying.close()
