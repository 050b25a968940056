"""The servers of the matrix: how each is run, and what can be expected of it.

Those that are `core` belong to `make test`; all of them to `make test-servers`.
"""

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

import servers

# Fewer threads than the twelve clients that leave, and less collected than the uploads that are to be streamed.
OPTIONS = "threads=4, collect=2**18, startup=apps.startup, shutdown=apps.shutdown"
WSGI_APP = f"bridge.WsgiToAsgi(apps.wsgi_site, {OPTIONS})"
ASGI_APP = "bridge.AsgiToWsgi(apps.asgi_site, disconnect_grace=1.0)"


def always(response: http.client.HTTPResponse) -> bool:
    return True


def never(response: http.client.HTTPResponse) -> bool:
    return False


def with_a_length(response: http.client.HTTPResponse) -> bool:
    return response.getheader("Content-Length") is not None or response.status in (204, 304)


@dataclass(frozen=True)
class Kind:
    """A server as one sets it up, and what can be expected of it.

    `cannot` names cases and says why they fail there; they are run, and have to. `lacks` does so for those that mean
    nothing there, or would hang the server, and are not run.
    """

    run: Callable[[Path, str], servers.Running]
    core: bool = False
    keeps_connections: Callable[[http.client.HTTPResponse], bool] = always
    concurrent: bool = True
    streams_uploads: bool = True
    stops_cleanly_on: Any = SIGTERM
    forks: bool = False
    cannot: Mapping[str, str] = field(default_factory=dict)
    lacks: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.run.__name__

    def as_parameter(self) -> Any:
        marks = [pytest.mark.xdist_group(str(self)), *([] if self.core else [pytest.mark.servers])]
        return pytest.param(self, id=str(self), marks=marks)


ASGI = [
    Kind(servers.uvicorn_httptools_uvloop, core=True),
    Kind(servers.uvicorn_h11_asyncio, core=True),
    Kind(servers.hypercorn_asyncio, core=True),
    Kind(servers.hypercorn_uvloop),
    Kind(servers.hypercorn_trio, core=True),
    Kind(servers.daphne),
    Kind(servers.granian_asgi),
    Kind(servers.gunicorn_asgi, forks=True),
]

WSGI = [
    Kind(servers.gunicorn_sync, forks=True, core=True, keeps_connections=never, concurrent=False),
    Kind(servers.gunicorn_sync_preload, forks=True, keeps_connections=never, concurrent=False),
    Kind(servers.gunicorn_gthread, forks=True, core=True),
    Kind(servers.gunicorn_gthread_preload, forks=True, core=True),
    Kind(servers.gunicorn_gevent, forks=True),
    Kind(servers.gunicorn_gevent_preload, forks=True),
    Kind(servers.gunicorn_gevent_pywsgi, forks=True),
    Kind(servers.gunicorn_gevent_pywsgi_preload, forks=True),
    # Waitress calls the app when the body is whole, keeps a connection only behind a declared length, and ends on
    # SIGTERM without a word to Python.
    Kind(
        servers.waitress,
        core=True,
        keeps_connections=with_a_length,
        streams_uploads=False,
        stops_cleanly_on=SIGINT,
    ),
    Kind(servers.waitress_unix, keeps_connections=with_a_length, streams_uploads=False, stops_cleanly_on=SIGINT),
    Kind(servers.uwsgi_prefork, forks=True, keeps_connections=never),
    Kind(servers.uwsgi_lazy_apps, forks=True, keeps_connections=never),
    Kind(servers.uwsgi_threads, forks=True, keeps_connections=never),
    Kind(servers.uwsgi_gevent, forks=True, keeps_connections=never),
    Kind(servers.granian_wsgi, forks=True),
    Kind(servers.cheroot),
    Kind(servers.werkzeug, keeps_connections=never, stops_cleanly_on=SIGINT),
    Kind(servers.wsgiref, keeps_connections=never, concurrent=False, stops_cleanly_on=SIGINT),
    Kind(servers.django_runserver, stops_cleanly_on=SIGINT),
    Kind(servers.gevent_pywsgi),
    Kind(servers.eventlet, stops_cleanly_on=SIGINT),
    Kind(servers.bjoern, concurrent=False, streams_uploads=False, stops_cleanly_on=SIGINT),
]
