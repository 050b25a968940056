"""Work of the app after its response."""

import asyncio
from typing import Any

import pytest

from support.asgi_apps import chunk, end, start
from support.plain_servers import environ_for
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import Flag, LogWatch, until

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


class TestBackgroundTask:
    """What the application does after its last event delays nobody."""

    @pytest.mark.parametrize("streams", [False, True])
    def test_the_response_does_not_wait_for_it(self, streams: bool) -> None:
        go_on, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            if streams:
                await asyncio.sleep(0)
            await chunk(send, b"answer", more=False)
            await go_on.waited()
            over.set()

        with adapted(app) as adapter:
            assert b"answer" == ask(adapter).body
            assert not over.is_set()
            assert 1 == adapter.stats().busy
            go_on.set()
            over.wait()

    def test_the_server_may_close_while_it_runs(self) -> None:
        """A response that is complete cannot be disconnected from."""
        events: list[str] = []
        go_on, over = Flag(), Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send)
            await chunk(send, b"answer")
            await end(send)
            await go_on.waited()
            events.append((await receive())["type"])
            await asyncio.sleep(0.02)
            over.set()

        with adapted(app, disconnect_grace=0.001) as adapter:
            ask(adapter)
            go_on.set()
            over.wait()
            assert 0 == adapter.stats().client_disconnects

        assert ["http.disconnect"] == events


class TestRestThatNobodyTakes:
    """A server takes the head of a response to HEAD, and no more bytes than Content-Length says."""

    @pytest.mark.parametrize(
        ("method", "headers"), [("HEAD", []), ("GET", [(b"content-length", b"1")])], ids=["HEAD", "Content-Length"]
    )
    @pytest.mark.parametrize("told", [True, False])
    def test_an_app_that_is_told_so_may_leave_it_out(
        self, method: str, headers: list[tuple[bytes, bytes]], told: bool, log: LogWatch
    ) -> None:
        """As feeds do when they receive `http.disconnect`. Without that, it is an error to leave it out."""
        go_on = Flag()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await start(send, headers=headers)
            await chunk(send, b"x")
            await go_on.waited()
            while told and (await receive())["type"] != "http.disconnect":
                pass

        with adapted(app) as adapter:
            with Served(adapter, environ_for(method, "/")) as served:
                served.call()
                served.next()
                served.close()
            go_on.set()
            until(lambda: adapter.stats().busy == 0)
            stats = adapter.stats()

        assert ((1, 0) if told else (0, 1)) == (stats.served, stats.aborted)
        assert 0 == stats.client_disconnects
        assert bool(log.complaints()) is not told
