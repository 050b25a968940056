"""`wsgi.input` becomes `http.request` events: how much is read, and what each read becomes."""

import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate.input_to_events import DISCONNECT, EMPTY, BodyEvents, body_length
from bridge.errors import ClientProtocolError

few = settings(max_examples=40, deadline=None)


def part(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": True}


def last(body: bytes) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": False}


class TestBodyLength:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            # RFC 3875 4.1.2: no CONTENT_LENGTH, no body.
            ({}, 0),
            ({"CONTENT_LENGTH": ""}, 0),
            ({"CONTENT_LENGTH": "0"}, 0),
            ({"CONTENT_LENGTH": "3"}, 3),
            ({"CONTENT_LENGTH": "003"}, 3),
            ({"CONTENT_LENGTH": "9" * 19}, int("9" * 19)),
            # Without the promise that the input ends, nothing but the length says where it does.
            ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3"}, 3),
            ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3", "wsgi.input_terminated": False}, 3),
            ({"SERVER_PROTOCOL": "HTTP/2"}, 0),
            # With it: RFC 9112 6.3, Transfer-Encoding overrides Content-Length ...
            ({"wsgi.input_terminated": True, "CONTENT_LENGTH": "3"}, 3),
            ({"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}, None),
            ({"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3"}, None),
            ({"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "0"}, None),
            # ... and RFC 9113 8.1, no header has to tell of a body.
            ({"wsgi.input_terminated": True, "SERVER_PROTOCOL": "HTTP/2"}, None),
            ({"wsgi.input_terminated": True, "SERVER_PROTOCOL": "HTTP/3.0"}, None),
            ({"wsgi.input_terminated": True, "SERVER_PROTOCOL": "HTTP/2", "CONTENT_LENGTH": "3"}, 3),
            # Some servers decode a chunked body and take every sign of it away: it is looked for where one may be.
            ({"wsgi.input_terminated": True}, None),
            ({"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}, None),
            ({"wsgi.input_terminated": True, "SERVER_PROTOCOL": "HTTP/1.0"}, None),
            ({"wsgi.input_terminated": True, "SERVER_PROTOCOL": ...}, None),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "DELETE"}, None),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "CONTENT_TYPE": "a/b"}, None),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/2"}, None),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET"}, 0),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "get"}, 0),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "HEAD", "CONTENT_TYPE": ""}, 0),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/0.9"}, 0),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": ""}, 0),
            ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": ...}, 0),
        ],
    )
    def test_how_much_is_read(self, changes: dict[str, Any], expected: int | None) -> None:
        """The rule is in the comment above each group; None is all that there is."""
        environ = {"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1"} | changes
        environ = {key: value for key, value in environ.items() if value is not ...}
        assert expected == body_length(environ)

    def test_a_body_whose_end_nobody_knows_is_refused(self) -> None:
        """RFC 9110 15.5.12: taken for an empty one, it would be lost without a word."""
        with pytest.raises(ClientProtocolError, match="with a Transfer-Encoding that this server") as caught:
            body_length({"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""})
        assert 411 == caught.value.status


class TestBody:
    """ASGI HTTP, Request and Disconnect."""

    @pytest.mark.parametrize(
        ("left", "reads", "events"),
        [
            (3, [b"abc"], [last(b"abc")]),
            (3, [b"a", b"b", b"c"], [part(b"a"), part(b"b"), last(b"c")]),
            # Too little: a disconnect and never the end.
            (3, [b""], [DISCONNECT]),
            (3, [b"ab", b""], [part(b"ab"), DISCONNECT]),
            (3, [b"ab", b"", b""], [part(b"ab"), DISCONNECT, DISCONNECT]),
            # Too much: an input that gives more than it was asked for.
            (3, [b"abcd"], [last(b"abc")]),
            (3, [b"ab", b"cd"], [part(b"ab"), last(b"c")]),
            # All there is: the end is seen by reading on.
            (None, [b""], [last(b"")]),
            (None, [b"ab", b"c", b""], [part(b"ab"), part(b"c"), last(b"")]),
            (None, [b"ab", b"", b""], [part(b"ab"), last(b""), last(b"")]),
            # Nothing to read.
            (0, [b""], [EMPTY]),
        ],
    )
    def test_each_read_becomes_an_event(self, left: int | None, reads: list[bytes], events: list[Any]) -> None:
        """The rule is in the comment above each group."""
        body = BodyEvents(left)
        assert events == [body.event(data) for data in reads]

    def test_what_an_app_changes_in_an_event_does_not_reach_the_next(self) -> None:
        """An event belongs to the application; the one that stands for a disconnect is known by its identity."""
        BodyEvents(0).event(b"")["body"] = b"changed"
        assert {"type": "http.request", "body": b"", "more_body": False} == EMPTY
        assert DISCONNECT is BodyEvents(1).event(b"")

    def test_after_a_surplus_there_is_nothing_left(self) -> None:
        """And no read of a negative size, which would be a read of everything."""
        body = BodyEvents(3)
        body.event(b"abcd")
        assert (0, 0) == (body.left, body.size(5))

    @pytest.mark.parametrize(("left", "step", "size"), [(3, 2, 2), (3, 3, 3), (3, 5, 3), (0, 5, 0), (None, 5, 5)])
    def test_no_read_asks_for_more_than_is_left(self, left: int | None, step: int, size: int) -> None:
        """PEP 3333, Input and Error Streams: the application should not read past Content-Length."""
        assert size == BodyEvents(left).size(step)

    @few
    @given(
        st.binary(max_size=40),
        st.none() | st.integers(0, 40),
        st.lists(st.integers(1, 12), min_size=1, max_size=8),
        st.integers(0, 4),
    )
    def test_whatever_the_reads_the_body_is_the_same(
        self, sent: bytes, length: int | None, gives: list[int], surplus: int
    ) -> None:
        """The concatenation up to Content-Length; whole if, and only if, all of it came."""
        source = io.BytesIO(sent)
        body = BodyEvents(length)
        data = b""
        more = length != 0
        event = EMPTY
        for number in range(100):
            if not more:
                break
            # A read that gives less than was asked for, or more.
            size = min(body.size(10), gives[number % len(gives)]) + surplus
            event = body.event(source.read(size))
            more = event is not DISCONNECT and event["more_body"]
            data += event.get("body", b"")
        assert not more
        assert sent[:length] == data
        assert (event is DISCONNECT) is (length is not None and len(sent) < length)
