"""The lifespan of the server: hooks, the state, and the end of all threads."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from bridge import WsgiToAsgi
from bridge._wsgi_to_asgi.loop_response import AsyncBody
from support.event_loops import on_asyncio
from support.failures import AppError
from support.patience import PATIENCE
from support.scripted_asgi_server import Adapt, Environ, Event, get, lifespan, opened, serve, types_of
from support.waiting import Flag, LogWatch, Work, eventually
from support.wsgi_apps import Gate, hello, reply


async def no_thread_is_left(before: list[threading.Thread]) -> None:
    """All threads of the adapter have ended, without its `close()`."""
    await eventually(
        lambda: (
            not [thread for thread in threading.enumerate() if thread.name[:7] == "bridge-" and thread not in before]
        )
    )


@pytest.mark.anyio
async def test_the_lifespan_without_hooks(adapt: Adapt) -> None:
    """It is answered, and its end leaves no thread."""
    adapter = adapt(hello)
    before = threading.enumerate()
    async with lifespan(adapter) as server:
        await serve(adapter, *get())

    assert types_of(server.sent) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    await no_thread_is_left(before)


def test_nothing_is_left_to_wait_for_behind_the_shutdown() -> None:
    """Hypercorn cancels the lifespan once it is complete, and takes a worker that is not through with it for failed."""
    calls: list[str] = []
    adapter = WsgiToAsgi(hello, shutdown=lambda: calls.append("shutdown"))
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Event:
        return events.pop(0)

    async def server() -> None:
        async def send(event: Event) -> None:
            if event["type"] == "lifespan.shutdown.complete":
                calls.append("complete")
                asyncio.get_running_loop().call_soon(task.cancel)

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        task = asyncio.ensure_future(adapter(scope, receive, send))
        await asyncio.wait([task])
        assert not task.cancelled()

    asyncio.run(server())
    assert ["shutdown", "complete"] == calls


def hooks(kind: str, calls: list[Any]) -> dict[str, Any]:
    """A pair of hooks of some kind; each notes what it is called with."""

    class Callable0:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __call__(self) -> None:
            calls.append((self.name, None))

    def make(name: str) -> Any:
        def plain() -> None:
            calls.append((name, None))

        def with_state(state: Any) -> None:
            calls.append((name, state))

        async def coroutine() -> None:
            await anyio.sleep(0)
            calls.append((name, None))

        async def coroutine_with_state(state: Any) -> None:
            await anyio.sleep(0)
            calls.append((name, state))

        kinds = {
            "plain": plain,
            "plain with state": with_state,
            "async": coroutine,
            "async with state": coroutine_with_state,
            "async object": Callable0(name),
            "lambda": lambda state: coroutine_with_state(state),
        }
        return kinds[kind]

    return {"startup": make("startup"), "shutdown": make("shutdown")}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain", "plain with state", "async", "async with state", "async object", "lambda"])
async def test_lifespan_hooks(adapt: Adapt, kind: str) -> None:
    """Each is called once, in its phase, with the state where it takes one."""
    calls: list[Any] = []
    state = {"pool": 1}
    adapter = adapt(hello, **hooks(kind, calls))
    before = threading.enumerate()
    async with lifespan(adapter, state) as server:
        assert [name for name, _ in calls] == ["startup"]
        await serve(adapter, *get())

    assert types_of(server.sent) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [name for name, _ in calls] == ["startup", "shutdown"]
    if "state" in kind or kind == "lambda":
        assert all(given is state for _, given in calls)
    await no_thread_is_left(before)


@pytest.mark.anyio
async def test_the_state_reaches_the_requests(adapt: Adapt) -> None:
    """What `startup` puts into the state is in `environ["bridge.state"]`, in the copy that the server makes."""
    seen: list[Any] = []

    def startup(state: dict[str, Any]) -> None:
        state["pool"] = "a pool"

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(environ["bridge.state"])
        return reply(start_response)

    adapter = adapt(app, startup=startup)
    state: dict[str, Any] = {}
    async with lifespan(adapter, state):
        copied = state.copy()
        await serve(adapter, *get(state=copied))

    assert seen == [{"pool": "a pool"}]
    assert seen[0] is copied


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_hook_that_fails(adapt: Adapt, log: LogWatch, phase: str, is_async: bool) -> None:
    """The server is told that the phase failed and why, the log has the traceback, no thread is left.

    And the exception is raised: test clients look at that only, as Starlette's router raises it.
    """

    def fail() -> None:
        raise AppError("no database")

    async def fail_async() -> None:
        raise AppError("no database")

    adapter = adapt(hello, **{phase: fail_async if is_async else fail})
    before = threading.enumerate()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    server = await serve(adapter, scope, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], fails=True)

    assert isinstance(server.error, AppError), "on trio as well, and no group of it"
    assert server.sent[-1] == {"type": f"lifespan.{phase}.failed", "message": "AppError: no database"}
    assert "in fail" in log.wait_for(f"the {phase} hook", level=logging.ERROR)
    await no_thread_is_left(before)


@pytest.mark.anyio
async def test_a_shutdown_waits_for_running_requests(adapt: Adapt, log: LogWatch) -> None:
    """Running requests end before the hook is called, for they may need what it takes away."""
    app = Gate()
    order: list[str] = []

    def site(environ: Environ, start_response: Any) -> list[bytes]:
        body = app(environ, start_response)
        order.append("request")
        return body

    adapter = adapt(site, shutdown=lambda: order.append("hook"))
    async with opened(adapter, *get("/held")) as request:
        await app.entered.waited()
        async with lifespan(adapter) as server:
            server.feed({"type": "lifespan.shutdown"})
            await eventually(lambda: adapter.stats().alive == 0)  # it has begun: those threads are no longer ours
            app.go.set()

    assert request.status == 200
    assert order == ["request", "hook"]
    assert log.at(logging.WARNING) == []


def stream_of(chunks: Callable[[], AsyncIterator[bytes]]) -> Callable[..., AsyncBody]:
    """An app whose response is made on the loop."""

    def app(_environ: Environ, start_response: Any) -> AsyncBody:
        start_response("200 OK", [])
        return AsyncBody(chunks, pytest.fail, int, int)

    return app


@on_asyncio
@pytest.mark.anyio
async def test_a_shutdown_waits_for_the_cleanup_of_streams(adapt: Adapt, log: LogWatch) -> None:
    """Their requests have ended, because the server has cancelled them. What the hook removes may still be needed."""
    order: list[str] = []
    go = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            await go.wait()
            order.append("cleanup")

    adapter = adapt(stream_of(chunks), shutdown=lambda: order.append("hook"))
    async with lifespan(adapter) as server:
        async with opened(adapter, *get()) as request:
            await request.until(lambda: request.chunks)
            request.cancel()
        server.feed({"type": "lifespan.shutdown"})
        for _ in range(20):
            await asyncio.sleep(0)
        go.set()

    assert order == ["cleanup", "hook"]
    assert log.at(logging.WARNING) == []


@on_asyncio
@pytest.mark.anyio
async def test_a_shutdown_ends_a_cleanup_that_does_not_end(adapt: Adapt, log: LogWatch) -> None:
    """After `shutdown_timeout` seconds it is cancelled, and the log names its request."""
    order: list[str] = []

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                order.append("cleanup")

    adapter = adapt(stream_of(chunks), shutdown=lambda: order.append("hook"), shutdown_timeout=0.05)
    async with lifespan(adapter) as server, opened(adapter, *get("/feed")) as request:
        await request.until(lambda: request.chunks)
        request.cancel()

    assert types_of(server.sent)[-1] == "lifespan.shutdown.complete"
    assert order == ["cleanup", "hook"]
    assert "the cleanup of GET '/feed'" in log.wait_for("not stopped", level=logging.WARNING)


@pytest.mark.anyio
async def test_a_shutdown_names_the_threads_that_did_not_stop(adapt: Adapt, log: LogWatch) -> None:
    """After `shutdown_timeout` seconds the server is answered all the same, and the log says what held it up."""
    app = Gate()
    adapter = adapt(app, shutdown_timeout=0.05)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        async with lifespan(adapter) as server:
            pass
        line = log.wait_for("not stopped", level=30)
        app.go.set()

    assert types_of(server.sent)[-1] == "lifespan.shutdown.complete"
    assert "bridge-wsgi-1" in line
    assert "wsgi_apps.py" in line


def begin_on_another_loop(adapter: WsgiToAsgi, path: str) -> Callable[[], Any]:
    """Begin a request on a loop in a thread of its own. Returns a function that waits for the request's end."""
    return Work(lambda: asyncio.run(serve(adapter, *get(path)))).result


@pytest.mark.anyio
async def test_a_shutdown_while_another_loop_serves(adapt: Adapt, log: LogWatch) -> None:
    """It does not wait for the requests of the other loop. Those in a thread, and those that wait for one, go on."""
    app = Gate("/")
    adapter = adapt(app, threads=1)
    held = begin_on_another_loop(adapter, "/held")
    await app.entered.waited()
    waits = begin_on_another_loop(adapter, "/waits")
    await eventually(lambda: adapter.stats().waiting)
    with anyio.fail_after(PATIENCE):
        async with lifespan(adapter) as server:
            adapter._dispatchers.here()
    assert types_of(server.sent)[-1] == "lifespan.shutdown.complete"
    assert not app.go.is_set()
    app.go.set()
    assert [held().status, waits().status] == [200, 200]

    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_a_shutdown_waits_for_its_own_requests_while_another_loop_serves(adapt: Adapt, log: LogWatch) -> None:
    """Before the hook is called; what does not end in time is named, and what runs for the other loop is not."""
    other, own = Gate("/other"), Gate("/own")
    order: list[str] = []

    def site(environ: Environ, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/other":
            return other(environ, start_response)
        body = own(environ, start_response)
        order.append("request")
        return body

    adapter = adapt(site, shutdown=lambda: order.append("hook"))
    held = begin_on_another_loop(adapter, "/other")
    await other.entered.waited()
    async with opened(adapter, *get("/own")) as request:
        await own.entered.waited()
        async with lifespan(adapter) as server:
            server.feed({"type": "lifespan.shutdown"})
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert order == []
            own.go.set()
    assert request.status == 200
    assert order == ["request", "hook"]
    other.go.set()
    assert held().status == 200

    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_a_shutdown_names_its_own_threads_while_another_loop_serves(adapt: Adapt, log: LogWatch) -> None:
    """After `shutdown_timeout` seconds it names them, once, and not those of the other loop."""
    app = Gate("/")
    adapter = adapt(app, shutdown_timeout=0.05)
    held = begin_on_another_loop(adapter, "/other")
    await app.entered.waited()
    async with opened(adapter, *get("/own")):
        await eventually(lambda: adapter.stats().busy == 2)
        async with lifespan(adapter):
            pass
        lines = log.at(logging.WARNING)
        app.go.set()
    assert held().status == 200

    assert len(lines) == 1


@pytest.mark.anyio
async def test_the_last_shutdown_stops_the_threads(adapt: Adapt) -> None:
    """Although the loop of the first one still runs, as that of a test suite or of a server's main thread may."""
    adapter = adapt(hello)
    before = threading.enumerate()
    served, go = Flag(), Flag()

    async def other() -> None:
        async with lifespan(adapter):
            await serve(adapter, *get())
            served.set()
            await go.waited()

    work = Work(lambda: asyncio.run(other()))
    await served.waited()
    async with lifespan(adapter):
        await serve(adapter, *get())
    assert adapter.stats().alive
    go.set()
    work.result()

    await no_thread_is_left(before)


@pytest.mark.anyio
async def test_requests_after_a_shutdown(adapt: Adapt) -> None:
    """They are served, by new threads; a server may be restarted in the same process."""
    adapter = adapt(hello)
    for _ in range(2):
        async with lifespan(adapter):
            assert (await serve(adapter, *get())).body == b"served"
    assert (await serve(adapter, *get())).body == b"served"
    assert adapter.stats().served == 3


@pytest.mark.anyio
async def test_a_lifespan_that_the_server_cancels(adapt: Adapt) -> None:
    """The cancellation is handed on, and requests are served as before."""
    adapter = adapt(hello)
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    async with opened(adapter, scope, [{"type": "lifespan.startup"}]) as server:
        await server.until(lambda: server.sent)
        server.cancel()
        await server.ended()

    assert server.cancelled
    assert (await serve(adapter, *get())).body == b"served"
