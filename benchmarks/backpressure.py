"""How far a producer runs ahead of a consumer that has stopped: both bodies, through both adapters.

Each function is one sample, taken in a process of its own; it returns, by name, the KiB that had been produced and not
been consumed when the producer had come to rest. It then lets the stream go on, and verifies that nothing was lost.
"""

import asyncio
import io
import time
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

import uvloop

from benchmarks import apps, peers
from benchmarks.harness import Exchange, call_wsgi, check, make_environ, make_scope
from benchmarks.settings import Settings
from benchmarks.streams import body_events

CHUNK = 16384
CHUNKS = 2048
STREAM_BYTES = CHUNK * CHUNKS
# The consumer stops after this many bytes.
TAKEN = 4 * CHUNK
# A producer that has not moved for this long is taken to wait.
_REST_SECONDS = 0.25
_POLL_SECONDS = 0.02


def wsgi_to_asgi(subject: str, settings: Settings) -> dict[str, float]:
    """An app's generator ahead of a server that stopped sending; body events ahead of an app that stopped reading."""

    async def sample() -> dict[str, float]:
        return {"response": await _server_stops_sending(subject), "request": await _app_stops_reading(subject)}

    return uvloop.run(sample())


def asgi_to_wsgi(subject: str, settings: Settings) -> dict[str, float]:
    """An app's `send()` ahead of a server that stopped iterating; `wsgi.input` ahead of an app that stopped."""
    return {"response": _server_stops_iterating(subject), "request": _app_stops_receiving(subject)}


class _Gap:
    """What was produced and what was consumed, in bytes; `kib` is the distance when the consumer stopped once."""

    def __init__(self) -> None:
        self.produced = 0
        self.consumed = 0
        self.kib: float | None = None

    def consume(self, size: int) -> Iterator[float]:
        """The seconds to wait, one after the other, before the consumer goes on: none but where it stops."""
        self.consumed += size
        if self.kib is not None or self.consumed < TAKEN:
            return
        seen, since = -1, perf_counter()
        while perf_counter() - since < _REST_SECONDS:
            if seen != self.produced:
                seen, since = self.produced, perf_counter()
            yield _POLL_SECONDS
        self.kib = (self.produced - self.consumed) / 1024

    def result(self) -> float:
        if self.kib is None:
            raise AssertionError("the consumer never came to the point where it stops")
        return self.kib


class _CountedInput(io.BytesIO):
    """A `wsgi.input` that counts what was read of it."""

    def __init__(self, body: bytes, gap: _Gap) -> None:
        super().__init__(body)
        self._gap = gap

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self._gap.produced += len(piece)
        return piece

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(size)


async def _server_stops_sending(subject: str) -> float:
    gap, piece = _Gap(), apps.pattern(CHUNK)

    def app(environ: apps.Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(STREAM_BYTES))])
        for _ in range(CHUNKS):
            gap.produced += CHUNK
            yield piece

    exchange = Exchange([{"type": "http.request", "body": b"", "more_body": False}])

    async def send(event: dict[str, Any]) -> None:
        await exchange.send(event)
        for seconds in gap.consume(len(event.get("body", b""))):
            await asyncio.sleep(seconds)

    await peers.wsgi_to_asgi(subject, app)(make_scope(), exchange.receive, send)
    exchange.check(piece * CHUNKS)
    return gap.result()


async def _app_stops_reading(subject: str) -> float:
    gap, body, received = _Gap(), apps.pattern(STREAM_BYTES), list[bytes]()

    def app(environ: apps.Environ, start_response: Any) -> Iterable[bytes]:
        for _ in range(CHUNKS):
            received.append(environ["wsgi.input"].read(CHUNK))
            for seconds in gap.consume(len(received[-1])):
                time.sleep(seconds)
        return apps.wsgi_hello(environ, start_response)

    exchange = Exchange(body_events(body, CHUNK))

    async def receive() -> dict[str, Any]:
        event = await exchange.receive()
        gap.produced += len(event.get("body", b""))
        return event

    await peers.wsgi_to_asgi(subject, app)(make_scope("POST", body_length=len(body)), receive, exchange.send)
    exchange.check(apps.HELLO)
    check(200, b"".join(received), body)
    return gap.result()


def _server_stops_iterating(subject: str) -> float:
    gap, piece = _Gap(), apps.pattern(CHUNK)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this app speaks http only, not {scope['type']!r}")
        headers = [(b"content-length", b"%d" % STREAM_BYTES)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(CHUNKS):
            gap.produced += CHUNK
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    adapted = peers.asgi_to_wsgi(subject, app)

    def stopping(environ: apps.Environ, start_response: Any) -> Iterator[bytes]:
        chunks = adapted(environ, start_response)
        try:
            for chunk in chunks:
                yield chunk
                for seconds in gap.consume(len(chunk)):
                    time.sleep(seconds)
        finally:
            getattr(chunks, "close", lambda: None)()

    call_wsgi(stopping, make_environ(), piece * CHUNKS)
    return gap.result()


def _app_stops_receiving(subject: str) -> float:
    gap, body, received = _Gap(), apps.pattern(STREAM_BYTES), list[bytes]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError(f"this app speaks http only, not {scope['type']!r}")
        more = True
        while more:
            event = await receive()
            received.append(event.get("body", b""))
            more = event["type"] == "http.request" and event.get("more_body", False)
            for seconds in gap.consume(len(received[-1])):
                await asyncio.sleep(seconds)
        await apps.asgi_hello(scope, receive, send)

    environ = make_environ("POST", body=body)
    environ["wsgi.input"] = _CountedInput(body, gap)
    call_wsgi(peers.asgi_to_wsgi(subject, app), environ, apps.HELLO)
    check(200, b"".join(received), body)
    return gap.result()
