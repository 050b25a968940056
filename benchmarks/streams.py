"""Streamed bodies, both ways through both adapters: what a chunk costs.

Each function is one sample, taken in a process of its own; it returns its metrics by name.
"""

from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import Any

import uvloop

from benchmarks import apps, peers
from benchmarks.harness import (
    Exchange,
    WrongAnswerError,
    call_wsgi,
    check,
    make_environ,
    make_scope,
    take_wsgi,
)
from benchmarks.settings import Settings

CHUNK = 1024
# A WSGI server hands out as much of a request body as is asked for, so there the unit is a piece of this size.
PIECE = 65536
PIECES = 640


def wsgi_to_asgi(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a chunk of 1 KiB through `WsgiToAsgi`: a generator's response, and a request read as it came."""

    async def sample() -> dict[str, float]:
        await _download_asgi(subject, 10)
        response = await _download_asgi(subject, settings.chunks)
        request = await _upload_asgi(subject, settings.chunks)
        return {"response": response, "request": request}

    return uvloop.run(sample())


def asgi_to_wsgi(subject: str, settings: Settings) -> dict[str, float]:
    """Microseconds a chunk of 1 KiB of a response, and 64 KiB of a request body, through `AsgiToWsgi`."""
    _download_wsgi(subject, 10)
    response = _download_wsgi(subject, settings.chunks)
    pieces = PIECES * settings.chunks // 10_000
    return {"response": response, "request": _upload_wsgi(subject, pieces)}


def body_events(body: bytes, size: int) -> Iterator[dict[str, Any]]:
    """The `http.request` events of a body that arrives in chunks of `size` bytes."""
    for start in range(0, len(body), size):
        yield {"type": "http.request", "body": body[start : start + size], "more_body": start + size < len(body)}


async def _download_asgi(subject: str, count: int) -> float:
    adapted: apps.ASGIApp = apps.asgi_download
    if subject != peers.NATIVE:
        adapted = peers.wsgi_to_asgi(subject, apps.wsgi_download)
    exchange = Exchange([{"type": "http.request", "body": b"", "more_body": False}])
    started = perf_counter()
    await adapted(make_scope(query=f"{count}x{CHUNK}"), exchange.receive, exchange.send)
    elapsed = perf_counter() - started
    exchange.check(apps.pattern(CHUNK) * count)
    return elapsed / count * 1e6


async def _upload_asgi(subject: str, count: int) -> float:
    received: list[bytes] = []

    def wsgi_app(environ: apps.Environ, start_response: Any) -> Iterable[bytes]:
        read = environ["wsgi.input"].read
        received.extend(read(CHUNK) for _ in range(count))
        return apps.wsgi_hello(environ, start_response)

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        received.extend([(await receive())["body"] for _ in range(count)])
        await apps.asgi_hello(scope, receive, send)

    adapted = asgi_app if subject == peers.NATIVE else peers.wsgi_to_asgi(subject, wsgi_app)
    body = apps.pattern(CHUNK * count)
    exchange = Exchange(list(body_events(body, CHUNK)))
    started = perf_counter()
    await adapted(make_scope("POST", body_length=len(body)), exchange.receive, exchange.send)
    elapsed = perf_counter() - started
    exchange.check(apps.HELLO)
    check(200, b"".join(received), body)
    return elapsed / count * 1e6


def _download_wsgi(subject: str, count: int) -> float:
    adapted: apps.WSGIApp = apps.wsgi_download
    if subject != peers.NATIVE:
        adapted = peers.asgi_to_wsgi(subject, apps.asgi_download)
    environ = make_environ(query=f"{count}x{CHUNK}")
    started = perf_counter()
    status, chunks = take_wsgi(adapted, environ)
    elapsed = perf_counter() - started
    check(status, b"".join(chunks), apps.pattern(CHUNK) * count)
    return elapsed / count * 1e6


def _upload_wsgi(subject: str, pieces: int) -> float:
    body, taken = apps.pattern(PIECE * pieces), 0

    def take(piece: bytes) -> None:
        # Compared at once and let go: to keep 40 MiB would cost more, in fresh pages, than to hand them over.
        nonlocal taken
        if not body.startswith(piece, taken):
            raise WrongAnswerError(f"the {len(piece)} bytes of the request body from {taken} on are not those sent")
        taken += len(piece)

    def wsgi_app(environ: apps.Environ, start_response: Any) -> Iterable[bytes]:
        for _ in range(pieces):
            take(environ["wsgi.input"].read(PIECE))
        return apps.wsgi_hello(environ, start_response)

    async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            event = await receive()
            take(event.get("body", b""))
            more = event["type"] == "http.request" and event.get("more_body", False)
        await apps.asgi_hello(scope, receive, send)

    adapted = wsgi_app if subject == peers.NATIVE else peers.asgi_to_wsgi(subject, asgi_app)
    environ = make_environ("POST", body=body)
    started = perf_counter()
    call_wsgi(adapted, environ, apps.HELLO)
    elapsed = perf_counter() - started
    if taken != len(body):
        raise WrongAnswerError(f"the app received {taken} of {len(body)} bytes")
    return elapsed / pieces * 1e6
