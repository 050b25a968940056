"""Workers that come and go: recycled after a number of requests, reloaded by a signal."""

import os
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

import servers
from real_servers.kinds import ASGI_APP, HELLO, WSGI_APP
from real_servers.processes import GRACEFUL, MERCY, lifespans, patiently
from servers.process import GRACE, Server, serve
from support import apps

pytestmark = pytest.mark.servers
WHOLE = ["startup", "shutdown"]
FIVE = ["--max-requests", "5"]
LOGGED = re.compile(r"^\[pid: (\d+)\|", re.MULTILINE)
FORKED = re.compile(r"spawned uWSGI worker \d+ .*?pid: (\d+)")
UVICORN = ["--timeout-graceful-shutdown", str(GRACE)]


def until_each_worker_is_in_the_middle(server: Server, asked: int) -> None:
    """Go on until each worker of uWSGI has served some of its five requests, but not all. `asked` is how many requests
    there have been.

    A stop kills a worker that is about to end, and the master stays if it is about to replace one. A worker that has
    just been forked still has the master's handlers: it sends the stop to the others once more, in their shutdown.
    """

    def served() -> list[int]:
        """By the workers that are there. uWSGI logs each request, with its worker."""
        server.wait_for(lambda: len(LOGGED.findall(server.log())) == asked, "each request is logged")
        counts = Counter(LOGGED.findall(server.log()))
        ended = {pid for pid, count in counts.items() if count >= 5}  # more: another thread of it was as quick
        server.wait_for(lambda: server.log().count("Respawned") == len(ended), "who has ended has a successor")
        return [counts[pid] for pid in FORKED.findall(server.log()) if pid not in ended]

    while not all(served()):
        assert (200, HELLO) == patiently(lambda: server.get("/hello"))
        asked += 1


class TestRecycling:
    """A worker that has served its number of requests ends, and another one goes on."""

    @pytest.mark.parametrize(
        ("name", "app", "more"),
        [
            ("gunicorn_gthread", ASGI_APP, [*FIVE, *GRACEFUL]),
            ("gunicorn_sync", ASGI_APP, [*FIVE, "--workers", "1", *GRACEFUL]),
            ("gunicorn_gevent", ASGI_APP, [*FIVE, *GRACEFUL]),
            ("gunicorn_asgi", WSGI_APP, [*FIVE, *GRACEFUL]),
            ("uwsgi_threads", ASGI_APP, [*FIVE, "--min-worker-lifetime", "0", *MERCY]),
            ("uwsgi_prefork", ASGI_APP, [*FIVE, "--min-worker-lifetime", "0", *MERCY]),
            ("uvicorn_httptools_uvloop", WSGI_APP, ["--limit-max-requests", "5", "--workers", "2", *UVICORN]),
            ("hypercorn_asyncio", WSGI_APP, [*FIVE, "--workers", "2", *GRACEFUL]),
        ],
    )
    def test_max_requests(self, name: str, app: str, more: list[str], tmp_path: Path) -> None:
        """Requests one after the other are all answered, by four processes; each starts and shuts down once."""
        with serve(name, tmp_path, app, more) as server:
            asked = 1  # it has been asked whether it answers
            while len(lifespans(server)) < 4:
                assert (200, HELLO) == patiently(lambda: server.get("/hello"))
                asked += 1
            if name.startswith("uwsgi"):
                until_each_worker_is_in_the_middle(server, asked)
            server.stop()
            ends = [tuple(told) for told in lifespans(server).values()]
            assert ("startup", "shutdown") in ends
            # When one of Hypercorn's workers has ended, its master kills the others, which are about to end as well.
            cut_off = {("startup",)} if name == "hypercorn_asyncio" else set()
            assert {("startup", "shutdown")} == set(ends) - cut_off

    def test_apache(self, tmp_path: Path) -> None:
        """The same by `maximum-requests` of WSGIDaemonProcess."""
        with servers.apache_daemon(tmp_path, ASGI_APP, daemon="maximum-requests=5") as server:
            while len(lifespans(server)) < 4:
                assert (200, HELLO) == patiently(lambda: server.get("/hello"))
            server.stop()
            assert {("startup", "shutdown")} == {tuple(told) for told in lifespans(server).values()}


class TestReload:
    """SIGHUP (to a daemon process of Apache: SIGUSR1): new workers come, and old ones finish what they have begun."""

    @pytest.mark.parametrize("where", ["before", "length"])
    @pytest.mark.parametrize(
        ("name", "app", "more", "how"),
        [
            ("gunicorn_gthread", ASGI_APP, ["--graceful-timeout", "15"], signal.SIGHUP),
            ("gunicorn_asgi", WSGI_APP, ["--graceful-timeout", "15"], signal.SIGHUP),
            ("uwsgi_threads", ASGI_APP, ["--worker-reload-mercy", "15"], signal.SIGHUP),
            ("uwsgi_prefork", ASGI_APP, ["--worker-reload-mercy", "15"], signal.SIGHUP),
            (
                "uvicorn_httptools_uvloop",
                WSGI_APP,
                ["--workers", "2", "--timeout-graceful-shutdown", "15"],
                signal.SIGHUP,
            ),
            ("granian_wsgi", ASGI_APP, ["--workers-kill-timeout", "15"], signal.SIGHUP),
            ("granian_asgi", WSGI_APP, ["--workers-kill-timeout", "15"], signal.SIGHUP),
            ("apache_daemon", ASGI_APP, [], signal.SIGUSR1),
        ],
    )
    def test_a_request_in_progress_is_answered(
        self,
        name: str,
        app: str,
        more: list[str],
        how: signal.Signals,
        where: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It spans the reload, and is whole; then its process shuts its app down, and another one serves."""
        monkeypatch.setenv("BRIDGE_TEST_GRACE", "15")
        run = servers.apache_daemon(tmp_path, app) if name == "apache_daemon" else serve(name, tmp_path, app, more)
        with run as server:
            with server.connect() as connection:
                connection.head("GET", "/waits?token=reload" + ("&length=1" if where == "length" else ""))
                server.wait_for(lambda: bool(server.signals.told("reload-taken")), "the app is at work")
                old = server.signals.told("reload-taken")[0]
                # Apache's own SIGUSR1 cuts off what its daemon processes do; theirs does not.
                os.kill(int(old) if name == "apache_daemon" else server.process.pid, how)
                server.signals.tell("reload-go")
                response = connection.response()
                assert (200, apps.HALF + apps.HALF) == (response.status, response.read())
            server.wait_for(lambda: str(patiently(lambda: server.pid())) != old, "another worker serves")
            server.wait_for(lambda: lifespans(server)[old] == WHOLE, "the old worker has shut its app down")

    def test_graceful_stop_of_apache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """SIGWINCH, `apachectl graceful-stop`: what is in progress is whole, and then it ends."""
        monkeypatch.setenv("BRIDGE_TEST_GRACE", "15")
        with servers.apache_daemon(tmp_path, ASGI_APP) as server:
            with server.connect() as connection:
                connection.head("GET", "/waits?token=stop&length=1")
                server.wait_for(lambda: bool(server.signals.told("stop-taken")), "the app is at work")
                server.begin_stop(signal.SIGWINCH)
                server.signals.tell("stop-go")
                assert apps.HALF + apps.HALF == connection.response().read()
            server.wait_for_end(signal.SIGWINCH)
            assert {tuple(WHOLE)} == {tuple(told) for told in lifespans(server).values()}

    def test_graceful_stop_of_uwsgi(self, tmp_path: Path) -> None:
        """With the hook of its page: what is in progress is whole, and the lifespan shutdown runs."""
        with serve("uwsgi_graceful", tmp_path, ASGI_APP, ready=("ready in", 1)) as server:
            with server.connect() as connection:
                connection.head("GET", "/waits?token=stop&length=1")
                server.wait_for(lambda: bool(server.signals.told("stop-taken")), "the app is at work")
                server.begin_stop(signal.SIGTERM)
                server.signals.tell("stop-go")
                assert apps.HALF + apps.HALF == connection.response().read()
            server.wait_for_end(signal.SIGTERM)
            assert {tuple(WHOLE)} == {tuple(told) for told in lifespans(server).values()}
