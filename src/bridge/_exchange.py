"""The application's side of one request, in a worker thread: calls it, takes what it yields, closes it (PEP 3333)."""

import io
import logging
import sys
from collections.abc import Callable, Generator, Iterable

from bridge._call import Call, Gone, Side
from bridge._file_wrapper import FileWrapper
from bridge._scope_view import ScopeView
from bridge._spool import Spool
from bridge._translate.events_to_input import Body, stream_input
from bridge._translate.response_to_events import HELD, Response
from bridge._types import Environ, Scope, WSGIApp
from bridge.errors import ClientDisconnected, ClientProtocolError

_log = logging.getLogger("bridge")


class Exchange:
    """One call of a WSGI application. `call` must be set before `run`."""

    __slots__ = (
        "_app", "_body", "_chunks", "_environ", "_over", "_path_send", "_refusal", "_response", "_started", "call",
        "spool",
    )  # fmt: skip

    call: Call

    def __init__(self, app: WSGIApp, environ: Environ, scope: Scope) -> None:
        self._app = app
        self._environ = environ
        self._path_send = "http.response.pathsend" in (scope.get("extensions") or ())
        self._body: Body | None = None
        self._chunks: list[bytes] = []
        self._over = self._started = False
        self._refusal: ClientProtocolError | None = None
        self._response = Response(head_only=environ["REQUEST_METHOD"] == "HEAD", write=self._write)
        self.spool: Spool | None = None
        environ["wsgi.input"] = io.BytesIO()
        environ["wsgi.errors"] = sys.stderr
        environ["wsgi.file_wrapper"] = FileWrapper
        environ["asgi.scope"] = ScopeView(scope)
        environ["bridge.state"] = scope.get("state")
        environ["bridge.client_disconnected"] = self._client_disconnected

    # -- on the loop

    def set_input(self, body: Body, chunks: list[bytes]) -> None:
        """The body as far as it has been received; what is missing comes through the call."""
        if body.ended and not body.truncated:
            self._environ["wsgi.input"] = io.BytesIO(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            return
        self._body = body
        self._over = body.ended
        self._chunks = chunks[::-1]
        self._environ["wsgi.input"] = stream_input(self._pull)

    def spool_body(self) -> Spool:
        """The file for a body that is too large for memory."""
        if self.spool is None:
            self.spool = Spool()
        return self.spool

    def set_whole_input(self, length: int, chunks: list[bytes]) -> None:
        """All of a body of `length` bytes without Content-Length; `chunks` is what is not in the file."""
        # Now it has one, and is no longer in any transfer coding (RFC 9112 7.1.3).
        self._environ["CONTENT_LENGTH"] = str(length)
        self._environ.pop("HTTP_TRANSFER_ENCODING", None)
        self._chunks = chunks
        if self.spool is None:
            self._environ["wsgi.input"] = io.BytesIO(b"".join(chunks))

    def refuse(self, refusal: ClientProtocolError) -> None:
        """Reading the body has to raise `refusal` from here on."""
        self._refusal = refusal

    def release(self, side: Side) -> None:
        """The request is over; what the thread would have cleaned up if it had ever run is cleaned up."""
        spool = self.spool
        if spool is None or self._started:
            return
        try:
            side.submit(Call(side, lambda _call: iter_once(spool.close)))
        except RuntimeError:
            spool.close()

    # -- in the thread

    def run(self, call: Call) -> Generator[None]:
        """The whole of PEP 3333, "The Server/Gateway Side", for one request."""
        self._started = True
        try:
            if self.spool is not None:
                self.spool.write(self._chunks)
                self._environ["wsgi.input"] = self.spool.rewind()
            iterable = self._app(self._environ, self._response.start_response)
            try:
                if (type(iterable) is list or type(iterable) is tuple) and self._response.state is HELD:
                    call.hold(self._response.whole(iterable))
                else:
                    yield from self._iterate(iterable)
            finally:
                # PEP 3333, Specification Details: close() must be called, however the request ended.
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
            if self._response.overrun:
                _log.error("%s sent more than its Content-Length; the surplus was cut", self._request())
        except (GeneratorExit, Gone):
            raise
        except BaseException as error:
            self._log(error)
            raise
        finally:
            if self.spool is not None:
                self.spool.close()
            # These refer to one another; freed now, they need not be found by the garbage collector.
            self._environ = self._response = None  # type: ignore[assignment]

    def _iterate(self, iterable: Iterable[bytes]) -> Generator[None]:
        call, response = self.call, self._response
        if isinstance(iterable, FileWrapper) and self._path_send and (file := iterable.whole_file()) is not None:
            items = response.file(*file)
            if items is not None:
                call.tell(items)
                return
        for chunk in iterable:
            items = response.chunk(chunk)
            if items:
                call.tell(items)
                yield
            if response.stop:
                return
        items = response.end()
        if items:
            call.tell(items)

    def _write(self, data: bytes) -> None:
        """PEP 3333, "The write() Callable"."""
        try:
            items = self._response.chunk(data)
            if items:
                self.call.tell(items)
                self.call.ease()
        except Gone:
            raise ClientDisconnected("the client left before the response was written") from None

    def _pull(self) -> bytes:
        """The next chunk of the body, for `wsgi.input`."""
        while self._chunks:
            if data := self._chunks.pop():
                return data
        if not self._over:
            try:
                data = self.call.listen()
            except Gone:
                raise ClientDisconnected("the client left before the end of the request body") from None
            if data:
                return data
            self._over = True
        if self._refusal is not None:
            raise self._refusal
        if self._body is not None and self._body.truncated:
            raise ClientDisconnected(
                f"the request body broke off after {self._body.received} of {self._body.length} bytes"
            )
        return b""

    def _client_disconnected(self) -> bool:
        """`environ["bridge.client_disconnected"]()`: whether the client is known to have left."""
        return self.call.gone or (self._body is not None and self._body.disconnected)

    def _request(self) -> str:
        return f"the application, asked for {self._environ['REQUEST_METHOD']} {self._environ['PATH_INFO']!r:.200},"

    def _log(self, error: BaseException) -> None:
        if self._client_disconnected() or isinstance(error, (ClientDisconnected, ClientProtocolError)):
            _log.info("%s raised after its client had left or was refused", self._request(), exc_info=error)
        else:
            _log.error("%s raised", self._request(), exc_info=error)


def iter_once(function: Callable[[], object]) -> Generator[None]:
    """Call `function` as the steps of a call that cannot be halted."""
    function()
    yield from ()
