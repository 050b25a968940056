"""A WSGI app behind `WsgiToAsgi` on ASGI servers."""

from collections.abc import Callable

import pytest

import servers
from real_servers.cases import Cases
from real_servers.hard_cases import HardCases
from real_servers.kinds import ASGI, Kind
from real_servers.stop_cases import StopCases


@pytest.fixture(scope="module", params=[kind.as_parameter() for kind in ASGI])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each ASGI server in turn."""
    return request.param


class TestAsgiServers(Cases, HardCases, StopCases):
    """A WSGI app on ASGI servers."""

    broken_upload = "ClientDisconnected"

    def test_shutdown_runs_though_streams_are_live(self, launch: Callable[[], servers.Running]) -> None:
        """The server gives live requests up after its grace, and then the lifespan ends as ever."""
        with launch() as server, server.connect() as connection:
            assert connection.ask("GET", "/endless").read(1)
            server.stop()

            assert ["startup", "shutdown"] == [line.split()[0] for line in server.signals.told("lifespan")]
