"""`WsgiToAsgi`: one request from an ASGI server through a WSGI application. Only this file awaits `receive` and
`send`.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import anyio

from bridge import _arguments
from bridge._call import Call, Side
from bridge._calls import Calls, run_hook, run_in_thread, spawner
from bridge._exchange import Exchange
from bridge._stats import ThreadStats
from bridge._translate.events_to_input import Body, expects_body
from bridge._translate.response_to_events import END, body_event, plain_response
from bridge._translate.scope_to_environ import scope_to_environ
from bridge._types import Receive, Scope, Send, WSGIApp
from bridge.errors import ClientDisconnected, ClientProtocolError, ServerProtocolError

# Bytes of a collected body that go to its temporary file at once.
_SPOOL_STEP: Final = 256 * 1024
# How long the end of a request waits for the server's receive() to be cancelled, in seconds.
_CANCEL_GRACE: Final = 1.0

_log = logging.getLogger("bridge")


class WsgiToAsgi:
    """An ASGI 3 application that runs the WSGI application `app` in worker threads.

    Options, with what happens at the limit:

    * `threads` (1 or more): worker threads, and so requests that `app` handles at once; further ones wait.
    * `backlog` (0 or more): requests that may wait for a thread; further ones get 503 with Retry-After.
    * `collect` (bytes, 0 or more): how much of a request body is received before a thread is taken; the rest is
      streamed.
    * `max_body` (bytes, or None for no limit): larger request bodies get 413.
    * `stream_chunked`: a body without Content-Length is streamed like any other; `app` has to read until its end
      without knowing its length (`wsgi.input_terminated`). Otherwise it is collected first, in a temporary file above
      `collect` bytes, and CONTENT_LENGTH is set: Django reads nothing without it.
    * `max_repeats` (1 or more): how often one header may occur in a request; more get 431.
    * `startup`, `shutdown`: callables, async or not, for the server's lifespan events. They may take the lifespan
      state, a dict that is `environ["bridge.state"]` in each request.
    * `shutdown_timeout` (seconds): how long a shutdown waits for running requests.
    * `slow_warning` (seconds, or None): a request that takes longer is logged with the stack of its thread.

    Raises `TypeError` or `ValueError` for a wrong application or option. An instance serves any number of event loops,
    on asyncio, uvloop and trio; threads are started by requests and are those of this process, so that it may fork.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        threads: int = 40,
        backlog: int = 1000,
        collect: int = 2**20,
        max_body: int | None = None,
        stream_chunked: bool = False,
        max_repeats: int = 100,
        startup: Callable[..., Any] | None = None,
        shutdown: Callable[..., Any] | None = None,
        shutdown_timeout: float = 30.0,
        slow_warning: float | None = 30.0,
    ) -> None:
        _arguments.wsgi_app(app)
        _arguments.count("threads", threads, least=1)
        _arguments.count("backlog", backlog, least=0)
        _arguments.count("collect", collect, least=0)
        if max_body is not None:
            _arguments.count("max_body", max_body, least=0)
        _arguments.flag("stream_chunked", stream_chunked)
        _arguments.count("max_repeats", max_repeats, least=1)
        _arguments.hook("startup", startup)
        _arguments.hook("shutdown", shutdown)
        _arguments.seconds("shutdown_timeout", shutdown_timeout)
        if slow_warning is not None:
            _arguments.seconds("slow_warning", slow_warning)
        self.app = app
        self._backlog = backlog
        self._collect = collect
        self._max_body = max_body
        self._stream_chunked = stream_chunked
        self._max_repeats = max_repeats
        self._startup = startup
        self._shutdown = shutdown
        self._shutdown_timeout = shutdown_timeout
        self._calls = Calls(threads, shutdown_timeout, slow_warning)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of an ASGI server (ASGI, "Applications"); raises what the application raises."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind == "websocket":
            await _deny(scope, receive, send)
        else:
            raise ServerProtocolError(
                f"opened a connection of the type {kind!r}",
                expected="http, lifespan or websocket",
                clause="ASGI, Connection Scope",
            )

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        side = self._calls.here()
        request = None
        try:
            self._admit(side)
            environ = scope_to_environ(scope, max_repeats=self._max_repeats)
            request = _Request(side, Exchange(self.app, environ, scope), receive, send)
            if expects_body(environ):
                length = environ.get("CONTENT_LENGTH")
                body = Body(None if length is None else int(length), self._max_body)
                if length is None and not self._stream_chunked:
                    await request.collect_all(body, self._collect)
                else:
                    await request.collect(body, self._collect)
                self._admit(side)
            await request.serve()
        except ClientProtocolError as refusal:
            side.counters.rejected += 1
            _log.info("refused a request with %d: %s", refusal.status, refusal)
            extra = ((b"retry-after", b"1"),) if refusal.status == 503 else ()
            for event in plain_response(refusal.status, str(refusal), *extra):
                await send(event)
        except ClientDisconnected:
            side.counters.client_disconnects += 1
        finally:
            if request is not None:
                request.exchange.release(side)

    def _admit(self, side: Side) -> None:
        if side.threads.surplus >= self._backlog:
            raise ClientProtocolError(
                "came when all threads were busy and the backlog was full",
                expected="another try, in a second",
                clause="RFC 9110 15.6.4",
                status=503,
            )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI Lifespan; the hooks run, and at the end the threads get `shutdown_timeout` seconds to finish."""
        state = scope.get("state", {})
        side = self._calls.here()
        for phase, hook in (("startup", self._startup), ("shutdown", self._shutdown)):
            await receive()
            try:
                if phase == "shutdown":
                    await self._calls.drain(side)
                    await side.shut_down()
                if hook is not None:
                    await run_hook(self._calls.here(), hook, (state,) if _arguments.takes_argument(hook) else ())
            except Exception as error:
                _log.exception("the %s hook of the application raised", phase)
                await send({"type": f"lifespan.{phase}.failed", "message": f"{type(error).__name__}: {error}"})
                return
            await send({"type": f"lifespan.{phase}.complete"})
        await self._calls.drain(self._calls.here())

    def stats(self) -> ThreadStats:
        """Counts of threads and requests, for this process."""
        return self._calls.stats()

    def close(self) -> None:
        """End the threads, and wait for running requests, `shutdown_timeout` seconds at most; not on their event loop.

        A later request starts threads anew.
        """
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Request:
    """One request: the way of its body to the thread, and of the response from there."""

    __slots__ = (
        "_call",
        "_ended",
        "_extra_events",
        "_pump",
        "_receive",
        "_send",
        "_side",
        "_started",
        "body",
        "exchange",
    )

    def __init__(self, side: Side, exchange: Exchange, receive: Receive, send: Send) -> None:
        self._side = side
        self._receive = receive
        self._send = send
        self._call = exchange.call = Call(side, exchange.run)
        self._pump: asyncio.Task[None] | None = None
        self._started = self._ended = False
        # Without a body nothing was received, and the server says first that the request is over.
        self._extra_events = 1
        self.body: Body | None = None
        self.exchange = exchange

    # -- the request body, before a thread is taken

    async def collect(self, body: Body, bound: int) -> None:
        """Receive `bound` bytes of the body, or all of it if that is less."""
        self.body = body
        self._extra_events = 0
        chunks = [body.take(await self._receive())]
        while not body.ended and body.received < bound:
            chunks.append(body.take(await self._receive()))
        self.exchange.set_input(body, chunks)

    async def collect_all(self, body: Body, bound: int) -> None:
        """Receive all of a body without Content-Length: into memory up to `bound` bytes, then into a file.

        Raises `ClientDisconnected` where it breaks off, since what has come cannot be told from a whole body.
        """
        self._extra_events = 0
        chunks: list[bytes] = []
        size = 0
        while not body.ended:
            data = body.take(await self._receive())
            chunks.append(data)
            size += len(data)
            if size > (bound if self.exchange.spool is None else _SPOOL_STEP):
                await run_in_thread(self._side, functools.partial(self.exchange.spool_body().write, chunks))
                chunks, size = [], 0
        if body.truncated:
            raise ClientDisconnected("the client left before the end of the request body")
        self.exchange.set_whole_input(body.received, chunks)

    # -- the call and the response

    async def serve(self) -> None:
        """Have a thread run the application, and send what it tells."""
        call = self._call
        if call.side.crossing.is_asyncio:
            body = self.body
            if body is None or not body.disconnected:
                call.on_slow = self._start_pump
            self._submit()
            if body is not None and not body.ended:
                self._start_pump()
            try:
                await self._converse()
            except BaseException:
                # Cancelled by the server, or send() raised: for the thread this is a client that left.
                call.abandon()
                self._stop_pump()
                raise
            if (pump := self._stop_pump()) is not None:
                await asyncio.wait([pump], timeout=_CANCEL_GRACE)
        else:
            await self._serve_on_trio()

    async def _serve_on_trio(self) -> None:
        failure = None
        async with anyio.create_task_group() as group:
            self._call.spawn = spawner(group)
            self._submit()
            group.start_soon(self._call.tick_until_finished)
            if self.body is None or not self.body.disconnected:
                group.start_soon(self._watch)
            try:
                await self._converse()
            except Exception as error:
                failure = error  # outside, so that it does not become a group
            finally:
                self._call.abandon()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _submit(self) -> None:
        try:
            self._side.submit(self._call)
        except RuntimeError as error:
            raise ClientProtocolError(
                f"came when no thread could be had ({error})",
                expected="another try, in a second",
                clause="RFC 9110 15.6.4",
                status=503,
            ) from error

    async def _converse(self) -> None:
        call, out = self._call, self._call.out
        while True:
            if out:
                await self._send_items()
            elif call.finished or call.gone:
                break
            else:
                await call.arrival()
        if self._ended:
            self._side.counters.served += 1
        elif call.gone:
            self._side.counters.client_disconnects += 1
        else:
            self._fail(call.error)

    async def _send_items(self) -> None:
        """Send what is there, chunks that have piled up as one."""
        out, send = self._call.out, self._send
        chunks: list[bytes] = []
        count = 0
        last = path_sent = False
        while out:
            item = out.popleft()
            count += 1
            if item is END:
                last = True
            elif isinstance(item, bytes):
                chunks.append(item)
            else:
                self._started = True
                path_sent = item["type"] == "http.response.pathsend"
                await send(item)
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if body or (last and not path_sent):
            await send(body_event(body, more=not last))
        self._ended = last
        self._call.took(len(body), count)

    def _fail(self, error: BaseException | None) -> None:
        """Let the server answer 500, or abort the response that has begun."""
        if not self._started:
            if isinstance(error, ClientProtocolError):
                raise error
            if isinstance(error, ClientDisconnected):
                raise _truncated(error)
        self._side.counters.aborted += 1
        if isinstance(error, Exception):
            raise error
        raise RuntimeError(f"the application ended its thread with {error!r}") from error

    # -- the watch on the client

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = asyncio.ensure_future(self._watch())

    def _stop_pump(self) -> "asyncio.Task[None] | None":
        if self._pump is not None:
            self._pump.cancel()
        return self._pump

    async def _watch(self) -> None:
        """Pass the rest of the body to the thread, then wait for the client to leave."""
        call, body = self._call, self.body
        try:
            if body is not None:
                while not body.ended:
                    data = body.take(await self._receive())
                    if data:
                        call.give(data)
                    await call.room()
                call.give(b"")
                if body.disconnected:
                    call.abandon()
                    return
            while (await self._receive())["type"] != "http.disconnect":
                if not self._extra_events:
                    # ASGI HTTP, "Disconnect": nothing else may come now. Whoever sends it may do so without end.
                    _log.warning("the server sent a request event after the request; no longer watching its client")
                    return
                self._extra_events -= 1
            call.abandon()
        except ClientProtocolError as refusal:
            self.exchange.refuse(refusal)
            call.give(b"")
        except Exception:
            _log.exception("the server's receive() raised; taking the client for gone")
            call.abandon()


async def _deny(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI WebSocket: closing before accepting is a 403; with the denial response extension we can say more."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" in (scope.get("extensions") or {}):
        start, body = plain_response(404, "there is no WebSocket here: this application speaks WSGI")
        await send({**start, "type": "websocket.http.response.start"})
        await send({**body, "type": "websocket.http.response.body"})
    else:
        await send({"type": "websocket.close", "code": 1000})


def _truncated(error: ClientDisconnected) -> ClientProtocolError:
    refusal = ClientProtocolError(
        f"sent less than it announced ({error})", expected="as many bytes as Content-Length says", clause="RFC 9112 6.3"
    )
    refusal.__cause__ = error
    return refusal
