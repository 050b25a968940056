"""What docs/migrating.md says of Gunicorn as the server of a WSGI app, and of `WsgiToAsgi` in its place."""

import io
import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import Response, create

from bridge import AsgiToWsgi, WsgiToAsgi
from support.moving_asgi import call
from support.moving_wsgi import Probe, once, seen_by_app
from support.plain_servers import body_events, scope_for


def gunicorn(head: bytes) -> tuple[Response, dict[str, Any]]:
    """The response and the environ that Gunicorn makes of a request."""
    config = Config()
    request = next(RequestParser(config, io.BytesIO(head), ("192.0.2.1", 50000)))
    return create(request, SimpleNamespace(send=len, sendall=len), ("192.0.2.1", 50000), ("127.0.0.1", 8000), config)


def answered(answer: Callable[[Any], object]) -> Probe:
    """The headers of an answer of two bytes, or what is raised. Its Content-Length is the app's alone."""

    def probe(server: Any) -> Any:
        if server == "gunicorn":
            response, _ = gunicorn(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer(response.start_response)
            length = [] if response.response_length is None else [("content-length", str(response.response_length))]
            named = [(name.lower(), value) for name, value in response.headers if name.lower() != "content-length"]
            return sorted(named + length)

        def app(environ: Any, start_response: Any) -> list[bytes]:
            answer(start_response)
            return [b"xy"]

        logging.getLogger("bridge").addFilter(silent)
        try:
            seen = once(WsgiToAsgi, app)
        finally:
            logging.getLogger("bridge").removeFilter(silent)
        if seen.raised:
            return type(seen.raised)
        return sorted((name.decode().lower(), value.decode()) for name, value in seen.events[0]["headers"])

    return probe


def silent(record: logging.LogRecord) -> bool:
    """One warning a process, which is not what is looked at here."""
    return False


def by_keyword(start_response: Any) -> None:
    try:
        raise LookupError
    except LookupError:
        start_response("200 OK", [("X-A", "1"), ("Content-Length", "2")], exc_info=sys.exc_info())


def hop_by_hop(start_response: Any) -> None:
    start_response("200 OK", [("X-A", "1"), ("Keep-Alive", "timeout=5"), ("Content-Length", "2")])


def chunks_of_nothing(server: Any) -> Any:
    """The response of an ASGI app without a body, as a WSGI server gets it; what Gunicorn makes of none."""
    if server == "gunicorn":
        response, _ = gunicorn(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        response.start_response("200 OK", [("Content-Length", "0")])
        response.close()
        return []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return call(AsgiToWsgi, app, see=list)


def prefix_with_slash(server: Any) -> Any:
    """SCRIPT_NAME and PATH_INFO below `/shop/`."""
    if server == "gunicorn":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCRIPT_NAME", "/shop/")
            _, environ = gunicorn(b"GET /shop/x HTTP/1.1\r\nHost: x\r\n\r\n")
        return environ["SCRIPT_NAME"], environ["PATH_INFO"]
    scope = scope_for("GET", "/shop/x", root_path="/shop/")
    return seen_by_app(WsgiToAsgi, lambda environ: (environ["SCRIPT_NAME"], environ["PATH_INFO"]), scope)


def delete_with_body(server: Any) -> Any:
    """What the app reads of a body that has neither length nor coding."""
    if server == "gunicorn":
        _, environ = gunicorn(b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\nabc")
        return environ["wsgi.input"].read()
    scope = scope_for("DELETE", "/")
    return seen_by_app(WsgiToAsgi, lambda environ: environ["wsgi.input"].read(), scope, body_events(b"abc"))
