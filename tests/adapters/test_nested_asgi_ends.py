"""An ASGI app behind both adapters, whose server's loop ends: `WsgiToAsgi(AsgiToWsgi(app))`."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from support.asgi_apps import chunk, end, start
from support.lenient_asgi_server import LenientRequest, fetch
from support.plain_servers import scope_for
from support.waiting import Flag, LogWatch

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


@contextlib.contextmanager
def both(app: Any) -> Iterator[WsgiToAsgi]:
    """The app behind both, for an ASGI server."""
    with (
        AsgiToWsgi(app, lifespan="off", shutdown_timeout=3.0) as inner,
        WsgiToAsgi(inner, shutdown_timeout=3.0) as outer,
    ):
        yield outer
    gc.collect()  # the objects of a request refer to each other and to the loop


@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_end_of_the_servers_loop_is_no_error_of_the_app(method: str, when: str, log: LogWatch) -> None:
    """It cancels all tasks at once: the app's before the thread has told of it. (As at the end of `asyncio.run`.)"""
    waits = Flag()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if when != "before":
            await start(send)
            await chunk(send, b"x")
        if when == "after":
            await end(send)
        waits.set()
        await asyncio.Event().wait()

    async def serve(outer: WsgiToAsgi) -> None:
        request = asyncio.create_task(LenientRequest(outer, scope_for(method, "/"), ()).run())
        await waits.waited()
        if when == "after":
            await request

    with both(app) as outer:
        asyncio.run(serve(outer))

    assert [] == log.complaints()


def test_an_app_that_raises_what_cancels_is_one(log: LogWatch) -> None:
    """Nobody has cancelled it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    async def serve(outer: WsgiToAsgi) -> None:
        with pytest.raises(RuntimeError, match="ended its task with CancelledError"):
            await fetch(outer)

    with both(app) as outer:
        asyncio.run(serve(outer))

    assert log.having("asked for GET '/', raised", "CancelledError", level=logging.ERROR)
