"""The lifespan of an ASGI app between two adapters, and the requests that come while the server's lifespan ends, after
it, or from a hook.

ASGI server -> WsgiToAsgi -> WSGI middleware -> AsgiToWsgi -> ASGI app    on the loop of the server
"""

import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._asgi_to_wsgi.lifespan import LifespanRun
from bridge._concurrency.calls import Serving
from bridge._concurrency.loops import GroupClosed, TrioLoop, spawner
from bridge.errors import LifespanFailed
from support.asgi_apps import Lifespan, reply
from support.patience import PATIENCE
from support.plain_servers import Environ, environ_for
from support.scripted_asgi_server import Request, get, lifespan, opened, serve
from support.waiting import Flag, LogWatch, bounded
from support.wsgi_apps import reply as reply_at_once

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")

ONCE = ["startup", "shutdown"]


@contextlib.contextmanager
def nested(app: Any, *, mode: str = "on", **hooks: Any) -> Iterator[tuple[WsgiToAsgi, AsgiToWsgi]]:
    """An ASGI app within WSGI middleware, which answers `/middleware` itself, for an ASGI server."""
    inner = AsgiToWsgi(app, shutdown_timeout=3.0, lifespan=mode)  # type: ignore[arg-type]

    def middleware(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/middleware":
            return reply_at_once(start_response)
        return inner(environ, start_response)

    outer = WsgiToAsgi(middleware, shutdown_timeout=3.0, **hooks)
    try:
        yield outer, inner
    finally:
        bounded(outer.close)
        bounded(inner.close)


class Shutdown:
    """A shutdown hook that waits for the test."""

    def __init__(self) -> None:
        self._entered, self._go_on = Flag(), Flag()

    async def __call__(self) -> None:
        self._entered.set()
        await self._go_on.waited()

    @contextlib.asynccontextmanager
    async def under_way(self, server: Request) -> AsyncIterator[None]:
        """The server is told to shut down, and waits for this hook until the end."""
        server.feed({"type": "lifespan.shutdown"})
        await self._entered.waited()
        yield
        self._go_on.set()


async def body_of(outer: WsgiToAsgi, path: str = "/") -> bytes:
    return (await serve(outer, *get(path))).body


def ask_here(inner: AsgiToWsgi) -> bytes:
    """One request of the thread itself, for what it works for."""
    return b"".join(inner(environ_for("GET", "/"), lambda *_: lambda _: None))


@pytest.mark.anyio
class TestRequestsAndTheServersLifespan:
    """Requests are served, within a lifespan of the app if the server's goes on."""

    async def test_each_lifespan_of_the_server_has_one_of_the_app(self) -> None:
        """As that of test clients, on the same loop: an app that was shut down is not served from."""
        app = Lifespan()
        with nested(app) as (outer, inner):
            for number in range(1, 4):
                async with lifespan(outer):
                    assert await body_of(outer) == b"hello"
                    assert await body_of(outer) == b"hello"
                assert app.events == ONCE * number
            assert inner.stats().served == 6

    async def test_the_first_request_during_the_shutdown(self) -> None:
        """What is started for it is shut down before the server is answered."""
        app, hook = Lifespan(), Shutdown()
        with nested(app, shutdown=hook) as (outer, _):
            async with lifespan(outer) as server, hook.under_way(server):
                assert await body_of(outer) == b"hello"
                assert app.events == ["startup"]
            assert app.events == ONCE

    async def test_a_request_after_the_apps_own_shutdown(self) -> None:
        """The app is started again, and gets a state that is not what its shutdown left."""
        app, hook = Lifespan(), Shutdown()
        with nested(app, shutdown=hook) as (outer, _):
            async with lifespan(outer) as server:
                assert await body_of(outer) == b"hello"
                async with hook.under_way(server):
                    assert app.events == ONCE
                    assert await body_of(outer) == b"hello"
            assert app.events == ONCE * 2

    @pytest.mark.parametrize("mode", ["auto", "off"])
    async def test_the_first_request_after_the_lifespan(self, mode: str) -> None:
        """The adapter has served since the shutdown began, and knows the lifespan that is over by now."""
        app, hook = Lifespan(), Shutdown()
        with nested(app, mode=mode, shutdown=hook) as (outer, _):
            async with lifespan(outer) as server, hook.under_way(server):
                assert await body_of(outer, "/middleware") == b"served"
            for _ in range(2):
                assert await body_of(outer) == b"hello"

    async def test_one_that_demands_a_lifespan_after_that_of_the_server(self) -> None:
        """On trio a lasting task needs the server's, so the request fails for a reason that names it."""
        app, hook = Lifespan(), Shutdown()
        with nested(app, shutdown=hook) as (outer, _):
            async with lifespan(outer) as server, hook.under_way(server):
                assert await body_of(outer, "/middleware") == b"served"
            if sniffio.current_async_library() == "asyncio":
                assert await body_of(outer) == b"hello"
                return
            for _ in range(2):
                request = await serve(outer, *get(), fails=True)
                assert isinstance(request.error, LifespanFailed)
                assert "the server runs no lifespan" in str(request.error)
        assert app.events == []

    async def test_a_lifespan_that_the_server_cancels(self) -> None:
        """A first request for the app comes after that."""
        app = Lifespan()
        with nested(app, mode="auto") as (outer, _):
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
            async with opened(outer, scope, [{"type": "lifespan.startup"}]) as server:
                await server.until(lambda: server.sent)
                assert await body_of(outer, "/middleware") == b"served"
                server.cancel()
                await server.ended()
            assert await body_of(outer) == b"hello"

    async def test_many_requests_while_lifespans_come_and_go(self) -> None:
        """Each is served by an app that has been started and not been shut down, and each start has its shutdown."""
        running = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal running
            if scope["type"] != "lifespan":
                assert scope["state"]["alive"], "it was shut down"
                await reply(send, b"hello")
                return
            await receive()
            alive = scope["state"]["alive"] = [True]
            running += 1
            await send({"type": "lifespan.startup.complete"})
            await receive()
            alive.clear()
            running -= 1
            await send({"type": "lifespan.shutdown.complete"})

        over = False

        async def ask() -> None:
            while not over:
                assert await body_of(outer) == b"hello"

        with nested(app, mode="auto") as (outer, _):
            async with lifespan(outer):
                for _ in range(20):
                    # The lifespan of another worker, or test, on this loop: its end is what the requests meet.
                    async with anyio.create_task_group() as group:
                        over = False
                        for _ in range(4):
                            group.start_soon(ask)
                        async with lifespan(outer):
                            assert await body_of(outer) == b"hello"
                        over = True
            assert running == 0

    @pytest.mark.parametrize("mode", ["on", "auto", "off"])
    @pytest.mark.parametrize("phase", ["startup", "shutdown"])
    async def test_a_hook_in_a_thread_may_call_the_app(self, phase: str, mode: str) -> None:
        """It belongs to no request. The app is ready for it, and is shut down before the server is answered."""
        app = Lifespan()
        bodies: list[bytes] = []
        threads: list[int] = []
        inner: AsgiToWsgi

        def hook() -> None:
            threads.append(threading.get_ident())
            bodies.append(ask_here(inner))

        with nested(app, mode=mode, **{phase: hook}) as (outer, inner):
            async with lifespan(outer):
                pass
        assert bodies == [b"hello"]
        assert threads != [threading.get_ident()]
        assert app.events == ([] if mode == "off" else ONCE)

    async def test_a_startup_that_fails_shuts_down_what_its_hook_has_started(self) -> None:
        app = Lifespan()
        inner: AsgiToWsgi

        def hook() -> None:
            ask_here(inner)
            raise ValueError("no database")

        with nested(app, startup=hook) as (outer, inner):
            scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
            server = await serve(outer, scope, [{"type": "lifespan.startup"}], fails=True)
            assert isinstance(server.error, ValueError)
            assert server.sent[-1]["type"] == "lifespan.startup.failed"
        assert app.events == ONCE


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("demanded", [True, False])
async def test_a_group_that_is_closed_before_the_lifespan_begins(demanded: bool, log: LogWatch) -> None:
    """A thread has found the server's lifespan, which ended before the loop came to that of the app."""
    app = Lifespan()
    async with anyio.create_task_group() as group:
        spawn = spawner(group)
    run = LifespanRun(app, TrioLoop(), lambda: spawn, demanded=demanded)

    start: Callable[[], None] = functools.partial(run.start, PATIENCE)
    if demanded:
        for _ in range(2):
            with pytest.raises(LifespanFailed, match="the task group is closed"):
                await anyio.to_thread.run_sync(start)
    else:
        await anyio.to_thread.run_sync(start)
        log.wait_for("the task group is closed")
    with anyio.fail_after(PATIENCE):
        await run.stop(1.0)
    assert app.events == []
    assert issubclass(GroupClosed, RuntimeError)


@pytest.mark.anyio
async def test_requests_that_go_on_coming_do_not_keep_the_shutdown_from_ending() -> None:
    """Each would start the app again: what is added after the time is left."""
    serving = Serving()
    ended: list[int] = []

    async def end() -> None:
        ended.append(len(ended))
        serving.at_shutdown.append(end)
        await anyio.lowlevel.checkpoint()

    serving.at_shutdown.append(end)
    with anyio.fail_after(PATIENCE):
        await serving.end(0.0)

    assert ended
    assert [end] == serving.at_shutdown
