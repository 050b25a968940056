"""What a WSGI application calls and yields becomes response events: each state and call, each rule, any sequence."""

import gc
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge._translate.response_to_events import (
    CHUNK,
    CLOSE,
    END,
    ENDED,
    FLUSH,
    FULL,
    HELD,
    IDLE,
    INVALID,
    LAST,
    ORDER,
    REFUSED,
    SENT,
    START,
    START_EXC,
    WsgiResponse,
    body_event,
    text_events,
)
from bridge.errors import ApplicationProtocolError

few = settings(max_examples=60, deadline=None)

START_CLAUSE = "PEP 3333, The start_response() Callable"
DETAILS = "PEP 3333, Specification Details"
WRITE = "PEP 3333, The write() Callable"


class Planned(Exception):
    """What the applications here fail with."""


def write(data: bytes) -> object:
    raise AssertionError("the adapter's; a Response does not call it")


class WriteOwner:
    def write(self, data: bytes) -> object:
        return write(data)


def a_response(*, head_only: bool = False) -> WsgiResponse:
    return WsgiResponse(head_only=head_only, write=write)


def head(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def exc_info() -> Any:
    """What `sys.exc_info()` returns where `Planned` is handled."""
    try:
        raise Planned("the app failed")
    except Planned:
        return sys.exc_info()


def sized(length: int) -> list[tuple[str, str]]:
    return [("Content-Length", str(length))]


def length_of(length: int) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % length)


# --- each state, each call ----------------------------------------------------------------------------------------


def start(response: WsgiResponse, length: int | None = 4) -> None:
    response.start_response("200 OK", [] if length is None else sized(length))


def invalid(response: WsgiResponse) -> None:
    with pytest.raises(ApplicationProtocolError):
        response.start_response("200 OK", [("bad name", "")], exc_info())


WAYS: dict[str, list[Callable[[WsgiResponse], object]]] = {
    IDLE: [],
    REFUSED: [start, invalid],
    HELD: [start],
    SENT: [start, lambda response: response.chunk(b"a")],
    FULL: [start, lambda response: response.chunk(b"abcd")],
    ENDED: [start, lambda response: response.whole([b"abcd"])],
}


def in_state(state: str) -> WsgiResponse:
    """A response in `state`, of Content-Length 4 where it has begun."""
    response = a_response()
    for step in WAYS[state]:
        step(response)
    assert state == response.state
    return response


def make(call: str, response: WsgiResponse) -> None:
    """Do what `call` stands for, as the application or, for it, the adapter does."""
    if call == START:
        response.start_response("404 Not Found", sized(4))
    elif call == START_EXC:
        with pytest.raises(Planned) if response.state in (SENT, FULL, ENDED) else nullcontext():
            response.start_response("500 Oops", sized(4), exc_info())
    elif call == INVALID:
        invalid(response)
    elif call == CHUNK:
        response.chunk(b"b")
    elif call == LAST:
        response.chunk(b"bcde")
    elif call == FLUSH:
        response.flush()
    else:
        response._left = 0  # so that the body is not too short, which is another rule
        response.end()


LEGAL = [(state, call, following) for state, calls in ORDER.items() for call, following in calls.items()]

ONE_START = ("called start_response", "one call, and an exception in exc_info in every further one", START_CLAUSE)
ONE_FIRST = ("yielded or wrote a chunk", "start_response before the first bytestring", DETAILS)
ONE_AT_ALL = ("ended its iterable", "start_response before the iterable ends", DETAILS)
NOTHING_MORE = ("yielded or wrote a chunk", "nothing more", WRITE)
ILLEGAL = {
    (IDLE, CHUNK): ONE_FIRST,
    (IDLE, CLOSE): ONE_AT_ALL,
    (REFUSED, START): ONE_START,
    (REFUSED, CHUNK): ONE_FIRST,
    (REFUSED, LAST): ONE_FIRST,
    (REFUSED, CLOSE): ONE_AT_ALL,
    (HELD, START): ONE_START,
    (SENT, START): ONE_START,
    (FULL, START): ONE_START,
    (ENDED, START): ONE_START,
    (ENDED, CHUNK): NOTHING_MORE,
    (ENDED, LAST): NOTHING_MORE,
    (ENDED, CLOSE): ("ended its iterable", "nothing more", WRITE),
}
IMPOSSIBLE = {
    (IDLE, LAST),  # there is no Content-Length yet
    (FULL, CHUNK),  # every chunk goes beyond it
    # Once the headers have left, exc_info is raised before the new ones are looked at.
    (SENT, INVALID),
    (FULL, INVALID),
    (ENDED, INVALID),
    # It is the adapter's: where no head is held back it does nothing.
    *((state, FLUSH) for state in WAYS if state != HELD),
}


class TestOrder:
    @pytest.mark.parametrize(("state", "call", "following"), LEGAL)
    def test_a_legal_call_leads_where_the_table_says(self, state: str, call: str, following: str) -> None:
        """The table is what the code does, in each of its states."""
        response = in_state(state)
        make(call, response)
        assert following == response.state

    @pytest.mark.parametrize(("state", "call"), ILLEGAL)
    def test_an_illegal_call_says_who_did_what_in_which_state(self, state: str, call: str) -> None:
        """And what was expected, and the clause; the state is as it was."""
        did, expected, clause = ILLEGAL[state, call]
        response = in_state(state)
        with pytest.raises(ApplicationProtocolError) as caught:
            make(call, response)
        assert f"the application {did} {state}; expected {expected} ({clause})" == str(caught.value)
        assert state == response.state

    def test_no_pair_is_forgotten(self) -> None:
        """Each pair of a state and a call is in one of the three tables."""
        calls = {START, START_EXC, INVALID, CHUNK, LAST, CLOSE, FLUSH}
        legal = {(state, call) for state, call, _ in LEGAL}
        assert {(state, call) for state in WAYS for call in calls} == legal | set(ILLEGAL) | IMPOSSIBLE
        assert len(WAYS) * len(calls) == len(legal) + len(ILLEGAL) + len(IMPOSSIBLE)

    @pytest.mark.parametrize("exc_info", [(None, None, None), True, (ValueError(),), (1, "no", 2)])
    @pytest.mark.parametrize("state", [SENT, FULL, ENDED])
    def test_an_exc_info_without_an_exception_is_no_leave(self, state: str, exc_info: Any) -> None:
        """`sys.exc_info()` outside of a handler: once the headers have left there is nothing that could be raised."""
        response = in_state(state)
        with pytest.raises(ApplicationProtocolError) as caught:
            response.start_response("500 Oops", [], exc_info)
        did = "called start_response with an exc_info that holds no exception"
        expected = "one call, and an exception in exc_info in every further one"
        assert f"the application {did} {state}; expected {expected} ({START_CLAUSE})" == str(caught.value)
        assert state == response.state

    @pytest.mark.parametrize("state", list(WAYS))
    def test_flush_lets_go_only_a_head_that_is_held_back(self, state: str) -> None:
        """Once; and the body that follows comes without one."""
        response = in_state(state)
        types = [item["type"] for item in response.flush() if isinstance(item, dict)]
        assert types == (["http.response.start"] if state == HELD else [])
        assert response.state == (SENT if state == HELD else state)
        if state == HELD:
            assert [b"abcd", None] == list(response.chunk(b"abcd"))

    @pytest.mark.parametrize("state", list(WAYS))
    def test_an_empty_chunk_is_nothing(self, state: str) -> None:
        """PEP 3333, Middleware Handling of Block Boundaries: it keeps the place of one that is to come."""
        response = in_state(state)
        assert [] == list(response.chunk(b""))
        assert state == response.state


# --- start_response -----------------------------------------------------------------------------------------------


class TestStartResponse:
    """PEP 3333, The start_response() Callable."""

    def test_it_returns_write(self) -> None:
        """Also where it replaces the headers."""
        response = a_response()
        assert write is response.start_response("200 OK", [])
        assert write is response.start_response("500 Oops", [], exc_info())

    def test_write_can_be_let_go(self) -> None:
        """Once the request is over; an application that has kept `start_response` gets one that says so."""
        owner = WriteOwner()
        response = WsgiResponse(head_only=False, write=owner.write)
        released = weakref.ref(owner)
        response.start_response("200 OK", [])
        response.forget_write()
        del owner
        assert released() is None
        late = response.start_response("500 Oops", [], exc_info())
        with pytest.raises(ApplicationProtocolError) as caught:
            late(b"a")
        assert f"the application called write() {ENDED}; expected nothing more ({WRITE})" == str(caught.value)

    def test_the_last_call_before_the_headers_leave_counts(self) -> None:
        """All of it: status, headers and Content-Length."""
        response = a_response()
        response.start_response("200 OK", [("X-A", "1"), *sized(9)])
        response.start_response("500 Oops", [("X-B", "2"), *sized(2)], exc_info())
        assert [head(500, (b"x-b", b"2"), length_of(2)), b"no", END] == list(response.chunk(b"no"))

    def test_after_the_headers_left_exc_info_is_raised(self) -> None:
        """The very exception, with the traceback that exc_info holds."""
        response = in_state(SENT)
        info = exc_info()
        with pytest.raises(Planned) as caught:
            response.start_response("500 Oops", [], info)
        tracebacks = []
        traceback = caught.value.__traceback__
        while traceback is not None:
            tracebacks.append(traceback)
            traceback = traceback.tb_next
        assert caught.value is info[1]
        assert info[2] in tracebacks

    def test_exc_info_may_be_without_a_traceback(self) -> None:
        """It is optional in an exception."""
        with pytest.raises(Planned):
            in_state(SENT).start_response("500 Oops", [], (Planned, Planned(), None))

    def test_no_reference_to_exc_info_is_kept(self) -> None:
        """The PEP asks for it: the traceback refers to the frame that holds it."""

        def call() -> "weakref.ref[BaseException]":
            response = in_state(SENT)
            info = exc_info()
            failure = weakref.ref(info[1])
            with suppress(Planned):
                response.start_response("500 Oops", [], info)
            del info
            return failure

        gc.disable()
        try:
            assert call()() is None
        finally:
            gc.enable()

    @pytest.mark.parametrize("info", [None, (), False])
    def test_no_exc_info_is_none_however_it_is_spelled(self, info: Any) -> None:
        """What is not there cannot excuse a second call."""
        response = in_state(HELD)
        with pytest.raises(ApplicationProtocolError):
            response.start_response("500 Oops", [], info)

    @pytest.mark.parametrize(("status", "headers"), [("bad", []), ("200 OK", [("a", "b\n")]), ("200 OK", None)])
    def test_what_is_invalid_is_never_sent(self, status: str, headers: Any) -> None:
        """Not even where the application goes on as if nothing had happened."""
        response = a_response()
        with pytest.raises(ApplicationProtocolError):
            response.start_response(status, headers)
        going_on: list[Callable[[], object]] = [
            lambda: response.chunk(b"a"),
            lambda: response.whole([b"a"]),
            response.end,
        ]
        for go_on in going_on:
            with pytest.raises(ApplicationProtocolError):
                go_on()

    def test_the_arguments_may_be_named(self) -> None:
        """Gunicorn and Waitress take that, and apps are written for them."""
        response = a_response()
        response.start_response(status="200 OK", headers=[], exc_info=None)
        assert response.state is HELD

    def test_what_is_dropped_is_told(self) -> None:
        """By the last call: an error page has headers of its own."""
        response = a_response()
        response.start_response("200 OK", [("Connection", "close"), ("A", "b")])
        assert list(response.dropped) == ["Connection"]
        try:
            raise LookupError
        except LookupError:
            response.start_response("500 Oops", [], sys.exc_info())
        assert list(response.dropped) == []

    def test_a_head_that_could_not_be_replaced_is_not_sent_either(self) -> None:
        """The application no longer wants it."""
        response = in_state(REFUSED)
        with pytest.raises(ApplicationProtocolError):
            response.end()


# --- the body -----------------------------------------------------------------------------------------------------

BODYLESS = [("204 No Content", False), ("304 Not Modified", False), ("103 Early Hints", False), ("200 OK", True)]


class TestChunks:
    """PEP 3333, The start_response() Callable: the headers leave with the first non-empty chunk, or with the end."""

    @pytest.mark.parametrize(
        ("length", "chunks", "items", "overrun"),
        [
            (None, [], [head(), END], False),
            (None, [b""], [head(), END], False),
            (None, [b"", b"ab", b"", b"c"], [head(), b"ab", b"c", END], False),
            # PEP 3333, Handling the Content-Length Header: the response ends with the last byte that it allows.
            (0, [], [head(200, length_of(0)), END], False),
            (0, [b""], [head(200, length_of(0)), END], False),
            (3, [b"abc"], [head(200, length_of(3)), b"abc", END], False),
            (3, [b"ab", b"", b"c", b""], [head(200, length_of(3)), b"ab", b"c", END], False),
            (3, [b"abcd"], [head(200, length_of(3)), b"abc", END], True),
            (3, [b"ab", b"cd"], [head(200, length_of(3)), b"ab", b"c", END], True),
            (3, [b"abc", b"d"], [head(200, length_of(3)), b"abc", END], True),
            (0, [b"a"], [head(200, length_of(0)), END], True),
        ],
    )
    def test_chunks(self, length: int | None, chunks: list[bytes], items: list[Any], overrun: bool) -> None:
        """Each leaves as it comes, and the end is not waited for where it is known."""
        response = a_response()
        start(response, length)
        got = [item for chunk in chunks for item in response.chunk(chunk)] + [*response.end()]
        assert (items, overrun) == (got, response.overrun)

    @pytest.mark.parametrize(("status", "head_only"), BODYLESS)
    @pytest.mark.parametrize("headers", [[], sized(3)])
    def test_a_response_that_has_no_body_ends_with_the_headers(
        self, status: str, head_only: bool, headers: list[tuple[str, str]]
    ) -> None:
        """RFC 9110 6.4.1 and 8.6; whatever the application yields, and whatever its Content-Length promises. Only HEAD
        keeps it: Uvicorn waits for as many bytes as it says, of a 204 and a 304 too, and then closes the connection.
        """
        expected = [head(int(status[:3]), *([length_of(3)] if headers and head_only else [])), END]
        for chunks in ([], [b""], [b"abc"], [b"ab", b"cdef"]):
            one, other = a_response(head_only=head_only), a_response(head_only=head_only)
            one.start_response(status, headers)
            other.start_response(status, headers)
            assert expected == [item for chunk in chunks for item in one.chunk(chunk)] + [*one.end()]
            assert (expected[0], b"") == other.whole(chunks)
            assert (False, False) == (one.overrun, other.overrun)

    def test_there_is_no_use_in_asking_for_more_once_it_is_full(self) -> None:
        """PEP 3333, Handling the Content-Length Header: the server may cease iterating."""
        response = a_response()
        start(response, 3)
        seen = [response.full]
        for chunk in (b"ab", b"c"):
            response.chunk(chunk)
            seen.append(response.full)
        assert [False, False, True] == seen

    def test_the_end_makes_it_full(self) -> None:
        """Nothing may follow."""
        response = a_response()
        start(response, None)
        response.end()
        assert response.full

    @pytest.mark.parametrize("chunk", ["text", bytearray(b"a"), memoryview(b"a"), 7, None])
    @pytest.mark.parametrize("way", ["chunk", "whole"])
    def test_a_chunk_is_bytes(self, chunk: Any, way: str) -> None:
        """PEP 3333, A Note On String Types; found before anything of a whole body leaves."""
        response = in_state(HELD)
        with pytest.raises(ApplicationProtocolError) as caught:
            response.chunk(chunk) if way == "chunk" else response.whole([b"ok", chunk])
        assert str(caught.value).startswith(f"the application yielded {type(chunk).__name__} (")
        assert str(caught.value).endswith("; expected bytes (PEP 3333, A Note On String Types)")
        assert HELD == response.state


SHORT = (
    "the application ended its response after {} of 4 bytes; expected as many bytes as its Content-Length says"
    " (PEP 3333, Handling the Content-Length Header)"
)


class TestShortBody:
    """PEP 3333, Handling the Content-Length Header: too little never looks complete."""

    @pytest.mark.parametrize("chunks", [[], [b""], [b"abc"]])
    def test_nothing_of_a_whole_body_leaves(self, chunks: list[bytes]) -> None:
        """So that the client gets a proper error."""
        response = in_state(HELD)
        with pytest.raises(ApplicationProtocolError) as caught:
            response.whole(chunks)
        assert SHORT.format(sum(map(len, chunks))) == str(caught.value)

    @pytest.mark.parametrize(("chunks", "seen"), [([], 0), ([b"a"], 1), ([b"a", b"bc"], 3)])
    def test_a_stream_has_no_end(self, chunks: list[bytes], seen: int) -> None:
        """The server gets an error in its place, and closes the connection."""
        response = in_state(HELD)
        items = [item for chunk in chunks for item in response.chunk(chunk)]
        with pytest.raises(ApplicationProtocolError) as caught:
            response.end()
        assert SHORT.format(seen) == str(caught.value)
        assert END not in items


class TestWhole:
    @pytest.mark.parametrize(
        ("length", "chunks", "expected", "overrun"),
        [
            # PEP 3333, Handling the Content-Length Header: the server may supply what it knows.
            (None, [], (head(200, length_of(0)), b""), False),
            (None, [b""], (head(200, length_of(0)), b""), False),
            (None, [b"abc"], (head(200, length_of(3)), b"abc"), False),
            (None, [b"a", b"", b"bc"], (head(200, length_of(3)), b"abc"), False),
            (3, [b"ab", b"c"], (head(200, length_of(3)), b"abc"), False),
            (0, [], (head(200, length_of(0)), b""), False),
            (3, [b"ab", b"cd"], (head(200, length_of(3)), b"abc"), True),
            (0, [b"a"], (head(200, length_of(0)), b""), True),
        ],
    )
    def test_a_body_that_is_known_goes_at_once(
        self, length: int | None, chunks: list[bytes], expected: tuple[Any, bytes], overrun: bool
    ) -> None:
        """One head and one body."""
        response = a_response()
        start(response, length)
        assert (expected, overrun) == (response.whole(chunks), response.overrun)
        assert ENDED == response.state

    @pytest.mark.parametrize(("length", "written"), [(None, b"a"), (2, b"ab")])
    def test_a_part_is_not_taken_for_the_whole(self, length: int | None, written: bytes) -> None:
        """PEP 3333, The write() Callable: what it was given goes first, and with it the headers."""
        response = a_response()
        start(response, length)
        response.chunk(written)
        with pytest.raises(ValueError, match="the headers have been sent"):
            response.whole([b"b"])


class TestFile:
    """ASGI Extensions, Path Send."""

    @pytest.mark.parametrize(("length", "headers"), [(None, [length_of(5)]), (5, [length_of(5)])])
    def test_the_server_sends_it(self, length: int | None, headers: list[tuple[bytes, bytes]]) -> None:
        """The head with the length, one event, the end."""
        response = a_response()
        start(response, length)
        sent = {"type": "http.response.pathsend", "path": "/f"}
        assert [head(200, *headers), sent, END] == list(response.file("/f", 5) or ())
        assert ENDED == response.state

    @pytest.mark.parametrize("state", [IDLE, REFUSED, SENT, FULL, ENDED])
    def test_not_in_another_state(self, state: str) -> None:
        """Before the headers are known, or where something was sent, it would be wrong."""
        response = in_state(state)
        assert response.file("/f", 4) is None
        assert state == response.state

    @pytest.mark.parametrize("length", [4, 6, 0])
    def test_not_where_the_length_is_another(self, length: int) -> None:
        """The application announced a part of it, or something else."""
        response = a_response()
        start(response, length)
        assert response.file("/f", 5) is None
        assert HELD == response.state

    @pytest.mark.parametrize(("status", "head_only"), BODYLESS)
    def test_not_where_there_is_no_body(self, status: str, head_only: bool) -> None:
        """RFC 9110 6.4.1."""
        response = a_response(head_only=head_only)
        response.start_response(status, [])
        assert response.file("/f", 5) is None


# --- any sequence -------------------------------------------------------------------------------------------------

starts = st.tuples(
    st.just("start"),
    st.sampled_from(["200 OK", "204 No Content", "bad"]),
    st.none() | st.integers(0, 6),
    st.sampled_from([None, "exc_info", "nothing"]),
)
chunks = st.tuples(st.just("chunk"), st.binary(max_size=4))
wholes = st.tuples(st.just("whole"), st.lists(st.binary(max_size=4), max_size=3))
steps = st.lists(starts | chunks | chunks | wholes | st.just(("end",)) | st.just(("file",)), max_size=8)


def take(response: WsgiResponse, step: Any) -> Any:
    """What the adapter sends for one step, whatever the application makes of an error."""
    name, *rest = step
    try:
        if name == "start":
            status, length, info = rest
            given = {None: None, "exc_info": exc_info(), "nothing": (None, None, None)}[info]
            response.start_response(status, [] if length is None else sized(length), given)
            return ()
        if name == "chunk":
            return response.chunk(rest[0])
        if name == "whole" and response.state in (SENT, FULL):
            return ()  # the adapter does not ask for it then
        if name == "whole":
            first, body = response.whole(rest[0])
            return (first, body, END) if body else (first, END)
        return (response.file("/f", 5) or ()) if name == "file" else response.end()
    except (ApplicationProtocolError, Planned):
        return ()


class TestAnySequence:
    @few
    @given(steps, st.booleans())
    def test_the_items_form_a_legal_response(self, steps: list[Any], head_only: bool) -> None:
        """One head first, then chunks, then one end and nothing behind it, whatever is called in whatever order."""
        response = a_response(head_only=head_only)
        items = [item for step in steps for item in take(response, step)]
        if not items:
            return
        first, *rest = items
        assert first is not None
        assert first["type"] == "http.response.start"
        assert END not in rest[:-1]
        body = [item for item in rest if item is not END]
        assert all(body)
        if body and isinstance(body[0], dict):
            assert (1, END) == (len(body), rest[-1])
            return
        size = sum(map(len, body))
        bodyless = head_only or first["status"] == 204
        length = 0 if bodyless else dict(first["headers"]).get(b"content-length")
        assert length is None or size <= int(length)
        # Too little never looks complete.
        assert length is None or rest[-1:] != [END] or size == int(length)

    @few
    @given(st.lists(st.binary(max_size=4), max_size=6), st.none() | st.integers(0, 16), st.booleans())
    def test_whatever_the_chunks_the_body_is_the_same(
        self, chunks: list[bytes], length: int | None, whole: bool
    ) -> None:
        """The concatenation up to Content-Length, or an error where it is too short; nothing is held back."""
        response = a_response()
        start(response, length)
        sent = b"".join(chunks)
        got = b""
        try:
            if whole:
                items: list[Any] = [*response.whole(chunks), END]
            else:
                items = []
                for number, chunk in enumerate(chunks):
                    items += response.chunk(chunk)
                    got = b"".join(item for item in items if isinstance(item, bytes))
                    assert b"".join(chunks[: number + 1])[:length] == got
                items += response.end()
        except ApplicationProtocolError:
            assert length is not None
            assert len(sent) < length
        else:
            assert sent[:length] == b"".join(item for item in items if isinstance(item, bytes))
            assert (length is not None and len(sent) > length) is response.overrun
            assert items[-1] is END


# --- the events of the adapter's own ------------------------------------------------------------------------------


class TestEvents:
    """ASGI HTTP, Response Start and Response Body."""

    @pytest.mark.parametrize("more", [True, False])
    def test_a_body_event(self, more: bool) -> None:
        """With what follows."""
        assert {"type": "http.response.body", "body": b"ab", "more_body": more} == body_event(b"ab", more=more)

    def test_text_events(self) -> None:
        """A sentence in UTF-8 that ends with a line break, its length, and what else is asked for."""
        start, body = text_events(503, "né", (b"retry-after", b"1"))
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"4"), (b"retry-after", b"1")]
        assert (head(503, *headers), body_event("né\n".encode(), more=False)) == (start, body)
