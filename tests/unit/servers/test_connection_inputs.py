"""Inputs of servers that end with the body: known for that, and read to their end."""

import io
import os
import sys
import types
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from bridge._servers.connection import Connection, complete, whole_body
from support.plain_servers import environ_for


def input_of(kind: str) -> Any:
    """A `wsgi.input` whose class says that it is pyvoy's, or any other one's."""
    made = type("RequestInput", (), {"__module__": kind, "read": lambda _self, _size=-1: b""})
    return made()


def with_input(body: object, **changes: Any) -> dict[str, Any]:
    environ = environ_for("POST", "/") | {"wsgi.input": body} | changes
    environ.pop("wsgi.input_terminated", None)
    if "CONTENT_LENGTH" not in changes:
        environ.pop("CONTENT_LENGTH", None)
    return environ


def ends(body: object, **changes: Any) -> bool:
    return complete(with_input(body, **changes)).get("wsgi.input_terminated") is True


class TestEndsByItself:
    def test_what_is_in_memory_or_in_a_file(self, tmp_path: Path) -> None:
        """Test clients, and servers that receive all of it first."""
        path = tmp_path / "body"
        path.write_bytes(b"body")
        assert ends(io.BytesIO(b"body"))
        with SpooledTemporaryFile() as spooled, path.open("rb") as file, path.open("rb", 0) as raw:
            assert ends(spooled)
            assert ends(file)
            assert ends(raw)

    def test_a_server_that_is_known_for_it(self) -> None:
        """Its input has a class of its own."""
        assert ends(input_of("_pyvoy.wsgi"))

    def test_what_may_wait_for_ever_does_not(self, tmp_path: Path) -> None:
        """A connection, a pipe, and what nobody knows."""
        read, write = os.pipe()
        with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb"):
            assert not ends(pipe)
        (tmp_path / "body").touch()
        closed = (tmp_path / "body").open("rb")
        closed.close()
        for body in (input_of("unknown"), io.BufferedReader(io.BytesIO()), closed, None):  # type: ignore[arg-type]
            assert not ends(body)

    def test_a_length_is_what_counts_where_there_is_one(self) -> None:
        """PEP 3333: no more than CONTENT_LENGTH is to be read."""
        assert not ends(io.BytesIO(b"body, and more"), CONTENT_LENGTH="4")
        assert ends(io.BytesIO(b"body"), CONTENT_LENGTH="")


class TestWholeBody:
    def test_it_is_read_to_its_end(self) -> None:
        """In pieces: it may be large."""
        data = bytes(range(256)) * 1000
        pieces = list(whole_body(with_input(io.BytesIO(data))))
        assert data == b"".join(pieces)
        assert len(pieces) > 1

    def test_a_chunked_body_on_uwsgi(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its `wsgi.input` is empty then; its API has the chunks."""
        chunks = [b"one", b"two", b""]
        monkeypatch.setitem(sys.modules, "uwsgi", types.SimpleNamespace(chunked_read=lambda: chunks.pop(0)))
        environ = with_input(io.BytesIO(), **{"uwsgi.version": b"2.0", "HTTP_TRANSFER_ENCODING": "chunked"})
        assert [b"one", b"two"] == list(whole_body(environ))


def test_gunicorns_input_without_a_body_has_ended() -> None:
    """There is nothing to wait for, though the connection stays open."""
    source = iter([b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n"])
    request = next(RequestParser(Config(), source, ("127.0.0.1", 5)))
    reading = type("Socket", (), {"fileno": lambda _self: -1})()
    environ = environ_for("DELETE", "/") | {"wsgi.input": request.body, "gunicorn.socket": reading}
    assert Connection(environ).read(5) == b""
