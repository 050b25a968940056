"""An ASGI app behind both adapters, whose server's loop ends: `WsgiToAsgi(AsgiToWsgi(app))`."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._asgi_to_wsgi import responder
from bridge._asgi_to_wsgi.responder import AsgiResponder
from bridge._wsgi_to_asgi.responder import WsgiResponder
from support.asgi_apps import chunk, end, start
from support.lenient_asgi_server import LenientRequest, fetch, opened_leniently
from support.plain_servers import scope_for
from support.waiting import Flag, LogWatch, bounded

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


@contextlib.contextmanager
def both(app: Any, **options: Any) -> Iterator[WsgiToAsgi]:
    """The app behind both, for an ASGI server."""
    inner = AsgiToWsgi(app, lifespan="off", shutdown_timeout=3.0, **options)
    outer = WsgiToAsgi(inner, shutdown_timeout=3.0)
    try:
        yield outer
    finally:
        bounded(outer.close)
        bounded(inner.close)
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


@pytest.mark.anyio
@pytest.mark.parametrize("begun", [False, True])
async def test_a_thread_that_is_the_last_to_hear_of_a_cancelled_request(
    begun: bool, log: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On trio, the app's task belongs to the request, and may be the first to end: the thread sees that it has ended
    before it is told why.
    """
    flags: dict[str, Flag] = {}
    hear, abandon = AsgiResponder._hear_of_leave, WsgiResponder.abandon

    def noting(responder: Any) -> None:
        flags["seen"].set()
        hear(responder)

    def late(responder: Any) -> None:
        if flags["over"].is_set():
            flags["seen"].wait()
        abandon(responder)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            if begun:
                await start(send)
                await chunk(send, b"x")
            flags["waits"].set()
            await anyio.sleep_forever()
        finally:
            flags["over"].set()

    monkeypatch.setattr(AsgiResponder, "_hear_of_leave", noting)
    monkeypatch.setattr(WsgiResponder, "abandon", late)
    with both(app, disconnect_grace=0.001) as outer:
        for _ in range(8):  # trio takes tasks in any order
            flags.update(waits=Flag(), over=Flag(), seen=Flag())
            async with opened_leniently(outer) as exchange:
                await flags["waits"].waited()
                exchange.cancel_scope.cancel()
                await exchange.until(lambda: exchange.over)
            await flags["over"].waited()

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


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("how", ["raises", "cancels"])
def test_its_thread_does_not_wait_for_a_client_to_leave(how: str, begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is there for other requests. Whose a cancellation of the task is, it finds out once."""
    looks: list[object] = []
    monkeypatch.setattr(responder, "_TOLD_SECONDS", 0.0)
    monkeypatch.setattr(responder, "has_left", looks.append)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await start(send)
            await chunk(send, b"x")
        if how == "raises":
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    async def serve(outer: WsgiToAsgi) -> None:
        with pytest.raises(RuntimeError):
            await fetch(outer)

    with both(app) as outer:
        asyncio.run(serve(outer))

    assert len(looks) == (how == "cancels")
