"""What the tests of WebSockets on real servers share: the apps, how to connect, and what the app is told."""

import contextlib
from collections.abc import Iterator
from typing import Any

import servers
from support.waiting import until
from support.websocket_clients import Client

OPTIONS = "disconnect_grace=1.0, ping_interval=0.5, ping_timeout=1.0"
QUIET_APP = "bridge.AsgiToWsgi(websocket_apps.site, disconnect_grace=1.0)"
APP = f"bridge.AsgiToWsgi(websocket_apps.site, {OPTIONS})"


def connect(server: servers.Server, **options: Any) -> Client:
    connection = server.connect_socket()
    if server.tls is not None:
        connection = server.tls.wrap_socket(connection, server_hostname="localhost")
    return Client(connection, **options)


def departures(server: servers.Server) -> list[str]:
    return server.signals.told("departed")


@contextlib.contextmanager
def departing(server: servers.Server, expected: str) -> Iterator[None]:
    """One session ends within, and its app is told so."""
    before = len(departures(server))
    yield
    until(lambda: len(departures(server)) > before)
    assert [expected] == departures(server)[before:]


@contextlib.contextmanager
def serving_on(server: servers.Server) -> Iterator[None]:
    """Whatever happens within, the server then serves a request, on the same worker, and has logged no traceback."""
    pid, mark = server.pid(), server.log_mark()
    yield
    assert (200, b"Hello, world!\n") == server.get("/hello")
    assert pid == server.pid()
    assert "Traceback" not in server.log(mark)
