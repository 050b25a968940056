"""Requests that share a thread of a WSGI server, one after the other."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from bridge.django import get_wsgi_application
from bridge.django._applications import WsgiApplication
from support import django_project
from support.plain_servers import environ_for
from support.waiting import OneThread

BOTH = pytest.mark.parametrize("prefix", ["", "async_"])


@pytest.fixture
def app() -> Iterator[WsgiApplication]:
    """The project for a WSGI server."""
    django_project.events.clear()
    with get_wsgi_application() as made:
        yield made


@pytest.fixture
def thread() -> Iterator[OneThread]:
    """The server's only thread."""
    made = OneThread()
    yield made
    made.run(connections.close_all)
    made.end()


def ask(thread: OneThread, app: WsgiApplication, path: str) -> Any:
    """One request, whole."""
    import json

    def serve() -> bytes:
        path_info, _, query = path.partition("?")
        environ = environ_for("GET", path_info) | {"QUERY_STRING": query}
        body = app(environ, lambda status, headers: None)
        try:
            return b"".join(body)
        finally:
            getattr(body, "close", int)()  # PEP 3333: where it has one

    seen = thread.run(serve)
    return json.loads(seen) if seen.startswith(b"{") else seen


@BOTH
def test_state_of_the_one_is_not_seen_by_the_next(app: WsgiApplication, thread: OneThread, prefix: str) -> None:
    """Language, time zone, `Local` and context variables."""
    assert "de" == ask(thread, app, f"/{prefix}state?set=de")["after"]["local"]
    clean = {"language": "en-us", "zone": "UTC", "local": "unset", "variable": "unset"}
    assert clean == ask(thread, app, f"/{prefix}state")["before"]


def test_a_cache_lives_on(app: WsgiApplication, thread: OneThread) -> None:
    """And a database connection, in any case."""
    assert 1 == len({ask(thread, app, f"/{view}")["cache"] for view in ("cached", "async_cached", "cached")})
    assert 1 == len({ask(thread, app, f"/{view}")["connection"] for view in ("database", "async_database")})


@BOTH
def test_a_stream_sees_the_state_of_its_request(app: WsgiApplication, thread: OneThread, prefix: str) -> None:
    """Though the server iterates after the handler has returned."""
    assert b"de de" == ask(thread, app, f"/{prefix}stateful_stream?set=de")
    assert b"unset unset" == ask(thread, app, f"/{prefix}stateful_stream")


def test_what_is_not_of_ours_is_left_alone(app: WsgiApplication) -> None:
    """A server knows its file wrapper by its type."""

    class Wrapper:
        def __init__(self, filelike: Any, block_size: int) -> None:
            self.close = filelike.close

    environ = environ_for("GET", "/file") | {"wsgi.file_wrapper": Wrapper}
    body = app(environ, lambda status, headers: None)
    assert type(body) is Wrapper
    body.close()
