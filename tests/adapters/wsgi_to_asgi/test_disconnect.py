"""A request that ends early, wherever it is: its client leaves, its server cancels it or cannot send."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from bridge import WsgiToAsgi, _log_once
from bridge._wsgi_to_asgi.loop_response import AsyncBody
from bridge.errors import ClientDisconnected
from support.event_loops import on_asyncio
from support.failures import AppError
from support.scripted_asgi_server import DISCONNECT, Adapt, Environ, Event, Request, Scope, get, opened, post, serve
from support.sizes import KIB
from support.stages import (
    Blocked,
    Calling,
    Closing,
    Collecting,
    CollectingChunked,
    Polling,
    PollingByWrite,
    PollingFirst,
    Reading,
    ReadingFirst,
    Stage,
    Starting,
    Streaming,
    StreamingAtOnce,
    Writing,
)
from support.waiting import Flag, LogWatch, eventually, until
from support.wsgi_apps import Chunks, Gate, endless, hello, reply

STAGES = [
    Collecting,
    CollectingChunked,
    Calling,
    Reading,
    ReadingFirst,
    Starting,
    Blocked,
    Writing,
    Streaming,
    Polling,
    PollingFirst,
    PollingByWrite,
    StreamingAtOnce,
    Closing,
]

# What middleware is told where the client has left before the response began.
LEFT = 499


def by_name(kinds: list[type[Stage]]) -> list[Any]:
    return [pytest.param(kind, id=kind.__name__.lower()) for kind in kinds]


async def has_let_go(adapter: WsgiToAsgi, stage: Stage) -> None:
    """The one thread of the adapter is free, and what the app has returned was closed once, in its own thread."""
    assert (await serve(adapter, *get("/next"))).body == b"served"
    if stage.returned or isinstance(stage, Writing):
        assert stage.chunks.closings == (stage.ran if stage.returned else [])
    assert len(stage.ran) <= 1
    await eventually(lambda: (adapter.stats().busy, adapter.stats().waiting) == (0, 0))


@pytest.mark.anyio
@pytest.mark.parametrize("kind", by_name(STAGES))
async def test_a_request_that_the_server_cancels(adapt: Adapt, kind: type[Stage]) -> None:
    """The cancellation is handed on at once; the app's iterable is closed in its own thread, which is free then."""
    stage = kind()
    adapter = adapt(stage, threads=1, collect=KIB)
    async with opened(adapter, *stage.request(), lambda event: stage.slow(request, event)) as request:
        await stage.reached(request)
        request.cancel()
        await request.ended()
        assert request.cancelled or stage.served
        stage.go.set()
        await has_let_go(adapter, stage)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", by_name(STAGES))
async def test_a_request_whose_client_leaves(adapt: Adapt, kind: type[Stage]) -> None:
    """The call ends at once; the app's iterable is closed in its own thread, which is free then."""
    stage = kind()
    adapter = adapt(stage, threads=1, collect=KIB)
    async with opened(adapter, *stage.request(), lambda event: stage.slow(request, event)) as request:
        await stage.reached(request)
        request.leave()
        if stage.served:
            stage.go.set()
        await request.ended()
        stage.go.set()
        await has_let_go(adapter, stage)
    stats = adapter.stats()
    assert (stats.client_disconnects, stats.served, stats.aborted, stats.rejected) == (
        (0, 2, 0, 0) if stage.served else (1, 1, 0, 0)
    )


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError, AppError])
@pytest.mark.parametrize("fatal", [0, 1, 2, 12])
@pytest.mark.parametrize("writes", [False, True])
async def test_a_send_that_raises(adapt: Adapt, error: type[Exception], fatal: int, writes: bool) -> None:
    """The error is the server's to see; the app is told, its iterable is closed, its thread is free."""
    stage = Writing() if writes else Stage()
    adapter = adapt(stage, threads=1)
    raised = error("the client left")

    async def fail(_event: Event) -> None:
        if len(request.sent) == fatal:
            raise raised

    for _ in range(3):
        async with opened(adapter, *get("/held"), fail, fails=True) as request:
            await request.ended()
        assert request.error is raised
        await has_let_go(adapter, stage)
        if writes:
            assert isinstance(stage.raised, ClientDisconnected)
        stage.ran.clear()
        stage.chunks = Chunks(endless())


@pytest.mark.anyio
@pytest.mark.parametrize("fatal", [0, 1])
async def test_a_send_that_raises_for_a_whole_response(adapt: Adapt, fatal: int) -> None:
    """Also a response that was there as a whole ends with the error of the server."""
    adapter = adapt(hello, threads=1)
    raised = OSError("the client left")

    async def fail(_event: Event) -> None:
        if len(request.sent) == fatal:
            raise raised

    async with opened(adapter, *get(), fail, fails=True) as request:
        await request.ended()

    assert request.error is raised
    assert (await serve(adapter, *get())).body == b"served"


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
@pytest.mark.parametrize("nested", [False, True], ids=["at first", "after sync code of async code"])
async def test_async_code_of_the_app_ends_with_its_request(adapt: Adapt, ends: str, nested: bool) -> None:
    """What `async_to_sync` runs on the server's loop for the app is cancelled where the request ends early.

    Whatever the thread has done before: asgiref's `sync_to_async` leaves something of its own in it.
    """
    from asgiref.sync import async_to_sync, sync_to_async

    entered, left = Flag(), Flag()
    loops: list[Any] = []

    async def there_and_back() -> None:
        loops.append(asyncio.get_running_loop())
        await sync_to_async(int)()

    async def never() -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.set()

    def app(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/held":
            async_to_sync(never)()
        elif environ["PATH_INFO"] == "/nested":
            async_to_sync(there_and_back)()
            async_to_sync(there_and_back)()
        return reply(start_response)

    adapter = adapt(app, threads=1)
    if nested:
        await serve(adapter, *get("/nested"))
    assert loops == [asyncio.get_running_loop()] * (2 * nested)
    async with opened(adapter, *get("/held")) as request:
        await entered.waited()
        getattr(request, ends)()
        await request.ended()
        await left.waited()
        assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_a_queued_request_that_ends_is_never_run(adapt: Adapt, ends: str) -> None:
    """A request whose client left, or that the server gave up, while it waited for a thread takes none."""
    app = Gate()
    adapter = adapt(app, threads=1)
    async with opened(adapter, *get("/held")) as first:
        await app.entered.waited()
        async with opened(adapter, *get("/queued")) as second:
            await eventually(lambda: adapter.stats().waiting == 1)
            getattr(second, ends)()
            await second.ended()
            assert adapter.stats().waiting == 0
            app.go.set()
            await first.ended()
        await serve(adapter, *get("/next"))

    assert app.paths == ["/held", "/next"]


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_a_queued_upload_that_ends_is_never_run(adapt: Adapt, ends: str) -> None:
    """The same for a request with a body of which a part is still to come."""
    app = Gate()
    adapter = adapt(app, threads=1, collect=1)
    async with opened(adapter, *get("/held")) as first:
        await app.entered.waited()
        async with opened(adapter, *post(b"half", length=8, ends=False, path="/queued")) as second:
            await second.asked()
            getattr(second, ends)()
            await second.ended()
            app.go.set()
            await first.ended()
        await serve(adapter, *get("/next"))

    assert app.paths == ["/held", "/next"]


@pytest.mark.anyio
async def test_a_request_that_is_cancelled_after_its_client_has_left(adapt: Adapt) -> None:
    """It is counted once, by what came first."""
    app = Gate()
    adapter = adapt(app)
    async with opened(adapter, *get("/held")) as request:
        await app.entered.waited()
        await request.asked()
        request.leave()
        await eventually(lambda: adapter.stats().client_disconnects)
        request.cancel()
        await request.ended()
        app.go.set()

    assert (adapter.stats().client_disconnects, adapter.stats().aborted) == (1, 0)


@on_asyncio
@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel after the response", "leave before its end was sent"])
async def test_async_cleanup_in_close_runs_to_its_end(adapt: Adapt, ends: str) -> None:
    """`close()` may run async code on the server's loop: nothing waits for more of the app, so nothing is cancelled."""
    from asgiref.sync import async_to_sync

    sending, closing, go, closed, noticed = Flag(), Flag(), Flag(), Flag(), anyio.Event()
    leaves = ends.startswith("leave")
    asks: list[Callable[[], bool]] = []

    def pieces() -> Iterator[bytes]:
        yield b"one"
        sending.wait()

    async def clean_up() -> None:
        closing.set()
        await go.waited()
        closed.set()

    def app(environ: Environ, start_response: Any) -> Chunks:
        asks.append(environ["bridge.client_disconnected"])
        start_response("200 OK", [])
        chunks = Chunks(pieces())
        chunks.close = async_to_sync(clean_up)  # type: ignore[method-assign]
        return chunks

    async def slow(event: Event) -> None:
        if event["type"] == "http.response.body":
            sending.set()
            if leaves:
                await noticed.wait()

    adapter = adapt(app, threads=1)
    async with opened(adapter, *get(), slow) as request:
        await closing.waited()
        if leaves:
            await request.asked()
            request.leave()
            await eventually(asks[0])
            noticed.set()
        else:
            await request.until(lambda: request.complete)
            request.cancel()
        await request.ended()
        go.set()
        await closed.waited()


def stream_that_closes(closing: Flag, go: Flag) -> Callable[[Environ, Any], AsyncBody]:
    """An app whose async stream is over at once, and whose `close()` sets `closing` and waits for `go`."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"

    def close() -> None:
        closing.set()
        go.wait()

    def app(_environ: Environ, start_response: Any) -> AsyncBody:
        start_response("200 OK", [])
        return AsyncBody(chunks, pytest.fail, close, int)

    return app


@on_asyncio
@pytest.mark.anyio
async def test_a_request_that_is_cancelled_while_its_stream_is_closed(adapt: Adapt) -> None:
    """Nothing waits for the client any more, also if the server's `receive()` never returns."""
    closing, go = Flag(), Flag()
    stopped = Flag()

    async def receive() -> Event:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    adapter = adapt(stream_that_closes(closing, go))
    task = asyncio.ensure_future(Request(lambda scope, _, send: adapter(scope, receive, send), *get()).run())
    await closing.waited()
    await eventually(lambda: adapter.stats().served)
    task.cancel()
    await asyncio.wait([task])
    go.set()
    await stopped.waited()


@on_asyncio
@pytest.mark.anyio
async def test_a_request_that_is_cancelled_after_its_response(adapt: Adapt) -> None:
    """While it waits for the end of its stream: it is counted once, as served."""
    closing, go = Flag(), Flag()
    adapter = adapt(stream_that_closes(closing, go))
    async with opened(adapter, *get()) as request:
        await closing.waited()
        await eventually(lambda: adapter.stats().served)
        request.cancel()
        await request.ended()
        go.set()

    assert request.cancelled
    assert (adapter.stats().served, adapter.stats().aborted) == (1, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("event", ["http.response.start", "http.response.body"])
async def test_a_whole_response_that_is_cancelled_while_it_is_sent(adapt: Adapt, event: str) -> None:
    """The cancellation is handed on; the app was done before, and the next request is served."""
    adapter = adapt(hello, threads=1)

    async def slow(sent: Event) -> None:
        if sent["type"] == event:
            await request.gate.wait()

    async with opened(adapter, *get(), slow) as request:
        await request.until(lambda: request.sending and request.sending["type"] == event)
        request.cancel()
        await request.ended()

    assert request.cancelled
    assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "upload", [post(length=10), post(b"half", length=10, ends=False)], ids=["before the body", "within the body"]
)
async def test_a_client_that_leaves_during_its_upload(adapt: Adapt, upload: tuple[Scope, list[Event]]) -> None:
    """What the app reads is never taken for a whole body (PEP 3333, "Input and Error Streams")."""
    outcomes: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        try:
            outcomes.append(environ["wsgi.input"].read())
        except OSError as error:
            outcomes.append(type(error))
            raise
        return reply(start_response)

    adapter = adapt(app)
    scope, events = upload
    request = await serve(adapter, scope, [*events, {"type": "http.disconnect"}])

    assert outcomes in ([], [ClientDisconnected])
    assert request.status == LEFT
    assert (adapter.stats().client_disconnects, adapter.stats().rejected) == (1, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["takes it", "raises", "waits"])
async def test_middleware_gets_a_response_though_the_client_has_left(
    adapt: Adapt, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some raises an error where none comes. What the server makes of it is none of the request's business."""
    monkeypatch.setattr("bridge._wsgi_to_asgi.refusals._NOBODY_SECONDS", 0.05)
    go = Flag()
    statuses: list[int] = []

    def app(_environ: Environ, start_response: Any) -> list[bytes]:
        go.wait()
        return reply(start_response)

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def note(event: Event) -> None:
            if event["type"] == "http.response.start":
                statuses.append(event["status"])
            if how == "raises":
                raise RuntimeError("the connection is closed")
            if how == "waits":
                await anyio.sleep_forever()
            await send(event)

        await adapter(scope, receive, note)

    adapter = adapt(app)
    async with opened(middleware, *get()) as request:
        await request.asked()
        await anyio.sleep(0.02)  # longer than what counts as at once
        request.leave()
        await request.ended()
        go.set()

    assert statuses == [LEFT]
    assert request.complete == (how == "takes it")
    assert adapter.stats().client_disconnects == 1


@pytest.mark.anyio
async def test_a_client_that_leaves_during_a_chunked_upload(adapt: Adapt) -> None:
    """What has come of such a body cannot be told from a whole one, so the app is not run."""
    app = Gate()
    scope, events = post(b"half", length=None, ends=False)
    request = await serve(adapt(app), scope, [*events, {"type": "http.disconnect"}])

    assert app.paths == []
    assert request.status == LEFT


@pytest.mark.anyio
async def test_a_truncated_upload_is_an_error_where_it_breaks_off(adapt: Adapt) -> None:
    """What has come can be read; then `read` raises, and again, an `OSError` (ClientDisconnected)."""
    read: list[bytes] = []
    raised: list[BaseException] = []
    over = Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"]
        read.append(body.readline())
        read.append(body.readline())
        for _ in range(2):
            try:
                body.readline()
            except OSError as error:
                raised.append(error)
        over.set()
        return reply(start_response, status="400 Bad Request")

    scope, events = post(b"one\ntwo\nth", length=20, ends=False)
    await serve(adapt(app), scope, [*events, {"type": "http.disconnect"}])
    await over.waited()

    assert read == [b"one\n", b"two\n"]
    assert [type(error) for error in raised] == [ClientDisconnected] * 2


@pytest.mark.anyio
async def test_a_body_that_ends_before_its_length(adapt: Adapt) -> None:
    """A server that says "the end" too early makes no whole body of it: the app is told, the client gets 400."""
    raised: list[type] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(type(error))
            raise
        return reply(start_response)

    request = await serve(adapt(app), *post(b"half", length=8))

    assert raised == [ClientDisconnected]
    assert (request.status, request.complete) == (400, True)


@pytest.mark.anyio
@pytest.mark.parametrize("expects", [False, True], ids=["more than is held", "nothing before it is asked for"])
async def test_a_stream_whose_app_does_not_read_the_upload(adapt: Adapt, expects: bool) -> None:
    """It ends with its client: the rest of the upload does not hide that the client has left."""
    closed, beat = Flag(), threading.Event()

    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"tick"
                beat.wait(0.01)
        finally:
            closed.set()

    pieces, headers = ([], [(b"expect", b"100-continue")]) if expects else ([b"x" * 65536] * 4, [])
    upload = post(*pieces, length=2**20, ends=False, headers=headers)
    async with opened(adapt(app, collect=1), *upload) as request:
        await request.until(lambda: request.chunks)
        request.leave()
        await request.ended()
    await closed.waited()


@pytest.mark.anyio
async def test_the_app_can_ask_whether_its_client_has_left(adapt: Adapt) -> None:
    """`environ["bridge.client_disconnected"]()` turns true while the app does something else."""
    asked: list[bool] = []
    entered, ended = Flag(), Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        disconnected = environ["bridge.client_disconnected"]
        asked.append(disconnected())
        entered.set()
        until(disconnected)
        asked.append(disconnected())
        ended.set()
        return reply(start_response)

    async with opened(adapt(app), *get()) as request:
        await entered.waited()
        request.leave()
        await ended.waited()

    assert asked == [False, True]


@pytest.mark.anyio
async def test_the_app_can_ask_after_an_upload_that_broke_off(adapt: Adapt) -> None:
    """`bridge.client_disconnected` also tells of the client that left before its body was whole."""
    asked: list[bool] = []
    ended = Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        asked.append(environ["bridge.client_disconnected"]())
        with pytest.raises(ClientDisconnected):
            environ["wsgi.input"].read()
        asked.append(environ["bridge.client_disconnected"]())
        ended.set()
        return reply(start_response)

    async with opened(adapt(app, collect=4), *post(b"half", length=8, ends=False)) as request:
        await eventually(lambda: asked)
        request.leave()
        await ended.waited()

    assert asked == [False, True]


@pytest.mark.anyio
async def test_a_disconnect_after_the_end_is_none(adapt: Adapt, log: LogWatch) -> None:
    """Every response ends with http.disconnect; a `close()` that goes on after it is not disturbed."""
    asked: list[Any] = []
    go = Flag()

    class Closing:
        def __init__(self, disconnected: Callable[[], bool]) -> None:
            self.disconnected = disconnected

        def __iter__(self) -> Iterator[bytes]:
            yield b"all"

        def close(self) -> None:
            go.wait()
            asked.append("closed")
            raise AppError("in close")

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "3")])
        return Closing(environ["bridge.client_disconnected"])

    adapter = adapt(app)
    async with opened(adapter, *get()) as request:
        await request.until(lambda: request.complete)
        await eventually(lambda: request.received)  # the watch on the client, which is told of the end now
        await anyio.sleep(0)
        go.set()
    assert asked == ["closed"]
    assert "in close" in log.wait_for("raised", level=logging.ERROR)
    assert (adapter.stats().client_disconnects, adapter.stats().served) == (0, 1)


# --- a server that says of each request at once that its client has left


class Asked:
    """An app that waits until the server has been asked about its client, and then answers, or streams."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self.pieces: list[bytes] = []

    def __call__(self, environ: Environ, start_response: Any) -> Any:
        until(lambda: self.request is not None and self.request.received)
        if not self.pieces:
            return reply(start_response)
        start_response("200 OK", [])
        return Chunks(self.pieces)

    async def serve(self, adapter: WsgiToAsgi, *events: Event) -> Request:
        """One request whose events are there from the start."""
        self.request = None
        async with opened(adapter, get()[0], events) as self.request:
            await self.request.ended()
        return self.request


@pytest.fixture
def not_warned() -> None:
    """As in a new process."""
    _log_once.forget()


@pytest.mark.anyio
@pytest.mark.usefixtures("not_warned")
async def test_a_disconnect_at_once_fails_no_request(adapt: Adapt, log: LogWatch) -> None:
    """It is not believed of a response that is there as a whole soon; the log says so once."""
    app = Asked()
    adapter = adapt(app)
    for _ in range(4):
        request = await app.serve(adapter, DISCONNECT)
        assert (request.body, request.complete) == (b"served", True)

    assert (adapter.stats().served, adapter.stats().client_disconnects) == (4, 0)
    assert len(log.having("right after a request that its client had left", level=logging.WARNING)) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("before", [0, 3])
async def test_a_disconnect_at_once_ends_a_stream(adapt: Adapt, before: int) -> None:
    """That could be one without end, also where the server is known to say so too soon."""
    app = Asked()
    adapter = adapt(app)
    for _ in range(before):
        assert (await app.serve(adapter, DISCONNECT)).complete
    app.pieces = [b"x" * KIB] * 1000
    request = await app.serve(adapter, DISCONNECT)

    assert (request.status, request.complete) == ((200, False) if before else (LEFT, True))
    await eventually(lambda: adapter.stats().busy == 0)


@pytest.mark.anyio
async def test_a_server_that_has_waited_is_believed(adapt: Adapt) -> None:
    """One that has waited once for a client to leave says so where it is true."""
    held = Gate()
    asked = Asked()

    def app(environ: Environ, start_response: Any) -> Any:
        return (held if environ["PATH_INFO"] == "/held" else asked)(environ, start_response)

    adapter = adapt(app)
    async with opened(adapter, *get("/held")) as first:
        await held.entered.waited()
        await first.asked()
        await anyio.sleep(0.02)  # longer than what counts as at once
        held.go.set()
        await first.ended()
    request = await asked.serve(adapter, DISCONNECT)

    assert request.status == LEFT
    assert adapter.stats().client_disconnects == 1
