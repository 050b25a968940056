"""Tiny apps for the tests, each named for what it does or for the sin it commits; twice each, in WSGI and in ASGI.

`wsgi_site` and `asgi_site` are tables of the same paths, so that one list of cases serves both directions. Test and
server are different processes: they leave each other signals, which are files (`Signals`), because a server with one
thread cannot take a second request while the first one waits.
"""

import asyncio
import dataclasses
import gc
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from support.signals import PATIENCE, Signals

BLOCK = 2**16
MIB = 2**20
TICK = b"tick\n"
PLAIN = [("Content-Type", "text/plain")]
STATUS = {200: "200 OK", 204: "204 No Content", 304: "304 Not Modified", 404: "404 Not Found"}

Environ = dict[str, Any]


signals = Signals(os.environ.get("BRIDGE_TEST_SIGNALS", ""))


def count(what: str, query: bytes | str = "") -> None:
    """Count it under the `token` of the request's query string, so that a request of another test is not counted."""
    text = query if isinstance(query, str) else query.decode()
    signals.tell(f"counted {what} {dict(parse_qsl(text)).get('token', '')}", os.getpid())


def census() -> bytes:
    """What there is in this process that should not become more: tasks, threads, objects that refer to others."""
    gc.collect()
    things = gc.get_objects()
    # type() and not isinstance(): some objects compute their __class__, and do work for that.
    tasks = sum(issubclass(type(thing), asyncio.Task) and not thing.done() for thing in things)
    return json.dumps(
        {"pid": os.getpid(), "tasks": tasks, "threads": threading.active_count(), "objects": len(things)}
    ).encode()


def block(number: int) -> bytes:
    """The `number`-th block of a large body: no two are alike, so that a lost or repeated one is seen."""
    return number.to_bytes(8, "big") * (BLOCK // 8)


def block_told(token: str | None, number: int) -> bytes:
    if token:
        signals.tell(token, number)
    return block(number)


def digest_of_blocks(mebibytes: int) -> bytes:
    digest = hashlib.sha256()
    for number in range(mebibytes * MIB // BLOCK):
        digest.update(block(number))
    return digest.hexdigest().encode()


def startup(state: dict[str, Any]) -> None:
    signals.tell("lifespan", f"startup {os.getpid()}")
    state["started in"] = os.getpid()


def failing_startup() -> None:
    raise LookupError("no database today")


def shutdown(state: dict[str, Any] | None = None) -> None:
    signals.tell("lifespan", f"shutdown {os.getpid()}")


def hold(number: str) -> bytes:
    """What a request does that holds its thread until the test releases it."""
    signals.tell("begun", number)
    signals.wait(f"release-{number}")
    return number.encode()


# --- WSGI ------------------------------------------------------------------------------------------------------------


def query_of(environ: Environ) -> dict[str, str]:
    return dict(parse_qsl(environ["QUERY_STRING"]))


def pieces_of(environ: Environ) -> Iterator[bytes]:
    """The request body in blocks, to its end or to Content-Length."""
    left = int(environ.get("CONTENT_LENGTH") or (2**62 if environ.get("wsgi.input_terminated") else 0))
    while left and (piece := environ["wsgi.input"].read(min(BLOCK, left))):
        yield piece
        left -= len(piece)


def answer(start_response: Any, body: bytes, status: str = "200 OK") -> list[bytes]:
    start_response(status, [*PLAIN, ("Content-Length", str(len(body)))])
    return [body]


def wsgi_hello(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, b"Hello, world!\n")


def wsgi_not_found(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, b"not found\n", "404 Not Found")


def wsgi_pid(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, b"%d" % os.getpid())


def wsgi_echo(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, b"".join(pieces_of(environ)))


def wsgi_echo_in_pieces(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    return pieces_of(environ)


def wsgi_upload(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """Digest of the body; tells after each piece how much it has seen, and what ended the upload early."""
    token = query_of(environ).get("token")
    digest, seen = hashlib.sha256(), 0
    try:
        for piece in pieces_of(environ):
            digest.update(piece)
            seen += len(piece)
            if token:
                signals.tell(token, seen)
    except OSError as error:
        signals.tell(f"{token}-broken", type(error).__name__)
        raise
    return answer(start_response, f"{seen} {digest.hexdigest()}".encode())


def wsgi_download(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Many blocks; tells each time that it makes one."""
    query = query_of(environ)
    size = int(query["mib"]) * MIB
    start_response("200 OK", [*PLAIN, ("Content-Length", str(size))])
    return (block_told(query.get("token"), number) for number in range(size // BLOCK))


def wsgi_steps(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Three chunks, the second and third only when the test has told so."""
    token = query_of(environ)["token"]
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"data: 0\n\n"
    for step in (1, 2):
        signals.wait(f"{token}-{step}")
        yield f"data: {step}\n\n".encode()


HALF = b"0123456789" * 50
TAIL = 0.3  # seconds that work goes on, so that a server notices what has happened meanwhile; nothing depends on it


def wsgi_waits(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """Says which process it is in, waits for the test, and says that it goes on.

    With `length=1` or `chunked=1` in the query that is in the middle of the response; else before it.
    """
    query = query_of(environ)
    if "length" in query or "chunked" in query:
        length = [("Content-Length", str(2 * len(HALF)))] if "length" in query else []
        start_response("200 OK", [*PLAIN, *length])
        yield HALF
    signals.tell(f"{query['token']}-taken", os.getpid())
    signals.wait(f"{query['token']}-go")
    time.sleep(TAIL)
    if "length" in query or "chunked" in query:
        yield HALF
    else:
        yield from answer(start_response, HALF + HALF)


class wsgi_endless:  # noqa: N801 - an app that is a class, as PEP 3333 allows
    """Ticks for ever; counts how many were begun and how many closed."""

    def __init__(self, environ: Environ, start_response: Any) -> None:
        start_response("200 OK", PLAIN)
        self.query = environ["QUERY_STRING"]
        count("begun", self.query)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield TICK
            time.sleep(0.01)

    def close(self) -> None:
        count("ended", self.query)


def wsgi_idle(environ: Environ, start_response: Any) -> Iterator[bytes]:
    """One chunk, then silence until the client is gone: no write can find that out."""
    start_response("200 OK", PLAIN)
    yield TICK
    deadline = time.monotonic() + PATIENCE
    while not environ["bridge.client_disconnected"]() and time.monotonic() < deadline:
        time.sleep(0.005)
    told = environ["bridge.client_disconnected"]()
    count("told of the leave" if told else "never told", environ["QUERY_STRING"])


def wsgi_no_content(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def wsgi_not_modified(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """With the length that a 200 would have (RFC 9110 8.6). Some servers wait for as many bytes."""
    start_response("304 Not Modified", [("ETag", '"1"'), ("Content-Length", "10")])
    return [b""]


def wsgi_no_content_with_body(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """RFC 9110 section 15.3.5: a 204 has no content; these bytes would be taken for the next response."""
    start_response("204 No Content", [])
    return [b"HTTP/1.1 200 OK\r\n\r\n"]


def wsgi_cookies(environ: Environ, start_response: Any) -> Iterable[bytes]:
    start_response("204 No Content", [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")])
    return []


def wsgi_raises(environ: Environ, start_response: Any) -> Iterable[bytes]:
    raise LookupError("raised before the headers")


def wsgi_raises_after_start(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b""  # no headers leave with an empty chunk
    raise LookupError("raised before the headers")


def wsgi_raises_in_the_middle(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b"first half, "
    raise LookupError("raised in the middle")


def wsgi_raises_before_content_length(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "1000")])
    yield b"first half, "
    raise LookupError("raised in the middle")


def wsgi_tagged(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """The query and body of the request itself, after a while, in one piece or several."""
    query = query_of(environ)
    body = b"".join(pieces_of(environ))
    time.sleep(float(query.get("delay", 0)))
    pieces = [f"{query['id']}:".encode(), body, f":{query['id']}".encode() * int(query.get("repeat", 1))]
    headers = [*PLAIN, ("X-Id", query["id"])]
    if "stream" in query:
        start_response("200 OK", headers)
        return iter(pieces)
    start_response("200 OK", [*headers, ("Content-Length", str(len(b"".join(pieces))))])
    return pieces


def wsgi_held(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, hold(query_of(environ)["id"]))


def wsgi_census(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, census())


def wsgi_clock(environ: Environ, start_response: Any) -> Iterable[bytes]:
    return answer(start_response, str(time.time()).encode())


def wsgi_facts(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """What the app is told of its request."""
    facts = {
        "root": environ["SCRIPT_NAME"].encode("latin-1").hex(),
        "path": environ["PATH_INFO"].encode("latin-1").hex(),
        "query": environ["QUERY_STRING"].encode("latin-1").hex(),
        "client": environ.get("REMOTE_ADDR"),
        "protocol": environ["SERVER_PROTOCOL"],
        "scheme": environ["wsgi.url_scheme"],
        "pid": os.getpid(),
        "started in": (environ.get("bridge.state") or {}).get("started in"),
        "headers": {
            key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")
        },
    }
    return answer(start_response, json.dumps(facts).encode())


FAULTS: dict[str, Callable[[], object]] = {
    "SystemExit": lambda: sys.exit("the app wants to end the process"),
    "KeyboardInterrupt": lambda: _raise(KeyboardInterrupt("the app was interrupted")),
    "MemoryError": lambda: _raise(MemoryError("no memory for the app")),
    "RecursionError": lambda: _raise(RecursionError("the app went too deep")),
    "GeneratorExit": lambda: _raise(GeneratorExit("the app left a generator")),
    "os._exit": lambda: os._exit(9),
    "block": lambda: time.sleep(2.5),
    "no room": lambda: bytearray(2**62),
    "loop.stop": lambda: asyncio.get_running_loop().stop(),
    "loop.close": lambda: asyncio.get_running_loop().close(),
    "cancel all": lambda: [task.cancel() for task in asyncio.all_tasks()],
}


def _raise(error: BaseException) -> None:
    raise error


def wsgi_fault(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """One of FAULTS, before the response, in the middle of it, or after its end."""
    query = query_of(environ)
    if "after" in query:
        return Faulty(answer(start_response, b"whole\n"), FAULTS[query["what"]])
    return _fault(query, start_response)


class Faulty(list[bytes]):
    """A response that is whole, and then fails in its `close`."""

    def __init__(self, chunks: list[bytes], close: Callable[[], object]) -> None:
        super().__init__(chunks)
        self.close = close


def _fault(query: dict[str, str], start_response: Any) -> Iterator[bytes]:
    if "late" in query:
        start_response("200 OK", [*PLAIN, ("Content-Length", "1000")])
        yield b"first half, "
    FAULTS[query["what"]]()
    yield from answer(start_response, b"survived\n")


WSGI_PATHS = {
    "/census": wsgi_census,
    "/clock": wsgi_clock,
    "/fault": wsgi_fault,
    "/facts": wsgi_facts,
    "/held": wsgi_held,
    "/hello": wsgi_hello,
    "/pid": wsgi_pid,
    "/echo": wsgi_echo,
    "/echo-in-pieces": wsgi_echo_in_pieces,
    "/upload": wsgi_upload,
    "/download": wsgi_download,
    "/steps": wsgi_steps,
    "/waits": wsgi_waits,
    "/endless": wsgi_endless,
    "/idle": wsgi_idle,
    "/no-content": wsgi_no_content,
    "/not-modified": wsgi_not_modified,
    "/no-content-with-body": wsgi_no_content_with_body,
    "/cookies": wsgi_cookies,
    "/raises": wsgi_raises,
    "/raises-after-start": wsgi_raises_after_start,
    "/raises-in-the-middle": wsgi_raises_in_the_middle,
    "/raises-before-content-length": wsgi_raises_before_content_length,
    "/tagged": wsgi_tagged,
}


def wsgi_site(environ: Environ, start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    return WSGI_PATHS.get("/facts" if path.startswith("/facts/") else path, wsgi_not_found)(environ, start_response)


# --- ASGI ------------------------------------------------------------------------------------------------------------


class ClientLeft(Exception):
    """`http.disconnect` in place of the rest of the body."""


async def events_of(receive: Any) -> AsyncIterator[bytes]:
    """The request body as it comes, to its end."""
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeft
        more = event.get("more_body", False)
        yield event.get("body", b"")


async def start(send: Any, status: int = 200, headers: Iterable[tuple[str, str]] = PLAIN) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def chunk(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def reply(send: Any, body: bytes, status: int = 200) -> None:
    await start(send, status, [*PLAIN, ("Content-Length", str(len(body)))])
    await chunk(send, body, more=False)


async def asgi_hello(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"Hello, world!\n")


async def asgi_not_found(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"not found\n", 404)


async def asgi_pid(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"%d" % os.getpid())


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, b"".join([body async for body in events_of(receive)]))


async def asgi_echo_in_pieces(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    async for body in events_of(receive):
        await chunk(send, body)
    await chunk(send, b"", more=False)


async def asgi_upload(scope: Any, receive: Any, send: Any) -> None:
    token = dict(parse_qsl(scope["query_string"].decode())).get("token")
    digest, seen = hashlib.sha256(), 0
    try:
        async for body in events_of(receive):
            digest.update(body)
            seen += len(body)
            if token:
                signals.tell(token, seen)
    except ClientLeft as event:
        signals.tell(f"{token}-broken", type(event).__name__)
        return
    await reply(send, f"{seen} {digest.hexdigest()}".encode())


async def asgi_download(scope: Any, receive: Any, send: Any) -> None:
    query = dict(parse_qsl(scope["query_string"].decode()))
    size = int(query["mib"]) * MIB
    await start(send, 200, [*PLAIN, ("Content-Length", str(size))])
    for number in range(size // BLOCK):
        await chunk(send, block_told(query.get("token"), number))
    await chunk(send, b"", more=False)


async def asgi_steps(scope: Any, receive: Any, send: Any) -> None:
    token = dict(parse_qsl(scope["query_string"].decode()))["token"]
    await start(send, 200, [("Content-Type", "text/event-stream")])
    await chunk(send, b"data: 0\n\n")
    for step in (1, 2):
        await signals.waited(f"{token}-{step}")
        await chunk(send, f"data: {step}\n\n".encode())
    await chunk(send, b"", more=False)


async def asgi_waits(scope: Any, receive: Any, send: Any) -> None:
    query = dict(parse_qsl(scope["query_string"].decode()))
    in_the_middle = "length" in query or "chunked" in query
    if in_the_middle:
        await start(send, 200, [*PLAIN, *([("Content-Length", str(2 * len(HALF)))] if "length" in query else [])])
        await chunk(send, HALF)
    signals.tell(f"{query['token']}-taken", os.getpid())
    while not signals.told(f"{query['token']}-go"):
        await asyncio.sleep(0.005)
    await asyncio.sleep(TAIL)
    if in_the_middle:
        await chunk(send, HALF, more=False)
    else:
        await reply(send, HALF + HALF)


async def asgi_endless(scope: Any, receive: Any, send: Any) -> None:
    """Ticks for ever and never asks whether the client is still there: it must be cancelled."""
    count("begun", scope["query_string"])
    try:
        await start(send)
        while True:
            await chunk(send, TICK)
            await asyncio.sleep(0.01)
    finally:
        count("ended", scope["query_string"])


async def asgi_idle(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await chunk(send, TICK)
    while (await receive())["type"] != "http.disconnect":
        pass
    count("told of the leave", scope["query_string"])


async def asgi_polls(scope: Any, receive: Any, send: Any) -> None:
    """Waits for news, which never come, before it answers."""
    count("polled", scope["query_string"])
    while (await receive())["type"] != "http.disconnect":
        pass
    count("told of the leave", scope["query_string"])


async def asgi_answers_early(scope: Any, receive: Any, send: Any) -> None:
    """Has the answer before the body is there, and never reads it; RFC 9110 section 7.5 allows that."""
    await reply(send, b"no need to read on\n")


async def asgi_no_content(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 204, [])
    await chunk(send, b"", more=False)


async def asgi_not_modified(scope: Any, receive: Any, send: Any) -> None:
    """With the length that a 200 would have (RFC 9110 8.6). Some servers wait for as many bytes."""
    await start(send, 304, [("ETag", '"1"'), ("Content-Length", "10")])
    await chunk(send, b"", more=False)


async def asgi_no_content_with_body(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 204, [])
    await chunk(send, b"HTTP/1.1 200 OK\r\n\r\n", more=False)


async def asgi_cookies(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 204, [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")])
    await chunk(send, b"", more=False)


async def asgi_raises(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError("raised before the headers")


async def asgi_raises_after_start(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    raise LookupError("raised before the headers")


async def asgi_raises_in_the_middle(scope: Any, receive: Any, send: Any) -> None:
    await start(send)
    await chunk(send, b"first half, ")
    raise LookupError("raised in the middle")


async def asgi_raises_before_content_length(scope: Any, receive: Any, send: Any) -> None:
    await start(send, 200, [*PLAIN, ("Content-Length", "1000")])
    await chunk(send, b"first half, ")
    raise LookupError("raised in the middle")


async def asgi_tagged(scope: Any, receive: Any, send: Any) -> None:
    query = dict(parse_qsl(scope["query_string"].decode()))
    body = b"".join([body async for body in events_of(receive)])
    await asyncio.sleep(float(query.get("delay", 0)))
    pieces = [f"{query['id']}:".encode(), body, f":{query['id']}".encode() * int(query.get("repeat", 1))]
    headers = [*PLAIN, ("X-Id", query["id"])]
    if "stream" not in query:
        headers.append(("Content-Length", str(len(b"".join(pieces)))))
    await start(send, 200, headers)
    for piece in pieces:
        await chunk(send, piece)
    await chunk(send, b"", more=False)


async def asgi_lifespan(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    startup(scope["state"])
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    shutdown()
    await send({"type": "lifespan.shutdown.complete"})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that cannot start up."""
    assert scope["type"] == "lifespan", "a request, though the startup has failed"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database today"})


async def asgi_background(scope: Any, receive: Any, send: Any) -> None:
    """Work that goes on when the response is complete, until the test says so."""
    token = dict(parse_qsl(scope["query_string"].decode()))["token"]
    await reply(send, b"accepted\n")
    while not signals.told(f"{token}-go"):
        await asyncio.sleep(0.005)
    signals.tell(f"{token}-done")


async def asgi_census(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, census())


async def asgi_clock(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, str(time.time()).encode())


async def asgi_facts(scope: Any, receive: Any, send: Any) -> None:
    root, path = scope["root_path"].encode(), unquote_to_bytes(scope["raw_path"])
    facts = {
        "root": root.hex(),
        "path": (path.removeprefix(root) if path[len(root) : len(root) + 1] in (b"", b"/") else path).hex(),
        "query": scope["query_string"].hex(),
        "client": scope["client"] and scope["client"][0],
        "protocol": scope["http_version"],
        "scheme": scope["scheme"],
        "pid": os.getpid(),
        "started in": scope["state"].get("started in"),
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
    }
    await reply(send, json.dumps(facts).encode())


async def asgi_early_hint(scope: Any, receive: Any, send: Any) -> None:
    if "http.response.early_hint" in scope["extensions"]:
        await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await reply(send, b"styled\n")


async def asgi_fault(scope: Any, receive: Any, send: Any) -> None:
    query = dict(parse_qsl(scope["query_string"].decode()))
    if "late" in query:
        await start(send, 200, [*PLAIN, ("Content-Length", "1000")])
        await chunk(send, b"first half, ")
    if "after" in query:
        await reply(send, b"whole\n")
    FAULTS[query["what"]]()
    if "after" not in query:
        await reply(send, b"survived\n")


ASGI_PATHS = {
    "/census": asgi_census,
    "/background": asgi_background,
    "/clock": asgi_clock,
    "/fault": asgi_fault,
    "/facts": asgi_facts,
    "/early-hint": asgi_early_hint,
    "/hello": asgi_hello,
    "/pid": asgi_pid,
    "/echo": asgi_echo,
    "/echo-in-pieces": asgi_echo_in_pieces,
    "/upload": asgi_upload,
    "/download": asgi_download,
    "/steps": asgi_steps,
    "/waits": asgi_waits,
    "/endless": asgi_endless,
    "/idle": asgi_idle,
    "/polls": asgi_polls,
    "/answers-early": asgi_answers_early,
    "/no-content": asgi_no_content,
    "/not-modified": asgi_not_modified,
    "/no-content-with-body": asgi_no_content_with_body,
    "/cookies": asgi_cookies,
    "/raises": asgi_raises,
    "/raises-after-start": asgi_raises_after_start,
    "/raises-in-the-middle": asgi_raises_in_the_middle,
    "/raises-before-content-length": asgi_raises_before_content_length,
    "/tagged": asgi_tagged,
}


async def asgi_site(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await asgi_lifespan(scope, receive, send)
    else:
        path = scope["path"].removeprefix(scope["root_path"])
        await ASGI_PATHS.get("/facts" if path.startswith("/facts/") else path, asgi_not_found)(scope, receive, send)


def with_stats(adapter: Any) -> Any:
    """`adapter`, and beside it what it tells about itself, in JSON: that takes no thread."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/stats":
            await reply(send, json.dumps(dataclasses.asdict(adapter.stats())).encode())
        else:
            await adapter(scope, receive, send)

    return app
