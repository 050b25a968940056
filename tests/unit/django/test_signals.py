"""The start and the end of a request, where they are not signals: the same is done as Django's receivers do."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import signals
from django.core.cache import caches
from django.core.handlers.wsgi import WSGIHandler
from django.db import close_old_connections, connection, connections
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import get_urlconf, set_urlconf

from bridge.django import _signals
from bridge.django._handler import headers
from support import django_project  # noqa: F401  # its settings
from support.waiting import OneThread


@pytest.fixture
def thread() -> Iterator[OneThread]:
    """A thread that has no connections at first."""
    made = OneThread()
    yield made
    made.run(connections.close_all)
    made.end()


def start() -> None:
    _signals.start(WSGIHandler, {})


def close() -> None:
    response = HttpResponse()
    assert _signals.closes_at_once(response)
    _signals.close(response)
    assert response.closed


def sent(function: Callable[[], object]) -> list[str]:
    """Which of the two signals `function` sends."""
    seen = []

    def started(**_: Any) -> None:
        seen.append("started")

    def finished(**_: Any) -> None:
        seen.append("finished")

    signals.request_started.connect(started)
    signals.request_finished.connect(finished)
    try:
        function()
    finally:
        signals.request_started.disconnect(started)
        signals.request_finished.disconnect(finished)
    return seen


@pytest.mark.parametrize("function", [start, close])
def test_an_old_connection_is_closed(thread: OneThread, function: Callable[[], None]) -> None:
    """CONN_MAX_AGE has passed."""

    def serve() -> bool:
        connection.ensure_connection()
        connection.close_at = 0.0
        function()
        return connection.connection is None

    assert thread.run(serve)


@pytest.mark.parametrize("function", [start, close])
def test_a_connection_that_may_live_on_does(thread: OneThread, function: Callable[[], None]) -> None:
    """It has no age yet."""

    def serve() -> bool:
        connection.ensure_connection()
        connection.close_at = None
        function()
        return connection.connection is not None

    assert thread.run(serve)


def test_the_log_of_queries_is_emptied(thread: OneThread) -> None:
    """Also that of a connection which has been closed since."""

    def serve() -> "deque[Any]":
        connection.force_debug_cursor = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.close()
        assert connection.queries_log
        start()
        return connection.queries_log

    assert not thread.run(serve)


def test_caches_are_closed(thread: OneThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used."""
    closed = []

    def serve() -> None:
        monkeypatch.setattr(type(caches["default"]), "close", lambda self, **_: closed.append(self))
        close()

    thread.run(serve)
    assert len(closed) == 1


def test_the_urlconf_of_a_request_is_forgotten(thread: OneThread) -> None:
    """A later request begins with that of the settings."""

    def serve() -> object:
        set_urlconf("elsewhere")
        close()
        return get_urlconf()

    assert thread.run(serve) is None


def test_what_a_response_holds_is_closed_and_let_go() -> None:
    """As by `HttpResponse.close()`; and the rest is done though it raises."""
    response = HttpResponse()
    closed = []
    response._resource_closers.append(lambda: closed.append(1))
    assert _signals.closes_at_once(response)
    _signals.close(response)
    assert ([1], [], True) == (closed, response._resource_closers, response.closed)

    def fails() -> None:
        raise LookupError("no such thing")

    response = HttpResponse()
    response._resource_closers.append(fails)
    set_urlconf("elsewhere")
    with pytest.raises(LookupError, match="no such thing"):
        _signals.close(response)
    assert get_urlconf() is None


def test_receivers_of_a_project_get_their_signals() -> None:
    """Then there is no shorter way, until they listen no more."""
    assert ["started"] == sent(start)

    def refused() -> None:
        assert not _signals.closes_at_once(HttpResponse())

    assert [] == sent(refused)
    assert _signals.closes_at_once(HttpResponse())


def test_what_was_taken_away_of_djangos_is_not_done(thread: OneThread) -> None:
    """`assertNumQueries` takes `reset_queries` away, and Django's test client `close_old_connections`."""

    def serve() -> bool:
        connection.ensure_connection()
        connection.close_at = 0.0
        start()
        return connection.connection is not None

    signals.request_started.disconnect(close_old_connections)
    signals.request_finished.disconnect(close_old_connections)
    try:
        assert thread.run(serve)
        assert not _signals.closes_at_once(HttpResponse())
    finally:
        signals.request_started.connect(close_old_connections)
        signals.request_finished.connect(close_old_connections)
    assert _signals.closes_at_once(HttpResponse())


def test_a_close_of_somebody_elses_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the response, its class, or for all responses."""

    class Own(HttpResponse):
        def close(self) -> None:
            super().close()

    assert not _signals.closes_at_once(Own())
    response = HttpResponse()
    monkeypatch.setattr(response, "close", lambda: None)
    assert not _signals.closes_at_once(response)
    monkeypatch.setattr(HttpResponseBase, "close", lambda self: None)
    assert not _signals.closes_at_once(HttpResponse())


def test_much_to_close(thread: OneThread) -> None:
    """A database that was used, or a cache; not one that was only looked at."""

    def seen() -> list[bool]:
        found = [_signals.much_to_close()]
        connections["default"]  # makes the object
        found.append(_signals.much_to_close())
        connection.ensure_connection()
        found.append(_signals.much_to_close())
        connection.close()
        found.append(_signals.much_to_close())
        caches["default"]
        return [*found, _signals.much_to_close()]

    assert [False, False, True, False, True] == thread.run(seen)


def test_headers_are_those_that_items_gives() -> None:
    """Each name as it was first written, and the last value."""
    response = HttpResponse(b"x", headers={"X-One": "1", "x-two": "2"})
    response["x-ONE"] = "3"
    response.set_cookie("a", "b")
    assert [*response.items(), ("Set-Cookie", "a=b; Path=/")] == headers(response)
