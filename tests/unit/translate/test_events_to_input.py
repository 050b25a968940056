"""`http.request` events become `wsgi.input`: which requests are asked for a body, what is counted, what is read."""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge._translate.events_to_input import BodyCounter, expects_body, file_input, stream_input, too_large
from bridge.errors import ClientProtocolError, ServerProtocolError

few = settings(max_examples=40, deadline=None)

DISCONNECT = {"type": "http.disconnect"}
EITHER = "http.request or http.disconnect"


def more(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": True}


def last(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


def events_of(chunks: list[bytes]) -> list[dict[str, Any]]:
    """The events of a server that received `chunks`, at least one."""
    return [*map(more, chunks[:-1]), last(chunks[-1] if chunks else b"")]


class TestExpectsBody:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            # RFC 9112 6.3: a request without either header has no body ...
            ({}, False),
            ({"REQUEST_METHOD": "HEAD"}, False),
            ({"CONTENT_TYPE": ""}, False),
            ({"SERVER_PROTOCOL": "HTTP/1.0"}, False),
            # ... but these are asked all the same: scopes made of an event, or by hand, lack the header.
            ({"REQUEST_METHOD": "OPTIONS"}, True),
            ({"REQUEST_METHOD": "TRACE"}, True),
            ({"REQUEST_METHOD": "DELETE"}, True),
            ({"REQUEST_METHOD": "CONNECT"}, True),
            ({"REQUEST_METHOD": "DELETE", "CONTENT_LENGTH": "0"}, False),
            ({"CONTENT_TYPE": "text/plain"}, True),
            ({"REQUEST_METHOD": "HEAD", "CONTENT_TYPE": "text/plain"}, True),
            ({"CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "0"}, False),
            ({"REQUEST_METHOD": "POST"}, True),
            ({"REQUEST_METHOD": "PUT"}, True),
            ({"REQUEST_METHOD": "PATCH"}, True),
            ({"REQUEST_METHOD": "M-SEARCH"}, True),
            # RFC 9110 8.6: Content-Length says it.
            ({"CONTENT_LENGTH": "0"}, False),
            ({"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "0"}, False),
            ({"CONTENT_LENGTH": "1"}, True),
            ({"CONTENT_LENGTH": "00"}, True),
            ({"HTTP_TRANSFER_ENCODING": "chunked"}, True),
            # RFC 9113 8.1: no header has to say it.
            ({"SERVER_PROTOCOL": "HTTP/2"}, True),
            ({"SERVER_PROTOCOL": "HTTP/3"}, True),
            # ... and the end comes by itself.
            ({"SERVER_PROTOCOL": "HTTP/2", "CONTENT_LENGTH": "0"}, True),
        ],
    )
    def test_who_is_asked_for_a_body(self, changes: dict[str, str], expected: bool) -> None:
        """The rule is in the comment above each group."""
        environ = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"} | changes
        assert expected is expects_body(environ)


class TestBody:
    """ASGI HTTP, Request; RFC 9112 6.3 for what the length means."""

    @pytest.mark.parametrize(
        ("length", "events", "taken", "ended", "truncated", "final"),
        [
            (None, [{"type": "http.request"}], b"", True, False, True),
            (None, [last(b"ab")], b"ab", True, False, True),
            (None, [more(b"ab")], b"ab", False, False, False),
            (None, [more(b"ab"), more(b""), last(b"c")], b"abc", True, False, True),
            (0, [last(b"")], b"", True, False, True),
            (0, [more(b"")], b"", True, False, False),
            (0, [last(b"x")], b"", True, False, True),
            (3, [last(b"abc")], b"abc", True, False, True),
            (3, [more(b"abc")], b"abc", True, False, False),
            (3, [more(b"ab"), last(b"c")], b"abc", True, False, True),
            (3, [more(b"ab")], b"ab", False, False, False),
            # Too much: never more than Content-Length.
            (3, [last(b"abcd")], b"abc", True, False, True),
            (3, [more(b"ab"), more(b"cd")], b"abc", True, False, False),
            # Too little: never whole.
            (3, [last(b"ab")], b"ab", True, True, True),
            (3, [{"type": "http.request"}], b"", True, True, True),
            (3, [more(b"ab"), last(b"")], b"ab", True, True, True),
            (3, [more(b"ab"), DISCONNECT], b"ab", True, True, False),
            (None, [more(b"ab"), DISCONNECT], b"ab", True, True, False),
            (None, [DISCONNECT], b"", True, True, False),
            (3, [DISCONNECT], b"", True, True, False),
            (0, [DISCONNECT], b"", True, False, False),
            # Whole before the client left.
            (3, [more(b"abc"), DISCONNECT], b"abc", True, False, False),
            # The other kinds of byte strings that servers have.
            (3, [last(bytearray(b"abcd"))], b"abc", True, False, True),  # type: ignore[arg-type]
            (None, [last(memoryview(b"ab"))], b"ab", True, False, True),  # type: ignore[arg-type]
        ],
    )
    def test_events_are_counted(
        self, length: int | None, events: list[Any], taken: bytes, ended: bool, truncated: bool, final: bool
    ) -> None:
        """What is handed on, whether it is the end, whether that came too early, and whether the server said so."""
        body = BodyCounter(length, None)
        data = [body.take(event) for event in events]
        assert (taken, len(taken)) == (b"".join(data), body.received)
        assert all(type(chunk) is bytes for chunk in data)
        assert (ended, truncated, final) == (body.ended, body.truncated, body.final)
        assert body.disconnected is (events[-1] is DISCONNECT)

    @pytest.mark.parametrize(
        ("length", "events", "whole", "ended"),
        [
            (3, [more(b"ab")], False, False),
            (3, [more(b"abc")], True, False),
            (3, [more(b"abcd")], True, False),
            (3, [more(b"abc"), more(b"")], True, False),
            (3, [more(b"abc"), last(b"")], True, True),
            (3, [more(b"abc"), DISCONNECT], True, True),
            (3, [last(b"abc")], True, True),
            (3, [last(b"ab")], False, True),
            (0, [more(b"")], True, False),
            (0, [last(b"")], True, True),
            (None, [more(b"ab")], False, False),
            (None, [last(b"ab")], False, True),
        ],
    )
    def test_a_framed_body_ends_with_its_last_event(
        self, length: int | None, events: list[Any], whole: bool, ended: bool
    ) -> None:
        """RFC 9113 8.1: not with its last byte."""
        body = BodyCounter(length, None, framed=True)
        for event in events:
            body.take(event)
        assert (whole, ended) == (body.received == body.length, body.ended)
        assert body.truncated is (ended and not whole and length is not None)

    @pytest.mark.parametrize(
        ("length", "limit", "events"),
        [
            (3, 3, [last(b"abc")]),
            (None, 3, [more(b"ab"), last(b"c")]),
            (None, 0, [last(b"")]),
            # The surplus is not part of the body.
            (3, 3, [last(b"abcdef")]),
        ],
    )
    def test_a_body_as_large_as_the_limit_passes(self, length: int | None, limit: int, events: list[Any]) -> None:
        """The limit is the largest body that is accepted."""
        body = BodyCounter(length, limit)
        assert [event["body"][:3] for event in events] == [body.take(event) for event in events]

    @pytest.mark.parametrize(("length", "limit"), [(4, 3), (1, 0)])
    def test_what_announces_more_is_refused_before_it_is_received(self, length: int, limit: int) -> None:
        """RFC 9110 15.5.14."""
        with pytest.raises(ClientProtocolError) as caught:
            BodyCounter(length, limit)
        assert (413, "RFC 9110 15.5.14") == (caught.value.status, caught.value.clause)

    @pytest.mark.parametrize(
        ("limit", "events"),
        [(3, [last(b"abcd")]), (3, [more(b"abc"), more(b""), more(b"d")]), (0, [more(b"a")])],
    )
    def test_what_turns_out_to_be_larger_is_refused_at_once(self, limit: int, events: list[Any]) -> None:
        """RFC 9110 15.5.14; without waiting for the rest."""
        body = BodyCounter(None, limit)
        for event in events[:-1]:
            body.take(event)
        with pytest.raises(ClientProtocolError) as caught:
            body.take(events[-1])
        assert (413, "RFC 9110 15.5.14") == (caught.value.status, caught.value.clause)

    @pytest.mark.parametrize(
        ("event", "did", "expected"),
        [
            ({"type": "http.response.body"}, "sent 'http.response.body' in a request", EITHER),
            ({"type": "lifespan.shutdown"}, "sent 'lifespan.shutdown' in a request", EITHER),
            ({}, "sent None in a request", EITHER),
            ({"type": 5}, "sent 5 in a request", EITHER),
            ({"type": "http.request", "body": "ab"}, "sent a request body of type str", "bytes"),
            ({"type": "http.request", "body": None}, "sent a request body of type NoneType", "bytes"),
        ],
    )
    def test_another_event_is_the_servers_fault(self, event: dict[str, Any], did: str, expected: str) -> None:
        """ASGI HTTP, Request: the message says what came, and what should have."""
        with pytest.raises(ServerProtocolError) as caught:
            BodyCounter(None, None).take(event)
        assert f"the server {did}; expected {expected} (ASGI HTTP & WebSocket, Request)" == str(caught.value)

    def test_a_refusal_names_the_size_and_the_limit(self) -> None:
        """And the clause."""
        expected = "the client sent a request body of at least 4 bytes; expected at most 3 (RFC 9110 15.5.14)"
        assert expected == str(too_large(4, 3))

    @few
    @given(st.lists(st.binary(max_size=8), max_size=6), st.none() | st.integers(0, 24), st.booleans())
    def test_whatever_the_chunks_the_body_is_the_same(
        self, chunks: list[bytes], length: int | None, leaves: bool
    ) -> None:
        """The concatenation up to Content-Length; whole if, and only if, all of it came."""
        sent = b"".join(chunks)
        body = BodyCounter(length, None)
        data = []
        for event in [*map(more, chunks), DISCONNECT] if leaves else events_of(chunks):
            data.append(body.take(event))
            if body.ended:
                break
        assert sent[:length] == b"".join(data)
        assert body.ended
        assert body.truncated is (leaves if length is None else len(sent) < length)

    @few
    @given(st.lists(st.binary(max_size=8), max_size=6), st.none() | st.integers(0, 24), st.integers(0, 24))
    def test_no_more_than_the_limit_is_ever_handed_on(
        self, chunks: list[bytes], length: int | None, limit: int
    ) -> None:
        """And it is refused if, and only if, the body is larger."""
        sent = b"".join(chunks)[:length]
        larger = len(sent) > limit or (length is not None and length > limit)
        data = []
        try:
            body = BodyCounter(length, limit)
            for event in events_of(chunks):
                data.append(body.take(event))
                if body.ended:
                    break
        except ClientProtocolError:
            assert larger
        else:
            assert not larger
        assert len(b"".join(data)) <= limit


def pulled(chunks: Iterable[bytes], failure: Exception | None = None) -> Callable[[], bytes]:
    """Gives the chunks without the empty ones, then the end, or the failure, each time it is asked again."""
    rest = iter([chunk for chunk in chunks if chunk])

    def pull() -> bytes:
        chunk = next(rest, b"")
        if not chunk and failure is not None:
            raise failure
        return chunk

    return pull


SIZES = st.none() | st.integers(-2, 40)
CALLS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines", "read1"]), SIZES)
    | st.tuples(st.sampled_from(["readinto", "__next__", "__iter__"]), st.integers(0, 40)),
    max_size=12,
)


def outcome(stream: Any, name: str, size: int | None) -> object:
    if name == "readinto":
        buffer = bytearray(size or 0)
        return stream.readinto(buffer), bytes(buffer)
    if name == "__next__":
        return next(stream, None)
    if name == "__iter__":
        return list(stream)
    return getattr(stream, name)(size)


def assert_same(file: io.BytesIO, stream: io.BufferedReader, name: str, size: int | None) -> None:
    if name == "read1":  # it may give less than there is, but nothing only at the end
        some = stream.read1(-1 if size is None else size)
        assert some == file.read(len(some))
        assert some or not file.read(0 if size == 0 else 1)
    else:
        seen = outcome(stream, name, size)
        assert outcome(file, name, size) == seen


class TestStreamInput:
    """PEP 3333, Input and Error Streams."""

    @pytest.mark.parametrize(
        ("read", "expected"),
        [
            (lambda stream: stream.read(), b"one\ntwo\n\nfour"),
            (lambda stream: stream.read(-1), b"one\ntwo\n\nfour"),
            (lambda stream: stream.read(None), b"one\ntwo\n\nfour"),
            (lambda stream: stream.read(-2), b"one\ntwo\n\nfour"),
            (lambda stream: stream.read(0), b""),
            (lambda stream: stream.read(5), b"one\nt"),
            (lambda stream: stream.read(100), b"one\ntwo\n\nfour"),
            (lambda stream: stream.readline(), b"one\n"),
            (lambda stream: stream.readline(2), b"on"),
            (lambda stream: stream.readline(0), b""),
            (lambda stream: stream.readlines(), [b"one\n", b"two\n", b"\n", b"four"]),
            (lambda stream: stream.readlines(None), [b"one\n", b"two\n", b"\n", b"four"]),
            (lambda stream: stream.readlines(0), [b"one\n", b"two\n", b"\n", b"four"]),
            (lambda stream: stream.readlines(1), [b"one\n"]),
            (lambda stream: stream.readlines(4), [b"one\n"]),
            (lambda stream: stream.readlines(5), [b"one\n", b"two\n"]),
            (lambda stream: (stream.readlines(8), stream.readlines(2)), ([b"one\n", b"two\n"], [b"\n", b"four"])),
            (lambda stream: list(stream), [b"one\n", b"two\n", b"\n", b"four"]),
            (lambda stream: (stream.readline(), stream.read(3), stream.read()), (b"one\n", b"two", b"\n\nfour")),
            (lambda stream: (stream.read(), stream.read(), stream.read(1)), (b"one\ntwo\n\nfour", b"", b"")),
            (lambda stream: (stream.read(), stream.readline(), list(stream)), (b"one\ntwo\n\nfour", b"", [])),
        ],
    )
    def test_it_reads_as_a_file_does(self, read: Any, expected: Any, tmp_path: Path) -> None:
        """Whatever the chunks are; and so does a file, from where it stands."""
        assert expected == read(stream_input(pulled([b"one\ntwo\n\nfour"])))
        assert expected == read(stream_input(pulled([b"o", b"ne\ntw", b"o\n", b"\nfo", b"ur"])))
        spool = tmp_path / "spool"
        spool.write_bytes(b"head" + b"one\ntwo\n\nfour")
        raw = spool.open("rb", buffering=0)
        raw.seek(4)
        with file_input(raw) as stream:
            assert expected == read(stream)

    @few
    @given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"a", b"\n")), max_size=6), CALLS)
    @example([b"x" * 70000, b"y" * 70000], [("read", 65530), ("readline", None), ("read", None)])
    @example([b"x" * 70000, b"y" * 70000], [("read", 65530), ("read", None), ("read", None)])
    def test_it_reads_as_bytesio_does(self, chunks: list[bytes], calls: list[tuple[str, int | None]]) -> None:
        """Any calls, one after the other, give the same, to the byte; `read1` may give less, but never nothing."""
        file = io.BytesIO(b"".join(chunks))
        stream = stream_input(pulled(chunks))
        for name, size in calls:
            assert_same(file, stream, name, size)
        assert file.read() == stream.read()

    @few
    @given(st.lists(st.binary(min_size=1, max_size=12), max_size=4), CALLS)
    def test_a_truncated_body_never_looks_complete(
        self, chunks: list[bytes], calls: list[tuple[str, int | None]]
    ) -> None:
        """Nobody sees its end: what can be read is as if more followed, and what would need more raises, each time."""
        sent = b"".join(chunks)
        file = io.BytesIO(sent + b"more" * 20)
        stream = stream_input(pulled(chunks, ConnectionResetError("gone")))
        for name, size in calls:
            try:
                assert_same(file, stream, name, size)
            except ConnectionResetError:
                break
            assert file.tell() <= len(sent)
        for read in (stream.read, stream.readlines, lambda: list(stream), stream.read):
            with pytest.raises(ConnectionResetError):
                read()

    def test_nothing_is_asked_for_before_it_is_read(self) -> None:
        """PEP 3333: the server may read on demand; one chunk is asked for at a time."""
        asked: list[int] = []

        def chunks() -> Iterator[bytes]:
            for number in range(4):
                asked.append(number)
                yield b"%d\n" % number

        stream = stream_input(pulled_lazily(chunks()))
        assert [] == asked
        assert b"0\n" == stream.readline()
        assert [0] == asked
        assert b"1" == stream.read(1)
        assert [0, 1] == asked

    def test_it_is_readable_and_nothing_else(self) -> None:
        """A request body cannot be wound back, and nobody writes to it."""
        stream = stream_input(pulled([b"a"]))
        assert (True, False, False) == (stream.readable(), stream.seekable(), stream.writable())
        with pytest.raises(io.UnsupportedOperation):
            stream.seek(0)


def pulled_lazily(chunks: Iterator[bytes]) -> Callable[[], bytes]:
    return lambda: next(chunks, b"")
