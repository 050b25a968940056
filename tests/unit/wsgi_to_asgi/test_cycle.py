"""`RequestResponseCycle`: what is received before a thread is taken, and how the pieces of a response are sent."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import anyio.lowlevel
import pytest

from bridge._concurrency.byte_queue import ByteQueue
from bridge._concurrency.pool import ThreadPool
from bridge._translate.events_to_input import BodyCounter
from bridge._translate.scope_to_environ import scope_to_environ
from bridge._wsgi_to_asgi.cycle import RequestResponseCycle, start, take_next
from bridge._wsgi_to_asgi.dispatchers import Dispatchers
from bridge._wsgi_to_asgi.responder import WsgiResponder
from bridge.errors import ClientDisconnected, ClientProtocolError
from support.scripted_asgi_server import Environ, Event, get, opened, piece_event, post, serve
from support.waiting import Flag, eventually, until
from support.wsgi_apps import hello, reply

pytestmark = pytest.mark.anyio
BOUND = 15


class Cycle:
    """An ASGI app that is one cycle of a WSGI app; keeps its parts in view."""

    def __init__(
        self,
        dispatchers: Dispatchers,
        app: Callable[..., Iterable[bytes]],
        *,
        stream: bool = True,
        responder: type[WsgiResponder] = WsgiResponder,
    ) -> None:
        self._dispatchers = dispatchers
        self._app = app
        self._stream = stream
        self._class = responder
        self.responder: WsgiResponder
        # As it was before the thread was taken, and how many events had been received then.
        self.received = self.received_before = 0
        self.environ: Environ = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        environ = scope_to_environ(scope, max_repeats=100)
        self.responder = responder = self._class(self._dispatchers.here(), self._app, environ, scope)
        length = environ.get("CONTENT_LENGTH")
        counter = None
        if scope["method"] == "GET":
            environ["wsgi.input"] = io.BytesIO()
        else:
            counter = BodyCounter(None if length is None else int(length), None)

        async def counted() -> Event:
            event: Event = await receive()
            self.received += 1
            return event

        cycle = RequestResponseCycle(responder, counted, send, counter)
        try:
            if counter is not None:
                await cycle.collect(await take_next(counter, counted), BOUND, stream=self._stream)
            self.environ, self.received_before = dict(environ), self.received
            await cycle.serve()
        finally:
            if responder.body is not None and not responder.begun:
                responder.body.discard(responder.dispatcher)


@pytest.fixture
def dispatchers() -> Iterator[Dispatchers]:
    """The dispatchers of one adapter, with two threads."""
    dispatchers = Dispatchers(2, 2.0, None)
    yield dispatchers
    dispatchers.close()


def echo(environ: Environ, start_response: Any) -> list[bytes]:
    return reply(start_response, environ["wsgi.input"].read())


# --- before a thread is taken ---


@pytest.mark.parametrize(("framed", "received"), [(True, 2), (False, 1)])
async def test_the_end_of_a_framed_body_is_received_with_its_last_bytes(framed: bool, received: int) -> None:
    """The response must not overtake it; where there is no such frame nothing is waited for."""
    events = [piece_event(b"abc", more=True), piece_event(b"", more=False)]
    taken: list[Event] = []

    async def receive() -> Event:
        taken.append(events.pop(0))
        return taken[-1]

    counter = BodyCounter(3, None, framed=framed)

    assert b"abc" == await take_next(counter, receive)
    assert counter.ended
    assert received == len(taken)


async def test_a_body_within_the_bound_is_there_at_once(dispatchers: Dispatchers) -> None:
    cycle = Cycle(dispatchers, echo)
    request = await serve(cycle, *post(b"abc", b"def"))

    assert b"abcdef" == request.body
    assert cycle.responder.body is None
    assert "6" == cycle.environ["CONTENT_LENGTH"]
    assert isinstance(cycle.environ["wsgi.input"], io.BytesIO)


async def test_no_more_is_received_than_the_bound_before_the_thread_runs(dispatchers: Dispatchers) -> None:
    """The rest is for the app to ask for; it reads all of it in order."""
    pieces = [b"%d" % number * 10 for number in range(5)]

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        go.wait()
        return echo(environ, start_response)

    go = Flag()
    scope, events = post(*pieces, ends=False)
    cycle = Cycle(dispatchers, app)
    async with opened(cycle, scope, events[:2]) as request:
        await eventually(lambda: cycle.environ)
        assert 2 == cycle.received_before
        request.feed(*events[2:4], piece_event(pieces[4], more=False))
        go.set()

    assert b"".join(pieces) == request.body
    assert cycle.responder.body is not None
    assert cycle.responder.body.file is None
    assert "50" == cycle.environ["CONTENT_LENGTH"]


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a" * 10, b"b" * 10], [b"a" * 300_000, b"b" * 300_000, b"c"]])
async def test_a_body_that_cannot_be_streamed_is_there_as_a_whole(
    dispatchers: Dispatchers, pieces: list[bytes]
) -> None:
    """With its length, and in no transfer coding any more (RFC 9112 7.1.3); above the bound it is in a file."""
    cycle = Cycle(dispatchers, echo, stream=False)
    request = await serve(cycle, *post(*pieces, length=None))
    size = sum(map(len, pieces))

    assert b"".join(pieces) == request.body
    assert str(size) == cycle.environ["CONTENT_LENGTH"]
    assert "HTTP_TRANSFER_ENCODING" not in cycle.environ
    body = cycle.responder.body
    assert (size > BOUND) is (body is not None and body.file is not None)


@pytest.mark.parametrize("size", [3, 100])
async def test_half_a_body_is_never_taken_for_a_whole_one(dispatchers: Dispatchers, size: int) -> None:
    """Its client has left; the app is not even called, and no file is left over."""
    called: list[Environ] = []
    cycle = Cycle(dispatchers, lambda environ, _: called.append(environ) or [], stream=False)
    scope, events = post(b"x" * size, length=None, ends=False)
    request = await serve(cycle, scope, [*events, {"type": "http.disconnect"}], fails=True)

    assert isinstance(request.error, ClientDisconnected)
    assert [] == called


async def test_without_a_thread_it_is_a_bad_time(dispatchers: Dispatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, with the reason."""

    def refuse(*_: object, **__: object) -> bool:
        raise RuntimeError("can't start new thread")

    scope, _ = get()
    responder = WsgiResponder(dispatchers.here(), echo, scope_to_environ(scope, max_repeats=100), scope)
    monkeypatch.setattr(ThreadPool, "submit", refuse)
    with pytest.raises(ClientProtocolError, match="can't start new thread") as refused:
        start(responder)

    assert 503 == refused.value.status


# --- the response ---


async def test_chunks_that_have_piled_up_are_one_event(dispatchers: Dispatchers) -> None:
    """Each costs the server a write."""
    chunks = [b"1", b"22", b"333", b"4444"]

    def app(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield chunks[0]
        first_is_sent.wait()
        yield from chunks[1:]

    first_is_sent = Flag()
    cycle = Cycle(dispatchers, app)

    async def slow(event: Event) -> None:
        if event.get("body") == chunks[0]:
            first_is_sent.set()
            await eventually(lambda: cycle.responder.finished)

    async with opened(cycle, *get(), on_send=slow) as request:
        pass

    assert [b"1", b"223334444"] == [event["body"] for event in request.sent[1:]]
    assert not request.sent[-1].get("more_body", False)
    output = cycle.responder.output
    assert output is not None
    assert not output.in_flight


async def test_what_is_counted_and_not_yet_handed_over_is_not_acknowledged(dispatchers: Dispatchers) -> None:
    """Else a thread that waits until a path send has been dealt with would close, and remove, its file too early."""
    second, acknowledged = Flag(), Flag()
    in_flight: list[bool] = []

    class Items(deque[Any]):
        """Hands over the second chunk only after the first has been acknowledged."""

        def extend(self, items: Iterable[Any]) -> None:
            if b"2" in (items := list(items)):
                second.set()
                acknowledged.wait()
                in_flight.append(cycle.responder.output.in_flight)  # type: ignore[union-attr]
            super().extend(items)

    def app(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        output = cycle.responder.output = ByteQueue()
        output.items = Items()
        yield b"1"
        yield b"2"

    async def slow(event: Event) -> None:
        if event.get("body") == b"1":
            await second.waited()

    class Responder(WsgiResponder):
        def acknowledge(self, written: int) -> None:
            super().acknowledge(written)
            acknowledged.set()

    cycle = Cycle(dispatchers, app, responder=Responder)
    async with opened(cycle, *get(), on_send=slow) as request:
        pass

    assert b"12" == request.body
    assert [True] == in_flight


async def test_a_client_that_does_not_read_holds_the_app_up(dispatchers: Dispatchers) -> None:
    """What was sent is acknowledged once `send` has returned, and not before."""
    made: list[int] = []

    def app(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for number in range(100):
            made.append(number)
            yield b"x" * 10_000

    async def slow(_event: Event) -> None:
        await request.gate.wait()

    async with opened(Cycle(dispatchers, app), *get(), on_send=slow) as request:
        await eventually(lambda: len(made) >= 7)
        await Flag().held()
        assert len(made) < 20
        request.gate.set()

    assert 1_000_000 == len(request.body)


async def test_the_client_is_watched_in_the_context_of_its_request(dispatchers: Dispatchers) -> None:
    """Middleware may look at it in `receive`, also where another request has begun to count the ticks."""
    user: ContextVar[str] = ContextVar("user")
    seen: dict[str, str] = {}
    go = Flag()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def note() -> Event:
            seen[scope["path"]] = user.get("nobody")
            event: Event = await receive()
            return event

        user.set(scope["path"])
        await Cycle(dispatchers, wait)(scope, note, send)

    def wait(_environ: Environ, start_response: Any) -> list[bytes]:
        go.wait()
        return reply(start_response, b"")

    async with opened(app, *get("/a")), opened(app, *get("/b")):
        await eventually(lambda: len(seen) == 2)
        go.set()

    assert {"/a": "/a", "/b": "/b"} == seen


@pytest.mark.parametrize("begun", [False, True])
async def test_the_server_gets_what_the_app_raised(dispatchers: Dispatchers, begun: bool) -> None:
    """It then answers 500, or ends the connection; the response is never ended as a whole one."""

    def app(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        if begun:
            start_response("200 OK", [])
            yield b"half"
        raise LookupError("planned")

    request = await serve(Cycle(dispatchers, app), *get(), fails=True)

    assert isinstance(request.error, LookupError)
    assert (b"half" if begun else b"", False) == (request.body, request.complete)


async def test_no_app_ends_the_server(dispatchers: Dispatchers) -> None:
    """What is no Exception would: the server gets one that tells of it."""

    def app(_environ: Environ, _start_response: Any) -> list[bytes]:
        raise SystemExit(3)

    request = await serve(Cycle(dispatchers, app), *get(), fails=True)

    assert isinstance(request.error, RuntimeError)
    assert isinstance(request.error.__cause__, SystemExit)


async def test_a_client_that_leaves_ends_the_wait_for_the_app(dispatchers: Dispatchers) -> None:
    """The app is told where it asks next."""
    raised: list[type[BaseException]] = []
    over = Flag()

    def app(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x"
                until(lambda: cycle.responder.abandoned)
        except GeneratorExit:
            raised.append(GeneratorExit)
            raise
        finally:
            over.set()

    cycle = Cycle(dispatchers, app)
    async with opened(cycle, *get()) as request:
        await request.until(lambda: request.body)
        await request.asked()
        request.leave()
    await over.waited()

    assert [GeneratorExit] == raised
    assert 1 == dispatchers.stats().client_disconnects


class Counting:
    """A cycle, and how often it has called `receive()`."""

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self.times = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def count() -> Event:
            self.times += 1
            event: Event = await receive()
            return event

        await self._cycle(scope, count, send)


async def test_nobody_receives_for_a_request_that_was_cancelled(dispatchers: Dispatchers) -> None:
    """Its thread may go on for long. Middleware that has cancelled it, for a time limit, may receive by then."""
    waits, go = Flag(), Flag()

    def wait(_environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"half"
        waits.set()
        go.wait()

    cycle = Cycle(dispatchers, wait)
    counting = Counting(cycle)
    async with opened(counting, *get()) as request:
        await request.until(lambda: request.body)
        await waits.waited()
        request.cancel()
        await request.ended()
        if cycle.responder.dispatcher.loop.is_asyncio:  # on trio, nobody looks how long it takes any more
            await eventually(lambda: cycle.responder.slow)
        await anyio.lowlevel.checkpoint()
        go.set()

    assert 0 == counting.times


async def test_nobody_receives_for_a_request_that_is_over(
    dispatchers: Dispatchers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop may see its end, be late with what the thread has posted of that, and count it as slow in between."""
    dispatcher = dispatchers.here()
    genuine, held = dispatcher.loop.post, list[Any]()
    done = Flag()

    def post(target: Any) -> None:
        if done.is_set() or not getattr(target, "finished", False):
            genuine(target)
        else:
            held.append(target)
            done.set()

    cycle = Cycle(dispatchers, hello)
    counting = Counting(cycle)
    monkeypatch.setattr(dispatcher.loop, "post", post)
    async with opened(counting, *get()) as request:
        await done.waited()
        cycle.responder.wake()
        await request.ended()
        times = counting.times
        if dispatcher.loop.is_asyncio:  # on trio, the ticks are a task of the request
            for _ in range(3):
                dispatcher.tick(held[0])
        await anyio.lowlevel.checkpoint()
        genuine(held[0])

    assert request.complete
    assert times == counting.times


class _Overtaken(WsgiResponder):
    """Its thread is done with a body that broke off before the loop gets on."""

    def feed(self, data: bytes) -> None:
        super().feed(data)
        if not data:
            until(lambda: self.finished)


@pytest.mark.parametrize("raises", [True, False])
async def test_an_app_that_ends_before_the_loop_gives_the_request_up(dispatchers: Dispatchers, raises: bool) -> None:
    """It has seen that the body broke off: the request is counted as one whose client has left, and answered so."""
    entered = Flag()

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        entered.set()
        try:
            environ["wsgi.input"].read()
        except ClientDisconnected:
            if raises:
                raise
        return reply(start_response)

    async with opened(
        Cycle(dispatchers, app, responder=_Overtaken), *post(b"x" * BOUND, length=40, ends=False)
    ) as request:
        await entered.waited()
        request.leave()
        await request.ended()
    stats = dispatchers.stats()

    assert (1, 0, 0) == (stats.client_disconnects, stats.served, stats.aborted)
    assert 499 == request.status


async def test_a_server_that_repeats_the_end_of_the_request_is_asked_no_more(dispatchers: Dispatchers) -> None:
    """It might do so without end, and keep the loop from all else."""

    def app(_environ: Environ, start_response: Any) -> list[bytes]:
        go.wait()
        return reply(start_response, b"served")

    go, scope = Flag(), get()[0]
    cycle = Cycle(dispatchers, app)
    async with opened(cycle, scope, [piece_event(b"", more=False)] * 5) as request:
        await eventually(lambda: cycle.received == 2)
        await Flag().held()
        assert 2 == cycle.received
        go.set()

    assert b"served" == request.body
