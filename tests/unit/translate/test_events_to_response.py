"""Response events become what WSGI is given: each state and event, each rule, any sequence."""

import io
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate.events_to_response import (
    EARLY_HINT,
    END,
    ENDED,
    FLUSH,
    HELD,
    IDLE,
    LAST,
    LEFT,
    MORE,
    ORDER,
    PATHSEND,
    SENT,
    START,
    AsgiResponse,
    EarlyHint,
    File,
    Head,
    text_response,
)
from bridge.errors import ApplicationProtocolError

few = settings(max_examples=60, deadline=None)

EXTENSIONS: dict[str, Any] = {PATHSEND: {}, EARLY_HINT: {}}
OK = Head("200 OK", [])

HINT = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]}
HINTED = EarlyHint([("Link", "</a>; rel=preload"), ("Link", "</b>")])
FILE = {"type": "http.response.pathsend", "path": "/f"}
OPENED = File(io.BytesIO())


def start(length: int | None = None, status: int = 200) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": status, "headers": headers}


def more(body: Any = b"") -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def last(body: Any = b"") -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": False}


def a_response(*, head_only: bool = False, extensions: dict[str, Any] = EXTENSIONS) -> AsgiResponse:
    return AsgiResponse(head_only=head_only, extensions=extensions, open_file={"/f": OPENED.opened}.__getitem__)


def fed(*events: Any, head_only: bool = False) -> list[Any]:
    """The items for `events`; "flush" stands for one."""
    response = a_response(head_only=head_only)
    items: list[Any] = []
    for event in events:
        items += response.flush() if event == "flush" else response.feed(event)
    return items


# --- each state, each event ---------------------------------------------------------------------------------------

WAYS: dict[str, list[Any]] = {
    IDLE: [],
    HELD: [start()],
    LEFT: [start(), "flush"],
    SENT: [start(), more(b"a")],
    ENDED: [start(), last(b"a")],
}
EVENTS = {START: start(), MORE: more(b"b"), LAST: last(b"b"), PATHSEND: FILE, EARLY_HINT: HINT}


def in_state(state: str, **changes: Any) -> AsgiResponse:
    response = a_response(**changes)
    for event in WAYS[state]:
        if event == "flush":
            response.flush()
        else:
            response.feed(event)
    assert state == response.state
    return response


LEGAL = [(state, event, following) for state, events in ORDER.items() for event, following in events.items()]
CLAUSE = "ASGI HTTP & WebSocket, HTTP Connection Scope, and the extensions offered in the scope"
FIRST = "http.response.start or http.response.early_hint"
BODY_OR_FILE = "http.response.body or http.response.pathsend or http.response.early_hint"
BODY = "http.response.body or http.response.early_hint"
ILLEGAL = {
    (IDLE, MORE): FIRST,
    (IDLE, LAST): FIRST,
    (IDLE, PATHSEND): FIRST,
    (HELD, START): BODY_OR_FILE,
    (LEFT, START): BODY_OR_FILE,
    (SENT, START): BODY,
    (SENT, PATHSEND): BODY,
}


class TestOrder:
    @pytest.mark.parametrize(("state", "event", "following"), LEGAL)
    def test_a_legal_event_leads_where_the_table_says(self, state: str, event: str, following: str) -> None:
        """The table is what the code does, in each of its states; `complete` says that it is over."""
        response = in_state(state)
        if event == FLUSH:
            response.flush()
        else:
            response.feed(EVENTS[event])
        assert (following, following == ENDED) == (response.state, response.complete)

    @pytest.mark.parametrize(("state", "event"), ILLEGAL)
    def test_an_illegal_event_says_who_did_what_in_which_state(self, state: str, event: str) -> None:
        """And what was expected, and the clause; the state is as it was."""
        response = in_state(state)
        with pytest.raises(ApplicationProtocolError) as caught:
            response.feed(EVENTS[event])
        kind = EVENTS[event]["type"]
        message = f"the application sent {kind!r} {state}; expected {ILLEGAL[state, event]} ({CLAUSE})"
        assert (message, state) == (str(caught.value), response.state)

    def test_no_pair_is_forgotten(self) -> None:
        """Each pair of a state and an event is either legal or illegal; a flush is only where there is a head."""
        legal = {(state, event) for state, event, _ in LEGAL if event != FLUSH}
        assert {(state, event) for state in WAYS for event in EVENTS} == legal | set(ILLEGAL)
        assert [(HELD, LEFT)] == [(state, following) for state, event, following in LEGAL if event == FLUSH]

    @pytest.mark.parametrize("state", [IDLE, LEFT, SENT, ENDED])
    def test_a_flush_without_a_head_is_nothing(self, state: str) -> None:
        """The adapter may have come too late."""
        response = in_state(state)
        assert ([], state) == (list(response.flush()), response.state)

    @pytest.mark.parametrize(("event", "state"), [(PATHSEND, HELD), (PATHSEND, LEFT), (EARLY_HINT, IDLE)])
    def test_an_extension_that_was_not_offered_is_illegal(self, event: str, state: str) -> None:
        """ASGI Extensions: an application may use what the scope offers, and nothing else; nor is it recommended."""
        response = in_state(state, extensions={})
        with pytest.raises(ApplicationProtocolError) as caught:
            response.feed(EVENTS[event])
        expected = "http.response.start" if state == IDLE else "http.response.body"
        assert f"sent {event!r} {state}; expected {expected} ({CLAUSE})" in str(caught.value)
        assert state == response.state

    @pytest.mark.parametrize(
        ("event", "shown"),
        [
            ({"type": "http.response.trailers", "headers": []}, "'http.response.trailers'"),
            ({"type": "http.request"}, "'http.request'"),
            # The names of the table's inputs are no event types.
            ({"type": MORE}, repr(MORE)),
            ({"type": FLUSH}, repr(FLUSH)),
            ({"type": None}, "None"),
            ({"type": b"http.response.start"}, "b'http.response.start'"),
            ({"type": ["http.response.start"]}, "['http.response.start']"),
            ({}, "dict ({})"),
            ({"status": 200}, "dict ({'status': 200})"),
            (None, "NoneType (None)"),
            (b"chunk", "bytes (b'chunk')"),
            ([], "list ([])"),
        ],
    )
    def test_what_is_no_response_event_is_an_error(self, event: Any, shown: str) -> None:
        """Of the application, in its own task, whatever it is."""
        for state in (IDLE, HELD, LEFT, SENT):
            response = in_state(state)
            with pytest.raises(ApplicationProtocolError) as caught:
                response.feed(event)
            assert str(caught.value).startswith(f"the application sent {shown} {state}; expected ")
            assert state == response.state

    @pytest.mark.parametrize("event", [*EVENTS.values(), {"type": "http.response.trailers"}, {"type": "x"}, {}, None])
    def test_after_the_end_anything_is_ignored(self, event: Any) -> None:
        """ASGI HTTP, Response Body: "any further messages on the channel will be ignored"."""
        response = in_state(ENDED, extensions={})
        assert ([], ENDED) == (list(response.feed(event)), response.state)

    @pytest.mark.parametrize(("state", "wrong"), [(state, state != ENDED) for state in WAYS])
    def test_returning_early_is_an_error(self, state: str, wrong: bool) -> None:
        """ASGI HTTP, Response Body: a response has an end."""
        expected = (
            f"the application returned {state}; expected a complete response: http.response.start, and a body event"
            " without more_body (ASGI HTTP & WebSocket, Response Body)"
        )
        unfinished = in_state(state).unfinished()
        assert (expected if wrong else "None") == str(unfinished)


# --- the items ----------------------------------------------------------------------------------------------------


class TestBody:
    """ASGI HTTP, Response Start and Response Body."""

    @pytest.mark.parametrize(
        ("events", "items"),
        [
            # The head waits for the first body event, so that a small response goes over as one.
            ([start()], []),
            ([start(), last(b"a")], [OK, b"a", END]),
            ([start(), {"type": "http.response.body"}], [OK, b"", END]),
            ([start(), more(b"a")], [OK, b"a"]),
            ([start(), more()], [OK]),
            ([start(), more(), more(b"a"), more(), last()], [OK, b"a", b"", END]),
            ([start(), more(b"a"), more(b"b"), last(b"c")], [OK, b"a", b"b", b"c", END]),
            # Or until it is let go without one.
            ([start(), "flush"], [OK]),
            ([start(), "flush", "flush", last(b"a")], [OK, b"a", END]),
            ([start(), "flush", more(), last(b"a")], [OK, b"a", END]),
            # Hints go ahead of it, and not where it has left.
            ([HINT, start(), last()], [HINTED, OK, b"", END]),
            ([start(), HINT, HINT, last()], [HINTED, HINTED, OK, b"", END]),
            ([start(), "flush", HINT, last()], [OK, b"", END]),
            ([start(), more(b"a"), HINT, last()], [OK, b"a", b"", END]),
            # ASGI Extensions, Path Send: the file is the body.
            ([start(), FILE], [OK, OPENED, END]),
            ([start(), "flush", FILE], [OK, OPENED, END]),
            ([start(), HINT, FILE, last(b"x")], [HINTED, OK, OPENED, END]),
        ],
    )
    def test_items(self, events: list[Any], items: list[Any]) -> None:
        """The rule is in the comment above each group."""
        assert items == fed(*events)

    def test_the_head_is_a_status_line_and_native_headers(self) -> None:
        """PEP 3333: a reason phrase, and strings; hop-by-hop headers are the server's."""
        headers = [(b"x-a", b"\xe9"), (b"connection", b"close"), [b"x-a", b""]]
        event = {"type": "http.response.start", "status": 404, "headers": headers}
        assert [Head("404 Not Found", [("x-a", "\xe9"), ("x-a", "")])] == fed(event, "flush")

    def test_headers_are_optional(self) -> None:
        """ASGI HTTP, Response Start: they default to none."""
        assert [OK] == fed({"type": "http.response.start", "status": 200}, "flush")

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "http.response.start"},
            start(status=99),
            {"type": "http.response.start", "status": "200"},
            {"type": "http.response.start", "status": 200, "headers": 5},
            {"type": "http.response.start", "status": 200, "headers": [("a", "b")]},
            {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b\r\n")]},
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"x")]},
        ],
    )
    def test_a_start_that_is_invalid_has_no_effect(self, event: dict[str, Any]) -> None:
        """So that the application can answer with an error page of its own."""
        response = a_response()
        with pytest.raises(ApplicationProtocolError):
            response.feed(event)
        assert IDLE == response.state
        page = [*response.feed(start(status=500)), *response.feed(last(b"oops"))]
        assert [Head("500 Internal Server Error", []), b"oops", END] == page

    @pytest.mark.parametrize("body", [bytearray(b"ab"), memoryview(b"ab")])
    def test_other_byte_strings_become_bytes(self, body: Any) -> None:
        """PEP 3333: the iterable yields bytes."""
        items = fed(start(), last(body))
        assert ([OK, b"ab", END], bytes) == (items, type(items[1]))

    @pytest.mark.parametrize("state", [HELD, SENT])
    @pytest.mark.parametrize("body", ["text", None, 5, [b"a"]])
    def test_a_body_that_is_no_byte_string_has_no_effect(self, body: Any, state: str) -> None:
        """But to tell the application so."""
        response = in_state(state)
        with pytest.raises(ApplicationProtocolError) as caught:
            response.feed(last(body))
        did = f"sent a body of {type(body).__name__} ({body!r})"
        assert f"the application {did}; expected bytes (ASGI HTTP & WebSocket, Response Body)" == str(caught.value)
        assert (state, False) == (response.state, response.complete)


BODYLESS = [(204, False), (304, False), (103, False), (200, True)]


class TestLength:
    """RFC 9110 8.6: Content-Length is a promise."""

    @pytest.mark.parametrize(
        ("length", "bodies", "chunks", "overrun"),
        [
            (3, [b"abc"], b"abc", False),
            (3, [b"ab", b"c"], b"abc", False),
            (3, [b"abc", b""], b"abc", False),
            (0, [b""], b"", False),
            # Too much is cut.
            (3, [b"abcd"], b"abc", True),
            (3, [b"ab", b"cd"], b"abc", True),
            (3, [b"abc", b"d", b""], b"abc", True),
            (0, [b"a"], b"", True),
        ],
    )
    def test_no_more_than_it_says_is_handed_on(
        self, length: int, bodies: list[bytes], chunks: bytes, overrun: bool
    ) -> None:
        """And that there was more is noted."""
        response = a_response()
        items = list(response.feed(start(length)))
        for body in bodies[:-1]:
            items += response.feed(more(body))
        items += response.feed(last(bodies[-1]))
        assert (chunks, overrun) == (b"".join(item for item in items if isinstance(item, bytes)), response.overrun)
        assert items[-1] is END

    @pytest.mark.parametrize(
        ("events", "filled"),
        [
            ([], False),
            ([start()], False),
            ([start(), last(b"a")], False),
            ([start(0)], True),
            ([start(status=204)], True),
            ([start(3), more(b"ab")], False),
            ([start(3), more(b"ab"), more(b"c")], True),
            ([start(3), last(b"abcd")], True),
        ],
    )
    def test_that_only_the_end_can_follow_is_known(self, events: list[Any], filled: bool) -> None:
        """A server may stop reading there."""
        response = a_response()
        for event in events:
            response.feed(event)
        assert filled is response.filled

    @pytest.mark.parametrize(("bodies", "seen"), [([b""], 0), ([b"ab"], 2), ([b"a", b"b", b"c"], 3)])
    def test_too_little_is_never_complete(self, bodies: list[bytes], seen: int) -> None:
        """The event that would end it raises, and nothing of it counts: the rest may still come."""
        response = a_response()
        items = list(response.feed(start(5)))
        for body in bodies[:-1]:
            items += response.feed(more(body))
        with pytest.raises(ApplicationProtocolError) as caught:
            response.feed(last(bodies[-1]))
        did = f"ended its response after {seen} of 5 bytes"
        expected = "expected as many bytes as its Content-Length says (RFC 9110 8.6)"
        assert f"the application {did}; {expected}" == str(caught.value)
        assert not response.complete
        assert response.unfinished() is not None
        items += response.feed(last(b"abcde"[sum(map(len, bodies[:-1])) :]))
        assert 5 == sum(len(item) for item in items if isinstance(item, bytes))

    @pytest.mark.parametrize(("status", "head_only"), BODYLESS)
    @pytest.mark.parametrize("length", [None, 3])
    def test_a_response_that_has_no_body_ends_without(self, status: int, head_only: bool, length: int | None) -> None:
        """RFC 9110 6.4.1; whatever the application sends, and whatever its Content-Length promises. Only HEAD keeps it:
        Waitress counts the bytes, of a 204 and a 304 too, and closes the connection.
        """
        for events in ([last()], [last(b"abc")], [more(b"ab"), last(b"cdef")], [FILE]):
            response = a_response(head_only=head_only)
            items = [item for event in [start(length, status), *events] for item in response.feed(event)]
            head, *rest = items
            assert isinstance(head, Head)
            assert ([("content-length", "3")] if length and head_only else []) == head.headers
            assert [END] == [item for item in rest if item != b""]
            assert (True, False, True) == (response.bodyless, response.overrun, response.complete)


class TestExtensions:
    @pytest.mark.parametrize(
        "links", [None, 5, b"</a>", "</a>", ["</a>"], [5], [b"</a>\r\nset-cookie: x"], [b"</a>\0"], [b"</a>", None]]
    )
    def test_a_link_that_is_no_header_value_does_not_get_out(self, links: Any) -> None:
        """ASGI Extensions, Early Hints: the links become headers; checked also where the hint would be ignored."""
        for state in (IDLE, HELD, LEFT, SENT):
            response = in_state(state)
            with pytest.raises(ApplicationProtocolError):
                response.feed({"type": "http.response.early_hint", "links": links})
            assert state == response.state

    @pytest.mark.parametrize("links", [[], (), iter([])])
    def test_a_hint_may_be_empty(self, links: Any) -> None:
        """Then it hints at nothing."""
        assert [EarlyHint([])] == fed({"type": "http.response.early_hint", "links": links})

    @pytest.mark.parametrize("path", [..., None, b"/f", 5])
    def test_a_path_is_text(self, path: Any) -> None:
        """ASGI Extensions, Path Send; the event has no effect, so that the file can still be sent."""
        event = {"type": "http.response.pathsend"} | ({} if path is ... else {"path": path})
        response = in_state(HELD)
        with pytest.raises(ApplicationProtocolError) as caught:
            response.feed(event)
        kind = type(None if path is ... else path).__name__
        did = f"sent http.response.pathsend with a path of type {kind}"
        assert f"the application {did}; expected str (ASGI Extensions, Path Send)" == str(caught.value)
        assert [OK, OPENED, END] == list(response.feed(FILE))

    def test_a_file_that_cannot_be_opened_has_no_effect(self) -> None:
        """The application hears of it in its send(), and can still answer something else."""
        response = in_state(HELD)
        with pytest.raises(LookupError):
            response.feed({"type": "http.response.pathsend", "path": "/other"})
        assert [OK, b"", END] == list(response.feed(last()))

    def test_where_there_is_no_body_no_file_is_opened(self) -> None:
        """RFC 9110 9.3.2."""
        response = a_response(head_only=True)
        response.feed(start())
        assert [OK, b"", END] == list(response.feed({"type": "http.response.pathsend", "path": "/other"}))

    @pytest.mark.parametrize(
        ("length", "head_only", "untold"), [(None, True, True), (5, True, False), (None, False, False)]
    )
    def test_a_length_that_nobody_may_work_out(self, length: int | None, head_only: bool, untold: bool) -> None:
        """RFC 9110 8.6: the Content-Length of an answer to HEAD is that of GET, or is not there."""
        response = a_response(head_only=head_only)
        response.feed(start(length))
        assert untold is response.untold


# --- any sequence -------------------------------------------------------------------------------------------------

bodies = st.binary(max_size=4) | st.sampled_from(["text", None])
events = st.lists(
    st.builds(start, st.none() | st.integers(0, 6), st.sampled_from([200, 204, 99]))
    | st.builds(more, bodies)
    | st.builds(more, bodies)
    | st.builds(last, bodies)
    | st.sampled_from(["flush", FILE, HINT, {"type": "http.response.early_hint", "links": [5]}, {}, {"type": "x"}]),
    max_size=8,
)


def spelled(items: list[Any]) -> str:
    """A letter for each item: hints (L), head, chunks, file, end."""
    kinds = {EarlyHint: "L", Head: "H", bytes: "C", File: "F", type(END): "E"}
    return "".join(kinds[type(item)] for item in items)


class TestAnySequence:
    @few
    @given(events, st.booleans(), st.booleans())
    def test_the_items_form_a_legal_response(self, events: list[Any], head_only: bool, offered: bool) -> None:
        """Whatever is sent in whatever order, and whatever the application makes of an error."""
        response = a_response(head_only=head_only, extensions=EXTENSIONS if offered else {})
        items: list[Any] = []
        for event in events:
            try:
                items += response.flush() if event == "flush" else response.feed(event)
            except ApplicationProtocolError:
                continue
            assert response.complete is (items[-1:] == [END])
        assert re.fullmatch("L*(H(C*E?|FE))?", spelled(items))
        heads = [item for item in items if isinstance(item, Head)]
        if heads:
            size = sum(len(item) for item in items if isinstance(item, bytes))
            bodyless = head_only or heads[0].status.startswith("204")
            length = 0 if bodyless else dict(heads[0].headers).get("content-length")
            assert length is None or size <= int(length)
            # Too little never looks complete.
            assert length is None or not response.complete or size == int(length) or OPENED in items
        assert (response.unfinished() is None) is response.complete

    @few
    @given(st.lists(st.binary(max_size=4), max_size=6), st.none() | st.integers(0, 16), st.integers(-1, 6))
    def test_whatever_the_chunks_the_body_is_the_same(
        self, chunks: list[bytes], length: int | None, flush_after: int
    ) -> None:
        """The concatenation up to Content-Length, or an error where it is too short; nothing is held back."""
        response = a_response()
        sent = b"".join(chunks)
        items = list(response.feed(start(length)))
        if flush_after < 0:
            items += response.flush()
        for number, chunk in enumerate(chunks):
            items += response.feed(more(chunk))
            got = b"".join(item for item in items if isinstance(item, bytes))
            assert b"".join(chunks[: number + 1])[:length] == got
            if number == flush_after:
                items += response.flush()
        try:
            items += response.feed(last())
        except ApplicationProtocolError:
            assert length is not None
            assert len(sent) < length
        else:
            assert sent[:length] == b"".join(item for item in items if isinstance(item, bytes))
            assert (length is not None and len(sent) > length) is response.overrun
            assert response.complete


def test_a_text_response() -> None:
    """A sentence in UTF-8 that ends with a line break, and its length."""
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "4")]
    assert (Head("400 Bad Request", headers), "né\n".encode()) == text_response(400, "né")
