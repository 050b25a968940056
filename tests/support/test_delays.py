"""Each delay is met where requests pass, in both directions; a delay that holds nothing up tests nothing."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from asgiref.sync import sync_to_async

from bridge import AsgiToWsgi, WsgiToAsgi
from bridge._concurrency.pool import Worker
from bridge._concurrency.server_thread import ServerThread
from support import delays
from support.asgi_apps import reply
from support.plain_servers import environ_for
from support.scripted_asgi_server import get, lifespan, opened, piece_event, post, serve
from support.scripted_wsgi_server import ask
from support.waiting import Flag, eventually
from support.wsgi_apps import reply as wsgi_reply


def everything() -> None:
    """Requests that take all the ways between threads and loops."""
    on_wsgi_server()
    asyncio.run(on_asgi_server())
    anyio.run(on_asgi_server, backend="trio")
    client, server = socket.socketpair()
    with client, server:
        client.sendall(b"x")
        waiter = ServerThread()
        assert waiter.await_readable(server.fileno(), 0.0)
        waiter.leave()
    said = Flag()
    said.set()
    said.wait()


def on_wsgi_server() -> None:
    """A task takes its events, and has something done in the server's thread."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        assert await sync_to_async(bool)(event["body"])
        await reply(send, event["body"])

    with AsgiToWsgi(app, lifespan="off") as adapter:
        assert ask(adapter, environ_for("POST", "/", b"body")).body == b"body"


async def on_asgi_server() -> None:
    """A thread is started, waits for a body that comes late, answers in parts, is woken from its rest, and ended by the
    lifespan.
    """
    entered: list[bool] = []  # not a Flag, whose delay would outlast the wait for the body

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        entered.append(True)
        yield from wsgi_reply(start_response, environ["wsgi.input"].read())

    adapter = WsgiToAsgi(app, threads=1, collect=1)
    async with lifespan(adapter):
        async with opened(adapter, *post(b"half", length=8, ends=False)) as request:
            await eventually(lambda: entered)
            request.feed(piece_event(b"half", more=False))
            await request.ended()
        await serve(adapter, *get())
    assert request.body == b"halfhalf"


@pytest.fixture(scope="module")
def met() -> dict[str, int]:
    """How often everything was late where all is."""
    with delays.delayed(delays.NAMES) as met:
        everything()
    return met


@pytest.mark.parametrize("step", [step for steps in delays.DELAYS.values() for step in steps], ids=delays.label)
def test_each_step_is_met(met: dict[str, int], step: delays.Step) -> None:
    assert met[delays.label(step)] > 0


@pytest.mark.parametrize("timer", ["AsyncioLoop.call_later", "AsyncioLoop.wait_at_most", "TrioLoop.wait_at_most"])
def test_each_timer_is_met(met: dict[str, int], timer: str) -> None:
    assert met[timer] > 0


def test_nothing_is_late_afterwards() -> None:
    before = Worker.main
    with delays.delayed(["start"]):
        assert Worker.main is not before
    assert Worker.main is before


def test_a_name_that_is_none() -> None:
    """Is refused, and not taken for one that holds nothing up."""
    with pytest.raises(pytest.UsageError, match="not finnish"):
        delays.named("job,finnish")


def test_names() -> None:
    assert ["job", "timers"] == delays.named("job,timers")
    assert [] == delays.named("")
