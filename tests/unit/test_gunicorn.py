"""The server hooks for Gunicorn: a worker with live streams ends them, and runs the shutdown, before it is killed."""

import signal
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import servers
from bridge._servers import process
from bridge.gunicorn import post_worker_init, worker_exit
from support import apps

ASGI_APP = "bridge.AsgiToWsgi(apps.asgi_site, disconnect_grace=1.0)"
WSGI_APP = "bridge.WsgiToAsgi(apps.wsgi_site, startup=apps.startup, shutdown=apps.shutdown, shutdown_timeout=1.0)"


@pytest.mark.parametrize(
    ("run", "app", "cleaned_up"),
    [
        (servers.gunicorn_hooks, ASGI_APP, True),
        (servers.gunicorn_gevent_hooks, ASGI_APP, True),
        # Gunicorn's own loop cancels what is live only behind the lifespan, and exits.
        (servers.gunicorn_asgi_hooks, WSGI_APP, False),
    ],
)
def test_live_streams_end_and_the_shutdown_runs(run: Any, app: str, cleaned_up: bool, tmp_path: Path) -> None:
    """Three endless streams that nobody leaves: on SIGTERM the app shuts down; behind each stream it has cleaned up."""
    with run(tmp_path, app) as server, ExitStack() as streams:
        for _ in range(3):
            connection = streams.enter_context(server.connect())
            assert apps.TICK == connection.ask("GET", "/endless").read(len(apps.TICK))
        server.stop()

        if cleaned_up:
            assert 3 == server.counted("ended")
        assert ["startup", "shutdown"] == [line.split()[0] for line in server.signals.told("lifespan")]
        assert "SIGKILL" not in server.log()


class Settings:
    """Gunicorn's configuration, as far as the hooks look at it."""

    graceful_timeout = 30
    threads = 1
    worker_connections = 1000

    def set(self, name: str, value: int) -> None:
        assert name == "graceful_timeout"
        self.graceful_timeout = value


def test_a_third_of_the_grace_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waits for two thirds of it, and what is still live then gets less than the rest."""
    given: list[float | None] = []
    monkeypatch.setattr(process, "close_all", given.append)
    worker = SimpleNamespace(cfg=Settings())

    post_worker_init(worker)
    worker_exit(None, worker)

    assert 20 == worker.cfg.graceful_timeout
    assert [7.5] == given


class ThreadWorker:
    """Gunicorn's, as far as the hooks look at it."""

    __module__ = "gunicorn.workers.gthread"

    def __init__(self) -> None:
        self.cfg = Settings()
        self.cfg.threads = 7


class GeventWorker:
    __module__ = "gunicorn.workers.ggevent"

    def __init__(self) -> None:
        self.cfg = Settings()
        self.cfg.worker_connections = 7


@pytest.mark.parametrize("kind", [ThreadWorker, GeventWorker])
def test_sigterm_closes_websockets_and_is_gunicorns_own_then(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, in the order of the signal handlers; and the adapter has learnt of the threads."""
    called: list[str] = []
    monkeypatch.setattr(process, "begin_stop", lambda: called.append("websockets"))
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("gunicorn"))
    try:
        post_worker_init(kind())
        signal.raise_signal(signal.SIGTERM)
        assert ["websockets", "gunicorn"] == called
        assert 7 == process.server_threads()
    finally:
        signal.signal(signal.SIGTERM, before)
        process._threads.here().clear()


def test_a_worker_that_never_started_has_nothing_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gunicorn calls `worker_exit` also where importing the app has failed."""
    given: list[float | None] = []
    monkeypatch.setattr(process, "close_all", given.append)

    worker_exit(None, SimpleNamespace(cfg=Settings()))

    assert not given
