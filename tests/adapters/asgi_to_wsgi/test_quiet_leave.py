"""A client that leaves while nothing happens is no error, in the log of any server."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import servers
from servers import Server

APP = "bridge.AsgiToWsgi(apps.asgi_site, lifespan='off')"
EACH = [
    pytest.param(kind, id=kind.__name__, marks=pytest.mark.xdist_group(kind.__name__))
    for kind in (servers.waitress, servers.gunicorn_gthread)
]


@pytest.fixture(scope="module", params=EACH)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Each server in turn."""
    run: Callable[[Path, str], servers.Running] = request.param
    with run(tmp_path_factory.mktemp(run.__name__), APP) as running:
        yield running


@pytest.mark.parametrize("begun", [True, False], ids=["in a stream", "before the response"])
def test_no_traceback_is_logged(server: Server, begun: bool) -> None:
    """The app is told, and ends by itself; what the server is told ends the connection."""
    token, logged = secrets.token_hex(8), server.log_mark()
    for number in range(3):
        with server.connect() as connection:
            if begun:
                assert connection.ask("GET", f"/idle?token={token}").readline() == b"tick\n"
            else:
                connection.head("GET", f"/polls?token={token}")
                server.wait_for(lambda: server.counted("polled", token) == number + 1, "the app is called")  # noqa: B023
            connection.abort()
    server.wait_for(lambda: server.counted("told of the leave", token) == 3, "the app is told")
    assert server.get("/hello")[0] == 200

    said = server.log(logged)
    assert "Traceback" not in said, said
    assert "ERROR" not in said, said
