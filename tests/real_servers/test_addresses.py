"""Where a server listens, and what it says about it."""

import json
import signal
from pathlib import Path

import pytest

from real_servers.kinds import ASGI_APP, WSGI_APP
from servers.process import serve

pytestmark = pytest.mark.servers


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("uvicorn_h11_asyncio", WSGI_APP),
        ("hypercorn_asyncio", WSGI_APP),
        ("gunicorn_asgi", WSGI_APP),
        ("gunicorn_gthread", ASGI_APP),
        ("waitress", ASGI_APP),
        ("uwsgi_threads", ASGI_APP),
        ("cheroot", ASGI_APP),
    ],
)
def test_ipv6(name: str, app: str, tmp_path: Path) -> None:
    """The app is told the client's address as it is."""
    with serve(name, tmp_path, app, host="::1") as server:
        status, body = server.get("/facts")
        assert (200, "::1") == (status, json.loads(body)["client"])
        if name == "waitress":
            server.stop(signal.SIGINT)
