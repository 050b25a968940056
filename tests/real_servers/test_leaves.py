"""A client that leaves is noticed on each server that shows its connection, behind `Mounts` and `bridge.django` too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import servers
from support import apps

DJANGO = "__import__('support.django_project') and __import__('bridge.django').django.get_wsgi_application()"
MOUNTED = f"bridge.Mounts({{'/django': {DJANGO}, '/': apps.asgi_site}}).wsgi"
RUNS = [
    servers.gunicorn_gthread,
    servers.gunicorn_http2,
    servers.gunicorn_gevent,
    servers.gunicorn_gevent_pywsgi,
    servers.gevent_pywsgi,
    servers.werkzeug,
    servers.cheroot,
    servers.waitress,
    servers.waitress_websockets,
    servers.uwsgi_threads,
    servers.uwsgi_http_websockets,
    servers.uwsgi_gevent,
]
WORKS = "bridge.AsgiToWsgi(__import__('support.working_site').working_site.site)"
WORKING = [
    servers.gunicorn_gthread,
    pytest.param(servers.werkzeug, marks=pytest.mark.servers),
    pytest.param(servers.cheroot, marks=pytest.mark.servers),
    servers.waitress,
    pytest.param(servers.uwsgi_threads, marks=pytest.mark.servers),
]


def django_counted(server: servers.Server, what: str) -> int:
    status, body = server.get("/django/counters")
    assert 200 == status, server.log()
    return int(json.loads(body).get(what, 0))


@pytest.mark.servers
@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run.__name__))
def test_behind_mounts(run: Callable[[Path, str], servers.Running], tmp_path: Path, monkeypatch: Any) -> None:
    """An app that has begun its response, one that has not, and an async view of Django's: each is told."""
    monkeypatch.setenv("BRIDGE_TEST_GRACE", "5")
    with run(tmp_path, MOUNTED) as server:
        for number, path in enumerate(["/idle", "/polls"]):
            with server.connect() as connection:
                connection.head("GET", path)
                if path == "/idle":
                    assert apps.TICK == connection.response().read(len(apps.TICK))
                else:
                    server.wait_for(lambda: server.counted("polled") == 1, "the app is called")
            server.wait_for(lambda number=number: server.counted("told of the leave") > number, f"{path} is told")
        with server.connect() as connection:
            connection.head("GET", "/django/async_waits")
            server.wait_for(lambda: django_counted(server, "waits") == 1, "the view is called")
        server.wait_for(lambda: django_counted(server, "cleaned") == 1, "the view is cancelled")


@pytest.mark.parametrize("wait", ["asgiref", "event"])
@pytest.mark.parametrize("run", WORKING, ids=lambda run: str(run.__name__))
def test_while_the_thread_works(run: Callable[[Path, str], servers.Running], wait: str, tmp_path: Path) -> None:
    """The thread, which would look, runs code that waits for the task that waits for the client."""
    with run(tmp_path, WORKS) as server:
        with server.connect() as connection:
            connection.head("GET", f"/works?{wait}")
            server.wait_for(lambda: server.counted("works") == 1, "the app is called")
        server.wait_for(lambda: server.counted("told of the leave") == 1, "the app is told")
