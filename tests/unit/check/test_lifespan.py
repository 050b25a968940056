"""What `bridge check` finds in the lifespan of an ASGI application."""

import asyncio
from typing import Any

import pytest

from bridge._check.findings import Finding, Outcome
from bridge._check.probe import probe_asgi
from bridge._check.requests import CheckRequest

REQUEST = CheckRequest("GET", "GET", "/")
STARTED, STOPPED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


def living(*steps: Any) -> Any:
    """An app whose lifespan receives at each None, sends each event, raises each exception."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(scope["state"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body"})
            return
        scope["state"]["pool"] = 1
        for step in steps:
            if step is None:
                await receive()
            elif isinstance(step, BaseException):
                raise step
            else:
                await send(dict(step))

    app.seen = seen  # type: ignore[attr-defined]
    return app


FAILED = {"type": "lifespan.startup.failed", "message": "no database"}
CASES = {
    "whole": ((None, STARTED, None, STOPPED), "started and stopped", None),
    "not supported": ((LookupError("only http"),), "not supported", None),
    "returns at once": ((), "not supported", None),
    "returns at the startup": ((None,), "not supported", None),
    "startup fails": ((None, FAILED), "", "startup failed: no database"),
    "shutdown fails": ((None, STARTED, None, {"type": "lifespan.shutdown.failed"}), "started", "shutdown failed: no"),
    "wrong event": ((None, STOPPED), "", "sent 'lifespan.shutdown.complete' while its lifespan was starting"),
    "no answer to the shutdown": ((None, STARTED, None), "started", "ended at lifespan.shutdown"),
    "raises at the shutdown": ((None, STARTED, None, LookupError("oops")), "started", "raised LookupError('oops')"),
    "ends the process": ((None, SystemExit(0)), "", "raised SystemExit(0) in its lifespan"),
    "cancels itself at the startup": ((asyncio.CancelledError(),), "", "raised CancelledError() in its lifespan"),
    "cancels itself at the shutdown": ((None, STARTED, None, asyncio.CancelledError()), "started", "CancelledError()"),
    "ends while it is served": ((None, STARTED), "started", "ended its lifespan while requests were served"),
}


@pytest.mark.parametrize("case", CASES)
def test_lifespans(case: str) -> None:
    steps, ended, finding = CASES[case]

    outcome = probe_asgi(living(*steps), [REQUEST])[0]

    assert ("lifespan", ended) == (outcome.asked, outcome.ended)
    if finding is None:
        assert [] == outcome.findings
    else:
        assert [True] == [finding in found.did for found in outcome.findings], outcome.findings


def test_no_requests_where_the_startup_fails() -> None:
    app = living(None, FAILED)

    outcomes = probe_asgi(app, [REQUEST])

    assert (1, []) == (len(outcomes), app.seen)


def test_each_request_has_a_copy_of_the_state() -> None:
    app = living(None, STARTED, None, STOPPED)

    probe_asgi(app, [REQUEST])

    assert [{"pool": 1}, {"pool": 1}] == app.seen
    assert app.seen[0] is not app.seen[1]


def test_a_finding_is_kept_once() -> None:
    outcome, finding = Outcome("x"), Finding("did this", "that", "a clause")
    for _ in range(2):
        outcome.note(finding)

    assert [finding] == outcome.findings
