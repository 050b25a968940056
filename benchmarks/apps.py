"""The apps that are measured, each as a WSGI app and as the ASGI app that does the same.

`block` and the streaming apps have one style only, since only one adapter runs them. The streams are sized by the query
string (`CHUNKSxSIZE`), so that one app serves every size.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
WSGIApp = Callable[[Environ, Any], Iterable[bytes]]
ASGIApp = Callable[[Any, Any, Any], Any]

HELLO = b"Hello, world!\n"
BLOCK_SECONDS = 0.05
BLOCK_LONG_SECONDS = 0.1
COMPUTE_SECONDS = 0.003
COMPUTE_LONG_SECONDS = 0.02
TRANSFER_PIECE = 65536


def _head(length: int) -> list[tuple[str, str]]:
    return [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(length))]


def _asgi_start(length: int) -> dict[str, Any]:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def pattern(size: int) -> bytes:
    """`size` bytes in which no two neighbouring KiB are alike, so that a lost, doubled or swapped piece shows."""
    return b"".join(number.to_bytes(4, "big") for number in range((size + 3) // 4))[:size]


def stream_size(query: str) -> tuple[int, int]:
    """The number of chunks and the size of each, in bytes, that a query string such as `100x65536` asks for."""
    count, _, size = query.partition("x")
    return int(count), int(size)


def wsgi_hello(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", _head(len(HELLO)))
    return [HELLO]


def wsgi_echo(environ: Environ, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", _head(len(body)))
    return [body]


def wsgi_block(environ: Environ, start_response: Any) -> Iterable[bytes]:
    time.sleep(BLOCK_SECONDS)
    return wsgi_hello(environ, start_response)


def wsgi_block_long(environ: Environ, start_response: Any) -> Iterable[bytes]:
    time.sleep(BLOCK_LONG_SECONDS)
    return wsgi_hello(environ, start_response)


def _compute(seconds: float = COMPUTE_SECONDS) -> None:
    """As much of Python as takes these `seconds` of a processor, however long this thread waits for one."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        for _ in range(200):
            pass


def wsgi_compute(environ: Environ, start_response: Any) -> Iterable[bytes]:
    _compute()
    return wsgi_hello(environ, start_response)


def wsgi_compute_long(environ: Environ, start_response: Any) -> Iterable[bytes]:
    _compute(COMPUTE_LONG_SECONDS)
    return wsgi_hello(environ, start_response)


def wsgi_hello_or_compute(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Hello, after some computing where the query says so."""
    if environ["QUERY_STRING"] == "compute":
        _compute()
    return wsgi_hello(environ, start_response)


def wsgi_download(environ: Environ, start_response: Any) -> Iterator[bytes]:
    count, size = stream_size(environ["QUERY_STRING"])
    start_response("200 OK", _head(count * size))
    piece = pattern(size)
    for _ in range(count):
        yield piece


def wsgi_upload(environ: Environ, start_response: Any) -> Iterable[bytes]:
    total, checksum, read = 0, 0, environ["wsgi.input"].read
    while total < int(environ["CONTENT_LENGTH"]):
        piece = read(TRANSFER_PIECE)
        if not piece:
            break
        total += len(piece)
        checksum = zlib.crc32(piece, checksum)
    answer = f"{total} {checksum:08x}".encode()
    start_response("200 OK", _head(len(answer)))
    return [answer]


async def asgi_hello(scope: Any, receive: Any, send: Any) -> None:
    _http_only(scope)
    await send(_asgi_start(len(HELLO)))
    await send({"type": "http.response.body", "body": HELLO})


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    _http_only(scope)
    event = await receive()
    body = event.get("body", b"")
    while event.get("more_body", False):
        event = await receive()
        body += event.get("body", b"")
    await send(_asgi_start(len(body)))
    await send({"type": "http.response.body", "body": body})


async def asgi_block(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(BLOCK_SECONDS)
    await asgi_hello(scope, receive, send)


async def asgi_download(scope: Any, receive: Any, send: Any) -> None:
    _http_only(scope)
    count, size = stream_size(scope["query_string"].decode("ascii"))
    await send(_asgi_start(count * size))
    piece = pattern(size)
    for _ in range(count):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def asgi_upload(scope: Any, receive: Any, send: Any) -> None:
    _http_only(scope)
    total, checksum, more = 0, 0, True
    while more:
        event = await receive()
        piece = event.get("body", b"")
        total += len(piece)
        checksum = zlib.crc32(piece, checksum)
        more = event["type"] == "http.request" and event.get("more_body", False)
    answer = f"{total} {checksum:08x}".encode()
    await send(_asgi_start(len(answer)))
    await send({"type": "http.response.body", "body": answer})


async def asgi_websocket_echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": event["bytes"]})


async def asgi_site(scope: Any, receive: Any, send: Any) -> None:
    """The three ASGI apps that the real servers run, by path; and one for all WebSockets."""
    if scope["type"] == "websocket":
        await asgi_websocket_echo(scope, receive, send)
        return
    _http_only(scope)
    await {"/": asgi_hello, "/up": asgi_upload, "/down": asgi_download}[scope["path"]](scope, receive, send)


def wsgi_site(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """The WSGI apps that the real servers run, by path."""
    return _WSGI_SITE[environ["PATH_INFO"]](environ, start_response)


_WSGI_SITE: dict[str, WSGIApp] = {
    "/": wsgi_hello,
    "/block": wsgi_block_long,
    "/compute": wsgi_compute,
    "/compute-long": wsgi_compute_long,
    "/up": wsgi_upload,
    "/down": wsgi_download,
}


def _http_only(scope: Any) -> None:
    # ASGI Lifespan, "Scope": an app that raises on it does not support it, and the server goes on.
    if scope["type"] != "http":
        raise ValueError(f"this app speaks http only, not {scope['type']!r}")
