"""The client and server of one request of a check: what it sends, when it leaves, and what it notes."""

import asyncio
from typing import Any

import pytest

from bridge._check import client
from bridge._check.client import CheckClient
from bridge._check.requests import CheckRequest
from bridge.errors import ClientDisconnected

GET = CheckRequest("GET", "GET", "/")


def test_a_response_that_is_enough() -> None:
    """Not more than a MiB of an endless one is looked at."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 2**18, "more_body": True})

    async def ask() -> CheckClient:
        exchange = CheckClient(GET, None)
        await exchange.run(app)
        return exchange

    exchange = asyncio.run(ask())
    assert (True, 2**20, False) == (exchange.left, exchange.size, exchange.stuck)


def test_a_response_that_begins_late_is_watched_as_long_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in it is not missed because the app took its time before, or the machine did."""
    now = 0.0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal now
        now += 10.0
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise LookupError

    monkeypatch.setattr(client, "monotonic", lambda: now)
    monkeypatch.setattr(client, "_WATCH_SECONDS", 5.0)
    exchange = CheckClient(GET, None)
    asyncio.run(exchange.run(app))

    assert (1, False) == (exchange.size, exchange.left)
    assert isinstance(exchange.error, LookupError)


def test_what_it_sends_of_a_body() -> None:
    """ASGI HTTP, "Request": the last event says so; then nothing comes but `http.disconnect`, after the response."""
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        events.extend([await receive() for _ in range(2)])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        events.append(await receive())

    exchange = CheckClient(CheckRequest("POST", "POST", "/", (b"ab", b"c")), None)
    asyncio.run(exchange.run(app))

    assert [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"c", "more_body": False},
        {"type": "http.disconnect"},
    ] == events
    assert (200, 1, True, False, None) == (
        exchange.status,
        exchange.size,
        exchange.complete,
        exchange.left,
        exchange.error,
    )


def test_one_that_leaves_in_its_body() -> None:
    """The last piece never comes, and nobody takes the response any more."""
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        events.extend([await receive() for _ in range(2)])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    exchange = CheckClient(CheckRequest("POST", "POST", "/", (b"ab", b"c"), leaves="in the request"), None)
    asyncio.run(exchange.run(app))

    assert [{"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"}] == events
    assert (None, True) == (exchange.status, exchange.left)
    assert isinstance(exchange.error, ClientDisconnected)


def test_one_that_leaves_in_the_response() -> None:
    """With the head; what the app sends then is refused."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    exchange = CheckClient(CheckRequest("GET", "GET", "/", leaves="in the response"), None)
    asyncio.run(exchange.run(app))

    assert (200, 0, True) == (exchange.status, exchange.size, exchange.left)
    assert isinstance(exchange.error, ClientDisconnected)


@pytest.mark.parametrize("error", [LookupError("planned"), SystemExit(3)])
def test_what_the_app_raises_is_noted(error: BaseException) -> None:
    """And ends nothing but its request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    exchange = CheckClient(GET, None)
    asyncio.run(exchange.run(app))

    assert exchange.error is error
    assert not exchange.silent
