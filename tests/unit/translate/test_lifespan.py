"""The lifespan protocol: each state and event, and what an application's failure becomes."""

from typing import Any

import pytest

from bridge._translate.lifespan import FAILED, ORDER, RUNNING, SHUTDOWN, STARTING, STOPPED, STOPPING, LifespanOrder
from bridge.errors import ApplicationProtocolError, LifespanFailed, ServerProtocolError

ANSWERS = [f"lifespan.{phase}.{outcome}" for phase in ("startup", "shutdown") for outcome in ("complete", "failed")]
COMPLETE, FAIL, SHUT, SHUT_FAIL = ANSWERS
WAYS = {
    STARTING: [],
    RUNNING: [COMPLETE],
    STOPPING: [COMPLETE, SHUTDOWN],
    STOPPED: [COMPLETE, SHUTDOWN, SHUT],
    FAILED: [COMPLETE, SHUTDOWN, SHUT_FAIL],
}


def take(lifespan: LifespanOrder, event: str) -> None:
    if event == SHUTDOWN:
        lifespan.ask_shutdown()
    else:
        lifespan.answer({"type": event})


def in_state(state: str) -> LifespanOrder:
    lifespan = LifespanOrder()
    for event in WAYS[state]:
        take(lifespan, event)
    assert state == lifespan.state
    return lifespan


LEGAL = [(state, event, following) for state, events in ORDER.items() for event, following in events.items()]
EXPECTED = {
    STARTING: f"{COMPLETE} or {FAIL}",
    RUNNING: "no event",
    STOPPING: f"{SHUT} or {SHUT_FAIL}",
    STOPPED: "no event",
    FAILED: "no event",
}
ILLEGAL = [(state, event) for state in WAYS for event in ANSWERS if event not in ORDER[state]]


class TestOrder:
    """ASGI Lifespan."""

    @pytest.mark.parametrize(("state", "event", "following"), LEGAL)
    def test_a_legal_event_leads_where_the_table_says(self, state: str, event: str, following: str) -> None:
        """The table is what the code does, in each of its states."""
        lifespan = in_state(state)
        take(lifespan, event)
        assert following == lifespan.state

    @pytest.mark.parametrize(("state", "event"), ILLEGAL)
    def test_an_illegal_answer_says_who_did_what_in_which_state(self, state: str, event: str) -> None:
        """And what was expected, and the clause; the state is as it was."""
        lifespan = in_state(state)
        with pytest.raises(ApplicationProtocolError) as caught:
            lifespan.answer({"type": event})
        when = f"while its lifespan was {state}"
        assert f"the application sent {event!r} {when}; expected {EXPECTED[state]} (ASGI Lifespan)" == str(caught.value)
        assert state == lifespan.state

    @pytest.mark.parametrize("state", [state for state in WAYS if state != RUNNING])
    def test_the_shutdown_is_asked_for_once_and_after_the_startup(self, state: str) -> None:
        """Else an application that goes on to receive would shut down again and again."""
        lifespan = in_state(state)
        with pytest.raises(ServerProtocolError) as caught:
            lifespan.ask_shutdown()
        did = f"sent 'lifespan.shutdown' while its lifespan was {state}"
        expected = "lifespan.shutdown once, after the startup"
        assert f"the server {did}; expected {expected} (ASGI Lifespan)" == str(caught.value)
        assert state == lifespan.state

    def test_no_state_is_forgotten(self) -> None:
        """Each has its row in the table and its way here."""
        assert list(WAYS) == list(ORDER)
        assert len(WAYS) * (len(ANSWERS) + 1) == len(LEGAL) + len(ILLEGAL) + 4

    @pytest.mark.parametrize(
        ("event", "shown"),
        [
            ({"type": "lifespan.startup"}, "'lifespan.startup'"),
            # The server's own, which the table lists too.
            ({"type": "lifespan.shutdown"}, "'lifespan.shutdown'"),
            ({"type": "http.response.start", "status": 200}, "'http.response.start'"),
            ({"type": None}, "None"),
            ({"type": ["lifespan.startup.complete"]}, "['lifespan.startup.complete']"),
            ({}, "dict ({})"),
            (None, "NoneType (None)"),
            ("lifespan.startup.complete", "str ('lifespan.startup.complete')"),
        ],
    )
    def test_what_is_no_answer_is_an_error(self, event: Any, shown: str) -> None:
        """An application that answers so does not speak this protocol."""
        for state in WAYS:
            lifespan = in_state(state)
            with pytest.raises(ApplicationProtocolError) as caught:
                lifespan.answer(event)
            did = f"sent {shown} while its lifespan was {state}"
            assert str(caught.value).startswith(f"the application {did}; expected ")
            assert state == lifespan.state


class TestEvents:
    def test_the_shutdown_is_an_event_of_its_own(self) -> None:
        """ASGI Lifespan, Shutdown."""
        assert {"type": "lifespan.shutdown"} == in_state(RUNNING).ask_shutdown()

    @pytest.mark.parametrize("state", [STARTING, RUNNING, STOPPING, STOPPED])
    def test_no_failure_is_reported_where_there_is_none(self, state: str) -> None:
        """It is set by the two events that fail, and by nothing else."""
        assert in_state(state).failure is None

    @pytest.mark.parametrize(
        ("state", "event", "message"),
        [
            (STARTING, {"type": FAIL, "message": "no database"}, "the application's startup failed: no database"),
            (STARTING, {"type": FAIL, "message": ""}, "the application's startup failed: no message"),
            (STARTING, {"type": FAIL}, "the application's startup failed: no message"),
            (STOPPING, {"type": SHUT_FAIL, "message": "busy"}, "the application's shutdown failed: busy"),
            (STOPPING, {"type": SHUT_FAIL}, "the application's shutdown failed: no message"),
        ],
    )
    def test_a_failure_tells_the_phase_and_the_message(self, state: str, event: dict[str, Any], message: str) -> None:
        """ASGI Lifespan, Startup Failed and Shutdown Failed: the message is optional."""
        lifespan = in_state(state)
        lifespan.answer(event)
        assert (FAILED, message) == (lifespan.state, str(lifespan.failure))
        assert isinstance(lifespan.failure, LifespanFailed)
