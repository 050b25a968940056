"""Work of the app after its response."""

import asyncio
from typing import Any

import pytest

from support.asgi_apps import chunk, end, start
from support.scripted_wsgi_server import adapted, ask
from support.waiting import Flag

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
