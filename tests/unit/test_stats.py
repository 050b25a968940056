"""What adapters tell about themselves."""

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from bridge import WsgiToAsgi
from bridge._stats import Counters, LoopStats, ThreadStats
from support.plain_servers import call_asgi
from support.scripted_asgi_server import Adapt, Environ, Event, get, opened, piece_event, post, serve
from support.waiting import eventually
from support.wsgi_apps import Gate, hello, reply


def counts(adapter: WsgiToAsgi) -> dict[str, int]:
    """What was counted, without what was not."""
    stats = adapter.stats()
    names = ("served", "rejected", "client_disconnects", "aborted")
    return {name: getattr(stats, name) for name in names if getattr(stats, name)}


def test_a_new_adapter_has_counted_nothing() -> None:
    """All is zero, and nothing is made to say so."""
    before = threading.enumerate()

    assert dataclasses.astuple(WsgiToAsgi(hello).stats()) == (0,) * 8
    assert threading.enumerate() == before


def test_stats_cannot_be_changed() -> None:
    """They are what was, in words: a frozen dataclass with keyword arguments."""
    stats = WsgiToAsgi(hello).stats()
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.served = 5  # type: ignore[misc]

    assert repr(stats).startswith("ThreadStats(alive=0, busy=0, idle=0, waiting=0, rejected=0")
    for kind in (ThreadStats, LoopStats):
        assert all(field.kw_only for field in dataclasses.fields(kind))


def test_counters_add_up() -> None:
    """Those of several loops make one sum."""
    total, other = Counters(), Counters()
    total.served, total.rejected, total.client_disconnects, total.aborted = 1, 2, 3, 4
    other.served, other.rejected, other.client_disconnects, other.aborted = 10, 20, 30, 40
    total.add(other)

    assert (total.served, total.rejected, total.client_disconnects, total.aborted) == (11, 22, 33, 44)


@pytest.mark.anyio
async def test_threads_and_requests_now(adapt: Adapt) -> None:
    """alive, busy, idle and waiting tell what is going on."""
    app = Gate()
    adapter = adapt(app, threads=2)

    def now() -> tuple[int, int, int, int]:
        stats = adapter.stats()
        return stats.alive, stats.busy, stats.idle, stats.waiting

    assert now() == (0, 0, 0, 0)
    async with opened(adapter, *get("/held/1")):
        await eventually(lambda: now() == (1, 1, 0, 0))
        async with opened(adapter, *get("/held/2")):
            await eventually(lambda: now() == (2, 2, 0, 0))
            async with opened(adapter, *get("/held/3")):
                await eventually(lambda: now() == (2, 2, 0, 1))
                app.go.set()
    await eventually(lambda: now() == (2, 0, 2, 0))
    adapter.close()

    assert now() == (0, 0, 0, 0)


def chunks() -> Iterator[bytes]:
    while True:
        yield b"x" * 1024


def site(environ: Environ, start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise LookupError
    if path == "/endless":
        start_response("200 OK", [])
        return chunks()
    if path == "/short":
        start_response("200 OK", [("Content-Length", "5")])
        return iter([b"1"])
    if path == "/read":
        environ["wsgi.input"].read()
    return iter(reply(start_response)) if path == "/stream" else reply(start_response)


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/stream", "/read"])
async def test_served(adapt: Adapt, path: str) -> None:
    """The app's response was sent whole, whatever its status and form."""
    adapter = adapt(site, collect=2)
    await serve(adapter, *get(path))
    await serve(adapter, *post(b"body", path=path))
    await serve(adapter, *post(b"bo", b"dy", length=None, path=path))

    assert counts(adapter) == {"served": 3}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "request_",
    [
        post(b"12345"),
        post(b"123", b"456", length=None),
        get(headers=[(b"host", b"other")]),
        get(headers=[(b"x-many", b"1")] * 101),
    ],
    ids=["413", "413 chunked", "400", "431"],
)
async def test_rejected(adapt: Adapt, request_: tuple[Any, list[Event]]) -> None:
    """Refused by the adapter."""
    adapter = adapt(site, max_body=4)
    await serve(adapter, *request_)

    assert counts(adapter) == {"rejected": 1}


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/raises", "/short"])
async def test_aborted(adapt: Adapt, path: str) -> None:
    """The app failed, before or after the headers."""
    adapter = adapt(site)
    await serve(adapter, *get(path), fails=True)

    assert counts(adapter) == {"aborted": 1}


@pytest.mark.anyio
async def test_client_disconnects(adapt: Adapt) -> None:
    """The client left first: in its upload, while the app read it, or in the response."""
    adapter = adapt(site, collect=2)
    async with opened(adapter, *get("/endless")) as request:
        await request.until(lambda: request.body)
        request.leave()
    for upload in (
        post(b"b", length=4, ends=False, path="/read"),
        post(b"bod", length=4, ends=False, path="/read"),
        post(b"b", length=None, ends=False, path="/read"),
        post(b"bod", length=None, ends=False, path="/read"),
    ):
        async with opened(adapter, *upload) as request:
            await request.asked()
            request.leave()

    assert counts(adapter) == {"client_disconnects": 5}


@pytest.mark.anyio
async def test_a_server_that_gives_a_request_up(adapt: Adapt) -> None:
    """Every request is counted, and once, also where it ends with an error of the server."""
    adapter = adapt(site)

    async def fail(_event: Event) -> None:
        raise OSError

    async with opened(adapter, *get("/endless"), fail, fails=True):
        pass
    async with opened(adapter, *get("/"), fail, fails=True):
        pass
    async with opened(adapter, *get("/endless")) as request:
        await request.until(lambda: request.body)
        request.cancel()
    await eventually(lambda: not adapter.stats().busy)

    assert sum(counts(adapter).values()) == 3
    assert not {"served", "rejected"} & set(counts(adapter))


@pytest.mark.anyio
async def test_an_upload_that_is_fed_slowly(adapt: Adapt) -> None:
    """What is still collected is neither busy nor waiting."""
    adapter = adapt(site)
    async with opened(adapter, *post(b"bo", length=4, ends=False)) as request:
        await request.asked()
        stats = adapter.stats()
        request.feed(piece_event(b"dy", more=False))

    assert (stats.alive, stats.busy, stats.waiting) == (0, 0, 0)
    assert counts(adapter) == {"served": 1}


def test_counts_of_all_loops() -> None:
    """Those of loops that are closed, and of threads that have ended, are kept."""
    with WsgiToAsgi(hello) as adapter:
        for _ in range(3):
            asyncio.run(call_asgi(adapter, *get()))
            adapter.close()

        assert adapter.stats().served == 3


@pytest.mark.anyio
async def test_no_count_is_lost(adapt: Adapt) -> None:
    """Of many requests at once each is counted."""
    adapter = adapt(site)
    async with anyio.create_task_group() as group:
        for at in range(100):
            group.start_soon(serve, adapter, *get("/stream" if at % 2 else "/"))

    assert counts(adapter) == {"served": 100}
