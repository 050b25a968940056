"""The WSGI side of one request: what the app is given, in which thread, and what is left of it afterwards."""

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from bridge.errors import ApplicationProtocolError, ClientDisconnected
from support.failures import AppError
from support.scripted_asgi_server import Adapt, Environ, get, opened, piece_event, post, serve
from support.waiting import Flag, LogWatch, bounded, eventually, until
from support.wsgi_apps import Chunks, reply


async def environ_of(adapt: Adapt, *request: Any, **options: Any) -> Environ:
    """The environ that the app is given."""
    environs: list[Environ] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        environs.append(environ.copy())
        return reply(start_response)

    await serve(adapt(app, **options), *request)
    return environs[0]


@pytest.mark.anyio
async def test_the_keys_of_the_adapter(adapt: Adapt) -> None:
    """Beside those that come from the scope."""
    scope, events = get(state={"pool": 1})
    environ = await environ_of(adapt, scope, events)

    assert environ["wsgi.errors"] is sys.stderr
    assert environ["asgi.scope"] == scope
    assert environ["bridge.state"] is scope["state"]
    assert environ["bridge.client_disconnected"]() is False
    assert (environ["wsgi.multithread"], environ["wsgi.input_terminated"]) == (True, True)


@pytest.mark.anyio
async def test_one_thread_is_no_multithreading(adapt: Adapt) -> None:
    """PEP 3333, "environ Variables": wsgi.multithread is whether the app may run in two threads at once."""
    assert (await environ_of(adapt, *get(), threads=1))["wsgi.multithread"] is False


@pytest.mark.anyio
async def test_there_may_be_no_state(adapt: Adapt) -> None:
    """Servers without lifespan state give none."""
    assert (await environ_of(adapt, *get()))["bridge.state"] is None


@pytest.mark.anyio
async def test_the_environ_is_the_apps_own(adapt: Adapt) -> None:
    """A builtin dict that it may change (PEP 3333, "Specification Details"), and no other request sees it."""
    kinds: list[type] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        kinds.append(type(environ))
        assert "mine" not in environ
        environ["mine"] = 1
        environ.pop("wsgi.input")
        environ.pop("REQUEST_METHOD")
        environ.pop("PATH_INFO")
        return reply(start_response)

    adapter = adapt(app)
    for _ in range(2):
        assert (await serve(adapter, *get())).complete

    assert kinds == [dict, dict]


@pytest.mark.anyio
@pytest.mark.parametrize("fails", [False, True])
async def test_an_app_that_empties_its_environ(adapt: Adapt, log: LogWatch, fails: bool) -> None:
    """The environ is the app's to change; what the adapter still needs of it is not lost with it."""

    def app(environ: Environ, start_response: Any) -> Any:
        environ.clear()
        if fails:
            raise AppError("with an empty environ")
        start_response("200 OK", [("Content-Length", "2")])
        return iter([b"12", b"surplus"])

    request = await serve(adapt(app), *get("/somewhere"), fails=fails)

    if fails:
        assert isinstance(request.error, AppError)
        assert "GET '/somewhere'" in log.wait_for("with an empty environ", level=logging.ERROR)
    else:
        assert (request.body, request.complete) == (b"12", True)


@pytest.mark.anyio
async def test_everything_happens_in_one_thread(adapt: Adapt) -> None:
    """The app, each step of its iterable, and `close()`: database connections belong to threads."""
    threads: list[int] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            for _ in range(50):
                threads.append(threading.get_ident())
                yield b"x" * 4096

        def close(self) -> None:
            threads.append(threading.get_ident())

    def app(environ: Environ, start_response: Any) -> Body:
        threads.append(threading.get_ident())
        start_response("200 OK", [])
        return Body()

    await serve(adapt(app), *get())

    assert len(threads) == 52
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_the_validator_of_the_standard_library(adapt: Adapt, streams: bool) -> None:
    """`wsgiref.validate` finds nothing wrong with the server's side of a request."""

    def app(environ: Environ, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(100)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return iter([body, b"", b"end"]) if streams else [body]

    adapter = adapt(validator(app), collect=2)
    for request in (get(), post(b"bo", b"dy"), post(b"bo", b"dy", length=None)):
        assert (await serve(adapter, *request)).complete


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [list, tuple])
async def test_a_whole_response_gets_a_length(adapt: Adapt, kind: Any) -> None:
    """PEP 3333, "Handling the Content-Length Header": the server may supply it where it knows the whole."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return kind([b"one", b"", b"two"])

    request = await serve(adapt(app), *get())

    assert request.header(b"content-length") == [b"6"]
    assert [event["type"] for event in request.sent] == ["http.response.start", "http.response.body"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [list, tuple, iter])
async def test_an_empty_response(adapt: Adapt, kind: Any) -> None:
    """The headers leave without a body."""

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("302 Found", [("Location", "/")])
        return kind([])

    request = await serve(adapt(app), *get())

    assert (request.status, request.body, request.complete) == (302, b"", True)


@pytest.mark.anyio
async def test_a_list_with_close(adapt: Adapt) -> None:
    """A subclass of `list` may have a `close()`, which is called."""
    closed = Flag()

    class Closing(list[bytes]):
        def close(self) -> None:
            closed.set()

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Closing([b"body"])

    request = await serve(adapt(app), *get())

    assert request.body == b"body"
    assert closed.is_set()


@pytest.mark.anyio
async def test_start_response_within_the_iterable(adapt: Adapt) -> None:
    """It may be called as late as for the first chunk (PEP 3333, "Specification Details")."""

    def app(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-Late", "1")])
        yield b"body"

    request = await serve(adapt(app), *get())

    assert (request.header(b"x-late"), request.body) == ([b"1"], b"body")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [list, iter])
async def test_an_app_that_never_calls_start_response(adapt: Adapt, log: LogWatch, kind: Any) -> None:
    """It is told so, and the server is."""
    request = await serve(adapt(lambda environ, start_response: kind([b"body"])), *get(), fails=True)

    assert isinstance(request.error, ApplicationProtocolError)
    assert request.sent == []
    log.wait_for("start_response", level=logging.ERROR)


@pytest.mark.anyio
async def test_an_iterable_is_closed_when_the_app_is_at_fault(adapt: Adapt) -> None:
    """Also one that yields what it must not."""
    chunks = Chunks(["text"])  # type: ignore[list-item]

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks

    await serve(adapt(app), *get(), fails=True)

    assert len(chunks.closings) == 1


@pytest.mark.anyio
async def test_an_iterable_whose_iter_fails_is_closed(adapt: Adapt) -> None:
    """PEP 3333: if it has a `close()`, that is called, whatever happened before."""

    class Failing(Chunks):
        def __iter__(self) -> Any:
            raise AppError

    chunks = Failing([])

    def app(environ: Environ, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks

    request = await serve(adapt(app), *get(), fails=True)

    assert isinstance(request.error, AppError)
    assert len(chunks.closings) == 1


@pytest.mark.anyio
async def test_a_generator_that_refuses_to_be_closed(adapt: Adapt) -> None:
    """A client that leaves such an app leaves a thread that is free."""

    def stubborn() -> Iterator[bytes]:
        while True:
            try:
                yield b"x" * 1024
            except GeneratorExit:
                yield b"no"

    def app(environ: Environ, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/next":
            return reply(start_response)
        start_response("200 OK", [])
        return stubborn()

    adapter = adapt(app, threads=1)
    async with opened(adapter, *get()) as request:
        await request.until(lambda: request.body)
        request.leave()

    assert (await serve(adapter, *get("/next"))).body == b"served"


@pytest.mark.anyio
async def test_write_after_the_client_has_left(adapt: Adapt) -> None:
    """It raises ClientDisconnected, an `OSError`, each time."""
    raised: list[BaseException] = []
    ended = Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"first")
        until(environ["bridge.client_disconnected"])
        for _ in range(2):
            try:
                write(b"more")
            except OSError as error:
                raised.append(error)
        ended.set()
        return []

    async with opened(adapt(app), *get()) as request:
        await request.until(lambda: request.body)
        request.leave()
        await ended.waited()

    assert [type(error) for error in raised] == [ClientDisconnected] * 2


@pytest.mark.anyio
async def test_reads_after_the_client_has_left(adapt: Adapt) -> None:
    """What had come can be read, and then it raises, each time."""
    read: list[Any] = []
    ended = Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"]
        read.append(body.read(2))
        until(environ["bridge.client_disconnected"])
        for _ in range(3):
            try:
                read.append(body.read(2))
            except OSError as error:
                read.append(type(error))
        ended.set()
        return reply(start_response)

    async with opened(adapt(app, collect=1), *post(b"1234", length=8, ends=False)) as request:
        await eventually(lambda: read)
        request.leave()
        await ended.waited()

    assert read == [b"12", b"34", ClientDisconnected, ClientDisconnected]


@pytest.mark.anyio
async def test_what_an_app_raises_because_its_client_left_is_no_fault(adapt: Adapt, log: LogWatch) -> None:
    """It is logged, but not as an error."""
    entered, stopped = Flag(), Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        entered.set()
        try:
            environ["wsgi.input"].read()
        finally:
            stopped.set()
        return reply(start_response)

    async with opened(adapt(app, collect=1), *post(b"1234", length=8, ends=False)) as request:
        await entered.waited()
        request.leave()
        await stopped.waited()
    log.wait_for("ClientDisconnected", level=logging.INFO)

    assert log.at(logging.WARNING) == []


@pytest.mark.anyio
async def test_a_log_line_says_which_request_it_was(adapt: Adapt, log: LogWatch) -> None:
    """The method and the path, in one line whatever the client has put there, and the app's traceback."""

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        raise AppError("no such thing")

    path = "/a\nERROR forged\r" + "x" * 1000
    await serve(adapt(app), *get(path), fails=True)
    [line] = log.at(logging.ERROR)
    first = line.splitlines()[0]

    assert "GET '/a\\nERROR forged\\r" in first
    assert len(first) < 400
    assert "in app" in line
    assert "AppError: no such thing" in line


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_of_a_request_is_kept(adapt: Adapt, streams: bool) -> None:
    """What the app was given and what it made is freed with the request, without the garbage collector."""
    references: list[weakref.ref[Any]] = []

    class Thing:
        pass

    def app(environ: Environ, start_response: Any) -> Any:
        thing = environ["test.thing"] = Thing()
        references.append(weakref.ref(thing))
        start_response("200 OK", [])
        return iter([b"1", b"2"]) if streams else [b"12"]

    adapter = adapt(app)
    gc.collect()
    gc.disable()
    try:
        for request in (get(), post(b"bo", b"dy"), post(b"bo", b"dy", length=None)):
            await serve(adapter, *request)
        await eventually(lambda: not adapter.stats().busy)
        left = [reference() for reference in references]
    finally:
        gc.enable()

    assert left == [None] * 3


@pytest.mark.anyio
async def test_an_input_that_outlives_its_request(adapt: Adapt) -> None:
    """An app that keeps its input gets what had come or an error, never waits, and gets nothing of another request."""
    kept: list[Any] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        return reply(start_response)

    adapter = adapt(app, collect=0, threads=1)
    async with opened(adapter, *post(b"first", length=10, ends=False)) as request:
        await request.ended()
    async with opened(adapter, *post(b"other", length=10, ends=False)) as request:
        request.feed(piece_event(b"other", more=False))
        await request.ended()
    await eventually(lambda: not adapter.stats().busy)

    with pytest.raises(ClientDisconnected):
        bounded(kept[0].read)


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [False, True])
async def test_what_outlives_its_request_does_no_harm(adapt: Adapt, streams: bool) -> None:
    """`write` and `start_response` of a request that is over raise, and nothing more of it is sent."""
    kept: list[Any] = []

    def app(environ: Environ, start_response: Any) -> Any:
        kept.append(start_response("200 OK", []))
        kept.append(start_response)
        return iter([b"body"]) if streams else [b"body"]

    adapter = adapt(app)
    request = await serve(adapter, *get())
    await eventually(lambda: not adapter.stats().busy)
    write, start_response = kept
    with pytest.raises((ApplicationProtocolError, OSError)):
        write(b"late")
    with pytest.raises(ApplicationProtocolError):
        start_response("200 OK", [])
    assert (await serve(adapter, *get())).body == b"body"

    assert request.body == b"body"
