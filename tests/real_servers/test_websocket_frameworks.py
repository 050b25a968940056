"""python-socketio, Django Channels, Starlette and FastAPI: their WebSockets on a WSGI server as on an ASGI server."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]

import servers
from support.patience import PATIENCE
from support.waiting import until
from support.websocket_clients import Accepted, Client, Closed, Rejected

MODULE = "__import__('importlib').import_module('support.websocket_frameworks')"
ADAPTED = f"bridge.AsgiToWsgi({MODULE}.site, disconnect_grace=1.0)"
Run = Callable[[Path, str], servers.Running]
HOSTS: dict[str, tuple[Run, str, tuple[Any, ...]]] = {
    "gunicorn_gthread": (servers.gunicorn_gthread, ADAPTED, ()),
    "gunicorn_sync": (servers.gunicorn_sync, ADAPTED, (pytest.mark.servers,)),
    "uvicorn": (servers.uvicorn_h11_asyncio, f"{MODULE}.site", (pytest.mark.servers,)),
}


@pytest.fixture(scope="module", params=[pytest.param(name, marks=marks) for name, (_, _, marks) in HOSTS.items()])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    run, app, _ = HOSTS[request.param]
    with run(tmp_path_factory.mktemp("frameworks"), app) as running:
        yield running


@pytest.fixture
def no_traceback(server: servers.Server) -> Iterator[None]:
    """And the server serves on."""
    mark = server.log_mark()
    yield
    assert (200, b"Hello, world!\n") == server.get("/hello")
    assert "Traceback" not in server.log(mark)


def connect(server: servers.Server) -> Client:
    return Client(server.connect_socket())


def departed(server: servers.Server, expected: str) -> None:
    until(lambda: expected in server.signals.told("departed"))


async def shout(server: servers.Server, **options: Any) -> tuple[Any, Any, list[str]]:
    """What the server says of the transport, what the client says, and what came back."""
    heard: list[str] = []
    came = asyncio.Event()
    async with asyncio.timeout(PATIENCE):
        client = socketio.AsyncClient(reconnection=False)

        async def shouted(text: str) -> None:
            heard.append(text)
            came.set()

        client.on("shouted", shouted)
        try:
            await client.connect(f"http://127.0.0.1:{server.port}", **options)
        except socketio.exceptions.ConnectionError:
            await client.eio.http.close()  # a client that is refused leaves it open
            raise
        seen = await client.call("shout", "hello")
        await came.wait()
        transport = client.transport()
        if transport == "websocket":
            await client.disconnect()
        else:
            # It would wait for its last long poll, on any server.
            tasks, connections = [client.eio.read_loop_task, client.eio.write_loop_task], client.eio.http
            await client.eio.disconnect(abort=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connections.close()
    return seen, transport, heard


@pytest.mark.usefixtures("no_traceback")
class TestSocketIo:
    @pytest.mark.parametrize("transports", [None, ["websocket"]], ids=["upgrade", "websocket"])
    def test_a_client(self, server: servers.Server, transports: Any) -> None:
        """By default it connects by polling, and upgrades."""
        assert ("websocket", "websocket", ["HELLO"]) == asyncio.run(shout(server, transports=transports))


@pytest.mark.servers
@pytest.mark.parametrize("how", ["auto", "off"])
def test_socket_io_where_there_are_no_websockets(how: str, tmp_path: Path) -> None:
    """The upgrade fails without a traceback, and the client goes on with polling; without that it is refused."""
    app = f"bridge.AsgiToWsgi({MODULE}.site, websocket={how!r})"
    with servers.waitress(tmp_path, app) as server:
        assert ("polling", "polling", ["HELLO"]) == asyncio.run(shout(server))
        with pytest.raises(socketio.exceptions.ConnectionError):
            asyncio.run(shout(server, transports=["websocket"]))
        assert "Traceback" not in server.log()
        assert (how == "auto") == ("a WebSocket cannot be served" in server.log())


@pytest.mark.servers
def test_socket_io_where_websockets_are_refused(tmp_path: Path) -> None:
    """The upgrade gets 426, and the client goes on with polling; an upgrade that is all it wants fails."""
    app = f"bridge.AsgiToWsgi({MODULE}.site, websocket='reject')"
    with servers.waitress(tmp_path, app) as server:
        assert ("polling", "polling", ["HELLO"]) == asyncio.run(shout(server))
        with pytest.raises(socketio.exceptions.ConnectionError):
            asyncio.run(shout(server, transports=["websocket"]))
        with connect(server) as client:
            refused = client.open("/socket.io/?EIO=4&transport=websocket")
            assert isinstance(refused, Rejected)
            assert (426, "13") == (refused.status, refused.headers["sec-websocket-version"])
        assert (200, b"Hello, world!\n") == server.get("/hello")
        assert "Traceback" not in server.log()
        assert "refused with 426" in server.log()


ORIGIN = [(b"Origin", b"http://localhost")]


@pytest.mark.usefixtures("no_traceback")
class TestChannels:
    @pytest.mark.parametrize("path", ["/channels/room", "/channels/sync"])
    def test_a_consumer(self, server: servers.Server, path: str) -> None:
        with connect(server) as client:
            assert isinstance(client.open(path, headers=ORIGIN), Accepted)
            client.send("hello")
            assert "AnonymousUser: hello" == client.receive()
            assert Closed(4001, "") == client.close(4001)
        departed(server, "4001")

    def test_two_hear_each_other(self, server: servers.Server, request: pytest.FixtureRequest) -> None:
        if "gunicorn_sync" in request.node.name:
            pytest.xfail("one request at a time")
        with connect(server) as one, connect(server) as other:
            accepted = one.open("/channels/room", headers=ORIGIN, subprotocols=["chat"])
            assert isinstance(accepted, Accepted)
            assert "chat" == accepted.subprotocol
            other.open("/channels/sync", headers=ORIGIN)
            for client in (one, other):
                client.send("hello")
                assert ["AnonymousUser: hello"] * 2 == [one.receive(), other.receive()]
            one.close()
            other.close()

    def test_a_consumer_closes(self, server: servers.Server) -> None:
        with connect(server) as client:
            client.open("/channels/sync", headers=ORIGIN)
            client.send("close")
            closed = client.receive()
            assert Closed(4005, "as you say") == closed
            client.answer_close(closed)

    @pytest.mark.parametrize(
        ("path", "origin"), [("/channels/room", b"http://elsewhere"), ("/channels/sync?refused", b"http://localhost")]
    )
    def test_a_refusal(self, server: servers.Server, path: str, origin: bytes) -> None:
        with connect(server) as client:
            rejected = client.open(path, headers=[(b"Origin", origin)])
            assert isinstance(rejected, Rejected)
            assert 403 == rejected.status


@pytest.mark.parametrize(
    ("run", "function"),
    [
        (servers.gunicorn_gthread, "get_wsgi_application"),
        pytest.param(servers.uvicorn_h11_asyncio, "get_asgi_application", marks=pytest.mark.servers),
    ],
)
def test_channels_behind_djangos_own_function(run: Run, function: str, tmp_path: Path) -> None:
    """`bridge.django` has both: each takes `websocket=...`."""
    with run(tmp_path, f"__import__('bridge.django').django.{function}(websocket={MODULE}.consumers)") as server:
        for path in ("/channels/room", "/channels/sync"):
            with connect(server) as client:
                client.open(path, headers=ORIGIN)
                client.send("hello")
                assert "AnonymousUser: hello" == client.receive()
                client.close()
        assert "Traceback" not in server.log()


@pytest.mark.usefixtures("no_traceback")
class TestStarlette:
    def test_a_route(self, server: servers.Server) -> None:
        with connect(server) as client:
            accepted = client.open("/starlette?token=right", subprotocols=["one", "two"])
            assert isinstance(accepted, Accepted)
            assert ("two", "1") == (accepted.subprotocol, accepted.headers["x-room"])
            for total in (3, 6):
                client.send('{"count": 3}')
                assert {"said": total} == json.loads(str(client.receive()))
            client.close()
        departed(server, "starlette")

    def test_a_denial(self, server: servers.Server) -> None:
        with connect(server) as client:
            rejected = client.open("/starlette")
            assert isinstance(rejected, Rejected)
            assert (401, "token", b"no token") == (rejected.status, rejected.headers["x-why"], rejected.body)

    def test_a_path_that_is_none(self, server: servers.Server) -> None:
        with connect(server) as client:
            rejected = client.open("/starlette/none")
            assert isinstance(rejected, Rejected)
            assert rejected.status in (403, 404)

    def test_fastapi_with_dependencies(self, server: servers.Server) -> None:
        with connect(server) as client:
            client.open("/fastapi/7", headers=[(b"X-Name", b"ann")])
            assert "ann in 7" == client.receive()
            client.send(b"\0\xff")
            assert b"\0\xff" == client.receive()
            closed = client.receive()
            assert Closed(4000, "enough") == closed
            client.answer_close(closed)

    @pytest.mark.parametrize("path", ["/fastapi/seven", "/fastapi/7"])
    def test_fastapi_refuses_what_is_invalid(self, server: servers.Server, path: str) -> None:
        """A parameter that is no number, a header that is missing."""
        with connect(server) as client:
            rejected = client.open(path, headers=[(b"X-Name", b"ann")] if "seven" in path else ())
            assert isinstance(rejected, Rejected)
            assert 403 == rejected.status
