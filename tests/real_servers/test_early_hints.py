"""RFC 8297: what the app hints at is sent before its response, where the server can."""

from collections.abc import Callable
from pathlib import Path

import pytest

import servers
from real_servers.kinds import ASGI_APP

pytestmark = pytest.mark.servers
CAN = [
    servers.gunicorn_sync,
    servers.gunicorn_gthread,
    servers.gunicorn_gevent,
    servers.gunicorn_http2,
]
CANNOT = [
    servers.gunicorn_gevent_pywsgi,
    servers.waitress,
    servers.uwsgi_threads,
    servers.granian_wsgi,
    servers.cheroot,
    servers.gevent_pywsgi,
]


@pytest.mark.parametrize("run", CAN)
def test_they_are_sent(run: Callable[[Path, str], servers.Running], tmp_path: Path) -> None:
    """The 103 has arrived before the response."""
    with run(tmp_path, ASGI_APP) as server, server.connect() as connection:
        connection.head("GET", "/early-hint")
        assert connection.reader.readline().startswith(b"HTTP/1.1 103 ")
        assert b"link: </style.css>; rel=preload\r\n" == connection.reader.readline().lower()
        assert b"\r\n" == connection.reader.readline()
        assert b"styled\n" == connection.response().read()


@pytest.mark.parametrize("run", CANNOT)
def test_they_are_not_offered_where_the_server_cannot(
    run: Callable[[Path, str], servers.Running], tmp_path: Path
) -> None:
    """The app finds no extension for it in the scope, and answers without."""
    with run(tmp_path, ASGI_APP) as server:
        assert (200, b"styled\n") == server.get("/early-hint")
