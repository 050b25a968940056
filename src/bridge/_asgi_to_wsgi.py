"""`AsgiToWsgi`: one request from a WSGI server through an ASGI application. Only this file calls `start_response`."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, cast

from bridge import _arguments, _wsgi_servers
from bridge._call import Call, Gone, Spawn
from bridge._crossing import AsyncioCrossing
from bridge._loop import LoopFactory
from bridge._stats import LoopStats
from bridge._task import ENDED, Task
from bridge._tasks import LoopSide, Tasks
from bridge._threads import current
from bridge._translate.environ_to_scope import environ_to_scope
from bridge._translate.events_to_response import END, HELD, EarlyHint, File, Head, Response
from bridge._translate.headers import status_line
from bridge._translate.input_to_events import DISCONNECT, EMPTY, Body, body_length
from bridge._types import ASGIApp, Environ, Event, Scope, StartResponse
from bridge.errors import ClientDisconnected, ClientProtocolError

# Bytes of the request body that are read at once.
_STEP: Final = 64 * 1024

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
        lifespan: str = "auto",
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
            app,
            lifespan=lifespan,
            startup_timeout=startup_timeout,
            shutdown_timeout=shutdown_timeout,
            disconnect_grace=disconnect_grace,
            loop_factory=loop_factory,
            slow_warning=slow_warning,
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
            scope = environ_to_scope(environ, outer=_outer_scope(environ))
            body = Body(body_length(environ))
        except ClientProtocolError as refusal:
            side.counters.rejected += 1
            _log.info("refused a request with %d: %s", refusal.status, refusal)
            return _refuse(refusal, start_response)
        state = dict(scope.get("state") or ())
        if side.lifespan is not None:
            state.update(side.lifespan.state)
        scope["state"] = state
        return _Request(self.app, environ, scope, body, side).respond(spawn, start_response)

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


class _Request:
    """One request: the application's `receive` and `send` on the loop, the response in the server's thread."""

    def __init__(self, app: ASGIApp, environ: Environ, scope: Scope, body: Body, side: LoopSide) -> None:
        self._app = app
        self._environ = environ
        self._scope = scope
        self._body = body
        self._side = side
        self._response = Response(head_only=scope["method"] == "HEAD", extensions=scope["extensions"])
        self._connection = _wsgi_servers.Connection(environ)
        # Nothing of the body is left to be received; until then, `receive` gives http.request events.
        self._received_all = False
        self._empty = body.left == 0
        self._sent_all = False
        # What a path send sends after the head has left.
        self._file: BinaryIO | None = None
        self._task: Task

    # -- in the server's thread

    def respond(self, spawn: Spawn, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application until its response begins; returns its body."""
        task = self._task = Task(self._side, self._run, spawn, self._read, self._connection)
        if not self._empty and self._connection.at_hand(self._body.size(_STEP)) and (event := self._read()) is not None:
            task.give(event)
        try:
            task.start()
            while type(item := task.next()) is not Head:
                if type(item) is not EarlyHint:
                    raise self._failure()
                self._environ["wsgi.early_hints"](item.links)
            out = task.out
            if out and type(out[0]) is File:
                body = self._environ["wsgi.file_wrapper"](self._open(out[0].path), _STEP)
                start_response(item.status, item.headers)
                task.release()
                return cast(Iterable[bytes], body)
            start_response(item.status, item.headers)
        except Gone:
            task.release()
            raise ClientDisconnected("the client left before the response began") from None
        except BaseException:
            self.close()
            raise
        if len(out) == 2 and out[1] is END and not task.sensitive:
            # PEP 3333, Handling the Content-Length Header: servers have a short way for a list of one bytestring.
            task.release()
            return [out[0]] if not self._response.bodyless else []
        return _Chunks(self)

    def next_chunk(self) -> bytes:
        """The next chunk of the body, made of those that have piled up. Raises `StopIteration` at its end."""
        try:
            while not self._sent_all:
                if data := self._read_file() or self._next_data():
                    return data
            self._linger()
        except Gone:
            raise ClientDisconnected("the client left in the middle of the response") from None
        raise StopIteration

    def _next_data(self) -> bytes:
        """All chunks that are there, or the next one; empty where something else comes."""
        task = self._task
        chunks: list[bytes] = []
        while task.out or not chunks:
            item = task.next()
            if isinstance(item, bytes):
                chunks.append(item)
                continue
            if item is ENDED:
                raise self._failure()
            if item is END:
                self._sent_all = True
            else:
                self._file = self._open(item.path)
            break
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _read_file(self) -> bytes:
        """The next block of a path send that came after the head had left."""
        if self._file is None:
            return b""
        block = self._file.read(_STEP)
        if not block:
            self._file.close()
            self._file = None
        return block

    def _open(self, path: str) -> BinaryIO:
        """The file of a path send. The server closes it, through its wrapper, or `close` does."""
        try:
            return Path(path).open("rb")
        except OSError as error:
            _log.error("%s sent a path that cannot be opened", self._request(), exc_info=error)
            raise

    def _linger(self) -> None:
        """Stay for what thread-sensitive code still does after the response, Django's signals for one."""
        task = self._task
        if task.sensitive:
            task.linger(self._side.disconnect_grace)

    def close(self) -> None:
        """The server has done with the response; before its end, that is a disconnect."""
        task = self._task
        if self._file is not None:
            self._file.close()
        if not (task.over or task.finished):
            task.disconnect()
        elif not task.gone:
            self._linger()
        task.release()

    def _read(self) -> Event | None:
        """The next event of the request body; None where the client has to be waited for."""
        body = self._body
        try:
            data = self._connection.read(body.size(_STEP))
        except Exception as error:
            _log.info("reading the request body failed", exc_info=error)
            data = b""
            body.left = body.left or 1  # a body that ends by itself has not ended so
        if data is None:
            return None
        event = body.event(data)
        if event is DISCONNECT:
            _log.info("the request body broke off")
            self._task.disconnect()
        return event

    def _failure(self) -> Exception:
        """What the server is to see of an application that ended before its response did."""
        if self._task.gone:
            return ClientDisconnected("the client left, or the adapter was closed, before the response was complete")
        error = self._task.error or self._response.unfinished()
        if isinstance(error, Exception):
            return error
        failure = RuntimeError(f"the application ended its task with {error!r}")
        failure.__cause__ = error
        return failure

    # -- on the loop

    async def _run(self) -> None:
        counters, response = self._side.counters, self._response
        try:
            await self._app(self._scope, self._receive, self._send)
            unfinished = response.unfinished()
            if unfinished is not None:
                raise unfinished
        except BaseException as error:
            if self._task.gone:
                _log.info("%s ended after its client had left", self._request(), exc_info=error)
            else:
                after = " after its response was complete" if response.complete else ""
                _log.error("%s raised%s", self._request(), after, exc_info=error)
            if not (response.complete or self._task.gone):
                counters.aborted += 1
                raise
        if self._task.gone and not response.complete:
            counters.client_disconnects += 1

    async def _receive(self) -> Event:
        task = self._task
        if task.over or task.gone:
            return dict(DISCONNECT)
        if self._empty and not self._received_all:
            self._received_all = True
            return dict(EMPTY)
        if self._received_all:
            await task.end()
            return dict(DISCONNECT)
        event = await task.listen()
        if event is None:
            return dict(DISCONNECT)
        self._received_all = event["type"] == "http.disconnect" or not event["more_body"]
        return event

    async def _send(self, event: Event) -> None:
        task, response = self._task, self._response
        over = response.complete
        items = response.feed(event)
        if response.complete and not over:
            self._side.counters.served += 1
            if response.overrun:
                _log.error("%s sent more than its Content-Length; the surplus was cut", self._request())
            task.finish_response()
        try:
            if items:
                task.tell(items)
                if task.stalled and not response.complete:
                    await task.ease()
            elif response.state is HELD:
                # Most send their first body event at once, so that one wake-up of the thread serves for both.
                crossing = self._side.crossing
                if isinstance(crossing, AsyncioCrossing):
                    crossing.call_soon(self._flush)
                else:
                    self._flush()
        except Gone:
            raise ClientDisconnected("the client left before the response was complete") from None

    def _flush(self) -> None:
        # An application that has already failed is still to be answered with a 500.
        if not self._task.finished and (items := self._response.flush()):
            with suppress(Gone):
                self._task.tell(items)

    def _request(self) -> str:
        return f"the application, asked for {self._scope['method']} {self._scope['path']!r:.200},"


class _Chunks:
    """The iterable of a streamed response (PEP 3333, "Buffering and Streaming")."""

    def __init__(self, request: _Request) -> None:
        self._request = request

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return self._request.next_chunk()

    def close(self) -> None:
        """PEP 3333, Specification Details: the server calls it however the request ended."""
        self._request.close()


def _outer_scope(environ: Environ) -> Scope | None:
    """The scope of the ASGI server, where this thread works for its event loop."""
    host = current.host
    if host is None or not isinstance(host.job, Call):
        return None
    return cast(Scope | None, environ.get("asgi.scope"))


def _refuse(refusal: ClientProtocolError, start_response: StartResponse) -> Iterable[bytes]:
    body = f"{refusal}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status_line(refusal.status), headers)
    return [body]
