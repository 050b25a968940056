"""`WsgiToAsgi`: one request from an ASGI server through a WSGI application. Only this file awaits `receive` and
`send`.
"""

import asyncio
import functools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, cast

import anyio

from bridge import _arguments
from bridge._call import Side
from bridge._calls import Calls, run_hook, run_in_thread, spawner
from bridge._exchange import Exchange
from bridge._stats import ThreadStats
from bridge._translate.events_to_input import Body, expects_body
from bridge._translate.response_to_events import END, body_event, plain_response
from bridge._translate.scope_to_environ import scope_to_environ
from bridge._types import Environ, Receive, Scope, Send, WSGIApp
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
        self._single = threads == 1
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
        exchange = None
        try:
            self._admit(side)
            environ = scope_to_environ(scope, max_repeats=self._max_repeats)
            if self._single:
                environ["wsgi.multithread"] = False
            exchange = Exchange(side, self.app, environ, scope)
            request = None
            if expects_body(environ):
                request = await self._receive_body(exchange, environ, receive, send)
            else:
                exchange.set_input(b"")
            if request is not None or not side.crossing.is_asyncio:
                await (request or _Request(exchange, receive, send, None)).serve()
                return
            _start(exchange)
            try:
                await exchange.arrival()
                items = exchange.whole
                if not exchange.finished or not items:
                    await _Request(exchange, receive, send, None).follow()
                    return
                await send(items[0])
                await send(body_event(cast(bytes, items[1]) if items[1] is not END else b"", more=False))
            except BaseException:
                exchange.abandon()
                raise
            side.counters.served += 1
        except ClientProtocolError as refusal:
            side.counters.rejected += 1
            _log.info("refused a request with %d: %s", refusal.status, refusal)
            extra = ((b"retry-after", b"1"),) if refusal.status == 503 else ()
            for event in plain_response(refusal.status, str(refusal), *extra):
                await send(event)
        except ClientDisconnected:
            side.counters.client_disconnects += 1
        finally:
            if exchange is not None and exchange.spool is not None and not exchange.begun:
                exchange.discard_spool()

    async def _receive_body(
        self, exchange: Exchange, environ: Environ, receive: Receive, send: Send
    ) -> "_Request | None":
        """Receive what is collected before a thread is taken. Returns None where that is all, and came at once."""
        length = environ.get("CONTENT_LENGTH")
        body = Body(None if length is None else int(length), self._max_body)
        data = body.take(await receive())
        if length is not None and body.ended and not body.truncated:
            exchange.set_input(data)
            return None
        request = _Request(exchange, receive, send, body)
        await request.collect(data, self._collect, stream=length is not None or self._stream_chunked)
        self._admit(exchange.side)
        return request

    def _admit(self, side: Side) -> None:
        if side.threads.surplus >= self._backlog:
            raise _unavailable("when all threads were busy and the backlog was full")

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
    """A request that is more than one event to and fro: the rest of its body, the pieces of the response, the
    client.
    """

    def __init__(self, exchange: Exchange, receive: Receive, send: Send, body: Body | None) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._body = body
        self._watcher: asyncio.Task[None] | None = None
        self._started = self._ended = False

    async def collect(self, data: bytes, bound: int, *, stream: bool) -> None:
        """Receive the body after its first bytes `data`, before a thread is taken.

        Up to `bound` bytes of it where the application can be given the rest in pieces (`stream`); else all of it,
        into a file above `bound` bytes. Raises `ClientDisconnected` where that breaks off: it cannot be told from a
        whole body.
        """
        body, exchange = self._body, self._exchange
        assert body is not None
        chunks = [data]
        size = len(data)
        while not body.ended and (not stream or size < bound):
            data = body.take(await self._receive())
            chunks.append(data)
            size += len(data)
            if not stream and size > (bound if exchange.spool is None else _SPOOL_STEP):
                await run_in_thread(exchange.side, functools.partial(exchange.start_spool().write, chunks))
                chunks, size = [], 0
        if stream and (not body.ended or body.truncated):
            exchange.set_partial_input(body, chunks)
        elif stream:
            exchange.set_input(b"".join(chunks))
        elif body.truncated:
            raise ClientDisconnected("the client left before the end of the request body")
        else:
            exchange.set_unannounced_input(body.received, chunks)

    async def serve(self) -> None:
        """Have a thread run the application, and follow it."""
        if self._exchange.side.crossing.is_asyncio:
            _start(self._exchange)
            await self.follow()
        else:
            await self._serve_on_trio()

    async def follow(self) -> None:
        """Send what the thread tells, pass on what it asks for, and watch the client; on asyncio."""
        exchange = self._exchange
        if exchange.slow or (self._body is not None and not self._body.ended):
            self._start_watcher()
        elif self._body is None or not self._body.disconnected:
            exchange.on_slow = self._start_watcher
        try:
            await self._converse()
        except BaseException:
            # Cancelled by the server, or send() raised: for the thread this is a client that left.
            exchange.abandon()
            if self._watcher is not None:
                self._watcher.cancel()
            raise
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher], timeout=_CANCEL_GRACE)

    async def _serve_on_trio(self) -> None:
        failure = None
        async with anyio.create_task_group() as group:
            # The application may have tasks for this group, so that it is there first.
            self._exchange.spawn = spawner(group)
            try:
                _start(self._exchange)
                group.start_soon(self._exchange.tick_until_finished)
                if self._body is None or not self._body.disconnected:
                    group.start_soon(self._watch)
                await self._converse()
            except Exception as error:
                failure = error  # raised outside, so that it does not become a group
            finally:
                self._exchange.abandon()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _converse(self) -> None:
        exchange = self._exchange
        while True:
            if exchange.out:
                await self._send_items()
            elif exchange.finished:
                if self._ended or not exchange.whole:
                    break
                exchange.out.extend(exchange.whole)
            elif exchange.gone:
                break
            else:
                await exchange.arrival()
        if self._ended:
            exchange.side.counters.served += 1
        elif exchange.gone:
            exchange.side.counters.client_disconnects += 1
        else:
            self._fail(exchange.error)

    async def _send_items(self) -> None:
        """Send what is there, chunks that have piled up as one."""
        out, send = self._exchange.out, self._send
        chunks: list[bytes] = []
        path_sent = False
        while out and not self._ended:
            item = out.popleft()
            if item is END:
                self._ended = True
            elif isinstance(item, bytes):
                chunks.append(item)
            else:
                self._started = True
                path_sent = item["type"] == "http.response.pathsend"
                await send(item)
        told_size = self._exchange.told_size
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if body or (self._ended and not path_sent):
            await send(body_event(body, more=not self._ended))
        self._exchange.took(told_size)

    def _fail(self, error: BaseException | None) -> None:
        """Let the server answer 500, or abort the response that has begun."""
        if not self._started:
            if isinstance(error, ClientProtocolError):
                raise error
            if isinstance(error, ClientDisconnected):
                raise _truncated(error)
        self._exchange.side.counters.aborted += 1
        if isinstance(error, Exception):
            raise error
        raise RuntimeError(f"the application ended its thread with {error!r}") from error

    def _start_watcher(self) -> None:
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        """Pass the rest of the body to the thread, then wait for the client to leave."""
        call, body = self._exchange, self._body
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
            over = body is not None and body.final
            while (event := await self._receive())["type"] != "http.disconnect":
                if over:
                    # ASGI HTTP, "Disconnect": nothing else may come now. Whoever sends it may do so without end.
                    _log.warning("the server sent a request event after the request; no longer watching its client")
                    return
                over = not event.get("more_body", False)
            call.abandon()
        except ClientProtocolError as refusal:
            call.refuse(refusal)
            call.give(b"")
        except Exception:
            _log.exception("the server's receive() raised; taking the client for gone")
            call.abandon()


def _start(exchange: Exchange) -> None:
    try:
        exchange.side.submit(exchange)
    except RuntimeError as error:
        raise _unavailable(f"when no thread could be had ({error})") from error


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


def _unavailable(when: str) -> ClientProtocolError:
    return ClientProtocolError(
        f"came {when}", expected="another try, in a second", clause="RFC 9110 15.6.4", status=503
    )


def _truncated(error: ClientDisconnected) -> ClientProtocolError:
    refusal = ClientProtocolError(
        f"sent less than it announced ({error})", expected="as many bytes as Content-Length says", clause="RFC 9112 6.3"
    )
    refusal.__cause__ = error
    return refusal
