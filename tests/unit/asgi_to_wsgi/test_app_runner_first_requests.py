"""The first requests: those that come at once make one loop and one startup, and none runs before that is complete."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from bridge._asgi_to_wsgi import app_runner
from bridge._servers import process
from support.asgi_apps import Lifespan, reply
from support.scripted_wsgi_server import Served, adapted, ask
from support.waiting import Flag

pytestmark = pytest.mark.usefixtures("nothing_waits_by_the_clock")


def loop_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "bridge-loop"]


def test_a_signal_ends_one_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a server whose main thread serves. What serves later requests is closed at exit all the same."""
    app = Lifespan()
    interrupted = [KeyboardInterrupt()]

    def register_once(*arguments: Any) -> None:
        if interrupted:
            raise interrupted.pop()
        process.register(*arguments)

    monkeypatch.setattr(app_runner, "register", register_once)
    with adapted(app, lifespan="on") as adapter:
        with pytest.raises(KeyboardInterrupt):
            ask(adapter)
        assert b"hello" == ask(adapter).body
        process.close_all()
        assert [] == loop_threads()
    assert ["startup", "shutdown"] == app.events


def test_eight_at_once() -> None:
    gate = Flag()
    starting = Flag()
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            events.append("startup begins")
            starting.set()
            await gate.waited()
            events.append("startup ends")
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        events.append("request")
        await reply(send)

    with adapted(app, lifespan="on") as adapter:
        requests: list[Callable[[], Served]] = []
        served = [Served(adapter) for _ in range(8)]
        requests = [one.begin() for one in served]
        starting.wait()
        gate.set()
        for ended in requests:
            ended()
        for one in served:
            one.thread.end()
        assert ["bridge-loop"] == loop_threads()

    assert ["startup begins", "startup ends"] + ["request"] * 8 == events
