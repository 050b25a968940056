"""What `bridge check` finds in ASGI applications: sins by name, with the clause; and nothing in the good ones."""

import asyncio
import contextlib
from typing import Any

import pytest

from bridge._check.probe import probe_asgi
from bridge._check.requests import CheckRequest

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
END = {"type": "http.response.body"}
BODY_CLAUSE = "Response Body"


def sends(*events: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            for event in events:
                await send(dict(event) if isinstance(event, dict) else event)

    return app


def body(data: Any, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def swallows_what_send_raises(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    with contextlib.suppress(Exception):
        await send(body(b"too early"))
    await send(dict(START))
    await send(dict(END))


async def asks_for_ever(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        while (await receive())["type"] != "of another kind":
            pass


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError


def raising(error: BaseException, *events: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        for event in events:
            await send(dict(event))
        raise error

    return app


SINS = {
    "nothing": (sends(), BODY_CLAUSE),
    "body first": (sends(body(b"x")), "before http.response.start"),
    "start twice": (sends(START, START), "HTTP Connection Scope"),
    "no end": (sends(START, body(b"x", more=True)), BODY_CLAUSE),
    "no body event": (sends(START), BODY_CLAUSE),
    "unknown event": (sends(START, {"type": "http.response.trailers"}), "sent 'http.response.trailers'"),
    "no event": (sends("event"), "sent str"),
    "path that was not offered": (sends(START, {"type": "http.response.pathsend", "path": "/x"}), "pathsend"),
    "status that is text": (sends(START | {"status": "200"}, END), "sent the status '200'"),
    "informational status": (sends(START | {"status": 103}, END), "RFC 9110 15.2"),
    "upper-case header": (sends(START | {"headers": [(b"X-A", b"1")]}, END), "lower-case names"),
    "header with blanks around its value": (sends(START | {"headers": [(b"x-a", b"1 ")]}, END), "blanks"),
    "header of text": (sends(START | {"headers": [("x-a", "1")]}, END), "Response Start"),
    "header with a line break": (sends(START | {"headers": [(b"a", b"b\r\nc: d")]}, END), "control characters"),
    "headers that are no pairs": (sends(START | {"headers": [b"x"]}, END), "Response Start"),
    "body of text": (sends(START, body("x")), BODY_CLAUSE),
    "body that is a bytearray": (sends(START, body(bytearray(b"x"))), "bytes"),
    "short": (sends(START | {"headers": [(b"content-length", b"9")]}, body(b"x")), "RFC 9110 8.6"),
    "long": (sends(START | {"headers": [(b"content-length", b"1")]}, body(b"long")), "RFC 9110 8.6"),
    "204 with a body": (sends(START | {"status": 204}, body(b"x")), "RFC 9110 6.4.1"),
    "an error that is not seen": (swallows_what_send_raises, "before http.response.start"),
    "raises": (raises, "Response Start"),
    "ends the process": (raising(SystemExit(0)), "raised SystemExit: 0"),
    "cancels itself": (raising(asyncio.CancelledError()), "raised CancelledError"),
    "cancels itself in its response": (raising(asyncio.CancelledError(), START), "before the end of its response"),
}


async def echoes(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send(dict(START))
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        await send(body(event["body"], more=event["more_body"]))
        if not event["more_body"]:
            return


async def stops_at_the_disconnect(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    while (event := await receive())["type"] == "http.request":
        if not event["more_body"]:
            await send(dict(START))
            await send(dict(END))
            return


async def goes_on_after_a_send_that_raised(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    try:
        await send(dict(START))
        await send(dict(END))
    except OSError:
        return


async def sends_after_the_end(scope: Any, receive: Any, send: Any) -> None:
    """ASGI says that this is ignored."""
    assert scope["type"] == "http"
    await send(dict(START))
    await send(dict(END))
    await send(dict(END))


GOOD = (echoes, stops_at_the_disconnect, goes_on_after_a_send_that_raised, sends_after_the_end)
REQUESTS = [
    CheckRequest("GET", "GET", "/"),
    CheckRequest("HEAD", "HEAD", "/"),
    CheckRequest("POST", "POST", "/", (b"a", b"b"), chunked=True),
    CheckRequest("left", "POST", "/", (b"a", b"b"), leaves="in the request"),
    CheckRequest("gone", "GET", "/", leaves="in the response"),
    CheckRequest("many", "GET", "/", at_once=8),
]


@pytest.mark.parametrize("sin", SINS)
def test_it_finds(sin: str) -> None:
    app, words = SINS[sin]

    _, *outcomes = probe_asgi(app, REQUESTS[:1])

    assert [True, True] == [bool(outcome.findings) for outcome in outcomes], "natively, and as WSGI"
    assert any(words in str(finding) for finding in outcomes[0].findings), outcomes[0].findings


def test_it_finds_one_that_asks_for_ever_after_the_disconnect() -> None:
    """Such a loop never lets another task run, so that it would be the end of the process."""
    _, outcome, *_ = probe_asgi(asks_for_ever, REQUESTS[3:4])

    assert ["called receive() 100 times after http.disconnect"] == [finding.did for finding in outcome.findings]


@pytest.mark.parametrize("app", GOOD)
def test_it_finds_nothing_in(app: Any) -> None:
    assert {} == {outcome.asked: outcome.findings for outcome in probe_asgi(app, REQUESTS) if outcome.findings}
