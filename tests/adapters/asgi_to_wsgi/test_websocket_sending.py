"""What an app sends through a WebSocket of `AsgiToWsgi`: large messages, and who waits for whom."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bridge._asgi_to_wsgi.websocket_protocol import FRAME_SIZE
from support.scripted_wsgi_server import adapted
from support.websocket_clients import Client, site


@contextlib.contextmanager
def connected(app: Any) -> Iterator[Client]:
    """A client that has not opened yet."""
    with adapted(app) as adapter, site(adapter) as running, running.connect() as client:
        yield client


async def echoing(scope: Any, receive: Any, send: Any) -> None:
    await accept(receive, send)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def accept(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("size", [FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 2 * FRAME_SIZE + 5])
def test_a_message_of_several_frames_is_whole(size: int, deflate: bool) -> None:
    """And what follows is another message."""
    with connected(echoing) as client:
        client.open(deflate=deflate)
        for message in (b"y" * size, "é" * size):
            client.send(message)
            assert message == client.receive()
            client.send("next")
            assert "next" == client.receive()
        client.close()


def test_frames_stay_in_order_where_there_is_no_room_for_them() -> None:
    message = b"".join(bytes([number]) * FRAME_SIZE for number in range(32))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "bytes": message})

    with connected(app) as client:
        client.open()
        assert message == client.receive()
        client.answer_close(client.receive())  # type: ignore[arg-type]


def test_thread_sensitive_code_can_wait_for_what_is_being_sent() -> None:
    """The thread would send the rest of it, but does not while that code runs."""
    from asgiref.sync import async_to_sync, sync_to_async

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        sending = asyncio.create_task(send({"type": "websocket.send", "bytes": b"z" * 16 * 2**20}))
        await asyncio.sleep(0)  # it waits for room from here on
        await sync_to_async(lambda: async_to_sync(asyncio.wait)([sending]))()
        await send({"type": "websocket.send", "text": "done"})

    with connected(app) as client:
        client.open()
        assert b"z" * 16 * 2**20 == client.receive()
        assert "done" == client.receive()
        client.answer_close(client.receive())  # type: ignore[arg-type]
