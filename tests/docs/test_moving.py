"""docs/migrating.md: each row of its tables, with the old code and the new code side by side.

What each row claims is a list of probes with what they see of the old code and of the new.
"""

import sys
import warnings
from typing import Any, NamedTuple

import a2wsgi
import asgiref.wsgi
import pytest
import uvicorn.middleware.wsgi
from hypercorn.middleware import AsyncioWSGIMiddleware

from bridge import AsgiToWsgi, WsgiToAsgi
from support.markdown import rows, section
from support.moving_asgi import (
    app_raises,
    closed_early,
    list_of_one,
    of_body,
    own_thread,
    runs_lifespan,
    starts_a_thread,
    waits_for_work,
)
from support.moving_django import in_django
from support.moving_servers import (
    answered,
    by_keyword,
    chunks_of_nothing,
    delete_with_body,
    hop_by_hop,
    prefix_with_slash,
)
from support.moving_wsgi import (
    Make,
    Probe,
    above_limit,
    ahead,
    at_once,
    busy,
    close_called,
    context,
    errors,
    events_before_call,
    has_write,
    in_anyio_threads,
    key,
    latin_1,
    lifespan,
    mid_response,
    mid_upload,
    no_chunk,
    of_length,
    on_trio,
    other_prefix,
    raised_mid_upload,
    repeats,
    seen_by_app,
    start_of_an_app_that_fails,
    websocket,
    whole_body_within_limit,
    without_length,
)
from support.paths import ROOT
from support.plain_servers import environ_for

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")


# --- the rows --------------------------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """What a probe sees of the old code and of the new."""

    probe: Probe
    old: Any
    new: Any


def starlettes() -> Make:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware
    return WSGIMiddleware


WSGI, ASGI, ASGIREF = "From a2wsgi, WSGIMiddleware", "From a2wsgi, ASGIMiddleware", "From asgiref"
UVICORN, STARLETTE, HYPERCORN = "From uvicorn.middleware.wsgi", "From starlette.middleware.wsgi", "From Hypercorn"
HANDLERS = "From Django's handlers"
SERVERS = "From a WSGI server to an ASGI server"

PAIRS: dict[str, tuple[Any, Any]] = {
    WSGI: (a2wsgi.WSGIMiddleware, WsgiToAsgi),
    ASGI: (a2wsgi.ASGIMiddleware, AsgiToWsgi),
    ASGIREF: (asgiref.wsgi.WsgiToAsgi, WsgiToAsgi),
    UVICORN: (uvicorn.middleware.wsgi._WSGIMiddleware, WsgiToAsgi),
    STARLETTE: (starlettes(), WsgiToAsgi),
    HYPERCORN: (AsyncioWSGIMiddleware, WsgiToAsgi),
    HANDLERS: ("django.core", "bridge.django"),
    SERVERS: ("gunicorn", "bridge"),
}

X_USER = key("HTTP_X_USER", (b"x-user", b"real"), (b"x_user", b"forged"))
PROXY = key("HTTP_PROXY", (b"proxy", b"forged"))
COOKIES = Claim(key("HTTP_COOKIE", (b"cookie", b"a=1"), (b"cookie", b"b=2")), "a=1,b=2", "a=1; b=2")
NAMES = Claim(X_USER, "real,forged", "real")
ERRORS = Claim(errors, "stdout", "stderr")
PREFIX = Claim(other_prefix, "lication", "/application")
LEAVES_RESPONSE = Claim(mid_response, "ran to its end", "closed")
SCOPE = Claim(lambda make: seen_by_app(make, lambda environ: type(environ["asgi.scope"]) is dict), True, False)
BROKEN_OFF = {**environ_for("POST", "/", b"ab"), "CONTENT_LENGTH": "9"}
CHUNKED = {**environ_for("POST", "/", b"abc"), "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
del CHUNKED["CONTENT_LENGTH"]
WHOLE_BODY = Claim(events_before_call(2**20), True, False)
CLOSE, WRITE = Claim(close_called, False, True), Claim(has_write, False, True)
PORT = Claim(lambda make: seen_by_app(make, lambda environ: type(environ["SERVER_PORT"])), int, str)
ASCII = Claim(latin_1, False, True)
HEADERS_LEAVE = Claim(start_of_an_app_that_fails, True, False)
AHEAD = Claim(ahead, True, False)
# Without a lock, a thread begins in the context of the request that starts it, as the only one of this test does.
CONTEXT = Claim(context, "seen" if getattr(sys.flags, "thread_inherit_context", 0) else "not seen", "seen")
TWO = [("content-length", "2"), ("x-a", "1")]
COMPLETE = "lifespan.startup.complete"

ROWS: dict[tuple[str, str], list[Claim]] = {
    (WSGI, "Client leaves mid-upload"): [Claim(mid_upload, b"ab", OSError)],
    (WSGI, "Client leaves mid-response"): [LEAVES_RESPONSE],
    (WSGI, "Body without Content-Length"): [Claim(without_length, None, "6")],
    (WSGI, "The first 1 MiB of a body"): [Claim(events_before_call(1000), False, True)],
    (WSGI, "Headers are sent"): [HEADERS_LEAVE],
    (WSGI, "Several `Cookie` headers"): [COOKIES],
    (WSGI, "`X_User` and `X-User`"): [NAMES, Claim(PROXY, "forged", None)],
    (WSGI, "`wsgi.errors`"): [ERRORS],
    (WSGI, "SCRIPT_NAME"): [PREFIX, Claim(key("SCRIPT_NAME"), "/of the process", "")],
    (WSGI, "A response longer or shorter than its Content-Length"): [
        Claim(of_length(3), (5, False), (3, False)),
        Claim(of_length(9), (5, False), (0, True)),
    ],
    (WSGI, "Body of a response to HEAD, 204 or 304"): [Claim(of_length(5, "HEAD"), (5, False), (0, False))],
    (WSGI, '`environ["asgi.scope"]`'): [SCOPE],
    (WSGI, "All threads busy"): [Claim(busy, None, 503)],
    (WSGI, "Loops"): [Claim(on_trio, False, True)],
    (ASGI, "Lifespan"): [Claim(runs_lifespan, False, True)],
    (ASGI, "Work after the response"): [Claim(waits_for_work, True, False)],
    (ASGI, "The loop"): [Claim(starts_a_thread, True, False)],
    (ASGI, "App raises before its response"): [Claim(app_raises, b"Server got itself in trouble", LookupError)],
    (ASGI, "Server closes the response early"): [Claim(closed_early, None, "http.disconnect")],
    (ASGI, "Upload breaks off"): [Claim(of_body(BROKEN_OFF), [b"ab", b""], ["http.disconnect"])],
    (ASGI, "Chunked request body"): [Claim(of_body(CHUNKED), [b""], [b"abc", b""])],
    (ASGI, "Small response"): [Claim(list_of_one, False, True)],
    (ASGI, "`sync_to_async` code (Django's ORM)"): [Claim(own_thread, False, True)],
    (ASGIREF, "Requests at once"): [Claim(at_once, False, True)],
    (ASGIREF, "Request body"): [WHOLE_BODY],
    (ASGIREF, "Client leaves mid-upload"): [
        Claim(mid_upload, "not called", OSError),
        Claim(raised_mid_upload, ValueError, type(None)),
    ],
    (ASGIREF, "`close()` of the iterable"): [CLOSE],
    (ASGIREF, "`write()` of `start_response`"): [WRITE],
    (ASGIREF, "Body without Content-Length"): [Claim(without_length, None, "6")],
    (ASGIREF, "Lifespan, WebSocket"): [
        Claim(lifespan, ValueError, COMPLETE),
        Claim(websocket, ValueError, "websocket.close"),
    ],
    (ASGIREF, "`environ`"): [
        Claim(
            lambda make: seen_by_app(
                make, lambda environ: {"asgi.scope", "REMOTE_PORT", "wsgi.file_wrapper"} & environ.keys()
            ),
            set(),
            {"asgi.scope", "REMOTE_PORT", "wsgi.file_wrapper"},
        )
    ],
    (ASGIREF, "Cookies, names with `_`, path prefixes"): [COOKIES, NAMES, PREFIX, Claim(repeats, 400, 431)],
    (UVICORN, "Request body"): [WHOLE_BODY],
    (UVICORN, "An app that is faster than its client"): [AHEAD],
    (UVICORN, "`close()` of the iterable"): [CLOSE],
    (UVICORN, "`write()` of `start_response`"): [WRITE],
    (UVICORN, "Context variables of middleware"): [CONTEXT],
    (UVICORN, "SERVER_PORT"): [PORT],
    (UVICORN, "Header values"): [ASCII],
    (UVICORN, "Lifespan"): [Claim(lifespan, AssertionError, COMPLETE)],
    (UVICORN, "Client leaves, cookies, names with `_`, `wsgi.errors`, path prefixes"): [
        LEAVES_RESPONSE,
        COOKIES,
        NAMES,
        ERRORS,
        PREFIX,
    ],
    (STARLETTE, "Threads"): [Claim(in_anyio_threads, True, False)],
    (STARLETTE, "Request body"): [WHOLE_BODY],
    (STARLETTE, "An app that is faster than its client"): [AHEAD],
    (STARLETTE, "`close()` of the iterable"): [CLOSE],
    (STARLETTE, "`write()` of `start_response`"): [WRITE],
    (STARLETTE, "Headers are sent"): [HEADERS_LEAVE],
    (STARLETTE, "SERVER_PORT"): [PORT],
    (STARLETTE, "Header values"): [ASCII],
    (STARLETTE, "Lifespan"): [Claim(lifespan, AssertionError, COMPLETE)],
    (STARLETTE, "Client leaves, cookies, names with `_`, `wsgi.errors`"): [LEAVES_RESPONSE, COOKIES, NAMES, ERRORS],
    (HYPERCORN, "A body above the limit"): [Claim(above_limit, 400, 413)],
    (HYPERCORN, "Request body"): [Claim(whole_body_within_limit, True, False)],
    (HYPERCORN, "A response without a chunk"): [Claim(no_chunk, 0, 204)],
    (HYPERCORN, "`write()` of `start_response`"): [WRITE],
    (HYPERCORN, "Context variables of middleware"): [CONTEXT],
    (HYPERCORN, "SERVER_PORT"): [PORT],
    (HYPERCORN, "Lifespan"): [Claim(lifespan, "nothing", COMPLETE)],
    (HYPERCORN, "Client leaves, cookies, names with `_`, `wsgi.errors`"): [LEAVES_RESPONSE, COOKIES, NAMES, ERRORS],
    (HANDLERS, "Sync stream on an ASGI server"): [Claim(in_django("sync-stream"), "whole", "in parts")],
    (HANDLERS, "Async stream on a WSGI server"): [Claim(in_django("async-stream"), "whole", "in parts")],
    (HANDLERS, "Async views on a WSGI server"): [Claim(in_django("loops"), "2", "1")],
    (HANDLERS, "Sync views on an ASGI server"): [Claim(in_django("threads"), "new", "again")],
    (HANDLERS, "`request.environ` on an ASGI server"): [Claim(in_django("environ"), "False", "True")],
    (HANDLERS, "Lifespan of the server"): [Claim(in_django("lifespan"), "ValueError", COMPLETE)],
    (SERVERS, "Headers in a tuple or another iterable"): [
        Claim(answered(lambda start: start("200 OK", (("X-A", "1"), ("Content-Length", "2")))), TWO, TWO),
        Claim(answered(lambda start: start("200 OK", iter([("X-A", "1"), ("Content-Length", "2")]))), TWO, TWO),
    ],
    (SERVERS, "Header pairs that are lists"): [
        Claim(answered(lambda start: start("200 OK", [["X-A", "1"], ["Content-Length", "2"]])), TWO, TWO)
    ],
    (SERVERS, "`start_response(..., exc_info=...)` by keyword"): [Claim(answered(by_keyword), TWO, TWO)],
    (SERVERS, "Blanks around a Content-Length, or any other value"): [
        Claim(answered(lambda start: start("200 OK", [("X-A", " 1 "), ("Content-Length", " 2 ")])), TWO, TWO)
    ],
    (SERVERS, "Hop-by-hop headers, from a view that passes on the headers of another server"): [
        Claim(answered(hop_by_hop), TWO, TWO)
    ],
    (SERVERS, "A response without a chunk"): [Claim(chunks_of_nothing, [], [b""])],
    (SERVERS, "A prefix that ends with a slash (`--root-path /shop/`)"): [
        Claim(prefix_with_slash, ("/shop/", "x"), ("/shop", "/x"))
    ],
    (SERVERS, "DELETE, or another method, with a body and no Content-Length"): [Claim(delete_with_body, b"", b"abc")],
}
# Rows that need a real server, and the test that drives one.
ELSEWHERE = {
    (
        ASGI,
        "Client leaves while the app sends nothing",
    ): "real_servers/cases.py::test_an_app_that_sends_nothing_is_told_of_the_leave"
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_a_row(row: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The old code does what its column says, and the new code what is beside it."""
    if row == (WSGI, "SCRIPT_NAME"):
        monkeypatch.setenv("SCRIPT_NAME", "/of the process")
    old, new = PAIRS[row[0]]
    for claim in ROWS[row]:
        assert (claim.old, claim.new) == (claim.probe(old), claim.probe(new))


def test_each_row_is_run() -> None:
    """The tables have no row that is not run here, and no run is of a row that is not there."""
    there = {(title, row[0]) for title in PAIRS for row in rows(section(PAGE, f"## {title}"))}
    assert there == ROWS.keys() | ELSEWHERE.keys()
    for name in ELSEWHERE.values():
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")
