"""`AsgiToWsgi`: one request from a WSGI server through an ASGI application. Only this file calls `start_response`."""

import logging
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, cast

from bridge import _arguments
from bridge._asgi_to_wsgi.app_runner import Tasks
from bridge._asgi_to_wsgi.responder import STEP, Conversation
from bridge._asgi_to_wsgi.task_side import Options
from bridge._asgi_to_wsgi.task_thread import ENDED
from bridge._concurrency.call_thread import Gone
from bridge._concurrency.calls import Call
from bridge._concurrency.jobs import current
from bridge._concurrency.private_loop import LoopFactory
from bridge._servers.connection import complete
from bridge._stats import LoopStats
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.events_to_response import END, EarlyHint, File, Head, text_response
from bridge._translate.input_to_events import BodyEvents, body_length
from bridge._types import ASGIApp, Environ, Scope, StartResponse
from bridge.errors import ClientDisconnected, ClientProtocolError

_log = logging.getLogger("bridge")


class AsgiToWsgi:
    """A WSGI application that runs the ASGI 3 application `app` on a private event loop.

    Options, with what happens at the limit:

    * `lifespan`: "auto" runs the application's lifespan if it supports it, "on" fails if it does not, "off" runs none.
      The startup is run once a process, before its first request; its failure is a `LifespanFailed` for each request.
    * `startup_timeout`, `shutdown_timeout` (seconds): how long the startup and the shutdown may take. At the shutdown,
      tasks that are still at work then are cancelled.
    * `disconnect_grace` (seconds): how long the application may go on after `http.disconnect` before it is cancelled.
    * `loop_factory`: makes the event loop (`uvloop.new_event_loop`, say); adapters with the same one share one loop.
    * `slow_warning` (seconds, or None): a callback that blocks the loop for longer is logged with its stack.

    Raises `TypeError` or `ValueError` for a wrong application or option. The loop is started by the first request and
    is that of this process, so that the server may fork.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        lifespan: Literal["auto", "on", "off"] = "auto",
        startup_timeout: float = 60.0,
        shutdown_timeout: float = 30.0,
        disconnect_grace: float = 3.0,
        loop_factory: LoopFactory | None = None,
        slow_warning: float | None = 1.0,
    ) -> None:
        _arguments.asgi_app(app)
        _arguments.choice("lifespan", lifespan, ("auto", "on", "off"))
        _arguments.seconds("startup_timeout", startup_timeout)
        _arguments.seconds("shutdown_timeout", shutdown_timeout)
        _arguments.seconds("disconnect_grace", disconnect_grace)
        _arguments.factory("loop_factory", loop_factory)
        if slow_warning is not None:
            _arguments.seconds("slow_warning", slow_warning)
        self.app = app
        self._tasks = Tasks(
            Options(
                app=app,
                lifespan=lifespan,
                startup_timeout=startup_timeout,
                shutdown_timeout=shutdown_timeout,
                disconnect_grace=disconnect_grace,
                loop_factory=loop_factory,
                slow_warning=slow_warning,
            )
        )
        self._warned_of_websocket = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request of a WSGI server (PEP 3333); raises what the application raises before its response begins."""
        side, spawn = self._tasks.here()
        if environ.get("HTTP_UPGRADE", "").lower() == "websocket" and not self._warned_of_websocket:
            self._warned_of_websocket = True
            _log.warning(
                "%s cannot hand a WebSocket to an application; such requests run as plain http. Serve that path with an"
                " ASGI server",
                environ.get("SERVER_SOFTWARE") or "this WSGI server",
            )
        try:
            scope = environ_to_scope(complete(environ), outer=_outer_scope(environ))
            body = BodyEvents(body_length(environ))
        except ClientProtocolError as refusal:
            side.counters.rejected += 1
            _log.info("refused a request with %d: %s", refusal.status, refusal)
            head, text = text_response(refusal.status, str(refusal))
            start_response(*head)
            return [text]
        state = dict(scope.get("state") or ())
        if side.lifespan is not None:
            state.update(side.lifespan.state)
        scope["state"] = state
        return _respond(Conversation(side, spawn, self.app, environ, scope, body), environ, start_response)

    def stats(self) -> LoopStats:
        """Counts of tasks and requests, for this process."""
        return self._tasks.stats()

    def close(self) -> None:
        """Shut the application down, `shutdown_timeout` seconds at most; not on its event loop.

        The private loop is stopped where no other adapter uses it. A later request starts everything anew.
        """
        self._tasks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _respond(conversation: Conversation, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Run the application until its response begins; returns its body."""
    try:
        if (event := conversation.read_ahead()) is not None:
            conversation.give(event)
        conversation.start()
        while type(item := conversation.next()) is not Head:
            if type(item) is not EarlyHint:
                raise conversation.failure()
            environ["wsgi.early_hints"](item.links)
        out = conversation.out
        if out and type(out[0]) is File:
            opened = _open(conversation, out[0].path)
            try:
                start_response(item.status, item.headers)
            except BaseException:
                opened.close()
                raise
            conversation.release()
            return cast(Iterable[bytes], environ["wsgi.file_wrapper"](opened, STEP))
        start_response(item.status, item.headers)
    except Gone:
        conversation.release()
        raise ClientDisconnected("the client left before the response began") from None
    except BaseException:
        _Chunks(conversation).close()
        raise
    if len(out) == 2 and out[1] is END and not conversation.sensitive:
        # PEP 3333, Handling the Content-Length Header: servers have a short way for a list of one bytestring.
        conversation.release()
        return [out[0]] if not conversation.response.bodyless else []
    return _Chunks(conversation)


class _Chunks:
    """The iterable of a streamed response (PEP 3333, "Buffering and Streaming")."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._sent_all = self._closed = False
        self._file: BinaryIO | None = None  # what a path send sends after the head has left
        conversation.guard()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """The next chunk, made of those that have piled up."""
        if self._conversation.response.bodyless:
            raise StopIteration  # the head is all of it, whatever the application goes on with
        try:
            while not self._sent_all:
                if data := self._read_file() or self._next_data():
                    return data
            self._linger()
        except Gone:
            raise ClientDisconnected("the client left in the middle of the response") from None
        raise StopIteration

    def close(self) -> None:
        """PEP 3333, Specification Details: the server calls it however the request ended."""
        if self._closed:
            return
        self._closed = True
        conversation = self._conversation
        if self._file is not None:
            self._file.close()
        try:
            if conversation.leave():
                self._linger()
        finally:
            conversation.release()

    def __del__(self) -> None:
        # Middleware that drops the iterable without closing it would leave the application waiting for ever.
        if not self._closed:
            self._conversation.drop()

    def _next_data(self) -> bytes:
        """All chunks that are there, or the next one; empty where something else comes."""
        conversation = self._conversation
        chunks: list[bytes] = []
        while conversation.out or not chunks:
            item = conversation.next()
            if isinstance(item, bytes):
                chunks.append(item)
                continue
            if item is ENDED:
                raise conversation.broken()
            if item is END:
                self._sent_all = True
            else:
                self._file = _open(conversation, item.path)
            break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_file(self) -> bytes:
        """The next block of a path send that came after the head had left."""
        block = self._file.read(STEP) if self._file is not None else b""
        if self._file is not None and not block:
            self._file.close()
            self._file = None
        return block

    def _linger(self) -> None:
        """Stay for what thread-sensitive code still does after the response, Django's signals for one."""
        self._conversation.unguard()
        if self._conversation.sensitive and not self._conversation.gone:
            self._conversation.linger(self._conversation.side.disconnect_grace)


def _open(conversation: Conversation, path: str) -> BinaryIO:
    """The file of a path send. The server closes it, through its wrapper, or `close` does."""
    try:
        return Path(path).open("rb")
    except OSError as error:
        _log.error("%s sent a path that cannot be opened", conversation.request(), exc_info=error)
        raise


def _outer_scope(environ: Environ) -> Scope | None:
    """The scope of the ASGI server, where this thread works for its event loop."""
    host = current.host
    if host is None or not isinstance(host.job, Call):
        return None
    return cast(Scope | None, environ.get("asgi.scope"))
