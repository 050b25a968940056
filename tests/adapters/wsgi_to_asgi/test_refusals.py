"""What is refused: bad and too large requests, overload, and connections that are no HTTP."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.errors import ServerProtocolError
from support.failures import AppError
from support.scripted_asgi_server import (
    Adapt,
    Environ,
    Event,
    Scope,
    get,
    opened,
    piece_event,
    post,
    serve,
    types_of,
)
from support.waiting import Flag, LogWatch, eventually, until
from support.wsgi_apps import Gate, hello, reader, reply


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "scope"),
    [
        (431, get(headers=[(b"x-many", b"1")] * 5)[0]),
        (400, get(headers=[(b"content-length", b"3"), (b"content-length", b"4")])[0]),
        (400, get(headers=[(b"content-length", b"-3")])[0]),
        (400, get(headers=[(b"host", b"other")])[0]),
        (413, post(b"", length=11)[0]),
    ],
    ids=["repeats", "lengths", "length", "hosts", "size"],
)
async def test_a_request_that_is_refused_by_its_head(adapt: Adapt, status: int, scope: Scope) -> None:
    """The client gets a status that says why; no thread is taken, and nothing is received."""
    adapter = adapt(hello, max_repeats=4, max_body=10)
    request = await serve(adapter, scope)

    assert (request.status, request.complete) == (status, True)
    assert request.header(b"content-length") == [b"%d" % len(request.body)]
    assert request.received == 0
    assert (adapter.stats().rejected, adapter.stats().alive) == (1, 0)


@pytest.mark.anyio
async def test_a_body_of_just_the_largest_size(adapt: Adapt) -> None:
    """`max_body` itself is accepted, with or without a length."""
    for length in (10, None):
        seen: list[Any] = []
        await serve(adapt(reader(seen), max_body=10), *post(b"12345", b"67890", length=length))
        assert seen[0] == b"1234567890"


@pytest.mark.anyio
async def test_a_streamed_body_that_turns_out_too_large(adapt: Adapt) -> None:
    """The app's `read` raises; where it lets that pass, the client gets 413."""
    read: list[bytes] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read(4))
        read.append(environ["wsgi.input"].read())
        return reply(start_response)

    adapter = adapt(app, max_body=10, collect=1, stream_chunked=True)
    request = await serve(adapter, *post(b"1234", b"5678", b"9012", length=None, ends=False))

    assert read == [b"1234"]
    assert (request.status, request.complete) == (413, True)
    assert (adapter.stats().rejected, adapter.stats().aborted) == (1, 0)


@pytest.mark.anyio
async def test_a_streamed_body_that_turns_out_too_large_after_the_headers(adapt: Adapt) -> None:
    """A response that has begun is aborted."""

    def chunks(body: Any) -> Iterator[bytes]:
        yield body.read(4)
        yield body.read()

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks(environ["wsgi.input"])

    adapter = adapt(app, max_body=10, collect=1, stream_chunked=True)
    async with opened(adapter, *post(b"1234", length=None, ends=False), fails=True) as request:
        await request.until(lambda: request.body)
        request.feed(piece_event(b"x" * 100, more=True))

    assert (request.status, request.body, request.complete) == (200, b"1234", False)
    assert (adapter.stats().rejected, adapter.stats().aborted) == (0, 1)


@pytest.mark.anyio
async def test_a_truncated_body_after_the_headers(adapt: Adapt) -> None:
    """A response that has begun is aborted where the app lets the error of its `read` pass."""

    def chunks(body: Any) -> Iterator[bytes]:
        yield body.read(4)
        yield body.read()

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks(environ["wsgi.input"])

    adapter = adapt(app, collect=1)
    async with opened(adapter, *post(b"1234", length=8, ends=False), fails=True) as request:
        await request.until(lambda: request.body)
        request.feed(piece_event(b"56", more=False))
    stats = adapter.stats()

    assert (request.body, request.complete) == (b"1234", False)
    assert (stats.aborted, stats.client_disconnects, stats.rejected) == (1, 0, 0)


@pytest.mark.anyio
async def test_a_send_that_raises_while_a_request_is_refused(adapt: Adapt) -> None:
    """The error is the server's, and the next request is served."""
    adapter = adapt(hello, max_body=1)
    raised = OSError("the client left")

    async def fail(_event: Event) -> None:
        raise raised

    async with opened(adapter, *post(b"123"), fail, fails=True) as request:
        await request.ended()

    assert request.error is raised
    assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
async def test_a_full_backlog(adapt: Adapt) -> None:
    """Above `backlog` waiting requests the next ones get 503 with Retry-After at once; then all is well again."""
    app = Gate()
    adapter = adapt(app, threads=1, backlog=2)
    async with opened(adapter, *get("/held")) as first:
        await app.entered.waited()
        async with opened(adapter, *get("/2")) as second, opened(adapter, *get("/3")) as third:
            await eventually(lambda: adapter.stats().waiting == 2)
            refused = [await serve(adapter, *get("/4")) for _ in range(3)]
            uploads = [await serve(adapter, *post(b"body", path="/5")) for _ in range(3)]
            app.go.set()
    assert [(request.status, request.header(b"retry-after")) for request in refused + uploads] == [(503, [b"1"])] * 6
    assert [request.status for request in (first, second, third)] == [200] * 3
    assert (await serve(adapter, *get("/6"))).status == 200
    assert sorted(app.paths) == ["/2", "/3", "/6", "/held"]
    assert (adapter.stats().rejected, adapter.stats().served) == (6, 4)


@pytest.mark.anyio
async def test_a_backlog_that_fills_up_during_an_upload(adapt: Adapt) -> None:
    """An upload that was let in may still find all places taken when it is collected."""
    app = Gate()
    adapter = adapt(app, threads=1, backlog=1)
    async with opened(adapter, *post(b"half", length=8, ends=False, path="/late")) as late:
        await late.asked()
        async with opened(adapter, *get("/held")):
            await app.entered.waited()
            async with opened(adapter, *get("/queued")):
                await eventually(lambda: adapter.stats().waiting == 1)
                late.feed(piece_event(b"half", more=False))
                await late.ended()
                app.go.set()

    assert (late.status, late.header(b"retry-after")) == (503, [b"1"])
    assert app.paths == ["/held", "/queued"]


@pytest.mark.anyio
async def test_no_backlog_at_all(adapt: Adapt) -> None:
    """With `backlog=0` a request is served where a thread is free, and refused where none is."""
    app = Gate()
    adapter = adapt(app, threads=1, backlog=0)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        refused = await serve(adapter, *get())
        app.go.set()
    await eventually(lambda: not adapter.stats().busy)

    assert refused.status == 503
    assert (await serve(adapter, *get())).status == 200


@pytest.mark.anyio
async def test_a_thread_that_cannot_be_started(adapt: Adapt, monkeypatch: pytest.MonkeyPatch, log: LogWatch) -> None:
    """Where the system has no thread for us the client gets 503; it is served once there is one."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("bridge-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    app = Gate()
    adapter = adapt(app, collect=1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        refused = [
            await serve(adapter, *get("/refused")),
            await serve(adapter, *post(b"1", b"2", path="/refused")),
            await serve(adapter, *post(b"1", b"2", path="/refused", length=None)),
        ]

    assert [(request.status, request.header(b"retry-after")) for request in refused] == [(503, [b"1"])] * 3
    assert (await serve(adapter, *get("/served"))).status == 200
    assert app.paths == ["/served"]
    assert adapter.stats().rejected == 3


@pytest.mark.anyio
async def test_a_websocket_is_closed(adapt: Adapt) -> None:
    """Closing before accepting is a 403 to the client (ASGI WebSocket, "Close")."""
    adapter = adapt(hello)
    request = await serve(adapter, {"type": "websocket", "path": "/"}, [{"type": "websocket.connect"}])

    assert types_of(request.sent) == ["websocket.close"]


@pytest.mark.anyio
async def test_a_websocket_is_denied_with_a_response(adapt: Adapt) -> None:
    """Where the server offers it the client gets a response that says why."""
    scope = {"type": "websocket", "path": "/", "extensions": {"websocket.http.response": {}}}
    request = await serve(adapt(hello), scope, [{"type": "websocket.connect"}])

    assert types_of(request.sent) == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (request.status, b"WebSocket" in request.body) == (404, True)


@pytest.mark.anyio
async def test_a_websocket_whose_client_has_left(adapt: Adapt) -> None:
    """There is nobody to deny anything to."""
    request = await serve(adapt(hello), {"type": "websocket", "path": "/"}, [{"type": "websocket.disconnect"}])

    assert request.sent == []


@pytest.mark.anyio
async def test_an_unknown_connection(adapt: Adapt) -> None:
    """The server gets an error that says what was seen and expected (ASGI, "Connection Scope")."""
    request = await serve(adapt(hello), {"type": "gopher"}, fails=True)

    assert isinstance(request.error, ServerProtocolError)
    assert "'gopher'" in str(request.error)
    assert "http, lifespan or websocket" in str(request.error)


@pytest.mark.anyio
@pytest.mark.parametrize("event", [{"type": "websocket.receive"}, {"type": "http.nonsense"}])
async def test_an_event_that_is_none_of_a_request(adapt: Adapt, event: Event) -> None:
    """The server gets an error that names the event; the app is not run."""
    app = Gate()
    scope, _ = post(b"", length=3)
    request = await serve(adapt(app), scope, [event], fails=True)

    assert isinstance(request.error, ServerProtocolError)
    assert repr(event["type"]) in str(request.error)
    assert app.paths == []


@pytest.mark.anyio
async def test_a_receive_that_raises(adapt: Adapt, log: LogWatch) -> None:
    """While the app runs it is taken for a client that left, and logged; a later request is served."""
    entered, ended = Flag(), Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/held":
            entered.set()
            until(environ["bridge.client_disconnected"])
            ended.set()
        return reply(start_response)

    adapter = adapt(app)

    async def receive() -> Event:
        await entered.waited()
        raise AppError("in receive")

    async def broken_server(scope: Scope, _receive: Any, send: Any) -> None:
        await adapter(scope, receive, send)

    await serve(broken_server, *get("/held"))
    await ended.waited()

    log.wait_for("in receive", level=logging.ERROR)
    assert (await serve(adapter, *get())).body == b"served"
