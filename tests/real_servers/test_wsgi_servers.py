"""An ASGI app behind `AsgiToWsgi` on WSGI servers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT

import pytest

import servers
from real_servers.cases import HELLO, Cases, Kind

APP = "bridge.AsgiToWsgi(apps.asgi_site, disconnect_grace=1.0)"
KINDS = [
    Kind(servers.gunicorn_sync, keeps_connections=lambda response: False, concurrent=False),
    Kind(servers.gunicorn_gthread),
    Kind(servers.gunicorn_gthread_preload),
    # Waitress calls the app when the body is whole, keeps a connection only behind a declared length, and ends on
    # SIGTERM without a word to Python.
    Kind(
        servers.waitress,
        keeps_connections=lambda response: response.getheader("Content-Length") is not None,
        streams_uploads=False,
        stops_cleanly_on=SIGINT,
    ),
]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module", params=[kind.as_parameter() for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each WSGI server in turn."""
    return request.param


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One server for all cases that leave it running."""
    with kind.run(tmp_path_factory.mktemp(str(kind)), APP) as running:
        yield running


@pytest.fixture
def launch(kind: Kind, tmp_path: Path) -> Callable[[], servers.Running]:
    """Start a server for one test."""
    return lambda: kind.run(tmp_path, APP)


class TestWsgiServers(Cases):
    """An ASGI app on WSGI servers."""

    broken_upload = "ClientLeft"

    def test_an_answer_does_not_wait_for_the_upload(self, server: servers.Server, kind: Kind) -> None:
        """An app that answers before it has read the body is not held up by a client that is slow to send it."""
        if not kind.streams_uploads:
            return
        with server.connect() as connection:
            connection.head("POST", "/answers-early", {"Content-Length": 1000})
            connection.send(b"x" * 10)

            assert b"no need to read on\n" == connection.response("POST").read()

    def test_a_worker_process_is_not_the_one_that_imported(self, server: servers.Server, kind: Kind) -> None:
        """With --preload the adapter is made in the master, and serves in its child."""
        assert (kind.run is servers.waitress) is (server.counters()["pid"] == server.process.pid)
        assert (200, HELLO) == server.get("/hello")
