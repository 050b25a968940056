"""The request body: collected or streamed, and as good as a file for the app."""

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import WsgiToAsgi
from support.plain_servers import call_asgi
from support.scripted_asgi_server import DISCONNECT, Adapt, Environ, Event, get, opened, piece_event, post, serve
from support.sizes import BOUND, KIB
from support.waiting import HOLD, Flag, eventually
from support.wsgi_apps import Chunks, endless, hello, reader, reply


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
@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "POST", "GET", "HEAD"])
async def test_a_body_without_any_sign_of_its_length_arrives(adapt: Adapt, method: str) -> None:
    """Hosts that make the scope of an event have bodies like this; GET and HEAD have one where Content-Type says so."""
    seen: list[Any] = []
    scope, _ = get(headers=[(b"content-type", b"text/plain")])
    scope["method"] = method
    await serve(adapt(reader(seen)), scope, [piece_event(b"ab", more=True), piece_event(b"cd", more=False)])

    assert seen[0] == b"abcd"
    assert seen[1]["CONTENT_LENGTH"] == "4"


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_without_a_sign_of_a_body_the_server_is_not_asked(adapt: Adapt, method: str) -> None:
    """It costs nothing."""
    scope, _ = get()
    scope["method"] = method
    assert (await serve(adapt(hello), scope)).received == 0


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
@pytest.mark.parametrize("pieces", [[b""], [b"abc"], [b"abc", b"def"]], ids=["empty", "one event", "two events"])
async def test_a_client_that_leaves_between_its_body_and_the_end_of_its_request(
    adapt: Adapt, pieces: list[bytes]
) -> None:
    """Over HTTP/2 these are two frames. The server tells of the leave once, in the place of the second one."""
    chunks = Chunks(endless())

    def app(_environ: Environ, start_response: Any) -> Chunks:
        start_response("200 OK", [])
        return chunks

    adapter = adapt(app, threads=1)
    async with opened(adapter, *post(*pieces, ends=False, http_version="2")) as request:
        await request.asked()
        request.leave()
        await request.ended()
        await chunks.closed.waited()

    await eventually(lambda: (adapter.stats().busy, adapter.stats().client_disconnects) == (0, 1))


@pytest.mark.anyio
@pytest.mark.parametrize("on_demand", [False, True], ids=["", "100-continue"])
async def test_a_stream_whose_first_part_is_never_taken_beside_its_upload(adapt: Adapt, on_demand: bool) -> None:
    """Hypercorn lets a send wait for the client over HTTP/2 even when it has left. The app ends all the same."""
    chunks = Chunks(endless())

    def app(_environ: Environ, start_response: Any) -> Chunks:
        start_response("200 OK", [])
        return chunks

    async def stuck(_event: Event) -> None:
        await anyio.sleep_forever()

    adapter = adapt(app, threads=1, collect=1)
    kind: dict[str, Any] = {"headers": EXPECTS} if on_demand else {"http_version": "2"}
    upload = post(*[b"x" * 65536] * 3, length=2**20, ends=False, **kind)
    async with opened(adapter, *upload, stuck) as request:
        await request.until(lambda: request.sending)
        await eventually(lambda: chunks.taken > 32 * KIB)
        request.feed(DISCONNECT)
        await chunks.closed.waited()
        request.cancel()
        await request.ended()
    await eventually(lambda: adapter.stats().busy == 0)


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
        await request.until(lambda: request.body == b"ONE\n")
        request.feed(piece_event(b"two\n", more=True))
        await request.until(lambda: request.body == b"ONE\nTWO\n")
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
            await request.until(lambda: request.received > 12)
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


# --- Expect: 100-continue


EXPECTS = [(b"expect", b"100-Continue")]


@pytest.mark.anyio
@pytest.mark.parametrize("collect", [0, 2**20])
async def test_a_refusal_by_headers_asks_for_no_body(adapt: Adapt, collect: int) -> None:
    """The app runs at once, and what it does not read is never asked for (RFC 9110 10.1.1)."""
    asked: list[int] = []

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        asked.append(request.received)
        return reply(start_response, b"no", "401 Unauthorized")

    async def slow(_event: Event) -> None:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    scope, _ = post(length=50_000_000, headers=EXPECTS)
    async with opened(adapt(app, collect=collect), scope, on_send=slow) as request:
        await request.ended()
        asked.append(request.received)

    assert (request.status, request.body) == (401, b"no")
    assert asked == [0, 0]


@pytest.mark.anyio
async def test_a_body_is_asked_for_at_its_first_read(adapt: Adapt) -> None:
    """Not before; and once it comes, it comes whole."""
    entered, go = Flag(), Flag()
    seen: list[Any] = []
    read = reader(seen)

    def app(environ: Environ, start_response: Any) -> list[bytes]:
        entered.set()
        go.wait()
        return read(environ, start_response)

    scope, _ = post(length=6, headers=EXPECTS)
    async with opened(adapt(app), scope) as request:
        await entered.waited()
        await go.held()
        assert request.received == 0
        go.set()
        await request.asked()
        request.feed(piece_event(b"abc", more=True), piece_event(b"def", more=False))

    assert seen[0] == b"abcdef"


@pytest.mark.anyio
async def test_an_expectation_of_a_body_above_the_limit(adapt: Adapt) -> None:
    """Is refused before the app runs, and before the client sends anything."""
    seen: list[Any] = []
    scope, _ = post(length=7, headers=EXPECTS)
    request = await serve(adapt(reader(seen), max_body=6), scope)

    assert (request.status, request.received, seen) == (413, 0, [])
