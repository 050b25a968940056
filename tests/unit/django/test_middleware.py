"""`BridgeMiddleware` under Django's own handlers, its test clients, and those of `bridge.django`."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.wsgi import WSGIHandler
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import AsyncClient, Client

from bridge import WsgiToAsgi
from bridge._concurrency import pool
from support.django_clients import Asgi, Wsgi
from support.waiting import Flag

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


class TestConnections:
    def test_they_are_closed_with_a_thread_of_an_adapter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A persistent one ends with the thread, although the application is Django's own."""
        closed = Flag()
        close = DatabaseWrapper._close

        def noting(self: Any) -> None:
            close(self)
            closed.set()

        found = set(pool.at_end)
        pool.at_end.clear()  # what handlers of this package, in other tests, have put there
        monkeypatch.setattr(pool, "IDLE_SECONDS", 0.001)
        monkeypatch.setattr(DatabaseWrapper, "_close", noting)
        face = Asgi(WsgiToAsgi(WSGIHandler(), threads=1, shutdown_timeout=2.0))
        try:
            assert 200 == face.ask("/database").status
            closed.wait()
        finally:
            face.close()
            pool.at_end.update(found)


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
