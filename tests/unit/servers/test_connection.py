"""What servers show of the client's connection, with the servers' own input objects over real sockets."""

import io
import socket
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from bridge._servers.connection import Connection, complete
from bridge.errors import ClientDisconnected
from support.patience import PATIENCE
from support.plain_servers import environ_for
from support.waiting import OneThread, bounded

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(name="pair")
def pair_fixture() -> Iterator[Pair]:
    """A client and the server's end of its connection."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def connection_for(body: Any, **keys: Any) -> Connection:
    return Connection(environ_for("POST", "/", wsgi__input=body, **keys))


def gunicorn(pair: Pair, head: str, sent: bytes = b"") -> Connection:
    """The connection as Gunicorn's gthread worker shows it, after it has read the head of a request."""
    client, server = pair
    client.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + sent)
    request = next(RequestParser(Config(), server, ("127.0.0.1", 50000)))
    return connection_for(request.body, gunicorn__socket=server)


def readable(server: socket.socket) -> None:
    """Wait until what the client has sent is there."""
    server.recv(1, socket.MSG_PEEK)


class TestUnknownServer:
    """Nothing beyond PEP 3333: read as it says."""

    def test_a_body_is_read_as_asked(self) -> None:
        class Plain:
            def __init__(self) -> None:
                self.asked: list[int] = []

            def read(self, size: int, /) -> bytes:
                self.asked.append(size)
                return b"x" * size

        body = Plain()
        connection = connection_for(body)

        assert not connection.at_hand(10)
        assert b"x" * 10 == connection.read(10)
        assert [10] == body.asked
        assert connection.descriptor is None
        assert not connection.has_left()

    @pytest.mark.parametrize("body", [None, object(), io.StringIO()])
    def test_odd_inputs_are_no_error_until_they_are_read(self, body: Any) -> None:
        connection = connection_for(body)

        assert connection.descriptor is None
        assert not connection.has_left()
        assert not connection.at_hand(1)

    def test_a_body_in_memory_is_at_hand(self) -> None:
        connection = connection_for(io.BytesIO(b"all of it"))

        assert connection.at_hand(9)
        assert b"all of it" == connection.read(100)
        assert b"" == connection.read(100)

    def test_an_error_of_the_input_is_raised(self) -> None:
        class Broken(io.RawIOBase):
            def read(self, size: int = -1, /) -> bytes:
                raise OSError("framing")

        with pytest.raises(OSError, match="framing"):
            connection_for(Broken()).read(1)


class TestWaitress:
    """It calls the app when it has the body, and can be asked for the client."""

    @pytest.mark.parametrize("left", [False, True])
    def test_it_is_asked(self, left: bool) -> None:
        connection = connection_for(io.BytesIO(), waitress__client_disconnected=lambda: left)

        assert left == connection.has_left()

    @pytest.mark.parametrize(("lookahead", "noticed"), [(0, True), (1, False)])
    def test_its_connection_tells_where_it_does_not_look_ahead(self, pair: Pair, lookahead: int, noticed: bool) -> None:
        """Where it does, it is asked alone: what it has read of the connection, nobody else sees."""
        client, server = pair

        class Channel:
            adj = SimpleNamespace(channel_request_lookahead=lookahead)
            socket = server

            def check_client_disconnected(self) -> bool:
                return False

        connection = connection_for(io.BytesIO(), waitress__client_disconnected=Channel().check_client_disconnected)
        assert not connection.has_left()
        client.close()
        assert noticed is connection.has_left()

    def test_the_body_is_at_hand(self) -> None:
        class Buffer:
            def read(self, size: int) -> bytes:
                return b"x" * size

        assert connection_for(Buffer(), waitress__client_disconnected=lambda: False).at_hand(10**9)

    @pytest.mark.parametrize(("begun", "left"), [(True, True), (True, False), (False, True)])
    def test_what_it_is_told_of_a_client_that_left(self, begun: bool, left: bool) -> None:
        """Its own exception, for which it logs no error; and ours."""
        from waitress.channel import ClientDisconnected as Waitress

        connection = connection_for(io.BytesIO(), waitress__client_disconnected=lambda: left)
        departure = connection.departure("left", begun=begun)

        assert isinstance(departure, Waitress)
        assert isinstance(departure, ClientDisconnected)
        assert "left" in str(departure)

    def test_what_it_is_told_if_the_client_waits_for_a_response(self) -> None:
        """The adapter was closed: the client gets a 500."""
        connection = connection_for(io.BytesIO(), waitress__client_disconnected=lambda: False)
        assert type(connection.departure("closed", begun=False)) is ClientDisconnected

    def test_what_other_servers_are_told(self) -> None:
        """Ours only; uWSGI, which prints each traceback, that a response that has begun is at its end."""
        assert type(connection_for(io.BytesIO()).departure("left", begun=True)) is ClientDisconnected
        ours, theirs = socket.socketpair()
        with ours, theirs:
            connection = connection_for(ours, uwsgi__version=b"2.0")
            assert type(connection.departure("left", begun=False)) is ClientDisconnected
            assert type(connection.departure("left", begun=True)) is StopIteration


class TestBufferedReader:
    """wsgiref, Django's runserver and Werkzeug: the buffered reader of the connection."""

    def test_what_is_there_is_read_and_no_more(self, pair: Pair) -> None:
        client, server = pair
        with server.makefile("rb") as body:
            connection = connection_for(body)
            client.sendall(b"some")
            readable(server)
            assert b"some" == bounded(lambda: connection.read(1000))
            client.sendall(b"more than was asked for")
            readable(server)
            assert b"more" == bounded(lambda: connection.read(4))
            assert b" than was asked for" == bounded(lambda: connection.read(1000)), "it is in the buffer"

    def test_where_nothing_is_there_it_does_not_wait(self, pair: Pair) -> None:
        with pair[1].makefile("rb") as body:
            assert bounded(lambda: connection_for(body).read(10)) is None
            assert pair[1].gettimeout() is None, "the socket is as it was"

    def test_the_end_is_read(self, pair: Pair) -> None:
        client, server = pair
        with server.makefile("rb") as body:
            client.shutdown(socket.SHUT_WR)
            assert b"" == bounded(lambda: connection_for(body).read(10))

    @pytest.mark.parametrize("timeout", [None, 5.0])
    def test_the_timeout_of_the_socket_stays(self, timeout: float | None, pair: Pair) -> None:
        client, server = pair
        server.settimeout(timeout)
        with server.makefile("rb") as body:
            client.sendall(b"x")
            readable(server)
            assert b"x" == connection_for(body).read(10)
            assert timeout == server.gettimeout()

    def test_a_client_that_leaves_is_seen_though_nothing_is_read(self, pair: Pair) -> None:
        client, server = pair
        with server.makefile("rb") as body:
            connection = connection_for(body)
            assert not connection.has_left()
            assert server.fileno() == connection.descriptor
            client.sendall(b"unread")
            assert not connection.has_left()
            client.close()
            assert connection.has_left()

    def test_a_buffered_reader_of_something_else_is_read_like_a_file(self) -> None:
        connection = connection_for(io.BufferedReader(io.BytesIO(b"content")))  # type: ignore[arg-type]

        assert connection.descriptor is None
        assert b"con" == connection.read(3)
        assert b"tent" == connection.read(100)


class TestGunicorn:
    """Its own parser and body, over a socket."""

    def test_what_came_with_the_head_is_at_hand(self, pair: Pair) -> None:
        connection = gunicorn(pair, "Content-Length: 5", b"12345")

        assert connection.at_hand(5)
        assert not connection.at_hand(6)
        assert b"12345" == bounded(lambda: connection.read(5))

    def test_what_is_not_there_is_not_waited_for(self, pair: Pair) -> None:
        client, server = pair
        connection = gunicorn(pair, "Content-Length: 10")

        assert bounded(lambda: connection.read(10)) is None
        client.sendall(b"1234")
        readable(server)
        assert b"1234" == bounded(lambda: connection.read(10))
        assert bounded(lambda: connection.read(6)) is None
        client.sendall(b"567890")
        readable(server)
        assert b"567890" == bounded(lambda: connection.read(6))

    def test_more_than_a_buffer_arrives_whole_and_in_order(self, pair: Pair) -> None:
        data = bytes(range(256)) * 4000
        client, server = pair
        thread = OneThread()
        connection = gunicorn(pair, f"Content-Length: {len(data)}", data[:3000])
        sent = thread.begin(lambda: client.sendall(data[3000:]))
        got = b""
        while len(got) < len(data):
            piece = bounded(lambda: connection.read(2**16))
            if piece is None:
                readable(server)
                continue
            assert 0 < len(piece) <= 2**16
            got += piece
        sent()
        thread.end()

        assert data == got

    def test_a_client_that_leaves_in_the_middle_ends_the_body(self, pair: Pair) -> None:
        client, _ = pair
        connection = gunicorn(pair, "Content-Length: 10", b"1234")
        client.close()

        assert b"1234" == bounded(lambda: connection.read(10))
        assert b"" == bounded(lambda: connection.read(6))
        assert connection.has_left()

    def test_a_chunked_body_is_read_as_its_chunks_come(self, pair: Pair) -> None:
        client, server = pair
        connection = gunicorn(pair, "Transfer-Encoding: chunked", b"4\r\n1234\r\n")

        assert not connection.at_hand(4), "the bytes that are there are not all of the body"
        assert b"1234" == bounded(lambda: connection.read(100))
        client.sendall(b"3\r\n567\r\n0\r\n\r\n")
        readable(server)
        assert b"567" == bounded(lambda: connection.read(100))
        assert b"" == bounded(lambda: connection.read(100))

    def test_a_large_chunk_is_read_in_steps(self, pair: Pair) -> None:
        connection = gunicorn(pair, "Transfer-Encoding: chunked", b"a\r\n0123456789\r\n0\r\n\r\n")

        pieces = [bounded(lambda: connection.read(4)) for _ in range(4)]
        assert b"0123456789" == b"".join(piece or b"" for piece in pieces)
        assert all(len(piece or b"") <= 4 for piece in pieces)
        assert b"" == bounded(lambda: connection.read(4))

    def test_an_input_that_middleware_has_replaced_is_read_as_such(self, pair: Pair) -> None:
        """The socket is there, but what the app is to read comes from somewhere else."""
        replaced = io.BytesIO(b"decompressed")
        connection = connection_for(replaced, gunicorn__socket=pair[1])

        assert b"decompressed" == bounded(lambda: connection.read(100))

    def test_an_unknown_input_with_the_socket_is_read_as_such(self, pair: Pair) -> None:
        class Wrapped:
            def read(self, size: int) -> bytes:
                return b"w" * size

        connection = connection_for(Wrapped(), gunicorn__socket=pair[1])

        assert not connection.at_hand(3)
        assert b"www" == bounded(lambda: connection.read(3))


class TestDescriptor:
    """Where the connection can be found, and that it may be gone."""

    @pytest.mark.parametrize("key", ["gunicorn.socket", "gunicorn.sock", "werkzeug.socket"])
    def test_servers_that_tell_it(self, key: str, pair: Pair) -> None:
        connection = Connection(environ_for("GET", "/") | {key: pair[1]})

        assert pair[1].fileno() == connection.descriptor

    @pytest.mark.parametrize("wrap", ["rfile", "limited"])
    def test_servers_that_wrap_it(self, wrap: str, pair: Pair) -> None:
        """Cheroot's `rfile`, and the `LimitedStream` of Django's runserver."""
        with pair[1].makefile("rb") as reader:
            body: Any
            if wrap == "rfile":
                body = type("KnownLengthRFile", (), {"rfile": reader})()
            else:
                body = type("LimitedStream", (), {"_read": reader.read})()
            assert pair[1].fileno() == connection_for(body).descriptor

    def test_uwsgi_whose_input_has_the_descriptor(self, pair: Pair) -> None:
        connection = connection_for(pair[1], uwsgi__version=b"2.0.30")

        assert pair[1].fileno() == connection.descriptor

    def test_a_socket_that_was_closed_has_none(self) -> None:
        client, server = socket.socketpair()
        connection = Connection(environ_for("GET", "/") | {"werkzeug.socket": server})
        with client:
            assert connection.descriptor is not None
            server.close()
            assert connection.descriptor is None
            connection.has_left()  # no matter what it says, it is no error

    @pytest.mark.parametrize("number", ["no number", -1])
    def test_an_odd_descriptor_is_none(self, number: Any) -> None:
        """Mocks and wrappers of sockets."""
        odd = type("Odd", (), {"fileno": lambda self: number})()
        connection = Connection(environ_for("GET", "/") | {"werkzeug.socket": odd})

        assert connection.descriptor is None

    def test_an_object_that_is_no_socket_has_none(self) -> None:
        connection = Connection(environ_for("GET", "/") | {"werkzeug.socket": object()})

        assert connection.descriptor is None


class TestComplete:
    """What is said in the environ for servers that do not say it."""

    @pytest.mark.parametrize(
        ("facts", "terminated"),
        [
            ({"HTTP_TRANSFER_ENCODING": "chunked"}, True),
            ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}, True),
            # Nginx has decoded it, and says both.
            ({"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": "3"}, None),
            ({"CONTENT_LENGTH": "3"}, None),
            ({}, None),
        ],
    )
    def test_uwsgi(self, facts: dict[str, str], terminated: bool | None) -> None:
        """Only a chunked body that its API gives ends by itself."""
        assert terminated == complete({"uwsgi.version": b"2.0.31", **facts}).get("wsgi.input_terminated")

    def test_others_are_left_alone(self) -> None:
        """What is not known is not touched."""
        assert {"HTTP_TRANSFER_ENCODING": "chunked"} == complete({"HTTP_TRANSFER_ENCODING": "chunked"})


class TestUwsgi:
    """Its API for chunked bodies, and its connection."""

    def test_chunks_are_cut_to_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A chunk that is larger than what was asked for is given in several reads; None is for those to come."""
        chunks = [b"abcdef", None, b"gh", b""]
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(chunked_read_nb=lambda: chunks.pop(0)))
        connection = Connection({"uwsgi.version": b"2.0.31", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": None})

        assert [b"abcd", b"ef", None, b"gh", b""] == [connection.read(4) for _ in range(5)]

    @pytest.mark.parametrize(
        ("name", "asked", "reset"),
        [("uwsgi.version", [True], True), ("uwsgi.version", [True, False], False), ("some.version", [True], False)],
    )
    def test_the_connection_can_be_made_to_end_with_a_reset(self, name: str, asked: list[bool], reset: bool) -> None:
        """So that its end cannot be taken for that of a response that breaks off."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname(), timeout=PATIENCE)
            served, _ = listening.accept()
        with client:
            for each in asked:
                Connection({name: "2", "wsgi.input": served}).end_with_reset(each)
            served.close()
            if reset:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            else:
                assert b"" == client.recv(1)
