"""What `bridge check` finds in WSGI applications: sins by name, with the clause; and nothing in the good ones."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from bridge._check.probe import probe_wsgi
from bridge._check.requests import CheckRequest
from bridge._check.wsgi_validator import wsgi_validator

PLAIN = [("Content-Type", "text/plain")]
DETAILS = "PEP 3333, Specification Details"
START = "PEP 3333, The start_response() Callable"
LENGTH = "PEP 3333, Handling the Content-Length Header"


def answering(status: Any, headers: Any, *body: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Iterable[Any]:
        start_response(status, headers)
        return list(body)

    return app


def never_starts(environ: Any, start_response: Any) -> Any:
    return [b"body"]


def never_starts_nor_yields(environ: Any, start_response: Any) -> Any:
    return []


def names_an_argument(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", PLAIN, exc_info=None)
    return [b"body"]


def starts_twice(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return [b"body"]


def swallows_what_start_response_raises(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", PLAIN)
    with contextlib.suppress(Exception):
        start_response("200 OK", PLAIN)
    return [b"body"]


def starts_late(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield b"body"
    start_response("200 OK", PLAIN)


def returns(value: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", PLAIN)
        return value

    return app


def writes_text(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", PLAIN)("text")
    return []


def streams_short(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "10")])
    yield b"short"


def streams_long(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "2")])
    yield b"long"


class RaisesInClose:
    def __init__(self, environ: Any, start_response: Any) -> None:
        start_response("200 OK", PLAIN)

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"body"])

    def close(self) -> None:
        raise LookupError("in close")


def raises_for_the_query(environ: Any, start_response: Any) -> Any:
    return 1 / 0


SINS = {
    "never starts": (never_starts, DETAILS),
    "never starts nor yields": (never_starts_nor_yields, DETAILS),
    "starts twice": (starts_twice, START),
    "starts twice, and does not let it be seen": (swallows_what_start_response_raises, START),
    "starts late": (starts_late, DETAILS),
    "None": (returns(None), DETAILS),
    "bytes": (returns(b"body"), DETAILS),
    "text": (returns("body"), DETAILS),
    "a list of text": (returns(["body"]), "PEP 3333, A Note On String Types"),
    "a list of numbers": (returns([1]), "PEP 3333, A Note On String Types"),
    "writes text": (writes_text, "PEP 3333, A Note On String Types"),
    "status without a reason": (answering("200", PLAIN, b""), START),
    "status without a code": (answering("OK", PLAIN, b""), "status"),
    "status that is a number": (answering(200, PLAIN, b""), "status"),
    "informational status": (answering("100 Continue", PLAIN, b""), "RFC 9110 15.2"),
    "headers in a tuple": (answering("200 OK", tuple(PLAIN), b""), "headers"),
    "header in a list": (answering("200 OK", [["A", "b"]], b""), "header"),
    "header name with a space": (answering("200 OK", [("A b", "c")], b""), "header"),
    "header with a line break": (answering("200 OK", [("A", "b\r\nc: d")], b""), "header"),
    "header that is bytes": (answering("200 OK", [(b"A", b"b")], b""), "header"),
    "headers that are no sequence": (answering("200 OK", {"A": "b"}.items(), b""), "headers"),
    "header with blanks around its value": (answering("200 OK", [("A", " b")], b""), "blanks"),
    "exc_info by keyword": (names_an_argument, "by keyword"),
    "hop-by-hop header": (answering("200 OK", [("Connection", "close")], b""), "hop-by-hop"),
    "Content-Length that is none": (answering("200 OK", [("Content-Length", "x")], b""), "RFC 9110"),
    "list that is short": (answering("200 OK", [("Content-Length", "10")], b"short"), LENGTH),
    "list that is long": (answering("200 OK", [("Content-Length", "2")], b"long"), LENGTH),
    "stream that is short": (streams_short, LENGTH),
    "stream that is long": (streams_long, LENGTH),
    "204 with a body": (answering("204 No Content", [], b"body"), "RFC 9110 6.4.1"),
    "304 with a body": (answering("304 Not Modified", [], b"body"), "RFC 9110 6.4.1"),
    "raises in close()": (RaisesInClose, DETAILS),
    "raises": (raises_for_the_query, "PEP 3333, Error Handling"),
}


def head_as_get(environ: Any, start_response: Any) -> Any:
    """PEP 3333 leaves it to the server to drop the body."""
    start_response("200 OK", [*PLAIN, ("Content-Length", "4")])
    return [b"body"]


def head_without_a_body(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [*PLAIN, ("Content-Length", "4")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"body"]


def writes(environ: Any, start_response: Any) -> Any:
    write = start_response("200 OK", PLAIN)
    write(b"one")
    return [b"two"]


def starts_again_with_exc_info(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", PLAIN)
    try:
        raise LookupError
    except LookupError:
        start_response("500 Oops", PLAIN, sys.exc_info())
    return [b"sorry"]


def starts_in_its_generator(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b""
    yield b"body"


def reads_lines(environ: Any, start_response: Any) -> Any:
    lines = list(environ["wsgi.input"])
    start_response("200 OK", PLAIN)
    return [b"%d" % len(lines)]


def answers_404(environ: Any, start_response: Any) -> Any:
    start_response("404 Not Found", [])
    return ()


GOOD = (
    head_as_get, head_without_a_body, writes, starts_again_with_exc_info, starts_in_its_generator, reads_lines,
    answers_404,
)  # fmt: skip
REQUESTS = [
    CheckRequest("GET", "GET", "/"),
    CheckRequest("HEAD", "HEAD", "/"),
    CheckRequest("POST", "POST", "/", (b"a\n", b"b\n"), chunked=True),
    CheckRequest("left", "POST", "/", (b"a", b"b"), leaves="in the request"),
    CheckRequest("gone", "GET", "/", leaves="in the response"),
    CheckRequest("many", "GET", "/", at_once=8),
]


@pytest.mark.parametrize("sin", SINS)
def test_it_finds(sin: str) -> None:
    app, words = SINS[sin]

    (outcome,) = probe_wsgi(app, REQUESTS[:1])

    assert outcome.findings
    assert any(words in str(finding) for finding in outcome.findings), outcome.findings


@pytest.mark.parametrize("app", GOOD)
def test_it_finds_nothing_in(app: Any) -> None:
    assert {} == {outcome.asked: outcome.findings for outcome in probe_wsgi(app, REQUESTS) if outcome.findings}


@pytest.mark.parametrize("exc_info", [7, (1,), ("type", "value", "traceback")])
def test_what_is_no_exc_info_is_found(exc_info: Any) -> None:
    """However lenient the server is."""
    found: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)(b"body")
        start_response("200 OK", PLAIN, exc_info)
        return []

    watched = wsgi_validator(app, lambda: found.append)
    watched({"REQUEST_METHOD": "GET"}, lambda *_: lambda _data: None)
    assert ["called start_response with an exc_info that holds no exception after the headers left"] == [
        finding.did for finding in found
    ]


def test_what_exc_info_holds_is_the_servers_to_raise() -> None:
    """It says when the headers have left: where they have not, they are replaced."""
    calls: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)(b"body")
        try:
            raise LookupError("late")
        except LookupError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return []

    def start_response(*arguments: Any) -> Any:
        calls.append(arguments)
        return lambda _data: None

    watched = wsgi_validator(app, lambda: [].append)
    assert [] == list(watched({"REQUEST_METHOD": "GET"}, start_response))
    assert ["200 OK", "500 Oops"] == [status for status, *_ in calls]
