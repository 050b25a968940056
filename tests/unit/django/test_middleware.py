"""`BridgeMiddleware` under Django's own handlers, its test clients, and those of `bridge.django`."""

import asyncio

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from support.django_clients import Asgi, Wsgi

pytestmark = pytest.mark.usefixtures("bridged")


class TestLoops:
    def test_async_views_share_one_loop(self, face: Asgi | Wsgi) -> None:
        """The server's, or the private one."""
        loops = {face.ask("/async_where").json()["loop"] for _ in range(3)}

        assert 1 == len(loops)

    def test_sync_code_calls_async_code_there(self, face: Asgi | Wsgi) -> None:
        """By asgiref, and by `request.bridge`."""
        loops = face.ask("/calls_async").json()

        assert {face.ask("/async_where").json()["loop"]} == set(loops.values())

    def test_the_thread_is_left_as_it_was(self) -> None:
        """What runs in it later makes a loop of its own, as without the middleware."""
        Client().get("/calls_async")

        async def loop() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        assert async_to_sync(loop)() is not async_to_sync(loop)()


class TestClients:
    def test_the_sync_client(self) -> None:
        """It calls the chain itself."""
        assert b"hello\n" == Client().get("/async_hello").content
        assert b"0\n1\n2\n" == b"".join(Client().get("/async_stream").streaming_content)  # type: ignore[arg-type]

    def test_the_async_client(self) -> None:
        """As well."""

        async def ask() -> None:
            assert b"hello\n" == (await AsyncClient().get("/hello")).content
            response = await AsyncClient().get("/stream")
            assert b"0\n1\n2\n" == b"".join([part async for part in response.streaming_content])

        asyncio.run(ask())
