"""The validator itself: silent for what the specification allows, and a complaint for each sin of either side."""

import asyncio
from typing import Any

import pytest

from support.asgi_validate import asgi_validator

START = {"type": "http.response.start", "status": 200, "headers": []}
MORE = {"type": "http.response.body", "body": b"a", "more_body": True}
LAST = {"type": "http.response.body", "body": b"z"}
REQUEST_MORE = {"type": "http.request", "body": b"a", "more_body": True}
REQUEST_LAST = {"type": "http.request", "body": b"z"}
DISCONNECT = {"type": "http.disconnect"}
HINT = {"type": "http.response.early_hint", "links": [b"</a>"]}


def http_scope(**changed: Any) -> dict[str, Any]:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"example")],
        "client": ("127.0.0.1", 4000),
        "server": ["127.0.0.1", 80],
    }
    return {key: value for key, value in (scope | changed).items() if value is not ...}


LIFESPAN_SCOPE: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}


def converse(scope: dict[str, Any], steps: list[Any], validator: asgi_validator | None = None) -> list[Any]:
    """Run an app that takes `steps` in turn: a tuple is received, a dict is sent. What the server got is returned."""
    waiting = [step[0] for step in steps if isinstance(step, tuple)]
    got = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for step in steps:
            await (receive() if isinstance(step, tuple) else send(step))

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(event: Any) -> None:
        got.append(event)

    validator = validator or asgi_validator(app)
    validator.app = app
    asyncio.run(validator(scope, receive, send))
    return got


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([START, LAST], id="no read"),
        pytest.param([(REQUEST_LAST,), START, LAST], id="one of each"),
        pytest.param([(REQUEST_MORE,), (REQUEST_LAST,), START, MORE, MORE, LAST], id="several of each"),
        pytest.param([START, MORE, (REQUEST_MORE,), LAST], id="answered before the whole body was read"),
        pytest.param([START, LAST, (DISCONNECT,), (DISCONNECT,)], id="disconnect after the end, twice"),
        pytest.param([(REQUEST_MORE,), (DISCONNECT,)], id="client left, no response"),
        pytest.param([START, MORE, (REQUEST_LAST,), (DISCONNECT,)], id="client left, half a response"),
        pytest.param([{"type": "http.response.start", "status": 204}, {"type": "http.response.body"}], id="defaults"),
    ],
)
def test_a_conversation_that_is_right_passes_unchanged(steps: list[Any]) -> None:
    """The server gets just the app's events, and nobody is blamed."""
    got = converse(http_scope(), steps)

    assert [step for step in steps if isinstance(step, dict)] == got


def test_headers_that_can_be_read_once_still_reach_the_server() -> None:
    """Response headers may be any iterable; the check does not use it up."""
    got = converse(http_scope(), [START | {"headers": iter([(b"x-a", b"1")])}, LAST])

    assert [(b"x-a", b"1")] == list(got[0]["headers"])


def length(number: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(number).encode())]


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        pytest.param([LAST], "Response Start and Body", id="body first"),
        pytest.param([START, START], "Response Start and Body", id="two starts"),
        pytest.param([START, LAST, LAST], "Response Start and Body", id="after the end"),
        pytest.param([], "without a complete response", id="nothing at all"),
        pytest.param([START], "without a complete response", id="start only"),
        pytest.param([START, MORE], "without a complete response", id="half a body"),
        pytest.param([START | {"status": "200"}], "status", id="status is a str"),
        pytest.param([START | {"status": 101}], "status", id="status is interim"),
        pytest.param([START | {"headers": [("a", "b")]}], "byte strings", id="str headers"),
        pytest.param([START | {"headers": [(b"a",)]}], "two-item", id="header without value"),
        pytest.param([START | {"headers": [(b"X-A", b"b")]}], "lower-case", id="upper-case name"),
        pytest.param([START | {"headers": [(b"a", b"b\r\nc: d")]}], "CR, LF or NUL", id="header injection"),
        pytest.param([START | {"headers": None}], "headers", id="headers None"),
        pytest.param([START, LAST | {"body": "z"}], "body must be bytes", id="str body"),
        pytest.param([START, LAST | {"body": memoryview(b"z")}], "body must be bytes", id="memoryview body"),
        pytest.param([START, LAST | {"more_body": 0}], "more_body must be a bool", id="more_body is an int"),
        pytest.param([START | {"headers": length(2)}, LAST], "section 8.6", id="shorter than Content-Length"),
        pytest.param([START | {"headers": length(1)}, MORE, MORE], "section 8.6", id="longer than Content-Length"),
        pytest.param([HINT], "does not offer", id="extension not offered"),
        pytest.param([{"type": "http.response.bdoy"}], "Response Start and Body", id="unknown event"),
        pytest.param([{}], "Response Start and Body", id="no type"),
    ],
)
def test_a_sin_of_the_app_is_named(steps: list[Any], complaint: str) -> None:
    """The app that breaks the order or the form of the response is told the clause."""
    with pytest.raises(AssertionError, match=complaint):
        converse(http_scope(), steps)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        pytest.param([(REQUEST_LAST,), (REQUEST_LAST,)], "Request and Disconnect", id="body after its end"),
        pytest.param([(DISCONNECT,), (REQUEST_LAST,)], "Request and Disconnect", id="body after disconnect"),
        pytest.param([(REQUEST_LAST | {"body": "z"},)], "body must be bytes", id="str body"),
        pytest.param([(REQUEST_LAST | {"body": bytearray(b"z")},)], "body must be bytes", id="bytearray body"),
        pytest.param([(REQUEST_LAST | {"more_body": None},)], "more_body", id="more_body None"),
        pytest.param([({"type": "http.response.start"},)], "Request and Disconnect", id="an event of the other side"),
        pytest.param([(None,)], "must be a dict", id="no event"),
    ],
)
def test_a_sin_of_the_server_is_named(steps: list[Any], complaint: str) -> None:
    """The server that breaks the order or the form of the request body is named too."""
    with pytest.raises(AssertionError, match=complaint):
        converse(http_scope(), [*steps, START, LAST])


def test_a_server_that_ends_the_body_early_is_named() -> None:
    """The end of the body before Content-Length is a truncated upload passed off as whole."""
    with pytest.raises(AssertionError, match=r"section 8\.6"):
        converse(http_scope(headers=length(3)), [(REQUEST_MORE,), (REQUEST_LAST,), START, LAST])


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_a_response_without_a_body_may_declare_a_length(method: str, status: int) -> None:
    """Content-Length of HEAD and 304 is that of the body which GET would have had."""
    start = START | {"status": status, "headers": length(5)}

    assert 2 == len(converse(http_scope(method=method), [start, {"type": "http.response.body"}]))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"asgi": ...}, "asgi"),
        ({"asgi": {"version": "2.0"}}, "asgi"),
        ({"type": "https"}, "type"),
        ({"method": "get"}, "method"),
        ({"http_version": "2.0"}, "http_version"),
        ({"scheme": "ws"}, "scheme"),
        ({"path": b"/a"}, "path"),
        ({"path": "a"}, "path"),
        ({"raw_path": "/a"}, "raw_path"),
        ({"raw_path": b"/a?b"}, "raw_path"),
        ({"query_string": ""}, "query_string"),
        ({"root_path": "/a/"}, "root_path"),
        ({"headers": ...}, "headers"),
        ({"headers": [(b"Host", b"a")]}, "lower-case"),
        ({"headers": [(b":path", b"/a")]}, "pseudo headers"),
        ({"headers": [("host", "a")]}, "byte strings"),
        ({"client": ("127.0.0.1", "4000")}, "client"),
        ({"server": "127.0.0.1:80"}, "server"),
        ({"client": ("/run/socket", None)}, "client"),
        ({"state": None}, "state"),
        ({"extensions": {"tls": True}}, "Extensions"),
    ],
    ids=str,
)
def test_a_scope_that_is_wrong_is_named(changed: dict[str, Any], complaint: str) -> None:
    """Each key of the scope is checked for its presence and type."""
    with pytest.raises(AssertionError, match=complaint):
        converse(http_scope(**changed), [START, LAST])


@pytest.mark.parametrize(
    "changed",
    [
        {"client": None, "server": None},
        {"server": ("/run/socket", None)},
        {"raw_path": None},
        {"root_path": "/mount", "path": "/mount/a"},
        {"path": "", "raw_path": b""},
        {"path": "*", "method": "OPTIONS"},
        {"extensions": {"http.response.early_hint": {}}, "state": {"pool": 1}},
        {"headers": [[b"cookie", b"a=1"], [b"cookie", b"b=2"]]},
    ],
    ids=str,
)
def test_a_scope_may_leave_out_what_is_optional(changed: dict[str, Any]) -> None:
    """None, lists for tuples and unix sockets are what the specification allows."""
    assert 2 == len(converse(http_scope(**changed), [START, LAST]))


def test_an_extension_that_is_offered_may_be_used() -> None:
    """Early hints and pathsend are for servers that list them."""
    extensions: dict[str, Any] = {"http.response.early_hint": {}, "http.response.pathsend": {}}
    send_path = {"type": "http.response.pathsend", "path": "/etc/hostname"}

    assert 3 == len(converse(http_scope(extensions=extensions), [HINT, START, send_path]))


def test_a_complaint_that_the_app_swallows_is_raised_by_the_call() -> None:
    """An app cannot hide its sin by catching what send() raised."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            await send(START)
        except AssertionError:
            await send(LAST)

    async def send(event: Any) -> None:
        return None

    validator = asgi_validator(app)
    with pytest.raises(AssertionError, match="Response Start and Body"):
        asyncio.run(validator(http_scope(), None, send))
    assert 1 == len(validator.complaints)


def test_what_the_app_raises_passes_through() -> None:
    """An exception is the app's way to ask for a 500, and no sin."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("no such page")

    validator = asgi_validator(app)
    with pytest.raises(LookupError, match="no such page"):
        asyncio.run(validator(http_scope(), None, None))
    assert [] == validator.complaints


def test_send_after_the_call_has_ended_is_a_complaint() -> None:
    """A task that outlives the call has no connection to send on."""
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(LAST)
        kept.append(send)

    async def send(event: Any) -> None:
        return None

    async def late() -> None:
        await asgi_validator(app)(http_scope(), None, send)
        await kept[0](LAST)

    with pytest.raises(AssertionError, match="after its call had ended"):
        asyncio.run(late())


def test_a_send_that_is_not_awaitable_is_a_complaint() -> None:
    """A plain function is no ASGI send."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)

    with pytest.raises(AssertionError, match="must return an awaitable"):
        asyncio.run(asgi_validator(app)(http_scope(), None, lambda event: None))


STARTUP = ({"type": "lifespan.startup"},)
STARTED = {"type": "lifespan.startup.complete"}
SHUTDOWN = ({"type": "lifespan.shutdown"},)
STOPPED = {"type": "lifespan.shutdown.complete"}
FAILED = {"type": "lifespan.startup.failed", "message": "no database"}


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([STARTUP, STARTED, SHUTDOWN, STOPPED], id="whole life"),
        pytest.param([STARTUP, FAILED], id="startup failed"),
        pytest.param([STARTUP, STARTED, SHUTDOWN, {"type": "lifespan.shutdown.failed"}], id="shutdown failed"),
        pytest.param([], id="not supported"),
    ],
)
def test_a_lifespan_that_is_right_passes(steps: list[Any]) -> None:
    """Startup and shutdown, each answered once."""
    got = converse(LIFESPAN_SCOPE, steps)

    assert [step for step in steps if isinstance(step, dict)] == got


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        pytest.param([STARTED], "Lifespan", id="answer before the question"),
        pytest.param([STARTUP, STOPPED], "Lifespan", id="wrong answer"),
        pytest.param([STARTUP, STARTED, STARTED], "Lifespan", id="two answers"),
        pytest.param([SHUTDOWN], "Lifespan", id="the server skips startup"),
        pytest.param([STARTUP, STARTUP], "Lifespan", id="the server asks twice"),
        pytest.param([STARTUP, FAILED | {"message": b"no"}], "message", id="message is bytes"),
        pytest.param([STARTUP, STARTED, SHUTDOWN], "without an answer", id="shutdown not answered"),
        pytest.param([{"type": "lifespan.startup"}], "Lifespan", id="the app plays the server"),
        pytest.param([STARTUP, START], "Lifespan", id="an event of http"),
    ],
)
def test_a_lifespan_that_is_wrong_is_named(steps: list[Any], complaint: str) -> None:
    """Both sides' steps are one table."""
    with pytest.raises(AssertionError, match=complaint):
        converse(LIFESPAN_SCOPE, steps)


def test_a_request_gets_a_copy_of_the_state() -> None:
    """Lifespan State: what one request puts into its state must not reach the next."""
    validator = asgi_validator(None)
    scope = LIFESPAN_SCOPE | {"state": {"pool": object()}}
    converse(scope, [STARTUP, STARTED], validator)
    converse(http_scope(state=dict(scope["state"])), [START, LAST], validator)

    with pytest.raises(AssertionError, match="each request must get a copy"):
        converse(http_scope(state=scope["state"]), [START, LAST], validator)
