"""One call of a WSGI application: calls it, takes what it yields, closes it (PEP 3333)."""

import logging
import sys
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable
from typing import Any, Protocol

from bridge._concurrency.byte_queue import ByteQueue
from bridge._concurrency.calls import Call, Dispatcher, PeerGone
from bridge._concurrency.loops import Spawn
from bridge._log_once import warn_once
from bridge._translate.response_to_events import FULL, HELD, WsgiResponse
from bridge._translate.urls import request_title
from bridge._types import Environ, Event, Scope, WSGIApp
from bridge._wsgi_to_asgi.file_wrapper import FileWrapper
from bridge._wsgi_to_asgi.loop_response import AsyncBody, LoopResponse, LoopStream
from bridge._wsgi_to_asgi.request_body import RequestBody
from bridge._wsgi_to_asgi.scope_view import ScopeView
from bridge.errors import ApplicationProtocolError, ClientDisconnected, ClientProtocolError

_log = logging.getLogger("bridge")


class Responder(Protocol):
    """Makes the response to one request, for the task that sends it to the server.

    `WsgiResponder` does so in a worker thread, and Django's loop responder in a task on the loop.
    """

    dispatcher: Dispatcher
    environ: Environ
    # A body that did not arrive at once.
    body: RequestBody | None
    # The whole request body has to be there before `start`.
    needs_whole_body: bool
    # The head event and the body of a response that is known completely.
    whole: tuple[Event, bytes] | None
    # The items of any other response, as they come; None before the first.
    output: ByteQueue | None
    # A response that is made on the loop.
    stream: LoopResponse | None
    error: BaseException | None
    # No thread and no task will add to `output`, apart from those of `stream`.
    finished: bool
    # Nobody waits for the response any more.
    abandoned: bool
    # A thread or task has taken the request, and cleans up by itself.
    begun: bool
    slow: bool
    on_slow: Callable[[], object] | None
    spawn: Spawn | None
    # Whether it belongs to a thread that waits, in asgiref's async_to_sync, for the task that made it.
    thread_sensitive: bool
    # Whether exceptions of the application are logged. The server gets them too, and error reporters would count both.
    logs_errors: bool

    @property
    def done(self) -> bool:
        """Whether nothing more will be written."""
        ...

    def start(self) -> None:
        """Start to make the response. Raises `RuntimeError` if no thread can be started."""

    def abandon(self) -> None:
        """Give up the request: stop making the response."""

    def changed(self) -> Awaitable[None]:
        """Wait for any change; only the task that sends the response does."""
        ...

    def wake(self) -> None:
        """Wake the task that waits for a change."""

    def acknowledge(self, written: int) -> None:
        """Note that all that was written until `output.written` had this value has been sent."""

    async def yield_to_middleware(self) -> None:
        """Let middleware pass on what it was sent, if it needs its own thread or task for that."""


class WsgiResponder(Call):
    """One call of a WSGI application, in a worker thread.

    `whole` and `stream` are set in the thread before `finished`, and read by the loop after it.
    """

    error: BaseException | None
    needs_whole_body = False
    logs_errors = True
    # Whether the server sends files, if it offers that.
    pathsend = False
    body: RequestBody | None = None
    whole: tuple[Event, bytes] | None = None
    stream: LoopResponse | None = None
    begun = False

    def __init__(self, dispatcher: Dispatcher, app: WSGIApp, environ: Environ, scope: Scope) -> None:
        super().__init__(dispatcher)
        self.environ = environ
        self._app = app
        self._scope = scope
        self._response = WsgiResponse(head_only=environ["REQUEST_METHOD"] == "HEAD", write=self._write)
        complete_environ(environ, scope, self._client_disconnected)

    # -- on the loop

    def start(self) -> None:
        """Let a thread run the application. Raises `RuntimeError` if no thread can be started."""
        self.dispatcher.submit(self)

    @property
    def kind(self) -> Hashable:
        """Stands for the path: requests for the same path usually take about as long."""
        return hash(self._scope["path"])  # so that a pool remembers no paths, which may be long

    @property
    def done(self) -> bool:
        """Whether nothing more will be written."""
        return self.finished and (self.stream is None or self.stream.done)

    def run_on_loop(self) -> None:
        """Handle what came from the thread."""
        if self.abandoned and self.finished and self.stream is not None:
            self.stream.abandon()  # the client left before the thread did
        super().run_on_loop()

    def abandon(self) -> None:
        """Give up the request: stop the stream and wake the task."""
        # First, because its thread may finish meanwhile: anything read before this might be outdated.
        super().abandon()
        if self.stream is not None and self.finished:
            self.abandoned = self.abandoned or not self.stream.done
            self.stream.abandon()
            self.wake()  # the cleanup of the stream may take long

    def acknowledge(self, written: int) -> None:
        """Note that all that was written until `output.written` had this value has been sent."""
        super().acknowledge(written)
        if self.stream is not None:
            self.stream.acknowledged()

    def fail(self, error: BaseException) -> None:
        """Note that the application raised `error` after the thread had left."""
        self.error = error
        self._log(error)

    def __str__(self) -> str:
        # Without the query string, which may hold secrets.
        return request_title(self._scope["method"], self._scope["path"])

    # -- in the thread

    def work(self) -> Generator[None] | None:
        """PEP 3333, "The Server/Gateway Side"."""
        self.begun = True
        body = self.body
        if body is not None and body.counter.disconnected and body.counter.truncated:
            self.abandoned = True  # the application may see this, but nobody waits for its response
        iterable: Any = None
        try:
            if body is not None:
                self.environ["wsgi.input"] = body.open()
            iterable = self._app(self.environ, self._response.start_response)
            if body is not None and body.refusal is not None and self._response.state is HELD:
                # A framework has made an error page from the refusal, which itself says more.
                _close(iterable)
                raise body.refusal
            kind = type(iterable)
            if kind is AsyncBody and self._response.state is HELD and self.dispatcher.loop.is_asyncio:
                self._leave_to_loop(iterable)
                return None
            if (kind is not list and kind is not tuple) or self._response.state is not HELD:
                steps = self._iterate(iterable)
                next(steps)
                return steps
            self.whole = self._response.whole(iterable)
        except BaseException as error:
            self._log(error)
            self.clean_up()
            raise
        self.clean_up()
        return None

    def _leave_to_loop(self, body: AsyncBody) -> None:
        """Let the thread leave. The body is made on the loop."""
        assert self.context is not None

        def end() -> None:
            try:
                body.close()
            finally:
                self.clean_up()

        try:
            self.prepare_async()
            body.between()
        except BaseException:
            body.close()
            raise
        self.stream = LoopStream(self, self._response, self.context, body, end)

    def _iterate(self, iterable: Iterable[bytes]) -> Generator[None]:
        try:
            try:
                yield  # from here on the iterable is closed, even if nothing is ever taken from it
                yield from self._chunks_of(iterable)
            finally:
                # PEP 3333, Specification Details: close() must be called, however the request ended.
                self._close_to_its_end(iterable)
        except BaseException as error:
            if not (self.abandoned and isinstance(error, (GeneratorExit, PeerGone))):
                self._log(error)
            raise
        finally:
            self.clean_up()

    def _close_to_its_end(self, iterable: object) -> None:
        """Close the iterable. This asks nothing of the client, so its leave does not cancel the async code that runs on
        the loop for this: `abandon` does not find it.
        """
        thread = self.thread
        assert thread is not None
        tasks, thread.tasks = thread.tasks, []
        try:
            _close(iterable)
        finally:
            thread.tasks = tasks

    def _chunks_of(self, iterable: Iterable[bytes]) -> Generator[None]:
        response = self._response
        if (
            self.pathsend
            and isinstance(iterable, FileWrapper)
            and "http.response.pathsend" in (self._scope.get("extensions") or ())
            and (file := iterable.whole_file())
        ):
            items = response.file(*file)
            if items is not None:
                self.write(items, 0)
                yield
                self._flush()  # the server opens the file before it is closed here
                return
        for chunk in iterable:
            items = response.chunk(chunk)
            if items:
                self.write(items, len(chunk))
            yield  # after an empty chunk too, so that an application that polls with them learns that the client left
            if response.state is FULL:
                return
        items = response.end()
        if items:
            self.write(items, 0)

    def _write(self, data: bytes) -> None:
        """PEP 3333, "The write() Callable"."""
        try:
            items = self._response.chunk(data)
            if items:
                self.write(items, len(data))
                self.drain()
            elif self.abandoned:
                raise PeerGone  # an application that polls with empty writes learns here that the client left
            if self._response.overrun:
                raise ApplicationProtocolError(
                    "called write()",
                    state="after as many bytes as its Content-Length says",
                    expected="no more",
                    clause="PEP 3333, Handling the Content-Length Header",
                )
        except PeerGone:
            raise ClientDisconnected("the client left before the response was written") from None

    def _flush(self) -> None:
        """Wait until all that was written has been dealt with. Raises `PeerGone`."""
        output = self.output
        if output is not None:
            self.wait_while(lambda: output.in_flight)

    def prepare_async(self) -> None:
        """Receive the rest of the request body: async code may read it on the loop that it comes from."""
        if self.body is not None:
            self.body.complete()

    def turn_away(self) -> None:
        """Note that the loop is closed. Called in a thread that posts."""
        if self.finished and self.stream is not None:
            self.stream.turn_away()

    def _client_disconnected(self) -> bool:
        """`environ["bridge.client_disconnected"]()`: whether the client is known to have left."""
        return self.abandoned or (self.body is not None and self.body.counter.disconnected)

    def clean_up(self) -> None:
        """Release what the call held."""
        response = self._response
        if response.overrun:
            _log.error("%s sent more than its Content-Length; the surplus was cut", described(self._scope))
        if response.dropped:
            warn_of_dropped(self._scope, response)
        if self.body is not None:
            self.body.close()
        # They refer back to this call. Freed now, they need no garbage collection.
        del self.environ
        response.forget_write()

    def _log(self, error: BaseException) -> None:
        log_failure(self._scope, error, excused=self._client_disconnected(), as_error=self.logs_errors)


def complete_environ(environ: Environ, scope: Scope, client_disconnected: Callable[[], bool]) -> None:
    """Add to `environ` what belongs to the process and to the responder of this request."""
    environ["wsgi.errors"] = sys.stderr
    environ["wsgi.file_wrapper"] = FileWrapper
    environ["asgi.scope"] = ScopeView(scope)
    environ["bridge.state"] = scope.get("state")
    environ["bridge.client_disconnected"] = client_disconnected


def described(scope: Scope) -> str:
    """Return the request, for log lines."""
    return f"the application, asked for {request_title(scope['method'], scope['path'])},"


def log_failure(scope: Scope, error: BaseException, *, excused: bool, as_error: bool) -> None:
    """Log what the application raised: as info if the client had left, and otherwise as an error if `as_error`."""
    if excused or isinstance(error, (ClientDisconnected, ClientProtocolError)):
        _log.info("%s raised after its client had left or was refused", described(scope), exc_info=error)
    elif as_error:
        _log.error("%s raised", described(scope), exc_info=error)


def warn_of_dropped(scope: Scope, response: WsgiResponse) -> None:
    """Warn of hop-by-hop headers that were dropped, once in each process."""
    warn_once(
        "hop-by-hop headers",
        "%s gave %s: hop-by-hop headers belong to the server (PEP 3333), and are dropped; this is logged once",
        described(scope),
        ", ".join(response.dropped),
    )


def _close(iterable: object) -> None:
    """Call `close()` where there is one."""
    close = getattr(iterable, "close", None)
    if close is not None:
        close()
