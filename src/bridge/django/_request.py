"""The request that views and middleware get: Django's own for WSGI, complete with the ASGI scope."""

import io
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final, cast

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.utils.functional import cached_property

from bridge._asgi_to_wsgi import Portal
from bridge._servers.connection import complete, whole_body
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.input_to_events import body_length
from bridge._types import Environ, Scope
from bridge._wsgi_to_asgi import ScopeView
from bridge.django._bridge import ServerBridge
from bridge.errors import ClientDisconnected

_STEP_BYTES: Final = 64 * 1024


class Request(WSGIRequest):
    """A request on either kind of server: `environ` and `META` as under Django's WSGI handler, and `scope`."""

    # Set by the handler. What has no underscore here is a name that a project may use for something else.
    _portal: Portal

    _input: "Input | None" = None

    def __init__(self, environ: Environ) -> None:
        super().__init__(environ)
        limited: Any = self._stream
        if limited.limit:
            self._stream: Any = Input(environ["wsgi.input"], limited.limit)
            self._input = self._stream

    @cached_property
    def scope(self) -> Scope:
        """The ASGI connection scope: that of the server, or on a WSGI server one made of the environ."""
        scope = self.environ.get("asgi.scope")
        if scope is None:
            scope = ScopeView(environ_to_scope(self.environ))
            scope["state"] = dict(self.environ.get("bridge.state") or ())
        return cast(Scope, scope)

    @cached_property
    def bridge(self) -> ServerBridge:
        """What a view can ask of its server, as with `BridgeMiddleware`."""
        return ServerBridge(self, self._portal)

    def bring_body(self) -> None:
        """Wait for all of the body, so that async code, on the event loop, never has to. Raises `ClientDisconnected`.

        Above `FILE_UPLOAD_MAX_MEMORY_SIZE` it is put into a temporary file.
        """
        if self._input is not None and self._stream is self._input:
            self._input.bring(settings.FILE_UPLOAD_MAX_MEMORY_SIZE)

    def prepare_body(self) -> None:
        """As `bring_body`, before async code begins; of a body that broke off, who reads it will hear."""
        with suppress(ClientDisconnected):
            self.bring_body()

    def close(self) -> None:
        """Django calls it at the end of the response."""
        super().close()
        if self._input is not None:
            self._input.close()


def bring_body_of(request: WSGIRequest) -> "Input | None":
    """As `Request.prepare_body`, for a request of Django's own handler; return what is to be closed, if anything.

    What has been read of it already stays read.
    """
    django_request: Any = request
    limited: Any = django_request._stream
    left: int = 0 if isinstance(limited, Input) else getattr(limited, "limit", 0) - getattr(limited, "_pos", 0)
    if not left:
        return None
    brought = django_request._stream = Input(limited, left)
    with suppress(ClientDisconnected):
        brought.bring(settings.FILE_UPLOAD_MAX_MEMORY_SIZE)
    return brought


def take_chunked(environ: Environ) -> None:
    """Receive a body without Content-Length, if there is one, and give it one: Django reads nothing without.

    Raises `ClientProtocolError` (411) for one whose end cannot be found, and what the server's input raises.
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
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # it is no longer in any (RFC 9112 7.1.3)
    if length:
        environ["wsgi.input"] = spool
    else:
        spool.close()  # nobody reads it


class Input(io.IOBase):
    """At most `limit` bytes of a `wsgi.input`, as `read` and `readline` of a `BytesIO` would give them.

    Raises `ClientDisconnected`, an `OSError`, where there are fewer: some servers then say that this was the end, and
    Django makes an `UnreadablePostError` of it.
    """

    def __init__(self, stream: Any, limit: int) -> None:
        self._from = stream
        self._left = self.limit = limit
        # Raised by each further read.
        self._failure: ClientDisconnected | None = None
        # What take_chunked has made is ours to close.
        self._file: IO[bytes] | None = stream if isinstance(stream, SpooledTemporaryFile) else None

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, all that is left for -1 or None."""
        wanted = self._wanted(size)
        data = self._take(self._from.read(wanted), wanted)
        if len(data) == wanted:
            return data
        # Django takes one read for all there is, which PEP 3333 does not promise.
        chunks = [data]
        while missing := wanted - sum(map(len, chunks)):
            chunks.append(self._take(self._from.read(missing), missing))
        return b"".join(chunks)

    def readline(self, size: int | None = -1, /) -> bytes:
        """One line, or at most `size` bytes of it."""
        wanted = self._wanted(size)
        line = self._take(self._from.readline(wanted), wanted)
        while len(line) < wanted and not line.endswith(b"\n"):
            line += self._take(self._from.readline(wanted - len(line)), wanted)
        return line

    def _wanted(self, size: int | None) -> int:
        if self._failure is not None:
            raise self._failure
        return self._left if size is None or size < 0 else min(size, self._left)

    def _take(self, data: bytes, wanted: int) -> bytes:
        if not data and wanted:
            self._failure = ClientDisconnected(
                f"the request body broke off after {self.limit - self._left} of {self.limit} bytes"
            )
            raise self._failure
        self._left -= len(data)
        return data

    def bring(self, memory: int) -> None:
        """Receive what is left, into memory up to so many bytes, else into a file."""
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

    def close(self) -> None:
        """Remove the file, if there is one; what the server gave is the server's to close."""
        super().close()
        if self._file is not None:
            self._file.close()
