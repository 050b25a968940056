"""A startup that fails: an ASGI server does not start, and on a WSGI server no request reaches the app."""

import http.client
import re
from pathlib import Path

import pytest

from real_servers.kinds import WSGI_APP
from servers.process import serve

pytestmark = pytest.mark.servers
REASON = "no database today"


@pytest.mark.parametrize(
    "name", ["uvicorn_h11_asyncio", "hypercorn_asyncio", "hypercorn_trio", "gunicorn_asgi", "granian_asgi"]
)
def test_an_asgi_server_does_not_start(name: str, tmp_path: Path) -> None:
    """And its log says why."""
    app = WSGI_APP.replace("startup=apps.startup", "startup=apps.failing_startup")
    with pytest.raises(AssertionError, match=f"did not start[\\s\\S]+{REASON}"), serve(name, tmp_path, app):
        raise RuntimeError("it has started")


@pytest.mark.parametrize(
    "name",
    ["gunicorn_sync", "gunicorn_gthread", "gunicorn_gevent", "uwsgi_threads", "waitress", "cheroot", "gevent_pywsgi"],
)
def test_a_wsgi_server_answers_each_request_with_an_error(name: str, tmp_path: Path) -> None:
    """Each is told why in the log."""
    with serve(name, tmp_path, "bridge.AsgiToWsgi(apps.failing)", probe="") as server:
        for number in (1, 2):
            try:
                assert 500 == server.get("/hello")[0]
            except http.client.RemoteDisconnected:
                assert name == "uwsgi_threads", "it answers nothing where the app raises"
            logged = rf"LifespanFailed.*{REASON}"
            server.wait_for(lambda: len(re.findall(logged, server.log())) >= number, "the reason is logged")  # noqa: B023
