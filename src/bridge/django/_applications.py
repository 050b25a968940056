"""What `asgi.py` and `wsgi.py` export."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

import django
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from bridge import _arguments
from bridge._asgi_to_wsgi import Portal
from bridge._concurrency.calls import Dispatcher
from bridge._types import ASGIApp, Environ, Scope, StartResponse
from bridge._wsgi_to_asgi import Responder, WsgiToAsgi, answer_lifespan
from bridge.django import _settings
from bridge.django._handler import Handler
from bridge.django._isolation import isolated
from bridge.django._loop_handler import LoopHandler, LoopResponder
from bridge.django._request import take_chunked

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
) -> "AsgiApplication":
    """The project as an ASGI application, for `asgi.py`; sets Django up.

    * `websocket`: an ASGI application for connections of other types than http, Channels' `URLRouter` say; without one
      they are refused.
    * `threads` (1 or more): requests that are in middleware or in a view at once. An async view holds a thread while it
      runs, unless it is marked with `on_loop` or all middleware is async; an async stream holds none.
    * `startup`, `shutdown`: callables, async or not, for the server's lifespan. They may take the lifespan state, a
      dict that is `request.scope["state"]`.
    * `backlog`, `max_body`, `shutdown_timeout`, `slow_warning`: as for `WsgiToAsgi`.

    `websocket`, `startup` and `shutdown` may be dotted paths, which are imported once Django is set up: what is there
    can import models.

    Raises `TypeError` or `ValueError` for a wrong option, `ImproperlyConfigured` for wrong settings.
    """
    django.setup(set_prefix=False)
    sockets: ASGIApp | None = _imported(websocket)
    if sockets is not None:
        _arguments.asgi_app(sockets)
    return AsgiApplication(
        sockets,
        threads=threads,
        backlog=backlog,
        max_body=max_body,
        startup=_imported(startup),
        shutdown=_imported(shutdown),
        shutdown_timeout=shutdown_timeout,
        slow_warning=slow_warning,
    )


def get_wsgi_application(
    *,
    startup: Hook | str | None = None,
    shutdown: Hook | str | None = None,
    startup_timeout: float = 60.0,
    shutdown_timeout: float = 30.0,
) -> "WsgiApplication":
    """The project as a WSGI application, for `wsgi.py`; sets Django up.

    * `startup`, `shutdown`: callables, async or not, that are run once a process, before its first request and at its
      end, async ones on the private event loop. They may take a dict that is `request.scope["state"]`.
    * `startup_timeout`, `shutdown_timeout` (seconds): how long they may take; as for `AsgiToWsgi`.

    `startup` and `shutdown` may be dotted paths, which are imported once Django is set up.

    Raises `TypeError` or `ValueError` for a wrong option, `ImproperlyConfigured` for wrong settings.
    """
    django.setup(set_prefix=False)
    at_start, at_end = _imported(startup), _imported(shutdown)
    _arguments.hook("startup", at_start)
    _arguments.hook("shutdown", at_end)
    _arguments.seconds("startup_timeout", startup_timeout)
    _arguments.seconds("shutdown_timeout", shutdown_timeout)
    lifespan = _lifespan(at_start, at_end) if at_start or at_end else None
    factory = _settings.read().loop_factory
    return WsgiApplication(
        Portal.of(factory, lifespan, startup_timeout=startup_timeout, shutdown_timeout=shutdown_timeout),
        has_lifespan=lifespan is not None,
    )


class AsgiApplication(WsgiToAsgi):
    """A Django project as an ASGI 3 application. Made by `get_asgi_application`."""

    def __init__(self, websocket: ASGIApp | None, **options: Any) -> None:
        chosen = _settings.read()
        portal = Portal.of(chosen.loop_factory)
        super().__init__(Handler(portal), **options)
        self._websocket = websocket
        self._loop_handler = LoopHandler(portal, chosen)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One connection of an ASGI server (ASGI, "Applications")."""
        if self._websocket is not None and scope["type"] not in ("http", "lifespan"):
            await self._websocket(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _make_responder(self, dispatcher: Dispatcher, environ: Environ, scope: Scope) -> Responder:
        # Django's async code needs asyncio.
        if dispatcher.loop.is_asyncio and self._loop_handler.takes(environ):
            return LoopResponder(dispatcher, self._loop_handler, environ, scope)
        return super()._make_responder(dispatcher, environ, scope)


class WsgiApplication:
    """A Django project as a WSGI application. Made by `get_wsgi_application`."""

    def __init__(self, portal: Portal, *, has_lifespan: bool) -> None:
        self._portal = portal
        self._has_lifespan = has_lifespan
        self._handler = Handler(portal)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request of a WSGI server (PEP 3333). Raises `LifespanFailed` where the startup has failed."""
        if self._has_lifespan:
            environ["bridge.state"] = self._portal.state()
        if not environ.get("CONTENT_LENGTH") and environ.get("HTTP_TRANSFER_ENCODING"):
            take_chunked(environ)
        return isolated(self._handler, environ, start_response)

    def close(self) -> None:
        """Run the shutdown, and stop the private loop where nobody else uses it. A later request starts all anew."""
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _imported(given: Any) -> Any:
    """What a dotted path leads to; anything else as it is."""
    if not isinstance(given, str):
        return given
    try:
        return import_string(given)
    except ImportError as error:
        raise ImproperlyConfigured(f"{given!r} cannot be imported: {error}") from error


def _lifespan(startup: Hook | None, shutdown: Hook | None) -> ASGIApp:
    """The hooks as an ASGI application, which the private loop runs; sync ones in threads of asgiref's."""

    def in_thread(function: Callable[[], Any]) -> Awaitable[Any]:
        return sync_to_async(function, thread_sensitive=False)()

    return partial(answer_lifespan, startup=startup, shutdown=shutdown, in_thread=in_thread)
