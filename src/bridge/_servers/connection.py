"""What WSGI servers offer beyond PEP 3333 for one request. Only the modules of this package know servers by name.

With an unknown server, a request body is read in the server's thread as PEP 3333 says, which may block the thread. A
client that leaves is noticed when the server fails to write to it.
"""

import array
import fcntl
import functools
import io
import os
import select
import socket
import ssl
import stat
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, Final, cast

from bridge._concurrency.greenlets import events_now
from bridge._translate.urls import request_title, text_path
from bridge._types import Environ
from bridge.errors import ClientDisconnected

# A peer that has closed its sending side counts as gone: HTTP/1.1 clients do not do that, and ASGI servers decide the
# same way. Only on Linux. Elsewhere, a half-closed connection is noticed when it is closed completely.
_RDHUP: Final[int] = getattr(select, "POLLRDHUP", 0)
_GONE: Final = _RDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_REGULAR_CLOSE: Final = struct.pack("ii", 0, 0)
# The server's own `wsgi.input`, if another has taken its place: it may be the only way to the connection.
_SERVERS_INPUT: Final = "bridge.servers_input"
# The packages whose classes of `wsgi.input` end with the body.
_INPUTS_THAT_END: Final = ("_pyvoy",)
_PIECE_BYTES: Final = 64 * 1024


def complete(environ: Environ) -> Environ:
    """Add to `environ` what its server does but does not say. Returns `environ`."""
    if not environ.get("CONTENT_LENGTH") and (_is_chunked_uwsgi(environ) or _ends_by_itself(environ.get("wsgi.input"))):
        # In uWSGI 2.0, `wsgi.input` is then empty, and the API gives all chunks (`_read_uwsgi`).
        environ["wsgi.input_terminated"] = True
    return environ


def replace_input(environ: Environ, received: Any) -> None:
    """Put what was received of the body in the place of `wsgi.input`, for code that reads that itself."""
    environ.setdefault(_SERVERS_INPUT, environ["wsgi.input"])
    environ["wsgi.input"] = received


def _ends_by_itself(body: Any) -> bool:
    """Whether a `wsgi.input` ends with the body, although the environ does not say so.

    Test clients and servers that have received the whole body keep it in memory or in a file, and have decoded it if it
    was chunked. pyvoy 1.3 has its own class of input, and decodes too.
    """
    ends = _class_ends(body.__class__)
    if ends is not None:
        return ends
    raw = body.raw if isinstance(body, io.BufferedReader | io.BufferedRandom) else body
    if isinstance(raw, io.FileIO):
        try:
            return stat.S_ISREG(os.fstat(raw.fileno()).st_mode)
        except (OSError, ValueError):
            return False  # closed: reading it will raise
    return False


@functools.lru_cache(maxsize=64)
def _class_ends(kind: type) -> bool | None:
    """Whether the objects of a class end with the body, or None if that depends on what they read from."""
    # Not imported here, for it imports the compressors: nothing else makes such a file.
    spooled: Any = getattr(sys.modules.get("tempfile"), "SpooledTemporaryFile", io.BytesIO)
    if issubclass(kind, (io.BytesIO, spooled)):
        return True
    if issubclass(kind, (io.BufferedReader, io.BufferedRandom, io.FileIO)):
        return None
    return kind.__module__.partition(".")[0] in _INPUTS_THAT_END


def whole_body(environ: Environ) -> Iterator[bytes]:
    """The pieces of a body whose input ends with it (`complete` has checked that), read in this thread.

    Raises what the server's input raises if the body breaks off.
    """
    if not _is_chunked_uwsgi(environ):
        read: Callable[[], bytes] = partial(environ["wsgi.input"].read, _PIECE_BYTES)
    else:
        read = sys.modules["uwsgi"].chunked_read
    while piece := read():
        yield piece


def _is_chunked_uwsgi(environ: Environ) -> bool:
    # If there is a length, a proxy has decoded the body: Nginx 1.22 passes on both headers.
    return "uwsgi.version" in environ and "HTTP_TRANSFER_ENCODING" in environ and not environ.get("CONTENT_LENGTH")


def _waitress_error() -> type[Exception]:
    known: Any = getattr(sys.modules.get("waitress.channel"), "ClientDisconnected", None)
    return ClientDisconnected if known is None else _as_both(known)


@functools.cache
def _as_both(known: type[Exception]) -> type[Exception]:
    return type("ClientDisconnected", (ClientDisconnected, known), {})


def waitress_socket(environ: Environ) -> Any:
    """The connection of Waitress. None if it is unknown, or if Waitress's main thread reads ahead on it."""
    channel: Any = getattr(environ["waitress.client_disconnected"], "__self__", None)
    looks_ahead = getattr(getattr(channel, "adj", None), "channel_request_lookahead", 1) > 0
    return None if looks_ahead else getattr(channel, "socket", None)


def _plain_socket(body: object) -> socket.socket | None:
    """The socket that a buffered reader reads from. None if it is not one, or if TLS is in between."""
    raw: Any = body.raw if isinstance(body, io.BufferedReader) else None
    found = getattr(raw, "_sock", None)
    return found if isinstance(found, socket.socket) and not isinstance(found, ssl.SSLSocket) else None


class Connection:
    """The client's connection, if the server of `environ` shows it."""

    def __init__(self, environ: Environ) -> None:
        self._environ = environ
        self._body: Any = environ.get("wsgi.input")
        self._sought = False
        self._looked = 0.0
        self._socket: Any = None
        self._chunk = b""

    @property
    def title(self) -> str:
        """The request for log lines, without the query string, which may hold secrets."""
        environ = self._environ
        path = text_path(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
        return request_title(environ.get("REQUEST_METHOD", "a request for"), path)

    def has_left_lately(self, interval: float) -> bool:
        """Like `has_left`, but looks only once every `interval` seconds."""
        now = monotonic()
        if now - self._looked <= interval:
            return False
        self._looked = now
        return self.has_left()

    def has_left(self) -> bool:
        """Whether the client is known to have left. Does not wait."""
        asked = self._environ.get("waitress.client_disconnected")
        if asked is not None and asked():
            return True
        number = self.descriptor
        return number is not None and bool(events_now(number, _RDHUP) & _GONE)

    def departure(self, message: str, *, begun: bool) -> Exception:
        """The exception to raise for a request whose client has left, before its response or, if that has `begun`, in
        the middle of it.

        It makes the server end the connection, without an error in its log. Waitress 3 has its own exception for this.
        A client that is still there, because the adapter was closed, gets a 500 instead. uWSGI 2.0 prints the traceback
        of every exception. So there, a response that has begun ends normally, and the connection ends with a reset, so
        that nobody takes the response for complete.
        """
        if "waitress.client_disconnected" in self._environ and (begun or self.has_left()):
            return _waitress_error()(message)
        if begun and "uwsgi.version" in self._environ and self.descriptor is not None:
            self.end_with_reset(True)
            return StopIteration()
        return ClientDisconnected(message)

    def end_with_reset(self, reset: bool) -> None:
        """Make closing the connection reset it (True), or end it normally again (False).

        In uWSGI 2.0, the end of the connection ends a response without Content-Length. uWSGI closes the connection
        normally when the application raises, and so does the kernel when the process is killed. After a reset, the
        client or the proxy can tell that the response is not complete. Other servers leave out the last chunk.
        """
        if "uwsgi.version" in self._environ and (number := self.descriptor) is not None:
            with socket.socket(fileno=os.dup(number)) as connection:
                linger = _RESET_ON_CLOSE if reset else _REGULAR_CLOSE
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def at_hand(self, size: int) -> bool:
        """Whether `size` bytes of the request body are known to have arrived, so that reading them does not wait."""
        if isinstance(self._body, io.BytesIO) or "waitress.client_disconnected" in self._environ:
            return True  # Waitress receives the whole body before it calls the application
        return self._is_gunicorn and hasattr(self._body.reader, "length") and self._gunicorn_holds() >= size

    @property
    def never_waits(self) -> bool:
        """Whether the server shows what has arrived, so that `read` does not wait for the client."""
        body = self._body
        if isinstance(body, io.BytesIO) or "waitress.client_disconnected" in self._environ:
            return True
        if self._is_gunicorn:
            return hasattr(body.reader, "length") and not body.buf.tell()
        return _is_chunked_uwsgi(self._environ) or _plain_socket(body) is not None

    def read(self, size: int) -> bytes | None:
        """At most `size` bytes of the request body, and `b""` at its end. None if reading would have to wait.

        If the server does not show what has arrived, this waits. On some servers it waits for all `size` bytes.
        """
        body = self._body
        if self._is_gunicorn and not body.buf.tell():
            return self._read_gunicorn(body, size)
        if _is_chunked_uwsgi(self._environ):
            return self._read_uwsgi(size)
        if isinstance(body, io.BufferedReader):
            return self._read_buffered(body, size)
        return cast(bytes, body.read(size))

    def _read_buffered(self, body: io.BufferedReader, size: int) -> bytes | None:
        """For wsgiref, Django's runserver and Werkzeug, whose input is the buffered reader of the connection."""
        connection = _plain_socket(body)
        if connection is not None:
            timeout = connection.gettimeout()
            connection.settimeout(0)
            try:
                held = len(body.peek(1))
            finally:
                connection.settimeout(timeout)
            if not held and not self._readable():
                return None
        return body.read1(size)  # which reads the connection once at most

    def _read_uwsgi(self, size: int) -> bytes | None:
        """A chunk of a chunked body, or a part of one. Raises `OSError` if the body breaks off."""
        chunk = self._chunk or cast(bytes | None, sys.modules["uwsgi"].chunked_read_nb())
        if chunk is None:
            return None
        self._chunk = chunk[size:]
        return chunk[:size]

    def _read_gunicorn(self, body: Any, size: int) -> bytes | None:
        """Gunicorn's `Body.read` waits for at least 1 KiB. The reader behind it waits only for what it is asked for."""
        read = body._read_reader
        if hasattr(body.reader, "parser"):
            # Chunked: the reader takes one chunk at a time from the connection, and keeps what one read does not need.
            first: bytes = read(1)
            kept = body.reader.buf.tell() if first else 0
            return first + read(min(kept, size - 1)) if kept and size > 1 else first
        if getattr(body.reader, "length", None) == 0:
            return b""  # nothing more will come
        held = self._gunicorn_holds()
        if not held and not self._readable():
            return None
        return cast(bytes, read(min(size, held or 1)))

    @property
    def _is_gunicorn(self) -> bool:
        plain = "gunicorn.socket" in self._environ and not isinstance(self._environ["gunicorn.socket"], ssl.SSLSocket)
        return plain and hasattr(self._body, "_read_reader")

    def _gunicorn_holds(self) -> int:
        """The number of bytes in Gunicorn's two buffers and in the kernel's."""
        number = self.descriptor
        if number is None:
            return 0
        unreader = self._body.reader.unreader
        waiting = array.array("i", [0])
        fcntl.ioctl(number, termios.FIONREAD, waiting)
        return int(self._body.buf.tell()) + int(unreader.buf.getbuffer().nbytes) + waiting[0]

    def _readable(self) -> bool:
        return bool(events_now(cast(int, self.descriptor), select.POLLIN | _RDHUP))

    @property
    def descriptor(self) -> int | None:
        """The file descriptor of the connection, to wait on. None if it is not known."""
        if not self._sought:
            self._sought = True
            self._socket = self._find_socket()
        try:
            number = -1 if self._socket is None else int(self._socket.fileno())
            return number if number >= 0 else None  # -1: the socket is closed
        except (AttributeError, OSError, ValueError):
            return None

    def _find_socket(self) -> Any:
        for key in ("gunicorn.socket", "gunicorn.sock", "werkzeug.socket"):
            if key in self._environ:
                return self._environ[key]
        body = self._environ.get(_SERVERS_INPUT, self._body)
        if "uwsgi.version" in self._environ:
            return body
        if "waitress.client_disconnected" in self._environ:
            return waitress_socket(self._environ)
        # wsgiref and Django's runserver: the input is the buffered reader of a socket. Cheroot wraps that (`rfile`).
        reader = getattr(getattr(body, "_read", None), "__self__", None) or getattr(body, "rfile", None) or body
        return getattr(getattr(reader, "raw", None), "_sock", None)
