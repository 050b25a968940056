"""WebSockets through `AsgiToWsgi` as people have them: with the client of `websockets`, and an app of Starlette's."""

from typing import Any

import pytest
import websockets.sync.client
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from support.scripted_wsgi_server import adapted
from support.waiting import Flag
from support.websocket_clients import Rejected, site


class Chat:
    """Says back what it hears, in capitals; notes how the client left."""

    def __init__(self) -> None:
        self.left: list[tuple[int, str | None]] = []
        self.done = Flag()

    async def talk(self, websocket: WebSocket) -> None:
        if websocket.query_params.get("token") != "right":
            await websocket.close()
            return
        await websocket.accept(subprotocol="chat" if "chat" in websocket.scope["subprotocols"] else None)
        try:
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())
        except WebSocketDisconnect as error:
            self.left.append((error.code, error.reason))
            self.done.set()


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_chat(compression: Any) -> None:
    """Messages of any size, a subprotocol, and how the client left."""
    chat = Chat()
    app = Starlette(routes=[WebSocketRoute("/{room}", chat.talk)])
    with adapted(app) as adapter, site(adapter) as running:
        address = "ws://{}:{}".format(*running.address)
        with websockets.sync.client.connect(
            f"{address}/hall?token=right",
            subprotocols=["chat"],  # type: ignore[list-item]
            compression=compression,
            proxy=None,
        ) as chatting:
            assert "chat" == chatting.subprotocol
            for message in ("hello", "é", "", "long " * 50_000):
                chatting.send(message)
                assert message.upper() == chatting.recv(timeout=8)
            chatting.send(["in ", "three ", "pieces"])
            assert "IN THREE PIECES" == chatting.recv(timeout=8)
            chatting.ping().wait(8)
            chatting.close(4001, "off")
        chat.done.wait()
        assert [(4001, "off")] == chat.left
        with running.connect() as client:
            rejected = client.open("/hall?token=wrong")
            assert isinstance(rejected, Rejected)
            assert 403 == rejected.status
