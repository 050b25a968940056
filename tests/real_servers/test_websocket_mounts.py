"""`Mounts` on servers of both kinds: a WebSocket goes to the side that its path belongs to."""

from collections.abc import Callable
from pathlib import Path

import pytest

import servers
from real_servers.websocket_kinds import connect
from servers.process import serve
from support.websocket_clients import Accepted, Closed, Rejected

MOUNTS = "bridge.Mounts({'/echo': websocket_apps.site, '/': apps.wsgi_site})"


def uvicorn(protocol: str) -> Callable[[Path, str], servers.Running]:
    return lambda directory, app: serve("uvicorn_h11_asyncio", directory, app, ["--ws", protocol])


RUNS: dict[str, tuple[Callable[[Path, str], servers.Running], bool]] = {
    "uvicorn_websockets": (uvicorn("websockets"), True),
    "uvicorn_wsproto": (uvicorn("wsproto"), False),
    "hypercorn": (servers.hypercorn_asyncio, False),
    "gunicorn_gthread": (servers.gunicorn_gthread, False),
}


@pytest.mark.parametrize(
    "host", [pytest.param(name, marks=[] if core else [pytest.mark.servers]) for name, (_, core) in RUNS.items()]
)
def test_each_goes_to_its_side(host: str, tmp_path: Path) -> None:
    """A WSGI app's are denied by an ASGI server; on a WSGI server they are plain requests, which it answers."""
    run, _ = RUNS[host]
    on_wsgi = host == "gunicorn_gthread"
    with run(tmp_path, f"{MOUNTS}.{'wsgi' if on_wsgi else 'asgi'}") as server:
        with connect(server) as client:
            assert isinstance(client.open("/echo", subprotocols=["chat"]), Accepted)
            for message in ("hello", b"\0\xff"):
                client.send(message)
                assert message == client.receive()
            assert Closed(1000, "") == client.close()
        with connect(server) as client:
            denied = client.open("/hello")
            assert isinstance(denied, Rejected)
            expected = (200, b"Hello, world!\n") if on_wsgi else (404, b"WebSocket")
            assert expected[0] == denied.status
            assert expected[1] in denied.body
        assert (200, b"Hello, world!\n") == server.get("/hello")
        assert "Traceback" not in server.log()
