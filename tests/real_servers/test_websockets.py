"""WebSockets of `AsgiToWsgi` on each real server whose connection can be had: each byte on the wire is looked at."""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import servers
from real_servers.websocket_kinds import APP, QUIET_APP, connect, departing, departures, serving_on
from servers.pages import read_pages
from servers.process import free_port, serve, start, write_site
from support import apps
from support.waiting import until
from support.websocket_clients import Accepted, Closed, Rejected


@dataclass(frozen=True)
class Kind:
    """A server whose connection can be had.

    `at_once` is how many requests it has threads for. `stops_on` is the signal at which it lets Python end what is in
    progress, unless `tells_of_stops` says that there is none. `refuses_early`: the server keeps frames that are sent
    with the handshake.
    """

    run: Callable[[Path, str], servers.Running]
    core: bool = False
    at_once: int = 6
    stops_on: signal.Signals = signal.SIGTERM
    tells_of_stops: bool = True
    refuses_early: bool = False

    def __str__(self) -> str:
        return self.run.__name__


KINDS = [
    Kind(servers.gunicorn_sync, at_once=1),
    Kind(servers.gunicorn_sync_hooks, at_once=1),
    Kind(servers.gunicorn_gthread, core=True),
    Kind(servers.gunicorn_gthread_preload),
    Kind(servers.gunicorn_hooks),
    Kind(servers.gunicorn_gevent),
    Kind(servers.gunicorn_gevent_hooks),
    Kind(servers.gunicorn_gevent_pywsgi),
    Kind(servers.gunicorn_gevent_pywsgi_hooks),
    Kind(servers.gevent_pywsgi),
    Kind(servers.werkzeug, stops_on=signal.SIGINT),
    Kind(servers.werkzeug_debugger, stops_on=signal.SIGINT),
    Kind(servers.wsgiref, at_once=1, stops_on=signal.SIGINT),
    Kind(servers.django_runserver, stops_on=signal.SIGINT),
    Kind(servers.cheroot),
    Kind(servers.waitress_websockets, core=True, stops_on=signal.SIGINT),
    Kind(servers.uwsgi_gevent, tells_of_stops=False, refuses_early=True),
    Kind(servers.uwsgi_threads, tells_of_stops=False, refuses_early=True),
    Kind(servers.uwsgi_http_websockets, tells_of_stops=False, refuses_early=True),
]


def parameters(kinds: list[Kind]) -> list[Any]:
    return [
        pytest.param(
            kind,
            id=str(kind),
            marks=[pytest.mark.xdist_group(f"websocket {kind}"), *([] if kind.core else [pytest.mark.servers])],
        )
        for kind in kinds
    ]


every_kind = pytest.mark.parametrize("kind", parameters(KINDS), scope="module")


@pytest.fixture(scope="module")
def server(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with kind.run(tmp_path_factory.mktemp(str(kind)), APP) as running:
        yield running


@every_kind
class TestSession:
    @pytest.fixture(autouse=True)
    def and_a_request_after_it(self, server: servers.Server) -> Iterator[None]:
        with serving_on(server):
            yield

    @pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
    def test_echo(self, server: servers.Server, deflate: bool) -> None:
        with connect(server) as client, departing(server, "1000 bye"):
            assert Accepted(None, {}, deflate) == client.open("/echo", deflate=deflate)
            for message in ("héllo", b"\0\xff", "x" * 200_000, os.urandom(200_000)):
                client.send(message)
                assert message == client.receive()
            assert Closed(1000, "bye") == client.close(1000, "bye")

    def test_fragments_and_pings(self, server: servers.Server) -> None:
        with connect(server) as client, departing(server, "1000 "):
            client.open("/echo", subprotocols=["one", "two"])
            client.send("a" * 70_000, finished=False)
            client.ping(b"!")
            client.send("b", finished=False)
            client.send("")
            assert "a" * 70_000 + "b" == client.receive()
            assert [b"!"] == client.pongs
            client.close()

    def test_subprotocol(self, server: servers.Server) -> None:
        with connect(server) as client:
            assert Accepted("two", {}, False) == client.open("/echo", subprotocols=["one", "two"])
            client.close()

    def test_an_early_frame(self, server: servers.Server, kind: Kind) -> None:
        """It is recovered, or refused with the handshake; nobody waits for its answer in vain."""
        with connect(server) as client:
            answer = client.open("/echo", early=bytes.fromhex("8182 00000000") + b"hi")
            if kind.refuses_early:
                assert isinstance(answer, Rejected)
                assert 400 == answer.status
                return
            assert "hi" == client.receive()
            client.close()

    def test_an_abrupt_client(self, server: servers.Server) -> None:
        with connect(server) as client, departing(server, "1006 "):
            client.open("/echo")
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()

    def test_a_slow_reader(self, server: servers.Server) -> None:
        """Four messages of 1 MiB, at a rate that fills every buffer in between."""
        with connect(server) as client:
            client.open("/large")
            for number in range(4):
                assert bytes([number]) * 2**20 == client.receive_slowly()
            closed = client.receive()
            assert Closed(1000, "") == closed
            client.answer_close(closed)

    def test_a_reader_that_has_stopped(self, server: servers.Server) -> None:
        """It is left after a ping's time, and the app is told."""
        before = len(server.signals.told("flooded"))
        with connect(server) as client:
            client.open("/flood")
            until(lambda: len(server.signals.told("flooded")) > before)

    def test_a_silent_client(self, server: servers.Server) -> None:
        with connect(server, answers_pings=False) as client, departing(server, "1006 keepalive ping timeout"):
            client.open("/echo")
            assert Closed(1011, "keepalive ping timeout") == client.receive()
            client.see_the_end()

    def test_a_close_of_the_app(self, server: servers.Server) -> None:
        with connect(server) as client, departing(server, "3001 done"):
            client.open("/close")
            closed = client.receive()
            assert Closed(3001, "done") == closed
            client.answer_close(closed)

    def test_a_bad_frame(self, server: servers.Server) -> None:
        with connect(server) as client:
            client.open("/echo")
            client.raw(bytes.fromhex("8301 00") * 1000)
            closed = client.receive()
            assert isinstance(closed, Closed)
            assert 1002 == closed.code
            client.see_the_end()

    def test_a_denial(self, server: servers.Server) -> None:
        with connect(server) as client:
            rejected = client.open("/deny")
            assert isinstance(rejected, Rejected)
            assert (401, b"not you\n") == (rejected.status, rejected.body)

    def test_two_at_once(self, server: servers.Server, kind: Kind) -> None:
        if kind.at_once == 1:
            pytest.xfail("one request at a time")
        with connect(server) as one, connect(server) as other:
            one.open("/echo")
            other.open("/echo")
            one.send("1")
            other.send("2")
            assert ("1", "2") == (one.receive(), other.receive())
            other.close()
            one.close()


@every_kind
@pytest.mark.parametrize("path", ["/idle", "/polls"])
def test_a_leave_in_plain_http(server: servers.Server, path: str) -> None:
    """The same connection tells an app that sends nothing, in the middle of its response and before that."""
    token = secrets.token_hex(8)
    with server.connect() as connection:
        connection.head("GET", f"{path}?token={token}")
        if path == "/idle":
            assert apps.TICK == connection.response().read(len(apps.TICK))
        else:
            server.wait_for(lambda: server.counted("polled", token) == 1, "the app is called")
    server.wait_for(lambda: server.counted("told of the leave", token) == 1, "the app is told")


@every_kind
def test_a_stop_closes_sessions(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """With 1012 and at once, long before the end of the grace; and the app's shutdown is run."""
    if not kind.tells_of_stops:
        request.applymarker(pytest.mark.xfail(reason="the stop ends a worker that is busy without a word to Python"))
    monkeypatch.setenv("BRIDGE_TEST_GRACE", "40")
    with kind.run(tmp_path, QUIET_APP) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(min(kind.at_once, 3))]
        for client in clients:
            client.open("/echo")
            client.send("there")
            assert "there" == client.receive()
        server.begin_stop(kind.stops_on)
        for client in clients:
            closed = client.receive()
            assert isinstance(closed, Closed)
            assert 1012 == closed.code
        for client in clients:
            client.answer_close(closed)
        server.wait_for_end(kind.stops_on)
        assert ["startup", "shutdown"] == [line.split()[0] for line in server.signals.told("lifespan")]
        assert ["1012"] * len(clients) == [line.split()[0] for line in departures(server)]


@pytest.mark.servers
@pytest.mark.parametrize("run", [kind.run for kind in KINDS if kind.at_once > 1], ids=lambda run: str(run.__name__))
def test_a_fork_in_the_middle(run: Any, tmp_path: Path) -> None:
    """A child that has inherited the connection keeps it from neither side: its end is the end."""
    with run(tmp_path, QUIET_APP) as server, connect(server) as one, connect(server) as other:
        try:
            for client in (one, other):
                client.open("/fork")
                client.send("fork")
                assert "forked" == client.receive()
            client.send("again")
            assert "again" == client.receive()
            one.close(1000, "bye")
            other.close()
            assert (200, b"Hello, world!\n") == server.get("/hello")
        finally:
            server.signals.tell("children may end")
            until(lambda: len(server.signals.told("child ended")) == 2)


def gevent_of_three(directory: Path, app: str) -> servers.Running:
    return serve("gunicorn_gevent", directory, app, ["--worker-connections", "3"])


def gevent_pool_of_three(directory: Path, app: str) -> servers.Running:
    port = free_port()
    write_site(directory, app)
    text = read_pages()["gevent_pywsgi"].files["serve.py"]
    (directory / "serve.py").write_text(text.replace("Pool(1000)", "Pool(3)").replace("8000", str(port)))
    return start("gevent_pywsgi", directory, [sys.executable, "serve.py"], ("127.0.0.1", port))


COUNTED = [
    gevent_pool_of_three,
    servers.gunicorn_gthread,
    servers.gunicorn_hooks,
    gevent_of_three,
    servers.waitress_websockets,
    servers.cheroot,
    servers.uwsgi_threads,
]


@pytest.mark.servers
@pytest.mark.parametrize("run", COUNTED, ids=lambda run: str(run.__name__))
def test_one_thread_stays_free(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three: a third WebSocket gets 503, a request is answered beside the two, and one that ends makes room."""
    monkeypatch.setenv("BRIDGE_TEST_THREADS", "3")
    with run(tmp_path, QUIET_APP) as server, connect(server) as one, connect(server) as two:
        for client in (one, two):
            assert isinstance(client.open("/echo"), Accepted)
        for _ in range(2):
            with connect(server) as client:
                answer = client.open("/echo")
                assert isinstance(answer, Rejected)
                assert (503, "1") == (answer.status, answer.headers["retry-after"])
            assert (200, b"Hello, world!\n") == server.get("/hello")
        one.close()
        with contextlib.ExitStack() as stack:
            opened: list[Any] = []

            def there_is_room() -> bool:
                """The thread may still have to end the connection after its client has seen the close."""
                opened.append(stack.enter_context(connect(server)))
                return isinstance(opened[-1].open("/echo"), Accepted)

            until(there_is_room)
            client = opened[-1]
            client.send("room")
            two.send("there")
            assert ("room", "there") == (client.receive(), two.receive())
            client.close()
        two.close()


REFUSING = [
    (servers.granian_wsgi, "Granian"),
    (servers.bjoern, "bjoern"),
    (servers.apache_daemon, "mod_wsgi"),
    (servers.waitress, "channel_request_lookahead"),
    (servers.uwsgi_https_socket, "--https-socket"),
    (servers.cheroot_pyopenssl, "pyOpenSSL"),
]


@pytest.mark.servers
@pytest.mark.parametrize(("run", "named"), REFUSING, ids=[run.__name__ for run, _ in REFUSING])
@pytest.mark.parametrize("how", ["auto", "reject"])
def test_where_there_is_no_connection_to_be_had(run: Any, named: str, how: str, tmp_path: Path) -> None:
    """The request is the app's as plain http, or refused; and one warning names the server."""
    with run(tmp_path, f"bridge.AsgiToWsgi(websocket_apps.site, websocket={how!r})") as server:
        for _ in range(2):
            with connect(server) as client:
                answer = client.open("/hello")
                assert isinstance(answer, Rejected)
                assert (200 if how == "auto" else 426) == answer.status
        assert http.client.OK == server.get("/hello")[0]
        warnings = warnings_of(server)
        assert all(named.lower() in line.lower() for line in warnings)
        assert warnings


def warnings_of(server: servers.Server) -> list[str]:
    return [line for line in server.log().splitlines() if "a WebSocket cannot be served" in line]


@pytest.mark.servers
@pytest.mark.parametrize(("how", "status"), [("auto", 200), ("reject", 426)])
def test_without_wsproto(how: str, status: int, tmp_path: Path) -> None:
    """The warning says what to install, once."""
    (tmp_path / "wsproto.py").write_text("raise ImportError('as if it were not installed')\n")
    app = f"bridge.AsgiToWsgi(websocket_apps.site, websocket={how!r})"
    with servers.gunicorn_gthread(tmp_path, app) as server:
        for _ in range(2):
            with connect(server) as client:
                answer = client.open("/hello")
                assert isinstance(answer, Rejected)
                assert status == answer.status
        assert 1 == len(warnings_of(server))
        assert "install wsproto" in warnings_of(server)[0]


@pytest.mark.servers
def test_websockets_that_are_off(tmp_path: Path) -> None:
    """The handshake is the app's as plain http, and nothing is said about it."""
    app = "bridge.AsgiToWsgi(websocket_apps.site, websocket='off')"
    with servers.gunicorn_gthread(tmp_path, app) as server, connect(server) as client:
        answer = client.open("/hello")
        assert isinstance(answer, Rejected)
        assert (200, b"Hello, world!\n") == (answer.status, answer.body)
        assert [] == warnings_of(server)


@pytest.mark.servers
@pytest.mark.parametrize("run", [servers.gunicorn_http2, servers.granian_wsgi_tls])
def test_beside_http2(run: Any, tmp_path: Path) -> None:
    """The server does not offer WebSockets over HTTP/2 (RFC 8441), so that clients ask for them over HTTP/1.1."""
    with run(tmp_path, QUIET_APP) as server, servers.Http2Connection(server.address, server.tls) as other:
        assert (200, b"Hello, world!\n") == other.get("/hello")
        assert not other.state.remote_settings.enable_connect_protocol
        with connect(server) as client:
            answer = client.open("/echo")
            if run is servers.gunicorn_http2:
                client.send("over HTTP/1.1")
                assert "over HTTP/1.1" == client.receive()
                assert (200, b"Hello, world!\n") == other.get("/hello")
                client.close()
            else:
                assert isinstance(answer, Rejected)
                assert 1 == len(warnings_of(server))
