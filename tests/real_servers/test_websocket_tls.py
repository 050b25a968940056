"""WebSockets through the server's own TLS, where it does that itself and its connection can be had."""

import os
import signal
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import servers
from real_servers.websocket_kinds import APP, connect, departing, serving_on
from support import apps
from support.websocket_clients import Accepted, Closed, Rejected

RUNS = [
    servers.gunicorn_sync_tls,
    servers.gunicorn_http2,
    servers.gunicorn_gevent_tls,
    servers.gunicorn_gevent_pywsgi_tls,
    servers.gevent_pywsgi_tls,
    servers.werkzeug_tls,
    servers.cheroot_tls,
    servers.uwsgi_https,
]


def parameter(run: Callable[[Path, str], servers.Running]) -> object:
    return pytest.param(run, id=run.__name__, marks=pytest.mark.xdist_group(f"websocket {run.__name__}"))


@pytest.fixture(scope="module")
def server(
    run: Callable[[Path, str], servers.Running], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.Server]:
    with run(tmp_path_factory.mktemp(run.__name__), APP) as running:
        yield running


@pytest.mark.servers
@pytest.mark.parametrize("run", [parameter(run) for run in RUNS], scope="module")
class TestTls:
    @pytest.fixture(autouse=True)
    def and_a_request_after_it(self, server: servers.Server) -> Iterator[None]:
        with serving_on(server):
            yield

    @pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
    def test_echo(self, server: servers.Server, deflate: bool) -> None:
        """Messages of many TLS records, and many messages in one record."""
        with connect(server) as client, departing(server, "1000 bye"):
            assert Accepted(None, {}, deflate) == client.open("/echo", deflate=deflate)
            for message in ("héllo", "x" * 200_000, os.urandom(200_000)):
                client.send(message)
                assert message == client.receive()
            client.raw(b"".join(client.message(str(number)) for number in range(100)))
            assert [str(number) for number in range(100)] == [client.receive() for _ in range(100)]
            assert Closed(1000, "bye") == client.close(1000, "bye")

    def test_an_early_frame(self, server: servers.Server, run: Callable[[Path, str], servers.Running]) -> None:
        """It is recovered, or refused with the handshake."""
        with connect(server) as client:
            answer = client.open("/echo", early=bytes.fromhex("8182 00000000") + b"hi")
            if run is servers.uwsgi_https:
                assert isinstance(answer, Rejected)
                assert 400 == answer.status
                return
            assert "hi" == client.receive()
            client.close()

    def test_an_abrupt_client(self, server: servers.Server) -> None:
        """A reset, without a word of TLS."""
        with connect(server) as client, departing(server, "1006 "):
            client.open("/echo")
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()

    def test_a_client_that_ends_tls(self, server: servers.Server) -> None:
        """It says so, and nothing of WebSockets."""
        with connect(server) as client, departing(server, "1006 "):
            client.open("/echo")
            client.end_tls()

    def test_a_slow_reader(self, server: servers.Server) -> None:
        with connect(server) as client:
            client.open("/large")
            for number in range(4):
                assert bytes([number]) * 2**20 == client.receive_slowly()
            closed = client.receive()
            assert Closed(1000, "") == closed
            client.answer_close(closed)

    def test_a_close_of_the_app(self, server: servers.Server) -> None:
        with connect(server) as client, departing(server, "3001 done"):
            client.open("/close")
            closed = client.receive()
            assert Closed(3001, "done") == closed
            client.answer_close(closed)

    def test_a_bad_frame(self, server: servers.Server) -> None:
        """The client learns of it, though it goes on with what is not read any more."""
        with connect(server) as client:
            client.open("/echo")
            with suppress(ssl.SSLEOFError):  # the router in front of uWSGI may be done before all of it is sent
                client.raw(bytes.fromhex("8301 00") * 30_000)
            closed = client.receive()
            assert isinstance(closed, Closed)
            assert 1002 == closed.code
            client.see_the_end()

    def test_a_denial(self, server: servers.Server) -> None:
        with connect(server) as client:
            rejected = client.open("/deny")
            assert isinstance(rejected, Rejected)
            assert (401, b"not you\n") == (rejected.status, rejected.body)

    def test_a_leave_in_plain_http(self, server: servers.Server) -> None:
        """The same connection tells an app that sends nothing."""
        connection = server.connect()
        assert apps.TICK == connection.ask("GET", "/idle?token=plain").read(len(apps.TICK))
        connection.close()
        server.wait_for(lambda: server.counted("told of the leave", "plain") == 1, "the app is told")


@pytest.mark.servers
@pytest.mark.parametrize("run", [parameter(run) for run in (servers.gunicorn_gevent_tls, servers.cheroot_tls)])
def test_a_stop(run: Callable[[Path, str], servers.Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The close frame goes out through TLS too."""
    monkeypatch.setenv("BRIDGE_TEST_GRACE", "40")
    with run(tmp_path, APP) as server, connect(server) as client:
        client.open("/echo")
        server.begin_stop(signal.SIGTERM)
        closed = client.receive()
        assert isinstance(closed, Closed)
        assert 1012 == closed.code
        client.answer_close(closed)
        server.wait_for_end(signal.SIGTERM)
        assert ["startup", "shutdown"] == [line.split()[0] for line in server.signals.told("lifespan")]
