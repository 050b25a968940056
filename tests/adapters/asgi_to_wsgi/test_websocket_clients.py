"""WebSockets through `AsgiToWsgi` as people have them: with the client of `websockets`, and an app of Starlette's."""

import asyncio
from typing import Any

import aiohttp
import pytest
import websockets.sync.client
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from support.patience import PATIENCE
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


async def _with_aiohttp(address: str, compress: int) -> tuple[Any, ...]:
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as rejected:
            await session.ws_connect(f"{address}/hall?token=wrong")
        async with session.ws_connect(
            f"{address}/hall?token=right", protocols=["chat"], compress=compress, headers={"Cookie": "name=ann"}
        ) as chatting:
            for message in ("hello", "é", "long " * 50_000):
                await chatting.send_str(message)
                assert message.upper() == await chatting.receive_str()
            await chatting.close(code=4001, message=b"off")
            return rejected.value.status, chatting.protocol, chatting.compress, chatting.close_code


@pytest.mark.parametrize("compress", [0, 15])
def test_a_chat_with_aiohttp(compress: int) -> None:
    chat = Chat()
    app = Starlette(routes=[WebSocketRoute("/{room}", chat.talk)])
    with adapted(app) as adapter, site(adapter) as running:
        address = "http://{}:{}".format(*running.address)
        assert (403, "chat", compress, 4001) == asyncio.run(_with_aiohttp(address, compress))
        chat.done.wait()
        assert [(4001, "off")] == chat.left


async def shop(websocket: WebSocket) -> None:
    """Sets a cookie, says which one it got, sends bytes back, and closes at the word."""
    await websocket.accept(headers=[(b"set-cookie", b"visit=1")])
    await websocket.send_text(websocket.cookies.get("name", "nobody"))
    while (data := await websocket.receive_bytes()) != b"enough":
        await websocket.send_bytes(data)
    await websocket.close(4002, "as you say")


async def _shopping(address: str, compress: int) -> tuple[Any, ...]:
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession(
            cookies={"name": "ann"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),  # which keeps those of an address too
        ) as session,
        session.ws_connect(address, compress=compress) as shopping,
    ):
        name = await shopping.receive_str()
        for data in (b"\0\xff", b"", bytes(range(256)) * 2000):
            await shopping.send_bytes(data)
            assert data == await shopping.receive_bytes()
        await shopping.send_bytes(b"enough")
        closed = await shopping.receive()
        kept = {cookie.key: cookie.value for cookie in session.cookie_jar}
        return name, kept["visit"], closed.type, closed.data, closed.extra, shopping.close_code


@pytest.mark.parametrize("compress", [0, 15])
def test_bytes_cookies_and_a_close_of_the_app_with_aiohttp(compress: int) -> None:
    app = Starlette(routes=[WebSocketRoute("/", shop)])
    with adapted(app) as adapter, site(adapter) as running:
        seen = asyncio.run(_shopping("http://{}:{}/".format(*running.address), compress))
        assert [] == running.errors
    assert ("ann", "1", aiohttp.WSMsgType.CLOSE, 4002, "as you say", 4002) == seen


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
                assert message.upper() == chatting.recv(timeout=PATIENCE)
            chatting.send(["in ", "three ", "pieces"])
            assert "IN THREE PIECES" == chatting.recv(timeout=PATIENCE)
            chatting.ping().wait(PATIENCE)
            chatting.close(4001, "off")
        chat.done.wait()
        assert [(4001, "off")] == chat.left
        with running.connect() as client:
            rejected = client.open("/hall?token=wrong")
            assert isinstance(rejected, Rejected)
            assert 403 == rejected.status
