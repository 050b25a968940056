"""`WsgiToAsgi`: one request from an ASGI server through a WSGI application.

Only this file and `_request.py` await the server's `receive` and `send`.
"""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from bridge import _arguments
from bridge._concurrency.call_thread import Side
from bridge._stats import ThreadStats
from bridge._translate.events_to_input import BodyCounter, expects_body, is_framed
from bridge._translate.response_to_events import END, body_event, text_events
from bridge._translate.scope_to_environ import scope_to_environ
from bridge._types import Environ, Receive, Scope, Send, WSGIApp
from bridge._wsgi_to_asgi.cycle import Request, start, take_next
from bridge._wsgi_to_asgi.dispatchers import Calls, run_in_thread
from bridge._wsgi_to_asgi.lifespan import answer_lifespan
from bridge._wsgi_to_asgi.refusals import unavailable
from bridge._wsgi_to_asgi.responder import Exchange
from bridge.errors import ClientDisconnected, ClientProtocolError, ServerProtocolError

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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection of an ASGI server (ASGI, "Applications"); raises what the application raises."""
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._calls.here().while_serving(lambda: self._lifespan(scope, receive, send))
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
            exchange = self._exchange(side, environ, scope)
            request = None
            if expects_body(environ):
                request = await self._receive_body(exchange, environ, receive, send)
            else:
                exchange.set_input(b"")
            if request is not None or not side.crossing.is_asyncio:
                await (request or Request(exchange, receive, send, None)).serve()
                return
            start(exchange)
            try:
                await exchange.arrival()
                items = exchange.whole
                if not exchange.finished or not items:
                    await Request(exchange, receive, send, None).follow()
                    return
                await send(items[0])
                await send(body_event(cast(bytes, items[1]) if items[1] is not END else b"", more=False))
            except BaseException:
                exchange.abandon()
                raise
            side.counters.served += 1
        except ClientProtocolError as refusal:
            await _refuse(side, refusal, send)
        except BaseException as error:
            if _count(side, exchange, error):
                raise
        finally:
            if exchange is not None and exchange.spool is not None and not exchange.begun:
                exchange.discard_spool()

    def _exchange(self, side: Side, environ: Environ, scope: Scope) -> Exchange:
        return Exchange(side, self.app, environ, scope)

    async def _receive_body(self, exchange: Exchange, environ: Environ, receive: Receive, send: Send) -> Request | None:
        """Receive what is collected before a thread is taken. Returns None where that is all, and came at once."""
        length = environ.get("CONTENT_LENGTH")
        framed = is_framed(environ)
        body = BodyCounter(None if length is None else int(length), self._max_body, framed=framed)
        data = await take_next(body, receive) if framed else body.take(await receive())
        if length is not None and body.ended and not body.truncated:
            exchange.set_input(data)
            return None
        request = Request(exchange, receive, send, body)
        stream = length is not None or self._stream_chunked
        await request.collect(data, self._collect, stream=stream and not exchange.collects)
        self._admit(exchange.side)
        return request

    def _admit(self, side: Side) -> None:
        if side.threads.surplus >= self._backlog:
            raise unavailable("when all threads were busy and the backlog was full")

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI Lifespan; the hooks run, and at the end the threads get `shutdown_timeout` seconds to finish."""
        side = self._calls.here()

        async def stop() -> None:
            await self._calls.drain(side)
            await side.shut_down()

        await answer_lifespan(
            scope,
            receive,
            send,
            startup=self._startup,
            shutdown=self._shutdown,
            in_thread=lambda function: run_in_thread(self._calls.here(), function),
            stop=stop,
            end=lambda: self._calls.drain(self._calls.here()),
        )

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


async def _deny(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI WebSocket: closing before accepting is a 403; with the denial response extension we can say more."""
    if (await receive())["type"] != "websocket.connect":
        return
    if "websocket.http.response" in (scope.get("extensions") or {}):
        start, body = text_events(404, "there is no WebSocket here: this application speaks WSGI")
        await send({**start, "type": "websocket.http.response.start"})
        await send({**body, "type": "websocket.http.response.body"})
    else:
        await send({"type": "websocket.close", "code": 1000})


async def _refuse(side: Side, refusal: ClientProtocolError, send: Send) -> None:
    side.counters.rejected += 1
    _log.info("refused a request with %d: %s", refusal.status, refusal)
    extra = ((b"retry-after", b"1"),) if refusal.status == 503 else ()
    for event in text_events(refusal.status, str(refusal), *extra):
        await send(event)


def _count(side: Side, exchange: Exchange | None, error: BaseException) -> bool:
    """Count a request that ended with `error`; whether that is for the server to see."""
    if isinstance(error, ClientDisconnected):
        side.counters.client_disconnects += 1
        return False
    if isinstance(error, OSError) and exchange is not None and exchange.begun and exchange.error is None:
        side.counters.client_disconnects += 1  # it is the server's send() that raised
    else:
        side.counters.aborted += 1
    return True
