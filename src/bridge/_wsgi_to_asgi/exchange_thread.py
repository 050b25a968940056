"""The application's side of one request, in a worker thread: calls it, takes what it yields, closes it (PEP 3333)."""

import logging
import sys
from collections.abc import Generator, Iterable
from typing import Any

from bridge._concurrency.call_thread import Gone, Side
from bridge._concurrency.calls import Call
from bridge._translate.events_to_input import Body
from bridge._translate.response_to_events import HELD, Items, Response
from bridge._types import Environ, Scope, WSGIApp
from bridge._wsgi_to_asgi.file_wrapper import FileWrapper
from bridge._wsgi_to_asgi.loop_body import LoopBody
from bridge._wsgi_to_asgi.loop_response import LoopStream, LoopWork
from bridge._wsgi_to_asgi.request_body import Spool
from bridge._wsgi_to_asgi.scope_view import ScopeView
from bridge.errors import ApplicationProtocolError, ClientDisconnected, ClientProtocolError

_log = logging.getLogger("bridge")


class ExchangeThread(Call):
    """One call of a WSGI application."""

    # The items of a response that is known as a whole: they go over with the end of the call, in one crossing.
    whole: Items = ()
    # All of the request body has to be there before the call.
    collects = False
    # A body that the loop makes, once the thread has left.
    stream: LoopWork | None = None
    spool: Spool | None = None
    # Whether what the application raises is logged. The server gets it too; what watches errors takes both for two.
    logs_errors = True
    _body: Body | None = None
    _received: list[bytes] | None = None
    _over = False
    _begun = False
    _refusal: ClientProtocolError | None = None

    def __init__(self, side: Side, app: WSGIApp, environ: Environ, scope: Scope) -> None:
        super().__init__(side)
        self._app = app
        self._environ = environ
        self._scope = scope
        self._response = Response(head_only=environ["REQUEST_METHOD"] == "HEAD", write=self._write)
        environ["wsgi.errors"] = sys.stderr
        environ["wsgi.file_wrapper"] = FileWrapper
        environ["asgi.scope"] = ScopeView(scope)
        environ["bridge.state"] = scope.get("state")
        environ["bridge.client_disconnected"] = self._client_disconnected

    def fail(self, error: BaseException) -> None:
        """The application raised `error` after the thread had left."""
        self.error = error
        self._log(error)

    def work(self) -> Generator[None] | None:
        """PEP 3333, "The Server/Gateway Side"."""
        self._begun = True
        if self._body is not None and self._body.disconnected:
            self.gone = True  # the application may still see that, but nobody waits for what it says
        iterable: Any = None
        try:
            self.open_spool()
            iterable = self._app(self._environ, self._response.start_response)
            if self._refusal is not None and self._response.state is HELD:
                # A framework has made an error page of it; the refusal says more.
                _close(iterable)
                raise self._refusal
            kind = type(iterable)
            if kind is LoopBody and self._response.state is HELD and self.side.crossing.is_asyncio:
                self._leave_to_loop(iterable)
                return None
            if (kind is not list and kind is not tuple) or self._response.state is not HELD:
                steps = self._iterate(iterable)
                next(steps)
                return steps
            items = self._response.whole(iterable)
            self.whole = () if self.gone else items
        except BaseException as error:
            self._log(error)
            self.clean_up()
            raise
        self.clean_up()
        return None

    def open_spool(self) -> None:
        """Make the spooled body, if there is one, the input."""
        if self.spool is not None:
            self.spool.write(self._received or [])
            self._environ["wsgi.input"] = self.spool.rewind()

    def _leave_to_loop(self, body: LoopBody) -> None:
        """The thread leaves; the body is made on the loop."""
        assert self._context is not None

        def end() -> None:
            try:
                body.close()
            finally:
                self.clean_up()

        try:
            body.between()
        except BaseException:
            body.close()
            raise
        self.stream = LoopStream(self, self._response, self._context, body, end)

    def _iterate(self, iterable: Iterable[bytes]) -> Generator[None]:
        try:
            try:
                yield  # from here on the iterable is closed, also if it is never asked for anything
                yield from self._chunks_of(iterable)
            finally:
                # PEP 3333, Specification Details: close() must be called, however the request ended.
                _close(iterable)
        except BaseException as error:
            if not (self.gone and isinstance(error, (GeneratorExit, Gone))):
                self._log(error)
            raise
        finally:
            self.clean_up()

    def _chunks_of(self, iterable: Iterable[bytes]) -> Generator[None]:
        response = self._response
        extensions = self._scope.get("extensions") or ()
        if (
            isinstance(iterable, FileWrapper)
            and "http.response.pathsend" in extensions
            and (file := iterable.whole_file())
        ):
            items = response.file(*file)
            if items is not None:
                self.tell(items, 0)
                yield
                self.settle()  # the server opens the file before it is closed here
                return
        for chunk in iterable:
            items = response.chunk(chunk)
            if items:
                self.tell(items, len(chunk))
                yield
            if response.full:
                return
        items = response.end()
        if items:
            self.tell(items, 0)

    def _write(self, data: bytes) -> None:
        """PEP 3333, "The write() Callable"."""
        try:
            items = self._response.chunk(data)
            if items:
                self.tell(items, len(data))
                self.ease()
            if self._response.overrun:
                raise ApplicationProtocolError(
                    "called write()",
                    state="after as many bytes as its Content-Length says",
                    expected="no more",
                    clause="PEP 3333, Handling the Content-Length Header",
                )
        except Gone:
            raise ClientDisconnected("the client left before the response was written") from None

    def _pull(self) -> bytes:
        """The next chunk of the body, for `wsgi.input`."""
        if self.finished:
            raise ClientDisconnected("the request is over")
        while self._received:
            if data := self._received.pop():
                return data
        if not self._over:
            try:
                data = self.listen()
            except Gone:
                raise ClientDisconnected("the client left before the end of the request body") from None
            if data:
                return data
            self._over = True
        if self._refusal is not None:
            raise self._refusal
        body = self._body
        if body is not None and body.truncated:
            raise ClientDisconnected(f"the request body broke off after {body.received} of {body.length} bytes")
        return b""

    def _client_disconnected(self) -> bool:
        """`environ["bridge.client_disconnected"]()`: whether the client is known to have left."""
        return self.gone or (self._body is not None and self._body.disconnected)

    def clean_up(self) -> None:
        """Let go of what the call held."""
        if self._response.overrun:
            _log.error("%s sent more than its Content-Length; the surplus was cut", self._request())
        if self.spool is not None:
            self.spool.close()
        # They refer back to this call; freed now, they need not be found by the garbage collector.
        del self._environ
        self._response.forget_write()

    def _request(self) -> str:
        return f"the application, asked for {self._scope['method']} {self._scope['path']!r:.200},"

    def _log(self, error: BaseException) -> None:
        if self._client_disconnected() or isinstance(error, (ClientDisconnected, ClientProtocolError)):
            _log.info("%s raised after its client had left or was refused", self._request(), exc_info=error)
        elif self.logs_errors:
            _log.error("%s raised", self._request(), exc_info=error)


def _close(iterable: object) -> None:
    """Call `close()` where there is one."""
    close = getattr(iterable, "close", None)
    if close is not None:
        close()
