"""The request that views and middleware get: Django's own for WSGI, with the ASGI scope in addition."""

import io
from collections.abc import Callable
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, cast

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.utils.functional import cached_property

from bridge._asgi_to_wsgi import Portal
from bridge._servers.connection import complete, replace_input, whole_body
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.input_to_events import body_length
from bridge._types import Environ, Scope
from bridge._wsgi_to_asgi import ScopeView
from bridge.django._bridge import ServerBridge
from bridge.errors import ClientDisconnected

_STEP_BYTES: Final = 64 * 1024


class Request(WSGIRequest):
    """A request on either kind of server: `environ` and `META` as under Django's WSGI handler, and `scope`."""

    # Set by the handler. Names without an underscore could be used by a project for something else.
    _portal: Portal

    _input: "Input | None" = None

    def __init__(self, environ: Environ) -> None:
        super().__init__(environ)
        limited: Any = self._stream
        if limited.limit:
            self._stream: Any = Input(environ["wsgi.input"], limited.limit, environ)
            self._input = self._stream

    @cached_property
    def scope(self) -> Scope:
        """The ASGI connection scope of the server. On a WSGI server it is made from the environ."""
        scope = self.environ.get("asgi.scope")
        if scope is None:
            scope = ScopeView(environ_to_scope(self.environ))
            scope["state"] = dict(self.environ.get("bridge.state") or ())
        return cast(Scope, scope)

    @cached_property
    def bridge(self) -> ServerBridge:
        """What a view can ask its server, as with `BridgeMiddleware`."""
        return ServerBridge(self, self._portal)

    def bring_body(self) -> None:
        """Wait for the whole body, so that async code on the event loop never has to wait. Raises `ClientDisconnected`.

        A body larger than `FILE_UPLOAD_MAX_MEMORY_SIZE` is put into a temporary file.
        """
        if self._input is not None and self._stream is self._input:
            self._input.bring(settings.FILE_UPLOAD_MAX_MEMORY_SIZE)

    def prepare_body(self) -> None:
        """Like `bring_body`, before async code begins. If the body broke off, reading it raises the error."""
        with suppress(ClientDisconnected):
            self.bring_body()

    def close(self) -> None:
        """Django calls this at the end of the response."""
        super().close()
        if self._input is not None:
            self._input.close()


def bring_body_of(request: WSGIRequest) -> "Input | None":
    """Like `Request.prepare_body`, for a request of Django's own handler. Returns what has to be closed, if anything.

    What has already been read of the body stays read.
    """
    django_request: Any = request
    limited: Any = django_request._stream
    left: int = 0 if isinstance(limited, Input) else getattr(limited, "limit", 0) - getattr(limited, "_pos", 0)
    if not left:
        return None
    brought = django_request._stream = Input(limited, left, request.environ)
    with suppress(ClientDisconnected):
        brought.bring(settings.FILE_UPLOAD_MAX_MEMORY_SIZE)
    return brought


def take_chunked(environ: Environ) -> None:
    """Receive a body without Content-Length, if there is one, and set Content-Length: Django reads nothing without it.

    Raises `ClientProtocolError` (411) for a body whose end cannot be found. Raises what the server's input raises.
    """
    if body_length(complete(environ)) is not None:
        return
    spool: IO[bytes] = SpooledTemporaryFile(settings.FILE_UPLOAD_MAX_MEMORY_SIZE)  # noqa: SIM115  # Input closes it
    try:
        for data in whole_body(environ):
            spool.write(data)
        length = spool.tell()
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    environ["CONTENT_LENGTH"] = str(length)
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # the body is no longer encoded (RFC 9112 7.1.3)
    if length:
        replace_input(environ, spool)
    else:
        spool.close()  # nobody reads it


class Input(io.IOBase):
    """At most `limit` bytes of a `wsgi.input`, with `read` and `readline` as those of a `BytesIO`.

    Raises `ClientDisconnected`, an `OSError`, if there are fewer bytes. (Some servers then report a normal end.) Django
    turns it into an `UnreadablePostError`.
    """

    def __init__(self, stream: Any, limit: int, environ: Environ | None = None) -> None:
        self._from = stream
        self._environ = environ
        self._left = self.limit = limit
        # Each later read raises it again.
        self._failure: ClientDisconnected | None = None
        # What take_chunked has made has to be closed here.
        self._file: IO[bytes] | None = stream if isinstance(stream, SpooledTemporaryFile) else None

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes. For -1 or None, everything that is left."""
        wanted = self._wanted(size)
        data = self._take(self._from.read, wanted)
        if len(data) == wanted:
            return data
        # Django expects one read to return everything, which PEP 3333 does not promise.
        chunks = [data]
        while missing := wanted - sum(map(len, chunks)):
            chunks.append(self._take(self._from.read, missing))
        return b"".join(chunks)

    def readline(self, size: int | None = -1, /) -> bytes:
        """One line, or at most `size` bytes of a line."""
        wanted = self._wanted(size)
        line = self._take(self._from.readline, wanted)
        while len(line) < wanted and not line.endswith(b"\n"):
            line += self._take(self._from.readline, wanted - len(line))
        return line

    def _wanted(self, size: int | None) -> int:
        if self._failure is not None:
            raise self._failure
        return self._left if size is None or size < 0 else min(size, self._left)

    def _take(self, read: Callable[[int], bytes], wanted: int) -> bytes:
        reset: ConnectionError | None = None
        try:
            data = read(wanted)
        except ClientDisconnected as error:
            self._failure = error
            raise
        except ConnectionError as error:
            # Gunicorn passes on what its socket raises. For Django, a client that resets its connection has left, too.
            data, reset = b"", error
        if not data and wanted:
            self._failure = ClientDisconnected(
                f"the request body broke off after {self.limit - self._left} of {self.limit} bytes"
            )
            raise self._failure from reset
        self._left -= len(data)
        return data

    def bring(self, memory: int) -> None:
        """Receive the rest, into memory up to this number of bytes, and otherwise into a file."""
        if not self._left or isinstance(self._from, io.BytesIO | SpooledTemporaryFile):
            return
        left = self._left
        if left <= memory:
            self._from = io.BytesIO(self.read())
        else:
            spool = SpooledTemporaryFile(memory)  # noqa: SIM115  # close() closes it
            self._file = spool
            while self._left:
                spool.write(self.read(_STEP_BYTES))
            spool.seek(0)
            self._from = spool
        self._left = left
        if self._environ is not None:
            # For code that reads `wsgi.input` itself, for example another application that a view calls.
            replace_input(self._environ, self._from)

    def close(self) -> None:
        """Remove the file, if there is one. The server closes its own input. Django calls this as soon as a view has
        read `request.body`.
        """
        super().close()
        if self._file is not None:
            self._file.close()
            if self._environ is not None and self._environ.get("wsgi.input") is self._file:
                # WSGI middleware may read what the application has left, also when the application is done.
                self._environ["wsgi.input"] = io.BytesIO()
