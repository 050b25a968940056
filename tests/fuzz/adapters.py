"""Whole adapters: any request, and whatever the app does, ends in bounded time with a response or one of our errors."""

import asyncio
import io
from collections.abc import Iterable
from typing import Any

from bridge import AsgiToWsgi, ClientDisconnected, Mounts, ProtocolError, WsgiToAsgi
from fuzz import heads, responses
from fuzz.draw import Draw
from support.patience import PATIENCE

# What no request may take, in seconds; far more than any does.


class Planned(Exception):
    """What an app raises."""


class Hosts:
    """The adapters under test, and the loop that plays the ASGI server. They live as long as the process needs them."""

    def __init__(self) -> None:
        self.draw = Draw(b"")
        self.runner = asyncio.Runner()
        options: dict[str, Any] = {"threads": 2, "collect": 256, "max_body": 4096, "shutdown_timeout": 2.0}
        self.to_asgi = WsgiToAsgi(self._wsgi_app, **options)
        self.to_wsgi = AsgiToWsgi(self._asgi_app, disconnect_grace=0.05)
        # Each mounts only what goes through its adapter.
        self.wsgi_mounts = Mounts({"/a": self._wsgi_app, "/": self._wsgi_app})
        self.asgi_mounts = Mounts({"/a": self._asgi_app, "/": self._asgi_app})

    def close(self) -> None:
        for each in (self.to_asgi, self.to_wsgi, self.wsgi_mounts, self.asgi_mounts):
            each.close()
        self.runner.close()

    # --- the apps

    def _wsgi_app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        draw = self.draw
        for _ in draw.times(3):
            environ["wsgi.input"].read(draw.pick((-1, 0, 1, 1000)))
        if draw.seldom():
            raise Planned
        write = None
        for _ in draw.times(2):
            exc_info: Any = (Planned, Planned(), None) if draw.seldom() else None
            write = start_response(draw.pick(responses.STATUSES), responses.draw_headers(draw, str), exc_info)
        if write is not None and draw.seldom():
            write(draw.raw())
        chunks = [draw.raw() for _ in draw.times(4)]
        return chunks if draw.byte() % 2 else self._generated(draw, chunks)

    def _generated(self, draw: Draw, chunks: list[bytes]) -> Iterable[bytes]:
        yield from chunks
        if draw.seldom():
            raise Planned

    async def _asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise Planned  # that it has none
        draw = self.draw
        for _ in draw.times(3):
            if not (await receive()).get("more_body", False):
                break
        for _ in draw.times(5):
            await send(responses.draw_event(draw))
        if draw.seldom():
            raise Planned
        if draw.byte() % 2:
            await send({"type": "http.response.body", "body": draw.raw()})


_hosts: list[Hosts] = []


def hosts() -> Hosts:
    if not _hosts:
        _hosts.append(Hosts())
    return _hosts[0]


def close() -> None:
    """Let go of the adapters and of their threads."""
    while _hosts:
        _hosts.pop().close()


def fuzz_wsgi_to_asgi(draw: Draw) -> None:
    """An ASGI server's request: one start and one end, or one of our errors, or what the app raised."""
    made = hosts()
    made.draw = draw
    app = made.wsgi_mounts.asgi if draw.seldom() else made.to_asgi
    scope = {**heads.draw_scope(draw), "type": "http"}
    events = [
        draw.mapping({"type": lambda: "http.request", "body": draw.raw, "more_body": lambda: draw.byte() % 4 != 0})
        for _ in draw.times(4)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    async def request() -> None:
        async with asyncio.timeout(PATIENCE):
            await app(scope, receive, send)

    try:
        made.runner.run(request())
    except (ProtocolError, ClientDisconnected, Planned, responses.Planned):
        return
    except RuntimeError as error:
        assert "cannot be completed" in str(error)
        return
    kinds = [event["type"] for event in sent]
    if kinds:  # else the client had left
        assert kinds[0] == "http.response.start"
        assert set(kinds[1:]) == {"http.response.body"}
        assert [event.get("more_body", False) for event in sent[1:]] == [True] * (len(sent) - 2) + [False]


def fuzz_asgi_to_wsgi(draw: Draw) -> None:
    """A WSGI server's request: `start_response` before the first chunk, or an error of ours or of the app's."""
    made = hosts()
    made.draw = draw
    app = made.asgi_mounts.wsgi if draw.seldom() else made.to_wsgi
    environ = heads.draw_environ(draw)
    environ["wsgi.input"] = io.BytesIO(draw.raw())
    heads_seen: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert exc_info or not heads_seen
        heads_seen.append((status, headers))
        return lambda data: None

    try:
        result = app(environ, start_response)
        try:
            for chunk in result:
                assert heads_seen
                assert isinstance(chunk, bytes)
        finally:
            if hasattr(result, "close"):
                result.close()
    except (ProtocolError, ClientDisconnected, Planned, responses.Planned):
        return
    except RuntimeError as error:
        assert str(error), repr(error)
        return
    assert heads_seen
