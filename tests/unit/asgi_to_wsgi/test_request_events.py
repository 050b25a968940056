"""`RequestEvents`: each transition of `Reading`, and what is fed of a request body, by whom, and when it ends."""

import io
import logging
from typing import Any

import pytest

from bridge._asgi_to_wsgi.request_events import STEP_BYTES, Reading, RequestEvents
from bridge._servers.connection import Connection
from bridge._translate.input_to_events import BodyEvents
from support.plain_servers import Event, environ_for
from support.waiting import LogWatch

DISCONNECT = {"type": "http.disconnect"}


class Source:
    """A `wsgi.input` that gives what it was told to, one thing a read: bytes, None (not there yet) or an error."""

    def __init__(self, *given: Any) -> None:
        self._given = list(given)
        self.asked: list[int] = []

    def read(self, size: int) -> Any:
        self.asked.append(size)
        given = self._given.pop(0)
        if isinstance(given, Exception):
            raise given
        return given


def of(source: object, length: int | None) -> RequestEvents:
    """A body of `length` bytes (None: it ends by itself) that is read from `source`."""
    return RequestEvents(BodyEvents(length), Connection(environ_for("POST", "/", wsgi__input=source)))


def event(body: bytes, *, more: bool = False) -> Event:
    return {"type": "http.request", "body": body, "more_body": more}


class TestReading:
    """The table of states: who sets what, and what nobody may set."""

    def test_at_first_nothing_is_wanted(self) -> None:
        assert of(Source(), 3).reading is Reading.IDLE

    def test_idle_becomes_wanted_when_the_task_waits(self) -> None:
        """It says so once: the thread is to be notified of it once."""
        body = of(Source(), 3)

        assert body.wanted
        assert body.reading is Reading.WANTED
        assert not body.wanted

    def test_wanted_becomes_idle_when_an_event_was_fed(self) -> None:
        body = of(Source(b"abc"), 3)
        assert body.wanted

        assert body.serve()
        assert body.reading is Reading.IDLE
        assert event(b"abc") == body.take()

    def test_wanted_becomes_awaiting_client_when_there_is_nothing_to_read(self) -> None:
        body = of(Source(None), 3)
        assert body.wanted

        assert not body.serve()
        assert body.reading is Reading.AWAITING_CLIENT
        assert body.take() is None
        assert not body.complete

    def test_the_task_leaves_awaiting_client_to_the_thread(self) -> None:
        """It waits for the event already; the thread alone says when to read again."""
        body = of(Source(None, b"abc"), 3)
        assert body.wanted
        assert not body.serve()

        assert not body.wanted
        assert body.reading is Reading.AWAITING_CLIENT

    def test_awaiting_client_becomes_wanted_and_idle_once_there_is_something(self) -> None:
        """The thread, which has waited for the client, says the first and does the second."""
        body = of(Source(None, b"abc"), 3)
        assert body.wanted
        assert not body.serve()
        body.reading = Reading.WANTED

        assert body.serve()
        assert body.reading is Reading.IDLE
        assert event(b"abc") == body.take()

    def test_once_all_was_fed_nothing_can_be_wanted(self) -> None:
        body = of(Source(b"abc"), 3)
        assert body.wanted
        assert body.serve()

        assert body.complete
        assert not body.wanted
        assert body.reading is Reading.IDLE


class TestEvents:
    """What the task receives."""

    def test_a_body_that_is_empty_is_one_event_and_no_read(self) -> None:
        source = Source()
        body = of(source, 0)

        assert body.complete
        assert not body.wanted
        assert event(b"") == body.take()
        assert body.received_all
        assert body.take() is None
        assert [] == source.asked

    def test_no_two_requests_share_the_event_of_an_empty_body(self) -> None:
        """The application may change what it has received."""
        first = of(Source(), 0).take()
        assert first is not None
        first["body"] = b"changed"

        assert event(b"") == of(Source(), 0).take()

    def test_pieces_come_in_order_and_the_last_one_says_so(self) -> None:
        source = Source(b"ab", b"cd", b"e")
        body = of(source, 5)
        taken = []
        while not body.complete:
            assert body.wanted
            assert body.serve()
            assert not body.received_all
            taken.append(body.take())

        assert [event(b"ab", more=True), event(b"cd", more=True), event(b"e")] == taken
        assert body.received_all
        assert [5, 3, 1] == source.asked

    def test_a_body_that_ends_by_itself_ends_with_an_empty_event(self) -> None:
        body = of(Source(b"ab", b""), None)
        for expected in (event(b"ab", more=True), event(b"")):
            assert body.wanted
            assert body.serve()
            assert expected == body.take()

        assert body.complete
        assert body.received_all
        assert not body.disconnected

    def test_no_more_is_read_at_once_than_a_step(self) -> None:
        source = Source(b"x" * STEP_BYTES, b"y")
        body = of(source, STEP_BYTES + 1)
        for _ in range(2):
            assert body.wanted
            assert body.serve()

        assert [STEP_BYTES, 1] == source.asked

    @pytest.mark.parametrize("length", [3, None])
    def test_a_read_that_fails_is_a_client_that_has_left(self, length: int | None, log: LogWatch) -> None:
        """And never the end of the body, also where that would end by itself."""
        body = of(Source(OSError("reset")), length)
        assert body.wanted

        assert body.serve()
        assert (True, True) == (body.complete, body.disconnected)
        assert DISCONNECT == body.take()
        assert log.having("reading the request body failed", "OSError: reset", level=logging.INFO)
        assert [] == log.complaints()

    def test_a_body_that_breaks_off_is_a_client_that_has_left(self, log: LogWatch) -> None:
        body = of(Source(b"ab", b""), 3)
        for expected in (event(b"ab", more=True), DISCONNECT):
            assert body.wanted
            assert body.serve()
            assert expected == body.take()

        assert (True, True) == (body.complete, body.disconnected)
        assert log.having("the request body broke off", level=logging.INFO)

    def test_no_two_requests_share_the_event_of_a_disconnect(self) -> None:
        bodies = [of(Source(b""), 3) for _ in range(2)]
        for body in bodies:
            assert body.wanted
            assert body.serve()
        first = bodies[0].take()
        assert first is not None
        first["type"] = "changed"

        assert DISCONNECT == bodies[1].take()


class TestReadingAhead:
    """What is known to be there is fed without being asked for; nobody waits for it."""

    def test_what_is_at_hand_is_fed(self) -> None:
        body = of(io.BytesIO(b"abc"), 3)

        assert body.read_ahead()
        assert body.reading is Reading.IDLE
        assert event(b"abc") == body.take()
        assert not body.read_ahead()

    def test_what_may_have_to_be_waited_for_is_not_read(self) -> None:
        source = Source()

        assert not of(source, 3).read_ahead()
        assert [] == source.asked

    def test_an_empty_body_is_not_read(self) -> None:
        body = of(io.BytesIO(b"of the next request"), 0)

        assert not body.read_ahead()
        assert event(b"") == body.take()

    def test_with_one_that_was_asked_for_a_few_go_along(self) -> None:
        """The loop is woken once for all of them; but they are bounded, however much is there."""
        body = of(io.BytesIO(b"x" * 100 * STEP_BYTES), 100 * STEP_BYTES)
        assert body.wanted
        assert body.serve()
        fed = []
        while (taken := body.take()) is not None:
            fed.append(taken)

        assert [event(b"x" * STEP_BYTES, more=True)] * 5 == fed
        assert body.wanted
