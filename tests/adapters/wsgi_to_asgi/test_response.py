"""The response of a WSGI app as an ASGI server sees it: chunk by chunk, bounded; and apps that fail."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from bridge import _log_once
from bridge.errors import ApplicationProtocolError
from support.event_loops import on_asyncio
from support.failures import AppError
from support.scripted_asgi_server import Adapt, Environ, Event, get, opened, serve
from support.sizes import BOUND, KIB, MIB
from support.waiting import HOLD, Flag, LogWatch, eventually
from support.wsgi_apps import Chunks, hello, reply

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


@pytest.mark.anyio
async def test_hop_by_hop_headers_are_dropped_with_one_warning(adapt: Adapt, log: LogWatch) -> None:
    """Views that hand on another server's headers give them, and Gunicorn drops them."""
    _log_once.forget()

    def proxy(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Keep-Alive", "timeout=5"), ("Transfer-Encoding", "chunked"), ("X-A", "b")])
        return [b"body"]

    adapter = adapt(proxy)
    for path in ("/first", "/second"):
        request = await serve(adapter, *get(path))
        assert request.body == b"body"
        assert request.sent[0]["headers"] == [(b"x-a", b"b"), (b"content-length", b"4")]

    assert len(log.having("WARNING", "/first", "Keep-Alive, Transfer-Encoding", "hop-by-hop")) == 1
    assert not log.having("WARNING", "/second")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ((("A", "b"), ("Content-Length", "4")), {}),
        ([["A", "b"], ["Content-Length", " 4 "]], {}),
        ([("A", "b "), ("Content-Length", "4")], {"exc_info": None}),
        ({"A": "b", "Content-Length": "4"}.items(), {}),
    ],
)
async def test_what_gunicorn_takes_is_taken(adapt: Adapt, headers: Any, named: dict[str, Any]) -> None:
    """Apps are written for their server; `bridge check` tells which clause they break."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", headers, **named)
        return [b"body"]

    request = await serve(adapt(app), *get())
    assert request.sent[0]["headers"] == [(b"a", b"b"), (b"content-length", b"4")]
    assert request.body == b"body"
