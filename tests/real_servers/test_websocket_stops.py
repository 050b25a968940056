"""Open WebSockets when a worker ends and another one comes: by a signal, after so many requests, by a reloader."""

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import servers
from real_servers.processes import lifespans, patiently
from real_servers.websocket_kinds import QUIET_APP, connect, departures
from servers.process import Running, free_port, serve, start, write_site
from support.websocket_clients import Accepted, Client, Closed

pytestmark = pytest.mark.servers
# More than a client waits for its close frame: who gets one in time has not waited for the end of the grace.
LONG = ["--graceful-timeout", "40"]
DEAF = "uWSGI tells Python nothing before it has waited for its threads, and kills the worker then"


def opened(server: servers.Server, client: Client) -> str:
    """Open a session; returns the process that has it."""
    assert isinstance(client.open("/echo"), Accepted)
    client.send("there")
    assert "there" == client.receive()
    return lifespans_of(server)[-1]


def lifespans_of(server: servers.Server) -> list[str]:
    return list(lifespans(server))


def is_told_to_come_again(client: Client) -> None:
    closed = client.receive()
    assert isinstance(closed, Closed)
    assert 1012 == closed.code
    client.answer_close(closed)


def another_serves(server: servers.Server, old: str) -> None:
    """The old process has run the app's shutdown, and a session opens in a new one."""
    server.wait_for(lambda: lifespans(server)[old] == ["startup", "shutdown"], "the old worker has shut its app down")
    assert str(patiently(lambda: server.pid())) != old
    with connect(server) as client:
        assert isinstance(client.open("/echo"), Accepted)
        client.close()
    assert "1012" == departures(server)[0].split()[0]


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("gunicorn_sync", ["--workers", "1", *LONG]),
        ("gunicorn_gthread", LONG),
        ("gunicorn_gthread", ["--preload", *LONG]),
        ("gunicorn_hooks", LONG),
        ("gunicorn_gevent", LONG),
        ("gunicorn_gevent_pywsgi", LONG),
        pytest.param("uwsgi_threads", ["--worker-reload-mercy", "2"], marks=pytest.mark.xfail(reason=DEAF)),
    ],
    ids=lambda value: value if isinstance(value, str) else "preload" if "--preload" in value else "",
)
def test_a_reload(name: str, more: list[str], tmp_path: Path) -> None:
    """SIGHUP."""
    with serve(name, tmp_path, QUIET_APP, more) as server, connect(server) as client:
        old = opened(server, client)
        os.kill(server.process.pid, signal.SIGHUP)
        is_told_to_come_again(client)
        another_serves(server, old)


@pytest.mark.parametrize("name", ["gunicorn_gthread", "gunicorn_hooks", "gunicorn_gevent"])
def test_max_requests(name: str, tmp_path: Path) -> None:
    """No signal comes: the worker has served so many requests, and waits for those that are open."""
    more = ["--max-requests", "8", *LONG]
    with serve(name, tmp_path, QUIET_APP, more) as server, connect(server) as client, ExitStack() as others:
        old = opened(server, client)
        for _ in range(8):
            # The last of them are for the next worker, which comes when this one has ended.
            others.enter_context(server.connect()).head("GET", "/hello")
        is_told_to_come_again(client)
        another_serves(server, old)


WERKZEUG = """
from werkzeug.serving import run_simple

from mysite.wsgi import application

options = {"use_reloader": True, "reloader_type": "stat", "reloader_interval": 0.1}
run_simple("127.0.0.1", PORT, application, threaded=True, **options)
"""


def werkzeug(directory: Path) -> Running:
    port = free_port()
    write_site(directory, QUIET_APP)
    (directory / "serve.py").write_text(WERKZEUG.replace("PORT", str(port)))
    return start("werkzeug", directory, [sys.executable, "serve.py"], ("127.0.0.1", port))


def runserver(directory: Path) -> Running:
    port = free_port()
    write_site(directory, QUIET_APP)
    servers.write_django_project(directory)
    command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}"]
    return start("django_runserver", directory, command, ("127.0.0.1", port))


@pytest.mark.parametrize("run", [werkzeug, runserver])
def test_a_reloader(run: object, tmp_path: Path) -> None:
    """A file of the app changes."""
    with run(tmp_path) as server:  # type: ignore[operator]
        with connect(server) as client:
            old = opened(server, client)

            def changed() -> bool:
                # The first look of a reloader at a file is not the one that finds it changed.
                (tmp_path / "mysite" / "wsgi.py").touch()
                return bool(departures(server))

            server.wait_for(changed, "the session is told")
            is_told_to_come_again(client)
        another_serves(server, old)
        # As by Ctrl-C in a terminal; the parent ends with its child.
        server.ending = server.family()
        os.kill(int(lifespans_of(server)[-1]), signal.SIGINT)
        server.wait_for_end(signal.SIGINT)
