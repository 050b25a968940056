"""Workers that come and go: recycled, reloaded, killed, each in the middle of work; IPv6, prefixes, early hints."""

import http.client
import json
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

import servers
from real_servers.kinds import ASGI_APP, HELLO, WSGI_APP
from servers.process import GRACE, serve

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]
Launch = Callable[..., servers.Running]

MERCY = ["--worker-reload-mercy", str(GRACE)]
GRACEFUL = ["--graceful-timeout", str(GRACE)]


def lifespans(server: servers.Server) -> dict[str, list[str]]:
    """What the lifespan of each process has told, by process."""
    told: dict[str, list[str]] = {}
    for line in server.signals.told("lifespan"):
        what, pid = line.split()
        told.setdefault(pid, []).append(what)
    return told


def worker_of(server: servers.Server) -> int:
    return server.counters()["pid"]


class TestRecycling:
    """A worker that has served its number of requests ends, and another one goes on."""

    @pytest.mark.parametrize(
        ("name", "more"),
        [
            ("gunicorn_gthread", ["--max-requests", "5", *GRACEFUL]),
            ("gunicorn_sync", ["--max-requests", "5", "--workers", "1", *GRACEFUL]),
            ("gunicorn_gevent", ["--max-requests", "5", *GRACEFUL]),
            ("uwsgi_threads", ["--max-requests", "5", "--min-worker-lifetime", "0", *MERCY]),
        ],
    )
    def test_max_requests(self, name: str, more: list[str], tmp_path: Path) -> None:
        """Requests one after the other are all answered, by three workers; each starts and shuts down once."""
        with serve(name, tmp_path, ASGI_APP, more) as server:
            while len(lifespans(server)) < 3:
                assert (200, HELLO) == patiently(lambda: server.get("/hello"))
            server.stop()
            assert {("startup", "shutdown")} == {tuple(told) for told in lifespans(server).values()}


def patiently(ask: Callable[[], Any]) -> Any:
    """A server with one worker refuses or resets what comes between two of them, before it has taken a request."""
    deadline = time.monotonic() + 15
    while True:
        try:
            return ask()
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class TestReload:
    """SIGHUP (Apache: SIGUSR1): new workers come, and old ones finish what they have begun."""

    @pytest.mark.parametrize(
        ("name", "app", "more", "how"),
        [
            ("gunicorn_gthread", ASGI_APP, GRACEFUL, signal.SIGHUP),
            ("gunicorn_asgi", WSGI_APP, GRACEFUL, signal.SIGHUP),
            ("uwsgi_threads", ASGI_APP, MERCY, signal.SIGHUP),
        ],
    )
    def test_a_request_in_progress_is_answered(
        self, name: str, app: str, more: list[str], how: signal.Signals, tmp_path: Path
    ) -> None:
        """A response that takes a second spans the reload, and is whole."""
        with serve(name, tmp_path, app, more) as server:
            old = worker_of(server)
            with server.connect() as connection:
                connection.head("GET", "/tagged?id=1&delay=1")
                server.wait_for(lambda: _busy(server, old), "the request has been taken")
                server.process.send_signal(how)
                assert b"1::1" == connection.response().read()
            server.wait_for(lambda: patiently(lambda: worker_of(server)) != old, "another worker serves")
            whole = ["startup", "shutdown"]
            server.wait_for(lambda: lifespans(server)[str(old)] == whole, "the old worker has shut its app down")


def _busy(server: servers.Server, pid: int) -> bool:
    """A connection besides the one that listens, established in the worker."""
    connections = psutil.Process(pid).net_connections(kind="tcp")
    return any(each.status == psutil.CONN_ESTABLISHED for each in connections)


class TestKilled:
    """A worker that is killed takes its requests along, and nothing else."""

    @pytest.mark.parametrize(
        ("name", "app", "more"),
        [
            ("gunicorn_gthread", ASGI_APP, GRACEFUL),
            ("gunicorn_asgi", WSGI_APP, GRACEFUL),
            ("uwsgi_threads", ASGI_APP, MERCY),
            ("granian_wsgi", ASGI_APP, ["--respawn-failed-workers"]),
            ("granian_asgi", WSGI_APP, ["--respawn-failed-workers"]),
        ],
    )
    def test_sigkill(self, name: str, app: str, more: list[str], tmp_path: Path) -> None:
        """The client sees its response break off, and the next request is served by another worker."""
        with serve(name, tmp_path, app, more) as server:
            old = worker_of(server)
            with server.connect() as connection:
                response = connection.ask("GET", "/endless")
                assert response.read(1)
                psutil.Process(old).send_signal(signal.SIGKILL)
                # A response without a length ends as its connection does, and there is nothing to see of it.
                with suppress(http.client.HTTPException, ConnectionError):
                    response.read()
            server.wait_for(lambda: patiently(lambda: server.get("/hello")) == (200, HELLO), "the next is served")
            assert old != worker_of(server)


class TestAddresses:
    """Where a server listens, and what it says about it."""

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
    def test_ipv6(self, name: str, app: str, tmp_path: Path) -> None:
        """The app is told the client's address as it is."""
        with serve(name, tmp_path, app, host="::1") as server:
            status, body = server.get("/facts")
            assert (200, "::1") == (status, json.loads(body)["client"])
            if name == "waitress":
                server.stop(signal.SIGINT)


class TestPrefix:
    """An app below a prefix, which the server is told and the proxy takes off, or leaves on."""

    def test_the_proxy_takes_it_off(self, tmp_path: Path) -> None:
        """`root_path` becomes SCRIPT_NAME, and the rest PATH_INFO."""
        with servers.nginx_prefix(tmp_path, WSGI_APP) as server:
            assert ("/shop", "/facts/a b") == _root_and_path(server, "/shop/facts/a%20b")

    def test_nobody_takes_it_off(self, tmp_path: Path) -> None:
        """A server that was given a root path, asked for a path that begins with it. (Uvicorn would add it again.)"""
        with serve("hypercorn_asyncio", tmp_path, WSGI_APP, ["--root-path", "/shop"], probe="/shop/hello") as server:
            assert ("/shop", "/facts/a b") == _root_and_path(server, "/shop/facts/a%20b")

    def test_the_server_takes_it_off(self, tmp_path: Path) -> None:
        """Gunicorn is told SCRIPT_NAME by its environment; the ASGI app gets it as `root_path`."""
        named = {"SCRIPT_NAME": "/shop"}
        with serve("gunicorn_gthread", tmp_path, ASGI_APP, environment=named, probe="/shop/hello") as server:
            assert ("/shop", "/facts/a b") == _root_and_path(server, "/shop/facts/a%20b")


def _root_and_path(server: servers.Server, target: str) -> tuple[str, str]:
    status, body = server.get(target)
    assert 200 == status, server.log()
    facts = json.loads(body)
    return bytes.fromhex(facts["root"]).decode(), bytes.fromhex(facts["path"]).decode()


def test_early_hints(tmp_path: Path) -> None:
    """RFC 8297: Gunicorn sends what the app hints at before its response."""
    with servers.gunicorn_gthread(tmp_path, ASGI_APP) as server, server.connect() as connection:
        connection.head("GET", "/early-hint")
        assert connection.reader.readline().startswith(b"HTTP/1.1 103 ")
        assert b"link: </style.css>; rel=preload\r\n" == connection.reader.readline().lower()
        assert b"\r\n" == connection.reader.readline()
        assert b"styled\n" == connection.response().read()
