"""The raw connection of a request, taken from the WSGI server that owns it. Only the modules of this package know
servers by name.

The server still believes that it serves a request. So its socket is never closed here, and its settings stay as they
are. At the end, the connection is shut down. Later writes of the server fail as if the client had left, and none of
these servers treats that as an error.
"""

import io
import select
import socket
import ssl
import sys
import threading

# Not the socket that gevent may have replaced: these calls never wait, and the loop's thread makes them too.
from _socket import socket as plain_socket
from contextlib import suppress
from errno import EBADF
from os import dup, fstat
from typing import Any, Final, Protocol

from bridge._concurrency.greenlets import events_now, threads_are_greenlets
from bridge._servers.connection import waitress_socket
from bridge._servers.process import server_threads, whole
from bridge._types import Environ
from bridge.errors import ClientProtocolError

_NEVER_WAIT: Final = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
# Linux, tcp(7): the first byte is the state. Other systems do not have this option, and raise an OSError.
_TCP_INFO: Final[int] = getattr(socket, "TCP_INFO", -1)
_ESTABLISHED: Final = b"\1"
_AGAIN: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class NoTakeover(Exception):
    """The connection cannot be used: `server` names the server, `why` is the reason, and `remedy` says what to do."""

    def __init__(self, server: str, why: str, remedy: str) -> None:
        super().__init__(f"{server} {why}; {remedy}")


class Wire(Protocol):
    """A connection that was taken over. None of its methods waits.

    `descriptor` is its file descriptor, to wait on.
    """

    descriptor: int

    def twin(self) -> plain_socket | None:
        """The same connection under another descriptor. The caller waits on it and closes it.

        None if waiting on it would not show whether there is anything to read.
        """
        ...

    def has_input(self) -> bool:
        """Whether something has come, if only the end."""
        ...

    def receive(self, size: int) -> bytes | None:
        """Return at most `size` bytes that have arrived, `b""` at the end, None if there are none. Raises `OSError`."""
        ...

    def send(self, data: bytes | memoryview) -> int:
        """Send as much as there is room for. Return how many bytes were sent. Raises `OSError`."""
        ...

    def cut_by_server(self) -> bool:
        """Whether the end that was read comes from the server, and the client is still there."""
        ...

    def finish_sending(self) -> None:
        """Let the client see the end once it has read everything. What it sends after that is ignored."""

    def end(self) -> None:
        """Shut the connection down in both directions. Whatever the server writes after that is lost."""


class _PlainWire:
    """A connection without TLS, through its own descriptor: it stays open whatever the server does with its socket."""

    def __init__(self, number: int) -> None:
        self._socket = plain_socket(fileno=dup(number))
        self.descriptor = self._socket.fileno()

    def twin(self) -> plain_socket | None:
        return plain_socket(fileno=dup(self.descriptor))

    def has_input(self) -> bool:
        return bool(events_now(self.descriptor, select.POLLIN))

    def receive(self, size: int) -> bytes | None:
        try:
            return self._socket.recv(size, _NEVER_WAIT)
        except _AGAIN:
            return None

    def send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data, _NEVER_WAIT)
        except _AGAIN:
            return 0

    def cut_by_server(self) -> bool:
        # When Cheroot stops, it shuts open connections down for reading. That does not change the state of TCP.
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1) == _ESTABLISHED
        except OSError:  # not Linux, or not TCP
            return False

    def finish_sending(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.forget()

    def forget(self) -> None:
        """Leave the connection as it is."""
        self._socket.close()


class _TlsWire:
    """A connection with TLS, through the server's own object, which has the keys."""

    _finished = False

    def __init__(self, connection: Any) -> None:
        self._socket = connection
        self._timeout = connection.gettimeout()
        connection.settimeout(0)
        self.descriptor: int = connection.fileno()

    def twin(self) -> plain_socket | None:
        return None  # the object may hold bytes that it has already read from the descriptor

    def has_input(self) -> bool:
        return bool(self._socket.pending() or events_now(self.descriptor, select.POLLIN))

    def receive(self, size: int) -> bytes | None:
        self._see_the_keys()
        try:
            return bytes(self._socket.recv(size))
        except _AGAIN:
            return None
        except ssl.SSLError as error:
            raise ConnectionResetError(f"TLS failed: {error}") from error

    def send(self, data: bytes | memoryview) -> int:
        self._see_the_keys()
        try:
            return int(self._socket.send(data))
        except _AGAIN:
            return 0
        except ssl.SSLError as error:
            raise ConnectionResetError(f"TLS failed: {error}") from error

    def _see_the_keys(self) -> None:
        """When Cheroot stops, it shuts open connections down at the end. The object would then go on without TLS."""
        if not self._finished and self._socket.version() is None:
            raise ConnectionResetError("the server has ended TLS")

    def cut_by_server(self) -> bool:
        return False

    def finish_sending(self) -> None:
        if self._finished:
            return
        self._finished = True
        # This sends the closing alert, and does not wait for the client's. If a client sends data before it has read
        # the alert, TLS treats that as an error. Without TLS, the data is read and dropped.
        with suppress(OSError, ValueError):
            self._socket.unwrap()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        self.finish_sending()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._socket.settimeout(self._timeout)


class Takeover:
    """How to take the connection of one request. `find` makes it, if the connection can be taken."""

    def __init__(
        self,
        connection: Any,
        reader: Any = None,
        unreader: Any = None,
        channel: Any = None,
        number: int | None = None,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._unreader = unreader
        self._channel = channel
        self._number = number

    def take(self) -> tuple[Wire, bytes]:
        """Return the connection, and what the server has read from it beyond the request. In the server's thread.

        Raises `OSError` if the connection is closed.
        """
        early = self._early()
        if self._number is not None:
            return _PlainWire(self._number), early
        if _is_tls(self._connection):
            return _TlsWire(self._connection), early
        number = self._connection.fileno()
        wire = _PlainWire(number)
        if self._connection.fileno() != number:  # so that it may have been another connection's by then
            wire.forget()
            raise OSError(EBADF, "the server has closed the connection")
        return wire, early

    def _early(self) -> bytes:
        if self._unreader is not None:
            if hasattr(self._unreader, "take_buffered"):
                return bytes(self._unreader.take_buffered())
            early: bytes = self._unreader.buf.getvalue()
            self._unreader.buf = io.BytesIO()
            return early
        if self._channel is not None:
            # Waitress takes these bytes for the beginning of the next request.
            following, self._channel.request = getattr(self._channel, "request", None), None
            return bytes(getattr(following, "header_plus", b""))
        if self._reader is None:
            return b""
        timeout = self._connection.gettimeout()
        self._connection.settimeout(0)
        try:
            held = len(self._reader.peek(1))
            return bytes(self._reader.read(held)) if held else b""
        except _AGAIN:  # with TLS
            return b""
        finally:
            self._connection.settimeout(timeout)


def find(environ: Environ) -> Takeover:
    """How to take the connection of this request. Called once for each request.

    Raises `NoTakeover`, or `ClientProtocolError` if the client has already sent frames and the server has taken them.
    """
    server = _name(environ)
    if environ.get("SERVER_PROTOCOL", "")[5:6] not in ("1", ""):
        raise NoTakeover(server, "sends other requests on the same HTTP/2 connection", "offer HTTP/1.1 on that path")
    if "waitress.client_disconnected" in environ:
        return _of_waitress(environ)
    if "uwsgi.version" in environ:
        return _of_uwsgi(environ, server)
    body: Any = environ.get("wsgi.input")
    if "gunicorn.socket" in environ:
        unreader = getattr(getattr(body, "reader", None), "unreader", None)
        if unreader is not None:
            return Takeover(environ["gunicorn.socket"], unreader=unreader)
    # Django's runserver puts a limit around the reader, Cheroot and gevent another wrapper.
    reader = getattr(getattr(body, "_read", None), "__self__", None) or getattr(body, "rfile", None) or body
    connection = getattr(getattr(reader, "raw", None), "_sock", None)
    if connection is None or not hasattr(reader, "peek"):
        raise NoTakeover(server, "does not show its connection", _REMEDIES.get(server, _REMEDY))
    if _is_tls(connection) and not hasattr(connection, "unwrap"):
        raise NoTakeover(server, "has its TLS from pyOpenSSL", "use its ssl_adapter of the standard library (builtin)")
    return Takeover(connection, reader=reader)


def _is_tls(connection: Any) -> bool:
    """Whether it is a TLS socket of the standard library, of gevent (not a subclass of that), or of pyOpenSSL."""
    return hasattr(connection, "pending")


_REMEDY: Final = "serve that path with an ASGI server, or a WSGI server of docs/websockets.md"
_REMEDIES: Final = {
    "mod_wsgi": "run an ASGI server for that path beside it, and let Apache pass it on: ProxyPass with"
    " upgrade=websocket",
    "Granian": "run Granian with --interface asgi, and no adapter",
}


def _name(environ: Environ) -> str:
    """The name of the server for a message."""
    for key, name in (("mod_wsgi.version", "mod_wsgi"), ("uwsgi.version", "uWSGI")):
        if key in environ:
            return name
    software: str | None = environ.get("SERVER_SOFTWARE")
    if not software:
        return "bjoern" if "bjoern" in sys.modules else "this WSGI server"
    return "Granian" if software.lower().startswith("granian") else software


def _of_waitress(environ: Environ) -> Takeover:
    """Waitress's main thread leaves the connection alone during a request, unless it is configured to look ahead."""
    connection = waitress_socket(environ)
    if connection is None:
        raise NoTakeover("Waitress", "reads ahead", "leave channel_request_lookahead at 0, its default")
    channel: Any = environ["waitress.client_disconnected"].__self__
    if len(getattr(channel, "requests", ())) > 1:
        raise _too_early()  # the frames contain an empty line, which Waitress takes for the end of another request
    return Takeover(connection, channel=channel)


def _of_uwsgi(environ: Environ, server: str) -> Takeover:
    """The input's descriptor is the connection to the client, or to uWSGI's own router in front of it."""
    options = getattr(sys.modules.get("uwsgi"), "opt", {})
    if "https-socket" in options and environ.get("wsgi.url_scheme") == "https":
        raise NoTakeover(server, "keeps the TLS of --https-socket to itself", "use --https and --http-websockets")
    routed = any(key in options for key in ("http", "https", "http-to"))
    if routed and not any(key in options for key in ("http-websockets", b"http-websockets")):
        raise NoTakeover(server, "has a router that passes on one request at a time", "add --http-websockets")
    try:
        number = environ["wsgi.input"].fileno()
    except (AttributeError, KeyError, OSError, ValueError):
        raise NoTakeover(server, "does not show its connection", _REMEDY) from None
    if _uwsgi_holds_frames():
        raise _too_early()
    return Takeover(None, number=number)


def _uwsgi_holds_frames() -> bool:
    """Whether uWSGI has read more than the head of the request. Its API shows such bytes only as chunks.

    Frames are not chunks, so reading them fails. If nothing has arrived, `chunked_read_nb` returns None. But it decides
    that by `errno`, which may be left over from another call.
    """
    read = getattr(sys.modules.get("uwsgi"), "chunked_read_nb", None)
    if read is None:
        return False
    with suppress(OSError):
        fstat(-1)  # sets `errno` to EBADF
    try:
        return read() is not None
    except OSError:
        return True


def _too_early() -> ClientProtocolError:
    return ClientProtocolError(
        "sent frames before it had the answer to its handshake, and the server has taken them for something else",
        expected="nothing before the answer",
        clause="RFC 6455 4.1",
    )


def threads_of(environ: Environ) -> int | None:
    """How many requests the server handles at once in this process, in threads or greenlets. None if this is not known,
    or not limited. Called in the thread of the request.
    """
    channel = getattr(environ.get("waitress.client_disconnected"), "__self__", None)
    if channel is not None:
        return whole(getattr(getattr(channel, "adj", None), "threads", None))
    if "uwsgi.version" in environ:
        options = getattr(sys.modules.get("uwsgi"), "opt", {})
        return whole(options.get("gevent") or options.get("threads", 1))
    pool = getattr(getattr(threading.current_thread(), "server", None), "requests", None)
    if pool is not None:  # a worker of Cheroot, which starts more than its minimum only if it is told to
        return whole(getattr(pool, "min", None))
    # Gevent's server says that it has no threads, which is true: it has greenlets.
    return server_threads() if environ.get("wsgi.multithread", True) or threads_are_greenlets() else 1
