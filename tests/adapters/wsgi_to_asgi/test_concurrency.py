"""Many requests at once, and the context variables of each."""

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import uvloop

from support.patience import PATIENCE
from support.plain_servers import call_asgi
from support.scripted_asgi_server import Adapt, Environ, Event, Scope, get, opened, post, serve
from support.sizes import BOUND
from support.waiting import bounded, eventually
from support.wsgi_apps import Chunks, Gate, endless, reply


@pytest.mark.anyio
async def test_slow_requests_do_not_hold_up_the_others(adapt: Adapt) -> None:
    """Of 200 requests at once, 180 are served while 20 block, and then those are."""
    app = Gate("/slow")

    def site(environ: Environ, start_response: Any) -> list[bytes]:
        app(environ, start_response)
        return [environ["PATH_INFO"].encode()]

    adapter = adapt(site, threads=40)
    served: list[str] = []

    async def ask(path: str) -> None:
        request = await serve(adapter, *get(path))
        assert request.body == path.encode()
        served.append(path)
        if len(served) == 180:
            assert not any(path.startswith("/slow") for path in served)
            app.go.set()

    async with anyio.create_task_group() as group:
        for at in range(200):
            group.start_soon(ask, f"/slow/{at}" if at % 10 == 0 else f"/{at}")

    assert len(served) == 200
    assert adapter.stats().served == 200
    assert adapter.stats().alive <= 40


@pytest.mark.anyio
async def test_requests_that_all_block_run_at_once(adapt: Adapt) -> None:
    """As many requests as there are threads run at the same time: none would pass the barrier else."""
    barrier = threading.Barrier(12)

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        barrier.wait(PATIENCE)
        return reply(start_response)

    adapter = adapt(app, threads=12)
    async with anyio.create_task_group() as group:
        for _ in range(36):
            group.start_soon(serve, adapter, *get())

    assert adapter.stats().served == 36


@pytest.mark.anyio
async def test_uploads_and_streams_at_once(adapt: Adapt) -> None:
    """Forty bodies that are echoed at the same time do not get mixed up."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter(lambda: environ["wsgi.input"].read(100), b"")

    adapter = adapt(app, threads=5, collect=500)

    async def ask(at: int) -> None:
        pieces = [bytes([at]) * 200 for _ in range(10)]
        request = await serve(adapter, *post(*pieces, length=2000 if at % 2 else None))
        assert request.body == b"".join(pieces)

    async with anyio.create_task_group() as group:
        for at in range(40):
            group.start_soon(ask, at)


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_clients_that_leave_endless_responses(adapt: Adapt, ends: str) -> None:
    """Twelve clients that leave, with four threads, leave the server as it was."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Chunks(endless())

    adapter = adapt(app, threads=4)
    for _ in range(3):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                async with opened(adapter, *get()) as request:
                    await request.until(lambda: len(request.body) > BOUND)
                    getattr(request, ends)()

            for _ in range(4):
                group.start_soon(ask)
    await eventually(lambda: not adapter.stats().busy)

    assert adapter.stats().alive <= 4


user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


@pytest.mark.anyio
async def test_context_variables_of_middleware_are_seen(adapt: Adapt) -> None:
    """What ASGI middleware sets is there in the app, in each step of its iterable, and in `close()`."""
    seen: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            seen.append(user.get())
            yield b"1"
            seen.append(user.get())
            yield b"2"

        def close(self) -> None:
            seen.append(user.get())

    def app(environ: Environ, start_response: Any) -> Any:
        seen.append(user.get())
        start_response("200 OK", [])
        return Body()

    adapter = adapt(app)

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        user.set("alice")
        await adapter(scope, receive, send)

    await serve(middleware, *get())

    assert seen == ["alice"] * 4


@pytest.mark.anyio
async def test_context_variables_of_the_app_stay_in_its_request(adapt: Adapt) -> None:
    """What the app sets is kept from step to step, and seen neither by the server nor by the next request."""
    seen: list[str] = []

    def chunks() -> Iterator[bytes]:
        seen.append(user.get())
        yield b"1"

    def app(environ: Environ, start_response: Any) -> Any:
        seen.append(user.get())
        user.set("bob")
        start_response("200 OK", [])
        return chunks()

    adapter = adapt(app, threads=1)
    after: list[str] = []

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        await adapter(scope, receive, send)
        after.append(user.get())

    await serve(middleware, *get())
    await serve(middleware, *get())

    assert seen == ["nobody", "bob"] * 2
    assert after == ["nobody"] * 2


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_pipelined_requests_do_not_share_their_context(adapt: Adapt, streams: bool) -> None:
    """A server that begins the next request within `send` of the one before begins it in that one's context."""
    seen: dict[str, str] = {}

    def app(environ: Environ, start_response: Any) -> Any:
        seen[environ["PATH_INFO"]] = user.get()
        user.set(environ["PATH_INFO"])
        body = reply(start_response)
        return iter(body) if streams else body

    adapter = adapt(app)
    async with anyio.create_task_group() as group:

        async def next_request(event: Event) -> None:
            if event["type"] == "http.response.body" and len(seen) == 1:
                group.start_soon(serve, adapter, *get("/second"))

        async with opened(adapter, *get("/first"), next_request):
            pass

    assert seen == {"/first": "nobody", "/second": "nobody"}


@pytest.mark.anyio
async def test_requests_at_once_do_not_share_their_context(adapt: Adapt) -> None:
    """Two requests whose tasks were made in the same context each have a copy of it."""
    both = threading.Barrier(2)
    seen: list[tuple[str, str]] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        user.set(environ["PATH_INFO"])
        both.wait(PATIENCE)
        seen.append((environ["PATH_INFO"], user.get()))
        both.wait(PATIENCE)
        return reply(start_response)

    adapter = adapt(app)
    async with anyio.create_task_group() as group:
        for path in ("/1", "/2"):
            group.start_soon(serve, adapter, *get(path))

    assert sorted(seen) == [("/1", "/1"), ("/2", "/2")]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_requests_run_at_once_where_a_test_has_frozen_the_clock(
    adapt: Adapt, monkeypatch: pytest.MonkeyPatch, new_loop: Any
) -> None:
    """No timer of the loop ends then, so that nothing may wait for one.

    Clocks are frozen as freezegun does it: whatever module has one of the functions of `time` gets another one.
    """
    now = time.monotonic()
    barrier = threading.Barrier(4)

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        barrier.wait(PATIENCE)
        return reply(start_response)

    def frozen() -> float:
        return now

    original = time.monotonic
    monkeypatch.setattr(time, "monotonic", frozen)
    for module in [each for name, each in sys.modules.items() if name.partition(".")[0] == "bridge"]:
        if vars(module).get("monotonic") is original:
            monkeypatch.setattr(module, "monotonic", frozen)
    adapter = adapt(app)

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, uvloop.Loop):
            loop.time = frozen  # type: ignore[method-assign]
        calls = [call_asgi(adapter, get()[0], []) for _ in range(4)]
        return await asyncio.gather(*calls)

    def run() -> list[Any]:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main())

    seen = bounded(run)

    assert [each.body for each in seen] == [b"served"] * 4
