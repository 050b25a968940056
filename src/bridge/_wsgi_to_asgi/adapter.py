"""`WsgiToAsgi`: one request from an ASGI server through a WSGI application.

Only this file and `cycle.py` await the server's `receive` and `send`.
"""

import io
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from bridge import _arguments
from bridge._concurrency.calls import Dispatcher, run_in_thread
from bridge._stats import ThreadStats
from bridge._translate.events_to_input import BodyCounter, expects_body, is_framed
from bridge._translate.response_to_events import body_event
from bridge._translate.scope_to_environ import scope_to_environ
from bridge._types import Closable, Environ, Receive, Scope, Send, WSGIApp
from bridge._wsgi_to_asgi.cycle import RequestResponseCycle, start, take_next
from bridge._wsgi_to_asgi.dispatchers import Dispatchers
from bridge._wsgi_to_asgi.lifespan import answer_lifespan
from bridge._wsgi_to_asgi.refusals import answer_nobody, deny_websocket, refuse, unavailable
from bridge._wsgi_to_asgi.responder import Responder, WsgiResponder
from bridge.errors import ClientDisconnected, ClientProtocolError, ServerProtocolError


class WsgiToAsgi(Closable):
    """An ASGI 3 application that runs the WSGI application `app` in worker threads.

    Options, with what happens at the limit:

    * `threads` (1 or more): worker threads, and so requests that `app` handles at once. Further requests wait.
    * `backlog` (0 or more): requests that may wait for a thread. Further requests get 503 with Retry-After.
    * `collect` (bytes, 0 or more): how much of a request body is received before a thread is taken. The rest is
    streamed.
    * `max_body` (bytes, or None for no limit): larger request bodies get 413.
    * `stream_chunked`: a body without Content-Length is streamed like any other. `app` has to read to its end without
    knowing its length (`wsgi.input_terminated`). Otherwise the body is collected first, in a temporary file above
    `collect` bytes, and CONTENT_LENGTH is set: Django reads nothing without it.
    * `max_repeats` (1 or more): how often a header may occur in a request. If there are more, the request gets 431.
    * `startup`, `shutdown`: callables, async or not, for the server's lifespan events. They may take the lifespan
      state, a dict that is `environ["bridge.state"]` in each request.
    * `shutdown_timeout` (seconds): how long a shutdown waits for running requests.
    * `slow_warning` (seconds, or None): a request that takes longer is logged with the stack of its thread.
    * `pathsend`: let the server send files that `app` gives to `wsgi.file_wrapper`, if it offers
    `http.response.pathsend`. Off by default: ASGI middleware that does not know this event loses such a response, and
    no middleware compresses it.

    The attribute `app` is the application as it was given. Raises `TypeError` or `ValueError` for a wrong application
    or option. An instance serves any number of event loops, on asyncio, uvloop and trio. Threads are started by
    requests and belong to one process, so the server may fork.
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
        pathsend: bool = False,
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
        _arguments.flag("pathsend", pathsend)
        self.app = app
        self._pathsend = pathsend
        self._single = threads == 1
        self._backlog = backlog
        self._collect = collect
        self._max_body = max_body
        self._stream_chunked = stream_chunked
        self._max_repeats = max_repeats
        self._startup = startup
        self._shutdown = shutdown
        self._shutdown_timeout = shutdown_timeout
        self._dispatchers = Dispatchers(threads, shutdown_timeout, slow_warning)
        # An adapter that nobody refers to any more, as in test suites, leaves no threads.
        weakref.finalize(self, self._dispatchers.discard).atexit = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection of an ASGI server (ASGI, "Applications").

        Raises what the application raises, `ServerProtocolError` if the server breaks the protocol, and what the
        server's `send` raises.
        """
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            dispatcher = self._dispatchers.here()
            await dispatcher.serving.run(
                lambda: self._lifespan(scope, receive, send), grouped=not dispatcher.loop.is_asyncio
            )
        elif kind == "websocket":
            await deny_websocket(scope, receive, send)
        else:
            raise ServerProtocolError(
                f"opened a connection of the type {kind!r}",
                expected="http, lifespan or websocket",
                clause="ASGI, Connection Scope",
            )

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        dispatcher = self._dispatchers.here()
        responder = cycle = None
        try:
            self._admit(dispatcher)
            environ = scope_to_environ(scope, max_repeats=self._max_repeats)
            if self._single:
                environ["wsgi.multithread"] = False
            responder = self._make_responder(dispatcher, environ, scope)
            if expects_body(environ):
                cycle = await self._receive_body(responder, receive, send)
            else:
                environ["wsgi.input"] = io.BytesIO()
            if cycle is not None or not dispatcher.loop.is_asyncio:
                cycle = cycle or RequestResponseCycle(responder, receive, send, None)
                await cycle.serve()
                return
            start(responder)
            try:
                await responder.changed()
                whole = responder.whole
                if whole is None or not responder.finished:
                    cycle = RequestResponseCycle(responder, receive, send, None)
                    await cycle.follow()
                    return
                head, body = whole
                await send(head)
                await send(body_event(body, more=False))
            except BaseException:
                responder.abandon()
                raise
            dispatcher.counters.served += 1
        except ClientProtocolError as refusal:
            await refuse(dispatcher, refusal, send)
        except BaseException as error:
            _count(dispatcher, responder, cycle, error)
            if not isinstance(error, ClientDisconnected):
                raise
            await _answer_nobody(responder, cycle, send)
        finally:
            if responder is not None and responder.body is not None and not responder.begun:
                responder.body.discard(dispatcher)

    def _make_responder(self, dispatcher: Dispatcher, environ: Environ, scope: Scope) -> Responder:
        """Return the responder, which makes the response. `bridge.django` has another kind for some requests."""
        responder = WsgiResponder(dispatcher, self.app, environ, scope)
        if self._pathsend:
            responder.pathsend = True
        return responder

    async def _receive_body(self, responder: Responder, receive: Receive, send: Send) -> RequestResponseCycle | None:
        """Receive what is collected before a thread is taken. Returns None if this is the whole body, in one event."""
        environ = responder.environ
        length = environ.get("CONTENT_LENGTH")
        framed = is_framed(environ)
        counter = BodyCounter(None if length is None else int(length), self._max_body, framed=framed)
        stream = (length is not None or self._stream_chunked) and not responder.needs_whole_body
        if "HTTP_EXPECT" in environ and stream and not framed and environ["HTTP_EXPECT"].lower() == "100-continue":
            # RFC 9110 10.1.1: the client sends nothing until the server asks for it, at the first receive().
            cycle = RequestResponseCycle(responder, receive, send, counter)
            cycle.await_demand()
            return cycle
        data = await take_next(counter, receive) if framed else counter.take(await receive())
        # If the client has left behind its body, the server has said so, and says it only once.
        if length is not None and counter.ended and not counter.truncated and not counter.disconnected:
            environ["wsgi.input"] = io.BytesIO(data)
            return None
        cycle = RequestResponseCycle(responder, receive, send, counter)
        await cycle.collect(data, self._collect, stream=stream)
        self._admit(responder.dispatcher)
        return cycle

    def _admit(self, dispatcher: Dispatcher) -> None:
        if dispatcher.pool.over_limit >= self._backlog:
            raise unavailable("when all threads were busy and the backlog was full")

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI Lifespan. At the end the threads get `shutdown_timeout` seconds to finish."""
        dispatchers = self._dispatchers
        dispatchers.here().serving.ended = False

        async def stop(*, last: bool = False) -> None:
            dispatcher = dispatchers.here()
            await dispatchers.drain(dispatcher, last=last)
            await dispatcher.serving.end(self._shutdown_timeout)

        await answer_lifespan(
            scope,
            receive,
            send,
            startup=self._startup,
            shutdown=self._shutdown,
            in_thread=lambda function: run_in_thread(dispatchers.here(), function),
            stop=stop,
            # Again, for requests that have come since, and what they or the hook have started.
            end=partial(stop, last=True),
        )

    def stats(self) -> ThreadStats:
        """Counts of threads and requests, for this process. Raises nothing, and starts nothing."""
        return self._dispatchers.stats()

    def close(self) -> None:
        """End the threads, and wait for running requests, for at most `shutdown_timeout` seconds. Do not call this on
        their event loop.

        A later request starts new threads. Raises `RuntimeError` on an event loop while requests are served.
        """
        self._dispatchers.close()


async def _answer_nobody(responder: Responder | None, cycle: RequestResponseCycle | None, send: Send) -> None:
    """Answer a request whose client has left, unless its response has begun: then an outer adapter's `send` has said
    so.
    """
    if responder is not None and not (responder.begun if cycle is None else cycle.started):
        await answer_nobody(send)


def _count(
    dispatcher: Dispatcher, responder: Responder | None, cycle: RequestResponseCycle | None, error: BaseException
) -> None:
    """Count a request that ended with `error`, unless it was counted before."""
    if cycle is not None and cycle.counted:
        return
    by_server = isinstance(error, OSError) and responder is not None and responder.begun and responder.error is None
    if isinstance(error, ClientDisconnected) or by_server:  # it is the server's send() that raised
        dispatcher.counters.client_disconnects += 1
    else:
        dispatcher.counters.aborted += 1
