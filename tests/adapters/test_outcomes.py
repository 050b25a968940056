"""`pytest.fail` and `pytest.skip` inside an application reach the test, through both adapters and `Mounts`.

They are no exceptions, so that code under test lets them pass; what would end a server's process is still kept from it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from bridge import AsgiToWsgi, Mounts, WsgiToAsgi
from support.asgi_apps import chunk, start
from support.plain_servers import environ_for, scope_for
from support.scripted_asgi_server import Adapt, get
from support.scripted_wsgi_server import Served, adapted
from support.waiting import PATIENCE, bounded

OUTCOMES = [pytest.fail, pytest.skip]


def wsgi_that(ends: Callable[[str], Any], *, streams: bool = False) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        def body() -> Any:
            yield b"begun"
            ends("of the test")

        if not streams:
            ends("of the test")
        start_response("200 OK", [])
        return body()

    return app


def asgi_that(ends: Callable[[str], Any], *, streams: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("none")
        if streams:
            await start(send)
            await chunk(send, b"begun")
        ends("of the test")

    return app


async def serve(app: Any, scope: Any = None, events: Any = ()) -> None:
    """One call by a server that lets everything out."""
    waiting = list(events)

    async def receive() -> Any:
        return waiting.pop(0) if waiting else await anyio.sleep_forever()

    async def send(event: Any) -> None:
        """Take it."""

    with anyio.fail_after(PATIENCE):
        await app(get()[0] if scope is None else scope, receive, send)


@pytest.mark.anyio
@pytest.mark.parametrize("ends", OUTCOMES)
@pytest.mark.parametrize("streams", [False, True])
async def test_of_a_wsgi_app(adapt: Adapt, ends: Any, streams: bool) -> None:
    """On trio as well, and no group of it."""
    with pytest.raises(ends.Exception, match="of the test"):
        await serve(adapt(wsgi_that(ends, streams=streams)))


@pytest.mark.parametrize("ends", OUTCOMES)
@pytest.mark.parametrize("streams", [False, True])
def test_of_an_asgi_app(ends: Any, streams: bool) -> None:
    app = asgi_that(ends, streams=streams)
    with adapted(app) as adapter, Served(adapter) as served, pytest.raises(ends.Exception, match="of the test"):
        served.run()


@pytest.mark.anyio
async def test_of_an_app_within_both_adapters(adapt: Adapt) -> None:
    """ASGI within WSGI within ASGI."""
    inner = AsgiToWsgi(asgi_that(pytest.fail), lifespan="off")
    with pytest.raises(pytest.fail.Exception, match="of the test"):
        await serve(adapt(lambda environ, start_response: inner(environ, start_response)))


@pytest.mark.parametrize("make", [asgi_that, wsgi_that])
def test_through_mounts(make: Any) -> None:
    """On servers of either kind."""
    with Mounts({"/": make(pytest.fail)}) as site:
        with Served(site.wsgi, environ_for("GET", "/")) as served, pytest.raises(pytest.fail.Exception):
            served.call()
        with pytest.raises(pytest.fail.Exception):
            bounded(lambda: asyncio.run(serve(site.asgi, scope_for("GET", "/"))))


@pytest.mark.anyio
@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_of_a_hook(adapt: Adapt, phase: str) -> None:
    def fail() -> None:
        pytest.fail("of the test")

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    adapter: WsgiToAsgi = adapt(lambda environ, start_response: [], **{phase: fail})
    with pytest.raises(pytest.fail.Exception, match="of the test"):
        await serve(adapter, scope, events)


@pytest.mark.parametrize("says", [False, True])
@pytest.mark.parametrize("mounted", [False, True])
def test_of_a_lifespan_on_a_wsgi_server(says: bool, mounted: bool) -> None:
    """For each request that needs it; whether the app says that it has failed, as Starlette does, or not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        if says:
            await send({"type": "lifespan.startup.failed", "message": "a traceback"})
        pytest.fail("of the test")

    site = Mounts({"/": app}) if mounted else None
    with adapted(app, lifespan="auto") as adapter:
        for _ in range(2):
            with Served(adapter if site is None else site.wsgi) as served, pytest.raises(pytest.fail.Exception):
                served.call()
        if site is not None:
            bounded(site.close)
