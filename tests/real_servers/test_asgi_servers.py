"""A WSGI app behind `WsgiToAsgi` on ASGI servers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import servers
from real_servers.cases import Cases, Kind

# Fewer threads than the twelve clients that leave, and less collected than the uploads that are to be streamed.
OPTIONS = "threads=4, collect=2**18, startup=apps.startup, shutdown=apps.shutdown"
APP = f"bridge.WsgiToAsgi(apps.wsgi_site, {OPTIONS})"
KINDS = [
    Kind(servers.uvicorn_httptools_uvloop),
    Kind(servers.uvicorn_h11_asyncio),
    Kind(servers.hypercorn_asyncio),
    Kind(servers.hypercorn_trio),
]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module", params=[kind.as_parameter() for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each ASGI server in turn."""
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


class TestAsgiServers(Cases):
    """A WSGI app on ASGI servers."""

    broken_upload = "ClientDisconnected"

    def test_shutdown_runs_though_streams_are_live(self, launch: Callable[[], servers.Running]) -> None:
        """The server gives live requests up after its grace, and then the lifespan ends as ever."""
        with launch() as server, server.connect() as connection:
            assert connection.ask("GET", "/endless").read(1)
            server.stop()

            assert ["startup", "shutdown"] == [line.split()[0] for line in server.signals.told("lifespan")]
