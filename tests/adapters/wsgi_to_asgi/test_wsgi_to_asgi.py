"""`WsgiToAsgi` from outside: what an ASGI server sees of it, and what the WSGI app behind it sees."""

import asyncio
import contextvars
import errno
import io
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import WsgiToAsgi
from bridge.errors import ApplicationProtocolError, ClientDisconnected, ServerProtocolError
from support.event_loops import loop_factories, on_asyncio
from support.failures import AppError
from support.plain_servers import call_asgi
from support.scripted_asgi_server import (
    Adapt,
    Environ,
    Event,
    Request,
    Scope,
    get,
    lifespan,
    opened,
    piece_event,
    post,
    serve,
)
from support.waiting import HOLD, Flag, LogWatch, eventually, until
from support.wsgi_apps import Chunks, Gate, endless, hello, reply

KIB = 2**10
MIB = 2**20
# What may be on its way to or from a thread before somebody has to wait, in bytes.
BOUND = 64 * KIB


# --- the request ends early, wherever it is ---------------------------------------------------------------------------


class Stage:
    """A place where one request is held, and the WSGI app that gets it there; it serves every other request.

    At the place it has the app's own code wait for `go`, or waits in a call of the adapter that ends by itself.
    """

    needs_go = True
    served = False  # whether the response is whole there

    def __init__(self) -> None:
        self.entered = Flag()
        self.go = Flag()
        self.chunks = Chunks(endless())
        self.ran: list[int] = []
        self.returned = False
        self.raised: BaseException | None = None

    def __call__(self, environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/held":
            return reply(start_response)
        self.ran.append(threading.get_ident())
        try:
            iterable = self.app(environ, start_response)
        except BaseException as error:
            self.raised = error
            raise
        self.returned = True
        return iterable

    def request(self) -> tuple[Scope, list[Event]]:
        return get("/held")

    async def slow(self, request: Request, event: Event) -> None:
        """What the client does about each event that is sent to it."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return self.chunks

    def in_own_code(self) -> None:
        self.entered.set()
        self.go.wait()

    async def reached(self, request: Request) -> None:
        await self.entered.waited()


class Collecting(Stage):
    """The adapter waits for the rest of a body that is collected."""

    needs_go = False

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"half", length=8, ends=False, path="/held")

    async def reached(self, request: Request) -> None:
        await request.asked()


class CollectingChunked(Collecting):
    """The adapter waits for the rest of a body without Content-Length."""

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"half", length=None, ends=False, path="/held")


class Calling(Stage):
    """The app has been called and has not returned."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        self.in_own_code()
        return self.chunks


class Reading(Stage):
    """The app reads a body of which more has to come."""

    needs_go = False

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"half", length=2 * MIB, ends=False, path="/held")

    def app(self, environ: Environ, start_response: Any) -> Any:
        self.entered.set()
        environ["wsgi.input"].read()
        return super().app(environ, start_response)

    async def reached(self, request: Request) -> None:
        request.feed(piece_event(b"x" * MIB, more=True))
        await self.entered.waited()
        await request.asked()


class ReadingFirst(Reading):
    """The app reads a body of which no byte has come."""

    def request(self) -> tuple[Scope, list[Event]]:
        return post(b"", length=2 * MIB, ends=False, path="/held")


class Starting(Stage):
    """The client does not take the headers."""

    needs_go = False

    async def slow(self, request: Request, event: Event) -> None:
        await request.gate.wait()

    async def reached(self, request: Request) -> None:
        await request.until(lambda _: request.sending)


class Blocked(Stage):
    """The client does not take the body, so that the app's thread waits."""

    needs_go = False

    async def slow(self, request: Request, event: Event) -> None:
        if event["type"] == "http.response.body":
            await request.gate.wait()

    async def reached(self, request: Request) -> None:
        await request.until(lambda _: request.sending and request.sending["type"] == "http.response.body")
        await eventually(lambda: self.chunks.taken > BOUND * 3 // 4)


class Writing(Blocked):
    """The client does not take what the app writes with `write()`."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        for chunk in self.chunks:
            write(chunk)


class Streaming(Stage):
    """The app has yielded a chunk, and takes its time for the next one."""

    def app(self, environ: Environ, start_response: Any) -> Any:
        def pausing() -> Iterator[bytes]:
            yield b"first"
            self.in_own_code()
            yield from endless()

        start_response("200 OK", [])
        self.chunks = Chunks(pausing())
        return self.chunks


class StreamingAtOnce(Stage):
    """Chunks go to the client as fast as it takes them."""

    needs_go = False

    async def reached(self, request: Request) -> None:
        await request.until(lambda _: len(request.body) > 3 * BOUND)


class Closing(Stage):
    """The response is whole, and the app's `close()` takes its time."""

    served = True

    def app(self, environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        self.chunks = Chunks([b"all"])
        close = self.chunks.close

        def slow_close() -> None:
            self.in_own_code()
            close()

        self.chunks.close = slow_close  # type: ignore[method-assign]
        return self.chunks

    async def reached(self, request: Request) -> None:
        await super().reached(request)
        await request.until(lambda _: request.complete)


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
    StreamingAtOnce,
    Closing,
]


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
async def test_async_code_of_the_app_ends_with_its_request(adapt: Adapt, ends: str) -> None:
    """What `async_to_sync` runs on the server's loop for the app is cancelled where the request ends early."""
    from asgiref.sync import async_to_sync

    entered, left = Flag(), Flag()

    async def never() -> None:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.set()

    def app(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/held":
            async_to_sync(never)()
        return reply(start_response)

    adapter = adapt(app, threads=1)
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
@pytest.mark.parametrize("event", ["http.response.start", "http.response.body"])
async def test_a_whole_response_that_is_cancelled_while_it_is_sent(adapt: Adapt, event: str) -> None:
    """The cancellation is handed on; the app was done before, and the next request is served."""
    adapter = adapt(hello, threads=1)

    async def slow(sent: Event) -> None:
        if sent["type"] == event:
            await request.gate.wait()

    async with opened(adapter, *get(), slow) as request:
        await request.until(lambda _: request.sending and request.sending["type"] == event)
        request.cancel()
        await request.ended()

    assert request.cancelled
    assert (await serve(adapter, *get())).body == b"served"


# --- http.disconnect --------------------------------------------------------------------------------------------------


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
    assert not request.complete
    assert (adapter.stats().client_disconnects, adapter.stats().rejected) == (1, 0)


@pytest.mark.anyio
async def test_a_client_that_leaves_during_a_chunked_upload(adapt: Adapt) -> None:
    """What has come of such a body cannot be told from a whole one, so the app is not run."""
    app = Gate()
    scope, events = post(b"half", length=None, ends=False)
    request = await serve(adapt(app), scope, [*events, {"type": "http.disconnect"}])

    assert app.paths == []
    assert request.sent == []


@pytest.mark.anyio
async def test_a_truncated_upload_is_an_error_where_it_breaks_off(adapt: Adapt) -> None:
    """What has come can be read; then `read` raises, and again, an `OSError` (ClientDisconnected)."""
    read: list[bytes] = []
    raised: list[BaseException] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"]
        read.append(body.readline())
        read.append(body.readline())
        for _ in range(2):
            try:
                body.readline()
            except OSError as error:
                raised.append(error)
        return reply(start_response, status="400 Bad Request")

    scope, events = post(b"one\ntwo\nth", length=20, ends=False)
    await serve(adapt(app), scope, [*events, {"type": "http.disconnect"}])

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
        await request.until(lambda _: request.complete)
        await eventually(lambda: request.received)  # the watch on the client, which is told of the end now
        await anyio.sleep(0)
        go.set()
    assert asked == ["closed"]
    assert "in close" in log.wait_for("raised", level=logging.ERROR)
    assert (adapter.stats().client_disconnects, adapter.stats().served) == (0, 1)


# --- the app fails ----------------------------------------------------------------------------------------------------

FATAL = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), AppError("app")]


def raising(error: BaseException, after: str) -> Callable[..., Any]:
    """An app that raises at "/" after it has come so far; it serves every other path."""

    def chunks() -> Iterator[bytes]:
        if after == "a chunk":
            yield b"chunk"
        raise error
        yield b"never"

    def app(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/":
            return reply(start_response)
        if after == "nothing":
            raise error
        write = start_response("200 OK", [])
        if after == "start_response":
            raise error
        if after == "write":
            write(b"chunk")
            raise error
        return chunks()

    return app


@pytest.mark.anyio
@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", ["nothing", "start_response", "the call"])
async def test_what_the_app_raises_before_the_headers(
    adapt: Adapt, log: LogWatch, error: BaseException, after: str
) -> None:
    """The server gets an `Exception` and nothing else, so that it answers 500; the next request is served."""
    adapter = adapt(raising(error, after), threads=1)
    request = await serve(adapter, *get("/"), fails=True)
    cause = request.error if isinstance(error, Exception) else request.error and request.error.__cause__

    assert cause is error
    assert request.sent == []
    assert "GET '/'" in log.wait_for("raised", level=logging.ERROR)
    assert "in app" in log.wait_for("Traceback", level=30) or "in chunks" in log.wait_for("Traceback", level=30)
    assert (await serve(adapter, *get("/next"))).body == b"served"
    assert (adapter.stats().aborted, adapter.stats().served) == (1, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", ["write", "a chunk"])
async def test_what_the_app_raises_after_the_headers(
    adapt: Adapt, log: LogWatch, error: BaseException, after: str
) -> None:
    """The response is never ended as if it were whole, and the server gets an `Exception` to abort it for."""
    adapter = adapt(raising(error, after), threads=1)
    request = await serve(adapter, *get("/"), fails=True)

    assert [event["type"] for event in request.sent] == ["http.response.start", "http.response.body"]
    assert not request.complete
    assert "GET '/'" in log.wait_for("raised", level=logging.ERROR)
    assert (await serve(adapter, *get("/next"))).body == b"served"
    assert (adapter.stats().aborted, adapter.stats().served) == (1, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_close_raises_after_the_end(adapt: Adapt, log: LogWatch, method: str) -> None:
    """The response is whole already, so that only the log can tell."""

    class Failing:
        def __iter__(self) -> Iterator[bytes]:
            yield b"all"

        def close(self) -> None:
            raise AppError("in close")

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Failing()

    adapter = adapt(app)
    scope, events = get()
    request = await serve(adapter, {**scope, "method": method}, events)

    assert (request.body, request.complete) == (b"all" if method == "GET" else b"", True)
    assert "in close" in log.wait_for("raised", level=logging.ERROR)
    assert adapter.stats().served == 1


@pytest.mark.anyio
async def test_what_close_raises_does_not_hide_what_the_app_raised(adapt: Adapt, log: LogWatch) -> None:
    """Both are in the log, and the server gets an error."""

    class Failing:
        def __iter__(self) -> Iterator[bytes]:
            yield b"first"
            raise AppError("in the middle")

        def close(self) -> None:
            raise AppError("in close")

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Failing()

    request = await serve(adapt(app), *get(), fails=True)
    line = log.wait_for("in close", level=logging.ERROR)

    assert not request.complete
    assert "in the middle" in line


@pytest.mark.anyio
@pytest.mark.parametrize(
    "kind",
    [lambda _: None, lambda _: 5, list, tuple, iter, set],
    ids=["None", "int", "list", "tuple", "iterator", "set"],
)
@pytest.mark.parametrize("given", [["text"], [5], [b"", None]], ids=str)
async def test_what_is_no_iterable_of_bytes(adapt: Adapt, log: LogWatch, kind: Any, given: list[Any]) -> None:
    """Such an app gets its error, the server another one, and nothing of the response leaves."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return kind(given)

    request = await serve(adapt(app), *get(), fails=True)

    assert isinstance(request.error, ApplicationProtocolError | TypeError)
    assert request.sent == []
    assert log.at(logging.ERROR)


@pytest.mark.anyio
async def test_an_iterator_that_fails_the_client_of_another_request(adapt: Adapt) -> None:
    """What one request raises is no concern of one that runs at the same time."""
    entered, go = Flag(), Flag()

    def app(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/fails":
            raise AppError
        start_response("200 OK", [])

        def chunks() -> Iterator[bytes]:
            yield b"one"
            entered.set()
            go.wait()
            yield b"two"

        return chunks()

    adapter = adapt(app)
    async with opened(adapter, *get()) as request:
        await entered.waited()
        await serve(adapter, *get("/fails"), fails=True)
        go.set()

    assert (request.body, request.complete) == (b"onetwo", True)


# --- the response -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_chunks_leave_as_they_are_yielded(adapt: Adapt) -> None:
    """A chunk is with the client before the app makes the next one (PEP 3333, "Buffering and Streaming")."""
    flags = [Flag() for _ in range(4)]

    def chunks() -> Iterator[bytes]:
        for at, flag in enumerate(flags):
            yield b"%d" % at
            flag.wait()

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks()

    async with opened(adapt(app), *get()) as request:
        for at, flag in enumerate(flags):
            await request.until(lambda _, at=at: request.body == b"0123"[: at + 1])
            flag.set()

    assert request.complete


@pytest.mark.anyio
async def test_write_leaves_at_once(adapt: Adapt) -> None:
    """What is given to `write()` is with the client while the app goes on, in order with what it yields."""
    go = Flag()

    def app(environ: Environ, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        write(b"one, ")
        go.wait()
        write(b"two, ")
        return [b"three"]

    async with opened(adapt(app), *get()) as request:
        await request.until(lambda _: request.body == b"one, ")
        go.set()

    assert (request.body, request.complete) == (b"one, two, three", True)


@pytest.mark.anyio
async def test_chunks_that_pile_up_go_together(adapt: Adapt) -> None:
    """While the server takes one event the chunks behind it are put together, in order."""
    yielded = Flag()

    def chunks() -> Iterator[bytes]:
        for at in range(100):
            yield b"%02d" % at
        yielded.set()

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks()

    async def slow(event: Event) -> None:
        if not request.sent:
            await yielded.waited()

    async with opened(adapt(app), *get(), slow) as request:
        pass

    assert request.body == b"".join(b"%02d" % at for at in range(100))
    assert len(request.sent) <= 3


@pytest.mark.anyio
async def test_what_is_on_its_way_to_a_slow_client_is_bounded(adapt: Adapt) -> None:
    """While the client takes nothing the app is asked for no more than a bounded number of bytes."""
    chunks = Chunks(b"x" * 8 * KIB for _ in range(4 * MIB // (8 * KIB)))

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks

    async def slow(event: Event) -> None:
        if event["type"] == "http.response.body":
            await request.gate.wait()

    async with opened(adapt(app), *get(), slow) as request:
        await eventually(lambda: chunks.taken >= BOUND // 2)
        with anyio.move_on_after(HOLD):
            await eventually(lambda: chunks.taken > BOUND + 16 * KIB)
        taken = chunks.taken
        request.gate.set()

    assert taken <= BOUND + 16 * KIB
    assert (len(request.body), request.complete) == (4 * MIB, True)


@pytest.mark.anyio
@pytest.mark.parametrize("writes", [False, True])
async def test_very_small_chunks_are_bounded_too(adapt: Adapt, writes: bool) -> None:
    """A flood of single bytes does not get far ahead of the client either."""
    chunks = Chunks(b"x" for _ in range(20_000))

    def app(environ: Environ, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        if not writes:
            return chunks
        for chunk in chunks:
            write(chunk)
        return []

    async def slow(event: Event) -> None:
        if event["type"] == "http.response.body" and not request.body:
            await request.gate.wait()

    async with opened(adapt(app), *get(), slow) as request:
        await eventually(lambda: chunks.taken > 100)
        with anyio.move_on_after(HOLD):
            await eventually(lambda: chunks.taken > 4 * KIB)
        taken = chunks.taken
        request.gate.set()

    assert taken <= 4 * KIB
    assert (len(request.body), request.complete) == (20_000, True)


@pytest.mark.anyio
async def test_a_large_body_that_is_known_as_a_whole(adapt: Adapt) -> None:
    """A list of large chunks arrives whole, with its length."""
    pieces = [bytes([at]) * MIB for at in range(4)]

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return pieces

    request = await serve(adapt(app), *get())

    assert request.body == b"".join(pieces)
    assert request.header(b"content-length") == [b"%d" % (4 * MIB)]


@pytest.mark.anyio
async def test_error_pages_replace_headers_that_have_not_left(adapt: Adapt) -> None:
    """`start_response` with `exc_info` before the first chunk makes another response."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("X-Lost", "1")])
        try:
            raise AppError
        except AppError:
            start_response("500 Internal Server Error", [("X-Found", "1")], sys.exc_info())
        return [b"sorry"]

    request = await serve(adapt(app), *get())

    assert (request.status, request.body) == (500, b"sorry")
    assert (request.header(b"x-found"), request.header(b"x-lost")) == ([b"1"], [])


@pytest.mark.anyio
async def test_error_pages_cannot_replace_headers_that_have_left(adapt: Adapt) -> None:
    """`start_response` with `exc_info` after the first chunk raises it again, and the response is aborted."""
    error = AppError("in the middle")

    def chunks(start_response: Any) -> Iterator[bytes]:
        yield b"first"
        try:
            raise error
        except AppError:
            start_response("500 Internal Server Error", [], sys.exc_info())
        yield b"sorry"

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks(start_response)

    request = await serve(adapt(app), *get(), fails=True)

    assert request.error is error
    assert (request.status, request.body, request.complete) == (200, b"first", False)


@pytest.mark.anyio
async def test_a_response_longer_than_its_length(adapt: Adapt, log: LogWatch) -> None:
    """The surplus is cut and logged; the app is not asked for more."""
    chunks = Chunks([b"12345678"] * 100)

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "10")])
        return chunks

    request = await serve(adapt(app), *get())

    assert (request.body, request.complete) == (b"1234567812", True)
    assert chunks.taken <= 24
    assert chunks.closed.is_set()
    log.wait_for("Content-Length", level=logging.ERROR)


@pytest.mark.anyio
async def test_a_response_shorter_than_its_length(adapt: Adapt, log: LogWatch) -> None:
    """It is aborted, and the app's fault is in the log."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "10")])
        return iter([b"1234"])

    request = await serve(adapt(app), *get(), fails=True)

    assert (request.body, request.complete) == (b"1234", False)
    assert isinstance(request.error, ApplicationProtocolError)
    log.wait_for("Content-Length", level=logging.ERROR)


@on_asyncio
@pytest.mark.anyio
async def test_a_small_response_asks_the_server_for_nothing(adapt: Adapt) -> None:
    """A request without a body is answered with two events and no call of `receive`."""
    request = await serve(adapt(hello), *get())

    assert [event["type"] for event in request.sent] == ["http.response.start", "http.response.body"]
    assert request.received == 0


# --- the request body -------------------------------------------------------------------------------------------------


def reader(seen: list[Any], step: int = -1) -> Callable[..., list[bytes]]:
    """An app that keeps what it reads, and the environ."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(b"".join(iter(lambda: environ["wsgi.input"].read(step), b"")))
        seen.append(dict(environ))
        return reply(start_response)

    return app


@pytest.mark.anyio
@pytest.mark.parametrize("collect", [0, 1, 5, 6, 100])
@pytest.mark.parametrize("length", [6, None], ids=["with length", "chunked"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_body_arrives_whole(adapt: Adapt, collect: int, length: int | None, stream: bool) -> None:
    """However the body comes, and however much of it is collected, the app reads all of it and then the end."""
    seen: list[Any] = []
    pieces = [b"ab", b"", b"cd", b"ef"] if length else [b"ab", b"", b"cd", b"ef", b""]
    await serve(adapt(reader(seen), collect=collect, stream_chunked=stream), *post(*pieces, length=length))

    assert seen[0] == b"abcdef"
    assert seen[1]["wsgi.input_terminated"] is True


@pytest.mark.anyio
@pytest.mark.parametrize("collect", [1, 100], ids=["in a file", "in memory"])
async def test_a_chunked_body_gets_a_length(adapt: Adapt, collect: int) -> None:
    """CONTENT_LENGTH is there where the body was collected, and the transfer coding is no longer (RFC 9112 7.1.3)."""
    seen: list[Any] = []
    await serve(adapt(reader(seen), collect=collect), *post(b"abc", b"def", length=None))

    assert seen[1]["CONTENT_LENGTH"] == "6"
    assert "HTTP_TRANSFER_ENCODING" not in seen[1]


@pytest.mark.anyio
async def test_a_streamed_chunked_body_has_no_length(adapt: Adapt) -> None:
    """With `stream_chunked` the app is called before the body is whole, and reads to its end."""
    seen: list[Any] = []
    entered = Flag()
    read = reader(seen)

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        entered.set()
        return read(environ, start_response)

    adapter = adapt(app, collect=1, stream_chunked=True)
    async with opened(adapter, *post(b"abc", length=None, ends=False)) as request:
        await entered.waited()
        request.feed(piece_event(b"def", more=False))

    assert seen[0] == b"abcdef"
    assert "CONTENT_LENGTH" not in seen[1]


@pytest.mark.anyio
@pytest.mark.parametrize("collect", [0, 3, 100], ids=["streamed", "partly collected", "collected"])
@pytest.mark.parametrize("pieces", [[b""], [b"abc", b"def"]], ids=["empty", "six bytes"])
async def test_over_http_2_a_response_waits_for_the_end_of_its_request(
    adapt: Adapt, collect: int, pieces: list[bytes]
) -> None:
    """RFC 9113 8.1: all bytes are there, but not the frame that ends them, which the response must not overtake."""
    seen: list[Any] = []
    adapter = adapt(reader(seen), collect=collect)
    async with opened(adapter, *post(*pieces, ends=False, http_version="2")) as request:
        await request.asked()
        assert [] == request.sent
        request.feed(piece_event(b"", more=False))
        await request.ended()

    assert seen[0] == b"".join(pieces)
    assert request.complete


@pytest.mark.anyio
async def test_no_thread_is_taken_while_a_body_is_collected(adapt: Adapt) -> None:
    """Uploads that trickle in hold no threads: with one thread other requests are served meanwhile."""
    seen: list[Any] = []
    adapter = adapt(reader(seen), threads=1)
    async with opened(adapter, *post(b"a", length=3, ends=False)) as upload:
        await upload.asked()
        async with opened(adapter, *post(b"a", length=None, ends=False)) as chunked:
            await chunked.asked()
            assert (await serve(adapter, *get())).body == b"served"
            await eventually(lambda: adapter.stats().busy == 0)
            for request in (upload, chunked):
                request.feed(piece_event(b"b", more=True), piece_event(b"c", more=False))

    assert [body for body in seen if body].count(b"abc") == 2


@pytest.mark.anyio
async def test_what_django_reads_of_a_chunked_body(adapt: Adapt) -> None:
    """Django reads CONTENT_LENGTH bytes, line by line where the view does, and nothing without one."""
    from django.core.handlers.wsgi import LimitedStream

    lines: list[bytes] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        stream = LimitedStream(environ["wsgi.input"], int(environ.get("CONTENT_LENGTH") or 0))
        lines.extend(stream)
        return reply(start_response)

    await serve(adapt(app, collect=8), *post(b'{"a": 1}\n{"b"', b": 2}\n", b"rest", length=None))

    assert lines == [b'{"a": 1}\n', b'{"b": 2}\n', b"rest"]


@pytest.mark.anyio
async def test_the_app_can_answer_before_it_has_read(adapt: Adapt) -> None:
    """An app that does not care for the body is not held up by a client that still sends it."""
    adapter = adapt(hello, collect=1)
    async with opened(adapter, *post(b"half", length=8, ends=False)) as request:
        await request.ended()

    assert (request.body, request.complete) == (b"served", True)


@pytest.mark.anyio
async def test_reading_and_writing_take_turns(adapt: Adapt) -> None:
    """Each piece of the body can be answered before the next one is sent."""

    def chunks(body: Any) -> Iterator[bytes]:
        while piece := body.readline():
            yield piece.upper()

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks(environ["wsgi.input"])

    adapter = adapt(app, collect=0)
    async with opened(adapter, *post(b"one\n", length=14, ends=False)) as request:
        await request.until(lambda _: request.body == b"ONE\n")
        request.feed(piece_event(b"two\n", more=True))
        await request.until(lambda _: request.body == b"ONE\nTWO\n")
        request.feed(piece_event(b"three\n", more=False))

    assert (request.body, request.complete) == (b"ONE\nTWO\nTHREE\n", True)


@pytest.mark.anyio
async def test_never_more_than_content_length_is_handed_on(adapt: Adapt) -> None:
    """What a server gives beyond Content-Length is not part of the body."""
    for collect in (0, 100):
        seen: list[Any] = []
        await serve(adapt(reader(seen), collect=collect), *post(b"ab", b"cdef", length=4))
        assert seen[0] == b"abcd"


@pytest.mark.anyio
async def test_what_is_received_ahead_of_the_app_is_bounded(adapt: Adapt) -> None:
    """The server is asked for no more than a bounded number of bytes that the app has not read."""
    piece, pieces = 16 * KIB, 256
    seen: list[Any] = []
    entered, go = Flag(), Flag()
    read = reader(seen, step=piece)

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        entered.set()
        go.wait()
        return read(environ, start_response)

    scope, events = post(*[bytes([at % 256]) * piece for at in range(pieces)])
    async with opened(adapt(app, collect=4 * piece), scope, events) as request:
        await entered.waited()
        with anyio.move_on_after(HOLD):
            await request.until(lambda _: request.received > 12)
        received = request.received
        go.set()

    assert 4 < received <= 4 + BOUND // piece + 2
    assert seen[0] == b"".join(event["body"] for event in events)


CALLS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.none() | st.integers(-2, 40)),
        st.tuples(st.sampled_from(["next", "read", "readline", "readlines", "list"]), st.just(())),
        st.tuples(st.just("readinto"), st.integers(0, 40)),
    ),
    max_size=12,
)
BODIES = st.lists(
    st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"x" * 17, b"\0\xff"])).map(b"".join), max_size=8
)


def outcome_of(stream: Any, name: str, argument: Any) -> Any:
    if name == "next":
        return next(stream, None)
    if name == "list":
        return list(stream)
    if name == "readinto":
        buffer = bytearray(argument)
        return stream.readinto(buffer), bytes(buffer)
    return getattr(stream, name)(*(() if argument == () else (argument,)))


@pytest.mark.parametrize("kind", ["collected", "streamed", "spooled", "partly spooled"])
def test_the_input_is_as_good_as_bytesio(kind: str) -> None:
    """Whatever calls the app makes, it gets what `io.BytesIO` over the same bytes would give."""
    calls: list[tuple[str, Any]] = []
    outcomes: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        outcomes[:] = [outcome_of(environ["wsgi.input"], *call) for call in calls]
        return reply(start_response)

    options: dict[str, Any] = {"collected": {}, "streamed": {"collect": 0}}.get(kind, {"collect": 5})
    with WsgiToAsgi(app, **options) as adapter, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        @settings(max_examples=60, deadline=None)
        @given(st.lists(BODIES, min_size=1).map(lambda bodies: bodies[0]), CALLS)
        def check(pieces: list[bytes], drawn: list[tuple[str, Any]]) -> None:
            calls[:] = drawn
            body = b"".join(pieces)
            reference = io.BytesIO(body)
            pieces = [*pieces, b""] if kind == "partly spooled" else [*pieces, b"", b"z" * 6, b"y"]
            body = b"".join(pieces)
            reference = io.BytesIO(body)
            scope, events = post(*pieces, length=len(body) if kind in ("collected", "streamed") else None)
            seen = runner.run(call_asgi(adapter, scope, events))

            assert seen.failure() is None
            assert outcomes == [outcome_of(reference, *call) for call in calls]

        check()


# --- bodies in temporary files ----------------------------------------------------------------------------------------


class Files:
    """The temporary files that were made, and a place to hold those who make them."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.made: list[Any] = []
        self.makers: list[str] = []
        self.writing = Flag()
        self.go = Flag()
        self.go.set()

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.makers.append(threading.current_thread().name)
        self.writing.set()
        self.go.wait()
        self.made.append(self.make(*args, **options))
        return self.made[-1]

    @property
    def closed(self) -> list[bool]:
        return [file.closed for file in self.made]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Files:
    """Watch the temporary files of the adapter."""
    files = Files(tempfile.TemporaryFile)
    monkeypatch.setattr(tempfile, "TemporaryFile", files)
    return files


@pytest.mark.anyio
async def test_a_large_chunked_body_goes_to_a_file(adapt: Adapt, files: Files) -> None:
    """Above `collect` bytes it is written in worker threads, off the loop, and the file is gone after the request."""
    seen: list[Any] = []
    pieces = [bytes([at]) * 100 * KIB for at in range(10)]
    await serve(adapt(reader(seen), collect=200 * KIB), *post(*pieces, length=None))

    assert seen[0] == b"".join(pieces)
    assert seen[1]["CONTENT_LENGTH"] == str(1000 * KIB)
    assert [name[:7] for name in files.makers] == ["bridge-"]
    assert files.closed == [True]


@pytest.mark.anyio
async def test_a_small_chunked_body_needs_no_file(adapt: Adapt, files: Files) -> None:
    """Up to `collect` bytes it stays in memory."""
    await serve(adapt(hello, collect=6), *post(b"abc", b"def", length=None))

    assert files.made == []


@pytest.mark.anyio
async def test_the_file_of_a_client_that_leaves(adapt: Adapt, files: Files) -> None:
    """It is gone soon after the client, though no thread had a part in the request."""
    app = Gate()
    async with opened(adapt(app, collect=2), *post(b"abc", b"def", length=None, ends=False)) as request:
        await request.asked()
        request.leave()
        await request.ended()
        await eventually(lambda: files.closed == [True])

    assert app.paths == []


@pytest.mark.anyio
@pytest.mark.parametrize("threads", [1, 2])
async def test_the_file_of_a_request_that_is_cancelled_while_it_is_written(
    adapt: Adapt, files: Files, threads: int
) -> None:
    """The writer finishes, and then the file is removed."""
    files.go = Flag()
    adapter = adapt(hello, collect=2, threads=threads)
    async with opened(adapter, *post(b"abc", b"def", length=None, ends=False)) as request:
        await files.writing.waited()
        request.cancel()
        await request.ended()
        assert request.cancelled
        files.go.set()
        await eventually(lambda: files.closed == [True])
        assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
async def test_the_file_of_a_request_that_is_cancelled_while_it_is_collected(adapt: Adapt, files: Files) -> None:
    """It is removed."""
    async with opened(adapt(hello, collect=2), *post(b"abc", b"def", length=None, ends=False)) as request:
        await request.asked()
        request.cancel()
        await request.ended()
        await eventually(lambda: files.closed == [True])


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_the_file_of_a_request_that_ends_while_the_app_runs(adapt: Adapt, files: Files, ends: str) -> None:
    """The app can still read it; it is removed when the app is done."""
    app = Gate()
    adapter = adapt(app, collect=2)
    async with opened(adapter, *post(b"abc", b"def", length=None, path="/held")) as request:
        await app.entered.waited()
        getattr(request, ends)()
        await request.ended()
        assert files.closed == [False]
        app.go.set()
        await eventually(lambda: files.closed == [True])


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_the_file_of_a_request_that_ends_before_the_app_is_iterated(
    adapt: Adapt, files: Files, ends: str
) -> None:
    """The same where the app has yet to be asked for its first chunk."""
    stage = Calling()
    adapter = adapt(stage, collect=2)
    async with opened(adapter, *post(b"abc", b"def", length=None, path="/held")) as request:
        await stage.entered.waited()
        getattr(request, ends)()
        await request.ended()
        stage.go.set()
        await eventually(lambda: files.closed == [True])
        await stage.chunks.closed.waited()


@pytest.mark.anyio
async def test_the_file_of_a_request_that_is_queued_and_cancelled(adapt: Adapt, files: Files) -> None:
    """It is removed though the app is never run."""
    app = Gate()
    adapter = adapt(app, threads=1, collect=2)
    async with opened(adapter, *post(b"abc", b"def", length=None, path="/queued", ends=False)) as upload:
        await upload.asked()
        async with opened(adapter, *get("/held")) as first:
            await app.entered.waited()
            upload.feed(piece_event(b"", more=False))
            await eventually(lambda: adapter.stats().waiting == 1)
            upload.cancel()
            await upload.ended()
            app.go.set()
            await first.ended()
        await eventually(lambda: files.closed == [True])

    assert app.paths == ["/held"]


@pytest.mark.anyio
@pytest.mark.parametrize("size", [3, 100 * KIB])
async def test_a_disk_that_is_full(adapt: Adapt, files: Files, size: int) -> None:
    """The server gets the error, the app is not run, and nothing is left over."""
    files.make = lambda *_args, **options: open("/dev/full", "w+b", **options)  # noqa: SIM115
    app = Gate()
    adapter = adapt(app, collect=2)
    request = await serve(adapter, *post(b"x" * size, b"y" * size, length=None), fails=True)

    assert isinstance(request.error, OSError)
    assert request.error.errno == errno.ENOSPC
    assert request.sent == []
    assert app.paths == []
    await eventually(lambda: files.closed == [True])
    assert (await serve(adapter, *get())).body == b"served"
    assert (adapter.stats().aborted, adapter.stats().client_disconnects) == (1, 0)


@pytest.mark.anyio
async def test_a_disk_without_room_for_a_file(adapt: Adapt, files: Files) -> None:
    """The same where not even the file can be made."""

    def refuse(*_args: Any, **_options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.make = refuse
    app = Gate()
    adapter = adapt(app, collect=2)
    request = await serve(adapter, *post(b"abc", b"def", length=None), fails=True)

    assert isinstance(request.error, OSError)
    assert app.paths == []
    assert (await serve(adapter, *get())).body == b"served"


@pytest.mark.anyio
async def test_the_file_is_open_while_the_response_is_streamed(adapt: Adapt, files: Files) -> None:
    """An app may read the body in the generator that it returns, and in `close()`."""
    read: list[bytes] = []

    class Reading:
        def __init__(self, body: Any) -> None:
            self.body = body

        def __iter__(self) -> Iterator[bytes]:
            yield self.body.read(2)
            yield self.body.read(2)

        def close(self) -> None:
            read.append(self.body.read())

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Reading(environ["wsgi.input"])

    request = await serve(adapt(app, collect=2), *post(b"abc", b"def", length=None))

    assert (request.body, read) == (b"abcd", [b"ef"])
    assert files.closed == [True]


# --- what is refused --------------------------------------------------------------------------------------------------


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
@pytest.mark.parametrize("collect", [4, 100], ids=["in a file", "in memory"])
async def test_a_chunked_body_that_turns_out_too_large(adapt: Adapt, files: Files, collect: int) -> None:
    """413 as soon as it is known; the app is not run, what was received is gone."""
    app = Gate()
    adapter = adapt(app, max_body=10, collect=collect)
    request = await serve(adapter, *post(b"1234567", b"8901", length=None, ends=False))

    assert (request.status, request.complete) == (413, True)
    assert app.paths == []
    await eventually(lambda: all(files.closed))


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
        await request.until(lambda _: request.body)
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
        await request.until(lambda _: request.body)
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


# --- overload ---------------------------------------------------------------------------------------------------------


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


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_slow_requests_do_not_hold_up_the_others(adapt: Adapt) -> None:
    """Of 200 requests at once, 180 are served while 20 block, and then those are."""
    app = Gate("/slow")

    def site(environ: Environ, start_response: Any) -> list[bytes]:
        app(environ, start_response)
        return [environ["PATH_INFO"].encode()]

    adapter = adapt(site, threads=40)
    served: list[str] = []

    async def ask(path: str) -> None:
        request = await serve(adapter, *get(path))
        assert request.body == path.encode()
        served.append(path)
        if len(served) == 180:
            assert not any(path.startswith("/slow") for path in served)
            app.go.set()

    async with anyio.create_task_group() as group:
        for at in range(200):
            group.start_soon(ask, f"/slow/{at}" if at % 10 == 0 else f"/{at}")

    assert len(served) == 200
    assert adapter.stats().served == 200
    assert adapter.stats().alive <= 40


@pytest.mark.anyio
async def test_requests_that_all_block_run_at_once(adapt: Adapt) -> None:
    """As many requests as there are threads run at the same time: none would pass the barrier else."""
    barrier = threading.Barrier(12)

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        barrier.wait(5)
        return reply(start_response)

    adapter = adapt(app, threads=12)
    async with anyio.create_task_group() as group:
        for _ in range(36):
            group.start_soon(serve, adapter, *get())

    assert adapter.stats().served == 36


@pytest.mark.anyio
async def test_uploads_and_streams_at_once(adapt: Adapt) -> None:
    """Forty bodies that are echoed at the same time do not get mixed up."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return iter(lambda: environ["wsgi.input"].read(100), b"")

    adapter = adapt(app, threads=5, collect=500)

    async def ask(at: int) -> None:
        pieces = [bytes([at]) * 200 for _ in range(10)]
        request = await serve(adapter, *post(*pieces, length=2000 if at % 2 else None))
        assert request.body == b"".join(pieces)

    async with anyio.create_task_group() as group:
        for at in range(40):
            group.start_soon(ask, at)


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["cancel", "leave"])
async def test_clients_that_leave_endless_responses(adapt: Adapt, ends: str) -> None:
    """Twelve clients that leave, with four threads, leave the server as it was."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Chunks(endless())

    adapter = adapt(app, threads=4)
    for _ in range(3):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                async with opened(adapter, *get()) as request:
                    await request.until(lambda _: len(request.body) > BOUND)
                    getattr(request, ends)()

            for _ in range(4):
                group.start_soon(ask)
    await eventually(lambda: not adapter.stats().busy)

    assert adapter.stats().alive <= 4


# --- context ----------------------------------------------------------------------------------------------------------

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


@pytest.mark.anyio
async def test_context_variables_of_middleware_are_seen(adapt: Adapt) -> None:
    """What ASGI middleware sets is there in the app, in each step of its iterable, and in `close()`."""
    seen: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            seen.append(user.get())
            yield b"1"
            seen.append(user.get())
            yield b"2"

        def close(self) -> None:
            seen.append(user.get())

    def app(environ: Environ, start_response: Any) -> Any:
        seen.append(user.get())
        start_response("200 OK", [])
        return Body()

    adapter = adapt(app)

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        user.set("alice")
        await adapter(scope, receive, send)

    await serve(middleware, *get())

    assert seen == ["alice"] * 4


@pytest.mark.anyio
async def test_context_variables_of_the_app_stay_in_its_request(adapt: Adapt) -> None:
    """What the app sets is kept from step to step, and seen neither by the server nor by the next request."""
    seen: list[str] = []

    def chunks() -> Iterator[bytes]:
        seen.append(user.get())
        yield b"1"

    def app(environ: Environ, start_response: Any) -> Any:
        seen.append(user.get())
        user.set("bob")
        start_response("200 OK", [])
        return chunks()

    adapter = adapt(app, threads=1)
    after: list[str] = []

    async def middleware(scope: Scope, receive: Any, send: Any) -> None:
        await adapter(scope, receive, send)
        after.append(user.get())

    await serve(middleware, *get())
    await serve(middleware, *get())

    assert seen == ["nobody", "bob"] * 2
    assert after == ["nobody"] * 2


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_pipelined_requests_do_not_share_their_context(adapt: Adapt, streams: bool) -> None:
    """A server that begins the next request within `send` of the one before begins it in that one's context."""
    seen: dict[str, str] = {}

    def app(environ: Environ, start_response: Any) -> Any:
        seen[environ["PATH_INFO"]] = user.get()
        user.set(environ["PATH_INFO"])
        body = reply(start_response)
        return iter(body) if streams else body

    adapter = adapt(app)
    async with anyio.create_task_group() as group:

        async def next_request(event: Event) -> None:
            if event["type"] == "http.response.body" and len(seen) == 1:
                group.start_soon(serve, adapter, *get("/second"))

        async with opened(adapter, *get("/first"), next_request):
            pass

    assert seen == {"/first": "nobody", "/second": "nobody"}


@pytest.mark.anyio
async def test_requests_at_once_do_not_share_their_context(adapt: Adapt) -> None:
    """Two requests whose tasks were made in the same context each have a copy of it."""
    both = threading.Barrier(2)
    seen: list[tuple[str, str]] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        user.set(environ["PATH_INFO"])
        both.wait(5)
        seen.append((environ["PATH_INFO"], user.get()))
        both.wait(5)
        return reply(start_response)

    adapter = adapt(app)
    async with anyio.create_task_group() as group:
        for path in ("/1", "/2"):
            group.start_soon(serve, adapter, *get(path))

    assert sorted(seen) == [("/1", "/1"), ("/2", "/2")]


# --- loops and processes ----------------------------------------------------------------------------------------------


def ask(adapter: Any, new_loop: Callable[[], asyncio.AbstractEventLoop], path: str = "/") -> bytes:
    """One request on an event loop of its own."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        seen = runner.run(call_asgi(adapter, *get(path)))
    assert seen.failure() is None
    return seen.body


@loop_factories
def test_loops_one_after_the_other(adapt: Adapt, new_loop: Any) -> None:
    """An adapter serves any number of loops, as test clients make them, with the same threads."""
    adapter = adapt(hello)
    bodies = [ask(adapter, new_loop) for _ in range(5)]

    assert bodies == [b"served"] * 5
    assert (adapter.stats().served, adapter.stats().alive) == (5, 1)


@loop_factories
def test_loops_at_once(adapt: Adapt, new_loop: Any) -> None:
    """Requests of two loops run at the same time, each with the loop that it came from."""
    from asgiref.sync import async_to_sync

    both = threading.Barrier(2)
    pairs: dict[str, tuple[Any, Any]] = {}

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        async def here() -> Any:
            return asyncio.get_running_loop()

        both.wait(5)
        pairs[environ["PATH_INFO"]] = (environ["asgi.scope"]["loop"], async_to_sync(here)())
        return reply(start_response)

    adapter = adapt(app)

    def run(path: str) -> None:
        async def main() -> None:
            scope, events = get(path, loop=asyncio.get_running_loop())
            assert (await call_asgi(adapter, scope, events)).failure() is None

        with asyncio.Runner(loop_factory=new_loop) as runner:
            for _ in range(20):
                runner.run(main())

    runs = [threading.Thread(target=run, args=(path,)) for path in ("/1", "/2")]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()

    assert all(first is second for first, second in pairs.values())
    assert pairs["/1"] != pairs["/2"]
    assert adapter.stats().served == 40


@loop_factories
@pytest.mark.parametrize("streams", [True, False])
def test_a_loop_that_is_closed_under_a_request(
    adapt: Adapt, new_loop: Any, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    """The thread of a request whose loop is gone ends, and the adapter goes on with other loops."""
    monkeypatch.setattr("bridge._concurrency.call_thread._LOOP_CHECK", 0.01)
    stage = Blocked() if streams else ReadingFirst()
    adapter = adapt(stage, threads=1, collect=0)
    loop = new_loop()
    request: list[Request] = []

    async def begin() -> asyncio.Task[None]:
        scope, events = stage.request()
        request.append(Request(adapter, scope, events, lambda event: stage.slow(request[0], event)))
        task = asyncio.get_running_loop().create_task(request[0].run())
        await request[0].until(lambda _: request[0].sending or stage.entered.is_set())
        if streams:
            await stage.reached(request[0])
        else:
            await request[0].asked()
        return task

    task = loop.run_until_complete(begin())
    tasks = asyncio.all_tasks(loop)
    for left in tasks:
        left._log_destroy_pending = False  # type: ignore[attr-defined]  # as intended here
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    until(lambda: adapter.stats().busy == 0)

    assert stage.chunks.closings == (stage.ran if streams else [])
    assert ask(adapter, new_loop, "/next") == b"served"
    for left in tasks:
        left.get_coro().close()
    del task, tasks, left


def run_script(script: str, timeout: float = 15) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"},
        check=False,
    )


PRELUDE = """
import asyncio, logging, os, sys, threading
from bridge import WsgiToAsgi
from support.plain_servers import call_asgi, scope_for

logging.basicConfig()
go = threading.Event()
entered = threading.Event()

def app(environ, start_response):
    if environ["PATH_INFO"] == "/held":
        entered.set()
        stuck_here()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]

def stuck_here():
    go.wait(30)

def ask(path="/"):
    seen = asyncio.run(call_asgi(adapter, scope_for("GET", path), []))
    assert seen.failure() is None, seen
    return int(seen.body)
"""


@pytest.mark.parametrize("used", [False, True], ids=["before the first request", "after requests"])
def test_a_fork(used: bool) -> None:
    """A child has threads of its own, made by its first request; parent and child both serve."""
    script = f"""
    adapter = WsgiToAsgi(app)
    if {used}:
        ask(), ask()
    child = os.fork()
    if not child:
        assert adapter.stats().alive == adapter.stats().served == 0, adapter.stats()
        assert ask() == ask() == os.getpid()
        assert adapter.stats().alive == 1 and adapter.stats().served == 2, adapter.stats()
        adapter.close()
        os._exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert ask() == os.getpid()
    print("served", adapter.stats().served)
    """
    done = run_script(script)

    assert (done.stdout, done.returncode, done.stderr) == (f"served {3 if used else 1}\n", 0, "")


def test_a_fork_while_a_request_runs() -> None:
    """A child knows nothing of the requests of its parent, and ends without waiting for them."""
    script = """
    adapter = WsgiToAsgi(app, threads=1)
    held = threading.Thread(target=ask, args=("/held",))
    held.start()
    entered.wait()
    child = os.fork()
    if not child:
        assert ask() == os.getpid()
        sys.exit(42)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    go.set()
    held.join()
    assert ask() == os.getpid()
    print("served", adapter.stats().served)
    """
    done = run_script(script)

    assert (done.stdout, done.returncode, done.stderr) == ("served 2\n", 0, "")


def test_the_exit_with_a_thread_that_is_stuck() -> None:
    """The interpreter ends after `shutdown_timeout`, with a line that says which thread was where."""
    script = """
    adapter = WsgiToAsgi(app, shutdown_timeout=0.1)

    async def main():
        task = asyncio.create_task(call_asgi(adapter, scope_for("GET", "/held"), []))
        await asyncio.to_thread(entered.wait)
        task.cancel()

    asyncio.run(main())
    print("the end")
    """
    done = run_script(script)

    assert (done.stdout, done.returncode) == ("the end\n", 0)
    assert "bridge-wsgi-1" in done.stderr
    assert "in stuck_here" in done.stderr


def test_the_exit_with_idle_threads() -> None:
    """Nothing is said, and nobody waits."""
    done = run_script("adapter = WsgiToAsgi(app)\nask()\nprint('the end')")

    assert (done.stdout, done.returncode, done.stderr) == ("the end\n", 0, "")


# --- the end of the adapter -------------------------------------------------------------------------------------------


async def no_thread_is_left(before: list[threading.Thread]) -> None:
    """All threads of the adapter have ended, without its `close()`."""
    await eventually(
        lambda: (
            not [thread for thread in threading.enumerate() if thread.name[:7] == "bridge-" and thread not in before]
        )
    )


@loop_factories
def test_close(new_loop: Any) -> None:
    """It ends the threads; a later request makes new ones, and the counts go on."""
    adapter = WsgiToAsgi(hello)
    ask(adapter, new_loop)
    adapter.close()
    closed = (adapter.stats().alive, adapter.stats().served)
    ask(adapter, new_loop)
    again = (adapter.stats().alive, adapter.stats().served)
    adapter.close()
    adapter.close()

    assert (closed, again) == ((0, 1), (1, 2))


def test_close_of_an_adapter_that_was_never_used() -> None:
    """There is nothing to close."""
    adapter = WsgiToAsgi(hello)
    adapter.close()

    assert adapter.stats().alive == 0


@loop_factories
def test_the_context_manager_closes(new_loop: Any) -> None:
    """`with WsgiToAsgi(app) as adapter` is `close()` at the end, also where the block raises."""
    adapter = WsgiToAsgi(hello)

    def use() -> None:
        with adapter as entered:
            ask(entered, new_loop)
            raise AppError

    with pytest.raises(AppError):
        use()
    assert (adapter.stats().alive, adapter.stats().served) == (0, 1)


@pytest.mark.anyio
async def test_close_waits_for_running_requests(adapt: Adapt, log: LogWatch) -> None:
    """Requests that run, or wait for a thread, are served to their end."""
    app = Gate()
    adapter = adapt(app, threads=1)
    async with opened(adapter, *get("/held")) as first:
        await app.entered.waited()
        async with opened(adapter, *get("/queued")) as second:
            await eventually(lambda: adapter.stats().waiting == 1)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, adapter.close)
                await eventually(lambda: adapter.stats().alive == 0)  # it has begun: those threads are no longer ours
                app.go.set()

    assert (first.status, second.status) == (200, 200)
    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_close_names_the_threads_that_did_not_stop(adapt: Adapt, log: LogWatch) -> None:
    """After `shutdown_timeout` seconds a line says which thread is where."""
    app = Gate()
    adapter = adapt(app, shutdown_timeout=0.05)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        await anyio.to_thread.run_sync(adapter.close)
        line = log.wait_for("not stopped", level=30)
        app.go.set()

    assert "bridge-wsgi-1" in line
    assert "scripted_asgi_server.py" in line


@pytest.mark.anyio
async def test_a_request_that_close_has_dropped(adapt: Adapt) -> None:
    """A request that still waits when the time is up is answered with 503 or an error, and never run."""
    app = Gate()
    adapter = adapt(app, threads=1, shutdown_timeout=0.05)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        async with opened(adapter, *get("/queued")) as queued:
            await eventually(lambda: adapter.stats().waiting == 1)
            await anyio.to_thread.run_sync(adapter.close)
            await queued.ended()
        app.go.set()

    assert queued.status == 503 or queued.error is not None
    assert adapter.stats().client_disconnects == 0
    assert app.paths == ["/held"]


# --- lifespan ---------------------------------------------------------------------------------------------------------


def types_of(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


@pytest.mark.anyio
async def test_the_lifespan_without_hooks(adapt: Adapt) -> None:
    """It is answered, and its end leaves no thread."""
    adapter = adapt(hello)
    before = threading.enumerate()
    async with lifespan(adapter) as server:
        await serve(adapter, *get())

    assert types_of(server.sent) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    await no_thread_is_left(before)


def test_nothing_is_left_to_wait_for_behind_the_shutdown() -> None:
    """Hypercorn cancels the lifespan once it is complete, and takes a worker that is not through with it for failed."""
    calls: list[str] = []
    adapter = WsgiToAsgi(hello, shutdown=lambda: calls.append("shutdown"))
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Event:
        return events.pop(0)

    async def server() -> None:
        async def send(event: Event) -> None:
            if event["type"] == "lifespan.shutdown.complete":
                calls.append("complete")
                asyncio.get_running_loop().call_soon(task.cancel)

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        task = asyncio.ensure_future(adapter(scope, receive, send))
        await asyncio.wait([task])
        assert not task.cancelled()

    asyncio.run(server())
    assert ["shutdown", "complete"] == calls


def hooks(kind: str, calls: list[Any]) -> dict[str, Any]:
    """A pair of hooks of some kind; each notes what it is called with."""

    class Callable0:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __call__(self) -> None:
            calls.append((self.name, None))

    def make(name: str) -> Any:
        def plain() -> None:
            calls.append((name, None))

        def with_state(state: Any) -> None:
            calls.append((name, state))

        async def coroutine() -> None:
            await anyio.sleep(0)
            calls.append((name, None))

        async def coroutine_with_state(state: Any) -> None:
            await anyio.sleep(0)
            calls.append((name, state))

        kinds = {
            "plain": plain,
            "plain with state": with_state,
            "async": coroutine,
            "async with state": coroutine_with_state,
            "async object": Callable0(name),
            "lambda": lambda state: coroutine_with_state(state),
        }
        return kinds[kind]

    return {"startup": make("startup"), "shutdown": make("shutdown")}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["plain", "plain with state", "async", "async with state", "async object", "lambda"])
async def test_lifespan_hooks(adapt: Adapt, kind: str) -> None:
    """Each is called once, in its phase, with the state where it takes one."""
    calls: list[Any] = []
    state = {"pool": 1}
    adapter = adapt(hello, **hooks(kind, calls))
    before = threading.enumerate()
    async with lifespan(adapter, state) as server:
        assert [name for name, _ in calls] == ["startup"]
        await serve(adapter, *get())

    assert types_of(server.sent) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [name for name, _ in calls] == ["startup", "shutdown"]
    if "state" in kind or kind == "lambda":
        assert all(given is state for _, given in calls)
    await no_thread_is_left(before)


@pytest.mark.anyio
async def test_the_state_reaches_the_requests(adapt: Adapt) -> None:
    """What `startup` puts into the state is in `environ["bridge.state"]`, in the copy that the server makes."""
    seen: list[Any] = []

    def startup(state: dict[str, Any]) -> None:
        state["pool"] = "a pool"

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        seen.append(environ["bridge.state"])
        return reply(start_response)

    adapter = adapt(app, startup=startup)
    state: dict[str, Any] = {}
    async with lifespan(adapter, state):
        copied = state.copy()
        await serve(adapter, *get(state=copied))

    assert seen == [{"pool": "a pool"}]
    assert seen[0] is copied


@pytest.mark.anyio
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("phase", ["startup", "shutdown"])
async def test_a_hook_that_fails(adapt: Adapt, log: LogWatch, phase: str, is_async: bool) -> None:
    """The server is told that the phase failed and why, the log has the traceback, no thread is left."""

    def fail() -> None:
        raise AppError("no database")

    async def fail_async() -> None:
        raise AppError("no database")

    adapter = adapt(hello, **{phase: fail_async if is_async else fail})
    before = threading.enumerate()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    server = await serve(adapter, scope, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    assert server.sent[-1] == {"type": f"lifespan.{phase}.failed", "message": "AppError: no database"}
    assert "in fail" in log.wait_for(f"the {phase} hook", level=logging.ERROR)
    await no_thread_is_left(before)


@pytest.mark.anyio
async def test_a_shutdown_waits_for_running_requests(adapt: Adapt, log: LogWatch) -> None:
    """Running requests end before the hook is called, for they may need what it takes away."""
    app = Gate()
    order: list[str] = []

    def site(environ: Environ, start_response: Any) -> list[bytes]:
        body = app(environ, start_response)
        order.append("request")
        return body

    adapter = adapt(site, shutdown=lambda: order.append("hook"))
    async with opened(adapter, *get("/held")) as request:
        await app.entered.waited()
        async with lifespan(adapter) as server:
            server.feed({"type": "lifespan.shutdown"})
            await eventually(lambda: adapter.stats().alive == 0)  # it has begun: those threads are no longer ours
            app.go.set()

    assert request.status == 200
    assert order == ["request", "hook"]
    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_a_shutdown_names_the_threads_that_did_not_stop(adapt: Adapt, log: LogWatch) -> None:
    """After `shutdown_timeout` seconds the server is answered all the same, and the log says what held it up."""
    app = Gate()
    adapter = adapt(app, shutdown_timeout=0.05)
    async with opened(adapter, *get("/held")):
        await app.entered.waited()
        async with lifespan(adapter) as server:
            pass
        line = log.wait_for("not stopped", level=30)
        app.go.set()

    assert types_of(server.sent)[-1] == "lifespan.shutdown.complete"
    assert "bridge-wsgi-1" in line
    assert "scripted_asgi_server.py" in line


@pytest.mark.anyio
async def test_requests_after_a_shutdown(adapt: Adapt) -> None:
    """They are served, by new threads; a server may be restarted in the same process."""
    adapter = adapt(hello)
    for _ in range(2):
        async with lifespan(adapter):
            assert (await serve(adapter, *get())).body == b"served"
    assert (await serve(adapter, *get())).body == b"served"
    assert adapter.stats().served == 3


@pytest.mark.anyio
async def test_a_lifespan_that_the_server_cancels(adapt: Adapt) -> None:
    """The cancellation is handed on, and requests are served as before."""
    adapter = adapt(hello)
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    async with opened(adapter, scope, [{"type": "lifespan.startup"}]) as server:
        await server.until(lambda _: server.sent)
        server.cancel()
        await server.ended()

    assert server.cancelled
    assert (await serve(adapter, *get())).body == b"served"


# --- other connections ------------------------------------------------------------------------------------------------


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


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_slow_request_is_logged_once_with_its_stack(adapt: Adapt, log: LogWatch) -> None:
    """Above `slow_warning` seconds one line says where its thread is."""
    app = Gate()
    adapter = adapt(app, slow_warning=0.001)
    async with opened(adapter, *get("/held/1")):
        await app.entered.waited()
        await eventually(lambda: len(log.at(logging.WARNING)) == 1)
        # The second one is seen later than the first, which by then would have been logged again.
        async with opened(adapter, *get("/held/2")):
            await eventually(lambda: len(log.at(logging.WARNING)) >= 2)
            app.go.set()
    lines = log.at(logging.WARNING)

    assert len(lines) == 2
    assert "bridge-wsgi-1" in lines[0]
    assert "scripted_asgi_server.py" in lines[0]
    assert "bridge-wsgi-2" in lines[1]


@pytest.mark.anyio
async def test_slow_requests_need_not_be_logged(adapt: Adapt, log: LogWatch) -> None:
    """With `slow_warning=None` nothing is said."""
    app = Gate()
    loud, quiet = adapt(Gate(), slow_warning=0.001), adapt(app, slow_warning=None)
    async with opened(quiet, *get("/held")), opened(loud, *get("/held")):
        await app.entered.waited()
        await eventually(lambda: log.at(logging.WARNING))
        app.go.set()
        loud.app.go.set()  # type: ignore[attr-defined]

    assert len(log.at(logging.WARNING)) == 1


@pytest.mark.anyio
async def test_requests_that_are_well_are_not_logged(adapt: Adapt, log: LogWatch) -> None:
    """A warning means something."""
    adapter = adapt(hello)
    await serve(adapter, *get())
    await serve(adapter, *post(b"body"))

    assert log.at(logging.INFO) == []


def test_nothing_is_made_before_the_first_request() -> None:
    """An adapter is plain data until then: no thread, no lock that a fork could find held."""
    threads = threading.enumerate()
    adapter = WsgiToAsgi(hello, startup=lambda: None)

    assert threading.enumerate() == threads
    assert adapter.app is hello
    assert not any(isinstance(value, type(threading.Lock())) for value in vars(adapter).values())
