"""Connections taken from servers: where each has it, what it has read of it, and what is refused."""

import io
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from bridge._servers import process, takeover
from bridge._servers.takeover import NoTakeover, find, threads_of
from bridge.errors import ClientProtocolError
from support.patience import PATIENCE

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    server, client = socket.socketpair()
    with server, client:
        client.settimeout(PATIENCE)
        yield server, client


def environ_of(**more: Any) -> dict[str, Any]:
    return {"SERVER_PROTOCOL": "HTTP/1.1"} | {key.replace("__", "."): value for key, value in more.items()}


def of_gunicorn(server: socket.socket) -> dict[str, Any]:
    held = io.BytesIO(b"early")
    reader = SimpleNamespace(unreader=SimpleNamespace(buf=held))
    return environ_of(gunicorn__socket=server, wsgi__input=SimpleNamespace(reader=reader))


def of_wsgiref(server: socket.socket) -> dict[str, Any]:
    reader = server.makefile("rb")
    reader.peek(1)
    return environ_of(wsgi__input=reader)


def of_cheroot(server: socket.socket) -> dict[str, Any]:
    return environ_of(wsgi__input=SimpleNamespace(rfile=of_wsgiref(server)["wsgi.input"]))


@pytest.mark.parametrize("make", [of_gunicorn, of_wsgiref, of_cheroot])
def test_what_the_server_has_read_is_handed_over(make: Any, pair: Pair) -> None:
    """Once, and what comes after it is read from the connection; the server's settings stay."""
    server, client = pair
    server.settimeout(PATIENCE)
    client.sendall(b"early")
    environ = make(server)
    wire, early = find(environ).take()
    if make is of_gunicorn:
        assert b"early" == server.recv(5)
    assert b"early" == early
    client.sendall(b"later")
    assert (b"later", None) == (wire.receive(100), wire.receive(100))
    assert PATIENCE == server.gettimeout()
    wire.end()
    again, nothing = find(environ).take()
    assert b"" == nothing
    again.end()
    getattr(environ["wsgi.input"], "close", bool)()
    getattr(getattr(environ["wsgi.input"], "rfile", None), "close", bool)()


def test_the_end_is_poisoned(pair: Pair) -> None:
    """The client sees the end; the server's socket is open, and writing to it fails as to a client that left."""
    server, client = pair
    wire, _ = find(of_gunicorn(server)).take()
    assert 5 == wire.send(b"hello")
    wire.end()
    assert (b"hello", b"") == (client.recv(5), client.recv(5))
    assert server.fileno() >= 0
    with pytest.raises(BrokenPipeError):
        server.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


def test_a_full_connection_takes_a_part(pair: Pair) -> None:
    server, client = pair
    wire, _ = find(of_gunicorn(server)).take()
    data, sent = b"x" * 2**22, 0
    while taken := wire.send(data):
        sent += taken
    assert 0 < sent
    client.close()
    with pytest.raises(OSError, match="Broken pipe"):
        wire.send(data)
    wire.end()


def test_the_server_closes_it_at_that_moment(pair: Pair) -> None:
    """Its number may be another connection's before it has a descriptor of ours, and that one is left alone."""
    other, client = pair
    connection = mock.Mock(spec=["fileno"])
    connection.fileno.side_effect = [other.fileno(), -1]
    with pytest.raises(OSError, match="closed"):
        find(of_gunicorn(other) | {"gunicorn.socket": connection}).take()
    other.sendall(b"x")
    assert b"x" == client.recv(1)


def test_whether_something_has_come(pair: Pair) -> None:
    """The end counts."""
    server, client = pair
    wire, _ = find(of_gunicorn(server)).take()
    assert not wire.has_input()
    client.sendall(b"x")
    assert wire.has_input()
    assert b"x" == wire.receive(1)
    assert not wire.has_input()
    client.close()
    assert wire.has_input()
    wire.end()


def test_whose_end_it_is() -> None:
    """A server that shuts down for reading is not a client that has left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for cut in (True, False):
            with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
                wire, _ = find(of_gunicorn(server)).take()
                if cut:
                    server.shutdown(socket.SHUT_RD)
                else:
                    client.shutdown(socket.SHUT_WR)
                    assert b"" == server.recv(1)
                assert b"" == wire.receive(1)
                assert cut is wire.cut_by_server()
                wire.end()


def test_where_tcp_does_not_tell_its_state(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: an end that was read is the client's."""
    monkeypatch.setattr("bridge._servers.takeover._TCP_INFO", -1)
    server, _ = pair
    wire, _ = find(of_gunicorn(server)).take()
    server.shutdown(socket.SHUT_RD)
    assert b"" == wire.receive(1)
    assert not wire.cut_by_server()
    wire.end()


def channel(server: Any, lookahead: int) -> Any:
    class Channel:
        adj = SimpleNamespace(channel_request_lookahead=lookahead, threads=4)
        socket = server

        def check_client_disconnected(self) -> bool:
            return False

    return Channel().check_client_disconnected


def test_waitress(pair: Pair) -> None:
    server, client = pair
    wire, early = find(environ_of(waitress__client_disconnected=channel(server, 0))).take()
    client.sendall(b"x")
    assert (b"", b"x") == (early, wire.receive(1))
    wire.end()
    with pytest.raises(NoTakeover, match="channel_request_lookahead"):
        find(environ_of(waitress__client_disconnected=channel(server, 1)))


def test_what_waitress_takes_for_the_next_request(pair: Pair) -> None:
    """It is handed over, and Waitress forgets it; where it has taken it for a whole one, the client is refused."""
    asked = channel(pair[0], 0)
    of_it = asked.__self__
    of_it.request, of_it.requests = SimpleNamespace(header_plus=b"early"), [object()]
    wire, early = find(environ_of(waitress__client_disconnected=asked)).take()
    assert (b"early", None) == (early, of_it.request)
    wire.end()
    of_it.requests.append(object())
    with pytest.raises(ClientProtocolError, match="before it had the answer"):
        find(environ_of(waitress__client_disconnected=asked))


@pytest.mark.parametrize("told", [b"chunk", OSError("unable to receive chunked part")])
def test_what_uwsgi_keeps(told: Any, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known that there is something, and no more."""
    read = mock.Mock(side_effect=[None, told])
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt={}, chunked_read_nb=read))  # type: ignore[arg-type]
    environ = environ_of(uwsgi__version=b"2.0", wsgi__input=pair[0])
    find(environ)
    with pytest.raises(ClientProtocolError, match="before it had the answer") as refused:
        find(environ)
    assert 400 == refused.value.status


def test_uwsgi(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    server, _ = pair
    module = SimpleNamespace(opt={"http-socket": b"127.0.0.1:1", "threads": b"8"})
    monkeypatch.setitem(sys.modules, "uwsgi", module)  # type: ignore[arg-type]
    environ = environ_of(uwsgi__version=b"2.0", wsgi__input=server)
    find(environ).take()[0].end()
    assert 8 == threads_of(environ)
    module.opt = {"http": b"127.0.0.1:1"}
    with pytest.raises(NoTakeover, match="--http-websockets"):
        find(environ)
    module.opt = {"http": b"127.0.0.1:1", "http-websockets": True}
    find(environ)
    module.opt = {"https-socket": b"127.0.0.1:1,cert.pem,key.pem"}
    with pytest.raises(NoTakeover, match="--https-socket"):
        find(environ | {"wsgi.url_scheme": "https"})
    find(environ | {"wsgi.url_scheme": "http"})


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (environ_of(SERVER_SOFTWARE="AncientServer/1.0"), "AncientServer/1.0 does not show its connection"),
        (environ_of(SERVER_SOFTWARE="Granian"), "Granian .* --interface asgi"),
        (environ_of(mod_wsgi__version=(6, 1)), "mod_wsgi .* ProxyPass"),
        ({"SERVER_PROTOCOL": "HTTP/2", "gunicorn.socket": object()}, "HTTP/2"),
        (environ_of(wsgi__input=io.BytesIO()), "this WSGI server"),
        (environ_of(uwsgi__version=b"2.0"), "uWSGI does not show"),
        (environ_of(waitress__client_disconnected=lambda: False), "Waitress reads ahead"),
    ],
)
def test_none_to_be_had(environ: Any, said: str) -> None:
    """The message names the server and what to do."""
    with pytest.raises(NoTakeover, match=said):
        find(environ)


def test_tls_that_cannot_be_spoken() -> None:
    """That of pyOpenSSL has no end of its own."""
    connection = SimpleNamespace(pending=lambda: 0)
    reader = SimpleNamespace(raw=SimpleNamespace(_sock=connection), peek=bytes)
    with pytest.raises(NoTakeover, match="pyOpenSSL"):
        find(environ_of(wsgi__input=reader))


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 4 == threads_of({"waitress.client_disconnected": channel(None, 0)})
    assert 1 == threads_of({"wsgi.multithread": False})
    assert threads_of({"wsgi.multithread": True}) is None
    process.tell_threads(16)
    try:
        assert 16 == threads_of({"wsgi.multithread": True})
    finally:
        process._threads.here().clear()


@pytest.mark.parametrize("inherits", [False, True], ids=["itself", "of the project"])
@pytest.mark.parametrize(
    ("module", "expected"),
    [("gunicorn.workers.gthread", 8), ("gunicorn.workers.ggevent", 1000), ("gunicorn.workers.unheard_of", None)],
)
def test_threads_of_gunicorn(module: str, expected: int | None, inherits: bool) -> None:
    """Its worker is known by its handler of SIGTERM, and the kind of it by its class, however that was named."""

    class Worker:
        __module__ = module
        alive, cfg = True, SimpleNamespace(worker_class_str="some.path", threads=8, worker_connections=1000)

        def handle_exit(self, *_: object) -> None: ...

    class OwnWorker(Worker): ...

    before = signal.signal(signal.SIGTERM, (OwnWorker if inherits else Worker)().handle_exit)
    try:
        assert expected == threads_of({"wsgi.multithread": True})
    finally:
        signal.signal(signal.SIGTERM, before)


def test_greenlets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gevent's server has a pool of them, if it was given one."""

    class Server:
        pool = SimpleNamespace(size=50)

        def handle(self) -> None: ...

    current = SimpleNamespace(args=(Server().handle,))
    monkeypatch.setitem(sys.modules, "gevent", SimpleNamespace(getcurrent=lambda: current))  # type: ignore[arg-type]
    monkeypatch.setattr(takeover, "threads_are_greenlets", lambda: True)
    assert 50 == threads_of({"wsgi.multithread": False})


def test_tls_waits_for_nothing(pair: Pair) -> None:
    """It is the server's own object, whose time to wait is as before at the end."""
    connection = mock.MagicMock(spec=ssl.SSLSocket)
    connection.gettimeout.return_value = 5.0
    connection.recv.side_effect = [b"x", ssl.SSLWantReadError(), b"", ssl.SSLError("bad record")]
    connection.send.side_effect = [3, ssl.SSLWantWriteError()]
    connection.unwrap.side_effect = ssl.SSLWantReadError()
    connection.fileno.return_value = pair[0].fileno()
    connection.pending.side_effect = [3, 0]
    wire, _ = find(of_gunicorn(pair[0]) | {"gunicorn.socket": connection}).take()
    assert (True, False) == (wire.has_input(), wire.has_input())  # what it has read ahead counts
    assert (b"x", None, b"") == tuple(wire.receive(10) for _ in range(3))
    with pytest.raises(ConnectionResetError):
        wire.receive(10)
    assert (3, 0) == (wire.send(b"xyz"), wire.send(b"xyz"))
    wire.end()
    assert [mock.call(0), mock.call(5.0)] == connection.settimeout.mock_calls
    assert [mock.call(socket.SHUT_WR), mock.call(socket.SHUT_RDWR)] == connection.shutdown.mock_calls
    connection.unwrap.assert_called_once_with()
    connection.close.assert_not_called()
