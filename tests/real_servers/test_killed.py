"""A worker process that is killed takes its requests along, so that their clients can tell, and nothing else."""

import http.client
import secrets
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import servers
from real_servers.kinds import ASGI_APP, HELLO, WSGI_APP
from real_servers.processes import GRACEFUL, MERCY, patiently
from servers.process import serve
from support import apps

pytestmark = pytest.mark.servers
RESPAWN = ["--respawn-failed-workers", "--respawn-interval", "0.1"]
# Apache ends a response without a length in the regular way when its daemon process is gone.
PASSES_FOR_WHOLE = {"apache_daemon", "apache_daemon_subinterpreter"}
Run = Callable[[Path], servers.Running]
BROKEN = (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError, ssl.SSLError)


def page(name: str, app: str, *more: str) -> Run:
    return lambda directory: serve(name, directory, app, more)


SERVERS: dict[str, Run] = {
    "gunicorn_gthread": page("gunicorn_gthread", ASGI_APP, *GRACEFUL),
    "gunicorn_sync": page("gunicorn_sync", ASGI_APP, *GRACEFUL, "--workers", "2"),
    "gunicorn_gevent": page("gunicorn_gevent", ASGI_APP, *GRACEFUL),
    "gunicorn_asgi": page("gunicorn_asgi", WSGI_APP, *GRACEFUL),
    "uwsgi_threads": page("uwsgi_threads", ASGI_APP, *MERCY),
    "uwsgi_prefork": page("uwsgi_prefork", ASGI_APP, *MERCY),
    "granian_wsgi": page("granian_wsgi", ASGI_APP, *RESPAWN),
    "granian_asgi": page("granian_asgi", WSGI_APP, *RESPAWN),
    "uvicorn": page("uvicorn_httptools_uvloop", WSGI_APP, "--workers", "2"),
    "apache_daemon": lambda directory: servers.apache_daemon(directory, ASGI_APP),
    "apache_daemon_subinterpreter": lambda directory: servers.apache_daemon_subinterpreter(directory, ASGI_APP),
}


@pytest.fixture(params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("where", ["before", "length", "chunked"])
def test_sigkill(name: str, where: str, tmp_path: Path) -> None:
    """The client sees that its response is not whole, and the next request is served by another process."""
    token = secrets.token_hex(8)
    with SERVERS[name](tmp_path) as server:
        with server.connect() as connection:
            connection.head("GET", f"/waits?token={token}" + (f"&{where}=1" if where != "before" else ""))
            if where != "before":
                response = connection.response()
                assert (200, apps.HALF) == (response.status, response.read(len(apps.HALF)))
            server.wait_for(lambda: bool(server.signals.told(f"{token}-taken")), "the app is at work")
            killed = int(server.signals.told(f"{token}-taken")[0])
            assert killed != server.process.pid
            psutil.Process(killed).send_signal(signal.SIGKILL)
            if where == "before":
                assert_broken(lambda: connection.response())
            elif where == "chunked" and name in PASSES_FOR_WHOLE:
                assert b"" == response.read()
            else:
                assert_broken(lambda: response.read())
        assert (200, HELLO) == patiently(lambda: server.get("/hello"))
        server.wait_for(lambda: patiently(lambda: server.pid()) != killed, "another process serves")


def assert_broken(finish: Callable[[], object]) -> None:
    """What `finish` waits for does not come: the connection ends too early, or a proxy says so."""
    try:
        got = finish()
    except BROKEN:
        return
    assert isinstance(got, http.client.HTTPResponse), got
    assert got.status in (500, 502, 503), got.status
