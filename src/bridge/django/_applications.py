"""The applications that `asgi.py` and `wsgi.py` export."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Self

import django
from asgiref.sync import SyncToAsync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.module_loading import import_string

from bridge import _arguments
from bridge._asgi_to_wsgi import AsgiToWsgi, Portal, refuse
from bridge._concurrency.calls import Dispatcher, run_in_thread
from bridge._concurrency.jobs import PoolClosed
from bridge._concurrency.private_loop import LoopFactory
from bridge._translate.handshake import is_handshake
from bridge._types import ASGIApp, Environ, Receive, Scope, Send, StartResponse, WSGIApp
from bridge._wsgi_to_asgi import Responder, WsgiToAsgi, answer_lifespan
from bridge.django import _agents, _settings
from bridge.django._handler import Handler
from bridge.django._isolation import Body, Shown, isolated
from bridge.django._loop_handler import LoopHandler, LoopResponder
from bridge.django._request import Request, take_chunked
from bridge.errors import ClientProtocolError

Hook = Callable[..., Any]


def get_asgi_application(
    *,
    websocket: ASGIApp | str | None = None,
    threads: int = 40,
    backlog: int = 1000,
    max_body: int | None = None,
    startup: Hook | str | None = None,
    shutdown: Hook | str | None = None,
    shutdown_timeout: float = 30.0,
    slow_warning: float | None = 30.0,
    pathsend: bool = False,
) -> "AsgiApplication":
    """Set up Django, and return the project as an ASGI application, for `asgi.py`.

    The application is an `ASGIHandler` of Django. Code that agents have put on this class runs around each request.

    * `websocket`: an ASGI application for connections that are not HTTP, for example the `URLRouter` of Channels.
    Without it, they are refused.
    * `threads` (1 or more): how many requests are in middleware or in a view at once. An async view holds a thread
    while it runs, unless it is marked with `on_loop` or all middleware is async. An async stream holds no thread.
    * `startup`, `shutdown`: callables, async or not, for the server's lifespan. They may take the lifespan state, a
    dict that is `request.scope["state"]` in each request.
    * `backlog`, `max_body`, `shutdown_timeout`, `slow_warning`, `pathsend`: as for `WsgiToAsgi`. `pathsend` is for
    `FileResponse`.

    `websocket`, `startup` and `shutdown` may be dotted paths. They are imported after Django is set up, so their
    modules can import models.

    Raises `TypeError` or `ValueError` for a wrong option, `ImproperlyConfigured` for wrong settings.
    """
    django.setup(set_prefix=False)
    sockets: ASGIApp | None = _imported("websocket", websocket)
    if sockets is not None:
        _arguments.asgi_app(sockets)
    return AsgiApplication(
        sockets,
        threads=threads,
        backlog=backlog,
        max_body=max_body,
        startup=_imported("startup", startup),
        shutdown=_imported("shutdown", shutdown),
        shutdown_timeout=shutdown_timeout,
        slow_warning=slow_warning,
        pathsend=pathsend,
    )


def get_wsgi_application(
    *,
    websocket: ASGIApp | str | None = None,
    startup: Hook | str | None = None,
    shutdown: Hook | str | None = None,
    startup_timeout: float = 60.0,
    shutdown_timeout: float = 30.0,
) -> "WsgiApplication":
    """Set up Django, and return the project as a WSGI application, for `wsgi.py`.

    The application is a `WSGIHandler` of Django. Code that agents have put on this class runs around each request.

    * `websocket`: an ASGI application for WebSockets, for example the `URLRouter` of Channels. They are served if the
    server's connection can be used. Otherwise they are refused with 426, and one warning says why. Without `websocket`,
    they are plain requests.
    * `startup`, `shutdown`: callables, async or not, that run once in each process, before its first request and at its
    end. If they are async, they run on the private event loop. They may take a dict that is `request.scope["state"]` in
    each request.
    * `startup_timeout`, `shutdown_timeout` (seconds): how long they may take, as for `AsgiToWsgi`.

    `websocket`, `startup` and `shutdown` may be dotted paths, which are imported after Django is set up.

    Raises `TypeError` or `ValueError` for a wrong option, `ImproperlyConfigured` for wrong settings.
    """
    django.setup(set_prefix=False)
    sockets: ASGIApp | None = _imported("websocket", websocket)
    if sockets is not None:
        _arguments.asgi_app(sockets)
    at_start, at_end = _imported("startup", startup), _imported("shutdown", shutdown)
    _arguments.hook("startup", at_start)
    _arguments.hook("shutdown", at_end)
    _arguments.seconds("startup_timeout", startup_timeout)
    _arguments.seconds("shutdown_timeout", shutdown_timeout)
    lifespan = _lifespan(at_start, at_end) if at_start or at_end else None
    factory = _settings.read().loop_factory
    return WsgiApplication(
        Portal.of(factory, lifespan, startup_timeout=startup_timeout, shutdown_timeout=shutdown_timeout),
        has_lifespan=lifespan is not None,
        websockets=None if sockets is None else _websockets(sockets, factory, shutdown_timeout),
    )


class AsgiApplication(WsgiToAsgi, ASGIHandler):
    """A Django project as an ASGI 3 application. Made by `get_asgi_application`."""

    def __init__(self, websocket: ASGIApp | None, **options: Any) -> None:
        # Without Django's constructor: the handlers below make the chains of middleware.
        chosen = _settings.read()
        portal = Portal.of(chosen.loop_factory)
        WsgiToAsgi.__init__(self, Handler(portal, on_asgi=True), **options)
        self._websocket = websocket
        self._loop_handler = LoopHandler(portal, chosen)
        self._entry: ASGIApp = _agents.made_by_django("asgi", self._through_django)
        self._is_wrapped = self._entry != self._through_django

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection of an ASGI server (ASGI, "Applications")."""
        kind = scope["type"]
        if kind != "http":
            if self._websocket is not None and kind != "lifespan":
                await self._websocket(scope, receive, send)
            else:
                await super().__call__(scope, receive, send)
        elif self._is_watched:
            sending = _agents.Sending(send)
            await self._entry(scope, receive, sending)
            if sending.error is not None:
                raise sending.error
        else:
            if self._loop_handler.lacks_urls():
                await self._import_urls()
            await self._http(scope, receive, send)

    async def _through_django(self, scope: Any, receive: Receive, send: Send) -> None:
        """Run Django's own `__call__`, and whatever is around it now. It calls `handle`."""
        await super(WsgiToAsgi, self).__call__(scope, receive, send)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, when Django's own `__call__` comes to it."""
        # This is for threads of asgiref. The request has one of our threads.
        sensitive: ContextVar[Any] = SyncToAsync.thread_sensitive_context
        sensitive.set(None)
        if self._loop_handler.lacks_urls():
            await self._import_urls()
        await self._http(scope, receive, send)

    async def _import_urls(self) -> None:
        dispatcher = self._dispatchers.here()
        # Django's async code needs asyncio. If there are too many requests, this one is about to be refused.
        if dispatcher.loop.is_asyncio and dispatcher.pool.over_limit < self._backlog:
            with suppress(PoolClosed):
                await run_in_thread(dispatcher, self._loop_handler.import_urls)

    def _make_responder(self, dispatcher: Dispatcher, environ: Environ, scope: Scope) -> Responder:
        # Django's async code needs asyncio.
        if dispatcher.loop.is_asyncio and self._loop_handler.takes(environ):
            responder: Responder = LoopResponder(dispatcher, self._loop_handler, environ, scope)
        else:
            responder = super()._make_responder(dispatcher, environ, scope)
        # In an async Django test, the connection of that thread sees the rows of the test.
        responder.thread_sensitive = True
        if self._is_watched:
            responder.logs_errors = False
        return responder

    @property
    def _is_watched(self) -> bool:
        """Whether something is around Django's own `__call__`."""
        return self._is_wrapped or not _agents.ASGI_CALL.is_own()


class WsgiApplication(WSGIHandler):
    """A Django project as a WSGI application. Made by `get_wsgi_application`."""

    request_class: type[WSGIRequest] = Request

    def __init__(self, portal: Portal, *, has_lifespan: bool, websockets: AsgiToWsgi | None = None) -> None:
        # Without Django's constructor: the handler below makes the chain of middleware.
        self._portal = portal
        self._has_lifespan = has_lifespan
        self._websockets = websockets
        self._handler = Handler(portal)
        self._entry: WSGIApp = _agents.made_by_django("wsgi", self._through_django)
        self._is_wrapped = self._entry != self._through_django

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        """Serve one request of a WSGI server (PEP 3333). Returns the iterable of the body.

        Raises `LifespanFailed` if the startup has failed.
        """
        if self._has_lifespan:
            environ["bridge.state"] = self._portal.state()
        if self._websockets is not None and is_handshake(environ):
            return self._websockets(environ, start_response)
        if not environ.get("CONTENT_LENGTH") and (
            "HTTP_TRANSFER_ENCODING" in environ or environ["REQUEST_METHOD"] not in ("GET", "HEAD")
        ):
            try:
                take_chunked(environ)
            except ClientProtocolError as refusal:
                return refuse(refusal, start_response)
        if not self._is_wrapped and _agents.WSGI_CALL.is_own():
            return isolated(self._handler, environ, start_response)
        context = Shown()
        watched = _agents.WsgiCall(self._handler, environ, start_response)
        body: Any = context.run(self._handler.call_watched, watched, self._entry)
        return body if watched.sends_file else Body(context, body, watched.check)

    def _through_django(self, environ: Environ, start_response: StartResponse) -> Any:
        """Run Django's own `__call__`, and whatever is around it now. It calls `get_response`."""
        return super().__call__(environ, start_response)

    def get_response(self, request: Any) -> Any:
        """The response to one request, when Django's own `__call__` comes to it."""
        return _agents.get_response(request, type(self))

    def close(self) -> None:
        """Run the shutdown, and stop the private loop if nobody else uses it. A later request starts everything
        again.
        """
        if self._websockets is not None:
            self._websockets.close()
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _websockets(app: ASGIApp, loop_factory: LoopFactory | None, shutdown_timeout: float) -> AsgiToWsgi:
    """The adapter that serves the WebSockets of `app` on a WSGI server, on the loop of the project's async views."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = dict(scope["wsgi_environ"].get("bridge.state") or {})
        await app(scope, receive, send)

    return AsgiToWsgi(
        with_state,
        lifespan="off",
        loop_factory=loop_factory,
        shutdown_timeout=shutdown_timeout,
        websocket="reject",
    )


def _imported(option: str, given: Any) -> Any:
    """The object at a dotted path. Anything else is returned unchanged."""
    if not isinstance(given, str):
        return given
    try:
        return import_string(given)
    except ImportError as error:
        raise ImproperlyConfigured(f"{option} names {given!r}, which cannot be imported: {error}") from error


def _lifespan(startup: Hook | None, shutdown: Hook | None) -> ASGIApp:
    """The hooks as an ASGI application, which runs on the private loop. Sync hooks run in threads of asgiref."""

    def in_thread(function: Callable[[], Any]) -> Awaitable[Any]:
        return sync_to_async(function, thread_sensitive=False)()

    return partial(answer_lifespan, startup=startup, shutdown=shutdown, in_thread=in_thread)
