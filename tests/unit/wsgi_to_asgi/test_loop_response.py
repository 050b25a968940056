"""Responses that go on without a thread, on the loop that the request came from."""

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from asgiref.sync import sync_to_async

from bridge import ApplicationProtocolError
from bridge._asgi_to_wsgi.portal import Portal
from bridge._concurrency.calls import Call
from bridge._types import Event
from bridge._wsgi_to_asgi.loop_response import _HEAD_DELAY_SECONDS, AsyncBody
from support.plain_servers import environ_for
from support.scripted_asgi_server import Adapt, get, lifespan, opened, serve
from support.scripted_wsgi_server import ask
from support.waiting import Flag, LogWatch, eventually, until

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"debug": True}), id="asyncio-debug"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


class Site:
    """A WSGI app whose body is made on a loop; tells where what happened."""

    def __init__(self, chunks: Callable[[], AsyncIterator[bytes]], headers: Any = ()) -> None:
        self.chunks = chunks
        self.headers = list(headers)
        self.portal = Portal.of(None)
        self.threads: dict[str, int] = {}
        self.between = 0
        self.closed = Flag()

    def __call__(self, environ: Any, start_response: Any) -> AsyncBody:
        self.threads["app"] = threading.get_ident()
        start_response("200 OK", self.headers)
        return AsyncBody(self.chunks, functools.partial(self.portal.iterate, environ), self._close, self._between)

    def _close(self) -> None:
        self.threads["close"] = threading.get_ident()
        self.closed.set()

    def _between(self) -> None:
        self.between += 1


async def three() -> AsyncIterator[bytes]:
    for chunk in (b"one", b"", b"two", b"three"):
        yield chunk


async def test_a_whole_body(adapt: Adapt) -> None:
    """Its chunks, in order, and close() in a thread."""
    site = Site(three)
    request = await serve(adapt(site), *get())

    assert b"onetwothree" == request.body
    assert request.complete
    assert site.closed.is_set()
    assert site.threads["close"] != threading.get_ident()
    assert 1 == site.between


async def test_the_thread_is_free_meanwhile(adapt: Adapt) -> None:
    """Each chunk is there when it is made."""
    go = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        await go.wait()
        yield b"two"

    adapter = adapt(Site(chunks), threads=1)
    async with opened(adapter, *get()) as request:
        await request.until(lambda: request.body == b"one")
        await eventually(lambda: adapter.stats().busy == 0)
        go.set()
    assert b"onetwo" == request.body
    assert 1 == adapter.stats().served


def _entering(loop: Any, coroutine: Any, *, context: Any = None, **options: Any) -> Any:
    """A task factory that does what asyncio's eager one does first; that one exists since Python 3.12."""
    if context is not None:
        context.run(bool)
    return asyncio.Task(coroutine, loop=loop, context=context, **options)


async def test_on_a_loop_whose_tasks_are_eager(adapt: Adapt, log: LogWatch) -> None:
    """Such a task enters its context while it is being made, and takes its first step before anything waits for it."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, uvloop.Loop) and (3, 13) <= sys.version_info < (3, 13, 3):
        pytest.xfail("uvloop gives task factories an argument that asyncio's eager one does not take there")
    go, makers = asyncio.Event(), set[Any]()

    async def chunks() -> AsyncIterator[bytes]:
        makers.add(asyncio.current_task())
        yield b"one"
        await go.wait()
        makers.add(asyncio.current_task())
        yield b"two"

    site = Site(chunks)
    loop.set_task_factory(getattr(asyncio, "eager_task_factory", _entering))
    try:
        async with opened(adapt(site), *get()) as request:
            await request.until(lambda: request.body == b"one")
            go.set()
        await site.closed.waited()
    finally:
        loop.set_task_factory(None)

    assert b"onetwo" == request.body
    assert 1 == len(makers - {None, asyncio.current_task()}) == len(makers)
    assert [] == log.complaints()


async def test_a_client_that_leaves_while_it_is_sent_to(adapt: Adapt) -> None:
    """The request learns of that twice: from the server, and from `send`. The cleanup of the body is not ended."""
    cleaning_up, over = asyncio.Event(), Flag()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            cleaning_up.set()
            for _ in range(20):
                await asyncio.sleep(0)
            over.set()

    async def on_send(event: Event) -> None:
        if event["type"] == "http.response.body":
            await cleaning_up.wait()
            raise OSError("the client has left")

    site = Site(chunks)
    async with opened(adapt(site), *get(), on_send, fails=True) as request:
        await request.until(lambda: request.sending is not None and request.sending["type"] == "http.response.body")
        request.leave()
        await request.ended()
    await site.closed.waited()
    assert over.is_set()


async def test_a_client_that_leaves_when_a_timeout_of_the_body_expires(adapt: Adapt) -> None:
    """Both cancel the task, and each has its effect: a feed with a heartbeat does not go on without its client."""
    expired, left = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                try:
                    await asyncio.Event().wait()
                finally:
                    expired.set()
                    await left.wait()
                    for _ in range(20):
                        await asyncio.sleep(0)
        yield b"heartbeat"
        await asyncio.Event().wait()

    site = Site(chunks)
    async with opened(adapt(site), *get()) as request:
        await request.until(lambda: request.chunks)
        await expired.wait()
        request.leave()
        left.set()
        await request.ended()
    await site.closed.waited()


async def test_a_body_that_catches_its_cancellation(adapt: Adapt) -> None:
    """Its next chunk is its last: it is closed, as a sync iterable is."""
    ended = Flag()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"tick"
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        finally:
            ended.set()

    site = Site(chunks)
    async with opened(adapt(site), *get()) as request:
        await request.until(lambda: request.chunks)
        request.leave()
        await request.ended()
    await site.closed.waited()
    assert ended.is_set()
    assert [b"tick"] == request.chunks


async def test_a_cleanup_that_takes_long(adapt: Adapt) -> None:
    """The server does not wait for it for longer than a second."""
    waiting, go = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.sleep(_HEAD_DELAY_SECONDS * 2)  # nothing else wakes the task that sends
            waiting.set()
            await asyncio.Event().wait()
        finally:
            await go.wait()

    site = Site(chunks)
    async with opened(adapt(site), *get()) as request:
        await waiting.wait()
        request.leave()
        await request.ended()
        assert not site.closed.is_set()
        go.set()
    await site.closed.waited()


async def test_a_server_that_cancels_after_the_response(adapt: Adapt) -> None:
    """The body is being closed because nothing more of it can be sent. That goes on to its end."""
    cleaning_up, go, over = asyncio.Event(), asyncio.Event(), Flag()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"whole"
        finally:
            cleaning_up.set()
            await go.wait()
            over.set()

    site = Site(chunks, [("Content-Length", "5")])
    async with opened(adapt(site), *get()) as request:
        await cleaning_up.wait()
        await request.until(lambda: request.complete)
        request.cancel()
        await request.ended()
        go.set()
    await site.closed.waited()
    assert over.is_set()


async def test_a_shutdown_that_does_not_wait_for_a_thread(adapt: Adapt) -> None:
    """The body waits for a thread, to be closed there. It is closed in another one."""
    entered, go = Flag(), Flag()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.Event().wait()

    site = Site(chunks)

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/feed":
            return site(environ, start_response)
        entered.set()
        go.wait()
        start_response("200 OK", [])
        return [b"late"]

    adapter = adapt(app, threads=1, shutdown_timeout=0.05)
    async with lifespan(adapter) as server, opened(adapter, *get("/feed")) as request:
        await request.until(lambda: request.chunks)
        async with opened(adapter, *get("/held")) as held:
            await entered.waited()
            request.leave()
            await eventually(lambda: adapter.stats().waiting == 1)
            server.feed({"type": "lifespan.shutdown"})
            await server.ended()
            await site.closed.waited()
            go.set()
        assert b"late" == held.body


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_is_closed_before_the_thread_has_left(adapt: Adapt) -> None:
    """As in a test whose request was cancelled: the body is closed in the thread of the app."""
    entered, go = Flag(), Flag()
    site = Site(three)

    def late(environ: Any, start_response: Any) -> AsyncBody:
        entered.set()
        go.wait()
        return site(environ, start_response)

    adapter = adapt(late)

    async def cancelled() -> None:
        async with opened(adapter, *get()) as request:
            await entered.waited()
            request.cancel()

    await asyncio.to_thread(asyncio.run, cancelled())
    go.set()
    await site.closed.waited()
    assert site.threads["app"] == site.threads["close"]
    await eventually(lambda: adapter.stats().busy == 0)


async def test_the_head_does_not_wait_for_a_first_chunk(adapt: Adapt) -> None:
    """A client is to know that its feed is open; what comes then is the body alone."""
    go = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        await go.wait()
        yield b"one"

    async with opened(adapt(Site(chunks)), *get()) as request:
        await request.until(lambda: bool(request.sent))
        assert ["http.response.start"] == [event["type"] for event in request.sent]
        go.set()
    assert b"one" == request.body
    assert 1 == [event["type"] for event in request.sent].count("http.response.start")


async def test_backpressure(adapt: Adapt) -> None:
    """A slow client holds it up."""
    made = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield b"x" * 8192

    async def slow(event: Any) -> None:
        await request.gate.wait()

    async with opened(adapt(Site(chunks)), *get(), on_send=slow) as request:
        await eventually(lambda: made >= 8)
        assert made < 40
        request.gate.set()
    assert 100 * 8192 == len(request.body)


async def test_the_client_leaves(adapt: Adapt) -> None:
    """The iterator is closed with its cleanup, then close() is called; nothing is logged as a failure."""
    ended = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    site = Site(chunks)
    adapter = adapt(site)
    async with opened(adapter, *get()) as request:
        await request.until(lambda: request.body)
        request.leave()
    await site.closed.waited()
    assert ended.is_set()
    assert 1 == adapter.stats().client_disconnects


async def test_the_server_cancels(adapt: Adapt) -> None:
    """The same."""
    site = Site(_endless)
    async with opened(adapt(site), *get()) as request:
        await request.until(lambda: request.body)
        request.cancel()
    await site.closed.waited()
    assert request.cancelled


async def _endless() -> AsyncIterator[bytes]:
    yield b"one"
    await asyncio.Event().wait()


async def test_send_raises(adapt: Adapt) -> None:
    """The same."""

    async def refuse(event: Any) -> None:
        raise OSError("gone")

    site = Site(_endless)
    async with opened(adapt(site), *get(), on_send=refuse, fails=True) as request:
        pass
    await site.closed.waited()
    assert isinstance(request.error, OSError)


async def test_it_raises(adapt: Adapt, log: LogWatch) -> None:
    """The response is aborted, with the app's own error, which is logged."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("broke")

    site = Site(chunks)
    request = await serve(adapt(site), *get(), fails=True)
    assert isinstance(request.error, LookupError)
    assert (b"half", False) == (request.body, request.complete)
    await site.closed.waited()
    assert "LookupError: broke" in log.wait_for("asked for GET '/', raised", level=30)


@pytest.mark.parametrize(("length", "body"), [(5, b"onetw"), (11, b"onetwothree")])
async def test_content_length_is_kept(adapt: Adapt, length: int, body: bytes) -> None:
    """What is too much is cut."""
    site = Site(three, [("Content-Length", str(length))])
    request = await serve(adapt(site), *get())
    assert (body, True) == (request.body, request.complete)
    await site.closed.waited()


async def test_too_short(adapt: Adapt) -> None:
    """Is never ended as if it were whole."""
    request = await serve(adapt(Site(three, [("Content-Length", "50")])), *get(), fails=True)
    assert isinstance(request.error, ApplicationProtocolError)


async def test_head(adapt: Adapt) -> None:
    """Asks for nothing."""
    site = Site(_endless)
    scope, events = get()
    request = await serve(adapt(site), {**scope, "method": "HEAD"}, events)
    assert (b"", True) == (request.body, request.complete)
    await site.closed.waited()


async def test_the_client_leaves_just_when_the_thread_does(adapt: Adapt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks at the call, its thread may end it: then too nothing is left open."""
    stays, left = Flag(), Flag()

    class Stays(Site):
        def _between(self) -> None:
            stays.set()
            left.wait()

    abandon = Call.abandon

    def abandon_late(call: Call) -> None:
        left.set()
        until(lambda: call.finished)
        abandon(call)

    monkeypatch.setattr(Call, "abandon", abandon_late)
    site = Stays(_endless)
    async with opened(adapt(site), *get()) as request:
        await stays.waited()
        request.cancel()
        await request.ended()
    await site.closed.waited()


async def test_sensitive_work_has_one_thread_until_the_end(adapt: Adapt) -> None:
    """Taken at the first of it, prepared, and that of close() too."""
    seen: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            seen.append(await sync_to_async(threading.get_ident)())
            yield b"x"

    site = Site(chunks)
    assert b"xxx" == (await serve(adapt(site), *get())).body
    await site.closed.waited()
    assert {site.threads["close"]} == set(seen)
    assert 2 == site.between


async def test_async_code_called_from_there_runs_on_the_same_loop(adapt: Adapt) -> None:
    """And not on a private one, for which the objects of this one are none."""
    found: list[object] = []

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def chunks() -> AsyncIterator[bytes]:
        found.append(await sync_to_async(lambda: site.portal.call({}, loop))())
        yield b"x"

    site = Site(chunks)
    assert b"x" == (await serve(adapt(site), *get())).body
    assert [asyncio.get_running_loop()] == found
    await site.closed.waited()


async def test_two_streams_share_no_thread(adapt: Adapt) -> None:
    """What the one has in its thread is not the other's."""
    both = asyncio.Barrier(2)

    async def chunks() -> AsyncIterator[bytes]:
        ident = await sync_to_async(threading.get_ident)()
        await both.wait()
        yield b"%d" % ident

    adapter = adapt(Site(chunks))
    one, other = await asyncio.gather(serve(adapter, *get()), serve(adapter, *get()))
    assert one.body != other.body


async def test_after_the_threads_were_stopped(adapt: Adapt) -> None:
    """A stream that outlives them ends all the same."""
    go = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        await go.wait()

    site = Site(chunks)
    adapter = adapt(site)
    async with opened(adapter, *get()) as request:
        await request.until(lambda: request.body)
        await asyncio.to_thread(adapter.close)
        go.set()
    await site.closed.waited()
    assert request.complete


def test_on_a_wsgi_server() -> None:
    """The thread iterates, and waits for the private loop."""
    site = Site(three)
    served = ask(site, environ_for("GET", "/"))

    assert b"onetwothree" == served.body
    assert served.thread.ident == site.threads["app"] == site.threads["close"]
    site.portal.close()
