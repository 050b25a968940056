"""The request body as Django reads it: `Input`, and bodies without Content-Length on a WSGI server."""

import gc
import io
import random
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import UnreadablePostError
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from bridge._servers.connection import Connection
from bridge.django._request import Input, Request, bring_body_of, take_chunked
from bridge.errors import ClientDisconnected, ClientProtocolError
from support import django_project  # noqa: F401  # sets Django up
from support.plain_servers import PiecemealInput, environ_for

SIZES = st.sampled_from([None, -1, 0, 1, 3, 100])
CALLS = st.lists(st.tuples(st.sampled_from(["read", "readline"]), SIZES), max_size=8)


@given(st.binary(max_size=60).map(lambda data: data.replace(b"x", b"\n")), CALLS)
def test_input_reads_as_bytesio(data: bytes, calls: list[tuple[str, int | None]]) -> None:
    """To the byte."""
    ours, model = Input(io.BytesIO(data), len(data)), io.BytesIO(data)
    for name, size in calls:
        assert getattr(model, name)(size) == getattr(ours, name)(size)
    assert model.read() == ours.read()
    assert b"" == ours.read() == ours.readline()


def test_no_more_than_content_length() -> None:
    """What follows belongs to the next request."""
    assert b"abc" == Input(io.BytesIO(b"abcdef"), 3).read()


def test_pieces_are_put_together() -> None:
    """A server may give less than it is asked for; Django takes one read for all."""
    stream = io.BufferedReader(PiecemealInput([b"ab", b"c", b"def"]), 1)

    class Short:
        def read(self, size: int) -> bytes:
            return stream.read1(size)

        readline = stream.readline

    assert b"abcdef" == Input(Short(), 6).read()


@pytest.mark.parametrize(
    "read", [lambda body: body.read(), lambda body: body.read(6), lambda body: [body.readline(), body.readline()], list]
)
def test_a_body_that_ends_early(read: Any) -> None:
    """Raises, whatever way it is read."""
    with pytest.raises(ClientDisconnected, match="broke off after 4 of 6 bytes"):
        read(Input(io.BytesIO(b"ab\nc"), 6))


@pytest.mark.parametrize("name", ["read", "readline"])
def test_a_client_that_resets_its_connection(name: str) -> None:
    """Gunicorn passes on what its socket raises: the client has left, as at an early end, and no view has failed."""

    def reset(size: int) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")

    body = Input(SimpleNamespace(read=reset, readline=reset), 6)

    for _ in range(2):
        with pytest.raises(ClientDisconnected, match="broke off after 0 of 6 bytes"):
            getattr(body, name)()
    with pytest.raises(ClientDisconnected):
        body.bring(100)


def test_django_makes_its_own_error_of_it() -> None:
    """Which views know."""
    request = Request(environ_for("POST", "/", b"half") | {"CONTENT_LENGTH": "8"})
    with pytest.raises(UnreadablePostError):
        _ = request.body
    request.close()


@pytest.mark.parametrize("size", [10, 5000])
def test_bring(size: int) -> None:
    """All of it is there afterwards, in memory or in a file, and is read as before."""
    data = random.Random(1).randbytes(size)
    stream = io.BufferedReader(PiecemealInput([data[:7], data[7:]]), 1)
    body = Input(stream, size)
    assert data[:3] == body.read(3)
    body.bring(100)

    assert b"" == stream.read()
    assert data[3:] == body.read()
    assert (size > 100) is (body._file is not None)
    body.close()


def test_bring_of_a_body_that_breaks_off() -> None:
    """Raises in the thread, not on the loop."""
    with pytest.raises(ClientDisconnected):
        Input(io.BufferedReader(io.BytesIO(b"half")), 8).bring(100)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [10, 5000])
@pytest.mark.parametrize("of_django", [False, True])
def test_what_was_brought_is_the_input_of_others(size: int, of_django: bool) -> None:
    """Of an application that a view calls with the environ of its request. As without that, it gets what was not read
    before.
    """
    data = random.Random(1).randbytes(size)
    environ = environ_for("POST", "/", data)
    environ["wsgi.input"] = io.BufferedReader(PiecemealInput([data[:7], data[7:]]), 1)
    request: WSGIRequest = WSGIRequest(environ) if of_django else Request(environ)
    assert data[:3] == request.read(3)
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=100):
        brought = bring_body_of(request) if of_django else request.bring_body()  # type: ignore[attr-defined]
    assert data[3:] == environ["wsgi.input"].read()
    request.close()
    if brought is not None:
        brought.close()


@pytest.mark.parametrize("size", [10, 5000])
@pytest.mark.parametrize("kind", ["of Django", "ours", "chunked"])
def test_what_was_brought_can_be_read_when_it_is_closed(size: int, kind: str) -> None:
    """WSGI middleware may read the rest of each body. Django closes its stream as soon as it has read the body."""
    data = random.Random(1).randbytes(size)
    environ = environ_for("POST", "/", data)
    environ["wsgi.input"] = io.BufferedReader(PiecemealInput([data[:7], data[7:]]), 1)
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=100):
        if kind == "chunked":
            del environ["CONTENT_LENGTH"]
            environ["wsgi.input_terminated"] = True
            take_chunked(environ)
        request: WSGIRequest = WSGIRequest(environ) if kind == "of Django" else Request(environ)
        brought = bring_body_of(request) if kind == "of Django" else request.bring_body()  # type: ignore[attr-defined]
    assert data == request.body
    assert environ["wsgi.input"].read() == b""
    request.close()
    if brought is not None:
        brought.close()
    assert environ["wsgi.input"].read() == b""


@pytest.mark.parametrize("chunked", [False, True])
def test_the_connection_is_found_behind_what_was_brought(chunked: bool) -> None:
    """uWSGI and wsgiref show it as the input alone. Without it, nobody notices that the client leaves."""
    client, server = socket.socketpair()
    with client, server, server.makefile("rb") as stream:
        environ = environ_for("POST", "/", b"four", uwsgi__version=b"2.0.31")
        environ["wsgi.input"] = SimpleNamespace(read=stream.read, readline=stream.readline, fileno=server.fileno)
        client.sendall(b"four")
        client.shutdown(socket.SHUT_WR)
        if chunked:
            del environ["CONTENT_LENGTH"]
            environ["wsgi.input_terminated"] = True
            take_chunked(environ)
        request = Request(environ)
        request.bring_body()
        assert (b"four", server.fileno()) == (request.body, Connection(environ).descriptor)
        request.close()


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_chunked(size: int) -> None:
    """A body that ends by itself gets the length that Django wants; without that promise it is left alone."""
    data = b"x" * size
    environ = environ_for("POST", "/", data)
    environ.pop("CONTENT_LENGTH", None)
    environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=1000, DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        take_chunked(environ)
        request = Request(environ)
        assert (str(size), data) == (request.META["CONTENT_LENGTH"], request.body)
        assert "HTTP_TRANSFER_ENCODING" not in request.META
        request.close()


def test_chunked_without_an_end() -> None:
    """It would be lost without a word."""
    environ = environ_for("POST", "/") | {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": None}
    environ.pop("wsgi.input_terminated", None)
    with pytest.raises(ClientProtocolError) as raised:
        take_chunked(environ)
    assert raised.value.status == 411


def test_a_chunked_body_that_breaks_off_leaves_no_file() -> None:
    """The server's own error goes on, and what was received is let go."""

    class Breaks:
        left = 3

        def read(self, size: int) -> bytes:
            self.left -= 1
            if not self.left:
                raise ConnectionResetError("the client left")
            return b"x" * size

    environ = environ_for("POST", "/") | {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    environ["wsgi.input"] = Breaks()
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=1000), pytest.raises(ConnectionResetError):
        take_chunked(environ)
    gc.collect()  # a file that is still open then would warn, which is an error here
