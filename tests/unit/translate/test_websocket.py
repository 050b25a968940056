"""Events become steps: each state and event, and what the events may carry."""

from typing import Any

import pytest

from bridge._translate.websocket import (
    ACCEPT,
    CLOSE,
    CLOSED,
    CONNECTING,
    DENIED,
    DENYING,
    LAST,
    MORE,
    OPEN,
    ORDER,
    SEND,
    START,
    Accept,
    Close,
    Message,
    Respond,
    WebSocketOrder,
)
from bridge.errors import ApplicationProtocolError

EVENTS: dict[str, dict[str, Any]] = {
    ACCEPT: {"type": ACCEPT},
    SEND: {"type": SEND, "text": "x"},
    CLOSE: {"type": CLOSE},
    START: {"type": START, "status": 401},
    MORE: {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
    LAST: {"type": "websocket.http.response.body", "body": b"x"},
}
WAYS = {CONNECTING: [], OPEN: [ACCEPT], DENYING: [START], DENIED: [CLOSE], CLOSED: [ACCEPT, CLOSE]}


def order(*subprotocols: str) -> WebSocketOrder:
    return WebSocketOrder(list(subprotocols))


def in_state(state: Any) -> WebSocketOrder:
    made = order()
    for name in WAYS[state]:
        made.feed(EVENTS[name])
    assert state is made.state
    return made


@pytest.mark.parametrize("state", list(ORDER), ids=lambda state: state.name)
@pytest.mark.parametrize("event", list(EVENTS))
def test_each_event_in_each_state(state: Any, event: str) -> None:
    """What the table lists is a step; what it does not is a sentence that says so, and changes nothing."""
    made = in_state(state)
    if (following := ORDER[state].get(event)) is not None:
        step = made.feed(EVENTS[event])
        assert following is made.state
        assert (step is None) == (state is DENIED)
        return
    with pytest.raises(ApplicationProtocolError, match=state.value) as raised:
        made.feed(EVENTS[event])
    assert state is made.state
    assert "ASGI" in raised.value.clause


def test_steps() -> None:
    made = order("a", "b")
    headers = [(b"x-a", b"1"), (b"connection", b"close")]
    assert Accept("b", [(b"x-a", b"1")]) == made.feed({"type": ACCEPT, "subprotocol": "b", "headers": headers})
    assert Message("é") == made.feed({"type": SEND, "text": "é", "bytes": None})
    assert Message(b"x") == made.feed({"type": SEND, "text": None, "bytes": bytearray(b"x")})
    assert Message("") == made.feed({"type": SEND, "text": ""})
    assert Close(1000, "") == made.feed({"type": CLOSE, "reason": None})
    assert Close(4999, "why") == in_state(OPEN).feed({"type": CLOSE, "code": 4999, "reason": "why"})
    assert Respond({"type": "http.response.start", "status": 401}) == order().feed(EVENTS[START])


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            {"type": SEND, "text": "é\ud800"},
            "with text that has the character '\\ud800'; expected text that can be encoded",
        ),
        ({"type": SEND, "bytes": "x"}, "with text of type NoneType and bytes of type str; expected text that can be"),
        (
            {"type": CLOSE, "code": 1005},
            "with the code 1005 and a reason of type NoneType; expected one of 1000 to 1003,",
        ),
    ],
)
def test_an_error_names_what_was_sent(event: dict[str, Any], message: str) -> None:
    with pytest.raises(ApplicationProtocolError) as caught:
        in_state(OPEN).feed(event)
    assert f"the application sent {event['type']} {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (CONNECTING, None),
        (CONNECTING, {}),
        (CONNECTING, {"type": 5}),
        (CONNECTING, {"type": ACCEPT, "subprotocol": "unasked"}),
        (CONNECTING, {"type": ACCEPT, "headers": [("x", "y")]}),
        (CONNECTING, {"type": ACCEPT, "headers": [(b"x", b"a\r\nb: c")]}),
        (CONNECTING, {"type": ACCEPT, "headers": [(b"Sec-WebSocket-Protocol", b"x")]}),
        (OPEN, {"type": SEND}),
        (OPEN, {"type": SEND, "text": b"x"}),
        (OPEN, {"type": SEND, "bytes": "x"}),
        (OPEN, {"type": SEND, "text": "\ud800"}),
        *((OPEN, {"type": CLOSE, "code": code}) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, "1000", True)),
        (OPEN, {"type": CLOSE, "reason": b"why"}),
    ],
    ids=repr,
)
def test_what_cannot_be_sent(state: Any, event: Any) -> None:
    """It raises, and a right event is still welcome."""
    made = in_state(state)
    with pytest.raises(ApplicationProtocolError):
        made.feed(event)
    assert state is made.state


def test_returning_early() -> None:
    assert {CONNECTING, DENYING} == {state for state in ORDER if in_state(state).unfinished() is not None}


def test_what_a_close_carries_before_the_accept_goes_nowhere() -> None:
    """It becomes a 403; FastAPI sends the errors of its validation as the reason, which is a list."""
    assert Close(1000, "") == order().feed({"type": CLOSE, "code": 1008, "reason": [{"loc": "room"}]})
    with pytest.raises(ApplicationProtocolError):
        in_state(OPEN).feed({"type": CLOSE, "code": 1008, "reason": [{"loc": "room"}]})
